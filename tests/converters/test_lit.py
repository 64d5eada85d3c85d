from pathlib import Path

import pytest
import torch

from spm_mm.backbones import LIT
from spm_mm.converters import get_converter
from tests.parity.fixtures import make_state_dict, read_fixture


@pytest.fixture(scope='module')
def official(root: Path) -> dict[str, torch.Tensor]:
    """As the official file of LIT-S would be, with the index that its constructor computes."""
    state_dict = make_state_dict(read_fixture(root / 'tests/parity/oracles/lit_small.json'))
    index = torch.zeros(196, 196, dtype=torch.int64)
    return {**state_dict, 'layers.2.blocks.0.attn.relative_position_index': index}


def test_every_kind_of_key_is_reported(official: dict) -> None:
    converter = get_converter('lit')
    model = converter.model_for(official)
    assert model.backbone.out_type == 'avg_featmap'
    conversion = converter.convert(official, model)
    assert (conversion.missing, conversion.unexpected) == ([], [])
    assert list(conversion.dropped) == ['layers.2.blocks.0.attn.relative_position_index']
    split = conversion.reshaped['layers.3.blocks.1.attn.qkv.weight']
    assert [name.split('.')[-2] for name in split] == ['q', 'kv']


def test_size_of_the_tables_and_output_norms_are_read_from_the_shapes(root: Path) -> None:
    fixture = read_fixture(root / 'tests/parity/oracles/lit_small_det.json')
    model = get_converter('lit').model_for(make_state_dict(fixture))
    names = set(model['backbone'].state_dict())
    assert {f'norms.{i}.out.weight' in names for i in (1, 2, 3)} == {True}
    assert 'norms.0.out.weight' not in names
    table = model['backbone'].stages[2].blocks[0].attn.relative_position_bias_table.table
    assert table.shape == (1, 99, 99, 12)


def test_row_of_the_class_token_is_reported_for_the_dense_form(root: Path) -> None:
    converter = get_converter('lit')
    state_dict = make_state_dict(read_fixture(root / 'tests/parity/oracles/lit_ti_dense.json'))
    conversion = converter.convert(state_dict, converter.model_for(state_dict))
    (line,) = (line for line in conversion.report().splitlines() if line.startswith('dropped'))
    assert 'pos_embed4 -> backbone.stages.3.cls_position' in line


def test_another_model_is_refused(official: dict) -> None:
    deeper = {**official, 'layers.0.blocks.2.norm2.weight': torch.zeros(96)}
    with pytest.raises(ValueError, match=r'no checkpoint of LIT .* \(3, 2, 6, 2\)'):
        get_converter('lit').model_for(deeper)
    assert isinstance(get_converter('lit').model_for(official).backbone, LIT)
