"""What is measured: our backbones, a part of one, and what stands beside them with equal weights."""

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn
from torch.nn import functional as F

from spm_mm.backbones import NAT, HierarchicalBackbone
from spm_mm.benchmark.frameworks import FRAMEWORK_FORMS, framework_twin
from spm_mm.errors import UserError
from spm_mm.merging import GuidedLocalEnhancement
from spm_mm.ops import dpc_knn, neighborhood_attention, neighborhood_attention_reference
from spm_mm.reference import make_reference
from spm_mm.registry import MODELS, SCOPE, registered, suggest

AGAINST = ('framework', 'reference', 'with_cp')


@dataclass(frozen=True)
class Subject:
    """One thing that is measured.

    ``make`` builds it; ``draw`` makes an input for a batch and a size in pixels. ``base`` is the
    name of the subject whose time and memory count as 1 (None: the first of all), and ``twin`` says
    that both have the same weights, so that their outputs must agree. The input of a ``part`` of a
    network gets a gradient, too.
    """

    name: str
    make: Callable[[], nn.Module]
    draw: Callable[[int, tuple[int, int]], Tensor]
    base: str | None = None
    twin: bool = False
    part: bool = False


def images(batch: int, size: tuple[int, int]) -> Tensor:
    return torch.randn(batch, 3, *size)


def subject_of(spec: str) -> Subject:
    """Read ``CONFIG[:MERGING]`` or ``BACKBONE[/ARCH][:MERGING]``, e.g. ``PVT/tiny:StepwiseMerging``.

    ``MERGING`` is one class for all transitions, or three with commas between.

    Raises:
        UserError: If there is no such config, backbone or architecture.
    """
    place, _, merging = spec.partition(':')
    if place.endswith('.py'):
        if not Path(place).is_file():
            raise UserError(f'config {place} does not exist')
        cfg = Config.fromfile(place)
        config = copy.deepcopy(dict(cfg.model.backbone))
        config.setdefault('_scope_', cfg.get('default_scope', SCOPE))
        config.pop('init_cfg', None)
        name = Path(place).stem
    else:
        name, _, arch = place.partition('/')
        known = registered(HierarchicalBackbone)
        if name not in known:
            raise UserError(
                f'{place} is neither a config nor a backbone: {suggest(name, list(known))}'
            )
        config = dict(type=f'{SCOPE}.{name}')
        if arch:
            known[name].resolve_arch(arch)
            config['arch'] = arch
        name = place
    if merging:
        types = (one if '.' in one else f'{SCOPE}.{one}' for one in merging.split(','))
        cfgs = [dict(type=one) for one in types]
        config['merging'] = cfgs if len(cfgs) > 1 else cfgs[0]
        name = f'{name}:{merging}'
    return Subject(name, lambda: MODELS.build(config), images)


def rivals_of(subject: Subject, against: str) -> list[Subject]:
    """The subject, and what it is to be set beside, both with the same weights.

    ``'reference'`` is the same network by :mod:`spm_mm.reference`, ``'with_cp'`` the two that recompute
    the activations of their MLPs or their whole blocks in the backward pass. ``'framework'`` is the
    framework's own class in its dense form: four feature maps, no class token and no norm that ours
    would have for a classifier.

    Raises:
        UserError: If ``against`` is ``'framework'`` and no framework has this backbone and merging.
    """
    if against in CHANGES:
        twins = (_twin(subject, *change) for change in CHANGES[against].items())
        return [dataclasses.replace(subject, base=subject.name), *twins]
    model = subject.make()
    name = type(model).__name__
    if name not in FRAMEWORK_FORMS:
        raise UserError(
            f'--against framework: no framework has {name}; allowed are'
            f' {", ".join(sorted(FRAMEWORK_FORMS))}'
        )
    form = FRAMEWORK_FORMS[name]

    def dense() -> nn.Module:
        return type(model)(model.arch, drop_path_rate=model.drop_path_rate)

    if not dense().state_dict().keys() <= model.state_dict().keys():
        raise UserError(
            f'--against framework: the framework has {name} with its own merging and attention alone'
        )
    ours = dataclasses.replace(subject, make=dense, base=subject.name)
    return [ours, _twin(ours, form.framework, lambda own: framework_twin(own, form))]


def _recompute(attribute: str) -> Callable[[nn.Module], nn.Module]:
    def change(model: nn.Module) -> nn.Module:
        for module in model.modules():
            if hasattr(module, attribute):
                setattr(module, attribute, True)
        return model

    return change


CHANGES = {
    'reference': {'reference': make_reference},
    'with_cp': {"with_cp 'mlp'": _recompute('recompute'), 'with_cp True': _recompute('with_cp')},
}


def _twin(subject: Subject, label: str, change: Callable[[nn.Module], nn.Module]) -> Subject:
    return dataclasses.replace(
        subject,
        name=f'{subject.name}, {label}',
        make=lambda: change(subject.make()),
        base=subject.name,
        twin=True,
    )


