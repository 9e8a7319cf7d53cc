# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node as others meet it: messages and services through a real rclpy and a real DDS."""

import math
import re
import signal
import threading

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fakes import ScriptedTracker, Square, make_package, picture_saying
from lifecycle_msgs.msg import State as LifecycleState
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from node_bench import BAD, BOX, LATCHED, SURE, WAIT_S, Bench, Gate, box_of, numbers
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import qos_profile_sensor_data
from ros_graph import DOMAIN_ID, RosGraph
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D

from tracker_ros.cli import main
from tracker_ros.geometry import Box
from tracker_ros.ros import node as node_module
from tracker_ros.ros.debug_view import DebugView
from tracker_ros.ros.images import to_bgr, to_compressed_message, to_message
from tracker_ros.ros.messages import seconds, set_box
from tracker_ros.ros.processes import Child, dds_environment, node_command
from tracker_ros.runtime.engine import NotReadyError
from tracker_ros.trackers import TrackerError, create
from tracker_ros.tracking import Session, Thresholds
from tracker_ros_interfaces.msg import TrackerState
from tracker_ros_interfaces.srv import InitTarget, StopTarget

INIT, STOP = InitTarget.Response, StopTarget.Response


@pytest.fixture(scope='module')
def graph():
    graph = RosGraph()
    yield graph
    graph.close()


@pytest.fixture(scope='module')
def package(tmp_path_factory):
    """A real model that follows bright squares."""
    return str(make_package(tmp_path_factory.mktemp('packages') / 'tiny'))


# Following


def test_a_target_is_followed_and_every_output_has_the_header_of_its_image(bench, package):
    bench = bench(model=package, class_id='car')
    bench.listen('debug', Image, 'tracker/debug_image', 1)
    bench.listen('jpeg', CompressedImage, 'tracker/debug_image/compressed', 1)
    bench.meet()
    square = Square()
    bench.see(square.at(60, 50))
    answer = bench.init(square.box(60, 50))
    assert (answer.success, answer.code, answer.target_id) == (True, INIT.OK, 'target_1')
    assert answer.score > 0.9
    assert answer.message.startswith('started at x=60.0 y=50.0 w=40.0 h=40.0')
    for number in range(1, 8):
        x, y = 60 + 4 * number, 50 + 2 * number
        detection = bench.track(square.at(x, y))
        assert detection.header.frame_id == 'camera'
        assert detection.id == 'target_1'
        (result,) = detection.results
        assert result.hypothesis.class_id == 'car'
        assert 0.5 < result.hypothesis.score <= 1
        assert box_of(detection).iou(square.box(x, y)) > 0.6
        array = bench.received['detections'][-1]
        assert array.header == detection.header
        assert list(array.detections) == [detection]
        assert bench.state.state == TrackerState.TRACKING
        assert bench.state.score == pytest.approx(result.hypothesis.score, abs=1e-6)
    for name in ('debug', 'jpeg'):
        newest = detection.header
        bench.until(lambda n=name, h=newest: any(each.header == h for each in bench.received[n]))
    assert bench.received['debug'][-1].encoding == 'bgr8'
    assert 'jpeg' in bench.received['jpeg'][-1].format


@pytest.fixture(scope='module')
def converted(tmp_path_factory):
    """MixFormerV2 from a file in the official layout, by the command; its weights mean nothing."""
    torch = pytest.importorskip('torch', reason='needs PyTorch, to convert: pip install torch')
    from tracker_ros.networks.mixformer_v2 import VARIANTS, MixFormerV2

    folder = tmp_path_factory.mktemp('converted')
    torch.manual_seed(0)
    state = MixFormerV2(VARIANTS['s']).state_dict()
    torch.save({'epoch': 500, 'net_type': 'MixFormer', 'net': state}, folder / 'w.pth.tar')
    target = folder / 'mixformerv2_s'
    arguments = ['--family', 'mixformer_v2', '--name', 'mixformerv2_s', '--output', str(target)]
    assert main(['models', 'convert', str(folder / 'w.pth.tar'), *arguments]) == 0
    return str(target)


@pytest.mark.parametrize('runtime', ['openvino', 'onnxruntime'])
def test_a_converted_checkpoint_is_followed_as_without_ros(bench, converted, runtime):
    """Frame by frame the box and the score that the same session gives when called directly."""
    square = Square()
    frames = [square.at(60 + 4 * number, 50 + 2 * number) for number in range(6)]
    bench = bench(model=converted, runtime=runtime, score_lost=0.0, score_sure=0.0)
    began = bench.see(frames[0])
    answer = bench.init(square.box(60, 50))
    assert answer.success
    detections = [bench.track(frame) for frame in frames[1:]]
    assert runtime in bench.state.runtime

    alone = Session(create(converted, runtime, 1), Thresholds(0.0, 0.0))
    stamp_s = seconds(began.stamp)
    start = alone.start(frames[0], square.box(60, 50), stamp_s=stamp_s)
    assert answer.score == pytest.approx(start.score, abs=1e-5)
    for frame, detection in zip(frames[1:], detections, strict=True):
        observation = alone.step(frame, seconds(detection.header.stamp))
        assert box_of(detection).xywh() == pytest.approx(observation.box.xywh(), abs=0.01)
        (result,) = detection.results
        assert result.hypothesis.score == pytest.approx(observation.confidence, abs=1e-5)


def test_the_state_counts_and_tells_what_runs(bench, package):
    bench = bench(model=package)
    square = Square()
    bench.see(square.at(60, 50))
    bench.init(square.box(60, 50))
    for x in (64, 68):
        bench.track(square.at(x, 50))
    state = bench.state
    assert (state.frames_seen, state.frames_processed, state.frames_dropped) == (3, 3, 0)
    assert state.model == package
    assert state.runtime == 'onnxruntime (CPU, fp32)'
    assert state.enabled
    assert state.target_id == 'target_1'
    assert state.reason
    assert 0 < state.frame_age_s < WAIT_S


def test_an_engine_that_is_being_built_is_seen_in_the_state(scripted, monkeypatch):
    """Progress, what serves meanwhile, and the change to the engine that was built."""
    bench = scripted()
    now = {'runtime': 'openvino (CPU, fp32)', 'note': 'building tensorrt 40 %, openvino meanwhile'}
    for name in now:
        monkeypatch.setattr(ScriptedTracker, name, property(lambda _, n=name: now[n]))
    bench.see(SURE)
    assert bench.init().success
    bench.until_state(lambda state: 'building tensorrt 40 %' in state.reason)
    assert bench.state.runtime == 'openvino (CPU, fp32)'
    now.update(runtime='tensorrt 10.3 (Orin, fp16)', note='')
    bench.track(SURE)
    assert bench.state.runtime == 'tensorrt 10.3 (Orin, fp16)'
    assert 'building' not in bench.state.reason


def test_a_start_that_no_engine_can_serve_yet_is_not_ready(scripted, monkeypatch):
    def building(*_):
        raise NotReadyError('the engine is being built, 40 %')

    bench = scripted()
    monkeypatch.setattr(ScriptedTracker, 'start', building)
    bench.see(SURE)
    answer = bench.init()
    assert (answer.success, answer.code) == (False, InitTarget.Response.NOT_READY)
    assert '40 %' in answer.message


