from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from spm_mm.ops.windows import is_open


def conv_on_map(conv: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a layer that wants (B, C, H, W) to a channels-last map.

    Both permutations are free views: the layer sees ``torch.channels_last`` memory and answers in
    it.

    Args:
        conv: Convolution, batch norm, pooling, or a chain of them.
        x: Map (B, H, W, C).

    Returns:
        Map (B, H', W', C').
    """
    return conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def resize_map(x: Tensor, height: int, width: int, mode: str = 'bilinear') -> Tensor:
    """Resize (B, H, W, C) to (B, height, width, C), with ``align_corners=False`` where that applies."""
    if not is_open(*x.shape, height, width) and x.shape[1:3] == (height, width):
        return x
    align = None if mode == 'nearest' else False
    return conv_on_map(
        lambda t: F.interpolate(t, size=(height, width), mode=mode, align_corners=align), x
    )
