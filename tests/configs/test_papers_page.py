"""docs/papers.md: up to date, and what it names is there."""

import inspect
import re
from pathlib import Path

import pytest
import yaml

from spm_mm.errors import UserError
from tests.configs.loading import FILES, ROOT

ITEMS = yaml.safe_load((ROOT / 'configs/paper_items.yaml').read_text())
# How many equations and figures each paper has.
COUNTS = {'spm': (5, 6), 'hafa': (6, 4), 'paca': (14, 6), 'sgformer': (7, 6), 'lit': (8, 3)}


@pytest.fixture(scope='module')
def tool(load_tool):
    return load_tool('tools/analysis_tools/make_papers_page.py')


def entries(part: str, kind: str):
    for paper, parts in ITEMS.items():
        for name, entry in parts.get(part, {}).items():
            if kind in entry:
                yield pytest.param(paper, name, entry[kind], id=f'{paper}-{part}-{name}')


def every(kind: str) -> list:
    return [e for part in ('equations', 'figures', 'recipes', 'text') for e in entries(part, kind)]


def test_page_is_up_to_date(tool) -> None:
    assert tool.PAGE.read_text() == tool.page(), 'run tools/analysis_tools/make_papers_page.py'


@pytest.mark.parametrize('paper', COUNTS)
def test_every_equation_and_figure_is_there(paper: str) -> None:
    for part, count in zip(('equations', 'figures'), COUNTS[paper], strict=True):
        numbers = {int(re.match(r'\d+', name)[0]) for name in ITEMS[paper][part]}
        assert numbers == set(range(1, count + 1)), part


@pytest.mark.parametrize(('paper', 'name', 'where'), every('class'))
def test_classes_are_there(tool, paper: str, name: str, where: str) -> None:
    assert inspect.getdoc(tool.find_class(where))


@pytest.mark.parametrize(('paper', 'name', 'where'), entries('equations', 'class'))
def test_a_class_names_its_equations(tool, paper: str, name: str, where: str) -> None:
    """As "Eq. 2 to 4", "Eq. 2, 3 and 5" or "Eq. 9-14"."""
    text = inspect.getdoc(tool.find_class(where)) or ''
    named: set[int] = set()
    for group in re.findall(r'(?:Eqs?\.|[Ee]quations?) (\d+(?:(?:,| and| to|-) ?\d+)*)', text):
        numbers = [int(number) for number in re.findall(r'\d+', group)]
        named |= set(numbers)
        for first, last in re.findall(r'(\d+) ?(?:to|-) ?(\d+)', group):
            named |= set(range(int(first), int(last) + 1))
    assert int(name) in named, f'{where} names {sorted(named)}'


@pytest.mark.parametrize(('paper', 'name', 'command'), every('command'))
def test_commands_are_there(paper: str, name: str, command: str) -> None:
    """The tool exists and has the options; the configs exist."""
    tool, *arguments = command.split()
    source = (ROOT / tool).read_text()
    shared = (ROOT / 'spm_mm/engine/picture_tool.py').read_text()
    shared += (ROOT / 'spm_mm/benchmark/presets.py').read_text()
    for i, argument in enumerate(arguments):
        if argument.startswith('configs/'):
            assert ROOT / argument in FILES, argument
        if argument.startswith('--'):
            assert f"'{argument}'" in source + shared, argument
        if i and arguments[i - 1] == '--preset':
            assert f"'{argument}'" in shared


@pytest.mark.parametrize(('paper', 'name', 'config'), every('config'))
def test_configs_are_there(paper: str, name: str, config: str) -> None:
    assert ROOT / f'configs/{config}.py' in FILES


def test_links_lead_somewhere(tool) -> None:
    text = tool.PAGE.read_text()
    links = re.findall(r'\]\((\.\./[^)]+)\)', text)
    assert len(links) > 250
    for link in links:
        assert (Path(tool.PAGE).parent / link).resolve().is_file(), link


def test_every_config_is_on_the_page(tool) -> None:
    """All of ImageNet, COCO and ADE20K: in a table, among the items, or by the text of a paper."""
    text = tool.PAGE.read_text()
    for path in FILES:
        name = f'{path.parent.name}/{path.stem}'
        if path.stem.endswith(('in1k', '384px', 'coco', 'ade20k')):
            as_printed = re.search('[-_]paper_|-dense_', path.stem)
            if not as_printed and 'no row in any' in path.read_text():
                continue
            assert f'configs/{name}.py' in text, name


def test_an_item_must_say_where(tool, tmp_path) -> None:
    path = tmp_path / 'items.yaml'
    path.write_text('spm: {figures: {"1": {what: overview}}}')
    with pytest.raises(UserError, match='spm, figures, 1 must have one of'):
        tool.load_items(path)
