from torch import Tensor, nn
from torchvision.ops import StochasticDepth


class TransformerBlock(nn.Module):
    """Pre-norm block: attention (if there is one), then an MLP, each with a shortcut.

    Args:
        channels: Width C of a token.
        attention: Takes normed tokens to the same shape. None: an MLP alone.
        mlp: Likewise.
        drop_path: Probability from 0 to below 1 that an image skips a part in training.
        norm_eps: Epsilon of the LayerNorms.

    Shape: feature map (B, H, W, C), or tokens (B, N, C) where the attention takes them, to the same
    shape.
    """

    def __init__(
        self,
        channels: int,
        attention: nn.Module | None,
        mlp: nn.Module,
        drop_path: float,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        if attention is not None:
            self.norm1 = nn.LayerNorm(channels, eps=norm_eps)
        self.attn = attention
        self.norm2 = nn.LayerNorm(channels, eps=norm_eps)
        self.mlp = mlp
        self.drop_path = StochasticDepth(drop_path, 'row')

    def forward(self, x: Tensor) -> Tensor:
        if self.attn is not None:
            x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
