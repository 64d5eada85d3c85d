"""What several backbones and mergings share.

Letters for shapes, here and everywhere: B images, C channels, H and W rows and columns, N tokens,
M clusters, G attention heads, D width of one head. Inside a backbone a map is channels-last,
(B, H, W, C), and contiguous; a convolution reads it through :func:`conv_on_map`.
"""

from spm_mm.layers.channels_last import conv_on_map, resize_map
from spm_mm.layers.init import init_convs
from spm_mm.layers.linear import GELULinear, Linear, PointwiseConv
from spm_mm.layers.mlp import MLP, DepthwiseMLP, TokenDepthwiseMLP
from spm_mm.layers.position_embedding import PositionEmbedding, sine_cosine_table
from spm_mm.layers.stem import DoubleConvStem, OverlapStem, PatchStem

__all__ = [
    'MLP',
    'DepthwiseMLP',
    'DoubleConvStem',
    'GELULinear',
    'Linear',
    'OverlapStem',
    'PatchStem',
    'PointwiseConv',
    'PositionEmbedding',
    'TokenDepthwiseMLP',
    'conv_on_map',
    'init_convs',
    'resize_map',
    'sine_cosine_table',
]
