"""Small models for the tests of this folder: every backbone, and every merging in one of them."""

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spm_mm.backbones import HierarchicalBackbone
from spm_mm.merging import Merging
from spm_mm.ops import TokenMap
from spm_mm.registry import MODELS, registered
from tests import testing

TOLERANCE = dict(rtol=1e-4, atol=1e-5)
"""Of outputs and gradients in float32 that are computed in another order."""


@dataclass(frozen=True)
class Subject:
    """A small model: a backbone, an architecture whose kind it has, a merging, further options."""

    backbone: str
    arch: str
    merging: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = (f'{name}={value}' for name, value in self.options.items())
        return '-'.join(part for part in (self.backbone, self.arch, self.merging, *options) if part)

    def config(self, **options: Any) -> dict[str, Any]:
        """The model's config, with options of the backbone; :attr:`options` go to a merging if any."""
        config = testing.tiny_config(self.backbone, self.merging, **options)
        (config if self.merging is None else config['merging']).update(self.options)
        kind = registered(HierarchicalBackbone)[self.backbone].arch_settings[self.arch]
        sizes = ('depths', 'embed_dims', 'num_heads')
        config['arch'] |= {key: value for key, value in kind.items() if key not in sizes}
        return config

    def build(self, **options: Any) -> HierarchicalBackbone:
        """A model in evaluation mode whose every weight matters."""
        torch.manual_seed(0)
        return shaken(MODELS.build(self.config(**options))).eval()


def kinds(backbone: str) -> list[str]:
    """The first architecture of each kind: those that differ in more than sizes."""
    found: dict[tuple, str] = {}
    for name, arch in registered(HierarchicalBackbone)[backbone].arch_settings.items():
        kind = tuple(
            any(value)
            if isinstance(value, tuple)
            else value
            if isinstance(value, str)
            else bool(value)
            for value in arch.values()
        )
        found.setdefault(kind, name)
    return list(found.values())


def with_mergings() -> Iterator[Subject]:
    """Every merging in PVT, and those that leave the grid in every backbone that takes them."""
    classes = registered(Merging)
    for backbone, merging in testing.pairs():
        if backbone == 'PVT' or not classes[merging].keeps_grid:
            yield Subject(backbone, kinds(backbone)[0], merging)


SUBJECTS = [
    *(Subject(name, arch) for name in testing.backbones() for arch in kinds(name)),
    *with_mergings(),
]
"""What is registered; a new backbone or merging is here by being there."""
VARIANTS = [
    Subject('PVT', 'tiny', options=dict(out_type='cls_token')),
    Subject('PaCaViT', 'tiny', options=dict(clustering='mlp')),
    Subject('PVT', 'tiny', 'StepwiseMerging', dict(guide='gap')),
    Subject('PVT', 'tiny', 'StepwiseMerging', dict(guide='cls_token')),
    Subject('PVT', 'tiny', 'StepwiseMerging', dict(paper_equations=True)),
    Subject('PVT', 'tiny', 'ClusterMerging', dict(context='dense')),
    Subject('PVT', 'tiny', 'ClusterMerging', dict(context='clusters')),
]
"""Options that bring other layers, for tests of what is done to layers."""

each_subject = pytest.mark.parametrize('subject', SUBJECTS, ids=str)
each_variant = pytest.mark.parametrize('subject', SUBJECTS + VARIANTS, ids=str)


def shaken(model: nn.Module) -> nn.Module:
    """Move weights and running statistics away from 0 and 1, where mistakes do not show."""
    with torch.no_grad():
        for module in model.modules():
            for parameter in module.parameters(recurse=False):
                parameter += 0.05 * torch.randn_like(parameter)
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(std=0.2)
                module.running_var.uniform_(0.5, 1.5)
    return model


def image(batch: int = 2, channels: int = 3, size: tuple[int, int] = (64, 64)) -> Tensor:
    """The same image at every call."""
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(1))


def tensors(outputs: Iterable[Tensor | TokenMap]) -> list[Tensor]:
    """What leaves a backbone, as plain tensors."""
    return [out.x if isinstance(out, TokenMap) else out for out in outputs]


def loss(outputs: Iterable[Tensor | TokenMap]) -> Tensor:
    """A number that depends on every output differently, and on each not linearly."""
    return sum((out.sin() * (i + 1)).mean() for i, out in enumerate(tensors(outputs)))


def assert_same(one: Iterable[Tensor], other: Iterable[Tensor], what: str = 'output') -> None:
    for i, (a, b) in enumerate(zip(one, other, strict=True)):
        torch.testing.assert_close(a, b, **TOLERANCE, msg=lambda text, i=i: f'{what} {i}: {text}')


def distance(one: Iterable[Tensor], other: Iterable[Tensor]) -> float:
    """Largest relative L2 distance between two models' outputs."""
    pairs = zip(one, other, strict=True)
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


def replaced(model: nn.Module, kind: type, make: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """A copy of a model with every module of a kind replaced, as libraries do: by ``isinstance``."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kind):
                setattr(parent, name, make(child))
    return model


def declared(model: nn.Module, flag: str) -> set[str]:
    """What the modules of a model declare in a class attribute, all together.

    Flags are those of :class:`~spm_mm.merging.Merging`, which any module may have:
    ``discontinuous = True`` and ``unsupported_transforms = ('vmap', ...)``.
    """
    values = (getattr(module, flag, ()) for module in model.modules())
    return {entry for value in values for entry in ((flag,) if value is True else value or ())}


def linears(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """Names and modules of all linear layers."""
    return ((n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear))


def linear_patterns(model: nn.Module) -> list[str]:
    """Last parts of the linear layers' names, as they are chosen by in LoRA: ``'qkv'``, ``'fc1'``.

    A number, of a layer in a list, is given with the list's name.
    """
    patterns = set()
    for name, _ in linears(model):
        *rest, last = name.split('.')
        patterns.add(f'{rest[-1]}.{last}' if last.isdigit() else last)
    return sorted(patterns)
