"""Whether an exported file computes what the model does, and how long both take."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from spm_mm.errors import UserError

__all__ = ['Difference', 'compare', 'graph_module', 'random_images', 'runner_of']

Runner = Callable[[Tensor], list[np.ndarray]]


@dataclass(frozen=True)
class Difference:
    """How far a file's outputs are from the model's.

    ``largest`` is the greatest difference of a number, relative to the greatest number of that output;
    for integers (classes) the share of those that differ. ``agreement`` is the share of positions whose
    highest score is of the same class; None where there are no classes. ``numbers`` is how many the
    first outputs have in all. Times are medians in seconds.
    """

    largest: float
    agreement: float | None
    model_seconds: float
    file_seconds: float
    numbers: int


def random_images(batch: int, size: tuple[int, int], raw: bool) -> Tensor:
    """Images (B, 3, H, W): RGB from 0 to 255 if ``raw``, else normally distributed."""
    generator = torch.Generator().manual_seed(0)
    shape = (batch, 3, *size)
    if raw:
        return torch.randint(0, 256, shape, generator=generator).float()
    return torch.randn(shape, generator=generator)


def runner_of(path: Path, threads: int | None = None) -> Runner:
    """Load an exported file: ``.onnx`` by ONNX Runtime, ``.pt2`` by ``torch.export``.

    Raises:
        UserError: If ONNX Runtime is not installed; when called, if the file does not take the images.
    """
    if path.suffix == '.pt2':
        program = graph_module(torch.export.load(path))

        def run(images: Tensor) -> list[np.ndarray]:
            with torch.no_grad():
                return [out.numpy() for out in program(images)]

        return run
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError('running ONNX needs onnxruntime: pip install "spm_mm[deploy]"') from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    name = session.get_inputs()[0].name

    def run_session(images: Tensor) -> list[np.ndarray]:
        try:
            return session.run(None, {name: images.numpy()})
        except Exception as error:  # the package's own kinds have no common public base
            what = str(error).splitlines()[0][:200]
            raise UserError(
                f'{path.name} does not run on images {tuple(images.shape)}: {what}'
            ) from error

    return run_session


def graph_module(program: ExportedProgram) -> nn.Module:
    """What runs a graph, also at sizes whose tensors lie otherwise in memory than the example's."""
    try:
        return program.module(check_guards=False)
    except TypeError:  # before PyTorch 2.9, which has no such checks
        return program.module()


def compare(
    model: Callable[[Tensor], Sequence[Tensor]],
    run: Runner,
    batches: Sequence[Tensor],
    has_classes: bool,
    has_boxes: bool = False,
    repeat: int = 3,
) -> Difference:
    """Run a model and its file on the same images.

    Args:
        model: The model.
        run: The file, see :func:`runner_of`.
        batches: Images.
        has_classes: Whether dimension 1 of the first output is one score for each class.
        has_boxes: Whether the outputs are boxes, scores and classes after non-maximum suppression, and
            what else belongs to each box. Boxes whose scores are equal but for rounding may have
            changed places, so each is compared with the nearest of its class. If two have the same
            nearest one, or the scores are not in order, the difference is infinite.
        repeat: Timed runs of each on the first batch, behind one that does not count.
    """
    largest, agreements, numbers = 0.0, [], 0
    for images in batches:
        with torch.no_grad():
            wanted = [out.numpy() for out in model(images)]
        found = run(images)
        numbers += wanted[0].size
        if has_boxes and len(found[0]) == len(wanted[0]) > 0:
            far = np.abs(wanted[0][:, None] - found[0]).sum(axis=2)
            far[wanted[2][:, None] != found[2]] = np.inf
            index = far.argmin(axis=1)
            if len(np.unique(index)) < len(index) or (np.diff(found[1]) > 0).any():
                largest = float('inf')
            found = [out[index] for out in found]
        for one, other in zip(found, wanted, strict=True):
            if one.shape != other.shape:
                raise UserError(f'the file puts out {one.shape}, the model {other.shape}')
            if not other.size:  # of no box
                continue
            if np.issubdtype(other.dtype, np.integer):
                difference = float((one != other).mean())
            else:
                top = max(float(np.abs(other).max()), 1e-12)
                difference = float(np.abs(one - other).max()) / top
            largest = max(largest, difference if difference == difference else float('inf'))
        if has_classes:
            agreements.append((found[0].argmax(1) == wanted[0].argmax(1)).mean())
    seconds = []
    for function in (model, run):
        times = []
        for _ in range(repeat + 1):
            start = time.perf_counter()
            with torch.no_grad():
                function(batches[0])
            times.append(time.perf_counter() - start)
        seconds.append(statistics.median(times[1:]))
    agreement = float(np.mean(agreements)) if agreements else None
    return Difference(largest, agreement, *seconds, numbers)
