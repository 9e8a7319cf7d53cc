# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node `tracker`: a camera in, the targets' boxes in every frame out.

An adapter between messages and `tracker_ros.tracking`. The executor's thread only moves
messages; a worker thread tracks in the newest frame; another draws the debug image. What comes
in is in `inputs` and `ways_in`, how a target starts in `starting`, what goes out in `outputs`.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import ExitStack
from typing import Any

# Set before OpenCV is loaded: a compressed image must not claim more pixels than a camera has.
os.environ.setdefault('OPENCV_IO_MAX_IMAGE_PIXELS', str(1 << 26))

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.parameter import Parameter
from rclpy.utilities import ok
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from std_srvs.srv import SetBool
from vision_msgs.msg import BoundingBox2D

from tracker_ros.geometry import Box
from tracker_ros.geometry import Image as Pixels
from tracker_ros.ros import parameters as node_parameters
from tracker_ros.ros.debug_view import DebugView, View
from tracker_ros.ros.handover import Wanted
from tracker_ros.ros.images import ImageError, find_cv_bridge
from tracker_ros.ros.inputs import Arrival, Camera
from tracker_ros.ros.log import python_log_in
from tracker_ros.ros.messages import RequestError, box_of, checked_id, set_box
from tracker_ros.ros.outputs import Counts, Outputs
from tracker_ros.ros.program import ros_program
from tracker_ros.ros.qos import QosOverrideError
from tracker_ros.ros.recorder import Recorder
from tracker_ros.ros.starting import Started, StartRequest, refusal, start
from tracker_ros.ros.timing import FrameTimes, StageTimes
from tracker_ros.ros.ways_in import WaysIn
from tracker_ros.ros.worker import NewestWins
from tracker_ros.runtime.engine import EngineError
from tracker_ros.runtime.package import PackageError
from tracker_ros.trackers import Tracker, TrackerError, create
from tracker_ros.tracking import Session, State
from tracker_ros.tracking.confidence import remark_on
from tracker_ros.tracking.heat import Explainer
from tracker_ros.tracking.roster import Failure, Roster, Track
from tracker_ros_interfaces.srv import InitTarget, StopTarget, TakeCandidate

