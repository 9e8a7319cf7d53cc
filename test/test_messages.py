# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Observations in the words of vision_msgs, and requests taken apart."""

import math

import pytest
from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray

from tracker_ros.geometry import Box
from tracker_ros.ros.messages import (
    BOX_FAULT_CODES,
    DetectionWriter,
    RequestError,
    box_of,
    checked_id,
    is_zero,
    seconds,
    set_box,
)
from tracker_ros.tracking import BoxFault, Observation, State
from tracker_ros_interfaces.srv import InitTarget

SEEN = Observation(State.TRACKING, 'target_1', Box(10.5, 20.0, 30.0, 41.0), 0.75, 'seen')
LOST = Observation(State.LOST, 'target_1', None, 0.1, 'gone')


def header(second=7):
    return Header(stamp=Time(sec=second, nanosec=5), frame_id='camera')


def sent(message):
    """The message as a subscriber gets it."""
    return deserialize_message(serialize_message(message), type(message))


def test_a_seen_target_is_one_result():
    writer = DetectionWriter()
    writer.write(header(), SEEN, 'car')
    detection = sent(writer.detection)
    assert detection.header == header()
    assert detection.id == 'target_1'
    (result,) = detection.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ('car', 0.75)
    assert detection.bbox.center.position.x == 25.5
    assert detection.bbox.center.position.y == 40.5
    assert detection.bbox.center.theta == 0.0
    assert (detection.bbox.size_x, detection.bbox.size_y) == (30.0, 41.0)


def test_a_lost_target_has_an_id_and_no_result():
    writer = DetectionWriter()
    writer.write(header(), SEEN, 'car')
    writer.write(header(8), LOST, 'car')
    detection = sent(writer.detection)
    assert detection.header == header(8)
    assert detection.id == 'target_1'
    assert list(detection.results) == []
    assert detection.bbox == BoundingBox2D()


def test_the_array_holds_the_same_detection():
    writer = DetectionWriter()
    for observation in (SEEN, LOST, SEEN):
        writer.write(header(), observation, 'car')
        array = sent(writer.array)
        assert isinstance(array, Detection2DArray)
        assert array.header == header()
        assert list(array.detections) == [sent(writer.detection)]


def test_the_messages_are_used_again():
    """Making them anew costs more than filling them."""
    writer = DetectionWriter()
    writer.write(header(), SEEN, 'car')
    first = writer.detection, writer.detection.results[0]
    writer.write(header(), SEEN, 'car')
    assert (writer.detection, writer.detection.results[0]) == first
    assert writer.detection is first[0]
    assert writer.detection.results[0] is first[1]


def test_boxes_go_there_and_back():
    message = BoundingBox2D()
    set_box(message, Box(1.25, -3.0, 10.5, 7.0))
    assert box_of(message) == Box(1.25, -3.0, 10.5, 7.0)


@pytest.mark.parametrize('theta', [0.1, -math.pi, math.nan, math.inf])
def test_a_rotated_box_is_refused(theta):
    message = BoundingBox2D(size_x=1.0, size_y=1.0)
    message.center.theta = theta
    with pytest.raises(RequestError, match=f'theta is {theta:g}.*theta = 0') as caught:
        box_of(message)
    assert caught.value.code == InitTarget.Response.INVALID_BOX


@pytest.mark.parametrize('target_id', ['', 'target_1', 'rotes Auto', '猫', 'x' * 64])
def test_ids_that_can_be_used_are_kept(target_id):
    assert checked_id(target_id) == target_id


@pytest.mark.parametrize(
    'target_id', ['x' * 65, 'two\nlines', '\0', 'bell\a', '\x1b[31m', '\u202e']
)
def test_ids_that_would_spoil_a_log_are_refused(target_id):
    with pytest.raises(RequestError, match='at most 64 printable') as caught:
        checked_id(target_id)
    assert caught.value.code == InitTarget.Response.INVALID_ID
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_every_fault_of_a_box_has_its_own_code():
    assert set(BOX_FAULT_CODES) == set(BoxFault)
    assert len(set(BOX_FAULT_CODES.values())) == len(BoxFault)
    assert InitTarget.Response.OK not in BOX_FAULT_CODES.values()


def test_stamps():
    assert is_zero(Time())
    assert not is_zero(Time(nanosec=1))
    assert not is_zero(Time(sec=1))
    assert seconds(Time(sec=1_700_000_000, nanosec=500_000_000)) == 1_700_000_000.5


def test_nothing_is_invented_about_the_pose():
    writer = DetectionWriter()
    writer.write(header(), SEEN, 'car')
    assert writer.detection.results[0].pose == type(writer.detection.results[0].pose)()
    assert isinstance(writer.detection, Detection2D)
