# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the node says of its targets: every message that it publishes, but for the debug image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray

from tracker_ros.geometry import Image as Pixels
from tracker_ros.ros.direction import Direction
from tracker_ros.ros.images import to_message
from tracker_ros.ros.messages import (
    DetectionWriter,
    describe,
    foretell,
    is_zero,
    point_at,
    seconds,
)
from tracker_ros.ros.parameters import Parameters
from tracker_ros.ros.recorder import Recorder
from tracker_ros.tracking.bearing import image_error
from tracker_ros.tracking.motion import predict_to_now
from tracker_ros.tracking.roster import Roster, Track
from tracker_ros_interfaces.msg import BearingArray, PredictionArray, TrackerState


@dataclass(slots=True)
class Counts:
    """Images since the node was configured."""

    seen: int = 0
    processed: int = 0
    dropped: int = 0
    refused: int = 0


class Outputs:
    """The publishers of a configured node. Whatever costs time is made for subscribers only."""

    def __init__(self, node: LifecycleNode, parameters: Callable[[], Parameters]) -> None:
        self._node = node
        self._parameters = parameters
        self._made = ExitStack()
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        few = qos_profile_sensor_data.depth
        self.detection = self._publisher(Detection2D, '~/detection', few)
        self.detections = self._publisher(Detection2DArray, '~/detections', few)
        self.state = self._publisher(TrackerState, '~/state', latched)
        self.bearing = self._publisher(BearingArray, '~/bearing', few)
        self.prediction = self._publisher(PredictionArray, '~/prediction', few)
        self.mask = self._publisher(Image, '~/mask', few)
        self.diagnostics = self._publisher(DiagnosticArray, '/diagnostics', 10)
        self._writer = DetectionWriter()
        self.recorder: Recorder | None = None
        """Keeps what is said, while there is one."""
        self._state = TrackerState(model=parameters().model)

    def destroy(self) -> None:
        self._made.close()

    @property
    def wants_masks(self) -> bool:
        return bool(self.mask.get_subscription_count())

    def publish_targets(self, header: Header, tracks: Sequence[Track]) -> None:
        """Say where the targets are in the image of `header`."""
        parameters = self._parameters()
        observations = [track.observation for track in tracks]
        self._state.header = header
        # Publishing costs a quarter of a millisecond, also where nobody listens.
        for_one, for_all = (
            publisher.get_subscription_count() for publisher in (self.detection, self.detections)
        )
        if for_one or for_all or self.recorder:
            self._writer.write(header, observations, parameters.class_id, parameters.rotated_box)
        if for_one:
            self.detection.publish(self._writer.detection)
        if for_all:
            self.detections.publish(self._writer.array)
        if self.recorder:
            self.recorder.message(self.detections.topic_name, self._writer.array)
        masks = [each.mask for each in observations if each.mask is not None]
        if masks and self.wants_masks:
            self.mask.publish(to_message(_joined(masks), header, 'mono8'))

    def publish_bearings(
        self, header: Header, tracks: Sequence[Track], pixels: Pixels, direction: Direction
    ) -> None:
        """Say in which directions the targets are; nothing while that is not known."""
        is_heard = bool(self.bearing.get_subscription_count())
        # A recording is no reason to ask for a calibration.
        is_kept = self.recorder is not None and direction.is_calibrated
        if not (is_heard or is_kept):
            return
        height, width = pixels.shape[:2]
        message = BearingArray(header=header)
        for track in tracks:
            box, predicted = track.observation.box, track.observation.predicted
            if box is None:
                continue
            covariance = None if predicted is None else predicted.covariance[:2, :2]
            bearing = direction.of(box, width, height, covariance)
            if bearing is not None:
                error = image_error(box, width, height)
                message.bearings.append(point_at(header, track, bearing, error))
        if message.bearings and is_heard:
            self.bearing.publish(message)
        if message.bearings and self.recorder:
            self.recorder.message(self.bearing.topic_name, message)

    def publish_predictions(self, tracks: Sequence[Track]) -> None:
        """Say where the targets are now. May be called from another thread than the rest.

        Nothing is said of a target that was not seen for a while, or of which the images' stamps
        are not of this node's clock.
        """
        if not self.prediction.get_subscription_count():
            return
        now = self._node.get_clock().now()
        header = Header(stamp=now.to_msg(), frame_id=self._state.header.frame_id)
        message = PredictionArray(header=header)
        for track in tracks:
            found = predict_to_now(track.session.motion, 1e-9 * now.nanoseconds)
            if found is not None:
                message.predictions.append(foretell(header, track, found))
        if message.predictions:
            self.prediction.publish(message)

    def publish_state(
        self, roster: Roster, counts: Counts, enabled: bool, notes: Sequence[str] = ()
    ) -> None:
        """Say how the targets are; `notes` are added to the reason this once."""
        message, first = self._state, roster.first
        message.state = int(first.state)
        message.target_id = first.target_id
        message.score = first.score
        # Both change when an engine that was built meanwhile takes over.
        message.runtime = roster.tracker.runtime
        message.reason = '; '.join(filter(None, (first.reason, *notes, roster.tracker.note)))
        message.enabled = enabled
        message.frame_age_s = self.age_s(message.header)
        message.frames_seen = counts.seen
        message.frames_dropped = counts.dropped
        message.frames_processed = counts.processed
        message.targets = [describe(track) for track in roster]
        self.state.publish(message)
        if self.recorder:
            self.recorder.message(self.state.topic_name, message)
            self.recorder.watch({track.target_id: track.observation.state for track in roster})

    def age_s(self, header: Header) -> float:
        """How old the image of `header` is; NaN where nobody knows."""
        now = self._node.get_clock().now()
        # Simulated time is 0 until the first message on /clock.
        if is_zero(header.stamp) or now.nanoseconds == 0:
            return math.nan
        return 1e-9 * now.nanoseconds - seconds(header.stamp)

    def _publisher(self, kind: type, topic: str, qos: QoSProfile | int) -> LifecyclePublisher:
        publisher = self._node.create_lifecycle_publisher(kind, topic, qos)
        self._made.callback(self._node.destroy_lifecycle_publisher, publisher)
        return publisher


def _joined(masks: Sequence[Pixels]) -> Pixels:
    """The pixels of all targets."""
    joined = masks[0]
    for mask in masks[1:]:
        joined = np.maximum(joined, mask)
    return joined
