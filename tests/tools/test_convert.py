import argparse
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmseg.models.backbones import MixVisionTransformer

from spm_mm.backbones import PVT
from spm_mm.compat import load_weights
from spm_mm.converters import read_checkpoint
from tests.parity.fixtures import make_state_dict, read_fixture

CONVERT = 'tools/model_converters/convert.py'


@pytest.fixture(scope='module')
def official(tmp_path_factory, root: Path) -> Path:
    """A file as the official SPM-PVT-Tiny would be, with its settings beside the weights."""
    state_dict = make_state_dict(read_fixture(root / 'tests/parity/oracles/spm_pvt_tiny.json'))
    path = tmp_path_factory.mktemp('official') / 'official.pth'
    settings = argparse.Namespace(output_dir=Path('out'))  # refused by the safe loader
    torch.save({'model': state_dict, 'epoch': 300, 'args': settings}, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_from_official_file_to_dense_backbone(
    official: Path, run_tool, run_here, tmp_path, suffix: str
) -> None:
    out = tmp_path / f'ours{suffix}'
    done = (run_tool if suffix == '.pth' else run_here)(CONVERT, official, out)
    assert "found: PVT 'tiny', classifier of 1000 classes of whai362/PVT" in done.stdout
    assert 'its tensors and plain values were read alone' in done.stdout
    assert 'reshaped: pos_embed4 -> ' in done.stdout
    assert 'missing' not in done.stdout
    init = dict(type='Pretrained', checkpoint=str(out), prefix='backbone.')
    model = PVT('tiny', merging=dict(type='StepwiseMerging'), init_cfg=init)
    model.init_weights()
    weights = load_weights(out)
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[f'backbone.{name}']), name


def test_rewrite_keeps_the_names(official: Path, run_here, tmp_path) -> None:
    out = tmp_path / 'official.safetensors'
    done = run_here('tools/model_converters/rewrite.py', official, out)
    assert "raw weights, entry 'model'" in done.stdout
    weights = load_weights(out)
    assert 'pos_embed4' in weights
    done = run_here(CONVERT, out, tmp_path / 'ours.pth')
    assert 'read alone' not in done.stdout


def test_incomplete_file_is_not_written_unless_asked(official: Path, run_here, tmp_path) -> None:
    state_dict = read_checkpoint(official).raw
    del state_dict['head.bias']
    torch.save(state_dict, tmp_path / 'headless.pth')
    call = (CONVERT, tmp_path / 'headless.pth', tmp_path / 'out.pth')
    done = run_here(*call, status=2)
    assert 'missing: head.fc.bias' in done.stdout
    assert 'nothing was written' in done.stderr
    assert not (tmp_path / 'out.pth').exists()
    run_here(*call, '--partial')
    assert 'head.fc.bias' not in load_weights(tmp_path / 'out.pth')


def test_config_is_checked(run_here, tmp_path) -> None:
    """A segmentor of 19 classes, for a config of 150."""
    config = 'configs/mmseg/segformer_mit_b0_ade20k.py'
    cfg = Config.fromfile(config)
    cfg.model.decode_head.num_classes = 19
    init_default_scope('mmseg')
    weights = MODELS.build(cfg.model).state_dict()
    theirs = MixVisionTransformer(embed_dims=32, num_layers=[2] * 4, num_heads=[1, 2, 5, 8])
    weights = {k: v for k, v in weights.items() if not k.startswith('backbone.')}
    weights |= {f'backbone.{k}': v for k, v in theirs.state_dict().items()}
    torch.save({'state_dict': weights}, tmp_path / 'segformer.pth')
    call = (CONVERT, tmp_path / 'segformer.pth', tmp_path / 'out.pth', '--config', config)
    done = run_here(*call, status=2)
    assert 'layers have another number of classes than the config' in done.stderr
    assert not (tmp_path / 'out.pth').exists()
    done = run_here(*call, '--drop-heads')
    assert 'left out: decode_head.conv_seg.bias' in done.stdout
    assert f'{config} loads it' in done.stdout


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('other.pth', 'out.pth', '--source', 'pvt', '--no-ema'), 'no checkpoint of PVT'),
        (('other.pth', 'out.pth', '--source', 'pvtx'), "no converter for source 'pvtx'"),
        (('other.pth', 'out.pth', '--source', 'pvt'), 'no checkpoint of PVT'),
        (('other.pth', 'out.pth'), "no source knows these weights; their first keys are ['conv1"),
        (('nothing.pth', 'out.pth'), 'does not exist'),
        (('other.pth', 'out.bin'), 'must end in .pth or .safetensors'),
        (('other.pth', 'out.pth', '--ema'), 'holds no averaged weights'),
    ],
)
def test_mistakes(run_here, tmp_path, arguments: tuple[str, ...], message: str) -> None:
    torch.save({'conv1.weight': torch.zeros(1)}, tmp_path / 'other.pth')
    source, out, *options = arguments
    done = run_here(CONVERT, tmp_path / source, tmp_path / out, *options, status=2)
    assert message in done.stderr
    assert 'Traceback' not in done.stderr
    assert not (tmp_path / 'out.pth').exists()


@pytest.mark.parametrize('tool', ['convert', 'rewrite', 'publish'])
def test_the_original_stays(tool: str, run_here, tmp_path) -> None:
    path = tmp_path / f'in.{"safetensors" if tool == "rewrite" else "pth"}'
    torch.save({'state_dict': {'a.weight': torch.zeros(1)}}, path)
    content = path.read_bytes()
    done = run_here(f'tools/model_converters/{tool}.py', path, path, status=2)
    assert 'would replace what is read' in done.stderr
    assert path.read_bytes() == content


def test_source_before_the_files(official: Path, run_here, tmp_path) -> None:
    done = run_here(CONVERT, 'pvt', official, tmp_path / 'out.pth')
    assert "found: PVT 'tiny'" in done.stdout
    done = run_here(CONVERT, 'lit', official, tmp_path / 'out.pth', status=2)
    assert 'no checkpoint of LIT' in done.stderr
    assert 'IN and OUT are needed' in run_here(CONVERT, official, status=2).stderr
