# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""SiamAttn: the best proposal of a map of anchors, refined to a box and, if wanted, a mask.

The proposals are ranked as by SiamRPN++: by score, by how little size and shape change, and by a
window over the middle. Only the best one is looked at again (section 3.3).
"""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image, RotatedBox
from tracker_ros.runtime.engine import Engine, Tensors
from tracker_ros.runtime.package import ModelPackage
from tracker_ros.trackers.contract import Estimate
from tracker_ros.trackers.pysot import (
    Anchors,
    PysotTracker,
    size_penalty,
    target_probability,
)

# What the box head was trained to give is the correction divided by these.
_CORRECTION_STDS = np.array([0.1, 0.1, 0.2, 0.2])
_SMALLEST_OUTLINE_PX2 = 100.0
"""The mask's outline must enclose more than this; a smaller one says too little of the shape."""


@dataclass(frozen=True, slots=True)
class Window:
    """Where a search crop lies in the image: its corner, and crop pixels per image pixel."""

    left: float
    top: float
    scale: float

    def to_crop(self, box: Box) -> Box:
        return Box(
            (box.x - self.left) * self.scale,
            (box.y - self.top) * self.scale,
            box.w * self.scale,
            box.h * self.scale,
        )

    def to_image(self, box: Box) -> Box:
        return Box(
            box.x / self.scale + self.left,
            box.y / self.scale + self.top,
            box.w / self.scale,
            box.h / self.scale,
        )


class SiamAttn(PysotTracker):
    gives_mask = True

    def __init__(self, package: ModelPackage, engine: Engine | None) -> None:
        super().__init__(package, engine)
        constants = package.constants
        self._window_influence = float(constants['window_influence'])
        self._penalty_k = float(constants['penalty_k'])
        self._size_rate = float(constants['size_rate'])
        self._mask_threshold = float(constants['mask_threshold'])
        self._anchors = Anchors(
            [float(ratio) for ratio in constants['anchor_ratios']],
            int(constants['score_map']),
            int(constants['stride']),
            int(constants['anchor_scale']),
        )
        self._outputs: Tensors = {}
        self._window = Window(0.0, 0.0, 1.0)
        self._side = 1

    def _followed(self, image: Image, crop: Image, side: int, outputs: Tensors) -> Estimate:
        estimate = super()._followed(image, crop, side, outputs)
        if not self.wants_mask:
            return estimate
        mask, outline = self._masked(image, estimate.box)
        return dataclasses.replace(estimate, mask=mask, outline=outline)

    def _decode(self, outputs: Tensors, side: int) -> Estimate:
        last = self._box
        # By the unrounded side, as the published tracker has it.
        scale = self._template_px / self._context_side(last)
        self._window = Window(last.cx - side / 2, last.cy - side / 2, scale)
        self._outputs, self._side = outputs, side

        scores = target_probability(*outputs['cls'][0].reshape(2, -1))
        cx, cy, widths, heights = self._anchors.boxes(outputs['loc'][0].astype(np.float64))
        penalty = size_penalty(widths, heights, last.w * scale, last.h * scale, self._penalty_k)
        ranking = penalty * scores * (1 - self._window_influence)
        best = int((ranking + self._anchors.window * self._window_influence).argmax())
        score = float(scores[best])
        proposal = self._inside(cx[best], cy[best], widths[best], heights[best])
        if not proposal.is_finite():
            return Estimate(proposal, score)

        found = self._window.to_image(self._refined(proposal))
        # The centre is taken whole, the size only as far as the answer is trusted.
        rate = float(penalty[best]) * score * self._size_rate
        moved = Box.from_center(
            found.cx,
            found.cy,
            last.w + (found.w - last.w) * rate,
            last.h + (found.h - last.h) * rate,
        )
        return Estimate(moved, score)

    def _held(self, box: Box, width: int, height: int) -> Box:
        return box.held(max(width - 1, 1), max(height - 1, 1), self.smallest_side_px)

    def _response(self, outputs: Tensors) -> tuple[NDArray[np.float64], Box]:
        """The best anchor's score in each cell; the cells cover the middle of the crop."""
        scores = target_probability(*outputs['cls'][0].reshape(2, -1))
        points = self._anchors.points
        cells = len(points)
        response = scores.reshape(-1, cells, cells).max(axis=0)
        side = float(points[1] - points[0]) * cells / self._search_px
        return response, Box.from_center(0.5, 0.5, side, side)

    def _inside(self, cx: float, cy: float, width: float, height: float) -> Box:
        """A proposal in pixels of the crop, held to it."""
        middle, last = self._search_px / 2, self._search_px - 1
        return Box.from_center(
            float(np.clip(cx + middle, 0, last)),
            float(np.clip(cy + middle, 0, last)),
            float(np.clip(width, self.smallest_side_px, last)),
            float(np.clip(height, self.smallest_side_px, last)),
        )

    def _refined(self, proposal: Box) -> Box:
        """A proposal corrected by a closer look at it."""
        # From the middle of the first pixel to that of the last.
        roi = Box(proposal.x + 0.5, proposal.y + 0.5, proposal.w - 1, proposal.h - 1)
        outputs = self._look_closer('refine', roi)
        x, y, w, h = outputs['correction'][0].astype(np.float64) * _CORRECTION_STDS
        return Box.from_center(
            float(proposal.cx + x * proposal.w),
            float(proposal.cy + y * proposal.h),
            float(proposal.w * np.exp(w)),
            float(proposal.h * np.exp(h)),
        )

    def _masked(self, image: Image, box: Box) -> tuple[Image, RotatedBox]:
        """The target's pixels around `box`, and the smallest box around the largest piece."""
        roi = self._window.to_crop(box)
        logits = self._look_closer('mask', roi)['mask_logits'][0, 0].astype(np.float64)
        probability = (1 / (1 + np.exp(np.clip(-logits, -60, 60)))).astype(np.float32)
        # The crop is as wide as the rounded side says; boxes are mapped by the unrounded one.
        # The official paste follows the first, and for masks so does this.
        crop = Window(self._window.left, self._window.top, self._search_px / self._side)
        mask = _pasted(probability, crop.to_image(roi), image.shape[:2], self._mask_threshold)
        return mask, smallest_outline(mask) or RotatedBox(box.cx, box.cy, box.w, box.h, 0.0)

    def _look_closer(self, role: str, roi: Box) -> Tensors:
        corners = np.array([roi.corners()], np.float32)
        began = time.perf_counter()
        outputs = self._engine.run(role, {**self._outputs, 'roi': corners})
        self.inference_s += time.perf_counter() - began
        return outputs


