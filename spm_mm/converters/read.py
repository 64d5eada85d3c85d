"""Find the weights in whatever a training script or a hub wrote."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from spm_mm.checkpoint_files import (
    AVERAGED,
    RAW,
    describe,
    find_weights,
    is_safetensors,
    strip_wrappers,
    tensors,
)
from spm_mm.compat import is_folder, load_checkpoint
from spm_mm.converters.tensors_only import read_tensors_only
from spm_mm.errors import UserError

HF_FILES = ('model.safetensors', 'pytorch_model.bin')
SHARD = re.compile(r'-\d{5}-of-\d{5}\.\w+$')


@dataclass
class Weights:
    """What a file or folder holds."""

    path: Path
    raw: dict[str, Tensor] | None
    averaged: dict[str, Tensor] | None
    entries: dict[str, str] = field(default_factory=dict)
    """Where ``'raw'`` and ``'averaged'`` come from, in words."""
    clues: str = ''
    """What the file says of the model: its name, model type, settings."""
    notes: list[str] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """``config.json`` of a folder of Hugging Face."""

    def choose(
        self, ema: bool | None, prefer_averaged: bool = False
    ) -> tuple[dict[str, Tensor], str]:
        """The raw or the averaged weights, and a sentence that says which.

        Args:
            ema: True for the averaged, False for the raw; None for those that there are and, of both,
                the averaged if ``prefer_averaged``.
            prefer_averaged: Whether the code that wrote the file evaluates the averaged weights.

        Raises:
            UserError: If the kind that ``ema`` asks for is not there.
        """
        wanted = ema
        if ema is None:
            wanted = self.averaged is not None and (prefer_averaged or self.raw is None)
        kind, other = ('averaged', 'raw') if wanted else ('raw', 'averaged')
        found = getattr(self, kind)
        if found is None:
            raise UserError(f'{self.path} holds no {kind} weights, only {other} ones')
        text = f'{kind} weights, {self.entries[kind]}'
        if getattr(self, other) is not None:
            flag = '--no-ema' if wanted else '--ema'
            text += f'; it also holds {other} ones, {self.entries[other]}: {flag} takes those'
        return found, text


def read_checkpoint(path: str | Path) -> Weights:
    """Read a ``.pth``, ``.bin``, ``.ckpt`` or ``.safetensors`` file, or a folder of Hugging Face.

    What the safe loader refuses is read by :func:`~spm_mm.converters.tensors_only.read_tensors_only`.

    Args:
        path: The file, or the folder with ``config.json``.

    Raises:
        UserError: If it cannot be read, or holds no weights.
    """
    path = Path(path)
    notes: list[str] = []
    clues = [path.resolve().name]
    settings: Mapping[str, Any] = {}
    if is_folder(path):
        content, settings = _read_folder(path)
        clues += _names(settings)
    elif SHARD.search(path.name):
        raise UserError(f'{path} is one part of a sharded checkpoint: name its folder')
    else:
        content = _read_file(path, notes)
        config = path.with_name('config.json')
        if path.name in HF_FILES and config.is_file():
            settings = _read_json(config)
            clues += _names(settings)
    clues += _clues(content)
    weights = _find(path, content, ' '.join(clues), notes)
    weights.settings = settings
    return weights


def _read_file(path: Path, notes: list[str]) -> Mapping[str, Any]:
    try:
        return load_checkpoint(path)
    except UserError as refused:
        # What the loader did not refuse, and what is no pickle, holds nothing for the other way.
        if refused.__cause__ is None or is_safetensors(path) or describe(path):
            raise
        try:
            content = read_tensors_only(path)
        except ValueError as error:
            raise UserError(f'{refused}; nor can its tensors be read alone: {error}') from error
        notes.append(
            f'{refused}: its tensors and plain values were read alone, in a process of their own;'
            ' nothing that the file names was run'
        )
        return content


def _read_folder(path: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Weights, in one file or several, and ``config.json``, of a folder of Hugging Face."""
    config = path / 'config.json'
    if not config.is_file():
        raise UserError(f'{path} is a folder without config.json: name the checkpoint in it')
    for name in HF_FILES:
        if (path / name).is_file():
            return load_checkpoint(path / name), _read_json(config)
        index = path / f'{name}.index.json'
        if index.is_file():
            return _read_shards(index), _read_json(config)
    raise UserError(f'{path} has config.json, but neither {" nor ".join(HF_FILES)}')


