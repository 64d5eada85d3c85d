"""Write the pages of docs/models and the tables of docs/concepts.md, or check them.

There is a page for each family of models. Prose stands in docs/models/families.yaml, printed figures
in configs/papers.yaml, published weights in configs/weights.yaml, measured time in docs/benchmarks.md.
--count first counts parameters and MACs of the configs that docs/models/counts.yaml lacks. Without that
file these are all of them, which takes ten minutes on 2 cores.
"""

import argparse
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config
from mmengine.logging import MMLogger

from spm_mm.engine import default_shape, load_papers, measure, run_tool
from spm_mm.engine.papers import Row

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'docs' / 'models'
COUNTS = FOLDER / 'counts.yaml'
CONCEPTS = FOLDER.parent / 'concepts.md'
NOTE = '<!-- Written by `python tools/docs/make_model_pages.py`: do not edit. -->\n'
TASKS = {
    'mmpretrain': ('Classification', {'top1': 'top-1'}),
    'mmdet': ('Detection', {'AP_b': 'box AP', 'AP_m': 'mask AP'}),
    'mmseg': ('Segmentation', {'mIoU': 'mIoU', 'mIoU_ms': 'mIoU, multi-scale'}),
}
# What stands before the backbone in the name of a config.
HEADS = ('mask-rcnn', 'retinanet', 'fpn', 'upernet', 'paca', 'segformer')
# Rows of the tables of docs/concepts.md: column of docs/benchmarks/grid.md (its row PVT), row of
# docs/benchmarks.md, then configs with and without the merging and the paper that prints both.
MERGINGS = [
    ('Convolution (PVT)', 'own', 'PVT-Tiny', ()),
    ('Swin', 'Swin', "PVT-Tiny, Swin's merging", ()),
    (
        'Deformable (LIT)',
        'Deformable',
        'PVT-Tiny, deformable',
        ('pvt_small_dtm', 'pvt_small', 'lit'),
    ),
    ('SG-Former', 'SGFormer', "PVT-Tiny, SG-Former's merging", ()),
    ('Stepwise (SPM)', 'Stepwise', 'PVT-Tiny, stepwise (SPM)', ('pvt_tiny_spm', 'pvt_tiny', 'spm')),
    ('HAFA', 'HAFA', 'PVT-Tiny, HAFA', ('pvt_tiny_hafa', 'pvt_tiny', 'hafa')),
    ('Cluster, three times', 'Cluster', 'PVT-Tiny, cluster at all transitions', ()),
]
# Config of the classifier, row of docs/benchmarks.md, page.
BACKBONES = [
    ('pvt_tiny', 'PVT-Tiny', 'pvt'),
    ('pvtv2_b1', 'PVTv2-B1', 'pvt_v2'),
    ('shunted_tiny', 'Shunted-T', 'shunted'),
    ('pacavit_tiny', 'PaCa-ViT-Tiny', 'paca_vit'),
    ('nat_mini', 'NAT-Mini', 'nat'),
    ('lit_tiny', 'LIT-Ti', 'lit'),
    ('sgformer_small', 'SG-Former-S', 'sg_former'),
    ('lit_small', 'LIT-S', 'lit'),
    ('swin_tiny', 'Swin-T', 'swin'),
]
# Datasets of runs that belong to no paper.
SMALL = ('camvid', 'scenes', 'fruits', 'bccd', 'fmnist')


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def configs() -> list[str]:
    """Every config as FRAMEWORK/NAME."""
    return sorted(f'{path.parent.name}/{path.stem}' for path in ROOT.glob('configs/mm*/*.py'))


def page_of(config: str, families: dict[str, Any]) -> str:
    """The page to which a config belongs, by its name."""
    fields = config.partition('/')[2].split('_')
    if not config.startswith('mmpretrain/'):
        if fields[0] not in HEADS:
            raise ValueError(f'{config} starts with none of {HEADS}')
        fields = fields[1:]
    for name, family in families.items():
        variant = family.get('variant')
        if variant and any(field.partition('-')[0] == variant for field in fields[1:]):
            return name
    for name, family in families.items():
        if fields[0] in family.get('prefixes', ()):
            return name
    raise ValueError(f'{config} belongs to no page of {FOLDER / "families.yaml"}')


def count(config: str) -> dict[str, Any]:
    """Parameters, multiply-accumulates and the size of the image, (height, width), of a config."""
    cfg = Config.fromfile(ROOT / f'configs/{config}.py')
    counted = measure(cfg)
    return dict(params=counted.total_params, macs=counted.total_macs, size=list(default_shape(cfg)))


