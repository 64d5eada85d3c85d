"""The template of all backbones: stem, then merging, blocks and norm for each stage."""

import abc
import logging
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from spm_mm.backbones.feature_info import feature_info
from spm_mm.backbones.loading import load_pretrained
from spm_mm.backbones.stage import Stage
from spm_mm.errors import UserError, check_count
from spm_mm.layers import MLP
from spm_mm.merging import Merging
from spm_mm.ops import TokenMap, as_map, by_token
from spm_mm.registry import build, suggest

__all__ = ['HierarchicalBackbone']


class HierarchicalBackbone(BaseModule, abc.ABC):
    """Base of all backbones: stages at strides 4, 8, 16 and so on, any merging between them.

    A family names its architectures in :attr:`arch_settings` and its :attr:`default_merging`. Its
    constructor calls ``super().__init__``, keeps the options of its own and ends with
    :meth:`build`, which calls :meth:`build_stem`, :meth:`build_block`, :meth:`build_stage` and
    :meth:`build_norm`.

    Args:
        arch: Name in :attr:`arch_settings`, or a dict with the same keys.
        in_channels: Channels of the image.
        drop_path_rate: Stochastic depth of the last block, 0 to 1; it rises linearly from 0.
        out_indices: Stages to put out, from 0 on. Default: all for ``'featmap'``, else the last.
            Stages after the last of them are not built, so no parameter is left without a gradient.
        out_type: What leaves the backbone for each of ``out_indices``: ``'featmap'`` a feature map,
            ``'avg_featmap'`` its normed mean over the positions, ``'cls_token'`` the normed class
            token of the last stage (in families that have one), ``'tokens'`` (likewise) a feature
            map, or a :class:`~spm_mm.ops.TokenMap` of the stages that run on tokens, for the neck
            :class:`~spm_mm.necks.MTA`.
        frozen_stages: -1 freezes nothing, 0 the stem, k also the first k stages with the mergings
            between them.
        norm_eval: Keep batch norms in evaluation mode.
        with_cp: What the backward pass recomputes to save memory: False nothing, ``'mlp'`` the
            activations of the MLPs, True all blocks.
        init_cfg: As mmengine's. ``dict(type='Pretrained', checkpoint=..., prefix='backbone.')``
            loads weights; with ``checkpoint=None`` it is skipped with one line in the log.

    Shape: image (B, in_channels, H, W), H and W at least :attr:`min_size`, to a tuple with one
    contiguous feature map (B, C, H', W') for each of ``out_indices``, or one vector (B, C).

    Raises:
        ValueError: If an argument or the image does not fit; the message says what does.
    """

    arch_settings: ClassVar[dict[str, dict[str, Any]]]
    default_merging: ClassVar[dict[str, Any]]
    """The family's own merging."""
    out_types: ClassVar[tuple[str, ...]] = ('featmap', 'avg_featmap')
    dense_types: ClassVar[tuple[str, ...]] = ('featmap', 'tokens')
    """Those of :attr:`out_types` that are for dense tasks: one output a stage, not a vector."""
    takes_tokens: ClassVar[bool] = False
    """Whether the family has :meth:`build_token_block`, so that a merging may leave the grid, and
    ``out_type='tokens'``."""
    compilable: ClassVar[bool] = True
    """Whether ``torch.compile`` takes the blocks as one graph with dynamic sizes; see
    :attr:`has_dynamic_graph`."""
    unused_keys: ClassVar[tuple[str, ...]] = ('norms.*',)
    """Patterns of keys that a checkpoint may hold although this form of the model has no use for
    them, or may lack although it has."""
    reset_layers: ClassVar[tuple[str, ...]] = ()
    """Names of layers whose size a task may choose anew: where a checkpoint holds another size, they
    keep their own initial weights."""
    staged_parts: ClassVar[tuple[str, ...]] = ('stages', 'norms')
    """Lists of modules with one entry a stage; those of stages that are not built are left out."""

    def __init__(
        self,
        arch: str | Mapping[str, Any],
        in_channels: int = 3,
        drop_path_rate: float = 0.0,
        out_indices: Sequence[int] | None = None,
        out_type: str = 'featmap',
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool | str = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.arch = self.resolve_arch(arch)
        self.depths = tuple(self.arch['depths'])
        self.embed_dims = tuple(self.arch['embed_dims'])
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
        if not isinstance(drop_path_rate, Real) or not 0 <= drop_path_rate < 1:
            raise UserError(f'drop_path_rate must be from 0 to below 1, got {drop_path_rate!r}')
        if with_cp not in (False, True, 'mlp'):
            raise UserError(f"with_cp must be False, 'mlp' or True, got {with_cp!r}")
        self.in_channels = in_channels
        self.drop_path_rate = drop_path_rate
        self.out_indices = tuple(out_indices)
        self.out_type = out_type
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp

    @classmethod
    def resolve_arch(cls, arch: str | Mapping[str, Any]) -> dict[str, Any]:
        """A copy of the architecture of a name, or of a dict that is checked.

        Raises:
            ValueError: If there is no such name, or the dict does not fit.
        """
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
        if len(set(lengths.values())) != 1:
            raise UserError(f'the lists of arch must have one entry for each stage, got {lengths}')
        for key in ('embed_dims', 'depths'):
            if key not in lengths:
                raise UserError(f'{key} of arch must be a list, got {arch[key]!r}')
            for value in arch[key]:
                check_count(f'each of {key}', value)
        return dict(arch)

    # Building

    def build(self, merging: dict | Sequence[dict] | None) -> None:
        """Build all parts: the last line of a family's constructor.

        Args:
            merging: One config for all transitions, a list with one for each, or None for
                :attr:`default_merging`. A list must cover all transitions of the architecture, also
                those after the last of ``out_indices``.
        """
        self.stem = self.build_stem()
        self.mergings = self.build_mergings(merging)
        self.stages = nn.ModuleList()
        for stage, rates in enumerate(self.drop_path_rates()[: self.num_stages]):
            build_block = self.build_token_block if self.on_tokens(stage) else self.build_block
            blocks = [build_block(stage, index, rate) for index, rate in enumerate(rates)]
            self.stages.append(self.build_stage(stage, blocks))
        self.norms = nn.ModuleList(self.build_norm(stage) for stage in range(self.num_stages))
        self.init_parts()
        for module in self.modules():
            if isinstance(module, Stage):
                module.with_cp = self.with_cp is True
            elif isinstance(module, MLP):
                module.recompute = self.with_cp == 'mlp'
        self._freeze()

    @abc.abstractmethod
    def build_stem(self) -> nn.Module:
        """Image (B, in_channels, H, W) to the first stage's feature map (B, H / 4, W / 4, C)."""

    @abc.abstractmethod
    def build_block(self, stage: int, index: int, drop_path: float) -> nn.Module:
        """Block ``index`` of a stage: features to features of the same shape."""

    def build_token_block(self, stage: int, index: int, drop_path: float) -> nn.Module:
        """The same for a stage that runs on tokens, after a merging that leaves the grid."""
        raise NotImplementedError(f'{type(self).__name__} has no blocks for tokens')

    def build_stage(self, stage: int, blocks: list[nn.Module]) -> Stage:
        """Join the blocks of a stage."""
        return Stage(blocks)

    def build_norm(self, stage: int) -> nn.Module:
        """Norm of the output of a stage, which the next stage does not read."""
        return nn.Identity()

    def init_parts(self) -> None:
        """Initialise what the family starts otherwise than the modules do by themselves."""

    def build_mergings(self, merging: dict | Sequence[dict] | None) -> nn.ModuleList:
        """Build the mergings between the stages, see :meth:`build`."""
        dims = self.embed_dims
        transitions = len(dims) - 1
        merging = self.default_merging if merging is None else merging
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

    @property
    def num_stages(self) -> int:
        """Number of stages that are built."""
        return max(self.out_indices) + 1

    @property
    def min_size(self) -> int:
        """Rows and columns that an image must have: one cell in the last stage."""
        return 2 ** (len(self.depths) + 1)

    @property
    def is_dense(self) -> bool:
        """Whether feature maps come out, not vectors."""
        return self.out_type in self.dense_types

    feature_info = property(feature_info)

    @property
    def has_dynamic_graph(self) -> bool:
        """Whether ``torch.compile`` takes the forward pass as one graph with dynamic sizes."""
        return self.compilable and all(merging.compilable for merging in self.mergings)

    def on_tokens(self, stage: int) -> bool:
        """Whether a stage runs on tokens: the merging before it leaves the grid."""
        return stage > 0 and not self.mergings[stage - 1].keeps_grid

    def drop_path_rates(self) -> list[list[float]]:
        """Stochastic depth of every block, by stage: linear over all blocks of the network."""
        rates = np.linspace(0, self.drop_path_rate, sum(self.depths))
        return [stage.tolist() for stage in np.split(rates, np.cumsum(self.depths)[:-1])]

    # Running

    def forward(self, x: Tensor) -> tuple[Tensor | TokenMap, ...]:
        self._check_image(x)
        image, x = x, self.stem(x)
        guides = self.guide_stages(x, image)
        outs = []
        for i, stage in enumerate(self.stages):
            if i:
                x = self.mergings[i - 1](x if self.on_tokens(i) else as_map(x))
            x, extra = stage(x, *guides[i])
            if i in self.out_indices:
                outs.append(self.to_output(i, x, extra))
        return tuple(outs)

    def guide_stages(self, x: Tensor, image: Tensor) -> Sequence[tuple]:
        """What each stage reads beside its feature map, made of the stem's ``x`` or of the image."""
        return [()] * self.num_stages

    def to_output(self, stage: int, x: Tensor | TokenMap, extra: Any) -> Tensor | TokenMap:
        """What leaves the backbone after a stage: its features ``x`` and the ``extra`` beside them."""
        if self.out_type == 'cls_token':
            return self.norms[stage](extra)
        x = by_token(self.norms[stage], x)
        if self.out_type == 'avg_featmap':
            return x.x.mean(dim=1) if isinstance(x, TokenMap) else x.mean(dim=(1, 2))
        if self.out_type == 'tokens' and isinstance(x, TokenMap):
            return x
        # A copy in the plain layout: compiled RoIAlign of mmcv reads channels-last memory wrongly.
        return as_map(x).permute(0, 3, 1, 2).contiguous()

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

    def init_weights(self) -> None:
        """Load what ``init_cfg`` names; without it the weights stay as the constructor made them.

        Raises:
            ValueError: If the checkpoint belongs to another model, see
                :func:`~spm_mm.backbones.loading.load_pretrained`.
        """
        cfgs = [self.init_cfg] if isinstance(self.init_cfg, Mapping) else (self.init_cfg or [])
        pretrained = [cfg for cfg in cfgs if cfg.get('type') == 'Pretrained']
        whole, self.init_cfg = self.init_cfg, [cfg for cfg in cfgs if cfg not in pretrained]
        if self.init_cfg:
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
                load_pretrained(self, cfg['checkpoint'], cfg.get('prefix') or '')
