import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement


def test_wheel_holds_everything_at_run_time(root: Path, tmp_path: Path) -> None:
    """All modules, and configs and tools where `mim` looks for them."""
    source = tmp_path / 'source'
    ignore = shutil.ignore_patterns('__pycache__')
    for name in ('spm_mm', 'configs', 'tools'):
        shutil.copytree(root / name, source / name, ignore=ignore)
    for name in (
        'setup.py',
        'pyproject.toml',
        'README.md',
        'LICENSE',
        'MANIFEST.in',
        'model-index.yml',
    ):
        shutil.copy(root / name, source)
    subprocess.run(
        [
            *(sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation'),
            *('--wheel-dir', tmp_path, source),
        ],
        check=True,
    )
    packed = set(zipfile.ZipFile(next(tmp_path.glob('*.whl'))).namelist())
    assert 'spm_mm/.mim/model-index.yml' in packed
    for folder, prefix in (('spm_mm', ''), ('configs', 'spm_mm/.mim/'), ('tools', 'spm_mm/.mim/')):
        for path in (source / folder).rglob('*.*'):
            assert f'{prefix}{path.relative_to(source)}' in packed


@pytest.mark.parametrize('stack', ['openmmlab', 'onedl'])
def test_extras_are_met_by_what_setup_installs(root: Path, stack: str) -> None:
    extras = next(
        ast.literal_eval(node.value)
        for node in ast.parse((root / 'setup.py').read_text()).body
        if isinstance(node, ast.Assign) and node.targets[0].id == 'EXTRAS'
    )
    pins = re.findall(r'^([\w.-]+)==(\S+)$', (root / f'requirements/{stack}.txt').read_text(), re.M)
    built = re.findall(r'MMCV=([\w-]+)==([\d.]+)', (root / 'tools/setup.sh').read_text())
    versions = dict(pins + built)
    for text in extras[stack] + extras['dev']:
        requirement = Requirement(text)
        assert requirement.specifier.contains(versions[requirement.name]), text
