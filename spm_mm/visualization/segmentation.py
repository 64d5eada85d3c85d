"""What a segmentor says of a picture."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor, nn

__all__ = ['predict_labels', 'side_by_side']


def predict_labels(model: nn.Module, image: Tensor) -> np.ndarray:
    """Class of each pixel, by a segmentor of MMSegmentation in one piece.

    Args:
        model: Segmentor in evaluation mode.
        image: Normalised image (1, 3, H, W).

    Returns:
        Integers (H, W).
    """
    with torch.no_grad():
        logits = model.encode_decode(image, [dict(img_shape=tuple(image.shape[2:]))])
    head = model.decode_head
    if logits.shape[1] == 1:  # two classes told by one number
        return (logits.sigmoid() > head.threshold)[0, 0].long().cpu().numpy()
    return logits.argmax(dim=1)[0].cpu().numpy()


def side_by_side(
    image: np.ndarray,
    ground_truth: np.ndarray,
    prediction: np.ndarray,
    palette: Sequence[Sequence[int]],
    height: int = 256,
) -> np.ndarray:
    """Input, ground truth and prediction of a segmentation beside one another, with captions.

    Args:
        image: BGR picture (H, W, 3), uint8.
        ground_truth: Class of every pixel (H, W); what the palette has no entry for is black.
        prediction: Likewise.
        palette: RGB colour of each class, 0 to 255.
        height: Rows of each panel.

    Returns:
        BGR picture, uint8.
    """
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = np.asarray(palette, np.uint8)[:, ::-1]
    panels = {
        'input': image,
        'ground truth': colours[ground_truth.astype(np.uint8)],
        'prediction': colours[prediction.astype(np.uint8)],
    }
    width = round(height * image.shape[1] / image.shape[0])
    tiles = []
    for caption, panel in panels.items():
        kind = cv2.INTER_LINEAR if caption == 'input' else cv2.INTER_NEAREST
        tile = cv2.resize(panel, (width, height), interpolation=kind)
        tile = cv2.copyMakeBorder(tile, 24, 4, 4, 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))
        cv2.putText(
            tile, caption, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA
        )
        tiles.append(tile)
    return np.hstack(tiles)
