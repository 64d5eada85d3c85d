"""What a pass must cost on a GPU that is not here: kernels, bytes and multiply-accumulates.

A pass runs on PyTorch's fake tensors, which have shapes, types and strides but no numbers, by the rules
of CUDA where they are others: fused attention, and what autocast keeps in float32. Every operator that
it calls is written down. This is a model of the cost, and these are its rules.

- A view and an allocation are no kernel. Every other operator is one, but for those of
  :data:`KERNELS` and a convolution's backward pass, which is one kernel for each gradient.
- A kernel reads every operand once and writes every result once; what is broadcast is read at the
  size that it has in memory. Caches, the workspace of libraries and padding are left out.
- Attention is fused: one kernel forward, one backward, in the type of the autocast. No matrix of
  weights is written.
- Multiply-accumulates are those of matrix products, convolutions and attention, in the type of their
  operands. Depth-wise convolutions run at the rate of plain arithmetic, all others at that of the
  matrix units.
- ``fused`` is what a compiler makes of the same operators: a pointwise operator, a reduction or a copy
  joins the kernel that made its newest operand, if that one is no matrix product, convolution or
  attention and runs over as many elements, and all other operands were there before that kernel. A
  kernel then reads what others wrote, and writes what others read. Nothing is computed twice to save
  memory, which compilers also do.

Three times follow: bytes over bandwidth, operations over rate, kernels times :attr:`Card.launch_us`.
The largest binds: the pass cannot be much faster. The time of a kernel that runs far below both rates,
such as a sort, a scatter or a small product, is what the sheet does not see.
"""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import init_default_scope
from rich.box import MARKDOWN, SIMPLE
from rich.table import Table
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

from spm_mm.errors import UserError
from spm_mm.registry import suggest

__all__ = ['CARDS', 'Card', 'Cost', 'build_dense', 'cost_of', 'read_card', 'tabulate_costs']

aten = torch.ops.aten
VARIANTS = ('float32', 'bfloat16')
KERNELS = {
    aten.native_layer_norm_backward: 2,
    aten.native_batch_norm: 2,
    aten.native_batch_norm_backward: 2,
    aten.native_group_norm_backward: 2,
}
"""Operators that are more than one kernel."""
ALLOCATIONS = (
    aten.empty,
    aten.empty_like,
    aten.empty_strided,
    aten.new_empty,
    aten.new_empty_strided,
    aten._unsafe_view,
    aten._reshape_alias,
    aten.lift_fresh,
)
FUSIBLE = (
    *(aten.sum, aten.mean, aten.amax, aten.amin, aten.max, aten.min, aten.var, aten.var_mean),
    *(aten.argmax, aten.argmin, aten._softmax, aten._softmax_backward_data, aten._safe_softmax),
    *(aten._log_softmax, aten._log_softmax_backward_data, aten.linalg_vector_norm),
    *(aten.native_layer_norm, aten.native_layer_norm_backward, aten.native_group_norm),
    *(aten.native_batch_norm, aten.native_batch_norm_backward, aten.cudnn_batch_norm),
    *(aten.cudnn_batch_norm_backward, aten._native_batch_norm_legit),
    *(aten._batch_norm_with_update, aten.batch_norm_backward),
    *(aten._to_copy, aten.clone, aten.copy_, aten.cat, aten.stack, aten.constant_pad_nd),
    *(aten.fill_, aten.zero_, aten.zeros, aten.ones, aten.zeros_like, aten.ones_like, aten.full),
    *(aten.new_zeros, aten.new_ones, aten.new_full, aten.full_like, aten.arange),
    *(aten.slice_backward, aten.select_backward),
    *(aten.roll, aten.repeat, aten.index_select, aten.gather, aten.bernoulli_),
)
"""Operators that a compiler fuses, beside those that PyTorch tags as pointwise."""

IN_FLOAT32 = {
    *(F.layer_norm, F.group_norm, F.normalize, F.softmax, torch.softmax, Tensor.softmax),
    *(F.log_softmax, torch.log_softmax, Tensor.log_softmax, torch.exp, Tensor.exp, torch.pow),
    *(Tensor.pow, Tensor.__pow__, torch.sum, Tensor.sum, torch.cumsum, Tensor.cumsum, torch.prod),
    *(torch.norm, Tensor.norm, torch.cdist, F.cross_entropy, F.softplus, torch.rsqrt, Tensor.rsqrt),
}
"""Functions that autocast runs in float32 on CUDA and not on the CPU."""
WRITTEN_ALONE = (
    *(aten.copy_, aten.fill_, aten.zero_, aten.bernoulli_, aten.new_zeros, aten.new_ones),
    *(aten.new_full, aten.zeros_like, aten.ones_like, aten.full_like, aten.rand_like),
)
"""Operators that do not read their first operand."""


