import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION = next(
    line.split("'")[1]
    for line in (ROOT / 'spm_mm' / '__init__.py').read_text().splitlines()
    if line.startswith('__version__')
)

# The five hosts have the same import names in both distributions, so neither is required by name.
# mmcv's operators are built beside the torch that runs them: pip install --no-build-isolation.
EXTRAS = {
    'openmmlab': [
        'mmengine==0.10.7',
        'mmcv==2.1.0',
        'mmdet==3.3.0',
        'mmsegmentation==1.2.2',
        'mmpretrain==1.2.0',
        'ftfy',
        'regex',
        'setuptools<81',
        'torchvision',
    ],
    'onedl': [
        'onedl-mmengine>=0.10.12',
        'onedl-mmcv>=2.3.6',
        'onedl-mmdetection>=3.5.1',
        'onedl-mmsegmentation>=1.4.2',
        'onedl-mmpretrain>=1.3.6',
        'torchvision',
    ],
    'dev': ['psutil', 'pytest', 'pytest-xdist', 'ruff'],
}


class BuildWithConfigs(build_py):
    """Put configs, tools and the model index into the wheel as ``spm_mm/.mim``, for ``mim``."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        mim = Path(self.build_lib) / 'spm_mm' / '.mim'
        for name in ('configs', 'tools'):
            ignore = shutil.ignore_patterns('__pycache__')
            shutil.copytree(ROOT / name, mim / name, dirs_exist_ok=True, ignore=ignore)
        shutil.copy(ROOT / 'model-index.yml', mim)


setup(
    name='spm_mm',
    version=VERSION,
    description='Patch merging and token attention of hierarchical vision transformers for OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['spm_mm', 'spm_mm.*']),
    python_requires='>=3.10',
    install_requires=['torch>=2.6', 'numpy', 'safetensors'],
    extras_require=EXTRAS,
    cmdclass={'build_py': BuildWithConfigs},
)