def test_frames_that_come_too_fast_are_dropped_and_counted(scripted):
    bench = scripted()
    bench.see(SURE)
    assert bench.init().success
    before = bench.until_state(lambda state: state.frames_processed == 1)
    gate = Gate(bench)
    gate.hold()
    last = [bench.see(SURE) for _ in range(3)][-1]
    gate.open()
    after = bench.until_state(lambda state: state.header == last)
    assert after.frames_seen - before.frames_seen == 4
    assert after.frames_processed - before.frames_processed == 2
    assert after.frames_dropped - before.frames_dropped == 2
    bench.until(lambda: bench.received['detection'][-1].header == last)
    assert len(bench.received['detection']) == 3


def test_a_lost_target_has_empty_results_and_is_found_again(scripted):
    bench = scripted(uncertain_after_frames=1, lost_after_frames=2, sure_after_frames=2)
    bench.see(SURE)
    bench.init(target_id='red car')
    seen = []
    for picture in (SURE, BAD, BAD, BAD, SURE, SURE):
        detection = bench.track(picture)
        seen.append((bench.state.state, len(detection.results)))
        assert detection.id == bench.state.target_id == 'red car'
        if not detection.results:
            assert detection.bbox == Detection2D().bbox
    tracking, uncertain, lost = (
        (TrackerState.TRACKING, 1),
        (TrackerState.UNCERTAIN, 1),
        (TrackerState.LOST, 0),
    )
    assert seen == [tracking, uncertain, lost, lost, lost, tracking]
    assert bench.state.reason.startswith('recovered')


def shown(bench, header):
    """The debug image of the frame with this header, and its pixels."""
    pictures = bench.received['debug']
    bench.until(lambda: any(each.header == header for each in pictures))
    return to_bgr(next(each for each in pictures if each.header == header))


def test_the_debug_image_shows_what_the_network_looks_at(bench, package):
    bench = bench(model=package)
    bench.listen('debug', Image, 'tracker/debug_image', 1)
    bench.meet()
    square = Square()
    bench.see(square.at(60, 50))
    assert bench.init(square.box(60, 50)).success
    bare = shown(bench, bench.track(square.at(60, 50)).header)
    assert bench.set(debug_overlay='response')[0].successful
    bench.track(square.at(60, 50))  # what is on its way may be drawn as before
    warm = shown(bench, bench.track(square.at(60, 50)).header)
    # Beside the words at the top, all that is new lies in the search window of 4 times the square.
    changed = (warm != bare).any(axis=2)
    assert changed[50:90, 60:100].mean() > 0.5
    assert not changed[40:, 165:].any()
    assert bench.set(debug_overlay='none')[0].successful
    bench.track(square.at(60, 50))
    again = shown(bench, bench.track(square.at(60, 50)).header)
    assert (again[40:] == bare[40:]).all()


def test_a_model_that_shows_nothing_is_followed_all_the_same(bench):
    bench = bench(model='csrt', debug_overlay='attention')
    bench.listen('debug', Image, 'tracker/debug_image', 1)
    bench.meet()
    square = Square()
    bench.see(square.at(60, 50))
    assert bench.init(square.box(60, 50)).success
    shown(bench, bench.track(square.at(62, 50)).header)
    assert any('csrt has no network to look into' in text for text in bench.node._said)


def test_compressed_images_are_followed(bench, package):
    bench = bench(model=package, image_transport='compressed', image_type=CompressedImage)
    square = Square()
    bench.see(square.at(60, 50))
    assert bench.init(square.box(60, 50)).success
    detection = bench.track(square.at(64, 50))
    assert box_of(detection).iou(square.box(64, 50)) > 0.6


def test_a_new_target_takes_the_place_of_the_old_one(bench, package):
    bench = bench(model=package)
    square = Square()
    bench.see(square.at(60, 50))
    bench.init(square.box(60, 50))
    bench.track(square.at(62, 50))
    bench.see(square.at(150, 90))
    answer = bench.init(square.box(150, 90), target_id='second')
    assert answer.target_id == 'second'
    detection = bench.track(square.at(152, 90))
    assert detection.id == 'second'
    assert box_of(detection).iou(square.box(152, 90)) > 0.6


def test_a_start_answers_its_own_frame(scripted):
    bench = scripted()
    bench.see(SURE)
    bench.init()
    bench.until(lambda: bench.received['detection'])
    (detection,) = bench.received['detection']
    assert detection.header == bench.node._camera.newest.message.header
    assert box_of(detection) == BOX


# Sentences


def test_a_sentence_comes_with_the_start(bench, cache, tmp_path):
    """Refused with the remedy without the language model; with it the network is told."""
    pytest.importorskip('tokenizers', reason='needs the tokenizers: pip install tokenizers')
    torch = pytest.importorskip('torch', reason='needs PyTorch, to convert: pip install torch')
    from tracker_ros.networks.bert import Bert, Variant

    bench = bench(model=str(make_package(tmp_path / 'vlt', 'vlt_tt')))
    square = Square()
    bench.see(square.at(60, 50))
    refused = bench.init(square.box(60, 50), text='the bright square')
    assert (refused.success, refused.code) == (False, INIT.TRACKER_FAILED)
    assert 'models convert' in refused.message
    assert bench.init(square.box(60, 50)).success, 'no sentence needs no language model'

    words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'the', 'bright', 'square']
    torch.manual_seed(0)
    network = Bert(Variant(len(words), positions=64, dim=768, depth=1, hidden=64))
    published = tmp_path / 'bert'
    published.mkdir()
    (published / 'vocab.txt').write_text('\n'.join(words) + '\n')
    torch.save(network.state_dict(), published / 'pytorch_model.bin')
    arguments = ['--family', 'bert', '--name', 'bert_base_uncased']
    assert main(['models', 'convert', str(published), *arguments]) == 0

    answer = bench.init(square.box(60, 50), text='the bright square')
    assert answer.success, answer.message
    told = bench.node._roster.tracker._templates
    assert np.abs(told['language']).max() > 0
    assert told['by_language'] == [1]
    detection = bench.track(square.at(66, 52))
    assert box_of(detection).iou(square.box(66, 52)) > 0.5


# Masks


@pytest.fixture(scope='module')
def masking(tmp_path_factory):
    """A model that gives masks."""
    return str(make_package(tmp_path_factory.mktemp('packages') / 'masking', 'siam_attn'))


def test_a_mask_is_made_while_somebody_subscribes(bench, masking):
    bench = bench(model=masking)
    square = Square()
    bench.see(square.at(60, 50))
    assert bench.init(square.box(60, 50)).success
    bench.track(square.at(60, 50))
    assert bench.node._roster.first.mask is None
    subscription = bench.listen('mask', Image, 'tracker/mask')
    bench.meet()
    header = bench.track(square.at(62, 50)).header
    bench.until(lambda: any(each.header == header for each in bench.received['mask']))
    mask = bench.received['mask'][-1]
    assert (mask.encoding, mask.width, mask.height) == ('mono8', 240, 160)
    pixels = np.frombuffer(mask.data, np.uint8).reshape(160, 240)
    assert set(np.unique(pixels)) == {0, 255}
    rows, columns = np.nonzero(pixels)
    assert abs(columns.mean() - 82) < 8
    assert abs(rows.mean() - 70) < 8
    bench.peer.destroy_subscription(subscription)
    bench.until(lambda: not bench.node._outputs.mask.get_subscription_count())
    bench.track(square.at(62, 50))
    assert bench.node._roster.first.mask is None


