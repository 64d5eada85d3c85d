import abc
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from spm_mm.backbones import HierarchicalBackbone
from spm_mm.compat import differ, not_finite
from spm_mm.errors import UserError
from spm_mm.registry import suggest

Rules = Sequence[tuple[str, Callable[[re.Match], str]]]
"""Patterns of whole keys, each with a function from the match to our name."""


def rename_by(rules: Rules, key: str) -> str | None:
    """Rename a key by the first rule that matches; None if no rule does."""
    for pattern, name in rules:
        if match := re.fullmatch(pattern, key):
            return name(match)
    return None


def count_blocks(state_dict: Mapping[str, Tensor], pattern: str) -> tuple[int, ...]:
    """Count the blocks of each of the four stages.

    Args:
        state_dict: The official weights.
        pattern: Pattern of the start of a block's keys, with the number of the block as the only
            group. ``{0}`` stands for the stage counted from 0, ``{1}`` for the stage counted from 1.
            Other braces are doubled.
    """
    patterns = [re.compile(pattern.format(i, i + 1)) for i in range(4)]
    return tuple(len({m[1] for key in state_dict if (m := p.match(key))}) for p in patterns)


def find_arch(
    family: type[HierarchicalBackbone],
    name: str,
    state_dict: Mapping[str, Tensor],
    pattern: str,
    fits: Callable[[Mapping[str, Any]], bool],
) -> str:
    """Find the architecture of a checkpoint by its number of blocks per stage.

    Args:
        family: The backbone whose architectures are searched.
        name: Name of the official models, for the error message.
        state_dict: The official weights.
        pattern: Pattern of the blocks, see :func:`count_blocks`.
        fits: Further condition on the settings of an architecture with these numbers of blocks.

    Raises:
        UserError: If no architecture fits.
    """
    depths = count_blocks(state_dict, pattern)
    for arch, settings in family.arch_settings.items():
        if settings['depths'] == depths and fits(settings):
            return arch
    raise UserError(
        f'this is no checkpoint of {name} {", ".join(family.arch_settings)}: its blocks per stage are'
        f' {depths}, or its widths or other parts are of no such model; its first keys are'
        f' {list(state_dict)[:3]}'
    )


@dataclass(frozen=True)
class Conversion:
    """An official state dict under our names, and a record of what happened to every key."""

    state_dict: dict[str, Tensor]
    names: dict[str, tuple[str, ...]]
    """Official key to our keys. There are several if the tensor was split."""
    reshaped: dict[str, tuple[str, ...]]
    """The part of :attr:`names` whose tensors were split or got another shape."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Official key without a counterpart in our model, to the reason."""
    unexpected: list[str] = field(default_factory=list)
    """Official keys that the converter does not know."""
    missing: list[str] = field(default_factory=list)
    """Our keys that the official state dict does not fill."""
    differing: dict[str, str] = field(default_factory=dict)
    """The part of :attr:`unexpected` that has a name here, and how it differs from our model's."""
    broken: list[str] = field(default_factory=list)
    """Our keys whose values are not all finite numbers."""
    notes: list[str] = field(default_factory=list)
    """What else is to be known of the result."""

    def report(self) -> str:
        """List every key that was not simply renamed."""
        lines = [
            f'{len(self.state_dict)} tensors written from {len(self.names)} official ones',
            *(f'reshaped: {key} -> {", ".join(ours)}' for key, ours in self.reshaped.items()),
            *(f'dropped: {key} ({reason})' for key, reason in self.dropped.items()),
            *(
                f'unexpected: {key}' + (f', {how}' if (how := self.differing.get(key)) else '')
                for key in self.unexpected
            ),
            *(f'missing: {key}' for key in self.missing),
            *(f'NaN or infinity: {key}' for key in self.broken),
            *self.notes,
        ]
        return '\n'.join(lines)


HEADS = ('head.weight', 'head.fc.weight', 'classifier.weight')
"""Names that the sources give to the weights of a classifier's last layer."""


def count_classes(state_dict: Mapping[str, Tensor]) -> int | None:
    """Count the classes of a classifier's weights; None if they have no classification layer."""
    return next((len(state_dict[key]) for key in HEADS if key in state_dict), None)


def vector_or_maps(state_dict: Mapping[str, Tensor]) -> str:
    """Choose the backbone's ``out_type``: a vector for a classifier, else the feature maps."""
    return 'featmap' if count_classes(state_dict) is None else 'avg_featmap'


