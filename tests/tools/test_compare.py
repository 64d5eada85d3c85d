"""The comparison as users call it: real runs of the training tool, two iterations each."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from spm_mm.compare.launch import Launcher
from spm_mm.compare.plan import Plan
from spm_mm.compare.record import Cell, Record
from spm_mm.errors import UserError
from tests.tools.conftest import SMALL

CONFIG = 'configs/mmseg/fpn_pvt_tiny_scenes.py'
OPTIONS = (
    '--cfg-options', *SMALL, 'model.decode_head.num_classes=12', 'train_cfg.max_iters=2',
    'train_cfg.val_interval=1',
)  # fmt: skip


def command(folder: Path) -> list[str]:
    call = ['tools/compare.py', CONFIG, '--mergings', 'conv', 'stepwise', '--seeds', '1']
    return [*call, '--work-dir', str(folder), '--repeat', '1', '--images', '1', *OPTIONS]


@pytest.fixture(scope='module')
def compared(tmp_path_factory, run_tool, scenes, root) -> tuple[Path, str]:
    """A comparison that was killed with its run once that had a checkpoint, and called again."""
    folder = tmp_path_factory.mktemp('compare') / 'mergings'
    environment = {**os.environ, 'SCENES_ROOT': str(scenes)}
    caller = subprocess.Popen(
        [sys.executable, *command(folder)], cwd=root, env=environment, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    first = folder / 'cells/conv_seed0'
    end = time.monotonic() + 300
    while not (first / 'iter_1.pth').exists() and time.monotonic() < end:
        assert caller.poll() is None
        time.sleep(0.05)
    caller.kill()
    caller.wait()
    # The run ends with its caller on Linux; elsewhere end it, too.
    for process in psutil.process_iter(['cmdline']):
        if str(first) in (process.info['cmdline'] or ()):
            process.kill()
    done = run_tool(*command(folder), SCENES_ROOT=str(scenes))
    return folder, done.stdout


def test_it_survives(compared) -> None:
    folder, said = compared
    assert 'conv, seed 0: ' in said
    assert [cell.state for cell in Plan.read(folder).cells] == ['finished'] * 2
    for cell in Plan.read(folder).cells:
        record = Record.read(cell.folder)
        # The run that was killed may not have come to its first validation.
        killed = cell.folder.name == 'conv_seed0'
        for seen in (record.losses, record.validations):
            assert sorted(seen)[-1] == 2
            assert killed or sorted(seen) == [1, 2]
        assert record.start['world_size'] == 1
        metrics = record.metrics  # per class by ours, their mean by the framework
        per_class = [v for k, v in metrics.items() if k.startswith('class/') and v is not None]
        assert sum(per_class) / len(per_class) == pytest.approx(metrics['mIoU'], abs=0.01)
    results = json.loads((folder / 'results.json').read_text())
    conv, stepwise = results['columns']
    assert conv['cells'][0]['batches'] == stepwise['cells'][0]['batches']
    assert [len(batch) for batch in conv['cells'][0]['batches']['images']] == [2, 2]
    assert conv['cells'][0]['images_seen'] == 4


def test_what_comes_out(compared) -> None:
    folder, said = compared
    assert 'stepwise: model.backbone.merging.type: spm_mm.ConvMerging' in said
    results = json.loads((folder / 'results.json').read_text())
    assert results['metric'] == 'mIoU'
    assert results['columns'][1]['changes']['model.backbone.merging.norm_cfg'][1] == {
        'type': 'SyncBN'
    }
    cost = results['columns'][1]['cost']
    assert (cost['train_batch'], cost['train_images'], cost['test_images']) == (2, 8, 4)
    assert cost['params'] > results['columns'][0]['cost']['params']
    assert cost['train_memory'] > cost['test_memory'] > 4 * cost['params']
    assert len(cost['train_seconds']) == 1
    text = (folder / 'report.md').read_text()
    assert '| told apart | - | no |' in text
    assert '| wall |' in text
    assert str(folder.parent) not in text.replace(results['commands'][0], '')
    page = (folder / 'report.html').read_text()
    assert 'optim_wrapper = dict(' in page
    assert page.count('src="data:image/jpeg;base64') == 3  # the truth and two predictions
    assert '"></i>wall</span>' in page  # the legend
    assert page.count('class="plotly-graph-div"') == 3
    assert (folder / 'cells/conv_seed0/pictures/0.jpg').is_file()


def test_a_report_without_pictures(compared, load_tool, tmp_path) -> None:
    folder, _ = compared
    tool = load_tool('tools/compare.py')
    args = tool.parse_args(['--report', str(folder), '--no-images'])
    tool.check(args)
    tool.report([folder], tmp_path, args, Console(quiet=True))
    assert 'data:image/jpeg' not in (tmp_path / 'report.html').read_text()


def test_a_dry_run_writes_nothing(load_tool, scenes, tmp_path, monkeypatch, root) -> None:
    monkeypatch.setenv('SCENES_ROOT', str(scenes))
    monkeypatch.chdir(root)
    tool = load_tool('tools/compare.py')
    args = tool.parse_args([*command(tmp_path / 'none')[1:], '--vary',
                            'optim_wrapper.optimizer.lr=0.1', '0.2'])  # fmt: skip
    args.dry_run, args.hours = True, 0.01
    with open(tmp_path / 'said', 'w') as file:
        assert tool.compare(args, Console(file=file, width=200), []) == 0
    said = (tmp_path / 'said').read_text()
    assert '4 columns x 1 seeds = 4 cells' in said
    assert 'stepwise, lr=0.2: optim_wrapper.optimizer.lr: 0.1 -> 0.2' in said
    assert 'hours fit a training length of' in said
    assert 'about 0.01 hours' in said
    assert 'a cell takes up to' in said
    assert not (tmp_path / 'none').exists()


def test_several_processes() -> None:
    cell = Cell('conv', 0, Path('work'), Path('conv.py'))
    call = Launcher(['python', 'tools/train.py'], processes=2).command(cell)
    assert call[1] == 'tools/torchrun.py'
    assert '--nproc_per_node=2' in call
    assert call[-5:] == ['--work-dir', 'work', '--resume', '--launcher', 'pytorch']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'give a config to compare its variants, or --report DIR'),
        (['a.py'], 'nothing is varied'),
        (['a.py', '--mergings', 'conv', '--jobs', '0'], '--jobs must be 1 or more, got 0'),
        (['a.py', '--mergings', 'conv', '--hours', '0'], '--hours must be positive, got 0'),
        (['a.py', '--mergings', 'conv', '--hours', '1', '--repeat', '0'], '--hours needs timed'),
        (['a.py', '--mergings', 'conv', '--launcher', 'slurm'], 'slurm needs --partition'),
    ],
)
def test_mistakes(load_tool, arguments: list[str], message: str) -> None:
    tool = load_tool('tools/compare.py')
    with pytest.raises(UserError, match=message):
        tool.check(tool.parse_args(arguments))
