"""tools/export.py as users call it, and what runs its files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from spm_mm.deploy.check import runner_of
from spm_mm.errors import UserError

pytest.importorskip('onnxscript')
onnxruntime = pytest.importorskip('onnxruntime')

ARCH = (
    '--cfg-options', 'model.backbone.arch._delete_=True', 'model.backbone.arch.embed_dims=(8,16,40,64)',
    'model.backbone.arch.depths=(1,1,1,1)', 'model.backbone.arch.num_heads=(1,2,5,8)',
    'model.backbone.arch.mlp_ratios=(2,2,2,2)', 'model.backbone.arch.sr_ratios=(8,4,2,1)',
)  # fmt: skip
CLASSIFIER = ('configs/mmpretrain/pvt_tiny_in1k.py', (*ARCH, 'model.head.in_channels=64'))
NECK = ('model.neck.in_channels=[8,16,40,64]', 'model.neck.out_channels=16')
SEGMENTOR = (
    'configs/mmseg/fpn_pvt_tiny_spm_scenes.py',
    (*ARCH, *NECK, 'model.decode_head.in_channels=[16,16,16,16]', 'model.decode_head.channels=8'),
)
DETECTOR = ('configs/mmdet/retinanet_pvt_tiny_bccd.py', (*ARCH, NECK[0]))
SMALL_HEADS = (
    NECK[0], 'model.rpn_head.feat_channels=16', 'model.test_cfg.rpn.nms_pre=100',
    'model.test_cfg.rpn.max_per_img=40',
)  # fmt: skip
NECK_AND_ROIS = (
    NECK[1], 'model.rpn_head.in_channels=16', 'model.roi_head.bbox_roi_extractor.out_channels=16',
    'model.roi_head.mask_roi_extractor.out_channels=16', 'model.roi_head.bbox_head.in_channels=16',
    'model.roi_head.bbox_head.fc_out_channels=32', 'model.roi_head.mask_head.in_channels=16',
    'model.roi_head.mask_head.conv_out_channels=16', 'model.roi_head.mask_head.num_convs=1',
)  # fmt: skip
MASK_RCNN = ('configs/mmdet/mask-rcnn_pvt_tiny_scenes.py', (*ARCH, *SMALL_HEADS, *NECK_AND_ROIS))
CASCADE = (
    'configs/mmdet/heads/cascade-mask-rcnn_pvtv2_b1_1x_coco.py',
    (*ARCH, 'model.backbone.arch.linear=False', *SMALL_HEADS),
)
PHOTO = 'docs/images/feature_maps.png'


@pytest.fixture
def export(load_tool, root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(root)
    tool = load_tool('tools/export.py')

    def run(config: tuple, out: Path, *options: str, checkpoint: str = 'none') -> None:
        path, changes = config
        tool.main([path, checkpoint, str(out), *options, *changes])

    return run


def run_file(path: Path, images: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return session.run(None, {'images': images})


def test_classifier(export, run_tool, tmp_path: Path, capsys) -> None:
    """One file: by our script, by ONNX Runtime and by OpenVINO; then in 8 bits."""
    path = tmp_path / 'model.onnx'
    options = ('--size', '64', '64', '--normalize', '--images', PHOTO)
    export(CLASSIFIER, path, *options)
    text = capsys.readouterr().out
    assert 'greatest difference on 2 batches' in text
    assert 'same class: 100.00%' in text
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.save(tmp_path / 'image.npy', image)
    batch = image.transpose(2, 0, 1)[None].astype(np.float32)
    (scores,) = run_file(path, batch)
    assert scores.shape == (1, 1000)
    done = run_tool('tools/onnx_inference.py', path, tmp_path / 'image.npy')
    assert done.stdout.startswith(f'class {scores[0].argmax()}: ')
    assert len(done.stdout.splitlines()) == 5
    openvino = pytest.importorskip('openvino')
    exact = {'INFERENCE_PRECISION_HINT': 'f32'}
    found = openvino.compile_model(str(path), 'CPU', exact)(batch)[0]
    np.testing.assert_allclose(found, scores, rtol=1e-3, atol=1e-4)
    with pytest.raises(UserError, match=r'does not run on images \(1, 3, 70, 64\)'):
        runner_of(path)(torch.zeros(1, 3, 70, 64))
    small = tmp_path / 'small.onnx'
    export(CLASSIFIER, small, *options, '--int8')
    assert 'same class: ' in capsys.readouterr().out
    assert small.stat().st_size < path.stat().st_size
    assert {p.name for p in tmp_path.iterdir()} == {'model.onnx', 'small.onnx', 'image.npy'}


def test_segmentor(export, run_tool, tmp_path: Path) -> None:
    """Classes of all pixels by torch.export, of two images in float16."""
    path = tmp_path / 'model.pt2'
    options = ('--size', '64', '96', '--argmax', '--half', '--batch', '2')
    export(SEGMENTOR, path, *options, '--tolerance', '0.05')
    (classes,) = torch.export.load(path).module()(torch.randn(2, 3, 64, 96))
    assert classes.shape == (2, 64, 96)
    assert classes.dtype == torch.int64


def test_detector(export, tmp_path: Path) -> None:
    """Boxes inside the image, scores between 0 and 1."""
    path = tmp_path / 'model.onnx'
    export(DETECTOR, path, '--size', '64', '96', '--normalize')
    boxes, scores = run_file(path, np.random.rand(1, 3, 64, 96).astype(np.float32) * 255)
    assert boxes.shape[:2] == scores.shape[:2]
    assert boxes.shape[2] == 4
    assert (boxes >= 0).all()
    assert (boxes <= [96, 64, 96, 64]).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    import onnx

    notes = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert json.loads(notes['kind']) == 'detector'
    assert json.loads(notes['normalized_inside']) is True


def test_detector_with_suppression(export, load_tool, tmp_path: Path, capsys) -> None:
    """The boxes that MMDetection predicts, in number and order."""
    from spm_mm.deploy import build_deployed, random_images
    from spm_mm.engine import load_config

    changes = ('model.test_cfg.score_thr=0.2', 'model.test_cfg.nms_pre=200')
    config = (DETECTOR[0], (*DETECTOR[1], *changes))
    tool = load_tool('tools/export.py')
    cfg = load_config(tool.parse([config[0], 'none', 'a.onnx', *config[1]]))
    torch.manual_seed(0)
    model = build_deployed(cfg, None).model
    for layer in (model.bbox_head.retina_cls, model.bbox_head.retina_reg):
        torch.nn.init.normal_(layer.weight, std=0.05)  # else all scores are nearly equal
    checkpoint, path = tmp_path / 'model.pth', tmp_path / 'model.onnx'
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    export(config, path, '--size', '64', '96', '--nms', checkpoint=str(checkpoint))
    assert 'boxes compared: 0' not in capsys.readouterr().out
    images = random_images(1, (64, 96), raw=False)
    with torch.no_grad():
        outputs = model.bbox_head(model.extract_feat(images))
        metas = [dict(img_shape=(64, 96))]
        (wanted,) = model.bbox_head.predict_by_feat(*outputs, batch_img_metas=metas)
    boxes, scores, classes = run_file(path, images.numpy())
    assert 2 < len(boxes) <= 100
    np.testing.assert_allclose(boxes, wanted.bboxes, atol=1e-2)
    np.testing.assert_allclose(scores, wanted.scores, atol=1e-4)
    np.testing.assert_array_equal(classes, wanted.labels)


def spread(model: torch.nn.Module) -> None:
    """Give a two-stage detector weights whose scores and boxes differ more than those at random."""
    roi = model.roi_head
    layers = [(model.rpn_head.rpn_cls, 0.1), (model.rpn_head.rpn_reg, 0.05)]
    for head in (
        roi.bbox_head if isinstance(roi.bbox_head, torch.nn.ModuleList) else [roi.bbox_head]
    ):
        layers += [(head.fc_cls, 0.6), (head.fc_reg, 0.1)]
    for layer, std in layers:
        torch.nn.init.normal_(layer.weight, std=std)


@pytest.fixture
def two_stages(load_tool):
    """A detector as exported, and what MMDetection predicts with it."""
    from mmdet.structures import DetDataSample

    from spm_mm.deploy import build_deployed
    from spm_mm.engine import load_config

    def build(config: tuple):
        cfg = load_config(
            load_tool('tools/export.py').parse([config[0], 'none', 'a.onnx', *config[1]])
        )
        torch.manual_seed(0)
        deployed = build_deployed(cfg, None, nms=True)
        spread(deployed.model)

        def predict(images: torch.Tensor):
            size = tuple(images.shape[2:])
            sample = DetDataSample(
                metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1, 1))
            )
            with torch.no_grad():
                (result,) = deployed.model.predict(images, [sample], rescale=False)
            return result.pred_instances

        return deployed, predict

    return build


@pytest.mark.parametrize('config', [MASK_RCNN, CASCADE], ids=['mask-rcnn', 'cascade'])
def test_two_stages_are_those_of_mmdetection(two_stages, config: tuple) -> None:
    """The same boxes, scores and classes in the same order; masks as MMDetection pastes them."""
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

    from spm_mm.deploy import random_images

    deployed, predict = two_stages(config)
    assert deployed.output_names == ['boxes', 'scores', 'classes', 'masks']
    images = random_images(1, (96, 128), raw=False)
    with torch.no_grad():
        boxes, scores, classes, masks = deployed(images)
    wanted = predict(images)
    assert len(boxes) > 10
    assert len(set(classes.tolist())) > 2
    torch.testing.assert_close(boxes, wanted.bboxes)
    torch.testing.assert_close(scores, wanted.scores)
    torch.testing.assert_close(classes, wanted.labels)
    pasted, _ = _do_paste_mask(masks[:, None], boxes, 96, 128, skip_empty=False)
    torch.testing.assert_close(pasted >= 0.5, wanted.masks)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ("rcnn.nms.type='soft_nms'", r'model\.test_cfg\.rcnn\.nms must be .* got .*soft_nms'),
        ('rpn.nms.class_agnostic=True', r'model\.test_cfg\.rpn\.nms must be'),
        ('rcnn.max_per_img=-1', r'model\.test_cfg\.rcnn\.max_per_img must be at least 1'),
        ('rpn.nms_pre=-1', r'model\.test_cfg\.rpn\.nms_pre must be at least 1'),
    ],
)
def test_settings_that_would_be_ignored_are_refused(two_stages, change: str, message: str) -> None:
    path, changes = MASK_RCNN
    with pytest.raises(UserError, match=message):
        two_stages((path, (*changes, f'model.test_cfg.{change}')))


@pytest.mark.parametrize(
    'change',
    [
        'model.rpn_head.loss_cls.use_sigmoid=False',
        'model.test_cfg.rcnn.min_bbox_size=20',
        'model.test_cfg.rpn.score_thr=0.9',
        'model.roi_head.bbox_head.reg_class_agnostic=True',
        'model.test_cfg.rpn.min_bbox_size=500',
    ],
)
def test_settings_are_those_of_mmdetection(two_stages, change: str) -> None:
    """Background of a softmax is no class; what MMDetection ignores, the file ignores; no proposals."""
    path, changes = MASK_RCNN
    deployed, predict = two_stages((path, (*changes, change)))
    image = torch.rand(1, 3, 96, 128)
    with torch.no_grad():
        boxes, scores, *_ = deployed(image)
    wanted = predict(image)
    torch.testing.assert_close(boxes, wanted.bboxes)
    torch.testing.assert_close(scores, wanted.scores)


def test_boxes_are_compared_one_to_one() -> None:
    from spm_mm.deploy import compare

    boxes = torch.tensor([[0.0, 0, 9, 9], [1, 1, 8, 8], [20, 20, 30, 30]])
    model = (boxes, torch.tensor([0.9, 0.9, 0.5]), torch.tensor([0, 0, 1]))

    def difference(order: list[int]) -> float:
        file = [out[order].numpy() for out in model]
        images = torch.zeros(1)
        return compare(lambda _: model, lambda _: file, [images], False, True, repeat=1).largest

    assert difference([0, 1, 2]) == difference([1, 0, 2]) == 0
    assert difference([0, 0, 2]) == difference([2, 1, 0]) == float('inf')


def test_two_stages_as_a_file(export, two_stages, tmp_path: Path, capsys) -> None:
    """Boxes and masks of Mask R-CNN by ONNX Runtime."""
    deployed, predict = two_stages(MASK_RCNN)
    checkpoint, path = tmp_path / 'model.pth', tmp_path / 'model.onnx'
    torch.save(dict(state_dict=deployed.model.state_dict()), checkpoint)
    export(MASK_RCNN, path, '--size', '96', '128', '--nms', checkpoint=str(checkpoint))
    assert 'boxes compared: 0' not in capsys.readouterr().out
    image = torch.rand(1, 3, 96, 128)
    boxes, scores, classes, masks = run_file(path, image.numpy())
    wanted = predict(image)
    assert len(boxes) == len(wanted.bboxes) > 10
    np.testing.assert_allclose(np.sort(scores), np.sort(wanted.scores), atol=1e-4)
    assert masks.shape == (len(boxes), 28, 28)
    assert ((masks >= 0) & (masks <= 1)).all()
    assert classes.dtype == np.int64


def test_two_stages_that_find_nothing(two_stages, tmp_path: Path) -> None:
    """No box passes the threshold, so the second suppression and the masks get none."""
    from spm_mm.deploy import save_onnx, save_program, trace

    path, changes = MASK_RCNN
    deployed, _ = two_stages((path, (*changes, 'model.test_cfg.rcnn.score_thr=1.0')))
    image = torch.rand(1, 3, 64, 64)
    program = trace(deployed, image)
    save_program(program, tmp_path / 'a.pt2')
    save_onnx(program, tmp_path / 'a.onnx', deployed.output_names, {})
    for name in ('a.pt2', 'a.onnx'):
        found = runner_of(tmp_path / name)(image)
        assert [len(out) for out in found] == [0, 0, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize('config', [CLASSIFIER, SEGMENTOR, DETECTOR], ids=lambda c: Path(c[0]).stem)
def test_any_size(export, run_tool, tmp_path: Path, capsys, config: tuple) -> None:
    """A whole model of any batch, height and width, and what the script says of a small image."""
    path = tmp_path / 'model.onnx'
    export(config, path, '--size', '64', '64', '--normalize', '--dynamic')
    assert 'takes images of 32 x 32 and larger' in capsys.readouterr().out
    shapes = {out.shape for out in run_file(path, np.zeros((3, 3, 96, 75), np.float32))}
    assert all(shape[0] == 3 for shape in shapes)
    np.save(tmp_path / 'image.npy', np.zeros((30, 96, 3), np.uint8))
    done = run_tool('tools/onnx_inference.py', path, tmp_path / 'image.npy', status=1)
    assert 'image.npy is 30 x 96' in done.stderr
    assert 'takes images of 32 x 32 and larger ones: resize the image' in done.stderr


def test_a_file_that_differs_is_not_written(export, tmp_path: Path) -> None:
    with pytest.raises(UserError, match='nothing is written'):
        export(SEGMENTOR, tmp_path / 'a.pt2', '--size', '64', '64', '--tolerance', '-1')
    assert list(tmp_path.iterdir()) == []


def test_bad_input(export, tmp_path: Path) -> None:
    for config, name, options, message in (
        (CLASSIFIER, 'a.trt', (), 'must end in .onnx or .pt2'),
        (CLASSIFIER, 'no/a.onnx', (), 'folder of OUT does not exist'),
        (CLASSIFIER, 'a.pt2', ('--int8',), '--int8 is for .onnx'),
        (SEGMENTOR, 'a.onnx', ('--int8',), '--int8 is for classifiers, this is a segmentor'),
        (DETECTOR, 'a.onnx', ('--argmax',), '--argmax is for classifiers and segmentors'),
        (CLASSIFIER, 'a.onnx', ('--batch', '0'), 'must be at least 1'),
        (CLASSIFIER, 'a.onnx', ('--nms',), '--nms is for detectors, this is a classifier'),
        (DETECTOR, 'a.onnx', ('--nms', '--dynamic'), '--nms is for one image of one size'),
        (
            DETECTOR,
            'a.onnx',
            ('--normalize', '--size', '64', '70'),
            'divisible by pad_size_divisor=32',
        ),
        (CLASSIFIER, 'a.onnx', ('--images', 'no.png'), 'is no image'),
    ):
        with pytest.raises(UserError, match=message):
            export(config, tmp_path / name, '--size', '64', '64', *options)
    atss = (DETECTOR[0], (*DETECTOR[1], 'model.bbox_head.type=ATSSHead'))
    with pytest.raises(UserError, match='a detector with a ATSSHead cannot be exported'):
        export(atss, tmp_path / 'a.onnx')
    with pytest.raises(UserError, match='a two-stage detector is exported with --nms'):
        export(MASK_RCNN, tmp_path / 'a.onnx')
    for name, kind in (
        ('mmdet/heads/rtmdet_pvtv2_b1_300e_coco', 'RTMDet'),
        ('mmseg/heads/mask2former_pvtv2_b1_160k_ade20k', 'EncoderDecoder'),
    ):
        with pytest.raises(UserError, match=f'a {kind} cannot be exported'):
            export((f'configs/{name}.py', ()), tmp_path / 'a.onnx')
