"""External clustering teachers of PaCa-ViT (section 3.2.3): a CNN with a feature pyramid."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spm_mm.errors import UserError
from spm_mm.layers import build_norm
from spm_mm.registry import MODELS, SCOPE


class ConvMixerBlock(nn.Module):
    """Depth-wise convolution with a shortcut, then a 1x1 convolution, each with GELU and norm."""

    def __init__(self, channels: int, norm_cfg: dict, kernel_size: int = 7) -> None:
        super().__init__()
        depthwise = nn.Conv2d(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=channels
        )
        self.depthwise = ConvActNorm(depthwise, channels, norm_cfg)
        self.pointwise = ConvActNorm(nn.Conv2d(channels, channels, 1), channels, norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(x + self.depthwise(x))


class BlurConv(nn.Module):
    """Fixed 3x3 binomial blur, then a 3x3 convolution of stride 2."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer('blur', torch.outer(row, row)[None, None], persistent=False)
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        c = x.shape[1]
        blur = self.blur.to(x.dtype).expand(c, 1, 3, 3)
        return self.conv(F.conv2d(x, blur, padding=1, groups=c))


class ClusteringTeacher(nn.Module):
    """The feature pyramid that every teacher ends with, and the layers that make the cluster logits.

    Top down, the pyramid joins the maps of a convolutional network. Cluster logits come from the
    pyramid; the network's own maps are added to the backbone's. What no stage of the backbone reads is
    left out.

    Args:
        embed_dims: Widths C_i of the maps, those of the backbone.
        num_clusters: Clusters M of the backbone's stages, the built ones alone; 0 for none.
        norm_cfg: Norm after every convolution.

    Raises:
        ValueError: If no stage has clusters.
    """

    reads_image: ClassVar[bool]
    """Whether the teacher reads the image (B, C, H, W), or else the stem's map (B, H, W, C_1)."""

    def __init__(
        self, embed_dims: Sequence[int], num_clusters: Sequence[int], norm_cfg: dict
    ) -> None:
        super().__init__()
        if not any(num_clusters):
            raise UserError(
                f'num_clusters must be positive for some stage that a teacher assigns, got'
                f' {list(num_clusters)}'
            )
        self.embed_dims, self.num_clusters = tuple(embed_dims), tuple(num_clusters)
        self.norm_cfg = norm_cfg

    def build_pyramid(self) -> None:
        """Build the pyramid, down to the finest stage that has clusters."""
        last = len(self.embed_dims) - 1
        finest = next(i for i, m in enumerate(self.num_clusters) if m)
        self.laterals, self.pyramid, self.to_clusters = (nn.ModuleDict() for _ in range(3))
        for i in range(finest, last):
            lateral = nn.Conv2d(self.embed_dims[i + 1], self.embed_dims[i], 1)
            self.laterals[str(i)] = ConvActNorm(lateral, self.embed_dims[i], self.norm_cfg)
            self.pyramid[str(i)] = ConvMixerBlock(self.embed_dims[i], self.norm_cfg)
        for i, m in enumerate(self.num_clusters):
            if m:
                self.to_clusters[str(i)] = nn.Conv2d(self.embed_dims[i], m, 1)

    def guide(self, maps: Sequence[Tensor]) -> list[tuple[Tensor | None, Tensor]]:
        """Maps (B, C_i, H_i, W_i) of all stages to what each stage of the backbone reads."""
        logits: dict[str, Tensor] = {}
        x = maps[-1]
        for i in reversed(range(len(maps))):
            key = str(i)
            if key in self.pyramid:
                coarse = F.interpolate(
                    x, size=maps[i].shape[2:], mode='bilinear', align_corners=False
                )
                x = self.pyramid[key](maps[i] + self.laterals[key](coarse))
            if key in self.to_clusters:
                logits[key] = self.to_clusters[key](x).permute(0, 2, 3, 1)
        return [
            (logits.get(str(i)), maps[i].permute(0, 2, 3, 1)) for i in range(len(self.num_clusters))
        ]


