"""Reading a feature map between its cells: the deformable part of LIT's token merging (section 3.3).

Every cell of a k x k patch is read from where its offset points to. What is read is a feature map
again, whose patches meet an ordinary convolution of kernel and stride k: together that is a deformable
convolution over patches that do not overlap (Eq. 7).

Offsets start on cells, where interpolation has no derivative. The official code takes the one towards
the next cell, and so does this one; ``grid_sample`` rounds the point to one side or the other.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import deform_conv2d


def resample(x: Tensor, offset: Tensor, kernel_size: int = 2) -> Tensor:
    """Read each cell of every patch from where its offset points to.

    A point between cells is interpolated bilinearly; outside the feature map everything is zero.
    Offsets may point to rows and columns that fill no patch.

    Args:
        x: Feature map (B, H, W, C).
        offset: In cells of ``x``, (B, H', W', 2 k^2): y and x of each cell of the patch, row by row.
            H' = floor(H / k), W' = floor(W / k).
        kernel_size: Side k of a patch.

    Returns:
        Feature map (B, k H', k W', C).
    """
    b, rows, columns, _ = offset.shape
    k = kernel_size
    points = sample(x, sampling_positions(offset, k)).view(b, rows, columns, k, k, -1)
    return points.transpose(2, 3).reshape(b, rows * k, columns * k, -1)


def deform_conv(x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """:func:`resample` and the convolution of its patches in one kernel of torchvision, in float32.

    On a GPU it takes half the time of the two steps in a training step without ``torch.compile``.

    Args:
        x: As in :func:`resample`.
        offset: Likewise.
        weight: Kernel of the convolution (C', C, k, k).
        bias: (C',) or None.

    Returns:
        Feature map (B, H', W', C').
    """
    # The kernel wants plain (B, C, H, W) memory and one dtype.
    image, offset = (t.permute(0, 3, 1, 2).contiguous() for t in (x, offset.to(x.dtype)))
    bias = None if bias is None else bias.to(x.dtype)
    out = deform_conv2d(image, offset, weight.to(x.dtype), bias, stride=weight.shape[-1])
    return out.permute(0, 2, 3, 1)


def sampling_positions(offset: Tensor, kernel_size: int = 2) -> Tensor:
    """Where the cells of all patches are read from.

    Args:
        offset: (B, H', W', 2 k^2) as in :func:`resample`.
        kernel_size: Side k of a patch.

    Returns:
        (B, H', W', k^2, 2): y and x of each cell, in cells of the feature map that is read, float32
        or better. Centres of cells are whole numbers.
    """
    b, rows, columns, _ = offset.shape
    k = kernel_size
    dtype = torch.promote_types(offset.dtype, torch.float32)
    y, x = (torch.arange(k * n, device=offset.device, dtype=dtype) for n in (rows, columns))
    regular = torch.stack(torch.meshgrid(y, x, indexing='ij'), dim=-1)
    regular = regular.view(rows, k, columns, k, 2).transpose(1, 2).reshape(rows, columns, k * k, 2)
    return regular + offset.view(b, rows, columns, k * k, 2)


def sample(x: Tensor, positions: Tensor) -> Tensor:
    """Read a feature map between its cells, bilinearly; outside it is zero.

    Args:
        x: Feature map (B, H, W, C).
        positions: (B, ..., 2), y and x in cells.

    Returns:
        (B, ..., C).
    """
    b, h, w, c = x.shape
    cells = x.reshape(b * h * w, c)
    first = h * w * torch.arange(b, device=x.device).view(b, *[1] * (positions.ndim - 2))
    low = positions.floor()
    high_share = positions - low
    out = None
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row, column = ((low + i)[..., axis] for axis, i in enumerate(corner))
        inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
        index = first + torch.where(inside, row * w + column, 0).long()
        shares = [high_share[..., i] if corner[i] else 1 - high_share[..., i] for i in (0, 1)]
        share = (shares[0] * shares[1] * inside).to(x.dtype)[..., None]
        part = F.embedding(index, cells) * share
        out = part if out is None else out + part
    return out
