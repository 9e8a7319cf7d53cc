# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What every tracker is: crops in, a box and a raw score out."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image, RotatedBox
from tracker_ros.runtime.engine import Engine, Tensors
from tracker_ros.runtime.package import ModelPackage
from tracker_ros.trackers.insight import Insight

WHOLE = Box(0.0, 0.0, 1.0, 1.0)
"""All of a crop, in parts of it."""


class TrackerError(Exception):
    """A tracker cannot be made, started or stepped."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """One frame's answer: the box in image pixels and the model's own score in [0, 1].

    mask: (H, W) uint8, 255 for pixels of the target; outline: the smallest box around it, at any
    angle. Both only from a tracker that `gives_mask`, and is told that they are wanted.
    """

    box: Box
    score: float
    mask: Image | None = field(default=None, compare=False, repr=False)
    outline: RotatedBox | None = None


class Tracker(ABC):
    """One target of one model. Images are (H, W, 3) uint8 BGR and are only read."""

    gives_mask = False
    """Whether the target's mask can be had of it."""

    wants_mask = False
    """Set to have it from the next `step` on; it costs time."""

    def __init__(self, package: ModelPackage, engine: Engine | None) -> None:
        self.package = package
        self.inference_s = 0.0
        """Time that the last `start` or `step` spent in the network, in seconds."""
        self.keeps_insight = False
        """Whether `insight` is kept; it costs a copy of the outputs a frame."""
        self.insight: Insight | None = None
        """What the network saw and answered in the newest frame, where that is kept."""

    @property
    def runtime(self) -> str:
        """What runs the network, for people."""
        return 'opencv'

    @property
    def note(self) -> str:
        """What people should know of the runtime now, such as a build that is under way."""
        return ''

    @property
    def rejected(self) -> tuple[str, ...]:
        """Why each inference library that comes before the one in use could not be used."""
        return ()

    @abstractmethod
    def start(self, image: Image, box: Box, text: str | None = None) -> float:
        """Take the target in `box` of `image` as the one to follow, forgetting any other.

        `text` describes it, for models whose package takes text. Returns the score of the
        target in its own image, in [0, 1]: a low one says that the box is a poor choice.
        """

    @abstractmethod
    def step(self, image: Image) -> Estimate:
        """Find the target in the next image. Raises TrackerError before `start`."""

    def close(self) -> None:  # noqa: B027 - most trackers hold nothing but memory
        """Give back what the tracker holds, such as a build that is under way."""

    @abstractmethod
    def search_around(self, box: Box) -> None:
        """Look for the target around `box` in the next image, whatever the last estimate was.

        A tracker that keeps its place inside a library may be unable to; it then goes on where
        it is.
        """


class NetworkTracker(Tracker):
    """A tracker whose network runs on an engine: one template crop, one search crop a frame."""

    smallest_side_px = 2.0
    """Boxes are never narrower or lower than this."""

    def __init__(self, package: ModelPackage, engine: Engine | None) -> None:
        super().__init__(package, engine)
        if engine is None:
            raise TrackerError(f'{package.folder} has no graphs; its network cannot run')
        self.crop_s = 0.0
        """Time that the newest search crop took, in seconds."""
        self._engine = engine
        self._cached: object = None
        self._templates: dict[str, NDArray[Any]] = {}
        self._box = Box(0.0, 0.0, 1.0, 1.0)

    @property
    def engine(self) -> Engine:
        """What runs the network."""
        return self._engine

    @property
    def runtime(self) -> str:
        return self._engine.name

    @property
    def note(self) -> str:
        return self._engine.note

    @property
    def rejected(self) -> tuple[str, ...]:
        return self._engine.rejected

    def start(self, image: Image, box: Box, text: str | None = None) -> float:
        self._box = box
        began = time.perf_counter()
        self._cached = self._make_templates(image, box)
        spent_s = time.perf_counter() - began
        score = self._look(image).score
        self.inference_s += spent_s
        return score

    def step(self, image: Image) -> Estimate:
        if self._cached is None:
            raise TrackerError(f'{self.package.name} has no target yet: call start first')
        estimate = self._look(image)
        self._box = estimate.box
        return estimate

    def _look(self, image: Image) -> Estimate:
        """Find the target around the last box, without taking note of it."""
        started = time.perf_counter()
        crop, side = self._search_crop(image)
        began = time.perf_counter()
        self.crop_s = began - started
        outputs = self._engine.search(crop, self._cached)
        self.inference_s = time.perf_counter() - began
        with np.errstate(all='ignore'):
            estimate = self._decode(outputs, side)
            self.insight = self._insight_of(crop, side, outputs) if self.keeps_insight else None
        # A network fed with anything may answer with anything; the state must survive it.
        if not (estimate.box.is_finite() and math.isfinite(estimate.score)):
            return Estimate(self._box, 0.0)
        height, width = image.shape[:2]
        box = self._held(estimate.box, width, height)
        return Estimate(box, min(max(estimate.score, 0.0), 1.0))

    def close(self) -> None:
        self._engine.close()

    def search_around(self, box: Box) -> None:
        self._box = box

    def _insight_of(self, crop: Image, side: int, outputs: Tensors) -> Insight:
        window = Box.from_center(self._box.cx, self._box.cy, side, side)
        found = self._response(outputs)
        response, part = found if found is not None else (None, WHOLE)
        return Insight(
            window=window,
            search=crop,
            templates=self._templates,
            response=response,
            response_window=Box(
                window.x + part.x * side, window.y + part.y * side, part.w * side, part.h * side
            ),
            edges=self._edges(outputs),
        )

    def _response(self, outputs: Tensors) -> tuple[NDArray[np.float64], Box] | None:
        """The head's map (rows, columns) in [0, 1], and what it covers in parts of the crop."""
        return None

    def _edges(self, outputs: Tensors) -> NDArray[np.float64] | None:
        """The distributions (4, bins) of the left, right, top and bottom side over the crop."""
        return None

    def _make_templates(self, image: Image, box: Box) -> object:
        """What the engine keeps of the target in `box`."""
        return self._encode(self._template_crop(image, box))

    def _encode(self, template: Image, **others: NDArray[Any]) -> object:
        """Run the template graph."""
        self._templates = {'template': template, **others}
        return self._engine.template(**self._templates)

    def _held(self, box: Box, width: int, height: int) -> Box:
        """The box held to an image of this size, as the family does it."""
        return box.held(width, height, self.smallest_side_px)

    @abstractmethod
    def _template_crop(self, image: Image, box: Box) -> Image:
        """The crop that shows the target, as the network was trained to see it."""

    @abstractmethod
    def _search_crop(self, image: Image) -> tuple[Image, int]:
        """The crop around the last box, and its side in image pixels."""

    @abstractmethod
    def _decode(self, outputs: Tensors, side: int) -> Estimate:
        """Box in image pixels and score from the outputs for a crop of `side` image pixels."""
