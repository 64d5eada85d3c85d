"""Write docs/papers.md, or check it: what of each paper is where in the suite.

Tables come from configs/papers.yaml, everything else from configs/paper_items.yaml.
"""

import argparse
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from spm_mm.engine import load_papers, run_tool
from spm_mm.engine.papers import Row
from spm_mm.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / 'docs' / 'papers.md'
HEADER = """# The papers, item by item

This page lists the config of each table row, the command of each figure, the class of each equation and
the config of each recipe. To run a table from start to end, see
[Reproduce the tables](papers/reproduce.md), which also says how paper and official code differ.

Start each command with `python`, and replace the words in capitals.
`tools/analysis_tools/compare_papers.py --tables --paper NAME` prints the tables of a paper.

Written by `python tools/analysis_tools/make_papers_page.py`: do not edit.
"""
KINDS = ('class', 'command', 'config', 'reason')
# Configs by the text of a paper, where its official code differs: patterns of their names.
PRINTED = {
    'spm': ('*_spm-paper_*',),
    'hafa': ('*_hafa-dense_*', '*_hafa-paper_*'),
    'sgformer': ('*sgformer_*_paper_*',),
}
NAMES = {'equations': 'Equation', 'figures': 'Figure', 'recipes': '', 'text': ''}


def load_items(path: Path) -> dict[str, dict[str, dict[str, dict[str, str]]]]:
    """What the papers hold beside their tables.

    Raises:
        UserError: If an item has not exactly one of :data:`KINDS`, or an unknown key.
    """
    items = yaml.safe_load(path.read_text())
    for paper, parts in items.items():
        for part, entries in parts.items():
            for name, entry in entries.items():
                if sum(kind in entry for kind in KINDS) != 1 or not set(entry) <= {
                    *KINDS, 'what', 'section', 'note',
                }:  # fmt: skip
                    raise UserError(f'{path}: {paper}, {part}, {name} must have one of {KINDS}')
    return items


def find_class(name: str) -> Any:
    """The class or function ``NAME`` of ``spm_mm.PACKAGE``, by ``PACKAGE.NAME``.

    Raises:
        UserError: If there is none.
    """
    package, _, name = name.rpartition('.')
    module = importlib.import_module(f'spm_mm.{package}')
    if not hasattr(module, name):
        raise UserError(f'spm_mm.{package} has no {name}')
    return getattr(module, name)


def page() -> str:
    """The page."""
    papers, rows, _ = load_papers(ROOT / 'configs' / 'papers.yaml')
    items = load_items(ROOT / 'configs' / 'paper_items.yaml')
    lines = [HEADER]
    lines += [
        f'- [{paper.name}](#{paper.name.lower()}): "{paper.title}"' for paper in papers.values()
    ]
    for key, paper in papers.items():
        lines += ['', f'## {paper.name}', '', f'"{paper.title}", {paper.code}']
        for part, entries in items[key].items():
            lines += [
                '',
                f'### {part.capitalize() if part != "text" else "Stated in the text"}',
                '',
            ]
            lines += ['| | what | where |', '|---|---|---|']
            lines += [_item(part, name, entry) for name, entry in entries.items()]
        lines += _printed(key)
        lines += ['', '### Tables', '', '| table | row | config |', '|---|---|---|']
        lines += [_row(row) for row in rows if row.paper == key]
    return '\n'.join([*lines, '', *_matched(), ''])


def _item(part: str, name: str, entry: dict[str, str]) -> str:
    label = f'{NAMES[part]} {name}'.strip()
    if 'section' in entry:
        label += f' (section {entry["section"]})'
    where = {
        'class': lambda text: f'`spm_mm.{text}`',
        'command': lambda text: f'`{text}`',
        'config': lambda text: f'[{text}](../configs/{text}.py)',
        'reason': lambda text: f'none: {text}',
    }
    (kind,) = (kind for kind in KINDS if kind in entry)
    note = f'; {entry["note"]}' if 'note' in entry else ''
    return f'| {label} | {entry.get("what", "")} | {where[kind](entry[kind])}{note} |'


def _row(row: Row) -> str:
    if row.config:
        where = f'[{row.config}](../configs/{row.config}.py)'
    else:
        where = 'none: a quoted model that the suite does not build'
    return f'| {row.table} | {row.name} | {where} |'


def _printed(paper: str) -> Iterator[str]:
    patterns = PRINTED.get(paper, ())
    found = [p for pattern in patterns for p in (ROOT / 'configs').glob(f'mm*/{pattern}.py')]
    if found:
        yield from (
            '',
            '### By the text of the paper',
            '',
            'The defaults are the official code, which made the printed figures. These configs follow',
            "the paper's text where it differs; no table has them.",
            '',
        )
        for path in sorted(found, key=lambda path: (path.parent.name, path.name)):
            name = f'{path.parent.name}/{path.stem}'
            yield f'- [{name}](../configs/{name}.py)'


def _matched() -> Iterator[str]:
    yield from (
        '## Matched comparisons',
        '',
        'No paper compares its merging with those of the others under one recipe. These configs do:',
        'the merging is the only line that differs. `_tome` merges tokens by similarity, as a peer',
        'that reduces tokens.',
        '',
        '| | own merging | LIT | SPM | HAFA | ToMe |',
        '|---|---|---|---|---|---|',
    )
    for own in sorted((ROOT / 'configs').glob('mm*/*_matched_*.py')):
        cells = []
        for variant in ('matched', 'dtm-matched', 'spm-matched', 'hafa-matched', 'tome'):
            path = own.with_name(own.name.replace('_matched_', f'_{variant}_'))
            link = f'../configs/{path.parent.name}/{path.name}'
            cells.append(f'[{variant}]({link})' if path.is_file() else '')
        label = f'{own.parent.name}/{own.stem.replace("_matched", "")}'
        yield f'| {label} | {" | ".join(cells)} |'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--check', action='store_true', help='write nothing; status 1 if outdated')
    args = parser.parse_args()
    content = page()
    if PAGE.is_file() and PAGE.read_text() == content:
        return
    if args.check:
        sys.exit(f'outdated: {PAGE.name}; run tools/analysis_tools/make_papers_page.py')
    PAGE.write_text(content)
    print(f'wrote {PAGE}')


if __name__ == '__main__':
    run_tool(main)
