# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Kestrel, the trackers of this project.

The network gives, for each cell of the search crop, the probability that the target's centre is
there and the distances to the sides of its box; how likely the target is in the crop at all,
which is the score; and what overlap with the true box it expects of its own. Of nearly equal
cells the middle ones are preferred, for a target moves little from frame to frame: a far one is
taken only if it is very much likelier than any near the middle. The box changes its size with a
delay, the longer the lower the score.

A network with two templates is shown a second one, of later: the best-scored of an interval.
"""

from __future__ import annotations

import time

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image, stark_corner, stark_crop
from tracker_ros.runtime.engine import Engine, Tensors
from tracker_ros.runtime.package import ModelPackage
from tracker_ros.trackers.contract import WHOLE, Estimate
from tracker_ros.trackers.pysot import hanning_window
from tracker_ros.trackers.stark import StarkTracker

_SMALLEST = 1e-12
# What is found farther away than so many target sizes must be so many times as likely as a peak
# within the smaller distance: where that is, the target has not gone, and something like it came.
_FAR_SIZES = 1.0
_NEAR_SIZES = 0.7
_CLEARLY = 100.0


class Kestrel(StarkTracker):
    def __init__(self, package: ModelPackage, engine: Engine | None) -> None:
        super().__init__(package, engine)
        constants = package.constants
        self._influence = float(constants['window'])
        self._pace = float(constants['size_pace'])
        self._has_online = 'online_box' in package.template_values
        if self._has_online:
            self._interval = int(constants['update_interval_frames'])
            self._update_score = float(constants['update_score'])
        self._frame = 0
        self._first = self._candidate = (np.zeros((1, 1, 3), np.uint8), np.zeros(4, np.float32))
        self._best_score = -1.0
        self._window = self._distances = np.zeros((0, 0))

    def learn(self, image: Image, estimate: Estimate) -> None:
        if not self._has_online:
            return
        self._frame += 1
        if estimate.score > max(self._update_score, self._best_score):
            self._candidate = self._framed(image, estimate.box)
            self._best_score = estimate.score
        if self._frame % self._interval == 0:
            self._renew_online_template()

    def _renew_online_template(self) -> None:
        """Take the best of the interval; without a good one that is the first template again."""
        began = time.perf_counter()
        self._cached = self._encode_both(self._candidate)
        self.inference_s += time.perf_counter() - began
        self._candidate, self._best_score = self._first, -1.0

    def _make_templates(self, image: Image, box: Box) -> object:
        self._first = self._candidate = self._framed(image, box)
        self._frame, self._best_score = 0, -1.0
        return self._encode_both(self._first)

    def _encode_both(self, online: tuple[Image, NDArray[np.float32]]) -> object:
        crop, box = self._first
        if not self._has_online:
            return self._encode(crop, box=box)
        return self._encode(crop, online=online[0], box=box, online_box=online[1])

    def _framed(self, image: Image, box: Box) -> tuple[Image, NDArray[np.float32]]:
        """The template crop, and the box in it: cx, cy, w, h in parts of the crop."""
        factor, size_px = self._template_size
        crop, side = stark_crop(image, box, factor, size_px)
        left, top = stark_corner(box, side)
        inside = np.array([box.cx - left, box.cy - top, box.w, box.h], np.float32)
        return crop, inside / np.float32(side)

    def _decode(self, outputs: Tensors, side: int) -> Estimate:
        shares = outputs['score'][0, 0].astype(np.float64)
        cells = len(shares)
        if self._window.shape != shares.shape:
            self._window = np.log(hanning_window(cells + 2)[1:-1, 1:-1])
            # Of the cells' middles from that of the crop, in target sizes.
            aside = self._search_size[0] * ((np.arange(cells) + 0.5) / cells - 0.5)
            self._distances = np.hypot(aside[:, None], aside)
        ranking = np.log(np.maximum(shares, _SMALLEST)) + self._influence * self._window
        row, column = divmod(self._chosen(shares, ranking), cells)
        left, up, right, down = outputs['sides'][0, :, row, column].tolist()
        x, y = (column + 0.5) / cells, (row + 0.5) / cells
        corner_x, corner_y = stark_corner(self._box, side)
        found = Box.from_corners(
            corner_x + (x - left) * side,
            corner_y + (y - up) * side,
            corner_x + (x + right) * side,
            corner_y + (y + down) * side,
        )
        score = float(outputs['presence'][0])
        quality = float(outputs['quality'][0]) if 'quality' in outputs else 1.0
        # The less there is to be seen of the target, the less its size is believed: otherwise
        # the box of a lost one shrinks, and with it the crop that it could be found in.
        before, pace = self._box, self._pace * score
        box = Box.from_center(
            found.cx,
            found.cy,
            before.w + pace * (found.w - before.w),
            before.h + pace * (found.h - before.h),
        )
        return Estimate(box, score, quality=quality)

    def _chosen(self, shares: NDArray[np.float64], ranking: NDArray[np.float64]) -> int:
        """The number of the best cell: the highest in `ranking`, but a near one before a far."""
        best = int(ranking.argmax())
        distances = self._distances
        if distances.flat[best] <= _FAR_SIZES:
            return best
        near = np.where(_is_peak(shares) & (distances <= _NEAR_SIZES), shares, 0.0)
        nearest = int(near.argmax())
        return nearest if near.flat[nearest] * _CLEARLY >= shares.flat[best] else best

    def _response(self, outputs: Tensors) -> tuple[NDArray[np.float64], Box]:
        """The probabilities of the cells, the best at the score."""
        shares = outputs['score'][0, 0].astype(np.float64)
        return shares / max(shares.max(), _SMALLEST) * float(outputs['presence'][0]), WHOLE


def _is_peak(shares: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where no neighbour, of eight, is higher."""
    return shares >= cv2.dilate(shares, np.ones((3, 3), np.uint8))
