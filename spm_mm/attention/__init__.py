"""Attention mechanisms, one a file. They read tokens (B, N, C) of a map with a known grid."""

from spm_mm.attention.clustering_teacher import CNNTeacher, ConvMixerTeacher
from spm_mm.attention.neighborhood import NeighborhoodAttention
from spm_mm.attention.patch_to_cluster import (
    CLUSTERINGS,
    ConvClustering,
    MLPClustering,
    PatchToClusterAttention,
    assign,
)
from spm_mm.attention.relative_position import RelativePositionAttention
from spm_mm.attention.self_guided import (
    HybridScaleAttention,
    LocallyEnhancedAttention,
    SelfGuidedAttention,
)
from spm_mm.attention.shunted import LocalValueAttention, ShuntedAttention
from spm_mm.attention.spatial_reduction import (
    PooledReductionAttention,
    SpatialReductionAttention,
)
from spm_mm.attention.window import WindowAttention

__all__ = [
    'CLUSTERINGS',
    'CNNTeacher',
    'ConvClustering',
    'ConvMixerTeacher',
    'HybridScaleAttention',
    'LocalValueAttention',
    'LocallyEnhancedAttention',
    'MLPClustering',
    'NeighborhoodAttention',
    'PatchToClusterAttention',
    'PooledReductionAttention',
    'RelativePositionAttention',
    'SelfGuidedAttention',
    'ShuntedAttention',
    'SpatialReductionAttention',
    'WindowAttention',
    'assign',
]
