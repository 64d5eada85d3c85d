import json
import sys
from pathlib import Path

import pytest

from spm_mm.compare.grid import Variant
from spm_mm.compare.launch import Launcher
from spm_mm.compare.plan import Plan
from spm_mm.compare.record import Cell

# Stands for tools/train.py: it reads a JSON file instead of a config, and trains nothing. Each of its
# iterations leaves a checkpoint; a file `hold` in the work dir stops it at its iteration.
FAKE_TRAINER = """
import json, sys, time
from pathlib import Path
config, folder = Path(sys.argv[1]), Path(sys.argv[sys.argv.index('--work-dir') + 1])
assert '--resume' in sys.argv
wanted = json.loads(config.read_text())
done = len(list(folder.glob('*.pth')))
record = open(folder / 'record.jsonl', 'a')
def write(**line):
    print(json.dumps(line), file=record, flush=True)
write(event='start', iter=done, max_iters=4, batch_size=2, world_size=1, images=8, environment=None,
      classes=['cat', 'dog'])
(folder / 'batches').write_text(json.dumps(
    {'sha256': [wanted['data']], 'images': [wanted.get('images', ['a', 'b'])]}))
(folder / 'batches').rename(folder / 'batches.json')
for i in range(done, 4):
    while (folder / 'hold').exists() and i == 2:
        time.sleep(0.02)
    if wanted.get('fail') and i == 1 and not (folder / 'mended').exists():
        sys.exit('Traceback\\nValueError: the loss is nan')
    if wanted.get('refused_late'):
        time.sleep(0.05)
    write(iter=i + 1, loss=4.0 - i)
    (folder / f'iter_{i + 1}.pth').touch()
    if i % 2:
        write(event='val', iter=i + 1, metrics={'mIoU': wanted['mIoU'] * (i + 1) / 4,
              'class/cat': 50.0, 'class/dog': None})
write(event='end', iter=4)
"""


@pytest.fixture
def launcher(tmp_path) -> Launcher:
    script = tmp_path / 'trainer.py'
    script.write_text(FAKE_TRAINER)
    return Launcher([sys.executable, str(script)])


@pytest.fixture
def make_plan(tmp_path):
    """A comparison of two columns whose runs are the fake trainer's: seed to mIoU for each."""

    def make(columns: dict[str, dict[int, float]], **more: dict) -> Plan:
        folder = tmp_path / 'comparison'
        variants = [Variant(label, {'model.width': label}) for label in columns]
        seeds = list(dict.fromkeys(seed for values in columns.values() for seed in values))
        plan = Plan(folder, 'config.py', variants, seeds, ['python tools/compare.py config.py'])
        plan.write()
        (folder / 'configs').mkdir()
        for variant in variants:
            for seed, miou in columns[variant.label].items():
                wanted = {
                    'mIoU': miou,
                    'data': f'data of seed {seed}',
                    **more.get(variant.label, {}),
                }
                plan.cell(variant, seed).config.write_text(json.dumps(wanted))
        return plan

    return make


@pytest.fixture
def folder_of():
    def find(plan: Plan, label: str, seed: int) -> Path:
        return next(c for c in plan.cells if (c.variant, c.seed) == (label, seed)).folder

    return find


@pytest.fixture
def cell(tmp_path) -> Cell:
    return Cell('conv', 0, tmp_path / 'cell', tmp_path / 'conv.py')
