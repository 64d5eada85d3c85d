"""The source is found by the keys."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from spm_mm.converters import Converted, Weights, convert_checkpoint, converters, write_weights
from spm_mm.errors import UserError
from tests.converters.test_swin import official_name
from tests.parity.fixtures import make_state_dict, read_fixture

PARITY = Path(__file__).parents[1] / 'parity'
FILES = {
    'oracles/pvt_tiny': ('pvt', "PVT 'tiny', classifier of 1000 classes"),
    'oracles/spm_pvt_tiny': ('pvt', "PVT 'tiny', classifier"),
    'oracles/pvt_v2_b0': ('pvtv2', "PVTv2 'b0', classifier"),
    'oracles/pvt_v2_b2_li': ('pvtv2', "PVTv2 'b2-li', classifier"),
    'oracles/pvt_v2_b5': ('pvtv2', "PVTv2 'b5' or 'mit-b5', classifier"),
    'oracles/lit_ti': ('lit', "LIT 'tiny', classifier"),
    'oracles/lit_small': ('lit', "LIT 'small', classifier"),
    'oracles/lit_small_det': ('lit', "LIT 'small', backbone"),
    'oracles/pacavit_tiny_p2cconv_100_0': ('paca', "PaCaViT 'tiny', classifier"),
    'oracles/pacavit_convmixer_tiny_100': ('paca', "PaCaViT 'tiny-ec', classifier"),
    'oracles/pacavit_small_p2cmlp_100_0_downstream': ('paca', "PaCaViT 'small', backbone"),
    'oracles/sgformer_s': ('sgformer', "SGFormer 'small', classifier"),
    'oracles_hafa/hafa_pvt_tiny': ('hafa', "PVT 'tiny', classifier"),
    'oracles_hafa/hafa_pvt_v2_b1': ('hafa-pvtv2', "PVTv2 'b1', classifier"),
    'oracles_hosts/shunted_t': ('shunted', "ShuntedTransformer 'tiny', classifier"),
    'oracles_hosts/swin_t': ('openmmlab-swin', "SwinTransformer 'tiny', classifier"),
}


def shapes(fixture: str) -> dict[str, Tensor]:
    """Official names and shapes."""
    state = read_fixture(PARITY / f'{fixture}.json')['state']
    return {name: torch.empty(shape, device='meta') for name, shape, *_ in state}


def convert(weights: dict[str, Tensor], **options: object) -> Converted:
    found = Weights(Path('file.pth'), weights, None, {'raw': 'the whole file'})
    return convert_checkpoint(found, **options)


@pytest.mark.parametrize('fixture', FILES)
def test_official_files_are_told_apart(fixture: str) -> None:
    source, found = FILES[fixture]
    converted = convert(shapes(fixture))
    assert converted.source == source
    assert converted.found.startswith(found)


def test_the_official_swin_and_a_pretraining_of_it() -> None:
    weights = {official_name(k): v for k, v in shapes('oracles_hosts/swin_t').items()}
    norms = ('norm0.', 'norm1.', 'norm2.')
    weights = {
        k.replace('norm3.', 'norm.'): v for k, v in weights.items() if not k.startswith(norms)
    }
    assert convert(weights).source == 'swin'
    encoder = {f'encoder.{k}': v for k, v in weights.items() if not k.startswith('head.')}
    converted = convert(encoder)
    assert converted.source == 'swin'
    assert converted.complete
    assert "SwinTransformer 'tiny', backbone" in converted.found


def test_a_classifier_of_mmpretrain_around_an_official_backbone() -> None:
    weights = shapes('oracles/pvt_v2_b0')
    whole = {f'backbone.{k}': v for k, v in weights.items() if not k.startswith('head.')}
    whole |= {f'head.fc.{kind}': weights[f'head.{kind}'] for kind in ('weight', 'bias')}
    converted = convert(whole)
    assert converted.complete
    assert converted.found.startswith("PVTv2 'b0', classifier of 1000 classes of whai362/PVT v2")
    assert converted.conversion.names['head.fc.bias'] == ('head.fc.bias',)


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    for name in ('file/weights.pth', 'file/weights.safetensors'):
        with pytest.raises(UserError, match='cannot be written'):
            write_weights({'a': torch.zeros(1)}, tmp_path / name, 'pvt')
    # Views of one tensor: each is written alone.
    whole = torch.zeros(1000, 1000)
    write_weights({'a': whole[0], 'b': whole.t()[1]}, tmp_path / 'views.pth', 'pvt')
    assert (tmp_path / 'views.pth').stat().st_size < 20_000
    assert [path.name for path in tmp_path.iterdir() if path.suffix == '.part'] == []


@pytest.mark.parametrize(
    ('keys', 'name'),
    [
        (['ctm1.conv.weight', 'ctm2.score.bias'], 'TCFormer'),
        (['layers.0.blocks.0.attn.logit_scale'], 'Swin Transformer V2'),
        (['pos_block.0.proj.weight'], 'Twins'),
        (['conv1.weight'], None),
    ],
)
def test_other_networks_are_refused(keys: list[str], name: str | None) -> None:
    base = {} if name != 'TCFormer' else shapes('oracles/pvt_v2_b1')
    weights = base | {key: torch.empty(1, device='meta') for key in keys}
    with pytest.raises(
        UserError, match=f'are of {name}, .*have: ' if name else 'weights; their first'
    ):
        convert(weights)


def test_channels_of_the_image_are_kept() -> None:
    weights = shapes('oracles/pvt_v2_b0')
    weights['patch_embed1.proj.weight'] = torch.empty(32, 4, 7, 7, device='meta')
    converted = convert(weights)
    assert converted.complete
    assert 'stem.conv.weight reads 4 channels: build the model' in converted.conversion.report()
    assert converted.conversion.state_dict['backbone.stem.conv.weight'].shape[1] == 4


def test_another_shape_is_said() -> None:
    weights = shapes('oracles/pvt_v2_b0')
    weights['norm1.weight'] = torch.empty(3, device='meta')
    converted = convert(weights)
    assert not converted.complete
    said = 'unexpected: norm1.weight, backbone.stages.0.norm.weight is (3,), the model has (32,)'
    assert said in converted.conversion.report()


def test_what_are_no_weights_is_refused() -> None:
    fixture = read_fixture(PARITY / 'oracles/pvt_v2_b0.json')
    weights = make_state_dict(fixture)
    weights['head.bias'][0] = torch.nan
    converted = convert(weights)
    assert not converted.complete
    assert converted.conversion.broken == ['head.fc.bias']
    quantized = {key: value.to(torch.int8) for key, value in weights.items()}
    with pytest.raises(UserError, match=r'no real floating point.*torch\.int8\): a quantized'):
        convert(quantized)


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        ({'num_attention_heads': [2, 2, 5, 8]}, r'number of heads=\[2, 2, 5, 8\].* has \[1, 2'),
        ({'hidden_act': 'relu'}, "hidden_act='relu', the model here has 'gelu'"),
        ({'backbone_config': {'hidden_act': 'relu'}}, "hidden_act='relu'"),
        ({'num_attention_heads': [1, 2, 5, 8], 'hidden_act': 'gelu'}, None),
    ],
)
def test_settings_that_shapes_do_not_tell(settings: dict, said: str | None) -> None:
    found = Weights(
        Path('folder'), shapes('oracles/pvt_v2_b0'), None, {'raw': 'all'}, settings=settings
    )
    if said is None:
        assert convert_checkpoint(found).complete
        return
    with pytest.raises(UserError, match=f'folder: config.json has {said}'):
        convert_checkpoint(found)


def test_parts_beside_the_backbone_stay() -> None:
    """Mask2Former's head, and the transformer of DINO."""
    beside = (
        'panoptic_head.cls_embed.weight',
        'encoder.layers.0.norms.0.weight',
        'decoder.norm.weight',
        'level_embed',
        'query_embedding.weight',
    )
    weights = {
        f'backbone.{k}': v for k, v in shapes('oracles/pvt_v2_b0').items() if k[:4] != 'head'
    }
    converted = convert(weights | {key: torch.empty(1, device='meta') for key in beside})
    assert converted.complete
    assert converted.conversion.state_dict.keys() >= set(beside)


def test_every_source_has_its_own_name_and_description() -> None:
    descriptions = [converter.description for converter in converters.values()]
    assert len(set(descriptions)) == len(converters) == 21
