"""The doctor on faked environments: packages that are nothing but a version and, perhaps, an error."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HEALTHY = {
    'torch': '2.10.0+cu128',
    'torchvision': '0.25.0+cu128',
    'mmengine': '0.10.7',
    'mmcv-lite': '2.1.0',
    'mmdet': '3.3.0',
    'mmsegmentation': '1.2.2',
    'mmpretrain': '1.2.0',
    'ftfy': '6.3.1',
    'regex': '2026.1.1',
    'setuptools': '65.5.0',
}
MODULES = {'mmsegmentation': 'mmseg', 'setuptools': 'pkg_resources', 'mmcv-lite': 'mmcv'}
TORCH = """
class version:
    cuda = '12.8'
class ops:
    class torchvision:
        nms = None
class cuda:
    is_available = staticmethod(lambda: {gpu})
    get_device_name = staticmethod(lambda: 'a GPU')
"""
OLD_DRIVER = """
import ctypes
class Driver:
    def __init__(self, name):
        assert name == 'libcuda.so.1'
    def cuDriverGetVersion(self, value):
        value._obj.value = 11040
        return 0
ctypes.CDLL = Driver
"""


class Environment:
    """A folder that stands for site-packages; Python is started without the real one."""

    def __init__(self, folder: Path, packages: dict[str, str]) -> None:
        self.folder = folder
        for name, version in packages.items():
            self.install(name, version)
        self.module('torch', TORCH.format(gpu=True))
        self.module('mmcv/_ext', "__file__ = 'spm_mm/mmcv_ops/extension.py'")

    def install(self, name: str, version: str) -> None:
        for old in self.folder.glob(f'{name}-[0-9]*.dist-info'):
            shutil.rmtree(old)
        info = self.folder / f'{name}-{version}.dist-info'
        info.mkdir()
        text = f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
        (info / 'METADATA').write_text(text)
        module = MODULES.get(name, name)
        self.module(module, '')
        if module in ('mmdet', 'mmseg', 'mmpretrain'):
            self.module(f'{module}/models', '')

    def module(self, name: str, code: str) -> None:
        path = self.folder / name / '__init__.py'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)

    def uninstall(self, name: str) -> None:
        self.module(MODULES.get(name, name), 'raise ModuleNotFoundError("No module of this name")')
        for info in self.folder.glob(f'{name}-[0-9]*.dist-info'):
            shutil.rmtree(info)

    def diagnose(self) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, '-S', Path(__file__).parents[2] / 'tools/doctor.py'],
            env={**os.environ, 'PYTHONPATH': str(self.folder)},
            capture_output=True,
            text=True,
        )


@pytest.fixture
def fake(tmp_path: Path) -> Environment:
    return Environment(tmp_path, HEALTHY)


def test_healthy(fake: Environment) -> None:
    done = fake.diagnose()
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'everything fits' in done.stdout
    assert 'fits  GPU: a GPU, CUDA 12.8' in done.stdout
    assert 'fits  mmcv: operators of spm_mm, nothing compiled' in done.stdout


def test_compiled_mmcv_is_healthy(fake: Environment) -> None:
    fake.uninstall('mmcv-lite')
    fake.install('mmcv', '2.1.0')
    fake.module('mmcv/_ext', '')
    done = fake.diagnose()
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'fits  mmcv: operators of mmcv, compiled' in done.stdout


def no_torch(fake: Environment) -> None:
    fake.uninstall('torch')


def cpu_torch(fake: Environment) -> None:
    fake.install('torch', '2.10.0+cpu')
    fake.module('torch', TORCH.format(gpu=False).replace("'12.8'", 'None'))
    message = 'operator torchvision::nms does not exist'
    fake.module('torchvision', f'raise RuntimeError({message!r})')


MISSING = 'raise ModuleNotFoundError("No module named mmcv._ext")'


def torchvision_without_operators(fake: Environment) -> None:
    fake.module('torch', TORCH.format(gpu=True).replace('        nms = None', '        pass'))


def no_spm_mm(fake: Environment) -> None:
    fake.module('mmcv/_ext', MISSING)


def no_hook(fake: Environment) -> None:
    fake.install('spm_mm', '0.1.0')
    fake.module('mmcv/_ext', MISSING)


def compiled_for_another_torch(fake: Environment) -> None:
    fake.uninstall('mmcv-lite')
    fake.install('mmcv', '2.1.0')
    fake.module('mmcv', '')
    fake.module('mmcv/_ext', 'raise ImportError("undefined symbol: _ZN5torch")')
    (fake.folder / 'mmcv/_ext.cpython-313-x86_64-linux-gnu.so').touch()
    record = 'mmcv/_ext.cpython-313-x86_64-linux-gnu.so,,\n'
    (fake.folder / 'mmcv-2.1.0.dist-info/RECORD').write_text(record)


def full_over_lite(fake: Environment) -> None:
    fake.install('mmcv', '2.1.0')


def new_mmcv(fake: Environment) -> None:
    fake.install('mmcv-lite', '2.2.0')
    fake.module('mmdet', 'raise AssertionError("MMCV==2.2.0 is used but incompatible.")')


def mmseg_alone_is_broken(fake: Environment) -> None:
    fake.module('mmseg', 'raise ImportError("cannot import name Sth from mmcv")')


def new_transformers(fake: Environment) -> None:
    fake.install('transformers', '5.24.0')
    fake.module('mmpretrain/models', 'class A(None): pass')


def mmdet_alone_is_broken(fake: Environment) -> None:
    fake.module('mmdet', 'raise ImportError("cannot import name Sth from mmcv")')


def no_ftfy(fake: Environment) -> None:
    fake.uninstall('ftfy')  # which mmseg itself imports late


def neither_ftfy_nor_regex(fake: Environment) -> None:
    fake.uninstall('regex')
    no_ftfy(fake)


def new_setuptools(fake: Environment) -> None:
    fake.uninstall('setuptools')
    fake.install('setuptools', '82.0.0')
    fake.module('pkg_resources', 'raise ModuleNotFoundError("pkg_resources")')


def mixed(fake: Environment) -> None:
    fake.install('onedl-mmcv', '2.3.6')


def old_driver(fake: Environment) -> None:
    fake.module('torch', OLD_DRIVER + TORCH.format(gpu=False))


@pytest.mark.parametrize(
    ('break_it', 'complaint', 'remedy'),
    [
        (no_torch, 'torch: is not installed', 'pip install torch torchvision'),
        (
            cpu_torch,
            'torchvision: 0.25.0+cu128 is a CUDA build beside torch 2.10.0+cpu for the CPU',
            'install both from one index',
        ),
        (
            torchvision_without_operators,
            'torchvision: 0.25.0+cu128 has no operators',
            'install the release that belongs to this torch',
        ),
        (no_spm_mm, 'mmcv: has no operators (ModuleNotFoundError', 'pip install -e .'),
        (no_hook, 'and the import hook of spm_mm gives none', '--force-reinstall --no-deps spm_mm'),
        (
            compiled_for_another_torch,
            'mmcv: has compiled operators that do not load (ImportError: undefined symbol',
            'pip uninstall mmcv, then pip install mmcv-lite==2.1.0',
        ),
        (
            full_over_lite,
            'mmcv: is installed twice, as mmcv and as mmcv-lite',
            'pip uninstall mmcv mmcv-lite',
        ),
        (new_mmcv, 'mmdet: 3.3.0 refuses mmcv 2.2.0', 'pip install mmcv-lite==2.1.0'),
        (
            new_transformers,
            'mmpretrain: 1.2.0 cannot import its models beside transformers 5.24.0',
            "pip install 'transformers<4.50'",
        ),
        (mmseg_alone_is_broken, 'mmseg: 1.2.2 cannot be imported: ImportError', 'make setup'),
        (mmdet_alone_is_broken, 'mmdet: 3.3.0 cannot be imported: ImportError', 'make setup'),
        (no_ftfy, 'mmseg: 1.2.2 needs ftfy, which', 'pip install ftfy\n'),
        (neither_ftfy_nor_regex, 'mmseg: 1.2.2 needs ftfy and regex', 'pip install ftfy regex\n'),
        (new_setuptools, 'setuptools: 82.0.0 has no pkg_resources', "'setuptools<81'"),
        (mixed, 'two distributions are mixed', 'pip uninstall mmengine mmcv-lite'),
        (old_driver, 'driver runs CUDA up to 11.4, torch 2.10.0+cu128 needs 12.8', 'update the'),
    ],
)
def test_one_thing_is_broken(fake: Environment, break_it, complaint: str, remedy: str) -> None:
    break_it(fake)
    done = fake.diagnose()
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count('MEND') == 1, done.stdout
    assert complaint in done.stdout
    assert remedy in done.stdout


def test_forks_are_not_mixed_with_originals(fake: Environment) -> None:
    for name in ('mmengine', 'mmcv-lite', 'mmdet', 'mmsegmentation', 'mmpretrain'):
        fake.uninstall(name)
    fake.install('onedl-mmcv', '2.3.6')
    fake.module('mmcv', '')
    fake.module('mmcv/_ext', MISSING)
    text = fake.diagnose().stdout
    assert 'pip install onedl-mmengine, or run `STACK=onedl make setup`' in text
    assert 'pip install -e . in the checkout of spm_mm, or run `STACK=onedl make setup`' in text


def test_a_damaged_installation_does_not_end_it(fake: Environment) -> None:
    (fake.folder / 'broken-1.0.dist-info').mkdir()
    assert fake.diagnose().returncode == 0


def test_this_environment(run_tool) -> None:
    assert 'everything fits' in run_tool('tools/doctor.py').stdout
