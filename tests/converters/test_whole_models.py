"""Whole detectors and segmentors: our configs load them strictly and predict the same."""

import copy
import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from spm_mm.converters import Converted, fit_to_model, get_converter
from spm_mm.errors import UserError
from tests.converters.test_libraries import equal_epsilons, needs, randomize
from tests.parity.fixtures import read_fixture

ROOT = Path(__file__).parents[2]


def build(cfg: Config) -> nn.Module:
    """A model without what its config loads; sums over several processes become plain norms."""
    cfg = copy.deepcopy(cfg)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.pop('init_cfg', None)
    cfg.model.pop('pretrained', None)
    return nn.SyncBatchNorm.convert_sync_batchnorm(MODELS.build(cfg.model))


def ours_of(path: str, **head: object) -> Config:
    cfg = Config.fromfile(ROOT / 'configs' / path)
    if head:
        cfg.model.decode_head.update(head)
    return cfg


def theirs_of(package: str, path: str) -> Config:
    folder = Path(importlib.util.find_spec(package).submodule_search_locations[0])
    return Config.fromfile(folder / '.mim' / 'configs' / path)


def outputs(model: nn.Module, image: Tensor) -> list[Tensor]:
    """What the heads say of an image, before boxes are chosen or labels resized."""
    maps = model.extract_feat(image)
    if hasattr(model, 'decode_head'):
        return [model.decode_head(maps)]
    if not hasattr(model, 'roi_head'):
        return [out for outs in model.bbox_head(maps) for out in outs]
    outs = [out for outs in model.rpn_head(maps) for out in outs]
    rois = torch.tensor([[0, 4.0, 4, 40, 50], [0, 20, 10, 60, 60]])
    found = model.roi_head._bbox_forward(maps, rois)
    masks = model.roi_head._mask_forward(maps, rois)
    return [*outs, found['cls_score'], found['bbox_pred'], masks['mask_preds']]


