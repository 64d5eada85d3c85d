import pytest
import torch

from spm_mm.ops import dpc_knn, dpc_knn_bytes
from tests.ops.references import dpc_knn_reference


@pytest.mark.parametrize(('tokens', 'count'), [(1, 1), (3, 2), (24, 6), (40, 10)])
def test_equals_the_reference(tokens: int, count: int) -> None:
    x = torch.randn(2, tokens, 8, dtype=torch.float64)
    assert dpc_knn(x, count).tolist() == dpc_knn_reference(x, count)


def test_equal_tokens_take_one_centre() -> None:
    """The padding of a batch: it gathers in one cluster, the others stay with the image."""
    x = torch.randn(1, 60, 8, dtype=torch.float64)
    x[:, 30:] = x[:, 30:31]
    cluster = dpc_knn(x, 15)
    assert cluster.tolist() == dpc_knn_reference(x, 15)
    assert len(cluster[0, 30:].unique()) == 1
    assert len(cluster[0, :30].unique()) >= 14


def test_fewer_different_tokens_than_clusters() -> None:
    cluster = dpc_knn(torch.ones(1, 12, 4), 3)
    assert sorted(cluster.unique().tolist()) == [0, 1, 2]


def test_images_do_not_see_each_other() -> None:
    x = torch.randn(3, 50, 8)
    alone = torch.cat([dpc_knn(image[None], 12) for image in x])
    assert torch.equal(dpc_knn(x, 12), alone)


def test_noise_is_drawn_on_demand_alone() -> None:
    x = torch.randn(1, 200, 8)
    assert torch.equal(dpc_knn(x, 50), dpc_knn(x, 50))
    assert not torch.equal(dpc_knn(x, 50, noise=0.1), dpc_knn(x, 50, noise=0.1))


def test_half_precision_is_clustered_in_float32() -> None:
    x = torch.randn(2, 64, 16).bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(dpc_knn(x, 16), dpc_knn(x.float(), 16))


def test_memory_at_the_published_place() -> None:
    """A batch of two at 800 x 1333: 50 x 84 tokens each."""
    x = torch.randn(2, 50 * 84, 32)
    with torch.profiler.profile(
        profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]
    ) as seen:
        dpc_knn(x, 50 * 21)
    held = peak = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    assert 0.5 * dpc_knn_bytes(2, 50 * 84) < peak < 1.2 * dpc_knn_bytes(2, 50 * 84)
    assert peak < 2**30


def test_plain_distance() -> None:
    """HAFA's Eq. 2 and 3 as printed: densities of distances that sqrt(C) does not divide."""
    x = torch.randn(2, 40, 8, dtype=torch.float64)
    plain = dpc_knn(x, 10, scaled=False)
    assert plain.tolist() == dpc_knn_reference(x, 10, scaled=False)
    # The same as clustering by scaled distances what is sqrt(C) times as large.
    assert torch.equal(plain, dpc_knn(x * 8**0.5, 10))
    assert not torch.equal(plain, dpc_knn(x, 10))
