import copy
import logging

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from spm_mm.backbones import PVT
from spm_mm.registry import MODELS
from tests import testing
from tests.testing import build_tiny, total

SPM = dict(type='StepwiseMerging')


def macs(merging: dict | None) -> float:
    with torch.device('meta'):
        model = torch.nn.Sequential(PVT('tiny', merging=merging, out_type='cls_token')).eval()
        head = torch.nn.Linear(512, 1000)
        with FlopCounterMode(display=False) as counter:
            head(model(torch.empty(1, 3, 224, 224))[0])
    return counter.get_total_flops() / 2e9


def test_macs() -> None:
    assert macs(None) == pytest.approx(1.933, abs=5e-4)
    assert macs(SPM) == pytest.approx(2.553, abs=5e-4)


def test_position_table_is_resized_where_a_later_stage_has_the_first_grid() -> None:
    """Stage 2 of a 448 x 448 image has 3136 tokens, as stage 1 of a 224 x 224 one."""
    model = build_tiny('PVT').eval()
    assert [out.shape[2] for out in model(torch.randn(1, 3, 448, 448))] == [112, 56, 28, 14]


def test_position_table_keeps_its_layout_at_another_aspect() -> None:
    """A 28 x 112 map has as many cells as the 56 x 56 table, but is not its flat order."""
    position = build_tiny('PVT').stages[0].position
    with torch.no_grad():
        position.table.copy_(torch.arange(56.0).view(1, 56, 1, 1).expand(1, 56, 56, 8))
        resized = position(28, 112)
    assert torch.allclose(resized[0, :, 0, 0], torch.arange(28) * 2 + 0.5)
    assert torch.equal(resized[0, :, :1].expand(28, 112, 8), resized[0])


def test_checkpoint_of_another_image_size_is_resized_on_loading() -> None:
    small, large = build_tiny('PVT', img_size=64), build_tiny('PVT', img_size=224)
    state_dict = large.state_dict()
    small.load_state_dict(state_dict)
    assert small.stages[0].position.table.shape == (1, 16, 16, 8)
    assert state_dict['stages.0.position.table'].shape == (1, 56, 56, 8)


def test_attention_kinds() -> None:
    model = build_tiny('PVT', attention=(None, None, 'full', 'full'))
    assert all('attn' not in name for name, _ in model.stages[0].named_parameters())
    assert not any('.sr.' in name for name, _ in model.named_parameters())
    total(model(torch.randn(2, 3, 64, 64))).backward()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(arch='tyni'), "no arch 'tyni'.*did you mean 'tiny'"),
        (dict(arch=dict(depths=(1, 1, 1, 1))), 'dict with the keys'),
        (
            dict(merging=dict(type='StepwisMerging')),
            "unknown type 'StepwisMerging'.*'StepwiseMerging'",
        ),
        (dict(merging=dict(type='PVT')), "unknown type 'PVT'"),
        (dict(merging='StepwiseMerging'), "merging must be one dict.*got 'StepwiseMerging'"),
        (dict(merging=dict(kernel=3)), "key 'type'"),
        (dict(merging=[SPM, SPM]), 'list of 3.*got a list of 2'),
        (dict(merging=dict(type='ConvMerging', kernel=3)), "no option 'kernel'.*'kernel_size'"),
        (dict(merging=dict(type='ConvMerging', out_channels=3)), 'out_channels=3.*needs 128'),
        (
            dict(merging=dict(type='ConvMerging', kernel_size=4)),
            'unless it is 2, must be odd',
        ),
        (dict(out_indices=(0, 4)), r'rising stages from 0 to 3, got \[0, 4\]'),
        (dict(out_indices=(-1,)), r'from 0 to 3, got \[-1\]'),
        (dict(out_indices=(2, 1)), r'rising stages .* got \[2, 1\]'),
        (dict(out_type='cls'), "out_type .*'cls_token'"),
        (dict(out_type='cls_token', out_indices=(1, 3)), 'cls_token.*last stage'),
        (dict(out_type='cls_token', attention=('sr',) * 3 + (None,)), 'class token sees no image'),
        (dict(attention=('sr', 'sr')), 'attention must have one'),
        (dict(attention=('sr', 'sr', 'sr', 'fool')), 'attention must have one'),
        (dict(frozen_stages=5), 'frozen_stages must be a whole number from -1 to 4, got 5'),
        (dict(drop_path_rate=1.5), 'drop_path_rate .* got 1.5'),
        (dict(in_channels='3'), "in_channels must be a whole number of 1 or more, got '3'"),
        (
            dict(arch={**PVT.arch_settings['tiny'], 'depths': (2, 0, 2, 2)}),
            'each of depths must be a whole number of 1 or more, got 0',
        ),
        (dict(img_size=16), 'img_size must be a whole number of 32 or more, got 16'),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PVT(**arguments)


