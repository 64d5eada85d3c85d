import torch
from mmengine.dist import is_distributed
from mmengine.hooks import Hook
from mmengine.runner import Runner

from spm_mm.registry import HOOKS

__all__ = ['EarlyWorkersHook']


@HOOKS.register_module()
class EarlyWorkersHook(Hook):
    """Starts the workers of validation before training, where several processes train.

    Forking while the threads of a process group are running can deadlock (CPython 3.11). Workers that
    are not persistent are started for each validation, as ever.
    """

    def before_train(self, runner: Runner) -> None:
        if not is_distributed() or runner.val_loop is None:
            return
        loader = runner.val_loop.dataloader
        if loader.num_workers and loader.persistent_workers:
            with torch.random.fork_rng(devices=[]):
                iter(loader)
