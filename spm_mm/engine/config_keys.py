"""The key of a config that an error is about, found in the traceback afterwards."""

import inspect
import re
import traceback
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from types import FrameType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import Registry
from mmengine.runner import BaseLoop, Runner

from spm_mm.registry import suggest

__all__ = ['allowed_by', 'frames_of', 'key_of', 'keys_of']

READ = ('data_root', 'ann_file')
# Methods of mmengine's Runner, and the key that each of them reads; {} is train, val or test.
READERS = {
    'setup_env': 'env_cfg',
    'set_randomness': 'randomness',
    'build_logger': 'log_level',
    'build_log_processor': 'log_processor',
    'build_visualizer': 'visualizer',
    'build_model': 'model',
    'wrap_model': 'model_wrapper_cfg',
    'register_default_hooks': 'default_hooks',
    'register_custom_hooks': 'custom_hooks',
    'build_optim_wrapper': 'optim_wrapper',
    'build_param_scheduler': 'param_scheduler',
    '_check_scheduler_cfg': 'param_scheduler',
    'scale_lr': 'auto_scale_lr',
    'load_or_resume': 'load_from',
    'build_dataloader': '{}_dataloader',
    'build_evaluator': '{}_evaluator',
    'build_train_loop': 'train_cfg',
    'build_val_loop': 'val_cfg',
    'build_test_loop': 'test_cfg',
}
RUNNER = tuple(inspect.signature(Runner).parameters)
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Dicts in which each key is a dict of its own, and lists of dicts.
PARTS = (
    *((loader, part) for loader in LOADERS for part in ('dataset', 'sampler')),
    ('optim_wrapper', 'optimizer'),
)
LISTS = ('custom_hooks', 'param_scheduler', 'val_evaluator', 'test_evaluator')
PLAIN = (str, int, float, list)


def frames_of(error: BaseException) -> list[FrameType]:
    """Frames of an error, the innermost first."""
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)][::-1]


def key_of(error: BaseException, cfg: Config) -> str | None:
    """The key of the part that was being built; None if none was.

    Args:
        error: What building or running a Runner raised.
        cfg: The run's config.
    """
    frames = frames_of(error)
    for frame in frames:
        built = frame.f_locals.get('cfg')
        if frame.f_code.co_name == 'build_from_cfg' and isinstance(built, Mapping):
            read = _read_key(error) or ''
            fitting = {
                key: sum(name in built and built[name] == value for name, value in part.items())
                for key, part in _parts(cfg._cfg_dict)
                if part['type'] == built.get('type')
            }
            # Variables of the config are in it, too, beside the keys that the Runner reads.
            known = tuple(k for k in RUNNER if k.startswith(read))
            fitting = {key: n for key, n in fitting.items() if key.startswith(known)} or fitting
            kind = f'{read} (type={built.get("type")!r})'.strip()
            key = max(fitting, key=fitting.get) if fitting else kind
            files = [f'{name}={built[name]}' for name in READ if built.get(name)]
            return f'{key} ({", ".join(files)})' if files else key
    return None


def keys_of(error: BaseException, cfg: Config) -> list[str]:
    """Where no part was being built: the key that was read or run, and keys that do not fit."""
    unfit = [*_unfit(cfg)]
    key = _read_key(error) or _run_key(frames_of(error)[0], cfg)
    return unfit if key is None or any(u.startswith(key) for u in unfit) else [key, *unfit]


def allowed_by(error: BaseException) -> str | None:
    """The keys that a class takes, or the registered names next to one that is not there."""
    building = next((f for f in frames_of(error) if f.f_code.co_name == 'build_from_cfg'), None)
    key = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if building is None:
        return None
    cls, args = building.f_locals.get('obj_cls'), building.f_locals.get('args', {})
    if inspect.isclass(cls) and key and key[1] in args:
        return suggest(key[1], list(_arguments(cls)))
    if cls is None and 'obj_type' in building.f_locals:
        registry = building.f_locals['registry']
        near = get_close_matches(str(building.f_locals['obj_type']), [*_names(registry)], n=2)
        return f'did you mean {" or ".join(map(repr, near))}?' if near else None
    return None


