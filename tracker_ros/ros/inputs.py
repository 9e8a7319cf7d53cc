# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The camera of the node: its newest image, those of the last seconds, and its calibration."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from builtin_interfaces.msg import Time
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from tracker_ros.geometry import Image as Pixels
from tracker_ros.ros.direction import Direction
from tracker_ros.ros.images import decode_compressed, to_bgr
from tracker_ros.ros.messages import RequestError, is_zero, nanoseconds, seconds
from tracker_ros.ros.parameters import Parameters
from tracker_ros.ros.qos import MatchedSubscription
from tracker_ros.tracking.bearing import is_rectified
from tracker_ros.tracking.history import History
from tracker_ros_interfaces.srv import InitTarget

# Stamps this far after the newest image are taken for it: they were made by hand, or by a clock
# that is a little ahead.
_AHEAD_S = 1.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """An image message, and when its callback had it (time.perf_counter, in seconds)."""

    message: Image | CompressedImage
    at_s: float

    @property
    def header(self) -> Header:
        header: Header = self.message.header
        return header

    @property
    def stamp_s(self) -> float | None:
        """When the image was taken, in seconds; None where the camera does not say."""
        return None if is_zero(self.header.stamp) else seconds(self.header.stamp)

    def pixels(self) -> Pixels:
        """(H, W, 3) uint8 BGR, perhaps the message's own memory. Raises ImageError."""
        if isinstance(self.message, CompressedImage):
            return decode_compressed(self.message)
        return to_bgr(self.message)


class Camera:
    """Subscribes to a camera, and calls `taken` with each image that arrives."""

    def __init__(
        self,
        node: LifecycleNode,
        parameters: Parameters,
        taken: Callable[[Arrival], None],
        informed: Callable[[CameraInfo], None],
        say: Callable[[str], None],
    ) -> None:
        """Begins to listen; `informed` is called with each calibration.

        `say` is told why there are no directions, once for each reason.

        Raises QosOverrideError or ParameterException for a quality of service that is none.
        """
        self._node = node
        self._taken = taken
        self._informed = informed
        self.newest: Arrival | None = None
        self.info: CameraInfo | None = None
        self.history: History[Arrival] = History(0.0, 0)
        compressed = parameters.image_transport == 'compressed'
        self._images = MatchedSubscription(
            node,
            CompressedImage if compressed else Image,
            'image_raw/compressed' if compressed else 'image_raw',
            self._on_image,
            silent_after_s=parameters.image_timeout_s,
        )
        self.direction = Direction(say, rectified=is_rectified(self.topic))
        """Of places in the images."""
        self._info = node.create_subscription(
            CameraInfo, 'camera_info', self._on_info, qos_profile_sensor_data
        )
        self.configure(parameters)

    def configure(self, parameters: Parameters) -> None:
        """Take over what may change while the node works."""
        self._parameters = parameters
        self._images.silent_after_s = parameters.image_timeout_s
        self.history.longest_s = parameters.history_s
        self.history.most_bytes = 10**6 * parameters.history_mb

    def destroy(self) -> None:
        self._images.destroy()
        self._node.destroy_subscription(self._info)

    @property
    def topic(self) -> str:
        return self._images.topic

    def silence_warning(self) -> str | None:
        """Words for a silence that has lasted too long; None where it has not, or was told."""
        return self._images.silence_warning()

    def frames_since(self, header: Header) -> list[Arrival]:
        """The image that `header` names, and all that came since; for none, the newest alone.

        Raises RequestError where there is no such image.
        """
        if self.newest is None:
            raise RequestError(
                InitTarget.Response.NO_IMAGE,
                f"no image has come on '{self.topic}' yet; check that the camera runs "
                'and that the topic is remapped to it',
            )
        frame_id = self.newest.header.frame_id
        if header.frame_id and header.frame_id != frame_id:
            raise RequestError(
                InitTarget.Response.WRONG_FRAME,
                f'the box is in the frame {header.frame_id[:60]!r}, the images are in '
                f'{frame_id[:60]!r}; leave frame_id empty or give that of the image',
            )
        if is_zero(header.stamp):
            return [self.newest]
        return self._kept_since(header.stamp)

    def _kept_since(self, stamp: Time) -> list[Arrival]:
        history, parameters = self.history, self._parameters
        kept = history.since(nanoseconds(stamp))
        if not kept:
            raise RequestError(
                InitTarget.Response.NO_IMAGE,
                'header.stamp names an image, but none is kept: history_s is '
                f'{parameters.history_s:g}, history_mb {parameters.history_mb}, and '
                'images need stamps; leave the stamp at zero to start in the newest image',
            )
        beside_s = 1e-9 * (nanoseconds(stamp) - kept[0].stamp_ns)
        # A stamp that is not an image's own counts for the nearest one.
        between_s = history.span_s / max(1, len(history) - 1)
        if not -max(between_s, 1e-3) <= beside_s <= _AHEAD_S:
            where = 'after the newest' if beside_s > 0 else 'before the oldest'
            raise RequestError(
                InitTarget.Response.NO_IMAGE,
                f'header.stamp {seconds(stamp):.3f} is {abs(beside_s):.3f} s {where} '
                f'image kept, of {len(history)} from '
                f'the last {history.span_s:.3f} s; answer sooner, raise history_s '
                f'({parameters.history_s:g}) and history_mb ({parameters.history_mb}), '
                'or leave the stamp at zero to start in the newest image',
            )
        return [each.item for each in kept]

    def _on_image(self, message: Image | CompressedImage) -> None:
        arrival = Arrival(message, time.perf_counter())
        self.newest = arrival
        if not is_zero(message.header.stamp):
            self.history.add(nanoseconds(message.header.stamp), arrival, len(message.data))
        self._taken(arrival)

    def _on_info(self, message: CameraInfo) -> None:
        self.info = message
        self.direction.take(message)
        self._informed(message)
