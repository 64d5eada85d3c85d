"""The recipes as the papers state them."""

import pytest
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from tests.configs.shrink import shrink
from tests.configs.test_configs import FILES, ROOT
from tests.configs.test_steps import build

IN1K = [path for path in FILES if path.stem.endswith('in1k')]


def config(name: str) -> Config:
    return Config.fromfile(ROOT / 'configs' / f'{name}.py')


def test_no_decay_on_norms_biases_and_class_token() -> None:
    cfg = shrink(config('mmpretrain/pvt_tiny_spm-guide-cls_in1k'))
    model = build(cfg)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    decay = {id(p): group['weight_decay'] for group in groups for p in group['params']}
    rates = {name: decay[id(p)] for name, p in model.named_parameters()}
    assert set(rates.values()) == {0.0, 0.05}
    for name, parameter in model.named_parameters():
        plain = parameter.ndim > 1 and 'cls_token' not in name
        assert rates[name] == (0.05 if plain else 0.0), name
    assert rates['backbone.stages.0.position.table'] == 0.05
    assert rates['backbone.stages.3.cls_token'] == 0.0
    assert rates['backbone.mergings.0.enhancement.guide_token'] == 0.0


@pytest.mark.parametrize('path', IN1K, ids=lambda path: path.stem)
def test_imagenet_recipe(path) -> None:
    cfg = Config.fromfile(path)
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 1024
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[-1].end == 300
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-3, 0.05)
    steps = [step.type for step in cfg.train_dataloader.dataset.pipeline]
    assert {'RandomResizedCrop', 'RandomFlip', 'RandAugment', 'RandomErasing'} < set(steps)
    assert [augment.type for augment in cfg.model.train_cfg.augments] == ['Mixup', 'CutMix']
    assert cfg.model.head.loss.label_smooth_val == 0.1
    if path.stem.startswith(('pvt_', 'pvtv2_', 'shunted_')):
        small = path.stem.split('_')[1] in ('tiny', 'small', 'b1', 'b2')
        assert cfg.train_dataloader.sampler.type == 'RepeatAugSampler'
        assert cfg.model.backbone.drop_path_rate == (0.1 if small else 0.3)
        clipped = cfg.optim_wrapper.get('clip_grad')
        assert clipped == (None if small else dict(max_norm=1.0))


def test_swin_decays_no_tables_norms_and_biases() -> None:
    cfg = shrink(config('mmpretrain/swin_tiny_dtm_in1k'))
    model = build(cfg)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    settings = {
        id(p): (group['lr'], group['weight_decay']) for group in groups for p in group['params']
    }
    for name, parameter in model.named_parameters():
        lr, decay = settings[id(parameter)]
        plain = parameter.ndim > 1 and 'relative_position_bias_table' not in name
        assert decay == (0.05 if plain else 0), name
        assert lr == pytest.approx(1e-5 if name.endswith('offset.weight') else 1e-3), name


@pytest.mark.parametrize('arch', ['tiny', 'small', 'medium'])
def test_spm_detectors_differ_by_merging_and_lr_alone(arch: str) -> None:
    plain, spm = (
        config(f'mmdet/mask-rcnn_pvt_{arch}{kind}_1x_coco').to_dict() for kind in ('', '_spm')
    )
    assert spm['model']['backbone'].pop('merging')['type'] == 'spm_mm.StepwiseMerging'
    rates = [cfg['optim_wrapper']['optimizer'].pop('lr') for cfg in (plain, spm)]
    assert rates == [2e-4, 1e-4]
    assert spm == plain
    assert plain['auto_scale_lr']['base_batch_size'] == 16


def test_3x_is_36_epochs_of_multi_scale_images() -> None:
    cfg = config('mmdet/mask-rcnn_pvt_small_3x-ms_coco')
    assert cfg.train_cfg.max_epochs == 36
    assert cfg.param_scheduler[-1].milestones == [27, 33]
    choice = cfg.train_dataloader.dataset.pipeline[3]
    scales = [side for side, _ in choice.transforms[0][0].scales]
    assert (min(scales), max(scales), len(scales)) == (480, 800, 11)
