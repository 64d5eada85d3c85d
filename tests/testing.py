"""Tiny models, and what every registered backbone and merging must do.

The tests run these checks over the registry: a new merging or backbone is tested by being there.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spm_mm.backbones import HierarchicalBackbone
from spm_mm.merging import Merging
from spm_mm.ops import TokenMap, as_map
from spm_mm.registry import MODELS, SCOPE, registered

SIZES = ((64, 64), (33, 47), (70, 97))
"""Image sizes of the checks: even, the odd one next to the smallest, and not square."""
BFLOAT16_BOUND = 0.03
"""Relative L2 distance of outputs in bfloat16 from float32 ones; 8 bits of a number are 0.004 of it."""
TINY_DEPTHS = {'SGFormer': (2, 2, 2, 1), 'SwinTransformer': (2, 1, 1, 2)}
"""Blocks per stage of the smallest model that has every kind of block, where one a stage is too few."""
STEM_SIDES = {'ShuntedStem': lambda side: (side + 1) // 4}
"""Output side of a stem that halves twice. Other stems round once, up or down."""


def backbones() -> list[str]:
    """Names of all registered backbones."""
    return list(registered(HierarchicalBackbone))


def mergings() -> list[str]:
    """Names of all registered mergings."""
    return list(registered(Merging))


def pairs() -> list[tuple[str, str]]:
    """Every backbone with every merging that it takes."""
    classes, kinds = registered(HierarchicalBackbone), registered(Merging)
    return [
        (backbone, merging)
        for backbone in classes
        for merging in kinds
        if kinds[merging].keeps_grid or classes[backbone].takes_tokens
    ]


def tiny_config(backbone: str, merging: str | None = None, **options: Any) -> dict[str, Any]:
    """Config of a small model of a family: 8 channels a head, depths as :data:`TINY_DEPTHS` says.

    Args:
        backbone: Name in the registry, without scope.
        merging: Name of the merging; None for the family's own.
        options: Further options of the backbone.
    """
    cls = registered(HierarchicalBackbone)[backbone]
    arch = dict(next(iter(cls.arch_settings.values())))
    arch['depths'] = TINY_DEPTHS.get(backbone, (1,) * len(arch['depths']))
    arch['embed_dims'] = tuple(8 * heads for heads in arch['num_heads'])
    config = dict(type=f'{SCOPE}.{backbone}', arch=arch, **options)
    if merging is not None:
        config['merging'] = dict(type=f'{SCOPE}.{merging}')
    return config


def build_tiny(backbone: str, merging: str | None = None, **options: Any) -> HierarchicalBackbone:
    """Build :func:`tiny_config`."""
    return MODELS.build(tiny_config(backbone, merging, **options))


def expected_sizes(model: HierarchicalBackbone, height: int, width: int) -> list[tuple[int, int]]:
    """Sizes of the maps of all stages, from what stem and mergings declare."""
    stem = model.stem
    out_side = STEM_SIDES.get(
        type(stem).__name__, lambda side: (side + 3 * int(stem.rounds_up)) // 4
    )
    sizes = [(out_side(height), out_side(width))]
    for merging in model.mergings:
        up = int(merging.rounds_up)
        sizes.append(tuple((side + up) // 2 for side in sizes[-1]))
    return sizes


def total(outputs: tuple[Tensor | TokenMap, ...]) -> Tensor:
    """A number that depends on every output differently, for gradients."""
    weights = torch.Generator().manual_seed(0)
    outputs = [out.x if isinstance(out, TokenMap) else out for out in outputs]
    return sum((out * torch.randn(out.shape, generator=weights)).sum() for out in outputs)


def check_shapes(model: HierarchicalBackbone) -> None:
    """Maps have the declared sizes and channels and are contiguous, at all of :data:`SIZES`."""
    model.eval()
    for size in SIZES:
        outs = model(torch.randn(2, model.in_channels, *size))
        sizes = expected_sizes(model, *size)
        for out, i in zip(outs, model.out_indices, strict=True):
            wanted = (2, model.arch['embed_dims'][i], *sizes[i])
            assert out.shape == wanted, f'stage {i} at {size}: {tuple(out.shape)}, not {wanted}'
            assert out.is_contiguous(), f'stage {i} at {size} is not in the plain layout'
            assert out.isfinite().all(), f'stage {i} at {size} is not finite'


def check_gradients(
    model: HierarchicalBackbone, mixed: bool = False, size: tuple[int, int] = (70, 97)
) -> None:
    """Image and every parameter get a gradient that is finite, so DDP finds none unused.

    Args:
        model: The backbone.
        mixed: Whether the forward pass runs in bfloat16 where autocast has it.
        size: Rows and columns of the image; large ones come alone, others in a batch of two.
    """
    model.train()
    batch = 1 if min(size) > 256 else 2
    image = torch.randn(batch, model.in_channels, *size, requires_grad=True)
    with torch.autocast('cpu', torch.bfloat16, enabled=mixed):
        outs = model(image)
    for out, i in zip(outs, model.out_indices, strict=True):
        if isinstance(out, TokenMap) or out.dim() < 4:
            continue
        wanted = expected_sizes(model, *size)[i]
        assert out.shape[2:] == wanted, f'stage {i} at {size}: {tuple(out.shape[2:])}, not {wanted}'
    total(outs).backward()
    assert image.grad.isfinite().all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f'{name} gets no gradient'
        assert parameter.grad.isfinite().all(), f'the gradient of {name} is not finite'


def check_bfloat16(model: HierarchicalBackbone) -> None:
    """Every output under autocast is within :data:`BFLOAT16_BOUND` of that in float32."""
    model.eval()
    x = torch.randn(2, model.in_channels, 64, 64)
    with torch.no_grad():
        exact = model(x)
        with torch.autocast('cpu', torch.bfloat16):
            mixed = model(x)
    for i, one, other in zip(model.out_indices, exact, mixed, strict=True):
        distance = float((other.float() - one).norm() / one.norm())
        assert distance <= BFLOAT16_BOUND, f'stage {i} in bfloat16 is off by {distance:.1e}'


def check_bfloat16_training(model: HierarchicalBackbone, steps: int = 200) -> None:
    """A classifier trains under autocast, on new images in each step, and stays finite."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    for step in range(steps):
        with torch.autocast('cpu', torch.bfloat16):
            (out,) = model(torch.randn(2, model.in_channels, 32, 32))
            loss = F.cross_entropy(out, torch.arange(2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert loss.isfinite(), f'the loss is {loss.item()} in step {step}'
    for name, value in model.state_dict().items():
        assert value.isfinite().all(), f'{name} is not finite after {steps} steps'


def check_checkpointing(config: dict[str, Any], with_cp: bool | str = True) -> None:
    """``with_cp`` changes neither outputs nor gradients, and saves memory.

    The stem is frozen: what the first block reads needs no gradient.
    """
    config = {**config, 'frozen_stages': 0}
    plain = MODELS.build(config)
    saving = MODELS.build({**config, 'with_cp': with_cp})
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, plain.in_channels, 64, 64)
    results, kept = [], []
    for model in (plain, saving):
        model.train()
        kept.append(_kept_numbers(model, x))
        result = total(model(x))
        result.backward()
        results.append([result, *(p.grad for p in model.parameters() if p.requires_grad)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)
    assert kept[1] < kept[0], f'with_cp={with_cp!r} keeps {kept[1]} numbers, without it {kept[0]}'


def _kept_numbers(model: nn.Module, x: Tensor) -> int:
    """Numbers that a forward pass keeps for the backward pass, without parameters and buffers."""
    model = copy.deepcopy(model)  # a pass in training changes running statistics
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = model(x)  # kept until the sum is taken: a graph that is gone keeps nothing
    total_kept = sum(kept.values())
    del outputs
    return total_kept


def check_build_twice(config: dict[str, Any]) -> None:
    """Building changes neither the config nor what is built the next time."""
    before = copy.deepcopy(config)
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(MODELS.build(config))
    assert config == before
    first, second = (model.state_dict() for model in models)
    assert list(first) == list(second)
    for name, value in first.items():
        assert torch.equal(value, second[name]), f'{name} differs'


def check_round_trip(config: dict[str, Any]) -> None:
    """A state dict loads strictly into a new model, which then puts out the same."""
    model, other = MODELS.build(config).eval(), MODELS.build(config).eval()
    other.load_state_dict(model.state_dict())
    x = torch.randn(1, model.in_channels, 64, 64)
    for one, two in zip(model(x), other(x), strict=True):
        assert torch.equal(one, two)


def check_compile(model: nn.Module) -> None:
    """The forward pass is one graph with dynamic sizes."""
    torch._dynamo.reset()
    model.eval()
    compiled = torch.compile(model, backend='eager', fullgraph=True, dynamic=True)
    with torch.no_grad():
        for size in ((64, 64), (70, 97)):
            x = torch.randn(2, 3, *size)
            for one, other in zip(compiled(x), model(x), strict=True):
                torch.testing.assert_close(one, other)


def check_merging(name: str) -> None:
    """A merging halves maps of any size as it declares, and keeps the map's layout."""
    for h, w in ((8, 8), (7, 5), (2, 3), (9, 4)):
        merging = MODELS.build(dict(type=f'{SCOPE}.{name}', in_channels=16, out_channels=24))
        x = torch.randn(2, h, w, 16, requires_grad=True)
        result = merging(x)
        assert isinstance(result, Tensor if merging.keeps_grid else TokenMap)
        out = as_map(result)
        up = int(merging.rounds_up)
        assert out.shape == (2, (h + up) // 2, (w + up) // 2, 24)
        assert out.is_contiguous()
        context = getattr(result, 'context', None)
        total((out,) if context is None else (out, context)).backward()
        assert x.grad.isfinite().all()
        for key, parameter in merging.named_parameters():
            assert parameter.grad is not None, f'{key} gets no gradient'
