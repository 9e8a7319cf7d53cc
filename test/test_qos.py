# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo
from ros_graph import RosGraph
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from tracker_ros.ros.qos import (
    NEWEST_FRAME,
    MatchedSubscription,
    QosOverrideError,
    describe,
    match_publishers,
)

BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
LATCHED_BEST_EFFORT = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


def endpoint(profile, name='driver', namespace='/camera'):
    return TopicEndpointInfo(
        node_name=name,
        node_namespace=namespace,
        topic_type='sensor_msgs/msg/Image',
        qos_profile=profile,
    )


@pytest.mark.parametrize(
    ('offered', 'reliability', 'durability'),
    [
        ([BEST_EFFORT], 'BEST_EFFORT', 'VOLATILE'),
        ([RELIABLE], 'RELIABLE', 'VOLATILE'),
        ([RELIABLE, RELIABLE], 'RELIABLE', 'VOLATILE'),
        ([RELIABLE, BEST_EFFORT], 'BEST_EFFORT', 'VOLATILE'),
        ([LATCHED], 'RELIABLE', 'TRANSIENT_LOCAL'),
        ([LATCHED, RELIABLE], 'RELIABLE', 'VOLATILE'),
        ([LATCHED, BEST_EFFORT], 'BEST_EFFORT', 'VOLATILE'),
        ([LATCHED_BEST_EFFORT], 'BEST_EFFORT', 'VOLATILE'),
    ],
)
def test_the_profile_receives_from_every_publisher(offered, reliability, durability):
    default = QoSProfile(depth=3, history=HistoryPolicy.KEEP_LAST)
    profile = match_publishers([endpoint(qos) for qos in offered], default)
    assert profile.reliability.name == reliability
    assert profile.durability.name == durability
    assert profile.depth == 3


def test_without_publishers_the_default_is_copied():
    profile = match_publishers([], NEWEST_FRAME)
    assert profile == NEWEST_FRAME
    profile.depth = 9
    assert NEWEST_FRAME.depth == 1


def test_endpoints_in_words():
    assert describe(endpoint(BEST_EFFORT)) == '/camera/driver (best effort, volatile, keep last 5)'
    unknown = endpoint(QoSProfile(history=HistoryPolicy.UNKNOWN), '_NODE_NAME_UNKNOWN_', '')
    assert describe(unknown).startswith('a program which is no ROS node (')
    assert describe(endpoint(RELIABLE, namespace='/')).startswith('/driver (reliable')


@pytest.fixture
def elsewhere():
    """The same graph as another process takes part in it."""
    graph = RosGraph()
    yield graph
    graph.close()


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Viewer:
    """A node with a MatchedSubscription, counting what comes."""

    def __init__(self, graph, message_type=Image, overrides=None, **options):
        self.clock = Clock()
        self.received = []
        self.node = graph.node(
            'viewer',
            parameter_overrides=[
                Parameter(f'qos_overrides./image_raw.subscription.{policy}', value=value)
                for policy, value in (overrides or {}).items()
            ],
        )
        self.subscription = MatchedSubscription(
            self.node,
            message_type,
            'image_raw',
            self.received.append,
            check_period_s=0.02,
            clock=self.clock,
            **options,
        )

    @property
    def reliability(self):
        return self.subscription.qos.reliability.name


def publish_until_received(graph, publisher, viewer, frame_id):
    """Publishes again and again, since best-effort messages may be lost before discovery."""
    message = Image()
    message.header.frame_id = frame_id

    def arrived():
        publisher.publish(message)
        return any(image.header.frame_id == frame_id for image in viewer.received)

    graph.spin_until(arrived)


def test_the_subscription_is_there_at_once(graph):
    viewer = Viewer(graph)
    infos = viewer.node.get_subscriptions_info_by_topic('/image_raw')
    assert [info.qos_profile.reliability.name for info in infos] == ['BEST_EFFORT']
    assert viewer.subscription.topic == '/image_raw'
    assert viewer.subscription.type_name == 'sensor_msgs/msg/Image'


