import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spm_mm.errors import UserError
from spm_mm.registry import MODELS
from spm_mm.visualization import (
    Recorder,
    attention_of_query,
    cell_at,
    contrast,
    entropy,
    find_pictures,
    half_energy_area,
    receptive_fields,
)
from spm_mm.visualization.recorder import attention_weights
from tests import testing


class Attention(nn.Module):
    def forward(self, x):
        return F.scaled_dot_product_attention(x, x, x) + x.softmax(-1) @ x


def test_weights_are_those_of_the_fused_attention() -> None:
    q, k, v = (torch.randn(2, 3, n, 8) for n in (5, 7, 7))
    for options in (
        {},
        dict(attn_mask=torch.randn(5, 7)),
        dict(attn_mask=torch.rand(2, 1, 5, 7) > 0.3),
        dict(scale=0.1),
    ):
        if options.get('attn_mask') is not None and options['attn_mask'].dtype == torch.bool:
            options['attn_mask'][..., 0] = True
        weights = attention_weights(q, k, v, **options)
        torch.testing.assert_close(weights @ v, F.scaled_dot_product_attention(q, k, v, **options))


def test_records_inside_the_named_modules_alone() -> None:
    model = nn.Sequential(Attention(), Attention(), nn.Linear(4, 4))
    x = torch.randn(1, 4, 4)
    with Recorder(model, modules=['2'], attention=['1']) as seen:
        out = model(x)
    assert list(seen.attention) == ['1']
    assert len(seen.attention['1']) == 2  # the fused one and the softmax
    assert torch.equal(seen.outputs['2'], out)
    assert torch.equal(model[2](seen.inputs['2']), out)
    before = len(seen.attention['1'])
    model(x)
    assert len(seen.attention['1']) == before, 'hooks stay behind'
    with pytest.raises(UserError, match='no module'):
        Recorder(model, modules=['3'])


@pytest.mark.parametrize('backbone', testing.backbones())
def test_recording_changes_nothing(backbone: str) -> None:
    model = testing.build_tiny(backbone).eval()
    x = torch.randn(1, 3, 64, 64)
    names = [name for name, _ in model.named_modules() if name.startswith(('stages.', 'mergings.'))]
    with torch.no_grad():
        plain = model(x)
        with Recorder(model, modules=names, attention=names) as seen:
            watched = model(x)
    assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True))
    assert all(f'mergings.{i}' in seen.outputs for i in range(3))
    recorded = [weights for found in seen.attention.values() for weights in found]
    assert all(torch.isfinite(weights).all() for weights in recorded)


def test_receptive_field_is_where_the_pixels_matter() -> None:
    """Without attention it is known: SPM's first merging sees 15 x 15 cells of 4 x 4 pixels."""
    model = testing.build_tiny('PVT', 'ConvMerging', attention=(None,) * 4).eval()
    spm = testing.build_tiny('PVT', 'StepwiseMerging', attention=(None,) * 4).eval()
    image = torch.randn(1, 3, 128, 128)
    for backbone, cells in ((model, 2), (spm, 6 + 8 + 1)):
        before, after = receptive_fields(backbone, [image], ['mergings.0'])['mergings.0']
        rows, columns = np.nonzero(before)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (64, 67, 64, 67)
        rows, columns = np.nonzero(after)
        assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == 4 * cells
        assert before.sum() == pytest.approx(1)
        assert after.sum() == pytest.approx(1)
        assert half_energy_area(before) < half_energy_area(after) < (4 * cells / 128) ** 2
    with pytest.raises(UserError, match='one size'):
        receptive_fields(model, [image, image[..., :96]], ['mergings.0'])


def test_receptive_field_of_merged_tokens() -> None:
    """A merging that puts out tokens instead of a map."""
    config = testing.tiny_config('PVT') | dict(merging=dict(type='spm_mm.ClusterMerging'))
    backbone = testing.MODELS.build(config).eval()
    fields = receptive_fields(backbone, [torch.randn(1, 3, 64, 64)], ['mergings.2'])
    before, after = fields['mergings.2']
    assert before.shape == after.shape == (64, 64)
    assert after.sum() == pytest.approx(1)


