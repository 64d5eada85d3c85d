"""The registries of the scope ``spm_mm`` and the one helper that builds inner parts."""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import Registry

from spm_mm.errors import UserError
from spm_mm.renamed import OPTIONS, answer_for_old_names

SCOPE = 'spm_mm'

# The locations are imported at the first look-up, so a config needs no `custom_imports`.
MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope=SCOPE,
    locations=['spm_mm.merging', 'spm_mm.backbones', 'spm_mm.necks', 'spm_mm.heads'],
)
MODEL_WRAPPERS = Registry(
    'model_wrapper', parent=MMENGINE_MODEL_WRAPPERS, scope=SCOPE, locations=['spm_mm.engine']
)


HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope=SCOPE, locations=['spm_mm.engine'])
OPTIM_WRAPPERS = Registry(
    'optimizer wrapper', parent=MMENGINE_OPTIM_WRAPPERS, scope=SCOPE, locations=['spm_mm.engine']
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope=SCOPE,
    locations=['spm_mm.engine'],
)


def import_modules(package: str, namespace: dict[str, Any]) -> list[str]:
    """Import every module of a package and put its ``__all__`` into the package's namespace.

    A new merging or backbone is therefore one new file: nothing has to list it.

    Args:
        package: Name of the package, its ``__name__``.
        namespace: The package's ``globals()``.

    Returns:
        The public names, for the package's own ``__all__``.
    """
    names: list[str] = []
    for info in pkgutil.iter_modules(namespace['__path__']):
        module = importlib.import_module(f'{package}.{info.name}')
        answer_for_old_names(module.__name__, vars(module))
        for name in getattr(module, '__all__', ()):
            namespace[name] = getattr(module, name)
            names.append(name)
    answer_for_old_names(package, namespace)
    return sorted(names)


def registered(base: type) -> dict[str, type]:
    """Registered classes of this suite that derive from ``base``, by name, without ``base``."""
    MODELS.import_from_location()
    return {
        name: cls
        for name, cls in sorted(MODELS.module_dict.items())
        if inspect.isclass(cls) and issubclass(cls, base) and not inspect.isabstract(cls)
    }


def suggest(value: Any, allowed: list[str]) -> str:
    """Say what is allowed, and which of it comes nearest to ``value``."""
    near = difflib.get_close_matches(str(value), allowed, n=2, cutoff=0.4)
    hint = f'; did you mean {" or ".join(map(repr, near))}?' if near else ''
    return f'allowed are {", ".join(map(repr, allowed))}{hint}'


def build(cfg: Mapping, base: type, argument: str, **supplied: Any) -> Any:
    """Build an inner part of a model from its config.

    While a framework builds a model, mmengine looks bare type names up in the framework's registry.
    This helper adds the scope ``spm_mm`` where a type has none, so that ``merging=dict(type='Name')``
    means the same in every framework.

    Args:
        cfg: ``dict(type=..., **options)``; it is not changed.
        base: Class that the part must derive from.
        argument: What the part is called in the user's config, for error messages.
        supplied: Arguments that the caller decides, e.g. channels. The config may repeat them, but
            not contradict them.

    Raises:
        ValueError: If ``cfg`` is no dict with a ``type``, if the type is unknown or not a ``base``,
            if an option is unknown or contradicts what is supplied.
    """
    if not isinstance(cfg, Mapping) or 'type' not in cfg:
        raise UserError(f"{argument} must be a dict with the key 'type', got {cfg!r}")
    options = dict(cfg)
    kind = cls = options.pop('type')
    scope = options.pop('_scope_', SCOPE)
    if isinstance(kind, str):
        cls = MODELS.get(kind if '.' in kind else f'{scope}.{kind}')
    if not (inspect.isclass(cls) and issubclass(cls, base)):
        allowed = list(registered(base))
        bare = kind.removeprefix(f'{SCOPE}.') if isinstance(kind, str) else kind
        raise UserError(f'{argument} has unknown type {kind!r}: {suggest(bare, allowed)}')
    for name, value in supplied.items():
        if options.setdefault(name, value) != value:
            raise UserError(
                f'{argument} sets {name}={options[name]!r}, but the model around it needs'
                f' {value!r}; leave {name} out'
            )
    parameters = inspect.signature(cls).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    allowed = [name for name in parameters if name not in supplied]
    for name in options:
        if name not in parameters and not open_ended:
            instead = OPTIONS.get(f'{cls.__name__}.{name}') or suggest(name, allowed)
            raise UserError(f'{argument} has no option {name!r}: {instead}')
    return cls(**options)
