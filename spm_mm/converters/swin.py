"""Swin: MMPretrain's, MMDetection's and MMSegmentation's classes, and the official code
(microsoft/Swin-Transformer).
"""

import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from spm_mm.backbones import SwinTransformer
from spm_mm.converters.base import (
    Classifier,
    Converter,
    Rules,
    count_classes,
    find_arch,
    rename_by,
)

TABLE = 'relative_position_bias_table'


class SwinConverter(Converter):
    """Base of all sources: a table of names, the order of a merging's channels, position tables."""

    rules: ClassVar[Rules]
    """Tried in order on the whole key; the first that matches is taken."""
    width: ClassVar[str]
    """Key of a vector of the first stage's width."""
    blocks: ClassVar[str]
    """Pattern of the start of a block's keys, see :func:`~spm_mm.converters.base.count_blocks`."""
    pieces_in_turn: ClassVar[bool] = True
    """Order of the 4 C channels that a merging reads. True: the four tokens one after the other,
    columns before rows. False (as here and in MMPretrain, MMDetection and MMSegmentation): the four
    tokens of each channel in turn, rows before columns."""

    def rename(self, key: str) -> str | None:
        if match := re.fullmatch(r'(?:head|head\.fc|classifier)\.(weight|bias)', key):
            return f'head.fc.{match[1]}'
        name = rename_by(self.rules, key)
        return name and f'backbone.{name}'

    def reshape(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        if name.endswith(f'{TABLE}.table'):
            side = math.isqrt(len(tensor))
            return {name: tensor.view(1, side, side, -1)} if side**2 == len(tensor) else {}
        if name.startswith('backbone.mergings.') and self.pieces_in_turn:
            pieces = tensor.unflatten(-1, (2, 2, -1))
            return {name: pieces.transpose(-3, -2).movedim(-1, -3).flatten(-3).contiguous()}
        return {name: tensor}

    def dropped(self, key: str) -> str | None:
        if key.endswith(('relative_position_index', 'attn_mask')):
            return 'follows from the size of the window'
        if key.endswith('mask_token') or re.fullmatch(r'decoder\.0\.\w+', key):
            return 'only masked pre-training uses it'
        return None

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        names = {self.rename(key) for key in state_dict}
        dense = [i for i in range(4) if f'backbone.norms.{i}.weight' in names]
        if count_classes(state_dict) is None and dense != [3]:
            return nn.ModuleDict({'backbone': self.build(state_dict, out_indices=dense or None)})
        return Classifier.of(self.build(state_dict, out_type='avg_featmap'), state_dict)

    def build(self, state_dict: Mapping[str, Tensor], **options: Any) -> SwinTransformer:
        """Build the backbone for weights, as their blocks, width and tables say."""
        width = len(state_dict.get(self.width, ()))
        arch = find_arch(
            SwinTransformer,
            'Swin',
            state_dict,
            self.blocks,
            lambda settings: settings['embed_dims'][0] == width,
        )
        tables = [value for key, value in state_dict.items() if key.endswith(TABLE)]
        window_size = (math.isqrt(len(tables[0])) + 1) // 2 if tables else 7
        return SwinTransformer(arch, window_size=window_size, **options)


class OpenMMLabSwinConverter(SwinConverter):
    source = 'openmmlab-swin'
    description = 'SwinTransformer of MMPretrain, MMDetection and MMSegmentation'
    rules = (
        (r'patch_embed\.projection\.(\w+)', lambda m: f'stem.conv.{m[1]}'),
        (r'patch_embed\.norm\.(\w+)', lambda m: f'stem.norm.{m[1]}'),
        (
            r'stages\.(\d)\.blocks\.(\d+)\.attn\.w_msa\.(.+)',
            lambda m: f'stages.{m[1]}.blocks.{m[2]}.attn.{m[3].replace(TABLE, f"{TABLE}.table")}',
        ),
        (
            r'stages\.(\d)\.blocks\.(\d+)\.ffn\.layers\.(0\.0|1)\.(\w+)',
            lambda m: f'stages.{m[1]}.blocks.{m[2]}.mlp.{"fc2" if m[3] == "1" else "fc1"}.{m[4]}',
        ),
        (r'stages\.(\d)\.blocks\.(\d+)\.(norm[12]\.\w+)', lambda m: m[0]),
        (r'stages\.(\d)\.downsample\.(.+)', lambda m: f'mergings.{m[1]}.{m[2]}'),
        (r'norm(\d)\.(\w+)', lambda m: f'norms.{m[1]}.{m[2]}'),
    )
    width = 'patch_embed.norm.weight'
    blocks = r'stages\.{0}\.blocks\.(\d+)\.'
    pieces_in_turn = False

    def rename(self, key: str) -> str | None:
        return super().rename(key.removeprefix('backbone.'))

    def build(self, state_dict: Mapping[str, Tensor], **options: Any) -> SwinTransformer:
        keys = {key.removeprefix('backbone.'): value for key, value in state_dict.items()}
        return super().build(keys, **options)


class OfficialSwinConverter(SwinConverter):
    source = 'swin'
    description = 'microsoft/Swin-Transformer, and timm before 0.8'
    rules = (
        (r'patch_embed\.proj\.(\w+)', lambda m: f'stem.conv.{m[1]}'),
        (r'patch_embed\.norm\.(\w+)', lambda m: f'stem.norm.{m[1]}'),
        (rf'layers\.(\d\.blocks\.\d+\.attn)\.{TABLE}', lambda m: f'stages.{m[1]}.{TABLE}.table'),
        (r'layers\.(\d)\.downsample\.(.+)', lambda m: f'mergings.{m[1]}.{m[2]}'),
        (r'layers\.(\d)\.(blocks\..+)', lambda m: f'stages.{m[1]}.{m[2]}'),
        (r'norm(\d?)\.(\w+)', lambda m: f'norms.{m[1] or 3}.{m[2]}'),
    )
    width = 'patch_embed.norm.weight'
    blocks = r'layers\.{0}\.blocks\.(\d+)\.'
