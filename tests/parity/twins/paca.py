"""PaCa-ViT and its segmentation head (iVMCL/PaCaViT)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from spm_mm.attention import assign
from spm_mm.backbones import PaCaViT
from spm_mm.converters import get_converter
from spm_mm.converters.base import Classifier
from spm_mm.registry import MODELS
from tests.parity.twins.base import Outputs, Twin, numbered_stages, official_code


@official_code(
    'paca',
    families=('paca',),
    fixtures=(
        *(
            f'pacavit_{name}'
            for arch in ('tiny', 'small', 'base')
            for name in (f'{arch}_p2cconv_100_0', f'{arch}_p2cconv_100_0_downstream')
        ),
        *(f'pacavit_convmixer_{arch}_100' for arch in ('tiny', 'small', 'base')),
        'pacavit_convmixer_small_100_downstream',
        'pacavit_small_p2cmlp_100_0',
        'pacavit_small_p2cmlp_100_0_downstream',
        'pacavit_small_p2cconv_100',
        'pacavit_small_p2cconv_100_blockwise',
        'pacavit_small_p2cconv_100_49',
        'pacavit_small_p2cconv_49_100',
        'pacavit_small_p2cconv_49_0',
        'pacavit_small_p2cconv_2_0',
        'paca_seg_head',
    ),
)
def make_twin(
    callable_name: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
) -> Twin:
    if callable_name == 'PaCaSegHead':
        head = build_head(state_dict)

        def run_head(maps: list[Tensor]) -> Outputs:
            logits, clusters = head.forward_with_clusters(maps)
            return {'logits_map': logits, 'aux_map': clusters}

        return Twin(nn.ModuleDict({'decode_head': head}), run_head, {'': 'decode_head.'})

    found = get_converter('paca').model_for(state_dict).get_submodule('backbone')
    backbone = PaCaViT(
        found.arch,
        num_clusters=found.num_clusters,
        clustering=found.clustering,
        clustering_interval=found.clustering_interval,
    )
    model = Classifier.of(backbone, state_dict)

    def run(x: Tensor) -> Outputs:
        maps = backbone(x)
        outputs = numbered_stages(maps)
        if isinstance(model, Classifier):
            outputs['logits'] = model.head['fc'](maps[-1].mean(dim=(2, 3)))
        if backbone.teacher is not None:
            guides = backbone.guide_stages(backbone.stem(x), x)
            for i, (logits, teacher_map) in enumerate(guides, start=1):
                outputs[f'assign{i}'] = assign(logits)
                outputs[f'teacher_stage{i}'] = teacher_map.permute(0, 3, 1, 2)
        return outputs

    return Twin(model, run)


def build_head(state_dict: Mapping[str, Tensor]) -> nn.Module:
    """Build the PaCaHead that the weights belong to."""
    levels = len({key.split('.')[1] for key in state_dict if key.startswith('convs.')})
    return MODELS.build(
        dict(
            type='spm_mm.PaCaHead',
            _scope_='mmseg',  # whose losses it takes
            in_channels=[state_dict[f'convs.{i}.conv.weight'].shape[1] for i in range(levels)],
            in_index=list(range(levels)),
            channels=len(state_dict['proj.conv.weight']),
            num_classes=len(state_dict['conv_seg.weight']),
            norm_cfg=dict(type='BN'),
            align_corners=False,
            dropout_ratio=0.0,
        )
    )
