import copy

import pytest
import torch
from torch import nn

from spm_mm.engine import compile_parts


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 8), nn.GELU())
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x))


def test_parts_are_compiled_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(nn.Module, 'compile', lambda self, *_, **__: compiled.append(self))
    model = Model()
    compile_parts(model, ['backbone', 'head'])
    assert compiled == [model.backbone, model.head]


def test_names_and_outputs_stay() -> None:
    model = Model()
    twin = copy.deepcopy(model)
    compile_parts(model, ['backbone'])
    assert list(model.state_dict()) == list(twin.state_dict())
    x = torch.randn(3, 4)
    torch.testing.assert_close(model(x), twin(x))


def test_an_unknown_part() -> None:
    with pytest.raises(ValueError, match=r'--compile neck: .* it has backbone, head'):
        compile_parts(Model(), ['neck'])