def test_the_box_may_be_turned_to_fit_the_mask(bench, masking):
    bench = bench(model=masking, rotated_box=True)
    square = Square()
    bench.see(square.at(60, 50))
    assert bench.init(square.box(60, 50)).success
    detection = bench.track(square.at(62, 50))
    outline = bench.node._roster.first.outline
    center = detection.bbox.center
    assert (center.position.x, center.position.y) == (outline.cx, outline.cy)
    assert (detection.bbox.size_x, detection.bbox.size_y) == (outline.w, outline.h)
    assert center.theta == outline.theta
    assert bench.set(rotated_box=False)[0].successful
    assert box_of(bench.track(square.at(62, 50))) == bench.node._roster.first.box
    assert bench.received['detection'][-1].bbox.center.theta == 0


def test_the_mask_is_seen_in_the_debug_image(bench, masking):
    bench = bench(model=masking, debug_overlay='mask')
    bench.listen('debug', Image, 'tracker/debug_image', 1)
    bench.meet()
    square = Square()
    bench.see(square.at(60, 50))
    assert bench.init(square.box(60, 50)).success
    picture = shown(bench, bench.track(square.at(60, 50)).header)
    mask = bench.node._roster.first.mask
    inside = cv2.erode(mask, np.ones((7, 7), np.uint8)) > 0
    assert inside.any()
    expected = square.at(60, 50)[inside] // 2 + np.array([230, 80, 200], np.uint8) // 2
    assert (picture[inside] == expected).mean() > 0.9  # but for the box


def test_a_model_without_masks_says_so(bench, package):
    bench = bench(model=package, rotated_box=True)
    square = Square()
    bench.see(square.at(60, 50))
    assert bench.init(square.box(60, 50)).success
    assert bench.track(square.at(62, 50)).bbox.center.theta == 0
    assert any('gives no masks' in text for text in bench.node._said)


# Starting in the image that the operator saw


def moving(bench, count=8, step_ms=33):
    """A square that moves, seen by the node; returns each picture's header."""
    square = Square()
    headers = []
    for number in range(count):
        picture = to_message(square.at(20 + 12 * number, 50), Header(frame_id='camera'))
        picture.header.stamp = Time(sec=100, nanosec=number * step_ms * 1_000_000)
        headers.append(bench.see(picture))
    return headers


def test_a_start_is_made_in_the_image_of_its_stamp(bench, package):
    """A box drawn 7 images ago, where the square is long gone, finds it in the newest."""
    bench = bench(model=package)
    headers = moving(bench)
    answer = bench.init(Square().box(20, 50), header=headers[0])
    assert answer.success, answer.message
    assert answer.frame_age_s == pytest.approx(0.231, abs=1e-6)
    assert answer.catch_up_frames == 7
    assert answer.catch_up_s > 0
    assert 'in the image of 0.231 s ago' in answer.message
    assert 'ran through 7 images' in answer.message
    bench.until(lambda: bench.received['detection'])
    (detection,) = bench.received['detection']
    assert detection.header == headers[-1]
    assert box_of(detection).iou(Square().box(20 + 12 * 7, 50)) > 0.6
    assert bench.state.state == TrackerState.TRACKING


def test_the_same_box_in_the_newest_image_would_miss(bench, package):
    """What the stamp is good for."""
    bench = bench(model=package)
    moving(bench)
    answer = bench.init(Square().box(20, 50))
    assert (answer.frame_age_s, answer.catch_up_frames, answer.catch_up_s) == (0.0, 0, 0.0)
    bench.until(lambda: bench.received['detection'])
    assert box_of(bench.received['detection'][-1]).iou(Square().box(20 + 12 * 7, 50)) == 0


def test_a_stamp_beside_the_images_takes_the_nearest_and_says_so(bench, package):
    bench = bench(model=package)
    headers = moving(bench)
    stamp = Time(sec=100, nanosec=headers[2].stamp.nanosec + 5_000_000)
    answer = bench.init(Square().box(44, 50), header=Header(stamp=stamp))
    assert answer.success
    assert answer.catch_up_frames == 5
    assert 'the nearest to the stamp, 0.005 s beside it' in answer.message


@pytest.mark.parametrize(
    ('stamp', 'words'),
    [
        (
            Time(sec=99),
            r'99.000 is 1.000 s before the oldest image kept, of 8 from the last 0.231',
        ),
        (Time(sec=5), 'before the oldest'),
        (Time(sec=103), r'is 2.769 s after the newest image kept'),
    ],
)
def test_a_stamp_that_is_not_kept_is_refused_with_what_is(bench, package, stamp, words):
    bench = bench(model=package)
    moving(bench)
    answer = bench.init(Square().box(20, 50), header=Header(stamp=stamp))
    assert (answer.success, answer.code) == (False, INIT.NO_IMAGE)
    assert re.search(words, answer.message)
    assert 'leave the stamp at zero' in answer.message
    assert bench.until_state(lambda state: True).state == TrackerState.IDLE


def test_a_clock_a_little_ahead_means_the_newest(bench, package):
    bench = bench(model=package)
    headers = moving(bench)
    stamp = Time(sec=100, nanosec=headers[-1].stamp.nanosec + 20_000_000)
    answer = bench.init(Square().box(20 + 12 * 7, 50), header=Header(stamp=stamp))
    assert answer.success
    assert answer.catch_up_frames == 0


