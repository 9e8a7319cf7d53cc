# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pyramid vision transformer (Wang et al., ICCV 2021), with its tensor names, for two images.

All tokens of a stage look at few: each image's tokens are reduced before they become keys and
values. Here those of a second image, the target's, stand beside those of the first.

Shapes: B batch, Nx and Nz tokens of the two images, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tracker_ros.networks.layers import Mlp, PatchEmbed, attention, merge_heads, split_heads


def merged(convolution: nn.Conv2d, tokens: Tensor, side: int) -> Tensor:
    """A convolution whose squares do not overlap: (B, side^2, C) to (B, (side / ratio)^2, C').

    As a product of matrices, for which tokens need not become a map. (OpenVINO 2026.4 computes
    something else where they do, with a batch of one.)
    """
    ratio, inside = convolution.kernel_size[0], convolution.in_channels
    count = side // ratio
    cells = tokens.reshape(-1, count, ratio, count, ratio * inside).transpose(2, 3)
    squares = cells.reshape(-1, count**2, ratio**2 * inside)
    weight = convolution.weight.permute(0, 2, 3, 1).reshape(-1, ratio**2 * inside)
    return functional.linear(squares, weight, convolution.bias)


class Reduction(nn.Module):
    """One token for each square of `ratio` x `ratio`: (B, side^2, C) to (B, (side/ratio)^2, C)."""

    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.dim = dim
        # A ratio of 1 leaves the tokens as they are, norm and all.
        self.sr = nn.Conv2d(dim, dim, ratio, ratio) if ratio > 1 else None
        self.norm = nn.LayerNorm(dim) if ratio > 1 else None

    def forward(self, tokens: Tensor, side: int) -> Tensor:
        if self.sr is None or self.norm is None:
            return tokens
        return self.norm(merged(self.sr, tokens, side))


class JointAttention(Reduction):
    """All tokens of both images look at the reduced tokens of both."""

    def __init__(self, dim: int, heads: int, ratio: int) -> None:
        super().__init__(dim, ratio)
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        # The second image is smaller; at half the ratio as many of its tokens are left.
        self.second = Reduction(dim, max(ratio // 2, 1))

    def attend(
        self, asking: Tensor, first: Tensor, second: Tensor, sides: tuple[int, int]
    ) -> Tensor:
        """What `asking` tokens (B, N, C) see in the first (B, Nx, C) and the second (B, Nz, C)."""
        few = torch.cat([self(first, sides[0]), self.second(second, sides[1])], dim=1)
        both = self.kv(few)
        parts = self.q(asking), both[..., : self.dim], both[..., self.dim :]
        seen = attention(*(split_heads(part, self.heads) for part in parts))
        return self.proj(merge_heads(seen))


class Block(nn.Module):
    """Pre-norm transformer block over the tokens of both images."""

    def __init__(self, dim: int, heads: int, ratio: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = JointAttention(dim, heads, ratio)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, mlp_ratio * dim)

    def forward(
        self, first: Tensor, second: Tensor, sides: tuple[int, int], first_alone: bool = False
    ) -> tuple[Tensor, Tensor]:
        """(B, Nx, C) and (B, Nz, C) to the same; `first_alone`: the second is not carried on."""
        normed = self.norm1(first), self.norm1(second)
        tokens, asking = first, normed[0]
        if not first_alone:
            tokens, asking = torch.cat([first, second], dim=1), torch.cat(normed, dim=1)
        tokens = tokens + self.attn.attend(asking, *normed, sides)
        tokens = tokens + self.mlp(self.norm2(tokens))
        count = sides[0] ** 2
        return tokens[:, :count], tokens[:, count:]


class NormedPatches(PatchEmbed):
    """Patches with a norm behind them: of an image, or of tokens."""

    def __init__(self, patch: int, inside: int, dim: int) -> None:
        super().__init__(patch, dim)
        self.proj = nn.Conv2d(inside, dim, patch, patch)
        self.norm = nn.LayerNorm(dim)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, (S / patch)^2, C)."""
        return self.norm(super().forward(image))

    def of_tokens(self, tokens: Tensor, side: int) -> Tensor:
        """(B, side^2, C) to (B, (side / patch)^2, C')."""
        return self.norm(merged(self.proj, tokens, side))
