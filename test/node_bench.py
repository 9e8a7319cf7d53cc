# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A tracker node on the bench: in a namespace of its own, with a camera and an operator."""

import itertools
import threading

import numpy as np
from fakes import picture_saying
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool
from vision_msgs.msg import Detection2D, Detection2DArray

from tracker_ros.geometry import Box
from tracker_ros.ros.images import to_compressed_message, to_message
from tracker_ros.ros.messages import set_box
from tracker_ros.ros.node import TrackerNode
from tracker_ros_interfaces.msg import TrackerState
from tracker_ros_interfaces.srv import InitTarget, StopTarget

WAIT_S = 30
# Deeper than one: no state may be missed because the next, of the node's clock, came before it was
# read.
LATCHED = QoSProfile(depth=20, durability=DurabilityPolicy.TRANSIENT_LOCAL)
SURE, BAD = picture_saying(0.9), picture_saying(0.0)
BOX = Box(10.0, 12.0, 20.0, 16.0)
numbers = itertools.count(1)


class Bench:
    """A tracker node in a namespace of its own, and its camera and operator."""

    def __init__(
        self,
        graph,
        start=True,
        name='tracker',
        namespace=None,
        image_type=Image,
        **parameters,
    ):
        self.graph = graph
        self.name = name
        self.namespace = namespace or f'/bench{next(numbers)}'
        self.received = {'detection': [], 'detections': [], 'state': []}
        given = {'runtime': 'onnxruntime', 'threads': 1, **parameters}
        self.node = graph.node(
            name,
            make=TrackerNode,
            namespace=self.namespace,
            parameter_overrides=[Parameter(name, value=value) for name, value in given.items()],
        )
        self.peer = graph.node(f'peer_of_{name}', namespace=self.namespace)
        topic = 'image_raw' if image_type is Image else 'image_raw/compressed'
        self.camera = self.peer.create_publisher(image_type, topic, qos_profile_sensor_data)
        for topic, kind, qos in (
            ('detection', Detection2D, 10),
            ('detections', Detection2DArray, 10),
            ('state', TrackerState, LATCHED),
        ):
            self.listen(topic, kind, f'{name}/{topic}', qos)
        if start:
            self.start()

    def start(self):
        """Configures and activates the node, and waits until both sides know each other."""
        assert self.change(Transition.TRANSITION_CONFIGURE)
        assert self.change(Transition.TRANSITION_ACTIVATE)
        self.meet()

    def meet(self):
        topics = {subscription.topic_name for subscription in self.peer.subscriptions}

        def have_met():
            ours = [*self.peer.subscriptions, *self.node.subscriptions]
            theirs = [each for each in self.node.publishers if each.topic_name in topics]
            images = [each for each in ours if each.topic_name == self.camera.topic_name]
            return (
                len(theirs) >= len(topics - {'/parameter_events'})
                and all(publisher.get_subscription_count() for publisher in theirs)
                and all(each.get_publisher_count() for each in self.peer.subscriptions)
                and self.camera.get_subscription_count()
                and images
                and all(each.get_publisher_count() for each in images)
            )

        self.graph.spin_until(have_met)

    def listen(self, name, kind, topic, qos=10):
        self.received.setdefault(name, [])
        return self.peer.create_subscription(
            kind, topic, lambda message: self.received[name].append(message), qos
        )

    def until(self, condition):
        self.graph.spin_until(condition, WAIT_S)

    # The camera

    def header(self, frame_id='camera'):
        return Header(stamp=self.peer.get_clock().now().to_msg(), frame_id=frame_id)

    def send(self, picture, frame_id='camera'):
        """Publishes a picture, or a message as it is; returns its header."""
        if isinstance(picture, np.ndarray):
            make = to_message if self.camera.msg_type is Image else to_compressed_message
            picture = make(picture, self.header(frame_id))
        self.camera.publish(picture)
        return picture.header

    def see(self, picture, frame_id='camera'):
        """Sends a picture and waits until the node has it; returns its header."""
        header = self.send(picture, frame_id)
        self.until(
            lambda: self.node._camera.newest and self.node._camera.newest.message.header == header
        )
        return header

    def track(self, picture):
        """Sends a picture and returns the detection in it."""
        header = self.send(picture)
        self.until(
            lambda: all(
                any(each.header == header for each in self.received[name])
                for name in ('detection', 'detections', 'state')
            )
        )
        return self.received['detection'][-1]

    @property
    def state(self):
        return self.received['state'][-1]

    def until_state(self, condition):
        self.until(lambda: self.received['state'] and condition(self.state))
        return self.state

    # The operator

    def call(self, kind, name, request):
        client = self.peer.create_client(kind, name)
        try:
            self.until(client.service_is_ready)
            future = client.call_async(request)
            self.until(future.done)
            return future.result()
        finally:
            self.peer.destroy_client(client)

    def change(self, transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.call(ChangeState, f'{self.name}/change_state', request).success

    def lifecycle_state(self):
        return self.call(GetState, f'{self.name}/get_state', GetState.Request()).current_state.id

    def init(self, box=BOX, theta=0.0, **fields):
        request = InitTarget.Request(**fields)
        set_box(request.bbox, box)
        request.bbox.center.theta = theta
        return self.call(InitTarget, f'{self.name}/init_target', request)

    def stop(self, target_id=''):
        return self.call(
            StopTarget, f'{self.name}/stop_target', StopTarget.Request(target_id=target_id)
        )

    def enable(self, data):
        return self.call(SetBool, f'{self.name}/enable', SetBool.Request(data=data))

    def set(self, **values):
        parameters = [
            Parameter(name, value=value).to_parameter_msg() for name, value in values.items()
        ]
        request = SetParameters.Request(parameters=parameters)
        return self.call(SetParameters, f'{self.name}/set_parameters', request).results

    def close(self):
        self.graph.remove(self.peer)
        self.graph.executor.remove_node(self.node)
        self.graph._nodes.remove(self.node)
        self.node.close()


class Gate:
    """Holds a `ScriptedTracker` in the middle of a picture."""

    def __init__(self, bench):
        self._entered, self._open = threading.Event(), threading.Event()
        bench.tracker.before = self._pass
        self._bench = bench

    def _pass(self, image):
        self._entered.set()
        assert self._open.wait(WAIT_S)

    def hold(self, picture=SURE):
        """Sends a picture and returns when the tracker works on it."""
        self._bench.send(picture)
        self._bench.until(self._entered.is_set)

    def open(self):
        self._open.set()
        self._bench.tracker.before = lambda image: None


def box_of(detection):
    center = detection.bbox.center.position
    return Box.from_center(center.x, center.y, detection.bbox.size_x, detection.bbox.size_y)
