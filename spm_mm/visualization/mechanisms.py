"""Numbers behind the pictures: receptive fields, attention of one query, strength of maps."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from spm_mm.compat import check_state_dict, load_weights
from spm_mm.errors import UserError
from spm_mm.ops import TokenMap
from spm_mm.visualization.recorder import Recorder

__all__ = ['attention_of_query', 'load_backbone', 'read_image', 'receptive_fields', 'strength']


def load_backbone(cfg: Config, checkpoint: str | None) -> nn.Module:
    """Build the model of a config and return its backbone in evaluation mode.

    Args:
        cfg: Config of any of the three hosts.
        checkpoint: Checkpoint of the whole model, or None for random weights.

    Raises:
        UserError: If the checkpoint does not fit the model's backbone.
    """
    init_default_scope(cfg.get('default_scope', 'spm_mm'))
    backbone = MODELS.build(cfg.model).backbone
    if checkpoint is not None:
        weights = load_weights(checkpoint)
        own = {
            k.removeprefix('backbone.'): v for k, v in weights.items() if k.startswith('backbone.')
        }
        missing = check_state_dict(backbone, own, checkpoint)
        if missing:
            raise UserError(
                f'checkpoint {checkpoint} lacks {len(missing)} entries of the backbone, first'
                f' {", ".join(missing[:3])}'
            )
        backbone.load_state_dict(own)
    return backbone.eval()


def read_image(path: Path, cfg: Config, size: tuple[int, int]) -> tuple[np.ndarray, Tensor]:
    """Read a picture at a size, and prepare it as the config's model is fed.

    Returns:
        RGB picture (H, W, 3), uint8, and the batch (1, 3, H, W).

    Raises:
        UserError: If the file cannot be decoded.
    """
    picture = cv2.imread(str(path))
    if picture is None:
        raise UserError(f'{path} is no picture that can be read')
    picture = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
    preprocessor = cfg.model.data_preprocessor
    rgb = picture[..., ::-1]
    reads_rgb = preprocessor.get('bgr_to_rgb', preprocessor.get('to_rgb', False))
    image = (rgb if reads_rgb else picture).astype(np.float32)
    image = (image - np.float32(preprocessor.mean)) / np.float32(preprocessor.std)
    return rgb, torch.from_numpy(image.transpose(2, 0, 1).copy())[None]


def receptive_fields(
    backbone: nn.Module, images: Sequence[Tensor], names: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Effective receptive fields of the central cell before and after modules.

    The gradient of what the central cell holds above zero, summed over its channels, with respect to
    the image: absolute values, summed over colours, averaged over the images (Luo et al., 2016; SPM,
    Figure 5). The plain sum would not do: after a LayerNorm it is constant.

    Args:
        backbone: Model in evaluation mode.
        images: Batches of one image (1, 3, H, W), all of one size.
        names: Modules with a channels-last map (1, H', W', C) in and out, e.g. ``'mergings.0'``.

    Returns:
        For each name two fields (H, W), before and after, each with a largest value of 1.
    """
    fields = {name: [0.0, 0.0] for name in names}
    for image in images:
        image = image.clone().requires_grad_()
        with Recorder(backbone, modules=names) as seen:
            backbone(image)
        for name in names:
            for side, part in enumerate((seen.inputs[name], seen.outputs[name])):
                centre = check_map(name, part)[0, part.shape[1] // 2, part.shape[2] // 2]
                (gradient,) = torch.autograd.grad(centre.relu().sum(), image, retain_graph=True)
                fields[name][side] = fields[name][side] + gradient[0].abs().sum(0).numpy()
    return {name: tuple(_to_one(field) for field in pair) for name, pair in fields.items()}


def attention_of_query(
    backbone: nn.Module, image: Tensor, block: str, head: int, query: tuple[float, float]
) -> tuple[np.ndarray, tuple[int, int]]:
    """Where one query of one head looks.

    Args:
        backbone: Model in evaluation mode.
        image: (1, 3, H, W).
        block: Name of a block, e.g. ``'stages.3.blocks.1'``, whose attention is over a grid of the map
            or of the map reduced by a whole number, with or without a class token before it.
        head: Number of the head, from 0.
        query: Place of the query, x and y from 0 to 1.

    Returns:
        Weights (rows, columns) on the grid of the keys, summing to at most 1 (the rest is the class
        token's), and row and column of the query in the map of the stage.

    Raises:
        UserError: If the block has no such attention or the head does not exist.
    """
    stage = block.rpartition('.blocks.')[0]
    with torch.no_grad(), Recorder(backbone, modules=[stage], attention=[block]) as seen:
        backbone(image)
    height, width = check_map(stage, seen.inputs[stage]).shape[1:3]
    found: list[Tensor] = []  # with a large map it comes in slices of heads
    for weights in seen.attention[block]:
        weights = weights[0] if weights.ndim == 4 else weights
        token = weights.shape[-2] - height * width
        fits = weights.ndim == 3 and token in (0, 1)
        if fits and (not found or weights.shape[1:] == found[0].shape[1:]):
            grid = _key_grid(weights.shape[-1] - token, height, width)
            found += [] if grid is None else [weights]
    if found:
        heads = sum(map(len, found))
        if not 0 <= head < heads:
            raise UserError(f'head must be from 0 to {heads - 1} in {block}, got {head}')
        row, column = (
            min(int(share * side), side - 1)
            for share, side in zip(query[::-1], (height, width), strict=True)
        )
        token = found[0].shape[1] - height * width
        grid = _key_grid(found[0].shape[2] - token, height, width)
        cell = token + row * width + column
        place = torch.cat([weights[:, cell, token:] for weights in found])[head]
        return place.view(grid).numpy(), (row, column)
    raise UserError(
        f'{block} has no attention of all queries of its {height} x {width} map over a grid of keys'
    )


def strength(feature_map: Tensor) -> np.ndarray:
    """Length of the channel vector in each cell of a map (1, H, W, C): (H, W)."""
    return feature_map[0].detach().norm(dim=-1).numpy()


def check_map(name: str, value: object) -> Tensor:
    """The value if it is a channels-last map (B, H, W, C), or the map of tokens."""
    if isinstance(value, TokenMap):
        value = value.to_map()
    if not isinstance(value, Tensor) or value.ndim != 4:
        raise UserError(f'{name} does not work on maps, choose another module')
    return value


def _key_grid(count: int, height: int, width: int) -> tuple[int, int] | None:
    """The grid of ``count`` keys that reduces a map by a whole number, if there is one."""
    for ratio in range(1, min(height, width) + 1):
        if (height // ratio) * (width // ratio) == count:
            return height // ratio, width // ratio
    return None


def _to_one(field: np.ndarray) -> np.ndarray:
    return field / max(field.max(), np.finfo(np.float32).tiny)
