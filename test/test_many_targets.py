# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Several targets in one node, as others meet them through ROS."""

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fakes import Square, make_package, picture_saying
from node_bench import BAD, BOX, SURE, box_of
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from tracker_ros.geometry import Box
from tracker_ros.ros.images import to_bgr
from tracker_ros.trackers import Estimate, TrackerError
from tracker_ros_interfaces.msg import TargetState, TrackerState
from tracker_ros_interfaces.srv import InitTarget, StopTarget

INIT, STOP = InitTarget.Response, StopTarget.Response
OTHER, THIRD = Box(30.0, 20.0, 16.0, 12.0), Box(4.0, 30.0, 10.0, 10.0)


def ids(bench):
    return [each.target_id for each in bench.state.targets]


def tracker_of(bench, target_id):
    return bench.node._roster.find(target_id).session.tracker


def test_all_are_followed_in_one_message(bench, tmp_path):
    bench = bench(model=str(make_package(tmp_path / 'tiny')), max_targets=3)
    square = Square()
    bench.see(square.at(60, 50))
    for target_id in ('first', 'second'):
        assert bench.init(square.box(60, 50), target_id=target_id).success
    for x in (62, 64, 66):
        detection = bench.track(square.at(x, 50))
        array = bench.received['detections'][-1]
        assert [each.id for each in array.detections] == ['first', 'second']
        assert array.detections[0] == detection
        assert all(box_of(each).iou(square.box(x, 50)) > 0.6 for each in array.detections)
        assert all(each.header == detection.header for each in array.detections)
        assert ids(bench) == ['first', 'second']
    assert (bench.state.target_id, bench.state.state) == ('first', TrackerState.TRACKING)


def test_each_has_its_own_state(scripted):
    bench = scripted(max_targets=2, lost_after_frames=2, uncertain_after_frames=1)
    header = bench.see(SURE)
    bench.init(BOX, target_id='a')
    bench.init(OTHER, target_id='b')
    bench.track(SURE)
    tracker_of(bench, 'b').follow = lambda image: Estimate(OTHER, 0.0)
    for _ in range(3):
        bench.track(SURE)
    first, second = bench.state.targets
    assert (first.state, second.state) == (TargetState.TRACKING, TargetState.LOST)
    assert (first.tracked_frames, second.tracked_frames) == (4, 4)
    assert abs(first.since.nanosec - header.stamp.nanosec) < 1000
    assert first.score == pytest.approx(0.9, abs=0.01)
    assert second.reason
    center = second.bbox.center.position
    assert (center.x, center.y) == (OTHER.cx, OTHER.cy), 'where it was'
    lost = bench.received['detections'][-1].detections[1]
    assert (lost.id, list(lost.results)) == ('b', [])
    assert bench.received['detection'][-1].id == 'a'


def test_a_full_node_refuses_and_keeps_what_it_has(scripted):
    bench = scripted(max_targets=2)
    bench.see(SURE)
    for target_id in 'ab':
        assert bench.init(target_id=target_id).success
    answer = bench.init(target_id='c')
    assert (answer.success, answer.code) == (False, INIT.NODE_FULL)
    assert 'a, b' in answer.message
    assert 'max_targets' in answer.message
    bench.track(SURE)
    assert ids(bench) == ['a', 'b']
    assert bench.stop('a').success
    assert bench.init(target_id='c').success
    bench.track(SURE)
    assert ids(bench) == ['b', 'c']


def test_the_same_id_starts_anew_and_keeps_its_history(scripted):
    bench = scripted(max_targets=2)
    bench.see(SURE)
    for target_id in 'ab':
        bench.init(target_id=target_id)
    bench.track(SURE)
    before = bench.state.targets[0]
    assert bench.init(OTHER, target_id='a').success
    bench.track(SURE)
    assert ids(bench) == ['a', 'b']
    after = bench.state.targets[0]
    assert after.since == before.since
    assert after.tracked_frames == before.tracked_frames + 1
    assert box_of(bench.received['detection'][-1]) == OTHER


def test_names_are_given_where_none_are(scripted):
    bench = scripted(max_targets=3)
    bench.see(SURE)
    given = [bench.init().target_id for _ in range(3)]
    assert given == ['target_1', 'target_2', 'target_3']


def test_one_or_all_are_stopped(scripted):
    bench = scripted(max_targets=3)
    bench.see(SURE)
    for target_id in 'abc':
        bench.init(target_id=target_id)
    refused = bench.stop('x')
    assert refused.code == STOP.UNKNOWN_TARGET
    assert "'a', 'b', 'c'" in refused.message
    assert bench.stop('b').message == 'b stopped'
    bench.track(SURE)
    assert ids(bench) == ['a', 'c']
    assert bench.stop().message == 'a, c stopped'
    bench.until_state(lambda state: state.state == TrackerState.IDLE)
    assert list(bench.state.targets) == []
    assert bench.stop().code == STOP.NOT_TRACKING


