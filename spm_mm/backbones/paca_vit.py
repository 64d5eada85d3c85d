"""PaCa-ViT: "PaCa-ViT: Learning Patch-to-Cluster Attention in Vision Transformers",
https://arxiv.org/abs/2203.11987.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

from spm_mm.attention import ConvMixerTeacher, PatchToClusterAttention, assign
from spm_mm.backbones.hierarchical import HierarchicalBackbone, run_block
from spm_mm.errors import UserError, check_count
from spm_mm.layers import DepthwiseMLP, DoubleConvStem, init_convs, resize_map
from spm_mm.merging import ConvMerging
from spm_mm.registry import MODELS

__all__ = ['PaCaViT']


class PaCaBlock(nn.Module):
    """Pre-norm block: patch-to-cluster attention, then an MLP with a depth-wise convolution.

    Shape: map (B, H, W, C) and cluster assignment (B, M, H * W) or None, to the same two; where the
    block owns a clustering module, the assignment is its own.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        mlp_ratio: float,
        num_clusters: int,
        clustering: str | None,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = PatchToClusterAttention(channels, num_heads, num_clusters, clustering)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = DepthwiseMLP(channels, mlp_ratio, shortcut=True)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, assignment: Tensor | None) -> tuple[Tensor, Tensor | None]:
        out, assignment = self.attn(self.norm1(x), assignment)
        x = x + self.drop_path(out)
        return x + self.drop_path(self.mlp(self.norm2(x))), assignment


