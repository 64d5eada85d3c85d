"""The PaCa head alone, in MMSegmentation's stock segmentor, and its published loss figures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from spm_mm.converters import get_converter
from tests import testing
from tests.parity.fixtures import make_inputs, make_state_dict, read_fixture

FIXTURE = Path(__file__).parents[1] / 'parity/oracles/paca_seg_head.json'
DIMS = (8, 16, 24, 32)


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope('mmseg')


def build_head(in_channels=DIMS, **options) -> nn.Module:
    options = dict(norm_cfg=dict(type='BN'), channels=8, num_classes=5) | options
    return MODELS.build(dict(type='spm_mm.PaCaHead', in_channels=in_channels, **options))


def maps(in_channels=DIMS, batch: int = 2) -> list[Tensor]:
    return [torch.randn(batch, c, 17 >> i, 24 >> i) for i, c in enumerate(in_channels)]


def samples(labels: Tensor) -> list[SegDataSample]:
    return [SegDataSample(gt_sem_seg=PixelData(data=label[None])) for label in labels]


def test_published_losses() -> None:
    """The four figures of the official head in training, its dropout removed."""
    fixture = read_fixture(FIXTURE)
    train = fixture['runs'][1]
    shape = train['losses']['labels']['shape']
    spec = fixture['runs'][0]['input']
    rng = np.random.RandomState(spec['seed'])
    for map_shape in spec['shapes']:
        rng.standard_normal(map_shape)
    labels = rng.randint(0, 150, shape)
    labels[rng.uniform(size=shape) < 0.1] = 255

    official = {f'decode_head.{k}': v for k, v in make_state_dict(fixture).items()}
    converter = get_converter('paca')
    head = MODELS.build(
        dict(
            type='spm_mm.PaCaHead', in_channels=fixture['config']['in_channels'], num_classes=150,
            norm_cfg=dict(type='BN'), dropout_ratio=0.0,
        )
    ).train()  # fmt: skip
    parts = nn.ModuleDict({'decode_head': head})
    parts.load_state_dict(converter.convert(official, parts).state_dict)
    losses = head.loss(*make_inputs(spec), samples(torch.from_numpy(labels)), None)
    assert list(losses) == ['loss_ce', 'acc_seg', 'loss_cluster', 'acc_cluster']
    expected = train['losses']
    for ours, theirs in (
        ('loss_ce', expected['decode']['loss_ce']),
        ('acc_seg', expected['decode']['acc_seg']),
        ('loss_cluster', expected['paca']['loss_ce']),
        ('acc_cluster', expected['paca']['acc_seg']),
    ):
        assert losses[ours].item() == pytest.approx(theirs, rel=1e-5), ours


@pytest.mark.parametrize('in_channels', [DIMS[:1], DIMS[:2], DIMS], ids=len)
@pytest.mark.parametrize(
    'norm_cfg', [dict(type='BN'), dict(type='GN', num_groups=2), None], ids=str
)
def test_any_levels_and_norms(in_channels: tuple, norm_cfg: dict | None) -> None:
    head = build_head(in_channels, norm_cfg=norm_cfg)
    labels = torch.randint(0, 5, (2, 68, 96))
    losses = head.train().loss(maps(in_channels), samples(labels), None)
    (losses['loss_ce'] + losses['loss_cluster']).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert head.eval()(maps(in_channels)).shape == (2, 5, 17, 24)


def test_in_index_chooses_the_maps() -> None:
    inputs = maps()
    head = build_head(DIMS[1:3], in_index=[1, 2]).eval()
    assert head(inputs).shape == (2, 5, 8, 12)
    assert torch.equal(head(inputs), head([None, inputs[1], inputs[2], None]))


@pytest.mark.parametrize(
    'labels',
    [torch.full((1, 68, 96), 255), torch.full((1, 68, 96), 3), torch.randint(0, 2, (1, 68, 96))],
    ids=['all ignored', 'one class', 'two classes'],
)
def test_batch_of_one_with_classes_missing(labels: Tensor) -> None:
    head = build_head().train()
    losses = head.loss(maps(batch=1), samples(labels), None)
    for name, value in losses.items():
        assert value.isfinite().all(), name
    ignored = bool((labels == 255).all())
    assert (losses['loss_ce'].item() == 0) == ignored
    assert (losses['loss_cluster'].item() == 0) == ignored
    (losses['loss_ce'] + losses['loss_cluster']).backward()
    assert all(p.grad.isfinite().all() for p in head.parameters())


def test_ignored_pixels_do_not_count() -> None:
    """The mean is over the other pixels: labelling a half alone keeps that half's loss."""
    head = build_head(dropout_ratio=0).eval()
    inputs = maps(batch=1)
    labels = torch.randint(0, 5, (1, 68, 96))
    halves = []
    for part in (slice(0, 48), slice(48, 96)):
        half = torch.full_like(labels, 255)
        half[..., part] = labels[..., part]
        halves.append(head.loss(inputs, samples(half), None))
    whole = head.loss(inputs, samples(labels), None)
    for name in ('loss_ce', 'loss_cluster'):
        mean = (halves[0][name] + halves[1][name]) / 2
        torch.testing.assert_close(whole[name], mean)


