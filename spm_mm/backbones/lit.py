"""LIT: "Less is More: Pay Less Attention in Vision Transformers", https://arxiv.org/abs/2105.14217."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from spm_mm.attention import RelativePositionAttention, SpatialReductionAttention
from spm_mm.backbones.hierarchical import HierarchicalBackbone
from spm_mm.backbones.pvt import ClassTokenStage
from spm_mm.backbones.stage import Stage
from spm_mm.errors import UserError, check_count
from spm_mm.layers import MLP, PatchStem, PositionEmbedding, TransformerBlock
from spm_mm.registry import MODELS, suggest

__all__ = ['LIT']

POSITIONS = ('absolute', 'relative')
ATTENTION_STAGES = (2, 3)


@MODELS.register_module()
class LIT(HierarchicalBackbone):
    """LIT: MLPs alone in stages 1 and 2, full attention in stages 3 and 4, deformable merging.

    The blocks are those of Eq. 1 (MLP) and of Eq. 2 and 3 (attention, MLP).

    LIT-Tiny is PVT-Small with per-stage attention ``(None, None, 'full', 'full')`` and this merging:
    position tables as PVT's and, for a classifier, a class token in stage 4
    (``out_type='cls_token'``). The others have no table at the input but a relative position bias in
    every attention, and classify by ``out_type='avg_featmap'``. The paper does not say which form
    the relative encoding has, nor that there is a class token: both are the official code's.

    Without options it puts out the maps of the last blocks. The official detection and segmentation
    code of small, medium and base puts LayerNorms on some outputs, which the ImageNet checkpoint does
    not have: ``out_norms=(1, 2, 3)`` and ``img_size=800`` is the detector's form,
    ``out_norms=(0, 1, 2, 3)`` and ``img_size=512`` the segmentor's. LIT-Tiny's has none.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'medium'``, ``'base'`` or a dict with the keys of
            :attr:`arch_settings`. ``position`` there is ``'absolute'`` or ``'relative'``.
        merging: One config for the three transitions or a list of three. Default:
            ``dict(type='DeformableMerging')``.
        qkv_bias: Whether query, key and value projections have a bias.
        img_size: Side of the image in pixels that the position tables are made for. They are resized
            to any other size.
        out_norms: Stages, 0 to 3, whose map gets a LayerNorm of its own on the way out. The next
            stage reads the map without it.
        kwargs: Options of :class:`~spm_mm.backbones.hierarchical.HierarchicalBackbone`.

    Shape: image (B, 3, H, W), H and W at least 32, to maps at strides 4, 8, 16 and 32, or to one
    vector. Small, medium and base fill the image up with zeros on the right and bottom to multiples
    of 4, as the official dense code does; tiny leaves the rest out. Attention stays global at any
    size.
    """

    arch_settings = {
        'tiny': {
            'embed_dims': (64, 128, 320, 512),
            'depths': (3, 4, 6, 3),
            'num_heads': (1, 2, 5, 8),
            'mlp_ratios': (8, 8, 4, 4),
            'position': 'absolute',
            'norm_eps': 1e-6,
        }
    } | {
        name: {
            'embed_dims': tuple(width * 2**i for i in range(4)),
            'depths': (2, 2, depth, 2),
            'num_heads': tuple(width // 32 * 2**i for i in range(4)),
            'mlp_ratios': (4, 4, 4, 4),
            'position': 'relative',
            'norm_eps': 1e-5,
        }
        for name, width, depth in (('small', 96, 6), ('medium', 96, 18), ('base', 128, 18))
    }
    default_merging = {'type': 'DeformableMerging'}
    out_types = (*HierarchicalBackbone.out_types, 'cls_token')
    unused_keys = ('norms.*', 'stages.*.cls_*')

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'tiny',
        merging: dict | Sequence[dict] | None = None,
        qkv_bias: bool = True,
        img_size: int = 224,
        out_norms: Sequence[int] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(arch, **kwargs)
        position = self.arch['position']
        if position not in POSITIONS:
            raise UserError(
                f'position of arch has unknown value {position!r}: {suggest(position, [*POSITIONS])}'
            )
        if self.out_type == 'cls_token' and position == 'relative':
            raise UserError(
                "out_type='cls_token' needs absolute positions, and this arch has relative ones: use"
                " 'avg_featmap'"
            )
        check_count('img_size', img_size, self.min_size)
        if out_norms and (
            self.out_type != 'featmap' or not set(out_norms) <= set(self.out_indices)
        ):
            raise UserError(
                f'out_norms must be among out_indices={list(self.out_indices)} and need out_type'
                f"='featmap', got {list(out_norms)} with out_type={self.out_type!r}"
            )
        self.relative = position == 'relative'
        self.qkv_bias = qkv_bias
        self.img_size = img_size
        self.out_norms = tuple(out_norms)
        self.build(merging)

    def build_stem(self) -> nn.Module:
        return PatchStem(self.in_channels, self.embed_dims[0], rounds_up=self.relative)

    def build_block(self, stage: int, index: int, drop_path: float) -> nn.Module:
        channels = self.embed_dims[stage]
        attention = self.build_attention(stage) if stage in ATTENTION_STAGES else None
        mlp = MLP(channels, self.arch['mlp_ratios'][stage])
        return TransformerBlock(channels, attention, mlp, drop_path, self.arch['norm_eps'])

    def build_attention(self, stage: int) -> nn.Module:
        channels, heads = self.embed_dims[stage], self.arch['num_heads'][stage]
        if self.relative:
            return RelativePositionAttention(channels, heads, self.grid(stage), self.qkv_bias)
        return SpatialReductionAttention(channels, heads, qkv_bias=self.qkv_bias)

    def grid(self, stage: int) -> tuple[int, int]:
        """Rows and columns that the position tables of a stage are made for."""
        return (self.img_size // (4 * 2**stage),) * 2

    def build_stage(self, stage: int, blocks: list[nn.Module]) -> Stage:
        channels = self.embed_dims[stage]
        position = None if self.relative else PositionEmbedding(self.grid(stage), channels)
        if self.out_type == 'cls_token' and stage in self.out_indices:
            return ClassTokenStage(channels, blocks, position)
        return Stage(blocks, position=position)

    def build_norm(self, stage: int) -> nn.Module:
        norm = nn.LayerNorm(self.embed_dims[stage], eps=self.arch['norm_eps'])
        if not self.is_dense and stage in self.out_indices:
            return norm
        # Under a name of its own: a classifier's last norm is not the start of an output norm.
        return nn.Sequential(OrderedDict(out=norm)) if stage in self.out_norms else nn.Identity()
