"""mmcv's operators without a compiled mmcv: what MMDetection, MMSegmentation and MMPretrain call.

``mmcv-lite`` holds ``mmcv.ops`` but not the compiled module ``mmcv._ext`` below it. The functions here
take that module's place, by torchvision's operators where there is one and by torch's elsewhere, on
CPU and CUDA. Installing spm_mm is enough; where it only lies on ``PYTHONPATH``, ``import spm_mm`` or
``spm_mm.mmcv_ops.install()`` must come before the first import of ``mmcv.ops``.
"""

from spm_mm.mmcv_ops.hook import install

__all__ = ['install']
