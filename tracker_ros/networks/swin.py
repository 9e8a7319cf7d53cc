# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Attention within windows (Swin Transformer, Liu et al., ICCV 2021), with its tensor names.

Shapes: B batch, W windows of an image, C channels. Maps are (B, side, side, C), their side a
multiple of `WINDOW`. Windows are cut and moved by slices, transpositions and sizes that are
known, which every inference library takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tracker_ros.networks.layers import Mlp, PatchEmbed

WINDOW = 7
"""Tokens per side of a window."""
PATCH_PX = 4
HEAD_DEPTH = 32
"""Channels of an attention head."""
Others = tuple[Tensor, Tensor]
"""Keys and values of tokens outside the image, each (B, 49, C)."""
_SHIFT = WINDOW // 2
_APART = -100.0
"""Added to the attention of tokens that a shift has put side by side."""


class WindowAttention(nn.Module):
    """Multi-head attention of the tokens of a window, by content and by where they are."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.dim, self.heads = dim, heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        places = (2 * WINDOW - 1) ** 2
        self.relative_position_bias_table = nn.Parameter(torch.zeros(places, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        # Stored in the checkpoints, though it is fixed.
        self.relative_position_index: Tensor
        self.register_buffer('relative_position_index', _relative_places())

    def bias(self) -> Tensor:
        """What is added to the attention of each pair of tokens: (H, 49, 49)."""
        index = self.relative_position_index
        pairs = self.relative_position_bias_table[index.flatten()]
        return pairs.reshape(WINDOW**2, WINDOW**2, self.heads).permute(2, 0, 1)

    def forward(
        self, windows: Tensor, count: int, mask: Tensor | None = None, others: Others | None = None
    ) -> Tensor:
        """(B, W, 49, C) to the same, for `count` = W; mask (W, 49, 49) is added.

        `others` are further tokens that those of every window look at.
        """
        heads, depth = self.heads, self.dim // self.heads
        query, key, value = (
            functional.linear(windows, weight, bias).reshape(-1, count, WINDOW**2, heads, depth)
            for weight, bias in zip(*self._weights(), strict=True)
        )
        query, value = query.transpose(2, 3), value.transpose(2, 3)
        match = query @ key.permute(0, 1, 3, 4, 2) + self.bias()
        if mask is not None:
            match = match + mask[:, None]
        seen = self._joined(query, match, value, others)
        return self.proj(seen.transpose(2, 3).reshape(-1, count, WINDOW**2, self.dim))

    def key_value(self, tokens: Tensor) -> Others:
        """Of tokens (B, 49, C) that others look at, each (B, 49, C)."""
        weights, biases = self._weights()
        key, value = (functional.linear(tokens, weights[n], biases[n]) for n in (1, 2))
        return key, value

    def _joined(
        self, query: Tensor, match: Tensor, value: Tensor, others: Others | None
    ) -> Tensor:
        """What is seen in the window, and in `others`: (B, W, H, 49, D)."""
        if others is None:
            return match.softmax(dim=-1) @ value
        shape = (-1, 1, WINDOW**2, self.heads, self.dim // self.heads)
        other_key, other_value = (part.reshape(shape) for part in others)
        beside = query @ other_key.permute(0, 1, 3, 4, 2)
        share = torch.cat([match, beside], dim=-1).softmax(dim=-1)
        inside = share[..., : WINDOW**2] @ value
        return inside + share[..., WINDOW**2 :] @ other_value.transpose(2, 3)

    def _weights(self) -> tuple[list[Tensor], list[Tensor]]:
        """Of query, key and value; the attention's scale is in those of the query."""
        scale, dim = (self.dim // self.heads) ** -0.5, self.dim
        parts = slice(dim), slice(dim, 2 * dim), slice(2 * dim, None)
        weights, biases = ([both[part] for part in parts] for both in self.qkv.parameters())
        return [weights[0] * scale, *weights[1:]], [biases[0] * scale, *biases[1:]]


class SwinBlock(nn.Module):
    """Pre-norm transformer block whose attention stays within windows.

    Every other block has its windows moved by half of their size, so that they join what those
    of the block before it kept apart.
    """

    def __init__(self, dim: int, heads: int, moved: bool, sides: Sequence[int]) -> None:
        """`sides`: of all maps that the block will see."""
        super().__init__()
        self.dim, self.moved = dim, moved
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)
        # What training does to both branches.
        self.branch: nn.Module = nn.Identity()
        for side in sides:
            if self._moves(side):
                self.register_buffer(f'mask_{side}', _moved_mask(side), persistent=False)

    def _moves(self, side: int) -> bool:
        # A single window has nothing beside it.
        return self.moved and side > WINDOW

    def forward(self, plane: Tensor, side: int, others: Others | None = None) -> Tensor:
        """(B, side, side, C) to the same; `others` are seen from every window."""
        plane = plane + self.branch(self.attend(self.norm1(plane), side, others))
        return plane + self.branch(self.mlp(self.norm2(plane)))

    def attend(self, plane: Tensor, side: int, others: Others | None) -> Tensor:
        count = (side // WINDOW) ** 2
        if not self._moves(side):
            windows = cut_windows(plane, side, self.dim)
            return join_windows(self.attn(windows, count, None, others), side, self.dim)
        windows = cut_windows(rolled(plane, _SHIFT), side, self.dim)
        seen = self.attn(windows, count, self.get_buffer(f'mask_{side}'), others)
        return rolled(join_windows(seen, side, self.dim), side - _SHIFT)


class PatchMerging(nn.Module):
    """Four neighbours become one token of twice the width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, plane: Tensor, side: int) -> Tensor:
        """(B, side, side, C) to (B, side / 2, side / 2, 2 C)."""
        half = side // 2
        # Column by column, as the published weights have the four.
        cells = plane.reshape(-1, half, 2, half, 2, self.dim).permute(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(cells.reshape(-1, half, half, 4 * self.dim)))


class Stage(nn.Module):
    """Blocks at one resolution, and the way to the next."""

    def __init__(
        self, dim: int, depth: int, heads: int, sides: Sequence[int], merges: bool
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(dim, heads, place % 2 == 1, sides) for place in range(depth)
        )
        self.downsample = PatchMerging(dim) if merges else None

    def own_blocks(self) -> list[SwinBlock]:
        return cast('list[SwinBlock]', list(self.blocks))

    def forward(self, plane: Tensor, side: int) -> tuple[Tensor, int]:
        for block in self.own_blocks():
            plane = block(plane, side)
        if self.downsample is None:
            return plane, side
        return self.downsample(plane, side), side // 2


class NormedPatches(PatchEmbed):
    """Patches with a norm behind them: (B, 3, S, S) to (B, (S / 4)^2, C)."""

    def __init__(self, dim: int) -> None:
        super().__init__(PATCH_PX, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(super().forward(image))


class Swin(nn.Module):
    """Stages of blocks, each at half the resolution and twice the width of the one before."""

    def __init__(
        self, dim: int, depths: Sequence[int], heads: Sequence[int], images_px: Sequence[int]
    ) -> None:
        """`dim` and the first of `heads`: of the first stage. `images_px`: sides of all images."""
        super().__init__()
        self.dim = dim
        self.patch_embed = NormedPatches(dim)
        self.layers = nn.ModuleList(
            Stage(
                dim << stage,
                depth,
                heads[stage],
                [side // PATCH_PX >> stage for side in images_px],
                merges=stage + 1 < len(depths),
            )
            for stage, depth in enumerate(depths)
        )

    def stages(self) -> list[Stage]:
        return cast('list[Stage]', list(self.layers))

    def forward(self, image: Tensor, side_px: int) -> Tensor:
        """(B, 3, S, S) to tokens (B, N, C) of the last stage, row by row; `side_px` is S."""
        side = side_px // PATCH_PX
        plane = self.patch_embed(image).reshape(-1, side, side, self.dim)
        for stage in self.stages():
            plane, side = stage(plane, side)
        return plane.reshape(-1, side**2, self.dim << len(self.layers) - 1)


def cut_windows(plane: Tensor, side: int, dim: int) -> Tensor:
    """(B, side, side, C) to (B, W, 49, C), row by row, for `dim` = C."""
    count = side // WINDOW
    cells = plane.reshape(-1, count, WINDOW, count, WINDOW, dim)
    return cells.transpose(2, 3).reshape(-1, count**2, WINDOW**2, dim)


def join_windows(windows: Tensor, side: int, dim: int) -> Tensor:
    """The opposite of `cut_windows`."""
    count = side // WINDOW
    cells = windows.reshape(-1, count, count, WINDOW, WINDOW, dim)
    return cells.transpose(2, 3).reshape(-1, side, side, dim)


def rolled(plane: Tensor, by: int) -> Tensor:
    """A map moved up and to the left, what leaves it coming in again on the other side."""
    plane = torch.cat([plane[:, by:], plane[:, :by]], dim=1)
    return torch.cat([plane[:, :, by:], plane[:, :, :by]], dim=2)


def _relative_places() -> Tensor:
    """For each pair of tokens of a window, the row of the bias table: (49, 49)."""
    place = torch.arange(WINDOW**2)
    row, column = place.div(WINDOW, rounding_mode='floor'), place.remainder(WINDOW)
    down, across = (line[:, None] - line[None, :] + WINDOW - 1 for line in (row, column))
    return down * (2 * WINDOW - 1) + across


def _moved_mask(side: int) -> Tensor:
    """(W, 49, 49): `_APART` for tokens of a moved window that are no neighbours in the image."""
    # Of the rows and columns of a moved map, the last of each window's size come from elsewhere.
    part = torch.zeros(side)
    part[side - WINDOW :], part[side - _SHIFT :] = 1, 2
    parts = cut_windows((3 * part[:, None] + part)[None, :, :, None], side, 1)[0, :, :, 0]
    return _APART * (parts[:, :, None] != parts[:, None, :]).float()
