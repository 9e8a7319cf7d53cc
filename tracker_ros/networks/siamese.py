# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What Siamese trackers share: channels of several layers made equal, and correlation.

Shapes: B batch, C channels, H, W and h, w the sides of search and template features.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

FIRST_LAYER = 2
"""The backbone's stages count from 0; the official names of the neck begin with stage 2."""


def centre_crop(features: Tensor, side: int) -> Tensor:
    """The middle (B, C, side, side) of square features; of 15 cells and `side` 7 cells 4 to 10."""
    first = (features.shape[-1] - side) // 2
    return features[..., first : first + side, first : first + side]


class AdjustLayer(nn.Module):
    """1 x 1 convolution to a common number of channels, normalised, without activation."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.downsample = nn.Sequential(
            nn.Conv2d(channels, dim, kernel_size=1, bias=False), nn.BatchNorm2d(dim)
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.downsample(features)


class AdjustNeck(nn.Module):
    """One `AdjustLayer` for each of `channels`, named downsample2, downsample3 and so on."""

    def __init__(self, channels: Sequence[int], dim: int = 256) -> None:
        super().__init__()
        self._names = [f'downsample{FIRST_LAYER + place}' for place in range(len(channels))]
        for name, count in zip(self._names, channels, strict=True):
            self.add_module(name, AdjustLayer(count, dim))

    def forward(
        self, features: Sequence[Tensor], crop: int | None = None, first: int = 0
    ) -> list[Tensor]:
        """Features (B, channels, H, W) of several levels to (B, dim, H, W) each.

        `crop` keeps only the middle (crop x crop) of a template's features. `first` is the place
        of the layer for the first of `features`, where template and search have their own.
        """
        names = self._names[first : first + len(features)]
        if crop is not None:
            # Every cell is computed by itself: what is cut off need not be computed.
            features = [centre_crop(level, crop) for level in features]
        return [
            self.get_submodule(name)(level) for name, level in zip(names, features, strict=True)
        ]


def xcorr_depthwise(search: Tensor, kernel: Tensor) -> Tensor:
    """Correlate each channel of (B, C, H, W) with that of (B, C, h, w), without padding.

    Returns (B, C, H - h + 1, W - w + 1). Each target of the batch has its own kernel.
    """
    if torch.onnx.is_in_onnx_export():
        return shifted_xcorr(search, kernel)
    batch, channels = kernel.shape[:2]
    together = functional.conv2d(
        search.reshape(1, batch * channels, *search.shape[2:]),
        kernel.reshape(batch * channels, 1, *kernel.shape[2:]),
        groups=batch * channels,
    )
    return together.reshape(batch, channels, *together.shape[2:])


def shifted_xcorr(search: Tensor, kernel: Tensor) -> Tensor:
    """The same as a sum of shifted products, for graphs.

    Inference libraries want the weights of a convolution, and its number of groups, before they
    know the target and the batch.
    """
    channels, rows, columns = map(int, kernel.shape[1:])
    height, width = map(int, search.shape[2:])
    out_height, out_width = height - rows + 1, width - columns + 1
    # Rows end to end: a shift by rows and columns is then a shift along the line. The last cells
    # of each row, where the kernel would hang over, are cut off at the end.
    line = search.reshape(-1, channels, height * width)
    taps = kernel.reshape(-1, channels, rows * columns)
    length = (out_height - 1) * width + out_width
    products = [
        line[..., row * width + column : row * width + column + length] * taps[..., tap : tap + 1]
        for tap, (row, column) in enumerate(itertools.product(range(rows), range(columns)))
    ]
    total = functools.reduce(torch.add, products)
    # The last row lacks these cells; any will do.
    total = torch.cat([total, total[..., : width - out_width]], dim=2)
    return total.reshape(-1, channels, out_height, width)[..., :out_width]
