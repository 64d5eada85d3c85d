import pytest
import torch

from spm_mm.errors import UserError
from spm_mm.merging import SimilarityMerging
from spm_mm.ops import TokenMap
from tests import testing


def test_a_token_is_the_mean_of_its_cells() -> None:
    merging = SimilarityMerging(6, 6)
    merging.norm = merging.proj = torch.nn.Identity()
    x = torch.randn(2, 5, 7, 6)
    out = merging(x)
    assert out.x.shape == (2, 9, 6)  # a quarter of 35, rounded up
    assert out.size == (3, 4)
    for image, tokens, index in zip(x, out.x, out.index, strict=True):
        for number, token in enumerate(tokens):
            torch.testing.assert_close(token, image[index == number].mean(dim=0))


def test_like_is_merged_with_like() -> None:
    """Two kinds of cells, mixed up, do not meet in a token."""
    merging = SimilarityMerging(2, 2)
    kinds = torch.randint(0, 2, (1, 8, 8))
    index = merging(torch.nn.functional.one_hot(kinds, 2).float()).index
    for number in index.unique():
        assert len(kinds[index == number].unique()) == 1


def test_in_a_row() -> None:
    first, second = SimilarityMerging(8, 16), SimilarityMerging(16, 24, ratio=0.5)
    out = second(first(torch.randn(2, 8, 8, 8)))
    assert isinstance(out, TokenMap)
    assert out.x.shape == (2, 8, 24)
    assert out.index.amax() == 7
    assert out.to_map().shape == (2, 2, 2, 24)
    assert SimilarityMerging(8, 8, ratio=1.0)(torch.randn(1, 4, 4, 8)).size == (2, 2)
    with pytest.raises(UserError, match='ratio of SimilarityMerging must be above 0'):
        SimilarityMerging(8, 8, ratio=0)


@pytest.mark.parametrize('backbone', ['PVT', 'PVTv2', 'SwinTransformer'])
def test_backbones_run_behind_it(backbone: str) -> None:
    model = testing.build_tiny(backbone, 'SimilarityMerging')
    testing.check_shapes(model)
    testing.check_gradients(model)
