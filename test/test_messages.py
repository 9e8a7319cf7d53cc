# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Observations in the words of vision_msgs, and requests taken apart."""

import dataclasses
import math

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray

from tracker_ros.geometry import Box, RotatedBox
from tracker_ros.ros.messages import (
    BOX_FAULT_CODES,
    DetectionWriter,
    RequestError,
    box_of,
    checked_id,
    describe,
    is_zero,
    seconds,
    set_box,
    time_of,
)
from tracker_ros.tracking import BoxFault, Observation, State
from tracker_ros.tracking.motion import Predicted
from tracker_ros.tracking.roster import Track
from tracker_ros_interfaces.msg import TargetState
from tracker_ros_interfaces.srv import InitTarget

SEEN = Observation(
    State.TRACKING, 'target_1', Box(10.5, 20.0, 30.0, 41.0), 0.9, 'seen', confidence=0.75
)
LOST = Observation(State.LOST, 'target_1', None, 0.1, 'gone')


def header(second=7):
    return Header(stamp=Time(sec=second, nanosec=5), frame_id='camera')


def sent(message):
    """The message as a subscriber gets it."""
    return deserialize_message(serialize_message(message), type(message))


def test_a_seen_target_is_one_result():
    writer = DetectionWriter()
    writer.write(header(), [SEEN], 'car')
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
    writer.write(header(), [SEEN], 'car')
    writer.write(header(8), [LOST], 'car')
    detection = sent(writer.detection)
    assert detection.header == header(8)
    assert detection.id == 'target_1'
    assert list(detection.results) == []
    assert detection.bbox == BoundingBox2D()


def test_the_array_holds_the_same_detection():
    writer = DetectionWriter()
    for observation in (SEEN, LOST, SEEN):
        writer.write(header(), [observation], 'car')
        array = sent(writer.array)
        assert isinstance(array, Detection2DArray)
        assert array.header == header()
        assert list(array.detections) == [sent(writer.detection)]


def test_each_of_several_targets_keeps_its_own():
    writer = DetectionWriter()
    other = dataclasses.replace(SEEN, target_id='other', box=Box(1.0, 2.0, 4.0, 6.0))
    for observations in ([SEEN, other, LOST], [SEEN], [LOST, other]):
        writer.write(header(), observations, 'car')
        array = sent(writer.array)
        assert [each.id for each in array.detections] == [each.target_id for each in observations]
        assert sent(writer.detection) == array.detections[0]
        for detection, observation in zip(array.detections, observations, strict=True):
            assert detection.header == header()
            if observation.box is None:
                assert (list(detection.results), detection.bbox) == ([], BoundingBox2D())
            else:
                assert box_of(detection.bbox) == observation.box
                assert len(detection.results) == 1


def test_boxes_are_turned_where_that_is_wanted_and_known():
    writer = DetectionWriter()
    turned = dataclasses.replace(SEEN, outline=RotatedBox(30.0, 40.0, 20.0, 8.0, 0.5))
    writer.write(header(), [turned, SEEN], 'car', turned=True)
    first, second = sent(writer.array).detections
    assert (first.bbox.center.theta, first.bbox.size_x, first.bbox.size_y) == (0.5, 20.0, 8.0)
    assert (first.bbox.center.position.x, first.bbox.center.position.y) == (30.0, 40.0)
    assert box_of(second.bbox) == SEEN.box
    writer.write(header(), [turned], 'car')
    assert box_of(writer.detection.bbox) == SEEN.box


class Followed:
    """What `describe` looks at of a session."""

    def __init__(self, observation):
        self.observation = observation


def test_a_target_is_described():
    covariance = np.arange(64.0).reshape(8, 8)
    predicted = Predicted(SEEN.box, np.array([1.0, -2.0, 0.5, 0.0]), covariance)
    seen = dataclasses.replace(SEEN, predicted=predicted)
    track = Track('target_1', Followed(seen), since_s=12.5, frames=7, newest_box=SEEN.box)
    message = sent(describe(track))
    assert (message.target_id, message.state, message.reason) == (
        'target_1',
        TargetState.TRACKING,
        'seen',
    )
    assert message.confidence == 0.75
    assert message.score == pytest.approx(0.9)
    assert message.tracked_frames == 7
    assert message.since == Time(sec=12, nanosec=500_000_000)
    assert box_of(message.bbox) == SEEN.box
    assert list(message.velocity) == [1.0, -2.0, 0.5, 0.0]
    assert list(message.covariance) == covariance[:4, :4].ravel().tolist()


def test_a_lost_target_is_described_by_where_it_was():
    track = Track('target_1', Followed(LOST), newest_box=Box(1.0, 2.0, 3.0, 4.0))
    message = sent(describe(track))
    assert message.state == TargetState.LOST
    assert box_of(message.bbox) == Box(1.0, 2.0, 3.0, 4.0)
    assert message.since == Time()
    assert not any(message.velocity)
    assert not any(message.covariance)


def test_the_messages_are_used_again():
    """Making them anew costs more than filling them."""
    writer = DetectionWriter()
    writer.write(header(), [SEEN], 'car')
    first = writer.detection, writer.detection.results[0]
    writer.write(header(), [SEEN], 'car')
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


@pytest.mark.parametrize('stamp_s', [0.0, 1.25, 1_700_000_000.5, 7.9999999999])
def test_seconds_there_and_back(stamp_s):
    assert seconds(time_of(stamp_s)) == pytest.approx(stamp_s, abs=1e-9)


def test_nothing_is_invented_about_the_pose():
    writer = DetectionWriter()
    writer.write(header(), [SEEN], 'car')
    assert writer.detection.results[0].pose == type(writer.detection.results[0].pose)()
    assert isinstance(writer.detection, Detection2D)
