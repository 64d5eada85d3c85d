"""Time, memory and multiply-accumulates of backbones, measured side by side in one process."""

from spm_mm.benchmark.measure import (
    CLOCKS,
    MODES,
    VARIANTS,
    Measurement,
    Plan,
    agree,
    build_all,
    machine_rates,
    measure_all,
)
from spm_mm.benchmark.presets import PRESETS, Preset
from spm_mm.benchmark.report import draw, slope, slopes, tabulate
from spm_mm.benchmark.subjects import (
    AGAINST,
    Subject,
    clustering_subject,
    gle_subjects,
    neighborhood_subjects,
    rivals_of,
    subject_of,
)

__all__ = [
    'AGAINST',
    'CLOCKS',
    'MODES',
    'PRESETS',
    'VARIANTS',
    'Measurement',
    'Plan',
    'Preset',
    'Subject',
    'agree',
    'build_all',
    'clustering_subject',
    'draw',
    'gle_subjects',
    'machine_rates',
    'measure_all',
    'neighborhood_subjects',
    'rivals_of',
    'slope',
    'slopes',
    'subject_of',
    'tabulate',
]
