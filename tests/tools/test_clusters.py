"""The tool that draws clusters, on a small classifier and a small segmentor."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from spm_mm.errors import UserError

ARCH = dict(
    embed_dims=(16, 32, 64, 128),
    depths=(1, 2, 1, 1),
    num_heads=(2, 4, 8, 16),
    mlp_ratios=(4, 4, 4, 4),
    teacher_depths=(0, 0, 0, 0),
)
SMALL = (
    *('--cfg-options', 'model.backbone.num_clusters=(12,7,5,0)'),
    *(f'model.backbone.arch.{key}={value}'.replace(' ', '') for key, value in ARCH.items()),
)
HEADS = {
    'mmpretrain/pacavit_tiny_in1k.py': ('model.head.in_channels=128', 'model.head.num_classes=4'),
    'mmseg/paca_pacavit_tiny_camvid.py': ('model.decode_head.in_channels=[16,32,64,128]',),
    'mmseg/fpn_pacavit_tiny_camvid.py': ('model.neck.in_channels=[16,32,64,128]',),
}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / 'image.png'
    cv2.imwrite(str(path), np.random.RandomState(0).randint(0, 255, (70, 90, 3), np.uint8))
    return path


@pytest.fixture
def draw(load_tool, root, image, tmp_path):
    def draw(config: str, *options: object) -> Path:
        out = tmp_path / 'out.png'
        arguments = [root / 'configs' / config, image, out, '--size', 64, 96, *options]
        arguments += [*SMALL[:1], 'model.backbone.arch._delete_=True', *SMALL[1:], *HEADS[config]]
        load_tool('tools/visualization/clusters.py').main([str(a) for a in arguments])
        return out

    return draw


@pytest.fixture
def checkpoint(root, tmp_path) -> Path:
    """Of the small classifier, with names of the classes."""
    cfg = Config.fromfile(root / 'configs/mmpretrain/pacavit_tiny_in1k.py')
    cfg.merge_from_dict(
        {
            'model.backbone.arch': dict(ARCH, _delete_=True),
            'model.backbone.num_clusters': (12, 7, 5, 0),
            'model.head.in_channels': 128,
            'model.head.num_classes': 4,
        }
    )
    init_default_scope('mmpretrain')
    path = tmp_path / 'weights.pth'
    classes = ['cat', 'dog', 'fox', 'owl']
    meta = dict(dataset_meta=dict(classes=classes))
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict(), 'meta': meta}, path)
    return path


def test_classifier(draw, checkpoint: Path, capsys) -> None:
    out = draw('mmpretrain/pacavit_tiny_in1k.py', '--stage', 2, '--checkpoint', checkpoint)
    said = capsys.readouterr().out
    assert 'of 7 clusters keep it' in said
    assert any(name in said for name in ('cat', 'dog', 'fox', 'owl'))
    shown = [line for line in said.splitlines() if line.startswith(('positive', 'negative'))]
    assert 1 <= len(shown) <= 6
    for path in (out, out.with_name('out_top.png')):
        assert cv2.imread(str(path)).shape[1] > 500


def test_every_block_and_a_hard_mask(draw, capsys) -> None:
    draw('mmpretrain/pacavit_tiny_in1k.py', '--block', 1, '--threshold', 0.5, '--top', 1)
    assert 'of 12 clusters keep it' in capsys.readouterr().out


def test_segmentor_with_the_paca_head(draw, capsys) -> None:
    out = draw('mmseg/paca_pacavit_tiny_camvid.py')
    assert '% of the prediction' in capsys.readouterr().out
    assert out.with_name('out_top.png').is_file()


def test_segmentor_with_another_head_has_an_atlas(draw) -> None:
    out = draw('mmseg/fpn_pacavit_tiny_camvid.py')
    assert out.is_file()
    assert not out.with_name('out_top.png').exists()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--stage', 5), '--stage must be from 1 to 4, got 5'),
        (('--stage', 4), r'stage 4 has no clusters; the stages have \[12, 7, 5, 0\]'),
        (('--stage', 2, '--block', 3), '--block of stage 2 must be from 1 to 2, got 3'),
        (('--threshold', 2), '--threshold must be from 0 to 1'),
        (('--top', 0), '--top must be at least 1'),
    ],
)
def test_bad_arguments(draw, options: tuple, message: str) -> None:
    with pytest.raises(UserError, match=message):
        draw('mmpretrain/pacavit_tiny_in1k.py', *options)


def test_backbone_without_clusters(load_tool, root, image, tmp_path) -> None:
    tool = load_tool('tools/visualization/clusters.py')
    config = str(root / 'configs/mmpretrain/pvt_tiny_in1k.py')
    with pytest.raises(UserError, match='clusters are those of a PaCaViT, this backbone is a PVT'):
        tool.main([config, str(image), str(tmp_path / 'out.png')])
