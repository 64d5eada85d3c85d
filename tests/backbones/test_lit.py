import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from spm_mm.backbones import LIT, PVT
from spm_mm.benchmark.measure import make_pass, peak_memory
from tests import testing
from tests.testing import build_tiny

RELATIVE = dict(
    type='spm_mm.LIT',
    arch=dict(
        embed_dims=(8, 16, 24, 32), depths=(1, 1, 2, 1), num_heads=(1, 2, 3, 4),
        mlp_ratios=(2, 2, 2, 2), position='relative', norm_eps=1e-5,
    ),
)  # fmt: skip


class TestRelativePositions:
    """The contract for small, medium and base; the shared contract tests take the first arch, tiny."""

    @pytest.fixture
    def model(self) -> LIT:
        return testing.MODELS.build(RELATIVE)

    def test_shapes(self, model: LIT) -> None:
        testing.check_shapes(model)

    def test_gradients(self, model: LIT) -> None:
        testing.check_gradients(model)

    @pytest.mark.slow
    def test_compile(self, model: LIT) -> None:
        testing.check_compile(model)

    def test_checkpointing(self) -> None:
        testing.check_checkpointing(RELATIVE)

    def test_build_twice(self) -> None:
        testing.check_build_twice(RELATIVE)

    def test_round_trip(self) -> None:
        testing.check_round_trip({**RELATIVE, 'out_norms': (1, 2, 3)})

    def test_names_of_the_state_dict(self, model: LIT) -> None:
        """A renamed key breaks every checkpoint: the names are pinned."""
        linears = ['attn.q', 'attn.kv', 'attn.proj', 'mlp.fc1', 'mlp.fc2', 'norm1', 'norm2']
        names = {f'{name}.{kind}' for name in linears for kind in ('weight', 'bias')}
        assert set(model.stages[2].blocks[0].state_dict()) == {
            *names,
            'attn.relative_position_bias_table.table',
        }
        plain = {name for name in names if name.startswith(('mlp', 'norm2'))}
        assert set(model.stages[0].state_dict()) == {f'blocks.0.{name}' for name in plain}
        normed = testing.MODELS.build({**RELATIVE, 'out_norms': (3,)})
        extra = normed.state_dict().keys() - model.state_dict().keys()
        assert extra == {'norms.3.out.weight', 'norms.3.out.bias'}

    def test_mixed_precision(self, model: LIT) -> None:
        testing.check_gradients(model, mixed=True)

    def test_padding_is_zeros_on_the_right_and_bottom(self, model: LIT) -> None:
        model.eval()
        x = torch.randn(1, 3, 70, 97)
        padded = torch.nn.functional.pad(x, (0, 3, 0, 2))
        for one, other in zip(model(x), model(padded), strict=True):
            assert torch.equal(one, other)


def test_tiny_is_pvt_small_with_other_attention_and_merging() -> None:
    lit = LIT('tiny', out_type='cls_token').eval()
    pvt = PVT(
        'small', attention=(None, None, 'full', 'full'), out_type='cls_token',
        merging=dict(type='DeformableMerging'),
    ).eval()  # fmt: skip
    pvt.load_state_dict(lit.state_dict())
    x = torch.randn(1, 3, 96, 64)
    assert torch.equal(lit(x)[0], pvt(x)[0])


# The paper prints parameters without the classifier, cut to whole millions (Table 2). LIT-Tiny's
# products are those of the official code, 3.614 G, which its paper rounds to 3.6.
FIGURES = [
    ('tiny', 'cls_token', 19.373, 3.614),
    ('small', 'avg_featmap', 27.205, 4.077),
    ('medium', 'avg_featmap', 48.603, 8.592),
    ('base', 'avg_featmap', 86.267, 15.028),
]


@pytest.mark.parametrize(('arch', 'out_type', 'millions', 'macs'), FIGURES)
def test_parameters_and_macs(arch: str, out_type: str, millions: float, macs: float) -> None:
    with torch.device('meta'), FlopCounterMode(display=False) as counter:
        model = LIT(arch, out_type=out_type).eval()
        (out,) = model(torch.empty(1, 3, 224, 224))
        torch.nn.Linear(out.shape[1], 1000)(out)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=1e-3)
    assert counter.get_total_flops() / 2e9 == pytest.approx(macs, abs=5e-4)


def test_output_norms_are_not_read_by_the_next_stage() -> None:
    plain = build_tiny('LIT').eval()
    normed = build_tiny('LIT', out_norms=(0, 2)).eval()
    normed.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(1, 3, 64, 64)
    for i, (one, other) in enumerate(zip(plain(x), normed(x), strict=True)):
        if i in (0, 2):
            one = torch.nn.functional.layer_norm(one.permute(0, 2, 3, 1), one.shape[1:2], eps=1e-6)
            one = one.permute(0, 3, 1, 2)
        torch.testing.assert_close(one, other)


def test_last_norm_of_a_classifier_is_not_the_start_of_an_output_norm(tmp_path) -> None:
    classifier = testing.MODELS.build({**RELATIVE, 'out_type': 'avg_featmap'})
    torch.nn.init.normal_(classifier.norms[3].weight)
    path = tmp_path / 'classifier.pth'
    torch.save({f'backbone.{k}': v for k, v in classifier.state_dict().items()}, path)
    init = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    dense = testing.MODELS.build(
        {**RELATIVE, 'img_size': 512, 'out_norms': (0, 1, 2, 3), 'init_cfg': init}
    )
    dense.init_weights()
    assert dense.norms[3].out.weight.eq(1).all()
    small, large = (
        m.stages[2].blocks[0].attn.relative_position_bias_table.table for m in (classifier, dense)
    )
    assert (small.shape[1:3], large.shape[1:3]) == ((27, 27), (63, 63))
    expected = torch.nn.functional.interpolate(
        small.permute(0, 3, 1, 2), size=(63, 63), mode='bicubic', align_corners=False
    )
    torch.testing.assert_close(large, expected.permute(0, 2, 3, 1))


@pytest.mark.slow
@pytest.mark.parametrize('size', [(33, 47), (800, 1333)], ids=str)
def test_relative_positions_at_any_size(size: tuple[int, int]) -> None:
    settings = dict(LIT.arch_settings['small'], depths=(1, 1, 1, 1))
    testing.check_gradients(LIT(settings), size=size)


@pytest.mark.slow
def test_training_on_a_large_image_takes_less_than_8_gb() -> None:
    """LIT-Small at 800 x 1333: whole matrices of the relative bias would take twice as much."""
    model = LIT('small').train()
    step = make_pass(model, torch.randn(1, 3, 800, 1333), 'training', 'float32', 'cpu')
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    assert weights + peak_memory(step, 'cpu') < 8e9


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(arch=dict(RELATIVE['arch'], position='relativ')), "position .*mean 'relative'"),
        (dict(arch='small', out_type='cls_token'), "needs absolute positions.*'avg_featmap'"),
        (dict(img_size=16), 'img_size must be a whole number of 32 or more, got 16'),
        (dict(out_norms=(4,)), r'out_norms must be among out_indices=\[0, 1, 2, 3\].*got \[4\]'),
        (dict(out_norms=(3,), out_type='avg_featmap'), "out_norms .* out_type='featmap'"),
        (dict(out_type='cls_token', out_indices=(1, 3)), 'cls_token.*last stage'),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LIT(**arguments)
