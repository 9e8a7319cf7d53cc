# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a region proposal network is told: which anchors lie on the target, and how far off.

The rules are those of PySOT, which SiamRPN++ and SiamAttn are trained with. Boxes are in pixels
from the middle of the search crop, cx, cy, w, h. N counts anchors: by their shape, then by row,
then by column, as the head gives its maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tracker_ros.trackers.pysot import anchor_sizes
from tracker_ros.training.losses import corners_of, overlap

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1
_LARGEST_GROWTH = 4.0
"""Of the logarithm of a side, where a network that knows nothing yet would have no bounds."""


@dataclass(frozen=True)
class Sampling:
    """Which anchors a region proposal network learns from (SiamAttn, section 4.2)."""

    positive_iou: float = 0.6
    """Anchors that overlap the target more than this are on it."""
    negative_iou: float = 0.3
    """Those that do less are beside it. What is between is not asked for."""
    positives: int = 16
    """At most, of an image that shows the target."""
    total: int = 64
    """Positives and negatives of an image that shows the target."""
    negatives_of_absent: int = 16
    """Of an image that does not."""


def anchor_boxes(ratios: Sequence[float], cells: int, stride: int, scale: int) -> Tensor:
    """Anchors (N, 4) of a map of cells x cells; `ratios` of height to width."""
    sizes = anchor_sizes(list(ratios), stride, scale)
    points = (np.arange(cells) - cells // 2) * stride
    middles = np.stack(np.meshgrid(points, points), axis=-1).reshape(-1, 2)
    anchors = np.concatenate(
        [np.tile(middles, (len(sizes), 1)), np.repeat(sizes, cells * cells, axis=0)], axis=1
    )
    return torch.from_numpy(anchors.astype(np.float32))


def overlaps(anchors: Tensor, boxes: Tensor) -> Tensor:
    """IoU of anchors (N, 4) or (B, N, 4) with the box of each image (B, 4): (B, N)."""
    return overlap(corners_of(anchors), corners_of(boxes)[:, None])[0]


def labels_of(
    ious: Tensor, present: Tensor, sampling: Sampling, random: torch.Generator
) -> Tensor:
    """POSITIVE, NEGATIVE or IGNORED for each anchor (B, N), int64.

    ious: (B, N) with the target. present: (B,), 1 where the target is, 0 where it is not; what is
    between is not known, and all of its anchors are ignored.
    """
    here, absent = (present > 0.99)[:, None], (present < 0.01)[:, None]
    positive = some_of(here & (ious > sampling.positive_iou), sampling.positives, random)
    negative = some_of(
        here & (ious < sampling.negative_iou), sampling.total - sampling.positives, random
    )
    # Ours: anywhere in the image; PySOT takes them around a box that its other image has there.
    beside = some_of(absent.expand_as(ious), sampling.negatives_of_absent, random)
    labels = torch.full_like(ious, IGNORED, dtype=torch.int64)
    labels[negative | beside] = NEGATIVE
    labels[positive] = POSITIVE
    return labels


def some_of(candidates: Tensor, count: int, random: torch.Generator) -> Tensor:
    """At most `count` of the candidates in each row (B, N) bool, by chance."""
    chance = torch.rand(candidates.shape, generator=random).to(candidates.device)
    ranks = torch.where(candidates, chance, -1.0)
    best = ranks.topk(min(count, ranks.shape[1]), dim=1).indices
    return torch.zeros_like(candidates).scatter(1, best, True) & candidates


def corrections(anchors: Tensor, boxes: Tensor) -> Tensor:
    """What turns anchors (..., 4) into boxes (..., 4): shifts in sides, logarithms of growth."""
    sizes = anchors[..., 2:]
    return torch.cat(
        [(boxes[..., :2] - anchors[..., :2]) / sizes, (boxes[..., 2:] / sizes).log()], dim=-1
    )


def corrected(anchors: Tensor, found: Tensor) -> Tensor:
    """Anchors (..., 4) with their corrections (..., 4) applied: boxes."""
    sizes = anchors[..., 2:]
    growth = found[..., 2:].clamp(-_LARGEST_GROWTH, _LARGEST_GROWTH)
    return torch.cat([anchors[..., :2] + found[..., :2] * sizes, sizes * growth.exp()], dim=-1)


def logits_by_anchor(cls: Tensor) -> Tensor:
    """Logits of a head (B, 2 x shapes, S, S), of background and target: (B, N, 2)."""
    return cls.unflatten(1, (2, -1)).flatten(2).transpose(1, 2)


def corrections_by_anchor(loc: Tensor) -> Tensor:
    """Corrections of a head (B, 4 x shapes, S, S): (B, N, 4)."""
    return loc.unflatten(1, (4, -1)).flatten(2).transpose(1, 2)


def class_errors(logits: Tensor, labels: Tensor) -> Tensor:
    """The negative log-likelihood of each anchor's class (B, N); 0 where it is ignored."""
    each = functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction='none'
    )
    return each.view_as(labels)


def correction_errors(found: Tensor, anchors: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
    """How far the corrections (B, N, 4) of positive anchors are off: (B,) of each image.

    The sum over the four of the absolute error, mean over the image's positives.
    """
    # In the paper it is smooth; the official code has it plain.
    off = (found - corrections(anchors, boxes[:, None])).abs().sum(dim=-1)
    positive = labels == POSITIVE
    return (off * positive).sum(dim=1) / positive.sum(dim=1).clamp(min=1)


def regions_near(
    proposals: Tensor,
    boxes: Tensor,
    least_iou: float,
    count: int,
    random: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Proposals (B, N, 4) to refine: (B, 1 + count, 4), and which of them are there, (B, ...) 0/1.

    The first of each image is the target's own box (B, 4), the others overlap it by `least_iou`
    or more, by chance. Where there are fewer, the rest of the places hold the own box again.
    """
    near = some_of(overlaps(proposals, boxes) > least_iou, count, random)
    # Those that were chosen come first.
    order = near.to(torch.int8).sort(dim=1, descending=True, stable=True).indices[:, :count]
    kept = near.gather(1, order)
    others = proposals.gather(1, order[..., None].expand(-1, -1, 4))
    own = boxes[:, None]
    others = torch.where(kept[..., None], others, own)
    there = torch.cat([torch.ones_like(kept[:, :1]), kept], dim=1)
    return torch.cat([own, others], dim=1), there.to(boxes.dtype)
