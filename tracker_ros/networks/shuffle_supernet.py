# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The convolutional supernet of VLT: four candidate blocks in each layer, one of them taken.

The search space is that of Single Path One-Shot (Guo et al., ECCV 2020): ShuffleNet blocks with
kernels of 3, 5 and 7 pixels and a ShuffleNet-Xception block (VLT, table 1). A *path* says which
block each layer takes. Template and search images take different paths through one supernet and
share the weights where both choose the same block (section 3.2).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

CANDIDATES = 4
XCEPTION = 3
_KERNELS = (3, 5, 7, 3)

Path = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stages:
    """The sizes of a supernet; the standard values are those of the paper (table 9).

    By stage: layers, channels, and the stride of its first layer. The stem has a stride of 2.
    """

    stem: int = 16
    layers: tuple[int, ...] = (4, 4, 8, 4)
    channels: tuple[int, ...] = (64, 160, 320, 640)
    strides: tuple[int, ...] = (2, 2, 1, 1)

    @property
    def ends(self) -> tuple[int, ...]:
        """By stage: the number of the first layer after it."""
        return tuple(itertools.accumulate(self.layers))


STAGES = Stages()


@dataclass(frozen=True, slots=True)
class Used:
    """The candidates that exist in each layer; those that no path takes may be left out."""

    layers: tuple[Collection[int], ...]
    extra: bool = False
    """Whether the classifier of the supernet's pretraining is there; no tracker uses it."""

    @classmethod
    def all(cls, layers: int, extra: bool = False) -> Used:
        """Every candidate of so many layers."""
        return cls((range(CANDIDATES),) * layers, extra)

    @classmethod
    def by(cls, *paths: Path) -> Used:
        """Those that one of the paths takes."""
        return cls(tuple(sorted(set(taken)) for taken in zip(*paths, strict=True)))


class ShuffleUnit(nn.Module):
    """One candidate block. Its convolutions have no bias, its norms no weights of their own.

    Inside a stage it works on every other channel and hands the rest on untouched; the first
    layer of a stage (`opens`) sends all channels through two branches. Either way what was not
    in the main branch comes first in the output.
    """

    def __init__(
        self, kind: int, channels_in: int, channels_out: int, stride: int, opens: bool
    ) -> None:
        super().__init__()
        self.opens = opens
        taken = channels_in if opens else channels_in // 2
        middle, made = channels_out // 2, channels_out - taken
        kernel = _KERNELS[kind]
        if kind == XCEPTION:
            self.branch_main = nn.Sequential(
                *_depthwise(taken, kernel, stride),
                *_pointwise(taken, middle),
                *_depthwise(middle, kernel),
                *_pointwise(middle, middle),
                *_depthwise(middle, kernel),
                *_pointwise(middle, made),
            )
        else:
            self.branch_main = nn.Sequential(
                *_pointwise(taken, middle),
                *_depthwise(middle, kernel, stride),
                *_pointwise(middle, made),
            )
        if opens:
            self.branch_proj = nn.Sequential(
                *_depthwise(taken, kernel, stride), *_pointwise(taken, taken)
            )

    def forward(self, feature: Tensor) -> Tensor:
        if self.opens:
            return torch.cat([self.branch_proj(feature), self.branch_main(feature)], dim=1)
        kept, taken = split_alternately(feature)
        return torch.cat([kept, self.branch_main(taken)], dim=1)


def split_alternately(feature: Tensor) -> tuple[Tensor, Tensor]:
    """The channels 0, 2, 4 ... and 1, 3, 5 ... of (B, C, H, W).

    As a transposition: inference libraries copy channels one by one where they are to skip some.
    """
    channels, height, width = map(int, feature.shape[1:])
    half = channels // 2
    pairs = feature.reshape(-1, half, 2, height, width).transpose(1, 2)
    turned = pairs.reshape(-1, channels, height, width)
    return turned[:, :half], turned[:, half:]


class ShuffleSupernet(nn.Module):
    """Stem and four stages (table 9); strides of 4 after the first and 8 after all others."""

    def __init__(self, used: Used, stages: Stages = STAGES) -> None:
        super().__init__()
        self.stages = stages
        self.first_conv = nn.Sequential(
            nn.Conv2d(3, stages.stem, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(stages.stem, affine=False),
            nn.ReLU(),
        )
        self.features = nn.ModuleList()
        channels_in = stages.stem
        for stage, channels in enumerate(stages.channels):
            for place in range(stages.layers[stage]):
                self.features.append(
                    candidates(
                        used.layers[len(self.features)],
                        channels_in,
                        channels,
                        stride=1 if place else stages.strides[stage],
                        opens=not place,
                    )
                )
                channels_in = channels
        if used.extra:
            self.conv_last = nn.Sequential(
                nn.Conv2d(channels_in, 1024, 1, bias=False), nn.BatchNorm2d(1024, affine=False)
            )
            self.classifier = nn.Sequential(nn.Linear(1024, 1000, bias=False))

    def block(self, layer: int, path: Sequence[int]) -> nn.Module:
        """The candidate that a path takes in a layer."""
        return candidate(self.features[layer], path[layer])


def candidates(
    kinds: Collection[int], channels_in: int, channels_out: int, stride: int, opens: bool
) -> nn.ModuleDict:
    """Blocks of equal shapes, named by their kind."""
    return nn.ModuleDict(
        {str(kind): ShuffleUnit(kind, channels_in, channels_out, stride, opens) for kind in kinds}
    )


def candidate(choices: nn.Module, kind: int) -> nn.Module:
    assert isinstance(choices, nn.ModuleDict)
    return choices[str(kind)]


def _pointwise(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, 1, bias=False),
        nn.BatchNorm2d(channels_out, affine=False),
        nn.ReLU(),
    ]


def _depthwise(channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(
            channels,
            channels,
            kernel,
            stride=stride,
            padding=kernel // 2,
            groups=channels,
            bias=False,
        ),
        nn.BatchNorm2d(channels, affine=False),
    ]
