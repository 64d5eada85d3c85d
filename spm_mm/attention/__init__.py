"""Attention mechanisms, one a file. They read tokens (B, N, C) of a map with a known grid."""

from spm_mm.attention.relative_position import RelativePositionAttention
from spm_mm.attention.spatial_reduction import SpatialReductionAttention

__all__ = ['RelativePositionAttention', 'SpatialReductionAttention']
