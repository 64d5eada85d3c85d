"""The tools as users call them, on composed scenes."""

import pickle
import re
from pathlib import Path

import pytest
import torch

from spm_mm.compat import allow_training_checkpoints, load_checkpoint
from tests.tools.conftest import SMALL

SCENES = 'configs/mmseg/fpn_pvt_tiny_spm_scenes.py'
ADE20K = 'configs/mmseg/fpn_pvt_tiny_spm_ade20k.py'


def iterations(n: int) -> tuple[str, ...]:
    return (
        f'train_cfg.max_iters={n}',
        f'train_cfg.val_interval={n}',
        f'default_hooks.checkpoint.interval={n}',
    )


@pytest.fixture(scope='module')
def trained(tmp_path_factory, run_tool, scenes) -> tuple[Path, tuple]:
    """Work dir of two iterations on one process, and the options of the call."""
    work_dir = tmp_path_factory.mktemp('work')
    call = ('tools/train.py', SCENES)
    options = ('--cfg-options', *SMALL, 'model.decode_head.num_classes=12')
    run_tool(*call, '--work-dir', work_dir, *options, *iterations(2), SCENES_ROOT=str(scenes))
    return work_dir, options


def test_train_and_resume_on_one_process(trained, run_tool, scenes, tmp_path) -> None:
    work_dir, options = trained
    done = run_tool(
        'tools/train.py', SCENES, '--work-dir', tmp_path, '--resume', work_dir / 'iter_2.pth',
        '--no-validate', '--auto-scale-lr', *options, *iterations(4), 'auto_scale_lr.base_batch_size=2',
        SCENES_ROOT=str(scenes),
    )  # fmt: skip
    assert 'resumed epoch: 0, iter: 2' in done.stdout + done.stderr
    assert (tmp_path / 'iter_4.pth').is_file()
    assert 'mIoU: ' not in done.stdout + done.stderr
    allow_training_checkpoints()
    assert load_checkpoint(tmp_path / 'iter_4.pth')['meta']['iter'] == 4


def test_test_tool(trained, run_tool, scenes, tmp_path) -> None:
    work_dir, options = trained
    call = ('tools/test.py', SCENES, work_dir / 'iter_2.pth', '--work-dir', tmp_path)
    root = dict(SCENES_ROOT=str(scenes))
    done = run_tool(
        *call, '--out', tmp_path / 'out.pkl', '--show-dir', tmp_path / 'show', '--interval', 1,
        *options, **root,
    )  # fmt: skip
    assert 'mIoU: ' in done.stdout + done.stderr
    assert len(list((tmp_path / 'show').rglob('*.png'))) == 4
    with open(tmp_path / 'out.pkl', 'rb') as file:
        plain = pickle.load(file)  # noqa: S301
    assert len(plain) == 4
    done = run_tool(*call, '--tta', '--out', tmp_path / 'tta.pkl', *options, **root)
    assert 'mIoU: ' in done.stdout + done.stderr
    with open(tmp_path / 'tta.pkl', 'rb') as file:
        augmented = pickle.load(file)  # noqa: S301
    for one, other in zip(plain, augmented, strict=True):
        assert torch.equal(one['gt_sem_seg']['data'], other['gt_sem_seg']['data'])


@pytest.mark.slow
def test_report_agrees_with_the_host(trained, run_tool, scenes, tmp_path) -> None:
    work_dir, options = trained
    root = dict(SCENES_ROOT=str(scenes))
    host = run_tool(
        'tools/test.py', SCENES, work_dir / 'iter_2.pth', '--work-dir', tmp_path, *options, **root
    )
    ours = run_tool(
        'tools/analysis_tools/segmentation_report.py', SCENES, work_dir / 'iter_2.pth',
        tmp_path / 'report', '--work-dir', tmp_path, '--pictures', 2, *options, **root,
    )  # fmt: skip
    miou = float(re.search(r'mIoU: ([\d.]+)', host.stdout + host.stderr)[1])
    assert f'| **mean** | **{miou:.1f}** |' in ours.stdout
    assert (tmp_path / 'report/predictions.png').is_file()


def test_published_file_is_plain_and_loads_in_the_inferencer(
    trained, run_tool, scenes, tmp_path
) -> None:
    work_dir, _ = trained
    out = tmp_path / 'published.pth'
    run_tool('tools/model_converters/publish.py', work_dir / 'iter_2.pth', out)
    assert set(torch.load(out, weights_only=True)) == {'state_dict', 'meta'}
    config = next(work_dir.glob('*.py'))
    image = next((scenes / 'ade/images/validation').glob('*.jpg'))
    # A process of its own: nothing there has allowed what a training checkpoint holds.
    script = tmp_path / 'infer.py'
    script.write_text(
        'import sys\n'
        'from mmseg.apis import MMSegInferencer\n'
        'model = MMSegInferencer(sys.argv[1], sys.argv[2], device="cpu")\n'
        'print(model(sys.argv[3])["predictions"].shape)\n'
    )
    assert '(64, 96)' in run_tool(script, config, out, image).stdout


