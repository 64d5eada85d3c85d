"""Pictures of what models and mechanisms do."""

from spm_mm.visualization.segmentation import side_by_side

__all__ = ['side_by_side']
