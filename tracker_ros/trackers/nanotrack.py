# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""NanoTrack v2 and v3: a Siamese tracker with an anchor-free head, in PySOT's conventions.

The head gives, for each cell of a score map over the search crop, two class logits (background,
target) and the distances from the cell's point to the four sides of the box, in crop pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image, mean_colour, pysot_context_side, pysot_crop
from tracker_ros.runtime.engine import Engine, Tensors
from tracker_ros.runtime.package import ModelPackage
from tracker_ros.trackers.contract import Estimate, NetworkTracker


class NanoTrack(NetworkTracker):
    smallest_side_px = 10.0

    def __init__(self, package: ModelPackage, engine: Engine | None) -> None:
        super().__init__(package, engine)
        self._template_px = int(package.inputs['template_px'])
        self._search_px = int(package.inputs['search_px'])
        constants = package.constants
        self._context = float(constants['context'])
        self._window_influence = float(constants['window_influence'])
        self._penalty_k = float(constants['penalty_k'])
        self._size_rate = float(constants['size_rate'])
        cells = int(constants['score_map'])
        hanning = np.hanning(cells)
        self._window = np.outer(hanning, hanning)
        # Distance of each cell's point from the crop centre. With an even number of cells the
        # grid lies half a stride off; the networks were trained with it there.
        self._points = (np.arange(cells) - cells // 2) * float(constants['stride'])
        self._fill: tuple[int, ...] = (0, 0, 0)

    def _template_crop(self, image: Image, box: Box) -> Image:
        self._fill = mean_colour(image)
        side = round(pysot_context_side(box.w, box.h, self._context))
        return pysot_crop(image, box.cx, box.cy, side, self._template_px, self._fill)

    def _search_crop(self, image: Image) -> tuple[Image, int]:
        box = self._box
        context_side = pysot_context_side(box.w, box.h, self._context)
        side = round(context_side * self._search_px / self._template_px)
        return pysot_crop(image, box.cx, box.cy, side, self._search_px, self._fill), side

    def _decode(self, outputs: Tensors, side: int) -> Estimate:
        last = self._box
        # By the unrounded side, as the published tracker has it.
        scale = self._template_px / pysot_context_side(last.w, last.h, self._context)
        scores = _target_probability(outputs['score'][0])
        left, top, right, bottom = outputs['offset'][0].astype(np.float64)
        widths, heights = left + right, top + bottom
        penalty = self._penalty(widths, heights, scale)
        ranking = (
            penalty * scores * (1 - self._window_influence) + self._window * self._window_influence
        )
        row, column = np.unravel_index(int(ranking.argmax()), ranking.shape)
        cell = (row, column)
        score = float(scores[cell])
        # The centre is taken whole, the size only as far as the answer is trusted.
        rate = float(penalty[cell]) * score * self._size_rate
        moved = Box.from_center(
            last.cx + (self._points[column] + (right[cell] - left[cell]) / 2) / scale,
            last.cy + (self._points[row] + (bottom[cell] - top[cell]) / 2) / scale,
            last.w + (widths[cell] / scale - last.w) * rate,
            last.h + (heights[cell] / scale - last.h) * rate,
        )
        return Estimate(moved, score)

    def _penalty(
        self, widths: NDArray[np.float64], heights: NDArray[np.float64], scale: float
    ) -> NDArray[np.float64]:
        """How little each candidate's size and shape differ from the last box, in (0, 1]."""
        width, height = self._box.w * scale, self._box.h * scale
        widths, heights = np.maximum(widths, 1e-3), np.maximum(heights, 1e-3)
        sides = np.sqrt((1.5 * widths + 0.5 * heights) * (0.5 * widths + 1.5 * heights))
        size_change = _change(sides / pysot_context_side(width, height))
        shape_change = _change((width / height) / (widths / heights))
        return np.exp((1 - size_change * shape_change) * self._penalty_k)


def _target_probability(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Softmax over (background, target) logits (2, cells, cells): the target's share."""
    background, target = logits.astype(np.float64)
    return 1.0 / (1.0 + np.exp(np.clip(background - target, -60, 60)))


def _change(ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far a ratio is from 1, whichever way: max(ratio, 1 / ratio)."""
    return np.maximum(ratio, 1.0 / ratio)
