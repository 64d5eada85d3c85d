"""Whole models of the three hosts on tiny backbones: a loss and a prediction, on padded batches."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope

from spm_mm import testing
from spm_mm.backbones import HierarchicalBackbone
from spm_mm.registry import registered

SIZES = [(64, 90), (77, 64)]
GRID = testing.pairs()


def dims(backbone: str) -> list[int]:
    return list(testing.tiny_config(backbone)['arch']['embed_dims'])


def images() -> list[torch.Tensor]:
    return [torch.randint(0, 255, (3, *size), dtype=torch.uint8) for size in SIZES]


def detector(backbone: str, merging: str, **options) -> torch.nn.Module:
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


def detection_batch() -> dict:
    import numpy as np
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    samples = []
    for size in SIZES:
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
    return dict(inputs=images(), data_samples=samples)


def train_and_predict(model: torch.nn.Module, batch: dict) -> list:
    model.train()
    data = model.data_preprocessor(batch, training=True)
    losses = model(**data, mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    for name, parameter in model.backbone.named_parameters():
        assert parameter.grad is not None, f'{name} gets no gradient'
        assert parameter.grad.isfinite().all(), name
    model.eval()
    with torch.no_grad():
        return [
            model(**model.data_preprocessor(single, training=False), mode='predict')[0]
            for single in split(batch)
        ]


def split(batch: dict) -> list[dict]:
    """The images one by one, each at its own size."""
    return [{key: values[i : i + 1] for key, values in batch.items()} for i in range(2)]


@pytest.mark.parametrize(('backbone', 'merging'), GRID)
def test_mmdet(backbone: str, merging: str) -> None:
    results = train_and_predict(detector(backbone, merging), detection_batch())
    assert [r.pred_instances.masks.shape[1:] for r in results] == SIZES


@pytest.mark.parametrize(('backbone', 'merging'), GRID)
def test_roi_features_equal_those_of_the_plain_layout(backbone: str, merging: str) -> None:
    """mmcv's RoIAlign reads channels-last memory wrongly and says nothing."""
    model = detector(backbone, merging).eval()
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


def segmentor(backbone: str, merging: str, **options) -> torch.nn.Module:
    from mmseg.registry import MODELS

    init_default_scope('mmseg')
    return MODELS.build(
        dict(
            type='EncoderDecoder',
            data_preprocessor=dict(
                type='SegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3, size=(80, 96),
            ),
            backbone=testing.tiny_config(backbone, merging, **options),
            neck=dict(type='FPN', in_channels=dims(backbone), out_channels=16, num_outs=4),
            decode_head=dict(
                type='FPNHead', in_channels=[16] * 4, in_index=[0, 1, 2, 3],
                feature_strides=[4, 8, 16, 32], channels=8, num_classes=5, align_corners=False,
                norm_cfg=dict(type='BN'), loss_decode=dict(type='CrossEntropyLoss'),
            ),
            test_cfg=ConfigDict(mode='whole'),
        )
    )  # fmt: skip


@pytest.mark.parametrize(('backbone', 'merging'), GRID)
def test_mmseg(backbone: str, merging: str) -> None:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples = []
    for size in SIZES:
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 5, (1, *size)))
        samples.append(sample)
    results = train_and_predict(
        segmentor(backbone, merging), dict(inputs=images(), data_samples=samples)
    )
    assert [r.pred_sem_seg.data.shape[1:] for r in results] == SIZES


@pytest.mark.parametrize(
    ('backbone', 'merging', 'out_type'),
    [
        (backbone, merging, out_type)
        for backbone, merging in GRID
        for out_type in registered(HierarchicalBackbone)[backbone].out_types
        if out_type not in HierarchicalBackbone.dense_types
    ],
)
def test_mmpretrain(backbone: str, merging: str, out_type: str) -> None:
    from mmpretrain.registry import MODELS
    from mmpretrain.structures import DataSample

    init_default_scope('mmpretrain')
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            data_preprocessor=dict(mean=[120.0] * 3, std=[60.0] * 3),
            backbone=testing.tiny_config(backbone, merging, out_type=out_type),
            head=dict(type='LinearClsHead', in_channels=dims(backbone)[-1], num_classes=7),
        )
    )
    batch = dict(
        inputs=torch.randint(0, 255, (2, 3, 64, 90), dtype=torch.uint8),
        data_samples=[DataSample().set_gt_label(i) for i in range(2)],
    )
    results = train_and_predict(model, batch)
    assert [tuple(r.pred_score.shape) for r in results] == [(7,), (7,)]
