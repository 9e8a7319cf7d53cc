# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Convolution and pooling at places that the network chooses (Dai et al. 2017).

Both read features between the cells with one bilinear sampling, an operator that every inference
library has. Coordinates are cells: (0, 0) is the middle of the first. They are computed in fp32,
whatever the features are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

TAPS = 9


def sample(features: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Square features (B, C, S, S) at x and y (B, N, M), bilinear, zero outside: (B, C, N, M)."""
    half = (features.shape[-1] - 1) / 2
    grid = torch.stack([x, y], dim=-1) / half - 1
    return functional.grid_sample(
        features, grid.to(features.dtype), padding_mode='zeros', align_corners=True
    )


class DeformableConv(nn.Module):
    """3 x 3 convolution with padding; each tap of each cell is moved by an offset."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.weight = nn.Parameter(torch.empty(dim, dim, 3, 3))
        nn.init.kaiming_uniform_(self.weight)
        self.conv_offset = nn.Conv2d(dim, 2 * TAPS, 3, padding=1)
        # As a plain convolution to begin with.
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.constant_(self.conv_offset.get_parameter('bias'), 0.0)

    def forward(self, features: Tensor, side: int) -> Tensor:
        """(B, C, side, side) to the same shape."""
        # (dy, dx) of each tap, taps row by row.
        offsets = self.conv_offset(features).float().reshape(-1, TAPS, 2, side * side)
        cell = torch.arange(side * side, device=features.device)
        tap = torch.arange(TAPS, device=features.device)[:, None]
        # Cell and tap add up before the offset does, while they are whole numbers.
        x = (cell % side + tap % 3 - 1) + offsets[:, :, 1]
        y = (cell // side + tap // 3 - 1) + offsets[:, :, 0]
        columns = sample(features, x, y).reshape(-1, self.dim * TAPS, side * side)
        found = self.weight.reshape(self.dim, -1) @ columns
        return found.reshape(-1, self.dim, side, side)


class DeformableRoiPool(nn.Module):
    """Features in a box as `side` x `side` bins, each moved by an offset found in a first look.

    Every bin is the mean of 4 x 4 samples. Those outside of the features are left out.
    """

    SAMPLES = 4
    SHIFT = 0.1
    """An offset of 1 moves a bin by this part of the box."""

    def __init__(self, dim: int, side: int, cells: int, image_px: int, hidden: int = 1024) -> None:
        """`cells` is the side of the features, `image_px` that of the image they are of."""
        super().__init__()
        self.dim, self.side, self.cells = dim, side, cells
        self.scale = cells / image_px
        self.offset_fc = nn.Sequential(
            nn.Linear(dim * side * side, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 2 * side * side),
        )

    def forward(self, features: Tensor, rois: Tensor, each: int = 1) -> Tensor:
        """(B, C, cells, cells) and boxes (B, 4) x1, y1, x2, y2 in pixels: (B, C, side, side).

        each: boxes of one image; there are B x each of them, those of an image side by side.
        """
        offsets = self.offsets(self.pool(features, rois, None, each))
        return self.pool(features, rois, offsets, each)

    def offsets(self, pooled: Tensor) -> Tensor:
        """(B, C, side, side) of the first look to offsets (B, 2, side, side), x and y."""
        flat = pooled.reshape(-1, self.dim * self.side * self.side)
        return self.offset_fc(flat).reshape(-1, 2, self.side, self.side)

    def pool(
        self, features: Tensor, rois: Tensor, offsets: Tensor | None = None, each: int = 1
    ) -> Tensor:
        """As `forward`, with these offsets or, without any, as a first look."""
        # Corners are taken to whole pixels, halves away from zero; the last pixel is inside.
        rois = rois.float()
        corners = torch.sign(rois) * torch.floor(rois.abs() + 0.5)
        start = corners[:, :2] * self.scale - 0.5
        size = ((corners[:, 2:] + 1) * self.scale - 0.5 - start).clamp(min=0.1)
        shares = torch.arange(self.side, device=rois.device) / self.side
        shares = torch.stack(
            [shares.expand(self.side, self.side), shares[:, None].expand(self.side, self.side)]
        )[None]
        if offsets is not None:
            shares = shares + offsets.float() * self.SHIFT
        # The first sample of each bin, (B, 2, side, side), and steps that do not reach its end.
        first = start[:, :, None, None] + shares * size[:, :, None, None]
        step = size / (self.side * self.SAMPLES)
        samples = torch.arange(self.SAMPLES, device=rois.device)
        x, y = (
            first[:, axis].reshape(-1, self.side * self.side, 1)
            + samples * step[:, axis, None, None]
            for axis in (0, 1)
        )
        return self._mean(features, x, y, each)

    def _mean(self, features: Tensor, x: Tensor, y: Tensor, each: int) -> Tensor:
        """Mean over the samples at all pairs of x and y that lie in the features.

        x, y: (B x each, bins, 4).
        """
        bins, count = self.side * self.side, self.SAMPLES
        x = x[:, :, None, :].expand(-1, bins, count, count)
        y = y[:, :, :, None].expand(-1, bins, count, count)
        # All the bins of an image are sampled at once.
        x = x.reshape(-1, each * bins, count * count)
        y = y.reshape(-1, each * bins, count * count)
        last = self.cells - 1
        inside = (x >= -0.5) & (x <= last + 0.5) & (y >= -0.5) & (y <= last + 0.5)
        kept = inside[:, None].to(features.dtype)
        values = sample(features, x.clamp(0, last), y.clamp(0, last))
        mean = (values * kept).sum(dim=-1) / kept.sum(dim=-1).clamp(min=1)
        if each > 1:
            mean = mean.reshape(-1, self.dim, each, bins).transpose(1, 2)
        return mean.reshape(-1, self.dim, self.side, self.side)