@pytest.mark.parametrize('broken', ['a', 'b'])
def test_a_tracker_that_fails_takes_its_own_target_only(scripted, broken, capfd):
    bench = scripted(max_targets=2)
    bench.see(SURE)
    for target_id in 'ab':
        bench.init(target_id=target_id)

    def fail(image):
        raise TrackerError('no more')

    tracker = tracker_of(bench, broken)
    tracker.follow = fail
    bench.track(SURE)
    del tracker.follow
    (other,) = {'a', 'b'} - {broken}
    assert ids(bench) == [other]
    assert f'{broken}: the tracker failed: no more' in bench.state.reason
    assert f'{broken}: the tracker failed: TrackerError: no more' in capfd.readouterr().err
    bench.track(SURE)
    assert 'failed' not in bench.state.reason
    assert bench.state.state == TrackerState.TRACKING
    assert bench.init(target_id=broken).success
    bench.track(SURE)
    assert ids(bench) == [other, broken]


def test_a_start_that_fails_leaves_the_others(scripted):
    bench = scripted(max_targets=2)
    bench.see(SURE)
    bench.init(target_id='a')
    broken = picture_saying(0.9)
    broken[1, 1] = 7

    def fail(image):
        if image[1, 1, 0] == 7 and len(bench.node._roster.sessions) > 1:
            raise TrackerError('no features here')

    bench.tracker.before = fail
    bench.track(broken)  # the first target has passed this picture when the second starts in it
    assert bench.init(target_id='b').code == INIT.TRACKER_FAILED
    bench.tracker.before = lambda image: None
    bench.track(SURE)
    assert ids(bench) == ['a']


def test_a_start_in_an_older_image_holds_nobody_up(bench, tmp_path):
    """The new target runs forward; the old one has its answer in each image all the same."""
    bench = bench(model=str(make_package(tmp_path / 'tiny')), max_targets=2)
    square = Square()
    headers = [bench.see(square.at(20 + 8 * number, 50)) for number in range(4)]
    assert bench.init(square.box(20, 50), target_id='a', header=headers[0]).success
    bench.until(lambda: bench.received['detections'])
    headers += [bench.track(square.at(20 + 8 * number, 50)).header for number in (4, 5)]
    answer = bench.init(square.box(36, 50), target_id='b', header=headers[2])
    assert answer.success, answer.message
    assert answer.catch_up_frames == 3
    bench.until(lambda: len(bench.received['detections'][-1].detections) == 2)
    array = bench.received['detections'][-1]
    assert array.header == headers[-1]
    assert all(box_of(each).iou(square.box(60, 50)) > 0.6 for each in array.detections)
    assert bench.state.targets[0].tracked_frames == 5, 'no image was taken twice'


def test_a_start_brings_all_to_its_image(scripted):
    """Where the newest image was not worked on yet, it is for all, and once."""
    bench = scripted(max_targets=2)
    bench.see(SURE)
    bench.init(BOX, target_id='a')
    bench.track(SURE)
    bench.enable(False)
    last = bench.see(SURE)
    bench.enable(True)
    assert bench.init(OTHER, target_id='b').success
    bench.until(lambda: bench.received['detections'][-1].header == last)
    assert [each.id for each in bench.received['detections'][-1].detections] == ['a', 'b']
    bench.until_state(lambda state: len(state.targets) == 2)
    assert [each.tracked_frames for each in bench.state.targets] == [2, 0]


def test_all_are_drawn_with_their_names(scripted):
    bench = scripted(max_targets=2)
    bench.listen('debug', Image, 'tracker/debug_image', 1)
    bench.meet()
    bench.see(picture_saying(0.9, 320, 240))
    for target_id, box in (
        ('a', Box(200.0, 120.0, 60.0, 40.0)),
        ('b', Box(40.0, 160.0, 60.0, 40.0)),
    ):
        bench.init(box, target_id=target_id)
    header = bench.track(picture_saying(0.9, 320, 240)).header
    bench.until(lambda: any(each.header == header for each in bench.received['debug']))
    picture = to_bgr(bench.received['debug'][-1])
    assert (picture[120:160, 200:260] != 0).any()
    assert (picture[160:200, 40:100] != 0).any()
    assert (picture[100:118, 195:230] != 0).any(), 'the name above the box'


def test_the_diagnosis_names_who_is_in_trouble(scripted):
    bench = scripted(tick_s=0.05, max_targets=2, lost_after_frames=1)
    bench.listen('diagnostics', DiagnosticArray, '/diagnostics')
    bench.see(SURE)
    for target_id in 'ab':
        bench.init(target_id=target_id)
    tracker_of(bench, 'b').follow = lambda image: Estimate(OTHER, 0.0)
    bench.track(SURE)
    bench.track(SURE)

    def newest():
        for message in reversed(bench.received['diagnostics']):
            for status in message.status:
                if status.name == f'{bench.namespace}/tracker: tracking':
                    return status
        return None

    bench.until(lambda: newest() and newest().message.startswith('b: LOST'))
    assert newest().level == DiagnosticStatus.WARN
    assert ('target', 'a, b') in [(each.key, each.value) for each in newest().values]


def test_the_number_of_targets_is_fixed(scripted):
    bench = scripted(max_targets=2)
    (result,) = bench.set(max_targets=3)
    assert not result.successful
    assert 'max_targets: read when the node is configured' in result.reason


def test_with_one_target_a_lost_one_is_replaced(scripted):
    bench = scripted(lost_after_frames=1)
    bench.see(SURE)
    bench.init(target_id='a')
    bench.track(BAD)
    bench.see(SURE)
    assert bench.init(target_id='b', header=Header()).success
    bench.track(SURE)
    assert ids(bench) == ['b']
