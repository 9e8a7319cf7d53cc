# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import yaml
from bag_files import write_bag
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_graph import DOMAIN_ID, RosGraph
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from tracker_ros.footage import FootageError
from tracker_ros.ros.bag import BagError
from tracker_ros.ros.camera_info import CameraInfoError
from tracker_ros.ros.images import decode_compressed, to_bgr, to_compressed_message, to_message
from tracker_ros.ros.reel import _thinned
from tracker_ros.ros.video_source import Deadlines, SettingError, VideoSource

COUNT = 6
QUICK_HZ = 200.0
EVERYTHING = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)


def picture(number, width=32, height=24):
    """A flat picture whose grey level tells its number, also after JPEG."""
    return np.full((height, width, 3), 10 + 20 * number, np.uint8)


def number_of(bgr):
    return round((float(bgr.mean()) - 10) / 20)


@pytest.fixture
def folder(tmp_path):
    """Footage of COUNT frames."""
    path = tmp_path / 'pictures'
    path.mkdir()
    for number in range(COUNT):
        cv2.imwrite(str(path / f'{number}.png'), picture(number))
    return path


@pytest.fixture
def graph():
    graph = RosGraph()
    yield graph
    graph.close()


class Camera:
    """A VideoSource and somebody who looks at it; it waits for `play`."""

    def __init__(self, graph, source, **parameters):
        self.graph = graph
        settings = {'source': str(source), 'rate_hz': QUICK_HZ, 'start_paused': True, **parameters}
        self.source = graph.node(
            'video_source',
            VideoSource,
            parameter_overrides=[Parameter(name, value=value) for name, value in settings.items()],
        )
        self.viewer = graph.node('viewer')
        self.raw, self.compressed, self.infos = [], [], []
        for kind, topic, received in (
            (Image, 'image_raw', self.raw),
            (CompressedImage, 'image_raw/compressed', self.compressed),
            (CameraInfo, 'camera_info', self.infos),
        ):
            self.viewer.create_subscription(kind, topic, received.append, EVERYTHING)

    def close(self):
        self.graph.executor.remove_node(self.source)
        self.source.close()

    def call(self, kind, name, request):
        client = self.viewer.create_client(kind, f'video_source/{name}')
        self.graph.spin_until(client.service_is_ready)
        future = client.call_async(request)
        self.graph.spin_until(future.done)
        return future.result()

    def play(self):
        outputs = self.source._outputs.values()
        self.graph.spin_until(lambda: all(out.get_subscription_count() for out in outputs))
        return self.call(SetBool, 'pause', SetBool.Request(data=False))

    def pause(self):
        return self.call(SetBool, 'pause', SetBool.Request(data=True))

    def restart(self):
        return self.call(Trigger, 'restart', Trigger.Request())

    def numbers(self):
        return [number_of(to_bgr(message)) for message in self.raw]


@pytest.fixture
def camera(graph):
    cameras = []

    def make(source, **parameters):
        cameras.append(Camera(graph, source, **parameters))
        return cameras[-1]

    yield make
    for made in cameras:
        made.close()
        graph._nodes.remove(made.source)


def test_every_picture_is_published_once_with_its_camera_info(camera, graph, folder):
    watched = camera(folder)
    assert watched.play().success
    graph.spin_until(lambda: len(watched.raw) == len(watched.infos) == COUNT)
    assert watched.numbers() == list(range(COUNT))
    assert {message.header.frame_id for message in watched.raw} == {'camera'}
    stamps = [(message.header.stamp.sec, message.header.stamp.nanosec) for message in watched.raw]
    assert stamps == sorted(set(stamps))
    assert [info.header for info in watched.infos] == [message.header for message in watched.raw]
    info = watched.infos[0]
    assert (info.width, info.height, info.k[0]) == (32, 24, 0.0)
    assert watched.compressed == []


def test_stamps_are_of_publishing(camera, graph, folder):
    watched = camera(folder)
    before = watched.viewer.get_clock().now()
    watched.play()
    graph.spin_until(lambda: len(watched.raw) == COUNT)
    first = watched.raw[0].header.stamp
    assert before.nanoseconds <= first.sec * 10**9 + first.nanosec
    assert first.sec * 10**9 + first.nanosec <= watched.viewer.get_clock().now().nanoseconds


