# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Bearings and predictions of the node, as others meet them through ROS."""

import math

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from fakes import Square, make_package
from lifecycle_msgs.msg import Transition
from node_bench import BAD, BOX, SURE, box_of
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from tracker_ros.geometry import Box
from tracker_ros.ros.images import to_message
from tracker_ros.ros.messages import seconds
from tracker_ros.trackers import Estimate
from tracker_ros_interfaces.msg import BearingArray, PredictionArray, TargetState

INFO = CameraInfo(
    width=64,
    height=48,
    distortion_model='plumb_bob',
    d=[0.0] * 5,
    k=[100.0, 0.0, 31.5, 0.0, 100.0, 23.5, 0.0, 0.0, 1.0],
)


@pytest.fixture
def package(tmp_path):
    return str(make_package(tmp_path / 'tiny'))


def calibrated(bench, info=INFO):
    publisher = bench.peer.create_publisher(CameraInfo, 'camera_info', 1)
    bench.until(publisher.get_subscription_count)
    publisher.publish(info)
    bench.until(lambda: bench.node._camera.info is not None)


def of(bench, name, header):
    """The message on a topic that belongs to an image."""
    bench.until(lambda: any(each.header == header for each in bench.received[name]))
    return next(each for each in bench.received[name] if each.header == header)


# Bearings


def test_the_direction_is_that_of_the_box(scripted):
    bench = scripted()
    bench.listen('bearing', BearingArray, 'tracker/bearing')
    bench.meet()
    calibrated(bench)
    bench.see(SURE)
    assert bench.init(Box.from_center(48.0, 12.0, 10.0, 8.0), target_id='mine').success
    header = bench.track(SURE).header
    (bearing,) = of(bench, 'bearing', header).bearings
    assert bearing.header == header
    assert bearing.target_id == 'mine'
    assert bearing.azimuth == pytest.approx(math.atan2(16.0, 100.0), abs=1e-3)
    assert bearing.elevation == pytest.approx(math.atan2(12.0, math.hypot(16.0, 100.0)), abs=1e-3)
    ray = np.array([bearing.ray.x, bearing.ray.y, bearing.ray.z])
    assert np.linalg.norm(ray) == pytest.approx(1.0)
    assert ray * np.sign(ray) == pytest.approx(ray * [1, -1, 1]), 'right, up, forward'
    assert (bearing.error_x, bearing.error_y) == pytest.approx((0.5, -0.5))
    assert bearing.confidence == pytest.approx(0.9, abs=0.1)
    variances = bearing.covariance.reshape(2, 2)
    assert (np.linalg.eigvalsh(variances) > 0).all()
    assert math.sqrt(variances[0, 0]) < 0.2


def test_only_targets_that_are_seen_have_a_direction(scripted):
    bench = scripted(max_targets=2, lost_after_frames=1)
    bench.listen('bearing', BearingArray, 'tracker/bearing')
    bench.meet()
    calibrated(bench)
    bench.see(SURE)
    for target_id in 'ab':
        bench.init(target_id=target_id)
    bench.node._roster.find('a').session.tracker.follow = lambda image: Estimate(BOX, 0.0)
    header = bench.track(SURE).header
    assert [each.target_id for each in of(bench, 'bearing', header).bearings] == ['b']


@pytest.mark.parametrize(
    ('info', 'words'),
    [
        (CameraInfo(), 'bearings are not published'),
        (CameraInfo(width=64, height=48), 'bearings are not published'),
    ],
)
def test_without_a_calibration_it_is_said_once(scripted, info, words, capfd):
    bench = scripted()
    bench.listen('bearing', BearingArray, 'tracker/bearing')
    bench.meet()
    calibrated(bench, info)
    bench.see(SURE)
    bench.init()
    for _ in range(5):
        bench.track(SURE)
    assert bench.received['bearing'] == []
    assert capfd.readouterr().err.count(words) == 1


def test_no_direction_is_computed_for_nobody(scripted, monkeypatch):
    bench = scripted()
    calibrated(bench)
    monkeypatch.setattr(bench.node._camera.direction, 'of', None)  # would fail when called
    bench.see(SURE)
    bench.init()
    bench.track(SURE)
    bench.track(SURE)
    assert bench.state.state == TargetState.TRACKING


# Predictions


def drive(bench, clock, count=12, step_ms=50):
    """A square that moves by 80 px/s, in simulated time; the last one's header."""
    square = Square()
    for number in range(count):
        stamp = Time(sec=100, nanosec=number * step_ms * 1_000_000)
        clock.publish(Clock(clock=stamp))
        bench.until(lambda s=stamp: bench.node.get_clock().now().to_msg() == s)
        picture = to_message(square.at(20 + 4 * number, 50), Header(stamp=stamp, frame_id='cam'))
        if number:
            bench.track(picture)
        else:
            bench.see(picture)
            assert bench.init(square.box(20, 50), target_id='mine').success
    return picture.header


