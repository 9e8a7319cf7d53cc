# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What every tracker is: crops in, a box and a raw score out."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
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
    rival: the model's highest response away from the box, in parts of that at the box, in [0, 1];
    0 from a tracker that gives no map of it. focus: the part of all its response that is at the
    box; 1 from such a tracker. quality: what the model itself expects of its box's overlap with
    the true one, in [0, 1]; 1 from a model that expects nothing.
    """

    box: Box
    score: float
    mask: Image | None = field(default=None, compare=False, repr=False)
    outline: RotatedBox | None = None
    rival: float = field(default=0.0, compare=False)
    focus: float = field(default=1.0, compare=False)
    quality: float = field(default=1.0, compare=False)

    @classmethod
    def none(cls, box: Box) -> Estimate:
        """Of a model that gave no numbers: `box` stands in, and nothing speaks for it."""
        return cls(box, 0.0, rival=1.0, focus=0.0, quality=0.0)


class Tracker(ABC):
    """One target of one model. Images are (H, W, 3) uint8 BGR and are only read."""

    gives_mask = False
    """Whether the target's mask can be had of it."""

    wants_mask = False
    """Set to have it from the next `step` on; it costs time."""

    can_look = False
    """Whether it can `look` at places other than the one where it follows its target."""

    def __init__(self, package: ModelPackage, engine: Engine | None) -> None:
        self.package = package
        self.inference_s = 0.0
        """Time that the last `start` or `step` spent in the network, in seconds; of a batch, this
        target's share."""
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

    def step(self, image: Image) -> Estimate:
        """Find the target in the next image, and learn from it as the model's authors do.

        Raises TrackerError before `start`.
        """
        estimate = self.follow(image)
        self.learn(image, estimate)
        return estimate

    @abstractmethod
    def follow(self, image: Image) -> Estimate:
        """Find the target in the next image and go on from there. Raises TrackerError before
        `start`.
        """

    def learn(self, image: Image, estimate: Estimate) -> None:  # noqa: B027 - most have no memory
        """Renew what is remembered of the target's looks with the answer of the newest `follow`.

        Left out for frames that are in doubt, so that nothing wrong is learnt.
        """

    def look(self, image: Image, around: Box) -> Estimate:
        """What the model finds in one look around a box; changes nothing."""
        return self.look_many(image, [around])[0]

    def look_many(self, image: Image, around: Sequence[Box]) -> list[Estimate]:
        """The same around several boxes, in one batch. An answer that is no numbers scores 0."""
        raise TrackerError(f'{self.package.name} keeps its place itself: it cannot look elsewhere')

    def another(self) -> Tracker:
        """A tracker of the same model for a further target, on the same engine.

        It has no target yet. Only `close` of the tracker that `create` made ends the engine.
        """
        return type(self)(self.package, None)

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

    can_look = True
    smallest_side_px = 2.0
    """Boxes are never narrower or lower than this."""

    def __init__(self, package: ModelPackage, engine: Engine | None) -> None:
        super().__init__(package, engine)
        if engine is None:
            raise TrackerError(f'{package.folder} has no graphs; its network cannot run')
        self.crop_s = 0.0
        """Time that the newest search crop took, in seconds."""
        self.template_s = 0.0
        """Time that the last `start` took to crop and encode the target, in seconds."""
        self._engine = engine
        self._owns_engine = True
        self._cached: object = None
        self._templates: dict[str, NDArray[Any]] = {}
        self._box = Box(0.0, 0.0, 1.0, 1.0)
        self._crop: Image = np.zeros((1, 1, 3), np.uint8)

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
        self.template_s = time.perf_counter() - began
        score = self._found(image, *self._search(image)).score
        self.inference_s += self.template_s
        return score

    def follow(self, image: Image) -> Estimate:
        return self._followed(image, *self._search(image))

    def look_many(self, image: Image, around: Sequence[Box]) -> list[Estimate]:
        before = self._box, self.insight, self.keeps_insight
        self.keeps_insight = False
        try:
            return self._looks(image, around)
        finally:
            self._box, self.insight, self.keeps_insight = before

    def another(self) -> Tracker:
        tracker = type(self)(self.package, self._engine)
        tracker._owns_engine = False
        return tracker

    def close(self) -> None:
        if self._owns_engine:
            self._engine.close()

    def search_around(self, box: Box) -> None:
        self._box = box

    def _search(self, image: Image) -> tuple[Image, int, Tensors]:
        """Run the network around the last box: the crop, its side, the outputs."""
        crop, side = self._cut(image)
        began = time.perf_counter()
        outputs = self._engine.search(crop, self._cached)
        self.inference_s = time.perf_counter() - began
        return crop, side, outputs

    def _cut(self, image: Image) -> tuple[Image, int]:
        """The crop around the last box, and its side. Raises TrackerError before `start`."""
        if self._cached is None:
            raise TrackerError(f'{self.package.name} has no target yet: call start first')
        began = time.perf_counter()
        crop, side = self._search_crop(image)
        self.crop_s = time.perf_counter() - began
        return crop, side

    def _looks(self, image: Image, around: Sequence[Box]) -> list[Estimate]:
        """`look_many`, which moves the last box to and fro."""
        cuts = []
        for self._box in around:
            cuts.append(self._cut(image))
        if len(cuts) == 1:
            rows = [self._engine.search(cuts[0][0], self._cached)]
        elif cuts:
            crops = np.stack([crop for crop, _ in cuts])
            rows = _rows(self._engine.search_many(crops, [self._cached] * len(cuts)))
        else:
            rows = []
        found = []
        for self._box, cut, row in zip(around, cuts, rows, strict=True):
            found.append(self._found(image, *cut, row))
        return found

    def _followed(self, image: Image, crop: Image, side: int, outputs: Tensors) -> Estimate:
        """The answer for the crop around the last box; the next one is cut around it."""
        estimate = self._found(image, crop, side, outputs)
        self._box = estimate.box
        return estimate

    def _found(self, image: Image, crop: Image, side: int, outputs: Tensors) -> Estimate:
        """Box and score from the outputs for the crop around the last box."""
        self._crop = crop
        with np.errstate(all='ignore'):
            estimate = self._decode(outputs, side)
            found = self._response(outputs)
            self.insight = self._insight_of(crop, side, outputs) if self.keeps_insight else None
        # A network fed with anything may answer with anything; the state must survive it.
        if not (estimate.box.is_finite() and math.isfinite(estimate.score)):
            return Estimate.none(self._box)
        height, width = image.shape[:2]
        held = self._held(estimate.box, width, height)
        # Arithmetic with numbers of numpy's takes several times as long.
        box = Box(float(held.x), float(held.y), float(held.w), float(held.h))
        rival, focus = (0.0, 1.0) if found is None else _peaks(found[0])
        score, quality = _share(estimate.score), _share(estimate.quality)
        return Estimate(box, score, rival=rival, focus=focus, quality=quality)

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
        """The crop around the last box, `_box`, and its side in image pixels."""

    @abstractmethod
    def _decode(self, outputs: Tensors, side: int) -> Estimate:
        """Box in image pixels and score from the outputs for a crop of `side` image pixels.

        The crop itself is in `_crop`, what it was cut around in `_box`.
        """


