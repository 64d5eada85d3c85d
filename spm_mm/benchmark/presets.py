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
        ('PVT', 'LIT', 'LIT/small', 'PaCaViT', 'SGFormer'),
        Plan(_squares(224, 384, 512, 768, 1024), modes=('inference',), repeat=5),
    ),
    'targets': Preset(
        'plain PVT-Tiny and with SPM, batch 4 at 224',
        ('PVT/tiny', 'PVT/tiny:StepwiseMerging'),
        Plan(_squares(224), batches=(4,)),
    ),
    'sgformer-figure6': Preset(
        "throughput of SG-Former beside others over resolution, after SG-Former's Figure 6",
        ('SGFormer/small', 'PVT/small', 'PaCaViT/small', 'LIT/small'),
        Plan(_squares(224, 448, 672, 896), modes=('inference',), memory=False),
    ),
}
"""The latency column of HAFA's Table 4 (PVTv2-B1 at 224, inference, an RTX 3090, the batch not
stated) is one entry more, of its four configs ``configs/mmpretrain/pvtv2_b1_hafa*_in1k.py``."""
