# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a detector to the tracker: which of its detections is meant."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray

from tracker_ros.geometry import Box, RotatedBox
from tracker_ros.ros.messages import RequestError, box_of, set_box
from tracker_ros_interfaces.srv import TakeCandidate


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a candidate; `point` in pixels of the published image."""

    class_id: str = ''
    smallest_score: float = 0.0
    point: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One detection: its upright box, and the best fitting of its hypotheses."""

    box: Box
    class_id: str
    score: float

    def bbox(self) -> BoundingBox2D:
        message = BoundingBox2D()
        set_box(message, self.box)
        return message

    def distance(self, point: tuple[float, float]) -> tuple[float, float]:
        """From `point` to the box, which is 0 inside of it, and to its centre, in pixels."""
        x, y = point
        x1, y1, x2, y2 = self.box.corners()
        beside = math.hypot(max(x1 - x, 0.0, x - x2), max(y1 - y, 0.0, y - y2))
        return beside, math.hypot(self.box.cx - x, self.box.cy - y)


def choose(message: Detection2DArray, wanted: Wanted) -> Candidate:
    """The candidate nearest to the point that is wanted; without a point the best one.

    Raises RequestError naming what came instead.
    """
    if wanted.point is not None and not all(map(math.isfinite, wanted.point)):
        x, y = wanted.point
        raise RequestError(
            TakeCandidate.Response.NO_CANDIDATE,
            f'the point x={x:g} y={y:g} is not finite; give pixels of the published image',
        )
    found = [
        candidate
        for detection in message.detections
        if (candidate := _candidate_of(detection, wanted)) is not None
    ]
    if not found:
        raise RequestError(TakeCandidate.Response.NO_CANDIDATE, _words_of_nothing(message, wanted))
    point = wanted.point
    if point is not None:
        return min(found, key=lambda candidate: candidate.distance(point))
    return max(found, key=lambda candidate: candidate.score)


def _candidate_of(detection: Detection2D, wanted: Wanted) -> Candidate | None:
    box = _upright(detection.bbox)
    fitting = [
        (float(result.hypothesis.score), str(result.hypothesis.class_id))
        for result in detection.results
        if wanted.class_id in ('', result.hypothesis.class_id)
        # Written so that NaN, which compares false with everything, does not fit.
        and result.hypothesis.score >= wanted.smallest_score
    ]
    if box is None or not fitting:
        return None
    score, class_id = max(fitting)
    return Candidate(box, class_id, score)


def _upright(message: BoundingBox2D) -> Box | None:
    """The box around a box at any angle; None for one that is none."""
    center = message.center
    values = (center.position.x, center.position.y, message.size_x, message.size_y, center.theta)
    if not all(map(math.isfinite, values)) or min(message.size_x, message.size_y) <= 0:
        return None
    if not center.theta:
        return box_of(message)
    corners = RotatedBox(*values).corners()
    return Box.from_corners(*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())


def _words_of_nothing(message: Detection2DArray, wanted: Wanted) -> str:
    count = len(message.detections)
    broken = sum(_upright(each.bbox) is None for each in message.detections)
    classes = {
        str(result.hypothesis.class_id)[:40]
        for detection in message.detections
        for result in detection.results
    }
    names = ', '.join(sorted(classes)[:10]) or 'none at all'
    words = f'none of the {count} candidates'
    if wanted.class_id:
        words += f' is of the class {wanted.class_id[:60]!r}'
    words += f' with a score of at least {wanted.smallest_score:g}; their classes are {names}'
    if broken:
        words += f'; {broken} of them have no finite box with an area'
    return words + '; ask for another class, or a lower score'