class PaCaStage(nn.Module):
    """The blocks, the teacher's map if there is one, and a LayerNorm that the next stage reads, too.

    Shape: map (B, H, W, C), and from a teacher cluster logits (B, H', W', M) and a map
    (B, H', W', C), to a map (B, H, W, C) and the last block's assignment (B, M, H * W) or None. The
    teacher's are resized bilinearly where H' or W' differs, after a merging that rounds down.
    """

    def __init__(self, channels: int, blocks: list[PaCaBlock], with_cp: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.with_cp = with_cp

    def forward(
        self, x: Tensor, logits: Tensor | None = None, teacher_map: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        grid = x.shape[1:3]
        assignment = None if logits is None else assign(resize_map(logits, *grid))
        for block in self.blocks:
            x, assignment = run_block(block, x, assignment, with_cp=self.with_cp)
        if teacher_map is not None:
            x = x + resize_map(teacher_map, *grid)
        return self.norm(x), assignment


@MODELS.register_module()
class PaCaViT(HierarchicalBackbone):
    """PaCa-ViT with any patch merging between its stages.

    Every output is normed, for dense heads, too; a classifier takes ``out_type='avg_featmap'``.

    In a stage with M clusters the tokens attend to M weighted means of them. The weights, the
    stage's cluster assignment, pass from block to block. A checkpoint with another number of
    clusters loads by ``init_cfg``: the last clustering layers (``to_clusters``) keep their initial
    weights, and the log names them.

    Where the paper and the official code differ, the code is followed: the depth-wise convolution of
    the MLP has a shortcut of its own, and the last layer of the convolutional clustering has no bias.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base'``; ``'tiny-ec'``, ``'small-ec'`` or ``'base-ec'`` with
            the external clustering teacher, which have depths of their own; or a dict with the keys
            of :attr:`arch_settings`. ``teacher_depths`` of all 0 means no teacher.
        merging: One config for the three transitions or a list of three. Default: PaCa's own 3x3
            convolution, ``dict(type='ConvMerging', kernel_size=3, norm_eps=1e-6)``.
        num_clusters: Clusters M of each stage; 0 is plain attention. Default: (100, 100, 100, 0), or
            100 in all stages with a teacher.
        clustering: ``'conv'`` (Eq. 5) or ``'mlp'`` (Eq. 6). Default: ``'conv'``. A teacher takes its
            place.
        clustering_interval: Which blocks of a stage make an assignment of their own, beside the
            first: 0 none (stage-wise), 1 all (block-wise), n every n-th. One number, or one for each
            stage.
        norm_cfg: Norm of the teacher. It keeps running statistics: with few images a device use
            ``dict(type='SyncBN')``.
        frozen_stages: As in the base class. Any frozen stage freezes the teacher, which serves all
            stages at once, but for the last clustering layers of stages that are not frozen.
        kwargs: Options of :class:`~spm_mm.backbones.hierarchical.HierarchicalBackbone`.

    Shape: image (B, 3, H, W), H and W at least 32, to maps of 96, 192, 320 and 384 channels (base:
    96, 192, 384 and 512) at strides 4, 8, 16 and 32, sides rounded up, or to one vector (B, C).

    Raises:
        ValueError: If an argument is not among those named.
    """

    arch_settings = {
        name: {
            'embed_dims': (96, 192, 384, 512) if 'base' in name else (96, 192, 320, 384),
            'depths': depths,
            'num_heads': (2, 4, 8, 16),
            'mlp_ratios': (4, 4, 4, 4),
            'teacher_depths': teacher_depths,
        }
        for name, depths, teacher_depths in (
            ('tiny', (2, 2, 4, 2), (0, 0, 0, 0)),
            ('small', (3, 3, 10, 3), (0, 0, 0, 0)),
            ('base', (3, 3, 18, 3), (0, 0, 0, 0)),
            ('tiny-ec', (2, 2, 2, 2), (2, 2, 2, 2)),
            ('small-ec', (3, 3, 7, 3), (2, 2, 2, 2)),
            ('base-ec', (3, 3, 16, 3), (2, 2, 4, 2)),
        )
    }
    reset_layers = ('to_clusters',)

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'tiny',
        merging: dict | Sequence[dict] | None = None,
        num_clusters: Sequence[int] | None = None,
        clustering: str | None = None,
        clustering_interval: int | Sequence[int] = 0,
        norm_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(arch, **kwargs)
        dims = self.arch['embed_dims']
        external = any(self.arch['teacher_depths'])
        if num_clusters is None:
            num_clusters = (100, 100, 100, 100 if external else 0)
        if isinstance(clustering_interval, int):
            clustering_interval = (clustering_interval,) * len(dims)
        for name, values in (
            ('num_clusters', num_clusters),
            ('clustering_interval', clustering_interval),
        ):
            if len(values) != len(dims):
                raise UserError(
                    f'{name} must have one number for each of {len(dims)} stages, got {list(values)}'
                )
            for value in values:
                check_count(f'each of {name}', value, 0)
        if external and (clustering is not None or any(clustering_interval)):
            raise UserError(
                f'an arch with a teacher has no clustering of its own, got clustering={clustering!r}'
                f' and clustering_interval={list(clustering_interval)}: leave them out, or set'
                ' teacher_depths to 0'
            )
        self.num_clusters = tuple(num_clusters)
        clustering = None if external else clustering or 'conv'

        rates = self.drop_path_rates()
        self.stem = DoubleConvStem(self.in_channels, dims[0])
        self.mergings = self.build_mergings(
            merging, default={'type': 'ConvMerging', 'kernel_size': 3, 'norm_eps': 1e-6}
        )
        self.teacher = None
        if external:
            self.teacher = ConvMixerTeacher(
                dims,
                self.arch['teacher_depths'],
                self.num_clusters[: self.num_stages],
                dict(norm_cfg or {'type': 'BN'}),
            )
        self.stages = nn.ModuleList()
        for i in range(self.num_stages):
            interval = clustering_interval[i]
            blocks = [
                PaCaBlock(
                    dims[i], self.arch['num_heads'][i], self.arch['mlp_ratios'][i],
                    self.num_clusters[i],
                    clustering if j == 0 or (interval and j % interval == 0) else None,
                    rate,
                )
                for j, rate in enumerate(rates[i])
            ]  # fmt: skip
            self.stages.append(PaCaStage(dims[i], blocks, self.with_cp))
        self.norms = nn.ModuleList(nn.Identity() for _ in range(self.num_stages))  # in the stages
        # Other mergings know best how to start.
        own = [merging for merging in self.mergings if isinstance(merging, ConvMerging)]
        init_convs(self.stem, self.stages, *own, *([self.teacher] if external else []))
        self.finish()

    def guide_stages(self, x: Tensor) -> Sequence[tuple]:
        return super().guide_stages(x) if self.teacher is None else self.teacher(x)

    def _frozen_modules(self) -> Iterator[nn.Module]:
        yield from super()._frozen_modules()
        if self.teacher is not None and self.frozen_stages > 0:
            for name, part in self.teacher.named_children():
                if name != 'to_clusters':
                    yield part
            for i, layer in self.teacher.to_clusters.items():
                if int(i) < self.frozen_stages:
                    yield layer

    def split_unused(self, state_dict: dict[str, Tensor]) -> list[str]:
        unused = super().split_unused(state_dict)
        own = self.state_dict()
        late = tuple(f'teacher.to_clusters.{i}.' for i in range(self.num_stages, len(self.depths)))
        for key in [k for k in state_dict if k not in own and k.startswith(late)]:
            unused.append(key)
            del state_dict[key]
        return unused