# A start that takes longer than this is answered as failed. Networks need milliseconds, but the
# first sentence loads a language model.
_START_TIMEOUT_S = 30.0
_STATE_PERIOD_S = 1.0

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
        self.create_service(TakeCandidate, '~/take_candidate', self._on_take)
        self.create_service(StopTarget, '~/stop_target', self._on_stop)
        self.create_service(SetBool, '~/enable', self._on_enable)
        self._answer_wrong_transitions()
        # What to undo: at clean-up what configuring made, at deactivation what activating made.
        self._configured = ExitStack()
        self._activated = ExitStack()
        self._is_configured = self._is_active = False
        self._enabled = True
        self._counts = Counts()
        self._dropped_before = 0
        self._answered: Arrival | None = None
        self._notes: deque[str] = deque()
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
        self._roster = Roster(tracker, self._new_session, parameters.max_targets)
        self._is_configured = True
        self._configured.callback(self._forget_roster)
        self._outputs = Outputs(self, lambda: self.parameters)
        self._configured.callback(self._outputs.destroy)
        self._debug = DebugView(
            self, lambda: self.parameters, Explainer(tracker), self._on_debug_failure
        )
        self._configured.callback(self._debug.destroy)
        self._times = StageTimes()
        self._counts, self._dropped_before = Counts(), 0
        self.get_logger().info(f'model {parameters.model} on {tracker.runtime}')
        if tracker.rejected:
            self.get_logger().info(f'not used: {"; ".join(tracker.rejected)}')
        remark = remark_on(tracker.package)
        if remark:
            self.get_logger().info(remark)
        bridge = find_cv_bridge()
        if bridge.bridge is None:
            self.get_logger().info(bridge.finding)
        return super().on_configure(state)

    @_telling
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera and begin to work."""
        result = super().on_activate(state)
        self._activated.callback(super().on_deactivate, state)
        self._record()
        self._worker = NewestWins('tracker', self._process, self._on_failure)
        self._activated.callback(self._leave_idle)
        self._worker.start()
        self._activated.callback(self._worker.stop)
        try:
            self._camera = Camera(
                self,
                self.parameters,
                self._on_image,
                self._on_camera_info,
                self.get_logger().warning,
            )
        except (QosOverrideError, ParameterException) as error:
            self.get_logger().error(str(error))
            self._activated.close()
            return TransitionCallbackReturn.FAILURE
        self._activated.callback(self._camera.destroy)
        self._ways_in = WaysIn(self, self)
        self._activated.callback(self._ways_in.destroy)
        # Steady, so that it ticks with simulated time that stands still.
        ticker = self.create_timer(
            _STATE_PERIOD_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._activated.callback(self.destroy_timer, ticker)
        if self.parameters.prediction_rate_hz:
            predictor = self.create_timer(1 / self.parameters.prediction_rate_hz, self._predict)
            self._activated.callback(self.destroy_timer, predictor)
        self._is_active = True
        self._worker.call(self._publish_state)
        return result

    @_telling
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the camera and of the targets."""
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

    def _new_session(self, tracker: Tracker) -> Session:
        parameters = self.parameters
        thresholds = parameters.thresholds(tracker.package.confidence)
        return Session(tracker, thresholds, parameters.patience(), parameters.care())

    def _record(self) -> None:
        """Begin to keep what is seen and said, where that is wanted."""
        recording = self.parameters.recording()
        if recording is not None:
            logger = self.get_logger()
            # One caller each: rclpy remembers the severity that a line of code logs with.
            recorder = Recorder(
                recording, lambda text: logger.warning(text), lambda text: logger.info(text)
            )
            self._outputs.recorder = recorder
            self._activated.callback(self._end_recording, recorder)

    def _end_recording(self, recorder: Recorder) -> None:
        self._outputs.recorder = None
        recorder.close()

    def _forget_roster(self) -> None:
        self._is_configured = False
        self._roster.close()
        del self._roster

    def _leave_idle(self) -> None:
        """The last state, for those who come later, when nothing works on images any more."""
        self._dropped_before += self._worker.replaced
        self._is_active = False
        self._answered = None
        self._roster.stop(reason='the node is not active')
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

    def _on_image(self, arrival: Arrival) -> None:
        self._counts.seen += 1
        if self._is_active and self._enabled:
            self._worker.offer(arrival)

    def _on_camera_info(self, message: CameraInfo) -> None:
        if self._outputs.recorder:
            self._outputs.recorder.info(self.resolve_topic_name('camera_info'), message)

    def _on_init(
        self, request: InitTarget.Request, response: InitTarget.Response
    ) -> InitTarget.Response:
        try:
            started = _result_of(
                self.begin(request.header, request.bbox, request.target_id, request.text)
            )
        except Exception as error:  # a caller gets an answer, whatever went wrong
            self._refuse(response, error, InitTarget.Response.TRACKER_FAILED, 'init_target')
            return response
        self._accept(response, started)
        response.catch_up_frames = started.catch_up_frames
        response.catch_up_s = started.catch_up_s
        set_box(response.bbox, started.box)
        return response

    def _on_take(
        self, request: TakeCandidate.Request, response: TakeCandidate.Response
    ) -> TakeCandidate.Response:
        point = (request.point.x, request.point.y) if request.nearest else None
        try:
            self._ready(InitTarget.Response.NOT_READY)
            header, candidate = self._ways_in.chosen(
                Wanted(request.class_id, request.smallest_score, point)
            )
            started = _result_of(self.begin(header, candidate.bbox(), request.target_id))
        except Exception as error:  # as in _on_init
            self._refuse(response, error, InitTarget.Response.TRACKER_FAILED, 'take_candidate')
            return response
        self._accept(response, started)
        response.class_id = candidate.class_id
        return response

    def _on_stop(
        self, request: StopTarget.Request, response: StopTarget.Response
    ) -> StopTarget.Response:
        try:
            worker = self._ready(StopTarget.Response.NOT_READY)
            response.message = _result_of(worker.call(lambda: self._stop(request.target_id)))
        except Exception as error:  # as in _on_init
            response.success = False
            response.code, response.message = refusal(error, StopTarget.Response.NOT_READY)
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

    def begin(
        self, header: Header, bbox: BoundingBox2D, target_id: str, text: str = ''
    ) -> Future[Started]:
        """Start a target in the image of `header`, before any further image is worked on.

        Raises RequestError for what can be refused at once; the future has what comes later.
        """
        worker = self._ready(InitTarget.Response.NOT_READY)
        if not self._enabled:
            raise RequestError(
                InitTarget.Response.NOT_READY,
                'the node is paused; call ~/enable with data: true first',
            )
        frames = self._camera.frames_since(header)
        if text and not self._roster.tracker.package.takes_text:
            raise RequestError(
                InitTarget.Response.TEXT_NOT_SUPPORTED,
                f'the model {self.parameters.model!r} takes no text, but text is '
                f'{text[:60]!r}; leave it empty or choose a model that does',
            )
        request = StartRequest(frames, box_of(bbox), checked_id(target_id), text, header.stamp)
        return worker.call(lambda: self._start(request))

    def help_find(self, header: Header, box: Box, target_id: str) -> Future[None]:
        """Look at `box` first for a target that is lost. Raises RequestError as `begin`."""
        worker = self._ready(InitTarget.Response.NOT_READY)
        self._camera.frames_since(header)  # refuses what is too old to help
        if target_id and self._roster.find(target_id) is None:
            raise RequestError(
                InitTarget.Response.INVALID_ID,
                f'there is no target {target_id!r} to hint at; give the id of one that is '
                'followed, or none for all',
            )
        return worker.call(lambda: self._roster.hint(box, target_id))

    def hands_over(self) -> Wanted | None:
        """Which candidate is to be followed as soon as it comes; None for none."""
        parameters = self.parameters
        if not parameters.handover_class or self._roster or not self._enabled:
            return None
        return Wanted(parameters.handover_class, parameters.handover_score)

    def note(self, text: str) -> None:
        """Say `text` once, in the state."""
        self._notes.append(text)
        self._worker.call(self._publish_state)

    def _ready(self, code: int) -> NewestWins[Arrival]:
        if not self._is_active:
            raise RequestError(
                code, 'the node is not active; activate it (ros2 lifecycle set) and call again'
            )
        return self._worker

    def _accept(self, response: Any, started: Started) -> None:
        response.success = True
        response.code = InitTarget.Response.OK
        response.target_id = started.track.target_id
        response.score = started.score
        response.message = started.words
        response.frame_age_s = started.frame_age_s
        self.get_logger().info(f'{response.target_id}: {response.message}')

    def _refuse(self, response: Any, error: Exception, otherwise: int, service: str) -> None:
        response.success = False
        response.code, response.message = refusal(error, otherwise)
        self.get_logger().warning(f'{service} refused: {response.message}')

    # -- the worker's thread ------------------------------------------------------------------

    def _process(self, arrival: Arrival) -> None:
        """Answer one frame."""
        began_s = time.perf_counter()
        following = len(self._roster) > 0
        if not following and not self._debug.is_watched():
            return
        pixels = arrival.pixels()
        decoded_s = time.perf_counter()
        self._ask_for_extras()
        if following:
            self._publish(arrival, pixels, self._roster.step(pixels, arrival.stamp_s))
            done_s = time.perf_counter()
            self._times.add(
                FrameTimes(
                    waiting_s=began_s - arrival.at_s,
                    decoding_s=decoded_s - began_s,
                    inference_s=self._inference_s(),
                    total_s=done_s - arrival.at_s,
                )
            )
        self._show(arrival, pixels)

    def _start(self, request: StartRequest) -> Started:
        """Start a target, and bring the others to the same image."""
        self._ask_for_extras()
        try:
            started = start(
                self._roster, request, self.parameters.smallest_box_px, self._refuse_image
            )
        except RequestError:
            raise
        except Exception:
            # A start that fails half-way leaves no target.
            self._publish_state()
            raise
        last = request.frames[-1]
        waiting = self._worker.take()
        if waiting is not None and waiting is not last:
            self._worker.offer(waiting)
        failures: list[Failure] = []
        others = [track for track in self._roster if track is not started.track]
        if others and self._answered is not last:
            failures = self._roster.step_some(others, started.pixels, last.stamp_s)
        self._publish(last, started.pixels, failures)
        self._show(last, started.pixels)
        return started

    def _stop(self, target_id: str) -> str:
        names = ', '.join(repr(track.target_id) for track in self._roster)
        if not names:
            raise RequestError(StopTarget.Response.NOT_TRACKING, 'there is no target to stop')
        stopped = self._roster.stop(target_id, 'stopped on request')
        if not stopped:
            raise RequestError(
                StopTarget.Response.UNKNOWN_TARGET,
                f'there is no target {target_id[:64]!r}, but {names}',
            )
        self._publish_state()
        return f'{", ".join(stopped)} stopped'

    def _publish(self, arrival: Arrival, pixels: Pixels, failures: list[Failure]) -> None:
        self._answered = arrival
        for failure in failures:
            self._tell_failure(failure)
        if self._roster:
            self._counts.processed += 1
            if self._outputs.recorder:
                self._outputs.recorder.image(self._camera.topic, arrival.message)
            tracks, header = list(self._roster), arrival.header
            self._outputs.publish_targets(header, tracks)
            self._outputs.publish_bearings(header, tracks, pixels, self._camera.direction)
            if not self.parameters.prediction_rate_hz:
                self._predict()
        self._publish_state()

    def _predict(self) -> None:
        self._outputs.publish_predictions(list(self._roster))

    def _publish_state(self) -> None:
        # One by one: the executor's thread may add to them meanwhile.
        notes = [self._notes.popleft() for _ in range(len(self._notes))]
        self._counts.dropped = self._dropped_before
        if self._is_active:
            self._counts.dropped += self._worker.replaced
        self._outputs.publish_state(self._roster, self._counts, self._enabled, notes)

    def _ask_for_extras(self) -> None:
        """What costs time is had only while somebody wants it."""
        parameters, outputs = self.parameters, self._outputs
        is_shown = parameters.debug_overlay != 'none' and self._debug.is_watched()
        wants_mask = (
            outputs.wants_masks
            or parameters.rotated_box
            or (is_shown and parameters.debug_overlay == 'mask')
        )
        for session in self._roster.sessions:
            tracker = session.tracker
            tracker.keeps_insight = is_shown
            tracker.wants_mask = wants_mask and tracker.gives_mask
        if wants_mask and not self._roster.tracker.gives_mask:
            self._say_once(
                f'the model {parameters.model!r} gives no masks: ~/mask stays silent and boxes '
                'upright; choose one that does, such as siamattn'
            )

    def _inference_s(self) -> float:
        return sum(track.session.tracker.inference_s for track in self._roster)

    def _show(self, arrival: Arrival, pixels: Pixels) -> None:
        if self._debug.is_watched():
            note = f'{self.parameters.model}  {1e3 * self._inference_s():.1f} ms'
            self._debug.show(View.of(arrival.header, pixels, self._roster, note))

    def _on_failure(self, error: Exception) -> None:
        """A frame could not be answered: say why once, and go on with the next."""
        if not self.context.ok():
            return  # Ctrl-C has ended the context under this thread: nothing can be published
        if isinstance(error, ImageError):
            self._refuse_image(error)
            return
        # What fails outside of the trackers must not take the node with it either.
        self._counts.refused += 1
        self._say_once(f'the tracker failed: {type(error).__name__}: {error}')
        self._roster.stop(reason=f'the tracker failed: {error}')
        self._publish_state()

    def _tell_failure(self, failure: Failure) -> None:
        """A target is given up; the others, if there are any, go on."""
        self._counts.refused += 1
        error = failure.error
        self._say_once(f'{failure.target_id}: the tracker failed: {type(error).__name__}: {error}')
        if self._roster:
            self._notes.append(f'{failure.target_id}: the tracker failed: {error}')

    def _refuse_image(self, error: ImageError) -> None:
        self._counts.refused += 1
        self._say_once(f'image refused: {error}')

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
        warning = self._camera.silence_warning()
        if warning:
            self.get_logger().warning(warning)
        self._worker.call(self._publish_state)
        self._outputs.diagnostics.publish(self._diagnosis())

    def _diagnosis(self) -> DiagnosticArray:
        camera, tracker, tracks = self._camera, self._roster.tracker, list(self._roster)
        level, words = self._verdict(tracks)
        info, history, first = camera.info, camera.history, self._roster.first
        values = {
            'model': self.parameters.model,
            'runtime': tracker.runtime,
            'runtime note': tracker.note,
            'runtimes not used': '; '.join(tracker.rejected),
            'target': ', '.join(track.target_id for track in tracks),
            'score': f'{first.score:.3f}',
            'confidence': f'{first.confidence:.3f}',
            'enabled': self._enabled,
            'frames seen': self._counts.seen,
            'frames processed': self._counts.processed,
            'frames dropped': self._counts.dropped,
            'frames refused': self._counts.refused,
            'messages refused': self._ways_in.complaints.count,
            'images kept': f'{len(history)} in {history.span_s:.2f} s, '
            f'{1e-6 * history.size_bytes:.0f} MB',
            'camera_info': f'{info.width} x {info.height}' if info else 'none',
            **self._recorded(),
            **self._times.summary(),
        }
        status = DiagnosticStatus(
            level=level,
            name=f'{self.get_fully_qualified_name()}: tracking',
            message=words,
            hardware_id=tracker.runtime,
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        return array

    def _recorded(self) -> dict[str, int]:
        recorder = self._outputs.recorder
        return {'messages not recorded': recorder.left_out} if recorder else {}

    def _verdict(self, tracks: list[Track]) -> tuple[bytes, str]:
        """Level and words of the diagnosis."""
        if self._camera.newest is None:
            return DiagnosticStatus.WARN, f"no image on '{self._camera.topic}'"
        worrying = [
            track for track in tracks if track.observation.state in (State.UNCERTAIN, State.LOST)
        ]
        if not worrying:
            return DiagnosticStatus.OK, self._roster.first.state.name
        names = [f'{track.target_id}: ' if len(tracks) > 1 else '' for track in worrying]
        words = [
            f'{name}{track.observation.state.name}: {track.observation.reason}'
            for name, track in zip(names, worrying, strict=True)
        ]
        return DiagnosticStatus.WARN, '; '.join(words)

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
            self._camera.configure(parameters)
        if self._is_configured:
            confidence = self._roster.tracker.package.confidence
            for session in self._roster.sessions:
                session.configure(
                    parameters.thresholds(confidence), parameters.patience(), parameters.care()
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


def _result_of(future: Future[Any]) -> Any:
    """What a task of the worker gives. Raises what it raises, or TrackerError."""
    try:
        return future.result(_START_TIMEOUT_S)
    except CancelledError:
        raise TrackerError('the node is being deactivated') from None
    except FutureTimeoutError:
        future.cancel()
        raise TrackerError(
            f'the tracker was busy for {_START_TIMEOUT_S:g} s; call again'
        ) from None


if __name__ == '__main__':
    sys.exit(main())
