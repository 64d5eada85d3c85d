"""Multi-stage token aggregation: "Not All Tokens Are Equal: Human-centric Visual Analysis via Token
Clustering Transformer" (TCFormer), https://arxiv.org/abs/2204.08680, in the form of HAFA's official
detector.
"""

from collections import OrderedDict
from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from spm_mm.errors import UserError, check_count
from spm_mm.layers import conv_on_map, resize_map
from spm_mm.ops import TokenMap, as_map
from spm_mm.registry import MODELS

__all__ = ['MTA']


@MODELS.register_module()
class MTA(BaseModule):
    """A feature pyramid whose levels are maps or tokens: lateral 1x1 and output 3x3 convolutions.

    Each level is added to the one below it: tokens to tokens by the cells that both stand for, tokens
    to a map (which a token may cover in many places), a map to tokens, or a map to a map by
    nearest-neighbour interpolation. Tokens become maps only for the output convolutions. On maps alone
    it is mmdet's FPN, with its parameters under its names.

    The merge blocks with attention of TCFormer's MTA are not in HAFA's. HAFA's applies one output
    convolution less than there are outputs, so that with four of them the last would be subsampled
    from the third and its convolution unused; here every level has its convolution. With the five
    outputs of the official detector both are the same.

    Args:
        in_channels: Channels of the levels, from fine to coarse.
        out_channels: Channels of the outputs.
        num_outs: Number of outputs, at least that of the levels; further ones are every second row and
            column of the one before.
        init_cfg: As mmengine's. Default: Xavier uniform, as mmdet's FPN.

    Shape: for each level a map (B, C, H, W), or a :class:`~spm_mm.ops.TokenMap`, which a backbone with
    ``out_type='tokens'`` puts out, to ``num_outs`` contiguous maps (B, out_channels, H, W).

    Raises:
        ValueError: If ``num_outs`` is too small, or the inputs are not as many as ``in_channels``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        num_outs: int = 5,
        init_cfg: dict | list | None = None,
    ) -> None:
        default = {'type': 'Xavier', 'layer': 'Conv2d', 'distribution': 'uniform'}
        super().__init__(default if init_cfg is None else init_cfg)
        check_count(
            f'num_outs of MTA, with in_channels={list(in_channels)},', num_outs, len(in_channels)
        )
        self.num_outs = num_outs
        self.lateral_convs = nn.ModuleList(
            _named_conv(channels, out_channels, 1) for channels in in_channels
        )
        self.fpn_convs = nn.ModuleList(
            _named_conv(out_channels, out_channels, 3) for _ in in_channels
        )

    def forward(self, inputs: Sequence[Tensor | TokenMap]) -> tuple[Tensor, ...]:
        if len(inputs) != len(self.lateral_convs):
            raise UserError(f'MTA needs {len(self.lateral_convs)} levels, got {len(inputs)}')
        levels = [
            _lateral(conv, level) for conv, level in zip(self.lateral_convs, inputs, strict=True)
        ]
        for i in reversed(range(len(levels) - 1)):
            levels[i] = _add(levels[i], levels[i + 1])
        outs = [
            conv(as_map(level).permute(0, 3, 1, 2)).contiguous()
            for conv, level in zip(self.fpn_convs, levels, strict=True)
        ]
        while len(outs) < self.num_outs:
            outs.append(F.max_pool2d(outs[-1], 1, stride=2))
        return tuple(outs)


def _named_conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """A convolution that keeps the sides, with its weights under the names of mmdet's FPN."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
    return nn.Sequential(OrderedDict(conv=conv))


def _lateral(conv: nn.Module, level: Tensor | TokenMap) -> Tensor | TokenMap:
    """A level with other channels: a map now channels-last, or tokens."""
    if isinstance(level, TokenMap):
        return level.with_tokens(conv_on_map(conv, level.x[:, :, None])[:, :, 0])
    return conv(level).permute(0, 2, 3, 1)


def _add(level: Tensor | TokenMap, coarser: Tensor | TokenMap) -> Tensor | TokenMap:
    """A level with the next coarser one added, in the form of the former."""
    if isinstance(level, TokenMap):
        from_tokens = isinstance(coarser, TokenMap)
        added = level.gather(coarser) if from_tokens else level.from_map(coarser)
        return level.with_tokens(level.x + added)
    size = level.shape[1:3]
    if isinstance(coarser, TokenMap):
        return level + coarser.to_map(size)
    return level + resize_map(coarser, *size, mode='nearest')
