# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes, search windows and crops: everything between an image and a network's input.

Coordinates are pixels of the published image. They are continuous: pixel (0, 0) covers the
square [0, 1) x [0, 1), x grows to the right and y downwards. Boxes are ``x, y, w, h`` with
(x, y) the top-left corner, unless a name says otherwise.

Two crop conventions exist in the field, and a trained network only works with the one it was
trained with. Both are reproduced here to the last bit:

- *STARK* (MixFormerV2, SimTrack): square side ``ceil(sqrt(w * h) * factor)``, black outside the
  image. Its right and bottom padding is one pixel too wide, which costs the last image column
  and row whenever the window touches them; trained weights expect exactly that.
- *PySOT* (SiamAttn, VLT, NanoTrack): square side from the box plus context, outside the image
  the mean colour of the first frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

# A window larger than this is sampled point by point instead of being padded and resized: a
# target that fills a 1080p image asks for a window of 7000 x 7000 pixels.
_LARGEST_PADDED_PX = 2048 * 2048


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned box: top-left corner and full size, in pixels of the image."""

    x: float
    y: float
    w: float
    h: float

    @classmethod
    def from_center(cls, cx: float, cy: float, w: float, h: float) -> Box:
        return cls(cx - w / 2, cy - h / 2, w, h)

    @classmethod
    def from_corners(cls, x1: float, y1: float, x2: float, y2: float) -> Box:
        return cls(x1, y1, x2 - x1, y2 - y1)

    @property
    def cx(self) -> float:
        return self.x + self.w / 2

    @property
    def cy(self) -> float:
        return self.y + self.h / 2

    @property
    def area(self) -> float:
        """Area in square pixels; 0 for a box turned inside out."""
        return max(0.0, self.w) * max(0.0, self.h)

    def corners(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2."""
        return self.x, self.y, self.x + self.w, self.y + self.h

    def xywh(self) -> tuple[float, float, float, float]:
        return self.x, self.y, self.w, self.h

    def is_finite(self) -> bool:
        return all(math.isfinite(value) for value in self.xywh())

    def intersection(self, other: Box) -> float:
        """Area common to both boxes, in square pixels."""
        width = min(self.x + self.w, other.x + other.w) - max(self.x, other.x)
        height = min(self.y + self.h, other.y + other.h) - max(self.y, other.y)
        return max(0.0, width) * max(0.0, height)

    def iou(self, other: Box) -> float:
        """Intersection over union, in [0, 1]; 0 if either box is empty."""
        common = self.intersection(other)
        union = self.area + other.area - common
        return common / union if union > 0 else 0.0

    def clipped(self, width: int, height: int, margin: float = 10.0) -> Box:
        """The box held to an image of `width` x `height`, as the STARK family does it.

        At least `margin` pixels of it stay inside, and it is never smaller than that; in an image
        smaller than `margin` that means all of the image.
        """
        margin = min(margin, float(width), float(height))
        x1, y1, x2, y2 = self.corners()
        x1 = min(max(0.0, x1), width - margin)
        x2 = min(max(margin, x2), float(width))
        y1 = min(max(0.0, y1), height - margin)
        y2 = min(max(margin, y2), float(height))
        return Box(x1, y1, max(margin, x2 - x1), max(margin, y2 - y1))

    def held(self, width: int, height: int, smallest: float) -> Box:
        """The box held to an image of `width` x `height`, as the PySOT family does it.

        Its centre stays in the image and its sides between `smallest` and those of the image.
        """
        return Box.from_center(
            min(max(self.cx, 0.0), float(width)),
            min(max(self.cy, 0.0), float(height)),
            min(max(self.w, smallest), float(width)),
            min(max(self.h, smallest), float(height)),
        )


@dataclass(frozen=True, slots=True)
class RotatedBox:
    """A box about (cx, cy), turned by `theta` radians from the x axis towards the y axis."""

    cx: float
    cy: float
    w: float
    h: float
    theta: float

    def corners(self) -> NDArray[np.float64]:
        """(4, 2) x and y: of the corner left and up while theta is 0, then clockwise."""
        half = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (self.w / 2, self.h / 2)
        cosine, sine = math.cos(self.theta), math.sin(self.theta)
        turn = np.array([[cosine, sine], [-sine, cosine]])
        return np.asarray(half @ turn + (self.cx, self.cy))


def stark_side(box: Box, factor: float) -> int:
    """Side of the STARK window around `box`, in pixels: ceil(sqrt(w * h) * factor)."""
    side = math.ceil(math.sqrt(box.w * box.h) * factor)
    if side < 1:
        raise ValueError(f'a box of {box.w:g} x {box.h:g} px is too small to crop')
    return side


def stark_corner(box: Box, side: int) -> tuple[int, int]:
    """Left and top of the STARK window of `side` pixels around `box`, in whole image pixels."""
    # Python's round, half to even, is part of the convention.
    return round(box.x + 0.5 * box.w - 0.5 * side), round(box.y + 0.5 * box.h - 0.5 * side)


def stark_crop(image: Image, box: Box, factor: float, size_px: int) -> tuple[Image, int]:
    """Cut the STARK window around `box` and resize it to (size_px, size_px, C) uint8.

    Returns the crop and the side of the window in image pixels; `size_px / side` is the resize
    factor that maps image pixels to crop pixels.
    """
    side = stark_side(box, factor)
    left, top = stark_corner(box, side)
    return _cut(image, left, top, side, size_px, fill=(0, 0, 0), lost_rim=1), side


