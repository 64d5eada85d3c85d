"""Training in mixed precision on a machine without a GPU."""

import pytest
import torch

from tests.tools.conftest import SMALL


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_mixed_precision(run_tool, scenes, tmp_path) -> None:
    """Two iterations in bfloat16 on the CPU; float16 ends in one sentence."""
    call = ('tools/train.py', 'configs/mmseg/fpn_pvt_tiny_spm_scenes.py', '--work-dir', tmp_path)
    options = ('--cfg-options', *SMALL, 'model.decode_head.num_classes=12')
    steps = ('train_cfg.max_iters=2', 'default_hooks.checkpoint.interval=2')
    run = (*options, *steps)
    root = dict(SCENES_ROOT=str(scenes))
    done = run_tool(*call, '--amp', 'bfloat16', '--no-validate', *run, **root)
    assert "type='spm_mm.CPUAmpOptimWrapper'" in done.stdout + done.stderr
    assert (tmp_path / 'iter_2.pth').is_file()
    done = run_tool(*call, '--amp', *run, status=2, **root)
    assert done.stderr.strip().endswith('needs a GPU and there is none: use --amp bfloat16')
