import torch
from torch import Tensor, nn

from spm_mm.errors import UserError
from spm_mm.layers.channels_last import resize_map


class PositionEmbedding(nn.Module):
    """A learned table of positions, resized to the map at hand.

    It is resized whenever its grid differs from the map's, never flattened into another grid of the
    same number of cells. A checkpoint whose table has another grid is resized on loading.

    Args:
        grid_size: Rows and columns of the table.
        channels: Width of a position.
        mode: How it is resized, ``'bilinear'`` or ``'bicubic'``.

    Shape: ``forward(height, width)`` gives (1, height, width, C).
    """

    resizable_keys = ('table',)

    def __init__(self, grid_size: tuple[int, int], channels: int, mode: str = 'bilinear') -> None:
        super().__init__()
        self.mode = mode
        self.table = nn.Parameter(torch.empty(1, *grid_size, channels))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, height: int, width: int) -> Tensor:
        return resize_map(self.table, height, width, self.mode)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        key, (height, width) = f'{prefix}table', self.table.shape[1:3]
        loaded = state_dict.get(key)
        if loaded is not None and loaded.ndim == 4:
            # Not in place: the caller's dict stays as it was read.
            state_dict = {**state_dict, key: resize_map(loaded, height, width, self.mode)}
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def sine_cosine_table(height: int, width: int, channels: int) -> Tensor:
    """Fixed two-dimensional table of sines and cosines (MAE, SG-Former).

    The first half of the channels encodes the column, the second the row; of each half, the first
    half holds sin(p w_j) and the second cos(p w_j), with w_j = 10000^(-4 j / C) for position p.

    Args:
        height: Rows of the grid.
        width: Columns of the grid.
        channels: Width C of a position, a multiple of 4.

    Returns:
        (1, height, width, C).

    Raises:
        ValueError: If ``channels`` is no multiple of 4.
    """
    if channels % 4:
        raise UserError(f'a sine-cosine table needs a multiple of 4 channels, got {channels}')
    quarter = channels // 4
    frequencies = 10000 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    sides = []
    for size in (width, height):
        angles = torch.arange(size, dtype=torch.float64)[:, None] * frequencies
        sides.append(torch.cat((angles.sin(), angles.cos()), dim=1))
    columns, rows = sides
    table = torch.cat((columns.expand(height, -1, -1), rows[:, None].expand(-1, width, -1)), dim=-1)
    return table[None].float()