@pytest.mark.parametrize('bounds', [{'history_s': 0.05}, {'history_mb': 1, 'history_s': 60.0}])
def test_the_history_is_bounded(bench, package, bounds):
    bench = bench(model=package, **bounds)
    square = Square()
    size = square.at(0, 0).nbytes
    headers = moving(bench, count=2 + 10**6 // size)
    assert bench.init(square.box(20, 50), header=headers[0]).code == INIT.NO_IMAGE
    assert (
        bench.node._camera.history.span_s <= 0.05 or bench.node._camera.history.size_bytes <= 10**6
    )
    assert bench.init(Square().box(20, 50), header=headers[-2]).success


def test_the_history_can_be_shortened_while_it_runs(bench, package):
    bench = bench(model=package)
    headers = moving(bench)
    assert bench.set(history_s=0.04)[0].successful
    headers += moving(bench, count=9)[-1:]
    assert bench.init(Square().box(20, 50), header=headers[0]).code == INIT.NO_IMAGE


def test_images_without_stamps_start_in_the_newest_only(bench, package):
    bench = bench(model=package)
    bench.send(to_message(Square().at(60, 50), Header(frame_id='camera')))
    bench.until(lambda: bench.node._camera.newest)
    answer = bench.init(Square().box(60, 50), header=Header(stamp=Time(sec=3)))
    assert answer.code == INIT.NO_IMAGE
    assert 'images need stamps' in answer.message
    assert bench.init(Square().box(60, 50)).success


def test_a_broken_image_on_the_way_is_passed_over(bench, package):
    bench = bench(model=package)
    headers = moving(bench, count=4)
    square = Square()
    broken = to_message(square.at(0, 0), Header(frame_id='camera'))
    broken.encoding = 'dreams'
    broken.header.stamp = Time(sec=100, nanosec=150_000_000)
    bench.see(broken)
    last = to_message(square.at(68, 50), Header(frame_id='camera'))
    last.header.stamp = Time(sec=100, nanosec=180_000_000)
    bench.see(last)
    answer = bench.init(square.box(20, 50), header=headers[0])
    assert answer.success, answer.message
    assert answer.catch_up_frames == 5
    bench.until(lambda: bench.received['detection'])
    assert box_of(bench.received['detection'][-1]).iou(square.box(68, 50)) > 0.6


def test_a_tracker_that_fails_on_the_way_leaves_no_target(scripted):
    bench = scripted()
    headers = moving(bench, count=3)

    def fail(image):
        if bench.tracker.starts:
            raise TrackerError('no more')

    bench.tracker.before = fail
    answer = bench.init(header=headers[0])
    assert answer.code == INIT.TRACKER_FAILED
    assert 'no more' in answer.message
    assert bench.until_state(lambda state: state.reason).state == TrackerState.IDLE


def test_a_poor_start_is_told(scripted):
    bench = scripted(score_lost=0.2, score_sure=0.6)
    bench.see(picture_saying(0.4))
    assert 'the score is only 0.40' in bench.init().message


def test_two_nodes_share_a_camera(bench, package):
    first, second = (
        bench(model=package, namespace='/shared', name=name) for name in ('first', 'second')
    )
    square = Square()
    header = first.see(square.at(60, 50))
    second.until(
        lambda: second.node._camera.newest and second.node._camera.newest.message.header == header
    )
    assert first.init(square.box(60, 50), target_id='mine').success
    assert first.track(square.at(62, 50)).id == 'mine'
    assert second.stop().code == STOP.NOT_TRACKING
    assert second.init(square.box(62, 50), target_id='yours').success
    second.until(lambda: second.received['detection'])
    assert {each.id for each in first.received['detection']} == {'mine'}
    assert {each.id for each in second.received['detection']} == {'yours'}


def test_two_nodes_do_not_meet(bench, package):
    left, right = (bench(model=package, namespace=name) for name in ('/left', '/right'))
    square = Square()
    left.see(square.at(60, 50))
    assert left.init(square.box(60, 50)).success
    refused = right.init(square.box(60, 50))
    assert refused.code == INIT.NO_IMAGE
    right.see(square.at(150, 90))
    assert right.init(square.box(150, 90), target_id='other').success
    assert left.track(square.at(62, 50)).id == 'target_1'
    assert right.track(square.at(152, 90)).id == 'other'
    assert {each.id for each in left.received['detection']} == {'target_1'}
    assert {each.id for each in right.received['detection']} == {'other'}


def test_names_are_relative(scripted):
    bench = scripted(namespace='/robot/front')
    node, name, space = bench.node, 'tracker', '/robot/front'
    # What ROS itself, and everybody's dashboard, expects at the root.
    common = {'/diagnostics', '/parameter_events', '/rosout'}

    def names(query):
        return {topic for topic, _ in query(name, space)}

    published = names(node.get_publisher_names_and_types_by_node) - common
    assert published == {
        f'{space}/tracker/{topic}'
        for topic in (
            'detection',
            'detections',
            'state',
            'bearing',
            'prediction',
            'mask',
            'debug_image',
            'debug_image/compressed',
            'transition_event',
        )
    }
    subscribed = names(node.get_subscriber_names_and_types_by_node) - common
    assert subscribed == {
        f'{space}/image_raw',
        f'{space}/camera_info',
        f'{space}/tracker/init',
        f'{space}/tracker/hint',
        f'{space}/tracker/candidates',
    }
    served = names(node.get_service_names_and_types_by_node)
    own = ('init_target', 'take_candidate', 'stop_target', 'enable')
    assert {f'{space}/tracker/{each}' for each in own} <= served
    assert all(each.startswith(f'{space}/tracker/') for each in served)


def test_a_late_joiner_gets_the_state(scripted):
    bench = scripted()
    bench.see(SURE)
    bench.init(target_id='known')
    late = []
    bench.peer.create_subscription(TrackerState, 'tracker/state', late.append, LATCHED)
    bench.until(lambda: late)
    assert late[0].target_id == 'known'


def test_the_node_says_how_it_is(scripted):
    bench = scripted(tick_s=0.05)
    info = bench.peer.create_publisher(CameraInfo, 'camera_info', 1)
    bench.listen('diagnostics', DiagnosticArray, '/diagnostics')
    name = f'{bench.namespace}/tracker: tracking'

    def statuses():
        return [
            status
            for message in bench.received['diagnostics']
            for status in message.status
            if status.name == name
        ]

    bench.until(statuses)
    assert statuses()[0].level == DiagnosticStatus.WARN
    assert f"no image on '{bench.namespace}/image_raw'" in statuses()[0].message
    bench.see(SURE)
    bench.init()
    bench.track(SURE)
    bench.until(info.get_subscription_count)
    info.publish(CameraInfo(width=64, height=48))
    bench.until(lambda: ('camera_info', '64 x 48') in pairs_of(statuses()[-1]))
    newest = statuses()[-1]
    assert newest.level == DiagnosticStatus.OK
    assert newest.message == 'TRACKING'
    values = dict(pairs_of(newest))
    assert values['target'] == 'target_1'
    assert values['frames processed'] == '2'
    assert float(values['total p50 ms']) > 0


def pairs_of(status):
    return [(each.key, each.value) for each in status.values]


# Refusals


@pytest.fixture(scope='module')
def standing(graph, package):
    """A node that has seen an image and follows nothing; no test leaves it otherwise."""
    bench = Bench(graph, model=package)
    bench.see(Square().at(60, 50))
    yield bench
    bench.close()


@pytest.mark.parametrize(
    ('request_', 'code', 'words'),
    [
        ({'box': Box(math.nan, 1.0, 9.0, 9.0)}, INIT.INVALID_BOX, ('x=nan', 'not finite')),
        ({'box': Box(1.0, 1.0, math.inf, 9.0)}, INIT.INVALID_BOX, ('w=inf', 'not finite')),
        ({'box': Box(1.0, 1.0, 0.0, 9.0)}, INIT.INVALID_BOX, ('w=0', 'above 0')),
        ({'box': Box(1.0, 1.0, 9.0, -9.0)}, INIT.INVALID_BOX, ('h=-9', 'above 0')),
        ({'theta': 0.5}, INIT.INVALID_BOX, ('0.5', 'theta = 0')),
        ({'box': Box(999.0, 1.0, 9.0, 9.0)}, INIT.BOX_OUTSIDE_IMAGE, ('x=999', '240 x 160')),
        ({'box': Box(5.0, 5.0, 3.0, 9.0)}, INIT.BOX_TOO_SMALL, ('w=3', 'at least 6 px')),
        ({'text': 'the red car'}, INIT.TEXT_NOT_SUPPORTED, ("'the red car'", 'leave it empty')),
        ({'header': Header(frame_id='map')}, INIT.WRONG_FRAME, ("'map'", "'camera'")),
        ({'target_id': 'a\nb'}, INIT.INVALID_ID, ('a', 'b', '3 characters', 'at most 64')),
        ({'target_id': 'x' * 100}, INIT.INVALID_ID, ('100 characters',)),
    ],
)
def test_a_start_that_cannot_be_is_refused_with_the_value(standing, request_, code, words):
    answer = standing.init(**{'box': Square().box(60, 50), **request_})
    assert not answer.success
    assert answer.code == code
    assert answer.target_id == ''
    for word in words:
        assert word in answer.message
    assert standing.node._roster.first.target_id == ''


def test_a_start_before_any_image_is_refused(bench, package):
    bench = bench(model=package)
    answer = bench.init()
    assert answer.code == INIT.NO_IMAGE
    assert f"'{bench.namespace}/image_raw'" in answer.message


@pytest.mark.parametrize('frame_id', ['', 'camera'])
def test_the_images_frame_or_none_is_accepted(standing, frame_id):
    answer = standing.init(Square().box(60, 50), header=Header(frame_id=frame_id))
    assert answer.success
    assert standing.stop().success


def test_a_stop_without_a_target_is_refused(standing):
    answer = standing.stop()
    assert not answer.success
    assert answer.code == STOP.NOT_TRACKING
    assert 'no target' in answer.message


def test_a_stop_of_another_target_is_refused(scripted):
    bench = scripted()
    bench.see(SURE)
    bench.init(target_id='mine')
    answer = bench.stop('yours')
    assert answer.code == STOP.UNKNOWN_TARGET
    assert "'yours'" in answer.message
    assert "'mine'" in answer.message
    assert bench.track(SURE).id == 'mine'
    assert bench.stop('mine').code == STOP.OK
    bench.until_state(lambda state: state.state == TrackerState.IDLE)
    assert bench.state.target_id == ''
    assert bench.state.reason == 'stopped on request'


def test_after_a_stop_nothing_is_answered(scripted):
    bench = scripted()
    bench.see(SURE)
    bench.init()
    bench.track(SURE)
    assert bench.stop().success
    count = len(bench.received['detection'])
    bench.see(SURE)
    bench.init()
    last = bench.node._camera.newest.message.header
    bench.until(lambda: bench.received['detection'][-1].header == last)
    assert len(bench.received['detection']) == count + 1, 'only that of the new start'


@pytest.mark.parametrize(
    ('error', 'words'),
    [
        (TrackerError('no features here'), 'no features here'),
        (ZeroDivisionError('in the depths'), 'ZeroDivisionError: in the depths'),
        (MemoryError(), 'MemoryError'),
    ],
)
def test_a_tracker_that_cannot_start_is_an_answer(scripted, error, words):
    bench = scripted()
    bench.see(SURE)
    bench.init()

    def fail(image):
        raise error

    bench.tracker.before = fail
    answer = bench.init()
    assert answer.code == INIT.TRACKER_FAILED
    assert words in answer.message
    bench.until_state(lambda state: state.state == TrackerState.IDLE)
    bench.tracker.before = lambda image: None
    assert bench.init().success


def test_a_start_on_an_image_that_cannot_be_read_is_an_answer(scripted):
    bench = scripted()
    bench.see(SURE)
    bench.see(Image(header=bench.header(), width=4, height=4, encoding='32FC1', step=16))
    answer = bench.init()
    assert answer.code == INIT.TRACKER_FAILED
    assert '32FC1' in answer.message
    bench.see(SURE)
    assert bench.init().success


# Pausing


def test_a_paused_node_keeps_its_target(scripted):
    bench = scripted()
    bench.see(SURE)
    bench.init()
    bench.track(SURE)
    assert bench.enable(False).success
    bench.until_state(lambda state: not state.enabled)
    assert bench.state.state == TrackerState.TRACKING
    paused = bench.see(SURE)
    refused = bench.init()
    assert refused.code == INIT.NOT_READY
    assert '~/enable' in refused.message
    assert bench.enable(True).success
    assert bench.track(SURE).id == 'target_1'
    assert paused not in [each.header for each in bench.received['detection']]
    assert bench.state.enabled


def test_a_paused_target_can_be_stopped(scripted):
    bench = scripted()
    bench.see(SURE)
    bench.init()
    bench.enable(False)
    assert bench.stop().success
    bench.until_state(lambda state: state.state == TrackerState.IDLE and not state.enabled)


# While the tracker is slow or fails


def test_services_answer_while_the_tracker_is_busy(scripted):
    bench = scripted()
    bench.see(SURE)
    bench.init()
    gate = Gate(bench)
    gate.hold()
    assert bench.init(theta=1.0).code == INIT.INVALID_BOX
    assert bench.init(target_id='\n').code == INIT.INVALID_ID
    assert bench.init(text='red').code == INIT.TEXT_NOT_SUPPORTED
    assert bench.init(header=Header(frame_id='map')).code == INIT.WRONG_FRAME
    assert bench.set(debug_scale=0.5)[0].successful
    assert bench.enable(False).success
    assert bench.init().code == INIT.NOT_READY
    assert bench.enable(True).success
    gate.open()
    assert bench.track(SURE).id == 'target_1'


def test_a_refused_start_swallows_no_frame(scripted):
    bench = scripted()
    bench.see(SURE)
    bench.init()
    gate = Gate(bench)
    gate.hold()
    waiting = bench.see(SURE)
    assert bench.init(theta=1.0).code == INIT.INVALID_BOX
    gate.open()
    assert bench.init(Box(1e6, 0.0, 9.0, 9.0)).code == INIT.BOX_OUTSIDE_IMAGE
    bench.until(lambda: waiting in [each.header for each in bench.received['detection']])


def test_a_start_uses_up_the_frame_that_waits(scripted):
    bench = scripted()
    bench.see(SURE)
    bench.init()
    gate = Gate(bench)
    gate.hold()
    waiting = bench.see(SURE)
    worker = bench.node._worker
    call = worker.call

    def call_and_open(task):
        future = call(task)
        gate.open()
        return future

    worker.call = call_and_open
    assert bench.init(target_id='second').success
    bench.track(SURE)
    answers = [each.id for each in bench.received['detection'] if each.header == waiting]
    assert answers == ['second']


def test_a_frame_that_waits_is_not_answered_after_a_pause(scripted):
    bench = scripted()
    bench.see(SURE)
    bench.init()
    gate = Gate(bench)
    gate.hold()
    waiting = bench.see(SURE)
    bench.enable(False)
    gate.open()
    bench.until_state(lambda state: not state.enabled)
    bench.enable(True)
    bench.track(SURE)
    assert waiting not in [each.header for each in bench.received['detection']]


def test_a_start_that_waits_too_long_is_an_answer_and_not_made_later(scripted, monkeypatch):
    monkeypatch.setattr(node_module, '_START_TIMEOUT_S', 0.05)
    bench = scripted()
    bench.see(SURE)
    bench.init(target_id='first')
    gate = Gate(bench)
    gate.hold()
    for answer in (bench.init(target_id='second'), bench.stop()):
        assert not answer.success
        assert 'busy' in answer.message
    gate.open()
    assert bench.track(SURE).id == 'first'
    assert len(bench.tracker.starts) == 1


def test_a_tracker_that_fails_on_an_image_loses_its_target_and_no_more(scripted, capfd):
    bench = scripted()
    bench.see(SURE)
    bench.init()

    def fail(image):
        raise ZeroDivisionError('in the depths')

    bench.tracker.before = fail
    bench.send(SURE)
    # By its reason: a state of before the start, which is idle too, may be read only now.
    state = bench.until_state(lambda state: state.reason == 'the tracker failed: in the depths')
    assert state.state == TrackerState.IDLE
    assert 'the tracker failed: ZeroDivisionError: in the depths' in capfd.readouterr().err
    bench.tracker.before = lambda image: None
    assert bench.init().target_id == 'target_2'
    assert bench.track(SURE).id == 'target_2'


# Hostile images


def hostile(header):
    def image(**fields):
        whole = {'width': 8, 'height': 6, 'encoding': 'bgr8', 'step': 24, 'data': bytes(144)}
        return Image(header=header, **{**whole, **fields})

    return [
        image(encoding='nonsense'),
        image(encoding=''),
        image(encoding='32FC1', step=32, data=bytes(192)),
        image(width=0),
        image(height=0),
        image(width=2**32 - 1, height=2**32 - 1, step=2**32 - 1),
        image(step=1),
        image(data=b''),
        image(data=bytes(143)),
        image(encoding='nv12', width=7, step=7),
        image(encoding='bayer_rggb8', width=1, height=1, step=1),
        image(encoding='x' * 10_000),
    ]


def test_images_that_are_none_are_refused_once_each_and_the_node_goes_on(bench, package, capfd):
    bench = bench(model=package)
    square = Square()
    bench.see(square.at(60, 50))
    bench.init(square.box(60, 50))
    for _ in range(2):
        for message in hostile(bench.header()):
            before = bench.node._counts.refused
            bench.send(message)
            bench.until(lambda count=before: bench.node._counts.refused == count + 1)
    detection = bench.track(square.at(62, 50))
    assert box_of(detection).iou(square.box(62, 50)) > 0.6
    complaints = [line for line in capfd.readouterr().err.splitlines() if 'image refused' in line]
    assert len(complaints) == len(set(complaints)) == len(hostile(Header()))
    assert max(map(len, complaints)) < 1000


def test_compressed_images_that_are_none_are_refused(scripted):
    bench = scripted(image_transport='compressed', image_type=CompressedImage)
    bench.see(SURE)
    bench.init()
    jpeg = bytes(to_compressed_message(SURE, Header()).data)
    broken = [b'', b'\xff\xd8\xff', jpeg[:100], jpeg[:-2], bytes(1000)]
    for number, data in enumerate(broken):
        bench.send(CompressedImage(header=bench.header(), format='jpeg', data=data))
        bench.until(lambda count=number: bench.node._counts.refused == count + 1)
    assert bench.track(SURE).id == 'target_1'


def test_every_size_of_image_is_answered(bench):
    """The default tracker, and images that change their size while it follows."""
    bench = bench(model='csrt')
    square = Square()
    bench.see(square.at(60, 50))
    assert bench.init(square.box(60, 50)).success
    for picture in (square.at(62, 50)[:90, :120], square.at(62, 50), square.at(62, 50)[:3, :3]):
        bench.see(picture)
        bench.node._worker.call(lambda: None).result(WAIT_S)
    bench.see(square.at(60, 50))
    assert bench.init(square.box(60, 50)).success
    assert box_of(bench.track(square.at(62, 50))).iou(square.box(62, 50)) > 0.6


# The debug image


def test_nothing_is_drawn_unless_somebody_looks(scripted, monkeypatch):
    shown, show = [], DebugView.show
    monkeypatch.setattr(DebugView, 'show', lambda *args: (shown.append(1), show(*args)))
    bench = scripted()
    bench.see(SURE)
    bench.init()
    bench.track(SURE)
    assert shown == []
    viewer = bench.listen('debug', Image, 'tracker/debug_image', 1)
    bench.meet()
    header = bench.track(SURE).header
    bench.until(lambda: bench.received['debug'])
    assert bench.received['debug'][-1].header == header
    count = len(shown)
    assert count >= 1
    bench.peer.destroy_subscription(viewer)
    del bench.received['debug']
    bench.until(lambda: not bench.node._debug.is_watched())
    bench.track(SURE)
    assert len(shown) == count


def test_the_debug_image_is_there_without_a_target_too(scripted):
    bench = scripted(debug_scale=0.5)
    bench.listen('debug', Image, 'tracker/debug_image', 1)
    bench.meet()
    bench.send(SURE)
    bench.until(lambda: bench.received['debug'])
    newest = bench.received['debug'][-1]
    assert (newest.width, newest.height) == (32, 24)
    assert bench.received['detection'] == []


def test_the_smallest_debug_image_is_one_pixel(scripted):
    bench = scripted(debug_scale=0.05)
    bench.listen('debug', Image, 'tracker/debug_image', 1)
    bench.meet()
    bench.send(picture_saying(1.0, width=3, height=5))
    bench.until(lambda: bench.received['debug'])
    assert (bench.received['debug'][-1].width, bench.received['debug'][-1].height) == (1, 1)


def test_the_quality_of_the_debug_jpeg_can_be_set(scripted):
    bench = scripted(debug_jpeg_quality=95)
    bench.listen('jpeg', CompressedImage, 'tracker/debug_image/compressed', 1)
    bench.meet()
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    sizes = []
    for quality in (95, 10):
        assert bench.set(debug_jpeg_quality=quality)[0].successful
        header = bench.send(noise)
        bench.until(lambda h=header: h in [each.header for each in bench.received['jpeg']])
        newest = bench.received['jpeg'][-1]
        sizes.append(len(newest.data))
        assert cv2.imdecode(np.array(newest.data), cv2.IMREAD_COLOR).shape == (120, 160, 3)
    assert sizes[1] < 0.5 * sizes[0]


# Parameters


def test_parameters_change_while_it_runs(scripted):
    bench = scripted(lost_after_frames=100, uncertain_after_frames=100)
    bench.see(SURE)
    bench.init()
    bench.track(BAD)
    assert bench.state.state == TrackerState.STARTING
    assert bench.set(lost_after_frames=1, class_id='boat')[0].successful
    assert bench.track(BAD).results == []
    assert bench.state.state == TrackerState.LOST
    assert bench.set(score_lost=0.0, score_sure=0.0, sure_after_frames=1)[0].successful
    detection = bench.track(BAD)
    assert bench.state.state == TrackerState.TRACKING
    assert detection.results[0].hypothesis.class_id == 'boat'
    assert bench.set(smallest_box_px=18.0)[0].successful
    assert bench.init().code == INIT.BOX_TOO_SMALL
    assert bench.set(image_timeout_s=60.0)[0].successful
    assert bench.node._camera._images.silent_after_s == 60.0


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'model': 'vittrack'}, 'model: read when the node is configured'),
        ({'threads': 2}, 'threads: read when the node is configured'),
        ({'image_transport': 'compressed'}, 'image_transport: read when'),
        ({'debug_scale': 7.0}, '7'),
        ({'lost_after_frames': 0}, '0'),
        ({'score_lost': math.nan}, 'score_lost out of range'),
        ({'score_lost': 0.9}, 'score_sure'),
        ({'debug_scale': 1}, "expected 'Type.DOUBLE'"),
        ({'class_id': 5}, "expected 'Type.STRING'"),
        ({'no_such_thing': 5}, 'undeclared'),
        ({'threads': None}, 'cannot be undeclared'),
    ],
)
def test_changes_that_cannot_be_are_refused_with_the_reason(standing, change, words):
    standing.set(score_lost=0.1, score_sure=0.5)
    standing.set(score_sure=0.5)
    before = standing.node.parameters
    (result,) = standing.set(**change)
    assert not result.successful
    assert words in result.reason
    assert standing.node.parameters == before


