"""PVTv2: the official code (whai362/PVT), and MMDetection's class."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from spm_mm.backbones import PVTv2
from spm_mm.converters.base import Classifier, Converter, Twin, find_arch, rename_by, run_classifier

# Tried in order on the whole key; the first that matches is taken.
RULES = (
    (r'patch_embed1\.(proj|norm)\.(\w+)', lambda m: f'stem.{PART[m[1]]}.{m[2]}'),
    (
        r'patch_embed(\d)\.(proj|norm)\.(\w+)',
        lambda m: f'mergings.{int(m[1]) - 2}.{PART[m[2]]}.{m[3]}',
    ),
    (
        r'block(\d)\.(.+)',
        lambda m: f'stages.{int(m[1]) - 1}.blocks.{m[2].replace("dwconv.dwconv", "dwconv")}',
    ),
    (r'norm(\d)\.(\w+)', lambda m: f'stages.{int(m[1]) - 1}.norm.{m[2]}'),
)
PART = {'proj': 'conv', 'projection': 'conv', 'norm': 'norm'}
MMDET_RULES = (
    (r'layers\.0\.0\.(projection|norm)\.(\w+)', lambda m: f'stem.{PART[m[1]]}.{m[2]}'),
    (
        r'layers\.(\d)\.0\.(projection|norm)\.(\w+)',
        lambda m: f'mergings.{int(m[1]) - 1}.{PART[m[2]]}.{m[3]}',
    ),
    (
        r'layers\.(\d)\.1\.(\d+\.(?:norm[12]|attn\.sr|attn\.norm)\.\w+)',
        lambda m: f'stages.{m[1]}.blocks.{m[2]}',
    ),
    (
        r'layers\.(\d)\.1\.(\d+)\.attn\.attn\.in_proj_(\w+)',
        lambda m: f'stages.{m[1]}.blocks.{m[2]}.attn.qkv.{m[3]}',
    ),
    (
        r'layers\.(\d)\.1\.(\d+)\.attn\.attn\.out_proj\.(\w+)',
        lambda m: f'stages.{m[1]}.blocks.{m[2]}.attn.proj.{m[3]}',
    ),
    (
        r'layers\.(\d)\.1\.(\d+)\.ffn\.layers\.([014])\.(\w+)',
        lambda m: f'stages.{m[1]}.blocks.{m[2]}.mlp.{MMDET_MLP[m[3]]}.{m[4]}',
    ),
    (r'layers\.(\d)\.2\.(\w+)', lambda m: f'stages.{m[1]}.norm.{m[2]}'),
)
MMDET_MLP = {'0': 'fc1', '1': 'dwconv', '4': 'fc2'}


class PVTv2Converter(Converter):
    source = 'pvtv2'
    description = 'whai362/PVT v2, ImageNet classifiers'
    families = ('pvtv2',)
    fixtures = tuple(f'pvt_v2_{arch.replace("-", "_")}' for arch in PVTv2.arch_settings)

    def rename(self, key: str) -> str | None:
        if match := re.fullmatch(r'head\.(\w+)', key):
            return f'head.fc.{match[1]}'
        name = rename_by(RULES, key)
        return name and f'backbone.{name}'

    def arch_of(self, state_dict: Mapping[str, Tensor]) -> str:
        """Name of the architecture that a checkpoint belongs to."""
        told = len(state_dict.get('norm4.weight', ())), 'block4.0.attn.sr.weight' in state_dict
        return _arch(state_dict, r'block{1}\.(\d+)\.', *told)

    def model_for(self, state_dict: Mapping[str, Tensor]) -> Classifier:
        return Classifier.of(PVTv2(self.arch_of(state_dict), out_type='avg_featmap'), state_dict)

    def twin(
        self, callable_name: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
    ) -> Twin:
        model = self.model_for(state_dict)
        return Twin(model, run_classifier(model, PVTv2(model.backbone.arch)))


class MMDetPVTv2Converter(Converter):
    """MMDetection's ``PyramidVisionTransformerV2``, alone or inside a detector.

    That class has the epsilon 1e-6 in all norms, where the official code and this suite have 1e-5 in
    those of patch embeddings and reductions: outputs differ by about 1e-5 of their size.
    """

    source = 'mmdet-pvtv2'
    description = "MMDetection's PyramidVisionTransformerV2, alone or as a detector's backbone"
    families = ()
    fixtures = ()

    def rename(self, key: str) -> str | None:
        name = rename_by(MMDET_RULES, key.removeprefix('backbone.'))
        return name and f'backbone.{name}'

    def reshape(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        if '.attn.qkv.' in name:
            q, kv = tensor.split((len(tensor) // 3, len(tensor) // 3 * 2))
            return {name.replace('.qkv.', '.q.'): q, name.replace('.qkv.', '.kv.'): kv}
        if '.mlp.fc' in name and tensor.ndim == 4:
            return {name: tensor.flatten(1)}  # 1x1 convolutions there
        return {name: tensor}

    def dropped(self, key: str) -> str | None:
        if re.match(r'(neck|\w+_head|data_preprocessor)\.', key):
            return 'of the detector, not of its backbone'
        return None

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        keys = {key.removeprefix('backbone.'): value for key, value in state_dict.items()}
        width = len(keys.get('layers.3.2.weight', ()))
        arch = _arch(keys, r'layers\.{0}\.1\.(\d+)\.', width, linear=False)
        return nn.ModuleDict({'backbone': PVTv2(arch)})

    def twin(
        self, callable_name: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
    ) -> Twin:
        model = self.model_for(state_dict)
        return Twin(
            model,
            lambda x: {f'stage{i}': out for i, out in enumerate(model['backbone'](x), start=1)},
        )


def _arch(state_dict: Mapping[str, Tensor], pattern: str, width: int, linear: bool) -> str:
    """Name of the architecture with so many blocks, this last width and kind of attention."""

    def fits(settings: Mapping[str, Any]) -> bool:
        return (settings['embed_dims'][-1], settings['linear']) == (width, linear)

    return find_arch(PVTv2, 'PVTv2', state_dict, pattern, fits)
