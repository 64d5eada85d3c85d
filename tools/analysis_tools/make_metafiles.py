"""Write model-index.yml and the metafiles of configs/ from configs/papers.yaml, or check them.

Results there are the papers': the suite publishes no weights.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from spm_mm.engine import load_papers, run_tool
from spm_mm.engine.papers import Paper, Row

ROOT = Path(__file__).resolve().parents[2]
HEADER = (
    '# Written by tools/analysis_tools/make_metafiles.py from configs/papers.yaml: change that.\n'
)
DATASETS = {'in1k': 'ImageNet-1K', 'coco': 'COCO', 'ade20k': 'ADE20K'}
# Task and metric names as OpenMMLab's metafiles have them.
TASKS = {
    'top1': ('Image Classification', 'Top 1 Accuracy'),
    'AP_b': ('Object Detection', 'box AP'),
    'AP_m': ('Instance Segmentation', 'mask AP'),
    'mIoU': ('Semantic Segmentation', 'mIoU'),
    'mIoU_ms': ('Semantic Segmentation', 'mIoU(ms+flip)'),
}


def contents() -> dict[str, str]:
    """Every file below the root that this tool writes, with what belongs into it."""
    papers, rows, _ = load_papers(ROOT / 'configs' / 'papers.yaml')
    frameworks: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        if (ROOT / 'configs' / f'{row.config}.py').is_file():
            frameworks.setdefault(row.config.partition('/')[0], {}).setdefault(
                row.config, []
            ).append(row)
    files = {
        f'configs/{framework}/metafile.yml': _dump(_metafile(configs, papers))
        for framework, configs in sorted(frameworks.items())
    }
    return {'model-index.yml': _dump({'Import': sorted(files)}), **files}


def _metafile(configs: dict[str, list[Row]], papers: dict[str, Paper]) -> dict[str, Any]:
    used = dict.fromkeys(rows[0].paper for rows in configs.values())
    return {
        'Collections': [
            {
                'Name': papers[name].name,
                'Paper': {'Title': papers[name].title},
                'Code': {'URL': papers[name].code},
            }
            for name in used
        ],
        'Models': [_model(config, rows, papers) for config, rows in sorted(configs.items())],
    }


def _model(config: str, rows: list[Row], papers: dict[str, Paper]) -> dict[str, Any]:
    name = config.partition('/')[2]
    dataset = DATASETS[name.removesuffix('-384px').rpartition('_')[2]]
    return {
        'Name': name,
        'In Collection': papers[rows[0].paper].name,
        'Config': f'configs/{config}.py',
        'Results': [
            {
                'Task': TASKS[metric][0],
                'Dataset': dataset,
                'Metrics': {TASKS[metric][1]: value},
                'Source': f'{papers[row.paper].name}, Table {row.table}: {row.name}',
            }
            for row in rows
            for metric, value in row.metrics.items()
            if metric in TASKS
        ],
    }


def _dump(content: dict[str, Any]) -> str:
    return HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--check', action='store_true', help='write nothing; status 1 if outdated')
    args = parser.parse_args()
    outdated = []
    for name, content in contents().items():
        path = ROOT / name
        if path.is_file() and path.read_text() == content:
            continue
        outdated.append(name)
        if not args.check:
            path.write_text(content)
            print(f'wrote {name}')
    if args.check and outdated:
        sys.exit(f'outdated: {", ".join(outdated)}; run tools/analysis_tools/make_metafiles.py')


if __name__ == '__main__':
    run_tool(main)
