"""The tool that draws clusters, on small classifiers and segmentors."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from spm_mm.errors import UserError
from spm_mm.visualization import read_image
from tests import testing

ARCH = dict(
    embed_dims=(16, 32, 64, 128),
    depths=(1, 2, 1, 1),
    num_heads=(2, 4, 8, 16),
    mlp_ratios=(4, 4, 4, 4),
    teacher_depths=(0, 0, 0, 0),
)
CLUSTERS = (12, 7, 5, 0)
NAMES = ['cat', 'dog', 'fox', 'owl']
CLASSIFIER = 'mmpretrain/pacavit_tiny_in1k.py'
HEADS = {
    CLASSIFIER: {'model.head.in_channels': 128, 'model.head.num_classes': 4},
    'mmseg/paca_pacavit_tiny_camvid.py': {'model.decode_head.in_channels': [16, 32, 64, 128]},
    'mmseg/fpn_pacavit_tiny_camvid.py': {'model.neck.in_channels': [16, 32, 64, 128]},
}


def small(config: str, **arch: object) -> dict:
    return {
        'model.backbone.arch': dict(ARCH, **arch),
        'model.backbone.num_clusters': CLUSTERS,
        **HEADS[config],
    }


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / 'cat' / 'image.png'
    path.parent.mkdir()
    cv2.imwrite(str(path), np.random.RandomState(0).randint(0, 255, (70, 90, 3), np.uint8))
    return path


@pytest.fixture
def draw(load_tool, root, image, tmp_path):
    """Draw with a small form of a config."""

    def draw(config: str, *options: object, source: Path = image, **arch: object) -> Path:
        cfg = Config.fromfile(root / 'configs' / config)
        changes = small(config, **arch)
        cfg.model.backbone.arch = changes.pop('model.backbone.arch')
        cfg.merge_from_dict(changes)
        path = tmp_path / Path(config).name
        cfg.dump(path)
        out = tmp_path / ('out.csv' if source.is_dir() else 'out.png')
        size = () if '--size' in options else ('--size', 64, 96)
        arguments = [path, source, out, '--device', 'cpu', *size, *options]
        load_tool('tools/visualization/clusters.py').main([str(a) for a in arguments])
        return out

    return draw


@pytest.fixture
def checkpoint(root, tmp_path):
    """Of a small classifier, with names of the classes; its bias favours one of them."""

    def save(favourite: int, **arch: object) -> Path:
        cfg = Config.fromfile(root / 'configs' / CLASSIFIER)
        changes = small(CLASSIFIER, **arch)
        cfg.model.backbone.arch = changes.pop('model.backbone.arch')
        cfg.merge_from_dict(changes)
        init_default_scope('mmpretrain')
        model = MODELS.build(cfg.model)
        model.head.fc.bias.data[favourite] = 10.0
        path = tmp_path / 'weights.pth'
        meta = dict(dataset_meta=dict(classes=NAMES))
        torch.save({'state_dict': model.state_dict(), 'meta': meta}, path)
        return path

    return save


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize('teacher', [False, True])
def test_classifier(draw, checkpoint, capsys, teacher: bool) -> None:
    """The folder's name is the ground truth; every cluster keeps what the bias favours."""
    arch = dict(teacher_depths=(1, 1, 1, 1)) if teacher else {}
    weights = checkpoint(NAMES.index('cat'), **arch)
    out = draw(CLASSIFIER, '--stage', 2, '--checkpoint', weights, **arch)
    assert 'positive group: 7 of 7 clusters' in capsys.readouterr().out
    assert cv2.imread(str(out)).std() > 20
    assert cv2.imread(str(out.with_name('out_assignment.png'))).shape[1] > 500
    lines = table(out.with_name('out_clusters.csv'))
    assert sorted(int(line['cluster']) for line in lines) == list(range(7))
    assert {line['group'] for line in lines} == {'positive'}
    probabilities = [float(line['probability']) for line in lines]
    assert probabilities == sorted(probabilities, reverse=True)


def test_a_wrongly_classified_picture_is_refused(draw, checkpoint, tmp_path) -> None:
    with pytest.raises(UserError, match='is cat, but the model says owl'):
        draw(CLASSIFIER, '--checkpoint', checkpoint(NAMES.index('owl')))
    assert not (tmp_path / 'out.png').exists()
    assert draw(
        CLASSIFIER, '--checkpoint', tmp_path / 'weights.pth', '--label', 'owl', '--size', 64, 64
    ).is_file()


