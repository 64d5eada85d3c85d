"""Maps to windows that do not overlap, and back, at any size."""

import torch
from torch import Tensor
from torch.nn import functional as F


def is_open(*sides: int) -> bool:
    """Whether a side has no value yet, because the graph of all sizes is being exported.

    What is skipped or chosen by its value must then be computed: the graph has no branches.
    """
    return any(isinstance(side, torch.SymInt) for side in sides)


def overhang(side: int, multiple: int) -> int:
    """Cells that ``side`` lacks to a multiple."""
    # Added to the side it cancels to a plain multiple: compilers with dynamic sizes need that.
    return divide_up(side, multiple) * multiple - side


def divide_up(side: int, size: int) -> int:
    """Windows of ``size`` cells that hold ``side`` cells, the last one perhaps in part."""
    return (side + size - 1) // size


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Append rows and columns of zeros to (B, H, W, C) until both sides are multiples."""
    return append_zeros(x, *(overhang(side, multiple) for side in x.shape[1:3]))


def append_zeros(x: Tensor, bottom: int, right: int) -> Tensor:
    """Append rows and columns of zeros to (B, H, W, ...)."""
    if is_open(bottom, right) or bottom or right:
        x = F.pad(x, (*[0, 0] * (x.ndim - 3), 0, right, 0, bottom))
    return x


def to_windows(x: Tensor, size: int) -> Tensor:
    """Cut (B, H, W, C) into windows of ``size`` x ``size`` cells, zeros where one overhangs.

    Returns:
        (B, ceil(H / size) * ceil(W / size), size * size, C), both row by row.
    """
    rows, columns = (divide_up(side, size) for side in x.shape[1:3])
    b, _, _, c = x.shape
    x = pad_to_multiple(x, size)
    x = x.view(b, rows, size, columns, size, c)
    return x.transpose(2, 3).reshape(b, rows * columns, size * size, c)


def from_windows(windows: Tensor, size: int, height: int, width: int) -> Tensor:
    """Put windows of :func:`to_windows` together to the map (B, height, width, C) of before."""
    b, _, _, c = windows.shape
    rows, columns = (divide_up(side, size) for side in (height, width))
    x = windows.view(b, rows, columns, size, size, c).transpose(2, 3)
    return x.reshape(b, rows * size, columns * size, c)[:, :height, :width]
