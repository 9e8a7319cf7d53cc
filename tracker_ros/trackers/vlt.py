# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""VLT: what to follow is shown by a box and, if one likes, said in a sentence.

The variants VLT_SCAR, VLT_TT and VLT_RPN++ differ in their heads. The sentence is turned into
numbers once, when the target starts. Without one the template speaks for itself, or a sentence
of zeros stands in: `without_text` in model.yaml says which.
"""

from __future__ import annotations

import math
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image, pysot_context_side, pysot_crop
from tracker_ros.runtime.engine import Engine, EngineError, Tensors
from tracker_ros.runtime.language import EMBEDDING, LanguageModel, load_language_model
from tracker_ros.runtime.package import ModelPackage, PackageError
from tracker_ros.trackers.contract import WHOLE, Estimate, Tracker, TrackerError
from tracker_ros.trackers.pysot import (
    Anchors,
    Numbers,
    PysotTracker,
    hanning_window,
    size_penalty,
    target_probability,
)

_WITHOUT_TEXT = ('template', 'zero')


class _Reader:
    """A language model, loaded for the first sentence: it takes seconds to load, and 400 MB."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._model: LanguageModel | None = None

    def embed(self, text: str) -> NDArray[np.float32]:
        self._model = self._model or load_language_model(self._name)
        return self._model.embed(text)


class VltTracker(PysotTracker):
    def __init__(self, package: ModelPackage, engine: Engine | None) -> None:
        super().__init__(package, engine)
        constants = package.constants
        self._penalty_k = float(constants['penalty_k'])
        self._size_rate = float(constants['size_rate'])
        self._window_influence = float(constants['window_influence'])
        self._cells = int(constants['score_map'])
        self._window = hanning_window(self._cells)
        self._without_text = str(constants['without_text'])
        if self._without_text not in _WITHOUT_TEXT:
            raise ValueError(
                f'without_text must be one of {", ".join(_WITHOUT_TEXT)}, not '
                f'{self._without_text!r}'
            )
        self._language = _Reader(str(constants['language_model']))
        self._embedding: NDArray[np.float32] | None = None

    def start(self, image: Image, box: Box, text: str | None = None) -> float:
        self._embedding = self._embedding_of(text)
        return super().start(image, box, text)

    def another(self) -> Tracker:
        tracker = super().another()
        assert isinstance(tracker, VltTracker)
        tracker._language = self._language
        return tracker

    def _embedding_of(self, text: str | None) -> NDArray[np.float32] | None:
        """The numbers of a sentence; None where the template is to speak for itself."""
        if text and not text.isspace():
            try:
                return self._language.embed(text)
            except (PackageError, EngineError) as error:
                raise TrackerError(str(error)) from error
        return np.zeros(EMBEDDING, np.float32) if self._without_text == 'zero' else None

    def _make_templates(self, image: Image, box: Box) -> object:
        # By the rounded side: that is what the crop shows.
        scale = self._template_px / round(self._context_side(box))
        middle, width, height = self._template_px // 2, box.w * scale, box.h * scale
        inside = Box.from_center(middle, middle, width, height).corners()
        embedding = self._embedding
        return self._encode(
            self._template_crop(image, box),
            box=np.array(inside, np.float32),
            language=np.zeros(EMBEDDING, np.float32) if embedding is None else embedding,
            by_language=np.array([embedding is not None], np.float32),
        )

    def _middle(self, stride: int) -> Box:
        """What a map of cells `stride` pixels apart covers, in parts of the search crop."""
        side = stride * self._cells / self._search_px
        return Box.from_center(0.5, 0.5, side, side)

    def _resized(self, width: float, height: float, rate: float) -> tuple[float, float]:
        """The last size, moved towards width x height by a share of the way."""
        last = self._box
        return last.w + (width - last.w) * rate, last.h + (height - last.h) * rate


