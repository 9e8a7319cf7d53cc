# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A test rig: the real tracker node in a process of its own, and here its camera and operator.

Whatever measures the node uses it: frames are published as a camera driver would, the services
are called as an operator would, and every detection is kept with the time it came.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_profile_sensor_data,
)
from rclpy.task import Future
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D

from tracker_ros.geometry import Box
from tracker_ros.ros.calls import call
from tracker_ros.ros.images import to_message
from tracker_ros.ros.messages import nanoseconds
from tracker_ros.ros.processes import Child, ProcessError, dds_environment, node_command
from tracker_ros_interfaces.msg import TrackerState
from tracker_ros_interfaces.srv import InitTarget, StopTarget

NODE_MODULE = 'tracker_ros.ros.node'
FRAME_ID = 'camera'

_DETECTIONS_KEPT = 100
_READY_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 20.0
_MATCH_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Received:
    """A detection and when it came, in nanoseconds of the system clock."""

    message: Detection2D
    received_ns: int

    @property
    def box(self) -> Box | None:
        """Its box in pixels; None when it says that the target is lost."""
        if not self.message.results:
            return None
        center, bbox = self.message.bbox.center.position, self.message.bbox
        return Box.from_center(center.x, center.y, bbox.size_x, bbox.size_y)

    @property
    def score(self) -> float:
        """The confidence it carries; nan for a lost target."""
        if not self.message.results:
            return float('nan')
        return float(self.message.results[0].hypothesis.score)


