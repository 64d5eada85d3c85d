"""Make weights of another size fit: other channels of the image, other tables of positions."""

import math
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from spm_mm.errors import check_count


def adapt_in_channels(weight: Tensor, in_channels: int) -> Tensor:
    """Weights of a convolution that reads an image, for another number of channels.

    For one channel they are summed: a grey image then gives what its three equal channels gave. For
    any other number they are repeated in turn and scaled, so that outputs keep their size. This is
    timm's rule.

    Args:
        weight: (C', C, ...), of a convolution without groups.
        in_channels: Channels of the image, 1 or more.

    Returns:
        (C', in_channels, ...).

    Example:
        >>> import torch
        >>> adapt_in_channels(torch.ones(8, 3, 4, 4), 1).unique()
        tensor([3.])
    """
    check_count('in_channels', in_channels)
    channels = weight.shape[1]
    if in_channels == channels:
        return weight
    if in_channels == 1:
        return weight.sum(dim=1, keepdim=True)
    times = math.ceil(in_channels / channels)
    repeated = weight.repeat(1, times, *(1,) * (weight.ndim - 2))[:, :in_channels]
    return repeated * (channels / in_channels)


def resize_bias_table(table: Tensor, rows: int, columns: int) -> Tensor:
    """Resize a table of biases for shifts, bicubically, for windows of another size.

    Args:
        table: (G, R, S), one number for every head and shift.
        rows: Shifts up and down that the result has.
        columns: Shifts left and right.

    Returns:
        (G, rows, columns).
    """
    return F.interpolate(table[None], size=(rows, columns), mode='bicubic', align_corners=False)[0]


def adapt_weights(
    module: nn.Module, state_dict: Mapping[str, Tensor], stem: str = 'stem.'
) -> tuple[dict[str, Tensor], list[str]]:
    """Make weights fit a backbone that reads other channels or has windows of another size.

    Position tables that a module resizes itself when it loads (``resizable_keys``) stay as they are;
    they are named with the others. Nothing in ``state_dict`` is changed.

    Args:
        module: The backbone; ``in_channels`` is what it reads.
        state_dict: Weights under its own names.
        stem: How the keys of the layers that read the image begin.

    Returns:
        The weights, and for the log one sentence for every kind of change.
    """
    own = module.state_dict()
    own_tables = {
        f'{prefix}.{key}' if prefix else key
        for prefix, part in module.named_modules()
        for key in getattr(part, 'resizable_keys', ())
    }
    adapted, notes = dict(state_dict), []
    resized: dict[str, list[str]] = {}
    for key, value in state_dict.items():
        if key not in own or value.shape == own[key].shape:
            continue
        shape = own[key].shape
        if key in own_tables and value.ndim == len(shape) == 4:
            resized.setdefault(_sizes(value.shape[1:3], shape[1:3]), []).append(key)
        elif _is_bias_table(key, value, own[key]):
            adapted[key] = resize_bias_table(value, *shape[1:])
            resized.setdefault(_sizes(value.shape[1:], shape[1:]), []).append(key)
        elif _reads_image(key, value, own[key], stem, module):
            adapted[key] = adapt_in_channels(value, shape[1])
            how = (
                'summed' if shape[1] == 1 else f'repeated and scaled by {value.shape[1]}/{shape[1]}'
            )
            notes.append(f'{key}: {value.shape[1]} channels of the image to {shape[1]}, {how}')
    for sizes, keys in resized.items():
        more = f' and {len(keys) - 1} more' if len(keys) > 1 else ''
        notes.append(f'resized {sizes}: {keys[0]}{more}')
    return adapted, notes


def _sizes(old: tuple[int, int], new: tuple[int, int]) -> str:
    return f'from {old[0]} x {old[1]} to {new[0]} x {new[1]}'


def _is_bias_table(key: str, value: Tensor, own: Tensor) -> bool:
    return (
        key.endswith('relative_position_bias_table')
        and value.ndim == own.ndim == 3
        and len(value) == len(own)
    )


def _reads_image(key: str, value: Tensor, own: Tensor, stem: str, module: nn.Module) -> bool:
    return (
        key.startswith(stem)
        and value.ndim == own.ndim == 4
        and (len(value), *value.shape[2:]) == (len(own), *own.shape[2:])
        and own.shape[1] == getattr(module, 'in_channels', None)
    )
