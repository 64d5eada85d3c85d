"""``spm_mm.list_models`` and ``spm_mm.create_model``: the same classes, by name."""

import doctest
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import spm_mm
from spm_mm import models
from spm_mm.backbones import HierarchicalBackbone, feature_info, loading
from spm_mm.errors import UserError
from spm_mm.merging import Merging, StepwiseMerging
from spm_mm.registry import MODELS, registered

build = spm_mm.create_model


def test_every_architecture_has_a_name() -> None:
    names = spm_mm.list_models()
    families = registered(HierarchicalBackbone).values()
    assert len(set(names)) == len(names) == sum(len(cls.arch_settings) for cls in families)
    assert {'pvt_tiny', 'pvt_v2_b2_li', 'swin_base', 'shunted_small', 'nat_mini'} < set(names)
    assert {'lit_medium', 'paca_vit_tiny_ec', 'sg_former_small'} < set(names)


def test_patterns_and_parameters() -> None:
    assert spm_mm.list_models('pvt_v2_b[01]') == ['pvt_v2_b0', 'pvt_v2_b1']
    assert spm_mm.list_models('none*') == []
    counts = spm_mm.list_models('pvt_[tl]*', parameters=True)
    assert list(counts) == ['pvt_tiny', 'pvt_large']
    model = build('pvt_tiny')
    assert counts['pvt_tiny'] == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize('name', spm_mm.list_models())
def test_the_same_class_as_by_a_config(name: str) -> None:
    with torch.device('meta'):
        model = build(name, out_type='avg_featmap')
        family, arch = models._models()[name]
        other = MODELS.build(dict(type=f'spm_mm.{family}', arch=arch, out_type='avg_featmap'))
    assert type(model) is type(other)
    assert list(model.state_dict()) == list(other.state_dict())


@pytest.mark.parametrize('merging', sorted(registered(Merging)))
def test_mergings_by_name(merging: str) -> None:
    short = merging.removesuffix('Merging').lower()
    with torch.device('meta'):
        for name in (short, merging, f'spm_mm.{merging}'):
            for given in (name, dict(type=name), [name, dict(type=name), name]):
                model = build('pvt_tiny', merging=given)
                assert {type(m).__name__ for m in model.mergings} == {merging}


def test_options() -> None:
    model = build(
        'swin_tiny',
        merging=[dict(type='stepwise', num_heads=4), 'conv', 'swin'],
        in_channels=4,
        out_type='avg_featmap',
        drop_path_rate=0.1,
    )
    assert isinstance(model.mergings[0], StepwiseMerging)
    assert model.mergings[0].enhancement.num_heads == 4
    assert model.drop_path_rate == 0.1
    assert model(torch.zeros(1, 4, 32, 32))[0].shape == (1, 768)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(name='pvt_tinny'), "no model is called 'pvt_tinny'.*did you mean 'pvt_tiny'"),
        (dict(merging='stepwize'), "no merging is called 'stepwize'.*did you mean 'stepwise'"),
        (
            dict(merging=['conv', 'conv', 'swim']),
            "no merging is called 'swim'.*did you mean 'swin'",
        ),
        (dict(merging=['conv']), 'merging must be one dict or a list of 3'),
        (
            dict(merging=dict(type='conv', kernel=3)),
            "no option 'kernel'.*did you mean 'kernel_size'",
        ),
        (dict(merging=3), 'merging must be one dict or a list of 3'),
        (dict(drop_path=0.1), "pvt_tiny has no option 'drop_path'.*did you mean 'drop_path_rate'"),
        (dict(arch='small'), "pvt_tiny has no option 'arch'"),
        (dict(out_type='map'), "out_type has unknown value 'map'"),
        (
            dict(pretrained=True),
            'pretrained must be a file, a URL or a name in configs/weights.yaml, got True',
        ),
        (dict(pretrained='a.pth', init_cfg=dict(type='Pretrained')), 'give one of them'),
        (dict(pretrained='missing.pth'), 'missing.pth does not exist'),
    ],
)
def test_mistakes_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(**{'name': 'pvt_tiny', **arguments})


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_pretrained(prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of the backbone, or of a whole model; without those of the merging it starts anew."""
    path = tmp_path / 'weights.pth'
    own = {
        k: v for k, v in build('pvt_v2_b0').state_dict().items() if not k.startswith('mergings.')
    }
    weights = {f'{prefix}{name}': value for name, value in own.items()}
    if prefix:
        weights['head.fc.weight'] = torch.zeros(2, 256)
    torch.save(weights, path)
    said: list[str] = []
    monkeypatch.setattr(loading, 'print_log', lambda line, *_: said.append(line))
    for given in (path, str(path)):
        state = build('pvt_v2_b0', merging='stepwise', pretrained=given).state_dict()
        assert all(torch.equal(value, state[name]) for name, value in own.items())
    assert len(said) == 4, 'for each: what is loaded, and which entries are new'
    assert 'not in the checkpoint, so new: mergings.0' in said[-1]


@pytest.mark.parametrize('family', sorted(registered(HierarchicalBackbone)))
def test_feature_info(family: str) -> None:
    cls = registered(HierarchicalBackbone)[family]
    name = next(name for name, (owner, _) in models._models().items() if owner == family)
    with torch.device('meta'):
        for out_type in cls.out_types:
            model = build(name, out_type=out_type).eval()
            outs = model(torch.zeros(1, 3, 128, 128))
            for out, info in zip(outs, model.feature_info, strict=True):
                assert out.shape[1] == info.channels
                assert info.stride == (128 // out.shape[2] if out.ndim == 4 else None)
    assert build(name, out_indices=(1,)).feature_info[0].stride == 8


def test_the_package_is_light_to_import() -> None:
    done = subprocess.run(
        [
            sys.executable,
            '-c',
            'import sys, spm_mm\n'
            'heavy = ("torch", "mmengine", "mmcv", "mmdet", "mmseg", "mmpretrain")\n'
            'print([name for name in heavy if name in sys.modules])',
        ],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == '[]', done.stderr


def test_classes_are_attributes_of_the_package() -> None:
    assert spm_mm.PVT is registered(HierarchicalBackbone)['PVT']
    assert spm_mm.StepwiseMerging is StepwiseMerging
    for name in ('Nothing', 'nothing'):
        with pytest.raises(AttributeError, match=f"module 'spm_mm' has no attribute '{name}'"):
            getattr(spm_mm, name)


@pytest.mark.parametrize('module', [models, feature_info])
def test_examples(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_type_hints_are_published() -> None:
    assert (Path(spm_mm.__file__).parent / 'py.typed').is_file()
