"""HAFA (CBCZJL/Building-Vision-Transformers-with-Hierarchy-Aware-Feature-Aggregation): classifiers and
dense backbones on PVT, its parts and its neck. The clustering is TCFormer's (zengwang430521/TCFormer).
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spm_mm.attention import SpatialReductionAttention
from spm_mm.backbones import PVT, HierarchicalBackbone, PVTv2
from spm_mm.backbones.stage import Stage
from spm_mm.converters.base import Classifier, Twin, find_arch, rename_by, vector_or_maps
from spm_mm.converters.lit import LITConverter
from spm_mm.converters.pvt_v2 import PVTv2Converter
from spm_mm.errors import UserError
from spm_mm.layers import MLP, TokenBlock, TokenDepthwiseMLP, conv_on_map
from spm_mm.merging import ClusterMerging, DeformableMerging
from spm_mm.necks import MTA
from spm_mm.ops import TokenMap, dpc_knn, resample
from spm_mm.ops.dpc_knn import density

MERGING = [{'type': 'DeformableMerging'}, {'type': 'DeformableMerging'}, {'type': 'ClusterMerging'}]
PARTS = {
    'conv': 'conv',
    'conv.skip': 'skip',
    'norm': 'norm',
    'score': 'score',
    'Multiscale.skip': 'context.skip',
    'Multiscale.depth_conv': 'context.depthwise',
    'Multiscale.point_conv': 'context.pointwise',
    'norm1': 'context.norm',
}
PART = rf'({"|".join(map(re.escape, PARTS))})\.(weight|bias)'
# Tried in order on the whole key, before those of PVT with LIT's deformable merging.
RULES = (
    (rf'patch_embed4\.{PART}', lambda m: f'backbone.mergings.2.{PARTS[m[1]]}.{m[2]}'),
    (rf'(?:stage\.)?ctm\.{PART}', lambda m: f'merging.{PARTS[m[1]]}.{m[2]}'),
    (
        r'stage\.block\.(\d+)\.mlp\.dwconv\.skip\.(\w+)',
        lambda m: f'stage.blocks.{m[1]}.mlp.skip.{m[2]}',
    ),
    (r'stage\.block\.(.+)', lambda m: f'stage.blocks.{m[1]}'),
    (r'stage\.norm\.(\w+)', lambda m: f'norm.{m[1]}'),
    (r'(?:lateral|fpn)_convs\..+', lambda m: f'neck.{m[0]}'),
)
LAA = {'dconv': 'conv', 'dconv.conv_offset': 'offset', 'norm_layer': 'norm'}
# The same for PVTv2.
V2_RULES = (
    (
        r'dcn(\d)\.(dconv|dconv\.conv_offset|norm_layer)\.(\w+)',
        lambda m: f'backbone.mergings.{int(m[1]) - 1}.{LAA[m[2]]}.{m[3]}',
    ),
    (rf'ctm3\.{PART}', lambda m: f'backbone.mergings.2.{PARTS[m[1]]}.{m[2]}'),
    (
        r'block4\.(\d+)\.mlp\.dwconv\.skip\.(\w+)',
        lambda m: f'backbone.stages.3.blocks.{m[1]}.mlp.skip.{m[2]}',
    ),
)
UNUSED = 'never used by the official model'


class HAFAConverter(LITConverter):
    """LAA has the names of LIT's deformable merging, the rest those of PVT."""

    source = 'hafa'
    description = "HAFA's official code, ImageNet classifiers and dense backbones on PVT"
    families = ('hafa',)
    fixtures = (
        'tcformer_dpc_knn',
        'hafa_dpc_knn',
        'hafa_token_maps',
        'hafa_laa',
        'hafa_laa_wide',
        'hafa_sia',
        'hafa_sia_stage_pvt',
        'hafa_sia_stage_v2',
        'hafa_mta',
        *(f'hafa_pvt_{size}' for size in ('tiny', 'tiny_dense', 'small', 'small_dense')),
        *(f'hafa_pvt_{size}_params' for size in ('medium', 'large')),
    )

    def rename(self, key: str) -> str | None:
        return rename_by(RULES, key) or super().rename(key)

    def dropped(self, key: str) -> str | None:
        if key == 'cls_token' or re.search(r'(^|\.)proj_q\.', key) or key.startswith('norm4.'):
            return UNUSED
        return super().dropped(key)

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        arch = find_arch(
            PVT,
            'PVT with HAFA',
            state_dict,
            r'block{1}\.(\d+)\.',
            lambda _: 'patch_embed4.score.weight' in state_dict,
        )
        size = 4 * math.isqrt(state_dict['pos_embed1'].shape[1])
        return _model(PVT, arch, state_dict, img_size=size)

    def twin(
        self, callable_name: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
    ) -> Twin:
        functions = {'cluster_dpc_knn': _run_clustering, 'token2map': _run_conversions}
        first = callable_name.split(',')[0]
        if first in functions:
            count_and_k = [config[name] for name in ('cluster_num', 'k') if name in config]
            return Twin(nn.Module(), lambda *inputs: functions[first](*inputs, *count_and_k))
        if first == 'DeformablePatchMerging':
            merging = DeformableMerging(config['in_channels'], config['out_channels'])
            return Twin(nn.ModuleDict({'merging': merging}), lambda x: _run_deformable(merging, x))
        if first == 'CTM':
            merging = ClusterMerging(
                config['embed_dim'], config['dim_out'], config['sample_ratio'], config['k']
            )
            module = nn.ModuleDict({'merging': merging})
            return Twin(module, lambda x: _watched(lambda: merging(x), merging)[1], prefix='ctm.')
        if first.startswith('CTM + '):
            module = _stage(config, scored='TCBlock' in first)
            return Twin(module, lambda x: _run_stage(module, x), prefix='stage.')
        if first == 'MTA':
            neck = MTA(config['in_channels'], config['out_channels'], config['num_outs'])
            return Twin(nn.ModuleDict({'neck': neck}), lambda *x: _run_neck(neck, *x))
        model = self.model_for(state_dict)
        return Twin(model, lambda *inputs: _run_model(model, *inputs))


