"""Mixed precision for ``tools/train.py --amp``: mmengine's on an accelerator, our wrapper on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import nn

from spm_mm.errors import UserError
from spm_mm.registry import OPTIM_WRAPPERS

__all__ = ['CPUAmpOptimWrapper', 'use_mixed_precision']

DTYPES = ('float16', 'bfloat16')


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Optimizer wrapper whose forward passes run in bfloat16 on the CPU.

    mmengine's ``AmpOptimWrapper`` refuses a machine without an accelerator. bfloat16 has the range of
    float32, so the loss is not scaled and a checkpoint holds no scaler.

    Args:
        dtype: Only ``'bfloat16'``.
        kwargs: Options of :class:`mmengine.optim.OptimWrapper`.

    Raises:
        UserError: If ``dtype`` is another.
    """

    def __init__(self, dtype: str = 'bfloat16', **kwargs) -> None:
        if dtype != 'bfloat16':
            raise UserError(f"dtype of CPUAmpOptimWrapper must be 'bfloat16', got {dtype!r}")
        super().__init__(**kwargs)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast to bfloat16 around the forward pass; see the base class for the rest."""
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield


def use_mixed_precision(cfg: Config, dtype: str | None = None) -> None:
    """Let a config train in mixed precision.

    Args:
        cfg: Config of any of the three frameworks; its ``optim_wrapper`` is changed.
        dtype: ``'float16'`` or ``'bfloat16'``; None leaves the choice to ``optim_wrapper.dtype``, or to
            mmengine, which takes float16 on a GPU.

    Raises:
        UserError: If float16 is asked for without an accelerator, or the dtype is unknown.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f'--amp must be one of {", ".join(DTYPES)}, got {dtype!r}')
    wrapper = cfg.optim_wrapper
    dtype = dtype or wrapper.get('dtype')
    if get_device() != 'cpu':
        wrapper.type = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')
        if dtype is not None:
            wrapper.dtype = dtype
        return
    if dtype != 'bfloat16':
        raise UserError('--amp in float16 needs a GPU and there is none: use --amp bfloat16')
    wrapper.pop('loss_scale', None)
    wrapper.type, wrapper.dtype = 'spm_mm.CPUAmpOptimWrapper', dtype
