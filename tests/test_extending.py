"""The files of docs/guides/extending.md, run as they stand on the page."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from spm_mm.registry import MODELS
from tests import testing
from tests.test_frameworks import FRAMEWORKS, train_and_predict

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / 'docs/guides/extending.md').read_text()
BLOCKS = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
FILES = dict(re.findall(r'`(spm_mm/\w+/\w+\.py)`.*?```python\n(.*?)```', PAGE, re.DOTALL))


@pytest.fixture(scope='class')
def extended(tmp_path_factory):
    """The page's merging and backbone, registered while the class below runs."""
    modules = []
    for number, source in enumerate(b for b in BLOCKS if '@MODELS.register_module()' in b):
        path = tmp_path_factory.mktemp('extending') / f'extension_{number}.py'
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        modules.append(module)
    assert [module.__all__ for module in modules] == [['PoolMerging'], ['WindowMix']]
    yield modules
    for module in modules:
        del MODELS.module_dict[module.__all__[0]], sys.modules[module.__name__]


@pytest.mark.usefixtures('extended')
class TestExtensions:
    def test_the_merging_keeps_the_contract(self) -> None:
        assert 'PoolMerging' in testing.mergings()
        testing.check_merging('PoolMerging')
        for backbone in ('PVT', 'WindowMix'):
            testing.check_shapes(testing.build_tiny(backbone, 'PoolMerging'))
            testing.check_gradients(testing.build_tiny(backbone, 'PoolMerging'))

    @pytest.mark.parametrize('merging', [None, 'StepwiseMerging', 'SwinMerging'])
    def test_the_backbone_keeps_the_contract(self, merging: str | None) -> None:
        assert 'WindowMix' in testing.backbones()
        config = testing.tiny_config('WindowMix', merging)
        testing.check_shapes(MODELS.build(config))
        testing.check_gradients(MODELS.build(config))
        testing.check_checkpointing(config)
        testing.check_build_twice(config)
        testing.check_round_trip(config)

    @pytest.mark.parametrize('framework', FRAMEWORKS)
    def test_both_train_in_the_frameworks(self, framework: str) -> None:
        build, batch = FRAMEWORKS[framework]
        train_and_predict(build('WindowMix', 'PoolMerging'), batch())

    def test_the_configs(self) -> None:
        merging, classifier = (b for b in BLOCKS if '@MODELS.register_module()' not in b)
        options = Config.fromstring(merging, '.py').model.backbone
        assert MODELS.build(dict(type='spm_mm.PVT', **options)).mergings[0].proj.bias is None
        bases = f"'{ROOT}/configs/mmpretrain/_base_/"
        cfg = Config.fromstring(classifier.replace("'_base_/", bases), '.py')
        with torch.device('meta'):
            assert MODELS.build(cfg.model.backbone).arch['embed_dims'][-1] == 512
        assert cfg.train_cfg.max_epochs == 300


def test_nothing_of_the_page_stays_registered() -> None:
    assert not {'PoolMerging', 'WindowMix'} & set(MODELS.module_dict)


def test_a_file_in_its_folder_is_found(tmp_path: Path) -> None:
    """A copy of the package with the page's two files in it, which nothing else there names."""
    shutil.copytree(ROOT / 'spm_mm', tmp_path / 'spm_mm')
    assert list(FILES) == ['spm_mm/merging/pool.py', 'spm_mm/backbones/window_mix.py']
    for place, source in FILES.items():
        (tmp_path / place).write_text(source)
    code = """
from mmengine.registry import MODELS
model = MODELS.build(dict(type='spm_mm.WindowMix', merging=dict(type='PoolMerging')))
print(type(model).__module__, type(model.mergings[2]).__module__)
from spm_mm import backbones, merging
print(backbones.WindowMix.__name__, merging.PoolMerging.__name__, backbones.__file__)
"""
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [
        'spm_mm.backbones.window_mix',
        'spm_mm.merging.pool',
        'WindowMix',
        'PoolMerging',
        str(tmp_path / 'spm_mm/backbones/__init__.py'),
    ], done.stderr
