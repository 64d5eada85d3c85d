"""Blocks for tokens that have left the grid (HAFA, section 3.3)."""

from typing import Any

from torch import Tensor, nn

from spm_mm.layers.block import TransformerBlock
from spm_mm.layers.channels_last import conv_on_map
from spm_mm.layers.mlp import DepthwiseMLP
from spm_mm.ops import TokenMap


class TokenBlock(TransformerBlock):
    """A :class:`~spm_mm.layers.TransformerBlock` on tokens that have left the grid.

    Keys and values of the first block after the merging come from its context, through the same norm
    as the queries. All other blocks attend to the tokens themselves, as a feature map where the
    attention reduces one.

    Args:
        args: As in :class:`~spm_mm.layers.TransformerBlock`.
        add_score: Whether the importance of the context's cells is added to the logits of the keys,
            as in TCFormer's blocks.
        kwargs: As in :class:`~spm_mm.layers.TransformerBlock`.

    Shape: :class:`~spm_mm.ops.TokenMap` of (B, N, C) to one of the same shape, without its context.
    """

    def __init__(self, *args: Any, add_score: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_score = add_score

    def forward(self, tokens: TokenMap) -> TokenMap:
        x = tokens.x
        if self.attn is not None:
            x = x + self.drop_path(self.attend(self.norm1(x), tokens))
        y = self.norm2(x)
        if isinstance(self.mlp, TokenDepthwiseMLP):
            y = tokens.with_tokens(y)
        return tokens.with_tokens(x + self.drop_path(self.mlp(y)))

    def attend(self, x: Tensor, tokens: TokenMap) -> Tensor:
        if tokens.context is not None:
            score = tokens.context_score if self.add_score else None
            return self.attn(x, self.norm1(tokens.context), score)
        return self.attn(x, tokens.with_tokens(x).to_map() if self.attn.reduces else x)


class TokenDepthwiseMLP(DepthwiseMLP):
    """TCFormer's MLP: the depth-wise convolution runs on the feature map of the tokens.

    A depth-wise 1x1 convolution without bias keeps what is each token's own.

    Args:
        channels: Width of input and output.
        ratio: Width of the hidden layer, in multiples of ``channels``.
        relu: Whether a ReLU precedes the convolution.

    Shape: :class:`~spm_mm.ops.TokenMap` of (B, N, C) to tokens (B, N, C).
    """

    def __init__(self, channels: int, ratio: float, relu: bool = False) -> None:
        super().__init__(channels, ratio, shortcut=False, relu=relu)
        hidden = self.fc1.out_features
        self.skip = nn.Conv1d(hidden, hidden, 1, groups=hidden, bias=False)

    def forward(self, tokens: TokenMap) -> Tensor:
        x = self.relu(self.fc1(tokens.x))
        tokens = tokens.with_tokens(x)
        mixed = tokens.from_map(conv_on_map(self.dwconv, tokens.to_map()))
        return self.project(mixed + self.skip(x.transpose(1, 2)).transpose(1, 2))
