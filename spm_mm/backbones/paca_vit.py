"""PaCa-ViT: "PaCa-ViT: Learning Patch-to-Cluster Attention in Vision Transformers",
https://arxiv.org/abs/2203.11987.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from spm_mm.attention import CNNTeacher, ConvMixerTeacher, PatchToClusterAttention, assign
from spm_mm.backbones.hierarchical import HierarchicalBackbone
from spm_mm.backbones.stage import Stage
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
        self.drop_path = StochasticDepth(drop_path, 'row')

    def forward(self, x: Tensor, assignment: Tensor | None) -> tuple[Tensor, Tensor | None]:
        out, assignment = self.attn(self.norm1(x), assignment)
        x = x + self.drop_path(out)
        return x + self.drop_path(self.mlp(self.norm2(x))), assignment


class PaCaStage(Stage):
    """The blocks, the teacher's map if there is one, and a LayerNorm that the next stage reads, too.

    Shape: map (B, H, W, C), and from a teacher cluster logits (B, H', W', M) and a map
    (B, H', W', C), to a map (B, H, W, C) and the last block's assignment (B, M, H * W) or None. The
    teacher's are resized bilinearly where H' or W' differs, after a merging that rounds down.
    """

    def forward(
        self, x: Tensor, logits: Tensor | None = None, teacher_map: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        grid = x.shape[1:3]
        assignment = None if logits is None else assign(resize_map(logits, *grid))
        for block in self.blocks:
            x, assignment = self.run(block, x, assignment)
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
        teacher: Config of another CNN as the teacher, which then reads the image: see
            :class:`~spm_mm.attention.CNNTeacher`. Default: the paper's ConvMixer where
            ``teacher_depths`` are not 0. A pretrained one loads by its own ``init_cfg``.
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
    default_merging = {'type': 'ConvMerging', 'kernel_size': 3, 'norm_eps': 1e-6}
    reset_layers = ('to_clusters',)
    staged_parts = (*HierarchicalBackbone.staged_parts, 'teacher.to_clusters')

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'tiny',
        merging: dict | Sequence[dict] | None = None,
        num_clusters: Sequence[int] | None = None,
        clustering: str | None = None,
        clustering_interval: int | Sequence[int] = 0,
        norm_cfg: dict | None = None,
        teacher: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(arch, **kwargs)
        stages = len(self.depths)
        external = teacher is not None or any(self.arch['teacher_depths'])
        if num_clusters is None:
            num_clusters = (*(100,) * (stages - 1), 100 if external else 0)
        if isinstance(clustering_interval, int):
            clustering_interval = (clustering_interval,) * stages
        for name, values in (
            ('num_clusters', num_clusters),
            ('clustering_interval', clustering_interval),
        ):
            if len(values) != stages:
                raise UserError(
                    f'{name} must have one number for each of {stages} stages, got {list(values)}'
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
        self.clustering = None if external else clustering or 'conv'
        self.clustering_interval = tuple(clustering_interval)
        self.teacher = None
        clusters, norm_cfg = self.num_clusters[: self.num_stages], norm_cfg or {'type': 'BN'}
        if teacher is not None:
            self.teacher = CNNTeacher(
                teacher, self.embed_dims, clusters, norm_cfg, self.in_channels
            )
        elif external:
            self.teacher = ConvMixerTeacher(
                self.embed_dims, self.arch['teacher_depths'], clusters, norm_cfg
            )
        self.build(merging)

    def build_stem(self) -> nn.Module:
        return DoubleConvStem(self.in_channels, self.embed_dims[0])

    def build_block(self, stage: int, index: int, drop_path: float) -> nn.Module:
        interval = self.clustering_interval[stage]
        clusters_anew = index == 0 or (interval and index % interval == 0)
        return PaCaBlock(
            self.embed_dims[stage],
            self.arch['num_heads'][stage],
            self.arch['mlp_ratios'][stage],
            self.num_clusters[stage],
            self.clustering if clusters_anew else None,
            drop_path,
        )

    def build_stage(self, stage: int, blocks: list[nn.Module]) -> Stage:
        return PaCaStage(blocks, nn.LayerNorm(self.embed_dims[stage], eps=1e-6))

    def init_parts(self) -> None:
        # Other mergings know best how to start.
        own = [merging for merging in self.mergings if isinstance(merging, ConvMerging)]
        if self.teacher is not None:
            # A network of a registry does, too.
            own += [part for name, part in self.teacher.named_children() if name != 'network']
        init_convs(self.stem, self.stages, *own)

    def guide_stages(self, x: Tensor, image: Tensor) -> Sequence[tuple]:
        if self.teacher is None:
            return super().guide_stages(x, image)
        return self.teacher(image if self.teacher.reads_image else x)

    def _frozen_modules(self) -> Iterator[nn.Module]:
        yield from super()._frozen_modules()
        if self.teacher is not None and self.frozen_stages > 0:
            for name, part in self.teacher.named_children():
                if name != 'to_clusters':
                    yield part
            for i, layer in self.teacher.to_clusters.items():
                if int(i) < self.frozen_stages:
                    yield layer
