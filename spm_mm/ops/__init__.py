"""Numeric kernels, each beside a short plain reference that the tests hold it equal to."""

from spm_mm.ops.deform import deform_conv, deform_conv_reference, sample, sampling_positions
from spm_mm.ops.guided_attention import (
    guided_attention,
    guided_attention_reference,
    window_attention,
)
from spm_mm.ops.relative_attention import relative_attention, relative_attention_reference

__all__ = [
    'deform_conv',
    'deform_conv_reference',
    'guided_attention',
    'guided_attention_reference',
    'relative_attention',
    'relative_attention_reference',
    'sample',
    'sampling_positions',
    'window_attention',
]
