"""LIT (ziplab/LIT)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from spm_mm.backbones import LIT
from spm_mm.converters import get_converter
from spm_mm.converters.base import Classifier
from spm_mm.layers import conv_on_map
from spm_mm.merging import DeformableMerging
from tests.parity.twins.base import (
    Outputs,
    Twin,
    mount,
    numbered_stages,
    official_code,
    run_classifier,
    to_nchw,
)


@official_code(
    'lit',
    families=('lit',),
    fixtures=(
        'dtm',
        'dtm_wide',
        'lit_ti',
        'lit_ti_dense',
        'lit_small',
        'lit_small_det',
        'lit_small_seg',
        'lit_medium',
        'lit_base',
    ),
)
def make_twin(
    callable_name: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
) -> Twin:
    if callable_name == 'DeformablePatchEmbed_GELU':
        merging = DeformableMerging(config['in_channels'], config['out_channels'])
        return Twin(
            mount({'backbone.mergings.0': merging}),
            lambda x: run_merging(merging, x),
            {'': 'patch_embed2.'},
        )
    model = get_converter('lit').model_for(state_dict)
    backbone = model.get_submodule('backbone')
    if isinstance(model, Classifier):
        dense = LIT(backbone.arch, img_size=backbone.img_size)
        return Twin(model, run_classifier(model, dense))
    return Twin(model, lambda x: numbered_stages(backbone(x)))


def run_merging(merging: DeformableMerging, x: Tensor) -> Outputs:
    x = x.permute(0, 2, 3, 1)
    return to_nchw({'out_map': merging(x), 'offset_map': conv_on_map(merging.offset, x)})
