import math

from torch import nn


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
