import pytest
import torch

from spm_mm.merging import GuidedLocalEnhancement, StepwiseMerging
from spm_mm.merging.stepwise import DynamicWeighting
from spm_mm.ops import window_attention
from tests.ops.references import guided_attention_reference

OPTIONS = [
    dict(aggregation='conv'),
    dict(enhancement='conv'),
    dict(enhancement='avg_pool'),
    dict(guide='avg_pool'),
    dict(guide='cls_token'),
    dict(guide='gap'),
    dict(guide_kernel_size=1),
    dict(guide_kernel_size=31),
    dict(paper_equations=True),
    dict(weighting='dynamic'),
    dict(guide_residual=True),
    dict(num_heads=4, kernel_sizes=(3, 7), expand_ratio=1),
]


@pytest.mark.parametrize('options', OPTIONS, ids=str)
@pytest.mark.parametrize('size', [(8, 6), (7, 5), (1, 1)], ids=str)
def test_every_option_at_even_and_odd_sizes(options: dict, size: tuple[int, int]) -> None:
    merging = StepwiseMerging(16, 24, **options)
    out = merging(torch.randn(2, *size, 16))
    assert out.shape == (2, (size[0] + 1) // 2, (size[1] + 1) // 2, 24)
    out.square().sum().backward()
    for name, parameter in merging.named_parameters():
        assert parameter.grad is not None, name


# Parameters of SPM-PVT-Tiny with each option, in millions: derived from the paper's Tables 5 to 7
# with the position tables and the class token that its counting tool leaves out.
PARAMETERS = [
    ({}, 14.029),
    (dict(aggregation='conv'), 15.492),
    (dict(enhancement='conv'), 14.355),
    (dict(enhancement='avg_pool'), 12.830),
    (dict(guide='avg_pool'), 13.980),
    (dict(guide='gap'), 13.980),
    (dict(guide='cls_token'), 13.981),
    (dict(guide_kernel_size=1), 13.983),
    (dict(guide_kernel_size=3), 13.991),
    (dict(guide_kernel_size=5), 14.006),
    (dict(guide_kernel_size=9), 14.060),
    (dict(guide_kernel_size=31), 14.905),
]


@pytest.mark.parametrize(('options', 'millions'), PARAMETERS, ids=str)
def test_parameters_of_the_ablations(options: dict, millions: float) -> None:
    from spm_mm.backbones import PVT

    with torch.device('meta'):
        model = PVT('tiny', merging=dict(type='StepwiseMerging', **options), out_type='cls_token')
    count = sum(p.numel() for p in model.parameters()) + 512 * 1000 + 1000
    assert round(count / 1e6, 3) == millions


@pytest.mark.parametrize('guide', ['conv', 'gap'])
def test_padding_of_odd_sides_takes_no_part(guide: str) -> None:
    """Window by window, without padding: the border's windows have two tokens, the corner's one."""
    gle = GuidedLocalEnhancement(16, guide, 3, 4, norm_cfg=dict(type='BN')).eval().double()
    x = torch.randn(1, 5, 3, 16, dtype=torch.float64)
    out = gle(x)
    normed = gle.token_norm(x)
    if guide == 'conv':
        guides = gle.token_norm(gle.make_guides(x, 3, 2))
    for i in range(3):
        for j in range(2):
            tokens = normed[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten(1, 2)
            arguments = (gle.qkv.weight, gle.qkv.bias, 4)
            if guide == 'conv':
                tokens = torch.cat((guides[:, i, j, None], tokens), dim=1)
                expected = guided_attention_reference(tokens, *arguments)
            else:
                expected = window_attention(gle.qkv(tokens), 4).mean(dim=1)
            torch.testing.assert_close(out[:, i, j], gle.out_norm(expected))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(in_channels=18), 'in_channels .* multiple of the 4 kernel_sizes .* got 18'),
        (dict(out_channels=20), 'num_heads .* divide out_channels=20, got 8'),
        (dict(guide='conf'), "guide .* 'conf'.*did you mean 'conv'"),
        (dict(aggregation='mas'), "aggregation .*did you mean 'msa'"),
        (dict(enhancement='pool'), "enhancement .*'avg_pool'"),
        (dict(guide_kernel_size=4), 'guide_kernel_size must be odd and from 1 to 31, got 4'),
        (dict(guide_kernel_size=33), 'guide_kernel_size must be odd and from 1 to 31, got 33'),
        (dict(kernel_sizes=(3, 4)), 'each of kernel_sizes must be odd and 1 or more, got 4'),
        (dict(num_heads=0), 'num_heads of StepwiseMerging must be .* 1 or more, got 0'),
        (dict(expand_ratio=1.5), 'expand_ratio of StepwiseMerging must be .* got 1.5'),
    ],
)
def test_bad_options(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StepwiseMerging(**{'in_channels': 16, 'out_channels': 24, **arguments})


def test_dynamic_weighting_is_that_of_sknet() -> None:
    """Section 5.1: a softmax over the tokens of a window for each channel, made of their sum."""
    weighting = DynamicWeighting(16, 5)
    tokens = torch.randn(3, 5, 16)
    squeezed = weighting.norm(weighting.reduce(tokens.sum(dim=1))).relu()
    wanted = []
    for n in range(3):
        scores = weighting.expand(squeezed[n]).view(5, 16)
        wanted.append(sum(scores.softmax(dim=0)[t] * tokens[n, t] for t in range(5)))
    torch.testing.assert_close(weighting(tokens, None), torch.stack(wanted))
    mask = torch.tensor([[True, True, False, True, False]]).expand(3, -1)
    changed = tokens.clone()
    changed[:, [2, 4]] = 9.0
    torch.testing.assert_close(weighting(tokens, mask), weighting(changed, mask))


def test_dynamic_weighting_spares_parameters_at_any_size() -> None:
    attention, dynamic = (
        StepwiseMerging(64, 128, weighting=kind) for kind in ('attention', 'dynamic')
    )
    sizes = [sum(p.numel() for p in merging.parameters()) for merging in (attention, dynamic)]
    assert sizes[1] < sizes[0]
    for guide in ('conv', 'gap', 'cls_token'):
        merging = StepwiseMerging(16, 24, weighting='dynamic', guide=guide)
        out = merging(torch.randn(2, 7, 5, 16))
        assert out.shape == (2, 4, 3, 24)
        out.sum().backward()
        assert all(p.grad is not None for p in merging.parameters())


def test_residual_guide_tokens() -> None:
    """Section 5.3: what the guides read, and the guides."""
    merging = StepwiseMerging(16, 24, guide_residual=True).eval()
    enhancement = merging.enhancement
    enhancement.out_norm = torch.nn.Identity()
    x = torch.randn(2, 6, 4, 24)
    with_residual = enhancement(x)
    enhancement.guide_residual = False
    guides = enhancement.make_guides(x, 3, 2)
    torch.testing.assert_close(with_residual, enhancement(x) + guides)
    with pytest.raises(ValueError, match='guide_residual of StepwiseMerging needs a guide'):
        StepwiseMerging(16, 24, guide='gap', guide_residual=True)
    with pytest.raises(ValueError, match='weighting of StepwiseMerging has unknown value'):
        StepwiseMerging(16, 24, weighting='sk')
