# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where in an image the colours of a target are."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image

Numbers = NDArray[np.float32]

# Each channel is told in so many bits; finer ones would not hold when the light changes.
_BITS = 4
_LEVELS = 1 << _BITS
# The rim of a box is mostly background.
_INNER = 0.7
# The copy that is searched: the target's size in it, and its longest side at most.
_TARGET_PX = 8
_COPY_PX = 320
# Weight of what is known of no colour, in shares of a histogram: what was seen in neither target
# nor surroundings counts for neither.
_UNSEEN = 1e-4


class Colours:
    """The colours of a target against those of the image around it, as they were at the start."""

    def __init__(self, image: Image, box: Box) -> None:
        step = _step(image, box)
        bins = _binned(image[::step, ::step])
        inner = Box.from_center(box.cx, box.cy, _INNER * box.w, _INNER * box.h)
        x1, y1, x2, y2 = (round(value / step) for value in inner.corners())
        rows = slice(max(0, min(y1, len(bins) - 1)), max(y2, y1 + 1, 1))
        columns = slice(max(0, min(x1, bins.shape[1] - 1)), max(x2, x1 + 1, 1))
        counts = _counts(bins[rows, columns])
        target, around = _shares(counts), _shares(_counts(bins) - counts)
        self._likelihood = (target + _UNSEEN) / (target + around + 2 * _UNSEEN)

    def peaks(
        self, image: Image, width: float, height: float, side: float
    ) -> tuple[Numbers, NDArray[np.float64]]:
        """The likeliest place in each cell of a grid with cells of `side` pixels.

        Returns for each cell, row by row, how much a box of width x height has the target's
        colours (n,) in [0, 1], and where its centre is then (n, 2) x, y in pixels.
        """
        step = _step(image, Box(0.0, 0.0, width, height))
        copy = self._likelihood[_binned(image[::step, ::step])]
        size = (max(1, round(width / step)), max(1, round(height / step)))
        likely = cv2.boxFilter(copy, -1, size, borderType=cv2.BORDER_CONSTANT)
        cell = max(1, round(side / step))
        rows, columns = (-(-length // cell) for length in likely.shape)
        padding = [(0, rows * cell - likely.shape[0]), (0, columns * cell - likely.shape[1])]
        grid = np.pad(likely, padding, constant_values=-1.0).reshape(rows, cell, columns, cell)
        cells = grid.transpose(0, 2, 1, 3).reshape(rows * columns, cell * cell)
        best = cells.argmax(axis=1)
        number = np.arange(rows * columns)
        x = (number % columns * cell + best % cell + 0.5) * step
        y = (number // columns * cell + best // cell + 0.5) * step
        return cells[number, best], np.stack([x, y], axis=1)


def _step(image: Image, box: Box) -> int:
    """Which share of rows and columns is enough to find a box of this size."""
    by_target = math.sqrt(max(box.area, 1.0)) / _TARGET_PX
    by_image = max(image.shape[:2]) / _COPY_PX
    return max(1, math.floor(max(by_target, by_image)))


def _binned(image: Image) -> NDArray[np.int32]:
    """The number (rows, columns) of each pixel's colour."""
    levels = (image >> (8 - _BITS)).astype(np.int32)
    blue, green, red = (levels[..., channel] for channel in range(3))
    return np.asarray((blue * _LEVELS + green) * _LEVELS + red, np.int32)


def _counts(bins: NDArray[np.int32]) -> NDArray[np.float64]:
    """How often each colour is there, some of it counting for colours next to it."""
    counts = np.bincount(bins.ravel(), minlength=_LEVELS**3).astype(np.float64)
    cube = counts.reshape(_LEVELS, _LEVELS, _LEVELS)
    for axis in range(3):
        cube = 0.5 * cube + 0.25 * (_next(cube, axis, 1) + _next(cube, axis, -1))
    return cube.ravel()


def _next(cube: NDArray[np.float64], axis: int, way: int) -> NDArray[np.float64]:
    """The cube with each level's neighbour in its place; the end levels are their own."""
    places = np.clip(np.arange(_LEVELS) + way, 0, _LEVELS - 1)
    return np.take(cube, places, axis=axis)


def _shares(counts: NDArray[np.float64]) -> Numbers:
    return (np.maximum(counts, 0.0) / max(float(counts.sum()), 1.0)).astype(np.float32)
