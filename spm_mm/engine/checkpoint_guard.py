from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from spm_mm.compat import check_state_dict
from spm_mm.errors import UserError
from spm_mm.registry import HOOKS

__all__ = ['CheckpointGuardHook']


@HOOKS.register_module()
class CheckpointGuardHook(Hook):
    """Refuses a checkpoint of another model before any of it is loaded.

    mmengine loads what fits and logs the rest, so a test of the wrong file reports the figures of an
    untrained model. ``tools/test.py`` and a resumed ``tools/train.py`` add this hook.

    Raises:
        UserError: If the checkpoint lacks entries of the model, has others, or differs in shapes.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        weights = {
            name.removeprefix('module.'): value
            for name, value in checkpoint.get('state_dict', checkpoint).items()
        }
        missing = check_state_dict(model, weights, 'to be loaded')
        if missing:
            raise UserError(
                f'checkpoint to be loaded lacks {len(missing)} entries of this'
                f' {type(model).__name__}, first {", ".join(missing[:3])}'
            )
