"""Numbers behind the pictures: receptive fields, attention of one query, contrast of feature maps."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from spm_mm.compat import check_state_dict, load_weights
from spm_mm.errors import UserError
from spm_mm.ops import TokenMap
from spm_mm.visualization.recorder import Recorder

__all__ = [
    'attention_of_query',
    'cell_at',
    'contrast',
    'entropy',
    'find_pictures',
    'half_energy_area',
    'load_backbone',
    'load_model',
    'normalise',
    'picture_of_sample',
    'read_image',
    'receptive_fields',
]

PICTURES = ('.jpg', '.jpeg', '.png', '.bmp')


def load_model(cfg: Config, checkpoint: str | None, device: str = 'cpu') -> nn.Module:
    """Build the model of a config and return it in evaluation mode.

    Args:
        cfg: Config of any of the three frameworks.
        checkpoint: Checkpoint of the whole model, or None for random weights.
        device: Device that the model is put on.

    Raises:
        UserError: If the checkpoint does not fit the model.
    """
    model = _build(cfg)
    if checkpoint is not None:
        _load(model, load_weights(checkpoint), checkpoint)
    return model.to(device).eval()


def load_backbone(cfg: Config, checkpoint: str | None, device: str = 'cpu') -> nn.Module:
    """Build the model of a config and return its backbone in evaluation mode.

    Args:
        cfg: Config of any of the three frameworks.
        checkpoint: Checkpoint that holds the backbone, or None for random weights.
        device: Device that the backbone is put on.

    Raises:
        UserError: If the checkpoint does not fit the model's backbone.
    """
    backbone = _build(cfg).backbone
    if checkpoint is not None:
        weights = load_weights(checkpoint)
        own = {
            k.removeprefix('backbone.'): v for k, v in weights.items() if k.startswith('backbone.')
        }
        _load(backbone, own, checkpoint)
    return backbone.to(device).eval()


def _build(cfg: Config) -> nn.Module:
    init_default_scope(cfg.get('default_scope', 'spm_mm'))
    return revert_sync_batchnorm(MODELS.build(cfg.model))


def _load(module: nn.Module, weights: dict[str, Tensor], checkpoint: str) -> None:
    if missing := check_state_dict(module, weights, checkpoint):
        raise UserError(
            f'checkpoint {checkpoint} lacks {len(missing)} entries of the {type(module).__name__},'
            f' first {", ".join(missing[:3])}'
        )
    module.load_state_dict(weights)


def find_pictures(path: Path, number: int | None = None) -> list[Path]:
    """A picture, or the pictures of a folder and of all folders in it, in the order of their names.

    Args:
        path: File or folder.
        number: How many at most. They are spread evenly over all, so that of a data set with a folder
            for each class not the first classes alone are taken.

    Raises:
        UserError: If there is no such file or folder, or no picture in it.
    """
    if path.is_file():
        return [path]
    found = sorted(p for p in path.rglob('*') if p.suffix.lower() in PICTURES)
    if not found:
        raise UserError(f'{path} is no picture and has no pictures in it ({", ".join(PICTURES)})')
    if number is None or number >= len(found):
        return found
    return [found[i * len(found) // number] for i in range(number)]


def read_image(
    path: Path, cfg: Config, size: tuple[int, int] | None = None
) -> tuple[np.ndarray, Tensor]:
    """Read a picture as the config's model is fed.

    Args:
        path: The file.
        cfg: Config whose test pipeline, without annotations, prepares the picture.
        size: Height and width instead of the pipeline's: the picture is scaled until it covers them,
            and the centre is cropped.

    Returns:
        RGB picture (H, W, 3), uint8, and the normalised batch (1, C, H, W), C of 1 or 3 as the
        backbone takes.

    Raises:
        UserError: If the file cannot be decoded, or the backbone takes other images than such pictures.
    """
    picture = cv2.imread(str(path))
    if picture is None:
        raise UserError(f'{path} is no picture that can be read')
    picture = _test_picture(path, cfg) if size is None else _cover(picture, size)
    rgb = picture[..., ::-1].copy()
    return rgb, normalise(torch.from_numpy(rgb).permute(2, 0, 1)[None], cfg)


def picture_of_sample(sample: Any) -> np.ndarray | None:
    """Read the picture of a framework's data sample, RGB (H, W, 3), at the size of its ground truth.

    None where its file is no picture.
    """
    picture = cv2.imread(str(sample.get('img_path', '')))
    if picture is None:
        return None
    size = sample.metainfo.get('ori_shape')
    if size is not None and tuple(size[:2]) != picture.shape[:2]:
        picture = cv2.resize(picture, (size[1], size[0]))
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def normalise(pictures: Tensor, cfg: Config) -> Tensor:
    """RGB pictures (B, 3, H, W), 0 to 255, as the config's data preprocessor hands them on.

    Raises:
        UserError: If the backbone takes other images than pictures.
    """
    preprocessor = cfg.model.data_preprocessor
    channels = cfg.model.backbone.get('in_channels', 3)
    if channels not in (1, 3) or len(preprocessor.mean) not in (1, channels):
        raise UserError(
            f'pictures have 1 or 3 channels, got model.backbone.in_channels={channels} and a'
            f' data_preprocessor.mean of {len(preprocessor.mean)}'
        )
    if channels == 1:
        shares = torch.tensor([0.299, 0.587, 0.114], device=pictures.device).view(1, 3, 1, 1)
        pictures = (pictures * shares).sum(dim=1, keepdim=True).round()
    elif not preprocessor.get('bgr_to_rgb', preprocessor.get('to_rgb', False)):
        pictures = pictures.flip(1)
    mean, std = (
        torch.tensor(preprocessor[key], device=pictures.device).view(1, -1, 1, 1)
        for key in ('mean', 'std')
    )
    return (pictures.float() - mean) / std


def _test_picture(path: Path, cfg: Config) -> np.ndarray:
    """BGR picture (H, W, 3) out of the config's own test pipeline."""
    init_default_scope(cfg.get('default_scope', 'spm_mm'))
    steps: list[Any] = [
        step for step in cfg.test_dataloader.dataset.pipeline if 'Annotations' not in step['type']
    ]
    results = Compose(steps)(dict(img_path=str(path), img_id=0))
    return results['inputs'].permute(1, 2, 0).numpy()


