import torch

from spm_mm.merging import SwinMerging


def test_window_by_window() -> None:
    """At an odd size: the last windows are filled up with zeros."""
    merging = SwinMerging(4, 6)
    x = torch.randn(1, 5, 3, 4)
    padded = torch.zeros(1, 6, 4, 4)
    padded[:, :5, :3] = x
    for i in range(3):
        for j in range(2):
            window = padded[0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            tokens = window.permute(2, 0, 1).flatten()
            expected = merging.reduction(merging.norm(tokens))
            torch.testing.assert_close(merging(x)[0, i, j], expected)


def test_channels_are_in_the_order_of_mmpretrain() -> None:
    from mmpretrain.models.utils import PatchMerging

    theirs = PatchMerging(in_channels=4, out_channels=6)
    ours = SwinMerging(4, 6)
    torch.nn.init.normal_(theirs.norm.weight)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 6, 4, 4)
    expected, _ = theirs(x.flatten(1, 2), (6, 4))
    torch.testing.assert_close(ours(x).flatten(1, 2), expected)
