"""The main job from nothing: compose scenes, train Semantic FPN on PVT-Tiny with SPM, evaluate, draw.

Ends with status 1 unless the model reaches twice the mIoU of always answering the commonest class.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIG = 'configs/mmseg/fpn_pvt_tiny_spm_scenes.py'
WORK_DIR = Path('work_dirs/demo')
NEEDED_RATIO = 2


def run(what: str, *command: str) -> None:
    """Run one of the suite's tools and say what it is doing and how long it took."""
    print(f'--- {what}\n    python {" ".join(command)}', flush=True)
    start = time.monotonic()
    environment = {
        **os.environ,
        'SCENES_ROOT': str(WORK_DIR / 'scenes'),
        'PYTHONWARNINGS': 'ignore',
    }
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment)  # noqa: S603
    if done.returncode:
        sys.exit(f'{what}: failed with status {done.returncode}')
    print(f'    done in {time.monotonic() - start:.0f} s', flush=True)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    scenes = str(WORK_DIR / 'scenes')
    run(
        'composing 300 + 60 scenes (about 10 s)',
        'tools/dataset_converters/compose_scenes.py', scenes, '--train', '300', '--val', '60',
        '--overwrite',
    )  # fmt: skip
    run(
        'training (160 iterations, about 3 minutes on 2 cores)',
        'tools/train.py', CONFIG, '--work-dir', str(WORK_DIR / 'train'), '--no-validate',
    )  # fmt: skip
    checkpoint = (ROOT / WORK_DIR / 'train' / 'last_checkpoint').read_text().strip()
    report_dir = WORK_DIR / 'report'
    run(
        'evaluating and drawing (about 15 s)',
        'tools/analysis_tools/segmentation_report.py', CONFIG, checkpoint, str(report_dir),
        '--work-dir', str(WORK_DIR / 'test'), '--pictures', '7',
        '--title', 'Semantic FPN on PVT-Tiny with SPM',
    )  # fmt: skip
    report = json.loads((ROOT / report_dir / 'report.json').read_text())
    miou, constant = report['mIoU'], report['constant_mIoU']
    print(f'--- mIoU of the model: {miou:.1f}')
    print(f"--- mIoU of always answering '{report['constant_class']}': {constant:.1f}")
    if not miou >= NEEDED_RATIO * constant:  # also where it is no number
        sys.exit(f'the model does not reach {NEEDED_RATIO} times the constant answer')
    print('--- the pictures, what the model says of them and where it is wrong:')
    print(report_dir / 'predictions.png')


if __name__ == '__main__':
    main()