class HAFAv2Converter(PVTv2Converter):
    """HAFA on PVTv2: the official class, which does not run as committed, with a head."""

    source = 'hafa-pvtv2'
    description = "HAFA's official code, PVTv2 with HAFA"
    families = ('hafa',)
    fixtures = ('hafa_pvt_v2_b1', 'hafa_pvt_v2_b2')

    def rename(self, key: str) -> str | None:
        return rename_by(V2_RULES, key) or super().rename(key)

    def dropped(self, key: str) -> str | None:
        return UNUSED if key.startswith('ctm3.proj_q.') else super().dropped(key)

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        if 'ctm3.score.weight' not in state_dict:
            raise UserError(
                f'this is no checkpoint of PVTv2 with HAFA: its first keys are {list(state_dict)[:3]}'
            )
        return _model(PVTv2, self.arch_of(state_dict), state_dict)

    def twin(
        self, callable_name: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
    ) -> Twin:
        model = self.model_for(state_dict)
        return Twin(model, lambda *inputs: _run_model(model, *inputs))


def _model(
    family: type[HierarchicalBackbone], arch: str, state_dict: Mapping[str, Tensor], **options: Any
) -> nn.Module:
    backbone = family(arch, merging=MERGING, out_type=vector_or_maps(state_dict), **options)
    return Classifier.of(backbone, state_dict)