def test_a_video_is_played(camera, graph, tmp_path):
    path = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 100.0, (32, 24))
    for number in range(COUNT):
        writer.write(picture(number))
    writer.release()
    watched = camera(path, rate_hz=0, frame_id='front')
    watched.play()
    graph.spin_until(lambda: len(watched.raw) == COUNT)
    assert watched.numbers() == list(range(COUNT))
    assert watched.raw[0].header.frame_id == 'front'


def test_nothing_comes_before_it_is_told_to_play(camera, graph, folder, monkeypatch):
    published = []
    monkeypatch.setattr(VideoSource, '_publish', lambda self, _: published.append(1))
    watched = camera(folder)
    assert watched.pause().message.endswith('is paused')
    assert published == []
    watched.play()
    graph.spin_until(lambda: len(published) == COUNT)


def test_pausing_loses_and_repeats_nothing(camera, graph, folder):
    watched = camera(folder, loop=True, rate_hz=1000.0)
    watched.play()
    for _ in range(3):
        seen = len(watched.raw)
        graph.spin_until(lambda seen=seen: len(watched.raw) > seen + 2 * COUNT)
        watched.pause()
        watched.play()
    seen = len(watched.raw)
    graph.spin_until(lambda: len(watched.raw) > seen + COUNT)
    numbers = watched.numbers()
    assert numbers == [number % COUNT for number in range(len(numbers))]


def test_a_paused_picture_is_repeated_on_request(camera, graph, folder, monkeypatch):
    """So that a target can be chosen in the first picture; each camera info still comes once."""
    monkeypatch.setattr('tracker_ros.ros.video_source._REPEAT_S', 0.01)
    watched = camera(folder, repeat_while_paused=True)
    graph.spin_until(lambda: len(watched.raw) >= 3)
    assert set(watched.numbers()) == {0}
    assert watched.infos == []
    watched.play()
    graph.spin_until(lambda: len(watched.infos) == COUNT and watched.numbers()[-1] == COUNT - 1)
    assert watched.numbers()[-COUNT:] == list(range(COUNT))


def test_once_paused_nothing_more_is_sent(camera, graph, folder, monkeypatch):
    published = []
    publish = VideoSource._publish

    def counted(self, picture):
        publish(self, picture)
        published.append(1)

    monkeypatch.setattr(VideoSource, '_publish', counted)
    watched = camera(folder, loop=True, rate_hz=1000.0)
    watched.play()
    graph.spin_until(lambda: len(published) > COUNT)
    watched.pause()
    at_pause = len(published)
    watched.pause()
    graph.spin_until(lambda: len(watched.raw) == at_pause)
    assert len(published) == at_pause


def test_compressed_and_both(camera, graph, folder):
    watched = camera(folder, image_transport='compressed')
    watched.play()
    graph.spin_until(lambda: len(watched.compressed) == len(watched.infos) == COUNT)
    assert [number_of(decode_compressed(m)) for m in watched.compressed] == list(range(COUNT))
    assert watched.raw == []


def test_both_transports_have_the_same_header(camera, graph, folder):
    watched = camera(folder, image_transport='both')
    watched.play()
    graph.spin_until(lambda: len(watched.compressed) == len(watched.raw) == COUNT)
    assert [m.header for m in watched.compressed] == [m.header for m in watched.raw]


def test_jpeg_quality(camera, graph, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'noise.png'), noise)
    watched = camera(tmp_path, image_transport='compressed', jpeg_quality=20)
    watched.play()
    graph.spin_until(lambda: watched.compressed)
    expected = to_compressed_message(noise, Header(), 20)
    assert watched.compressed[0].data == expected.data


def test_loop_and_start_frame(camera, graph, folder):
    watched = camera(folder, loop=True, start_frame=2)
    watched.play()
    graph.spin_until(lambda: len(watched.raw) >= 11)
    assert watched.numbers()[:11] == [2, 3, 4, 5, 2, 3, 4, 5, 2, 3, 4]


def test_restart_after_the_end_and_in_the_middle(camera, graph, folder):
    watched = camera(folder, start_frame=1)
    watched.play()
    graph.spin_until(lambda: len(watched.raw) == COUNT - 1)
    response = watched.restart()
    assert response.success
    assert response.message.endswith('begins again at frame 1')
    graph.spin_until(lambda: len(watched.raw) == 2 * (COUNT - 1))
    assert watched.numbers() == [1, 2, 3, 4, 5] * 2

    watched.pause()
    watched.restart()
    watched.restart()
    watched.play()
    graph.spin_until(lambda: len(watched.raw) == 3 * (COUNT - 1))
    assert watched.numbers() == [1, 2, 3, 4, 5] * 3


