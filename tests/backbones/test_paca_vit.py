import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from spm_mm.attention import PatchToClusterAttention, assign
from spm_mm.attention.patch_to_cluster import ConvClustering
from spm_mm.backbones import PaCaViT, loading
from spm_mm.backbones.loading import split_unused
from spm_mm.registry import MODELS
from tests import testing


def config(depths=(1, 2, 1, 1), teacher_depths=(0, 0, 0, 0), merging=None, **options) -> dict:
    built = testing.tiny_config('PaCaViT', merging, **options)
    arch = dict(built['arch'], depths=depths, teacher_depths=teacher_depths)
    clusters = (5, 6, 7, 4 if any(teacher_depths) else 0)
    return {**built, 'arch': arch, 'num_clusters': options.get('num_clusters', clusters)}


def build(*args, **options) -> PaCaViT:
    return MODELS.build(config(*args, **options))


TEACHER = dict(teacher_depths=(1, 0, 1, 2))
VARIANTS = {
    'mlp': dict(clustering='mlp'),
    'block-wise': dict(clustering_interval=1, num_clusters=(5, 6, 7, 8)),
    'second': dict(clustering_interval=(0, 2, 0, 0), depths=(1, 3, 1, 1)),
    'plain': dict(num_clusters=(0, 0, 0, 0)),
    'teacher': TEACHER,
    'teacher, sparse': dict(**TEACHER, num_clusters=(0, 5, 0, 6)),
    'teacher, floor': dict(**TEACHER, merging='ConvMerging'),
    'teacher, spm': dict(**TEACHER, merging='StepwiseMerging'),
}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS)
def variant(request: pytest.FixtureRequest) -> dict:
    return config(**request.param)


class TestVariants:
    """The contract of every backbone, for what the registry's tiny model does not have."""

    def test_shapes_and_gradients(self, variant: dict) -> None:
        testing.check_shapes(MODELS.build(variant))
        testing.check_gradients(MODELS.build(variant))

    def test_building_and_checkpointing(self, variant: dict) -> None:
        testing.check_build_twice(variant)
        testing.check_round_trip(variant)
        testing.check_checkpointing(variant)

    def test_early_exit_puts_out_the_same(self, variant: dict) -> None:
        whole = MODELS.build(variant).eval()
        early = MODELS.build({**variant, 'out_indices': (0, 1)})
        weights = whole.state_dict()
        split_unused(early, weights)
        early.load_state_dict(weights)
        testing.check_gradients(early)
        early.load_state_dict(weights)  # training changed the running statistics
        x = torch.randn(1, 3, 70, 97)
        for one, other in zip(early.eval()(x), whole(x)[:2], strict=True):
            torch.testing.assert_close(one, other)

    def test_mixed_precision(self, variant: dict) -> None:
        testing.check_gradients(MODELS.build(variant), mixed=True)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['block-wise', 'teacher, floor'])
def test_compile(name: str) -> None:
    testing.check_compile(build(**VARIANTS[name]))


