from pathlib import Path

import pytest
import torch

from spm_mm.backbones import PVT
from spm_mm.compat import load_weights
from tests.parity.fixtures import make_state_dict, read_fixture

CONVERT = 'tools/model_converters/convert.py'


@pytest.fixture(scope='module')
def official(tmp_path_factory, root: Path) -> Path:
    """A file as the official SPM-PVT-Tiny would be."""
    state_dict = make_state_dict(read_fixture(root / 'tests/parity/oracles/spm_pvt_tiny.json'))
    path = tmp_path_factory.mktemp('official') / 'official.pth'
    torch.save({'model': state_dict, 'epoch': 300}, path)
    return path


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_from_official_file_to_dense_backbone(
    official: Path, run_tool, tmp_path, suffix: str
) -> None:
    out = tmp_path / f'ours{suffix}'
    done = run_tool(CONVERT, 'pvt', official, out)
    assert 'reshaped: pos_embed4 -> ' in done.stdout
    assert 'missing' not in done.stdout
    init = dict(type='Pretrained', checkpoint=str(out), prefix='backbone.')
    model = PVT('tiny', merging=dict(type='StepwiseMerging'), init_cfg=init)
    model.init_weights()
    weights = load_weights(out)
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[f'backbone.{name}']), name


def test_incomplete_file_is_not_written_unless_asked(official: Path, run_tool, tmp_path) -> None:
    state_dict = load_weights(official)
    del state_dict['head.weight']
    torch.save(state_dict, tmp_path / 'headless.pth')
    call = (CONVERT, 'pvt', tmp_path / 'headless.pth', tmp_path / 'out.pth')
    done = run_tool(*call, status=2)
    assert 'missing: head.fc.weight' in done.stdout
    assert 'nothing was written' in done.stderr
    assert not (tmp_path / 'out.pth').exists()
    run_tool(*call, '--partial')
    assert 'head.fc.weight' not in load_weights(tmp_path / 'out.pth')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('pvtx', 'other.pth', 'out.pth'), "no converter for source 'pvtx'"),
        (('pvt', 'other.pth', 'out.pth'), 'no checkpoint of PVT'),
        (('pvt', 'nothing.pth', 'out.pth'), 'does not exist'),
        (('pvt', 'other.pth', 'out.bin'), 'must end in .pth or .safetensors'),
    ],
)
def test_mistakes(run_tool, tmp_path, arguments: tuple[str, ...], message: str) -> None:
    torch.save({'conv1.weight': torch.zeros(1)}, tmp_path / 'other.pth')
    source, *files = arguments
    done = run_tool(CONVERT, source, *(tmp_path / name for name in files), status=2)
    assert message in done.stderr
    assert 'Traceback' not in done.stderr
    assert not (tmp_path / 'out.pth').exists()
