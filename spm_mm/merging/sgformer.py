from torch import Tensor

from spm_mm.layers import ConvNormAct, conv_on_map, init_convs
from spm_mm.merging.base import Merging
from spm_mm.registry import MODELS

__all__ = ['SGFormerMerging']


@MODELS.register_module()
class SGFormerMerging(Merging):
    """Three convolutions, the depth-wise one in the middle halves the map: SG-Former's transition.

    A 1x1 convolution widens, a depth-wise 3x3 convolution of stride 2 merges, a 1x1 convolution mixes.
    A norm follows each of them and a GELU the first two, as in the official code; the paper (section
    3.4) speaks of a convolutional patch embedding without details.

    Args:
        in_channels: Channels of the stage before.
        out_channels: Channels of the stage after.
        norm_cfg: The norms. Default: a group norm of one group, ``dict(type='GN', num_groups=1)``,
            whose statistics run over the whole map.

    Shape: (B, H, W, C) to (B, ceil(H / 2), ceil(W / 2), C').
    """

    rounds_up = True

    def __init__(self, in_channels: int, out_channels: int, norm_cfg: dict | None = None) -> None:
        super().__init__(in_channels, out_channels)
        norm_cfg = dict(norm_cfg or {'type': 'GN', 'num_groups': 1})
        self.expand = ConvNormAct(in_channels, out_channels, 1, norm_cfg)
        self.merge = ConvNormAct(
            out_channels, out_channels, 3, norm_cfg, stride=2, groups=out_channels
        )
        self.mix = ConvNormAct(out_channels, out_channels, 1, norm_cfg, act=False)
        init_convs(self)

    def forward(self, x: Tensor) -> Tensor:
        # A group norm may answer in the plain layout.
        return conv_on_map(lambda t: self.mix(self.merge(self.expand(t))), x).contiguous()
