from torch import Tensor, nn

from spm_mm.errors import check_count
from spm_mm.layers import conv_on_map
from spm_mm.merging.base import Merging
from spm_mm.registry import MODELS

__all__ = ['ConvMerging']


@MODELS.register_module()
class ConvMerging(Merging):
    """Strided convolution and LayerNorm: the patch embedding of PVT (section 3.1, Fig. 3).

    The defaults are PVT's 2x2 convolution without overlap. ``kernel_size=3`` is the overlapping
    embedding of PVTv2 and of PaCa-ViT (there with ``norm_eps=1e-6``).

    Args:
        in_channels: Channels of the stage before.
        out_channels: Channels of the stage after.
        kernel_size: 2 (no padding) or an odd number (zero padding by half of it).
        bias: Whether the convolution has a bias.
        norm_eps: The LayerNorm's epsilon.

    Shape: (B, H, W, C) to (B, H', W', C'), H' = floor(H / 2) for ``kernel_size=2`` and ceil(H / 2)
    for an odd one.

    Raises:
        ValueError: If ``kernel_size`` is neither 2 nor odd and positive.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 2,
        bias: bool = True,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__(in_channels, out_channels)
        if kernel_size != 2:
            check_count('kernel_size of ConvMerging, unless it is 2,', kernel_size, odd=True)
        self.rounds_up = kernel_size != 2
        padding = (kernel_size - 1) // 2
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride=2, padding=padding, bias=bias
        )
        self.norm = nn.LayerNorm(out_channels, eps=norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(conv_on_map(self.conv, x))
