"""Backbones as ONNX, run by ONNX Runtime: those that need a way round, since tracing takes long."""

from pathlib import Path

import pytest
import torch

from spm_mm.deploy import (
    Deployed,
    compare,
    graph_module,
    random_images,
    save_onnx,
    smallest_size,
    trace,
)
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


MERGINGS = ('StepwiseMerging', 'DeformableMerging', 'ClusterMerging')
FAMILIES = [
    pytest.param(
        subject, id=str(subject), marks=() if str(subject) == 'PaCaViT-tiny' else pytest.mark.slow
    )
    for subject in SUBJECTS
    if subject.merging in (None, *MERGINGS) and subject.build().has_dynamic_graph
]


@pytest.mark.parametrize('subject', FAMILIES)
def test_any_size(subject: Subject, tmp_path: Path) -> None:
    """One file for other batches and sizes: smaller than a window, odd, and of many windows."""
    model = Deployed(subject.build()).eval()
    program = trace(model, random_images(2, SIZE, raw=False), dynamic=True)
    path = tmp_path / 'model.onnx'
    save_onnx(program, path, model.output_names, {})
    assert max(smallest_size(program)) <= 64
    others = ((1, (64, 64)), (3, (160, 96)), (1, (71, 140)), (1, (224, 224)))
    batches = [random_images(batch, size, raw=False) for batch, size in others]
    assert compare(model, runner_of(path), batches, False, repeat=1).largest <= BOUND


@pytest.mark.slow
def test_any_size_of_sorted_runs(tmp_path: Path) -> None:
    """Without ties that rounding decides: every token of SG-Former is as significant as the others."""
    model = Deployed(Subject('SGFormer', 'small', options=dict(guide='manual')).build()).eval()
    program = trace(model, random_images(2, (224, 256), raw=False), dynamic=True)
    path = tmp_path / 'model.onnx'
    save_onnx(program, path, model.output_names, {})
    others = ((1, (64, 96)), (3, (160, 96)), (1, (71, 140)), (1, (300, 420)))
    batches = [random_images(batch, size, raw=False) for batch, size in others]
    assert compare(model, runner_of(path), batches, False, repeat=1).largest <= BOUND
    # The runs that the significance sorts, without another program's rounding.
    model = Deployed(Subject('SGFormer', 'small').build()).eval()
    run = graph_module(trace(model, random_images(2, (224, 256), raw=False), dynamic=True))
    for images in batches:
        with torch.no_grad():
            for one, other in zip(run(images), model(images), strict=True):
                torch.testing.assert_close(one, other)


def test_too_small_an_example() -> None:
    """A graph for one window alone is refused."""
    model = Deployed(Subject('SGFormer', 'small').build()).eval()
    program = trace(model, random_images(2, SIZE, raw=False), dynamic=True)
    with pytest.raises(UserError, match=r'a height from 33 to \d+ alone: .* larger --size'):
        smallest_size(program)


def test_no_dynamic_size() -> None:
    model = Deployed(Subject('PVT', 'tiny', 'SimilarityMerging').build()).eval()
    with pytest.raises(UserError, match='SimilarityMerging takes no dynamic sizes'):
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
