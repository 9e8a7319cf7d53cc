# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""MixFormerV2's way through a sequence: one search crop a frame, and an online template.

Beside the template of the start, a second one follows the target's appearance: the best-scored
crop of each interval takes its place (section 3.2, "quality score").
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image, box_from_stark
from tracker_ros.runtime.engine import Engine, Tensors
from tracker_ros.runtime.package import ModelPackage
from tracker_ros.trackers.contract import Estimate
from tracker_ros.trackers.stark import StarkTracker


class MixFormerV2(StarkTracker):
    def __init__(self, package: ModelPackage, engine: Engine | None) -> None:
        super().__init__(package, engine)
        constants = package.constants
        self._interval = int(constants['update_interval_frames'])
        self._update_score = float(constants['update_score'])
        self._frame = 0
        self._first = self._online = self._candidate = np.zeros((1, 1, 3), np.uint8)
        self._best_score = -1.0

    def learn(self, image: Image, estimate: Estimate) -> None:
        self._frame += 1
        self._offer_candidate(image, estimate)
        if self._frame % self._interval == 0:
            self._renew_online_template()

    def _offer_candidate(self, image: Image, estimate: Estimate) -> None:
        """Keep the crop of the best frame of the interval, if that is a good one."""
        if estimate.score > max(self._update_score, self._best_score):
            self._candidate = self._template_crop(image, estimate.box)
            self._best_score = estimate.score

    def _renew_online_template(self) -> None:
        """Take the candidate; without a confident frame that is the first template again."""
        self._online = self._candidate
        began = time.perf_counter()
        self._cached = self._encode(self._first, online=self._online)
        self.inference_s += time.perf_counter() - began
        self._candidate = self._first
        self._best_score = -1.0

    def _make_templates(self, image: Image, box: Box) -> object:
        self._first = self._online = self._candidate = self._template_crop(image, box)
        self._best_score = -1.0
        self._frame = 0
        return self._encode(self._first, online=self._online)

    def _decode(self, outputs: Tensors, side: int) -> Estimate:
        cx, cy, w, h = outputs['box'][0].tolist()
        box = box_from_stark(cx, cy, w, h, self._box, side)
        return Estimate(box, float(outputs['score'][0]))

    def _edges(self, outputs: Tensors) -> NDArray[np.float64]:
        return outputs['sides'][0].astype(np.float64)
