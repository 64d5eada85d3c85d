"""Hugging Face transformers: Swin, PVT, PVTv2, SegFormer and NAT, under the names of their files.

Query, key and value are layers of their own there.
"""

import dataclasses
import math
import re
from collections.abc import Mapping

from torch import Tensor, nn

from spm_mm.backbones import NAT, PVT, PVTv2
from spm_mm.converters.base import (
    Classifier,
    Conversion,
    Converter,
    Rules,
    find_arch,
    rename_by,
    vector_or_maps,
)
from spm_mm.converters.nat import NATConverter
from spm_mm.converters.pvt import PVTConverter
from spm_mm.converters.pvt_v2 import find_pvt_v2
from spm_mm.converters.swin import TABLE, SwinConverter

QKV = {'query': 'qkv#0', 'key': 'qkv#1', 'value': 'qkv#2'}
Q_KV = {'query': 'q', 'key': 'kv#0', 'value': 'kv#1'}
PART = {'proj': 'conv', 'projection': 'conv', 'layer_norm': 'norm'}
STEM = {'projection.0': 'conv1', 'projection.1': 'conv2'}
MERGING = {'reduction': 'conv', 'norm': 'norm'}
SWIN_BLOCK = {
    'layernorm_before': 'norm1',
    'layernorm_after': 'norm2',
    'attention.output.dense': 'attn.proj',
    'intermediate.dense': 'mlp.fc1',
    'output.dense': 'mlp.fc2',
}
PVT_BLOCK = {
    'layer_norm_1': 'norm1',
    'layer_norm_2': 'norm2',
    'attention.self.sequence_reduction': 'attn.sr',
    'attention.self.sr': 'attn.sr',
    'attention.self.layer_norm': 'attn.norm',
    'attention.output.dense': 'attn.proj',
    'attention.spatial_reduction': 'attn.sr',
    'attention.layer_norm': 'attn.norm',
    'attention.proj': 'attn.proj',
    'mlp.dense1': 'mlp.fc1',
    'mlp.dense2': 'mlp.fc2',
    'mlp.dwconv.dwconv': 'mlp.dwconv',
}


def _split(block: str, name: str, kind: str) -> str:
    """Our name of a query, key or value: ``NAME.KIND``, with the place behind it where it is joined."""
    layer, _, place = name.partition('#')
    return f'{block}.attn.{layer}.{kind}' + (f'#{place}' if place else '')


def _one_of(names: Mapping[str, str]) -> str:
    return f'({"|".join(map(re.escape, names))})'


class HuggingFaceSwinConverter(SwinConverter):
    source = 'huggingface-swin'
    description = 'Hugging Face transformers, Swin'
    block = r'(?:swin\.)?encoder\.layers\.(\d)\.blocks\.(\d+)'
    rules = (
        (
            r'(?:swin\.)?embeddings\.patch_embeddings\.projection\.(\w+)',
            lambda m: f'stem.conv.{m[1]}',
        ),
        (r'(?:swin\.)?embeddings\.norm\.(\w+)', lambda m: f'stem.norm.{m[1]}'),
        (
            rf'{block}\.attention\.self\.{TABLE}',
            lambda m: f'stages.{m[1]}.blocks.{m[2]}.attn.{TABLE}.table',
        ),
        (
            rf'{block}\.attention\.self\.(query|key|value)\.(\w+)',
            lambda m: _split(f'stages.{m[1]}.blocks.{m[2]}', QKV[m[3]], m[4]),
        ),
        (
            rf'{block}\.{_one_of(SWIN_BLOCK)}\.(\w+)',
            lambda m: f'stages.{m[1]}.blocks.{m[2]}.{SWIN_BLOCK[m[3]]}.{m[4]}',
        ),
        (
            r'(?:swin\.)?encoder\.layers\.(\d)\.downsample\.(.+)',
            lambda m: f'mergings.{m[1]}.{m[2]}',
        ),
        (r'hidden_states_norms\.stage(\d)\.(\w+)', lambda m: f'norms.{int(m[1]) - 1}.{m[2]}'),
        (r'(?:swin\.)?layernorm\.(\w+)', lambda m: f'norms.3.{m[1]}'),
    )
    width = 'embeddings.norm.weight'
    blocks = r'encoder\.layers\.{0}\.blocks\.(\d+)\.'

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        kept, _ = _without_last_norm(state_dict)
        return super().model_for({key.removeprefix('swin.'): v for key, v in kept.items()})

    def convert(self, state_dict: Mapping[str, Tensor], module: nn.Module) -> Conversion:
        kept, unused = _without_last_norm(state_dict)
        conversion = super().convert(kept, module)
        reason = 'the dense form has a norm of its own for every output'
        return dataclasses.replace(
            conversion, dropped=conversion.dropped | dict.fromkeys(unused, reason)
        )