def test_a_fixed_parameter_may_be_set_to_what_it_is(standing, package):
    assert standing.set(model=package, threads=1)[0].successful


# The life cycle


def test_a_node_that_is_not_active_says_so(bench, package):
    bench = bench(model=package, start=False)
    for answer, code in ((bench.init(), INIT.NOT_READY), (bench.stop(), STOP.NOT_READY)):
        assert answer.code == code
        assert 'not active' in answer.message
    assert bench.enable(True).success


def test_a_deactivated_node_lets_go_of_camera_and_target(scripted):
    bench = scripted()
    bench.see(SURE)
    bench.init()
    assert bench.change(Transition.TRANSITION_DEACTIVATE)
    state = bench.until_state(lambda state: state.reason == 'the node is not active')
    assert state.state == TrackerState.IDLE
    assert state.target_id == ''
    assert bench.init().code == INIT.NOT_READY
    late = []
    bench.peer.create_subscription(TrackerState, 'tracker/state', late.append, LATCHED)
    bench.until(lambda: late)
    assert late[0].state == TrackerState.IDLE
    assert bench.camera.get_subscription_count() == 0
    assert bench.change(Transition.TRANSITION_ACTIVATE)
    bench.meet()
    assert bench.init().code == INIT.NO_IMAGE, 'the old image is not kept'
    bench.see(SURE)
    assert bench.init().success
    assert bench.state.frames_seen >= 1


