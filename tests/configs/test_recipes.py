"""The recipes as the papers state them."""

from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from tests.configs.loading import FILES, ROOT, load
from tests.configs.shrink import shrink
from tests.configs.test_steps import build


def use_single_precision(cfg: Config) -> None:
    """The wrapper of mixed precision needs a GPU."""
    cfg.optim_wrapper.type = 'OptimWrapper'
    cfg.optim_wrapper.pop('loss_scale', None)


def test_no_decay_on_norms_biases_and_class_token() -> None:
    cfg = shrink(load('mmpretrain/pvt_tiny_spm-guide-cls_in1k'))
    model = build(cfg)
    use_single_precision(cfg)
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


RECIPES = yaml.safe_load((ROOT / 'tests/configs/recipes.yaml').read_text())
TRAIN_STEPS = (
    'Resize', 'ResizeEdge', 'RandomResizedCrop', 'RandomResize', 'RandomChoiceResize', 'RandomCrop',
    'RandomFlip', 'RandomChoice', 'RandAugment', 'RandomErasing', 'PhotoMetricDistortion',
)  # fmt: skip
TEST_STEPS = {
    'Resize': 'scale', 'ResizeEdge': 'scale', 'CenterCrop': 'crop_size',
    'ResizeToMultiple': 'size_divisor',
}  # fmt: skip


def matches(path: Path, entry: dict) -> bool:
    name = f'{path.parent.name}/{path.stem}'
    return any(fnmatchcase(name, pattern) for pattern in entry['configs'])


def recipe(cfg: Config) -> dict:
    """What a config trains and tests with, in the terms of recipes.yaml."""
    wrapper, optimizer = cfg.optim_wrapper, cfg.optim_wrapper.optimizer
    assert optimizer.type == 'AdamW'
    first, last = cfg.param_scheduler[0], cfg.param_scheduler[-1]
    warm = first.type == 'LinearLR'
    paramwise = wrapper.get('paramwise_cfg', {})
    keys = paramwise.get('custom_keys', {})
    no_decay = {key for key, value in keys.items() if value.get('decay_mult') == 0}
    for key, name in (('norm', 'norm'), ('bias', 'bias'), ('flat', 'vectors')):
        no_decay |= {name} if paramwise.get(f'{key}_decay_mult') == 0 else set()
    test = cfg.test_dataloader.dataset.pipeline
    assert test == cfg.val_dataloader.dataset.pipeline
    found = dict(
        precision='mixed' if wrapper.type == 'AmpOptimWrapper' else 'single',
        lr=optimizer.lr,
        weight_decay=optimizer.weight_decay,
        no_decay=sorted(no_decay),
        clip=(wrapper.get('clip_grad') or {}).get('max_norm'),
        images=cfg.auto_scale_lr.base_batch_size,
        length=cfg.train_cfg.get('max_epochs') or cfg.train_cfg.max_iters,
        warmup=first.end if warm else 0,
        start=first.start_factor if warm else None,
        train=[
            step.type for step in cfg.train_dataloader.dataset.pipeline if step.type in TRAIN_STEPS
        ],
        test=[f'{s.type} {s.get(TEST_STEPS[s.type])}' for s in test if s.type in TEST_STEPS],
        drop_path=cfg.model.backbone.get('drop_path_rate'),
    )
    # All of these run the length that they state, and none starts its decay before the warm-up's end.
    assert last.end == found['length']
    assert last.begin in (0, found['warmup'])
    if last.type == 'MultiStepLR':
        assert last.gamma == 0.1
        found['steps'] = list(last.milestones)
    else:
        assert last.get('power', 0.9) == (1.0 if found['length'] == 160000 else 0.9)
        found['end'] = last.eta_min
    if cfg.default_scope == 'mmpretrain':
        found['repeated_augmentation'] = cfg.train_dataloader.sampler.type == 'RepeatAugSampler'
        augments = (cfg.model.train_cfg or {}).get('augments', ())
        found['mixing'] = [f'{augment.type} {augment.alpha}' for augment in augments]
        found['smoothing'] = cfg.model.head.loss.label_smooth_val
        averages = [hook for hook in cfg.get('custom_hooks', ()) if hook.type == 'EMAHook']
        found['ema'] = averages[0].momentum if averages else None
    if 'offset.weight' in keys:
        found['offset_lr'] = optimizer.lr * keys['offset.weight'].lr_mult
    if 'decode_head' in keys:
        found['head_lr'] = optimizer.lr * keys['decode_head'].lr_mult
    if 'ADEChallenge' in cfg.data_root:
        found['head_norm'] = cfg.model.decode_head.norm_cfg.type
    return found


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_recipe_is_as_stated(path: Path) -> None:
    cfg = load(path)
    cfg.setdefault('data_root', cfg.train_dataloader.dataset.get('data_root', ''))
    stated: dict = {}
    for entry in RECIPES:
        if matches(path, entry):
            stated.update(entry['values'])
    found = recipe(cfg)
    assert stated.keys() == found.keys()
    for key, value in found.items():
        if isinstance(value, float):
            assert stated[key] == pytest.approx(value), key
        else:
            assert stated[key] == value, key
    if not path.stem.endswith(('camvid', 'scenes', 'fruits', 'bccd', 'fmnist')):
        assert cfg.train_dataloader.batch_size * 8 == stated['images']


