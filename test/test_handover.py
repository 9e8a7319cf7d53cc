# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which of a detector's detections is taken, and what is said where none can be."""

import math

import pytest
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from tracker_ros.geometry import Box
from tracker_ros.ros.complaints import Complaints
from tracker_ros.ros.handover import Wanted, choose
from tracker_ros.ros.messages import RequestError, set_box
from tracker_ros_interfaces.srv import TakeCandidate


def detection(box, *hypotheses, theta=0.0):
    message = Detection2D()
    set_box(message.bbox, Box(*map(float, box.xywh())))
    message.bbox.center.theta = theta
    for class_id, score in hypotheses:
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id, result.hypothesis.score = class_id, score
        message.results.append(result)
    return message


def array(*detections):
    return Detection2DArray(detections=list(detections))


NEAR, FAR, BIG = Box(10, 10, 20, 10), Box(100, 100, 20, 20), Box(0, 0, 90, 90)
SOME = array(
    detection(NEAR, ('car', 0.6), ('truck', 0.3)),
    detection(FAR, ('car', 0.8)),
    detection(BIG, ('boat', 0.9)),
)


@pytest.mark.parametrize(
    ('wanted', 'box', 'class_id', 'score'),
    [
        (Wanted(), BIG, 'boat', 0.9),
        (Wanted('car'), FAR, 'car', 0.8),
        (Wanted('truck'), NEAR, 'truck', 0.3),
        (Wanted('car', point=(0.0, 0.0)), NEAR, 'car', 0.6),
        (Wanted(point=(21.0, 14.0)), NEAR, 'car', 0.6),
        (Wanted(point=(80.0, 80.0)), BIG, 'boat', 0.9),
        (Wanted(point=(99.0, 99.0)), FAR, 'car', 0.8),
        (Wanted('car', 0.7, (0.0, 0.0)), FAR, 'car', 0.8),
    ],
)
def test_the_best_or_the_nearest_is_taken(wanted, box, class_id, score):
    found = choose(SOME, wanted)
    assert (found.box, found.class_id, found.score) == (box, class_id, score)


def test_boxes_at_an_angle_are_stood_upright():
    message = array(detection(Box.from_center(50, 40, 20, 10), ('car', 1.0), theta=math.pi / 2))
    assert choose(message, Wanted()).box.xywh() == pytest.approx((45, 30, 10, 20))


def test_broken_ones_are_passed_over():
    message = array(
        detection(Box(math.nan, 0, 9, 9), ('car', 1.0)),
        detection(Box(0, 0, 0, 9), ('car', 1.0)),
        detection(Box(0, 0, math.inf, 9), ('car', 1.0)),
        detection(Box(0, 0, 9, 9), ('car', 1.0), theta=math.nan),
        detection(FAR, ('car', math.nan)),
        detection(FAR),
        detection(NEAR, ('car', 0.1)),
    )
    assert choose(message, Wanted('car')).box == NEAR


@pytest.mark.parametrize(
    ('message', 'wanted', 'words'),
    [
        (array(), Wanted(), 'none of the 0 candidates.*classes are none at all'),
        (SOME, Wanted('plane'), "class 'plane' with a score.*boat, car, truck.*another class"),
        (SOME, Wanted('car', 0.95), 'at least 0.95'),
        (SOME, Wanted(point=(math.nan, 1.0)), 'x=nan y=1 is not finite'),
        (
            array(detection(Box(0, 0, -1, 9), ('car', 1.0))),
            Wanted('car'),
            '1 of them have no finite box',
        ),
    ],
)
def test_where_there_is_none_it_is_said_what_came_instead(message, wanted, words):
    with pytest.raises(RequestError, match=words) as caught:
        choose(message, wanted)
    assert caught.value.code == TakeCandidate.Response.NO_CANDIDATE


def test_a_complaint_is_said_once_until_the_topic_is_well():
    said = []
    complaints = Complaints(said.append)
    for kind, text in ((1, 'a'), (1, 'b'), (2, 'c')):
        complaints.complain('~/init', kind, text)
    complaints.complain('~/hint', 1, 'd')
    complaints.is_well('~/init')
    complaints.complain('~/hint', 1, 'e')
    complaints.complain('~/init', 1, 'f')
    assert said == ['~/init: a', '~/init: c', '~/hint: d', '~/init: f']
    assert complaints.count == 6
