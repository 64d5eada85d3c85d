from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from spm_mm.converters import Converted, convert_checkpoint, read_checkpoint


@pytest.fixture
def convert_file(tmp_path: Path) -> Callable[..., Converted]:
    """Save something as a file of this name, and convert that."""

    def convert(content: Any, name: str = 'weights.pth', **options: Any) -> Converted:
        torch.save(content, tmp_path / name)
        return convert_checkpoint(read_checkpoint(tmp_path / name), **options)

    return convert