def _peaks(response: NDArray[np.float64]) -> tuple[float, float]:
    """Of a map (rows, columns): the second peak in parts of the first, and what is at the first
    in parts of all.
    """
    rows, columns = response.shape
    row, column = divmod(int(response.argmax()), columns)
    first, everything = float(response[row, column]), float(response.sum())
    if not (0.0 < first < math.inf and 0.0 < everything < math.inf):
        return 0.0, 0.0
    # A peak is about as wide as the target, and that a quarter of what the network sees.
    down, across = max(1, rows // 8), max(1, columns // 8)
    above, left = max(0, row - down), max(0, column - across)
    others = response.copy()
    others[above : row + down + 1, left : column + across + 1] = 0.0
    return _share(float(others.max()) / first), _share(1.0 - float(others.sum()) / everything)


def _share(value: float) -> float:
    """Held to [0, 1]; 0 for no number."""
    return min(max(value, 0.0), 1.0) if value == value else 0.0


def follow_together(trackers: Sequence[Tracker], image: Image) -> list[Estimate | Exception]:
    """What `follow` of each gives, in their order; targets of one engine go in one batch.

    What goes wrong with a target is its answer, and leaves the others untouched.
    """
    batches: dict[int, list[int]] = {}
    for place, tracker in enumerate(trackers):
        shared = tracker.engine if isinstance(tracker, NetworkTracker) else tracker
        batches.setdefault(id(shared), []).append(place)
    answers: dict[int, Estimate | Exception] = {}
    for places in batches.values():
        batch = [trackers[place] for place in places]
        answers |= zip(places, _follow_batch(batch, image), strict=True)
    return [answers[place] for place in range(len(trackers))]


def _follow_batch(trackers: Sequence[Any], image: Image) -> list[Estimate | Exception]:
    """Of trackers that share an engine, or of a single one."""
    if len(trackers) == 1:
        return [_attempt(trackers[0].follow, image)]
    cuts = [_attempt(tracker._cut, image) for tracker in trackers]
    able = [place for place, cut in enumerate(cuts) if not isinstance(cut, Exception)]
    if not able:
        return cuts
    began = time.perf_counter()
    outputs = _attempt(
        trackers[0].engine.search_many,
        np.stack([cuts[place][0] for place in able]),
        [trackers[place]._cached for place in able],
    )
    if isinstance(outputs, Exception):
        # Which of the targets spoilt it is not known: each by itself, then.
        return [_attempt(tracker.follow, image) for tracker in trackers]
    share_s = (time.perf_counter() - began) / len(able)
    for place, row in zip(able, _rows(outputs), strict=True):
        trackers[place].inference_s = share_s
        cuts[place] = _attempt(trackers[place]._followed, image, *cuts[place], row)
    return cuts


def _attempt(call: Callable[..., Any], *arguments: Any) -> Any:
    """What `call` returns, or the exception that it raises."""
    try:
        return call(*arguments)
    except Exception as error:  # whatever it is, it is that of one target alone
        return error


def _rows(outputs: Tensors) -> list[Tensors]:
    """Each target's part of the outputs of a batch, as of a batch of one."""
    count = len(next(iter(outputs.values())))
    return [
        {name: value[row : row + 1] for name, value in outputs.items()} for row in range(count)
    ]
