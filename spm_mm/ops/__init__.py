"""Numeric kernels, each beside a short plain reference that the tests hold it equal to."""

from spm_mm.ops.deform import deform_conv, deform_conv_reference, sample, sampling_positions
from spm_mm.ops.dpc_knn import dpc_knn, dpc_knn_bytes, dpc_knn_reference
from spm_mm.ops.guided_attention import (
    guided_attention,
    guided_attention_reference,
    window_attention,
)
from spm_mm.ops.linear import (
    gelu_linear,
    gelu_linear_reference,
    linear,
    runs_eagerly,
)
from spm_mm.ops.mlp import mlp, mlp_reference
from spm_mm.ops.neighborhood_attention import (
    neighborhood_attention,
    neighborhood_attention_reference,
)
from spm_mm.ops.received_attention import (
    attend_and_receive,
    received_attention,
    received_attention_reference,
)
from spm_mm.ops.relative_attention import (
    relative_attention,
    relative_attention_reference,
    relative_bias,
    relative_bias_reference,
)
from spm_mm.ops.sorted_runs import sorted_runs, sorted_runs_reference
from spm_mm.ops.token_map import TokenMap, as_map, pool, pool_reference
from spm_mm.ops.windows import (
    from_windows,
    overhang,
    pad_to_multiple,
    to_windows,
)

__all__ = [
    'TokenMap',
    'as_map',
    'attend_and_receive',
    'deform_conv',
    'deform_conv_reference',
    'dpc_knn',
    'dpc_knn_bytes',
    'dpc_knn_reference',
    'from_windows',
    'gelu_linear',
    'gelu_linear_reference',
    'guided_attention',
    'guided_attention_reference',
    'linear',
    'mlp',
    'mlp_reference',
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
    'runs_eagerly',
    'sample',
    'sampling_positions',
    'sorted_runs',
    'sorted_runs_reference',
    'to_windows',
    'window_attention',
]
