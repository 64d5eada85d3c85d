"""The three frameworks on tiny backbones.

The grid: every backbone with every merging in every framework, one training step and one prediction of
the cheapest model. Then, for each backbone with its own merging, what does not depend on the merging: a
two-stage detector with masks and every kind of classifier, on batches of images of different sizes.
"""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from torchvision.ops import StochasticDepth

from spm_mm.backbones import HierarchicalBackbone
from spm_mm.registry import registered
from tests import testing

SIZES = [(64, 90), (77, 64)]
PAIRS = testing.pairs()
IMPOSSIBLE = [
    (b, m) for b in testing.backbones() for m in testing.mergings() if (b, m) not in PAIRS
]


def dims(backbone: str) -> list[int]:
    return list(testing.tiny_config(backbone)['arch']['embed_dims'])


def images(sizes: list[tuple[int, int]] = SIZES) -> list[torch.Tensor]:
    return [torch.randint(0, 255, (3, *size), dtype=torch.uint8) for size in sizes]


def detector(backbone: str, merging: str | None = None, **options) -> torch.nn.Module:
    from mmdet.registry import MODELS

    init_default_scope('mmdet')
    shared = dict(type='Shared2FCBBoxHead', in_channels=16, fc_out_channels=32, roi_feat_size=7)
    coder = dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4)
    assigner = dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5)
    sampler = dict(type='RandomSampler', num=16, pos_fraction=0.5)
    extractor = dict(type='SingleRoIExtractor', out_channels=16, featmap_strides=[4, 8, 16, 32])
    proposals = dict(
        nms_pre=100, max_per_img=50, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0
    )
    return MODELS.build(
        ConfigDict(
            type='MaskRCNN',
            data_preprocessor=dict(
                type='DetDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3, pad_mask=True,
                pad_size_divisor=1,
            ),
            backbone=testing.tiny_config(backbone, merging, **options),
            neck=dict(type='FPN', in_channels=dims(backbone), out_channels=16, num_outs=5),
            rpn_head=dict(
                type='RPNHead', in_channels=16, feat_channels=16,
                anchor_generator=dict(
                    type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0], strides=[4, 8, 16, 32, 64]
                ),
                bbox_coder=dict(**coder, target_stds=[1.0] * 4),
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True),
                loss_bbox=dict(type='L1Loss'),
            ),
            roi_head=dict(
                type='StandardRoIHead',
                bbox_roi_extractor=dict(
                    **extractor, roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0)
                ),
                bbox_head=dict(
                    **shared, num_classes=3, bbox_coder=dict(**coder, target_stds=[0.1] * 4),
                    loss_cls=dict(type='CrossEntropyLoss'), loss_bbox=dict(type='L1Loss'),
                ),
                mask_roi_extractor=dict(
                    **extractor, roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0)
                ),
                mask_head=dict(
                    type='FCNMaskHead', num_convs=1, in_channels=16, conv_out_channels=16,
                    num_classes=3, loss_mask=dict(type='CrossEntropyLoss', use_mask=True),
                ),
            ),
            train_cfg=dict(
                rpn=dict(assigner=assigner, sampler=dict(**sampler, add_gt_as_proposals=False),
                         allowed_border=-1, pos_weight=-1, debug=False),
                rpn_proposal=proposals,
                rcnn=dict(assigner=assigner, sampler=sampler, mask_size=28, pos_weight=-1, debug=False),
            ),
            test_cfg=dict(
                rpn=proposals,
                rcnn=dict(score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=10,
                          mask_thr_binary=0.5),
            ),
        )
    )  # fmt: skip


def detection_batch(sizes: list[tuple[int, int]] = SIZES) -> dict:
    import numpy as np
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    samples = []
    for size in sizes:
        mask = np.zeros((1, *size), np.uint8)
        mask[0, 10:40, 12:50] = 1
        sample = DetDataSample(metainfo=dict(
            img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0), img_id=0, img_path='',
        ))  # fmt: skip
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[12.0, 10.0, 50.0, 40.0]]),
            labels=torch.tensor([1]),
            masks=BitmapMasks(mask, *size),
        )
        samples.append(sample)
    return dict(inputs=images(sizes), data_samples=samples)