def count_missing() -> tuple[dict[str, Any], list[str]]:
    """Counts of all configs, and what failed; the count of such a config is None."""
    known = load(COUNTS) if COUNTS.is_file() else {}
    counts, failed = {}, []
    for config in configs():
        if known.get(config):
            counts[config] = known[config]
            continue
        try:
            counts[config] = count(config)
        except Exception as error:  # one model must not cost the others
            counts[config] = None
            failed.append(f'{config}: {type(error).__name__}: {error}')
    return counts, failed


def pages() -> dict[str, str]:
    """Every page by its file's name."""
    families, counts = load(FOLDER / 'families.yaml'), load(COUNTS)
    rows: dict[str, list[Row]] = {}
    for row in load_papers(ROOT / 'configs' / 'papers.yaml')[1]:
        rows.setdefault(row.config, []).append(row)
    members: dict[str, list[str]] = {name: [] for name in families}
    for config in configs():
        members[page_of(config, families)].append(config)
    weights: dict[str, list[tuple]] = {name: [] for name in families}
    for source, group in load(ROOT / 'configs' / 'weights.yaml').items():
        for name, entry in group['weights'].items():
            licence = entry.get('licence', group['licence'])
            owner = weights_page(entry, families)
            weights[owner].append((f'{source}/{name}', entry, licence))
    files = {
        f'{name}.md': '\n'.join(page(name, family, members[name], counts, rows, weights[name]))
        for name, family in families.items()
    }
    return {'index.md': '\n'.join(index(families, members, weights)), **files}


def weights_page(entry: dict[str, Any], families: dict[str, Any]) -> str:
    """The page of published weights: that of their config, or else of the model's name."""
    if 'config' in entry:
        return page_of(entry['config'], families)
    for name, family in families.items():
        if entry['model'].startswith(tuple(family.get('models', ()))):
            return name
    raise ValueError(f'{entry} belongs to no page of {FOLDER / "families.yaml"}')


def index(families: dict, members: dict, weights: dict) -> Iterator[str]:
    yield from (
        '# Models',
        '',
        NOTE,
        'One page for each family: what it does, its configs with parameters and cost, what the papers',
        'print, which weights others have published, and how to run it. The suite publishes none.',
        '',
        '| page | paper | configs | published weights |',
        '|---|---|---|---|',
    )
    for name, family in families.items():
        paper = family.get('paper')
        cited = f'[{paper[0]}]({paper[1]})' if paper else ''
        yield (
            f'| [{family["title"]}]({name}.md) | {cited} | {len(members[name])} |'
            f' {len(weights[name]) or ""} |'
        )
    yield from (
        '',
        'Which one should you take? [Concepts](../concepts.md#which-one-should-i-take) has a table.',
        '',
    )


def page(
    name: str, family: dict, members: list[str], counts: dict, rows: dict, weights: list[tuple]
) -> Iterator[str]:
    yield from (f'# {family["title"]}', '', NOTE, family['intro'].strip(), '')
    if 'paper' in family:
        title, link = family['paper']
        yield from (f'Paper: [{title}]({link}).', '')
    for file, caption in family.get('images', ()):
        yield from (f'![{caption}](../images/{file})', '', f'*{caption}.*', '')
    yield from run_it(family, bool(weights))
    yield from grid(family)
    yield from (
        '## Configs',
        '',
        'A name is head, backbone, merging, schedule and dataset. `spm-gtg-k5` is a variant of `spm`,',
        'most often an ablation: [Item by item](../papers.md) says which. `matched` configs have one',
        'recipe for all mergings, so that you can compare them.',
        '',
        'Parameters and MACs (multiply-accumulates of one image) are those of the whole model, counted',
        'by `tools/analysis_tools/get_flops.py` at the size in the table. "Printed" is what the papers',
        'print, with paper and table in brackets. We have not run these schedules at full length.',
        '',
    )
    for framework, (task, metrics) in TASKS.items():
        in_task = [c for c in members if c.startswith(f'{framework}/')]
        in_task.sort(key=lambda config: (config.endswith(SMALL), config))
        if in_task:
            yield from (f'### {task}', '')
            yield from config_table(in_task, metrics, counts, rows, weights)
    yield from weights_table(weights)
    if 'bibtex' in family:
        yield from ('## Cite', '', '```bibtex', family['bibtex'].strip(), '```', '')
    if 'see' in family:
        yield from ('## Read on', '', *(f'- {link}' for link in family['see']), '')


def cells_of(path: str, head: str) -> dict[str, dict[str, str]]:
    """The first table of a page whose head starts so, as rows by their first cell.

    Columns that have the same head keep the first.
    """
    lines = iter((ROOT / path).read_text().splitlines())
    columns: list[str] = []
    rows = {}
    for line in lines:
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if columns and not line.startswith('|'):
            break
        if line.startswith(head):
            columns = cells
        elif columns and cells[0][:3] != '---':
            rows[cells[0]] = dict(reversed(list(zip(columns, cells, strict=True))))
    return rows


