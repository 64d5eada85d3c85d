"""The module that Python imports as ``mmcv._ext`` where there is no compiled one.

Every operator that MMDetection, MMSegmentation and MMPretrain reach is here. mmcv looks up the names of
all its operators when it is imported, so any other name gives a function that says what is missing when
it is called.
"""

from collections.abc import Callable
from typing import NoReturn

from spm_mm.mmcv_ops import (  # noqa: F401
    attention,
    boxes,
    convolution,
    deform_conv,
    focal_loss,
    roi,
    sync_bn,
)
from spm_mm.mmcv_ops.operator import OPERATORS

globals().update(OPERATORS)

# Beginnings of the names of operators that are not here, by the framework that calls them.
NEEDED_BY = {
    'MMRotate': (
        *(
            'active_rotated',
            'box_iou',
            'convex',
            'diff_iou',
            'min_area',
            'nms_quadri',
            'nms_rotated',
        ),
        *('points_in_polygons', 'riroi', 'roi_align_rotated', 'rotated_feature'),
    ),
    'MMDetection3D': (
        *('assign_score', 'ball_query', 'chamfer', 'dynamic', 'furthest', 'fused_indice', 'gather'),
        *(
            'get_indice',
            'group_points',
            'hard_voxelize',
            'indice',
            'iou3d',
            'knn',
            'points_in_boxes',
        ),
        *('roiaware', 'roipoint', 'stack', 'three'),
    ),
    'MMagic': ('bias_act', 'filtered_lrelu', 'fused_bias', 'upfirdn2d'),
    'MMOCR': ('bezier', 'contour', 'pixel_group'),
    'MMAction2': ('tin_shift',),
    'MMFlow': ('correlation',),
}


def get_compiler_version() -> str:
    """What environment reports print as mmcv's compiler."""
    return 'none, operators of spm_mm.mmcv_ops'


def get_compiling_cuda_version() -> str:
    """What environment reports print as mmcv's CUDA compiler."""
    return 'none, operators of spm_mm.mmcv_ops'


def __getattr__(name: str) -> Callable[..., NoReturn]:
    if name.startswith('_'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    owners = (owner for owner, starts in NEEDED_BY.items() if name.startswith(starts))
    owner = next(owners, 'none of MMDetection, MMSegmentation and MMPretrain')

    def missing(*args, **kwargs) -> NoReturn:
        raise NotImplementedError(
            f'mmcv operator {name} (used by {owner}) is not among those that spm_mm brings: install the'
            ' compiled mmcv in the place of mmcv-lite, with spm_mm by `MMCV=compiled make setup`'
        )

    return missing
