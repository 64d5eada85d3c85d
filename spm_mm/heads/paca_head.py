"""The segmentation head of PaCa: "PaCa-ViT: Learning Patch-to-Cluster Attention in Vision
Transformers", https://arxiv.org/abs/2203.11987, section 3.4.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule, build_activation_layer, build_norm_layer
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import accuracy
from mmseg.models.utils import resize
from mmseg.registry import MODELS as MMSEG_MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from spm_mm.attention import assign
from spm_mm.errors import UserError
from spm_mm.registry import MODELS

__all__ = ['PaCaHead']


@MODELS.register_module()
class PaCaHead(BaseDecodeHead):
    """All pixels attend to one cluster for each class; the clusters are supervised, too (Eq. 9 to 14).

    The maps are brought to one width and to the size of the first, and concatenated. Cluster logits,
    one for each class, make a weighted mean of the pixels for each class, and every pixel attends to
    those. As published, the attention has one head, no scaling (Eq. 13) and, other than in the
    backbone, no LayerNorm on the clusters.

    It takes the place of any decode head of MMSegmentation's ``EncoderDecoder``. :meth:`loss` adds
    ``loss_cluster`` and ``acc_cluster``, the cross-entropy and accuracy of the cluster logits
    themselves.

    Args:
        in_channels: Channels of each input map.
        in_index: Which maps of the backbone or neck these are. Default: the first ones.
        channels: Width D of the head.
        loss_decode: Loss on the logits. Default: the published cross-entropy, averaged over the
            pixels that are not ignored.
        loss_cluster: Loss on the cluster logits, a cross-entropy of MMSegmentation. Default: the
            published one, like ``loss_decode`` with weight 0.4. For another weight:
            ``dict(type='mmseg.CrossEntropyLoss', loss_weight=...)``.
        norm_cfg: Norm of every layer but the classifier, or None. Default: the published
            ``dict(type='SyncBN')``.
        kwargs: Other options of MMSegmentation's ``BaseDecodeHead``: ``num_classes``, which is also
            the number of clusters, ``dropout_ratio`` (0.1), ``act_cfg`` (ReLU), ``align_corners``
            (False), ``ignore_index`` (255).

    Shape: maps (B, C_i, H_i, W_i) to logits (B, num_classes, H_1, W_1).

    Raises:
        ValueError: If ``in_channels`` is no list of one channel number or more, or ``in_index`` has
            another length.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_index: Sequence[int] | None = None,
        channels: int = 256,
        loss_decode: dict | Sequence[dict] | None = None,
        loss_cluster: dict | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(in_channels, Sequence) or not in_channels:
            raise UserError(
                f'in_channels of PaCaHead must be a list with one number for each input map, got'
                f' {in_channels!r}'
            )
        in_index = list(range(len(in_channels)) if in_index is None else in_index)
        if len(in_index) != len(in_channels):
            raise UserError(
                f'in_index of PaCaHead must have one entry for each of in_channels={in_channels},'
                f' got {in_index}'
            )
        published = dict(type='mmseg.CrossEntropyLoss', avg_non_ignore=True)
        kwargs.setdefault('norm_cfg', dict(type='SyncBN'))
        super().__init__(
            in_channels=list(in_channels),
            in_index=in_index,
            input_transform='multiple_select',
            channels=channels,
            loss_decode=dict(published, loss_weight=1.0) if loss_decode is None else loss_decode,
            **kwargs,
        )
        self.loss_cluster = MMSEG_MODELS.build(
            dict(published, loss_weight=0.4) if loss_cluster is None else loss_cluster
        )
        width = len(in_channels) * channels
        self.convs = nn.ModuleList(self._conv(c, channels) for c in in_channels)
        self.q = self._conv(width, channels)
        self.clustering = self._conv(width, channels)
        self.to_clusters = nn.Conv2d(channels, self.num_classes, 1)
        self.k, self.v = (
            nn.Sequential(nn.Conv2d(width, channels, 1), *self._norm_and_activation())
            for _ in range(2)
        )
        self.proj = self._conv(channels, channels)

    def _conv(self, in_channels: int, out_channels: int) -> ConvModule:
        return ConvModule(
            in_channels,
            out_channels,
            1,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
        )

    def _norm_and_activation(self) -> list[nn.Module]:
        norm = [build_norm_layer(self.norm_cfg, self.channels)[1]] if self.norm_cfg else []
        return norm + ([build_activation_layer(self.act_cfg)] if self.act_cfg else [])

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        return self.forward_with_clusters(inputs)[0]

    def forward_with_clusters(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits, and the cluster logits that they were made with.

        Args:
            inputs: All maps of the backbone or neck.

        Returns:
            Logits (B, out_channels, H_1, W_1) and cluster logits (B, num_classes, H_1, W_1).
        """
        maps = [conv(x) for conv, x in zip(self.convs, self._transform_inputs(inputs), strict=True)]
        size = maps[0].shape[2:]
        x = torch.cat(
            [resize(m, size, mode='bilinear', align_corners=self.align_corners) for m in maps],
            dim=1,
        )
        cluster_logits = self.to_clusters(self.clustering(x))
        clusters = assign(cluster_logits.permute(0, 2, 3, 1)) @ x.flatten(2).transpose(1, 2)
        clusters = clusters.transpose(1, 2)[..., None]  # (B, width, num_classes, 1), as a map
        q, k, v = (
            t.flatten(2).transpose(1, 2) for t in (self.q(x), self.k(clusters), self.v(clusters))
        )
        out = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        out = self.proj(out.transpose(1, 2).unflatten(2, size))
        return self.cls_seg(out), cluster_logits

    def loss(self, inputs: Sequence[Tensor], batch_data_samples: list, train_cfg: Any) -> dict:
        logits, cluster_logits = self.forward_with_clusters(inputs)
        losses = self.loss_by_feat(logits, batch_data_samples)
        labels = self._stack_batch_gt(batch_data_samples).squeeze(1)
        cluster_logits = resize(
            cluster_logits, labels.shape[1:], mode='bilinear', align_corners=self.align_corners
        )
        losses['loss_cluster'] = self.loss_cluster(
            cluster_logits, labels, ignore_index=self.ignore_index
        )
        losses['acc_cluster'] = accuracy(cluster_logits, labels, ignore_index=self.ignore_index)
        return losses
