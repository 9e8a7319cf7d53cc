# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node `video_source`: a video, images, a webcam or a bag as a ROS camera."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from enum import Enum
from typing import Any

from rcl_interfaces.msg import IntegerRange, ParameterDescriptor
from rclpy.duration import Duration
from rclpy.exceptions import ParameterException
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool, Trigger

from tracker_ros.footage import FootageError
from tracker_ros.lookahead import Lookahead
from tracker_ros.ros import camera_info
from tracker_ros.ros.bag import BagError
from tracker_ros.ros.images import ImageError
from tracker_ros.ros.program import ros_program, spin
from tracker_ros.ros.reel import Format, Picture, Reel, open_reel

_LOOKAHEAD = 4
"""Pictures decoded before they are due."""
_LATE_TELLING_S = 10.0
"""How often the log may say that the rate is not kept."""
_REPEAT_S = 0.5
"""How often the picture at hand is published while paused."""

_SOURCE_ERRORS = (FootageError, BagError, ImageError, camera_info.CameraInfoError)


class SettingError(ValueError):
    """A parameter of the node has an impossible value; the text names it."""


class Deadlines:
    """When pictures are to be published, for times that count from the first one.

    Deadlines are absolute, so that small delays do not add up. After a pause, or when a picture
    is later than the time between two, the following ones keep their distance from it: a camera
    does not send a burst to catch up.
    """

    def __init__(self) -> None:
        self._origin_s: float | None = None
        self._interval_s = 0.0
        self._last_due_s = 0.0

    def of(self, due_s: float, now_s: float) -> tuple[float, float]:
        """(when to publish, how late that is); seconds of the clock that now_s is read from."""
        interval_s = max(due_s - self._last_due_s, 0.0)
        self._last_due_s = due_s
        if self._origin_s is None:
            self._origin_s = now_s - due_s
        late_s = now_s - (self._origin_s + due_s)
        if late_s > interval_s:
            self._origin_s = now_s - due_s
        return self._origin_s + due_s, max(late_s, 0.0)

    def restart(self) -> None:
        """The next picture is due when it is asked for."""
        self._origin_s = None


class _End(Enum):
    OF_SOURCE = 'of source'
    FOR_RESTART = 'for restart'
    OF_NODE = 'of node'


