import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spm_mm.errors import UserError


class PositionEmbedding(nn.Module):
    """A learned table of positions, resized bilinearly to the map at hand.

    It is resized whenever its grid differs from the map's, never flattened into another grid of the
    same number of cells. A checkpoint whose table has another grid is resized on loading.

    Args:
        grid_size: Rows and columns of the table.
        channels: Width of a position.

    Shape: ``forward(height, width)`` gives (1, height, width, C).
    """

    resizable_keys = ('table',)

    def __init__(self, grid_size: tuple[int, int], channels: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(1, *grid_size, channels))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, height: int, width: int) -> Tensor:
        return resize_table(self.table, height, width)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        key, (height, width) = f'{prefix}table', self.table.shape[1:3]
        loaded = state_dict.get(key)
        if loaded is not None and loaded.ndim == 4:
            # Not in place: the caller's dict stays as it was read.
            state_dict = {**state_dict, key: resize_table(loaded, height, width)}
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


def resize_table(table: Tensor, height: int, width: int) -> Tensor:
    """Resize (1, H, W, C) to (1, height, width, C) bilinearly with ``align_corners=False``."""
    if table.shape[1:3] == (height, width):
        return table
    resized = F.interpolate(
        table.permute(0, 3, 1, 2), size=(height, width), mode='bilinear', align_corners=False
    )
    return resized.permute(0, 2, 3, 1)
