# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What trackers in PySOT's conventions have in common: their crops, and how they rank."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image, mean_colour, pysot_context_side, pysot_crop
from tracker_ros.runtime.engine import Engine
from tracker_ros.runtime.package import ModelPackage
from tracker_ros.trackers.contract import NetworkTracker

Numbers = NDArray[np.float64]


class PysotTracker(NetworkTracker):
    """Crops of the box and its context, padded with the first image's mean colour."""

    smallest_side_px = 10.0

    def __init__(self, package: ModelPackage, engine: Engine | None) -> None:
        super().__init__(package, engine)
        self._template_px = int(package.inputs['template_px'])
        self._search_px = int(package.inputs['search_px'])
        self._context = float(package.constants['context'])
        self._fill: tuple[int, ...] = (0, 0, 0)

    def _context_side(self, box: Box) -> float:
        """Side of the window that becomes the template, in image pixels, unrounded."""
        return pysot_context_side(box.w, box.h, self._context)

    def _template_crop(self, image: Image, box: Box) -> Image:
        self._fill = mean_colour(image)
        side = round(self._context_side(box))
        return pysot_crop(image, box.cx, box.cy, side, self._template_px, self._fill)

    def _search_crop(self, image: Image) -> tuple[Image, int]:
        box = self._box
        side = round(self._context_side(box) * self._search_px / self._template_px)
        return pysot_crop(image, box.cx, box.cy, side, self._search_px, self._fill), side


def target_probability(background: NDArray[Any], target: NDArray[Any]) -> Numbers:
    """Softmax over the logits of background and target: the target's share."""
    difference = background.astype(np.float64) - target.astype(np.float64)
    return 1.0 / (1.0 + np.exp(np.clip(difference, -60, 60)))


def size_penalty(
    widths: Numbers, heights: Numbers, width: float, height: float, strength: float
) -> Numbers:
    """How little each candidate's size and shape differ from width x height, in (0, 1]."""
    widths, heights = np.maximum(widths, 1e-3), np.maximum(heights, 1e-3)
    sides = np.sqrt((1.5 * widths + 0.5 * heights) * (0.5 * widths + 1.5 * heights))
    size_change = _change(sides / pysot_context_side(width, height))
    shape_change = _change((width / height) / (widths / heights))
    return np.exp((1 - size_change * shape_change) * strength)


class Anchors:
    """Boxes of fixed sizes in each cell of a square map, and what a network makes of them."""

    def __init__(self, ratios: list[float], cells: int, stride: int, scale: int) -> None:
        """`ratios` of height to width; `stride`, in pixels, between the centres of cells."""
        # (anchors, 1, 1), so that they stretch over maps (anchors, rows, columns).
        self.widths, self.heights = anchor_sizes(ratios, stride, scale).T[:, :, None, None]
        self.points = (np.arange(cells) - cells // 2) * float(stride)
        self.window = np.tile(hanning_window(cells).ravel(), len(ratios))
        """Weights that favour the middle, in the order of `boxes`."""

    def boxes(self, offsets: Numbers) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """cx, cy, w, h in pixels from the crop's middle: by anchors, then rows, then columns.

        `offsets` (4 x anchors, rows, columns) are dx, dy, dw, dh of the network.
        """
        dx, dy, dw, dh = offsets.reshape(4, len(self.widths), *offsets.shape[1:])
        return (
            (dx * self.widths + self.points).ravel(),
            (dy * self.heights + self.points[:, None]).ravel(),
            (np.exp(dw) * self.widths).ravel(),
            (np.exp(dh) * self.heights).ravel(),
        )


def anchor_sizes(ratios: list[float], stride: int, scale: int) -> Numbers:
    """Width and height (anchors, 2) of anchors by their ratio of height to width, in pixels.

    Each has about the area of a cell, in whole pixels, and is then scaled.
    """
    widths = [int(math.sqrt(stride * stride / ratio)) for ratio in ratios]
    heights = [int(width * ratio) for width, ratio in zip(widths, ratios, strict=True)]
    return np.array([widths, heights], np.float64).T * scale


def hanning_window(cells: int) -> Numbers:
    """Weights (cells, cells) that favour the middle of a square map."""
    line = np.hanning(cells)
    return np.outer(line, line)


def _change(ratio: Numbers) -> Numbers:
    """How far a ratio is from 1, whichever way: max(ratio, 1 / ratio)."""
    return np.maximum(ratio, 1.0 / ratio)