def _read_shards(index: Path) -> dict[str, Any]:
    places = _read_json(index).get('weight_map')
    if not isinstance(places, dict) or not all(isinstance(v, str) for v in places.values()):
        raise UserError(f'{index} has no weight_map of names of tensors to names of files')
    shards = sorted(set(places.values()))
    if any(Path(shard).name != shard or shard == '..' for shard in shards):
        raise UserError(f'{index} names files outside of its folder')
    weights: dict[str, Any] = {}
    for shard in shards:
        weights |= load_checkpoint(index.with_name(shard))
    if missing := [key for key in places if key not in weights]:
        raise UserError(
            f'{index} names {len(missing)} tensors that its files do not hold, first {missing[0]}'
        )
    return weights


def _names(settings: Mapping[str, Any]) -> list[str]:
    """What ``config.json`` calls the model."""
    return [str(settings.get(key, '')) for key in ('model_type', 'architectures')]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise UserError(f'{path} is no JSON: {error}') from error
    if not isinstance(content, dict):
        raise UserError(f'{path} holds a {type(content).__name__}, not a dict')
    return content


def _clues(content: Mapping[str, Any]) -> list[str]:
    """What the settings beside the weights call the model."""
    meta = content.get('meta')
    found = [meta.get(key) for key in ('config', 'cfg')] if isinstance(meta, Mapping) else []
    settings = content.get('args')
    settings = settings if isinstance(settings, Mapping) else vars(settings) if settings else {}
    found += [content.get('arch'), settings.get('model'), settings.get('arch')]
    return [text for text in found if isinstance(text, str)]


def _find(path: Path, content: Mapping[str, Any], clues: str, notes: list[str]) -> Weights:
    found: dict[str, dict[str, Tensor]] = {}
    entries: dict[str, str] = {}
    for kind, names in (('raw', RAW), ('averaged', AVERAGED)):
        if entry := find_weights(content, names):
            found[kind], entries[kind] = entry[1], f'entry {entry[0]!r}'
    if not found and (whole := tensors(content)):
        found['raw'], entries['raw'] = whole, 'the whole file'
    if not found:
        whole = (
            '; it holds objects that were pickled whole, which are not read: where you trust their'
            " code, save a model's state_dict()"
        )
        raise UserError(
            f'checkpoint {path} holds no weights; its keys are {list(content)[:5]}'
            f'{whole if notes else ""}'
        )
    if 'steps' in (content.get('ema_state_dict') or ()) and len(found) == 2:
        # mmengine exchanges the two when it saves.
        found = {'raw': found['averaged'], 'averaged': found['raw']}
        entries = {'raw': entries['averaged'], 'averaged': entries['raw']}
        notes.append("mmengine keeps the averaged weights in 'state_dict', the raw ones beside it")
    weights = {kind: strip_wrappers(tensors) for kind, tensors in found.items()}
    if 'raw' in weights and (twins := _mmcv_average(weights['raw'])):
        # The hook of mmcv 1 exchanges them, too, and keeps the raw ones as buffers.
        kept = {k: v for k, v in weights['raw'].items() if k not in twins.values()}
        weights['averaged'], entries['averaged'] = kept, entries['raw']
        weights['raw'] = kept | {key: weights['raw'][twin] for key, twin in twins.items()}
        entries['raw'] += ", buffers 'ema_...'"
        notes.append(
            "mmcv 1 keeps the averaged weights under their own names, the raw ones as 'ema_'"
        )
    return Weights(path, weights.get('raw'), weights.get('averaged'), entries, clues, notes)


def _mmcv_average(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Keys whose other half mmcv 1's ``EMAHook`` keeps as a buffer of the model, with its name."""
    twins = {key: f'ema_{key.replace(".", "_")}' for key in weights}
    return {key: twin for key, twin in twins.items() if twin in weights}
