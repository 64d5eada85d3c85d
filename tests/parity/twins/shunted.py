"""Shunted Transformer (OliverRensu/Shunted-Transformer)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from spm_mm.backbones import ShuntedTransformer
from spm_mm.converters import get_converter
from tests.parity.twins.base import Twin, official_code, run_classifier


@official_code('shunted', families=('shunted',), fixtures=('shunted_t', 'shunted_s'))
def make_twin(
    callable_name: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
) -> Twin:
    model = get_converter('shunted').model_for(state_dict)
    return Twin(model, run_classifier(model, ShuntedTransformer(model.backbone.arch)))
