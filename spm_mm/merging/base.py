import abc
from typing import ClassVar

from torch import Tensor, nn

__all__ = ['Merging']


class Merging(nn.Module, abc.ABC):
    """What every patch merging is: channels-last map in, channels-last map of half the sides out.

    A new merging is one file in this folder with one class, registered with
    ``@MODELS.register_module()``; every backbone then takes it by ``merging=dict(type='Name')``.

    Args:
        in_channels: Channels C of the stage before; the backbone supplies it.
        out_channels: Channels C' of the stage after; the backbone supplies it.

    Shape: (B, H, W, C) to (B, H', W', C') with H' = H / 2, rounded as ``rounds_up`` says. Any H and
    W work.
    """

    rounds_up: ClassVar[bool]
    """Whether an odd side of n cells becomes (n + 1) / 2 cells, or else (n - 1) / 2."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels

    keeps_grid: ClassVar[bool] = True
    """Whether a map comes out, and one is wanted. A merging that leaves the grid takes a map or a
    :class:`~spm_mm.ops.TokenMap` and puts out the latter, which stands for such a map."""

    compilable: ClassVar[bool] = True
    """Whether ``torch.compile`` takes it as part of one graph with dynamic sizes."""
    discontinuous: ClassVar[bool] = False
    """Whether tokens are sorted or clustered, so that outputs jump where two are nearly equal."""
    unsupported_transforms: ClassVar[tuple[str, ...]] = ()
    """Which of ``'vmap'``, ``'jvp'`` and ``'double_backward'`` raise an error, for want of an
    implementation in PyTorch."""

    @property
    def makes_context(self) -> bool:
        """Whether tokens come out with a context that the next block must read."""
        return False

    @abc.abstractmethod
    def forward(self, x: Tensor) -> Tensor: ...
