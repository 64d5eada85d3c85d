"""Necks and heads of whole detectors and segmentors.

MMDetection 2.x and 3.x, and MMSegmentation 0.x and 1.x, give them the same names, which is how they
travel. PaCa's head and those of NVlabs/SegFormer and Hugging Face transformers are renamed.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spm_mm.converters.paca import PaCaConverter

PART = re.compile(
    r'(neck|rpn_head|roi_head|bbox_head|mask_head|decode_head|auxiliary_head|panoptic_head'
    r'|panoptic_fusion_head|semantic_head|data_preprocessor)\.'
)
BESIDE = re.compile(
    r'(level_embed$|(encoder|decoder|query_embedding|dn_query_generator|memory_trans_fc'
    r'|memory_trans_norm|pos_trans_fc|pos_trans_norm|positional_encoding|reference_points_fc|patterns'
    r'|query_map)[.])'
)
"""What MMDetection's detectors with transformers have beside their backbone."""
BN_EPS = 1e-5
"""Epsilon of the norms in MMSegmentation's heads."""
LINEAR = r'decode_head\.(?:linear_c|linear_c\.|linear_projections\.)(\d)\.proj\.(weight|bias)'
OTHERS = (
    (r'decode_head\.linear_fuse\.(?:conv\.)?weight', 'fusion_conv.conv.weight'),
    (r'decode_head\.(?:linear_fuse\.bn|batch_norm)\.(\w+)', 'fusion_conv.bn.{}'),
    (r'decode_head\.(?:linear_pred|classifier|conv_seg)\.(\w+)', 'conv_seg.{}'),
)


@dataclass
class Heads:
    """Necks and heads under our names, in the form of :class:`~spm_mm.converters.Conversion`."""

    state_dict: dict[str, Tensor] = field(default_factory=dict)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reshaped: dict[str, tuple[str, ...]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    note: str = ''
    """What the config must say for the head."""

    def add(self, key: str, name: str, tensor: Tensor, changed: bool = False) -> None:
        self.state_dict[name] = tensor
        self.names[key] = (*self.names.get(key, ()), name)
        if changed:
            self.reshaped[key] = self.names[key]


def is_head(key: str, named: bool = True) -> bool:
    """Whether a key belongs to a neck or head, or to the preparation of data.

    Args:
        key: The key.
        named: Whether the keys of the backbone begin with ``backbone.``. Only then an encoder beside it
            is a part of a detector.
    """
    return bool(PART.match(key) or (named and BESIDE.match(key)))


def convert_heads(weights: Mapping[str, Tensor]) -> Heads:
    """Rename what :func:`is_head` finds."""
    heads = Heads()
    decode = {key: value for key, value in weights.items() if key.startswith('decode_head.')}
    linear = any(re.fullmatch(LINEAR, key) for key in decode)
    if linear:
        _convert_segformer(decode, heads)
    paca = 'decode_head.clustering.1.weight' in decode
    for key, value in weights.items():
        if key.startswith('data_preprocessor.'):
            heads.dropped[key] = 'a constant of the config'
        elif paca and key in decode:
            _convert_paca(key, value, heads)
        elif not (linear and key in decode):
            # Hugging Face's UperNet has MMSegmentation's names but for these two.
            heads.add(
                key,
                key.replace('.batch_norm.', '.bn.').replace('.classifier.', '.conv_seg.'),
                value,
            )
    return heads


def _convert_paca(key: str, value: Tensor, heads: Heads) -> None:
    converter = PaCaConverter()
    name = converter.rename(key)
    if name is None:
        heads.unexpected.append(key)
        return
    ((name, tensor),) = converter.reshape(name, value).items()
    heads.add(key, name, tensor, changed=tensor.shape != value.shape)


def _convert_segformer(decode: Mapping[str, Tensor], heads: Heads) -> None:
    """Linear layers to ``SegformerHead(act_cfg=None)``, whose layers have a batch norm behind them.

    In evaluation that norm becomes the layer's bias: mean 0, variance 1 and a weight that undoes its
    epsilon. The head joins the stages from the first to the last, the official code from the last.
    """
    levels = sum(bool(re.fullmatch(LINEAR, key)) for key in decode) // 2
    first = min(int(m[1]) for key in decode if (m := re.fullmatch(LINEAR, key)))
    for key, value in decode.items():
        if match := re.fullmatch(LINEAR, key):
            conv = f'decode_head.convs.{int(match[1]) - first}'
            if match[2] == 'weight':
                heads.add(key, f'{conv}.conv.weight', value[:, :, None, None], changed=True)
                continue
            heads.add(key, f'{conv}.bn.bias', value)
            ones = torch.ones_like(value)
            heads.add(key, f'{conv}.bn.weight', ones * math.sqrt(1 + BN_EPS))
            heads.add(key, f'{conv}.bn.running_mean', torch.zeros_like(value))
            heads.add(key, f'{conv}.bn.running_var', ones)
            count = torch.zeros((), dtype=torch.long, device=value.device)
            heads.add(key, f'{conv}.bn.num_batches_tracked', count, changed=True)
            continue
        for pattern, name in OTHERS:
            if match := re.fullmatch(pattern, key):
                if 'linear_fuse' in key and value.ndim == 4:
                    value = torch.cat(value.chunk(levels, dim=1)[::-1], dim=1)
                heads.add(key, 'decode_head.' + name.format(*match.groups()), value)
                break
        else:
            heads.unexpected.append(key)
    heads.note = 'the head is linear up to its fusion: --cfg-options model.decode_head.act_cfg=None'
