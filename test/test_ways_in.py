# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Targets by topics, by a point, and from a detector's candidates, through ROS."""

import math

import pytest
from builtin_interfaces.msg import Time
from fakes import Square, make_package
from node_bench import BOX, SURE, Gate, box_of
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose, Point2D

from tracker_ros.geometry import Box
from tracker_ros.ros.images import to_message
from tracker_ros.ros.messages import set_box
from tracker_ros_interfaces.msg import TrackerState
from tracker_ros_interfaces.srv import InitTarget, TakeCandidate

INIT, TAKE = InitTarget.Response, TakeCandidate.Response
OTHER = Box(30.0, 20.0, 16.0, 12.0)


@pytest.fixture
def package(tmp_path):
    return str(make_package(tmp_path / 'tiny'))


def detection(box, target_id='', header=None, theta=0.0, **scores):
    message = Detection2D(header=header or Header(), id=target_id)
    set_box(message.bbox, box)
    message.bbox.center.theta = theta
    for class_id, score in scores.items():
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id, result.hypothesis.score = class_id, score
        message.results.append(result)
    return message


class Detector:
    """Publishes on a topic of the node's, once it is heard."""

    def __init__(self, bench, topic, kind=Detection2D):
        self._bench = bench
        self._publisher = bench.peer.create_publisher(kind, f'tracker/{topic}', 10)
        bench.until(self._publisher.get_subscription_count)

    def send(self, message):
        self._publisher.publish(message)

    def refused(self, message):
        """Sends what is to be refused; returns the state that tells of it."""
        self._bench.received['state'].clear()
        self.send(message)
        return self._bench.until_state(lambda state: 'refused' in state.reason)


def moving(bench, count=6):
    """A square that moves, seen by the node; returns each picture's header."""
    square, headers = Square(), []
    for number in range(count):
        picture = to_message(square.at(20 + 12 * number, 50), Header(frame_id='camera'))
        picture.header.stamp = Time(sec=100, nanosec=number * 33_000_000)
        headers.append(bench.see(picture))
    return headers


# By a point


def test_a_point_is_enough(bench, package):
    bench = bench(model=package)
    square = Square()
    bench.see(square.at(60, 50))
    answer = bench.init(Box.from_center(82.0, 68.0, 0.0, 0.0), target_id='clicked')
    assert answer.success, answer.message
    assert 'proposed for the point, with an overlap of' in answer.message
    assert box_of(answer).iou(square.box(60, 50)) > 0.6
    assert box_of(bench.track(square.at(64, 50))).iou(square.box(64, 50)) > 0.5
    assert bench.state.target_id == 'clicked'


def test_a_box_is_answered_with_itself(scripted):
    bench = scripted()
    bench.see(SURE)
    assert box_of(bench.init(BOX)) == BOX
    refused = bench.init(Box(999.0, 0.0, 9.0, 9.0))
    assert (refused.bbox.size_x, refused.bbox.size_y) == (0.0, 0.0)


def test_a_point_is_that_of_the_image_of_its_stamp(bench, package):
    bench = bench(model=package)
    headers = moving(bench)
    answer = bench.init(Box.from_center(40.0, 70.0, 0.0, 0.0), header=headers[0])
    assert answer.success, answer.message
    assert answer.catch_up_frames == 5
    bench.until(lambda: bench.received['detection'])
    assert box_of(bench.received['detection'][-1]).iou(Square().box(80, 50)) > 0.5


@pytest.mark.parametrize(
    ('point', 'code', 'words'),
    [
        ((math.nan, 3.0), INIT.INVALID_BOX, 'x=nan y=3 is not finite'),
        ((240.0, 3.0), INIT.BOX_OUTSIDE_IMAGE, 'x=240 y=3 lies outside the image of 240 x 160'),
        ((3.0, -1.0), INIT.BOX_OUTSIDE_IMAGE, 'y=-1'),
        ((220.0, 20.0), INIT.NOTHING_THERE, 'nothing stands out'),
    ],
)
def test_a_point_of_nothing_is_refused(bench, package, point, code, words):
    bench = bench(model=package)
    picture = Square().at(60, 50)
    picture[:, 120:] = 40
    bench.see(picture)
    answer = bench.init(Box.from_center(*point, 0.0, 0.0))
    assert (answer.success, answer.code) == (False, code), answer.message
    assert words in answer.message


def test_one_side_without_size_is_still_a_broken_box(scripted):
    bench = scripted()
    bench.see(SURE)
    assert bench.init(Box(1.0, 1.0, 0.0, 9.0)).code == INIT.INVALID_BOX


# ~/init


def test_a_message_starts_a_target(scripted, capfd):
    bench = scripted()
    detector = Detector(bench, 'init')
    bench.see(SURE)
    detector.send(detection(BOX, 'from_topic'))
    bench.until(lambda: bench.received['detection'])
    assert bench.received['detection'][-1].id == 'from_topic'
    assert box_of(bench.received['detection'][-1]) == BOX
    bench.until_state(lambda state: state.target_id == 'from_topic')
    said = []

    def is_told():  # after the detection is out
        said.append(capfd.readouterr().err)
        return '~/init: from_topic: started at x=10.0' in ''.join(said)

    bench.until(is_told)


