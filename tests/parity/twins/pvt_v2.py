"""PVTv2 (whai362/PVT)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from spm_mm.backbones import PVTv2
from spm_mm.converters import get_converter
from tests.parity.twins.base import Twin, official_code, run_classifier


@official_code(
    'pvtv2',
    families=('pvtv2',),
    fixtures=tuple(f'pvt_v2_{arch}' for arch in ('b0', 'b1', 'b2', 'b2_li', 'b3', 'b4', 'b5')),
)
def make_twin(
    callable_name: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
) -> Twin:
    model = get_converter('pvtv2').model_for(state_dict)
    return Twin(model, run_classifier(model, PVTv2(model.backbone.arch)))