def measured() -> dict[str, dict[str, float]]:
    """The rows of an eager GPU run in docs/benchmarks.md."""
    rows = cells_of('docs/benchmarks.md', '| | training ms | images/s | peak MiB')
    return {
        name: {key: float(cell.split()[0]) for key, cell in row.items() if key and cell}
        for name, row in rows.items()
    }


def concepts() -> str:
    """docs/concepts.md with its two tables written anew."""
    rows: dict[str, list[Row]] = {}
    for row in load_papers(ROOT / 'configs' / 'papers.yaml')[1]:
        rows.setdefault(row.config, []).append(row)
    text = CONCEPTS.read_text()
    for name, table in (('mergings', merging_rows(rows)), ('backbones', backbone_rows(rows))):
        start, end = f'<!-- table of {name} -->\n', '<!-- end of table -->'
        before, _, after = text.partition(start)
        text = before + start + '\n'.join(['', *table, '', end]) + after.partition(end)[2]
    return text


def merging_rows(rows: dict[str, list[Row]]) -> Iterator[str]:
    grid, bench = cells_of('docs/benchmarks/grid.md', '| backbone'), measured()
    plain = bench['PVT-Tiny']
    yield (
        '| merging | params (M) / MACs (G) | training time | training memory | inference time |'
        ' ImageNet top-1 | COCO box AP | ADE20K mIoU |'
    )
    yield '|---|---|---|---|---|---|---|---|'
    for label, column, row, configs in MERGINGS:
        costs = [
            f'{bench[row][key] / plain[key]:.2f}x'
            for key in ('training ms', 'peak MiB', 'inference ms')
        ]
        gains = [
            gain(configs, form, metric, rows)
            for form, metric in (
                ('mmpretrain/{}_in1k', 'top1'),
                ('mmdet/mask-rcnn_{}_1x_coco', 'AP_b'),
                ('mmseg/fpn_{}_ade20k', 'mIoU'),
            )
        ]
        yield f'| {label} | {grid["PVT tiny"][column]} | {" | ".join(costs + gains)} |'


def gain(configs: tuple, form: str, metric: str, rows: dict[str, list[Row]]) -> str:
    """'WITHOUT to WITH (paper)' where one table of that paper prints both."""
    if not configs:
        return ''
    *pair, paper = configs
    ours, plain = (rows.get(form.format(config), ()) for config in pair)
    for row in ours:
        for other in plain:
            same = row.paper == other.paper == paper and row.table == other.table
            if same and metric in row.metrics:
                before, after = other.metrics[metric], row.metrics[metric]
                return f'{before} to {after} ({NAMES[row.paper]} {row.table})'
    return ''


def backbone_rows(rows: dict[str, list[Row]]) -> Iterator[str]:
    bench, counts = measured(), load(COUNTS)
    yield (
        '| backbone | params (M) / MACs (G) | training images/s | training memory (MiB) |'
        ' printed top-1 |'
    )
    yield '|---|---|---|---|---|'
    for name, row, link in BACKBONES:
        counted, run = counts[f'mmpretrain/{name}_in1k'], bench[row]
        cost = f'{counted["params"] / 1e6:.2f} / {counted["macs"] / 1e9:.2f}'
        top1 = printed(rows[f'mmpretrain/{name}_in1k'], 'top1')
        yield (
            f'| [{row}](models/{link}.md) | {cost} | {run["images/s"]:.0f} |'
            f' {run["peak MiB"]:.0f} | {top1} |'
        )


def run_it(family: dict, has_weights: bool) -> Iterator[str]:
    config = f'configs/{family["run"]}.py'
    framework, _, _ = family['run'].partition('/')
    yield from ('## Run it', '')
    if 'python' in family:
        yield from (
            'In Python:',
            '',
            '<!-- run -->',
            '```python',
            family['python'].strip(),
            '```',
            '',
        )
    if 'names' in family:
        yield from (
            f"`spm_mm.list_models('{family['names']}')` lists the sizes; "
            '[Without configs](../guides/without-configs.md) shows the options.',
            '',
        )
    data = {'mmpretrain': 'ImageNet-1K', 'mmdet': 'COCO', 'mmseg': 'ADE20K'}[framework]
    yield from (
        f'Train and test on {data}, in the folders that',
        '[Data](../guides/datasets.md#benchmark-datasets) shows. The number is that of GPUs:',
        '',
        '```bash',
        f'python tools/analysis_tools/get_flops.py {config}',
        f'tools/dist_train.sh {config} 8',
        f'tools/dist_test.sh {config} CHECKPOINT 8',
        '```',
        '',
        'For your own images, see [Train on my data](../guides/datasets.md).',
        '',
    )
    if has_weights:
        yield from (
            'To start from published weights, see [below](#published-weights) and',
            '[Fine-tune](../guides/finetune.md).',
            '',
        )