def test_it_ends_when_told_to(camera, graph, folder):
    watched = camera(folder, exit_at_end=True)
    watched.play()
    graph.spin_until(watched.source.ended.done)
    assert watched.source.ended.result() == 0
    graph.spin_until(lambda: len(watched.raw) == COUNT)


def test_a_picture_that_cannot_be_read_ends_it_with_an_error(camera, graph, folder):
    (folder / '3.png').write_bytes(b'not a picture')
    watched = camera(folder)
    watched.play()
    graph.spin_until(watched.source.ended.done)
    assert watched.source.ended.result() == 1
    graph.spin_until(lambda: len(watched.raw) == 3)


def test_closing_while_it_plays_and_while_it_waits(graph, folder):
    for settings in ({'loop': True}, {'start_paused': True}, {}, {'rate_hz': 0.01}):
        source = VideoSource(
            context=graph.context,
            parameter_overrides=[
                Parameter(name, value=value)
                for name, value in {'source': str(folder), **settings}.items()
            ],
        )
        source.close()
        assert not source._player.is_alive()


# Bags


def bag_of(path, messages):
    return write_bag(path / 'drive.mcap', messages)


def header(frame_id):
    return Header(frame_id=frame_id)


def recorded(kind, count=COUNT):
    infos = [('/eye/camera_info', 0.0, CameraInfo(width=32, height=24, k=[5.0] * 9))]
    make = to_message if kind == 'raw' else to_compressed_message
    topic = '/eye/image_raw' + ('' if kind == 'raw' else '/compressed')
    return infos + [
        (topic, 1.0 + number / 100, make(picture(number), header('eye')))
        for number in range(count)
    ]


@pytest.mark.parametrize('kind', ['raw', 'compressed'])
@pytest.mark.parametrize('rate_hz', [0.0, QUICK_HZ])
def test_a_bag_is_played_in_both_transports(camera, graph, tmp_path, kind, rate_hz):
    path = bag_of(tmp_path, recorded(kind))
    watched = camera(path, image_transport='both', rate_hz=rate_hz)
    watched.play()
    graph.spin_until(lambda: len(watched.raw) == len(watched.compressed) == COUNT)
    assert watched.numbers() == list(range(COUNT))
    assert [number_of(decode_compressed(m)) for m in watched.compressed] == list(range(COUNT))
    assert {m.header.frame_id for m in watched.raw + watched.compressed} == {'eye'}
    assert watched.infos[0].k[0] == 5.0


def test_a_recorded_jpeg_is_passed_on_as_it_is(camera, graph, tmp_path):
    messages = recorded('compressed')
    watched = camera(bag_of(tmp_path, messages), image_transport='compressed')
    watched.play()
    graph.spin_until(lambda: len(watched.compressed) == COUNT)
    assert [m.data for m in watched.compressed] == [m.data for _, _, m in messages[1:]]


def test_a_bag_without_calibration_gets_the_size(camera, graph, tmp_path):
    path = bag_of(tmp_path, recorded('compressed')[1:])
    watched = camera(path, image_transport='compressed', frame_id='other')
    watched.play()
    graph.spin_until(lambda: len(watched.infos) == COUNT)
    info = watched.infos[0]
    assert (info.width, info.height, info.k[0], info.header.frame_id) == (32, 24, 0.0, 'other')


def test_a_topic_of_the_bag_is_chosen(camera, graph, tmp_path):
    other = [('/a_second/image_raw', 1.0, to_message(picture(9), header('second')))]
    path = bag_of(tmp_path, recorded('raw') + other)
    watched = camera(path, topic='/eye/image_raw')
    watched.play()
    graph.spin_until(lambda: len(watched.raw) == COUNT)
    assert watched.numbers() == list(range(COUNT))


# Cameras


class FakeCamera:
    """Stands for a webcam which gives pictures 0, 1, 2 ... each when the test allows it."""

    allowed = threading.Semaphore(0)
    unplugged = False
    asked = 0

    def __init__(self, index):
        self.count = -1  # the first picture is read when it is opened

    def isOpened(self):  # noqa: N802  (OpenCV's name)
        return True

    def read(self):
        FakeCamera.asked += 1
        if self.count >= 0:
            FakeCamera.allowed.acquire()
        if FakeCamera.unplugged:
            return False, None
        self.count += 1
        return True, picture(self.count % COUNT)

    def get(self, prop):
        return 25.0

    def release(self):
        pass


