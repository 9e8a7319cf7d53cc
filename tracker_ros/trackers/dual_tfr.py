# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""DualTFR: the box of the token that is most likely on the target; no window, no new template.

Its two further versions (section 4.1) are chosen in ``model.yaml``. The spatio-temporal one hands
what each frame was like to the next, as the package says in ``inputs.renewed``. The online one
adds the answer of a correlation filter, which learns while it tracks, to the tokens'
probabilities, with the weight ``constants.filter_weight``. Both learn only from frames in which
the target was seen, with ``update_score`` or more; the paper learns from all, and has no lost
targets to learn wrong things from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image, box_from_stark
from tracker_ros.runtime.engine import Engine, Tensors
from tracker_ros.runtime.package import ModelPackage
from tracker_ros.trackers.contract import WHOLE, Estimate
from tracker_ros.trackers.online_filter import OnlineFilter, Response
from tracker_ros.trackers.stark import StarkTracker

_FINER = 4
"""Cells of the filter's answer to a token, along each side."""


class DualTfr(StarkTracker):
    def __init__(self, package: ModelPackage, engine: Engine | None) -> None:
        super().__init__(package, engine)
        self._update_score = float(package.constants['update_score'])
        self._filter_weight = float(package.constants['filter_weight'])
        self._grid = int(package.constants['score_map'])
        self._filter: OnlineFilter | None = None
        if self._filter_weight:
            self._filter = OnlineFilter(_FINER * self._grid, self._search_size[0])
        self._next: dict[str, NDArray[np.float32]] = {}

    def start(self, image: Image, box: Box, text: str | None = None) -> float:
        score = super().start(image, box, text)
        self._renew()
        return score

    def learn(self, image: Image, estimate: Estimate) -> None:
        if estimate.score >= self._update_score:
            self._renew()
            if self._filter is not None:
                self._filter.learn(self._search_crop(image)[0])

    def _renew(self) -> None:
        """Hand on what this frame was like, unless it is no numbers."""
        if self._next and all(np.isfinite(value).all() for value in self._next.values()):
            self._cached = self._engine.renewed(self._cached, **self._next)

    def _make_templates(self, image: Image, box: Box) -> object:
        if self._filter is not None:
            self._filter.forget()
            self._filter.learn(self._search_crop(image)[0])
        return super()._make_templates(image, box)

    def _decode(self, outputs: Tensors, side: int) -> Estimate:
        scores = outputs['score'][0].astype(np.float64)
        merits = scores
        if self._filter is not None:
            merits = scores + self._filter_weight * self._coarser(
                self._filter.response(self._crop)
            )
        best = int(merits.argmax())
        cx, cy, w, h = (float(value) for value in outputs['box'][0, best])
        self._next = {name: outputs[f'next_{name}'][0].copy() for name in self.package.renewed}
        return Estimate(box_from_stark(cx, cy, w, h, self._box, side), float(scores[best]))

    def _coarser(self, answer: Response) -> Response:
        """The best of the filter's cells in each token, row by row."""
        cells = answer.reshape(self._grid, _FINER, self._grid, _FINER)
        return cells.max(axis=(1, 3)).ravel()

    def _response(self, outputs: Tensors) -> tuple[Response, Box]:
        scores = outputs['score'][0].astype(np.float64)
        return scores.reshape(self._grid, self._grid), WHOLE
