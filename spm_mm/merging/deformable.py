"""Deformable Token Merging: "Less is More: Pay Less Attention in Vision Transformers" (LIT), section
3.3, https://arxiv.org/abs/2105.14217. The local aggregation of HAFA (LAA) is the same module.
"""

import torch
from torch import Tensor, nn

from spm_mm.layers import build_norm, conv_on_map, is_plain
from spm_mm.merging.base import Merging
from spm_mm.ops import deform_conv, resample
from spm_mm.registry import MODELS

__all__ = ['DeformableMerging']


@MODELS.register_module()
class DeformableMerging(Merging):
    """DTM: a deformable 2x2 convolution with stride 2, a norm and a GELU (Eq. 7 and 8).

    A 2x2 convolution predicts, for each of the four points of a patch, where it is read from. Its
    weights start from zero, so that the merging starts as a plain convolution. LIT trains the weight
    (not the bias) of that layer, ``offset``, at a learning rate of 1e-5, by
    :class:`~spm_mm.engine.LayerDecayOptimWrapperConstructor` here. The convolution's bias, which is
    redundant before a batch norm, is the official code's and not in Eq. 8.

    HAFA's local aggregation (LAA, Eq. 1 of HAFA) is this module behind stages 1 and 2; its official
    code trains the offsets like all other weights. With it behind all three stages of PVTv2-B1, the
    training of HAFA's authors collapsed (Table 4).

    Args:
        in_channels: Channels C of the stage before.
        out_channels: Channels C' of the stage after.
        norm_cfg: The norm. A batch norm keeps running statistics: with few images a device use
            ``dict(type='SyncBN')``.

    Shape: (B, H, W, C) to (B, floor(H / 2), floor(W / 2), C'). A last odd row or column is not the
    place of a patch, but can be read by an offset.
    """

    rounds_up = False

    def __init__(self, in_channels: int, out_channels: int, norm_cfg: dict | None = None) -> None:
        super().__init__(in_channels, out_channels)
        self.offset = nn.Conv2d(in_channels, 8, 2, stride=2)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)
        self.conv = nn.Conv2d(in_channels, out_channels, 2, stride=2)
        self.norm = build_norm(norm_cfg or {'type': 'BN'}, out_channels)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        offset = conv_on_map(self.offset, x)
        if self._takes_kernel(x):
            x = deform_conv(x, offset, self.conv.weight, self.conv.bias)
        else:
            x = conv_on_map(self.conv, resample(x, offset))
        return self.act(conv_on_map(self.norm, x)).contiguous()

    def _takes_kernel(self, x: Tensor) -> bool:
        """Whether torchvision's kernel is there and faster; it adds up gradients in any order."""
        return (
            x.is_cuda
            and not torch.compiler.is_compiling()
            and not torch.are_deterministic_algorithms_enabled()
            and is_plain(self.conv, nn.Conv2d)
        )
