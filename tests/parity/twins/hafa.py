"""HAFA (CBCZJL/Building-Vision-Transformers-with-Hierarchy-Aware-Feature-Aggregation): models on PVT
and PVTv2, their parts and the neck. The clustering is TCFormer's (zengwang430521/TCFormer).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spm_mm.attention import SpatialReductionAttention
from spm_mm.backbones.stage import Stage
from spm_mm.converters import Converter, get_converter
from spm_mm.converters.base import Classifier
from spm_mm.layers import MLP, TokenBlock, TokenDepthwiseMLP, conv_on_map
from spm_mm.merging import ClusterMerging, DeformableMerging
from spm_mm.necks import MTA
from spm_mm.ops import TokenMap, dpc_knn, resample
from spm_mm.ops.dpc_knn import density
from tests.parity.twins.base import Outputs, Twin, mount, official_code, to_nchw

CLUSTER_MERGING = 'backbone.mergings.2'
GivenClusters = Mapping[int, list[int]] | None
"""Clusters of some images of the batch, to be used instead of those that are found."""


@official_code(
    'hafa',
    families=('hafa',),
    fixtures=(
        'tcformer_dpc_knn',
        'hafa_dpc_knn',
        'hafa_token_maps',
        'hafa_laa',
        'hafa_laa_wide',
        'hafa_sia',
        'hafa_sia_stage_pvt',
        *(f'hafa_pvt_{size}' for size in ('tiny', 'tiny_dense', 'small', 'small_dense')),
        *(f'hafa_pvt_{size}_params' for size in ('medium', 'large')),
    ),
)
def make_twin(
    callable_name: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
) -> Twin:
    functions = {'cluster_dpc_knn': run_clustering, 'token2map': run_conversions}
    first = callable_name.split(',')[0]
    if first in functions:
        count_and_k = [config[name] for name in ('cluster_num', 'k') if name in config]
        return Twin(nn.Module(), lambda *inputs: functions[first](*inputs, *count_and_k))
    if first == 'DeformablePatchMerging':
        laa = DeformableMerging(config['in_channels'], config['out_channels'])
        module = mount({'backbone.mergings.0': laa})
        return Twin(module, lambda x: run_deformable(laa, x), {'': 'patch_embed2.'})
    if first == 'CTM':
        sia = ClusterMerging(
            config['embed_dim'], config['dim_out'], config['sample_ratio'], config['k']
        )
        return Twin(
            mount({CLUSTER_MERGING: sia}),
            lambda x: watch_merging(lambda: sia(x), sia)[1],
            {'': 'patch_embed4.'},
        )
    if first.startswith('CTM + '):
        prefixes = {'ctm.': 'patch_embed4.', 'block.': 'block4.', 'norm.': 'norm.'}
        return stage_twin(config, MLP, 'backbone.norms.3', prefixes)
    model = get_converter('hafa').model_for(state_dict)
    return Twin(model, lambda *inputs: run_model(model, *inputs))


@official_code(
    'hafa-pvtv2',
    families=('hafa',),
    fixtures=('hafa_sia_stage_v2', 'hafa_pvt_v2_b1', 'hafa_pvt_v2_b2'),
)
def make_v2_twin(
    callable_name: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
) -> Twin:
    if callable_name.startswith('CTM + '):
        prefixes = {'ctm.': 'ctm3.', 'block.': 'block4.', 'norm.': 'norm4.'}
        return stage_twin(config, TokenDepthwiseMLP, 'backbone.stages.3.norm', prefixes)
    model = get_converter('hafa-pvtv2').model_for(state_dict)
    return Twin(model, lambda *inputs: run_model(model, *inputs))


class NeckConverter(Converter):
    """The neck has the same names in the official code and here."""

    description = "HAFA's neck"

    def rename(self, key: str) -> str | None:
        return key

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        raise NotImplementedError('the neck is not a model')


@official_code('hafa-neck', families=(), fixtures=('hafa_mta',), converter=NeckConverter())
def make_neck_twin(
    callable_name: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
) -> Twin:
    neck = MTA(config['in_channels'], config['out_channels'], config['num_outs'])
    return Twin(neck, lambda *inputs: run_neck(neck, *inputs))


def watch_merging(
    run: Callable[[], Any], merging: ClusterMerging, given: GivenClusters = None
) -> tuple[Any, Outputs]:
    """Run something, and return its output with what a cluster merging in it computes.

    Args:
        run: Function to call.
        merging: The merging to watch.
        given: See :data:`GivenClusters`.
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


