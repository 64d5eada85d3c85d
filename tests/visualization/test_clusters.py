import numpy as np
import pytest
import torch
from torch import Tensor

from spm_mm.visualization import (
    Verdict,
    atlas,
    heat_maps,
    judge_clusters,
    mask_image,
    top_clusters,
)


def test_heat_maps_lie_over_the_image() -> None:
    """The cluster that looks at one cell is hottest there, and nowhere below 0 or above 1."""
    assignment = torch.zeros(3, 12)
    assignment[0, 5] = 1.0  # row 1, column 1 of 3 x 4
    assignment[1] = 1 / 12
    assignment[2] = torch.arange(12.0)
    heat = heat_maps(assignment, (3, 4), (30, 40))
    assert heat.shape == (3, 30, 40)
    hottest = (heat[0] == 1).nonzero()
    assert (hottest[:, 0] // 10 == 1).all()
    assert (hottest[:, 1] // 10 == 1).all()
    assert heat[0, 25, 35] == 0
    assert (heat[1] == 0).all()
    assert heat[2].amin() == 0
    assert heat[2].amax() == 1


def test_assignment_of_another_grid() -> None:
    with pytest.raises(ValueError, match=r'assignment must be \(M, 3 \* 4\), got \(2, 13\)'):
        heat_maps(torch.zeros(2, 13), (3, 4), (30, 40))


def test_masking() -> None:
    picture = torch.full((3, 2, 2), 100.0)
    heat = torch.tensor([[[0.0, 0.25], [0.5, 1.0]]])
    assert torch.equal(mask_image(picture, heat)[0, 0], torch.tensor([[0.0, 25.0], [50.0, 100.0]]))
    hard = mask_image(picture, heat, threshold=0.5)
    assert torch.equal(hard[0, 2], torch.tensor([[0.0, 0.0], [100.0, 100.0]]))


def classify(pictures: Tensor) -> Tensor:
    """Class 0 for light on the left, class 1 for light on the right."""
    left, right = pictures.mean(dim=1).chunk(2, dim=-1)
    return torch.stack((left.mean(dim=(1, 2)), right.mean(dim=(1, 2))), dim=1).softmax(dim=1)


def test_groups() -> None:
    picture = torch.ones(3, 4, 4)
    picture[..., :2] = 2  # class 0
    heat = torch.zeros(5, 4, 4)
    heat[0, :, :2] = 1.0
    heat[1, :, :2] = 0.4
    heat[2, :, 2:] = 1.0
    heat[3, :, 2:] = 0.5
    heat[4] = 1.0
    whole, verdicts = judge_clusters(classify, picture, heat, batch_size=2)
    assert (whole.cluster, whole.kept, whole.label) == (-1, True, 0)
    assert [v.cluster for v in verdicts] == list(range(5))
    assert [v.kept for v in verdicts] == [True, True, False, False, True]
    assert verdicts[4].probability == pytest.approx(whole.probability)
    assert [v.cluster for v in top_clusters(verdicts, kept=True, number=2)] == [0, 4]
    assert [v.cluster for v in top_clusters(verdicts, kept=False)] == [2, 3]
    assert [v.label for v in top_clusters(verdicts, kept=False)] == [1, 1]
    assert top_clusters([Verdict(0, True, 0, 1.0)], kept=False) == []


def test_atlas_has_a_tile_for_every_cluster() -> None:
    picture = np.zeros((40, 80, 3), np.uint8)
    heat = torch.zeros(13, 40, 80)
    heat[12] = 1.0
    drawn = atlas(picture, heat, 'caption', columns=5, side=30)
    assert drawn.shape == (24 + 3 * 17, 5 * 32, 3)
    assert (drawn[:24] < 128).any()
    tiles = drawn[24:]
    hot, cold = tiles[2 * 17 + 8, 2 * 32 + 24], tiles[8, 24]
    assert hot.astype(int).sum() > cold.astype(int).sum() + 100
    assert (tiles[2 * 17 :, 3 * 32 :] == 255).all()
