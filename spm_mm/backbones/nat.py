"""NAT: "Neighborhood Attention Transformer", https://arxiv.org/abs/2204.07143."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from mmcv.cnn.bricks.scale import LayerScale
from torch import Tensor, nn

from spm_mm.attention import NeighborhoodAttention
from spm_mm.backbones.hierarchical import BlockStage, HierarchicalBackbone
from spm_mm.backbones.pvt import PVTBlock
from spm_mm.layers import MLP, DoubleConvStem
from spm_mm.registry import MODELS

__all__ = ['NAT']


class NATBlock(PVTBlock):
    """Pre-norm block of attention and MLP; a factor for each channel of either, if ``layer_scale``.

    Shape: map (B, H, W, C) to the same shape.
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
            nn.Identity() if layer_scale is None else LayerScale(channels, scale=layer_scale)
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
    has no biases any more; it has no second derivative.

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
    unused_keys = ('norms.',)

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'mini',
        merging: dict | Sequence[dict] | None = None,
        kernel_size: int = 7,
        qkv_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(arch, **kwargs)
        dims, heads = self.arch['embed_dims'], self.arch['num_heads']
        rates = self.drop_path_rates()
        self.stem = DoubleConvStem(self.in_channels, dims[0], norm_eps=1e-5)
        self.mergings = self.build_mergings(
            merging, default={'type': 'ConvMerging', 'kernel_size': 3, 'bias': False}
        )
        self.stages = nn.ModuleList()
        for i in range(self.num_stages):
            blocks = [
                NATBlock(
                    dims[i],
                    NeighborhoodAttention(dims[i], heads[i], kernel_size, qkv_bias),
                    MLP(dims[i], self.arch['mlp_ratios'][i]),
                    rate,
                    self.arch['layer_scale'],
                )
                for rate in rates[i]
            ]
            self.stages.append(BlockStage(blocks, self.with_cp))
        self.norms = nn.ModuleList(
            self.build_norm(dims[i]) if i in self.out_indices else nn.Identity()
            for i in range(self.num_stages)
        )
        self.finish()

    def build_norm(self, channels: int) -> nn.Module:
        norm = nn.LayerNorm(channels)
        # Under a name of its own: a classifier's last norm is not the start of an output norm.
        return nn.Sequential(OrderedDict(out=norm)) if self.out_type == 'featmap' else norm