def assignments(model: PaCaViT, stage: int) -> list[torch.Tensor]:
    """What each block of a stage used."""
    used = []
    hooks = [
        block.register_forward_hook(lambda module, given, out: used.append(out[1]))
        for block in model.stages[stage].blocks
    ]
    model.eval()(torch.randn(2, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    return used


@pytest.mark.parametrize(
    ('interval', 'makers'), [(0, [0, 0, 0, 0]), (1, [0, 1, 2, 3]), (2, [0, 0, 2, 2])]
)
def test_assignment_passes_from_block_to_block(interval: int, makers: list[int]) -> None:
    model = build(depths=(1, 4, 1, 1), clustering_interval=interval)
    used = assignments(model, 1)
    assert [next(j for j in range(4) if used[j] is used[i]) for i in range(4)] == makers
    assert used[0].shape == (2, 6, 64)
    torch.testing.assert_close(used[0].sum(dim=-1), torch.ones(2, 6))
    assert assignments(model, 3) == [None]


def test_teacher_gives_every_block_the_same_assignment() -> None:
    model = build(**TEACHER)
    first, second = assignments(model, 1)
    assert first is second
    assert not any('clustering' in name for name, _ in model.named_parameters())


def test_attention_equals_its_definition() -> None:
    """Equations 1 to 3, written down token by token for one head."""
    attention = PatchToClusterAttention(8, num_heads=1, num_clusters=3, clustering='conv').double()
    x = torch.randn(2, 4, 5, 8, dtype=torch.double)
    out, assignment = attention(x)
    logits = attention.clustering(x)
    for b in range(2):
        tokens = x[b].reshape(20, 8)
        weights = torch.stack([logits[b, ..., m].flatten().softmax(0) for m in range(3)])
        torch.testing.assert_close(assignment[b], weights)
        clusters = attention.cluster_norm(
            torch.stack([(w[:, None] * tokens).sum(0) for w in weights])
        )
        for n in (0, 7, 19):
            q = attention.q(tokens[n])
            scores = torch.stack([q @ attention.k(c) / math.sqrt(8) for c in clusters])
            mixed = sum(
                a * attention.v(c) for a, c in zip(scores.softmax(0), clusters, strict=True)
            )
            torch.testing.assert_close(out[b].reshape(20, 8)[n], attention.proj(mixed))


def test_clusters_do_not_mix_images() -> None:
    x = torch.randn(2, 4, 5, 8)
    clustering = ConvClustering(8, 3)
    torch.testing.assert_close(assign(clustering(x))[:1], assign(clustering(x[:1])))


def test_classifier_reads_the_mean_of_the_normed_map() -> None:
    dense = build()
    classifier = build(out_type='avg_featmap')
    classifier.load_state_dict(dense.state_dict())
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(classifier.eval()(x)[0], dense.eval()(x)[-1].mean(dim=(2, 3)))


# Multiply-accumulates at 224 x 224 with a classifier of 1000, as the official code has them.
MACS = {
    'tiny': (dict(), 3.219),
    'small': (dict(), 5.501),
    'base': (dict(), 9.537),
    'small mlp': (dict(clustering='mlp'), 5.864),
    'small 2': (dict(num_clusters=(2, 2, 2, 0)), 4.640),
    'small 100-81-64-49': (dict(num_clusters=(100, 81, 64, 49)), 5.336),
    'small block-wise': (dict(num_clusters=(100,) * 4, clustering_interval=1), 6.103),
    'tiny-ec': (dict(), 3.424),
    'small-ec': (dict(), 5.482),
    'base-ec': (dict(), 9.771),
}


def macs(model: PaCaViT, size: int) -> float:
    """In billions."""
    with FlopCounterMode(display=False) as counter:
        model.to('meta').eval()(torch.empty(1, 3, size, size, device='meta'))
    return counter.get_total_flops() / 2e9


@pytest.mark.parametrize('name', MACS)
def test_macs(name: str) -> None:
    options, expected = MACS[name]
    with torch.device('meta'):
        model = PaCaViT(name.split()[0], **options)
    head = model.arch['embed_dims'][-1] * 1000 / 1e9
    assert macs(model, 224) + head == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize('arch', ['tiny', 'tiny-ec'])
def test_cost_is_linear_in_the_number_of_tokens(arch: str) -> None:
    """Slope of the log-log line of multiply-accumulates over pixels, 224 to 1024."""
    with torch.device('meta'):
        model = PaCaViT(arch)
    few, many = (math.log(macs(model, size)) for size in (224, 1024))
    assert (many - few) / math.log((1024 / 224) ** 2) <= 1.1


@pytest.mark.slow
@pytest.mark.parametrize('size', [(33, 47), (1333, 800)], ids=str)
def test_a_teacher_at_any_size(size: tuple[int, int]) -> None:
    testing.check_gradients(PaCaViT('tiny-ec'), size=size)


@pytest.mark.parametrize(
    ('options', 'layers'),
    [
        (dict(), ['stages.{}.blocks.0.attn.clustering.to_clusters.weight']),
        (
            dict(clustering='mlp'),
            [f'stages.{{}}.blocks.0.attn.clustering.to_clusters.{k}' for k in ('weight', 'bias')],
        ),
        (TEACHER, [f'teacher.to_clusters.{{}}.{k}' for k in ('weight', 'bias')]),
    ],
    ids=['conv', 'mlp', 'teacher'],
)
def test_another_number_of_clusters(options, layers, tmp_path, monkeypatch) -> None:
    """Exactly the last clustering layers of the changed stages start anew, and the log says which."""
    source = build(out_type='avg_featmap', **options)
    path = tmp_path / 'classifier.pth'
    torch.save({f'backbone.{k}': v for k, v in source.state_dict().items()}, path)
    clusters = (9, 9, *source.num_clusters[2:])
    model = build(
        **options,
        num_clusters=clusters,
        init_cfg=dict(type='Pretrained', checkpoint=str(path), prefix='backbone.'),
    )
    before = {k: v.clone() for k, v in model.state_dict().items()}
    said = []
    monkeypatch.setattr(loading, 'print_log', lambda text, *args: said.append(text))
    model.init_weights()
    anew = [layer.format(i) for i in (0, 1) for layer in layers]
    for name, value in model.state_dict().items():
        wanted = before if name in anew else source.state_dict()
        assert torch.equal(value, wanted[name]), name
    assert said[1:] == [f'PaCaViT: of another size in the checkpoint, so new: {", ".join(anew)}']


def test_another_kind_of_clustering_is_another_model(tmp_path) -> None:
    path = tmp_path / 'weights.pth'
    torch.save(build().state_dict(), path)
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    for options in (dict(clustering='mlp'), dict(num_clusters=(5, 6, 0, 0))):
        with pytest.raises(ValueError, match='belongs to another model than this PaCaViT'):
            build(**options, init_cfg=init_cfg).init_weights()


def test_frozen_stages_freeze_the_teacher_but_for_open_stages() -> None:
    model = build(**TEACHER, frozen_stages=2).train()
    names = {name for name, p in model.teacher.named_parameters() if p.requires_grad}
    assert names == {f'to_clusters.{i}.{k}' for i in (2, 3) for k in ('weight', 'bias')}
    assert not model.teacher.stages[3].training
    assert build(**TEACHER, frozen_stages=0).train().teacher.stages[0].training


def test_initial_weights_of_other_mergings_are_their_own() -> None:
    torch.manual_seed(0)
    model = build(merging='StepwiseMerging')
    bound = 1 / 7  # of PyTorch's own start for a depth-wise 7x7 convolution
    guide = model.mergings[0].enhancement.guide[2]
    assert guide.weight.abs().max() <= bound
    assert guide.bias.abs().max() > 0
    own = build().mergings[0].conv
    assert own.bias.abs().max() == 0
    assert own.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * own.out_channels)), rel=0.1)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(num_clusters=(100, 100)), 'num_clusters must have one number.*4 stages'),
        (dict(num_clusters=(100, 100, 100, -1)), 'each of num_clusters must be .* 0 or more'),
        (dict(num_clusters=(1.5, 1, 1, 1)), 'each of num_clusters must be .* 0 or more'),
        (dict(clustering='cnov'), "clustering has unknown value 'cnov'.*'conv'"),
        (dict(clustering_interval=(1, 1)), 'clustering_interval must have'),
        (dict(clustering_interval=-1), 'each of clustering_interval .* 0 or more, got -1'),
        (dict(arch='tiny-ec', clustering='mlp'), 'teacher has no clustering of its own'),
        (dict(arch='tiny-ec', clustering_interval=1), 'teacher has no clustering of its own'),
        (dict(arch='tiny-ec', num_clusters=(0, 0, 0, 0)), 'num_clusters must be positive for some'),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PaCaViT(**arguments)