def run_model(model: nn.Module, x: Tensor, given: GivenClusters = None) -> Outputs:
    """Return the logits of a classifier, the maps of all stages, and the outputs of the mergings."""
    backbone = model.get_submodule('backbone')
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
    out, parts = watch_merging(lambda: run(x), backbone.mergings[2], given)
    for handle in handles:
        handle.remove()
    outputs = to_nchw({f'stage{i}': seen[f'stage{i}'][0] for i in (1, 2, 3)})
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


def run_clustering(x: Tensor, score: Tensor, *inputs: Any) -> Outputs:
    """The official clustering and merging.

    Args:
        x: Tokens (B, N, C).
        score: Their scores (B, N, 1).
        inputs: In TCFormer's fixture a feature map, in HAFA's the token of each cell and the weights
            of the cells. Then the number of clusters and k.
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


def run_conversions(x: Tensor, feature_map: Tensor, index: Tensor) -> Outputs:
    """The official conversions between tokens, feature maps and another set of tokens."""
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


def run_deformable(merging: DeformableMerging, x: Tensor) -> Outputs:
    x = x.permute(0, 2, 3, 1)
    offset, out = conv_on_map(merging.offset, x), merging(x)
    sampled = conv_on_map(merging.conv, resample(x, offset))
    maps = to_nchw({'offset': offset, 'deform_conv_before_norm': sampled, 'out_map': out})
    return maps | {'out_tokens': out.flatten(1, 2)}


def stage_twin(
    config: Mapping[str, Any],
    mlp: Callable[[int, int], nn.Module],
    norm_name: str,
    prefixes: Mapping[str, str],
) -> Twin:
    """A cluster merging, two blocks and a norm.

    Args:
        config: The settings of the official part.
        mlp: MLP of the blocks: that of PVT, or that of PVTv2, whose attention reads the scores.
        norm_name: Name of the norm in our whole model.
        prefixes: See :attr:`Twin.prefixes`.
    """
    c, eps = config['dim'], config['norm_eps']
    blocks = [
        TokenBlock(
            c, SpatialReductionAttention(c, config['heads']), mlp(c, config['mlp_ratio']), 0.0,
            eps, add_score=mlp is TokenDepthwiseMLP,
        )
        for _ in range(2)
    ]  # fmt: skip
    merging, stage = ClusterMerging(config['dim_in'], c), Stage(blocks)
    norm = nn.LayerNorm(c, eps=eps)

    def run(x: Tensor) -> Outputs:
        after: list[Tensor] = []
        handles = [
            block.register_forward_hook(lambda _, __, out: after.append(out.x)) for block in blocks
        ]
        tokens, _ = stage(merging(x))
        for handle in handles:
            handle.remove()
        tokens = tokens.with_tokens(norm(tokens.x))
        return {
            'idx_cluster': tokens.index.flatten(1),
            **{f'after_block{i}': out for i, out in enumerate(after, 1)},
            'tokens': tokens.x,
            'map': tokens.to_map().permute(0, 3, 1, 2),
        }

    parts = {CLUSTER_MERGING: merging, 'backbone.stages.3.blocks': stage.blocks, norm_name: norm}
    return Twin(mount(parts), run, prefixes)


def run_neck(neck: MTA, levels: list[Tensor], index: Tensor) -> Outputs:
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
