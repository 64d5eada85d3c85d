"""Trained models outside of PyTorch: one graph, as ONNX or as a file of ``torch.export``."""

from spm_mm.deploy.check import Difference, compare, graph_module, random_images
from spm_mm.deploy.models import Deployed, build_deployed
from spm_mm.deploy.onnx import save_onnx, save_program, smallest_size, trace

__all__ = [
    'Deployed',
    'Difference',
    'build_deployed',
    'compare',
    'graph_module',
    'random_images',
    'save_onnx',
    'save_program',
    'smallest_size',
    'trace',
]
