# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The matching of SiamRPN++ (Li et al., CVPR 2019): proposals from depth-wise correlation.

Each cell of the correlation has five anchors; for each the head gives two class logits and four
numbers that turn the anchor into a box. Three levels of features are matched, and their answers
added.

Shapes: B batch, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tracker_ros.networks.siamese import xcorr_depthwise

LEVELS = 3
ANCHORS = 5


class DepthwiseXCorr(nn.Module):
    """Depth-wise correlation of template and search features, and what to make of it."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.conv_kernel = _conv_norm_relu(dim, 3)
        self.conv_search = _conv_norm_relu(dim, 3)
        self.head = nn.Sequential(*_conv_norm_relu(dim, 1), nn.Conv2d(dim, out, 1))

    def forward(self, kernel: Tensor, search: Tensor) -> Tensor:
        """(B, C, 7, 7) and (B, C, 31, 31) to (B, out, 25, 25)."""
        return self.match(self.conv_kernel(kernel), search)

    def match(self, prepared: Tensor, search: Tensor) -> Tensor:
        """The same from what `conv_kernel` makes of a template."""
        return self.head(xcorr_depthwise(self.conv_search(search), prepared))


class Proposals(nn.Module):
    """The region proposal network of one level."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.cls = DepthwiseXCorr(dim, 2 * ANCHORS)
        self.loc = DepthwiseXCorr(dim, 4 * ANCHORS)


class MultiRPN(nn.Module):
    """Proposals of all levels as a weighted sum.

    Returns class logits (B, 2 x anchors, 25, 25), those of the background first, and numbers
    for the boxes (B, 4 x anchors, 25, 25): dx, dy, dw, dh.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.cls_weight = nn.Parameter(torch.ones(LEVELS))
        self.loc_weight = nn.Parameter(torch.ones(LEVELS))
        self.rpn2 = Proposals(dim)
        self.rpn3 = Proposals(dim)
        self.rpn4 = Proposals(dim)

    @property
    def levels(self) -> tuple[Proposals, ...]:
        return self.rpn2, self.rpn3, self.rpn4

    def forward(self, kernels: list[Tensor], searches: list[Tensor]) -> tuple[Tensor, Tensor]:
        return self.match(self.prepare(kernels), searches)

    def prepare(self, kernels: list[Tensor]) -> Tensor:
        """All that depends on the template alone: (B, levels x 2 x C, 5, 5)."""
        prepared = [
            branch.conv_kernel(kernel)
            for level, kernel in zip(self.levels, kernels, strict=True)
            for branch in (level.cls, level.loc)
        ]
        return torch.cat(prepared, dim=1)

    def match(self, prepared: Tensor, searches: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The same as `forward` from what `prepare` returned."""
        found: tuple[list[Tensor], list[Tensor]] = ([], [])
        channels = int(searches[0].shape[1])
        for place, (level, search) in enumerate(zip(self.levels, searches, strict=True)):
            for kind, branch in enumerate((level.cls, level.loc)):
                first = (2 * place + kind) * channels
                found[kind].append(branch.match(prepared[:, first : first + channels], search))
        return _weighted(found[0], self.cls_weight), _weighted(found[1], self.loc_weight)


def _conv_norm_relu(dim: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(dim, dim, kernel, bias=False), nn.BatchNorm2d(dim), nn.ReLU())


def _weighted(levels: list[Tensor], weights: Tensor) -> Tensor:
    shares = weights.softmax(dim=0)
    return shares[0] * levels[0] + shares[1] * levels[1] + shares[2] * levels[2]
