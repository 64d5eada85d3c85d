"""Swin Transformer: "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
https://arxiv.org/abs/2103.14030.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from spm_mm.attention import SpatialReductionAttention, WindowAttention
from spm_mm.backbones.hierarchical import BlockStage, HierarchicalBackbone
from spm_mm.backbones.pvt import PVTBlock, TokenBlock
from spm_mm.layers import MLP, PatchStem
from spm_mm.registry import MODELS

__all__ = ['SwinTransformer']


@MODELS.register_module()
class SwinTransformer(HierarchicalBackbone):
    """Swin Transformer with any patch merging between its stages.

    Each output map has a LayerNorm of its own, which the next stage does not see. That of stage 4 is
    also the classifier's, so that a checkpoint of a classifier fills it, as in MMPretrain;
    MMDetection starts it anew. A classifier takes ``out_type='avg_featmap'``.

    Behind a :class:`~spm_mm.merging.ClusterMerging` there are no windows and no relative positions:
    every token attends to all (HAFA prints a Swin-T with it, but released no code, so this is ours).

    **Small maps.** The same weights give two networks: the official classifiers do not shift windows
    where a map fits into one (stage 4 at 224 pixels), the detection and segmentation code does.
    ``shift_small_maps`` chooses.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base'`` or a dict with the keys of :attr:`arch_settings`.
        merging: One config for the three transitions or a list of three. Default:
            ``dict(type='SwinMerging')``.
        window_size: Rows and columns of a window, in tokens. A checkpoint with another one loads, its
            tables of biases are resized.
        qkv_bias: Whether query, key and value projections have a bias.
        shift_small_maps: Whether windows are shifted where the map's smaller side is at most
            ``window_size``. Default: as the official code, for maps, not for vectors.
        kwargs: Options of :class:`~spm_mm.backbones.hierarchical.HierarchicalBackbone`.

    Shape: image (B, 3, H, W), H and W at least 32, to maps of 96, 192, 384 and 768 channels (base:
    128, 256, 512 and 1024) at strides 4, 8, 16 and 32, or to one vector (B, C). Sides are rounded up:
    an image is filled up with zeros on the right and bottom to multiples of 4.
    """

    arch_settings = {
        name: {
            'embed_dims': tuple(width * 2**i for i in range(4)),
            'depths': (2, 2, depth, 2),
            'num_heads': tuple(width // 32 * 2**i for i in range(4)),
            'mlp_ratios': (4, 4, 4, 4),
        }
        for name, width, depth in (('tiny', 96, 6), ('small', 96, 18), ('base', 128, 18))
    }
    takes_tokens = True
    out_types = (*HierarchicalBackbone.out_types, 'tokens')
    tiny_depths = (2, 1, 1, 2)

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'tiny',
        merging: dict | Sequence[dict] | None = None,
        window_size: int = 7,
        qkv_bias: bool = True,
        shift_small_maps: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(arch, **kwargs)
        if shift_small_maps is None:
            shift_small_maps = self.out_type in self.dense_types
        dims, heads = self.arch['embed_dims'], self.arch['num_heads']

        def attention(i: int, block: int) -> WindowAttention:
            shift = window_size // 2 if block % 2 else 0
            return WindowAttention(
                dims[i], heads[i], window_size, shift, qkv_bias, shift_small_maps
            )

        def block(i: int, j: int, rate: float) -> PVTBlock:
            mlp = MLP(dims[i], self.arch['mlp_ratios'][i])
            if self.on_tokens(i):
                to_all = SpatialReductionAttention(dims[i], heads[i], qkv_bias=qkv_bias)
                return TokenBlock(dims[i], to_all, mlp, rate, norm_eps=1e-5)
            return PVTBlock(dims[i], attention(i, j), mlp, rate, norm_eps=1e-5)

        rates = self.drop_path_rates()
        self.stem = PatchStem(self.in_channels, dims[0], rounds_up=True)
        self.mergings = self.build_mergings(merging, default={'type': 'SwinMerging'})
        self.stages = nn.ModuleList()
        for i in range(self.num_stages):
            blocks = [block(i, j, rate) for j, rate in enumerate(rates[i])]
            self.stages.append(BlockStage(blocks, self.with_cp))
        self.norms = nn.ModuleList(
            nn.LayerNorm(dims[i]) if i in self.out_indices else nn.Identity()
            for i in range(self.num_stages)
        )
        self.finish()
