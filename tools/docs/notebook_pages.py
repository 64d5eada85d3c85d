"""A notebook as a page of the site: its text, its code and its stored outputs."""

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def read_notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """Turn a notebook into Markdown. Nothing is run.

    Args:
        path: The ``.ipynb`` file, of version 4 of the format.

    Returns:
        The Markdown, and the pictures that it shows, by their names.
    """
    blocks: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in json.loads(path.read_text())['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown':
            blocks.append(source)
            continue
        blocks.append(f'```python\n{source}\n```')
        for kind, content in _outputs(cell):
            if kind == 'image/png':
                name = f'{path.stem}_{len(pictures) + 1}.png'
                pictures[name] = base64.b64decode(content)
                blocks.append(f'![Output of the code above]({name})')
            elif kind == 'text/plain':
                blocks.append(f'```text\n{content.rstrip()}\n```')
    title, *others = blocks
    download = f'<a href="{path.name}" download>Download this page as a notebook</a>'
    return '\n\n'.join([title, download, *others]) + '\n', pictures


def _outputs(cell: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a cell put out, as MIME types and contents; texts that follow each other are joined."""
    text = ''
    for output in cell['outputs']:
        if output.get('name') == 'stdout':
            text += ''.join(output['text'])
            continue
        if text:
            yield 'text/plain', text
        text = ''
        data = output.get('data', {})
        kind = next((kind for kind in ('image/png', 'text/plain') if kind in data), None)
        if kind:
            yield kind, ''.join(data[kind])
    if text:
        yield 'text/plain', text
