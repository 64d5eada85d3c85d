"""PVT (whai362/PVT) and PVT with SPM (Yonghao-Yu/StepwisePatchMerging)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from spm_mm.backbones import PVT
from spm_mm.converters import get_converter
from spm_mm.merging import GuidedLocalEnhancement, MultiScaleAggregation, StepwiseMerging
from tests.parity.twins.base import Outputs, Twin, mount, official_code, run_classifier

MERGING, OFFICIAL_MERGING = 'backbone.mergings.0', 'patch_embed2.spm.'


@official_code(
    'pvt',
    families=('pvt', 'spm'),
    fixtures=(
        *(f'{kind}_{arch}' for kind in ('pvt', 'spm_pvt') for arch in PVT.arch_settings),
        'spm_gle',
        'spm_module',
        'spm_msa',
    ),
)
def make_twin(
    callable_name: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
) -> Twin:
    if callable_name == 'MultiScaleAggregation':
        part = MultiScaleAggregation(
            config['in_dim'],
            config['out_dim'],
            config['kernel_sizes'],
            config['expand_ratio'],
            norm_cfg={'type': 'BN'},
        )
        return part_twin('aggregation', part, 'msa.')
    if callable_name == 'GuidedLocalEnhancement':
        part = GuidedLocalEnhancement(
            config['dim'],
            'conv',
            config['gtg_kernel'],
            config['num_heads'],
            norm_cfg={'type': 'BN'},
        )
        return part_twin('enhancement', part, 'gle.')
    if callable_name == 'StepwisePatchMerging':
        merging = StepwiseMerging(config['in_dim'], config['out_dim'])
        return Twin(
            mount({MERGING: merging}),
            lambda x: {'out_map': merging(x).permute(0, 3, 1, 2)},
            {'': OFFICIAL_MERGING},
        )
    model = get_converter('pvt').model_for(state_dict)
    backbone = model.backbone
    merging = [{'type': type(part).__name__} for part in backbone.mergings]
    dense = PVT(backbone.arch, merging=merging, img_size=backbone.img_size)
    return Twin(model, run_classifier(model, dense))


def part_twin(name: str, part: nn.Module, official_name: str) -> Twin:
    def run(x: Tensor) -> Outputs:
        return {'out_map': part(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)}

    return Twin(mount({f'{MERGING}.{name}': part}), run, {'': OFFICIAL_MERGING + official_name})
