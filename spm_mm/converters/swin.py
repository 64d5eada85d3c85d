"""Swin: the hosts' classes, and the official code (microsoft/Swin-Transformer)."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spm_mm.backbones import SwinTransformer
from spm_mm.converters.base import Classifier, Converter, Twin, find_arch, rename_by

TABLE = 'relative_position_bias_table'
# Tried in order on the key without `backbone.`; the first that matches is taken.
RULES = (
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
OFFICIAL_RULES = (
    (r'patch_embed\.proj\.(\w+)', lambda m: f'stem.conv.{m[1]}'),
    (r'patch_embed\.norm\.(\w+)', lambda m: f'stem.norm.{m[1]}'),
    (rf'layers\.(\d\.blocks\.\d+\.attn)\.{TABLE}', lambda m: f'stages.{m[1]}.{TABLE}.table'),
    (r'layers\.(\d)\.downsample\.(.+)', lambda m: f'mergings.{m[1]}.{m[2]}'),
    (r'layers\.(\d)\.(blocks\..+)', lambda m: f'stages.{m[1]}.{m[2]}'),
    (r'norm(\d?)\.(\w+)', lambda m: f'norms.{m[1] or 3}.{m[2]}'),
)


class SwinConverter(Converter):
    """``SwinTransformer`` of MMPretrain, MMDetection and MMSegmentation, alone or in a model."""

    source = 'openmmlab-swin'
    description = (
        'SwinTransformer of MMPretrain, MMDetection and MMSegmentation, alone or in a model'
    )
    families = ('swin',)
    fixtures = ('swin_t', 'swin_s')
    rules = RULES
    head = r'head\.fc\.(\w+)'
    blocks = r'stages\.{0}\.blocks\.(\d+)\.'

    def rename(self, key: str) -> str | None:
        if match := re.fullmatch(self.head, key):
            return f'head.fc.{match[1]}'
        name = rename_by(self.rules, key.removeprefix('backbone.'))
        return name and f'backbone.{name}'

    def reshape(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        if name.endswith(f'{TABLE}.table'):
            side = math.isqrt(len(tensor))
            return {name: tensor.view(1, side, side, -1)} if side**2 == len(tensor) else {}
        return {name: tensor}

    def dropped(self, key: str) -> str | None:
        if key.endswith(('relative_position_index', 'attn_mask')):
            return 'follows from the size of the window'
        if re.match(r'(neck|decode_head|\w+_head|data_preprocessor)\.', key):
            return 'of the detector or segmentor, not of its backbone'
        return None

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        classes = [len(v) for k, v in state_dict.items() if re.fullmatch(self.head, k)]
        names = {self.rename(key) for key in state_dict}
        if not classes and 'backbone.norms.0.weight' in names:
            return nn.ModuleDict({'backbone': self.build(state_dict)})
        backbone = self.build(state_dict, out_type='avg_featmap')
        return Classifier(backbone, backbone.arch['embed_dims'][-1], (classes or [1000])[0])

    def build(self, state_dict: Mapping[str, Tensor], **options: Any) -> SwinTransformer:
        """The backbone that weights belong to, told from blocks, width and tables."""
        keys = {key.removeprefix('backbone.'): value for key, value in state_dict.items()}
        width = len(keys.get('patch_embed.norm.weight', ()))
        arch = find_arch(
            SwinTransformer,
            'Swin',
            keys,
            self.blocks,
            lambda settings: settings['embed_dims'][0] == width,
        )
        table = next(value for key, value in keys.items() if key.endswith(TABLE))
        return SwinTransformer(arch, window_size=(math.isqrt(len(table)) + 1) // 2, **options)

    def twin(
        self, callable_name: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
    ) -> Twin:
        dense = self.build(state_dict)
        classes, channels = state_dict['head.fc.weight'].shape
        model = Classifier(dense, channels, classes)
        return Twin(model, _run(model, self.build(state_dict, out_type='avg_featmap')))


class OfficialSwinConverter(SwinConverter):
    """The official checkpoints: 4 C channels of a merging have another order than in the hosts."""

    source = 'swin'
    description = 'microsoft/Swin-Transformer, ImageNet classifiers and dense backbones'
    families = ()
    fixtures = ()
    rules = OFFICIAL_RULES
    head = r'head\.(\w+)'
    blocks = r'layers\.{0}\.blocks\.(\d+)\.'

    def reshape(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        if name.startswith('backbone.mergings.'):
            # Four pieces of C channels, columns before rows, to C groups of four, rows before columns.
            pieces = tensor.unflatten(-1, (2, 2, -1))
            return {name: pieces.transpose(-3, -2).movedim(-1, -3).flatten(-3).contiguous()}
        return super().reshape(name, tensor)


def _run(model: Classifier, classifier: SwinTransformer) -> Callable[[Tensor], dict[str, Tensor]]:
    """Maps of the dense form, and what the classifier's form makes of the same weights."""

    @torch.no_grad()
    def run(x: Tensor) -> dict[str, Tensor]:
        weights = model.backbone.state_dict()
        own = classifier.state_dict().keys()
        classifier.load_state_dict({key: weights[key] for key in own})
        normed: list[Tensor] = []
        handle = classifier.norms[-1].register_forward_hook(
            lambda module, args, out: normed.append(out.permute(0, 3, 1, 2))
        )
        logits = model.head['fc'](classifier.to(x).eval()(x)[-1])
        handle.remove()
        maps = {f'stage{i}': out for i, out in enumerate(model.backbone(x), start=1)}
        return {'logits': logits, 'stage4_classifier': normed[0], **maps}

    return run
