"""Loading a checkpoint into a backbone: what may be missing, left out or of another size."""

import logging
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from mmengine.logging import print_log
from torch import Tensor

from spm_mm.compat import check_state_dict, load_weights, not_finite
from spm_mm.errors import UserError
from spm_mm.ops.adapt_weights import adapt_weights

if TYPE_CHECKING:
    from spm_mm.backbones.hierarchical import HierarchicalBackbone


def load_pretrained(backbone: 'HierarchicalBackbone', path: str, prefix: str = '') -> None:
    """Load the weights of a checkpoint and log what was left out and what starts anew.

    The checkpoint may have other mergings, or none, which is how SPM starts from plain weights: they
    start anew. It may also lack what only a classifier or only a dense model has. Layers that read the
    image and tables of positions adapt to other channels and sizes.

    Args:
        backbone: Backbone to fill.
        path: Checkpoint, see :func:`spm_mm.compat.load_weights`.
        prefix: Prefix of the backbone's keys in it, with or without the dot at its end.

    Raises:
        ValueError: If the checkpoint belongs to another model; nothing is loaded then.
    """
    name = type(backbone).__name__
    if prefix and not prefix.endswith('.'):
        prefix += '.'
    state_dict = load_weights(path)
    own = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
    if not own:
        raise UserError(
            f'checkpoint {path} has no key that starts with prefix={prefix!r}; its first keys are'
            f' {list(state_dict)[:3]}'
        )
    unused = split_unused(backbone, own)
    other = split_other_mergings(backbone, own)
    resized = split_resized(backbone, own)
    own, adapted = adapt_weights(backbone, own)
    try:
        missing = [key for key in check_state_dict(backbone, own, path) if key not in resized]
    except UserError as error:
        raise UserError(
            f'{error}; weights of other code go through tools/model_converters/convert.py first'
        ) from error
    optional = ('mergings.*', 'norms.*', *backbone.unused_keys)
    foreign = [key for key in missing if not _fits(key, optional)]
    if foreign:
        raise UserError(
            f'checkpoint {path} belongs to another model than this {name}: it lacks {len(foreign)}'
            f' entries, first {", ".join(foreign[:3])}'
        )
    backbone.load_state_dict(own, strict=False)
    print_log(f'{name}: loaded {path}', 'current')
    for note in adapted:
        print_log(f'{name}: {note}', 'current', logging.WARNING)
    for what, keys, level in (
        ('not used by this form of the model', unused, logging.INFO),
        ('of another kind of merging, so not used', other, logging.WARNING),
        ('of another size in the checkpoint, so new', resized, logging.WARNING),
        ('not in the checkpoint, so new', missing, logging.WARNING),
        ('holds NaN or infinity', not_finite(own), logging.WARNING),
    ):
        if keys:
            print_log(f'{name}: {what}: {", ".join(keys)}', 'current', level)


def split_unused(backbone: 'HierarchicalBackbone', state_dict: dict[str, Tensor]) -> list[str]:
    """Take out of ``state_dict`` what this form of the model leaves out on purpose.

    That is what matches ``unused_keys`` of the backbone, and the parts of stages after the last one
    that is built.

    Returns:
        The keys taken out.
    """
    built, total = backbone.num_stages, len(backbone.depths)
    late = [f'{part}.{i}.*' for part in backbone.staged_parts for i in range(built, total)]
    late += [f'mergings.{i}.*' for i in range(built - 1, total - 1)]
    own = backbone.state_dict().keys()
    return _take_out(
        state_dict, lambda key, _: key not in own and _fits(key, (*backbone.unused_keys, *late))
    )


def split_other_mergings(
    backbone: 'HierarchicalBackbone', state_dict: dict[str, Tensor]
) -> list[str]:
    """Take out of ``state_dict`` each merging that is not of the kind that the backbone has there.

    Returns:
        The keys taken out.
    """
    own = {key: value.shape for key, value in backbone.state_dict().items()}
    other = []
    for i in range(len(backbone.mergings)):
        start = f'mergings.{i}.'
        theirs = {key: v.shape for key, v in state_dict.items() if key.startswith(start)}
        if theirs != {key: shape for key, shape in own.items() if key.startswith(start)}:
            other += theirs
    return _take_out(state_dict, lambda key, _: key in other)


def split_resized(backbone: 'HierarchicalBackbone', state_dict: dict[str, Tensor]) -> list[str]:
    """Take out of ``state_dict`` those of ``reset_layers`` that have another size in the backbone.

    Returns:
        The keys taken out.
    """
    own, layers = backbone.state_dict(), set(backbone.reset_layers)
    return _take_out(
        state_dict,
        lambda key, value: (
            key in own and own[key].shape != value.shape and not layers.isdisjoint(key.split('.'))
        ),
    )


def _fits(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _take_out(state_dict: dict[str, Tensor], condition: Callable[[str, Tensor], bool]) -> list[str]:
    keys = [key for key, value in state_dict.items() if condition(key, value)]
    for key in keys:
        del state_dict[key]
    return keys
