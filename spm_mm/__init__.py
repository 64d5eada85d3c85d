"""spm_mm: patch merging and token attention of hierarchical vision transformers as OpenMMLab parts.

Everything is registered under the scope ``spm_mm``: writing ``type='spm_mm.PVT'`` in a config of
MMDetection, MMSegmentation or MMPretrain is enough, no import is needed.
"""

__version__ = '0.1.0'