def test_weight_of_the_cluster_loss() -> None:
    head = build_head(dropout_ratio=0)
    double = build_head(
        dropout_ratio=0,
        loss_cluster=dict(type='CrossEntropyLoss', avg_non_ignore=True, loss_weight=0.8),
    )
    double.load_state_dict(head.state_dict())
    inputs, labels = maps(), samples(torch.randint(0, 5, (2, 68, 96)))
    one, two = (h.eval().loss(inputs, labels, None) for h in (head, double))
    torch.testing.assert_close(2 * one['loss_cluster'], two['loss_cluster'])
    assert torch.equal(one['loss_ce'], two['loss_ce'])


def test_attention_equals_its_definition() -> None:
    """Without scaling, pixel by pixel."""
    head = build_head(DIMS[:1], dropout_ratio=0).eval().double()
    given = torch.randn(1, DIMS[0], 3, 4, dtype=torch.double)
    logits, clusters = head.forward_with_clusters([given])
    x = head.convs[0](given)
    weights = clusters.flatten(2).softmax(dim=-1)[0]
    means = (weights @ x.flatten(2)[0].T).T[None, ..., None]
    q, k, v = head.q(x)[0].flatten(1), head.k(means)[0, ..., 0], head.v(means)[0, ..., 0]
    out = torch.stack([v @ (k.T @ q[:, n]).softmax(0) for n in range(12)], dim=1)
    torch.testing.assert_close(head.conv_seg(head.proj(out.view(1, -1, 3, 4))), logits)


@pytest.mark.parametrize('backbone', ['PaCaViT', 'PVT'])
@pytest.mark.parametrize('merging', [None, 'StepwiseMerging'])
def test_in_the_stock_segmentor(backbone: str, merging: str | None) -> None:
    config = testing.tiny_config(backbone, merging)
    model = MODELS.build(
        dict(
            type='EncoderDecoder',
            data_preprocessor=dict(type='SegDataPreProcessor', size=(80, 96)),
            backbone=config,
            decode_head=dict(
                type='spm_mm.PaCaHead', in_channels=list(config['arch']['embed_dims']), channels=8,
                num_classes=5, norm_cfg=dict(type='BN'),
            ),
            test_cfg=ConfigDict(mode='whole'),
        )
    ).train()  # fmt: skip
    batch = dict(
        inputs=[torch.randint(0, 255, (3, 64, 90), dtype=torch.uint8)],
        data_samples=samples(torch.randint(0, 5, (1, 64, 90))),
    )
    batch['data_samples'][0].set_metainfo(dict(img_shape=(64, 90), ori_shape=(64, 90)))
    losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    assert {k for k in losses if 'loss' in k} == {'decode.loss_ce', 'decode.loss_cluster'}
    loss, _ = model.parse_losses(losses)
    torch.testing.assert_close(loss, losses['decode.loss_ce'] + losses['decode.loss_cluster'])
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    with torch.no_grad():
        result = model.eval()(**model.data_preprocessor(batch), mode='predict')[0]
    assert result.pred_sem_seg.data.shape == (1, 64, 90)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(in_channels=8), 'in_channels of PaCaHead must be a list.*got 8'),
        (dict(in_channels=[]), 'in_channels of PaCaHead must be a list'),
        (dict(in_index=[0]), 'in_index of PaCaHead must have one entry'),
    ],
)
def test_bad_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_head(**options)
