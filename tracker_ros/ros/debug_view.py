# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The debug image: drawn in its own thread, and only while somebody looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from tracker_ros.geometry import Image as Pixels
from tracker_ros.ros.images import to_compressed_message, to_message
from tracker_ros.ros.parameters import Parameters
from tracker_ros.ros.worker import NewestWins
from tracker_ros.runtime.engine import EngineError
from tracker_ros.trackers import TrackerError
from tracker_ros.trackers.insight import Insight
from tracker_ros.tracking import Observation, State
from tracker_ros.tracking.heat import Explainer
from tracker_ros.tracking.overlay import draw_all
from tracker_ros.tracking.roster import Roster


@dataclass(frozen=True, slots=True)
class View:
    """A frame and what was found in it; the pixels (H, W, 3) uint8 BGR are only read."""

    header: Header
    pixels: Pixels
    targets: tuple[tuple[Observation, Insight | None], ...]
    note: str

    @classmethod
    def of(cls, header: Header, pixels: Pixels, roster: Roster, note: str) -> View:
        targets = tuple((track.observation, track.session.tracker.insight) for track in roster)
        return cls(header, pixels, targets or ((roster.first, None),), note)


class DebugView:
    """Publishes ``~/debug_image`` and ``~/debug_image/compressed`` to whoever subscribes."""

    def __init__(
        self,
        node: LifecycleNode,
        parameters: Callable[[], Parameters],
        explainer: Explainer,
        failed: Callable[[Exception], None],
    ) -> None:
        self._parameters = parameters
        self._explainer = explainer
        self._failed = failed
        # Reliable, so that RViz and rqt, which ask for it by default, are served as well.
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
        self._raw = node.create_lifecycle_publisher(Image, '~/debug_image', qos)
        self._compressed = node.create_lifecycle_publisher(
            CompressedImage, '~/debug_image/compressed', qos
        )
        self._node = node
        self._worker = NewestWins('debug view', self._publish, failed)
        self._worker.start()

    def is_watched(self) -> bool:
        return bool(
            self._raw.get_subscription_count() or self._compressed.get_subscription_count()
        )

    def show(self, view: View) -> None:
        """Draw and publish soon, unless something newer comes first."""
        self._worker.offer(view)

    def destroy(self) -> None:
        self._worker.stop()
        self._node.destroy_lifecycle_publisher(self._raw)
        self._node.destroy_lifecycle_publisher(self._compressed)

    def _publish(self, view: View) -> None:
        parameters = self._parameters()
        scale = parameters.debug_scale
        if scale < 1.0:
            height, width = (max(1, round(scale * side)) for side in view.pixels.shape[:2])
            picture = cv2.resize(view.pixels, (width, height), interpolation=cv2.INTER_AREA)
        else:
            picture = view.pixels.copy()
        for observation, insight in view.targets:
            if parameters.debug_overlay != 'none' and observation.state is not State.IDLE:
                try:
                    self._explainer.draw(
                        picture, insight, parameters.debug_overlay, scale, observation.mask
                    )
                except (TrackerError, EngineError) as error:
                    self._failed(error)
        draw_all(picture, [observation for observation, _ in view.targets], view.note, scale)
        if self._raw.get_subscription_count():
            self._raw.publish(to_message(picture, view.header))
        if self._compressed.get_subscription_count():
            self._compressed.publish(
                to_compressed_message(picture, view.header, parameters.debug_jpeg_quality)
            )
