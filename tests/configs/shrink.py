"""A config of any of the three frameworks made small enough for a test, by its own numbers."""

from typing import Any

from mmengine.config import Config, ConfigDict

from spm_mm.backbones import HierarchicalBackbone
from spm_mm.registry import registered
from tests import testing

SIDE = 64
# Widths of necks and heads, wherever they stand.
WIDTHS = {128: 8, 256: 16, 512: 16, 1024: 32}
WIDTH_KEYS = (
    'in_channels', 'out_channels', 'feat_channels', 'conv_out_channels', 'channels', 'fc_out_channels',
)  # fmt: skip


def shrink(cfg: Config) -> Config:
    """Give the model one block a stage, 8 channels a head and narrow heads; nothing else changes.

    Args:
        cfg: Config of a model on a backbone of this suite; it is changed.

    Returns:
        The same config.
    """
    backbone = cfg.model.backbone
    name = backbone.type.removeprefix('spm_mm.')
    arch = backbone.get('arch', 'tiny')
    if isinstance(arch, str):
        arch = registered(HierarchicalBackbone)[name].arch_settings[arch]
    old = list(arch['embed_dims'])
    small = testing.tiny_config(name)['arch']
    # As many heads as the model has, for scales of SG-Former that share them out.
    small['num_heads'] = tuple(arch['num_heads'])
    small['embed_dims'] = tuple(8 * heads for heads in small['num_heads'])
    new = list(small['embed_dims'])
    if any(arch.get('teacher_depths', ())):
        small['teacher_depths'] = (1, 1, 1, 1)
    backbone.arch = ConfigDict(small, _delete_=True)
    del backbone.arch['_delete_']
    for part, value in cfg.model.items():
        if part != 'backbone':
            cfg.model[part] = _narrow(value, old, new)
    head = cfg.model.get('head')
    if head is not None:
        head.in_channels = new[-1]
    for part in ('auxiliary_head', 'decode_head'):
        head = cfg.model.get(part)
        if head is not None and isinstance(head.get('in_index'), int):
            head.in_channels = new[head.in_index]
    if cfg.default_scope == 'mmseg':
        cfg.model.data_preprocessor.size = (80, 96)
    return cfg


def _narrow(value: Any, old: list[int], new: list[int], key: str = '') -> Any:
    if isinstance(value, dict):
        return ConfigDict({name: _narrow(part, old, new, name) for name, part in value.items()})
    if isinstance(value, list | tuple):
        # All maps, or the last of them.
        if key == 'in_channels' and value and list(value) == old[-len(value) :]:
            return new[-len(value) :]
        return [_narrow(part, old, new, key) for part in value]
    return WIDTHS.get(value, value) if key in WIDTH_KEYS and isinstance(value, int) else value
