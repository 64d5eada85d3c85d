from collections.abc import Callable
from types import MethodType

from torch import nn

FORMS: dict[type[nn.Module], dict[str, Callable]] = {}
"""Literal methods by class and name. A subclass has those of its bases, unless it brings its own."""


def literal_form(cls: type[nn.Module], method: str = 'forward') -> Callable[[Callable], Callable]:
    """Declare a function, whose first argument is the module, the literal form of a method."""

    def declare(function: Callable) -> Callable:
        FORMS.setdefault(cls, {})[method] = function
        return function

    return declare


def make_literal(model: nn.Module) -> nn.Module:
    """Let a model run by the literal forms, itself changed; parameters and names stay as they are."""
    for module in model.modules():
        forms = {}
        for cls in reversed(type(module).__mro__):
            forms.update(FORMS.get(cls, {}))
        for name, function in forms.items():
            setattr(module, name, MethodType(function, module))
    return model
