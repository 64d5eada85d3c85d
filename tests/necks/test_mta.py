"""Against the official code: tests/parity."""

import pytest
import torch

from spm_mm.merging import ClusterMerging
from spm_mm.necks import MTA
from spm_mm.registry import MODELS
from tests import testing

DIMS = [8, 16, 40, 64]


def test_on_maps_it_is_fpn() -> None:
    from mmdet.models.necks import FPN

    maps = [torch.randn(2, c, 20 // 2**i, 26 // 2**i) for i, c in enumerate(DIMS)]
    neck, fpn = MTA(DIMS, 16, 5), FPN(DIMS, 16, 5)
    fpn.load_state_dict(neck.state_dict())
    for one, other in zip(neck(maps), fpn(maps), strict=True):
        torch.testing.assert_close(one, other)
        assert one.is_contiguous()


@pytest.mark.parametrize('where', ['001', '011', '111', '010'])
def test_tokens_at_any_level(where: str) -> None:
    """Behind any mix of mergings; every parameter has a gradient."""
    kinds = {'0': 'Conv', '1': 'Cluster'}
    merging = [dict(type=f'spm_mm.{kinds[kind]}Merging') for kind in where]
    config = testing.tiny_config('PVT', out_type='tokens') | dict(merging=merging)
    backbone = MODELS.build(config)
    neck = MODELS.build(dict(type='spm_mm.MTA', in_channels=DIMS, out_channels=16, num_outs=5))
    for size in ((64, 96), (70, 97)):
        outs = neck(backbone(torch.randn(2, 3, *size)))
        sizes = testing.expected_sizes(backbone, *size)
        assert [out.shape[2:] for out in outs[:4]] == sizes
        assert all(out.is_contiguous() for out in outs)
    testing.total(outs).backward()
    for name, parameter in [*neck.named_parameters(), *backbone.named_parameters()]:
        assert parameter.grad is not None, name


def test_a_token_reaches_all_its_cells() -> None:
    """A merged token is added in each cell of its cluster, and nowhere else."""
    merging = ClusterMerging(8, 16)
    x = torch.randn(1, 6, 8, 8)
    tokens = merging(x)
    neck = MTA([8, 16], 4, 2)
    tokens = tokens.with_tokens(tokens.x.detach().requires_grad_())
    out = neck.lateral_convs[1]
    torch.nn.init.constant_(out.conv.weight, 1.0)
    levels = []
    neck.fpn_convs[0].register_forward_pre_hook(lambda _, args: levels.append(args[0]))
    neck([x.permute(0, 3, 1, 2), tokens])
    (gradient,) = torch.autograd.grad(levels[0][0, :, 2, 3].sum(), tokens.x)
    touched = gradient[0].abs().sum(-1).nonzero().flatten().tolist()
    assert touched == [int(tokens.index[0, 2, 3])]


def test_bad_arguments() -> None:
    with pytest.raises(
        ValueError, match=r'in_channels=.*, must be a whole number of 4 or more, got 3'
    ):
        MTA(DIMS, 16, 3)
    with pytest.raises(ValueError, match='MTA needs 4 levels, got 2'):
        MTA(DIMS, 16)([torch.zeros(1, 8, 4, 4)] * 2)