@pytest.mark.slow
def test_the_main_command_on_two_processes(run_tool, scenes, tmp_path, two_processes) -> None:
    """The config of the README with the real model and all 150 classes; validation and resume."""
    call = ('tools/dist_train.sh', ADE20K, 2, '--work-dir', tmp_path)
    root = dict(ADE20K_ROOT=str(scenes / 'ade'), **two_processes)
    done = run_tool(*call, '--cfg-options', *iterations(2), 'train_dataloader.num_workers=0',
                    'train_dataloader.persistent_workers=False', **root)  # fmt: skip
    output = done.stdout + done.stderr
    assert 'mIoU: ' in output
    assert 'SyncBatchNorm becomes a BatchNorm' in output
    done = run_tool(*call, '--resume', '--cfg-options', *iterations(3),
                    'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False',
                    **root)  # fmt: skip
    assert 'resumed epoch: 0, iter: 2' in done.stdout + done.stderr
    assert (tmp_path / 'iter_3.pth').is_file()


@pytest.mark.slow
def test_two_processes_share_the_test_data(
    run_tool, scenes, small, tmp_path, two_processes
) -> None:
    root = dict(SCENES_ROOT=str(scenes), **two_processes)
    options = (*small, 'model.decode_head.num_classes=12', *iterations(2))
    run_tool('tools/dist_train.sh', SCENES, 2, '--work-dir', tmp_path, *options, **root)
    done = run_tool(
        'tools/dist_test.sh',
        SCENES,
        tmp_path / 'iter_2.pth',
        2,
        '--work-dir',
        tmp_path,
        *options,
        **root,
    )
    assert '[2/2]' in done.stdout + done.stderr


class TestMistakes:
    """Each ends with status 2 and one sentence, without a traceback."""

    def refused(self, run_tool, *command: object, **environment: str) -> str:
        error = run_tool(*command, status=2, **environment).stderr
        assert 'Traceback' not in error
        (line,) = re.findall('^error: .*', error, re.MULTILINE)
        return line

    def test_no_data(self, run_tool, tmp_path) -> None:
        error = self.refused(
            run_tool,
            'tools/train.py',
            SCENES,
            '--work-dir',
            tmp_path / 'w',
            SCENES_ROOT=str(tmp_path),
        )
        assert f'{tmp_path}/ade does not exist' in error
        assert 'docs/guides/datasets.md' in error

    def test_half_of_the_data(self, run_tool, tmp_path) -> None:
        (tmp_path / 'ade/images/training').mkdir(parents=True)
        error = self.refused(run_tool, 'tools/train.py', SCENES, SCENES_ROOT=str(tmp_path))
        assert 'images/training is empty' in error

    @pytest.mark.slow
    def test_no_data_on_two_processes(self, run_tool, tmp_path, two_processes) -> None:
        root = dict(SCENES_ROOT=str(tmp_path), **two_processes)
        call = ('tools/dist_train.sh', SCENES, 2)
        self.refused(run_tool, *call, **root)
        assert 'exitcode' not in run_tool(*call, status=2, **root).stderr

    @pytest.mark.slow
    def test_of_one_process_alone_is_said(self, run_tool, tmp_path) -> None:
        script = tmp_path / 'tool.py'
        script.write_text(
            'import os\nfrom spm_mm.engine import run_tool\nfrom spm_mm.errors import UserError\n'
            'def main():\n    if os.environ["RANK"] == "1":\n        raise UserError("mine alone")\n'
            'run_tool(main)\n'
        )
        done = run_tool('tools/torchrun.py', '--nproc_per_node=2', script, status=2)
        assert done.stderr.count('error: mine alone') == 1

    def test_launcher_without_torchrun(self, run_tool, scenes) -> None:
        call = ('tools/train.py', SCENES, '--launcher', 'pytorch')
        error = self.refused(run_tool, *call, SCENES_ROOT=str(scenes), CUDA_VISIBLE_DEVICES='')
        assert 'use tools/dist_train.sh' in error

    def test_arch(self, run_tool, scenes) -> None:
        error = self.refused(
            run_tool, 'tools/train.py', SCENES, '--cfg-options', 'model.backbone.arch=tyni',
            SCENES_ROOT=str(scenes),
        )  # fmt: skip
        assert "PVT has no arch 'tyni'" in error
        assert "did you mean 'tiny'" in error

    def test_no_config(self, run_tool) -> None:
        assert 'config nothing.py does not exist' in self.refused(
            run_tool, 'tools/train.py', 'nothing.py'
        )

    def test_amp_without_gpu(self, run_tool) -> None:
        if torch.cuda.is_available():
            pytest.skip('there is a GPU')
        error = self.refused(run_tool, 'tools/train.py', SCENES, '--amp')
        assert 'needs a GPU and there is none: use --amp bfloat16' in error

    def test_no_checkpoint(self, run_tool) -> None:
        error = self.refused(run_tool, 'tools/test.py', SCENES, 'nothing.pth')
        assert 'checkpoint nothing.pth does not exist' in error
