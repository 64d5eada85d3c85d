"""The external clustering teacher of PaCa-ViT (section 3.2): a ConvMixer with a feature pyramid."""

from collections.abc import Sequence

import torch
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn
from torch.nn import functional as F

from spm_mm.errors import UserError


class ConvMixerBlock(nn.Module):
    """Depth-wise convolution with a shortcut, then a 1x1 convolution, each with GELU and norm."""

    def __init__(self, channels: int, norm_cfg: dict, kernel_size: int = 7) -> None:
        super().__init__()
        depthwise = nn.Conv2d(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=channels
        )
        self.depthwise = _activated(depthwise, norm_cfg)
        self.pointwise = _activated(nn.Conv2d(channels, channels, 1), norm_cfg)

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


class ConvMixerTeacher(nn.Module):
    """A convolutional network beside the backbone that hands every stage its clusters.

    Bottom up, each stage is a few ConvMixer blocks; top down, a feature pyramid joins them. Cluster
    logits come from the pyramid; the stages' own outputs are added to the backbone's.

    The network always has all stages, since the coarse ones shape the finer ones' clusters; what no
    stage of the backbone reads is left out.

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

    def __init__(
        self,
        embed_dims: Sequence[int],
        depths: Sequence[int],
        num_clusters: Sequence[int],
        norm_cfg: dict,
    ) -> None:
        super().__init__()
        if not any(num_clusters):
            raise UserError(
                f'num_clusters must be positive for some stage that a teacher assigns, got'
                f' {list(num_clusters)}'
            )
        last = len(embed_dims) - 1
        self.num_guided = len(num_clusters)
        self.stages = nn.ModuleList(
            nn.Sequential(*(ConvMixerBlock(dim, norm_cfg) for _ in range(depth)))
            for dim, depth in zip(embed_dims, depths, strict=True)
        )
        self.mergings = nn.ModuleList(
            _activated(BlurConv(embed_dims[i], embed_dims[i + 1]), norm_cfg, embed_dims[i + 1])
            for i in range(last)
        )
        # The pyramid goes down to the finest stage that has clusters.
        finest = next(i for i, m in enumerate(num_clusters) if m)
        self.laterals, self.pyramid, self.to_clusters = (nn.ModuleDict() for _ in range(3))
        for i in range(finest, last):
            lateral = nn.Conv2d(embed_dims[i + 1], embed_dims[i], 1)
            self.laterals[str(i)] = _activated(lateral, norm_cfg)
            self.pyramid[str(i)] = ConvMixerBlock(embed_dims[i], norm_cfg)
        for i, m in enumerate(num_clusters):
            if m:
                self.to_clusters[str(i)] = nn.Conv2d(embed_dims[i], m, 1)

    def forward(self, x: Tensor) -> list[tuple[Tensor | None, Tensor]]:
        x = x.permute(0, 3, 1, 2)
        maps = []
        for i, stage in enumerate(self.stages):
            x = stage(self.mergings[i - 1](x) if i else x)
            maps.append(x)
        logits: dict[str, Tensor] = {}
        for i in reversed(range(len(maps))):
            key = str(i)
            if key in self.pyramid:
                coarse = F.interpolate(
                    x, size=maps[i].shape[2:], mode='bilinear', align_corners=False
                )
                x = self.pyramid[key](maps[i] + self.laterals[key](coarse))
            if key in self.to_clusters:
                logits[key] = self.to_clusters[key](x).permute(0, 2, 3, 1)
        return [(logits.get(str(i)), maps[i].permute(0, 2, 3, 1)) for i in range(self.num_guided)]


def _activated(layer: nn.Module, norm_cfg: dict, channels: int | None = None) -> nn.Sequential:
    """The teacher's order everywhere: convolution, GELU, norm."""
    channels = layer.out_channels if channels is None else channels
    return nn.Sequential(layer, nn.GELU(), build_norm_layer(norm_cfg, channels)[1])
