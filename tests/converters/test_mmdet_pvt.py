"""Weights of MMDetection's first PVT."""

import pytest
import torch
from torch import nn

from spm_mm.converters import get_converter


@torch.no_grad()
def test_puts_out_the_same() -> None:
    from mmdet.models.backbones import PyramidVisionTransformer

    torch.manual_seed(0)
    theirs = PyramidVisionTransformer(num_layers=[2, 2, 2, 2], drop_path_rate=0.0).eval()
    for parameter in theirs.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.1 * torch.randn_like(parameter))
    for module in theirs.modules():  # see the converter: its epsilons differ
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    weights = theirs.state_dict()
    converter = get_converter('mmdet-pvt')
    ours = converter.model_for(weights).eval()
    conversion = converter.convert(weights, ours)
    assert not conversion.unexpected + conversion.missing + list(conversion.dropped)
    ours.load_state_dict(conversion.state_dict)
    for module in ours.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    for size in ((64, 64), (70, 97)):
        image = torch.randn(1, 3, *size)
        for one, other in zip(ours['backbone'](image), theirs(image), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_another_model_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"no checkpoint of MMDetection's PVT tiny, .*\(0, 0, 0, 0\)"
    ):
        get_converter('mmdet-pvt').model_for({'layers.0.0.projection.weight': torch.zeros(1)})
