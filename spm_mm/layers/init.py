import math

from torch import nn


def init_linears(*modules: nn.Module) -> None:
    """Draw the weight of every linear layer in ``modules`` from a truncated normal, zero its bias.

    The standard deviation is 0.02, as in the official code of every family.
    """
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


def init_convs(*modules: nn.Module) -> None:
    """Draw every 2-D convolution in ``modules`` from a normal of variance 2 / fan-out, zero its bias.

    Fan-out is kernel cells times output channels, divided by the groups.
    """
    for module in modules:
        for conv in module.modules():
            if isinstance(conv, nn.Conv2d):
                fan_out = conv.weight[0, 0].numel() * conv.out_channels // conv.groups
                nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out))
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
