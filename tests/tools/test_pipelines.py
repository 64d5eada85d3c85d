"""The pipelines of the full-length configs, on composed scenes in the layouts of ImageNet and COCO."""

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

ENVIRONMENT = {'mmpretrain': ('IMAGENET_ROOT', 'imagenet'), 'mmdet': ('COCO_ROOT', 'coco')}


@pytest.mark.parametrize(
    'name',
    [
        'mmpretrain/_base_/datasets/imagenet_224_repeated',
        'mmpretrain/_base_/datasets/imagenet_224_crop90',
        'mmpretrain/_base_/datasets/imagenet_384',
        'mmdet/_base_/datasets/coco_instance',
        'mmdet/_base_/datasets/coco_instance_ms',
        'mmdet/_base_/datasets/coco_detection',
    ],
)
def test_pipelines(name, scenes, root, monkeypatch) -> None:
    framework = name.partition('/')[0]
    variable, folder = ENVIRONMENT[framework]
    monkeypatch.setenv(variable, str(scenes / folder))
    init_default_scope(framework)
    registry = __import__(f'{framework}.registry', fromlist=['DATASETS'])
    cfg = Config.fromfile(root / 'configs' / f'{name}.py')
    datasets = [cfg[f'{part}_dataloader'].dataset for part in ('train', 'val')]
    if framework == 'mmpretrain':
        for dataset in datasets:  # its own class wants folders of all 1000 classes
            dataset.update(type='CustomDataset', data_prefix=dataset.pop('split'))
    train, val = (registry.DATASETS.build(dataset)[0] for dataset in datasets)
    if framework == 'mmpretrain':
        side = 384 if '384' in name else 224
        assert train['inputs'].shape == val['inputs'].shape == (3, side, side)
        return
    assert val['inputs'].shape[1:] == (800, 1200)  # 96 x 64 with the short side at 800
    assert train['data_samples'].gt_instances.bboxes.shape[0] >= 1
    assert ('masks' in train['data_samples'].gt_instances) == ('instance' in name)
    short = min(train['inputs'].shape[1:])
    assert 480 <= short <= 800 if name.endswith('ms') else short == 800
