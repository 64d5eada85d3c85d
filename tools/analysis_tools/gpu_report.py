"""Measure the suite on one GPU in a stated time, the most telling rows first.

The rows run in this order: the card's own rates; the tests marked ``gpu``; training and inference in
bfloat16 at 224 for our backbones, each merging on PVT-Tiny, the frameworks' classes and timm's models;
the same compiled; larger images; other exact routes of single operators. A row that no longer fits
into ``--minutes`` is left out and named. Every row is written when it is done, to ``rows.jsonl`` and
``report.md`` in ``--out``, so a run that is cut short loses nothing. A row that fails keeps its error.

Training is a forward and a backward pass with random gradients on every output, without an optimizer
and without stochastic depth; inference is a pass without gradients. Weights and images are random. Time
is the median of CUDA events around single passes that are queued without a pause. Memory is the peak of
a pass beyond weights and images.

While the tests run, further processes fill the cache of ``torch.compile``; nothing is timed before they
have ended.

The script needs PyTorch, torchvision, pytest, timm and the frameworks' pure-Python packages; without
one of them the rows that need it fail alone. ``--device cpu`` tries the script out.
"""

import argparse
import contextlib
import functools
import gc
import itertools
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from spm_mm.benchmark.measure import make_pass, peak_memory  # noqa: E402
from spm_mm.benchmark.subjects import subject_of  # noqa: E402
from spm_mm.registry import MODELS  # noqa: E402

FRAMEWORKS = {
    'mmdet.PyramidVisionTransformer': dict(num_layers=[2, 2, 2, 2], drop_path_rate=0.0),
    'mmdet.PyramidVisionTransformerV2': dict(
        embed_dims=64, num_layers=[2, 2, 2, 2], drop_path_rate=0.0
    ),
    'mmpretrain.SwinTransformer': dict(
        arch='tiny', out_indices=(0, 1, 2, 3), pad_small_map=True, drop_path_rate=0.0
    ),
}
"""The frameworks' classes of the architectures in SUBJECTS, with four feature maps as ours."""
TIMM = {
    'timm.pvt_v2_b1': dict(),
    'timm.swin_tiny_patch4_window7_224': dict(strict_img_size=False),
}
HAFA = 'PVT/tiny:DeformableMerging,DeformableMerging,ClusterMerging'
SUBJECTS = (
    'PVT/tiny',
    'PVT/tiny:StepwiseMerging',
    'PVTv2/b1',
    'timm.pvt_v2_b1',
    'mmdet.PyramidVisionTransformerV2',
    'mmdet.PyramidVisionTransformer',
    'PVT/tiny:DeformableMerging',
    'SwinTransformer/tiny',
    'timm.swin_tiny_patch4_window7_224',
    'mmpretrain.SwinTransformer',
    'SGFormer/small',
    'NAT/mini',
    'LIT/small',
    'PaCaViT/tiny',
    HAFA,
    'ShuntedTransformer/tiny',
    'PVT/tiny:SwinMerging',
    'PVT/tiny:SGFormerMerging',
    'PVT/tiny:ClusterMerging',
    'LIT/tiny',
)
"""The most telling first."""
SIZES = ('224:128', '512:16', '800x1333:2')
SECTIONS = ('card', 'tests', 'eager', 'compiled', 'large', 'routes', 'large compiled')
MODES = ('training', 'inference')
PRECOMPILE_SHARE = 0.4
"""Of the whole time, what the tests and the processes beside them may take."""


@dataclass(frozen=True)
class Row:
    """One measurement: ``run`` returns what it found. ``cost`` is an estimate in seconds."""

    section: str
    name: str
    cost: float
    run: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Setting:
    """What all rows share; ``backend`` is that of ``torch.compile``."""

    device: str
    warmup: int
    repeat: int
    backend: str

    def synchronize(self) -> None:
        if self.device == 'cuda':
            torch.cuda.synchronize()