class VideoSource(Node):
    """Publishes pictures at their times from a thread of its own; the executor serves requests.

    Publishes `image_raw` (sensor_msgs/Image) and `image_raw/compressed` (CompressedImage), as the
    parameter image_transport says, and `camera_info`. Serves `~/pause` (std_srvs/SetBool; true
    pauses) and `~/restart` (std_srvs/Trigger).

    Attributes:
        ended: a Future whose result is the exit code; done when there is nothing left to do.
    """

    def __init__(self, name: str = 'video_source', **options: Any) -> None:
        """Opens the source and begins to play it.

        Raises:
            SettingError, FootageError, BagError, CameraInfoError: what is wrong, for people.
        """
        super().__init__(name, **options)
        try:
            self._begin()
        except Exception:
            self.destroy_node()
            raise

    def _begin(self) -> None:
        self.ended = Future()
        self._declare_parameters()
        self._loop = bool(self._setting('loop'))
        self._start = int(self._setting('start_frame'))
        self._exit_at_end = bool(self._setting('exit_at_end'))
        self._repeat = bool(self._setting('repeat_while_paused'))
        transport = self._chosen('image_transport', ('raw', 'compressed', 'both'))
        reliability = self._chosen('reliability', ('reliable', 'best_effort'))
        self._reel = self._open(transport)
        self._outputs: dict[str, Publisher] = {}
        for field, topic, kind, wanted in (
            ('info', 'camera_info', CameraInfo, True),
            ('raw', 'image_raw', Image, transport != 'compressed'),
            ('compressed', 'image_raw/compressed', CompressedImage, transport != 'raw'),
        ):
            if wanted:
                self._outputs[field] = self._publisher(topic, kind, reliability)
        self._changed = threading.Condition()
        self._paused = bool(self._setting('start_paused'))
        self._restarting = False
        self._closing = False
        self._ahead: Lookahead[Picture] | None = None
        self._told_late_s = -_LATE_TELLING_S
        self._say_what_is_played()
        self.create_service(SetBool, '~/pause', self._on_pause)
        self.create_service(Trigger, '~/restart', self._on_restart)
        self._player = threading.Thread(target=self._play, name='player', daemon=True)
        self._player.start()

    def close(self) -> None:
        """Stops playing, gives the source back and destroys the node."""
        with self._changed:
            self._closing = True
            self._interrupt()
        self._player.join()
        self._reel.close()
        self.destroy_node()

    # Parameters

    def _declare_parameters(self) -> None:
        for name, default, description, constraints in (
            (
                'source',
                '',
                'Video file, folder of images, mcap bag (file or folder), or camera index',
                {'dynamic_typing': True},
            ),
            (
                'rate_hz',
                0.0,
                "Pictures per second; 0: the source's own",
                {'dynamic_typing': True, 'additional_constraints': '0 to 1000'},
            ),
            ('loop', False, 'Begin again at the end', {}),
            ('start_paused', False, 'Publish nothing until ~/pause is called with false', {}),
            (
                'repeat_while_paused',
                False,
                'While paused, publish the picture at hand twice a second, without camera_info, '
                'so that a target can be chosen in it',
                {},
            ),
            ('start_frame', 0, 'Number of the first picture, from 0', _integers(0, 2**31 - 1)),
            ('frame_id', '', "Of the headers; empty: the bag's own, else camera", {}),
            ('image_transport', 'raw', 'raw, compressed or both', {}),
            ('jpeg_quality', 80, 'Of compressed images that are made here', _integers(1, 100)),
            ('reliability', 'reliable', 'Of the publishers: reliable or best_effort', {}),
            ('camera_info', '', 'Calibration as yaml; empty: from the bag, else none', {}),
            ('topic', '', "The bag's image topic; empty: the first", {}),
            ('exit_at_end', False, 'End the process after the last picture', {}),
        ):
            descriptor = ParameterDescriptor(
                description=description, read_only=True, **constraints
            )
            self.declare_parameter(name, default, descriptor)

    def _setting(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _chosen(self, name: str, choices: tuple[str, ...]) -> str:
        value = self._setting(name)
        if value not in choices:
            raise SettingError(f"{name} is '{value}': it must be one of {', '.join(choices)}")
        return str(value)

    def _rate_hz(self) -> float:
        value = self._setting('rate_hz')
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise SettingError(f'rate_hz is {value!r}: it must be a number')
        if not 0.0 <= value <= 1000.0:
            raise SettingError(f'rate_hz is {value}: it must be between 0 and 1000')
        return float(value)

    def _open(self, transport: str) -> Reel:
        source = self._setting('source')
        if isinstance(source, bool) or not isinstance(source, (str, int)):
            raise SettingError(f'source is {source!r}: it must be a path or a camera index')
        if source == '':
            raise SettingError(
                'source is empty: name a video, a folder of images, a bag or a camera index, '
                'such as --ros-args -p source:=clip.mp4'
            )
        calibration = self._setting('camera_info')
        form = Format(
            raw=transport != 'compressed',
            compressed=transport != 'raw',
            jpeg_quality=int(self._setting('jpeg_quality')),
            frame_id=str(self._setting('frame_id')),
            info=camera_info.load(calibration) if calibration else None,
        )
        return open_reel(str(source), self._rate_hz(), form, str(self._setting('topic')))

    def _publisher(self, topic: str, kind: type, reliability: str) -> Publisher:
        return self.create_publisher(
            kind,
            topic,
            QoSProfile(depth=5, reliability=ReliabilityPolicy[reliability.upper()]),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    # Requests

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        with self._changed:
            self._paused = request.data
            self._changed.notify_all()
        response.success = True
        response.message = f'{self._reel.name} is {"paused" if request.data else "playing"}'
        return response

    def _on_restart(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._reel.live:
            response.message = f'{self._reel.name} is live, it cannot begin again'
            return response
        with self._changed:
            self._restarting = True
            self._interrupt()
        response.success = True
        response.message = f'{self._reel.name} begins again at frame {self._start}'
        return response

    def _interrupt(self) -> None:
        """Wakes the player from whatever it waits for; the caller holds the lock."""
        if self._ahead is not None:
            self._ahead.wake()
        self._changed.notify_all()

    # Playing, in the player's thread

    def _play(self) -> None:
        try:
            while self._play_once() is not _End.OF_NODE:
                pass
        except _SOURCE_ERRORS as error:
            self._fail(str(error))
        except Exception:
            if self.context.ok():  # publishing fails when the context ends first
                self._fail(traceback.format_exc())

    def _fail(self, reason: str) -> None:
        self.get_logger().fatal(reason)
        self.ended.set_result(1)

    def _play_once(self) -> _End:
        """Plays until the end, a request to restart, or the node's end."""
        with self._changed:
            self._restarting = False
            if self._closing:
                return _End.OF_NODE
            self._ahead = ahead = Lookahead(
                self._reel.forever(self._start)
                if self._loop and not self._reel.live
                else self._reel.pictures(self._start),
                1 if self._reel.live else _LOOKAHEAD,
                newest_only=self._reel.live,
            )
        try:
            count, end = self._publish_all(ahead)
        finally:
            ahead.close()
        if end is _End.OF_SOURCE:
            end = self._after_the_end(count)
        return end

    def _publish_all(self, ahead: Lookahead[Picture]) -> tuple[int, _End]:
        """Publishes each picture at its time; tells how many, and why there are no more."""
        deadlines = Deadlines()
        count = 0
        while True:
            picture = ahead.take()
            # Locked also while publishing: once ~/pause has answered, nothing more is sent.
            with self._changed:
                end = self._wait_for_turn(picture, deadlines)
                if end is not None:
                    return count, end
                if picture is None:
                    return count, _End.OF_SOURCE
                self._publish(picture)
            count += 1

    def _wait_for_turn(self, picture: Picture | None, deadlines: Deadlines) -> _End | None:
        """Waits until the picture is to be published; None then, else what comes instead."""
        due_s = None if picture is None else picture.due_s
        at_s: float | None = None
        while self._interruption() is None:
            if self._paused:
                woken = self._changed.wait(_REPEAT_S if self._repeat else None)
                if not woken and picture is not None:
                    self._publish(picture, with_info=False)
                deadlines.restart()
                at_s = None
                continue
            if due_s is None:
                break
            now_s = time.monotonic()
            if at_s is None:
                at_s, late_s = deadlines.of(due_s, now_s)
                self._tell_late(late_s)
            if now_s >= at_s:
                break
            self._changed.wait(at_s - now_s)
        return self._interruption()

    def _interruption(self) -> _End | None:
        if self._closing:
            return _End.OF_NODE
        return _End.FOR_RESTART if self._restarting else None

    def _publish(self, picture: Picture, with_info: bool = True) -> None:
        stamp = self.get_clock().now().to_msg()
        for field, publisher in self._outputs.items():
            if field == 'info' and not with_info:
                continue
            message = getattr(picture, field)
            message.header.stamp = stamp
            publisher.publish(message)

    def _after_the_end(self, count: int) -> _End:
        self.get_logger().info(f'end of {self._reel.name} after {count} pictures')
        if self._exit_at_end:
            # What was sent last may still be on its way.
            for publisher in self._outputs.values():
                publisher.wait_for_all_acked(Duration(seconds=2))
            self.ended.set_result(0)
        with self._changed:
            self._changed.wait_for(self._interruption)
            return self._interruption() or _End.OF_NODE

    # Words

    def _say_what_is_played(self) -> None:
        reel = self._reel
        count = '' if reel.frame_count is None else f'{reel.frame_count} pictures '
        topics = [out.topic_name for field, out in self._outputs.items() if field != 'info']
        words = f'{reel.name}: {count}at {reel.rate_hz:.4g} Hz to {", ".join(topics)}'
        if self._paused:
            service = self.resolve_service_name('~/pause')
            words += f'; paused, begin with: ros2 service call {service} std_srvs/srv/SetBool'
        self.get_logger().info(words)

    def _tell_late(self, late_s: float) -> None:
        now_s = time.monotonic()
        if late_s > 1.0 / self._reel.rate_hz and now_s - self._told_late_s > _LATE_TELLING_S:
            self._told_late_s = now_s
            self.get_logger().warning(
                f'{self._reel.name}: a picture is {late_s * 1e3:.0f} ms late; reading it is '
                f'slower than {self._reel.rate_hz:.4g} Hz here'
            )


def main(arguments: list[str] | None = None) -> int:
    """Runs the node until it ends or is told to; returns the exit code of the process."""
    with ros_program(arguments) as executor:
        try:
            node = VideoSource()
        except (SettingError, ParameterException, *_SOURCE_ERRORS) as error:
            get_logger('video_source').fatal(str(error))
            return 1
        try:
            executor.add_node(node)
            spin(executor, node.ended)
        finally:
            node.close()
        return int(node.ended.result() or 0) if node.ended.done() else 0
    return 0


def _integers(lowest: int, highest: int) -> dict[str, Any]:
    return {'integer_range': [IntegerRange(from_value=lowest, to_value=highest, step=1)]}


if __name__ == '__main__':
    sys.exit(main())