def test_it_follows_the_publishers(graph):
    viewer = Viewer(graph)
    driver = graph.node('driver')
    reliable = driver.create_publisher(Image, 'image_raw', RELIABLE)
    graph.spin_until(lambda: viewer.reliability == 'RELIABLE')
    publish_until_received(graph, reliable, viewer, 'reliable')

    best_effort = driver.create_publisher(Image, 'image_raw', BEST_EFFORT)
    graph.spin_until(lambda: viewer.reliability == 'BEST_EFFORT')
    publish_until_received(graph, best_effort, viewer, 'best effort')
    publish_until_received(graph, reliable, viewer, 'still reliable')

    driver.destroy_publisher(best_effort)
    graph.spin_until(lambda: viewer.reliability == 'RELIABLE')
    infos = viewer.node.get_subscriptions_info_by_topic('/image_raw')
    assert [info.qos_profile.reliability.name for info in infos] == ['RELIABLE']


def test_check_by_hand_tells_what_it_did(graph):
    viewer = Viewer(graph)
    assert not viewer.subscription.check()
    graph.executor.remove_node(viewer.node)
    driver = graph.node('driver')
    driver.create_publisher(Image, 'image_raw', RELIABLE)
    graph.spin_until(lambda: viewer.subscription.publishers())
    assert viewer.subscription.check()
    assert not viewer.subscription.check()
    assert viewer.reliability == 'RELIABLE'


def test_publishers_of_another_type_do_not_count(graph, elsewhere):
    viewer = Viewer(graph)
    driver = elsewhere.node('driver')
    driver.create_publisher(CompressedImage, 'image_raw', RELIABLE)
    graph.spin_until(lambda: viewer.node.count_publishers('/image_raw'))
    assert viewer.subscription.publishers() == []
    assert not viewer.subscription.check()


def test_a_still_image_published_before_arrives(graph):
    driver = graph.node('driver')
    driver.create_publisher(Image, 'image_raw', LATCHED).publish(Image(width=7))
    viewer = Viewer(graph)
    graph.spin_until(lambda: viewer.received)
    assert viewer.received[0].width == 7


def test_raw_messages(graph):
    viewer = Viewer(graph, raw=True)
    publisher = graph.node('driver').create_publisher(Image, 'image_raw', RELIABLE)

    def arrived():
        publisher.publish(Image())
        return viewer.received

    graph.spin_until(arrived)
    assert isinstance(viewer.received[0], bytes)


def test_it_follows_remapping_and_namespace(graph):
    node = graph.node(
        'viewer', namespace='left', cli_args=['--ros-args', '-r', 'image_raw:=eye/picture']
    )
    assert MatchedSubscription(node, Image, 'image_raw', print).topic == '/left/eye/picture'


# Parameters


def test_overrides_win_over_matching(graph):
    viewer = Viewer(graph, overrides={'reliability': 'reliable', 'depth': 4})
    assert viewer.reliability == 'RELIABLE'
    assert viewer.subscription.qos.depth == 4
    driver = graph.node('driver')
    driver.create_publisher(Image, 'image_raw', BEST_EFFORT)
    graph.spin_until(lambda: viewer.subscription.publishers())
    assert not viewer.subscription.check()
    assert viewer.reliability == 'RELIABLE'


def test_policies_not_overridden_are_still_matched(graph):
    viewer = Viewer(graph, overrides={'history': 'keep_all', 'durability': 'volatile', 'depth': 2})
    graph.node('driver').create_publisher(Image, 'image_raw', LATCHED)
    graph.spin_until(lambda: viewer.reliability == 'RELIABLE')
    qos = viewer.subscription.qos
    assert (qos.durability.name, qos.history.name, qos.depth) == ('VOLATILE', 'KEEP_ALL', 2)


def test_parameters_are_declared_and_survive_the_subscription(graph):
    viewer = Viewer(graph)
    viewer.subscription.destroy()
    assert viewer.node.count_subscribers('/image_raw') == 0
    again = MatchedSubscription(viewer.node, Image, 'image_raw', viewer.received.append)
    assert again.qos == NEWEST_FRAME
    declared = {
        policy: viewer.node.get_parameter(f'qos_overrides./image_raw.subscription.{policy}').value
        for policy in ('reliability', 'durability', 'history', 'depth')
    }
    assert declared == {
        'reliability': 'best_available',
        'durability': 'best_available',
        'history': 'keep_last',
        'depth': 1,
    }


