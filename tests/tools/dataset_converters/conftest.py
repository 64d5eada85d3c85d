import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FOLDER = 'tools/dataset_converters'


@pytest.fixture
def converter(load_tool, monkeypatch, root):
    """``main`` of a converter, called with arguments."""
    monkeypatch.syspath_prepend(root / FOLDER)  # converters import one another

    def call(name: str, *arguments: object) -> None:
        load_tool(f'{FOLDER}/{name}.py').main([str(argument) for argument in arguments])

    return call


@pytest.fixture
def picture(tmp_path):
    """Write a picture of a size, perhaps with an EXIF orientation, and return its path."""

    def write(name: str, width: int = 40, height: int = 20, orientation: int | None = None) -> Path:
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(
            np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
        )
        exif = Image.Exif()
        if orientation is not None:
            exif[0x0112] = orientation
        image.save(path, exif=exif)
        return path

    return write


@pytest.fixture
def write_json(tmp_path):
    def write(name: str, content: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, ensure_ascii=False), encoding='utf-8')
        return path

    return write