@pytest.fixture
def webcam(camera, monkeypatch):  # its end, which lets a waiting camera go, comes first
    monkeypatch.setattr(cv2, 'VideoCapture', FakeCamera)
    monkeypatch.setattr(FakeCamera, 'allowed', threading.Semaphore(0))
    monkeypatch.setattr(FakeCamera, 'unplugged', False)
    monkeypatch.setattr(FakeCamera, 'asked', 0)
    yield FakeCamera
    FakeCamera.unplugged = True
    FakeCamera.allowed.release()


def test_a_camera_is_live(webcam, camera, graph):
    watched = camera(0, rate_hz=0.0)
    watched.play()
    for number in range(1, 5):
        webcam.allowed.release()
        graph.spin_until(lambda number=number: len(watched.raw) == number)
    assert watched.numbers() == [1, 2, 3, 4]
    response = watched.restart()
    assert not response.success
    assert 'camera 0 (32x24) is live' in response.message


def test_of_a_paused_camera_only_the_newest_picture_is_kept(webcam, camera, graph):
    watched = camera('0', rate_hz=0.0)
    webcam.allowed.release(4)
    graph.spin_until(lambda: webcam.asked == 1 + 4 + 1)  # it waits for the fifth
    watched.play()
    graph.spin_until(lambda: watched.numbers()[-1:] == [4])
    # One may have been in the player's hand when it was told to wait.
    assert len(watched.raw) <= 2


def test_an_unplugged_camera_ends_it_with_an_error(webcam, camera, graph):
    watched = camera(0)
    watched.play()
    webcam.unplugged = True
    webcam.allowed.release()
    graph.spin_until(watched.source.ended.done)
    assert watched.source.ended.result() == 1


def test_a_live_source_is_thinned_to_the_rate(monkeypatch):
    now_s = iter(np.arange(0, 10, 1 / 30))
    monkeypatch.setattr('time.monotonic', lambda: float(next(now_s)))
    assert list(_thinned(iter(range(12)), 0.1)) == [0, 3, 6, 9]


def test_at_its_own_rate_a_live_source_is_not_thinned(monkeypatch):
    jitter = [0.0, 0.099, 0.202, 0.298, 0.401, 0.5]
    monkeypatch.setattr('time.monotonic', iter(jitter).__next__)
    assert list(_thinned(iter(range(6)), 0.1)) == [0, 1, 2, 3, 4, 5]


# Settings


def refused(graph, **parameters):
    VideoSource(
        context=graph.context,
        parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()],
    ).close()


@pytest.mark.parametrize(
    ('parameters', 'words'),
    [
        ({}, 'source is empty: name a video'),
        ({'source': 2.5}, r'source is 2\.5: it must be a path'),
        ({'source': 'x', 'image_transport': 'theora'}, "'theora': .* raw, compressed, both"),
        ({'source': 'x', 'reliability': 'maybe'}, "'maybe': .* reliable, best_effort"),
        ({'source': 'x', 'rate_hz': -1.0}, r'rate_hz is -1\.0: .* between 0 and 1000'),
        ({'source': 'x', 'rate_hz': float('nan')}, 'rate_hz is nan'),
        ({'source': 'x', 'rate_hz': 'fast'}, "rate_hz is 'fast': it must be a number"),
    ],
)
def test_impossible_settings_are_named(graph, parameters, words):
    with pytest.raises(SettingError, match=words):
        refused(graph, **parameters)


def test_wrong_sources_are_named(graph, tmp_path):
    with pytest.raises(FootageError, match='does not exist'):
        refused(graph, source='/no/such/clip.mp4')
    with pytest.raises(FootageError, match='camera 987'):
        refused(graph, source=987)
    with pytest.raises(BagError, match='does not exist'):
        refused(graph, source='/no/such/drive.mcap')
    with pytest.raises(BagError, match="no images on '/up'"):
        refused(graph, source=str(bag_of(tmp_path, recorded('raw'))), topic='/up')


def test_reliability_and_its_override(camera, graph, folder):
    def reliability(watched, topic):
        infos = watched.source.get_publishers_info_by_topic(topic)
        return {info.qos_profile.reliability.name for info in infos}

    override = {'qos_overrides./image_raw.publisher.reliability': 'reliable'}
    watched = camera(folder, reliability='best_effort', image_transport='both', **override)
    assert reliability(watched, 'image_raw') == {'RELIABLE'}
    assert reliability(watched, 'image_raw/compressed') == {'BEST_EFFORT'}
    assert reliability(watched, 'camera_info') == {'BEST_EFFORT'}


