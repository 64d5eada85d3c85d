"""Say in plain words what of this environment fits, what is missing, and how to mend it.

Needs nothing but Python, and reads only. Ends with status 1 if something must be mended. Checkpoints
that are named are read by the safe loader, which runs no code of theirs.
"""

import argparse
import ctypes
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

ORIGINALS = {
    'mmengine': 'mmengine',
    'mmcv': 'mmcv-lite',
    'mmdet': 'mmdet',
    'mmseg': 'mmsegmentation',
    'mmpretrain': 'mmpretrain',
}
FORKS = {
    'mmengine': 'onedl-mmengine',
    'mmcv': 'onedl-mmcv',
    'mmdet': 'onedl-mmdetection',
    'mmseg': 'onedl-mmsegmentation',
    'mmpretrain': 'onedl-mmpretrain',
}
# Distributions that hold the module mmcv.
MMCV = 'mmcv', 'mmcv-lite', 'onedl-mmcv'
SETUP = 'run `make setup`, which makes an environment that fits'
FORK_SETUP = SETUP.replace('`make setup`', '`STACK=onedl make setup`')


@dataclass(frozen=True)
class Finding:
    """What was found about one subject; with a remedy it is a problem."""

    subject: str
    text: str
    remedy: str | None = None


def versions() -> dict[str, str]:
    """Version of every installed distribution."""
    named = (d for d in metadata.distributions() if d.metadata and d.metadata['Name'])
    return {d.metadata['Name'].lower(): d.version for d in named}


def import_error(module: str) -> str | None:
    """What importing a module raises, in one line; None if it works."""
    try:
        importlib.import_module(module)
    except Exception as error:
        lines = str(error).strip().splitlines()
        return f'{type(error).__name__}: {lines[0] if lines else ""}'
    return None


