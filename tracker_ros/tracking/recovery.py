# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The search for a target that is not where it should be.

The image is a grid of places, each as wide as the model sees well in one look. A few of them are
looked at in each frame, as many as the time between two frames leaves: those first that have the
target's colours and are near to where it was last seen. What is found where the target can have
come to is proposed at once. What is found elsewhere is more likely a look-alike: it needs more
merit, and to be the best of a sweep over all of the image, unless it is overwhelming.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image
from tracker_ros.tracking.colours import Colours, Numbers


@dataclass(frozen=True, slots=True)
class Care:
    """What is spent on a target in doubt.

    search: whether it is looked for elsewhere at all.
    time_share: how much of the time between two frames tracking and looking may take together,
    in (0, 1].
    most_looks: in one frame, whatever the time left.
    camera_motion: whether the motion of the camera is measured, in every frame, so that places
    stay with the scene; it costs some 4 ms for 1280 x 720.
    """

    search: bool = True
    time_share: float = 0.7
    most_looks: int = 6
    camera_motion: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.time_share <= 1.0:
            raise ValueError(f'time_share must be above 0 and at most 1, not {self.time_share:g}')
        if self.most_looks < 1:
            raise ValueError(f'most_looks must be at least 1, not {self.most_looks}')


# Side of a place in the grid, in sizes of the target: a model sees about four sizes at once, and
# sees worse towards the rim.
_PLACE_SIZES = 1.6
# How far from where it was lost the target is thought to be, in its sizes, and how much farther
# in parts of the image's diagonal per second.
_NEAR_SIZES = 2.0
_ROAMING_PER_S = 0.35
# A place counts at least this much, however far it is and whatever its colours.
_LEAST_WEIGHT = 0.02
# Places that have less than this of the best one's weight are not worth a look in this sweep.
_WORTH = 0.1
_MOST_LOOKS_PER_SWEEP = 40
# Sizes looked for, in turn by sweeps, in those at the loss.
_SCALES = (1.0, 1.0, 1.35, 0.75)
# What was refused is not proposed again at the same place for this long; a look-alike not until
# it was not seen for so long, but no longer than the second.
_REFUSED_S = 2.0
_LONGEST_REFUSED_S = 6.0
_SAME_PLACE_IOU = 0.3
_MOST_OTHERS = 16
# Without any look in a frame for want of time, there is one in so many frames.
_LEAST_LOOKS_PER_FRAME = 0.25


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that may be the target.

    merit: how likely it is, in [0, 1]. is_near: whether the target can have come so far.
    """

    box: Box
    merit: float
    is_near: bool


@dataclass(frozen=True, slots=True)
class Needed:
    """The merit that a candidate needs: to be followed on trial where the target may have come
    to, to be so elsewhere, and to be so there before the sweep is over.
    """

    near: float
    far: float
    overwhelming: float


@dataclass(frozen=True, slots=True)
class _Other:
    """Something that is not the target. One that `stays` counts anew each time it is seen."""

    box: Box
    first_s: float
    seen_s: float
    stays: bool

    def counts(self, stamp_s: float) -> bool:
        return (
            abs(stamp_s - self.seen_s) < _REFUSED_S
            and abs(stamp_s - self.first_s) < _LONGEST_REFUSED_S
        )


class Search:
    """The search for one target, from when it is in doubt until it is found or given up."""

    def __init__(self, colours: Colours, lost_at: Box, stamp_s: float) -> None:
        self._colours = colours
        self._lost_at = lost_at
        self._began_s = stamp_s
        self._hint: Box | None = None
        self._others: list[_Other] = []
        self.sweeps = 0
        """How many times all of the image was looked through."""
        self._visited: set[int] = set()
        self._best: Candidate | None = None
        self._best_weight = 0.0
        self._is_over = False

    def hint(self, box: Box) -> None:
        """Look there first."""
        self._hint = box

    def moved(self, matrix: NDArray[np.float64]) -> None:
        """The camera has moved: `matrix` (2, 3) takes places of the last image to the new one."""
        self._lost_at = shifted(self._lost_at, matrix)
        self._others = [replace(each, box=shifted(each.box, matrix)) for each in self._others]

    def places(
        self, image: Image, count: int, stamp_s: float, expected: Box, watched: Box
    ) -> list[Box]:
        """At most `count` boxes to look around, the most promising first.

        `expected` is where the target would be by now if it had gone on as before, `watched`
        where the tracker looks by itself.
        """
        found = []
        if self._hint is not None:
            found.append(self._hint)
            self._hint = None
        if is_apart(self._lost_at, watched):
            found.append(self._lost_at)
        elif not self._visited and is_apart(expected, self._lost_at):
            found.append(expected)
        if len(found) >= count:
            return found[:count]
        scale = _SCALES[self.sweeps % len(_SCALES)]
        width, height = scale * self._lost_at.w, scale * self._lost_at.h
        side = _PLACE_SIZES * math.sqrt(width * height)
        weights, centres = self._colours.peaks(image, width, height, side)
        weights = weights * self._nearness(centres, image, stamp_s)
        self._best_weight = max(self._best_weight, float(weights.max(initial=0.0)))
        weights[[place for place in self._visited if place < len(weights)]] = 0.0
        for place in np.argsort(-weights).tolist():
            if len(found) >= count:
                break
            if weights[place] <= max(_WORTH * self._best_weight, 0.0):
                self._is_over = True
                break
            self._visited.add(place)
            cx, cy = centres[place].tolist()
            # Two cells may have the same peak, on the border between them.
            if all(max(abs(cx - box.cx), abs(cy - box.cy)) > 0.5 * side for box in found):
                found.append(Box.from_center(cx, cy, width, height))
        self._is_over |= len(self._visited) >= min(_MOST_LOOKS_PER_SWEEP, len(weights))
        return found

    def propose(
        self, candidates: Sequence[Candidate], needed: Needed, stamp_s: float
    ) -> Candidate | None:
        """What to follow on trial, given what the newest looks have found; None to look on."""
        for candidate in candidates:
            if candidate.merit < needed.near or self.knows(candidate.box, stamp_s):
                continue
            if not candidate.is_near and candidate.merit < needed.far:
                # It is where the target cannot be yet, and so is another one: for later, when
                # the target could have come there.
                self._others.append(_Other(candidate.box, stamp_s, stamp_s, True))
                continue
            if self._best is None or candidate.merit > self._best.merit:
                self._best = candidate
        best = self._best
        if best is not None and (best.is_near or best.merit >= needed.overwhelming):
            self._begin_sweep()
            return best
        if self._is_over:
            self.sweeps += 1
            self._begin_sweep()
            return best
        return None

    def refuse(self, box: Box, stamp_s: float) -> None:
        """What was followed on trial is not the target."""
        self._others.append(_Other(box, stamp_s, stamp_s, False))
        self._begin_sweep()

    def _begin_sweep(self) -> None:
        self._visited = set()
        self._best = None
        self._best_weight = 0.0
        self._is_over = False

    def knows(self, box: Box, stamp_s: float) -> bool:
        """Whether it is one of the others; notes where that is now."""
        self._others = [each for each in self._others if each.counts(stamp_s)][-_MOST_OTHERS:]
        for number, other in enumerate(self._others):
            if box.iou(other.box) > _SAME_PLACE_IOU:
                if other.stays:
                    self._others[number] = replace(other, box=box, seen_s=stamp_s)
                return True
        return False

    def _nearness(self, centres: NDArray[np.float64], image: Image, stamp_s: float) -> Numbers:
        """Weight of each place by its distance from where the target was lost."""
        away_s = max(0.0, stamp_s - self._began_s)
        size = math.sqrt(self._lost_at.w * self._lost_at.h)
        spread = _NEAR_SIZES * size + _ROAMING_PER_S * away_s * math.hypot(*image.shape[:2])
        distance = np.hypot(centres[:, 0] - self._lost_at.cx, centres[:, 1] - self._lost_at.cy)
        return np.maximum(np.exp(-distance / spread), _LEAST_WEIGHT).astype(np.float32)


def shifted(box: Box, matrix: NDArray[np.float64]) -> Box:
    """The box with its centre moved as `matrix` (2, 3) moves places; its size stays."""
    cx, cy = (matrix[:, :2] @ (box.cx, box.cy) + matrix[:, 2]).tolist()
    return Box.from_center(cx, cy, box.w, box.h)


def is_apart(first: Box, second: Box) -> bool:
    """Whether the centres are more than half a size apart."""
    apart = math.hypot(first.cx - second.cx, first.cy - second.cy)
    return apart > 0.5 * math.sqrt(max(second.area, 1.0))


def is_other(first: Box, second: Box) -> bool:
    """Whether the two are of two things: the centres are more than a size apart."""
    apart = math.hypot(first.cx - second.cx, first.cy - second.cy)
    return apart > math.sqrt(max(second.area, 1.0))
