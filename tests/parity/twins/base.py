from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from spm_mm.backbones import HierarchicalBackbone
from spm_mm.backbones.loading import split_unused
from spm_mm.converters import Converter, get_converter
from spm_mm.converters.base import Classifier

Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class Twin:
    """Our counterpart of an official model or of a part of one."""

    module: nn.Module
    """Takes the converted state dict. A part has the name that it has in our whole model."""
    run: Callable[..., Outputs]
    """From the official inputs to the outputs, by the names that the fixtures use."""
    prefixes: Mapping[str, str] = field(default_factory=lambda: {'': ''})
    """How keys of the official part begin, to how they begin in the official whole model."""

    def full_key(self, key: str) -> str:
        """Name of a tensor of the official part in the official whole model."""
        start = next(start for start in self.prefixes if key.startswith(start))
        return self.prefixes[start] + key.removeprefix(start)


MakeTwin = Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], Twin]


@dataclass(frozen=True)
class OfficialCode:
    """An official code base: its fixtures and how to build our counterparts of its models."""

    converter: Converter
    families: Sequence[str]
    """Families of the fixtures that it covers."""
    fixtures: Sequence[str]
    """Names of the fixtures that must be there and agree."""
    make_twin: MakeTwin
    """From the name of a class or function in the official code, its settings and its weights. The
    twin does not hold the weights yet."""


OFFICIAL_CODE: dict[str, OfficialCode] = {}
"""All official code bases with fixtures, by the source of their converter."""


def official_code(
    source: str,
    families: Sequence[str],
    fixtures: Sequence[str],
    converter: Converter | None = None,
) -> Callable[[MakeTwin], MakeTwin]:
    """Register a function as :attr:`OfficialCode.make_twin`.

    Args:
        source: Name of the converter in :mod:`spm_mm.converters`.
        families: See :class:`OfficialCode`.
        fixtures: See :class:`OfficialCode`.
        converter: The converter, if it is not the one of ``source``.
    """

    def register(make_twin: MakeTwin) -> MakeTwin:
        used = converter or get_converter(source)
        OFFICIAL_CODE[source] = OfficialCode(used, families, fixtures, make_twin)
        return make_twin

    return register


def mount(parts: Mapping[str, nn.Module]) -> nn.Module:
    """A module that holds each part under its dotted name in our whole model."""
    whole = nn.Module()
    for name, part in parts.items():
        *path, last = name.split('.')
        place = whole
        for step in path:
            if not hasattr(place, step):
                place.add_module(step, nn.Module())
            place = getattr(place, step)
        place.add_module(last, part)
    return whole


def numbered_stages(maps: Sequence[Tensor]) -> Outputs:
    """Feature maps of the stages under the names that the fixtures use."""
    return {f'stage{i}': out for i, out in enumerate(maps, start=1)}


def to_nchw(maps: Mapping[str, Tensor]) -> Outputs:
    """Channels-last feature maps (B, H, W, C) as (B, C, H, W)."""
    return {name: out.permute(0, 3, 1, 2) for name, out in maps.items()}


def run_classifier(model: Classifier, dense: HierarchicalBackbone) -> Callable[[Tensor], Outputs]:
    """Return the logits of a classifier and the feature maps of a dense backbone with its weights."""

    def run(x: Tensor) -> Outputs:
        weights = model.backbone.state_dict()
        split_unused(dense, weights)
        dense.load_state_dict(weights)
        maps = dense.to(x).train(model.training)(x)
        return {'logits': model(x)} | numbered_stages(maps)

    return run