CASES = {
    'RetinaNet of MMDetection': (
        'mmdet', 'pvt/retinanet_pvt-s_fpn_1x_coco.py', 'mmdet/retinanet_pvt_small_1x_coco.py',
    ),
    'Mask R-CNN of MMDetection': (
        'mmdet', 'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
        'mmdet/mask-rcnn_swin_tiny_1x_coco.py',
    ),
    'UperNet of MMSegmentation': (
        'mmseg', 'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py',
        'mmseg/upernet_swin_tiny_ade20k.py',
    ),
    'SegFormer of MMSegmentation': (
        'mmseg', 'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
        'mmseg/segformer_mit_b0_ade20k.py',
    ),
}  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize('case', CASES)
def test_models_of_the_frameworks_predict_the_same(case: str, convert_file: Callable) -> None:
    package, theirs_path, ours_path = CASES[case]
    theirs = randomize(build(theirs_of(package, theirs_path)))
    ours = build(ours_of(ours_path)).eval()
    converted = convert_file({'meta': {'epoch': 12}, 'state_dict': theirs.state_dict()})
    assert converted.complete
    weights = dict(converted.conversion.state_dict)
    assert fit_to_model(weights, ours) == []
    ours.load_state_dict(weights)
    equal_epsilons(ours, theirs)
    for size in ((64, 64), (96, 128)):
        image = torch.randn(1, 3, *size)
        for one, other in zip(outputs(ours, image), outputs(theirs, image), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


@torch.no_grad()
@needs('transformers')
@pytest.mark.parametrize('kind', ['SegFormer', 'UperNet'])
def test_segmentors_of_hugging_face_predict_the_same(kind: str, tmp_path: Path) -> None:
    import transformers

    from spm_mm.converters import convert_checkpoint, read_checkpoint

    if kind == 'SegFormer':
        config = transformers.SegformerConfig(num_labels=150)
        theirs = transformers.SegformerForSemanticSegmentation(config)
        cfg = ours_of('mmseg/segformer_mit_b0_ade20k.py', act_cfg=None)
    else:
        stages = [f'stage{i}' for i in (1, 2, 3, 4)]
        config = transformers.UperNetConfig(
            backbone_config=transformers.SwinConfig(out_features=stages), num_labels=150
        )
        theirs = transformers.UperNetForSemanticSegmentation(config)
        cfg = ours_of('mmseg/upernet_swin_tiny_ade20k.py')
    randomize(theirs).save_pretrained(tmp_path)
    converted = convert_checkpoint(read_checkpoint(tmp_path))
    assert converted.complete
    ours = build(cfg).eval()
    weights = dict(converted.conversion.state_dict)
    fit_to_model(weights, ours)
    ours.load_state_dict(weights)
    equal_epsilons(ours, theirs)
    assert bool(converted.note) == (kind == 'SegFormer')
    # Windows divide the maps of the larger one: elsewhere each library pads in its own way.
    for size in ((64, 64), (96, 128)) if kind == 'SegFormer' else ((224, 224), (448, 448)):
        image = torch.randn(1, 3, *size)
        expected = theirs(image).logits
        (logits,) = outputs(ours, image)
        if kind == 'UperNet':  # which resizes to the image
            logits = nn.functional.interpolate(logits, size=size, mode='bilinear')
        limit = 1e-4 * float(expected.abs().max())
        torch.testing.assert_close(logits, expected, rtol=1e-3, atol=limit)


# Backbones of the official code, and one of our configs with that backbone.
OFFICIAL = {
    'oracles/pvt_tiny': ('mmdet/mask-rcnn_pvt_tiny_1x_coco.py', ('norm.', 'head.')),
    'oracles/pvt_small': ('mmdet/retinanet_pvt_small_1x_coco.py', ('norm.', 'head.')),
    'oracles/pvt_medium': ('mmseg/fpn_pvt_medium_ade20k.py', ('norm.', 'head.', 'cls_token')),
    'oracles/spm_pvt_tiny': ('mmseg/fpn_pvt_tiny_spm_ade20k.py', ('norm.', 'head.')),
    'oracles/pvt_v2_b1': ('mmseg/fpn_pvtv2_b1_ade20k.py', ('head.',)),
    'oracles/pvt_v2_b2': ('mmdet/mask-rcnn_pvtv2_b2_1x_coco.py', ('head.',)),
    'oracles/lit_ti_dense': ('mmdet/retinanet_lit_tiny_1x_coco.py', ()),
    'oracles/lit_small_det': ('mmdet/mask-rcnn_lit_small_1x_coco.py', ()),
    'oracles/lit_small_seg': ('mmseg/fpn_lit_small_80k_ade20k.py', ()),
    'oracles/pacavit_tiny_p2cconv_100_0_downstream': ('mmseg/upernet_pacavit_tiny_ade20k.py', ()),
    'oracles_hafa/hafa_pvt_tiny_dense': ('mmdet/mask-rcnn_pvt_tiny_hafa_1x_coco.py', ()),
    'oracles/sgformer_s': ('mmseg/upernet_sgformer_small_ade20k.py', ('head.',)),
}


@pytest.mark.parametrize('fixture', OFFICIAL)
def test_official_detectors_and_segmentors_fit_our_configs(fixture: str) -> None:
    """Keys and shapes; that the backbones then put out the same is what the fixtures are for."""
    path, left_out = OFFICIAL[fixture]
    with torch.device('meta'):
        ours = build(ours_of(path))
        state = read_fixture(ROOT / f'tests/parity/{fixture}.json')['state']
        weights = {
            f'backbone.{name}': torch.empty(shape)
            for name, shape, *_ in state
            if not name.startswith(left_out or ('-',))
        }
        heads = {k: v for k, v in ours.state_dict().items() if not k.startswith('backbone.')}
        converted = convert(weights | heads)
    assert converted.complete, converted.conversion.report()
    assert heads.keys() <= converted.conversion.state_dict.keys()
    assert fit_to_model(dict(converted.conversion.state_dict), ours) == []


def test_official_segmentor_with_the_head_of_paca() -> None:
    """Names of the official head, with the shapes of our config."""
    official = [
        f'decode_head.{name}'
        for name, *_ in read_fixture(ROOT / 'tests/parity/oracles/paca_seg_head.json')['state']
    ]
    with torch.device('meta'):
        ours = build(ours_of('mmseg/paca_pacavit_tiny_ade20k.py'))
        own = ours.state_dict()
        heads = {key: own[get_converter('paca').rename(key)] for key in official}
        for key in ('decode_head.k.0.weight', 'decode_head.v.0.weight'):
            heads[key] = heads[key].flatten(1)  # a linear layer there
        fixture = 'oracles/pacavit_tiny_p2cconv_100_0_downstream'
        state = read_fixture(ROOT / f'tests/parity/{fixture}.json')['state']
        weights = {f'backbone.{name}': torch.empty(shape) for name, shape, *_ in state}
        converted = convert(weights | heads)
    assert converted.complete, converted.conversion.report()
    assert set(converted.conversion.reshaped) == {
        'decode_head.k.0.weight',
        'decode_head.v.0.weight',
    }
    assert fit_to_model(dict(converted.conversion.state_dict), ours) == []


def convert(weights: dict[str, Tensor], **options: object) -> Converted:
    from spm_mm.converters import Weights, convert_checkpoint

    return convert_checkpoint(Weights(Path('file.pth'), weights, None, {'raw': 'all'}), **options)


def test_another_number_of_classes_is_a_choice() -> None:
    with torch.device('meta'):
        ours = build(ours_of('mmseg/segformer_mit_b0_ade20k.py'))
        weights = ours.state_dict()
        weights['decode_head.conv_seg.weight'] = torch.empty(19, 256, 1, 1)
        weights['decode_head.conv_seg.bias'] = torch.empty(19)
    with pytest.raises(
        UserError, match=r'conv_seg\.weight: 19 rows, the config has 150; .*--drop-heads'
    ):
        fit_to_model(dict(weights), ours)
    assert fit_to_model(weights, ours, drop_heads=True) == [
        'decode_head.conv_seg.weight', 'decode_head.conv_seg.bias',
    ]  # fmt: skip
    assert 'decode_head.conv_seg.bias' not in weights
    del weights['decode_head.fusion_conv.bn.running_mean']
    with pytest.raises(
        UserError, match=r'that the checkpoint lacks, first .*fusion_conv\.bn\.running'
    ):
        fit_to_model(weights, ours)
