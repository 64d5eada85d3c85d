from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import nn
from torchvision.models.convnext import LayerNorm2d

from spm_mm.errors import UserError
from spm_mm.registry import suggest

NORMS = {
    'BN': nn.BatchNorm2d,
    'SyncBN': nn.SyncBatchNorm,
    'GN': nn.GroupNorm,
    'LN': LayerNorm2d,
}


def build_norm(norm_cfg: Mapping[str, Any], channels: int) -> nn.Module:
    """Build the norm of a feature map (B, C, H, W) from its config, as mmcv's ``build_norm_layer``.

    Args:
        norm_cfg: ``dict(type=..., **options)``. ``type`` is ``'BN'``, ``'SyncBN'``, ``'GN'`` (with
            ``num_groups``) or ``'LN'`` (over the channels); where mmcv is installed, also what it
            or a framework has registered. ``requires_grad=False`` freezes the norm's parameters.
        channels: Channels C.

    Raises:
        ValueError: If ``type`` is missing or unknown.
    """
    if not isinstance(norm_cfg, Mapping) or 'type' not in norm_cfg:
        raise UserError(f"norm_cfg must be a dict with the key 'type', got {norm_cfg!r}")
    options = dict(norm_cfg)
    kind = options.pop('type')
    if kind not in NORMS:
        try:
            from mmcv.cnn import build_norm_layer
        except ImportError:
            raise UserError(f'norm_cfg has type {kind!r}: {suggest(kind, [*NORMS])}') from None
        return build_norm_layer(dict(norm_cfg), channels)[1]
    requires_grad = options.pop('requires_grad', True)
    options.setdefault('eps', 1e-5)
    key = {'GN': 'num_channels', 'LN': 'normalized_shape'}.get(kind, 'num_features')
    norm = NORMS[kind](**{key: [channels] if kind == 'LN' else channels}, **options)
    return norm.requires_grad_(requires_grad)


class ConvNormAct(nn.Sequential):
    """Convolution without bias, norm, and a GELU if ``act``; named as in mmcv's ``ConvModule``.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd; zero padding by half of it.
        norm_cfg: Norm, see :func:`build_norm`.
        act: Whether a GELU follows.
        stride: Stride of the convolution.
        groups: Groups of the convolution.

    Shape: (B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        norm_cfg: Mapping[str, Any],
        act: bool = True,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups,
            bias=False,
        )  # fmt: skip
        norm = build_norm(norm_cfg, out_channels)
        name = {nn.GroupNorm: 'gn', LayerNorm2d: 'ln'}.get(type(norm), 'bn')
        layers = OrderedDict({'conv': conv, name: norm})
        if act:
            layers['activate'] = nn.GELU()
        super().__init__(layers)