def test_counters_go_on_until_the_next_configuration(scripted):
    bench = scripted()
    for _ in range(2):
        bench.see(SURE)
        bench.init()
        gate = Gate(bench)
        gate.hold()
        bench.see(SURE)
        last = bench.see(SURE)
        gate.open()
        bench.until(lambda h=last: bench.received['detection'][-1].header == h)
        bench.change(Transition.TRANSITION_DEACTIVATE)
        bench.change(Transition.TRANSITION_ACTIVATE)
        bench.meet()
    bench.until_state(lambda state: state.frames_seen == 8)
    assert (bench.state.frames_processed, bench.state.frames_dropped) == (6, 2)
    bench.change(Transition.TRANSITION_DEACTIVATE)
    bench.change(Transition.TRANSITION_CLEANUP)
    bench.received['state'].clear()
    bench.start()
    bench.until_state(lambda state: state.frames_seen == state.frames_processed == 0)


def test_a_node_can_be_given_another_model(bench, package):
    bench = bench(model='csrt')
    assert bench.change(Transition.TRANSITION_DEACTIVATE)
    assert not bench.set(model=package)[0].successful
    assert bench.change(Transition.TRANSITION_CLEANUP)
    assert bench.set(model=package)[0].successful
    bench.start()
    square = Square()
    bench.see(square.at(60, 50))
    assert bench.init(square.box(60, 50)).success
    bench.track(square.at(62, 50))
    assert bench.state.model == package