def _arguments(cls: type) -> Iterator[str]:
    """The arguments of a class, also those that it hands on to the next by ``**kwargs``."""
    for owner in inspect.getmro(cls):
        if '__init__' not in vars(owner):
            continue
        parameters = [*inspect.signature(owner.__init__).parameters.values()][1:]
        yield from (
            p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        )
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return


def _names(registry: Registry) -> Iterator[str]:
    """What a registry finds: its own names and its parents', and those of others with their scope."""
    root = registry
    while root.parent is not None:
        yield from root.module_dict
        root = root.parent
    yield from root.module_dict
    for scope, child in root.children.items():
        yield from (f'{scope}.{name}' for name in child.module_dict)


def _read_key(error: BaseException) -> str | None:
    """The key that the Runner was reading."""
    names = [frame.f_code.co_name for frame in frames_of(error)]
    # A method that is called with wrong arguments has no frame.
    names[:0] = re.findall(r'(\w+)\(\)', str(error))
    if frames_of(error)[0].f_code.co_name == 'build_runner_from_cfg':
        return 'runner_type'
    key = next((READERS[name] for name in names if name in READERS), None)
    phases = (p for name in names for p in ('train', 'val', 'test') if name == f'build_{p}_loop')
    return key and key.format(next(phases, 'train'))


def _run_key(frame: FrameType, cfg: Config) -> str | None:
    """The key of a loop or a hook that has failed itself."""
    owner = frame.f_locals.get('self')
    if isinstance(owner, BaseLoop):
        kind = type(owner).__name__
        return next((f'{p}_cfg' for p in ('val', 'test') if p in kind.lower()), 'train_cfg')
    if isinstance(owner, Hook):
        kind = type(owner).__name__
        parts = (k for k, part in _parts(cfg._cfg_dict) if str(part['type']).endswith(kind))
        return next(parts, kind)
    return None


def _parts(config: Any, key: str = '') -> Iterator[tuple[str, Mapping]]:
    """Every dict with a type inside a config, and its dotted key."""
    entries = (
        config.items()
        if isinstance(config, Mapping)
        else enumerate(config)
        if isinstance(config, list | tuple)
        else ()
    )
    if isinstance(config, Mapping) and 'type' in config:
        yield key, config
    for name, value in entries:
        yield from _parts(value, f'{key}.{name}' if key else str(name))


def _unfit(cfg: Config) -> Iterator[str]:
    """Keys whose values are of other types than mmengine says that it takes.

    Some of these it takes all the same: this explains an error, and refuses nothing.
    """
    for key, hint in get_type_hints(Runner.__init__).items():
        kinds = _kinds(hint)
        if key in cfg and key != 'cfg' and not isinstance(cfg[key], kinds):
            names = ', '.join('None' if k is type(None) else k.__name__ for k in kinds)
            yield f'{key} is of type {type(cfg[key]).__name__} (allowed: {names})'
    for key, name in PARTS:
        owner = cfg.get(key)
        if not isinstance(owner, Mapping):
            continue
        if isinstance(owner.get(name), PLAIN):
            yield f'{key}.{name} is of type {type(owner[name]).__name__} (allowed: dict)'
        elif owner.get(name) is None and 'constructor' not in owner:
            yield f'{key}.{name} is missing'
    for key in LISTS:
        for i, entry in enumerate(cfg[key] if isinstance(cfg.get(key), list) else ()):
            if isinstance(entry, PLAIN):
                yield f'{key}.{i} is of type {type(entry).__name__} (allowed: dict)'


def _kinds(hint: Any) -> tuple[type, ...]:
    """The classes that a type hint allows."""
    if get_origin(hint) in (Union, UnionType):
        return tuple(dict.fromkeys(kind for part in get_args(hint) for kind in _kinds(part)))
    return (get_origin(hint) or hint,)