@dataclass(frozen=True)
class Card:
    """Rates of a card: bytes/s, operations/s (two for a multiply-accumulate), launches in us.

    ``matrix_flops`` names a rate for each of ``'float32'`` and ``'bfloat16'``; ``vector_flops`` is
    that of plain arithmetic in float32. ``launch_us`` is what the CPU needs to launch one kernel of an
    eager program.
    """

    name: str
    bytes_per_second: float
    matrix_flops: dict[str, float]
    vector_flops: float
    launch_us: float = 5.0


CARDS = {
    # From the vendor's data sheets: SXM modules, dense products, float32 without TensorFloat-32.
    'a100': Card('A100 80GB', 2.04e12, {'float32': 19.5e12, 'bfloat16': 312e12}, 19.5e12),
    'h100': Card('H100 80GB', 3.35e12, {'float32': 67e12, 'bfloat16': 989e12}, 67e12),
    'h200': Card('H200 141GB', 4.8e12, {'float32': 67e12, 'bfloat16': 989e12}, 67e12),
}


def read_card(name: str) -> Card:
    """A card of :data:`CARDS`, or of a JSON file with the fields of :class:`Card`.

    Raises:
        UserError: If there is no such card or file, or a field is missing or unknown.
    """
    if name in CARDS:
        return CARDS[name]
    path = Path(name)
    if not path.is_file():
        raise UserError(
            f'--cost-sheet {name} is neither a card nor a file: {suggest(name, list(CARDS))}'
        )
    try:
        card = Card(**json.loads(path.read_text()))
        rates = [card.bytes_per_second, card.vector_flops, *map(card.matrix_flops.get, VARIANTS)]
        good = all(rate > 0 for rate in rates) and card.launch_us >= 0
    except (TypeError, AttributeError, ValueError):
        good = False
    if not good:
        raise UserError(
            f'{path} must hold a JSON object with {", ".join(f.name for f in fields(Card))}, rates'
            f' above 0, and matrix_flops for {" and ".join(VARIANTS)}'
        )
    return card