class Report:
    """Rows of a run, written as they come."""

    def __init__(self, out: Path, minutes: float) -> None:
        out.mkdir(parents=True, exist_ok=True)
        if (out / 'rows.jsonl').exists():
            sys.exit(f'error: --out {out} holds a report already: name another folder')
        self.out = out
        self.end = time.monotonic() + 60 * minutes
        self.rows: list[dict[str, Any]] = []

    @property
    def remaining(self) -> float:
        """Seconds left of the budget."""
        return self.end - time.monotonic()

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        with (self.out / 'rows.jsonl').open('a') as file:
            file.write(json.dumps(row) + '\n')
        (self.out / 'report.md').write_text(render(self.rows))
        what = row.get('error') or row.get('skipped') or _short(row)
        print(
            f'[{self.remaining:4.0f} s left] {row["section"]} | {row["name"]}: {what}', flush=True
        )

    def run(self, row: Row) -> None:
        """Run one row if it fits into the budget; keep its error if it fails."""
        head = dict(section=row.section, name=row.name)
        if row.cost > self.remaining:
            self.add(
                head
                | dict(skipped=f'needs about {row.cost:.0f} s, {self.remaining:.0f} s are left')
            )
            return
        start = time.monotonic()
        try:
            with time_limit(min(self.remaining, 60 + 3 * row.cost)):
                found = row.run()
        except Exception as error:
            lines = f'{type(error).__name__}: {error}'.strip().splitlines()
            found = dict(error=lines[0][:300], traceback=traceback.format_exc()[-3000:])
        self.add(head | found | dict(took=round(time.monotonic() - start, 1)))
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the main thread after ``seconds``, where the system has such a timer."""
    if not hasattr(signal, 'setitimer'):
        yield
        return

    def stop(*_: Any) -> None:
        raise TimeoutError(f'stopped after {seconds:.0f} s')

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(1.0, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# Models


def build(name: str) -> nn.Module:
    """Build a subject: ours as in ``benchmark.py``, ``timm.NAME``, or a framework's class."""
    torch.manual_seed(0)
    if name in TIMM:
        import timm

        return timm.create_model(
            name.removeprefix('timm.'), pretrained=False, features_only=True, **TIMM[name]
        )
    if name in FRAMEWORKS:
        scope = name.partition('.')[0]
        return MODELS.build(dict(type=name, _scope_=scope, **FRAMEWORKS[name]))
    return subject_of(name).make()


@functools.lru_cache(maxsize=1)
def _built(name: str, device: str) -> nn.Module:
    return build(name).to(device)


def read_size(text: str) -> tuple[tuple[int, int], int]:
    """Read ``224:128`` or ``800x1333:2``: pixels (H, W) and the batch."""
    size, _, batch = text.partition(':')
    height, _, width = size.partition('x')
    return (int(height), int(width or height)), int(batch or 1)


def passes(name: str, size: str, mode: str, compiled: bool, setting: Setting) -> Callable[[], None]:
    """A pass of a subject in bfloat16, as :func:`spm_mm.benchmark.measure.make_pass` says."""
    (height, width), batch = read_size(size)
    model = _built(name, setting.device)
    model.train(mode == 'training')
    images = torch.randn(batch, 3, height, width, device=setting.device)
    if compiled:
        torch._dynamo.reset()
        model = torch.compile(model, dynamic=False, backend=setting.backend)
    return make_pass(model, images, mode, 'bfloat16', setting.device)


# Measuring


def seconds_of(run: Callable[[], Any], setting: Setting) -> list[float]:
    """Seconds of each of ``repeat`` runs behind ``warmup`` others."""
    for _ in range(setting.warmup):
        run()
    setting.synchronize()
    if setting.device != 'cuda':
        marks = [time.perf_counter()]
        for _ in range(setting.repeat):
            run()
            marks.append(time.perf_counter())
        return [b - a for a, b in itertools.pairwise(marks)]
    events = [torch.cuda.Event(enable_timing=True) for _ in range(setting.repeat + 1)]
    events[0].record()
    for event in events[1:]:
        run()
        event.record()
    torch.cuda.synchronize()
    return [a.elapsed_time(b) / 1e3 for a, b in itertools.pairwise(events)]


