from collections.abc import Callable

from torch import Tensor


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
