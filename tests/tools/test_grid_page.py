"""docs/benchmarks/grid.md is what the tool writes, every cell counted again."""

from spm_mm.backbones import HierarchicalBackbone
from spm_mm.registry import registered
from tests import testing


def test_the_page_is_up_to_date(load_tool) -> None:
    tool = load_tool('tools/analysis_tools/make_grid.py')
    assert tool.PAGE.read_text() == tool.page(), 'run tools/analysis_tools/make_grid.py'


def test_impossible_pairs_are_named(load_tool) -> None:
    tool = load_tool('tools/analysis_tools/make_grid.py')
    rows = [line for line in tool.PAGE.read_text().splitlines() if line.startswith('| ')]
    head, *rows = [[part.strip() for part in row.strip('|').split('|')] for row in rows]
    missing = {
        (row[0].split()[0], name)
        for row in rows
        for name, figure in zip(head, row, strict=True)
        if figure == '-'
    }
    assert missing == {
        (backbone, column)
        for backbone in testing.backbones()
        for column in ('Cluster', 'Similarity', 'HAFA')
        if not registered(HierarchicalBackbone)[backbone].takes_tokens
    }
