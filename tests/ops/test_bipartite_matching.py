import pytest
import torch

from spm_mm.ops import bipartite_matching
from tests.ops.references import bipartite_matching_reference


@pytest.mark.parametrize(('tokens', 'merged'), [(8, 4), (9, 3), (13, 6), (5, 0), (2, 1)])
def test_equals_its_definition(tokens: int, merged: int) -> None:
    x = torch.randn(3, tokens, 6)
    clusters = bipartite_matching(x, merged)
    assert clusters.tolist() == bipartite_matching_reference(x, merged)
    for row in clusters:
        assert row.unique().tolist() == list(range(tokens - merged))


def test_the_most_similar_ones_are_joined() -> None:
    x = torch.eye(6).repeat_interleave(1, dim=0)[None]
    x[0, 4] = 3 * x[0, 1]  # the cosine does not see the length
    (clusters,) = bipartite_matching(x, 1).tolist()
    assert clusters[4] == clusters[1]
    assert len(set(clusters)) == 5


def test_equal_tokens_of_padding() -> None:
    """The first of equal similarities counts, so the result is the same in every run."""
    x = torch.ones(1, 8, 4)
    assert bipartite_matching(x, 4).tolist() == [[0, 0, 0, 1, 0, 2, 0, 3]]