class Rig:
    """The node as a child process, and what stands around it. Made by `running_node`.

    Attributes:
        child: the node's process.
        environment: variables for further processes in the same ROS domain.
        node: the ROS node of this side; its callbacks run in a thread of their own.
    """

    def __init__(self, child: Child, node: Node, environment: Mapping[str, str]) -> None:
        """Subscribe and make the clients; `running_node` does the rest."""
        self.child = child
        self.node = node
        self.environment = dict(environment)
        self._lock = threading.Condition()
        self._received: dict[int, Received] = {}
        self._state: TrackerState | None = None
        self._states: dict[int, int] = {}
        self._diagnostics: dict[str, str] = {}
        self._images = node.create_publisher(Image, 'image_raw', qos_profile_sensor_data)
        node.create_subscription(
            Detection2D, 'tracker/detection', self._on_detection, _DETECTIONS_KEPT
        )
        latched = QoSProfile(
            depth=100,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        node.create_subscription(TrackerState, 'tracker/state', self._on_state, latched)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        self._init = node.create_client(InitTarget, 'tracker/init_target')
        self._stop = node.create_client(StopTarget, 'tracker/stop_target')

    @property
    def state(self) -> TrackerState | None:
        """The newest state the node published; None before the first."""
        return self._state

    @property
    def diagnostics(self) -> dict[str, str]:
        """The newest key values the node reported."""
        return dict(self._diagnostics)

    def make_image(self, pixels: np.ndarray) -> Image:
        """An image message of (H, W, 3) uint8 BGR, to be stamped when it is published."""
        return to_message(pixels, Header(frame_id=FRAME_ID))

    def publish(self, image: Image) -> int:
        """Stamp a message with the time of now and publish it; returns the stamp."""
        stamp_ns = time.time_ns()
        image.header.stamp = to_stamp(stamp_ns)
        self._images.publish(image)
        return stamp_ns

    def publish_as_is(self, image: Image) -> None:
        """Publish a message with whatever it holds."""
        self._images.publish(image)

    def init_target(
        self,
        box: Box,
        stamp_ns: int = 0,
        timeout_s: float = _ANSWER_TIMEOUT_S,
        frame_id: str = FRAME_ID,
    ) -> InitTarget.Response:
        """Ask for `box`, drawn on the image of that stamp (0: the newest), and await the answer.

        Raises ProcessError when the node dies or does not answer in time.
        """
        request = InitTarget.Request()
        request.header.frame_id = frame_id
        request.header.stamp = to_stamp(stamp_ns)
        # An int in a float field of an unchecked message arrives as another number.
        request.bbox.center.position.x = float(box.cx)
        request.bbox.center.position.y = float(box.cy)
        request.bbox.size_x = float(box.w)
        request.bbox.size_y = float(box.h)
        return self.call(self._init, request, timeout_s)

    def stop_target(self, timeout_s: float = _ANSWER_TIMEOUT_S) -> StopTarget.Response:
        """Ask to stop whatever is tracked, and await the answer; errors as `init_target`."""
        return self.call(self._stop, StopTarget.Request(), timeout_s)

    def call(self, client: Any, request: Any, timeout_s: float = _ANSWER_TIMEOUT_S) -> Any:
        """Call a service and await the answer; errors as `init_target`."""
        answer = call(client, request, self._wait, timeout_s)
        if answer is None:
            raise ProcessError(
                f'{client.srv_name} did not answer within {timeout_s:g} s; the last lines of '
                f'{self.child.name}:\n{self.child.log_tail()}'
            )
        return answer

    def _wait(self, future: Future) -> None:
        answered = threading.Event()
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(0.2):
            self.child.check()

    def start_on(self, image: Image, box: Box, tries: int = 10) -> int:
        """Publish one image and start the target in it; returns the stamp it was accepted with.

        The node starts on the newest image it has. So the image is published again, with a new
        stamp, until the detection that answers the start is seen to be of it.
        Raises ProcessError with the node's words when it always refuses.
        """
        words = ''
        for attempt in range(tries):
            stamp_ns = self.publish(image)
            # The image and the request travel apart.
            time.sleep(min(0.02 * (attempt + 1), 0.2))
            answer = self.init_target(box, stamp_ns)
            words = answer.message
            if answer.success and self.await_detection(stamp_ns, timeout_s=1.0):
                return stamp_ns
            if answer.success:
                self.stop_target()
        raise ProcessError(f'{self.child.name} did not start on the box {box}: {words}')

    def received(self, stamp_ns: int) -> Received | None:
        """The detection for the image of that stamp, if it has come."""
        with self._lock:
            return self._received.get(stamp_ns)

    def state_at(self, stamp_ns: int) -> int:
        """The state (TrackerState.state) after the image of that stamp; IDLE where none came."""
        return self._states.get(stamp_ns, TrackerState.IDLE)

    def await_detection(self, stamp_ns: int, timeout_s: float) -> Received | None:
        """The same, waited for; None after timeout_s."""
        with self._lock:
            self._lock.wait_for(lambda: stamp_ns in self._received, timeout_s)
            return self._received.get(stamp_ns)

    def forget(self) -> None:
        """Drop the detections kept so far."""
        with self._lock:
            self._received.clear()

    def is_connected(self) -> bool:
        """Whether the node's services and topics and this side's have found each other."""
        return (
            self._init.service_is_ready()
            and self._stop.service_is_ready()
            and self._images.get_subscription_count() > 0
            and self.node.count_publishers('tracker/detection') > 0
        )

    def _on_detection(self, message: Detection2D) -> None:
        received_ns = time.time_ns()
        stamp = message.header.stamp
        with self._lock:
            self._received[nanoseconds(stamp)] = Received(message, received_ns)
            self._lock.notify_all()

    def _on_state(self, message: TrackerState) -> None:
        stamp = message.header.stamp
        self._states[nanoseconds(stamp)] = message.state
        self._state = message

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._diagnostics.update({pair.key: pair.value for pair in status.values})


@contextmanager
def running_node(
    parameters: Mapping[str, object], domain_id: int | None = None, name: str = 'tracker node'
) -> Iterator[Rig]:
    """Start the tracker node with these parameters, and yield the rig when all is connected.

    domain_id: None takes a free one. The environment of this process is changed for the time
    (Fast DDS reads its profile there when the first participant of a process is made).
    Raises ProcessError when the node does not come up. It is ended in any case.
    """
    environment = dds_environment(domain_id)
    with _environment(environment):
        command = node_command(NODE_MODULE, parameters=parameters)
        with (
            Child(name, command, environment) as child,
            _spinning_node(int(environment['ROS_DOMAIN_ID'])) as node,
        ):
            rig = Rig(child, node, environment)
            child.wait_until(rig.is_connected, _READY_TIMEOUT_S, 'its topics and services')
            yield rig


def to_stamp(stamp_ns: int) -> Time:
    """Nanoseconds as a message."""
    return Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)


@contextmanager
def _spinning_node(domain_id: int) -> Iterator[Node]:
    context = Context()
    rclpy.init(context=context, domain_id=domain_id)
    node = Node('rig', context=context, start_parameter_services=False, enable_rosout=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=_spin, args=(executor,), name='rig', daemon=True)
    thread.start()
    try:
        yield node
    finally:
        executor.shutdown(timeout_sec=5.0)
        thread.join(timeout=5.0)
        node.destroy_node()
        rclpy.shutdown(context=context)


def _spin(executor: SingleThreadedExecutor) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        return


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
