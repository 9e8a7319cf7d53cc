# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is known about a target, in the words of vision_msgs and of the project's own state."""

from __future__ import annotations

import math

from builtin_interfaces.msg import Time
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    ObjectHypothesisWithPose,
)

from tracker_ros.geometry import Box, RotatedBox
from tracker_ros.tracking import BoxFault, Observation
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
    """Writes observations into one Detection2D and one Detection2DArray, used again each frame.

    Making the messages anew would cost more than filling them: a hypothesis carries a pose with
    36 covariances.
    """

    def __init__(self) -> None:
        self.detection = Detection2D()
        self.array = Detection2DArray(detections=[self.detection])
        self._hypothesis = ObjectHypothesisWithPose()

    def write(
        self,
        header: Header,
        observation: Observation,
        class_id: str,
        outline: RotatedBox | None = None,
    ) -> None:
        """The header is the image's own. A lost target has no result and a box of size 0.

        `outline` takes the place of the observation's upright box.
        """
        detection = self.detection
        self.array.header = detection.header = header
        detection.id = observation.target_id
        box = observation.box
        if box is None:
            detection.results = []
            set_box(detection.bbox, Box(0.0, 0.0, 0.0, 0.0))
            return
        self._hypothesis.hypothesis.class_id = class_id
        self._hypothesis.hypothesis.score = observation.score
        detection.results = [self._hypothesis]
        set_box(detection.bbox, box)
        if outline is not None:
            detection.bbox.center.position.x = outline.cx
            detection.bbox.center.position.y = outline.cy
            detection.bbox.center.theta = outline.theta
            detection.bbox.size_x, detection.bbox.size_y = outline.w, outline.h


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


def seconds(stamp: Time) -> float:
    return float(stamp.sec) + 1e-9 * float(stamp.nanosec)


def nanoseconds(stamp: Time) -> int:
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)
