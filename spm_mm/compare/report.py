"""Writing a comparison: report.html, report.md, results.csv and results.json."""

import base64
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from spm_mm.compare.page import PAGE, SCRIPT, STYLE
from spm_mm.compare.pictures import Picture
from spm_mm.compare.record import write_json, write_text
from spm_mm.compare.results import summarize
from spm_mm.compare.statistics import METHOD
from spm_mm.compare.tables import (
    class_table,
    difference_table,
    facts,
    markdown,
    summary_table,
    unfinished_table,
)
from spm_mm.visualization import LINES

__all__ = ['write_report']

AXES = {
    'params': ('parameters (M)', 1e-6),
    'macs': ('MACs (G)', 1e-9),
    'train_seconds': ('training step (ms)', 1e3),
    'train_memory': ('training memory (GiB)', 2**-30),
    'test_seconds': ('inference (ms)', 1e3),
}


def write_report(
    folder: Path, results: Mapping[str, Any], pictures: Sequence[Picture] = ()
) -> list[Path]:
    """Write the report in every form.

    Args:
        folder: Where the files go.
        results: What :func:`~spm_mm.compare.collect` or :func:`~spm_mm.compare.join` returns.
        pictures: Predictions to show, in the page alone.

    Returns:
        The files: report.html, report.md, results.csv, results.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = ('report.html', 'report.md', 'results.csv', 'results.json')
    page, text, table, data = (folder / name for name in names)
    write_text(page, html(results, pictures))
    write_text(text, markdown(results))
    write_text(table, summary_table(results).csv())
    write_json(data, results)
    return [page, text, table, data]


def html(results: Mapping[str, Any], pictures: Sequence[Picture] = ()) -> str:
    """The page: one file that needs no network."""
    environment = jinja2.Environment(autoescape=True)
    figures = {
        'Training loss': loss_figure(results),
        f'{results["metric"] or "Metric"} on the validation data': metric_figure(results),
        'Metric against cost': cost_figure(results),
    }
    tables = {
        'Per class, mean over seeds (%)': class_table(results),
        'Runs that are not finished': unfinished_table(results),
        'What differs': difference_table(results),
    }
    columns = [column['label'] for column in results['columns']]
    return environment.from_string(PAGE).render(
        results=results,
        summary=summary_table(results),
        method=METHOD,
        figures={
            title: figure.to_html(full_html=False, include_plotlyjs=False)
            for title, figure in figures.items()
            if figure is not None
        },
        tables={title: table for title, table in tables.items() if table and table.rows},
        facts=facts(results),
        pictures=pictures,
        columns=columns,
        encoded=lambda path: base64.b64encode(path.read_bytes()).decode(),
        plotly=get_plotlyjs(),
        style=STYLE,
        script=SCRIPT,
        data=json.dumps(results, default=str).replace('<', r'\u003c'),
    )


def loss_figure(results: Mapping[str, Any]) -> go.Figure | None:
    return _curves(results, lambda cell: cell['losses'], 'training loss')


def metric_figure(results: Mapping[str, Any]) -> go.Figure | None:
    metric = results['metric']

    def points(cell: Mapping[str, Any]) -> list[list[float]]:
        found = ((i, metrics.get(metric)) for i, metrics in cell['validations'])
        return [[i, value] for i, value in found if value is not None]

    return _curves(results, points, metric)


def _curves(results: Mapping[str, Any], points: Any, title: str) -> go.Figure | None:
    """A line for the mean of each column over its seeds, and a band of one standard deviation."""
    figure = go.Figure()
    for i, column in enumerate(results['columns']):
        by_x: dict[float, list[float]] = {}
        for cell in column['cells']:
            for x, y in points(cell):
                by_x.setdefault(x, []).append(y)
        most = max(map(len, by_x.values()), default=0)
        # Where a run is still on its way the mean would jump to the others.
        shared = sorted(x for x, ys in by_x.items() if len(ys) == most)
        if not shared:
            continue
        means = [statistics.fmean(by_x[x]) for x in shared]
        colour = LINES[i % len(LINES)]
        name = column['label']
        if most > 1:
            spreads = [statistics.stdev(by_x[x]) for x in shared]
            upper = [m + s for m, s in zip(means, spreads, strict=True)]
            lower = [m - s for m, s in zip(means, spreads, strict=True)]
            figure.add_scatter(
                x=[*shared, *reversed(shared)],
                y=[*upper, *reversed(lower)],
                fill='toself',
                fillcolor=colour,
                opacity=0.2,
                line=dict(width=0),
                hoverinfo='skip',
                legendgroup=name,
                showlegend=False,
            )
        figure.add_scatter(
            x=shared,
            y=means,
            name=f'{name} ({most} seeds)' if most > 1 else name,
            mode='lines+markers' if len(shared) < 30 else 'lines',
            line=dict(color=colour),
            legendgroup=name,
        )
    if not figure.data:
        return None
    return _laid_out(figure, 'iteration', title)


def cost_figure(results: Mapping[str, Any]) -> go.Figure | None:
    """The metric over a cost that can be chosen; the line joins the columns that no other one beats."""
    rows = [row for row in summarize(results) if row['mean'] is not None]
    costs = [cost for cost in AXES if rows and all(row[cost] is not None for row in rows)]
    if not costs:
        return None
    figure = go.Figure()
    for i, cost in enumerate(costs):
        scale = AXES[cost][1]
        front = pareto_front([(row[cost], row['mean']) for row in rows])
        figure.add_scatter(
            x=[row[cost] * scale for row in rows],
            y=[row['mean'] for row in rows],
            error_y=dict(array=[row['spread'] or 0 for row in rows]),
            text=[row['label'] for row in rows],
            mode='markers+text',
            textposition='top center',
            marker=dict(size=10, color=[LINES[j % len(LINES)] for j in range(len(rows))]),
            name='columns, with the spread over seeds',
            visible=i == 0,
        )
        figure.add_scatter(
            x=[x * scale for x, _ in front],
            y=[y for _, y in front],
            mode='lines',
            line=dict(dash='dot', color='grey'),
            name='Pareto front',
            hoverinfo='skip',
            visible=i == 0,
        )
    buttons = [
        dict(
            label=AXES[cost][0],
            method='update',
            args=[
                dict(visible=[j // 2 == i for j in range(2 * len(costs))]),
                {'xaxis.title.text': AXES[cost][0]},
            ],
        )
        for i, cost in enumerate(costs)
    ]
    figure.update_layout(updatemenus=[dict(buttons=buttons, x=0, y=1.15, xanchor='left')])
    return _laid_out(figure, AXES[costs[0]][0], results['metric'])


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (cost, value) that no other one beats in both, by rising cost."""
    front: list[tuple[float, float]] = []
    for cost, value in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or value > front[-1][1]:
            front.append((cost, value))
    return front


def _laid_out(figure: go.Figure, x: str, y: str) -> go.Figure:
    return figure.update_layout(
        xaxis_title=x,
        yaxis_title=y,
        template='plotly_white',
        height=460,
        margin=dict(t=50, l=60, r=20, b=50),
        legend=dict(orientation='h', y=-0.2),
    )
