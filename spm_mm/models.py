"""Models by name, for users who do not write configs."""

import inspect
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch

from spm_mm.backbones import HierarchicalBackbone
from spm_mm.compat import exists, is_folder, load_weights
from spm_mm.errors import UserError
from spm_mm.merging import Merging
from spm_mm.registry import SCOPE, build, registered, suggest
from spm_mm.weights import SCHEME, index_path, is_published, load_index, unknown_name

__all__ = ['create_model', 'list_models']


def list_models(pattern: str = '*', parameters: bool = False) -> list[str] | dict[str, int]:
    """List the names that :func:`create_model` takes.

    A name is that of the family's file in ``spm_mm/backbones`` and that of the architecture, with
    ``_`` for ``-``: ``'pvt_tiny'``, ``'pvt_v2_b2_li'``, ``'paca_vit_small_ec'``.

    Args:
        pattern: Shell pattern that names must match, such as ``'pvt*'``. Default: all.
        parameters: Whether to count the parameters of each model with its own merging, without a
            classifier's last layer.

    Returns:
        The names, families in alphabetical order, architectures from small to large. With
        ``parameters`` a dict from names to numbers of parameters.

    Example:
        >>> import spm_mm
        >>> spm_mm.list_models('swin*')
        ['swin_tiny', 'swin_small', 'swin_base', 'swin_large']
    """
    names = [name for name in _models() if fnmatchcase(name, pattern)]
    if not parameters:
        return names
    with torch.device('meta'):  # shapes without memory
        models = {name: create_model(name) for name in names}
    return {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}


def create_model(
    name: str,
    merging: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] | None = None,
    out_type: str = 'featmap',
    in_channels: int = 3,
    pretrained: str | PathLike | None = None,
    **kwargs: Any,
) -> HierarchicalBackbone:
    """Create a backbone by name.

    The model is built from a config, as in the frameworks: ``create_model('pvt_tiny')`` is
    ``MODELS.build(dict(type='spm_mm.PVT', arch='tiny'))``.

    Args:
        name: One of :func:`list_models`.
        merging: Patch merging between the stages. A name is that of the class without ``Merging``, in
            lower case: ``'conv'``, ``'swin'``, ``'stepwise'``, ``'deformable'``, ``'cluster'`` or
            ``'sgformer'``. A dict adds options: ``dict(type='stepwise', num_heads=4)``. A list has one
            entry for each transition. Default: the family's own.
        out_type: What the model returns: ``'featmap'``, ``'avg_featmap'``, and in some families
            ``'cls_token'`` or ``'tokens'``. See :class:`~spm_mm.backbones.HierarchicalBackbone`.
        in_channels: Channels of the image.
        pretrained: File, URL or name in ``configs/weights.yaml`` of weights for this model: of the
            backbone, or of a whole model that has it under ``backbone.``. Entries of a merging may be
            missing. They start anew, and the log names them.
        kwargs: Further options of the backbone, such as ``drop_path_rate`` or ``out_indices``.

    Returns:
        The backbone, in training mode. ``net.feature_info`` has the channels and the stride of each
        output.

    Raises:
        ValueError: If a name or option is unknown, or the weights do not fit.

    Example:
        >>> import spm_mm, torch
        >>> net = spm_mm.create_model('pvt_tiny', merging=['deformable', 'deformable', 'stepwise'])
        >>> [tuple(out.shape) for out in net(torch.zeros(1, 3, 64, 64))][-1]
        (1, 512, 2, 2)
    """
    models = _models()
    if name not in models:
        raise UserError(f'no model is called {name!r}: {suggest(name, list(models))}')
    family, arch = models[name]
    options = _options(family)
    for option in kwargs:
        if option not in options:
            raise UserError(f'{name} has no option {option!r}: {suggest(option, options)}')
    if pretrained is not None:
        if kwargs.get('init_cfg') is not None:
            raise UserError('pretrained and init_cfg both name weights: give one of them')
        kwargs['init_cfg'] = _pretrained_config(pretrained)
    config = dict(
        type=family,
        arch=arch,
        merging=_merging_config(merging),
        out_type=out_type,
        in_channels=in_channels,
        **kwargs,
    )
    model = build(config, HierarchicalBackbone, name)
    if pretrained is not None:
        model.init_weights()
    return model


def _models() -> dict[str, tuple[str, str]]:
    """The family's class, by its name in the registry, and the architecture of every model."""
    families = registered(HierarchicalBackbone).items()
    return {
        f'{cls.__module__.rpartition(".")[2]}_{arch}'.replace('-', '_'): (family, arch)
        for family, cls in sorted(families, key=lambda item: item[1].__module__)
        for arch in cls.arch_settings
    }


def _options(family: str) -> list[str]:
    """What the constructors of a family and of the classes it derives from take by name."""
    classes = registered(HierarchicalBackbone)[family].__mro__
    bases = classes[: classes.index(HierarchicalBackbone) + 1]
    return sorted(
        {
            parameter.name
            for base in bases
            for parameter in inspect.signature(base).parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        }
        - {'arch'}
    )


def _merging_config(merging: Any) -> Any:
    """Names of mergings to configs; what is neither is refused by the backbone."""
    if isinstance(merging, str):
        return _merging_config({'type': merging})
    if isinstance(merging, Mapping) and isinstance(kind := merging.get('type'), str):
        classes = registered(Merging)
        names = {name.removesuffix('Merging').lower(): name for name in classes}
        if kind not in names and kind.removeprefix(f'{SCOPE}.') not in classes:
            raise UserError(f'no merging is called {kind!r}: {suggest(kind, list(names))}')
        return {**merging, 'type': names.get(kind, kind)}
    return (
        [_merging_config(entry) for entry in merging]
        if isinstance(merging, list | tuple)
        else merging
    )


def _pretrained_config(pretrained: Any) -> dict[str, Any]:
    if not isinstance(pretrained, str | PathLike):
        raise UserError(
            'pretrained must be a file, a URL or a name in configs/weights.yaml, got'
            f' {pretrained!r}'
        )
    checkpoint = fspath(pretrained)
    if is_published(checkpoint):
        checkpoint = f'{SCHEME}{checkpoint}'
    elif '://' not in checkpoint and not (exists(Path(checkpoint)) or is_folder(Path(checkpoint))):
        raise UserError(
            f'pretrained: checkpoint {checkpoint} does not exist, and there are'
            f' {unknown_name(checkpoint, load_index() if index_path().is_file() else ())}'
        )
    whole = any(key.startswith('backbone.') for key in load_weights(checkpoint))
    return dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.' if whole else '')