def _watched(
    run: Callable[[], Any], merging: ClusterMerging, given: Mapping[int, list[int]] | None = None
) -> tuple[Any, dict[str, Tensor]]:
    """Run something, and return with its output what a cluster merging in it does.

    Args:
        run: What is run.
        merging: The merging to watch.
        given: Clusters of some images of the batch, to be used instead of those that are found.
    """
    seen: dict[str, tuple] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, out: Any) -> None:
            seen[name] = (*args, out)

        return hook

    def cluster(x: Tensor) -> Tensor:
        clusters = ClusterMerging.cluster(merging, x)
        for b, table in (given or {}).items():
            clusters[b] = torch.tensor(table)
        return clusters

    parts = {'merging': merging, 'conv': merging.conv, 'norm': merging.norm, 'score': merging.score}
    handles = [part.register_forward_hook(keep(name)) for name, part in parts.items()]
    merging.cluster = cluster
    try:
        out = run()
    finally:
        del merging.cluster
        for handle in handles:
            handle.remove()
    tokens = seen['merging'][-1]
    return out, {
        'conv_tokens_before_norm': seen['norm'][0],
        'normed_tokens': seen['norm'][-1],
        'conv_map_tokens': seen['conv'][-1].flatten(2).transpose(1, 2),
        'score': seen['score'][-1],
        'q_tokens': tokens.x,
        'kv_tokens': tokens.context.flatten(1, 2),
        'q_agg_weight': tokens.weight.flatten(1)[..., None],
        'idx_cluster': tokens.index.flatten(1),
    }


def _run_model(
    model: nn.Module, x: Tensor, given: Mapping[int, list[int]] | None = None
) -> dict[str, Tensor]:
    """Logits (of a classifier), the maps of all stages, and what the mergings put out."""
    backbone = model.backbone if isinstance(model, Classifier) else model['backbone']
    seen: dict[str, Any] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, out: Any) -> None:
            seen[name] = out

        return hook

    watched = {f'stage{i}': stage for i, stage in enumerate(backbone.stages, 1)} | {
        'laa2': backbone.mergings[0],
        'laa3': backbone.mergings[1],
        'norm': backbone.norms[3],
    }
    handles = [part.register_forward_hook(keep(name)) for name, part in watched.items()]
    run = model if isinstance(model, Classifier) else backbone
    out, parts = _watched(lambda: run(x), backbone.mergings[2], given)
    for handle in handles:
        handle.remove()
    outputs = {f'stage{i}': seen[f'stage{i}'][0].permute(0, 3, 1, 2) for i in (1, 2, 3)}
    tokens = seen['stage4'][0].with_tokens(seen['norm'])
    outputs |= {
        'laa2_tokens': seen['laa2'].flatten(1, 2),
        'laa3_tokens': seen['laa3'].flatten(1, 2),
        **{name if name.startswith('idx') else f'sia_{name}': v for name, v in parts.items()},
        'sia_q': parts['q_tokens'],
        'sia_kv': parts['kv_tokens'],
        'agg_weight': parts['q_agg_weight'],
        'stage4_tokens': tokens.x,
        'stage4_map': tokens.to_map().permute(0, 3, 1, 2),
        'pooled': tokens.x.mean(dim=1),
    }
    if isinstance(model, Classifier):
        return outputs | {'logits': out}
    return outputs | {f'stage{i}': out[i - 1] for i in (1, 2, 3)} | {'stage4_map': out[3]}


def _run_clustering(x: Tensor, score: Tensor, *inputs: Any) -> dict[str, Tensor]:
    """The official clustering and merging; ``inputs`` are a map and nothing else in TCFormer's fixture,
    and in HAFA's the cells of the tokens and their weights; then the number of clusters and k.
    """
    *inputs, count, k = inputs
    b, n, c = x.shape
    distance = torch.cdist(x, x) / math.sqrt(c)
    cluster = dpc_knn(x, count, k)
    outputs = {'idx_cluster': cluster, 'density': density(distance, k)}
    if len(inputs) == 1:
        (feature_map,) = inputs
        rows, columns = (2 * side for side in feature_map.shape[1:3])
        index = torch.arange(n).view(1, rows, columns).expand(b, -1, -1)
        tokens = TokenMap(x, index, torch.ones_like(index, dtype=x.dtype), (rows, columns))
    else:
        index, weight = (values[:, None] for values in inputs)
        tokens = TokenMap(x, index, weight, (1, index.shape[-1]))
    merged = tokens.merge(cluster, count, score[..., 0].exp(), tokens.size)
    plain = tokens.merge(cluster, count, torch.ones_like(score[..., 0]), tokens.size)
    weight = merged.weight.flatten(1)[..., None]
    outputs |= {'merged_exp_score': merged.x, 'merged_weighted': merged.x}
    outputs |= {'merged_uniform': plain.x, 'merged_plain_mean': plain.x}
    outputs |= {'agg_weight': weight, 'agg_weight_after_merge': weight}
    outputs['idx_token'] = merged.index.flatten(1)
    if len(inputs) == 1:
        outputs |= {
            'token2map_full_grid': merged.to_map().permute(0, 3, 1, 2),
            'token2map_half_grid': merged.to_map(feature_map.shape[1:3]).permute(0, 3, 1, 2),
            'map2token_from_half_grid': merged.from_map(feature_map),
        }
    return outputs


