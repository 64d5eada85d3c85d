import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).parent
VERSION = next(
    line.split("'")[1]
    for line in (ROOT / 'spm_mm' / '__init__.py').read_text().splitlines()
    if line.startswith('__version__')
)

# Exact: the frameworks forbid newer ones. ftfy, regex and setuptools (for pkg_resources) are what they
# need and do not declare.
FRAMEWORKS = [
    'mmengine==0.10.7',
    'mmdet==3.3.0',
    'mmsegmentation==1.2.2',
    'mmpretrain==1.2.0',
    'ftfy',
    'regex',
    'setuptools<81',
]
EXTRAS = {
    'openmmlab': [*FRAMEWORKS, 'mmcv-lite==2.1.0'],
    # For those who have mmcv: its full and its lite form overwrite each other.
    'frameworks': FRAMEWORKS,
    'compare': ['plotly', 'psutil', 'scipy'],
    'deploy': ['onnx', 'onnxruntime', 'onnxscript', 'openvino'],
    'dev': ['psutil', 'pytest', 'pytest-xdist', 'ruff'],
}

# What lets `import mmcv._ext` find spm_mm.mmcv_ops, in site-packages beside the package.
HOOK = {
    '_spm_mm_mmcv_ops.py': (ROOT / 'spm_mm' / 'mmcv_ops' / 'hook.py').read_text(),
    'spm_mm_mmcv_ops.pth': 'import _spm_mm_mmcv_ops; _spm_mm_mmcv_ops.install()\n',
}


class BuildWithHook(build_py):
    """Put the import hook into the wheel, and configs, tools and the model index, for ``mim``."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        mim = Path(self.build_lib) / 'spm_mm' / '.mim'
        for name in ('configs', 'tools'):
            ignore = shutil.ignore_patterns('__pycache__')
            shutil.copytree(ROOT / name, mim / name, dirs_exist_ok=True, ignore=ignore)
        shutil.copy(ROOT / 'model-index.yml', mim)
        for name, text in HOOK.items():
            (Path(self.build_lib) / name).write_text(text)


class EditableWheelWithHook(editable_wheel):
    """Put the import hook into the wheel of an editable installation too.

    Private to setuptools, hence its exact version in pyproject.toml: ``_select_strategy``, and that
    what it returns is called with the open wheel.
    """

    def _select_strategy(self, *args):
        strategy = super()._select_strategy(*args)

        class WithHook(type(strategy)):
            def __call__(self, wheel, *args) -> None:
                super().__call__(wheel, *args)
                for name, text in HOOK.items():
                    wheel.writestr(name, text)

        strategy.__class__ = WithHook
        return strategy


setup(
    name='spm_mm',
    version=VERSION,
    description='Patch merging and token attention of hierarchical vision transformers for OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['spm_mm', 'spm_mm.*']),
    package_data={'spm_mm': ['py.typed']},
    python_requires='>=3.10,<3.14',
    # What the backbones need. onedl's frameworks hold another mmengine, so they take `--no-deps`.
    install_requires=['torch>=2.6', 'torchvision', 'mmengine>=0.10.4', 'numpy', 'safetensors'],
    extras_require=EXTRAS,
    cmdclass={'build_py': BuildWithHook, 'editable_wheel': EditableWheelWithHook},
)
