"""The page that goes with a published checkpoint: what it is, from what, and how to check it."""

import hashlib
import importlib.metadata
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.logging import HistoryBuffer

from spm_mm.engine.atomic_files import whole_file

__all__ = ['logged_figures', 'model_card', 'write_model_card']

PACKAGES = (
    'spm_mm', 'torch', 'torchvision', 'mmengine', 'mmcv', 'mmcv-lite', 'mmdet', 'mmsegmentation',
    'mmpretrain',
)  # fmt: skip


def logged_figures(checkpoint: Mapping[str, Any]) -> dict[str, float]:
    """Figures of the last validation that a training checkpoint of mmengine has logged.

    That is the validation of these weights in a ``best_*`` file. In any other it may be the one before,
    as mmengine saves before it validates.

    Args:
        checkpoint: The checkpoint as the run wrote it.

    Returns:
        Values by their names without ``val/``; empty if there was none.
    """
    hub = checkpoint.get('message_hub')
    scalars = hub.get('log_scalars', {}) if isinstance(hub, Mapping) else {}
    return {
        name.removeprefix('val/'): float(buffer.current())
        for name, buffer in scalars.items()
        if name.startswith('val/') and isinstance(buffer, HistoryBuffer)
    }


def model_card(
    checkpoint: Path,
    meta: Mapping[str, Any],
    contents: str,
    command: str,
    figures: Mapping[str, float] | None = None,
) -> str:
    """The text of a model card.

    Args:
        checkpoint: The published file; it must be there, for its hash.
        meta: ``meta`` of a checkpoint of mmengine; what it lacks is said to be unknown.
        contents: What the file holds, e.g. "averaged weights (EMA)".
        command: The command that wrote it.
        figures: See :func:`logged_figures`; None or empty if there are none.

    Returns:
        Markdown.
    """
    text = str(meta.get('cfg') or '')
    data = sorted(set(re.findall(r"type='(\w*Dataset)'", text)))
    roots = sorted(set(re.findall(r"data_root='([^']+)'", text)))
    classes = (meta.get('dataset_meta') or {}).get('classes') or ()
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    progress = [f'{key} {meta[key]}' for key in ('epoch', 'iter') if meta.get(key) is not None]
    rows = {
        'Contents': contents,
        'Size': f'{checkpoint.stat().st_size} bytes',
        'SHA-256': f'`{digest}`',
        'Config': meta.get('experiment_name') or 'unknown',
        'Data': ', '.join([*data, *(f'`{root}`' for root in roots)]) or 'unknown',
        'Classes': str(len(classes)) if classes else 'unknown',
        'Trained until': ', '.join(progress) or 'unknown',
        'Seed': 'unknown' if meta.get('seed') is None else str(meta['seed']),
        'Time of training': meta.get('time') or 'unknown',
        'mmengine of training': meta.get('mmengine_version') or 'unknown',
        'Published with': ', '.join(_versions()),
        'Command': f'`{command}`',
    }
    table = '\n'.join(f'| {name} | {value} |' for name, value in rows.items())
    parts = [f'# {checkpoint.name}', f'| | |\n| --- | --- |\n{table}']
    if figures:
        lines = '\n'.join(f'| {name} | {value:g} |' for name, value in figures.items())
        parts.append(
            'Last validation that the run logged before it saved this checkpoint:\n\n'
            f'| Metric | Value |\n| --- | --- |\n{lines}'
        )
    else:
        parts.append('The run logged no validation.')
    if text:
        parts.append(f'## Config\n\n```python\n{text.strip()}\n```')
    return '\n\n'.join(parts) + '\n'


def write_model_card(checkpoint: Path, *args: Any, **kwargs: Any) -> Path:
    """Write :func:`model_card` beside a checkpoint.

    Its name is ``README.md``, or, where another page has that name, the checkpoint's with ``.md``
    behind it: nobody's page is overwritten.

    Returns:
        Path of the card.
    """
    text = model_card(checkpoint, *args, **kwargs)
    path = checkpoint.with_name('README.md')
    title = f'# {checkpoint.name}'.encode()
    if path.exists() and not (path.is_file() and path.read_bytes().splitlines()[:1] == [title]):
        path = checkpoint.with_name(f'{checkpoint.name}.md')
    with whole_file(path) as partial:
        partial.write_text(text, encoding='utf-8')
    return path


def _versions() -> list[str]:
    found = [f'Python {platform.python_version()}']
    for package in PACKAGES:
        try:
            found.append(f'{package} {importlib.metadata.version(package)}')
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