def test_image_too_small_or_of_other_channels() -> None:
    model = build_tiny('PVT')
    with pytest.raises(ValueError, match='at least 32 x 32 pixels, got 31 x 64'):
        model(torch.randn(1, 3, 31, 64))
    with pytest.raises(ValueError, match=r'images \(B, 3, H, W\), got \(1, 4, 64, 64\)'):
        model(torch.randn(1, 4, 64, 64))


# Weights


@pytest.fixture
def classifier_file(tmp_path):
    backbone = build_tiny('PVT', 'StepwiseMerging', out_type='cls_token')
    weights = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    path = tmp_path / 'classifier.pth'
    torch.save({'state_dict': {**weights, 'head.fc.weight': torch.zeros(10, 64)}}, path)
    return path, backbone


def pretrained(path: object) -> dict:
    return dict(type='Pretrained', checkpoint=path and str(path), prefix='backbone.')


def test_classifier_weights_enter_the_dense_form(classifier_file, caplog) -> None:
    path, classifier = classifier_file
    model = build_tiny('PVT', 'StepwiseMerging', init_cfg=pretrained(path))
    with caplog.at_level(logging.INFO):
        model.init_weights()
    for name, value in model.state_dict().items():
        assert torch.equal(value, classifier.state_dict()[name]), name
    dropped = sorted(set(classifier.state_dict()) - set(model.state_dict()))
    assert dropped == [
        'norms.3.bias',
        'norms.3.weight',
        'stages.3.cls_position',
        'stages.3.cls_token',
    ]


def test_checkpoint_none_is_skipped() -> None:
    build_tiny('PVT', init_cfg=pretrained(None)).init_weights()


@pytest.mark.parametrize('prefix', ['backbone.', 'backbone'])
@pytest.mark.parametrize('with_mergings', [True, False])
def test_another_merging_starts_anew(
    classifier_file, caplog, with_mergings: bool, prefix: str
) -> None:
    """How SPM starts from plain weights: all but the mergings comes from the checkpoint."""
    path, classifier = classifier_file
    weights = torch.load(path)['state_dict']
    torch.save({k: v for k, v in weights.items() if with_mergings or '.mergings.' not in k}, path)
    mergings = ['ConvMerging', 'StepwiseMerging', 'ConvMerging']
    config = testing.tiny_config('PVT') | dict(
        merging=[dict(type=name) for name in mergings],
        init_cfg=dict(pretrained(path), prefix=prefix),
    )
    model = MODELS.build(config)
    before = copy.deepcopy(model.state_dict())
    with caplog.at_level(logging.WARNING):
        model.init_weights()
    for name, value in model.state_dict().items():
        kept = name.startswith(('mergings.0.', 'mergings.2.'))
        kept |= name.startswith('mergings.1.') and not with_mergings
        source = before if kept else classifier.state_dict()
        assert torch.equal(value, source[name]), name


def test_checkpoint_of_another_model(classifier_file, tmp_path) -> None:
    path, _ = classifier_file
    wide = PVT('tiny', init_cfg=pretrained(path))
    before = {k: v.clone() for k, v in wide.state_dict().items()}
    with pytest.raises(ValueError, match='belongs to another model than this PVT'):
        wide.init_weights()
    assert all(torch.equal(v, before[k]) for k, v in wide.state_dict().items())
    arch = dict(testing.tiny_config('PVT')['arch'], depths=(1, 1, 2, 1))
    deeper = PVT(arch, merging=SPM, init_cfg=pretrained(path))
    with pytest.raises(ValueError, match=r'another model .* it lacks .* stages\.2\.blocks\.1'):
        deeper.init_weights()
    resnet = tmp_path / 'resnet.pth'
    torch.save({'layer1.conv.weight': torch.zeros(3)}, resnet)
    with pytest.raises(ValueError, match=r"no key that starts with prefix='backbone\.'"):
        build_tiny('PVT', init_cfg=pretrained(resnet)).init_weights()
    with pytest.raises(ValueError, match='does not exist'):
        build_tiny('PVT', init_cfg=pretrained(tmp_path / 'nothing.pth')).init_weights()
