# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""NanoTrack v2 and v3: a Siamese tracker with an anchor-free head, in PySOT's conventions.

The head gives, for each cell of a score map over the search crop, two class logits (background,
target) and the distances from the cell's point to the four sides of the box, in crop pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box
from tracker_ros.runtime.engine import Engine, Tensors
from tracker_ros.runtime.package import ModelPackage
from tracker_ros.trackers.contract import Estimate
from tracker_ros.trackers.pysot import (
    PysotTracker,
    hanning_window,
    size_penalty,
    target_probability,
)


class NanoTrack(PysotTracker):
    def __init__(self, package: ModelPackage, engine: Engine | None) -> None:
        super().__init__(package, engine)
        constants = package.constants
        self._window_influence = float(constants['window_influence'])
        self._penalty_k = float(constants['penalty_k'])
        self._size_rate = float(constants['size_rate'])
        cells = int(constants['score_map'])
        self._window = hanning_window(cells)
        # Distance of each cell's point from the crop centre. With an even number of cells the
        # grid lies half a stride off; the networks were trained with it there.
        self._points = (np.arange(cells) - cells // 2) * float(constants['stride'])

    def _decode(self, outputs: Tensors, side: int) -> Estimate:
        last = self._box
        # By the unrounded side, as the published tracker has it.
        scale = self._template_px / self._context_side(last)
        scores = target_probability(*outputs['score'][0])
        left, top, right, bottom = outputs['offset'][0].astype(np.float64)
        widths, heights = left + right, top + bottom
        penalty = size_penalty(widths, heights, last.w * scale, last.h * scale, self._penalty_k)
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

    def _response(self, outputs: Tensors) -> tuple[NDArray[np.float64], Box]:
        """The probability of the target in each cell, around the cell's point."""
        stride = (self._points[1] - self._points[0]) / self._search_px
        first = 0.5 + self._points[0] / self._search_px - stride / 2
        side = stride * len(self._points)
        return target_probability(*outputs['score'][0]), Box(first, first, side, side)
