"""What happens inside a model while it runs: maps of modules, and weights of attentions."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from spm_mm.errors import UserError
from spm_mm.registry import suggest

__all__ = ['Recorder']

SOFTMAXES = (F.softmax, torch.softmax, Tensor.softmax)


class Recorder(TorchFunctionMode):
    """Records modules and attention weights of a model, which needs no change for it.

    Example::

        with Recorder(backbone, modules=['mergings.0'], attention=['stages.3.blocks.1']) as seen:
            backbone(image)
        seen.inputs['mergings.0'], seen.outputs['mergings.0'], seen.attention['stages.3.blocks.1']

    Fused attention never holds its weights: they are computed once more beside it, from the same
    queries, keys and mask. Everything else that a module hands on (cluster assignments, offsets,
    significance) is in the outputs of the module that makes it, whatever their type. Tensors keep
    their graph, so gradients can be taken through them.

    Args:
        model: Model to watch.
        modules: Names of modules whose first positional input and whose output are kept, as in
            ``model.named_modules()``.
        attention: Names of modules inside which attention weights are kept: each softmax, and the
            weights of each ``scaled_dot_product_attention``, in the order of the calls.

    Raises:
        UserError: If the model has no module of a name.
    """

    def __init__(
        self, model: nn.Module, modules: Sequence[str] = (), attention: Sequence[str] = ()
    ) -> None:
        super().__init__()
        known = dict(model.named_modules())
        for name in (*modules, *attention):
            if name not in known:
                raise UserError(
                    f'there is no module {name!r}: {suggest(name, [*filter(None, known)])}'
                )
        self.model = model
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        self.attention: dict[str, list[Tensor]] = {name: [] for name in attention}
        self._modules = {name: known[name] for name in modules}
        self._watched = {name: known[name] for name in attention}
        self._inside: list[str] = []
        self._hooks: list[Any] = []

    def __enter__(self) -> 'Recorder':
        for name, module in self._modules.items():
            self._hooks.append(module.register_forward_hook(partial(self._keep, name)))
        for name, module in self._watched.items():
            self._hooks.append(module.register_forward_pre_hook(partial(self._enter, name)))
            self._hooks.append(module.register_forward_hook(self._leave))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        super().__exit__(*error)

    def _keep(self, name: str, _: nn.Module, inputs: tuple, output: Any) -> None:
        self.inputs[name], self.outputs[name] = inputs[0] if inputs else None, output

    def _enter(self, name: str, *_: Any) -> None:
        self._inside.append(name)

    def _leave(self, *_: Any) -> None:
        self._inside.pop()

    def __torch_function__(self, func, types, args=(), kwargs=None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self._inside:
            if func is F.scaled_dot_product_attention:
                weights = attention_weights(*args, **(kwargs or {}))
            elif func in SOFTMAXES:
                weights = out
            else:
                return out
            self.attention[self._inside[-1]].append(weights)
        return out


def attention_weights(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_: Any,
) -> Tensor:
    """Weights (..., queries, keys) of ``scaled_dot_product_attention`` with the same arguments.

    Dropout is left out; causal masks do not occur in vision backbones and are refused.
    """
    if is_causal:
        raise UserError('weights of causal attention are not recorded')
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, float('-inf'))
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(dim=-1)
