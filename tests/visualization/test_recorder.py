import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spm_mm import testing
from spm_mm.errors import UserError
from spm_mm.registry import MODELS
from spm_mm.visualization import Recorder, attention_of_query, receptive_fields
from spm_mm.visualization.recorder import attention_weights


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
        assert before.max() == after.max() == 1


def test_attention_of_a_query() -> None:
    model = testing.build_tiny('PVT', out_type='cls_token').eval()
    image = torch.randn(1, 3, 64, 96)
    weights, place = attention_of_query(model, image, 'stages.1.blocks.0', 1, (0.99, 0.0))
    assert weights.shape == (2, 3)  # 8 x 12 cells, reduced by 4
    assert place == (0, 11)
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    last, _ = attention_of_query(model, image, 'stages.3.blocks.0', 7, (0.5, 0.5))
    assert last.shape == (2, 3)
    assert last.sum() < 1  # the class token has the rest
    with pytest.raises(UserError, match='from 0 to 1'):
        attention_of_query(model, image, 'stages.1.blocks.0', 2, (0.5, 0.5))
    without = testing.build_tiny('PVT', attention=(None, 'sr', 'sr', 'sr')).eval()
    with pytest.raises(UserError, match='no attention'):
        attention_of_query(without, image, 'stages.0.blocks.0', 0, (0.5, 0.5))


def test_attention_of_a_query_in_slices_of_heads(monkeypatch) -> None:
    """Large maps with a relative bias go through in slices: the same heads, one after the other."""
    config = testing.tiny_config('LIT')
    config['arch']['position'] = 'relative'
    model = MODELS.build(config).eval()
    image = torch.randn(1, 3, 64, 96)
    block = 'stages.2.blocks.0'
    heads = model.stages[2].blocks[0].attn.num_heads

    def look(head: int) -> np.ndarray:
        return attention_of_query(model, image, block, head, (0.5, 0.5))[0]

    whole = [look(head) for head in range(heads)]
    operator = sys.modules['spm_mm.ops.relative_attention']
    monkeypatch.setattr(operator, 'SLICE', 2 * (4 * 6) ** 2)
    with torch.no_grad(), Recorder(model, attention=[block]) as seen:
        model(image)
    assert len(seen.attention[block]) == -(-heads // 2) > 1
    for head in range(heads):
        np.testing.assert_allclose(look(head), whole[head], rtol=1e-5)
    with pytest.raises(UserError, match=f'from 0 to {heads - 1}'):
        look(heads)
