from collections.abc import Callable
from types import MethodType

from torch import nn

FORMS: dict[type[nn.Module], dict[str, Callable]] = {}
"""Literal methods by class and name. A subclass has those of its bases, unless it overrides them."""


def literal_form(cls: type[nn.Module], method: str = 'forward') -> Callable[[Callable], Callable]:
    """Declare a function, whose first argument is the module, the literal form of a method."""

    def declare(function: Callable) -> Callable:
        FORMS.setdefault(cls, {})[method] = function
        return function

    return declare


def make_literal(model: nn.Module) -> nn.Module:
    """Let a model run by the literal forms, itself changed; parameters and names stay as they are."""
    for module in model.modules():
        overridden: set[str] = set()
        for cls in type(module).__mro__:
            for name, function in FORMS.get(cls, {}).items():
                if name not in overridden:
                    setattr(module, name, MethodType(function, module))
            overridden |= vars(cls).keys()
    return model
