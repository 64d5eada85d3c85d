"""The grid of a comparison: what is varied, and the config of every cell."""

import argparse
import copy
import difflib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import yaml
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, init_default_scope

from spm_mm.backbones import HierarchicalBackbone
from spm_mm.errors import UserError
from spm_mm.merging import Merging
from spm_mm.registry import SCOPE, registered, suggest

__all__ = [
    'Variant',
    'backbone_choices',
    'cell_config',
    'check_differences',
    'differences',
    'make_grid',
    'merging_choices',
    'parse_seeds',
    'parse_vary',
]

NOT_SET = '(not set)'
"""Stands for no value: a key that a config does not have, so that the default applies."""
# What a backbone keeps of its config when `--backbones` puts another one in its place.
KEPT = ('drop_path_rate', 'out_indices', 'out_type', 'frozen_stages', 'norm_eval', 'with_cp')


@dataclass(frozen=True)
class Variant:
    """A column of the comparison: a name, and the values of the varied keys (dotted names)."""

    label: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The label as the name of a folder."""
        return re.sub(r'[^\w.,=+-]+', '_', self.label).strip('_')


Choices = tuple[str, list[tuple[str, Any]]]
"""A varied key, and its values with the name of each."""


def parse_seeds(numbers: Sequence[int]) -> list[int]:
    """The seeds of ``--seeds``: one number N means 0 to N - 1, several are the seeds themselves."""
    if len(numbers) == 1:
        if numbers[0] < 1:
            raise UserError(f'--seeds N must be 1 or more, got {numbers[0]}')
        return list(range(numbers[0]))
    if min(numbers) < 0 or len(set(numbers)) != len(numbers):
        raise UserError(f'--seeds must be different and not negative, got {list(numbers)}')
    return list(numbers)


def parse_vary(words: Sequence[str]) -> Choices:
    """The key and the values of ``--vary KEY=VALUE VALUE ...``.

    A value is read as by ``--cfg-options``; one in braces is a dict in YAML or JSON.

    Raises:
        UserError: If the first word is no ``KEY=VALUE`` or a value cannot be read.
    """
    key, equals, first = words[0].partition('=')
    if not key or not equals:
        raise UserError(f'--vary needs KEY=VALUE VALUE ..., got {" ".join(words)!r}')
    name = key.rpartition('.')[2]
    return key, [(f'{name}={text}', _parse_value(key, text)) for text in (first, *words[1:])]


def _parse_value(key: str, text: str) -> Any:
    if text.lstrip().startswith('{'):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(
                f'--vary {key}: {text!r} is no dict in YAML or JSON: {error}'
            ) from error
    parser = argparse.ArgumentParser()
    parser.add_argument('--value', nargs=1, action=DictAction)
    try:
        return parser.parse_args(['--value', f'value={text}']).value['value']
    except AssertionError as error:
        raise UserError(f'--vary {key}: {text!r} cannot be read: {error}') from error


def merging_choices(names: Sequence[str], cfg: Config) -> Choices:
    """``model.backbone.merging`` for the names of ``--mergings``.

    A name is that of a registered merging without its ending, e.g. ``stepwise``; three with commas
    between are those of the three transitions; ``hafa`` is short for
    ``deformable,deformable,cluster``, and ``own`` leaves the backbone's default. Batch norms are of
    the kind that the config has as ``norm_cfg``.
    """
    known = {name.removesuffix('Merging').lower(): cls for name, cls in registered(Merging).items()}
    norm_cfg = cfg.get('norm_cfg')

    def part(name: str) -> dict[str, Any]:
        if name not in known:
            raise UserError(
                f'--mergings has unknown name {name!r}: {suggest(name, ["own", "hafa", *known])}'
            )
        value = dict(type=f'{SCOPE}.{known[name].__name__}')
        if norm_cfg and 'norm_cfg' in known[name].__init__.__annotations__:
            value['norm_cfg'] = dict(type=norm_cfg['type'])
        return value

    def value(name: str) -> Any:
        if name == 'own':
            return NOT_SET
        parts = [
            part(one) for one in name.replace('hafa', 'deformable,deformable,cluster').split(',')
        ]
        return parts[0] if len(parts) == 1 else parts

    return 'model.backbone.merging', [(name, value(name)) for name in names]


def backbone_choices(names: Sequence[str], cfg: Config) -> Choices:
    """``model.backbone`` for the names of ``--backbones``, ``BACKBONE`` or ``BACKBONE/ARCH``.

    Drop path, outputs and freezing stay as in the config; merging and architecture are the new one's
    own, and weights are not loaded.
    """
    known = registered(HierarchicalBackbone)
    kept = {key: cfg.model.backbone[key] for key in KEPT if key in cfg.model.backbone}

    def value(name: str) -> dict[str, Any]:
        family, _, arch = name.partition('/')
        if family not in known:
            raise UserError(f'--backbones has unknown name {family!r}: {suggest(family, [*known])}')
        options = dict(kept)
        if options.get('out_type', 'featmap') not in known[family].out_types:
            options['out_type'] = 'avg_featmap'  # it has no class token
        return dict(type=f'{SCOPE}.{family}', **(dict(arch=arch) if arch else {}), **options)

    return 'model.backbone', [(name, value(name)) for name in names]


def make_grid(choices: Sequence[Choices]) -> list[Variant]:
    """All combinations; a later key may lie inside an earlier one (a merging inside a backbone).

    Raises:
        UserError: If a key comes twice, or two combinations have the same name.
    """
    keys = [key for key, _ in choices]
    if len(set(keys)) != len(keys):
        raise UserError(f'a key is varied twice: {", ".join(keys)}')
    variants = []
    for combination in itertools.product(*(values for _, values in choices)):
        label = ', '.join(name for name, _ in combination)
        options = dict(zip(keys, (value for _, value in combination), strict=True))
        variants.append(Variant(label, options))
    slugs = [variant.slug for variant in variants]
    twice = {slug for slug in slugs if slugs.count(slug) > 1}
    if twice:
        raise UserError(f'two columns of the comparison have the same name: {", ".join(twice)}')
    return variants


def cell_config(base: Config, variant: Variant, seed: int) -> Config:
    """The config of one cell: the base config with the variant's values and the seed.

    Where the backbone puts out other widths than that of the base config, ``in_channels`` of the neck
    or the heads follows.

    Raises:
        UserError: If a varied key has no place in the config, or the backbone cannot be built.
    """
    content = copy.deepcopy(base.to_dict())
    for key, value in variant.options.items():
        _set(content, key, copy.deepcopy(value))
    content.setdefault('randomness', {})['seed'] = seed
    if any(key.startswith('model.backbone') for key in variant.options):
        _follow_channels(
            content['model'], _out_channels(base), _out_channels(Config(content)), content
        )
    return Config(content)


def _set(content: Any, key: str, value: Any) -> None:
    *path, last = key.split('.')
    place, seen = content, []
    for name in path:
        place = _child(place, name, seen, key)
        seen.append(name)
    if isinstance(place, list):
        _child(place, last, seen, key)
        place[int(last)] = value
    elif not isinstance(place, dict):
        raise UserError(f'{key} cannot be varied: {".".join(seen)} is {place!r}')
    elif value == NOT_SET:
        place.pop(last, None)
    else:
        place[last] = value


def _child(place: Any, name: str, seen: Sequence[str], key: str) -> Any:
    if isinstance(place, list) and name.isdigit() and int(name) < len(place):
        return place[int(name)]
    if isinstance(place, dict) and name in place:
        return place[name]
    allowed = [*place] if isinstance(place, dict) else []
    if isinstance(place, list):
        allowed = [str(i) for i in range(len(place))]
    near = difflib.get_close_matches(name, allowed, 1)
    raise UserError(
        f'{key} cannot be varied: {".".join(seen) or "the config"} has no {name!r}'
        + (f'; did you mean {near[0]!r}?' if near else '')
    )


def _out_channels(cfg: Config) -> list[int] | None:
    """Channels of each output of the backbone; None where it puts out something else."""
    init_default_scope(cfg.get('default_scope', SCOPE))
    with torch.no_grad(), torch.device('meta'):
        try:
            backbone = MODELS.build(dict(cfg.model.backbone)).eval()
        except TypeError as error:
            raise UserError(f'model.backbone cannot be built: {error}') from error
        outs = backbone(torch.empty(1, 3, 224, 224))
    if not all(isinstance(out, torch.Tensor) for out in outs):
        return None
    return [out.shape[1] for out in outs]


def _follow_channels(
    model: dict, old: list[int] | None, new: list[int] | None, cfg: Mapping
) -> None:
    if old is None or new is None or old == new:
        return
    for part in _dicts({key: value for key, value in model.items() if key != 'backbone'}):
        given, index = part.get('in_channels'), part.get('in_index')
        if isinstance(given, list | tuple) and list(given) == old:
            part['in_channels'] = new
        elif isinstance(given, int) and isinstance(index, int) and given == old[index]:
            part['in_channels'] = new[index]
        elif given == old[-1] and cfg.get('default_scope') == 'mmpretrain':
            part['in_channels'] = new[-1]


def _dicts(content: Any) -> Iterator[dict]:
    if isinstance(content, dict):
        yield content
        content = content.values()
    elif not isinstance(content, list | tuple):
        return
    for value in content:
        yield from _dicts(value)


def differences(one: Mapping, other: Mapping, name: str = '') -> dict[str, tuple[Any, Any]]:
    """What two configs differ in: dotted keys to both values, :data:`NOT_SET` for none."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in dict.fromkeys((*one, *other)):
        path = f'{name}.{key}' if name else str(key)
        a, b = (content.get(key, NOT_SET) for content in (one, other))
        if _holds_dicts(a) and _holds_dicts(b) and len(a) == len(b):
            a, b = dict(enumerate(a)), dict(enumerate(b))
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found.update(differences(a, b, path))
        elif _plain(a) != _plain(b):
            found[path] = (a, b)
    return found


def _holds_dicts(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value)


def _plain(value: Any) -> str:
    """A form in which tuples and lists are equal, as they are to the frameworks."""
    return json.dumps(value, sort_keys=True, default=str)


def check_differences(variants: Sequence[Variant], configs: Sequence[Config]) -> list[dict]:
    """What every variant's config changes in the first one's.

    Raises:
        UserError: If two variants have the same config, or one differs in more than the varied keys
            and the channels that follow the backbone.
    """
    keys = {key for variant in variants for key in variant.options}
    changes = [differences(configs[0].to_dict(), cfg.to_dict()) for cfg in configs]
    for i, (variant, change) in enumerate(zip(variants, changes, strict=True)):
        for path in change:
            varied = any(path == key or path.startswith(f'{key}.') for key in keys)
            if not varied and not path.endswith('.in_channels'):
                raise UserError(f'{variant.label!r} differs in {path}, which is not varied')
        for j in range(i):
            if changes[j] == change:
                raise UserError(f'{variants[j].label!r} and {variant.label!r} are the same config')
    return changes
