"""docs/grid.md is what the tool writes: its shape, and one column of each row counted again."""

import pytest

from spm_mm import testing


@pytest.fixture(scope='module')
def tool(load_tool):
    return load_tool('tools/analysis_tools/make_grid.py')


@pytest.fixture(scope='module')
def table(tool) -> list[list[str]]:
    lines = [line for line in tool.PAGE.read_text().splitlines() if line.startswith('| ')]
    return [[part.strip() for part in line.strip('|').split('|')] for line in lines]


def test_the_page_has_every_backbone_and_merging(tool, table) -> None:
    own = ['backbone', 'own', *(name.removesuffix('Merging') for name in testing.mergings())]
    assert table[0] == own, 'run tools/analysis_tools/make_grid.py'
    assert [row[0].split()[0] for row in table[1:]] == testing.backbones()
    assert tool.HEADER in tool.PAGE.read_text()


@pytest.mark.parametrize('number', range(len(testing.backbones())), ids=testing.backbones())
def test_a_figure_of_each_row_is_up_to_date(tool, table, number: int) -> None:
    """Another column for each row, so that every merging is counted somewhere."""
    backbone, columns = testing.backbones()[number], tool.columns()
    column = number % len(columns)
    row = table[1 + number]
    assert row[0] == f'{backbone} {tool.backbones()[backbone]}'
    assert row[1 + column] == tool.cell(backbone, columns[column]), (
        'run tools/analysis_tools/make_grid.py'
    )


def test_impossible_pairs_are_named(table) -> None:
    names = [f'{column}Merging' for column in table[0][1:]]
    missing = [
        (row[0].split()[0], name)
        for row in table[1:]
        for name, figure in zip(names, row[1:], strict=True)
        if figure == '-'
    ]
    wanted = [
        (backbone, merging)
        for backbone in testing.backbones()
        for merging in testing.mergings()
        if (backbone, merging) not in testing.pairs()
    ]
    assert missing == wanted
