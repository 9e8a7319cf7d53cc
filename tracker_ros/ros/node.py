# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node `tracker`: a camera in, the target's box in every frame out.

An adapter between messages and `tracker_ros.tracking.Session`. The executor's thread only moves
messages; a worker thread tracks in the newest frame; another draws the debug image.
"""

from __future__ import annotations

import functools
import math
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

# Set before OpenCV is loaded: a compressed image must not claim more pixels than a camera has.
os.environ.setdefault('OPENCV_IO_MAX_IMAGE_PIXELS', str(1 << 26))

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, ExternalShutdownException
from rclpy.lifecycle import (
    LifecycleNode,
    LifecyclePublisher,
    LifecycleState,
    TransitionCallbackReturn,
)
from rclpy.logging import get_logger
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rclpy.utilities import ok
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool
from vision_msgs.msg import Detection2D, Detection2DArray

from tracker_ros.geometry import Box
from tracker_ros.geometry import Image as Pixels
from tracker_ros.ros import parameters as node_parameters
from tracker_ros.ros.debug_view import DebugView, View
from tracker_ros.ros.images import (
    ImageError,
    decode_compressed,
    find_cv_bridge,
    to_bgr,
    to_message,
)
from tracker_ros.ros.log import python_log_in
from tracker_ros.ros.messages import (
    BOX_FAULT_CODES,
    DetectionWriter,
    RequestError,
    box_of,
    checked_id,
    is_zero,
    nanoseconds,
    seconds,
)
from tracker_ros.ros.program import ros_program
from tracker_ros.ros.qos import MatchedSubscription, QosOverrideError
from tracker_ros.ros.timing import FrameTimes, StageTimes
from tracker_ros.ros.worker import NewestWins
from tracker_ros.runtime.engine import EngineError, NotReadyError
from tracker_ros.runtime.package import PackageError
from tracker_ros.trackers import TrackerError, create
from tracker_ros.tracking import BoxError, Observation, Session, State
from tracker_ros.tracking.heat import Explainer
from tracker_ros.tracking.history import History, run_forward
from tracker_ros_interfaces.msg import TrackerState
from tracker_ros_interfaces.srv import InitTarget, StopTarget

# A start that takes longer than this is answered as failed; networks need milliseconds.
_START_TIMEOUT_S = 10.0
_STATE_PERIOD_S = 1.0
# A start in an older image runs forward to the newest within about this time.
_CATCH_UP_S = 1.0
# Stamps this far after the newest image are taken for it: they were made by hand, or by a clock
# that is a little ahead.
_AHEAD_S = 1.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """An image message, and when its callback had it (time.perf_counter, in seconds)."""

    message: Image | CompressedImage
    at_s: float


@dataclass(frozen=True, slots=True)
class Started:
    """How a start went; `observation` is that of the image of the start."""

    observation: Observation
    words: str
    frame_age_s: float
    catch_up_frames: int
    catch_up_s: float


Transition = Callable[['TrackerNode', LifecycleState], TransitionCallbackReturn]


def _telling(transition: Transition) -> Transition:
    """Makes a transition say what it fails of: rclpy drops an exception without a word."""

    @functools.wraps(transition)
    def told(node: TrackerNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:  # anything at all would otherwise pass in silence
            if node.context.ok():
                node.get_logger().error(f'{transition.__name__}: {type(error).__name__}: {error}')
            return TransitionCallbackReturn.ERROR

    return told


class TrackerNode(LifecycleNode):
    """See docs/node.md for topics, services and parameters."""

    def __init__(self, name: str = 'tracker', **options: Any) -> None:
        super().__init__(name, **options)
        self.parameters = node_parameters.declare(self)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)
        # The services are there from the first moment: a client gets a reason, not silence.
        self.create_service(InitTarget, '~/init_target', self._on_init)
        self.create_service(StopTarget, '~/stop_target', self._on_stop)
        self.create_service(SetBool, '~/enable', self._on_enable)
        self._answer_wrong_transitions()
        # What to undo: at clean-up what configuring made, at deactivation what activating made.
        self._configured = ExitStack()
        self._activated = ExitStack()
        self._is_configured = self._is_active = False
        self._newest: Arrival | None = None
        self._newest_info: CameraInfo | None = None
        self._history: History[Arrival] = History(0.0, 0)
        self._enabled = True
        self._seen = 0
        self._processed = 0
        self._dropped_before = 0
        self._refused = 0
        self._times = StageTimes()
        self._said: set[str] = set()

    # -- life cycle ---------------------------------------------------------------------------

    @_telling
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create the publishers."""
        parameters = self.parameters
        try:
            tracker = create(parameters.model, parameters.runtime, parameters.threads)
        except (PackageError, EngineError, TrackerError) as error:
            self.get_logger().error(f'model {parameters.model!r}: {error}')
            return TransitionCallbackReturn.FAILURE
        self._session = Session(
            tracker, parameters.thresholds(tracker.package.confidence), parameters.patience()
        )
        self._is_configured = True
        self._configured.callback(self._forget_session)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        few = qos_profile_sensor_data.depth
        self._detection_out = self._publisher(Detection2D, '~/detection', few)
        self._detections_out = self._publisher(Detection2DArray, '~/detections', few)
        self._state_out = self._publisher(TrackerState, '~/state', latched)
        # Not latched, and lazy: a mask is made only while somebody subscribes.
        self._mask_out = self._publisher(Image, '~/mask', few)
        self._diagnostics_out = self._publisher(DiagnosticArray, '/diagnostics', 10)
        self._debug = DebugView(
            self, lambda: self.parameters, Explainer(tracker), self._on_debug_failure
        )
        self._configured.callback(self._debug.destroy)
        self._writer = DetectionWriter()
        self._state_message = TrackerState(model=parameters.model, runtime=tracker.runtime)
        self._times = StageTimes()
        self._seen = self._processed = self._dropped_before = self._refused = 0
        self.get_logger().info(f'model {parameters.model} on {tracker.runtime}')
        if tracker.rejected:
            self.get_logger().info(f'not used: {"; ".join(tracker.rejected)}')
        bridge = find_cv_bridge()
        if bridge.bridge is None:
            self.get_logger().info(bridge.finding)
        return super().on_configure(state)

    @_telling
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera and begin to work."""
        result = super().on_activate(state)
        self._activated.callback(super().on_deactivate, state)
        self._worker = NewestWins('tracker', self._process, self._on_failure)
        self._activated.callback(self._leave_idle)
        self._worker.start()
        self._activated.callback(self._worker.stop)
        compressed = self.parameters.image_transport == 'compressed'
        try:
            self._images = MatchedSubscription(
                self,
                CompressedImage if compressed else Image,
                'image_raw/compressed' if compressed else 'image_raw',
                self._on_image,
                silent_after_s=self.parameters.image_timeout_s,
            )
        except (QosOverrideError, ParameterException) as error:
            self.get_logger().error(str(error))
            self._activated.close()
            return TransitionCallbackReturn.FAILURE
        self._activated.callback(self._images.destroy)
        info = self.create_subscription(
            CameraInfo, 'camera_info', self._on_camera_info, qos_profile_sensor_data
        )
        self._activated.callback(self.destroy_subscription, info)
        # Steady, so that it ticks with simulated time that stands still.
        ticker = self.create_timer(
            _STATE_PERIOD_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._activated.callback(self.destroy_timer, ticker)
        self._is_active = True
        self._limit_history()
        self._worker.call(self._publish_state)
        return result

    @_telling
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the camera and of the target."""
        self._activated.close()
        return TransitionCallbackReturn.SUCCESS

    @_telling
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model."""
        self._configured.close()
        return super().on_cleanup(state)

    @_telling
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._activated.close()
        self._configured.close()
        return super().on_shutdown(state)

    @_telling
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leave nothing half made, so that the node can be configured again."""
        self._activated.close()
        self._configured.close()
        return super().on_error(state)

    def close(self) -> None:
        """End the threads and the node, whatever state it is in."""
        with ExitStack() as ending:
            ending.callback(self.destroy_node)
            ending.callback(self._configured.close)
            ending.callback(self._activated.close)

    def _publisher(self, kind: type, topic: str, qos: QoSProfile | int) -> LifecyclePublisher:
        publisher = self.create_lifecycle_publisher(kind, topic, qos)
        self._configured.callback(self.destroy_lifecycle_publisher, publisher)
        return publisher

    def _forget_session(self) -> None:
        self._is_configured = False
        self._session.tracker.close()
        del self._session

    def _leave_idle(self) -> None:
        """The last state, for those who come later, when nothing works on images any more."""
        self._dropped_before += self._worker.replaced
        self._is_active = False
        self._newest = self._newest_info = None
        self._history.clear()
        self._session.stop('the node is not active')
        if self.context.ok():
            self._publish_state()

    def _answer_wrong_transitions(self) -> None:
        """Refuse what is impossible now; in rclpy that is an exception, which ends the node."""
        change_state = self._service_change_state.callback

        def answer(
            request: ChangeState.Request, response: ChangeState.Response
        ) -> ChangeState.Response:
            try:
                return change_state(request, response)
            except RuntimeError as error:
                self.get_logger().warning(f'transition refused: {error}')
                response.success = False
                return response

        self._service_change_state.callback = answer

    # -- messages in --------------------------------------------------------------------------

    def _on_image(self, message: Image | CompressedImage) -> None:
        arrival = Arrival(message, time.perf_counter())
        self._newest = arrival
        self._seen += 1
        if not is_zero(message.header.stamp):
            self._history.add(nanoseconds(message.header.stamp), arrival, len(message.data))
        if self._is_active and self._enabled:
            self._worker.offer(arrival)

    def _limit_history(self) -> None:
        self._history.longest_s = self.parameters.history_s
        self._history.most_bytes = 10**6 * self.parameters.history_mb

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._newest_info = message

    def _on_init(
        self, request: InitTarget.Request, response: InitTarget.Response
    ) -> InitTarget.Response:
        try:
            worker = self._ready(InitTarget.Response.NOT_READY)
            if not self._enabled:
                raise RequestError(
                    InitTarget.Response.NOT_READY,
                    'the node is paused; call ~/enable with data: true first',
                )
            # What can be refused at once is not kept waiting for the frame in work.
            arrivals = self._frames_for(request)
            target_id, box = checked_id(request.target_id), box_of(request.bbox)
            started = _answer_of(worker, lambda: self._start(arrivals, box, target_id, request))
        except Exception as error:  # a caller gets an answer, whatever went wrong
            response.success = False
            response.code, response.message = _refusal(error, InitTarget.Response.TRACKER_FAILED)
            self.get_logger().warning(f'init_target refused: {response.message}')
            return response
        response.success = True
        response.code = InitTarget.Response.OK
        response.target_id = started.observation.target_id
        response.score = started.observation.score
        response.message = started.words
        response.frame_age_s = started.frame_age_s
        response.catch_up_frames = started.catch_up_frames
        response.catch_up_s = started.catch_up_s
        self.get_logger().info(f'{response.target_id}: {response.message}')
        return response

    def _on_stop(
        self, request: StopTarget.Request, response: StopTarget.Response
    ) -> StopTarget.Response:
        try:
            worker = self._ready(StopTarget.Response.NOT_READY)
            response.message = _answer_of(worker, lambda: self._stop(request.target_id))
        except Exception as error:  # as in _on_init
            response.success = False
            response.code, response.message = _refusal(error, StopTarget.Response.NOT_READY)
            return response
        response.success = True
        response.code = StopTarget.Response.OK
        return response

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = bool(request.data)
        if self._is_active:
            if not self._enabled:
                self._worker.take()
            self._worker.call(self._publish_state)
        response.success = True
        response.message = 'tracking' if self._enabled else 'paused: the target is kept'
        return response

    def _ready(self, code: int) -> NewestWins[Arrival]:
        if not self._is_active:
            raise RequestError(
                code, 'the node is not active; activate it (ros2 lifecycle set) and call again'
            )
        return self._worker

    def _frames_for(self, request: InitTarget.Request) -> list[Arrival]:
        """The image that `request` starts in, and those that came since.

        Raises RequestError for a request that cannot be met.
        """
        arrival = self._newest
        if arrival is None:
            raise RequestError(
                InitTarget.Response.NO_IMAGE,
                f"no image has come on '{self._images.topic}' yet; check that the camera runs "
                'and that the topic is remapped to it',
            )
        header = arrival.message.header
        if request.header.frame_id and request.header.frame_id != header.frame_id:
            raise RequestError(
                InitTarget.Response.WRONG_FRAME,
                f'the box is in the frame {request.header.frame_id[:60]!r}, the images are in '
                f'{header.frame_id[:60]!r}; leave frame_id empty or give that of the image',
            )
        if request.text and not self._session.tracker.package.takes_text:
            raise RequestError(
                InitTarget.Response.TEXT_NOT_SUPPORTED,
                f'the model {self.parameters.model!r} takes no text, but text is '
                f'{request.text[:60]!r}; leave it empty or choose a model that does',
            )
        if is_zero(request.header.stamp):
            return [arrival]
        return self._kept_since(request.header.stamp)

    def _kept_since(self, stamp: Time) -> list[Arrival]:
        history = self._history
        kept = history.since(nanoseconds(stamp))
        if not kept:
            raise RequestError(
                InitTarget.Response.NO_IMAGE,
                'header.stamp names an image, but none is kept: history_s is '
                f'{self.parameters.history_s:g}, history_mb {self.parameters.history_mb}, and '
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
                f'({self.parameters.history_s:g}) and history_mb ({self.parameters.history_mb}), '
                'or leave the stamp at zero to start in the newest image',
            )
        return [each.item for each in kept]

    # -- the worker's thread ------------------------------------------------------------------

    def _process(self, arrival: Arrival) -> None:
        """Answer one frame."""
        began_s = time.perf_counter()
        session = self._session
        following = session.observation.state is not State.IDLE
        if not following and not self._debug.is_watched():
            return
        pixels = self._pixels(arrival)
        decoded_s = time.perf_counter()
        self._ask_for_extras()
        observation = session.step(pixels) if following else session.observation
        if following:
            self._publish(arrival, observation)
            done_s = time.perf_counter()
            self._times.add(
                FrameTimes(
                    waiting_s=began_s - arrival.at_s,
                    decoding_s=decoded_s - began_s,
                    inference_s=session.tracker.inference_s,
                    total_s=done_s - arrival.at_s,
                )
            )
        self._show(arrival, pixels, observation)

    def _start(
        self, arrivals: list[Arrival], box: Box, target_id: str, request: InitTarget.Request
    ) -> Started:
        """Start in the first of `arrivals` and run forward to the last."""
        first, last = arrivals[0], arrivals[-1]
        try:
            pixels = self._pixels(first)
            self._ask_for_extras()
            start = self._session.start(
                pixels, box, target_id, request.text or None, self.parameters.smallest_box_px
            )
        except BoxError as error:
            raise RequestError(BOX_FAULT_CODES[error.fault], str(error)) from error
        except Exception:
            # A start that fails half-way leaves no target.
            self._publish_state()
            raise
        began_s = time.perf_counter()
        try:
            count = run_forward(arrivals[1:], self._step_unseen, _CATCH_UP_S)
            pixels = pixels if last is first else self._pixels(last)
        except Exception as error:
            self._session.stop(f'the start failed: {error}')
            self._publish_state()
            raise
        took_s = time.perf_counter() - began_s if count else 0.0
        self._worker.take()
        self._publish(last, self._session.observation)
        self._show(last, pixels, self._session.observation)
        age_s = seconds(last.message.header.stamp) - seconds(first.message.header.stamp)
        words = self._words_of_start(request, first, age_s, start)
        if count:
            words += f'; ran through {count} images in {took_s:.3f} s, to the newest'
        return Started(start, words, age_s, count, took_s)

    def _step_unseen(self, arrival: Arrival) -> None:
        """Follow the target through an image that nobody waits for an answer to."""
        try:
            self._session.step(self._pixels(arrival))
        except ImageError as error:
            self._refused += 1
            self._say_once(f'image refused: {error}')

    def _words_of_start(
        self,
        request: InitTarget.Request,
        arrival: Arrival,
        age_s: float,
        observation: Observation,
    ) -> str:
        assert observation.box is not None, 'a target starts where the caller says'
        x, y, w, h = observation.box.xywh()
        words = f'started at x={x:.1f} y={y:.1f} w={w:.1f} h={h:.1f}'
        if not is_zero(request.header.stamp):
            words += f' in the image of {age_s:.3f} s ago'
            beside_s = seconds(request.header.stamp) - seconds(arrival.message.header.stamp)
            if abs(beside_s) > 1e-6:
                words += f', the nearest to the stamp, {abs(beside_s):.3f} s beside it'
        if observation.score < self._session.thresholds.sure:
            words += (
                f'; the score is only {observation.score:.2f}: choose a tighter box if it fails'
            )
        return words

    def _stop(self, target_id: str) -> str:
        current = self._session.observation
        if current.state is State.IDLE:
            raise RequestError(StopTarget.Response.NOT_TRACKING, 'there is no target to stop')
        if target_id not in ('', current.target_id):
            raise RequestError(
                StopTarget.Response.UNKNOWN_TARGET,
                f'there is no target {target_id[:64]!r}; the current one is {current.target_id!r}',
            )
        self._session.stop('stopped on request')
        self._publish_state()
        return f'{current.target_id} stopped'

    def _pixels(self, arrival: Arrival) -> Pixels:
        if isinstance(arrival.message, CompressedImage):
            return decode_compressed(arrival.message)
        return to_bgr(arrival.message)

    def _publish(self, arrival: Arrival, observation: Observation) -> None:
        self._processed += 1
        header = arrival.message.header
        outline = observation.outline if self.parameters.rotated_box else None
        self._writer.write(header, observation, self.parameters.class_id, outline)
        # Publishing costs a quarter of a millisecond, also where nobody listens.
        if self._detection_out.get_subscription_count():
            self._detection_out.publish(self._writer.detection)
        if self._detections_out.get_subscription_count():
            self._detections_out.publish(self._writer.array)
        if observation.mask is not None and self._mask_out.get_subscription_count():
            self._mask_out.publish(to_message(observation.mask, header, 'mono8'))
        self._state_message.header = header
        self._publish_state()

    def _publish_state(self) -> None:
        observation = self._session.observation
        message = self._state_message
        message.state = int(observation.state)
        message.target_id = observation.target_id
        message.score = observation.score
        tracker = self._session.tracker
        # Both change when an engine that was built meanwhile takes over.
        message.runtime = tracker.runtime
        message.reason = '; '.join(filter(None, (observation.reason, tracker.note)))
        message.enabled = self._enabled
        message.frame_age_s = self._age_s(message.header)
        message.frames_seen = self._seen
        message.frames_dropped = self._dropped()
        message.frames_processed = self._processed
        self._state_out.publish(message)

    def _dropped(self) -> int:
        return self._dropped_before + (self._worker.replaced if self._is_active else 0)

    def _age_s(self, header: Header) -> float:
        now = self.get_clock().now()
        # Simulated time is 0 until the first message on /clock.
        if is_zero(header.stamp) or now.nanoseconds == 0:
            return math.nan
        return 1e-9 * now.nanoseconds - seconds(header.stamp)

    def _ask_for_extras(self) -> None:
        """What costs time is had only while somebody wants it."""
        parameters, tracker = self.parameters, self._session.tracker
        is_shown = parameters.debug_overlay != 'none' and self._debug.is_watched()
        tracker.keeps_insight = is_shown
        wants_mask = (
            self._mask_out.get_subscription_count() > 0
            or parameters.rotated_box
            or (is_shown and parameters.debug_overlay == 'mask')
        )
        tracker.wants_mask = wants_mask and tracker.gives_mask
        if wants_mask and not tracker.gives_mask:
            self._say_once(
                f'the model {parameters.model!r} gives no masks: ~/mask stays silent and boxes '
                'upright; choose one that does, such as siamattn'
            )

    def _show(self, arrival: Arrival, pixels: Pixels, observation: Observation) -> None:
        if self._debug.is_watched():
            note = f'{self.parameters.model}  {1e3 * self._session.tracker.inference_s:.1f} ms'
            insight = self._session.tracker.insight
            self._debug.show(View(arrival.message.header, pixels, observation, note, insight))

    def _on_failure(self, error: Exception) -> None:
        """A frame could not be answered: say why once, and go on with the next."""
        if not self.context.ok():
            return  # Ctrl-C has ended the context under this thread: nothing can be published
        self._refused += 1
        if isinstance(error, ImageError):
            self._say_once(f'image refused: {error}')
            return
        # A tracker that fails on an image must not take the node with it.
        self._say_once(f'the tracker failed: {type(error).__name__}: {error}')
        self._session.stop(f'the tracker failed: {error}')
        self._publish_state()

    def _on_debug_failure(self, error: Exception) -> None:
        if self.context.ok():
            self._say_once(f'debug image: {type(error).__name__}: {error}')

    def _say_once(self, text: str) -> None:
        # Bounded, because hostile images could make a new text each.
        if text not in self._said and len(self._said) < 100:
            self._said.add(text)
            self.get_logger().error(text)

    # -- once a second ------------------------------------------------------------------------

    def _tick(self) -> None:
        warning = self._images.silence_warning()
        if warning:
            self.get_logger().warning(warning)
        self._worker.call(self._publish_state)
        self._diagnostics_out.publish(self._diagnosis())

    def _diagnosis(self) -> DiagnosticArray:
        observation = self._session.observation
        if self._newest is None:
            level, words = DiagnosticStatus.WARN, f"no image on '{self._images.topic}'"
        elif observation.state in (State.UNCERTAIN, State.LOST):
            level, words = DiagnosticStatus.WARN, f'{observation.state.name}: {observation.reason}'
        else:
            level, words = DiagnosticStatus.OK, observation.state.name
        info = self._newest_info
        values = {
            'model': self.parameters.model,
            'runtime': self._session.tracker.runtime,
            'runtime note': self._session.tracker.note,
            'runtimes not used': '; '.join(self._session.tracker.rejected),
            'target': observation.target_id,
            'score': f'{observation.score:.3f}',
            'enabled': self._enabled,
            'frames seen': self._seen,
            'frames processed': self._processed,
            'frames dropped': self._dropped(),
            'frames refused': self._refused,
            'images kept': f'{len(self._history)} in {self._history.span_s:.2f} s, '
            f'{1e-6 * self._history.size_bytes:.0f} MB',
            'camera_info': f'{info.width} x {info.height}' if info else 'none',
            **self._times.summary(),
        }
        status = DiagnosticStatus(
            level=level,
            name=f'{self.get_fully_qualified_name()}: tracking',
            message=words,
            hardware_id=self._session.tracker.runtime,
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        return array

    # -- parameters ---------------------------------------------------------------------------

    def _check_parameters(self, changed: list[Parameter]) -> SetParametersResult:
        changes = {parameter.name: parameter.value for parameter in changed}
        fixed = [
            name
            for name in node_parameters.FIXED
            if name in changes and changes[name] != getattr(self.parameters, name)
        ]
        if fixed and self._is_configured:
            return SetParametersResult(
                successful=False,
                reason=f'{", ".join(fixed)}: read when the node is configured; deactivate and '
                'clean up first (ros2 lifecycle set)',
            )
        try:
            node_parameters.read(self, changes)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply_parameters(self, _changed: list[Parameter]) -> None:
        self.parameters = parameters = node_parameters.read(self)
        if self._is_active:
            self._images.silent_after_s = parameters.image_timeout_s
            self._limit_history()
        if self._is_configured:
            self._session.configure(
                parameters.thresholds(self._session.tracker.package.confidence),
                parameters.patience(),
            )


def main(arguments: list[str] | None = None) -> int:
    """Run the node until it is told to end. Returns the exit code of the process."""
    # How long a thread that waits for Python's interpreter lock leaves it to another: the
    # default, 5 ms, is most of a frame's budget, and the worker waits for the executor's thread.
    sys.setswitchinterval(1e-4)
    with ros_program(arguments) as executor:
        return _run(executor)
    return 0  # Ctrl-C came while something was being made


def _run(executor: Executor) -> int:
    try:
        node = TrackerNode()
    except (ParameterException, ValueError) as error:
        get_logger('tracker').fatal(str(error))
        return 1
    with python_log_in(node.get_logger()):
        try:
            if node.parameters.autostart and not _start(node):
                return 1 if ok() else 0
            _spin(executor, node)
        finally:
            node.close()
    return 0


def _start(node: TrackerNode) -> bool:
    success = TransitionCallbackReturn.SUCCESS
    return node.trigger_configure() == success and node.trigger_activate() == success


def _spin(executor: Executor, node: TrackerNode) -> None:
    executor.add_node(node)
    while ok():
        try:
            # Not for ever: rclpy wakes the executor just before it shuts the context down, and a
            # wait that begins between the two would miss Ctrl-C.
            executor.spin_once(timeout_sec=0.5)
        except ExternalShutdownException:
            return
        except Exception as error:
            # Some malformed requests are exceptions in rclpy's own services; without this one
            # message would end the node.
            if ok():
                node.get_logger().error(f'a callback failed: {type(error).__name__}: {error}')


def _answer_of(worker: NewestWins[Arrival], task: Callable[[], Any]) -> Any:
    """What `task` gives in the worker's thread. Raises what it raises, or TrackerError."""
    future = worker.call(task)
    try:
        return future.result(_START_TIMEOUT_S)
    except CancelledError:
        raise TrackerError('the node is being deactivated') from None
    except FutureTimeoutError:
        future.cancel()
        raise TrackerError(
            f'the tracker was busy for {_START_TIMEOUT_S:g} s; call again'
        ) from None


def _refusal(error: Exception, otherwise: int) -> tuple[int, str]:
    """Code and words of the answer to a request that raised `error`."""
    if isinstance(error, RequestError):
        return error.code, str(error)
    if isinstance(error, NotReadyError):
        return InitTarget.Response.NOT_READY, str(error)
    if isinstance(error, TrackerError | EngineError | ImageError):
        return otherwise, str(error)
    return otherwise, f'{type(error).__name__}: {error}'


if __name__ == '__main__':
    sys.exit(main())
