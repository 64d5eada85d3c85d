"""NAT: "Neighborhood Attention Transformer", https://arxiv.org/abs/2204.07143."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spm_mm.attention import NeighborhoodAttention
from spm_mm.backbones.hierarchical import HierarchicalBackbone
from spm_mm.layers import MLP, DoubleConvStem, TransformerBlock
from spm_mm.registry import MODELS

__all__ = ['NAT']


class LayerScale(nn.Module):
    """A learned factor for each channel.

    Shape: (..., C) to the same shape.
    """

    def __init__(self, channels: int, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class NATBlock(TransformerBlock):
    """Pre-norm block of attention and MLP; a factor for each channel of either, if ``layer_scale``.

    Shape: feature map (B, H, W, C) to the same shape.
    """

    def __init__(
        self,
        channels: int,
        attention: nn.Module,
        mlp: nn.Module,
        drop_path: float,
        layer_scale: float | None,
    ) -> None:
        super().__init__(channels, attention, mlp, drop_path, norm_eps=1e-5)
        self.scale1, self.scale2 = (
            nn.Identity() if layer_scale is None else LayerScale(channels, layer_scale)
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.scale1(self.attn(self.norm1(x))))
        return x + self.drop_path(self.scale2(self.mlp(self.norm2(x))))


@MODELS.register_module()
class NAT(HierarchicalBackbone):
    """NAT with any patch merging between its stages.

    Every token attends to the 7x7 nearest. Each output map has a LayerNorm of its own, which the next
    stage does not see. As in the official detection and segmentation code these norms are new: the
    classifier's last norm is not one of them. A classifier takes ``out_type='avg_featmap'``.

    No part depends on the size of the image: the tables of biases belong to shifts of up to 6 tokens
    and are never resized. With its own merging, maps of images below 193 pixels have a side below 7;
    they are filled up with zeros inside the attention, see
    :class:`~spm_mm.attention.NeighborhoodAttention`.

    The neighborhood attention is plain PyTorch, on any device, without the ``natten`` package, which
    has no biases any more.

    Args:
        arch: ``'mini'``, ``'tiny'``, ``'small'``, ``'base'`` or a dict with the keys of
            :attr:`arch_settings`. ``layer_scale`` there is what the factors of a block's two parts
            start from, or None for no such factors.
        merging: One config for the three transitions or a list of three. Default: NAT's own 3x3
            convolution, ``dict(type='ConvMerging', kernel_size=3, bias=False)``.
        kernel_size: Rows and columns of a neighborhood, odd.
        qkv_bias: Whether query, key and value projections have a bias.
        kwargs: Options of :class:`~spm_mm.backbones.hierarchical.HierarchicalBackbone`.

    Shape: image (B, 3, H, W), H and W at least 32, to maps of 64, 128, 256 and 512 channels (small
    from 96 on, base from 128 on) at strides 4, 8, 16 and 32, sides rounded up, or to one vector (B, C).
    """

    arch_settings = {
        name: {
            'embed_dims': tuple(width * 2**i for i in range(4)),
            'depths': (3, 4, depth, 5),
            'num_heads': tuple(width // 32 * 2**i for i in range(4)),
            'mlp_ratios': (ratio,) * 4,
            'layer_scale': layer_scale,
        }
        for name, width, depth, ratio, layer_scale in (
            ('mini', 64, 6, 3, None),
            ('tiny', 64, 18, 3, None),
            ('small', 96, 18, 2, 1e-5),
            ('base', 128, 18, 2, 1e-5),
        )
    }
    default_merging = {'type': 'ConvMerging', 'kernel_size': 3, 'bias': False}

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'mini',
        merging: dict | Sequence[dict] | None = None,
        kernel_size: int = 7,
        qkv_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(arch, **kwargs)
        self.kernel_size = kernel_size
        self.qkv_bias = qkv_bias
        self.build(merging)

    def build_stem(self) -> nn.Module:
        return DoubleConvStem(self.in_channels, self.embed_dims[0], norm_eps=1e-5)

    def build_block(self, stage: int, index: int, drop_path: float) -> nn.Module:
        channels, heads = self.embed_dims[stage], self.arch['num_heads'][stage]
        attention = NeighborhoodAttention(channels, heads, self.kernel_size, self.qkv_bias)
        mlp = MLP(channels, self.arch['mlp_ratios'][stage])
        return NATBlock(channels, attention, mlp, drop_path, self.arch['layer_scale'])

    def build_norm(self, stage: int) -> nn.Module:
        if stage not in self.out_indices:
            return nn.Identity()
        norm = nn.LayerNorm(self.embed_dims[stage])
        # Under a name of its own: a classifier's last norm is not the start of an output norm.
        return nn.Sequential(OrderedDict(out=norm)) if self.out_type == 'featmap' else norm
