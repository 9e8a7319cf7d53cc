# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Heads that several of the papers share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CORNERS = ('tl', 'br')
"""Top left and bottom right, as the tensors of a corner head are named."""


class CornerHead(nn.Module):
    """A box from two heat maps, one for each corner (STARK, section 3.2).

    Five convolutions give a score for each cell, a softmax over all cells a distribution, its
    expectation the corner.
    """

    def __init__(self, grid: int, channels: int = 256, inside: int | None = None) -> None:
        """`grid`: cells per side of the maps. `inside`: channels of the features, if others."""
        super().__init__()
        self.grid = grid
        widths = [inside or channels, channels, channels // 2, channels // 4, channels // 8]
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


class PyramidCornerHead(CornerHead):
    """A corner head whose maps have four times as many cells per side as the features.

    That of MixViT where MixFormerV2 learns from it (MixFormerV2, sections 3.2.1 and 4.1).
    On the way up the features are seen once more at each resolution, and what was found at the
    lower ones is added to the map.
    """

    scale = 4

    def __init__(self, grid: int, channels: int, inside: int) -> None:
        """`grid`: cells per side of the features (B, inside, grid, grid)."""
        super().__init__(self.scale * grid, channels, inside)
        half, quarter, eighth = (channels // part for part in (2, 4, 8))
        for corner in CORNERS:
            self.add_module(f'adjust1_{corner}', _convolution(inside, half))
            self.add_module(f'adjust2_{corner}', _convolution(inside, quarter))
            # Up to a map; the last convolution has a norm and an activation, too.
            of_middle = [_convolution(quarter, eighth), _convolution(eighth, 1)]
            of_coarse = [_convolution(half, quarter), _convolution(quarter, eighth)]
            self.add_module(
                f'adjust3_{corner}', nn.Sequential(*of_coarse, _convolution(eighth, 1))
            )
            self.add_module(f'adjust4_{corner}', nn.Sequential(*of_middle))

    def scores(self, features: Tensor, corner: str) -> Tensor:
        """The heat map (B, 1, 4 grid, 4 grid) of a corner, before the softmax."""

        def through(name: str, values: Tensor) -> Tensor:
            return self.get_submodule(f'{name}_{corner}')(values)

        coarse = through('conv2', through('conv1', features))
        middle = through('conv3', _enlarged(coarse + through('adjust1', features), 2))
        again = _enlarged(through('adjust2', features), 2)
        fine = through('conv4', _enlarged(middle + again, 2))
        lower = _enlarged(through('adjust3', coarse), 4) + _enlarged(through('adjust4', middle), 2)
        return through('conv5', fine) + lower


class PerceptronHead(nn.Module):
    """Three linear layers, the same for every token."""

    def __init__(self, inside: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Linear(inside, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, outputs)]
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, inside) to (B, N, outputs)."""
        for layer in list(self.layers)[:-1]:
            tokens = layer(tokens).relu()
        return self.layers[-1](tokens)


def _enlarged(features: Tensor, times: int) -> Tensor:
    """Each cell as `times` x `times` cells."""
    return functional.interpolate(features, scale_factor=times)


def _convolution(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, kernel_size=3, padding=1),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
    )
