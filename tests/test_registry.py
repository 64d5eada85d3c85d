"""Building through every registry, and what may import what."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from spm_mm.backbones import HierarchicalBackbone
from spm_mm.registry import MODELS, import_modules, registered
from tests import testing

FRAMEWORKS = ('mmdet', 'mmseg', 'mmpretrain')
# From below to above: a package imports those before it alone.
LAYERS = ('ops', 'layers', 'attention', 'merging', 'backbones', 'necks', 'converters')
MAY_IMPORT_FRAMEWORKS = ('heads', 'compat.py')


@pytest.mark.parametrize('framework', FRAMEWORKS)
@pytest.mark.parametrize(('backbone', 'merging'), testing.pairs())
def test_build_through_framework(framework: str, backbone: str, merging: str) -> None:
    """With a bare merging type, too: a framework's build has the framework's default scope."""
    registry = __import__(f'{framework}.registry', fromlist=['MODELS']).MODELS
    config = testing.tiny_config(backbone, merging, _scope_=framework)
    config['merging'] = dict(type=merging)
    assert isinstance(registry.build(config), registered(HierarchicalBackbone)[backbone])


def run_python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)


@pytest.mark.parametrize('framework', FRAMEWORKS)
def test_scope_alone_imports_the_suite(framework: str) -> None:
    config = testing.tiny_config('PVT', 'StepwiseMerging')
    done = run_python(
        f'from {framework}.registry import MODELS; print(type(MODELS.build({config!r})))'
    )
    assert 'spm_mm.backbones.pvt.PVT' in done.stdout, done.stderr


def test_backbones_need_no_framework_and_no_mmcv() -> None:
    config = testing.tiny_config('PVT', 'StepwiseMerging')
    done = run_python(
        'import sys, torch\n'
        'for name in ("mmdet", "mmseg", "mmpretrain", "mmcv"):\n'
        '    sys.modules[name] = None\n'
        'from mmengine.registry import MODELS\n'
        f'model = MODELS.build({config!r})\n'
        'print(len(model(torch.zeros(1, 3, 64, 64))))'
    )
    assert done.stdout.strip() == '4', done.stderr


def test_a_broken_framework_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / 'mmseg').mkdir()
    (tmp_path / 'mmseg' / '__init__.py').write_text('raise RuntimeError("no such operator")')
    done = run_python(
        f'import sys; sys.path.insert(0, {str(tmp_path)!r})\n'
        'from mmengine.registry import MODELS\n'
        f'MODELS.build({testing.tiny_config("PVT")!r})'
    )
    assert done.returncode == 0, done.stderr
    assert 'MMSegmentation cannot be imported, so spm_mm has no heads: RuntimeError' in done.stderr


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f'{path}: relative import'
            names.add(node.module)
    return names


ALLOWED = ('registry', 'renamed', 'compat', 'errors', 'checkpoint_files')


def test_imports_point_downwards(root: Path) -> None:
    package = root / 'spm_mm'
    for path in package.rglob('*.py'):
        part = path.relative_to(package).parts[0]
        for name in imported(path):
            if name.split('.')[0] in FRAMEWORKS:
                assert part in MAY_IMPORT_FRAMEWORKS, f'{path} imports the framework {name}'
            if name.split('.')[0] == 'mmcv' and part in LAYERS:
                assert path == package / 'layers' / 'norm.py', f'{path} imports {name}'
            if name.startswith('spm_mm.') and part in LAYERS:
                target = name.split('.')[1]
                if target in LAYERS:
                    assert LAYERS.index(target) <= LAYERS.index(part), f'{path} imports {name}'
                else:
                    assert target in ALLOWED, f'{path} imports {name}'


def test_a_new_merging_is_one_file(tmp_path, monkeypatch) -> None:
    """What the README promises: a file with a registered class, and every backbone takes it."""
    folder = tmp_path / 'plugin'
    folder.mkdir()
    (folder / '__init__.py').write_text('')
    (folder / 'mine.py').write_text(
        'from torch import nn\n'
        'from spm_mm.merging import Merging\n'
        'from spm_mm.registry import MODELS\n'
        "__all__ = ['PoolMerging']\n"
        '@MODELS.register_module()\n'
        'class PoolMerging(Merging):\n'
        '    rounds_up = True\n'
        '    def __init__(self, in_channels, out_channels):\n'
        '        super().__init__(in_channels, out_channels)\n'
        '        self.proj = nn.Linear(in_channels, out_channels)\n'
        '    def forward(self, x):\n'
        '        return self.proj(x)[:, ::2, ::2].contiguous()\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        names = import_modules('plugin', {'__path__': [str(folder)]})
        assert names == ['PoolMerging']
        assert 'PoolMerging' in testing.mergings()
        for backbone in testing.backbones():
            model = testing.build_tiny(backbone, 'PoolMerging')
            testing.check_shapes(model)
            testing.check_gradients(model)
    finally:
        MODELS.module_dict.pop('PoolMerging', None)
