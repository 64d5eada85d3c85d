import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from spm_mm.registry import HOOKS

__all__ = ['IterationSeedHook']


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Seeds the random numbers of every training iteration by the run's seed, its number and rank.

    mmengine's checkpoints do not hold the state of the random number generators, so dropout and
    stochastic depth of a resumed run differ from those of one that was never interrupted. With this
    hook they depend on the iteration alone.

    The data is drawn in the workers of the loader, which a resumed run starts anew and mmengine winds
    forward: the same images, crops and colours, if the loop counts iterations and ``num_workers`` is at
    least 1.
    """

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        sequence = np.random.SeedSequence([runner.seed, get_rank(), runner.iter])
        seed = int(sequence.generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
