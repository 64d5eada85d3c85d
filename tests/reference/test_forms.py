"""Reference implementations against the fast ones, at any size."""

import pytest
import torch

from spm_mm.reference import FORMS, make_reference
from tests import testing

GRID = [(b, None) for b in testing.backbones()] + [('PVT', m) for m in testing.mergings()]
GRID += [('PVTv2', 'ClusterMerging')]  # whose scores join the attention
# What stands in no reference implementation.
FAST = (
    'torch.nn.functional.scaled_dot_product_attention',
    'spm_mm.attention.neighborhood.neighborhood_attention',
    'spm_mm.attention.relative_position.relative_attention',
    'spm_mm.attention.self_guided.received_attention',
    'spm_mm.attention.window.relative_bias',
    'spm_mm.merging.cluster.dpc_knn',
    'spm_mm.merging.stepwise.guided_attention',
)


@pytest.mark.parametrize(('backbone', 'merging'), GRID)
def test_equal(backbone: str, merging: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    fast, reference = (testing.build_tiny(backbone, merging).double().eval() for _ in range(2))
    reference.load_state_dict(fast.state_dict())
    assert make_reference(reference) is reference
    image = torch.randn(2, 3, 70, 97, dtype=torch.float64)
    expected = fast(image)
    for name in FAST:
        monkeypatch.delattr(name)
    for one, other in zip(expected, reference(image), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_instances_alone_are_changed() -> None:
    """A reference model leaves the classes, and so all other models, as they are."""
    for cls, methods in FORMS.items():
        for name, function in methods.items():
            assert getattr(cls, name) is not function