def test_every_entry_has_a_source_and_a_config() -> None:
    for entry in RECIPES:
        assert entry.keys() == {'source', 'configs', 'values'}
        assert len(entry['source']) > 10
        for pattern in entry['configs']:
            one = dict(configs=[pattern])
            assert any(matches(path, one) for path in FILES), pattern


def test_a_drift_is_found() -> None:
    """The batch that SG-Former at 384 once had: 128 images a device beside a stated 512 a step."""
    cfg = load('mmpretrain/sgformer_small_in1k-384px')
    assert (cfg.train_dataloader.batch_size, cfg.auto_scale_lr.base_batch_size) == (64, 512)
    before = recipe(cfg)
    cfg.optim_wrapper.optimizer.lr = 1e-5
    cfg.test_dataloader.dataset.pipeline[1].scale = (400, 400)
    cfg.val_dataloader.dataset.pipeline[1].scale = (400, 400)
    after = recipe(cfg)
    assert {key for key in before if before[key] != after[key]} == {'lr', 'test'}


def test_multi_scale_test_is_relative_to_the_test_size() -> None:
    """Six scales of 2048 x 512, each with its mirror image; PVT's at multiples of 32."""
    for name, multiple in (('upernet_swin_tiny_ade20k', 0), ('fpn_pvt_tiny_spm_ade20k', 1)):
        (_, augment) = load(f'mmseg/{name}').tta_pipeline
        resizes = [step.scale for step in augment.transforms[0]]
        assert resizes == [
            (1024, 256),
            (1536, 384),
            (2048, 512),
            (2560, 640),
            (3072, 768),
            (3584, 896),
        ]
        steps = [part[0].type for part in augment.transforms]
        assert ('ResizeToMultiple' in steps) == bool(multiple)
        assert [step.prob for step in augment.transforms[1 + multiple]] == [0.0, 1.0]


def test_batch_norms_of_mergings_on_ade20k() -> None:
    """With 2 images a device they are taken over all devices, SPM's and HAFA's alike."""
    for path in FILES:
        if path.stem.endswith('ade20k'):
            merging = load(path).model.backbone.get('merging')
            for part in merging if isinstance(merging, list) else [merging] if merging else []:
                if part.type in ('spm_mm.StepwiseMerging', 'spm_mm.DeformableMerging'):
                    assert part.norm_cfg.type == 'SyncBN', path.stem


def test_swin_decays_no_tables_norms_and_biases() -> None:
    cfg = shrink(load('mmpretrain/swin_tiny_dtm_in1k'))
    model = build(cfg)
    use_single_precision(cfg)
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
        load(f'mmdet/mask-rcnn_pvt_{arch}{kind}_1x_coco').to_dict() for kind in ('', '_spm')
    )
    assert spm['model']['backbone'].pop('merging')['type'] == 'spm_mm.StepwiseMerging'
    rates = [cfg['optim_wrapper']['optimizer'].pop('lr') for cfg in (plain, spm)]
    assert rates == [2e-4, 1e-4]
    assert spm == plain
    assert plain['auto_scale_lr']['base_batch_size'] == 16


def test_3x_is_36_epochs_of_multi_scale_images() -> None:
    cfg = load('mmdet/mask-rcnn_pvt_small_3x-ms_coco')
    assert cfg.train_cfg.max_epochs == 36
    assert cfg.param_scheduler[-1].milestones == [27, 33]
    choice = cfg.train_dataloader.dataset.pipeline[3]
    scales = [side for side, _ in choice.transforms[0][0].scales]
    assert (min(scales), max(scales), len(scales)) == (480, 800, 11)
