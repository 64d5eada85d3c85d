"""The documentation: links, code that a reader can run, the navigation and the generated pages.

A ``python`` block runs here where the line above it is ``<!-- run -->``. The blocks of a page share
their names, from top to bottom.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / 'docs'
PAGES = sorted(DOCS.rglob('*.md'))
NOTEBOOKS = sorted(DOCS.rglob('*.ipynb'))
TEXTS = [
    *PAGES,
    *NOTEBOOKS,
    *(ROOT / f'{name}.md' for name in ('README', 'CONTRIBUTING', 'CHANGELOG', 'SECURITY')),
]
FENCE = re.compile(r'^( *)(```+|~~~+).*?^\1\2', re.DOTALL | re.MULTILINE)
LINK = re.compile(r'\]\(([^)\s]+)\)')
RUNNABLE = re.compile(r'^<!-- run -->\n```python\n(.*?)^```', re.DOTALL | re.MULTILINE)
# What blocks import that is not part of every environment.
OPTIONAL = ('peft',)
# Pages of the site that are files of the root.
FROM_ROOT = {'changelog.md', 'contributing.md'}
# Packages without a page of their own in the API: what is compared with, and the stand-in for mmcv.
NOT_IN_API = {'mmcv_ops', 'reference'}


def named(paths: list[Path]) -> list:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in paths]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may end in, as MkDocs makes it."""
    found: set[str] = set()
    for heading in re.findall(r'^#+ +(.+?)\s*$', FENCE.sub('', page.read_text()), re.MULTILINE):
        plain = re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', heading)
        slug = re.sub(r'[^\w\s-]', '', plain).strip().lower()
        found.add(re.sub(r'[-\s]+', '-', slug))
    return found


def navigation(entry: object) -> Iterator[str]:
    """The pages of a ``nav``, at any depth."""
    if isinstance(entry, str):
        yield entry
    else:
        for part in entry.values() if isinstance(entry, dict) else entry:
            yield from navigation(part)


@pytest.mark.parametrize('page', named(TEXTS))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub('', page.read_text())):
        if re.match(r'\w+:', link):
            continue
        path, _, anchor = link.partition('#')
        target = (page.parent / path).resolve() if path else page
        # Two pages of the site stand elsewhere in the repository.
        if target.parent == DOCS and target.name in FROM_ROOT:
            continue
        assert target.is_file(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize('page', named([p for p in PAGES if RUNNABLE.search(p.read_text())]))
def test_code_runs(page: Path, capsys: pytest.CaptureFixture) -> None:
    names: dict[str, object] = {'__name__': page.stem}
    for block in RUNNABLE.findall(page.read_text()):
        try:
            exec(compile(block, str(page), 'exec'), names)  # noqa: S102
        except ModuleNotFoundError as error:
            if error.name not in OPTIONAL:
                raise
            pytest.skip(f'{error.name} is not installed')
    capsys.readouterr()


def test_every_mark_has_a_block() -> None:
    for page in PAGES:
        text = page.read_text()
        assert text.count('<!-- run -->') == len(RUNNABLE.findall(text)), page


@pytest.mark.parametrize('page', named(TEXTS))
def test_files_that_commands_name_are_there(page: Path) -> None:
    """Tools and configs; names with braces or capitals stand for several or for the reader's own."""
    for block in FENCE.finditer(page.read_text()):
        for path in re.findall(r'\b(?:tools|configs)/[\w./-]+\.(?:py|sh)\b', block[0]):
            assert (ROOT / path).is_file(), path


def test_navigation_lists_every_page() -> None:
    listed = list(navigation(yaml.safe_load((ROOT / 'mkdocs.yml').read_text())['nav']))
    assert len(listed) == len(set(listed))
    pages = (*PAGES, *(path.with_suffix('.md') for path in NOTEBOOKS))
    assert set(listed) == {str(page.relative_to(DOCS)) for page in pages} | FROM_ROOT


def test_api_has_every_package() -> None:
    text = '\n'.join(page.read_text() for page in (DOCS / 'api').glob('*.md'))
    listed = set(re.findall(r'^::: spm_mm\.(\w+)$', text, re.MULTILINE))
    packages = {path.parent.name for path in (ROOT / 'spm_mm').glob('*/__init__.py')}
    assert listed == packages - NOT_IN_API | {'models', 'errors', 'registry', 'weights'}


def test_every_citation_is_there() -> None:
    cited = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    titles = {reference['title'] for reference in cited['references']}
    papers = yaml.safe_load((ROOT / 'configs/papers.yaml').read_text())['papers']
    assert titles == {paper['title'] for paper in papers.values()}
    assert f"__version__ = '{cited['version']}'" in (ROOT / 'spm_mm/__init__.py').read_text()


def test_one_version_of_ruff() -> None:
    (hooks,) = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())['repos']
    pinned = f'ruff=={hooks["rev"].removeprefix("v")}\n'
    assert pinned in (ROOT / 'requirements/openmmlab.txt').read_text()


@pytest.fixture(scope='module')
def tool(load_tool):
    return load_tool('tools/docs/make_model_pages.py')


class TestModelPages:
    def test_they_are_up_to_date(self, tool) -> None:
        for name, content in tool.pages().items():
            page = tool.FOLDER / name
            assert page.read_text() == content, f'{name}: run {tool.__file__}'
        assert tool.CONCEPTS.read_text() == tool.concepts(), f'run {tool.__file__}'

    def test_every_config_is_counted_and_on_one_page(self, tool) -> None:
        assert list(tool.load(tool.COUNTS)) == tool.configs()
        text = '\n'.join(page.read_text() for page in tool.FOLDER.glob('*.md'))
        for config in tool.configs():
            assert text.count(f'(../../configs/{config}.py)') == 1, config

    @pytest.mark.parametrize(
        'config',
        [
            'mmpretrain/pvtv2_b1_hafa_in1k',
            'mmseg/segformer_mit_b0_spm_ade20k',
            'mmdet/retinanet_pvt_tiny_bccd',
        ],
    )
    def test_counts_are_those_of_the_models(self, tool, config: str) -> None:
        assert tool.count(config) == tool.load(tool.COUNTS)[config]


def test_charts_are_up_to_date(tool, load_tool) -> None:
    """`tool` is imported first: the charts read their tables with it."""
    charts = load_tool('tools/docs/make_charts.py')
    assert charts.outdated() == []
    page = (ROOT / 'docs/benchmarks.md').read_text()
    assert all(f'(images/{name}.svg)' in page for name in charts.CHARTS)


def test_results_are_those_of_the_report() -> None:
    """The figures of the comparison on CamVid, in the page and in the README."""
    folder = ROOT / 'docs/results'
    with (folder / 'pvt_slim_camvid.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    for row in rows:
        score, change = f'{row["mIoU"]} ± {row["spread"]}', row['difference']
        cells = [f'{row["training step, relative"]}x', score]
        if change != '-':
            cells += [change, row['95 % interval'], row['told apart']]
            assert f'| {change}, {row["95 % interval"]} |' in (ROOT / 'README.md').read_text()
        assert f'| {" | ".join(cells)} |' in (ROOT / 'docs/results.md').read_text()
        assert f'| {score} |' in (ROOT / 'README.md').read_text()
