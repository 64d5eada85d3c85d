"""The frameworks' own inferencers on published files: the user imports nothing of this suite."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from tests.configs.shrink import shrink
from tests.configs.test_steps import build

RUNS = {
    'mmpretrain/pvt_tiny_spm_scenes': """
from mmpretrain import ImageClassificationInferencer
infer = ImageClassificationInferencer(
    {config!r}, pretrained={weights!r}, device='cpu', classes=list('abcdefgh')
)
result = infer({image!r})[0]
assert result['pred_class'] in 'abcdefgh', result
""",
    'mmdet/mask-rcnn_pvt_tiny_spm_scenes': """
from mmdet.apis import DetInferencer
infer = DetInferencer({config!r}, {weights!r}, device='cpu', show_progress=False)
result = infer({image!r}, return_datasamples=True)['predictions'][0]
assert result.pred_instances.masks.shape[1:] == (64, 96), result
""",
    'mmseg/fpn_pvt_tiny_spm_scenes': """
from mmseg.apis import MMSegInferencer
infer = MMSegInferencer({config!r}, {weights!r}, device='cpu')
result = infer({image!r}, show=False)
assert result['predictions'].shape == (64, 96), result
""",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize('name', RUNS)
def test_inferencer(name: str, tmp_path: Path, root: Path, run_tool) -> None:
    import cv2
    import numpy as np

    cfg = shrink(Config.fromfile(root / 'configs' / f'{name}.py'))
    model = build(cfg)
    checkpoint, weights = tmp_path / 'epoch_1.pth', tmp_path / 'published.pth'
    meta = {'epoch': 1, 'iter': 1}
    if name.startswith('mmseg'):
        classes = cfg.metainfo.classes
        meta['dataset_meta'] = {
            'classes': classes,
            'palette': [[i, i, i] for i in range(len(classes))],
        }
    torch.save({'state_dict': model.state_dict(), 'meta': meta, 'optimizer': {}}, checkpoint)
    run_tool('tools/model_converters/publish.py', checkpoint, weights)
    config, image = tmp_path / 'config.py', tmp_path / 'image.jpg'
    cfg.dump(config)
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8))
    code = RUNS[name].format(config=str(config), weights=str(weights), image=str(image))
    code += "import sys; assert 'spm_mm' in sys.modules"
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'missing keys' not in (done.stdout + done.stderr).lower()
