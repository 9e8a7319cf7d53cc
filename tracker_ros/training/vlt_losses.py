# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What VLT's heads are told: the losses of SiamCAR for VLT_SCAR, of TransT for VLT_TT, and of
SiamRPN++ for VLT_RPN++.

Boxes are x1, y1, x2, y2, in pixels of the search crop for VLT_SCAR and in parts of it for VLT_TT.
Where the target is not there, every cell is background; where it is nearly hidden, nothing is
learned. Shapes: B batch, g cells a side.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from tracker_ros.networks.vlt import STRIDE, RpnOutput, ScarOutput, TtOutput
from tracker_ros.training.losses import (
    Truth,
    complete_overlap,
    corners_of,
    mean_over,
    overlap,
)
from tracker_ros.training.proposals import (
    NEGATIVE,
    POSITIVE,
    Sampling,
    class_errors,
    corrected,
    correction_errors,
    corrections_by_anchor,
    labels_of,
    logits_by_anchor,
    overlaps,
)

_INNER = 0.6
_SMALLEST = 1e-7

BOX_LOSSES = ('ciou', 'iou')
"""The released code trains VLT_SCAR with 1 - CIoU; SiamCAR's paper has -log IoU (equation 4)."""
TT_BACKGROUND = 1 / 16
"""What a cell of the background counts beside one of the target."""


def scar_parts(
    output: ScarOutput, truth: Truth, search_px: int, box_loss: str = 'ciou'
) -> dict[str, Tensor]:
    """The parts of VLT_SCAR's loss by name (SiamCAR, section 3.3), and `iou`, which is none.

    scores: the mean over the target's cells and that over all others count a half each.
    centres: cross-entropy of each target cell with how near it is to the centre (equation 3).
    overlap: of the boxes of the target's cells, weighted with the same.
    """
    scores, centres, offsets = (
        each.float() for each in (output.scores, output.centres[:, 0], output.offsets)
    )
    boxes = search_px * corners_of(truth.boxes)
    places = cell_places(int(scores.shape[-1]), search_px).to(boxes)
    sides = sides_of(boxes, places)
    shown = truth.present * truth.certain
    is_target = _is_inner(sides, boxes).float() * shown[:, None, None]
    is_other = (1 - is_target) * truth.certain[:, None, None]
    logs = scores.log_softmax(dim=1)
    near = nearness(sides) * is_target
    found = boxes_of(offsets, places)
    off = box_losses(found, boxes[:, None, None], box_loss)
    doubt = functional.binary_cross_entropy_with_logits(centres, near, reduction='none')
    best = logs[:, 1].flatten(1).argmax(dim=1)
    of_best = found.detach().flatten(1, 2)[torch.arange(len(best)), best]
    return {
        'scores': 0.5 * mean_over(-logs[:, 1], is_target) + 0.5 * mean_over(-logs[:, 0], is_other),
        'centres': mean_over(doubt, is_target),
        'overlap': mean_over(off, near),
        'iou': mean_over(overlap(of_best, boxes)[0], shown),
    }


def cell_places(grid: int, search_px: int) -> Tensor:
    """Where the cells of one row lie in the crop (g,): 32, 40 ... 224 of 255 px and 25 cells."""
    first = math.ceil((search_px - STRIDE * (grid - 1)) / 2)
    return first + STRIDE * torch.arange(grid, dtype=torch.float32)


def sides_of(boxes: Tensor, places: Tensor) -> Tensor:
    """How far the sides of boxes (B, 4) are from each cell: (B, 4, g, g) left, top, right, bottom.

    Negative for cells outside of the box.
    """
    grid = len(places)
    x, y = places[None, None, :], places[None, :, None]
    x1, y1, x2, y2 = (value[:, None, None] for value in boxes.unbind(dim=1))
    each = (x - x1, y - y1, x2 - x, y2 - y)
    return torch.stack([side.expand(-1, grid, grid) for side in each], dim=1)


def boxes_of(offsets: Tensor, places: Tensor) -> Tensor:
    """The corners (B, g, g, 4) of the box of each cell from its `sides_of`."""
    left, up, right, down = offsets.unbind(dim=1)
    x, y = places[None, None, :], places[None, :, None]
    return torch.stack([x - left, y - up, x + right, y + down], dim=-1)