def calibration(path, width, height):
    nine, twelve = {'data': [3.0] * 9}, {'data': [3.0] * 12}
    content = {
        'image_width': width,
        'image_height': height,
        'distortion_model': 'plumb_bob',
        'distortion_coefficients': {'data': [0.0] * 5},
        'camera_matrix': nine,
        'rectification_matrix': nine,
        'projection_matrix': twelve,
    }
    file = path / 'calibration.yaml'
    file.write_text(yaml.safe_dump(content))
    return str(file)


def test_a_calibration_goes_before_the_recorded_one(camera, graph, tmp_path):
    path = bag_of(tmp_path, recorded('raw'))
    watched = camera(path, camera_info=calibration(tmp_path, 32, 24))
    watched.play()
    graph.spin_until(lambda: len(watched.infos) == COUNT)
    assert watched.infos[0].k[0] == 3.0
    assert watched.infos[0].header.frame_id == 'eye'


def test_a_calibration_for_another_size_is_refused(graph, folder, tmp_path):
    with pytest.raises(CameraInfoError, match='is for 640x480 pixels, but the images have 32x24'):
        refused(graph, source=str(folder), camera_info=calibration(tmp_path, 640, 480))


# Timing


def test_deadlines_do_not_drift():
    deadlines = Deadlines()
    assert deadlines.of(0.0, 100.0) == (100.0, 0.0)
    # Every picture is asked for a little late, which must not add up.
    for number in range(1, 100):
        at_s, _ = deadlines.of(number * 0.1, 100.0 + number * 0.1 + 0.03)
        assert at_s == pytest.approx(100.0 + number * 0.1)


def test_after_a_long_delay_pictures_keep_their_distance():
    deadlines = Deadlines()
    deadlines.of(0.0, 100.0)
    at_s, late_s = deadlines.of(0.1, 105.0)
    assert (at_s, late_s) == (105.0, pytest.approx(4.9))
    assert deadlines.of(0.2, 105.0)[0] == pytest.approx(105.1)


def test_after_a_pause_the_next_picture_is_due_at_once():
    deadlines = Deadlines()
    deadlines.of(0.0, 100.0)
    deadlines.restart()
    assert deadlines.of(0.1, 150.0) == (150.0, 0.0)
    assert deadlines.of(0.2, 150.0)[0] == pytest.approx(150.1)


def test_a_recording_with_a_gap_keeps_it():
    deadlines = Deadlines()
    deadlines.of(0.0, 100.0)
    assert deadlines.of(7.0, 100.05) == (107.0, 0.0)


# The process


@contextmanager
def started(*settings):
    environment = {
        **os.environ,
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'ROS_DOMAIN_ID': str(DOMAIN_ID),
    }
    arguments = [part for setting in settings for part in ('-p', setting)]
    with subprocess.Popen(
        [sys.executable, '-m', 'tracker_ros.ros.video_source', '--ros-args', *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()  # only matters where it did not end as it should


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('times', [1, 2])
@pytest.mark.parametrize('paused', ['true', 'false'])
def test_it_ends_in_order(graph, folder, number, times, paused):
    client = graph.node('viewer').create_client(SetBool, 'video_source/pause')
    with started(f'source:={folder}', 'loop:=true', f'start_paused:={paused}') as process:
        graph.spin_until(client.service_is_ready)
        for _ in range(times):
            process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    assert 'pictures (32x24): 6 pictures at 30 Hz to /image_raw' in output
    assert len(output.splitlines()) == 1
    assert process.returncode == 0


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        (['source:=/no/such/clip.mp4'], "'/no/such/clip.mp4' does not exist"),
        (['source:=x', 'jpeg_quality:=0'], 'jpeg_quality'),
        (['source:=x', 'loop:=3'], 'loop'),
    ],
)
def test_what_cannot_be_played_ends_with_an_error(settings, words):
    with started(*settings) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert words in output
    assert 'Traceback' not in output
    assert len(output.splitlines()) == 1


def test_it_ends_by_itself_at_the_end(folder):
    with started(f'source:={folder}', 'exit_at_end:=true', 'rate_hz:=100') as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f'after {COUNT} pictures' in output