@dataclass
class Kernel:
    """Operators that run together; ``reads`` and ``writes`` are bytes by storage."""

    name: str
    size: int
    fusible: bool
    launches: int = 1
    macs: int = 0
    vector: bool = False
    dtype: torch.dtype = torch.float32
    reads: dict[int, int] = field(default_factory=dict)
    writes: dict[int, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(self.reads.values()) + sum(self.writes.values())


@dataclass(frozen=True)
class Cost:
    """What one pass costs. ``operators`` counts kernels and bytes by the operator's name."""

    kernels: int
    bytes: int
    macs: int
    vector_macs: int
    half_macs: int
    operators: dict[str, tuple[int, int]]

    def floors(self, card: Card) -> dict[str, float]:
        """Seconds that the pass takes at least: by bytes, by operations and by launches."""
        full = self.macs - self.half_macs - self.vector_macs
        operations = 2 * (
            self.half_macs / card.matrix_flops['bfloat16']
            + full / card.matrix_flops['float32']
            + self.vector_macs / card.vector_flops
        )
        return {
            'bytes': self.bytes / card.bytes_per_second,
            'operations': operations,
            'launches': 1e-6 * card.launch_us * self.kernels,
        }


def cost_of(
    make: Callable[[], nn.Module],
    shape: Sequence[int],
    mode: str = 'training',
    variant: str = 'bfloat16',
) -> dict[str, Cost]:
    """Cost of one pass of a model, ``'eager'`` and ``'fused'``.

    Args:
        make: Builds the model, on the CPU.
        shape: Shape of the images (B, 3, H, W).
        mode: ``'training'`` is forward and backward from a gradient on every output,
            ``'inference'`` a pass without gradients.
        variant: ``'float32'``, or ``'bfloat16'`` for autocast.

    Raises:
        UserError: If the model asks for a number of a tensor, which a fake one has not.
    """
    model = make()
    model.train(mode == 'training')  # MMPretrain's backbones return nothing here
    with FakeTensorMode():
        to_fake(model)
        images = torch.empty(*shape)
        recorder = Recorder()
        autocast = torch.autocast('cpu', torch.bfloat16, variant == 'bfloat16')
        try:
            with CudaRules(), autocast, recorder:
                if mode == 'training':
                    outputs = [t for t in tensors(model(images)) if t.requires_grad]
                    torch.autograd.backward(outputs, [torch.empty_like(out) for out in outputs])
                    kept = [p.grad for p in model.parameters() if p.grad is not None]
                else:
                    with torch.no_grad():
                        kept = list(tensors(model(images)))
        except DataDependentOutputException as error:
            raise UserError(f'this model asks for numbers of a tensor: {error}') from error
        ends = {storage_of(t) for t in kept}
        return {
            'eager': summarize(recorder.kernels),
            'fused': summarize(fuse(recorder.kernels, ends)),
        }


def tensors(outputs: Any) -> Iterator[Tensor]:
    """All tensors of what a model puts out, also those inside other objects."""
    for leaf in tree_leaves(outputs):
        if isinstance(leaf, Tensor):
            yield leaf
        elif hasattr(leaf, '__dict__'):
            yield from (value for value in vars(leaf).values() if isinstance(value, Tensor))


def to_fake(model: nn.Module) -> None:
    """Put fake tensors of the same shapes in the place of parameters and buffers."""
    replaced: dict[int, Tensor] = {}

    def twin(t: Tensor) -> Tensor:
        if id(t) not in replaced:
            new = torch.empty_strided(t.shape, t.stride(), dtype=t.dtype)
            if isinstance(t, nn.Parameter):
                new = nn.Parameter(new, t.requires_grad)
            replaced[id(t)] = new
        return replaced[id(t)]

    for module in model.modules():
        for entries in (module._parameters, module._buffers):
            for name, value in entries.items():
                if value is not None:
                    entries[name] = twin(value)


class CudaRules(TorchFunctionMode):
    """What CUDA does otherwise than the CPU: attention in one operator, more of autocast in float32."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return attend(*args, **kwargs)
        if torch.is_autocast_enabled('cpu') and func in IN_FLOAT32:
            args, kwargs = tree_map_only(Tensor, in_float32, (args, kwargs))
        return func(*args, **kwargs)


def in_float32(t: Tensor) -> Tensor:
    return t.float() if t.is_floating_point() else t


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_: Any,
) -> Tensor:
    """Attention by the fused operator of CUDA that takes a mask."""
    if torch.is_autocast_enabled('cpu'):
        dtype = torch.get_autocast_dtype('cpu')
        query, key, value = (t.to(dtype) for t in (query, key, value))
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            zeros = torch.zeros_like(attn_mask, dtype=query.dtype)
            attn_mask = zeros.masked_fill(~attn_mask, float('-inf'))
        attn_mask = attn_mask.to(query.dtype).expand(*query.shape[:-1], key.shape[-2])
    return aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, query.requires_grad, dropout_p, is_causal, scale=scale
    )[0]


def storage_of(t: Tensor) -> int:
    return t.untyped_storage()._cdata


def bytes_of(t: Tensor) -> int:
    """Bytes that a tensor has in memory; what is expanded counts once."""
    sides = [size for size, stride in zip(t.shape, t.stride(), strict=True) if stride or size == 0]
    return math.prod(sides) * t.element_size()


class Recorder(TorchDispatchMode):
    """Writes down every kernel of the operators that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[Kernel] = []
        self.alive: list[torch.UntypedStorage] = []
        """Else the name of one that is freed is given anew. Tensors must die: autograd copies a
        gradient that somebody else holds."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        results = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        self.alive += [t.untyped_storage() for t in results]
        packet = func._overloadpacket
        if func.namespace != 'prim' and not func.is_view and packet not in ALLOCATIONS and results:
            operands = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
            self.kernels += self.record(func, packet, args, kwargs, operands, results, out)
        return out

    def record(self, func, packet, args, kwargs, operands, results, out) -> Iterator[Kernel]:
        sizes = [t.numel() for t in (*operands, *results)]
        name = str(packet).removeprefix('aten.')
        if packet is aten.convolution_backward:
            grad, image, weight = args[:3]
            groups, mask = args[9:11]
            reads = ((grad, weight), (grad, image), (grad,))
            products = grad.numel() * math.prod(weight.shape[1:])
            for i, result in enumerate(out):
                if mask[i]:
                    yield Kernel(
                        name, max(sizes), False, 1, 0 if i == 2 else products,
                        is_depthwise(image, groups), grad.dtype, gather(reads[i]), gather([result]),
                    )  # fmt: skip
            return
        macs = 0
        if packet is aten.convolution:
            macs = out.numel() * math.prod(args[1].shape[1:])
        elif packet in flop_registry:
            macs = flop_registry[packet](*args, **kwargs, out_val=out) // 2
        if packet in WRITTEN_ALONE:
            operands = operands[1:]
        yield Kernel(
            name,
            max(sizes),
            torch.Tag.pointwise in func.tags or packet in FUSIBLE,
            KERNELS.get(packet, 1),
            macs,
            packet is aten.convolution and is_depthwise(args[0], args[8]),
            results[0].dtype,
            gather(operands),
            gather(results),
        )


def is_depthwise(image: Tensor, groups: int) -> bool:
    return groups > 1 and groups == image.shape[1]


def gather(found: Sequence[Tensor]) -> dict[int, int]:
    """Bytes of tensors by storage. Parts of one add up, and a part that is there twice counts once."""
    parts = {(storage_of(t), t.storage_offset(), t.shape, t.stride()): t for t in found}
    total: dict[int, int] = {}
    for t in parts.values():
        key = storage_of(t)
        total[key] = min(total.get(key, 0) + bytes_of(t), t.untyped_storage().nbytes())
    return total


def fuse(kernels: Sequence[Kernel], ends: set[int]) -> list[Kernel]:
    """Join kernels by the rule at the top of this file; ``ends`` are storages that are kept."""
    fused: list[Kernel] = []
    maker: dict[int, int] = {}
    readers: dict[int, set[int]] = {}
    for kernel in kernels:
        newest = max((maker[key] for key in kernel.reads if key in maker), default=None)
        target = None if newest is None else fused[newest]
        if not (target and target.fusible and kernel.fusible and target.size == kernel.size):
            target = dataclasses.replace(kernel, reads={}, writes={})
            newest = len(fused)
            fused.append(target)
        else:
            target.launches = max(target.launches, kernel.launches)
            target.name += f' {kernel.name}'
        for key, size in kernel.reads.items():
            readers.setdefault(key, set()).add(newest)
            if maker.get(key) != newest:
                target.reads[key] = max(size, target.reads.get(key, 0))
        target.writes.update(kernel.writes)
        maker.update(dict.fromkeys(kernel.writes, newest))
    for i, kernel in enumerate(fused):
        kernel.writes = {
            key: size
            for key, size in kernel.writes.items()
            if key in ends or readers.get(key, set()) - {i}
        }
    return fused


def summarize(kernels: Sequence[Kernel]) -> Cost:
    launches, moved = Counter(), Counter()
    for kernel in kernels:
        launches[kernel.name] += kernel.launches
        moved[kernel.name] += kernel.bytes
    macs, vector, half = (
        sum(k.macs for k in kernels if counts(k))
        for counts in (
            lambda _: True,
            lambda k: k.vector,
            lambda k: not k.vector and k.dtype in (torch.bfloat16, torch.float16),
        )
    )
    operators = {name: (launches[name], moved[name]) for name, _ in moved.most_common()}
    return Cost(launches.total(), moved.total(), macs, vector, half, operators)


class DenseParts(nn.Module):
    """Backbone, neck and dense heads of a framework's model, as far as shapes alone decide.

    What needs real numbers stays out: losses, and the second stage of a detector behind its sampler.

    Shape: images (B, 3, H, W) to all that the heads put out.
    """

    HEADS = ('rpn_head', 'bbox_head', 'head', 'decode_head', 'auxiliary_head')

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone = model.backbone
        neck = getattr(model, 'neck', None)
        self.neck = nn.Identity() if neck is None else neck
        heads = (getattr(model, name, None) for name in self.HEADS)
        listed = ([*h] if isinstance(h, nn.ModuleList) else [h] for h in heads if h is not None)
        self.heads = nn.ModuleList(head for part in listed for head in part)

    def forward(self, images: Tensor) -> Any:
        features = self.neck(self.backbone(images))
        return [head(features) for head in self.heads] or features


def build_dense(path: str) -> DenseParts:
    """:class:`DenseParts` of the model of a config.

    Raises:
        UserError: If there is no such config.
    """
    if not Path(path).is_file():
        raise UserError(f'config {path} does not exist')
    cfg = Config.fromfile(path)
    init_default_scope(cfg.get('default_scope', 'spm_mm'))
    return DenseParts(MMENGINE_MODELS.build(cfg.model))


def tabulate_costs(
    costs: Sequence[tuple[str, str, str, dict[str, Cost]]], card: Card, markdown: bool = False
) -> Table:
    """One line for each subject, pass, type and form: what it costs, and the floors in ms."""
    table = Table(
        *('subject', 'pass', 'type', 'form', 'kernels', 'GB', 'GMACs'),
        *('bytes, ms', 'operations, ms', 'launches, ms', 'binds'),
        box=MARKDOWN if markdown else SIMPLE,
        caption=f'{card.name}: a model of the cost, not a measurement',
    )
    for subject, mode, variant, forms in costs:
        for form, cost in forms.items():
            floors = cost.floors(card)
            table.add_row(
                *(subject, mode, variant, form, str(cost.kernels), f'{cost.bytes / 1e9:.1f}'),
                f'{cost.macs / 1e9:.0f}',
                *(f'{1e3 * seconds:.2f}' for seconds in floors.values()),
                max(floors, key=floors.get),
            )
    return table
