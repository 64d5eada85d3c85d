"""Numeric kernels, each beside a short plain reference that the tests hold it equal to."""

from spm_mm.ops.bipartite_matching import bipartite_matching, bipartite_matching_reference
from spm_mm.ops.deform import deform_conv, resample, sample, sampling_positions
from spm_mm.ops.dpc_knn import dpc_knn, dpc_knn_bytes, dpc_knn_reference
from spm_mm.ops.guided_attention import (
    guide_output,
    guided_attention,
    guided_attention_reference,
    window_attention,
)
from spm_mm.ops.neighborhood_attention import (
    neighborhood_attention,
    neighborhood_attention_reference,
)
from spm_mm.ops.received_attention import received_attention, received_attention_reference
from spm_mm.ops.relative_attention import (
    relative_attention,
    relative_attention_reference,
    relative_bias,
    relative_bias_reference,
)
from spm_mm.ops.sorted_runs import sorted_runs, sorted_runs_reference
from spm_mm.ops.token_map import TokenMap, as_map, by_token, pool, pool_reference
from spm_mm.ops.windows import (
    from_windows,
    overhang,
    pad_to_multiple,
    to_windows,
)

__all__ = [
    'TokenMap',
    'as_map',
    'bipartite_matching',
    'bipartite_matching_reference',
    'by_token',
    'deform_conv',
    'dpc_knn',
    'dpc_knn_bytes',
    'dpc_knn_reference',
    'from_windows',
    'guide_output',
    'guided_attention',
    'guided_attention_reference',
    'neighborhood_attention',
    'neighborhood_attention_reference',
    'overhang',
    'pad_to_multiple',
    'pool',
    'pool_reference',
    'received_attention',
    'received_attention_reference',
    'relative_attention',
    'relative_attention_reference',
    'relative_bias',
    'relative_bias_reference',
    'resample',
    'sample',
    'sampling_positions',
    'sorted_runs',
    'sorted_runs_reference',
    'to_windows',
    'window_attention',
]
