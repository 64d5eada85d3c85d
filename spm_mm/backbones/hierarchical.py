"""The loop that every backbone of the suite shares: stem, then merge, blocks and norm per stage."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spm_mm.compat import check_state_dict, load_weights
from spm_mm.errors import UserError, check_count
from spm_mm.layers import PointwiseConv
from spm_mm.merging import Merging
from spm_mm.ops import TokenMap, as_map
from spm_mm.registry import build, suggest

__all__ = ['HierarchicalBackbone']


class HierarchicalBackbone(BaseModule):
    """Base of all backbones: four stages at strides 4, 8, 16 and 32, any merging between them.

    A family names its architectures in :attr:`arch_settings`, calls ``super().__init__``, then sets
    ``stem`` (image to map), ``mergings`` (:meth:`build_mergings`), ``stages`` (a map, and what
    :meth:`guide_stages` adds to it, to a map and what the stage leaves behind beside it, or None; the
    same with a :class:`~spm_mm.ops.TokenMap` where :meth:`on_tokens` says so)
    and ``norms``, one entry for each of :attr:`num_stages`, and ends with :meth:`finish`.

    Args:
        arch: Name in :attr:`arch_settings`, or a dict with the same keys.
        in_channels: Channels of the image.
        drop_path_rate: Stochastic depth of the last block, 0 to 1; it rises linearly from 0.
        out_indices: Stages to put out, 0 to 3. Default: all for ``'featmap'``, else the last. Stages
            after the last of them are not built, so no parameter is left without a gradient.
        out_type: What leaves the backbone for each of ``out_indices``: ``'featmap'`` a map,
            ``'avg_featmap'`` its normed mean over the positions, ``'cls_token'`` the normed class token
            of the last stage (in families that have one), ``'tokens'`` (likewise) a map, or a
            :class:`~spm_mm.ops.TokenMap` of the stages that run on tokens, for the neck
            :class:`~spm_mm.necks.MTA`.
        frozen_stages: -1 freezes nothing, 0 the stem, k also the first k stages with the mergings
            between them.
        norm_eval: Keep batch norms in evaluation mode.
        with_cp: Recompute the blocks in the backward pass to save memory.
        init_cfg: As mmengine's. ``dict(type='Pretrained', checkpoint=..., prefix='backbone.')``
            loads weights; with ``checkpoint=None`` it is skipped with one line in the log.

    Shape: image (B, in_channels, H, W), H and W at least :attr:`min_size`, to a tuple with one
    contiguous (B, C, H', W') map for each of ``out_indices``, or one vector (B, C).

    Raises:
        ValueError: If an argument or the image does not fit; the message says what does.
    """

    arch_settings: ClassVar[dict[str, dict[str, Any]]]
    out_types: ClassVar[tuple[str, ...]] = ('featmap', 'avg_featmap')
    dense_types: ClassVar[tuple[str, ...]] = ('featmap', 'tokens')
    """Those of :attr:`out_types` that are for dense tasks: one output a stage, not a vector."""
    min_size: ClassVar[int] = 32
    tiny_depths: ClassVar[tuple[int, ...]] = (1, 1, 1, 1)
    """Blocks per stage of the smallest model that has every kind of block, for tests."""
    takes_tokens: ClassVar[bool] = False
    """Whether the stages can run on tokens, behind a merging that leaves the grid; the family then
    builds them so where :meth:`on_tokens` says, and ``out_type='tokens'`` is there."""
    compilable: ClassVar[bool] = True
    """Whether ``torch.compile`` takes the forward pass as one graph with dynamic sizes."""

    def __init__(
        self,
        arch: str | Mapping[str, Any],
        in_channels: int = 3,
        drop_path_rate: float = 0.0,
        out_indices: Sequence[int] | None = None,
        out_type: str = 'featmap',
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.arch = self._resolve_arch(arch)
        self.depths = tuple(self.arch['depths'])
        total = len(self.depths)
        if out_type not in self.out_types:
            raise UserError(
                f'out_type has unknown value {out_type!r}: {suggest(out_type, [*self.out_types])}'
            )
        if out_indices is None:
            out_indices = range(total) if out_type in self.dense_types else [total - 1]
        if isinstance(out_indices, int):
            out_indices = [out_indices]
        if not out_indices or list(out_indices) != sorted(set(out_indices) & set(range(total))):
            raise UserError(
                f'out_indices must be rising stages from 0 to {total - 1}, got {list(out_indices)}'
            )
        if out_type == 'cls_token' and list(out_indices) != [total - 1]:
            raise UserError(
                f"out_type='cls_token' puts out the last stage alone, got out_indices"
                f'={list(out_indices)}: leave them out'
            )
        check_count('in_channels', in_channels)
        check_count('frozen_stages', frozen_stages, -1, total)
        if not 0 <= drop_path_rate < 1:
            raise UserError(f'drop_path_rate must be from 0 to below 1, got {drop_path_rate}')
        self.in_channels = in_channels
        self.drop_path_rate = drop_path_rate
        self.out_indices = tuple(out_indices)
        self.out_type = out_type
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp

    # Building

    @property
    def num_stages(self) -> int:
        """Number of stages that are built."""
        return max(self.out_indices) + 1

    @classmethod
    def _resolve_arch(cls, arch: str | Mapping[str, Any]) -> dict[str, Any]:
        names = list(cls.arch_settings)
        if isinstance(arch, str):
            if arch not in names:
                raise UserError(
                    f'{cls.__name__} has no arch {arch!r}, a dict or a name: {suggest(arch, names)}'
                )
            return dict(cls.arch_settings[arch])
        keys = list(cls.arch_settings[names[0]])
        if not isinstance(arch, Mapping) or set(arch) != set(keys):
            raise UserError(
                f'arch of {cls.__name__} must be one of {names} or a dict with the keys {keys},'
                f' got {arch!r}'
            )
        lengths = {key: len(arch[key]) for key in keys if isinstance(arch[key], list | tuple)}
        if set(lengths.values()) != {4}:
            raise UserError(
                f'the lists of arch must have one entry for each of 4 stages, got {lengths}'
            )
        for key in ('embed_dims', 'depths'):
            for value in arch[key]:
                check_count(f'each of {key}', value)
        return dict(arch)

    def build_mergings(self, merging: dict | Sequence[dict] | None, default: dict) -> nn.ModuleList:
        """Build the mergings between the stages.

        Args:
            merging: One config for all transitions, a list with one for each, or None for
                ``default``. A list must cover all transitions of the architecture, also those after
                the last of ``out_indices``.
            default: The family's own merging.
        """
        dims = self.arch['embed_dims']
        transitions = len(dims) - 1
        merging = default if merging is None else merging
        cfgs = [merging] * transitions if isinstance(merging, Mapping) else merging
        listed = isinstance(cfgs, list | tuple)
        if not listed or len(cfgs) != transitions:
            got = f'a list of {len(cfgs)}' if listed else repr(cfgs)
            raise UserError(
                f'merging must be one dict or a list of {transitions}, one for each transition'
                f' between stages, got {got}'
            )
        mergings = nn.ModuleList(
            build(cfgs[i], Merging, f'merging[{i}]', in_channels=dims[i], out_channels=dims[i + 1])
            for i in range(self.num_stages - 1)
        )
        for i, built in enumerate(mergings):
            if not (built.keeps_grid or self.takes_tokens):
                raise UserError(
                    f'merging[{i}] is a {type(built).__name__}, which leaves the grid that the blocks'
                    f' of {type(self).__name__} need: take another merging, or a backbone whose'
                    ' blocks run on tokens, PVT for example'
                )
        return mergings

    def on_tokens(self, i: int) -> bool:
        """Whether stage ``i`` runs on tokens: the merging before it leaves the grid."""
        return i > 0 and not self.mergings[i - 1].keeps_grid

    def drop_path_rates(self) -> list[list[float]]:
        """Stochastic depth of every block, by stage: linear over all blocks of the network."""
        rates = np.linspace(0, self.drop_path_rate, sum(self.depths))
        return [stage.tolist() for stage in np.split(rates, np.cumsum(self.depths)[:-1])]

    def finish(self) -> None:
        """Initialise, choose the weights' memory layout, freeze. The last line of a constructor."""
        self.apply(self._init_module)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and not isinstance(module, PointwiseConv):
                # As the maps: otherwise DDP warns that gradients are laid out in another way.
                module.to(memory_format=torch.channels_last)
        self._freeze()

    @staticmethod
    def _init_module(module: nn.Module) -> None:
        """Linear: truncated normal of 0.02, zero bias. All others keep what they were built with."""
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    # Running

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self._check_image(x)
        x = self.stem(x)
        guides = self.guide_stages(x)
        outs = []
        for i in range(self.num_stages):
            if i:
                x = self.mergings[i - 1](x if self.on_tokens(i) else as_map(x))
            x, rest = self.stages[i](x, *guides[i])
            if i in self.out_indices:
                outs.append(self.to_output(i, x, rest))
        return tuple(outs)

    def guide_stages(self, x: Tensor) -> Sequence[tuple]:
        """What each stage reads beside its own map, made of the stem's map ``x``: here nothing."""
        return [()] * self.num_stages

    def to_output(self, i: int, x: Tensor | TokenMap, rest: Any) -> Tensor | TokenMap:
        """What leaves the backbone after stage ``i``: its map ``x`` and the ``rest`` beside it."""
        if self.out_type == 'cls_token':
            return self.norms[i](rest)
        if isinstance(x, TokenMap):
            x = x.with_tokens(self.norms[i](x.x))
            if self.out_type == 'tokens':
                return x
            if self.out_type == 'avg_featmap':
                return x.x.mean(dim=1)
            return x.to_map().permute(0, 3, 1, 2).contiguous()
        x = self.norms[i](x)
        if self.out_type == 'avg_featmap':
            return x.mean(dim=(1, 2))
        # A copy in the plain layout: mmcv's RoIAlign reads channels-last memory wrongly.
        return x.permute(0, 3, 1, 2).contiguous()

    def _check_image(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise UserError(
                f'{type(self).__name__} needs images (B, {self.in_channels}, H, W), got'
                f' {tuple(x.shape)}'
            )
        if x.shape[2] < self.min_size or x.shape[3] < self.min_size:
            raise UserError(
                f'{type(self).__name__} needs images of at least {self.min_size} x {self.min_size}'
                f' pixels, got {x.shape[2]} x {x.shape[3]}'
            )

    # Training

    def _frozen_modules(self) -> Iterator[nn.Module]:
        if self.frozen_stages >= 0:
            yield self.stem
        for i in range(min(self.frozen_stages, self.num_stages)):
            if i:
                yield self.mergings[i - 1]
            yield self.stages[i]
            yield self.norms[i]

    def _freeze(self) -> None:
        for module in self._frozen_modules():
            module.eval()
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> 'HierarchicalBackbone':
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Layer of a parameter, for layer-wise decay: 0 the stem, then one for each block, then norms.

        A merging and what else stands before the blocks of a stage belong to its first block, a
        stage's own ``norm`` behind them to its last.

        Args:
            param_name: Name in the whole model.
            prefix: Prefix of the backbone's parameters in it.

        Returns:
            The layer, and the number of layers; a parameter from outside the backbone is in the last.
        """
        num_layers = sum(self.depths) + 2
        if not param_name.startswith(prefix):
            return num_layers - 1, num_layers
        part, _, rest = param_name[len(prefix) :].partition('.')
        if part == 'stem':
            return 0, num_layers
        if part not in ('stages', 'mergings'):
            return num_layers - 1, num_layers
        index, _, rest = rest.partition('.')
        stage = int(index) + (part == 'mergings')
        block = 0
        if rest.startswith('blocks.'):
            block = int(rest.split('.')[1])
        elif rest.startswith('norm.'):
            block = self.depths[stage] - 1
        return 1 + sum(self.depths[:stage]) + block, num_layers

    # Weights

    reset_layers: ClassVar[tuple[str, ...]] = ()
    """Names of layers whose size a task may choose anew: where a checkpoint holds another size, they
    keep their own initial weights."""
    unused_keys: ClassVar[tuple[str, ...]] = ()
    """Beginnings of keys that a checkpoint may hold and a dense form of the model does not use."""

    def init_weights(self) -> None:
        """Load what ``init_cfg`` names; without it the weights stay as the constructor made them.

        Raises:
            ValueError: If the checkpoint belongs to another model. It may lack mergings, which is how
            SPM starts from plain weights, and what only a classifier has; layers of
            :attr:`reset_layers` may have another size, the log then names them.
        """
        cfgs = [self.init_cfg] if isinstance(self.init_cfg, Mapping) else (self.init_cfg or [])
        pretrained = [cfg for cfg in cfgs if cfg.get('type') == 'Pretrained']
        whole, self.init_cfg = self.init_cfg, [cfg for cfg in cfgs if cfg not in pretrained]
        super().init_weights()
        self.init_cfg = whole
        for cfg in pretrained:
            if cfg.get('checkpoint') is None:
                print_log(
                    f'{type(self).__name__}: init_cfg has checkpoint=None, training starts from'
                    ' scratch; set it by --cfg-options model.backbone.init_cfg.checkpoint=FILE',
                    'current',
                    logging.WARNING,
                )
            else:
                self._load_pretrained(cfg['checkpoint'], cfg.get('prefix') or '')

    def _load_pretrained(self, checkpoint_path: str, prefix: str) -> None:
        state_dict = load_weights(checkpoint_path)
        own = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
        if not own:
            raise UserError(
                f'checkpoint {checkpoint_path} has no key that starts with prefix={prefix!r}; its'
                f' first keys are {list(state_dict)[:3]}'
            )
        dropped = self.split_unused(own)
        reset = self.split_reset(own)
        missing = check_state_dict(self, own, checkpoint_path)
        foreign = [
            k
            for k in missing
            if k not in reset and not k.startswith(('mergings.', 'norms.', *self.unused_keys))
        ]
        if foreign:
            raise UserError(
                f'checkpoint {checkpoint_path} belongs to another model than this'
                f' {type(self).__name__}: it lacks {len(foreign)} entries, first'
                f' {", ".join(foreign[:3])}'
            )
        self.load_state_dict(own, strict=False)
        print_log(f'{type(self).__name__}: loaded {checkpoint_path}', 'current')
        for what, keys, level in (
            ('not used on purpose', dropped, logging.INFO),
            ('of another size in the checkpoint, so new', reset, logging.WARNING),
            (
                'not in the checkpoint, so new',
                [k for k in missing if k not in reset],
                logging.WARNING,
            ),
        ):
            if keys:
                print_log(f'{type(self).__name__}: {what}: {", ".join(keys)}', 'current', level)

    def split_unused(self, state_dict: dict[str, Tensor]) -> list[str]:
        """Take out of ``state_dict`` what this form of the model leaves out on purpose.

        That is what begins with one of :attr:`unused_keys`, and the stages after the last one that
        is built.

        Returns:
            The keys taken out.
        """
        own = self.state_dict().keys()
        late = tuple(
            f'{part}.{i}.'
            for i in range(self.num_stages, len(self.depths))
            for part in ('stages', 'norms')
        ) + tuple(f'mergings.{i}.' for i in range(self.num_stages - 1, len(self.depths) - 1))
        unused = [k for k in state_dict if k not in own and k.startswith(self.unused_keys + late)]
        for key in unused:
            del state_dict[key]
        return unused

    def split_reset(self, state_dict: dict[str, Tensor]) -> list[str]:
        """Take out of ``state_dict`` those of :attr:`reset_layers` that have another size here.

        Returns:
            The keys taken out.
        """
        own = self.state_dict()
        reset = [
            key
            for key, value in state_dict.items()
            if key in own
            and own[key].shape != value.shape
            and not set(self.reset_layers).isdisjoint(key.split('.'))
        ]
        for key in reset:
            del state_dict[key]
        return reset


class BlockStage(nn.Module):
    """The blocks of a stage one after the other, and behind them a norm if there is one.

    Shape: map (B, H, W, C) to a map (B, H, W, C) and None: nothing travels beside it. Tokens likewise.
    """

    def __init__(
        self, blocks: Iterable[nn.Module], with_cp: bool, norm: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm if norm is not None else nn.Identity()
        self.with_cp = with_cp

    def forward(self, x: Tensor | TokenMap) -> tuple[Tensor | TokenMap, None]:
        if isinstance(x, TokenMap):
            out = run_token_blocks(self.blocks, x, x.x, with_cp=self.with_cp)
            return x.with_tokens(self.norm(out)), None
        return self.norm(run_blocks(self.blocks, x, with_cp=self.with_cp)), None


def run_block(block: nn.Module, x: Tensor, *args: Any, with_cp: bool) -> Any:
    """Run one block, recomputed in the backward pass if ``with_cp``."""
    if with_cp and x.requires_grad:
        return checkpoint(block, x, *args, use_reentrant=False)
    return block(x, *args)


def run_blocks(blocks: nn.ModuleList, x: Tensor, *args: Any, with_cp: bool) -> Tensor:
    """Run the blocks of a stage one after the other, see :func:`run_block`."""
    for block in blocks:
        x = run_block(block, x, *args, with_cp=with_cp)
    return x


def run_token_blocks(
    blocks: Iterable[nn.Module], tokens: TokenMap, x: Tensor, with_cp: bool
) -> Tensor:
    """Run the blocks of a stage on tokens ``x`` (B, N, C), the first with the context of ``tokens``.

    ``x`` may have more tokens than ``tokens``, a class token before them, say.
    """
    for block in blocks:
        x = run_block(block, x, tokens, with_cp=with_cp)
        tokens = tokens.without_context()
    return x