def test_a_message_starts_in_the_image_of_its_stamp(bench, package):
    bench = bench(model=package)
    detector = Detector(bench, 'init')
    headers = moving(bench)
    detector.send(detection(Square().box(20, 50), header=headers[0]))
    bench.until(lambda: bench.received['detection'])
    found = bench.received['detection'][-1]
    assert found.header == headers[-1]
    assert box_of(found).iou(Square().box(80, 50)) > 0.6


@pytest.mark.parametrize(
    ('message', 'words'),
    [
        (detection(Box(math.nan, 1.0, 9.0, 9.0)), 'x=nan'),
        (detection(Box(1.0, 1.0, 9.0, -9.0)), 'h=-9'),
        (detection(Box(999.0, 1.0, 9.0, 9.0)), 'lies outside the image'),
        (detection(Box(1.0, 1.0, 2.0, 9.0)), 'at least 6 px'),
        (detection(BOX, theta=0.5), 'theta is 0.5'),
        (detection(BOX, 'a\nb'), 'at most 64 printable'),
        (detection(BOX, header=Header(frame_id='map')), "in the frame 'map'"),
        (detection(BOX, header=Header(stamp=Time(sec=5))), 'before the oldest'),
        (detection(Box.from_center(999.0, 5.0, 0.0, 0.0)), 'x=999 y=5 lies outside'),
    ],
)
def test_a_bad_message_is_one_warning_and_loses_nothing(scripted, message, words, capfd):
    bench = scripted()
    detector = Detector(bench, 'init')
    bench.see(SURE)
    bench.init(target_id='mine')
    for _ in range(3):
        state = detector.refused(message)
        assert words in state.reason
        assert (state.target_id, state.state) == ('mine', TrackerState.STARTING)
    assert capfd.readouterr().err.count(words) == 1
    bench.track(SURE)
    assert bench.state.target_id == 'mine'
    assert 'refused' not in bench.state.reason
    assert bench.node._ways_in.complaints.count == 3


def test_a_message_before_any_image_is_told(scripted):
    bench = scripted()
    assert 'no image has come' in Detector(bench, 'init').refused(detection(BOX)).reason


def test_a_paused_node_starts_nothing(scripted):
    bench = scripted()
    detector = Detector(bench, 'init')
    bench.see(SURE)
    bench.enable(False)
    assert '~/enable' in detector.refused(detection(BOX)).reason


def test_a_full_node_refuses_messages(scripted):
    bench = scripted(max_targets=2)
    detector = Detector(bench, 'init')
    bench.see(SURE)
    for target_id in 'ab':
        bench.init(target_id=target_id)
    assert 'a, b' in detector.refused(detection(BOX, 'c')).reason
    detector.send(detection(OTHER, 'b'))
    bench.until(lambda: bench.received['detections'][-1].detections[-1].bbox.size_x == OTHER.w)
    assert [each.id for each in bench.received['detections'][-1].detections] == ['a', 'b']


def test_a_flood_of_starts_does_not_pile_up(scripted):
    bench = scripted()
    detector = Detector(bench, 'init')
    bench.see(SURE)
    bench.init()
    gate = Gate(bench)
    gate.hold()
    ways_in = bench.node._ways_in
    for number in range(1, 12):
        detector.send(detection(BOX))
        bench.until(lambda n=number: len(ways_in._begun) + ways_in.complaints.count == n)
    assert len(ways_in._begun) == 8
    gate.open()
    bench.track(SURE)
    detector.send(detection(OTHER))
    bench.until(lambda: box_of(bench.received['detection'][-1]) == OTHER)


# ~/hint


def test_a_hint_reaches_those_that_it_is_for(scripted, monkeypatch):
    bench = scripted(max_targets=2)
    detector = Detector(bench, 'hint')
    bench.see(SURE)
    for target_id in 'ab':
        bench.init(target_id=target_id)
    hinted = []
    for track in bench.node._roster:
        monkeypatch.setattr(
            track.session, 'hint', lambda box, i=track.target_id: hinted.append((i, box))
        )
    detector.send(detection(OTHER, 'b'))
    bench.until(lambda: hinted)
    assert hinted == [('b', OTHER)]
    detector.send(detection(BOX))
    bench.until(lambda: len(hinted) == 3)
    assert hinted[1:] == [('a', BOX), ('b', BOX)]


