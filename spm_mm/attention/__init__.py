"""Attention mechanisms, one a file. They read tokens (B, N, C) of a map with a known grid."""

from spm_mm.attention.self_guided import (
    HybridScaleAttention,
    LocallyEnhancedAttention,
    SelfGuidedAttention,
)
from spm_mm.attention.spatial_reduction import SpatialReductionAttention

__all__ = [
    'HybridScaleAttention',
    'LocallyEnhancedAttention',
    'SelfGuidedAttention',
    'SpatialReductionAttention',
]
