"""Parameters and multiply-accumulates (MACs) of the model of a config, part by part, without data.

The model is built and run on PyTorch's ``meta`` device, which has shapes and no numbers: nothing is
computed, and fused attention is seen by the counter. One MAC is one multiplication with its addition,
which is what papers print as FLOPs. Convolutions and all matrix products count, those of attention
included; norms, activations and interpolation do not, as in every paper of the suite.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from spm_mm.attention import NeighborhoodAttention
from spm_mm.engine.channels import image_channels
from spm_mm.merging import GuidedLocalEnhancement
from spm_mm.reference import make_reference

__all__ = ['Complexity', 'build_on_meta', 'count_macs', 'default_shape', 'measure']

# What MMDetection's own counter lets into the heads of a two-stage detector: as many boxes as
# proposals are kept, and as many masks as detections.
BOXES, MASKS = 1000, 100
# Lists of modules whose entries are parts of their own.
LISTED = ('mergings', 'stages', 'norms')
# Where torch.nn keeps its layers; their common base is elsewhere.
LAYER_MODULES = tuple(
    f'torch.nn.modules.{name}' for name in ('linear', 'conv', 'batchnorm', 'normalization')
)
PRODUCTS = ('bmm', 'baddbmm', '_scaled_dot_product')
NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class Complexity:
    """Parameters and MACs by part, in the order of the network; MACs are those of one image.

    ``modules`` holds the same two of every module, by its name in the model, those inside it included.
    The other fields are what the counters of papers see differently, in all: ``products`` are the MACs
    of attention products and ``bare_params`` the parameters that no layer of ``torch.nn`` owns
    (position tables, tokens), which counters that go by layers miss; ``normed``, ``biased``,
    ``rectified``, ``bilinear`` and ``nearest`` are the elements that leave a norm, a convolution with a
    bias, a ReLU and the two interpolations, which some of them count; ``spread`` is what transposed
    convolutions cost more where they are counted at the size of their output.
    """

    params: dict[str, int]
    macs: dict[str, int]
    modules: dict[str, tuple[int, int]]
    products: int
    bare_params: int
    normed: int
    biased: int
    rectified: int
    bilinear: int
    nearest: int
    spread: int

    @property
    def total_params(self) -> int:
        return sum(self.params.values())

    @property
    def total_macs(self) -> int:
        return sum(self.macs.values())

    def of(self, pattern: str) -> tuple[int, int] | None:
        """Parameters and MACs of the modules that a name with wildcards fits; None if it fits none."""
        found: dict[str, tuple[int, int]] = {}
        for name, both in self.modules.items():  # outer modules before inner ones
            if fnmatchcase(name, pattern) and not any(name.startswith(f'{n}.') for n in found):
                found[name] = both
        return tuple(map(sum, zip(*found.values(), strict=True))) if found else None

    def split(self, name: str, depth: int = 2) -> dict[str, tuple[int, int]]:
        """Parameters and MACs of the parts of a module, by their names below it.

        Args:
            name: Name of the module in the model, e.g. ``'backbone.mergings.0'``.
            depth: How many levels of modules are looked into.

        Returns:
            Parts with parameters or MACs. What a module holds or computes beside its own parts, the
            products of an attention for instance, is ``'PART (own)'``, or ``'(own)'``.
        """
        parts: dict[str, tuple[int, int]] = {}
        for child in self._children(name):
            label = child[len(name) + 1 :]
            inner = self.split(child, depth - 1) if depth > 1 else {}
            for key, both in inner.items():
                parts[f'{label} {key}' if key == '(own)' else f'{label}.{key}'] = both
            if not inner and any(self._both(child)):
                parts[label] = self._both(child)
        own = [
            whole - sum(both[i] for both in parts.values())
            for i, whole in enumerate(self._both(name))
        ]
        if parts and any(own):
            parts['(own)'] = tuple(own)
        return parts

    def _children(self, name: str) -> list[str]:
        start = f'{name}.'
        return [k for k in self.modules if k.startswith(start) and '.' not in k[len(start) :]]

    def _both(self, name: str) -> tuple[int, int]:
        """Parameters and MACs of a module; a list of modules, which is not called, has its entries'."""
        params, macs = self.modules[name]
        return params, macs or sum(self._both(child)[1] for child in self._children(name))


def default_shape(cfg: Config) -> tuple[int, int]:
    """Height and width at which papers count a model: the crop of a classifier or a segmentor, and
    800 x 1280 for a detector.
    """
    if cfg.get('default_scope') == 'mmdet':
        return (800, 1280)
    if cfg.get('default_scope') == 'mmseg':
        return tuple(cfg.model.data_preprocessor.size)
    for step in cfg.get('test_pipeline', ()):
        if step['type'] in ('CenterCrop', 'Resize'):
            size = step.get('crop_size', step.get('scale'))
            return (size, size) if isinstance(size, int) else tuple(size)
    return (224, 224)


def build_on_meta(cfg: Config) -> nn.Module:
    """Build the model of a config of any framework in evaluation mode, without memory for weights."""
    init_default_scope(cfg.get('default_scope', 'spm_mm'))
    try:
        with torch.device('meta'):
            model = MODELS.build(cfg.model)
    except RuntimeError as error:
        if 'meta tensors' not in str(error):
            raise
        model = MODELS.build(cfg.model).to('meta')  # it reads numbers while it is built
    return model.eval().requires_grad_(False)


