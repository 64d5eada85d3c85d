"""PVT (whai362/PVT) and PVT with SPM (Yonghao-Yu/StepwisePatchMerging)."""

import math
import re
from collections.abc import Mapping

from torch import Tensor, nn

from spm_mm.backbones import PVT
from spm_mm.converters.base import Classifier, Converter, find_arch, rename_by

# Tried in order on the whole key; the first that matches is taken.
STAGE_RULES = (
    (r'pos_embed(\d)', lambda m: f'backbone.stages.{_stage(m)}.position.table'),
    (r'cls_token', lambda m: 'backbone.stages.3.cls_token'),
    (r'patch_embed1\.proj\.(\w+)', lambda m: f'backbone.stem.conv.{m[1]}'),
    (r'patch_embed1\.norm\.(\w+)', lambda m: f'backbone.stem.norm.{m[1]}'),
    (r'patch_embed(\d)\.spm\.(.+)', lambda m: f'backbone.mergings.{_stage(m) - 1}.{_spm(m[2])}'),
    (r'patch_embed(\d)\.proj\.(\w+)', lambda m: f'backbone.mergings.{_stage(m) - 1}.conv.{m[2]}'),
    (r'patch_embed(\d)\.norm\.(\w+)', lambda m: f'backbone.mergings.{_stage(m) - 1}.norm.{m[2]}'),
    (r'block(\d)\.(.+)', lambda m: f'backbone.stages.{_stage(m)}.blocks.{m[2]}'),
    (r'norm\.(\w+)', lambda m: f'backbone.norms.3.{m[1]}'),
    (r'head\.(\w+)', lambda m: f'head.fc.{m[1]}'),
)
SPM_RULES = (
    (r'msa\.local_conv_(\d)\.', lambda m: f'aggregation.convs.{(int(m[1]) - 3) // 2}.'),
    (r'msa\.proj\.0\.', lambda m: 'aggregation.fuse.'),
    (r'msa\.proj\.1\.', lambda m: 'aggregation.norm.'),
    (r'msa\.proj\.3\.', lambda m: 'aggregation.proj.'),
    (r'gle\.gtg\.', lambda m: 'enhancement.guide.'),
    (r'gle\.attn\.qkv\.', lambda m: 'enhancement.qkv.'),
    (r'gle\.norm0\.', lambda m: 'enhancement.token_norm.'),
    (r'gle\.norm1\.', lambda m: 'enhancement.out_norm.'),
)


def _stage(match: re.Match) -> int:
    return int(match[1]) - 1


def _spm(key: str) -> str:
    for pattern, name in SPM_RULES:
        if match := re.match(pattern, key):
            return name(match) + key[match.end() :]
    return key


class PVTConverter(Converter):
    source = 'pvt'
    description = 'whai362/PVT v1 and Yonghao-Yu/StepwisePatchMerging'

    def rename(self, key: str) -> str | None:
        return rename_by(STAGE_RULES, key)

    def reshape(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        if not name.endswith('position.table') or tensor.ndim != 3:
            return {name: tensor}
        # A table may have one row more than its grid: the first row belongs to the class token.
        for rows in (0, 1):
            side = math.isqrt(tensor.shape[1] - rows)
            if side * side == tensor.shape[1] - rows:
                token, table = tensor.split((rows, side * side), dim=1)
                ours = {name: table.view(1, side, side, -1)}
                stage = name.removesuffix('position.table')
                return ours | ({f'{stage}cls_position': token} if rows else {})
        return {}

    def dropped(self, key: str) -> str | None:
        if key.startswith('backbone.stages.3.cls_'):
            return 'belongs to the class token, which the dense backbone does not have'
        return None

    def model_for(self, state_dict: Mapping[str, Tensor]) -> nn.Module:
        arch = find_arch(
            PVT, 'PVT', state_dict, r'block{1}\.(\d+)\.', lambda _: 'pos_embed1' in state_dict
        )
        size = 4 * math.isqrt(state_dict['pos_embed1'].shape[1])
        # The official dense code has no norm after the last stage.
        out_type = 'cls_token' if 'norm.weight' in state_dict else 'featmap'
        backbone = PVT(arch, merging=_merging(state_dict), out_type=out_type, img_size=size)
        return Classifier.of(backbone, state_dict)


def _merging(state_dict: Mapping[str, Tensor]) -> list[dict]:
    return [
        {
            'type': 'StepwiseMerging'
            if f'patch_embed{i}.spm.gle.norm1.bias' in state_dict
            else 'ConvMerging'
        }
        for i in (2, 3, 4)
    ]
