from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from spm_mm.errors import UserError
from spm_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS

__all__ = ['LayerDecayOptimWrapperConstructor']


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Learning rate and weight decay by part of the model and by depth, in any of the three frameworks.

    Takes mmengine's ``paramwise_cfg`` with two differences: ``layer_decay_rate``, and that the rules
    add to each other. A parameter's learning rate is the optimizer's, times the ``lr_mult`` of its
    custom key, times the decay of its layer; its weight decay is the optimizer's, times the
    ``decay_mult`` of its custom key or else of its kind (norm, bias, flat). Of several custom keys in
    a name, the longest that sets a value decides it. mmengine's own constructor lets one key shut off
    all other rules: with ``'decode_head': dict(lr_mult=10)`` the norms of the head would decay.

    Parameters with equal settings share a group. The offsets of deformable merging learn at a
    hundredth of the rate (LIT, section 4.1; weights alone in the official code) by::

        optim_wrapper = dict(
            constructor='spm_mm.LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(custom_keys={'offset.weight': dict(lr_mult=0.01)}),
        )

    Args:
        optim_wrapper_cfg: As mmengine's.
        paramwise_cfg: As mmengine's, and ``layer_decay_rate``, above 0 to 1: the learning rate of
            layer l of n is multiplied by its (n - 1 - l)-th power. Layers are those of the backbone's
            ``get_layer_depth``; what is not in the backbone keeps its rate. Default 1.

    Raises:
        ValueError: If ``layer_decay_rate`` is out of range, or below 1 while the model has no
            ``backbone`` with ``get_layer_depth``.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        by_kind = dict(self.paramwise_cfg)
        self.layer_decay_rate = by_kind.pop('layer_decay_rate', 1.0)
        self.custom_keys = by_kind.pop('custom_keys', {})
        # mmengine's own rules are left those by kind; an empty dict would skip `add_params`.
        self.paramwise_cfg = {'custom_keys': {}, **by_kind}
        if not 0 < self.layer_decay_rate <= 1:
            raise UserError(
                f'layer_decay_rate must be above 0 and at most 1, got {self.layer_decay_rate}'
            )

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any
    ) -> None:
        super().add_params(params, module, prefix=prefix, **kwargs)
        if prefix:
            return  # a part of the model: mmengine's method calls itself
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        groups: dict[str, dict] = {}
        for group in params:
            (parameter,) = group.pop('params')
            settings = self._settings(names[id(parameter)], module, group)
            shared = groups.setdefault(repr(settings), {'params': [], **settings})
            shared['params'].append(parameter)
        params[:] = groups.values()
        for group in params:
            settings = {key: value for key, value in group.items() if key != 'params'}
            print_log(f'{len(group["params"])} parameters with {settings}', 'current')

    def _settings(self, name: str, model: nn.Module, by_kind: dict) -> dict[str, Any]:
        """Settings of a parameter, all multipliers applied to those that its kind gave it."""
        custom: dict[str, Any] = {}
        for key in sorted((key for key in self.custom_keys if key in name), key=len):
            custom.update(self.custom_keys[key])
        lr_mult, decay_mult = custom.pop('lr_mult', 1.0), custom.pop('decay_mult', None)
        settings = {**by_kind, **custom}
        if self.base_lr is not None:
            rate = settings.get('lr', self.base_lr)
            settings['lr'] = rate * lr_mult * self._layer_scale(name, model)
        if self.base_wd is not None:
            settings.setdefault('weight_decay', self.base_wd)
            if decay_mult is not None:
                settings['weight_decay'] = self.base_wd * decay_mult
        return dict(sorted(settings.items()))

    def _layer_scale(self, name: str, model: nn.Module) -> float:
        if self.layer_decay_rate == 1:
            return 1.0
        backbone = getattr(model, 'backbone', None)
        if not hasattr(backbone, 'get_layer_depth'):
            raise UserError(
                f'layer_decay_rate={self.layer_decay_rate} needs a backbone with get_layer_depth,'
                f' and {type(model).__name__} has {type(backbone).__name__}'
            )
        layer, num_layers = backbone.get_layer_depth(name, 'backbone.')
        return self.layer_decay_rate ** (num_layers - 1 - layer)