class ConvMixerTeacher(ClusteringTeacher):
    """A convolutional network beside the backbone that hands every stage its clusters (Figure 4).

    Bottom up, each stage is a few ConvMixer blocks; top down, a feature pyramid joins them. The network
    always has all stages, since the coarse ones shape the finer ones' clusters.

    Args:
        embed_dims: Widths of the stages, those of the backbone.
        depths: Blocks of each stage.
        num_clusters: Clusters M of the backbone's stages, the built ones alone; 0 for none.
        norm_cfg: Norm after every convolution. It keeps running statistics: with few images a device
            use ``dict(type='SyncBN')``.

    Shape: the stem's map (B, H, W, C_1) to one pair for each entry of ``num_clusters``: cluster
    logits (B, H_i, W_i, M_i), or None where M_i is 0, and a map (B, H_i, W_i, C_i), with sides halved
    and rounded up from stage to stage.

    Raises:
        ValueError: If no stage has clusters.
    """

    reads_image = False

    def __init__(
        self,
        embed_dims: Sequence[int],
        depths: Sequence[int],
        num_clusters: Sequence[int],
        norm_cfg: dict,
    ) -> None:
        super().__init__(embed_dims, num_clusters, norm_cfg)
        self.stages = nn.ModuleList(
            nn.Sequential(*(ConvMixerBlock(dim, norm_cfg) for _ in range(depth)))
            for dim, depth in zip(embed_dims, depths, strict=True)
        )
        self.mergings = nn.ModuleList(
            ConvActNorm(BlurConv(embed_dims[i], embed_dims[i + 1]), embed_dims[i + 1], norm_cfg)
            for i in range(len(embed_dims) - 1)
        )
        self.build_pyramid()

    def forward(self, x: Tensor) -> list[tuple[Tensor | None, Tensor]]:
        x = x.permute(0, 3, 1, 2)
        maps = []
        for i, stage in enumerate(self.stages):
            x = stage(self.mergings[i - 1](x) if i else x)
            maps.append(x)
        return self.guide(maps)


class CNNTeacher(ClusteringTeacher):
    """Any convolutional network of a registry as the teacher, MobileNet for example (footnote 2).

    Args:
        network: Config of the network, ``dict(type='mmpretrain.MobileNetV2', out_indices=...)``, or
            one of timm, ``dict(type='mmpretrain.TIMMBackbone', features_only=True, ...)``. It puts out
            one map for each stage of the backbone, from fine to coarse.
        embed_dims: Widths of the backbone's stages, to which 1x1 convolutions bring the maps.
        num_clusters: Clusters M of the backbone's stages, the built ones alone; 0 for none.
        norm_cfg: Norm of the pyramid.
        in_channels: Channels C of the image.

    Shape: image (B, C, H, W) to one pair for each entry of ``num_clusters``: cluster logits
    (B, H_i, W_i, M_i), or None where M_i is 0, and a map (B, H_i, W_i, C_i), at the network's strides.

    Raises:
        ValueError: If the network puts out another number of maps.
    """

    reads_image = True

    def __init__(
        self,
        network: Mapping,
        embed_dims: Sequence[int],
        num_clusters: Sequence[int],
        norm_cfg: dict,
        in_channels: int = 3,
    ) -> None:
        super().__init__(embed_dims, num_clusters, norm_cfg)
        if not isinstance(network, Mapping) or 'type' not in network:
            raise UserError(f"teacher must be a dict with the key 'type', got {network!r}")
        scope, _, kind = str(network['type']).rpartition('.')
        self.network = MODELS.build({**network, 'type': kind, '_scope_': scope or SCOPE})
        self.network.eval()  # a batch norm shall not count this image
        with torch.no_grad():
            maps = self.network(torch.zeros(1, in_channels, 64, 64))
        self.network.train()
        if not isinstance(maps, list | tuple) or len(maps) != len(embed_dims):
            count = len(maps) if isinstance(maps, list | tuple) else 1
            raise UserError(
                f'teacher must put out one map for each of {len(embed_dims)} stages, got {count}: set'
                ' its out_indices'
            )
        self.inputs = nn.ModuleList(
            ConvActNorm(nn.Conv2d(m.shape[1], dim, 1), dim, norm_cfg)
            for m, dim in zip(maps, embed_dims, strict=True)
        )
        self.build_pyramid()

    def forward(self, image: Tensor) -> list[tuple[Tensor | None, Tensor]]:
        maps = self.network(image)
        return self.guide([layer(m) for layer, m in zip(self.inputs, maps, strict=True)])


class ConvActNorm(nn.Module):
    """The teacher's order everywhere: convolution, GELU, norm.

    Shape: (B, C, H, W) to the convolution's output.
    """

    def __init__(self, conv: nn.Module, channels: int, norm_cfg: dict) -> None:
        super().__init__()
        # Registered behind its norm: mmcv's `fuse_conv_bn` folds a batch norm into the convolution
        # registered before it, which would be wrong across the GELU.
        self.add_module('2', build_norm(norm_cfg, channels))
        self.add_module('0', conv)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        conv, norm = getattr(self, '0'), getattr(self, '2')
        return norm(self.act(conv(x)))