@pytest.fixture
def driven(bench, package):
    def make(**options):
        made = bench(model=package, use_sim_time=True, **options)
        made.listen('prediction', PredictionArray, 'tracker/prediction')
        made.meet()
        made.clock = made.peer.create_publisher(Clock, '/clock', 1)
        made.until(made.clock.get_subscription_count)
        return made

    return make


def test_with_each_image_it_is_said_where_the_target_is_now(driven):
    bench = driven()
    header = drive(bench, bench.clock)
    message = of(bench, 'prediction', header)
    (prediction,) = message.predictions
    assert prediction.header == header
    assert prediction.target_id == 'mine'
    assert prediction.age_s == pytest.approx(0.0, abs=1e-6)
    assert box_of(prediction).iou(Square().box(64, 50)) > 0.6
    assert prediction.velocity[0] == pytest.approx(80, abs=25)
    assert abs(prediction.velocity[1]) < 20
    assert (np.linalg.eigvalsh(prediction.covariance.reshape(4, 4)) > 0).all()


def test_a_controller_is_told_between_images(driven):
    """At its own rate, for its own time, with the age; the box goes on as the target did."""
    bench = driven(prediction_rate_hz=100.0)
    header = drive(bench, bench.clock)
    later = Time(sec=100, nanosec=header.stamp.nanosec + 200_000_000)
    bench.received['prediction'].clear()
    bench.clock.publish(Clock(clock=later))
    bench.until(lambda: any(each.header.stamp == later for each in bench.received['prediction']))
    message = bench.received['prediction'][-1]
    (prediction,) = message.predictions
    assert message.header.frame_id == 'cam'
    assert prediction.age_s == pytest.approx(0.2, abs=1e-6)
    assert prediction.bbox.center.position.x == pytest.approx(84 + 16, abs=8)
    seen = bench.state.targets[0]
    assert prediction.covariance[0] > seen.covariance[0], 'less sure the longer ago'


def test_of_old_images_nothing_is_foretold(scripted):
    """Stamps of another clock, as of a recording without simulated time."""
    bench = scripted()
    bench.listen('prediction', PredictionArray, 'tracker/prediction')
    bench.meet()
    picture = to_message(SURE, Header(stamp=Time(sec=5), frame_id='camera'))
    bench.see(picture)
    bench.init()
    bench.track(to_message(SURE, Header(stamp=Time(sec=6), frame_id='camera')))
    assert bench.received['prediction'] == []


def test_nothing_is_foretold_for_nobody(scripted, monkeypatch):
    monkeypatch.setattr('tracker_ros.ros.outputs.foretell', None)  # would fail when called
    bench = scripted()
    bench.see(SURE)
    bench.init()
    bench.track(SURE)
    bench.track(BAD)
    assert bench.state.targets


def test_a_state_tells_of_motion(driven):
    bench = driven()
    header = drive(bench, bench.clock)
    bench.until_state(lambda state: state.header == header)
    (target,) = bench.state.targets
    assert target.velocity[0] == pytest.approx(80, abs=25)
    assert (np.linalg.eigvalsh(target.covariance.reshape(4, 4)) > 0).all()
    assert seconds(target.since) == pytest.approx(100.0)


# Recordings


def recorded(folder):
    """The messages of the one recording: topic to its number of messages."""
    from mcap.reader import make_reader

    (path,) = folder.glob('loss_*.mcap')
    counts = {}
    with path.open('rb') as file:
        for _, channel, _ in make_reader(file).iter_messages():
            counts[channel.topic] = counts.get(channel.topic, 0) + 1
    return counts


def test_a_loss_is_recorded(scripted, tmp_path, capfd):
    folder = tmp_path / 'recordings'
    bench = scripted(
        record_dir=str(folder), record_images=True, lost_after_frames=2, uncertain_after_frames=1
    )
    calibrated(bench)
    bench.see(SURE)
    bench.init(target_id='mine')
    for picture in (SURE, SURE, BAD, BAD, BAD):
        bench.track(picture)
    assert bench.state.state == TargetState.LOST
    assert bench.change(Transition.TRANSITION_DEACTIVATE)
    space = bench.namespace
    counts = recorded(folder)
    assert counts[f'{space}/tracker/detections'] == 6
    assert counts[f'{space}/tracker/state'] >= 6
    assert counts[f'{space}/tracker/bearing'] >= 3
    assert counts[f'{space}/camera_info'] == 1
    assert counts[f'{space}/image_raw/compressed'] >= 1
    assert 'mine' in next(folder.iterdir()).name
    assert 'recorded' in capfd.readouterr().err
    assert bench.change(Transition.TRANSITION_ACTIVATE)


def test_nothing_is_recorded_unless_it_is_wanted(scripted):
    bench = scripted()
    assert bench.node._outputs.recorder is None
