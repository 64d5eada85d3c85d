"""Measurements that papers print, and those of docs/benchmarks.md, by name."""

from collections.abc import Sequence
from dataclasses import dataclass

from spm_mm.benchmark.measure import Plan


@dataclass(frozen=True)
class Preset:
    """Subjects, as on the command line, and a plan; arguments of the command take their places."""

    help: str
    subjects: Sequence[str]
    plan: Plan


def _squares(*sides: int) -> tuple[tuple[int, int], ...]:
    return tuple((side, side) for side in sides)


PRESETS = {
    'scaling': Preset(
        'how the cost of the backbones grows from 224 to 1024 pixels',
        (
            'PVT', 'PVTv2', 'SwinTransformer', 'ShuntedTransformer', 'NAT', 'LIT', 'LIT/small',
            'PaCaViT', 'SGFormer',
        ),
        Plan(_squares(224, 384, 512, 768, 1024), modes=('inference',), repeat=5),
    ),
    'targets': Preset(
        'plain PVT-Tiny and with SPM, batch 4 at 224',
        ('PVT/tiny', 'PVT/tiny:StepwiseMerging'),
        Plan(_squares(224), batches=(4,)),
    ),
    'hafa-table4': Preset(
        "the latency column of HAFA's Table 4, at batch 1, which the paper does not state",
        tuple(
            f'PVTv2/b1:{mergings}'
            for mergings in (
                'ClusterMerging',
                'DeformableMerging,ClusterMerging,ClusterMerging',
                'DeformableMerging,DeformableMerging,ClusterMerging',
                'DeformableMerging',
            )
        ),
        Plan(_squares(224), modes=('inference',), repeat=21, memory=False),
    ),
    'hafa-latency': Preset(
        'the latencies of section 4.1 of HAFA, at batch 1, which the paper does not state',
        tuple(
            f'PVT/{arch}{mergings}'
            for arch in ('tiny', 'small', 'large')
            for mergings in ('', ':DeformableMerging,DeformableMerging,ClusterMerging')
        ),
        Plan(_squares(224), modes=('inference',), repeat=21, memory=False),
    ),
    'sgformer-resolution': Preset(
        'throughput of SG-Former beside others over resolution',
        ('SGFormer/small', 'SwinTransformer/tiny', 'PVT/small', 'ShuntedTransformer/small'),
        Plan(_squares(224, 448, 672, 896), modes=('inference',), memory=False),
    ),
}  # fmt: skip
