"""Batch norms folded into the convolutions before them, as for deployment."""

import copy

import pytest
import torch
from torch import nn

from tests.pytorch_tools.conftest import Subject, assert_same, each_variant, image


@each_variant
def test_mmcv(subject: Subject) -> None:
    """mmcv's tool takes a norm that is the next child after a convolution for one that follows it."""
    fuse_conv_bn = pytest.importorskip('mmcv.cnn').fuse_conv_bn
    model = subject.build()
    other = fuse_conv_bn(copy.deepcopy(model))
    with torch.no_grad():
        assert_same(other(image()), model(image()))


def test_mmcv_finds_norms() -> None:
    fuse_conv_bn = pytest.importorskip('mmcv.cnn').fuse_conv_bn
    model = Subject('ShuntedTransformer', 'tiny').build()
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fuse_conv_bn(model).modules())
