"""What comes out of a backbone, for whoever builds a neck or head on it."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from spm_mm.backbones.hierarchical import HierarchicalBackbone

__all__ = ['FeatureInfo']


class FeatureInfo(NamedTuple):
    """One output of a backbone.

    Args:
        channels: Number of channels.
        stride: Pixels of the image for each cell of the feature map, along a side, before rounding;
            None where the output is a vector.
    """

    channels: int
    stride: int | None


def feature_info(backbone: 'HierarchicalBackbone') -> tuple[FeatureInfo, ...]:
    """Channels and stride of each output, in the order of ``out_indices``.

    Example:
        >>> import spm_mm
        >>> spm_mm.create_model('pvt_tiny', out_indices=(2, 3)).feature_info[0]
        FeatureInfo(channels=320, stride=16)
    """
    return tuple(
        FeatureInfo(backbone.embed_dims[i], 4 * 2**i if backbone.is_dense else None)
        for i in backbone.out_indices
    )