@pytest.mark.parametrize('policy', ['reliability', 'durability', 'history'])
def test_an_impossible_override_is_named(graph, policy):
    words = rf"qos_overrides\./image_raw\.subscription\.{policy} is 'nonsense': .* one of"
    with pytest.raises(QosOverrideError, match=words):
        Viewer(graph, overrides={policy: 'nonsense'})


def test_an_impossible_depth_is_named(graph):
    with pytest.raises(Exception, match=r'0.*qos_overrides\./image_raw\.subscription\.depth'):
        Viewer(graph, overrides={'depth': 0})


# Silence


def test_silence_is_told_once_until_something_comes(graph):
    viewer = Viewer(graph, silent_after_s=5.0)
    assert viewer.subscription.silence_warning() is None
    assert viewer.subscription.silence_warning(104.9) is None
    viewer.clock.now = 105.5
    assert viewer.subscription.silence_warning().startswith(
        "nothing came on '/image_raw' for 5.5 s: nobody publishes it. No image topic"
    )
    assert viewer.subscription.silence_warning(120.0) is None

    publisher = graph.node('driver').create_publisher(Image, 'image_raw', BEST_EFFORT)
    viewer.clock.now = 200.0
    publish_until_received(graph, publisher, viewer, 'here')
    assert viewer.subscription.silence_warning(204.9) is None
    assert '/image_raw' in viewer.subscription.silence_warning(205.1)


def silence_of(graph, viewer, condition):
    graph.spin_until(condition)
    return viewer.subscription.silence_warning(viewer.clock.now + 60)


def test_silence_names_the_image_topics_there_are(graph):
    viewer = Viewer(graph)
    driver = graph.node('driver')
    driver.create_publisher(Image, '/front/image_raw', BEST_EFFORT)
    driver.create_publisher(CompressedImage, '/front/image_raw/compressed', BEST_EFFORT)
    driver.create_publisher(CameraInfo, '/front/camera_info', BEST_EFFORT)
    text = silence_of(graph, viewer, lambda: viewer.node.count_publishers('/front/camera_info'))
    assert text.endswith(
        'nobody publishes it. Published image topics: '
        '/front/image_raw (sensor_msgs/msg/Image), '
        '/front/image_raw/compressed (sensor_msgs/msg/CompressedImage); remap to one of them'
    )


def test_silence_names_publishers_that_cannot_be_heard(graph):
    viewer = Viewer(graph, overrides={'reliability': 'reliable'})
    graph.node('driver', namespace='/camera').create_publisher(Image, '/image_raw', BEST_EFFORT)
    text = silence_of(graph, viewer, viewer.subscription.publishers)
    assert '/camera/driver (best effort, volatile' in text
    assert 'cannot feed this subscription' in text
    assert 'remove qos_overrides./image_raw.subscription' in text


def test_silence_names_publishers_that_send_nothing(graph):
    viewer = Viewer(graph)
    graph.node('driver').create_publisher(Image, 'image_raw', RELIABLE)
    text = silence_of(graph, viewer, lambda: viewer.reliability == 'RELIABLE')
    assert '/driver (reliable, volatile' in text
    assert 'fits this subscription (reliable, volatile, keep last 1)' in text


def test_silence_names_publishers_of_another_type(graph, elsewhere):
    viewer = Viewer(graph)
    elsewhere.node('driver').create_publisher(CompressedImage, 'image_raw', RELIABLE)
    text = silence_of(graph, viewer, lambda: viewer.node.count_publishers('/image_raw'))
    assert 'publishes sensor_msgs/msg/CompressedImage there' in text
    assert 'sensor_msgs/msg/Image is expected' in text


def test_publishers_of_other_processes_are_matched(graph, elsewhere):
    publisher = elsewhere.node('driver').create_publisher(Image, 'image_raw', RELIABLE)
    viewer = Viewer(graph)
    graph.spin_until(lambda: viewer.reliability == 'RELIABLE')
    publish_until_received(graph, publisher, viewer, 'far')
