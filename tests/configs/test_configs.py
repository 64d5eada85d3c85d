"""Every config file: it is named by the grammar, loads, and builds through its framework."""

import re
from pathlib import Path

import pytest
from mmengine.registry import init_default_scope

from spm_mm.engine import build_on_meta
from tests import testing
from tests.configs.loading import FILES, OURS, ROOT, load

# A closed list, so that a name parses in one way only.
FAMILIES = {
    'pvt': 'slim tiny small medium large',
    'pvtv2': 'b1 b2 b2-li b3 b4 b5',
    'mit': 'b0 b1 b2 b3 b4 b5',
    'swin': 'tiny small base',
    'shunted': 'tiny',
    'nat': 'mini',
    'pacavit': 'tiny small base',
    'sgformer': 'small medium base',
    'lit': 'tiny small medium base',
    'deit': 'tiny small base',
    'vit': 'base',
    'hrnet': 'w32',
}
RESNETS = ['resnet18', 'resnet50', 'resnet101']
RESNEXTS = ['resnext50-32x4d', 'resnext101-32x4d', 'resnext101-64x4d']
SIZES = [f'{family}_{size}' for family, sizes in FAMILIES.items() for size in sizes.split()]
BACKBONE = f'({"|".join([*SIZES, *RESNETS, *RESNEXTS])})'
VARIANT = r'(_(spm|hafa|dtm|ec|mlp|uniform|msa|scale|guide|paper|matched|tome|m\d+)(-[a-z0-9]+)*)?'
SMALL_DATA = 'camvid|scenes|fruits|bccd|fmnist'
GRAMMAR = {
    'mmpretrain': rf'{BACKBONE}{VARIANT}_(in1k|{SMALL_DATA})(-384px)?',
    'mmdet': rf'(mask-rcnn|retinanet)_{BACKBONE}{VARIANT}(_1x|_3x-ms)?_(coco|{SMALL_DATA})',
    'mmseg': rf'(fpn|upernet|paca|segformer)_{BACKBONE}{VARIANT}(_\d+k)?_(ade20k|{SMALL_DATA})',
}


@pytest.fixture(params=FILES, ids=lambda p: p.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_name(path: Path) -> None:
    assert re.fullmatch(GRAMMAR[path.parent.name], path.stem)


def test_first_line_names_the_source(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith('# ')
    assert 'Table' in first or 'no row in any' in path.read_text()


def test_builds(path: Path) -> None:
    cfg = load(path)
    assert cfg.default_scope == path.parent.name
    registry = __import__(f'{cfg.default_scope}.registry', fromlist=['MODELS'])
    model = build_on_meta(cfg)
    # The peers alone are the frameworks' own classes.
    assert type(model.backbone).__module__.startswith('spm_mm.') == (path in OURS)
    assert cfg.auto_scale_lr.base_batch_size if 'ade20k' in path.stem else True
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        for step in cfg[loader].dataset.pipeline:
            assert registry.TRANSFORMS.get(step.type), step.type


def test_inheritance_is_relative_and_types_are_scoped(path: Path) -> None:
    for file in (path, *path.parent.glob('_base_/**/*.py')):
        text = file.read_text()
        assert '::' not in text
        assert 'custom_imports' not in text
    ours = {'PaCaHead', *testing.backbones(), *testing.mergings()}
    for kind in re.findall(r"type='([\w.]+)'", path.read_text()):
        assert kind not in ours, f'{kind} needs the scope spm_mm.'


@pytest.mark.parametrize('arch', ['tiny', 'small', 'medium'])
def test_spm_differs_by_merging_batch_and_lr_alone(arch: str) -> None:
    plain, spm = (load(f'mmseg/fpn_pvt_{arch}{kind}_ade20k').to_dict() for kind in ('', '_spm'))
    assert spm['model']['backbone'].pop('merging')['type'] == 'spm_mm.StepwiseMerging'
    assert spm['model'] == plain['model']
    assert (plain['train_dataloader']['batch_size'], spm['train_dataloader']['batch_size']) == (
        4,
        2,
    )
    assert (plain['auto_scale_lr']['base_batch_size'], spm['auto_scale_lr']['base_batch_size']) == (
        32,
        16,
    )
    assert (plain['optim_wrapper']['optimizer']['lr'], spm['optim_wrapper']['optimizer']['lr']) == (
        2e-4,
        1e-4,
    )


def learning(path: str) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of every parameter, by name."""
    from mmengine.optim import build_optim_wrapper

    cfg = load(path)
    model = build_on_meta(cfg).requires_grad_(True)
    init_default_scope(cfg.default_scope)
    cfg.optim_wrapper.type = 'OptimWrapper'  # that of mixed precision needs a GPU
    cfg.optim_wrapper.pop('loss_scale')
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    settings = {id(p): (g['lr'], g['weight_decay']) for g in groups for p in g['params']}
    return {n: settings[id(p)] for n, p in model.named_parameters()}


@pytest.mark.parametrize('variant', ['', '_mlp', '_ec'])
def test_paca_learning_rates(variant: str) -> None:
    """Ten times for the head and the last layer of any clustering, no decay on the backbone's norms."""
    path = f'mmseg/paca_pacavit_small{variant}_ade20k'
    found = learning(path)
    last = {n: s for n, s in found.items() if 'to_clusters' in n and n.startswith('backbone.')}
    assert len(last) == {'': 3, '_mlp': 6, '_ec': 8}[variant]
    for name, (lr, decay) in found.items():
        fast = name in last or name.startswith('decode_head.')
        assert lr == pytest.approx(6e-4 if fast else 6e-5), name
        norm = name.startswith('backbone.') and 'norm' in name
        assert decay == (0 if norm else 0.01), name
    assert sum('norm' in name for name in found) > 50


def test_upernet_on_paca_has_one_learning_rate() -> None:
    found = learning('mmseg/upernet_pacavit_tiny_ade20k')
    assert {lr for lr, _ in found.values()} == {6e-5}


@pytest.mark.parametrize('path', sorted(ROOT.glob('configs/*/*pacavit*.py')), ids=lambda p: p.stem)
def test_paca_clusters(path: Path) -> None:
    """The numbers in the file's name on ImageNet and COCO; 200 where there are any on ADE20K."""
    backbone = load(path).model.backbone
    named = re.search(r'_m(\d+)-(\d+)-(\d+)-(\d+)', path.stem)
    if named or '_ade20k' in path.stem:
        default = (100, 100, 100, 100 if backbone.arch.endswith('-ec') else 0)
        wanted = tuple(int(n) for n in named.groups()) if named else default
        if path.stem.endswith('_ade20k'):
            wanted = tuple(200 if n else 0 for n in wanted)
        assert tuple(backbone.num_clusters) == wanted
    else:
        assert 'num_clusters' not in backbone
    assert backbone.get('clustering_interval', 0) == int('-blockwise' in path.stem)