def train_and_predict(model: torch.nn.Module, batch: dict) -> list:
    model.train()
    for module in model.modules():
        if isinstance(module, StochasticDepth):
            module.p = 0.0  # which could leave out a branch for both images
    data = model.data_preprocessor(batch, training=True)
    losses = model(**data, mode='loss')
    loss, _ = model.parse_losses(losses)
    assert loss.isfinite()
    loss.backward()
    for name, parameter in model.backbone.named_parameters():
        assert parameter.grad is not None, f'{name} gets no gradient'
        assert parameter.grad.isfinite().all(), name
    before = {name: p.detach().clone() for name, p in model.backbone.named_parameters()}
    # Whose first step is of one size wherever there is a gradient.
    torch.optim.Rprop(model.parameters(), lr=1e-4).step()
    for name, parameter in model.backbone.named_parameters():
        assert torch.equal(parameter != before[name], parameter.grad != 0), name
        # What is added to all scores of a clustering cancels out.
        assert parameter.grad.any() or name.endswith('score.bias'), f'{name} has not changed'
    model.eval()
    with torch.no_grad():
        return [
            model(**model.data_preprocessor(single, training=False), mode='predict')[0]
            for single in split(batch)
        ]


def split(batch: dict) -> list[dict]:
    """The images one by one, each at its own size."""
    count = len(batch['inputs'])
    return [{key: values[i : i + 1] for key, values in batch.items()} for i in range(count)]


@pytest.mark.parametrize('backbone', testing.backbones())
def test_two_stage_detector(backbone: str) -> None:
    results = train_and_predict(detector(backbone), detection_batch())
    assert [r.pred_instances.masks.shape[1:] for r in results] == SIZES


@pytest.mark.parametrize('backbone', testing.backbones())
def test_roi_features_equal_those_of_the_plain_layout(backbone: str) -> None:
    """mmcv's RoIAlign reads channels-last memory wrongly and says nothing. That all pairs put out the
    plain layout is in the backbones' contract."""
    model = detector(backbone).eval()
    with torch.no_grad():
        maps = model.backbone(torch.randn(2, 3, 77, 90))
        rois = torch.tensor([[0, 5.0, 6.0, 60.0, 50.0], [1, 0.0, 0.0, 30.0, 70.0]])
        extract = model.roi_head.bbox_roi_extractor
        direct = [extract.roi_layers[i](m, rois) for i, m in enumerate(maps)]
        plain = [torch.from_numpy(m.numpy().copy(order='C')) for m in maps]
        twin = [extract.roi_layers[i](m, rois) for i, m in enumerate(plain)]
        assert all(torch.equal(one, other) for one, other in zip(direct, twin, strict=True))
        through_neck = [extract(model.neck(m)[:4], rois) for m in (maps, plain)]
        assert torch.equal(*through_neck)


def segmentation_batch(sizes: list[tuple[int, int]] = SIZES) -> dict:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples = []
    for size in sizes:
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 5, (1, *size)))
        samples.append(sample)
    return dict(inputs=images(sizes), data_samples=samples)


def segmentor(backbone: str, merging: str | None = None, **options) -> torch.nn.Module:
    from mmseg.registry import MODELS

    init_default_scope('mmseg')
    return MODELS.build(
        dict(
            type='EncoderDecoder',
            data_preprocessor=dict(
                type='SegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3, size_divisor=1,
            ),
            backbone=testing.tiny_config(backbone, merging, **options),
            neck=dict(type='FPN', in_channels=dims(backbone), out_channels=8, num_outs=4),
            decode_head=dict(
                type='FPNHead', in_channels=[8] * 4, in_index=[0, 1, 2, 3],
                feature_strides=[4, 8, 16, 32], channels=8, num_classes=5, align_corners=False,
                norm_cfg=dict(type='BN'), loss_decode=dict(type='CrossEntropyLoss'),
            ),
            test_cfg=ConfigDict(mode='whole'),
        )
    )  # fmt: skip


