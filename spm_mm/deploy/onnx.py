"""Graphs of a model: a file of ``torch.export``, or ONNX with an exact way round what it lacks."""

import contextlib
import json
import operator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from spm_mm.errors import UserError

__all__ = ['save_onnx', 'save_program', 'smallest_size', 'trace']

LARGEST_SIDE = 2**16
"""Pixels; a graph that allows less is not of all sizes."""

aten = torch.ops.aten


def trace(model: nn.Module, images: Tensor, dynamic: bool = False) -> ExportedProgram:
    """One graph of a model in evaluation mode.

    Args:
        model: Takes images (B, 3, H, W).
        images: An example. For dynamic sizes, a batch of two or more.
        dynamic: Whether batch, height and width may be others when the graph runs.

    Raises:
        UserError: If the model's graph depends on the size and ``dynamic`` is asked for.
    """
    if dynamic:
        for module in model.modules():
            if not getattr(module, 'exports_any_size', getattr(module, 'compilable', True)):
                raise UserError(
                    f'{type(module).__name__} takes no dynamic sizes: leave out --dynamic and name'
                    ' --size'
                )
    shapes = ({0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO},) if dynamic else None
    with torch.no_grad(), open_sizes() if dynamic else contextlib.nullcontext():
        program = torch.export.export(model, (images,), dynamic_shapes=shapes, strict=False)
    if dynamic:
        shape = input_shape(program)
        fixed = [
            name
            for i, name in ((0, 'batch'), (2, 'height'), (3, 'width'))
            if is_concrete_int(shape[i])
        ]
        if fixed:
            raise UserError(
                f'the graph of this model holds for one {" and one ".join(fixed)} alone: leave out'
                ' --dynamic and name --size'
            )
    return program


def open_sizes() -> contextlib.AbstractContextManager:
    """While it lasts, graphs are traced without own rules for sides of 0 and 1.

    Else a feature map of one window in the example would make a graph for one window alone.
    """
    from torch.fx.experimental import _config

    return _config.patch(backed_size_oblivious=True)


def input_shape(program: ExportedProgram) -> torch.Size:
    """Shape of the images, with symbols for what may be another when the graph runs."""
    (images,) = program.graph_signature.user_inputs
    (shape,) = (node.meta['val'].shape for node in program.graph.nodes if node.name == images)
    return shape


def smallest_size(program: ExportedProgram) -> tuple[int, int]:
    """Rows and columns of the smallest images that a graph takes: if not of all sizes, the only ones.

    Raises:
        UserError: If a graph of all sizes has a largest one, so that it is of few sizes in truth.
    """
    sides = []
    for side, name in zip(input_shape(program)[2:], ('height', 'width'), strict=True):
        if is_concrete_int(side):
            sides.append(int(side))
            continue
        allowed = program.range_constraints[side.node.expr]
        if allowed.upper < LARGEST_SIDE:
            raise UserError(
                f'the graph of this model holds for a {name} from {allowed.lower} to {allowed.upper}'
                ' alone: take an example of a larger --size'
            )
        sides.append(int(allowed.lower))
    return tuple(sides)


def save_program(program: ExportedProgram, path: Path) -> None:
    """Write a graph for ``torch.export.load``."""
    torch.export.save(program, path)


def save_onnx(
    program: ExportedProgram, path: Path, output_names: list[str], notes: dict[str, Any]
) -> None:
    """Write a graph as ONNX.

    Args:
        program: From :func:`trace`, with one input called ``images``.
        path: File to write.
        output_names: Names of the outputs.
        notes: Values to keep in the file's metadata, as JSON.

    Raises:
        UserError: If the package onnxscript, by which PyTorch writes ONNX, is not installed.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError('ONNX needs onnxscript: pip install "spm_mm[deploy]"') from error
    with open_sizes():
        program = program.run_decompositions(
            {aten.scaled_dot_product_attention.default: attention, aten.cdist.default: cdist}
        )
        written = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=['images'],
            output_names=output_names,
            custom_translation_table=translations(),
        )
    for key, value in notes.items():
        written.model.metadata_props[key] = json.dumps(value)
    written.save(str(path))


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention by plain products: PyTorch's own translation takes four dimensions alone.

    A query whose keys are all masked reads 0, as in PyTorch.
    """
    scores = query * (query.shape[-1] ** -0.5 if scale is None else scale) @ key.transpose(-2, -1)
    if attn_mask is None:
        return scores.softmax(dim=-1) @ value
    if attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, float('-inf'))
    else:
        scores = scores + attn_mask
    nothing = (scores == float('-inf')).all(dim=-1, keepdim=True)
    return scores.softmax(dim=-1).masked_fill(nothing, 0.0) @ value


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: int | None = None) -> Tensor:
    """Euclidean distances (B, N, M) by a product, as PyTorch computes those of many points."""
    if p != 2:
        raise UserError(f'cdist is exported for p=2 alone, got {p}')
    squares = x1.square().sum(dim=-1, keepdim=True) + x2.square().sum(dim=-1)[..., None, :]
    return (squares - 2 * (x1 @ x2.mT)).clamp(min=0).sqrt()


def translations() -> dict[Any, Any]:
    """How to write in ONNX what PyTorch's own table lacks, or writes for positive numbers alone."""
    from onnxscript import opset18 as op

    def sort(self: Any, stable: bool = False, dim: int = -1, descending: bool = False) -> Any:
        # TopK of all: of equal elements the first comes first, as in a stable sort.
        side = op.Gather(op.Shape(self), op.Constant(value_ints=[dim]))
        return op.TopK(self, side, axis=dim, largest=int(descending), sorted=1)

    def floor_divide(self: Any, other: Any) -> Any:
        # ONNX rounds integers towards zero, Python down: -(-7 // 2) is a size rounded up.
        return op.Div(op.Sub(self, op.Mod(self, other)), other)

    return {aten.sort.stable: sort, operator.floordiv: floor_divide}
