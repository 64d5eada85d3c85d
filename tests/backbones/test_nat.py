import pytest
import torch
from mmengine.config import Config

from spm_mm.backbones import NAT
from spm_mm.engine import measure
from tests import testing
from tests.testing import build_tiny


# The official models' own counts without head and with four output norms.
@pytest.mark.parametrize(
    ('arch', 'parameters'),
    [('mini', 19472070), ('tiny', 27389478), ('small', 49975641), ('base', 88746444)],
)
def test_parameters_of_the_dense_form(arch: str, parameters: int) -> None:
    with torch.device('meta'):
        assert sum(p.numel() for p in NAT(arch).parameters()) == parameters


def test_macs_count_what_is_read(root) -> None:
    """The 49 keys of a query, as the official counter does, not the masked ones of its tile."""
    counted = measure(Config.fromfile(root / 'configs/mmpretrain/nat_mini_in1k.py'))
    assert counted.total_macs == 2694812672
    cells = sum(depth * 56**2 // 4**i * 64 * 2**i for i, depth in enumerate((3, 4, 6, 5)))
    assert counted.products == 2 * 49 * cells


def plain_block(weights: dict[str, torch.Tensor], x: torch.Tensor, num_heads: int) -> torch.Tensor:
    """A block with layer scale on a map (H, W, C) of 7x7 cells or more, written in plain PyTorch."""
    h, w, c = x.shape
    width = c // num_heads

    def linear(name: str, t: torch.Tensor) -> torch.Tensor:
        return t @ weights[f'{name}.weight'].T + weights[f'{name}.bias']

    def norm(name: str, t: torch.Tensor) -> torch.Tensor:
        centred = t - t.mean(dim=-1, keepdim=True)
        t = centred / (centred.pow(2).mean(dim=-1, keepdim=True) + 1e-5).sqrt()
        return t * weights[f'{name}.weight'] + weights[f'{name}.bias']

    q, k, v = linear('attn.qkv', norm('norm1', x)).view(h, w, 3, num_heads, width).unbind(2)
    table, read = weights['attn.relative_position_bias_table'], torch.zeros_like(q)
    for i in range(h):
        for j in range(w):
            top, left = min(max(i - 3, 0), h - 7), min(max(j - 3, 0), w - 7)
            for g in range(num_heads):
                keys, values = (t[top : top + 7, left : left + 7, g] for t in (k, v))
                scores = (keys * q[i, j, g]).sum(dim=-1) / width**0.5
                scores = scores + table[g, top - i + 6 : top - i + 13, left - j + 6 : left - j + 13]
                share = scores.exp() / scores.exp().sum()
                read[i, j, g] = (share[..., None] * values).sum(dim=(0, 1))
    x = x + weights['scale1.weight'] * linear('attn.proj', read.flatten(2))
    hidden = linear('mlp.fc1', norm('norm2', x))
    hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    return x + weights['scale2.weight'] * linear('mlp.fc2', hidden)


@pytest.mark.parametrize('size', [(9, 8), (7, 11)], ids=str)
def test_layer_scale(size: tuple[int, int]) -> None:
    """Small and base: a whole block at odd sides, with all its numbers drawn anew."""
    arch = {**testing.tiny_config('NAT')['arch'], 'layer_scale': 1e-5}
    model = NAT(arch)
    testing.check_gradients(model)
    block = model.stages[0].blocks[0].eval()
    assert (block.scale1.weight == 1e-5).all()
    assert (block.scale2.weight == 1e-5).all()
    block.double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, mean=0.5, std=0.5)
    x = torch.randn(2, *size, 16, dtype=torch.float64)
    plain = torch.stack([plain_block(block.state_dict(), image, 2) for image in x])
    torch.testing.assert_close(block(x), plain)


def test_mini_and_tiny_have_no_layer_scale() -> None:
    assert not any('scale' in name for name in build_tiny('NAT').state_dict())


def test_the_table_is_the_same_at_every_size() -> None:
    model = build_tiny('NAT').eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sides = [model(torch.randn(1, 3, *size))[3].shape[2:] for size in ((224, 224), (230, 310))]
    assert sides == [(7, 7), (8, 10)]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_classifiers_norm_is_no_output_norm(tmp_path) -> None:
    classifier = build_tiny('NAT', out_type='avg_featmap')
    torch.nn.init.ones_(classifier.norms[3].bias)
    path = tmp_path / 'classifier.pth'
    torch.save({f'backbone.{k}': v for k, v in classifier.state_dict().items()}, path)
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    model = build_tiny('NAT', init_cfg=init_cfg)
    model.init_weights()
    own, theirs = model.state_dict(), classifier.state_dict()
    assert set(theirs) - set(own) == {'norms.3.weight', 'norms.3.bias'}
    assert all(key.startswith('norms.') for key in set(own) - set(theirs))
    assert all(torch.equal(own[key], theirs[key]) for key in own.keys() & theirs.keys())
    assert (model.norms[3].out.bias == 0).all()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(kernel_size=6), 'kernel_size must be odd and 3 or more, got 6'),
        (dict(kernel_size='7'), "kernel_size must be odd and 3 or more, got '7'"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message), torch.device('meta'):
        NAT(**arguments)
