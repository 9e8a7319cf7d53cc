# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""SimTrack, as its official tests run it: one template, no window, no update.

Its head gives no confidence. What stands for it here is how well the two corners are known: the
probability that a corner's distribution has close to its expectation, which is where the box is
put. A distribution with several places in it, of a target hidden or alike to others, has little
there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image, box_from_stark, stark_crop
from tracker_ros.runtime.engine import Tensors
from tracker_ros.trackers.contract import Estimate
from tracker_ros.trackers.stark import StarkTracker

_NEAR_CELLS = 1.5
"""How far from its expectation, along each axis, a corner counts as known."""


class SimTrack(StarkTracker):
    def _make_templates(self, image: Image, box: Box) -> object:
        _, size_px = self._template_size
        crop, side = stark_crop(image, box, *self._template_size)
        width, height = (length * size_px / side for length in (box.w, box.h))
        # The official tests cut the corner to a whole pixel, and only the corner.
        corner = [int(size_px / 2 - width / 2), int(size_px / 2 - height / 2)]
        inside = np.array([*corner, width, height], np.float32) / np.float32(size_px)
        return self._encode(crop, box=inside)

    def _decode(self, outputs: Tensors, side: int) -> Estimate:
        cx, cy, w, h = (float(value) for value in outputs['box'][0])
        known = [_known(corner.astype(np.float64)) for corner in outputs['corners'][0]]
        box = box_from_stark(cx, cy, w, h, self._box, side)
        return Estimate(box, float(np.sqrt(np.prod(known))))

    def _response(self, outputs: Tensors) -> tuple[NDArray[np.float64], Box]:
        """Both corners in one map, each with its best cell at 1."""
        corners = outputs['corners'][0].astype(np.float64)
        shares = corners / corners.max(axis=(1, 2), keepdims=True)
        # A cell stands for the coordinate of its upper left corner.
        half = 0.5 / corners.shape[-1]
        return shares.max(axis=0), Box(-half, -half, 1.0, 1.0)


def _known(shares: NDArray[np.float64]) -> float:
    """The probability (rows, columns) of a corner near its expectation, in [0, 1]."""
    rows, columns = (np.arange(count) for count in shares.shape)
    of_row, of_column = shares.sum(axis=1), shares.sum(axis=0)
    near_row = np.abs(rows - of_row @ rows) <= _NEAR_CELLS
    near_column = np.abs(columns - of_column @ columns) <= _NEAR_CELLS
    return float(shares[np.ix_(near_row, near_column)].sum())