def test_half_energy_area() -> None:
    field = np.zeros((10, 10))
    field[4:6, 4:6] = 1.0
    assert half_energy_area(field) == 0.02
    assert half_energy_area(np.ones((10, 10))) == 0.5
    assert half_energy_area(field / 7) == 0.02


def test_contrast_does_not_vanish_behind_a_layer_norm() -> None:
    """By hand: two cells at 0 and two at (3, 4), each 2.5 from the mean; then vectors of one length."""
    values = torch.tensor([[0.0, 0.0], [3.0, 4.0]]).repeat(2, 1).view(1, 2, 2, 2)
    assert contrast(values).tolist() == [[2.5, 2.5], [2.5, 2.5]]
    maps = F.layer_norm(torch.randn(1, 6, 8, 32, generator=torch.Generator().manual_seed(0)), (32,))
    lengths = maps[0].norm(dim=-1)
    assert (lengths.std() / lengths.mean()).item() < 1e-4
    assert contrast(maps).std() / contrast(maps).mean() > 0.01


def test_entropy() -> None:
    assert entropy(np.full((4, 6), 0.03)) == pytest.approx(1)
    one = np.zeros((4, 6))
    one[1, 2] = 0.5
    assert entropy(one) == 0
    two = one.copy()
    two[3, 3] = 0.5
    assert entropy(two) == pytest.approx(np.log(2) / np.log(24))


def test_attention_of_a_query() -> None:
    model = testing.build_tiny('PVT', out_type='cls_token').eval()
    image = torch.randn(1, 3, 64, 96)
    blocks = ['stages.1.blocks.0', 'stages.3.blocks.0']
    found = attention_of_query(model, image, blocks, (0.99, 0.0))
    assert found[blocks[0]].shape == (2, 2, 3)  # 2 heads, 8 x 12 cells, reduced by 4
    assert found[blocks[0]].sum(axis=(1, 2)) == pytest.approx([1, 1], abs=1e-5)
    assert cell_at((0.99, 0.0), (8, 12)) == (0, 11)
    assert cell_at((1.0, 1.0), (8, 12)) == (7, 11)
    assert found[blocks[1]].shape == (8, 2, 3)
    assert (found[blocks[1]].sum(axis=(1, 2)) < 1).all()  # the class token has the rest
    without = testing.build_tiny('PVT', attention=(None, 'sr', 'sr', 'sr')).eval()
    with pytest.raises(UserError, match='no attention'):
        attention_of_query(without, image, ['stages.0.blocks.0'], (0.5, 0.5))


def test_attention_of_a_query_in_slices_of_heads(monkeypatch) -> None:
    """Large maps with a relative bias go through in slices: the same heads, one after the other."""
    config = testing.tiny_config('LIT')
    config['arch']['position'] = 'relative'
    model = MODELS.build(config).eval()
    image = torch.randn(1, 3, 64, 96)
    block = 'stages.2.blocks.0'
    heads = model.stages[2].blocks[0].attn.num_heads
    whole = attention_of_query(model, image, [block], (0.5, 0.5))[block]
    assert len(whole) == heads
    operator = sys.modules['spm_mm.ops.relative_attention']
    monkeypatch.setattr(operator, 'SLICE', 2 * (4 * 6) ** 2)
    with torch.no_grad(), Recorder(model, attention=[block]) as seen:
        model(image)
    assert len(seen.attention[block]) == -(-heads // 2) > 1
    sliced = attention_of_query(model, image, [block], (0.5, 0.5))[block]
    np.testing.assert_allclose(sliced, whole, rtol=1e-5)


def test_pictures_of_any_depth(tmp_path) -> None:
    for i in range(6):
        path = tmp_path / f'class{i // 2}' / 'deep' / f'{i}.JPEG'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / 'notes.txt').touch()
    assert len(find_pictures(tmp_path)) == 6
    # Spread over the classes, not the first ones.
    assert [p.parts[-3] for p in find_pictures(tmp_path, 3)] == ['class0', 'class1', 'class2']
    one = tmp_path / 'class0/deep/0.JPEG'
    assert find_pictures(one, 3) == [one]
    with pytest.raises(UserError, match='no picture'):
        find_pictures(tmp_path / 'notes')
