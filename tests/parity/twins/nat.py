"""NAT (SHI-Labs/Neighborhood-Attention-Transformer)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from spm_mm.backbones import NAT
from spm_mm.converters import get_converter
from spm_mm.converters.base import Classifier
from tests.parity.twins.base import Twin, official_code, run_classifier


@official_code('nat', families=('nat',), fixtures=('nat_mini', 'nat_tiny'))
def make_twin(
    callable_name: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
) -> Twin:
    # The fixtures hold the weights of the classifier and of the dense backbone together.
    dense = get_converter('nat').model_for(state_dict)['backbone']
    model = Classifier.of(NAT(dense.arch, out_type='avg_featmap'), state_dict)
    for norm, other in zip(model.backbone.norms, dense.norms, strict=True):
        norm.add_module('out', other.out)
    return Twin(model, run_classifier(model, dense))
