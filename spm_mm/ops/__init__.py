"""Numeric kernels, which the tests compare with short reference implementations."""

from spm_mm.ops.bipartite_matching import bipartite_matching
from spm_mm.ops.deform import deform_conv, resample, sample, sampling_positions
from spm_mm.ops.dpc_knn import dpc_knn, dpc_knn_bytes
from spm_mm.ops.guided_attention import (
    guide_output,
    guided_attention,
    window_attention,
)
from spm_mm.ops.neighborhood_attention import (
    neighborhood_attention,
    neighborhood_attention_reference,
)
from spm_mm.ops.received_attention import received_attention
from spm_mm.ops.relative_attention import (
    relative_attention,
    relative_attention_reference,
    relative_bias,
    relative_bias_reference,
)
from spm_mm.ops.sorted_runs import sorted_runs
from spm_mm.ops.token_map import TokenMap, as_map, by_token, pool
from spm_mm.ops.windows import (
    append_zeros,
    from_windows,
    is_open,
    overhang,
    pad_to_multiple,
    to_windows,
)
from spm_mm.renamed import answer_for_old_names

__all__ = [
    'TokenMap',
    'append_zeros',
    'as_map',
    'bipartite_matching',
    'by_token',
    'deform_conv',
    'dpc_knn',
    'dpc_knn_bytes',
    'from_windows',
    'guide_output',
    'guided_attention',
    'is_open',
    'neighborhood_attention',
    'neighborhood_attention_reference',
    'overhang',
    'pad_to_multiple',
    'pool',
    'received_attention',
    'relative_attention',
    'relative_attention_reference',
    'relative_bias',
    'relative_bias_reference',
    'resample',
    'sample',
    'sampling_positions',
    'sorted_runs',
    'to_windows',
    'window_attention',
]

answer_for_old_names(__name__, globals())
