# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""VitTrack: a one-stream vision transformer with a centre head (OpenCV Zoo, 2023).

The head gives, for each cell of a 16 x 16 map over the search crop, a score, the box size as a
fraction of the crop, and the offset of the box centre from the cell's corner in cells.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, box_from_stark
from tracker_ros.runtime.engine import Engine, Tensors
from tracker_ros.runtime.package import ModelPackage
from tracker_ros.trackers.contract import WHOLE, Estimate
from tracker_ros.trackers.stark import StarkCrops


class VitTrack(StarkCrops):
    def __init__(self, package: ModelPackage, engine: Engine | None) -> None:
        super().__init__(package, engine)
        self._cells = int(package.constants['score_map'])
        # The ends of a plain Hanning window are 0: two samples more keep the rim in play.
        hanning = np.hanning(self._cells + 2)[1:-1]
        self._window = np.outer(hanning, hanning).astype(np.float32)

    def _decode(self, outputs: Tensors, side: int) -> Estimate:
        scores = outputs['score'][0, 0]
        ranking = scores * self._window
        row, column = np.unravel_index(int(ranking.argmax()), ranking.shape)
        right, down = outputs['offset'][0, :, row, column]
        width, height = outputs['size'][0, :, row, column]
        box = box_from_stark(
            (column + float(right)) / self._cells,
            (row + float(down)) / self._cells,
            float(width),
            float(height),
            self._box,
            side,
        )
        return Estimate(box, float(scores[row, column]))

    def _response(self, outputs: Tensors) -> tuple[NDArray[np.float64], Box]:
        return outputs['score'][0, 0].astype(np.float64), WHOLE