def _run_conversions(x: Tensor, feature_map: Tensor, index: Tensor) -> dict[str, Tensor]:
    """The official conversions between tokens, maps and tokens of another set."""
    size = tuple(feature_map.shape[1:3])
    tokens = TokenMap(x, index, torch.ones_like(index, dtype=x.dtype), size)
    whole = TokenMap.of_map(x.new_zeros(*index.shape, 1))
    cells = torch.arange(size[0] * size[1]).view(1, *size, 1).double()
    return {
        'idx_token': index.flatten(1),
        'grid_index': whole.from_map(cells)[0, :, 0].round().long(),
        'token2map': tokens.to_map().permute(0, 3, 1, 2),
        'map2token': tokens.from_map(feature_map),
        'token_downup_to_grid': whole.gather(tokens),
    }


def _run_deformable(merging: DeformableMerging, x: Tensor) -> dict[str, Tensor]:
    x = x.permute(0, 2, 3, 1)
    offset, out = conv_on_map(merging.offset, x), merging(x)
    sampled = conv_on_map(merging.conv, resample(x, offset))
    maps = {'offset': offset, 'deform_conv_before_norm': sampled, 'out_map': out}
    maps = {name: value.permute(0, 3, 1, 2) for name, value in maps.items()}
    return maps | {'out_tokens': out.flatten(1, 2)}


def _stage(config: Mapping[str, Any], scored: bool) -> nn.ModuleDict:
    """A cluster merging, two blocks and a norm: PVT's blocks, or those of PVTv2 with scores."""
    c = config['dim']
    mlp = TokenDepthwiseMLP if scored else MLP
    blocks = [
        TokenBlock(
            c, SpatialReductionAttention(c, config['heads']), mlp(c, config['mlp_ratio']), 0.0,
            config['norm_eps'], add_score=scored,
        )
        for _ in range(2)
    ]  # fmt: skip
    stage = Stage(blocks)
    norm = nn.LayerNorm(c, eps=config['norm_eps'])
    merging = ClusterMerging(config['dim_in'], c)
    return nn.ModuleDict({'merging': merging, 'stage': stage, 'norm': norm})


def _run_stage(module: nn.ModuleDict, x: Tensor) -> dict[str, Tensor]:
    after: list[Tensor] = []
    handles = [
        block.register_forward_hook(lambda _, __, out: after.append(out.x))
        for block in module['stage'].blocks
    ]
    tokens, _ = module['stage'](module['merging'](x))
    for handle in handles:
        handle.remove()
    tokens = tokens.with_tokens(module['norm'](tokens.x))
    return {
        'idx_cluster': tokens.index.flatten(1),
        **{f'after_block{i}': out for i, out in enumerate(after, 1)},
        'tokens': tokens.x,
        'map': tokens.to_map().permute(0, 3, 1, 2),
    }


def _run_neck(neck: MTA, levels: list[Tensor], index: Tensor) -> dict[str, Tensor]:
    rows, columns = index.shape[1:]
    *fine, coarse = levels
    maps = [
        x.transpose(1, 2).unflatten(2, (rows * scale, columns * scale))
        for x, scale in zip(fine, (4, 2, 1), strict=True)
    ]
    size = (-(-rows // 2), -(-columns // 2))
    tokens = TokenMap(coarse, index, torch.ones_like(index, dtype=coarse.dtype), size)
    outs = {f'P{i}': out for i, out in enumerate(neck([*maps, tokens]))}
    return outs | {'idx_token': index.flatten(1)}
