import shutil
import subprocess
import sys
import zipfile
from pathlib import Path


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
