# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is known about a target, in the words of vision_msgs and of the project's own state."""

from __future__ import annotations

import math
from collections.abc import Sequence

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Vector3
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    ObjectHypothesisWithPose,
)

from tracker_ros.geometry import Box, RotatedBox
from tracker_ros.tracking import BoxFault, Observation
from tracker_ros.tracking.bearing import Bearing as Direction
from tracker_ros.tracking.motion import Extrapolated
from tracker_ros.tracking.roster import Track
from tracker_ros_interfaces.msg import Bearing, Prediction, TargetState
from tracker_ros_interfaces.srv import InitTarget

BOX_FAULT_CODES = {
    BoxFault.INVALID: InitTarget.Response.INVALID_BOX,
    BoxFault.OUTSIDE: InitTarget.Response.BOX_OUTSIDE_IMAGE,
    BoxFault.TOO_SMALL: InitTarget.Response.BOX_TOO_SMALL,
}
_LONGEST_ID = 64


class RequestError(Exception):
    """A service request that is refused: the response's code, and words with the remedy."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class DetectionWriter:
    """Writes observations into messages that are used again each frame.

    Making the messages anew would cost more than filling them: a hypothesis carries a pose with
    36 covariances.

    Attributes:
        array: all targets of the last `write`.
    """

    def __init__(self) -> None:
        self.array = Detection2DArray()
        self._pool: list[tuple[Detection2D, ObjectHypothesisWithPose]] = []

    @property
    def detection(self) -> Detection2D:
        """Of the first target of the last `write`."""
        return self._pool[0][0]

    def write(
        self,
        header: Header,
        observations: Sequence[Observation],
        class_id: str,
        turned: bool = False,
    ) -> None:
        """The header is the image's own. A lost target has no result and a box of size 0.

        With `turned`, boxes are at an angle where the tracker gave one.
        """
        while len(self._pool) < len(observations):
            self._pool.append((Detection2D(), ObjectHypothesisWithPose()))
        self.array.header = header
        used = self._pool[: len(observations)]
        for (detection, hypothesis), observation in zip(used, observations, strict=True):
            detection.header = header
            detection.id = observation.target_id
            box = observation.box
            if box is None:
                detection.results = []
                set_box(detection.bbox, Box(0.0, 0.0, 0.0, 0.0))
                continue
            hypothesis.hypothesis.class_id = class_id
            hypothesis.hypothesis.score = observation.confidence
            detection.results = [hypothesis]
            set_box(detection.bbox, box)
            if turned and observation.outline is not None:
                _turn(detection.bbox, observation.outline)
        self.array.detections = [detection for detection, _ in used]


def describe(track: Track) -> TargetState:
    """All that is known of a target."""
    observation = track.observation
    message = TargetState(
        target_id=track.target_id,
        state=int(observation.state),
        confidence=observation.confidence,
        score=observation.score,
        reason=observation.reason,
        tracked_frames=track.frames,
        since=time_of(track.since_s or 0.0),
    )
    box = observation.box or track.newest_box
    if box is not None:
        set_box(message.bbox, box)
    if observation.predicted is not None:
        message.velocity = observation.predicted.velocity
        message.covariance = observation.predicted.covariance[:4, :4].ravel()
    return message


def foretell(header: Header, track: Track, found: Extrapolated) -> Prediction:
    """Where a target is at the time of `header`."""
    message = Prediction(
        header=header,
        target_id=track.target_id,
        state=int(track.observation.state),
        confidence=track.observation.confidence,
        age_s=found.age_s,
        velocity=found.predicted.velocity,
        covariance=found.predicted.covariance[:4, :4].ravel(),
    )
    set_box(message.bbox, found.predicted.box)
    return message


def point_at(
    header: Header, track: Track, direction: Direction, error: tuple[float, float]
) -> Bearing:
    """In which direction a target is; `error` is that of the image, -1 to 1 in x and y."""
    x, y, z = direction.ray.tolist()
    return Bearing(
        header=header,
        target_id=track.target_id,
        ray=Vector3(x=x, y=y, z=z),
        azimuth=direction.azimuth,
        elevation=direction.elevation,
        covariance=direction.covariance.ravel(),
        error_x=error[0],
        error_y=error[1],
        confidence=track.observation.confidence,
    )


def _turn(message: BoundingBox2D, outline: RotatedBox) -> None:
    message.center.position.x = outline.cx
    message.center.position.y = outline.cy
    message.center.theta = outline.theta
    message.size_x, message.size_y = outline.w, outline.h


def set_box(message: BoundingBox2D, box: Box) -> None:
    message.center.position.x = box.cx
    message.center.position.y = box.cy
    message.center.theta = 0.0
    message.size_x = box.w
    message.size_y = box.h


def box_of(message: BoundingBox2D) -> Box:
    """The box of a request. Raises RequestError for a rotated one."""
    theta = message.center.theta
    if not math.isfinite(theta) or abs(theta) > 1e-6:
        raise RequestError(
            InitTarget.Response.INVALID_BOX,
            f'bbox.center.theta is {theta:g}; a target starts from an upright box, theta = 0',
        )
    center = message.center.position
    return Box.from_center(center.x, center.y, message.size_x, message.size_y)


def checked_id(target_id: str) -> str:
    """A target id that is fit to be logged and compared. Raises RequestError."""
    if len(target_id) > _LONGEST_ID or not target_id.isprintable():
        shown = target_id[:_LONGEST_ID].encode('unicode_escape').decode('ascii')
        raise RequestError(
            InitTarget.Response.INVALID_ID,
            f'target_id {shown!r} has {len(target_id)} characters; at most {_LONGEST_ID} '
            'printable ones, or none to let the node choose',
        )
    return target_id


def is_zero(stamp: Time) -> bool:
    return stamp.sec == 0 and stamp.nanosec == 0


def time_of(stamp_s: float) -> Time:
    whole = math.floor(stamp_s)
    return Time(sec=whole, nanosec=min(round(1e9 * (stamp_s - whole)), 999_999_999))


def seconds(stamp: Time) -> float:
    return float(stamp.sec) + 1e-9 * float(stamp.nanosec)


def nanoseconds(stamp: Time) -> int:
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)
