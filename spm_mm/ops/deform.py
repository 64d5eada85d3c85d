"""Deformable convolution over patches that do not overlap (LIT, section 3.3, Eq. 7).

Every point of a k x k patch is read from where its offset points to, between the pixels if need be;
then all k * k points of the patch pass one linear layer. The plain form in this file is the
definition; compiled operators of torchvision and mmcv compute the same.
"""

import functools
import importlib
import math
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional as F

from spm_mm.errors import UserError
from spm_mm.ops.linear import linear, runs_eagerly

EXACT = (torch.float32, torch.float64)
COMPILED = ('torchvision', 'mmcv')
BACKENDS = ('torch', *COMPILED)


def deform_conv(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Deformable convolution whose stride is its kernel size: no mask, one offset group, no padding.

    Rows and columns that fill no patch get no output, but offsets may point there. A point between
    pixels is interpolated bilinearly; outside the map everything is zero.

    Args:
        x: Map (B, H, W, C).
        offset: In pixels of ``x``, (B, H', W', 2 k^2): y and x of each of the patch's points, points
            row by row. H' = floor(H / k).
        weight: (C', C, k, k).
        bias: (C',) or None.
        backend: ``'torch'`` (plain), ``'torchvision'``, ``'mmcv'``, or None for
            :func:`choose_backend`.

    Returns:
        Map (B, H', W', C').

    Raises:
        ValueError: If the back end is unknown or cannot run here.
    """
    if backend is None:
        backend = choose_backend(x)
    elif not can_run(backend):
        allowed = ', '.join(repr(name) for name in BACKENDS if can_run(name))
        raise UserError(
            f'backend {backend!r} of deform_conv cannot run here: allowed are {allowed}'
        )
    if backend == 'torch':
        if not (runs_eagerly(x) and x.device.type == 'cpu' and x.dtype in EXACT):
            return deform_conv_reference(x, offset, weight, bias)
        points = _sample_at_once(x, sampling_positions(offset, weight.shape[-1]))
        return linear(points.flatten(3), weight.permute(0, 2, 3, 1).flatten(1), bias)
    # The compiled operators want plain (B, C, H, W) memory.
    x, offset = (t.permute(0, 3, 1, 2).contiguous() for t in (x, offset.to(x.dtype)))
    weight, stride = weight.contiguous().to(x.dtype), weight.shape[-1]
    if backend == 'torchvision':
        bias = None if bias is None else bias.to(x.dtype)
        operator = _import('torchvision.ops').deform_conv2d
        return operator(x, offset, weight, bias, stride=stride).permute(0, 2, 3, 1)
    # mmcv takes the batch in equal steps, and has no bias.
    operator, step = _import('mmcv.ops').deform_conv2d, math.gcd(len(x), 32)
    out = operator(x, offset, weight, stride, 0, 1, 1, 1, False, step).permute(0, 2, 3, 1)
    return out if bias is None else out + bias.to(out.dtype)


def deform_conv_reference(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """The plain form of :func:`deform_conv`, in PyTorch alone; arguments as there."""
    points = sample(x, sampling_positions(offset, weight.shape[-1]))
    return F.linear(points.flatten(3), weight.permute(0, 2, 3, 1).flatten(1), bias)


def sampling_positions(offset: Tensor, kernel_size: int = 2) -> Tensor:
    """Where the points of all patches are read from.

    Args:
        offset: (B, H', W', 2 k^2) as in :func:`deform_conv`.
        kernel_size: Side k of a patch.

    Returns:
        (B, H', W', k^2, 2): y and x of each point, in pixels of the map that is read, float32 or
        better. Pixel centres are whole numbers.
    """
    b, rows, columns, _ = offset.shape
    k = kernel_size
    dtype = torch.promote_types(offset.dtype, torch.float32)
    y, x = (torch.arange(k * n, device=offset.device, dtype=dtype) for n in (rows, columns))
    regular = torch.stack(torch.meshgrid(y, x, indexing='ij'), dim=-1)
    regular = regular.view(rows, k, columns, k, 2).transpose(1, 2).reshape(rows, columns, k * k, 2)
    return regular + offset.view(b, rows, columns, k * k, 2)


def sample(x: Tensor, positions: Tensor) -> Tensor:
    """Read a map between its pixels, bilinearly; outside it is zero.

    Args:
        x: Map (B, H, W, C).
        positions: (B, ..., 2), y and x in pixels.

    Returns:
        (B, ..., C).
    """
    b, h, w, c = x.shape
    pixels = x.reshape(b * h * w, c)
    first = h * w * torch.arange(b, device=x.device).view(b, *[1] * (positions.ndim - 2))
    low = positions.floor()
    high_share = positions - low
    out = None
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row, column = (low + torch.tensor(corner, device=x.device)).unbind(-1)
        inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
        index = first + torch.where(inside, row * w + column, 0).long()
        shares = [high_share[..., i] if corner[i] else 1 - high_share[..., i] for i in (0, 1)]
        share = (shares[0] * shares[1] * inside).to(x.dtype)[..., None]
        part = F.embedding(index, pixels) * share
        out = part if out is None else out + part
    return out


def _sample_at_once(x: Tensor, positions: Tensor) -> Tensor:
    """:func:`sample` in one pass: a point is one weighted sum of four pixels, and no more is kept."""
    b, h, w, c = x.shape
    low = positions.floor()
    high_share = positions - low
    shares = torch.stack(
        (1 - high_share, high_share), dim=-1
    )  # (B, ..., 2, 2): y and x, low and high
    cells = low[..., None] + torch.arange(2, device=x.device)
    inside = (cells >= 0) & (cells < torch.tensor([[h], [w]], device=x.device))
    shares = shares * inside
    rows, columns = torch.where(inside, cells, 0).long().unbind(-2)
    first = h * w * torch.arange(b, device=x.device).view(b, *[1] * positions.ndim)
    index = first + rows[..., None] * w + columns[..., None, :]
    share = shares[..., 0, :, None] * shares[..., 1, None, :]
    points = F.embedding_bag(
        index.view(-1, 4),
        x.reshape(b * h * w, c),
        mode='sum',
        per_sample_weights=share.view(-1, 4).to(x.dtype),
    )
    return points.view(*positions.shape[:-1], c)


def choose_backend(x: Tensor) -> str:
    """The fastest back end that can run for a map.

    On the CPU that is the plain form, which reads channels-last maps as they are: on one core its
    forward pass takes about half, its backward pass a third to a seventh of the compiled operators'
    time. On a GPU it is torchvision's operator, then mmcv's; that order is not measured. Compilers
    and, on the ``meta`` device, counters of operations see the plain form.
    """
    if x.is_cuda and not torch.compiler.is_compiling():
        return next((name for name in COMPILED if can_run(name)), 'torch')
    return 'torch'


def can_run(backend: str) -> bool:
    """Whether a back end of :func:`deform_conv` is known and installed."""
    if backend in COMPILED:
        return _import(f'{backend}.ops') is not None
    return backend == 'torch'


@functools.cache
def _import(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError):  # torchvision raises the latter beside another torch
        return None