def kernels_of(run: Callable[[], Any], count: int = 8) -> dict[str, Any]:
    """Kernels of one pass: how many, how long they run in all, and the ``count`` longest by name."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        run()
        torch.cuda.synchronize()
    events = [e for e in recorded.key_averages() if e.self_device_time_total > 0]
    busy = sum(e.self_device_time_total for e in events)
    events.sort(key=lambda e: e.self_device_time_total, reverse=True)
    return dict(
        kernels=sum(e.count for e in events),
        busy_ms=busy / 1e3,
        longest=[
            [e.key[:120], e.count, round(e.self_device_time_total / 1e3, 3)] for e in events[:count]
        ],
    )


def measure(name: str, size: str, mode: str, compiled: bool, setting: Setting) -> dict[str, Any]:
    """Time, memory and kernels of one subject."""
    start = time.monotonic()
    run = passes(name, size, mode, compiled, setting)
    run()
    setting.synchronize()
    first = time.monotonic() - start
    seconds = seconds_of(run, setting)
    median = statistics.median(seconds)
    found = dict(
        size=size,
        mode=mode,
        ms=1e3 * median,
        spread=[1e3 * min(seconds), 1e3 * max(seconds)],
        images_per_second=read_size(size)[1] / median,
        first_pass_s=round(first, 2),
    )
    if setting.device == 'cuda':
        found['peak_mib'] = peak_memory(run, setting.device) / 2**20
        try:
            found |= kernels_of(run)
        except Exception as error:  # a machine may have no access to the profiler
            found['kernels_error'] = str(error)[:200]
    return found


def card(setting: Setting) -> dict[str, Any]:
    """The machine, and the rates that it reaches: a bfloat16 matrix product and a copy."""
    found: dict[str, Any] = dict(
        torch=torch.__version__, python=platform.python_version(), card=platform.machine()
    )
    side, count = 256, 2**20
    if setting.device == 'cuda':
        properties = torch.cuda.get_device_properties(0)
        found |= dict(
            card=properties.name,
            memory_gib=properties.total_memory / 2**30,
            multiprocessors=properties.multi_processor_count,
            cuda=torch.version.cuda,
            cudnn=torch.backends.cudnn.version(),
        )
        side, count = 8192, 2**30
    a, b = (torch.randn(side, side, device=setting.device, dtype=torch.bfloat16) for _ in range(2))
    found['matrix_flops'] = 2 * side**3 / statistics.median(seconds_of(lambda: a @ b, setting))
    source = torch.randn(count, device=setting.device)
    target = torch.empty_like(source)
    copied = statistics.median(seconds_of(lambda: target.copy_(source), setting))
    found['copy_bytes_per_second'] = 2 * 4 * count / copied
    small = torch.zeros(8, device=setting.device)
    loop = 200

    def launches() -> None:
        for _ in range(loop):
            small.add_(1)

    found['launch_us'] = 1e6 * statistics.median(seconds_of(launches, setting)) / loop
    return found


def run_tests(out: Path, limit: float, paths: Sequence[str]) -> dict[str, Any]:
    """The tests marked ``gpu`` in a process of their own; their output is in ``tests.log``."""
    log = out / 'tests.log'
    command = [sys.executable, '-m', 'pytest', '-v', '-m', 'gpu', '-p', 'no:cacheprovider']
    command += ['--tb=short', '--durations=8', *paths]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    timed_out = False
    with log.open('w') as file:
        process = subprocess.Popen(  # noqa: S603
            command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT,
            env={**os.environ, 'PYTHONPATH': path},
        )  # fmt: skip
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            process.kill()
            process.wait()
    text = log.read_text(errors='replace')
    found: dict[str, Any] = dict(timed_out=timed_out)
    for outcome in ('PASSED', 'FAILED', 'SKIPPED', 'ERROR'):
        names = re.findall(rf'^(\S+::.+?) {outcome}', text, re.MULTILINE)
        found[outcome.lower()] = names if outcome in ('FAILED', 'ERROR') else len(names)
    return found


# Other exact routes of single operators


def depthwise_routes(
    channels: int, side: int, kernel: int, stride: int, batch: int, setting: Setting
) -> dict[str, Any]:
    """Milliseconds, forward and both passes, of a depth-wise convolution by the routes of PyTorch."""
    found = {}
    for layout in ('channels_last', 'contiguous'):
        for cudnn in (True, False):
            form = getattr(torch, f'{layout}_format' if layout == 'contiguous' else layout)
            x = torch.randn(
                batch, channels, side, side, device=setting.device, dtype=torch.bfloat16
            )
            x = x.to(memory_format=form).requires_grad_()
            weight = torch.randn(
                channels, 1, kernel, kernel, device=setting.device, dtype=torch.bfloat16
            )
            weight = weight.requires_grad_()

            def forward(x: Tensor = x, weight: Tensor = weight) -> Tensor:
                return F.conv2d(x, weight, stride=stride, padding=kernel // 2, groups=channels)

            route = f'{layout}, {"cuDNN" if cudnn else "native"}'
            with torch.backends.cudnn.flags(enabled=cudnn, benchmark=True):
                found[route] = forward_and_both(forward, setting)
    return dict(routes=found)


def neighborhood_routes(
    heads: int, side: int, batch: int, compiled: bool, setting: Setting
) -> dict[str, Any]:
    """Milliseconds of neighborhood attention of 7 x 7 cells: our operator and FlexAttention."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    from spm_mm.ops import neighborhood_attention

    kernel = 7
    shape = (batch, side, side, 3, heads, 32)
    x = torch.randn(shape, device=setting.device, dtype=torch.bfloat16, requires_grad=True)
    table = torch.randn(
        heads, 13, 13, device=setting.device, dtype=torch.float32, requires_grad=True
    )

    def ours() -> Tensor:
        return neighborhood_attention(*x.unbind(3), table)

    def first(i: Tensor) -> Tensor:
        return (i - kernel // 2).clamp(0, side - kernel)

    def near(_: Tensor, __: Tensor, query: Tensor, key: Tensor) -> Tensor:
        rows = key // side - first(query // side)
        columns = key % side - first(query % side)
        return (rows >= 0) & (rows < kernel) & (columns >= 0) & (columns < kernel)

    def biased(score: Tensor, _: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        rows = (key // side - query // side + kernel - 1).clamp(0, 2 * kernel - 2)
        columns = (key % side - query % side + kernel - 1).clamp(0, 2 * kernel - 2)
        return score + table[head, rows, columns]

    cells = side * side
    mask = create_block_mask(near, None, None, cells, cells, device=setting.device)
    attend = torch.compile(flex_attention, dynamic=False) if compiled else flex_attention

    def flexible() -> Tensor:
        q, k, v = (t.flatten(1, 2).transpose(1, 2) for t in x.unbind(3))
        out = attend(q, k, v, score_mod=biased, block_mask=mask)
        return out.transpose(1, 2).reshape(batch, side, side, heads, 32)

    with torch.no_grad():
        distance = ((flexible() - ours()).float().norm() / ours().float().norm()).item()
    return dict(
        distance=distance,
        routes={
            'ours': forward_and_both(ours, setting),
            'FlexAttention': forward_and_both(flexible, setting),
        },
    )


def forward_and_both(forward: Callable[[], Tensor], setting: Setting) -> list[float] | str:
    """Milliseconds of the forward pass without gradients, and of forward and backward."""

    def inference() -> None:
        with torch.no_grad():
            forward()

    def training() -> None:
        forward().sum().backward()

    try:
        return [1e3 * statistics.median(seconds_of(run, setting)) for run in (inference, training)]
    except RuntimeError as error:
        return str(error).splitlines()[0][:160]


# The plan


def plan(args: argparse.Namespace, setting: Setting, report: Report) -> list[Row]:
    """All rows, in the order in which they run."""
    names = args.subjects or SUBJECTS
    first, *others = args.sizes

    def models(section: str, cost: float, sizes: Sequence[str], names: Sequence[str]) -> list[Row]:
        compiled = 'compiled' in section
        return [
            Row(
                section,
                name,
                cost,
                functools.partial(measure, name, size, mode, compiled, setting),
            )
            for size in sizes
            for mode in MODES
            for name in names
        ]

    def by_model(rows: list[Row]) -> list[Row]:
        """Both modes of a model one after the other: it is built once."""
        return sorted(rows, key=lambda row: list(names).index(row.name))

    (height, _), batch = read_size(first)
    maps = max(8, height // 4)  # of stage 1
    routes = [
        Row(
            'routes',
            f'depth-wise {kernel} x {kernel}, stride {stride}, {channels} channels',
            4,
            functools.partial(depthwise_routes, channels, side, kernel, stride, batch, setting),
        )
        for channels, side, kernel, stride in (
            (16, maps, 9, 1),
            (128, maps, 7, 2),
            (16, maps, 5, 1),
            (32, maps // 2, 9, 1),
            (64, maps, 3, 1),
        )
    ]
    on_gpu = setting.device == 'cuda'
    routes += [
        Row(
            'routes',
            f'neighborhood attention, {side} x {side}, {heads} heads',
            25,
            functools.partial(neighborhood_routes, heads, side, batch, on_gpu, setting),
        )
        for heads, side in ((2, maps), (4, maps // 2))
    ]
    limit = PRECOMPILE_SHARE * 60 * args.minutes
    rows = {
        'card': [Row('card', 'rates', 5, functools.partial(card, setting))],
        'tests': [
            Row(
                'tests',
                'marked gpu',
                20,
                functools.partial(run_tests, report.out, limit, args.tests),
            )
        ],
        'eager': by_model(models('eager', 4, [first], names)),
        'compiled': by_model(models('compiled', 20, [first], names)),
        'large': by_model(models('large', 4, others, names)),
        'routes': routes,
        'large compiled': by_model(models('large compiled', 40, others, names[:4])),
    }
    return [row for section in SECTIONS if section in args.only for row in rows[section]]


def start_precompiling(args: argparse.Namespace, out: Path) -> list[subprocess.Popen]:
    """Processes that fill the cache of ``torch.compile``, each with its share of the subjects."""
    names = args.subjects or SUBJECTS
    shares = [names[i :: args.workers] for i in range(args.workers)]
    environment = {**os.environ, 'TORCHINDUCTOR_COMPILE_THREADS': '4'}
    processes = []
    for i, share in enumerate(s for s in shares if s):
        with (out / f'precompile_{i}.log').open('w') as log:
            command = [sys.executable, __file__, '--out', str(out), '--precompile', '--sizes']
            command += [args.sizes[0], '--subjects', *share, '--device', args.device]
            processes.append(
                subprocess.Popen(command, stdout=log, stderr=log, env=environment)  # noqa: S603
            )
    return processes


def precompile(args: argparse.Namespace, setting: Setting) -> None:
    """Compile and run each pass once."""
    for name in args.subjects:
        for mode in MODES:
            start = time.monotonic()
            try:
                passes(name, args.sizes[0], mode, True, setting)()
                setting.synchronize()
            except Exception as error:
                print(f'{name}, {mode}: {type(error).__name__}: {error}', flush=True)
            else:
                print(f'{name}, {mode}: {time.monotonic() - start:.1f} s', flush=True)
            gc.collect()
            if setting.device == 'cuda':
                torch.cuda.empty_cache()


# Tables


def render(rows: Sequence[dict[str, Any]]) -> str:
    """All rows as Markdown."""
    parts = []
    for section in SECTIONS:
        found = [row for row in rows if row['section'] == section]
        if not found:
            continue
        parts.append(f'## {section}\n')
        measured = [row for row in found if 'ms' in row]
        if measured:
            parts.append(_table_of_models(measured))
        for row in found:
            if 'ms' not in row:
                parts.append(f'- {row["name"]}: {_short(row)}')
        parts.append('')
    return '\n'.join(parts)


def _table_of_models(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        '| model | size:batch | pass | ms | images/s | peak MiB | kernels | busy ms | first pass s |',
        '|---|---|---|---|---|---|---|---|---|',
    ]
    for row in sorted(rows, key=lambda r: (r['size'], r['mode'] != 'training')):
        low, high = row['spread']
        cells = (
            row['name'],
            row['size'],
            row['mode'],
            f'{row["ms"]:.2f} [{low:.2f}-{high:.2f}]',
            f'{row["images_per_second"]:.0f}',
            f'{row["peak_mib"]:.0f}' if 'peak_mib' in row else '-',
            str(row.get('kernels', '-')),
            f'{row["busy_ms"]:.2f}' if 'busy_ms' in row else '-',
            f'{row["first_pass_s"]:.1f}',
        )
        lines.append(f'| {" | ".join(cells)} |')
    lines.append('')
    for row in rows:
        if row.get('longest'):
            shares = '; '.join(
                f'{name} x{count} {ms / row["busy_ms"]:.0%}'
                for name, count, ms in row['longest'][:5]
            )
            lines.append(f'- {row["name"]}, {row["size"]}, {row["mode"]}: {shares}')
    return '\n'.join(lines) + '\n'


def _short(row: dict[str, Any]) -> str:
    """One line of a row's findings."""
    if 'ms' in row:
        memory = f', {row["peak_mib"]:.0f} MiB' if 'peak_mib' in row else ''
        return (
            f'{row["size"]} {row["mode"]} {row["ms"]:.2f} ms,'
            f' {row["images_per_second"]:.0f} images/s{memory}'
        )
    hidden = ('section', 'name', 'traceback', 'longest')
    return ', '.join(
        f'{key} {value:.4g}' if isinstance(value, float) else f'{key} {value}'
        for key, value in row.items()
        if key not in hidden
    )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--out', type=Path, required=True, metavar='DIR', help='for all that it writes'
    )
    parser.add_argument('--minutes', type=float, default=7, help='for the whole run, default 7')
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda')
    parser.add_argument(
        '--only', nargs='+', choices=SECTIONS, default=SECTIONS, help='sections, default all'
    )
    parser.add_argument(
        '--subjects',
        nargs='+',
        metavar='SUBJECT',
        help='models instead of the own list: as benchmark.py takes them, or'
        f' {", ".join((*FRAMEWORKS, *TIMM))}',
    )
    parser.add_argument(
        '--sizes',
        nargs='+',
        default=SIZES,
        metavar='S:BATCH|HxW:BATCH',
        help=f'default {" ".join(SIZES)}; the first is for all models, eager and compiled',
    )
    parser.add_argument('--warmup', type=int, default=5, help='runs before the timed ones')
    parser.add_argument('--repeat', type=int, default=10, help='timed runs')
    parser.add_argument(
        '--tests', nargs='+', default=['tests/gpu'], metavar='PATH', help='default tests/gpu'
    )
    parser.add_argument(
        '--workers', type=int, default=4, help='processes that compile beside the tests, default 4'
    )
    parser.add_argument('--backend', default='inductor', help='of torch.compile')
    parser.add_argument('--precompile', action='store_true', help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    if args.device == 'cuda' and not torch.cuda.is_available():
        sys.exit(
            'error: --device cuda needs a GPU that PyTorch sees; --device cpu tries the script'
        )
    setting = Setting(args.device, args.warmup, args.repeat, args.backend)
    torch.backends.cudnn.benchmark = True
    # What a busy card chose between two forms of a kernel must not be kept.
    torch._inductor.config.autotune_local_cache = False
    if args.precompile:
        precompile(args, setting)
        return
    report = Report(args.out, args.minutes)
    start = time.monotonic()
    workers: list[subprocess.Popen] = []
    precompiles = args.workers > 0 and 'compiled' in args.only and args.backend == 'inductor'
    try:
        for row in plan(args, setting, report):
            if row.section != 'card' and precompiles:
                workers = start_precompiling(args, args.out)
                precompiles = False
            if row.section not in ('card', 'tests') and workers:
                end(workers, PRECOMPILE_SHARE * 60 * args.minutes - (time.monotonic() - start))
                workers = []
            report.run(row)
    finally:
        end(workers, 0)
    print((args.out / 'report.md').read_text())


def end(processes: Sequence[subprocess.Popen], limit: float) -> None:
    """Wait for processes for ``limit`` seconds in all, then end those that still run."""
    until = time.monotonic() + limit
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, until - time.monotonic()))
    for process in processes:
        process.kill()
        process.wait()


if __name__ == '__main__':
    main()
