"""What several backbones and mergings share.

Letters for shapes, here and everywhere: B images, C channels, H and W rows and columns, N tokens,
M clusters, G attention heads, D width of one head. Inside a backbone a feature map is channels-last,
(B, H, W, C), and contiguous; a convolution reads it through :func:`conv_on_map`.
"""

from spm_mm.layers.block import TransformerBlock
from spm_mm.layers.channels_last import conv_on_map, resize_map
from spm_mm.layers.init import init_convs, init_linears
from spm_mm.layers.mlp import MLP, DepthwiseMLP
from spm_mm.layers.norm import ConvNormAct, build_norm
from spm_mm.layers.plain import is_plain
from spm_mm.layers.position_embedding import PositionEmbedding, sine_cosine_table
from spm_mm.layers.stem import DoubleConvStem, OverlapStem, PatchStem
from spm_mm.layers.tokens import TokenBlock, TokenDepthwiseMLP
from spm_mm.renamed import answer_for_old_names

__all__ = [
    'MLP',
    'ConvNormAct',
    'DepthwiseMLP',
    'DoubleConvStem',
    'OverlapStem',
    'PatchStem',
    'PositionEmbedding',
    'TokenBlock',
    'TokenDepthwiseMLP',
    'TransformerBlock',
    'build_norm',
    'conv_on_map',
    'init_convs',
    'init_linears',
    'is_plain',
    'resize_map',
    'sine_cosine_table',
]

answer_for_old_names(__name__, globals())
