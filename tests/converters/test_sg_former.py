from collections.abc import Callable

import pytest
import torch

from spm_mm.converters import get_converter
from tests.parity.fixtures import make_state_dict, read_fixture


@pytest.fixture(scope='module')
def official(root) -> dict[str, torch.Tensor]:
    weights = make_state_dict(read_fixture(root / 'tests/parity/oracles/sgformer_s.json'))
    return {**weights, 'pos_embed': torch.randn(1, 3136, 64)}


def test_everything_arrives(official: dict) -> None:
    converter = get_converter('sgformer')
    model = converter.model_for(official)
    conversion = converter.convert(official, model)
    assert (conversion.missing, conversion.unexpected, conversion.dropped) == ([], [], {})
    assert set(conversion.names) == set(official)
    model.load_state_dict(conversion.state_dict)
    attention = model.backbone.stages[0].blocks[1].attn
    # Keys of both halves of the heads, then the values of both.
    official_kv = [official[f'block1.1.attn.kv{i}.weight'].chunk(2) for i in (1, 2)]
    expected = torch.cat(
        [official_kv[0][0], official_kv[1][0], official_kv[0][1], official_kv[1][1]]
    )
    assert torch.equal(attention.kv.weight, expected)
    assert 'reshaped: block1.1.attn.kv2.bias -> ' in conversion.report()


def test_averaged_weights_are_the_ones_that_the_official_evaluation_takes(
    official: dict, convert_file: Callable
) -> None:
    averaged = {key: value + 1 for key, value in official.items()}
    content = {'state_dict': official, 'state_dict_ema': averaged}
    for ema, expected in ((None, averaged), (True, averaged), (False, official)):
        converted = convert_file(content, ema=ema)
        assert converted.complete
        bias = converted.conversion.state_dict['head.fc.bias']
        assert torch.equal(bias, expected['head.bias'])
    assert 'raw weights, entry' in converted.found
    assert '--ema takes those' in converted.found


def test_unknown_and_missing_are_reported(official: dict) -> None:
    converter = get_converter('sgformer')
    model = converter.model_for(official)
    changed = {**official, 'teacher.weight': torch.zeros(1)}
    del changed['block1.1.attn.kv2.weight'], changed['norm4.bias']
    conversion = converter.convert(changed, model)
    assert set(conversion.unexpected) == {'teacher.weight', 'block1.1.attn.kv1.weight'}
    assert set(conversion.missing) == {
        'backbone.stages.0.blocks.1.attn.kv.weight',
        'backbone.stages.3.norm.bias',
    }


def test_another_model_is_refused(official: dict) -> None:
    deeper = {**official, 'block4.1.norm1.weight': torch.zeros(512)}
    with pytest.raises(ValueError, match=r'no checkpoint of SGFormer .* \(2, 4, 16, 2\)'):
        get_converter('sgformer').model_for(deeper)


def test_the_table_is_made_for_the_size_of_the_checkpoint(official: dict) -> None:
    larger = {**official, 'pos_embed': torch.randn(1, 96 * 96, 64)}
    table = get_converter('sgformer').model_for(larger).backbone.stages[0].position.table
    assert table.shape == (1, 96, 96, 64)