def test_another_cnn_as_the_teacher() -> None:
    """Footnote 2: a network of MMPretrain's registry reads the image and assigns the clusters."""
    pytest.importorskip('mmpretrain')
    teacher = dict(type='mmpretrain.MobileNetV2', widen_factor=0.25, out_indices=(1, 2, 4, 7))
    model = build(teacher=teacher, num_clusters=(5, 6, 7, 4))
    assert type(model.teacher.network).__name__ == 'MobileNetV2'
    assert all(block.attn.clustering is None for stage in model.stages for block in stage.blocks)
    testing.check_shapes(model)
    testing.check_gradients(model)
    # Logits belong to the image that the teacher saw.
    image = torch.randn(1, 3, 64, 96)
    pairs = model.eval().guide_stages(model.stem(image), image)
    assert [logits.shape[-1] for logits, _ in pairs] == [5, 6, 7, 4]
    assert [m.shape[-1] for _, m in pairs] == list(model.embed_dims)
    with pytest.raises(
        ValueError, match='teacher must put out one map for each of 4 stages, got 1'
    ):
        build(teacher=dict(teacher, out_indices=(6,)), num_clusters=(5, 6, 7, 4))
    with pytest.raises(ValueError, match='has no clustering of its own'):
        build(teacher=teacher, clustering='mlp', num_clusters=(5, 6, 7, 4))
