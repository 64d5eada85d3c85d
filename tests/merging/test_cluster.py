import pytest
import torch

from spm_mm.merging import ClusterMerging
from spm_mm.ops import TokenMap

CONTEXTS = {'strided': (4, 5), 'dense': (7, 9), 'clusters': None}


@pytest.mark.parametrize('context', CONTEXTS)
def test_every_context(context: str) -> None:
    """Sizes of the context and its score; every parameter has a gradient; so it is from tokens."""
    merging = ClusterMerging(16, 24, context=context)
    tokens = merging(torch.randn(2, 7, 9, 16))
    assert tokens.x.shape == (2, 16, 24)
    assert tokens.size == (4, 5)
    assert tokens.index.shape == (2, 7, 9)
    assert all(len(index.unique()) == 16 for index in tokens.index)
    loss = tokens.x.square().sum()
    if CONTEXTS[context] is None:
        assert tokens.context is tokens.context_score is None
    else:
        assert tokens.context.shape == (2, *CONTEXTS[context], 24)
        assert tokens.context_score.shape == (2, *CONTEXTS[context])
        loss = loss + tokens.context.square().sum()
    loss.backward()
    for name, parameter in merging.named_parameters():
        assert parameter.grad is not None, name
    assert merging.score.weight.grad.abs().sum() > 0
    again = ClusterMerging(24, 32, context=context)(tokens)
    assert again.x.shape == (2, 4, 32)
    assert again.size == (2, 3)
    assert again.index.shape == (2, 7, 9)
    assert all(len(index.unique()) == 4 for index in again.index)


def test_both_readings_have_as_many_parameters() -> None:
    """And 'clusters' lacks the branch of keys and values: HAFA, Table 5."""
    counts = {
        context: sum(p.numel() for p in ClusterMerging(320, 512, context=context).parameters())
        for context in CONTEXTS
    }
    official, unused, branch = 2_343_937, 262_656, 439_808 + 1_024
    assert counts == {
        'strided': official - unused,
        'dense': official - unused,
        'clusters': official - unused - branch,
    }


def test_an_image_does_not_see_the_others() -> None:
    merging = ClusterMerging(8, 16).eval()
    x = torch.randn(3, 6, 8, 8)
    together, alone = merging(x), [merging(image[None]) for image in x]
    torch.testing.assert_close(together.x, torch.cat([tokens.x for tokens in alone]))
    assert torch.equal(together.index, torch.cat([tokens.index for tokens in alone]))


def test_what_padding_does() -> None:
    """Padded tokens count for the number of clusters, but far from the image they take one alone."""
    merging = ClusterMerging(8, 16).eval()
    image = torch.randn(1, 8, 8, 8)
    padded = torch.nn.functional.pad(image, (0, 0, 0, 16))
    alone, tokens = merging(image), merging(padded)
    assert alone.x.shape[1] == 16
    assert tokens.x.shape[1] == 48  # a quarter of the padded 8 x 24
    inner = tokens.index[0, 1:-1, 10:-1].unique()  # where the 3x3 convolution sees padding alone
    assert len(inner) == 1
    assert len(tokens.index[0, :, :8].unique()) > 16


def test_mixed_precision() -> None:
    merging = ClusterMerging(16, 24)
    x = torch.randn(2, 6, 6, 16, requires_grad=True)
    with torch.autocast('cpu', torch.bfloat16):
        tokens = merging(x)
        loss = tokens.x.float().square().sum() + tokens.context.float().square().sum()
    loss.backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in merging.parameters())


def test_runs_are_equal_without_noise() -> None:
    x = torch.randn(1, 12, 12, 8)
    for noise, equal in ((0.0, True), (0.5, False)):
        merging = ClusterMerging(8, 16, noise=noise).eval()
        assert torch.equal(merging(x).index, merging(x).index) == equal


def test_too_many_tokens_are_refused_with_the_memory_they_take() -> None:
    merging = ClusterMerging(8, 16)
    with pytest.raises(
        ValueError, match=r'4\.6 GiB to cluster 16600 tokens of 2 images, more than'
    ):
        merging(torch.zeros(2, 100, 166, 8))
    assert isinstance(ClusterMerging(8, 16, max_tokens=64)(torch.zeros(1, 8, 8, 8)), TokenMap)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(context='stride'), "context .* 'stride'.*did you mean 'strided'"),
        (dict(ratio=0), 'ratio .* above 0, at most 1, got 0'),
        (dict(ratio=1.5), 'ratio .* above 0, at most 1, got 1.5'),
        (dict(k=0), 'k of ClusterMerging must be a whole number of 1 or more, got 0'),
        (dict(max_tokens='all'), "max_tokens .* must be a whole number of 1 or more, got 'all'"),
        (dict(noise=-1.0), 'noise .* must be 0 or more, got -1.0'),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClusterMerging(8, 16, **options)
