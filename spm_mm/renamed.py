"""Names of older versions: where they moved, or what to write instead.

``docs/migration.md`` explains the changes. A moved name still works, with a DeprecationWarning. A
removed name raises an ImportError that says what to write instead.
"""

import importlib.util
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    'spm_mm.backbones.pvt.PVTBlock': 'spm_mm.layers.TransformerBlock',
    'spm_mm.benchmark.hosts': 'spm_mm.benchmark.frameworks',
    'spm_mm.benchmark.hosts.HOST_FORMS': 'spm_mm.benchmark.frameworks.FRAMEWORK_FORMS',
    'spm_mm.benchmark.hosts.HostForm': 'spm_mm.benchmark.frameworks.FrameworkForm',
    'spm_mm.benchmark.hosts.host_twin': 'spm_mm.benchmark.frameworks.framework_twin',
    'spm_mm.engine.checkpoint_guard': 'spm_mm.engine.checkpoints',
    'spm_mm.engine.checkpoint_guard.CheckpointGuardHook': 'spm_mm.engine.CheckpointReportHook',
    'spm_mm.engine.launch.run_tool': 'spm_mm.engine.run_tool',
    'spm_mm.engine.liveness': 'spm_mm.engine.machines',
    'spm_mm.literal': 'spm_mm.reference',
    'spm_mm.literal.literal_form': 'spm_mm.reference.reference_form',
    'spm_mm.literal.make_literal': 'spm_mm.reference.make_reference',
}
"""Old name to new name. What is in a module that moved moved with it."""

TESTS = 'the repository has it in tests/'
LINEAR = 'use torch.nn.functional.linear'
REMOVED = {
    'spm_mm.backbones.hierarchical.BlockStage': (
        'write build_block, and HierarchicalBackbone builds the stages'
    ),
    'spm_mm.converters.base.Twin': f'{TESTS}parity/twins/base.py',
    'spm_mm.converters.base.run_classifier': f'{TESTS}parity/twins/base.py',
    'spm_mm.engine.data_guard': (
        "use mmengine's Runner, and tools/dataset_converters/check.py to check the data"
    ),
    'spm_mm.engine.data_guard.GuardedRunner': "use mmengine's Runner",
    'spm_mm.engine.launch.latest_checkpoint': (
        'use spm_mm.engine.checkpoints.latest_checkpoint, which takes the Runner, not its work dir'
    ),
    'spm_mm.engine.picture_tool.PICTURES': 'use spm_mm.visualization.find_pictures',
    'spm_mm.layers.GELULinear': 'use torch.nn.GELU and torch.nn.Linear',
    'spm_mm.layers.Linear': 'use torch.nn.Linear, whose state dict has the same names',
    'spm_mm.layers.PointwiseConv': 'use torch.nn.Conv2d with kernel_size=1',
    'spm_mm.layers.linear': 'use torch.nn.Linear, whose state dict has the same names',
    'spm_mm.ops.attend_and_receive': (
        'use torch.nn.functional.scaled_dot_product_attention and spm_mm.ops.received_attention'
    ),
    'spm_mm.ops.deform_conv_reference': 'use torchvision.ops.deform_conv2d',
    'spm_mm.ops.dpc_knn_reference': f'{TESTS}ops/references.py',
    'spm_mm.ops.gelu_linear': f'{LINEAR} and torch.nn.functional.gelu',
    'spm_mm.ops.gelu_linear_reference': f'{LINEAR} and torch.nn.functional.gelu',
    'spm_mm.ops.guided_attention_reference': f'{TESTS}ops/references.py',
    'spm_mm.ops.linear': LINEAR,
    'spm_mm.ops.mlp': 'use spm_mm.layers.MLP',
    'spm_mm.ops.mlp_reference': 'use spm_mm.layers.MLP',
    'spm_mm.ops.pool_reference': f'{TESTS}ops/references.py',
    'spm_mm.ops.received_attention_reference': f'{TESTS}ops/references.py',
    'spm_mm.ops.runs_eagerly': 'use torch.compiler.is_compiling',
    'spm_mm.ops.sorted_runs_reference': f'{TESTS}ops/references.py',
    'spm_mm.testing': f'{TESTS}testing.py',
    'spm_mm.visualization.clusters.atlas': 'use spm_mm.visualization.paint_labels',
    'spm_mm.visualization.clusters.heat_maps': (
        'use spm_mm.visualization.assignment_maps, which takes the logits with their grid'
    ),
    'spm_mm.visualization.segmentation.side_by_side': (
        'use spm_mm.visualization.segmentation_panels and save_panels'
    ),
    'spm_mm.visualization.token_clusters.paint_clusters': 'use spm_mm.visualization.paint_labels',
    'spm_mm.visualization.mechanisms.strength': 'use spm_mm.visualization.contrast',
}
"""Old name to what to do instead."""

OPTIONS = {
    'DeformableMerging.backend': (
        "leave it out: torchvision's kernel runs on a GPU, PyTorch's operators elsewhere"
    ),
}
"""Options of registered classes that are gone, to what to do instead."""


def new_name(old: str) -> str | None:
    """Where a name moved, None if it did not.

    Args:
        old: Dotted name, e.g. ``'spm_mm.literal.make_literal'``.

    Raises:
        ImportError: If it is removed; the message says what to do instead.
    """
    if old in REMOVED:
        raise ImportError(f'{old} was removed: {REMOVED[old]}; see docs/migration.md')
    if old in MOVED:
        return MOVED[old]
    around = next((moved for moved in MOVED if old.startswith(f'{moved}.')), None)
    return around and f'{MOVED[around]}{old.removeprefix(around)}'


def answer_for_old_names(path: str, namespace: dict[str, Any]) -> None:
    """Let a module answer for its old names, and a package for those that its modules exported.

    Args:
        path: Name of the module, its ``__name__``.
        namespace: Its ``globals()``, which get a ``__getattr__``.
    """
    old_names = {
        old.rpartition('.')[2]: old for old in (*MOVED, *REMOVED) if old.startswith(f'{path}.')
    }

    def find(name: str) -> Any:
        old = old_names.get(name, f'{path}.{name}')
        new = None if name.startswith('__') else new_name(old)
        if new is None:
            raise AttributeError(f'module {path!r} has no attribute {name!r}')
        warnings.warn(f'{old} is now {new}', DeprecationWarning, stacklevel=2)
        parent, _, name = new.rpartition('.')
        return getattr(importlib.import_module(parent), name)

    namespace['__getattr__'] = find


class MovedModules(MetaPathFinder, Loader):
    """Finds the modules that moved, and says what to do instead of those that were removed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        new = new_name(name) if name.startswith('spm_mm.') else None
        if new is None or importlib.util.find_spec(new) is None:
            return None
        return ModuleSpec(name, self, is_package=True)

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module empty: it looks everything up in the new one."""
        old = module.__name__
        warnings.warn(f'{old} is now {new_name(old)}', DeprecationWarning, stacklevel=2)
        answer_for_old_names(old, vars(module))


def install() -> None:
    """Let Python find the modules that moved. Calling this twice changes nothing."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