def test_folder_counts_both_groups(draw, checkpoint, image, tmp_path, capsys) -> None:
    other = tmp_path / 'owl' / 'deep' / 'owl' / 'second.png'
    other.parent.mkdir(parents=True)
    other.write_bytes(image.read_bytes())
    weights = checkpoint(NAMES.index('cat'))
    tmp_path.joinpath('data').mkdir()
    for name in ('cat', 'owl'):
        (tmp_path / name).rename(tmp_path / 'data' / name)
    out = draw(
        CLASSIFIER, '--checkpoint', weights, '--stage', 3, '--block', 1, source=tmp_path / 'data'
    )
    said = capsys.readouterr().out
    assert '1 of 2 pictures are classified correctly' in said
    assert 'positive group: 100.0% on average' in said
    right, wrong = table(out)
    assert (right['label'], right['predicted'], right['positive'], right['negative']) == (
        *('0', '0', '5', '0'),
    )
    assert (wrong['label'], wrong['predicted'], wrong['positive']) == ('3', '0', '')


def test_test_pipeline_crops(root, tmp_path) -> None:
    """Short side 248 and the centre of 224, as PaCa tests, where no size is given."""
    pixels = np.random.RandomState(0).randint(0, 255, (124, 160, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'image.png'), pixels[..., ::-1])
    cfg = Config.fromfile(root / 'configs' / CLASSIFIER)
    picture, batch = read_image(tmp_path / 'image.png', cfg)
    whole = np.asarray(Image.fromarray(pixels).resize((320, 248), Image.BICUBIC))
    wanted = whole[12:236, 48:272]
    np.testing.assert_array_equal(picture, wanted)
    mean, std = (np.array(cfg.model.data_preprocessor[key]) for key in ('mean', 'std'))
    np.testing.assert_allclose(batch[0].permute(1, 2, 0).numpy(), (wanted - mean) / std, atol=1e-5)


def test_segmentor_with_the_paca_head(draw, capsys) -> None:
    out = draw('mmseg/paca_pacavit_tiny_camvid.py')
    assert '% of the pixels' in capsys.readouterr().out
    assert out.is_file()


def test_segmentor_with_another_head_has_an_atlas(draw) -> None:
    assert cv2.imread(str(draw('mmseg/fpn_pacavit_tiny_camvid.py'))).shape[1] > 500


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--stage', 5), '--stage must be from 1 to 4, got 5'),
        (('--stage', 4), r'stage 4 has no clusters; the stages have \[12, 7, 5, 0\]'),
        (('--stage', 2, '--block', 3), '--block of stage 2 must be from 1 to 2, got 3'),
        (('--top', 0), '--top must be at least 1'),
        (('--label', 'cow'), "--label must be a number below 4 or the name of a class, got 'cow'"),
        ((), "the folder 'cat' of .* is no class"),
    ],
)
def test_bad_arguments(draw, options: tuple, message: str) -> None:
    with pytest.raises(UserError, match=message):
        draw(CLASSIFIER, *options)


def test_backbone_without_clusters(load_tool, root, image, tmp_path) -> None:
    tool = load_tool('tools/visualization/clusters.py')
    config = str(root / 'configs/mmpretrain/pvt_tiny_in1k.py')
    with pytest.raises(UserError, match='clusters are those of a PaCaViT, this backbone is a PVT'):
        tool.main([config, str(image), str(tmp_path / 'out.png')])


@pytest.mark.parametrize('teacher', [0, 1])
def test_logits_are_those_of_the_assignment(load_tool, teacher: int) -> None:
    """What is recorded before the softmax gives the assignment that the stage hands on."""
    from spm_mm.attention import assign
    from spm_mm.visualization import Recorder

    tool = load_tool('tools/visualization/clusters.py')
    config = testing.tiny_config('PaCaViT', num_clusters=(12, 7, 5, 3))
    config['arch']['teacher_depths'] = (teacher,) * 4
    backbone = MODELS.build(config).eval()
    image = torch.randn(1, 3, 64, 96)
    for stage in (1, 3):
        logits = tool.cluster_logits(backbone, image, tool.clustering_module(backbone, stage, None))
        with torch.no_grad(), Recorder(backbone, modules=[f'stages.{stage - 1}']) as seen:
            backbone(image)
        x, assignment = seen.outputs[f'stages.{stage - 1}']
        assert logits.shape[:2] == x.shape[1:3]
        torch.testing.assert_close(assign(logits[None]), assignment)