def _cover(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    ratio = max(side / own for side, own in zip(size, picture.shape[:2], strict=True))
    height, width = (
        max(side, round(own * ratio)) for side, own in zip(size, picture.shape[:2], strict=True)
    )
    kind = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    picture = cv2.resize(picture, (width, height), interpolation=kind)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return picture[top : top + size[0], left : left + size[1]]


def receptive_fields(
    backbone: nn.Module, images: Iterable[Tensor], names: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Effective receptive fields of the central cell before and after modules.

    The gradient of what the central cell holds above zero, summed over its channels, with respect to
    the image: absolute values, summed over colours, averaged over the images (Luo et al., 2016; SPM,
    Figure 5). The plain sum would not do: after a LayerNorm it is constant.

    Args:
        backbone: Model in evaluation mode.
        images: Batches of one image (1, 3, H, W), all of one size.
        names: Modules with a channels-last map (1, H', W', C), or the map of tokens, in and out, e.g.
            ``'mergings.0'``.

    Returns:
        For each name two fields (H, W), before and after. The energy of each field sums to 1, so that
        fields of different models have one scale.

    Raises:
        UserError: If the images differ in size.
    """
    fields: dict[str, list[Any]] = {name: [0.0, 0.0] for name in names}
    shape = None
    for image in images:
        shape = shape or image.shape
        if image.shape != shape:
            raise UserError(
                f'all images must have one size, got {tuple(shape[2:])} and'
                f' {tuple(image.shape[2:])}: name a size'
            )
        image = image.clone().requires_grad_()
        with Recorder(backbone, modules=names) as seen:
            backbone(image)
        for name in names:
            for side, part in enumerate((seen.inputs[name], seen.outputs[name])):
                cells = check_map(name, part)[0]
                centre = cells[cells.shape[0] // 2, cells.shape[1] // 2]
                (gradient,) = torch.autograd.grad(centre.relu().sum(), image, retain_graph=True)
                gradient = gradient[0].abs().sum(0).cpu().double().numpy()
                fields[name][side] = fields[name][side] + gradient
    return {name: tuple(f / max(f.sum(), 1e-30) for f in pair) for name, pair in fields.items()}


def half_energy_area(field: np.ndarray) -> float:
    """Smallest share of the pixels of a receptive field, 0 to 1, that holds half of its energy."""
    energy = np.sort(field, axis=None)[::-1].cumsum()
    return float(np.searchsorted(energy, energy[-1] / 2) + 1) / field.size


def attention_of_query(
    backbone: nn.Module, image: Tensor, blocks: Sequence[str], query: tuple[float, float]
) -> dict[str, np.ndarray]:
    """Where one query looks, in every head of some blocks.

    Args:
        backbone: Model in evaluation mode.
        image: (1, 3, H, W).
        blocks: Names of blocks, e.g. ``'stages.3.blocks.1'``, whose attention is over a grid of the
            feature map, or of the map reduced by a whole number, with or without a class token before
            it.
        query: Place of the query, x and y from 0 to 1.

    Returns:
        For each block weights (heads, rows, columns) on the grid of the keys. Those of a head sum to at
        most 1: the rest is the class token's.

    Raises:
        UserError: If a block has no such attention.
    """
    stages = {block: block.rpartition('.blocks.')[0] for block in blocks}
    watched = sorted({*stages.values()})
    with torch.no_grad(), Recorder(backbone, modules=watched, attention=blocks) as seen:
        backbone(image)
    found = {}
    for block, stage in stages.items():
        height, width = check_map(stage, seen.inputs[stage]).shape[1:3]
        cell = cell_at(query, (height, width))
        found[block] = _of_query(seen.attention[block], height, width, cell)
        if found[block] is None:
            raise UserError(
                f'{block} has no attention of all queries of its {height} x {width} feature map over'
                ' a grid of keys'
            )
    return found


def cell_at(query: tuple[float, float], grid: tuple[int, int]) -> tuple[int, int]:
    """Row and column of a place x, y from 0 to 1 in a grid of rows and columns."""
    return tuple(
        min(int(share * side), side - 1) for share, side in zip(query[::-1], grid, strict=True)
    )


def _of_query(
    recorded: Sequence[Tensor], height: int, width: int, cell: tuple[int, int]
) -> np.ndarray | None:
    """Weights of the query at a cell, from what was recorded of the attention of a block."""
    found: list[Tensor] = []  # with a large map it comes in slices of heads
    for weights in recorded:
        weights = weights[0] if weights.ndim == 4 else weights
        token = weights.shape[-2] - height * width
        fits = weights.ndim == 3 and token in (0, 1)
        if fits and (not found or weights.shape[1:] == found[0].shape[1:]):
            grid = _key_grid(weights.shape[-1] - token, height, width)
            found += [] if grid is None else [weights]
    if not found:
        return None
    token = found[0].shape[1] - height * width
    grid = _key_grid(found[0].shape[2] - token, height, width)
    place = token + cell[0] * width + cell[1]
    weights = torch.cat([part[:, place, token:] for part in found])
    return weights.unflatten(1, grid).cpu().numpy()


def entropy(weights: np.ndarray) -> float:
    """Entropy of the attention of a head, as a share of that of even attention: 0 one key, 1 all alike.

    Args:
        weights: Weights of the keys, any shape; they are brought to a sum of 1.
    """
    p = weights.astype(np.float64).ravel()
    p = p[p > 0] / p.sum()
    return float(-(p * np.log(p)).sum() / max(np.log(weights.size), 1e-12))


def contrast(feature_map: Tensor) -> np.ndarray:
    """How far each cell of a feature map is from the average cell.

    The length of the channel vectors themselves would not do: after a LayerNorm it is the same
    everywhere.

    Args:
        feature_map: (1, H, W, C).

    Returns:
        Euclidean distance of the channel vector of each cell from their mean, (H, W).
    """
    cells = feature_map[0].detach()
    return (cells - cells.mean(dim=(0, 1))).norm(dim=-1).cpu().numpy()


def check_map(name: str, value: object) -> Tensor:
    """The value if it is a channels-last feature map (B, H, W, C), or the map of tokens."""
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