class Classifier(nn.Module):
    """A backbone that returns a vector, and a linear layer, under the names that MMPretrain uses."""

    def __init__(self, backbone: nn.Module, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.ModuleDict({'fc': nn.Linear(in_channels, num_classes)})

    @classmethod
    def of(cls, backbone: HierarchicalBackbone, state_dict: Mapping[str, Tensor]) -> nn.Module:
        """Build it for the classes of the weights; only the backbone if they have no last layer."""
        classes = count_classes(state_dict)
        if classes is None:
            return nn.ModuleDict({'backbone': backbone})
        return cls(backbone, backbone.arch['embed_dims'][-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head['fc'](self.backbone(x)[-1])


class Converter(abc.ABC):
    """Map the names of one official code base to ours.

    A subclass registers itself under its :attr:`source`.
    """

    source: ClassVar[str]
    """Name of the source in ``tools/model_converters/convert.py``."""
    description: ClassVar[str]
    """Code base and models that it reads."""
    averaged: ClassVar[bool] = False
    """Whether the official evaluation uses the averaged weights of a file that has both kinds."""

    def __init_subclass__(cls) -> None:
        if 'source' in vars(cls):
            converters[cls.source] = cls()

    def doubt(self, clues: str, named: bool) -> str | None:
        """Reason to doubt that the weights belong to this source; None if there is none.

        Another network may have the same keys and shapes.

        Args:
            clues: What the file says about itself: its name, model type and settings.
            named: Whether the user named this source.
        """
        return None

    @abc.abstractmethod
    def rename(self, key: str) -> str | None:
        """Rename an official tensor; None if it is unknown.

        If one of our tensors consists of several official ones, these are named ``NAME#0``, ``NAME#1``
        and so on, in the order in which they are joined along the first dimension.
        """

    def reshape(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        """Turn an official tensor that was renamed to ``name`` into our tensors, by our names."""
        return {name: tensor}

    def dropped(self, key: str) -> str | None:
        """Reason why an official tensor has no counterpart; None if it has one.

        If a tensor was split and our model lacks a part, this method also gets our name of that part.
        """
        return None

    @abc.abstractmethod
    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        """Build our model for an official checkpoint, as its keys and shapes say.

        Raises:
            ValueError: If it is not a checkpoint of this source.
        """

    def convert(self, state_dict: Mapping[str, Tensor], module: nn.Module) -> Conversion:
        """Convert an official state dict for one of our modules.

        A single key raises no error. The result reports every key that is missing, unexpected, dropped
        or reshaped.
        """
        ours: dict[str, Tensor] = {}
        names, reshaped, dropped, unexpected, differing, notes = {}, {}, {}, [], {}, []
        own = module.state_dict()
        kept = {}
        for key in state_dict:
            if reason := self.dropped(key):
                dropped[key] = reason
            else:
                kept[key] = self.rename(key)
        for keys, name, tensor in _join(kept, state_dict):
            tensors = {} if name is None else self.reshape(name, tensor)
            left_out = {
                new: reason for new in tensors if new not in own and (reason := self.dropped(new))
            }
            dropped.update({f'{keys[0]} -> {new}': reason for new, reason in left_out.items()})
            if left_out and len(left_out) == len(tensors):
                continue
            for new in left_out:
                del tensors[new]
            different = [
                f'{new} {how}'
                for new, value in tensors.items()
                if new in own
                and not _reads_image(new, value, own[new])
                and (how := differ(value, own[new]))
            ]
            if not tensors or different or not tensors.keys() <= own.keys():
                unexpected.extend(keys)
                if different:
                    differing.update(dict.fromkeys(keys, '; '.join(different)))
                continue
            notes += [
                f'{new} reads {value.shape[1]} channels: build the model with that in_channels'
                for new, value in tensors.items()
                if value.shape != own[new].shape
            ]
            names.update(dict.fromkeys(keys, tuple(tensors)))
            changed = tensors[next(iter(tensors))].shape != state_dict[keys[0]].shape
            if len(tensors) > 1 or changed:
                reshaped.update(dict.fromkeys(keys, tuple(tensors)))
            ours.update(tensors)
        missing = [name for name in own if name not in ours]
        return Conversion(
            ours, names, reshaped, dropped, unexpected, missing, differing, not_finite(ours), notes
        )


def _reads_image(name: str, value: Tensor, own: Tensor) -> bool:
    """Whether it is our stem's first layer but for the channels of the image."""
    return (
        name.startswith('backbone.stem.')
        and value.is_floating_point()
        and value.ndim == own.ndim == 4
        and own.shape[1] == 3
        and value.shape[::2] == own.shape[::2]
        and value.shape[3] == own.shape[3]
    )


def _join(
    names: Mapping[str, str | None], state_dict: Mapping[str, Tensor]
) -> Iterator[tuple[list[str], str | None, Tensor]]:
    """Yield official keys, our name and the tensor; pieces of one of our tensors are joined."""
    pieces: dict[str, dict[int, str]] = {}
    for key, name in names.items():
        whole, _, place = (name or '').partition('#')
        if place:
            pieces.setdefault(whole, {})[int(place)] = key
        else:
            yield [key], name, state_dict[key]
    for name, places in pieces.items():
        keys = [places[place] for place in sorted(places)]
        yield keys, name, torch.cat([state_dict[key] for key in keys])


converters: dict[str, Converter] = {}
"""All converters by source."""


def get_converter(source: str) -> Converter:
    """Return the converter of a source.

    Raises:
        ValueError: If there is none.
    """
    if source not in converters:
        raise UserError(f'no converter for source {source!r}: {suggest(source, [*converters])}')
    return converters[source]
