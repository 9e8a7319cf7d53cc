# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Heads that several of the papers share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CORNERS = ('tl', 'br')
"""Top left and bottom right, as the tensors of a corner head are named."""


class CornerHead(nn.Module):
    """A box from two heat maps, one for each corner (STARK, section 3.2).

    Five convolutions give a score for each cell, a softmax over all cells a distribution, its
    expectation the corner.
    """

    def __init__(self, grid: int, channels: int = 256) -> None:
        """`grid`: cells per side of the features (B, channels, grid, grid)."""
        super().__init__()
        self.grid = grid
        widths = [channels, channels, channels // 2, channels // 4, channels // 8]
        for corner in CORNERS:
            for place in range(4):
                self.add_module(
                    f'conv{place + 1}_{corner}', _convolution(widths[place], widths[place + 1])
                )
            self.add_module(f'conv5_{corner}', nn.Conv2d(widths[4], 1, kernel_size=1))
        # Cell i stands for the coordinate i / grid: there is no half cell.
        self.positions: Tensor
        self.register_buffer(
            'positions', torch.arange(grid, dtype=torch.float32) / grid, persistent=False
        )

    def scores(self, features: Tensor, corner: str) -> Tensor:
        """The heat map (B, 1, grid, grid) of a corner, before the softmax."""
        for place in range(5):
            features = self.get_submodule(f'conv{place + 1}_{corner}')(features)
        return features

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (B, 4) cx, cy, w, h as fractions of the crop, and both distributions.

        The latter are (B, 2, grid, grid), in the order of `CORNERS`.
        """
        scores = torch.cat([self.scores(features, corner) for corner in CORNERS], dim=1)
        shares = scores.flatten(2).softmax(dim=-1).view(-1, 2, self.grid, self.grid)
        left, right = (shares.sum(dim=2) @ self.positions).unbind(dim=1)
        top, bottom = (shares.sum(dim=3) @ self.positions).unbind(dim=1)
        boxes = torch.stack(
            [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], dim=1
        )
        return boxes, shares


def _convolution(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, kernel_size=3, padding=1),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
    )
