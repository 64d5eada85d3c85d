"""Backbones as ONNX, run by ONNX Runtime: those that need a way round, since tracing takes long."""

from pathlib import Path

import pytest
import torch

from spm_mm.deploy import Deployed, compare, random_images, save_onnx, trace
from spm_mm.deploy.check import runner_of
from spm_mm.deploy.onnx import attention
from spm_mm.errors import UserError
from tests.pytorch_tools.conftest import SUBJECTS, Subject

pytest.importorskip('onnxscript')
pytest.importorskip('onnxruntime')
BOUND = 1e-4
SIZE = (64, 96)
WAYS_ROUND = (
    'SwinTransformer-tiny',
    'NAT-mini',
    'LIT-small',
    'SGFormer-small',
    'PVT-tiny-ClusterMerging',
    'PVT-tiny-StepwiseMerging',
)
"""What needs something that ONNX or PyTorch's translation lacks, and the suite's main merging."""


@pytest.mark.parametrize('subject', [s for s in SUBJECTS if str(s) in WAYS_ROUND], ids=str)
def test_fixed_size(subject: Subject, tmp_path: Path) -> None:
    model = Deployed(subject.build()).eval()
    images = random_images(1, SIZE, raw=False)
    path = tmp_path / 'model.onnx'
    save_onnx(trace(model, images), path, model.output_names, {})
    found = compare(model, runner_of(path), [images, images.flip(3)], False, repeat=1)
    assert found.largest <= BOUND


def test_no_dynamic_size() -> None:
    model = Deployed(Subject('SGFormer', 'small').build()).eval()
    with pytest.raises(UserError, match='SGFormer takes no dynamic sizes'):
        trace(model, random_images(2, SIZE, raw=False), dynamic=True)


@pytest.mark.parametrize('kind', ['none', 'bool', 'float'])
def test_attention(kind: str) -> None:
    """The plain products against PyTorch, with a query whose keys are all masked."""
    q, k, v = (torch.randn(2, 3, n, 4) for n in (5, 7, 7))
    mask = torch.rand(2, 1, 5, 7) < 0.5
    mask[0, 0, 2] = False
    if kind == 'float':
        mask = torch.zeros(2, 1, 5, 7).masked_fill(~mask, float('-inf'))
    mask = None if kind == 'none' else mask
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask)
    torch.testing.assert_close(attention(q, k, v, mask), wanted)
