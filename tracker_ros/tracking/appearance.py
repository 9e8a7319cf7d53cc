# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a target looks like, in a few numbers: how alike are two boxes of two images?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image

# The rim of a box is mostly background.
_INNER = 0.85
_PATCH_PX = 32
_PATTERN_PX = 12
_LIGHTNESS_BINS = 6
_HUE_BINS = 12
# Colours of the real world fill about half of the range of a and b.
_RANGES = [0, 256, 64, 192, 64, 192]
_BINS = [_LIGHTNESS_BINS, _HUE_BINS, _HUE_BINS]
# Below this deviation of its grey levels a patch has no pattern.
_FLAT = 1.0


@dataclass(frozen=True, slots=True)
class Similarity:
    """How alike two appearances are, each in [0, 1], 1 for the same.

    colour: overlap of their colours, wherever they are (Bhattacharyya coefficient).
    pattern: correlation of their grey levels place by place, whatever the light; 0 for none.
    """

    colour: float
    pattern: float

    @property
    def mean(self) -> float:
        return 0.5 * (self.colour + self.pattern)


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """colours: (n,) float32, pattern: (m,) float32; unit vectors, or zeros where there is none."""

    colours: NDArray[np.float32]
    pattern: NDArray[np.float32]

    def similarity(self, other: Appearance) -> Similarity:
        return Similarity(
            min(max(float(self.colours @ other.colours), 0.0), 1.0),
            min(max(float(self.pattern @ other.pattern), 0.0), 1.0),
        )


def describe(image: Image, box: Box) -> Appearance:
    """What is in the middle of `box` (H, W, 3) uint8 BGR; nothing where that is not inside."""
    patch = _patch(image, box)
    if patch is None:
        return NOTHING
    lab = cv2.cvtColor(patch, cv2.COLOR_BGR2LAB)
    colours = np.sqrt(cv2.calcHist([lab], [0, 1, 2], None, _BINS, _RANGES).ravel())
    colours *= 1.0 / max(_length(colours), 1.0)
    grey = cv2.resize(lab[..., 0], (_PATTERN_PX, _PATTERN_PX), interpolation=cv2.INTER_AREA)
    pattern = grey.ravel().astype(np.float32)
    pattern -= np.add.reduce(pattern) / len(pattern)
    length = _length(pattern)
    pattern *= 1.0 / length if length > _FLAT * _PATTERN_PX else 0.0
    return Appearance(colours, pattern)


def _length(vector: NDArray[np.float32]) -> float:
    """Of a short vector; numpy's norm takes several times as long."""
    return math.sqrt(float(vector @ vector))


def _patch(image: Image, box: Box) -> Image | None:
    """The middle of the box in a square of a fixed size; None where nothing is inside."""
    if not box.is_finite():
        return None
    height, width = image.shape[:2]
    rim_x, rim_y = 0.5 * (1.0 - _INNER) * box.w, 0.5 * (1.0 - _INNER) * box.h
    x1, y1, x2, y2 = box.x + rim_x, box.y + rim_y, box.x + box.w - rim_x, box.y + box.h - rim_y
    left, right = max(0, math.floor(x1)), min(width, math.ceil(x2))
    top, bottom = max(0, math.floor(y1)), min(height, math.ceil(y2))
    if right - left < 1 or bottom - top < 1:
        return None
    # Every few pixels of a large target are enough, and reading them all is what takes time.
    step_x, step_y = (max(1, length // _PATCH_PX) for length in (right - left, bottom - top))
    region = np.ascontiguousarray(image[top:bottom:step_y, left:right:step_x])
    # It is less than twice as large now: the mean of areas would be hardly more, and much slower.
    return cv2.resize(region, (_PATCH_PX, _PATCH_PX), interpolation=cv2.INTER_LINEAR)


NOTHING = Appearance(np.zeros(math.prod(_BINS), np.float32), np.zeros(_PATTERN_PX**2, np.float32))
"""Where there is nothing to see; like nothing else, nor itself."""
