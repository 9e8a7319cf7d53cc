# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pieces that several of the papers share: attention, transformer block, patches, positions.

Shapes: B batch, N tokens, C channels, H heads, D = C / H.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """(B, N, C) to (B, H, N, D)."""
    # Whole numbers: in a graph only the batch is of any size.
    count, channels = map(int, tokens.shape[1:])
    return tokens.reshape(-1, count, heads, channels // heads).transpose(1, 2)


def merge_heads(tokens: Tensor) -> Tensor:
    """(B, H, N, D) to (B, N, C)."""
    heads, count, depth = map(int, tokens.shape[1:])
    return tokens.transpose(1, 2).reshape(-1, count, heads * depth)


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention of (B, H, Nq, D) on (B, H, Nk, D); returns (B, H, Nq, D)."""
    scale = int(query.shape[-1]) ** -0.5
    return functional.scaled_dot_product_attention(query, key, value, scale=scale)


class Mlp(nn.Module):
    """Two linear layers with an activation between: the feed-forward part of a block."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(tokens)))


class PatchEmbed(nn.Module):
    """An image cut into patches, each one token: (B, 3, S, S) to (B, (S / patch)^2, C)."""

    def __init__(self, patch: int, dim: int, bias: bool = True) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch, stride=patch, bias=bias)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).flatten(2).transpose(1, 2)


def sine_positions(side: int, dim: int) -> Tensor:
    """Fixed 2-D sine-cosine positions of MAE: (1, side * side, dim), tokens row by row.

    The first half of the channels encodes the column, the second the row; each half holds
    sines, then cosines, at frequencies 10000^(-i / (dim / 4)).
    """
    quarter = dim // 4
    frequency = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    phase = torch.arange(side, dtype=torch.float64)[:, None] * frequency
    line = torch.cat([phase.sin(), phase.cos()], dim=1)
    columns = line[None, :, :].expand(side, side, -1)
    rows = line[:, None, :].expand(side, side, -1)
    return torch.cat([columns, rows], dim=2).reshape(1, side * side, dim).float()
