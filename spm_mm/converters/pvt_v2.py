"""PVTv2 and MiT: the official code (whai362/PVT, NVlabs/SegFormer), MMDetection's and MMSegmentation's
classes.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from spm_mm.backbones import PVTv2
from spm_mm.converters.base import (
    Classifier,
    Converter,
    find_arch,
    rename_by,
    vector_or_maps,
)

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
    description = 'whai362/PVT v2 and NVlabs/SegFormer'

    def rename(self, key: str) -> str | None:
        if match := re.fullmatch(r'head\.(\w+)', key):
            return f'head.fc.{match[1]}'
        name = rename_by(RULES, key)
        return name and f'backbone.{name}'

    def arch_of(self, state_dict: Mapping[str, Tensor]) -> str:
        """Find the architecture of a checkpoint."""
        return find_pvt_v2(
            state_dict,
            r'block{1}\.(\d+)\.',
            width='norm4.weight',
            hidden='block1.0.mlp.fc1.weight',
            linear='block4.0.attn.sr.weight',
        )

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        backbone = PVTv2(self.arch_of(state_dict), out_type=vector_or_maps(state_dict))
        return Classifier.of(backbone, state_dict)


class MMDetPVTv2Converter(Converter):
    """``PyramidVisionTransformerV2`` of MMDetection and ``MixVisionTransformer`` of MMSegmentation.

    Their norms all have the epsilon 1e-6, where the official code and this suite have 1e-5 in those of
    patch embeddings and reductions: outputs differ by about 1e-5 of their size.
    """

    source = 'mmdet-pvtv2'
    description = (
        'PyramidVisionTransformerV2 of MMDetection, MixVisionTransformer of MMSegmentation'
    )

    def rename(self, key: str) -> str | None:
        name = rename_by(MMDET_RULES, key)
        return name and f'backbone.{name}'

    def reshape(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        if '.attn.qkv.' in name:
            q, kv = tensor.split((len(tensor) // 3, len(tensor) // 3 * 2))
            return {name.replace('.qkv.', '.q.'): q, name.replace('.qkv.', '.kv.'): kv}
        if '.mlp.fc' in name and tensor.ndim == 4:
            return {name: tensor.flatten(1)}  # 1x1 convolutions in the source
        return {name: tensor}

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        arch = find_pvt_v2(
            state_dict,
            r'layers\.{0}\.1\.(\d+)\.',
            width='layers.3.2.weight',
            hidden='layers.0.1.0.ffn.layers.0.weight',
        )
        return nn.ModuleDict({'backbone': PVTv2(arch)})


def find_pvt_v2(
    state_dict: Mapping[str, Tensor], pattern: str, width: str, hidden: str, linear: str = ''
) -> str:
    """Find the PVTv2 or MiT architecture that the weights belong to.

    Args:
        state_dict: The weights.
        pattern: Pattern of the blocks, see :func:`~spm_mm.converters.base.count_blocks`.
        width: Key of a vector of the last stage's width.
        hidden: Key of the first layer of the first MLP.
        linear: Key that only the linear attention has; empty if the source has no linear attention.
    """
    told = (
        len(state_dict.get(width, ())),
        len(state_dict.get(hidden, ())),
        linear in state_dict,
    )

    def fits(settings: Mapping[str, Any]) -> bool:
        dims, ratios = settings['embed_dims'], settings['mlp_ratios']
        return (dims[-1], dims[0] * ratios[0], settings['linear']) == told

    return find_arch(PVTv2, 'PVTv2 or MiT', state_dict, pattern, fits)
