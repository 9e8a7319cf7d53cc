# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A box for a point: what somebody clicked on.

GrabCut is asked at a row of scales what of a window about the point is like its middle and unlike
its rim. Each scale answers with a box. The one is taken of which the most overlap with the object
is to be expected: it contrasts with what is around it, its outline follows edges, it keeps off
the rim of its window, and other scales agree with it. How much each of that counts was fitted to
annotated footage; the figures are in docs/node.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image

# Windows are this large for GrabCut, whose time goes with their area.
_WINDOW_PX = 72
_SMALLEST_WINDOW_PX = 8
_REACH = 1.1
"""Half of the window, in scales."""
_SMALLEST_SCALE_PX = 14.0
_NEXT_SCALE = 1.35
_LARGEST_SCALE = 0.75
"""In parts of the shorter side of the image."""
_ROUNDS = 2
# Distances from the point, in scales: within the first it is the object, within the second
# perhaps, within the third perhaps not, and beyond it is not.
_OBJECT, _PERHAPS, _PERHAPS_NOT = 0.12, 0.42, 0.85
_CLOSE_ENOUGH = 0.25
_NEIGHBOURS = np.ones((3, 3), np.uint8)
# Fewer pixels than this are not cleaned of specks: nothing might be left.
_FEW_PX = 60
# People click near the middle: the box is moved and widened half the way to having it there.
_TO_THE_MIDDLE = 0.5

# The least squares fit of the overlap to what `_Look.evidence` gives.
_WEIGHTS = np.array([0.099, 0.492, 0.073, -0.883, 0.131, -0.493, 0.339, 0.062])
_LEAST_OVERLAP = 0.25


@dataclass(frozen=True, slots=True)
class Proposal:
    """A box around what is at a point, and the overlap (IoU) with it that is to be expected."""

    box: Box
    overlap: float


def propose(image: Image, x: float, y: float, smallest_px: float = 1.0) -> Proposal | None:
    """The box of the object at (x, y) of `image` (H, W, 3) uint8 BGR; None where there is none.

    The point lies in the image; sides are at least `smallest_px` and the box within the image.
    """
    height, width = image.shape[:2]
    # GrabCut begins with clusters that it draws by lot.
    cv2.setRNGSeed(0)
    looks = []
    scale = _SMALLEST_SCALE_PX
    while scale <= _LARGEST_SCALE * min(height, width):
        look = _look(image, x, y, scale)
        if look is not None:
            looks.append(look)
        scale *= _NEXT_SCALE
    if not looks:
        return None
    image_px = math.hypot(width, height)
    overlaps = [float(_WEIGHTS @ look.evidence(looks, image_px)) for look in looks]
    best = int(np.argmax(overlaps))
    if overlaps[best] < _LEAST_OVERLAP:
        return None
    box = _drawn_to(looks[best].box, x, y, smallest_px)
    x1, y1, x2, y2 = box.corners()
    inside = Box.from_corners(max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height))
    return Proposal(inside, min(overlaps[best], 1.0))


@dataclass(frozen=True, slots=True)
class _Look:
    """What one scale took for the object.

    contrast: 1 less the likeness of the colours inside and around. edge: the gradient along the
    outline, as the logarithm of times the mean one. rim: the part of the outline's length that
    lies at the rim of the window. fill: the object's part of its box. offset: from the point to
    the box's centre, in sizes of the box.
    """

    box: Box
    contrast: float
    edge: float
    rim: float
    fill: float
    offset: float

    def evidence(self, looks: Sequence[_Look], image_px: float) -> NDArray[np.float64]:
        """(8,) all that speaks for it or against it; `image_px` is the image's diagonal."""
        others = sorted(self.box.iou(look.box) for look in looks if look is not self)
        agreement = sum(others[-2:]) / 2
        size = math.log(math.sqrt(self.box.area) / image_px)
        return np.array(
            [1.0, self.contrast, self.edge, self.rim, self.fill, self.offset, agreement, size]
        )


