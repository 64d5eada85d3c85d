from mmengine.hooks import Hook
from mmengine.runner import Runner

from spm_mm.registry import HOOKS

__all__ = ['LastValidationHook']


@HOOKS.register_module()
class LastValidationHook(Hook):
    """Validates a resumed run that has no iteration left.

    mmengine writes the last checkpoint before it validates, and a run that was killed in between would
    end without its figures: resumed, it has nothing to train.
    """

    finished = False

    def before_train(self, runner: Runner) -> None:
        self.finished = runner.iter >= runner.max_iters

    def after_train(self, runner: Runner) -> None:
        if self.finished and runner.val_loop is not None:
            runner.val_loop.run()
