# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ResNet-50 as Siamese trackers use it (He et al. 2016; SiamRPN++, section 3).

The last two stages keep the resolution of the second and widen their view by dilation, so that
all three have a stride of 8. Convolutions that reduce do so without padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512)
"""Of the four stages of blocks; each gives four times as many channels."""
BLOCKS = (3, 4, 6, 3)


def cells_of(image_px: int) -> tuple[int, int, int]:
    """Sides of the features of an image: of the first stage, the second, and all deeper ones."""
    first = (image_px - 7) // 2 + 1
    second = (first - 1) // 2 + 1
    return first, second, (second - 3) // 2 + 1


@dataclass(frozen=True, slots=True)
class Features:
    """What the stages give for (B, 3, S, S); sides for S = 255 and S = 127.

    conv1: (B, 64, 125 or 61, same), after normalisation and ReLU.
    layer1: (B, 256, 63 or 31, same).
    deep: (B, 512, 31 or 15, same) of layer2, (B, 1024, ...) of layer3, (B, 2048, ...) of layer4.
    """

    conv1: Tensor
    layer1: Tensor
    deep: tuple[Tensor, Tensor, Tensor]


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions beside a shortcut."""

    def __init__(
        self,
        channels: int,
        width: int,
        stride: int = 1,
        dilation: int = 1,
        shortcut: nn.Sequential | None = None,
    ) -> None:
        super().__init__()
        out = 4 * width
        # With a stride of 2 there is no padding: 63 cells become 31.
        padding = dilation if stride == 1 else 0
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = shortcut

    def forward(self, features: Tensor) -> Tensor:
        inner = torch.relu(self.bn1(self.conv1(features)))
        inner = torch.relu(self.bn2(self.conv2(inner)))
        inner = self.bn3(self.conv3(inner))
        kept = features if self.downsample is None else self.downsample(features)
        return torch.relu(inner + kept)


class ResNet50(nn.Module):
    """Images (B, 3, S, S) to the features of all stages."""

    def __init__(self, widths: Sequence[int] = WIDTHS, blocks: Sequence[int] = BLOCKS) -> None:
        """Other numbers than those of ResNet-50 are for tests."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 7, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(widths[0], widths[0], blocks[0])
        self.layer2 = _stage(4 * widths[0], widths[1], blocks[1], stride=2)
        self.layer3 = _stage(4 * widths[1], widths[2], blocks[2], dilation=2)
        self.layer4 = _stage(4 * widths[2], widths[3], blocks[3], dilation=4)

    def forward(self, image: Tensor) -> Features:
        conv1 = torch.relu(self.bn1(self.conv1(image)))
        layer1 = self.layer1(self.pool(conv1))
        layer2 = self.layer2(layer1)
        layer3 = self.layer3(layer2)
        return Features(conv1, layer1, (layer2, layer3, self.layer4(layer3)))


def _stage(
    channels: int, width: int, blocks: int, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """The first block reduces or begins to dilate, by half of what the others do."""
    out = 4 * width
    first = max(1, dilation // 2)
    plain = stride == 1 and dilation == 1
    shortcut = nn.Sequential(
        nn.Conv2d(
            channels,
            out,
            kernel_size=1 if plain else 3,
            stride=stride,
            padding=0 if plain or stride == 2 else first,
            dilation=first,
            bias=False,
        ),
        nn.BatchNorm2d(out),
    )
    others = (Bottleneck(out, width, dilation=dilation) for _ in range(blocks - 1))
    return nn.Sequential(Bottleneck(channels, width, stride, first, shortcut), *others)