def measure(
    cfg: Config, shape: tuple[int, int] | None = None, as_published: bool = False
) -> Complexity:
    """Count the model of a config.

    The heads of a two-stage detector are counted as MMDetection's own tool does: 1000 boxes, 100
    masks. What runs in training alone (auxiliary heads) has parameters and no MACs.

    Args:
        cfg: Config of any of the three frameworks; it is not changed.
        shape: Height and width of the image; default :func:`default_shape`.
        as_published: Count the reference implementations (:mod:`spm_mm.reference`), which do the work
            of the official code that ours spares: SPM's queries, keys and values of every token.

    Raises:
        UserError: If a side of ``shape`` is too small for the backbone.
    """
    height, width = shape or default_shape(cfg)
    model = build_on_meta(cfg)
    names = {module: name for name, module in model.named_modules()}
    macs = dict.fromkeys(names, 0)
    elements = dict.fromkeys(('normed', 'biased', 'rectified', 'bilinear', 'nearest', 'spread'), 0)

    def interpolation(kind: str, *_: Any, out_shape: Any, **__: Any) -> int:
        elements[kind] += math.prod(out_shape)
        return 0

    formulas = {
        torch.ops.aten.upsample_bilinear2d: partial(interpolation, 'bilinear'),
        torch.ops.aten.upsample_nearest2d: partial(interpolation, 'nearest'),
        # By its overload, too, or the counter takes it apart.
        torch.ops.aten.upsample_nearest2d.vec: partial(interpolation, 'nearest'),
        torch.ops.aten.upsample_nearest2d.default: partial(interpolation, 'nearest'),
    }
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    started: dict[nn.Module, int] = {}

    def before(module: nn.Module, _: Any) -> None:
        started[module] = counter.get_total_flops()

    def after(module: nn.Module, inputs: Any, out: Any) -> None:
        macs[module] += (counter.get_total_flops() - started[module]) // 2
        if isinstance(module, NORMS):
            elements['normed'] += out.numel()
        elif isinstance(module, nn.ReLU):
            elements['rectified'] += out.numel()
        elif isinstance(module, nn.modules.conv._ConvNd):
            elements['biased'] += 0 if module.bias is None else out.numel()
            if module.transposed:
                cells = out.shape[2:].numel() - inputs[0].shape[2:].numel()
                elements['spread'] += len(out) * cells * module.weight.numel()

    watched = set(names)
    if as_published:
        make_reference(model)
    else:
        watched -= _count_as_defined(model)
    for module in watched:
        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)
    with torch.no_grad(), counter:
        _run(model, torch.empty(1, image_channels(model), height, width, device='meta'))
    by_operator = counter.get_flop_counts()['Global']
    products = sum(
        flops
        for operator, flops in by_operator.items()
        if operator.__name__.split('.')[0].startswith(PRODUCTS)
    )
    parts = dict(_parts(model))
    params = {name: _size(module) for name, module in parts.items()}
    part_macs = {name: macs[module] for name, module in parts.items()}
    total = _size(model)
    params['other'] = total - sum(params.values())
    part_macs['other'] = counter.get_total_flops() // 2 - sum(part_macs.values())
    if not params['other'] and not part_macs['other']:
        del params['other'], part_macs['other']
    owned = sum(
        parameter.numel()
        for module in names
        if any(base.__module__.startswith(LAYER_MODULES) for base in type(module).__mro__)
        for parameter in module.parameters(recurse=False)
    )
    return Complexity(
        params,
        part_macs,
        {name: (_size(m), macs[m]) for m, name in names.items() if name},
        products // 2,
        total - owned,
        **elements,
    )


def count_macs(model: nn.Module, *inputs: Any) -> int:
    """MACs of one pass of a model; build both it and the inputs on the ``meta`` device."""
    _count_as_defined(model)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(*inputs)
    return counter.get_total_flops() // 2


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The parts that are counted apart: those of the backbone one by one, then neck and heads."""
    for name, child in model.named_children():
        if name == 'data_preprocessor':
            continue
        if name != 'backbone':
            yield from _head_parts(name, child)
            continue
        for inner, part in child.named_children():
            if inner not in LISTED:
                yield inner, part
            else:
                for i, entry in enumerate(part):
                    yield f'{inner}.{i}', entry


def _head_parts(name: str, head: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """A head, or the heads inside the region head of a two-stage detector."""
    if hasattr(head, 'bbox_roi_extractor'):
        for inner in ('bbox_head', 'mask_head'):
            if getattr(head, inner, None) is not None:
                yield inner, getattr(head, inner)
    else:
        yield name, head


def _run(model: nn.Module, image: Tensor) -> None:
    """One forward pass as far as shapes alone decide it: no matching, no suppression of boxes."""
    features = image
    for name in ('backbone', 'neck'):
        if getattr(model, name, None) is not None:
            features = getattr(model, name)(features)
    for name in ('rpn_head', 'bbox_head', 'head'):
        if getattr(model, name, None) is not None:
            getattr(model, name)(features)
    if getattr(model, 'decode_head', None) is not None:
        F.interpolate(model.decode_head(features), size=image.shape[2:], mode='bilinear')
    region = getattr(model, 'roi_head', None)
    if region is None:
        return
    for head, extractor, count in (
        ('bbox_head', 'bbox_roi_extractor', BOXES),
        ('mask_head', 'mask_roi_extractor', MASKS),
    ):
        if getattr(region, head, None) is not None:
            extractor = getattr(region, extractor)
            side = extractor.roi_layers[0].output_size
            regions = features[0].new_empty(count, extractor.out_channels, *side)
            getattr(region, head)(regions)


def _count_as_defined(model: nn.Module) -> set[nn.Module]:
    """Let neighborhood attention run by its definition: its tiles also compute pairs that they mask.

    Returns:
        Modules that must not get a hook: SPM's absorbed attention reads their weights, and would call
        them instead.
    """
    for module in model.modules():
        if isinstance(module, NeighborhoodAttention):
            make_reference(module)
    return {
        m.qkv
        for m in model.modules()
        if isinstance(m, GuidedLocalEnhancement) and m.weighting is None
    }