def grid(family: dict) -> Iterator[str]:
    """The row and the column of docs/benchmarks/grid.md that belong to the page."""
    lines = (ROOT / 'docs/benchmarks/grid.md').read_text().splitlines()
    head, _, *body = [
        [cell.strip() for cell in line.strip('|').split('|')] for line in lines if line[:1] == '|'
    ]
    note = (
        'Parameters in M / MACs in G of the backbone at 224 x 224, from'
        ' [the whole grid](../benchmarks/grid.md).'
    )
    if 'row' in family:
        (row,) = (row for row in body if row[0].split()[0] == family['row'])
        yield from (f'## {row[0]} with every merging', '', note, '')
        yield from ('| merging | parameters / MACs |', '|---|---|')
        yield from (f'| {label} | {cell} |' for label, cell in zip(head[1:], row[1:], strict=True))
        yield ''
    if 'column' in family:
        at, label = head.index(family['column']), family['column']
        yield from (f'## {label} merging on every backbone', '', note, '')
        yield from (f'| backbone | own merging | {label} |', '|---|---|---|')
        yield from (f'| {row[0]} | {row[1]} | {row[at]} |' for row in body)
        yield ''


def config_table(
    members: list[str], metrics: dict[str, str], counts: dict, rows: dict, weights: list[tuple]
) -> Iterator[str]:
    with_weights = {entry.get('config') for _, entry, _ in weights}
    heads = ' | '.join(f'printed {metric}' for metric in metrics.values())
    yield f'| config | size | params (M) | MACs (G) | {heads} | weights |'
    yield '|---|---|---|---|' + '---|' * len(metrics) + '---|'
    for config in members:
        counted = counts.get(config)
        cost = ('-', '-', '-')
        if counted:
            height, width = counted['size']
            cost = (
                f'{height} x {width}',
                f'{counted["params"] / 1e6:.2f}',
                f'{counted["macs"] / 1e9:.2f}',
            )
        cells = [printed(rows.get(config, ()), metric) for metric in metrics]
        link = '[yes](#published-weights)' if config in with_weights else ''
        label = config.partition('/')[2]
        yield (
            f'| [{label}](../../configs/{config}.py) | {" | ".join(cost)} |'
            f' {" | ".join(cells)} | {link} |'
        )
    yield ''


def printed(rows: list[Row], metric: str) -> str:
    """What the papers print, a value once with all of its tables."""
    found: dict[float, list[str]] = {}
    for row in rows:
        if metric in row.metrics:
            tables = found.setdefault(row.metrics[metric], [])
            source = f'{NAMES[row.paper]} {row.table}'
            if source not in tables:
                tables.append(source)
    return '; '.join(f'{value} ({", ".join(tables)})' for value, tables in found.items())


NAMES = {key: paper.name for key, paper in load_papers(ROOT / 'configs' / 'papers.yaml')[0].items()}


def weights_table(weights: list[tuple]) -> Iterator[str]:
    if not weights:
        return
    yield from (
        '## Published weights',
        '',
        'Others publish these weights. Use one by its name, in a config or on the command line:',
        "`checkpoint='spm_mm://NAME'`, or `python tools/model_converters/fetch.py NAME`. If no address",
        'is known, download the file yourself and [convert](../guides/weights.md#convert) it. Figures',
        'and licences are those that the source states.',
        '',
        '| name | model | task | figures | address known | licence |',
        '|---|---|---|---|---|---|',
    )
    for name, entry, licence in weights:
        figures = ', '.join(f'{k} {v}' for k, v in entry.get('figures', {}).items())
        address = (
            'yes' if 'url' in entry else f'[page]({entry["page"]})' if 'page' in entry else 'no'
        )
        yield f'| `{name}` | {entry["model"]} | {entry["task"]} | {figures} | {address} | {licence} |'
    yield ''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--check', action='store_true', help='write nothing; status 1 if outdated')
    parser.add_argument('--count', action='store_true', help='count configs without a count first')
    args = parser.parse_args()
    failed: list[str] = []
    if args.count:
        MMLogger.get_current_instance().setLevel(logging.ERROR)
        counts, failed = count_missing()
        COUNTS.write_text(yaml.safe_dump(counts, default_flow_style=None, width=200))
    outdated = []
    files = {FOLDER / name: content for name, content in pages().items()}
    for path, content in {**files, CONCEPTS: concepts()}.items():
        if path.is_file() and path.read_text() == content:
            continue
        outdated.append(path.name)
        if not args.check:
            path.write_text(content)
            print(f'wrote {path}')
    if args.check and outdated:
        sys.exit(f'outdated: {", ".join(outdated)}; run tools/docs/make_model_pages.py')
    if failed:
        sys.exit('not counted:\n' + '\n'.join(failed))


if __name__ == '__main__':
    run_tool(main)
