import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.runner import Runner
from torch import Tensor

from spm_mm.errors import UserError
from spm_mm.registry import HOOKS

__all__ = ['FiniteLossHook']

INTERVAL = 10


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Ends a run whose loss has been NaN or infinite for many iterations in a row.

    mmengine trains on, and the run ends with status 0 and useless weights. Single overflows, as of
    mixed precision, do no harm.

    Args:
        patience: Non-finite losses in a row that end the run, 1 or more. Default 30.

    Raises:
        UserError: With the iteration and the terms of the loss; on all processes alike.
    """

    def __init__(self, patience: int = 30) -> None:
        self.patience = patience
        self._in_a_row: Tensor | None = None

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: DATA_BATCH = None,
        outputs: dict | None = None,
    ) -> None:
        loss = (outputs or {}).get('loss')
        if not isinstance(loss, Tensor):
            return
        # Counted where the loss is, and read now and then: reading it makes the GPU wait.
        finite = torch.isfinite(loss.detach()).all()
        count = (
            loss.new_zeros((), dtype=torch.float32) if self._in_a_row is None else self._in_a_row
        )
        self._in_a_row = torch.where(finite, torch.zeros_like(count), count + 1)
        if (runner.iter + 1) % min(INTERVAL, self.patience):
            return
        most = self._in_a_row.clone()
        all_reduce(most, 'max')
        if most < self.patience:
            return
        terms = [
            name
            for name, value in outputs.items()
            if isinstance(value, Tensor) and not torch.isfinite(value).all()
        ]
        raise UserError(
            f'the loss was NaN or infinite {int(most)} times in a row up to iteration'
            f' {runner.iter + 1} ({", ".join(terms) or "on another process"}): lower the learning rate,'
            ' clip gradients (optim_wrapper.clip_grad), check std of the data preprocessor and the'
            ' annotations'
        )
