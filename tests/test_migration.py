"""What was written for version 0.1.0 works, or says what to write instead.

``migration_0_1_0.json`` was read off that version: its public names, the options of its registered
classes, its configs, the options of its tools, and for every backbone with every merging the names and
shapes of the state dict, and mean and standard deviation of what a tiny model puts out.
"""

import hashlib
import importlib
import inspect
import json
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from spm_mm import renamed
from spm_mm.backbones import HierarchicalBackbone
from spm_mm.converters import converters
from spm_mm.registry import HOOKS, MODEL_WRAPPERS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS, registered
from tests import testing

OLD = json.loads(Path(__file__).with_name('migration_0_1_0.json').read_text())
REGISTRIES = (MODELS, HOOKS, MODEL_WRAPPERS, OPTIM_WRAPPER_CONSTRUCTORS)
# In no `__all__`, but docs/extending.md of 0.1.0 derived from them.
DOCUMENTED = ('spm_mm.backbones.hierarchical.BlockStage', 'spm_mm.backbones.pvt.PVTBlock')
NAMES = [*DOCUMENTED, *(f'{m}.{name}' for m, names in OLD['names'].items() for name in names)]


def look_up(name: str) -> Any:
    """Import a module, or something in one."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition('.')
        return getattr(importlib.import_module(module), attribute)


def options_of(cls: type) -> set[str]:
    """The arguments of a class, also those that it hands on to its bases."""
    return {
        name
        for owner in inspect.getmro(cls)
        if '__init__' in vars(owner)
        for name in inspect.signature(owner).parameters
    }


@torch.no_grad()
def fill(model: nn.Module) -> None:
    """Give every entry of the state dict values that depend on its name alone."""
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            seeded = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            noise = torch.rand(value.shape, generator=seeded)
            value.copy_(noise + 0.5 if name.endswith('running_var') else (noise - 0.5) * 0.5)


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
@pytest.mark.parametrize('module', OLD['names'])
def test_modules(module: str) -> None:
    """Every one can be imported, or says what to do instead."""
    if module in renamed.REMOVED:
        with pytest.raises(ImportError, match=r'was removed: .*; see docs/migration\.md'):
            importlib.import_module(module)
    else:
        importlib.import_module(module)


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_names() -> None:
    """Every public name is there, or says what to do instead."""
    assert len(NAMES) > 200
    refused = {}
    for name in NAMES:
        try:
            look_up(name)
        except ImportError as error:
            refused[name] = str(error)
    assert all('was removed: ' in message for message in refused.values()), refused
    # A name is refused because it is in the table, under the module that had it or its package.
    assert {name.rpartition('.')[2] for name in refused} <= {
        name.rpartition('.')[2] for name in renamed.REMOVED
    }


@pytest.mark.parametrize('old', renamed.MOVED)
def test_moved_names_warn(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    new = look_up(renamed.MOVED[old])
    for name in renamed.MOVED:  # as if nobody had imported an old module yet
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.warns(DeprecationWarning, match=f'{old} is now {renamed.MOVED[old]}'):
        found = look_up(old)
    assert found is new or (inspect.ismodule(found) and found.__getattr__)


def test_unknown_names_stay_unknown() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module('spm_mm.nothing')
    with pytest.raises(AttributeError, match=r"module 'spm_mm.ops' has no attribute 'nothing'"):
        look_up('spm_mm.ops.nothing')


@pytest.mark.parametrize('cls', OLD['options'])
def test_registered_classes_and_their_options(cls: str) -> None:
    found = next((kind for registry in REGISTRIES if (kind := registry.get(f'spm_mm.{cls}'))), None)
    assert found is not None
    gone = set(OLD['options'][cls]) - options_of(found)
    assert gone == {key.partition('.')[2] for key in renamed.OPTIONS if key.startswith(f'{cls}.')}


def test_an_option_that_is_gone_says_what_to_do() -> None:
    config = testing.tiny_config('PVT', 'DeformableMerging')
    config['merging'] = [dict(config['merging'], backend='torch')] * 3
    with pytest.raises(ValueError, match=r"merging\[0\] has no option 'backend': leave it out"):
        MODELS.build(config)


def test_architectures() -> None:
    for name, archs in OLD['archs'].items():
        assert set(archs) <= set(registered(HierarchicalBackbone)[name].arch_settings), name


@pytest.mark.parametrize('pair', OLD['models'])
def test_checkpoints(pair: str) -> None:
    """A model of 0.1.0 has the same state dict here, and puts out the same."""
    model = testing.build_tiny(*pair.split(', ')).eval()
    fill(model)
    was: Mapping[str, Any] = OLD['models'][pair]
    rows = '\n'.join(f'{name} {tuple(v.shape)}' for name, v in model.state_dict().items())
    assert hashlib.sha256(rows.encode()).hexdigest()[:16] == was['entries']
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = [[float(out.mean()), float(out.std())] for out in model(image)]
    torch.testing.assert_close(found, was['outputs'], rtol=1e-3, atol=1e-3)


def test_files_and_options_of_the_tools(root: Path) -> None:
    guide = (root / 'docs/migration.md').read_text()
    for name in OLD['configs']:
        assert (root / 'configs' / name).is_file() or name in guide, name
    for name, options in OLD['tools'].items():
        text = '\n'.join(
            path.read_text()
            for path in (root / name, *(root / 'spm_mm/engine').glob('*_tool.py'))
            if path.is_file()
        )
        text += (root / 'spm_mm/engine/launch.py').read_text()
        for option in options:
            assert f"'{option}'" in text or f'{option}`' in guide, (name, option)
    assert set(OLD['sources']) <= set(converters)


def test_the_guide_lists_every_name(root: Path) -> None:
    guide = (root / 'docs/migration.md').read_text()
    for old in (*renamed.MOVED, *renamed.REMOVED):
        assert f'`{old.removeprefix("spm_mm.")}`' in guide, old
    for option in renamed.OPTIONS:
        assert f'`{option}`' in guide
