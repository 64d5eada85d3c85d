"""Every tutorial runs from top to bottom, and what is stored in it is what comes out.

Text must be equal but for its numbers, which may differ by rounding, and in a cell with the tag
``trained`` by some points. With the tag ``varies`` (times, log lines) the text alone counts.
``--store-outputs`` writes what comes out into the notebook.
"""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip('nbclient', reason='nbclient runs the notebooks')
nbformat = pytest.importorskip('nbformat')
pytest.importorskip('ipykernel', reason='ipykernel runs the cells')

FOLDER = Path(__file__).parents[2] / 'docs/tutorials'
NEEDS = {'checkpoint_to_onnx': ('onnx', 'onnxscript', 'onnxruntime')}
NUMBER = re.compile(r'[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?')
ESCAPES = re.compile(r'\x1b\[[\d;]*m')
# Points of mIoU: where a processor rounds otherwise, a training takes another course.
TRAINED = dict(abs=6.0)
ROUNDED = dict(rel=1e-3)


def tidy(cell: Any) -> None:
    """Leave out warnings and colours, and join the texts that follow each other."""
    kept: list[Any] = []
    for output in cell.outputs:
        if output.get('name') == 'stderr':
            continue
        if output.output_type == 'stream':
            output.text = ESCAPES.sub('', output.text)
            if kept and kept[-1].output_type == 'stream':
                kept[-1].text += output.text
                continue
        kept.append(output)
    cell.outputs = kept


def texts(cell: Any) -> Iterator[str]:
    """What a cell put out as text, and the word picture for each picture."""
    for output in cell.outputs:
        if output.output_type == 'stream':
            yield output.text
        else:
            yield 'picture' if 'image/png' in output.data else output.data['text/plain']


def check(stored: Any, found: Any) -> None:
    """Compare the outputs of a cell with those that are stored."""
    old, new = ('\n'.join(texts(cell)) for cell in (stored, found))
    assert NUMBER.sub('#', new).split() == NUMBER.sub('#', old).split(), stored.source
    tags = stored.metadata.get('tags', ())
    if 'varies' not in tags:
        tolerance = TRAINED if 'trained' in tags else ROUNDED
        numbers = [[float(number) for number in NUMBER.findall(text)] for text in (new, old)]
        assert numbers[0] == pytest.approx(numbers[1], **tolerance), stored.source


@pytest.mark.slow
@pytest.mark.parametrize('path', sorted(FOLDER.glob('*.ipynb')), ids=lambda path: path.stem)
def test_tutorial(path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> None:
    for name in NEEDS.get(path.stem, ()):
        pytest.importorskip(name)
    # The notebook calls plain `python`: make that the one that runs the tests.
    monkeypatch.setenv('PATH', f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}')
    stored, found = (nbformat.read(path, as_version=4) for _ in range(2))
    runner = nbclient.NotebookClient(
        found,
        timeout=600,
        kernel_name='python3',
        record_timing=False,
        resources={'metadata': {'path': str(FOLDER)}},
    )
    runner.execute()
    cells = [cell for cell in found.cells if cell.cell_type == 'code']
    for cell in cells:
        tidy(cell)
    if pytestconfig.getoption('--store-outputs'):
        nbformat.write(found, path)
        return
    for before, after in zip(
        (cell for cell in stored.cells if cell.cell_type == 'code'), cells, strict=True
    ):
        check(before, after)


def test_every_tutorial_has_its_outputs() -> None:
    notebooks = sorted(FOLDER.glob('*.ipynb'))
    assert len(notebooks) == 2
    for path in notebooks:
        cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == 'code']
        assert all(c.outputs or c.source.startswith('import torch') for c in cells), path


def test_a_changed_output_is_found() -> None:
    def cell(text: str, *tags: str) -> Any:
        output = nbformat.v4.new_output('stream', text=text)
        return nbformat.v4.new_code_cell(outputs=[output], metadata=dict(tags=[*tags]))

    check(cell('1.0000'), cell('1.0001'))
    check(cell('mIoU 60.0', 'trained'), cell('mIoU 64.0'))
    check(cell('12 ms', 'varies'), cell('99 ms'))
    for text in ('mIoU 70.0', 'AP 60.0', 'mIoU 60.0 61.0'):
        with pytest.raises(AssertionError):
            check(cell('mIoU 60.0', 'trained'), cell(text))
    with pytest.raises(AssertionError):
        check(cell('mIoU 60.0'), cell('mIoU 61.0'))
