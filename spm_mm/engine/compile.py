from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn

from spm_mm.errors import UserError

__all__ = ['compile_parts']


def compile_parts(model: nn.Module, names: list[str]) -> None:
    """Compile parts of a model in place by ``torch.compile``, for training, validation and testing.

    The parameters keep their names. mmengine's own ``cfg.compile`` compiles ``train_step`` as a
    whole instead, which breaks the graph at ``backward`` and never reaches validation.

    Args:
        model: Model of any framework, wrapped or not.
        names: Its parts, ``'backbone'`` for example; a nested part as ``'roi_head.bbox_head'``.

    Raises:
        ValueError: If the model has no such part.
    """
    inner = model
    while is_model_wrapper(inner) or isinstance(inner, BaseTTAModel):
        inner = inner.module
    parts = dict(inner.named_modules())
    for name in names:
        if name not in parts:
            children = ', '.join(child for child, _ in inner.named_children())
            raise UserError(f'--compile {name}: the model has no such part; it has {children}')
        parts[name].compile()
    print_log(f'compiled: {", ".join(names)}; the first iterations take longer', 'current')