def gle_subjects() -> list[Subject]:
    """SPM's guided local enhancement at the three widths of PVT, and its reference implementation.

    Its map is that of an image of the size given.
    """
    subjects = []
    for channels, stride in ((128, 4), (320, 8), (512, 16)):

        def make(channels: int = channels) -> nn.Module:
            options: dict[str, Any] = dict(guide='conv', guide_kernel_size=7, num_heads=8)
            return GuidedLocalEnhancement(channels, norm_cfg={'type': 'BN'}, **options)

        def draw(
            batch: int, size: tuple[int, int], channels: int = channels, stride: int = stride
        ) -> Tensor:
            shape = (side // stride for side in size)
            return torch.randn(batch, *shape, channels)

        ours = Subject(f'GLE {channels}', make, draw, f'GLE {channels}', part=True)
        subjects += [ours, _twin(ours, 'reference', make_reference)]
    return subjects


class Clustering(nn.Module):
    """The clustering of HAFA's SIA alone: tokens (B, N, C) to a quarter as many clusters."""

    def forward(self, x: Tensor) -> Tensor:
        return dpc_knn(x, math.ceil(x.shape[1] / 4))


def clustering_subject() -> Subject:
    """HAFA's clustering alone, of the tokens that an image of the size given has after stage 3."""

    def draw(batch: int, size: tuple[int, int]) -> Tensor:
        return torch.randn(batch, math.prod(side // 16 for side in size), 512)

    return Subject('DPC-kNN', Clustering, draw, part=True)


class Neighborhood(nn.Module):
    """Neighborhood attention alone: queries, keys and values (B, H, W, 3, G, D) to (B, H, W, G, D).

    Under autocast they take its type, which they would have from the linear layer before.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(num_heads, 13, 13))
        self.attend: Callable[..., Tensor] = neighborhood_attention

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_meta and torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        return self.attend(*x.unbind(3), self.table)


def attend_whole_map(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    """Neighborhood attention as one fused product of all pairs, with a mask for those too far apart."""
    kernel = (table.shape[1] + 1) // 2
    near, selectors = [], []
    for length in q.shape[1:3]:
        key = torch.arange(length, device=q.device)
        first = (key[:, None] - kernel // 2).clamp(0, length - kernel)
        near.append((key >= first) & (key < first + kernel))
        shift = key - key[:, None] + kernel - 1
        shifts = torch.arange(table.shape[1], device=q.device)
        selectors.append((shift[..., None] == shifts).to(table.dtype))
    # By products, as in the operator itself: the backward pass of an index is slow.
    bias = torch.einsum('yis,gst,xjt->gyxij', selectors[0], table, selectors[1])
    bias = bias.masked_fill(~(near[0][:, None, :, None] & near[1][:, None]), float('-inf'))
    tokens = (t.flatten(1, 2).transpose(1, 2) for t in (q, k, v))
    # Of four dimensions, or PyTorch's fused kernel for the CPU does not take it.
    mask = bias.flatten(3).flatten(1, 2).to(q.dtype)[None]
    return F.scaled_dot_product_attention(*tokens, attn_mask=mask).transpose(1, 2).reshape(q.shape)


ROUTES = {'gathered': neighborhood_attention_reference, 'whole map': attend_whole_map}
LARGEST_WHOLE_MAP = 4096
"""Cells; the mask has the square of their number in every head."""


def neighborhood_subjects(sizes: Sequence[tuple[int, int]]) -> list[Subject]:
    """NAT-Mini's neighborhood attention alone, at the maps of its four stages, and other exact routes.

    These are its definition, which gathers the keys and values of every query, and one product over
    the whole map, where the largest of ``sizes`` has maps of at most :data:`LARGEST_WHOLE_MAP` cells.
    """

    def grid(size: tuple[int, int], stride: int) -> list[int]:
        return [max(7, math.ceil(side / stride)) for side in size]

    def draw(batch: int, size: tuple[int, int], stride: int, num_heads: int) -> Tensor:
        return torch.randn(batch, *grid(size, stride), 3, num_heads, 32)

    def change(module: nn.Module, route: Callable[..., Tensor]) -> nn.Module:
        module.attend = route
        return module

    subjects = []
    for i, num_heads in enumerate(NAT.arch_settings['mini']['num_heads']):
        name, stride = f'NA stage {i + 1}', 4 * 2**i
        ours = Subject(
            name,
            partial(Neighborhood, num_heads),
            partial(draw, stride=stride, num_heads=num_heads),
            name,
            part=True,
        )
        subjects.append(ours)
        cells = max(math.prod(grid(size, stride)) for size in sizes)
        for label, route in ROUTES.items():
            if label != 'whole map' or cells <= LARGEST_WHOLE_MAP:
                subjects.append(_twin(ours, label, partial(change, route=route)))
    return subjects