def test_a_model_that_is_not_there_can_be_corrected(bench, package, capfd):
    bench = bench(model='vitrack', start=False)
    assert not bench.change(Transition.TRANSITION_CONFIGURE)
    assert "model 'vitrack': there is no model 'vitrack'; known are" in capfd.readouterr().err
    assert bench.lifecycle_state() == LifecycleState.PRIMARY_STATE_UNCONFIGURED
    assert bench.set(model=package)[0].successful
    bench.start()


def test_an_unforeseen_error_of_a_transition_is_told(bench, package, monkeypatch, capfd):
    def fail(*_, **__):
        raise ZeroDivisionError('in the depths')

    bench = bench(model=package, start=False)
    with monkeypatch.context() as patch:
        patch.setattr(node_module, 'create', fail)
        assert not bench.change(Transition.TRANSITION_CONFIGURE)
    assert 'on_configure: ZeroDivisionError: in the depths' in capfd.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(node_module, 'Camera', fail)
        assert bench.change(Transition.TRANSITION_CONFIGURE)
        assert not bench.change(Transition.TRANSITION_ACTIVATE)
    assert 'on_activate: ZeroDivisionError: in the depths' in capfd.readouterr().err
    assert bench.lifecycle_state() == LifecycleState.PRIMARY_STATE_UNCONFIGURED
    bench.start()


def test_an_impossible_quality_of_service_is_named(graph, bench, package, capfd):
    name = f'/bench{next(numbers)}'
    parameter = f'qos_overrides.{name}/image_raw.subscription.reliability'
    bench = bench(model=package, start=False, namespace=name, **{parameter: 'splendid'})
    assert bench.change(Transition.TRANSITION_CONFIGURE)
    threads = threading.active_count()
    for _ in range(2):
        assert not bench.change(Transition.TRANSITION_ACTIVATE)
        assert f"{parameter} is 'splendid': it must be one of" in capfd.readouterr().err
        assert bench.lifecycle_state() == LifecycleState.PRIMARY_STATE_INACTIVE
        assert threading.active_count() == threads
    assert bench.init().code == INIT.NOT_READY


@pytest.mark.parametrize(
    'transition',
    [Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_CONFIGURE, 99, 255],
)
def test_a_transition_that_cannot_be_is_refused(standing, transition):
    assert not standing.change(transition)
    assert standing.lifecycle_state() == LifecycleState.PRIMARY_STATE_ACTIVE


