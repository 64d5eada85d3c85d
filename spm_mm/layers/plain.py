from torch import nn


def is_plain(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a layer is exactly of a class of PyTorch, so that its weight says all that it does.

    False for adapters, quantized and parametrized layers and for layers with hooks: they must be
    called.

    Args:
        layer: Layer with a ``weight``.
        kind: ``nn.Linear`` or ``nn.Conv2d``.
    """
    return (
        type(layer) is kind
        and 'forward' not in vars(layer)  # replaced for this layer alone, as accelerate does
        and not hasattr(layer.weight, '__tensor_flatten__')  # a quantized or distributed weight
        and not (
            layer._forward_hooks
            or layer._forward_pre_hooks
            or layer._backward_hooks
            or layer._backward_pre_hooks
        )
    )