@pytest.mark.parametrize('backbone', testing.backbones())
def test_segmentor(backbone: str) -> None:
    results = train_and_predict(segmentor(backbone), segmentation_batch())
    assert [r.pred_sem_seg.data.shape[1:] for r in results] == SIZES


def classifier(
    backbone: str, merging: str | None = None, out_type: str = 'avg_featmap'
) -> torch.nn.Module:
    from mmpretrain.registry import MODELS

    init_default_scope('mmpretrain')
    return MODELS.build(
        dict(
            type='ImageClassifier',
            data_preprocessor=dict(mean=[120.0] * 3, std=[60.0] * 3),
            backbone=testing.tiny_config(backbone, merging, out_type=out_type),
            head=dict(type='LinearClsHead', in_channels=dims(backbone)[-1], num_classes=7),
        )
    )


def classification_batch(size: tuple[int, int]) -> dict:
    from mmpretrain.structures import DataSample

    return dict(
        inputs=torch.stack(images([size] * 2)),
        data_samples=[DataSample().set_gt_label(i) for i in range(2)],
    )


@pytest.mark.parametrize(
    ('backbone', 'out_type'),
    [
        (backbone, out_type)
        for backbone in testing.backbones()
        for out_type in registered(HierarchicalBackbone)[backbone].out_types
        if out_type not in HierarchicalBackbone.dense_types
    ],
)
def test_classifier(backbone: str, out_type: str) -> None:
    results = train_and_predict(
        classifier(backbone, out_type=out_type), classification_batch((64, 90))
    )
    assert [tuple(r.pred_score.shape) for r in results] == [(7,), (7,)]


def one_stage_detector(backbone: str, merging: str) -> torch.nn.Module:
    from mmdet.registry import MODELS

    init_default_scope('mmdet')
    return MODELS.build(
        ConfigDict(
            type='RetinaNet',
            data_preprocessor=dict(type='DetDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3),
            backbone=testing.tiny_config(backbone, merging),
            neck=dict(type='FPN', in_channels=dims(backbone), out_channels=8, num_outs=4),
            bbox_head=dict(
                type='RetinaHead', num_classes=3, in_channels=8, stacked_convs=1, feat_channels=8,
                anchor_generator=dict(
                    type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[4, 8, 16, 32]
                ),
                bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
                loss_cls=dict(type='FocalLoss', use_sigmoid=True),
                loss_bbox=dict(type='L1Loss'),
            ),
            train_cfg=dict(
                assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4),
                sampler=dict(type='PseudoSampler'), allowed_border=-1, pos_weight=-1, debug=False,
            ),
            test_cfg=dict(
                nms_pre=10, min_bbox_size=0, score_thr=0.0, max_per_img=10,
                nms=dict(type='nms', iou_threshold=0.5),
            ),
        )
    )  # fmt: skip


SMALL = (64, 64)
FRAMEWORKS = {
    'mmdet': (one_stage_detector, lambda: detection_batch([SMALL])),
    'mmseg': (segmentor, lambda: segmentation_batch([SMALL])),
    'mmpretrain': (classifier, lambda: classification_batch(SMALL)),
}


@pytest.mark.parametrize('framework', FRAMEWORKS)
@pytest.mark.parametrize(('backbone', 'merging'), PAIRS)
def test_grid(backbone: str, merging: str, framework: str) -> None:
    build, batch = FRAMEWORKS[framework]
    model = build(backbone, merging)
    result = train_and_predict(model, batch())[0]
    assert {type(part).__name__ for part in model.backbone.mergings} == {merging}
    if framework == 'mmdet':
        assert len(result.pred_instances.bboxes)
        assert result.pred_instances.bboxes.isfinite().all()
    elif framework == 'mmseg':
        assert result.seg_logits.data.shape == (5, *SMALL)
        assert result.seg_logits.data.isfinite().all()
    else:
        assert result.pred_score.sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize('framework', FRAMEWORKS)
@pytest.mark.parametrize(('backbone', 'merging'), IMPOSSIBLE)
def test_impossible_pairs_say_why(backbone: str, merging: str, framework: str) -> None:
    with pytest.raises(ValueError, match=rf'{merging}, which leaves the grid.* of {backbone} need'):
        FRAMEWORKS[framework][0](backbone, merging)