class VltScar(VltTracker):
    """Scores on a map, looked for in two steps on one that is finer.

    The head gives for each cell two class logits (background, target), a logit of being near
    the target's centre, and the distances to the four sides of the box in crop pixels.
    """

    def __init__(self, package: ModelPackage, engine: Engine | None) -> None:
        super().__init__(package, engine)
        self._stride = int(package.constants['stride'])
        self._fine = (self._cells - 1) * self._stride + 1
        """Side of the finer map: one cell for each pixel of the crop's middle."""

    def _decode(self, outputs: Tensors, side: int) -> Estimate:
        last = self._box
        scale = self._template_px / self._context_side(last)
        offsets = outputs['offset'][0].transpose(1, 2, 0)
        scores, merits = self._merits(outputs, scale)
        ranking = merits * (1 - self._window_influence) + self._window * self._window_influence
        row, column = self._place(self._finer(ranking), self._finer(merits), offsets)
        left, top, right, bottom = self._finer(offsets)[row, column].tolist()
        score = float(self._finer(scores)[row, column])
        width, height = (left + right) / scale, (top + bottom) / scale
        # Sizes in the image against one in the crop: the official constants were chosen with it.
        penalty = size_penalty(
            np.array(width),
            np.array(height),
            last.w * scale,
            last.h * scale,
            self._penalty_k,
        )
        # The middle of the finer map, which lies in that of the crop, counted from 0.
        offset = (self._search_px - 1) // 2 - (self._search_px - self._fine + 1) // 2
        moved = Box.from_center(
            last.cx + (column - offset) / scale,
            last.cy + (row - offset) / scale,
            *self._resized(width, height, float(penalty) * score * self._size_rate),
        )
        return Estimate(moved, score)

    def _response(self, outputs: Tensors) -> tuple[NDArray[np.float64], Box]:
        """The target's probability in each cell, around the middle of the crop."""
        return target_probability(*outputs['score'][0]), self._middle(self._stride)

    def _merits(self, outputs: Tensors, scale: float) -> tuple[Numbers, Numbers]:
        """The target's probability in each cell, and that times penalty and centre."""
        scores = target_probability(*outputs['score'][0])
        centres = outputs['centre'][0, 0].astype(np.float64)
        centres = centres - centres.min()
        centres /= max(float(centres.max()), 1e-12)
        left, top, right, bottom = outputs['offset'][0].astype(np.float64)
        penalty = size_penalty(
            left + right,
            top + bottom,
            self._box.w * scale,
            self._box.h * scale,
            self._penalty_k,
        )
        return scores, penalty * scores * centres

    def _finer(self, maps: NDArray[np.float32] | Numbers) -> Numbers:
        """(cells, cells, ...) to one value a pixel, by bicubic interpolation."""
        size = (self._fine, self._fine)
        return cast(Numbers, cv2.resize(maps, size, interpolation=cv2.INTER_CUBIC))

    def _place(
        self, ranking: Numbers, merits: Numbers, offsets: NDArray[np.float32]
    ) -> tuple[int, int]:
        """Row and column on the finer map: the best by merit near the best by ranking."""
        cells = self._cells
        peak = np.unravel_index(int(ranking.argmax()), ranking.shape)
        cell = tuple(min(round(int(place) * cells / self._fine), cells - 1) for place in peak)
        smallest, largest = int(0.1 * self._template_px), int(0.44 * self._template_px)
        # A network fed with anything may answer with no numbers at all.
        offset = np.nan_to_num(np.clip(offsets[cell], smallest, largest))
        left, top, right, bottom = offset.tolist()
        windows = []
        for place, before, after in ((peak[0], top, bottom), (peak[1], left, right)):
            first = int(place) - int(min(int(place), before) / 2)
            end = int(place) + int(min(self._fine - int(place), after) / 2) + 1
            windows.append(slice(first, end))
        near = merits[windows[0], windows[1]]
        row, column = np.unravel_index(int(near.argmax()), near.shape)
        return int(row) + windows[0].start, int(column) + windows[1].start


