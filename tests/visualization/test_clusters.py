"""Section 3.3 of PaCa, held against numbers that are worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from spm_mm.visualization import (
    Verdict,
    assignment_maps,
    cluster_masks,
    judge_clusters,
    mask_image,
    top_clusters,
)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_mask_is_what_exceeds_the_mean_of_the_sigmoids() -> None:
    """Sigmoids 0.9, 0.5, 0.45, 0.1 have the mean 0.4875: without the sigmoid the third cell joins."""
    values = [logit(p) for p in (0.9, 0.5, 0.45, 0.1)]
    assert values[2] < sum(values) / 4 < 0.0 <= values[1]  # the logits' own mean lies elsewhere
    logits = torch.tensor(values).view(2, 2, 1)
    masks = cluster_masks(logits, (2, 2))
    assert masks.dtype == torch.bool
    assert masks[0].tolist() == [[True, True], [False, False]]
    # A skewed cluster, where the order of sigmoid and mean decides: logits 8, 1, 1, -1.
    skewed = torch.tensor([8.0, 1.0, 1.0, -1.0]).view(2, 2, 1)
    assert (skewed > skewed.mean()).flatten().tolist() == [True, False, False, False]
    assert cluster_masks(skewed, (2, 2)).flatten().tolist() == [True, True, True, False]


def test_mask_is_not_that_of_the_softmax() -> None:
    """After the softmax along N one outlier lifts the mean above all other cells."""
    logits = torch.tensor([6.0, 2.0, 2.0, -4.0]).view(4, 1, 1)
    weights = logits.softmax(dim=0)
    assert (weights > weights.mean()).flatten().tolist() == [True, False, False, False]
    assert cluster_masks(logits, (4, 1)).flatten().tolist() == [True, True, True, False]


def test_an_even_cluster_keeps_nothing() -> None:
    assert not cluster_masks(torch.zeros(3, 4, 2), (6, 8)).any()


def test_mask_is_resized_by_nearest() -> None:
    logits = torch.full((3, 4, 2), -5.0)
    logits[1, 2, 1] = 5.0
    masks = cluster_masks(logits, (30, 40))
    assert masks.shape == (2, 30, 40)
    wanted = torch.zeros(30, 40, dtype=torch.bool)
    wanted[10:20, 20:30] = True
    assert torch.equal(masks[1], wanted)
    with pytest.raises(ValueError, match=r'logits must be \(h, w, M\), got \(3, 4\)'):
        cluster_masks(logits[..., 0], (30, 40))


def test_masking_multiplies() -> None:
    picture = torch.tensor([[[10, 20], [30, 40]]], dtype=torch.uint8).expand(3, 2, 2)
    masked = mask_image(picture, torch.tensor([[[True, False], [False, True]]]))
    assert masked.shape == (1, 3, 2, 2)
    assert masked[0, 1].tolist() == [[10, 0], [0, 40]]


def classify(pictures: Tensor) -> Tensor:
    """Class 0 for light on the left, class 1 for light on the right."""
    left, right = pictures.mean(dim=1).chunk(2, dim=-1)
    return torch.stack((left.mean(dim=(1, 2)), right.mean(dim=(1, 2))), dim=1).softmax(dim=1)


@pytest.fixture
def picture() -> Tensor:
    picture = torch.ones(3, 4, 4)
    picture[..., :2] = 2  # class 0
    return picture


@pytest.fixture
def masks() -> Tensor:
    masks = torch.zeros(4, 4, 4, dtype=torch.bool)
    masks[0, :, :2] = True  # the left
    masks[1, 2:, :2] = True  # half of it
    masks[2, :, 2:] = True  # the right
    masks[3] = True
    return masks


def test_groups_by_the_ground_truth(picture: Tensor, masks: Tensor) -> None:
    whole, verdicts = judge_clusters(classify, picture, masks, label=0, batch_size=3)
    assert (whole.cluster, whole.label, whole.positive) == (-1, 0, True)
    assert [v.cluster for v in verdicts] == [0, 1, 2, 3]
    assert [v.positive for v in verdicts] == [True, True, False, True]
    # Always the probability of the ground-truth class, also where another is predicted.
    assert verdicts[2].label == 1
    assert verdicts[2].probability == pytest.approx(1 / (1 + math.e))
    assert verdicts[3].probability == pytest.approx(whole.probability)
    assert [v.cluster for v in top_clusters(verdicts, positive=True, number=2)] == [0, 1]
    # Beyond what the raw picture has, as in the paper's first image.
    assert verdicts[0].probability > whole.probability


def test_negative_group_is_ranked_by_the_ground_truth_class() -> None:
    verdicts = [Verdict(0, 5, 0.1, False), Verdict(1, 6, 0.3, False), Verdict(2, 2, 0.6, True)]
    assert [v.cluster for v in top_clusters(verdicts, positive=False)] == [1, 0]
    assert top_clusters(verdicts[:2], positive=True) == []


def test_a_wrongly_classified_picture_is_not_judged(picture: Tensor, masks: Tensor) -> None:
    whole, verdicts = judge_clusters(classify, picture, masks, label=1)
    assert (whole.label, whole.positive, verdicts) == (0, False, [])
    with pytest.raises(ValueError, match='label must be from 0 to 1, got 2'):
        judge_clusters(classify, picture, masks, label=2)


def test_assignment_maps_lie_over_the_image() -> None:
    """The cluster that weighs one cell is hottest there; an even one is 0 all over."""
    logits = torch.zeros(3, 4, 2)
    logits[1, 1, 0] = 20.0
    heat = assignment_maps(logits, (30, 40))
    assert heat.shape == (2, 30, 40)
    hottest = (heat[0] == 1).nonzero()
    assert (hottest // 10 == 1).all()
    assert heat[0, 25, 35] < 1e-6
    assert (heat[1] == 0).all()
