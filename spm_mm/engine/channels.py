from torch import nn

__all__ = ['image_channels']


def image_channels(model: nn.Module) -> int:
    """Channels of the images that a model takes: ``in_channels`` of its backbone or first convolution.

    Args:
        model: A backbone, or a model of a framework around one.

    Returns:
        Number of channels; 3 for a model without a convolution.
    """
    backbone = getattr(model, 'backbone', model)
    if isinstance(getattr(backbone, 'in_channels', None), int):
        return backbone.in_channels
    layers = backbone.modules()
    return next((layer.in_channels for layer in layers if isinstance(layer, nn.Conv2d)), 3)