def test_a_node_is_shut_down_while_it_works(scripted):
    bench = scripted()
    bench.see(SURE)
    bench.init()
    threads = threading.active_count()
    assert bench.change(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert bench.lifecycle_state() == LifecycleState.PRIMARY_STATE_FINALIZED
    assert threading.active_count() == threads - 2
    assert bench.init().code == INIT.NOT_READY


def test_a_node_is_deactivated_while_its_tracker_is_busy(scripted):
    bench = scripted()
    bench.see(SURE)
    bench.init()
    entered = threading.Event()
    worker = bench.node._worker

    def hold_until_told_to_stop(image):
        entered.set()
        with worker._changed:
            assert worker._changed.wait_for(lambda: not worker._running, WAIT_S)

    bench.tracker.before = hold_until_told_to_stop
    header = bench.send(SURE)
    bench.until(entered.is_set)
    waiting = worker.call(lambda: None)
    assert bench.change(Transition.TRANSITION_DEACTIVATE)
    assert waiting.cancelled()
    assert not worker._thread.is_alive()
    bench.until(lambda: bench.received['detection'][-1].header == header)
    bench.until_state(lambda state: state.state == TrackerState.IDLE)


def test_cycles_leave_nothing_behind(scripted):
    bench = scripted()

    def holdings():
        node = bench.node
        entities = (node.publishers, node.subscriptions, node.timers, node.services, node.clients)
        return (
            *(len(list(each)) for each in entities),
            len(node._managed_entities),
            threading.active_count(),
        )

    before = holdings()
    for _ in range(3):
        for transition in (
            Transition.TRANSITION_DEACTIVATE,
            Transition.TRANSITION_CLEANUP,
            Transition.TRANSITION_CONFIGURE,
            Transition.TRANSITION_ACTIVATE,
        ):
            assert bench.change(transition)
    assert holdings() == before


# Time


def test_simulated_time_may_stand_still(scripted):
    bench = scripted(use_sim_time=True, tick_s=0.05)
    bench.see(SURE)
    bench.init()
    bench.track(SURE)
    assert math.isnan(bench.state.frame_age_s)
    count = len(bench.received['state'])
    bench.until(lambda: len(bench.received['state']) > count)


def test_ages_are_told_in_simulated_time(scripted):
    bench = scripted(use_sim_time=True)
    clock = bench.peer.create_publisher(Clock, '/clock', 1)
    bench.until(clock.get_subscription_count)
    clock.publish(Clock(clock=Time(sec=1000)))
    bench.until(lambda: bench.node.get_clock().now().nanoseconds)
    bench.see(SURE)
    bench.init()
    picture = to_message(SURE, Header(stamp=Time(sec=999, nanosec=500_000_000)))
    bench.send(picture)
    state = bench.until_state(lambda state: state.header == picture.header)
    assert state.frame_age_s == pytest.approx(0.5)


def test_a_picture_without_a_time_has_no_age(scripted):
    bench = scripted()
    bench.see(SURE)
    bench.init()
    picture = to_message(SURE, Header(frame_id='camera'))
    bench.send(picture)
    state = bench.until_state(lambda state: state.header == picture.header)
    assert math.isnan(state.frame_age_s)


def test_silence_is_told(scripted, capfd):
    bench = scripted(image_timeout_s=0.1, tick_s=0.05)
    bench.listen('diagnostics', DiagnosticArray, '/diagnostics')
    bench.until(lambda: len(bench.received['diagnostics']) >= 10)
    said = capfd.readouterr().err
    assert said.count(f"nothing came on '{bench.namespace}/image_raw'") == 1
    assert f'{bench.namespace}/peer_of_tracker' in said, 'who publishes it'
    assert 'best effort' in said, 'and with which quality of service'


# The process

NODE = 'tracker_ros.ros.node'


@pytest.fixture
def program():
    """Starts the node's program; whatever still runs is ended after the test."""
    environment = dds_environment(DOMAIN_ID)
    started = []

    def start(**options):
        started.append(Child('tracker', node_command(NODE, **options), environment))
        return started[-1]

    yield start
    for child in started:
        child.end(grace_s=10)


def test_a_program_that_cannot_start_says_why(program, tmp_path):
    broken = tmp_path / 'broken.yaml'
    broken.write_text('tracker: [')
    wrong = tmp_path / 'wrong.yaml'
    wrong.write_text('/**:\n  ros__parameters:\n    lost_after_frames: many\n')
    cases = [
        ({'parameters': {'model': 'vittrack'}}, 'tracker_ros models fetch vittrack'),
        ({'parameters': {'model': 'vitrack'}}, "there is no model 'vitrack'; known are"),
        ({'parameters': {'model': 3}}, "parameter 'model' to '3' of type 'INTEGER'"),
        ({'parameters': {'runtime': 'tpu'}}, "runtime is 'tpu', but must be one of"),
        ({'parameters': {'debug_scale': 70.0}}, 'debug_scale'),
        ({'params_file': wrong}, "parameter 'lost_after_frames' to 'many'"),
        ({'params_file': broken}, "Couldn't parse params file"),
        ({'params_file': tmp_path / 'none.yaml'}, 'none.yaml'),
    ]
    started = [(program(**options), words) for options, words in cases]
    for child, words in started:
        assert child.wait(120) == 1, child.log_tail()
        assert words in child.log_tail()
        assert 'Traceback' not in child.log_tail()


def is_in(graph, peer, namespace, state):
    """Waits until the node of a program is in this state of its life cycle."""
    client = peer.create_client(GetState, f'{namespace}/tracker/get_state')
    graph.spin_until(client.service_is_ready, 60)
    while True:
        if graph.ask(client, GetState.Request()).current_state.id == state:
            return


class Work:
    """Keeps a program's node at work: a camera, an operator, and somebody who watches."""

    def __init__(self, graph, space):
        self.graph = graph
        self.peer = graph.node('peer', namespace=space)
        self.detections, self.pictures = [], []
        self.camera = self.peer.create_publisher(Image, 'image_raw', qos_profile_sensor_data)
        self.peer.create_subscription(Image, 'tracker/debug_image', self.pictures.append, 1)
        self.peer.create_subscription(Detection2D, 'tracker/detection', self.detections.append, 10)
        self.init = self.peer.create_client(InitTarget, 'tracker/init_target')
        self.peer.create_timer(0.1, self._send)

    def _send(self):
        stamp = self.peer.get_clock().now().to_msg()
        self.camera.publish(to_message(Square().at(60, 50), Header(stamp=stamp)))

    def begin(self):
        self.graph.spin_until(self.init.service_is_ready, 60)
        answer = None
        while answer is None or answer.code in (INIT.NO_IMAGE, INIT.NOT_READY):
            request = InitTarget.Request()
            set_box(request.bbox, Square().box(60, 50))
            answer = self.graph.ask(self.init, request)
        assert answer.success, answer.message

    def is_going_on(self):
        return self.pictures and len(self.detections) > 2


def test_a_program_ends_in_order_while_it_works(graph, program):
    endings = ([signal.SIGINT], [signal.SIGINT] * 100, [signal.SIGTERM])
    spaces = [f'/ending{number}' for number in range(len(endings))]
    children = [program(namespace=space, parameters={'model': 'csrt'}) for space in spaces]
    works = [Work(graph, space) for space in spaces]
    try:
        for work in works:
            work.begin()
        graph.spin_until(lambda: all(work.is_going_on() for work in works))
        for child, numbers in zip(children, endings, strict=True):
            for number in numbers:
                child._process.send_signal(number)
                graph.executor.spin_once(timeout_sec=0.01)
        graph.spin_until(lambda: not any(child.is_running() for child in children))
    finally:
        for work in works:
            graph.remove(work.peer)
    for child in children:
        assert child.wait(1) == 0, child.log_tail()
        assert 'Traceback' not in child.log_tail()
        assert 'failed' not in child.log_tail()


def test_a_program_waits_for_its_manager_and_survives_nonsense(graph, program):
    space = f'/waiting{next(numbers)}'
    child = program(namespace=space, parameters={'autostart': False})
    peer = graph.node('peer')
    try:
        is_in(graph, peer, space, LifecycleState.PRIMARY_STATE_UNCONFIGURED)
        client = peer.create_client(SetParameters, f'{space}/tracker/set_parameters')
        nonsense = ParameterMessage(name='threads', value=ParameterValue(type=77))
        client.call_async(SetParameters.Request(parameters=[nonsense]))
        number = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=1)
        sensible = ParameterMessage(name='threads', value=number)
        graph.spin_until(client.service_is_ready)
        answer = graph.ask(client, SetParameters.Request(parameters=[sensible]))
        assert answer.results[0].successful
        change = peer.create_client(ChangeState, f'{space}/tracker/change_state')
        graph.spin_until(change.service_is_ready)
        for transition, success in (
            (Transition.TRANSITION_ACTIVATE, False),
            (Transition.TRANSITION_CONFIGURE, True),
            (Transition.TRANSITION_ACTIVATE, True),
        ):
            request = ChangeState.Request(transition=Transition(id=transition))
            assert graph.ask(change, request).success is success
        is_in(graph, peer, space, LifecycleState.PRIMARY_STATE_ACTIVE)
        child._process.send_signal(signal.SIGINT)
        graph.spin_until(lambda: not child.is_running())
    finally:
        graph.remove(peer)
    assert child.wait(1) == 0, child.log_tail()
    assert 'Traceback' not in child.log_tail()


def test_a_program_that_is_interrupted_while_it_starts_ends_in_order(program):
    """At whatever point it is hit; before its first line the interpreter itself answers."""
    started = [program(parameters={'model': 'csrt'}, log_level='debug') for _ in range(3)]
    for number, child in enumerate(started):
        child.wait_until(
            lambda c=child, n=number: len(c._lines) > 40 * n, 60, f'{40 * number} lines of log'
        )
        child._process.send_signal(signal.SIGINT)
    for child in started:
        assert child.wait(60) == 0, child.log_tail()
        assert 'Traceback' not in child.log_tail()
