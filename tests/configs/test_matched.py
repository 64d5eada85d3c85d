"""Matched comparisons: one base a task, and the merging is the only line that differs."""

from pathlib import Path

import pytest

from tests.configs.loading import FILES, load

MERGINGS = ('', 'dtm', 'spm', 'hafa')
BACKBONES = ('pvt_tiny', 'pvt_small', 'pvtv2_b1', 'swin_tiny')
NAMES = {
    'mmpretrain': '{}_{}_in1k',
    'mmdet': 'mask-rcnn_{}_{}_1x_coco',
    'mmseg': 'fpn_{}_{}_80k_ade20k',
}


def loaded(framework: str, backbone: str, merging: str) -> dict:
    name = NAMES[framework].format(backbone, f'{merging}-matched' if merging else 'matched')
    return load(f'{framework}/{name}').to_dict()


def test_there_are_48() -> None:
    assert sum('matched' in path.stem for path in FILES) == 48


@pytest.mark.parametrize('framework', NAMES)
@pytest.mark.parametrize('backbone', BACKBONES)
def test_the_merging_alone_differs(framework: str, backbone: str) -> None:
    own, *others = (loaded(framework, backbone, merging) for merging in MERGINGS)
    assert 'merging' not in own['model']['backbone']
    mergings = []
    for other in others:
        for name in ('laa', 'sia'):  # what the file of HAFA calls its two mergings
            other.pop(name, None)
        mergings.append(other['model']['backbone'].pop('merging'))
        assert other == own
    deformable, stepwise, hafa = mergings
    assert deformable['type'] == 'spm_mm.DeformableMerging'
    assert stepwise['type'] == 'spm_mm.StepwiseMerging'
    assert [m['type'] for m in hafa] == [deformable['type']] * 2 + ['spm_mm.ClusterMerging']
    # One policy for the batch norms inside of mergings: over all devices where a device has 2 images.
    norms = [m.get('norm_cfg') for m in (deformable, stepwise, *hafa[:2])]
    assert norms == [None if framework == 'mmpretrain' else dict(type='SyncBN')] * 4


@pytest.mark.parametrize('framework', NAMES)
def test_the_recipe_is_one_for_all_backbones(framework: str) -> None:
    first, *others = (loaded(framework, backbone, '') for backbone in BACKBONES)
    for cfg in (first, *others):
        for key in ('type', 'arch'):
            cfg['model']['backbone'].pop(key)
        # Widths follow the backbone; the neck is FPN in any case.
        part = cfg['model']['head' if framework == 'mmpretrain' else 'neck']
        assert framework == 'mmpretrain' or part['type'] == 'FPN'
        part.pop('in_channels')
    assert all(other == first for other in others)


@pytest.mark.parametrize('framework', NAMES)
def test_a_file_sets_the_merging_alone(framework: str) -> None:
    """The files themselves: beside the comment and the base, ``merging`` is all that they name."""
    for path in FILES:
        if path.parent.name == framework and '-matched' in path.stem:
            code = [line for line in path.read_text().splitlines() if not line.startswith('#')]
            assert code[0].startswith('_base_ = ')
            assert 'merging=' in ''.join(code[1:])
            for word in ('optim', 'lr', 'batch', 'drop', 'neck', 'sched', 'dataloader', 'out_type'):
                assert word not in ''.join(code[1:]), Path(path).name
