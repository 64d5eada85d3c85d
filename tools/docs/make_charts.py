"""Draw the charts of docs/benchmarks.md from the tables of that page, or check them."""

import argparse
import math
import re
import sys
import tempfile
from pathlib import Path

from make_model_pages import ROOT, cells_of, measured
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spm_mm.engine import run_tool
from spm_mm.visualization.style import LINES, new_figure

PAGE = 'docs/benchmarks.md'
IMAGES = ROOT / 'docs' / 'images'
MERGINGS = {
    'convolution': 'PVT-Tiny',
    'Swin': "PVT-Tiny, Swin's merging",
    'SG-Former': "PVT-Tiny, SG-Former's merging",
    'deformable': 'PVT-Tiny, deformable',
    'HAFA': 'PVT-Tiny, HAFA',
    'stepwise (SPM)': 'PVT-Tiny, stepwise (SPM)',
}
COSTS = {
    'training time': 'training ms',
    'inference time': 'inference ms',
    'training memory': 'peak MiB',
}


def bars(axis: Axes, groups: list[str], values: dict[str, list[float]], form: str) -> None:
    """Horizontal bars, a group of them beside each name, with their values; none where it is nan."""
    height = 0.8 / len(values)
    for index, (name, lengths) in enumerate(values.items()):
        places = []
        for i, row in enumerate(zip(*values.values(), strict=True)):
            known = [not math.isnan(length) for length in row]
            places.append(i + height * (sum(known[:index]) + 0.5 - sum(known) / 2))
        drawn = axis.barh(places, lengths, height * 0.92, label=name, color=LINES[index])
        labels = ['' if math.isnan(length) else form.format(length) for length in lengths]
        axis.bar_label(drawn, labels, padding=2, fontsize=7)
    axis.set_yticks(range(len(groups)), groups)
    axis.set_ylim(len(groups) - 0.5, -0.5)
    axis.margins(x=0.12)
    axis.spines[['top', 'right']].set_visible(False)
    axis.tick_params(axis='y', length=0)


def backbones(figure: Figure) -> None:
    eager = measured()
    compiled = cells_of(PAGE, '| compiled | training ms')
    rows = sorted(
        (row for row in eager if not row.startswith('PVT-Tiny, ') or row.endswith('class')),
        key=lambda row: -eager[row]['images/s'],
    )
    axis = figure.subplots()
    values = {
        'eager': [eager[row]['images/s'] for row in rows],
        'compiled': [float(compiled.get(row, {}).get('images/s') or 'nan') for row in rows],
    }
    bars(axis, rows, values, '{:.0f}')
    axis.set_xlabel('images per second')
    axis.legend(loc='lower right', frameon=False)
    figure.suptitle('Training on one NVIDIA H200, bfloat16, 224 x 224, batch 128')


def mergings(figure: Figure) -> None:
    rows = measured()
    plain = rows['PVT-Tiny']
    axis = figure.subplots()
    values = {
        label: [rows[row][key] / plain[key] for row in MERGINGS.values()]
        for label, key in COSTS.items()
    }
    bars(axis, list(MERGINGS), values, '{:.2f}')
    axis.axvline(1, color='black', linewidth=0.8)
    axis.set_xlabel('relative to the convolution of PVT')
    axis.legend(loc='upper right', frameon=False)
    figure.suptitle('Mergings on PVT-Tiny: eager, one NVIDIA H200, bfloat16, batch 128')


def memory(figure: Figure) -> None:
    rows = cells_of(PAGE, '| | `False` |')
    axes = figure.subplots(1, 2, sharey=True)
    cells = {
        f'with_cp={key.strip("`")}': [re.findall(r'[\d.]+', row[key]) for row in rows.values()]
        for key in ('`False`', "`'mlp'`", '`True`')
    }
    parts = (
        (0, 'peak memory, MiB', '{:.0f}'),
        (1, 'time relative to with_cp=False', '{:.2f}'),
    )
    for axis, (part, label, form) in zip(axes, parts, strict=True):
        values = {
            name: [float([*numbers, '1.00'][part]) for numbers in found]
            for name, found in cells.items()
        }
        bars(axis, list(rows), values, form)
        axis.set_xlabel(label)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc='outside lower center', frameon=False, ncols=3
    )
    figure.suptitle('A training step on a CPU, 4 images of 224 x 224')


CHARTS = {
    'chart_backbones': (backbones, (7.0, 5.4)),
    'chart_mergings': (mergings, (7.0, 3.8)),
    'chart_memory': (memory, (7.0, 3.0)),
}


def texts(path: Path) -> list[str]:
    """What is written in a picture."""
    return re.findall(r'<text[^>]*>([^<]*)<', path.read_text()) if path.is_file() else []


def draw(folder: Path) -> None:
    for name, (chart, size) in CHARTS.items():
        with new_figure(folder / f'{name}.svg', *size) as figure:
            chart(figure)


def outdated() -> list[str]:
    """Charts in which something else is written than the tables say, values of bars included."""
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder))
        drawn = {path.name: texts(path) for path in Path(folder).iterdir()}
    return [name for name, found in sorted(drawn.items()) if found != texts(IMAGES / name)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--check', action='store_true', help='write nothing; status 1 if outdated')
    args = parser.parse_args()
    if not args.check:
        draw(IMAGES)
    elif names := outdated():
        sys.exit(f'outdated: {", ".join(names)}; run tools/docs/make_charts.py')


if __name__ == '__main__':
    run_tool(main)
