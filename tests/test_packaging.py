import ast
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

HOOK = {'_spm_mm_mmcv_ops.py', 'spm_mm_mmcv_ops.pth'}


@pytest.fixture(scope='module')
def source(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all that is packed."""
    source = tmp_path_factory.mktemp('source')
    ignore = shutil.ignore_patterns('__pycache__')
    for name in ('spm_mm', 'configs', 'tools'):
        shutil.copytree(root / name, source / name, ignore=ignore)
    files = 'setup.py', 'pyproject.toml', 'README.md', 'LICENSE', 'MANIFEST.in', 'model-index.yml'
    for name in files:
        shutil.copy(root / name, source)
    return source


def test_wheel_holds_everything_at_run_time(source: Path, tmp_path: Path) -> None:
    """All modules, and configs and tools where `mim` looks for them."""
    subprocess.run(
        [
            *(sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation'),
            *('--wheel-dir', tmp_path, source),
        ],
        check=True,
    )
    packed = set(zipfile.ZipFile(next(tmp_path.glob('*.whl'))).namelist())
    assert 'spm_mm/.mim/model-index.yml' in packed
    assert packed >= HOOK
    for folder, prefix in (('spm_mm', ''), ('configs', 'spm_mm/.mim/'), ('tools', 'spm_mm/.mim/')):
        for path in (source / folder).rglob('*.*'):
            assert f'{prefix}{path.relative_to(source)}' in packed


@pytest.mark.parametrize('build', ['build_wheel', 'build_editable'])
def test_the_hook_is_there_first_and_goes_with_the_package(
    source: Path, tmp_path: Path, build: str
) -> None:
    """In a new environment: found without importing spm_mm, behind a compiled module, then gone."""
    venv.create(tmp_path, symlinks=True)
    python = tmp_path / 'bin' / 'python'
    site = next(tmp_path.glob('lib/python*/site-packages'))
    environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}

    def pip(*arguments: object) -> None:
        command = sys.executable, '-m', 'pip', '--quiet', '--python', python, *arguments
        subprocess.run(command, env=environment, check=True)

    def run(code: str) -> str:
        done = subprocess.run(
            [python, '-c', code],
            **dict(cwd=tmp_path, env=environment, capture_output=True, text=True, check=True),
        )
        assert not done.stderr
        return done.stdout.strip()

    find = (
        "from importlib.util import find_spec; print(getattr(find_spec('mmcv._ext'), 'origin', 0))"
    )
    code = f'import setuptools.build_meta as backend; backend.{build}({str(tmp_path)!r})'
    subprocess.run([sys.executable, '-c', code], cwd=source, check=True, capture_output=True)
    pip('install', '--no-deps', next(tmp_path.glob('*.whl')))
    assert {path.name for path in site.iterdir()} >= HOOK
    (site / 'mmcv').mkdir()
    (site / 'mmcv' / '__init__.py').touch()
    # Looking up the stand-in imports its package, and no torch.
    assert run(find).endswith('spm_mm/mmcv_ops/extension.py')
    started = run("import sys; print(*(name for name in sys.modules if 'mm' in name))")
    assert 'spm_mm' not in started.split()
    (site / 'mmcv' / '_ext.py').touch()
    assert run(find).endswith('mmcv/_ext.py')
    (site / 'mmcv' / '_ext.py').unlink()
    pip('uninstall', '--yes', 'spm_mm')
    assert not {path.name for path in site.iterdir()} & HOOK
    assert run(find) == '0'


def test_the_hook_costs_no_time_at_start(root: Path) -> None:
    """It imports nothing that Python has not imported by then."""
    code = (
        'import sys; before = set(sys.modules)\n'
        f'exec(open({str(root / "spm_mm/mmcv_ops/hook.py")!r}).read()); install(); install()\n'
        'print(len(set(sys.modules) - before), [f.__name__ for f in sys.meta_path][-1])\n'
        'print(sum(getattr(f, "__name__", "") == "OperatorFinder" for f in sys.meta_path))'
    )
    done = subprocess.run([sys.executable, '-S', '-c', code], capture_output=True, text=True)
    assert done.stdout.split() == ['0', 'OperatorFinder', '1'], done.stderr


def test_extras_are_met_by_what_setup_installs(root: Path) -> None:
    tree = ast.parse((root / 'setup.py').read_text())
    known: dict[str, object] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and node.targets[0].id in ('FRAMEWORKS', 'EXTRAS'):
            known[node.targets[0].id] = eval(ast.unparse(node.value), {}, known)  # noqa: S307
    extras = known['EXTRAS']
    assert set(extras['openmmlab']) - set(extras['frameworks']) == {'mmcv-lite==2.1.0'}
    pins = re.findall(
        r'^([\w.-]+)==([^\s;]+)', (root / 'requirements/openmmlab.txt').read_text(), re.M
    )
    for text in extras['openmmlab'] + extras['dev']:
        requirement = Requirement(text)
        versions = [version for name, version in pins if name == requirement.name]
        assert versions, text
        assert all(requirement.specifier.contains(version) for version in versions), text


def test_one_setuptools_builds_it(root: Path) -> None:
    """The pinned one of the build is that of the environment, whose private parts setup.py uses."""
    required = re.search(r'setuptools==([\d.]+)', (root / 'pyproject.toml').read_text())
    for name in ('openmmlab', 'onedl'):
        assert f'setuptools=={required[1]}' in (root / f'requirements/{name}.txt').read_text()
