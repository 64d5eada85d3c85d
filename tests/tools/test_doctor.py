"""The doctor on faked environments: packages that are nothing but a version and, perhaps, an error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEALTHY = {
    'torch': '2.10.0+cu128',
    'torchvision': '0.25.0+cu128',
    'mmengine': '0.10.7',
    'mmcv': '2.1.0',
    'mmdet': '3.3.0',
    'mmsegmentation': '1.2.2',
    'mmpretrain': '1.2.0',
    'ftfy': '6.3.1',
    'regex': '2026.1.1',
    'setuptools': '65.5.0',
}
MODULES = {'mmsegmentation': 'mmseg', 'setuptools': 'pkg_resources'}
TORCH = """
class version:
    cuda = '12.8'
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
        self.module('mmcv/_ext', '')

    def install(self, name: str, version: str) -> None:
        for old in self.folder.glob(f'{name}-*.dist-info'):
            (old / 'METADATA').unlink()
            old.rmdir()
        info = self.folder / f'{name}-{version}.dist-info'
        info.mkdir()
        text = f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
        (info / 'METADATA').write_text(text)
        self.module(MODULES.get(name, name), '')

    def module(self, name: str, code: str) -> None:
        path = self.folder / name / '__init__.py'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)

    def uninstall(self, name: str) -> None:
        self.module(MODULES.get(name, name), 'raise ModuleNotFoundError("No module of this name")')
        for info in self.folder.glob(f'{name}-*.dist-info'):
            (info / 'METADATA').unlink()
            info.rmdir()

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


def no_torch(fake: Environment) -> None:
    fake.uninstall('torch')


def cpu_torch(fake: Environment) -> None:
    fake.install('torch', '2.10.0+cpu')
    fake.module('torch', TORCH.format(gpu=False).replace("'12.8'", 'None'))
    message = 'operator torchvision::nms does not exist'
    fake.module('torchvision', f'raise RuntimeError({message!r})')


def no_operators(fake: Environment) -> None:
    fake.module('mmcv/_ext', 'raise ModuleNotFoundError("No module named mmcv._ext")')


def new_mmcv(fake: Environment) -> None:
    fake.install('mmcv', '2.2.0')
    fake.module('mmcv/_ext', '')
    fake.module('mmdet', 'raise AssertionError("MMCV==2.2.0 is used but incompatible.")')


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
        (no_operators, 'mmcv: has no compiled operators', '--no-build-isolation'),
        (new_mmcv, 'mmdet: 3.3.0 refuses mmcv 2.2.0', 'pip install mmcv==2.1.0'),
        (no_ftfy, 'mmseg: 1.2.2 needs ftfy, which', 'pip install ftfy\n'),
        (neither_ftfy_nor_regex, 'mmseg: 1.2.2 needs ftfy and regex', 'pip install ftfy regex\n'),
        (new_setuptools, 'setuptools: 82.0.0 has no pkg_resources', "'setuptools<81'"),
        (mixed, 'two distributions are mixed', 'pip uninstall mmengine mmcv'),
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
    for name in ('mmengine', 'mmcv', 'mmdet', 'mmsegmentation', 'mmpretrain'):
        fake.uninstall(name)
    fake.install('onedl-mmcv', '2.3.6')
    fake.module('mmcv', '')
    fake.module('mmcv/_ext', 'raise ModuleNotFoundError("No module named mmcv._ext")')
    text = fake.diagnose().stdout
    assert 'pip install onedl-mmengine, or run `STACK=onedl make setup`' in text
    assert '--no-deps onedl-mmcv, or run `STACK=onedl make setup`' in text


def test_a_damaged_installation_does_not_end_it(fake: Environment) -> None:
    (fake.folder / 'broken-1.0.dist-info').mkdir()
    assert fake.diagnose().returncode == 0


def test_this_environment(run_tool) -> None:
    assert 'everything fits' in run_tool('tools/doctor.py').stdout
