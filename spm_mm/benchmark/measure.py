"""Passes in alternation, and what they cost.

A round runs every subject twice in a row and times the second run, in an order that turns round from
one round to the next, so that a machine that gets slower or faster does so for all. Ratios are taken
inside the rounds, too: their spread says how far a ratio can be trusted on a machine that is not quiet.

Memory is the peak of what one pass allocates from PyTorch: activations, gradients and the
operators' own buffers, without weights and input, which are there before. On a GPU that is
PyTorch's own statistic. On a CPU it is the running sum of all that PyTorch's allocator gives and
takes back, as its profiler records it, in a pass of its own. The size of the process would say
less: it holds what the C library keeps, it only grows, and it cannot tell two subjects apart in one
process. What libraries such as oneDNN allocate by themselves, packed weights for instance, is not
in it.
"""

import contextlib
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from spm_mm.benchmark.subjects import Subject
from spm_mm.engine.complexity import count_macs

MODES = ('inference', 'training')
VARIANTS = ('float32', 'bfloat16', 'compiled')
SIZES = ((224, 224), (512, 512), (800, 1333))
CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}


@dataclass(frozen=True)
class Plan:
    """What is measured of every subject.

    ``sizes`` are pixels (H, W); ``variants`` are float32, autocast to bfloat16, and float32 by
    ``torch.compile`` for that very size; a ``repeat`` of 0 counts multiply-accumulates alone.
    ``clock`` is ``'wall'``, or ``'cpu'`` for the time that the process really ran, which a busy
    machine disturbs less (CPU, one thread). ``kernels`` is how many of the costliest operators to
    name.
    """

    sizes: Sequence[tuple[int, int]] = SIZES
    batches: Sequence[int] = (1,)
    modes: Sequence[str] = MODES
    variants: Sequence[str] = ('float32',)
    repeat: int = 9
    clock: str = 'wall'
    device: str = 'cpu'
    memory: bool = True
    kernels: int = 0


@dataclass
class Measurement:
    """One row. Seconds are those of all rounds; ``ratios`` and ``memory_ratio`` are to the base."""

    subject: str
    size: tuple[int, int]
    batch: int
    mode: str
    variant: str
    macs: int
    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    memory_ratio: float | None = None
    kernels: list[tuple[str, float]] = field(default_factory=list)

    @property
    def median(self) -> float | None:
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def images_per_second(self) -> float | None:
        return self.batch / self.median if self.seconds else None


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """First and third quartile."""
    if len(values) < 2:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method='inclusive')
    return first, third


def build_all(subjects: Sequence[Subject]) -> dict[str, nn.Module]:
    """Build every subject from the same random numbers, so that twins have equal weights."""
    models = {}
    for subject in subjects:
        torch.manual_seed(0)
        models[subject.name] = subject.make()
    return models


def measure_all(
    subjects: Sequence[Subject], models: dict[str, nn.Module], plan: Plan
) -> list[Measurement]:
    """Measure every subject at every size, batch, mode and variant of the plan."""
    macs = {}
    for subject in subjects:
        abstract = copy.deepcopy(models[subject.name]).to('meta')
        abstract.eval()  # MMPretrain's backbones return nothing here
        for size in plan.sizes:
            with torch.device('meta'):
                macs[subject.name, size] = count_macs(abstract, subject.draw(1, size))
    models = {name: model.to(plan.device) for name, model in models.items()}
    results = []
    for variant in plan.variants:
        for size in plan.sizes:
            for batch in plan.batches:
                for mode in plan.modes:
                    rows = [
                        Measurement(s.name, size, batch, mode, variant, macs[s.name, size])
                        for s in subjects
                    ]
                    if plan.repeat:
                        _measure_rows(subjects, models, rows, plan)
                    results += rows
    return results


def _measure_rows(
    subjects: Sequence[Subject], models: dict, rows: Sequence[Measurement], plan: Plan
) -> None:
    first = rows[0]
    passes = []
    torch._dynamo.reset()
    for subject in subjects:
        torch.manual_seed(0)
        inputs = subject.draw(first.batch, first.size).to(plan.device)
        inputs.requires_grad_(subject.part and first.mode == 'training')
        model = models[subject.name]
        model.train(first.mode == 'training')
        if first.variant == 'compiled':
            model = torch.compile(model, dynamic=False)
        passes.append(make_pass(model, inputs, first.mode, first.variant, plan.device))
    for row, seconds in zip(rows, alternate(passes, plan), strict=True):
        row.seconds = seconds
    for row, run in zip(rows, passes, strict=True):
        row.peak_bytes = peak_memory(run, plan.device) if plan.memory else None
        row.kernels = costliest_operators(run, plan.kernels, plan.device) if plan.kernels else []
    by_name = {row.subject: row for row in rows}
    for subject, row in zip(subjects, rows, strict=True):
        base = by_name[subject.base or subjects[0].name]
        row.ratios = [a / b for a, b in zip(row.seconds, base.seconds, strict=True)]
        if row.peak_bytes and base.peak_bytes:
            row.memory_ratio = row.peak_bytes / base.peak_bytes