def _look(image: Image, x: float, y: float, scale: float) -> _Look | None:
    """What stands out in a window of this scale about the point; None where nothing does."""
    height, width = image.shape[:2]
    reach = _REACH * scale
    left, top = max(0, int(x - reach)), max(0, int(y - reach))
    window = image[top : min(height, int(y + reach) + 1), left : min(width, int(x + reach) + 1)]
    shrink = min(1.0, _WINDOW_PX / max(window.shape[:2]))
    if shrink < 1.0:
        window = cv2.resize(window, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    rows, columns = window.shape[:2]
    if min(rows, columns) < _SMALLEST_WINDOW_PX:
        return None
    point = (x - left) * shrink, (y - top) * shrink
    down, across = np.mgrid[0:rows, 0:columns] + 0.5
    distance = np.hypot(across - point[0], down - point[1]) / (scale * shrink)
    labels, stats = _segments(window, distance)
    label = _label_at(labels, distance)
    if label is None:
        return None
    x1, y1, box_width, box_height, area = (int(value) for value in stats[label])
    box = Box(left + x1 / shrink, top + y1 / shrink, box_width / shrink, box_height / shrink)
    found = (labels == label).astype(np.uint8)
    outline = found - cv2.erode(found, _NEIGHBOURS)
    length = max(1, int(outline.sum()))
    return _Look(
        box,
        _contrast(window, found, max(2, max(box_width, box_height) // 4)),
        _edge(window, outline),
        min(1.0, float(((found > 0) & (distance > 0.8)).sum()) / length),
        area / (box_width * box_height),
        min(1.0, math.hypot(box.cx - x, box.cy - y) / math.sqrt(box.area)),
    )


def _segments(
    window: Image, distance: NDArray[np.float64]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Connected parts of the window that are like its middle: labels, 0 for none, and stats."""
    mask = np.full(window.shape[:2], cv2.GC_BGD, np.uint8)
    mask[distance < _PERHAPS_NOT] = cv2.GC_PR_BGD
    mask[distance < _PERHAPS] = cv2.GC_PR_FGD
    mask[distance < max(_OBJECT, float(distance.min()) + 1e-9)] = cv2.GC_FGD
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(window, mask, None, *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = ((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)).astype(np.uint8)
    if int(found.sum()) > _FEW_PX:
        found = cv2.morphologyEx(found, cv2.MORPH_OPEN, _NEIGHBOURS)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(found)
    return labels, stats


def _label_at(labels: NDArray[np.int32], distance: NDArray[np.float64]) -> int | None:
    """Of the part at the point, or of one that is close to it."""
    away = np.where(labels > 0, distance, np.inf)
    nearest = np.unravel_index(int(away.argmin()), away.shape)
    return int(labels[nearest]) if away[nearest] <= _CLOSE_ENOUGH else None


def _contrast(window: Image, found: Image, around_px: int) -> float:
    """1 less the Bhattacharyya coefficient of the colours within and around what was found."""
    ring = cv2.dilate(found, _NEIGHBOURS, iterations=around_px) - found
    if not ring.any():
        return 0.0
    colours = cv2.cvtColor(window, cv2.COLOR_BGR2LAB)
    shares = []
    for mask in (found, ring):
        counts = cv2.calcHist([colours], [0, 1, 2], mask, [8, 8, 8], [0, 256] * 3)
        smooth = cv2.GaussianBlur(counts.reshape(8, 64), (1, 3), 0).ravel()
        shares.append(smooth / max(float(smooth.sum()), 1.0))
    return 1.0 - float(np.sqrt(shares[0] * shares[1]).sum())


def _edge(window: Image, outline: Image) -> float:
    grey = cv2.cvtColor(window, cv2.COLOR_BGR2GRAY)
    gradient = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    along = float(gradient[outline > 0].mean()) if outline.any() else 0.0
    return math.log(along / (float(gradient.mean()) + 1e-3) + 1e-3)


def _drawn_to(box: Box, x: float, y: float, smallest_px: float) -> Box:
    """The box moved and widened towards having (x, y) in its middle."""
    x1, y1, x2, y2 = box.corners()
    widest = 2 * max(x - x1, x2 - x), 2 * max(y - y1, y2 - y)
    part = _TO_THE_MIDDLE
    return Box.from_center(
        box.cx + part * (x - box.cx),
        box.cy + part * (y - box.cy),
        max(box.w + part * (widest[0] - box.w), smallest_px),
        max(box.h + part * (widest[1] - box.h), smallest_px),
    )
