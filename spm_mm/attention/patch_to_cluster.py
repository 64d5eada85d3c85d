"""Patch-to-cluster attention: "PaCa-ViT: Learning Patch-to-Cluster Attention in Vision Transformers",
https://arxiv.org/abs/2203.11987, sections 3.1 and 3.2.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from spm_mm.errors import UserError, check_count, check_heads
from spm_mm.layers import conv_on_map, init_linears
from spm_mm.registry import suggest


class ConvClustering(nn.Module):
    """Clustering by convolution (Eq. 4 and 5): depth-wise, then two 1x1 layers, the last biasless.

    Args:
        channels: Width C of a token.
        num_clusters: Number M of clusters.
        kernel_size: Kernel of the depth-wise convolution, odd.

    Shape: map (B, H, W, C) to cluster logits (B, H, W, M).
    """

    def __init__(self, channels: int, num_clusters: int, kernel_size: int = 7) -> None:
        super().__init__()
        self.embed = nn.Conv2d(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=channels
        )
        self.mix = nn.Conv2d(channels, channels, 1)
        self.to_clusters = nn.Conv2d(channels, num_clusters, 1, bias=False)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return conv_on_map(self.cluster, x)

    def cluster(self, x: Tensor) -> Tensor:
        """The same on a feature map (B, C, H, W)."""
        return self.to_clusters(self.act(self.mix(self.act(self.embed(x)))))


class MLPClustering(nn.Module):
    """Clustering by an MLP (Eq. 6) on each token by itself.

    Args:
        channels: Width C of a token.
        num_clusters: Number M of clusters.
        ratio: Width of the hidden layer, in multiples of C.

    Shape: map (B, H, W, C) to cluster logits (B, H, W, M).
    """

    def __init__(self, channels: int, num_clusters: int, ratio: int = 4) -> None:
        super().__init__()
        self.embed = nn.Linear(channels, ratio * channels)
        self.act = nn.GELU()
        self.to_clusters = nn.Linear(ratio * channels, num_clusters)
        init_linears(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.to_clusters(self.act(self.embed(x)))


CLUSTERINGS = {'conv': ConvClustering, 'mlp': MLPClustering}


def assign(logits: Tensor) -> Tensor:
    """Cluster assignment: softmax of cluster logits over all positions of the image (Eq. 5 and 6).

    Args:
        logits: (B, H, W, M).

    Returns:
        (B, M, H * W); the weights of each cluster sum to 1.
    """
    return logits.flatten(1, 2).softmax(dim=1).transpose(1, 2)


class PatchToClusterAttention(nn.Module):
    """Multi-head attention of all tokens to a few clusters of them (Eq. 1 to 3).

    The clusters are weighted means of the tokens, so the cost is linear in the number of tokens. The
    equations show one head and the scale sqrt(C); as in the official code, the scale is that of a
    head, sqrt(C / G), which is the same for ``num_heads=1``.

    Args:
        channels: Width C of a token.
        num_heads: Number of heads G; must divide ``channels``.
        num_clusters: Number M of clusters; 0 is plain attention to all tokens.
        clustering: ``'conv'`` or ``'mlp'``: make an own assignment. None: use the one handed over.

    Shape: map (B, H, W, C) and assignment (B, M, H * W), which is needed only without an own
    clustering, to a map (B, H, W, C) and the assignment that was used (None for ``num_clusters=0``).

    Raises:
        ValueError: If ``num_heads`` does not divide ``channels``, ``num_clusters`` is negative or
            ``clustering`` unknown.
    """

    def __init__(
        self, channels: int, num_heads: int, num_clusters: int, clustering: str | None = None
    ) -> None:
        super().__init__()
        check_heads(channels, num_heads)
        check_count('num_clusters', num_clusters, 0)
        if clustering is not None and clustering not in CLUSTERINGS:
            raise UserError(
                f'clustering has unknown value {clustering!r}: {suggest(clustering, [*CLUSTERINGS])}'
            )
        self.num_heads = num_heads
        self.num_clusters = num_clusters
        self.clustering = None
        if num_clusters:
            if clustering is not None:
                self.clustering = CLUSTERINGS[clustering](channels, num_clusters)
            self.cluster_norm = nn.LayerNorm(channels, eps=1e-6)
        self.q = nn.Linear(channels, channels)
        self.k = nn.Linear(channels, channels)
        self.v = nn.Linear(channels, channels)
        self.proj = nn.Linear(channels, channels)
        init_linears(self.q, self.k, self.v, self.proj)

    def forward(self, x: Tensor, assignment: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        b, h, w, c = x.shape
        context = x.flatten(1, 2)
        if self.num_clusters:
            if self.clustering is not None:
                assignment = assign(self.clustering(x))
            context = self.cluster_norm(assignment @ context)
        else:
            assignment = None
        q, k, v = (
            layer(tokens).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer, tokens in ((self.q, x.flatten(1, 2)), (self.k, context), (self.v, context))
        )
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(b, h, w, c)), assignment