@pytest.mark.parametrize(
    ('message', 'words'),
    [
        (detection(Box(1.0, math.inf, 9.0, 9.0)), 'not finite'),
        (detection(Box(1.0, 1.0, 0.0, 9.0)), 'w=0'),
        (detection(BOX, theta=1.0), 'theta is 1'),
        (detection(BOX, 'nobody'), "no target 'nobody'"),
        (detection(BOX, header=Header(stamp=Time(sec=5))), 'before the oldest'),
    ],
)
def test_a_bad_hint_is_told(scripted, message, words):
    bench = scripted()
    detector = Detector(bench, 'hint')
    bench.see(SURE)
    bench.init(target_id='mine')
    state = detector.refused(message)
    assert words in state.reason
    assert state.target_id == 'mine'
    bench.track(SURE)


# ~/candidates


@pytest.fixture
def take():
    def take(bench, target_id='', **wanted):
        request = TakeCandidate.Request(target_id=target_id, **wanted)
        return bench.call(TakeCandidate, 'tracker/take_candidate', request)

    return take


def candidates(header=None):
    return Detection2DArray(
        header=header or Header(),
        detections=[
            detection(BOX, car=0.6),
            detection(OTHER, car=0.4, truck=0.9),
            detection(Box(math.nan, 0.0, 9.0, 9.0), car=1.0),
        ],
    )


def offered(bench, message):
    Detector(bench, 'candidates', Detection2DArray).send(message)
    bench.until(lambda: bench.node._ways_in._candidates is not None)


@pytest.mark.parametrize(
    ('wanted', 'box', 'class_id'),
    [
        ({'class_id': 'car'}, BOX, 'car'),
        ({}, OTHER, 'truck'),
        ({'nearest': True, 'point': Point2D(x=1.0, y=1.0)}, BOX, 'car'),
        ({'nearest': True, 'point': Point2D(x=40.0, y=30.0)}, OTHER, 'truck'),
    ],
)
def test_a_candidate_is_taken(scripted, take, wanted, box, class_id):
    bench = scripted()
    bench.see(SURE)
    offered(bench, candidates())
    answer = take(bench, 'mine', **wanted)
    assert answer.success, answer.message
    assert (answer.target_id, answer.class_id) == ('mine', class_id)
    bench.until(lambda: bench.received['detection'])
    assert box_of(bench.received['detection'][-1]) == box


def test_a_candidate_is_taken_in_its_own_image(bench, package, take):
    bench = bench(model=package)
    headers = moving(bench)
    square = detection(Square().box(20, 50), car=0.9)
    offered(bench, Detection2DArray(header=headers[0], detections=[square]))
    answer = take(bench)
    assert answer.success, answer.message
    assert answer.frame_age_s == pytest.approx(0.165, abs=1e-6)
    bench.until(lambda: bench.received['detection'])
    assert box_of(bench.received['detection'][-1]).iou(Square().box(80, 50)) > 0.6


def test_a_candidate_that_is_not_there_is_refused(scripted, take):
    bench = scripted()
    bench.see(SURE)
    nothing = take(bench)
    assert (nothing.success, nothing.code) == (False, TAKE.NO_CANDIDATE)
    assert f"'{bench.namespace}/tracker/candidates'" in nothing.message
    offered(bench, candidates())
    wrong = take(bench, class_id='boat')
    assert wrong.code == TAKE.NO_CANDIDATE
    assert "'boat'" in wrong.message
    assert 'car, truck' in wrong.message
    assert take(bench, class_id='car', smallest_score=0.7).code == TAKE.NO_CANDIDATE
    assert take(bench, target_id='\n').code == INIT.INVALID_ID


def test_old_candidates_are_refused_with_what_is_kept(scripted, take):
    bench = scripted()
    bench.see(SURE)
    offered(bench, candidates(Header(stamp=Time(sec=5))))
    answer = take(bench)
    assert answer.code == INIT.NO_IMAGE
    assert 'before the oldest' in answer.message


def test_an_inactive_node_takes_nothing(scripted, take):
    bench = scripted(start=False)
    assert take(bench).code == INIT.NOT_READY


def test_candidates_of_a_class_are_followed_by_themselves(scripted):
    bench = scripted(handover_class='car', handover_score=0.5)
    detector = Detector(bench, 'candidates', Detection2DArray)
    bench.see(SURE)
    detector.send(Detection2DArray(detections=[detection(OTHER, car=0.4, truck=0.9)]))
    detector.send(candidates())
    bench.until(lambda: bench.received['detection'])
    assert box_of(bench.received['detection'][-1]) == BOX
    assert bench.node._ways_in.complaints.count == 0, 'that nothing fits is no fault'
    detector.send(Detection2DArray(detections=[detection(OTHER, car=0.9)]))
    bench.track(SURE)
    bench.track(SURE)
    assert box_of(bench.received['detection'][-1]) == BOX, 'there is a target already'
    assert bench.stop().success
    detector.send(Detection2DArray(detections=[detection(OTHER, car=0.9)]))
    bench.until(lambda: box_of(bench.received['detection'][-1]) == OTHER)


def test_candidates_are_left_alone_unless_told(scripted):
    bench = scripted()
    bench.see(SURE)
    offered(bench, candidates())
    assert bench.stop().code == 2, 'nothing is tracked'