def box_from_stark(cx: float, cy: float, w: float, h: float, previous: Box, side: int) -> Box:
    """A box given as fractions of the STARK window around `previous`, in image pixels."""
    return Box.from_center(
        cx * side + previous.x + 0.5 * previous.w - 0.5 * side,
        cy * side + previous.y + 0.5 * previous.h - 0.5 * side,
        w * side,
        h * side,
    )


def pysot_context_side(w: float, h: float, context: float = 0.5) -> float:
    """Side of the PySOT template region, in pixels: the box with `context` around it."""
    margin = context * (w + h)
    return math.sqrt((w + margin) * (h + margin))


def pysot_crop(
    image: Image, cx: float, cy: float, side: int, size_px: int, fill: tuple[int, ...]
) -> Image:
    """Cut a square of `side` pixels around (cx, cy), resized to (size_px, size_px, C) uint8.

    `fill` is the colour outside the image; the convention is `mean_colour` of the first frame.
    """
    if side < 1:
        raise ValueError(f'a window of {side} px is too small to crop')
    half = (side + 1) / 2
    left = math.floor(cx - half + 0.5)
    top = math.floor(cy - half + 0.5)
    return _cut(image, left, top, side, size_px, fill)


def mean_colour(image: Image) -> tuple[int, ...]:
    """Per-channel mean of a whole image, truncated as the PySOT crop stores it."""
    channels = 1 if image.ndim == 2 else image.shape[2]
    return tuple(int(value) for value in cv2.mean(image)[:channels])


def _cut(
    image: Image,
    left: int,
    top: int,
    side: int,
    size_px: int,
    fill: tuple[int, ...],
    lost_rim: int = 0,
) -> Image:
    """Square of `side` pixels at (left, top), resized bilinearly; `fill` outside the image.

    `lost_rim` is the number of image columns and rows at the right and bottom that count as
    outside when the window reaches them.
    """
    height, width = image.shape[:2]
    pad_left, pad_top = max(0, -left), max(0, -top)
    pad_right = max(0, left + side - width + lost_rim)
    pad_bottom = max(0, top + side - height + lost_rim)
    if pad_left + pad_right >= side or pad_top + pad_bottom >= side:
        blank = np.empty((size_px, size_px, *image.shape[2:]), np.uint8)
        blank[...] = fill if image.ndim == 3 else fill[0]
        return blank
    region = image[
        top + pad_top : top + side - pad_bottom, left + pad_left : left + side - pad_right
    ]
    if pad_left or pad_right or pad_top or pad_bottom:
        # OpenCV halves exactly by averaging, which is another arithmetic than `_sample` follows.
        if side * side > _LARGEST_PADDED_PX and side != 2 * size_px:
            return _sample(region, pad_left, pad_top, side, size_px, fill)
        region = cv2.copyMakeBorder(
            region, pad_top, pad_bottom, pad_left, pad_right, cv2.BORDER_CONSTANT, value=fill
        )
    if side == size_px:
        return np.ascontiguousarray(region)
    return cv2.resize(region, (size_px, size_px), interpolation=cv2.INTER_LINEAR)


def _sample(
    region: Image, pad_left: int, pad_top: int, side: int, size_px: int, fill: tuple[int, ...]
) -> Image:
    """What padding `region` to `side` and resizing it would give, without the padded image.

    OpenCV's bilinear resize of 8-bit images works in fixed point; the same arithmetic here
    keeps the result equal to the last bit.
    """
    columns, column_weights = _taps(side, size_px)
    # OpenCV drops the weight of a column beyond the rim, but keeps that of a row, read twice.
    beyond = (columns[0] < 0) | (columns[0] >= side - 1)
    column_weights[:, beyond] = [[2048], [0]]
    columns, (rows, row_weights) = np.clip(columns, 0, side - 1), _taps(side, size_px)
    rows = np.clip(rows, 0, side - 1)
    height, width = region.shape[:2]
    colour = np.asarray(fill[: region.shape[2]] if region.ndim == 3 else fill[0], np.int32)

    def fetch(row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.int32]:
        y, x = row - pad_top, column - pad_left
        inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))[None, :]
        pixels = region[np.clip(y, 0, height - 1)[:, None], np.clip(x, 0, width - 1)[None, :]]
        mask = inside if region.ndim == 2 else inside[..., None]
        return np.where(mask, pixels.astype(np.int32), colour)

    across = column_weights if region.ndim == 2 else column_weights[..., None]
    lines = [
        fetch(rows[tap], columns[0]) * across[0] + fetch(rows[tap], columns[1]) * across[1]
        for tap in (0, 1)
    ]
    shape = (-1, 1) if region.ndim == 2 else (-1, 1, 1)
    total = sum((row_weights[tap].reshape(shape) * (lines[tap] >> 4)) >> 16 for tap in (0, 1))
    return ((total + 2) >> 2).astype(np.uint8)


def _taps(side: int, size_px: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The two source indices (2, size_px) and their 11-bit weights for each output pixel.

    Indices may lie one outside [0, side).
    """
    scale = 1.0 / (size_px / side)
    position = ((np.arange(size_px) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(position)
    weight = position - first
    high = np.rint(weight * np.float32(2048)).astype(np.int32)
    low = np.rint((np.float32(1) - weight) * np.float32(2048)).astype(np.int32)
    first = first.astype(np.int64)
    return np.stack([first, first + 1]), np.stack([low, high])
