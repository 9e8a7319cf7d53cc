# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cars as the rendered scene sees them: drawn from above, in slices of rising height.

The frame of a vehicle: metres, x forward, y to its right, origin at the middle of its outline.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tracker_ros.evaluation.painting import Pixels, Points, premultiplied, rectangle

CAR_LENGTH_M, CAR_WIDTH_M = 4.5, 1.86

# Drawn this fine, then averaged down: the edges come out anti-aliased.
_FINE = 80
_MARGIN_M = 0.25


@dataclass(frozen=True, slots=True)
class Paint:
    """How one car differs from the next: BGR colours and markings."""

    body: tuple[int, int, int]
    roof: tuple[int, int, int] | None = None  # None: as the body
    stripes: tuple[int, int, int] | None = None  # two stripes from nose to tail
    glass_roof: bool = False
    rack: bool = False


@dataclass(frozen=True, slots=True)
class Slice:
    """One height of a vehicle."""

    height_m: float
    picture: Pixels  # premultiplied BGRA, x to the right
    outline: Points  # (N, 2) metres, convex


@dataclass(frozen=True, slots=True)
class Vehicle:
    slices: tuple[Slice, ...]
    shadow: Pixels  # (H, W) soft silhouette, 255 inside
    texels_per_m: float


def car(paint: Paint, texels_per_m: float) -> Vehicle:
    """A car of CAR_LENGTH_M x CAR_WIDTH_M, at `texels_per_m` texels a metre."""
    body, greenhouse = _body(paint), _greenhouse(paint)
    slices = (_slice(body, 0.6, texels_per_m), _slice(greenhouse, 1.35, texels_per_m))
    return Vehicle(slices, _shadow(slices[0].picture, texels_per_m), texels_per_m)


class _Sheet:
    """A fine drawing in vehicle metres."""

    def __init__(self) -> None:
        columns = int((CAR_LENGTH_M + 2 * _MARGIN_M) * _FINE)
        rows = int((CAR_WIDTH_M + 2 * _MARGIN_M) * _FINE)
        self.colour = np.zeros((rows, columns, 3), np.float32)
        self.alpha = np.zeros((rows, columns), np.float32)
        self.origin = np.array([columns, rows]) / 2
        self.y, self.x = np.mgrid[0:rows, 0:columns].astype(np.float32)
        self.x = (self.x + 0.5 - columns / 2) / _FINE
        self.y = (self.y + 0.5 - rows / 2) / _FINE

    def mask(self, outline: Points) -> np.ndarray:
        mask = np.zeros(self.alpha.shape, np.uint8)
        points = np.rint((np.asarray(outline) * _FINE + self.origin) * 16).astype(np.int32)
        cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, 4)
        return mask.astype(np.float32) / 255

    def solid(self, outline: Points, colour: tuple[int, int, int]) -> None:
        """Add material."""
        mask = self.mask(outline)
        self.paint_mask(mask, colour)
        self.alpha = np.maximum(self.alpha, mask)

    def paint(self, outline: Points, colour: tuple[int, int, int], opacity: float = 1) -> None:
        """Colour what is there already."""
        self.paint_mask(self.mask(outline) * opacity, colour)

    def mirrored(self, outline: Points, colour: tuple[int, int, int], opacity: float = 1) -> None:
        """Colour both sides of what is there already."""
        self.paint(outline, colour, opacity)
        self.paint(np.asarray(outline) * [1, -1], colour, opacity)

    def paint_mask(self, mask: np.ndarray, colour: tuple[int, int, int]) -> None:
        self.colour += (np.asarray(colour, np.float32) - self.colour) * mask[..., None]

    def shade(self, factor: np.ndarray) -> None:
        self.colour *= factor[..., None]

    def shine(self, amount: np.ndarray) -> None:
        """Add reflected sky, `amount` in 0 to 255."""
        self.colour += amount[..., None] * np.array([1.0, 0.97, 0.93], np.float32)


def _superellipse(a: float, b: float, power: float, cx: float = 0.0, taper: float = 0.0) -> Points:
    """Rounded outline of half axes a, b; `taper` narrows the front by that fraction."""
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** (2 / power) * a
    y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2 / power) * b
    y *= 1 - taper * np.clip(x / a, 0, 1) ** 2
    return np.column_stack([x + cx, y])


