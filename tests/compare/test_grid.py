import pytest
from mmengine.config import Config

from spm_mm.compare.grid import (
    Variant,
    backbone_choices,
    cell_config,
    check_differences,
    differences,
    make_grid,
    merging_choices,
    parse_seeds,
    parse_vary,
)
from spm_mm.errors import UserError


@pytest.fixture
def base(root) -> Config:
    return Config.fromfile(root / 'configs/mmseg/fpn_pvt_tiny_camvid.py')


def test_seeds() -> None:
    assert parse_seeds([3]) == [0, 1, 2]
    assert parse_seeds([5, 7]) == [5, 7]
    with pytest.raises(UserError, match='--seeds N must be 1 or more, got 0'):
        parse_seeds([0])
    with pytest.raises(UserError, match=r'must be different and not negative, got \[1, 1\]'):
        parse_seeds([1, 1])


def test_values_are_read_as_by_cfg_options() -> None:
    key, values = parse_vary(['model.a.sizes=[3]', '[3,5]', 'None', '1e-3', '{type: X, n: 2}'])
    assert key == 'model.a.sizes'
    assert [value for _, value in values] == [[3], [3, 5], None, 1e-3, {'type': 'X', 'n': 2}]
    assert values[1][0] == 'sizes=[3,5]'
    with pytest.raises(UserError, match='--vary needs KEY=VALUE'):
        parse_vary(['model.a', '3'])
    with pytest.raises(UserError, match='is no dict in YAML or JSON'):
        parse_vary(['a={b'])
    with pytest.raises(UserError, match='cannot be read'):
        parse_vary(['a=[3,4'])


def test_mergings_have_the_norm_of_the_config(base) -> None:
    key, choices = merging_choices(['own', 'conv', 'stepwise', 'hafa', 'conv,conv,cluster'], base)
    assert key == 'model.backbone.merging'
    values = dict(choices)
    assert values['conv'] == {'type': 'spm_mm.ConvMerging'}
    assert values['stepwise'] == {
        'type': 'spm_mm.StepwiseMerging',
        'norm_cfg': {'type': 'SyncBN'},
    }
    kinds = [[part['type'] for part in values[name]] for name in ('hafa', 'conv,conv,cluster')]
    assert kinds[0] == ['spm_mm.DeformableMerging'] * 2 + ['spm_mm.ClusterMerging']
    assert kinds[1] == ['spm_mm.ConvMerging'] * 2 + ['spm_mm.ClusterMerging']
    with pytest.raises(UserError, match=r"unknown name 'stpwise'.*did you mean 'stepwise'"):
        merging_choices(['stpwise'], base)


def test_a_grid_of_backbones_and_mergings(base) -> None:
    grid = make_grid(
        [
            backbone_choices(['PVT/tiny', 'SwinTransformer/tiny'], base),
            merging_choices(['own', 'stepwise'], base),
        ]
    )
    labels = [variant.label for variant in grid]
    assert labels[1:3] == ['PVT/tiny, stepwise', 'SwinTransformer/tiny, own']
    assert grid[1].slug == 'PVT_tiny,_stepwise'
    configs = [cell_config(base, variant, 4) for variant in grid]
    assert [cfg.model.neck.in_channels for cfg in configs[1:3]] == [
        [64, 128, 320, 512],
        [96, 192, 384, 768],
    ]
    assert 'merging' not in configs[2].model.backbone
    assert configs[2].model.backbone.drop_path_rate == 0.1
    assert configs[3].randomness.seed == 4
    assert base.randomness.seed == 0
    changes = check_differences(grid, configs)
    assert changes[0] == {}
    assert 'model.neck.in_channels' in changes[2]


def test_channels_of_heads_follow_the_backbone(root) -> None:
    base = Config.fromfile(root / 'configs/mmseg/upernet_pvt_tiny_spm_ade20k.py')
    (variant,) = make_grid([backbone_choices(['SwinTransformer/tiny'], base)])
    model = cell_config(base, variant, 0).model
    assert model.decode_head.in_channels == [96, 192, 384, 768]
    assert model.auxiliary_head.in_channels == 384
    base = Config.fromfile(root / 'configs/mmpretrain/pvt_tiny_fmnist.py')
    (variant,) = make_grid([backbone_choices(['PVTv2/b0'], base)])
    cfg = cell_config(base, variant, 0)
    assert cfg.model.head.in_channels == 256
    assert cfg.model.backbone.out_type == 'avg_featmap'  # PVT's class token is not there
    with pytest.raises(UserError, match=r"model\.backbone cannot be built: .*'img_size'"):
        cell_config(base, Variant('x', {'model.backbone.type': 'spm_mm.PVTv2'}), 0)


def test_one_key_of_a_list(base) -> None:
    key = 'train_dataloader.dataset.pipeline.4.prob'
    (_, flipped) = make_grid([parse_vary([f'{key}=0.5', '1.0'])])
    changes = check_differences(
        [Variant('a'), flipped], [cell_config(base, v, 0) for v in (Variant('a'), flipped)]
    )
    assert changes[1] == {key: (0.5, 1.0)}


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        ('model.backbon.arch', "model has no 'backbon'; did you mean 'backbone'"),
        ('train_dataloader.dataset.pipeline.9.prob', "pipeline has no '9'"),
        ('model.backbone.arch.depths', "model.backbone.arch is 'tiny'"),
    ],
)
def test_a_key_without_a_place(base, key: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        cell_config(base, Variant('x', {key: 1}), 0)


def test_columns_must_differ_in_what_is_varied_alone(base) -> None:
    one, other = Variant('one', {'a': 1}), Variant('other', {'a': 2})
    configs = [Config(dict(a=1, b=1)), Config(dict(a=2, b=2))]
    with pytest.raises(UserError, match="'other' differs in b, which is not varied"):
        check_differences([one, other], configs)
    with pytest.raises(UserError, match="'one' and 'other' are the same config"):
        check_differences([one, other], [configs[0], configs[0]])
    with pytest.raises(UserError, match='a key is varied twice'):
        make_grid([('a', [('x', 1)]), ('a', [('y', 2)])])
    with pytest.raises(UserError, match='have the same name: a=1_2'):
        make_grid([parse_vary(['a=1 2', '1/2'])])


def test_lists_and_tuples_are_equal() -> None:
    assert differences({'a': (1, 2), 'b': {'c': 1}}, {'a': [1, 2], 'b': {'c': 2}}) == {
        'b.c': (1, 2)
    }