def _without_last_norm(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The weights without a classifier's last norm if they are of the dense form, and its keys."""
    dense = any(key.startswith('hidden_states_norms.') for key in state_dict)
    unused = [key for key in state_dict if dense and re.match(r'(swin\.)?layernorm\.', key)]
    return {key: value for key, value in state_dict.items() if key not in unused}, unused


class HuggingFacePVTv2Converter(Converter):
    """``PvtV2``. Its norms all have the epsilon 1e-6 of its config, see the OpenMMLab source."""

    source = 'huggingface-pvtv2'
    description = 'Hugging Face transformers, PVTv2'
    block = r'(?:pvt_v2\.)?encoder\.layers\.(\d)\.blocks\.(\d+)'
    stage_norm = r'(?:pvt_v2\.)?encoder\.layers\.(\d)\.layer_norm\.(\w+)'
    patches = r'(?:pvt_v2\.)?encoder\.layers\.(\d)\.patch_embedding\.(proj|layer_norm)\.(\w+)'
    queries = r'attention\.(query|key|value)'

    def rename(self, key: str) -> str | None:
        if match := re.fullmatch(r'classifier\.(\w+)', key):
            return f'head.fc.{match[1]}'
        name = rename_by(self.rules(), key)
        return name and f'backbone.{name}'

    def rules(self) -> Rules:
        return (
            (
                self.patches,
                lambda m: f'{_merging(int(m[1]))}.{PART[m[2]]}.{m[3]}',
            ),
            (
                rf'{self.block}\.{self.queries}\.(\w+)',
                lambda m: _split(f'stages.{m[1]}.blocks.{m[2]}', Q_KV[m[3]], m[4]),
            ),
            (
                rf'{self.block}\.{_one_of(PVT_BLOCK)}\.(\w+)',
                lambda m: f'stages.{m[1]}.blocks.{m[2]}.{PVT_BLOCK[m[3]]}.{m[4]}',
            ),
            (self.stage_norm, lambda m: f'stages.{m[1]}.norm.{m[2]}'),
        )

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        keys = {key.removeprefix('pvt_v2.'): value for key, value in state_dict.items()}
        arch = find_pvt_v2(
            keys,
            r'encoder\.layers\.{0}\.blocks\.(\d+)\.',
            width='encoder.layers.3.layer_norm.weight',
            hidden='encoder.layers.0.blocks.0.mlp.dense1.weight',
            linear='encoder.layers.3.blocks.0.attention.spatial_reduction.weight',
        )
        return Classifier.of(PVTv2(arch, out_type=vector_or_maps(state_dict)), state_dict)


def _merging(stage: int) -> str:
    return f'mergings.{stage - 1}' if stage else 'stem'


class HuggingFaceSegFormerConverter(HuggingFacePVTv2Converter):
    """SegFormer's encoder, MiT, alone, with its classifier or with the decode head."""

    source = 'huggingface-segformer'
    description = 'Hugging Face transformers, SegFormer'
    block = r'(?:segformer\.)?encoder\.block\.(\d)\.(\d+)'
    stage_norm = r'(?:segformer\.)?encoder\.layer_norm\.(\d)\.(\w+)'
    patches = r'(?:segformer\.)?encoder\.patch_embeddings\.(\d)\.(proj|layer_norm)\.(\w+)'
    queries = r'attention\.self\.(query|key|value)'

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        keys = {key.removeprefix('segformer.'): value for key, value in state_dict.items()}
        arch = find_pvt_v2(
            keys,
            r'encoder\.block\.{0}\.(\d+)\.',
            width='encoder.layer_norm.3.weight',
            hidden='encoder.block.0.0.mlp.dense1.weight',
        )
        return Classifier.of(PVTv2(arch, out_type=vector_or_maps(state_dict)), state_dict)


class HuggingFacePVTConverter(HuggingFacePVTv2Converter):
    """The first PVT: position tables, a class token, and one norm behind the last stage."""

    source = 'huggingface-pvt'
    description = 'Hugging Face transformers, PVT'
    block = r'(?:pvt\.)?encoder\.block\.(\d)\.(\d+)'
    patches = r'(?:pvt\.)?encoder\.patch_embeddings\.(\d)\.(projection|layer_norm)\.(\w+)'
    queries = r'attention\.self\.(query|key|value)'

    def rules(self) -> Rules:
        embedding = r'(?:pvt\.)?encoder\.patch_embeddings\.(\d)'
        return (
            *super().rules()[:-1],
            (rf'{embedding}\.position_embeddings', lambda m: f'stages.{m[1]}.position.table'),
            (rf'{embedding}\.cls_token', lambda m: f'stages.{m[1]}.cls_token'),
            (r'(?:pvt\.)?encoder\.layer_norm\.(\w+)', lambda m: f'norms.3.{m[1]}'),
        )

    reshape = PVTConverter.reshape

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        keys = {key.removeprefix('pvt.'): value for key, value in state_dict.items()}
        first = 'encoder.patch_embeddings.0.position_embeddings'
        arch = find_arch(
            PVT,
            "Hugging Face's PVT",
            keys,
            r'encoder\.block\.{0}\.(\d+)\.',
            lambda _: first in keys,
        )
        size = 4 * math.isqrt(keys[first].shape[1])
        return Classifier.of(PVT(arch, out_type='cls_token', img_size=size), state_dict)


class HuggingFaceNATConverter(Converter):
    """``Nat``, which transformers 5 has no more; its files are there. DiNAT has the same names."""

    source = 'huggingface-nat'
    description = 'Hugging Face transformers, NAT'
    layer = r'(?:nat\.)?encoder\.levels\.(\d)\.layers\.(\d+)'
    rules = (
        (
            r'(?:nat\.)?embeddings\.patch_embeddings\.(projection\.[01])\.(\w+)',
            lambda m: f'stem.{STEM[m[1]]}.{m[2]}',
        ),
        (r'(?:nat\.)?embeddings\.norm\.(\w+)', lambda m: f'stem.norm.{m[1]}'),
        (
            r'(?:nat\.)?encoder\.levels\.(\d)\.downsample\.(reduction|norm)\.(\w+)',
            lambda m: f'mergings.{m[1]}.{MERGING[m[2]]}.{m[3]}',
        ),
        (
            rf'{layer}\.attention\.self\.rpb',
            lambda m: f'stages.{m[1]}.blocks.{m[2]}.attn.relative_position_bias_table',
        ),
        (
            rf'{layer}\.attention\.self\.(query|key|value)\.(\w+)',
            lambda m: _split(f'stages.{m[1]}.blocks.{m[2]}', QKV[m[3]], m[4]),
        ),
        (
            rf'{layer}\.{_one_of(SWIN_BLOCK)}\.(\w+)',
            lambda m: f'stages.{m[1]}.blocks.{m[2]}.{SWIN_BLOCK[m[3]]}.{m[4]}',
        ),
        (
            rf'{layer}\.layer_scale_parameters',
            lambda m: f'stages.{m[1]}.blocks.{m[2]}.scale{{}}.weight',
        ),
        (r'(?:nat\.)?layernorm\.(\w+)', lambda m: f'norms.3.{m[1]}'),
    )
    doubt = NATConverter.doubt

    def rename(self, key: str) -> str | None:
        if match := re.fullmatch(r'classifier\.(\w+)', key):
            return f'head.fc.{match[1]}'
        name = rename_by(self.rules, key)
        return name and f'backbone.{name}'

    def reshape(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        if '.scale{}.' in name:  # the factors of a block's two parts in one tensor
            return {name.format(i): factor for i, factor in enumerate(tensor, start=1)}
        return {name: tensor}

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        keys = {key.removeprefix('nat.'): value for key, value in state_dict.items()}
        width = len(keys.get('embeddings.norm.weight', ()))
        arch = find_arch(
            NAT,
            "Hugging Face's NAT",
            keys,
            r'encoder\.levels\.{0}\.layers\.(\d+)\.',
            lambda settings: settings['embed_dims'][0] == width,
        )
        return Classifier.of(NAT(arch, out_type='avg_featmap'), state_dict)