def _body(paint: Paint) -> _Sheet:
    sheet = _Sheet()
    a, b = CAR_LENGTH_M / 2, 0.9
    for side in (-1, 1):
        mirror = rectangle(0.72, side * 0.9, 0.16, 2 * (CAR_WIDTH_M / 2 - 0.9) + 0.1)
        sheet.solid(mirror, _scaled(paint.body, 0.8))
    sheet.solid(_superellipse(a, b, 5.0, taper=0.12), paint.body)
    _bumpers(sheet)
    if paint.stripes:
        sheet.mirrored(rectangle(0, 0.2, 4.3, 0.22), paint.stripes)
    # The bonnet's and the boot's seams.
    sheet.mirrored(rectangle(1.42, 0.62, 1.1, 0.025, 0.06), (20, 20, 20), 0.55)
    sheet.paint(rectangle(-1.86, 0, 0.025, 1.3), (20, 20, 20), 0.5)
    sheet.shade(1.04 - 0.42 * np.abs(sheet.y / b) ** 5 - 0.10 * (sheet.x / a) ** 4)
    sheet.shine(34 * np.exp(-(((sheet.y + 0.45) / 0.16) ** 2)) * (np.abs(sheet.x) > 0.9))
    sheet.shine(22 * np.exp(-(((np.abs(sheet.y) - 0.8) / 0.05) ** 2)))
    _lights(sheet)
    return sheet


def _bumpers(sheet: _Sheet) -> None:
    sheet.paint(rectangle(2.2, 0, 0.14, 1.1), (35, 35, 35), 0.7)
    sheet.paint(rectangle(-2.21, 0, 0.1, 1.3), (35, 35, 35), 0.5)
    sheet.paint(rectangle(-2.2, 0, 0.06, 0.5), (215, 225, 225), 0.9)


def _lights(sheet: _Sheet) -> None:
    front = np.array([[2.16, 0.38], [2.10, 0.66], [1.78, 0.78], [1.86, 0.6]])
    sheet.mirrored(front, (250, 246, 235), 0.95)
    rear = np.array([[-2.2, 0.42], [-2.2, 0.72], [-1.98, 0.82], [-2.04, 0.46]])
    sheet.mirrored(rear, (38, 30, 205), 0.95)


def _greenhouse(paint: Paint) -> _Sheet:
    sheet = _Sheet()
    glass, roof = (52, 44, 38), paint.roof or paint.body
    sheet.solid(_superellipse(1.58, 0.76, 3.6, cx=-0.32, taper=0.06), glass)
    # Sky in the windscreen and the rear window, strongest at the top edge.
    sheet.shine(np.clip(95 * (1.22 - sheet.x), 0, 75) * (sheet.x > 0.3))
    sheet.shine(np.clip(60 * (sheet.x + 1.95), 0, 40) * (sheet.x < -1.2))
    panel = np.array(
        [[0.52, 0.56], [0.62, 0], [0.52, -0.56], [-1.2, -0.6], [-1.32, 0], [-1.2, 0.6]]
    )
    sheet.paint(panel, roof)
    for x, lean in ((0.9, -0.42), (-1.48, 0.36)):
        sheet.mirrored(rectangle(x, 0.6, 0.75, 0.06, lean), _scaled(paint.body, 0.85))
    sheet.mirrored(rectangle(-0.2, 0.68, 0.07, 0.2), _scaled(paint.body, 0.8))
    if paint.stripes:
        sheet.mirrored(rectangle(-0.36, 0.2, 1.86, 0.22), paint.stripes)
    if paint.glass_roof:
        sheet.paint(_superellipse(0.62, 0.44, 5.0, cx=-0.3), (40, 33, 28))
    if paint.rack:
        sheet.mirrored(rectangle(-0.35, 0.52, 1.5, 0.06), (28, 28, 28))
        for x in (-0.85, 0.15):
            sheet.paint(rectangle(x, 0, 0.06, 1.1), (28, 28, 28))
    sheet.shade(1.08 - 0.22 * np.abs(sheet.y / 0.8) ** 3)
    sheet.shine(40 * np.exp(-(((sheet.y + 0.3) / 0.2) ** 2 + ((sheet.x + 0.1) / 0.6) ** 2)))
    return sheet


def _scaled(colour: tuple[int, int, int], factor: float) -> tuple[int, int, int]:
    blue, green, red = (int(channel * factor) for channel in colour)
    return blue, green, red


def _slice(sheet: _Sheet, height_m: float, texels_per_m: float) -> Slice:
    fine = premultiplied(sheet.colour, sheet.alpha)
    contours, _ = cv2.findContours(
        (sheet.alpha > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    hull = cv2.convexHull(np.vstack(contours))[:, 0].astype(np.float64)
    # A contour runs through pixel centres; the material reaches half a pixel further.
    outline = (hull + 0.5 - sheet.origin) / _FINE
    outline *= 1 + 0.5 / _FINE / np.abs(outline).max(axis=0)
    rows, columns = sheet.alpha.shape
    size = (round(columns * texels_per_m / _FINE), round(rows * texels_per_m / _FINE))
    return Slice(height_m, cv2.resize(fine, size, interpolation=cv2.INTER_AREA), outline)


def _shadow(picture: Pixels, texels_per_m: float) -> Pixels:
    margin = round(0.6 * texels_per_m)
    alpha = cv2.copyMakeBorder(
        picture[..., 3], margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0
    )
    return cv2.GaussianBlur(alpha, (0, 0), 0.14 * texels_per_m)
