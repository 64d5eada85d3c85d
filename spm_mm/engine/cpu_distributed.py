from typing import Any

from mmengine.dist import broadcast
from mmengine.logging import print_log
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from torch import nn

from spm_mm.registry import MODEL_WRAPPERS

__all__ = ['CPUDistributedDataParallel']


@MODEL_WRAPPERS.register_module()
class CPUDistributedDataParallel(MMDistributedDataParallel):
    """mmengine's DDP for processes without a GPU.

    mmengine hands every DDP the index of a GPU, and SyncBatchNorm refuses CPU tensors: here no device
    is named and synchronised batch norms are turned into plain ones, each process with its own
    statistics. When evaluation begins all take those of the first process, whose are saved.

    Args:
        module: Model to wrap.
        device_ids: Ignored; mmengine always gives it.
        kwargs: Options of :class:`mmengine.model.MMDistributedDataParallel`.
    """

    def __init__(self, module: nn.Module, device_ids: Any = None, **kwargs: Any) -> None:
        if any(isinstance(part, nn.SyncBatchNorm) for part in module.modules()):
            print_log(
                'No GPU: every SyncBatchNorm becomes a BatchNorm of its own process.', 'current'
            )
            module = revert_sync_batchnorm(module)
        super().__init__(module, device_ids=None, **kwargs)

    def train(self, mode: bool = True) -> 'CPUDistributedDataParallel':
        if self.training and not mode:
            for buffer in self.module.buffers():
                broadcast(buffer)
        return super().train(mode)