def number(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, for comparing: 2.10.0+cpu is (2, 10, 0)."""
    parts = version.partition('+')[0].split('.')
    return tuple(int(part) for part in parts if part.isdigit())


def driver_cuda() -> tuple[int, int] | None:
    """The newest CUDA that the installed driver runs; None without a driver."""
    try:
        driver = ctypes.CDLL('libcuda.so.1')
    except OSError:
        return None
    value = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(value)):
        return None
    return value.value // 1000, value.value % 1000 // 10


def files(name: str) -> set[str]:
    """Files of an installed distribution that its record lists, and are there."""
    try:
        listed = metadata.distribution(name).files or ()
    except metadata.PackageNotFoundError:
        return set()
    return {str(file) for file in listed if file.locate().is_file()}


def check_torch(found: dict[str, str]) -> Iterator[Finding]:
    error = import_error('torch')
    if 'torch' not in found and error:
        yield Finding('torch', 'is not installed', f'pip install torch torchvision, or {SETUP}')
        return
    version = found.get('torch', 'of unknown version')
    if error:
        yield Finding(
            'torch', f'{version} cannot be imported: {error}', f'reinstall it, or {SETUP}'
        )
        return
    if number(version) < (2, 6):
        yield Finding('torch', f'{version} is too old', "pip install 'torch>=2.6'")
    else:
        yield Finding('torch', version)
    yield from check_torchvision(found)
    yield from check_gpu(version)


def check_torchvision(found: dict[str, str]) -> Iterator[Finding]:
    if 'torchvision' not in found:
        remedy = 'install it from where torch came from; MMPretrain needs it'
        yield Finding('torchvision', 'is not installed', remedy)
        return
    version, torch = found['torchvision'], found.get('torch', '')
    error = import_error('torchvision')
    if torch.endswith('+cpu') and not version.endswith('+cpu'):
        yield Finding(
            'torchvision',
            f'{version} is a CUDA build beside torch {torch} for the CPU'
            + (f', and its import fails ({error})' if error else ''),
            'install both from one index: pip install --force-reinstall torch torchvision, or both'
            ' with --index-url https://download.pytorch.org/whl/cpu',
        )
    elif error:
        remedy = 'install the release that belongs to this torch, from the same index'
        yield Finding('torchvision', f'{version} cannot be imported: {error}', remedy)
    elif error := vision_error():
        remedy = 'install the release that belongs to this torch, from the same index'
        yield Finding('torchvision', f'{version} has no operators: {error}', remedy)
    else:
        yield Finding('torchvision', version)


def vision_error() -> str | None:
    """What looking up one of torchvision's operators raises, in one line; None if it is there."""
    import torch

    try:
        torch.ops.torchvision.nms  # noqa: B018
    except Exception as error:
        return str(error).splitlines()[0]
    return None


def check_gpu(version: str) -> Iterator[Finding]:
    import torch

    built, driver = torch.version.cuda, driver_cuda()
    if torch.cuda.is_available():
        yield Finding('GPU', f'{torch.cuda.get_device_name()}, CUDA {built}')
    elif driver is None:
        yield Finding('GPU', 'there is no NVIDIA driver: everything runs on the CPU')
    elif built is None:
        remedy = 'install the CUDA build of torch and torchvision'
        yield Finding('GPU', f'there is a driver, but torch {version} is for the CPU', remedy)
    elif driver < tuple(map(int, built.split('.')[:2])):
        yield Finding(
            'GPU',
            f'the driver runs CUDA up to {driver[0]}.{driver[1]}, torch {version} needs {built}',
            'update the NVIDIA driver, or install torch for an older CUDA',
        )
    else:
        yield Finding(
            'GPU', f'there is a driver for CUDA {driver[0]}.{driver[1]}, but no GPU is seen'
        )


def check_distributions(found: dict[str, str]) -> Iterator[Finding]:
    originals = [name for name in (*ORIGINALS.values(), 'mmcv') if name in found]
    forks = [name for name in FORKS.values() if name in found]
    if originals and forks:
        yield Finding(
            'frameworks',
            f'two distributions are mixed, which overwrite each other: {", ".join(originals)} beside'
            f' {", ".join(forks)}',
            f'pip uninstall {" ".join(originals + forks)}, then install one of the two, or {SETUP}',
        )


def check_frameworks(found: dict[str, str]) -> Iterator[Finding]:
    forks = not found.keys().isdisjoint(FORKS.values())
    names, setup = (FORKS, FORK_SETUP) if forks else (ORIGINALS, SETUP)
    for module in ORIGINALS:
        distributions = MMCV if module == 'mmcv' else (ORIGINALS[module], FORKS[module])
        name = next((n for n in distributions if n in found), None)
        if name is None:
            needed = module in ('mmengine', 'mmcv')
            remedy = f'pip install {names[module]}, or {setup}' if needed else None
            text = 'is not installed' + ('' if needed else ', its configs cannot be used')
            yield Finding(module, text, remedy)
        elif error := import_error(module) or models_error(module):
            yield from explain(module, name, error, found)
        elif name == 'mmsegmentation' and (absent := undeclared(found)):
            yield absent
        else:
            yield Finding(module, f'{found[name]} ({name})')


def models_error(module: str) -> str | None:
    """What importing a framework's models raises, which the framework itself imports late."""
    return import_error(f'{module}.models') if module in ('mmdet', 'mmseg', 'mmpretrain') else None


def check_operators(found: dict[str, str]) -> Iterator[Finding]:
    """Whose operators ``mmcv.ops`` calls, or why it has none."""
    name = next((n for n in MMCV if n in found), None)
    if name is None or import_error('mmcv'):
        return
    setup = FORK_SETUP if name.startswith('onedl') else SETUP
    if {'mmcv', 'mmcv-lite'} <= found.keys():
        yield Finding(
            'mmcv',
            'is installed twice, as mmcv and as mmcv-lite, which overwrite each other',
            f'pip uninstall mmcv mmcv-lite, then install one of the two, or {setup}',
        )
        return
    error = import_error('mmcv._ext')
    if error is None:
        origin = getattr(sys.modules['mmcv._ext'], '__file__', None) or ''
        ours = origin.endswith('extension.py')
        yield Finding(
            'mmcv', f'operators of {"spm_mm, nothing compiled" if ours else "mmcv, compiled"}'
        )
    elif any('_ext.' in file for file in files(name)):
        yield Finding(
            'mmcv',
            f'has compiled operators that do not load ({error}): they belong to another torch',
            f'pip uninstall {name}, then pip install mmcv-lite==2.1.0, for which spm_mm has operators,'
            f' or {setup}',
        )
    elif 'spm_mm' not in found and 'spm-mm' not in found:
        yield Finding(
            'mmcv',
            f'has no operators ({error}), and spm_mm, which brings them, is not installed',
            f'pip install -e . in the checkout of spm_mm, or {setup}',
        )
    else:
        yield Finding(
            'mmcv',
            f'has no operators ({error}), and the import hook of spm_mm gives none',
            f'pip install --force-reinstall --no-deps spm_mm (-e . in its checkout), or {setup}',
        )


def explain(module: str, name: str, error: str, found: dict[str, str]) -> Iterator[Finding]:
    """Why a framework cannot be imported, where that is a known case."""
    mmcv = found.get('mmcv') or found.get('mmcv-lite', '')
    if module in ('mmdet', 'mmseg') and name == ORIGINALS[module] and number(mmcv) >= (2, 2):
        yield Finding(
            module,
            f'{found[name]} refuses mmcv {mmcv}',
            f'pip install {"mmcv" if "mmcv" in found else "mmcv-lite"}==2.1.0 (below 2.2.0)',
        )
    elif name == 'mmsegmentation' and (absent := undeclared(found)):
        yield absent
    elif name == 'mmpretrain' and number(found.get('transformers', '0')) >= (4, 50):
        yield Finding(
            module,
            f'{found[name]} cannot import its models beside transformers {found["transformers"]}',
            "pip install 'transformers<4.50', or pip uninstall transformers",
        )
    else:
        yield Finding(
            module, f'{found[name]} cannot be imported: {error}', f'mend that, or {SETUP}'
        )


def undeclared(found: dict[str, str]) -> Finding | None:
    """What MMSegmentation imports with its models, and says nowhere."""
    absent = [name for name in ('ftfy', 'regex') if name not in found]
    if not absent:
        return None
    return Finding(
        'mmseg',
        f'{found["mmsegmentation"]} needs {" and ".join(absent)}, which it does not declare',
        f'pip install {" ".join(absent)}',
    )


def check_setuptools(found: dict[str, str]) -> Iterator[Finding]:
    if 'mmengine' in found and import_error('pkg_resources'):
        version = found.get('setuptools', 'is not installed, it')
        yield Finding(
            'setuptools',
            f'{version} has no pkg_resources, which inheriting from `mmdet::` configs needs',
            "pip install 'setuptools<81'",
        )


def check_checkpoint(path: str) -> Finding:
    try:
        from spm_mm.compat import allow_training_checkpoints, load_checkpoint, load_weights
    except Exception as error:
        return Finding(path, f'cannot be read here: {error}', 'mend the packages first')
    allow_training_checkpoints()
    try:
        count = len(load_weights(path))
        iteration = load_checkpoint(path).get('meta', {}).get('iter')
    except ValueError as error:
        remedy = (
            'do not load it by other means, unless you trust where it comes from: it may run code'
        )
        return Finding(path, str(error), remedy)
    state = '' if iteration is None else f' of a training run at iteration {iteration}'
    return Finding(path, f'{count} tensors{state}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'checkpoints', nargs='*', metavar='CHECKPOINT', help='file to check as well'
    )
    args = parser.parse_args()
    found = versions()
    findings = [
        Finding('Python', '.'.join(map(str, sys.version_info[:3]))),
        *check_torch(found),
        *check_distributions(found),
        *check_frameworks(found),
        *check_operators(found),
        *check_setuptools(found),
        *map(check_checkpoint, args.checkpoints),
    ]
    for finding in findings:
        print(f'{"fits" if finding.remedy is None else "MEND"}  {finding.subject}: {finding.text}')
        if finding.remedy:
            print(f'      -> {finding.remedy}')
    problems = sum(finding.remedy is not None for finding in findings)
    print(f'{problems} to mend' if problems else 'everything fits')
    sys.exit(problems > 0)


if __name__ == '__main__':
    main()
