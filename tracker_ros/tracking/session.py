# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One model following one target: started, stepped through images, stopped.

This is the whole tracker without ROS; the node and the command line are two ways to feed it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum, auto

from tracker_ros.geometry import Box, Image, RotatedBox
from tracker_ros.trackers import Tracker
from tracker_ros.tracking.life import Life, Patience, State, Thresholds


class BoxFault(Enum):
    """What can be wrong with the box of a start."""

    INVALID = auto()
    OUTSIDE = auto()
    TOO_SMALL = auto()


class BoxError(ValueError):
    """A box that no target can be started with; the text names value and remedy."""

    def __init__(self, fault: BoxFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known about the target after a frame.

    `box` is in pixels of the image and None while the target is lost. `mask` (H, W) uint8 and
    `outline` are there where they were wanted of a tracker that gives them; see `Estimate`.
    """

    state: State
    target_id: str
    box: Box | None
    score: float
    reason: str
    mask: Image | None = field(default=None, compare=False, repr=False)
    outline: RotatedBox | None = None


NOTHING = Observation(State.IDLE, '', None, 0.0, 'no target')


class Session:
    """A tracker and the life of the target that it follows."""

    def __init__(
        self,
        tracker: Tracker,
        thresholds: Thresholds | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.tracker = tracker
        self.thresholds = thresholds or Thresholds(**tracker.package.confidence)
        self.patience = patience or Patience()
        self.observation = NOTHING
        self._life: Life | None = None
        self._trusted = Box(0.0, 0.0, 1.0, 1.0)
        self._started = 0

    def configure(self, thresholds: Thresholds, patience: Patience) -> None:
        """Change when states change, also while a target is followed."""
        self.thresholds, self.patience = thresholds, patience
        if self._life:
            self._life.thresholds, self._life.patience = thresholds, patience

    def start(
        self,
        image: Image,
        box: Box,
        target_id: str = '',
        text: str | None = None,
        smallest_px: float = 1.0,
    ) -> Observation:
        """Follow what is in `box` of `image` from now on, instead of any other target.

        Of a box that reaches over the border the part inside is taken. An empty `target_id`
        is replaced by target_1, target_2 and so on. Raises BoxError, which changes nothing, or
        TrackerError, which leaves no target.
        """
        height, width = image.shape[:2]
        inside = check_box(box, width, height, smallest_px)
        try:
            score = self.tracker.start(image, inside, text)
        except Exception as error:
            # The old target may be half replaced: none can be followed from here.
            self.stop(f'the start failed: {error}')
            raise
        self._started += 1
        self._life = Life(self.thresholds, self.patience)
        self._trusted = inside
        self.observation = Observation(
            State.STARTING, target_id or f'target_{self._started}', inside, score, 'started'
        )
        return self.observation

    def step(self, image: Image) -> Observation:
        """Follow the target into the next image. Without a target nothing happens."""
        if self._life is None:
            return self.observation
        estimate = self.tracker.step(image)
        state = self._life.update(estimate.score)
        if estimate.score >= self.thresholds.lost:
            self._trusted = estimate.box
        else:
            # A doubtful answer must not lead the search away from where the target was.
            self.tracker.search_around(self._trusted)
        is_seen = state is not State.LOST
        self.observation = Observation(
            state,
            self.observation.target_id,
            estimate.box if is_seen else None,
            estimate.score,
            self._life.reason,
            estimate.mask if is_seen else None,
            estimate.outline if is_seen else None,
        )
        return self.observation

    def stop(self, reason: str = 'no target') -> None:
        self._life = None
        self.observation = Observation(State.IDLE, '', None, 0.0, reason)


def check_box(box: Box, width: int, height: int, smallest_px: float) -> Box:
    """The part of `box` inside an image of `width` x `height`, if a target can start from it.

    Raises BoxError for a box that is not finite, has no area, lies outside, or is smaller than
    `smallest_px` on a side.
    """
    if not (box.is_finite() and all(map(math.isfinite, box.corners()))):
        raise BoxError(
            BoxFault.INVALID, f'the box {_shown(box)} is not finite; give numbers in pixels'
        )
    if box.w <= 0 or box.h <= 0:
        raise BoxError(
            BoxFault.INVALID,
            f'the box {_shown(box)} has no area; width and height must be above 0',
        )
    x1, y1, x2, y2 = box.corners()
    inside = Box.from_corners(
        max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    )
    if inside.w <= 0 or inside.h <= 0:
        raise BoxError(
            BoxFault.OUTSIDE,
            f'the box {_shown(box)} lies outside the image of {width} x {height} px; boxes are '
            'in pixels of the published image',
        )
    if inside.w < smallest_px or inside.h < smallest_px:
        raise BoxError(
            BoxFault.TOO_SMALL,
            f'the box {_shown(box)} covers only {inside.w:g} x {inside.h:g} px of the image; at '
            f'least {smallest_px:g} px on each side are needed',
        )
    return inside


def _shown(box: Box) -> str:
    return f'x={box.x:g} y={box.y:g} w={box.w:g} h={box.h:g}'
