# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a network that answers on a grid of cells is told: where, how large, there or not.

Boxes are in parts of the crop. Cells are counted row by row; the middle of cell 0 of n in a row
lies at 0.5 / n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tracker_ros.networks.kestrel import Output
from tracker_ros.training.processes import least_count, mean_of_all

_SMALLEST = 1e-6


@dataclass(frozen=True)
class Weights:
    """What each part of the loss counts."""

    score: float = 1.0
    overlap: float = 2.0
    corners: float = 1.0
    presence: float = 0.5
    quality: float = 0.25
    spread: float = 0.12
    """Deviation of the place of the centre, in sides of the box."""


@dataclass(frozen=True, slots=True)
class Truth:
    """boxes: (B, 4) cx, cy, w, h. present, certain: (B,)."""

    boxes: Tensor
    present: Tensor
    certain: Tensor


def loss_of(output: Output, truth: Truth, weights: Weights) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch, and its parts by name before they are weighted."""
    grid = int(output.scores.shape[-1])
    logs = output.scores.flatten(1).log_softmax(dim=-1)
    places = centre_map(truth.boxes, grid, weights.spread)
    shown = truth.present * truth.certain
    count, certain = counted(shown), counted(truth.certain)
    divergence = (places * (places.clamp(min=1e-12).log() - logs)).sum(dim=-1)
    boxes = cell_boxes(output.sides)
    true = corners_of(truth.boxes)[:, None]
    off = (boxes - true).abs().mean(dim=-1)
    root = truth.boxes[:, 2:].prod(dim=-1, keepdim=True).clamp(min=_SMALLEST).sqrt()
    overlaps, generalized = overlap(boxes, true)
    best = overlaps.detach().gather(1, logs.argmax(dim=-1, keepdim=True))[:, 0]
    each = {
        'score': divergence,
        'overlap': ((1 - generalized) * places).sum(dim=-1),
        'corners': (off / root * places).sum(dim=-1),
        'quality': functional.binary_cross_entropy_with_logits(
            output.quality, best, reduction='none'
        ),
    }
    parts = {name: (values * shown).sum() / count for name, values in each.items()}
    presence = functional.binary_cross_entropy_with_logits(
        output.presence, truth.present, reduction='none'
    )
    parts['presence'] = (presence * truth.certain).sum() / certain
    total = torch.stack([getattr(weights, name) * value for name, value in parts.items()]).sum()
    parts['iou'] = (best * shown).sum() / count
    return total, parts


def counted(weights: Tensor) -> Tensor:
    """The sum of the weights of samples, but at least one, to take a mean with.

    In several processes so that the mean of their means is the mean over all their samples.
    """
    return mean_of_all(weights.sum()).clamp(min=least_count())


def mean_over(values: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean over all samples of a step; 0 where all weights are 0."""
    return (values * weights).sum() / counted(weights)


def centre_map(boxes: Tensor, grid: int, spread: float) -> Tensor:
    """(B, grid * grid): how likely each cell is the centre of its box (B, 4); sums to 1."""
    middles = (torch.arange(grid, device=boxes.device, dtype=boxes.dtype) + 0.5) / grid
    deviation = (spread * boxes[:, 2:]).clamp(min=0.6 / grid)
    distance = (middles - boxes[:, :2, None]) / deviation[:, :, None]
    logs = -0.5 * distance.square()
    return (logs[:, 1, :, None] + logs[:, 0, None, :]).flatten(1).softmax(dim=-1)


def cell_boxes(sides: Tensor) -> Tensor:
    """Sides (B, 4, g, g) to the corners (B, g * g, 4) x1, y1, x2, y2 of each cell's box."""
    grid = int(sides.shape[-1])
    middles = (torch.arange(grid, device=sides.device, dtype=sides.dtype) + 0.5) / grid
    left, up, right, down = sides.unbind(dim=1)
    x, y = middles[None, None, :], middles[None, :, None]
    return torch.stack([x - left, y - up, x + right, y + down], dim=-1).flatten(1, 2)


def corners_of(boxes: Tensor) -> Tensor:
    """(..., 4) cx, cy, w, h to x1, y1, x2, y2."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def centred(corners: Tensor) -> Tensor:
    """(..., 4) x1, y1, x2, y2 to cx, cy, w, h."""
    low, high = corners[..., :2], corners[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def overlap(found: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union of corners (..., 4), plain and generalized (GIoU)."""
    low = torch.maximum(found[..., :2], true[..., :2])
    high = torch.minimum(found[..., 2:], true[..., 2:])
    common = (high - low).clamp(min=0).prod(dim=-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(dim=-1) for box in (found, true)]
    union = areas[0] + areas[1] - common
    low = torch.minimum(found[..., :2], true[..., :2])
    high = torch.maximum(found[..., 2:], true[..., 2:])
    hull = (high - low).prod(dim=-1).clamp(min=_SMALLEST)
    plain = common / union.clamp(min=_SMALLEST)
    return plain, plain - (hull - union) / hull


def complete_overlap(found: Tensor, true: Tensor, shapes_from: float = 0.0) -> Tensor:
    """Complete IoU of corners (..., 4), at most 1 (Zheng et al., AAAI 2020, eq. 10 to 13).

    Beside the overlap it counts how far the centres are apart, by the diagonal of the hull, and,
    once the boxes overlap by `shapes_from`, how unlike the shapes are. Of a box whose right side
    lies left of the left one, the sides are taken for one.
    """
    found = torch.cat([found[..., :2], torch.maximum(found[..., 2:], found[..., :2])], dim=-1)
    plain = overlap(found, true)[0]
    low = torch.minimum(found[..., :2], true[..., :2])
    high = torch.maximum(found[..., 2:], true[..., 2:])
    diagonal = (high - low).square().sum(dim=-1).clamp(min=_SMALLEST)
    apart = (centred(found) - centred(true))[..., :2].square().sum(dim=-1)
    angles = [
        torch.atan(box[..., 2] / box[..., 3].clamp(min=1e-4))
        for box in map(centred, (found, true))
    ]
    unlike = 4 / math.pi**2 * (angles[0] - angles[1]).square()
    with torch.no_grad():
        share = (plain >= shapes_from) * unlike / (1 - plain + unlike).clamp(min=_SMALLEST)
    return plain - apart / diagonal - share * unlike


def generalized_overlap(found: Tensor, true: Tensor) -> Tensor:
    """GIoU of corners (..., 4); of a box turned inside out, the sides are taken for one."""
    found = torch.cat([found[..., :2], torch.maximum(found[..., 2:], found[..., :2])], dim=-1)
    return overlap(found, true)[1]
