"""Swin: MMPretrain's class."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from spm_mm.backbones import SwinTransformer
from spm_mm.converters import get_converter
from spm_mm.converters.base import Classifier
from tests.parity.twins.base import Outputs, Twin, numbered_stages, official_code


@official_code('openmmlab-swin', families=('swin',), fixtures=('swin_t', 'swin_s'))
def make_twin(
    callable_name: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
) -> Twin:
    converter = get_converter('openmmlab-swin')
    dense = converter.build(state_dict)
    classes, channels = state_dict['head.fc.weight'].shape
    model = Classifier(dense, channels, classes)
    return Twin(model, run(model, converter.build(state_dict, out_type='avg_featmap')))


def run(model: Classifier, classifier: SwinTransformer) -> Callable[[Tensor], Outputs]:
    """Return the feature maps of a dense backbone and the logits of a classifier with its weights."""

    @torch.no_grad()
    def run(x: Tensor) -> Outputs:
        weights = model.backbone.state_dict()
        own = classifier.state_dict().keys()
        classifier.load_state_dict({key: weights[key] for key in own})
        normed: list[Tensor] = []
        handle = classifier.norms[-1].register_forward_hook(
            lambda module, args, out: normed.append(out.permute(0, 3, 1, 2))
        )
        logits = model.head['fc'](classifier.to(x).eval()(x)[-1])
        handle.remove()
        maps = numbered_stages(model.backbone(x))
        return {'logits': logits, 'stage4_classifier': normed[0], **maps}

    return run