class VltTt(VltTracker):
    """A class and a box, in fractions of the crop, for each cell of a grid over the crop."""

    def __init__(self, package: ModelPackage, engine: Engine | None) -> None:
        super().__init__(package, engine)
        self._search_context = float(package.constants['search_context'])
        self._scale = 1.0

    def _make_templates(self, image: Image, box: Box) -> object:
        # That of the first image for the whole sequence.
        self._scale = self._template_px / round(self._context_side(box))
        return super()._make_templates(image, box)

    def _search_crop(self, image: Image) -> tuple[Image, int]:
        box = self._box
        side = math.ceil(pysot_context_side(box.w, box.h, self._search_context))
        return pysot_crop(image, box.cx, box.cy, side, self._search_px, self._fill), side

    def _decode(self, outputs: Tensors, side: int) -> Estimate:
        last = self._box
        scores, penalty, ranking = self._ranking(outputs, side)
        best = int(ranking.argmax())
        cx, cy, width, height = (outputs['box'][0, best].astype(np.float64) * side).tolist()
        rate = self._size_rate
        if self._penalty_k:
            rate *= float(penalty[best]) * float(ranking[best])
        moved = Box.from_center(
            last.cx + cx - side / 2,
            last.cy + cy - side / 2,
            *self._resized(width, height, rate),
        )
        return Estimate(moved, float(scores[best]))

    def _response(self, outputs: Tensors) -> tuple[NDArray[np.float64], Box]:
        target, background = outputs['score'][0].T
        return target_probability(background, target).reshape(self._window.shape), WHOLE

    def _ranking(self, outputs: Tensors, side: int) -> tuple[Numbers, Numbers, Numbers]:
        """For each cell, row by row, the target's probability, the penalty, and the merit."""
        target, background = outputs['score'][0].T
        scores = target_probability(background, target)
        sizes = outputs['box'][0, :, 2:].astype(np.float64) * side
        penalty = size_penalty(
            sizes[:, 0],
            sizes[:, 1],
            self._box.w * self._scale,
            self._box.h * self._scale,
            self._penalty_k,
        )
        influence = self._window_influence
        return (
            scores,
            penalty,
            penalty * scores * (1 - influence) + self._window.ravel() * influence,
        )


class VltRpn(VltTracker):
    """Two class logits and four offsets for each of five anchors in each cell, in crop pixels."""

    def __init__(self, package: ModelPackage, engine: Engine | None) -> None:
        super().__init__(package, engine)
        constants = package.constants
        self._stride = int(constants['stride'])
        self._anchors = Anchors(
            [float(ratio) for ratio in constants['anchor_ratios']],
            self._cells,
            self._stride,
            int(constants['anchor_scale']),
        )

    def _response(self, outputs: Tensors) -> tuple[NDArray[np.float64], Box]:
        """The best anchor's score in each cell."""
        scores = target_probability(*outputs['cls'][0].reshape(2, -1))
        best = scores.reshape(-1, self._cells, self._cells).max(axis=0)
        return best, self._middle(self._stride)

    def _decode(self, outputs: Tensors, side: int) -> Estimate:
        last, influence = self._box, self._window_influence
        scale = self._template_px / self._context_side(last)
        scores = target_probability(*outputs['cls'][0].reshape(2, -1))
        cx, cy, widths, heights = self._anchors.boxes(outputs['loc'][0].astype(np.float64))
        penalty = size_penalty(widths, heights, last.w * scale, last.h * scale, self._penalty_k)
        ranking = penalty * scores * (1 - influence) + self._anchors.window * influence
        best = int(ranking.argmax())
        score = float(scores[best])
        rate = float(penalty[best]) * score * self._size_rate
        moved = Box.from_center(
            last.cx + float(cx[best]) / scale,
            last.cy + float(cy[best]) / scale,
            *self._resized(float(widths[best]) / scale, float(heights[best]) / scale, rate),
        )
        return Estimate(moved, score)
