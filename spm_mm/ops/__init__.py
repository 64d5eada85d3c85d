"""Numeric kernels, each beside a short plain reference that the tests hold it equal to."""

from spm_mm.ops.guided_attention import (
    guided_attention,
    guided_attention_reference,
    window_attention,
)

__all__ = ['guided_attention', 'guided_attention_reference', 'window_attention']