def smallest_outline(mask: Image) -> RotatedBox | None:
    """The smallest box around the largest connected piece; None where that is too small."""
    contours = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[-2]
    largest = max(contours, key=cv2.contourArea, default=None)
    if largest is None or cv2.contourArea(largest) <= _SMALLEST_OUTLINE_PX2:
        return None
    (cx, cy), (w, h), degrees = cv2.minAreaRect(largest)
    # The same box can be said in several ways; this one has the width that is nearest to level.
    quarters = round(degrees / 90)
    theta = math.radians(degrees - 90 * quarters)
    if quarters % 2:
        w, h = h, w
    # From the middles of pixels to their borders.
    return RotatedBox(cx + 0.5, cy + 0.5, w + 1, h + 1, theta)


def _pasted(
    probability: NDArray[np.float32], box: Box, shape: tuple[int, ...], threshold: float
) -> Image:
    """A mask (side, side) laid over `box` of an image: (H, W) uint8, 255 for the target."""
    height, width = shape
    mask = np.zeros((height, width), np.uint8)
    x1, x2 = _reach(box.x, box.w, width)
    y1, y2 = _reach(box.y, box.h, height)
    if x1 >= x2 or y1 >= y2:
        return mask
    # The official paste loses a pixel over the width of the image.
    along, down = (width - 1) / width, (height - 1) / height
    side = len(probability)
    to_region = np.array(
        [
            [along * box.w / side, 0, along * box.x - x1],
            [0, down * box.h / side, down * box.y - y1],
        ]
    )
    region = cv2.warpAffine(
        probability,
        to_region,
        (x2 - x1, y2 - y1),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0.0,
    )
    mask[y1:y2, x1:x2] = np.where(region > threshold, 255, 0)
    return mask


def _reach(first: float, length: float, limit: int) -> tuple[int, int]:
    """The whole pixels of [0, limit) that something at `first` may touch, and some more."""
    return max(0, math.floor(first) - 2), min(limit, math.ceil(first + length) + 2)