def make_pass(
    model: nn.Module, inputs: Tensor, mode: str, variant: str, device: str
) -> Callable[[], None]:
    """One pass: forward without gradients, or forward and backward, without an optimizer's step."""

    def cast() -> contextlib.AbstractContextManager:
        return torch.autocast(torch.device(device).type, torch.bfloat16, variant == 'bfloat16')

    def inference() -> None:
        with torch.no_grad(), cast():
            model(inputs)

    gradients: list[Tensor] = []

    def training() -> None:
        model.zero_grad(set_to_none=True)
        inputs.grad = None
        with cast():
            outs = model(inputs)
        outs = [outs] if isinstance(outs, Tensor) else list(outs)
        if not gradients:  # in a round that does not count
            gradients.extend(map(torch.randn_like, outs))
        torch.autograd.backward(outs, gradients)

    return inference if mode == 'inference' else training


def alternate(passes: Sequence[Callable[[], None]], plan: Plan) -> list[list[float]]:
    """Seconds of every pass in every round, each right behind one of its own that does not count.

    That one finds caches, and what the C library keeps of freed memory, as another subject left them;
    the one that counts, as in a loop over one model.
    """
    seconds: list[list[float]] = [[] for _ in passes]
    clock = CLOCKS[plan.clock]
    for round_ in range(-1, plan.repeat):
        order = range(len(passes))
        for i in order if round_ % 2 else reversed(order):
            passes[i]()
            _synchronize(plan.device)
            start = clock()
            passes[i]()
            _synchronize(plan.device)
            if round_ >= 0:
                seconds[i].append(clock() - start)
    return seconds


def peak_memory(run: Callable[[], None], device: str) -> int:
    """Bytes at the peak of one pass, beyond what is allocated before; see the top of this file."""
    if device != 'cpu':
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    events = recorded.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == '[memory]']
    now = peak = 0
    for _, change in sorted(changes, key=lambda entry: entry[0]):
        now += change
        peak = max(peak, now)
    return peak


def costliest_operators(
    run: Callable[[], None], count: int, device: str
) -> list[tuple[str, float]]:
    """The operators (on a GPU the kernels) that take the most time of a pass, with their share."""
    on_gpu = device != 'cpu'
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as recorded:
        run()
        _synchronize(device)
    times = {
        event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total
        for event in recorded.key_averages()
        if not on_gpu or event.device_type != torch.autograd.DeviceType.CPU
    }
    whole = sum(times.values()) or 1
    best = sorted(times.items(), key=lambda entry: entry[1], reverse=True)[:count]
    return [(name, took / whole) for name, took in best]


def agree(
    subjects: Sequence[Subject],
    models: dict[str, nn.Module],
    size: tuple[int, int],
    dtype: torch.dtype = torch.float32,
) -> dict[str, float]:
    """How far twins are from each other: the largest relative L2 distance of an output."""
    distances = {}
    for subject in subjects:
        if not subject.twin:
            continue
        torch.manual_seed(0)
        inputs = subject.draw(1, size).to(dtype)
        pair = [copy.deepcopy(models[name]).to(dtype) for name in (subject.base, subject.name)]
        for model in pair:
            model.eval()  # MMPretrain's backbones return nothing here
        with torch.no_grad():
            ours, theirs = (
                [outs] if isinstance(outs, Tensor) else outs for outs in (m(inputs) for m in pair)
            )
        distances[subject.name] = max(
            float((one - other).norm() / other.norm())
            for one, other in zip(ours, theirs, strict=True)
        )
    return distances


def machine_rates(device: str, clock: str) -> dict[str, float]:
    """What the machine itself reaches: FLOP/s of a float32 product of matrices, bytes/s of a copy."""
    side, count = (4096, 2**28) if device != 'cpu' else (1024, 2**25)
    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    source = torch.randn(count, device=device)
    target = torch.empty_like(source)
    plan = Plan(repeat=7, clock=clock, device=device)
    product, copied = alternate([lambda: a @ b, lambda: target.copy_(source)], plan)
    return {
        'flop_per_second': 2 * side**3 / min(product),
        'copied_bytes_per_second': 2 * 4 * count / min(copied),
    }


def _synchronize(device: str) -> None:
    if device != 'cpu':
        torch.cuda.synchronize()
