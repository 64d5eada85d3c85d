"""MMDetection's ``PyramidVisionTransformer``, the first PVT."""

import math
import re
from collections.abc import Mapping

from torch import Tensor, nn

from spm_mm.backbones import PVT
from spm_mm.converters.base import find_arch
from spm_mm.converters.pvt_v2 import MMDetPVTv2Converter


class MMDetPVTConverter(MMDetPVTv2Converter):
    """Named as its successor, but for position tables, which stand before the blocks of a stage.

    That class has the epsilon 1e-6 in all norms, where the official code and this suite have 1e-5 in
    those of patch embeddings and reductions: outputs differ by about 1e-5 of their size.
    """

    source = 'mmdet-pvt'
    description = 'PyramidVisionTransformer of MMDetection'

    def rename(self, key: str) -> str | None:
        if match := re.fullmatch(r'layers\.(\d)\.1\.0\.pos_embed', key):
            return f'backbone.stages.{match[1]}.position.table'
        block = re.sub(r'^(layers\.\d\.1\.)(\d+)', lambda m: f'{m[1]}{int(m[2]) - 1}', key)
        return super().rename(block.replace('.ffn.layers.3.', '.ffn.layers.4.'))

    def reshape(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        if name.endswith('position.table') and tensor.ndim == 3:
            side = math.isqrt(tensor.shape[1])
            return {name: tensor.view(1, side, side, -1)} if side**2 == tensor.shape[1] else {}
        return super().reshape(name, tensor)

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        first = 'layers.0.1.0.pos_embed'
        arch = find_arch(
            PVT,
            "MMDetection's PVT",
            state_dict,
            r'layers\.{0}\.1\.(\d+)\.norm1',
            lambda _: first in state_dict,
        )
        side = 4 * math.isqrt(state_dict[first].shape[1])
        return nn.ModuleDict({'backbone': PVT(arch, img_size=side)})