def nearness(sides: Tensor) -> Tensor:
    """How near cells are to the box's centre, from (B, 4, g, g): 1 there, 0 at the rim."""
    left, up, right, down = sides.unbind(dim=1)
    across = torch.minimum(left, right) / torch.maximum(left, right).clamp(min=_SMALLEST)
    along = torch.minimum(up, down) / torch.maximum(up, down).clamp(min=_SMALLEST)
    return (across.clamp(min=0) * along.clamp(min=0)).sqrt()


def _is_inner(sides: Tensor, boxes: Tensor) -> Tensor:
    """Cells (B, g, g) in the middle of the box: at least 0.6 of half its size from each side."""
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    least = _INNER * torch.cat([half, half], dim=1)
    return (sides > least[:, :, None, None]).all(dim=1)


def tt_parts(output: TtOutput, truth: Truth) -> dict[str, Tensor]:
    """The parts of VLT_TT's loss by name (TransT, section 3.3), and `iou`, which is none.

    scores: cross-entropy over all cells. corners: L1 of the four coordinates, in parts of the
    crop, summed. overlap: 1 - CIoU, where TransT has GIoU. The latter two are means over the
    cells whose middle is in the target's box, each of which has to find all of it.
    """
    scores, found = output.scores.float(), corners_of(output.boxes.float())
    boxes = corners_of(truth.boxes)[:, None]
    shown = (truth.present * truth.certain)[:, None]
    is_target = cells_in(truth.boxes, math.isqrt(scores.shape[1])).float() * shown
    is_other = (1 - is_target) * truth.certain[:, None]
    logs = scores.log_softmax(dim=-1)
    weights = is_target + TT_BACKGROUND * is_other
    wrong = -torch.where(is_target > 0, logs[..., 0], logs[..., 1])
    best = logs[..., 0].argmax(dim=1)
    of_best = found.detach()[torch.arange(len(best)), best]
    return {
        'scores': mean_over(wrong, weights),
        'corners': mean_over((found - boxes).abs().sum(dim=-1), is_target),
        'overlap': mean_over(box_losses(found, boxes, 'ciou'), is_target),
        'iou': mean_over(overlap(of_best, boxes[:, 0])[0], shown[:, 0]),
    }


def cells_in(boxes: Tensor, grid: int) -> Tensor:
    """Which cells (B, g * g), row by row, have their middle in a box (B, 4) cx, cy, w, h.

    The cell that holds the centre is always among them, however small the box.
    """
    cells = torch.arange(grid, dtype=boxes.dtype, device=boxes.device)
    middles = (cells + 0.5) / grid
    centre, half = boxes[:, :2, None], boxes[:, 2:, None] / 2
    holding = (grid * centre).floor().clamp(0, grid - 1)
    is_in = ((middles - centre).abs() <= half) | (cells == holding)
    return (is_in[:, 1, :, None] & is_in[:, 0, None, :]).flatten(1)


def rpn_parts(
    output: RpnOutput, truth: Truth, search_px: int, anchors: Tensor, random: torch.Generator
) -> dict[str, Tensor]:
    """The parts of VLT_RPN++'s loss by name (SiamRPN++, section 3), and `iou`, which is none.

    anchors: (N, 4) of `proposals.anchor_boxes`. random: draws those that are learned from.
    """
    logits = logits_by_anchor(output.scores.float())
    found = corrections_by_anchor(output.offsets.float())
    boxes = (truth.boxes - truth.boxes.new_tensor([0.5, 0.5, 0.0, 0.0])) * search_px
    present = torch.where(truth.certain > 0.5, truth.present, 0.5)
    labels = labels_of(overlaps(anchors, boxes), present, Sampling(), random)
    errors = class_errors(logits, labels)
    best = logits.diff(dim=-1)[..., 0].argmax(dim=1)
    of_best = corrected(anchors, found.detach())[torch.arange(len(best)), best]
    shown = truth.present * truth.certain
    return {
        'scores': 0.5 * mean_over(errors, (labels == POSITIVE).float())
        + 0.5 * mean_over(errors, (labels == NEGATIVE).float()),
        'corrections': correction_errors(found, anchors, boxes, labels).mean(),
        'iou': mean_over(overlap(corners_of(of_best), corners_of(boxes))[0], shown),
    }


def box_losses(found: Tensor, true: Tensor, kind: str) -> Tensor:
    """1 - CIoU (`ciou`) or -log IoU (`iou`) of corners (..., 4), each by itself."""
    if kind == 'ciou':
        return 1 - complete_overlap(found, true)
    return -overlap(found, true)[0].clamp(min=1e-4).log()
