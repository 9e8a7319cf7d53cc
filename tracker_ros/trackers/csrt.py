# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""CSRT: the discriminative correlation filter of OpenCV's contrib modules.

OpenCV gives no score. The one here is measured beside it: how much the colours in the box
resemble those of the target at the start or a while ago (Bhattacharyya coefficient of Lab
histograms). It tells good boxes from bad ones far better than correlating grey patches, which
falls for every turn of the target.
"""

from __future__ import annotations

import time

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image
from tracker_ros.runtime.engine import Engine
from tracker_ros.runtime.package import ModelPackage
from tracker_ros.trackers.contract import Estimate, Tracker, TrackerError

_BINS = 16
# The rim of a box is mostly background.
_INNER = 0.8
# Below this deviation of its grey levels a patch shows nothing.
_FLAT = 1.0
# A memory of the last second or so at camera rate; a doubtful box does not enter it.
_MEMORY_RATE = 0.05
_MEMORY_SCORE = 0.7


class Csrt(Tracker):
    def __init__(self, package: ModelPackage, engine: Engine | None) -> None:
        super().__init__(package, engine)
        if not hasattr(cv2, 'TrackerCSRT_create'):
            raise TrackerError(
                f'OpenCV {cv2.__version__} has no CSRT, a contrib module: install '
                'python3-opencv of the distribution, or opencv-contrib-python(-headless)'
            )
        self._filter: cv2.TrackerCSRT | None = None
        self._box = Box(0, 0, 1, 1)
        self._first: NDArray[np.float32] = np.zeros(_BINS**3, np.float32)
        self._recent = self._newest = self._first

    def start(self, image: Image, box: Box, text: str | None = None) -> float:
        began = time.perf_counter()
        parameters = cv2.TrackerCSRT_Params()
        # OpenCV gives a target up for good once its response falls below a threshold. Here the
        # score says that it is lost, and the filter goes on: it may come back.
        parameters.psr_threshold = 0.0
        self._filter = cv2.TrackerCSRT_create(parameters)
        x1, y1, x2, y2 = (round(corner) for corner in box.corners())
        try:
            self._filter.init(image, (x1, y1, max(1, x2 - x1), max(1, y2 - y1)))
        except cv2.error as error:
            raise TrackerError(f'csrt cannot start in this box: {error}') from error
        self._box = box
        self._first = self._recent = _signature(image, box)
        self.inference_s = time.perf_counter() - began
        # A flat patch has no appearance that could be found again.
        return float(self._first @ self._first)

    def follow(self, image: Image) -> Estimate:
        if self._filter is None:
            raise TrackerError('csrt has no target yet: call start first')
        began = time.perf_counter()
        try:
            found, (x, y, w, h) = self._filter.update(image)
        except cv2.error as error:
            raise TrackerError(f'csrt cannot follow a box such as {self._box}: {error}') from error
        self.inference_s = time.perf_counter() - began
        if not found:
            return Estimate(self._box, 0.0)
        height, width = image.shape[:2]
        self._box = Box(float(x), float(y), float(w), float(h)).clipped(width, height)
        patch = _signature(image, self._box)
        score = max(0.0, float(patch @ self._first), float(patch @ self._recent))
        self._newest = patch
        return Estimate(self._box, min(score, 1.0))

    def learn(self, image: Image, estimate: Estimate) -> None:
        if estimate.score > _MEMORY_SCORE:
            mixed = self._recent + np.float32(_MEMORY_RATE) * (self._newest - self._recent)
            self._recent = mixed / max(np.linalg.norm(mixed), np.float32(1e-6))

    def search_around(self, box: Box) -> None:
        """The filter keeps its place itself: there is no way to move it."""


def _signature(image: Image, box: Box) -> NDArray[np.float32]:
    """The colours in the middle of `box` as a unit vector (_BINS**3,); zeros for a flat patch."""
    height, width = image.shape[:2]
    middle = Box.from_center(box.cx, box.cy, _INNER * box.w, _INNER * box.h)
    x1, y1, x2, y2 = (round(corner) for corner in middle.corners())
    patch = image[max(0, y1) : min(height, y2), max(0, x1) : min(width, x2)]
    if patch.size == 0 or float(patch.std(axis=(0, 1)).max()) < _FLAT:
        return np.zeros(_BINS**3, np.float32)
    lab = cv2.cvtColor(patch, cv2.COLOR_BGR2LAB)
    # Colours of the real world fill about half of the range of a and b.
    ranges = [0, 256, 64, 192, 64, 192]
    counts = cv2.calcHist([lab], [0, 1, 2], None, [_BINS] * 3, ranges).ravel()
    return np.sqrt(counts / max(float(counts.sum()), 1.0))
