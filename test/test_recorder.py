# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings around a loss."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from mcap.reader import make_reader
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray

from tracker_ros.ros import images
from tracker_ros.ros.bag import Bag, BagError
from tracker_ros.ros.mcap_file import Entry, McapFile, definition_of, rescue
from tracker_ros.ros.recorder import LossLog, Recorder, Recording
from tracker_ros.ros.reel import Format, open_reel
from tracker_ros.tracking import State

IMAGE_TOPIC, INFO_TOPIC, SAID_TOPIC = '/camera/image_raw', '/camera/camera_info', '/t/detections'
PATIENCE_S = 30.0


class Clock:
    """Time that goes by when it is told to."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


class Heard:
    """What a recorder says, and the event of its saying."""

    def __init__(self):
        self.texts = []
        self.event = threading.Event()

    def __call__(self, text):
        self.texts.append(text)
        self.event.set()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def warned():
    return Heard()


@pytest.fixture
def informed():
    return Heard()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / 'losses'


def frame(number):
    """A bright square that goes to the right, on a dark ground."""
    image = np.full((48, 64, 3), 30, np.uint8)
    image[20:30, number % 50 : number % 50 + 10] = 220
    return image


def said(number):
    return Detection2DArray(detections=[Detection2D(id=f'target_{number}')])


def entry(number, size=100):
    return Entry('/said', 'vision_msgs/msg/Detection2DArray', number, bytes(size))


def recordings(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(path):
    """(topic, type, time, data) of every message in a finished file."""
    with path.open('rb') as file:
        return [
            (channel.topic, schema.name, message.log_time, message.data)
            for schema, channel, message in make_reader(file).iter_messages()
        ]


def numbers(path):
    return [time_ns for _, _, time_ns, _ in contents(path)]


@pytest.fixture
def log(folder, warned, informed):
    made = LossLog(Recording(folder, before_s=10.0, after_s=5.0), warned, informed)
    made.tidy()
    return made


def test_a_file_has_what_was_before_and_after_the_loss(log, folder, informed):
    for number in range(30):
        log.add(entry(number), float(number))
        log.tick(float(number))
    log.lost('dog 1/2', 29.0)
    for number in range(30, 50):
        log.add(entry(number), float(number))
        log.tick(float(number))
    (name,) = recordings(folder)
    assert name.startswith('loss_')
    assert name.endswith('_dog_1_2.mcap')
    # From 10 s before the loss at 29 to 5 s after it.
    assert numbers(folder / name) == list(range(19, 35))
    assert informed.texts == [f'recorded {folder / name}, 0.0 MB']


def test_a_second_loss_makes_the_file_longer(log, folder):
    for number in range(30):
        log.add(entry(number), float(number))
        log.tick(float(number))
        if number in (12, 15):
            log.lost(f'target_{number}', float(number))
    (name,) = recordings(folder)
    assert name.endswith('_target_12.mcap')
    assert numbers(folder / name) == list(range(2, 21))


def test_losses_apart_make_files_of_their_own(log, folder):
    for number in range(40):
        log.add(entry(number), float(number))
        log.tick(float(number))
        if number in (12, 30):
            log.lost('same', float(number))
    assert len(recordings(folder)) == 2
    assert sorted(len(numbers(folder / name)) for name in recordings(folder)) == [16, 16]


def test_a_file_ends_in_time_also_when_nothing_comes(log, folder):
    log.add(entry(1), 1.0)
    log.lost('a', 1.0)
    assert log.is_writing
    log.tick(5.9)
    assert log.is_writing
    log.tick(6.1)
    assert not log.is_writing
    assert numbers(folder / recordings(folder)[0]) == [1]


def test_memory_is_bounded(folder, warned, informed):
    log = LossLog(Recording(folder, before_s=1e9, after_s=0.0, most_mb=1), warned, informed)
    log.tidy()
    for number in range(300):
        log.add(entry(number, 10_000), 0.0)
    assert log._kept_bytes <= 10**6
    log.lost('a', 0.0)
    log.finish()
    # Half of the room is for what comes after.
    assert numbers(folder / recordings(folder)[0]) == list(range(250, 300))


def test_the_disk_is_bounded_and_that_is_said_once(folder, warned, informed):
    log = LossLog(Recording(folder, before_s=1e9, after_s=1e9, most_mb=1), warned, informed)
    log.tidy()
    for number in range(300):
        log.add(entry(number, 10_000), 0.0)
        if number % 20 == 0:
            log.lost('a', 0.0)
    log.finish()
    used = sum(path.stat().st_size for path in folder.iterdir())
    assert 0.9e6 < used < 1.1e6
    assert len(warned.texts) == 1
    assert 'have reached record_mb (1): nothing more is recorded' in warned.texts[0]


@pytest.mark.parametrize('place', ['file/below', 'file'])
def test_a_folder_that_cannot_be_is_one_warning(tmp_path, warned, informed, place):
    (tmp_path / 'file').touch()
    log = LossLog(Recording(tmp_path / place), warned, informed)
    log.tidy()
    for number in range(3):
        log.add(entry(number), float(number))
        log.lost('a', float(number))
        log.tick(1000.0 * number)
    assert len(warned.texts) == 1
    assert str(tmp_path / place) in warned.texts[0]
    assert informed.texts == []


def test_without_the_package_mcap_it_says_what_is_missing(log, warned, monkeypatch):
    monkeypatch.setattr('tracker_ros.ros.recorder.find_spec', lambda _: None)
    log.tidy()
    log.add(entry(1), 1.0)
    log.lost('a', 1.0)
    assert not log.is_writing
    assert warned.texts == ['recording needs the Python package mcap: pip install mcap']


def test_what_nobody_foresaw_is_one_warning(folder, clock, warned, informed, monkeypatch):
    def broken(*_):
        raise RuntimeError('broken')

    monkeypatch.setattr(LossLog, 'add', broken)
    recorder = Recorder(Recording(folder), warned, informed, clock)
    fed(recorder, clock)
    recorder.close()
    assert warned.texts == ['recording failed: RuntimeError: broken']


@pytest.mark.parametrize('step', ['write', 'flush', 'finish'])
def test_a_full_disk_is_one_warning_and_leaves_nothing(log, folder, warned, monkeypatch, step):
    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(McapFile, step, full)
    for number in range(30):
        log.add(entry(number), float(number))
        log.lost('a', float(number))
        log.tick(number + 0.5)
        log.tick(number + 4.0)
        log.tick(number + 100.0)
    assert len(warned.texts) == 1
    assert 'No space left on device' in warned.texts[0]
    assert recordings(folder) == []


def test_while_it_is_written_a_file_has_another_name(log, folder):
    log.add(entry(1), 1.0)
    log.lost('a', 1.0)
    assert [name.endswith('.mcap.part') for name in recordings(folder)] == [True]
    log.finish()
    assert [name.endswith('.mcap') for name in recordings(folder)] == [True]


KILLED = """
import os, signal, sys
from pathlib import Path
from tracker_ros.ros.mcap_file import Entry, McapFile

file = McapFile(Path(sys.argv[1]))
kind = 'sensor_msgs/msg/CompressedImage'
data = Path(sys.argv[2]).read_bytes()
for number in range(8):
    file.write(Entry('/camera/image_raw/compressed', kind, number, data))
    if number == 5:
        file.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_crash_leaves_is_completed_by_the_next_one(tmp_path, folder, warned, informed):
    folder.mkdir()
    path = folder / 'loss_20260101_000000_a.mcap'
    _, jpeg = cv2.imencode('.jpg', frame(3))
    message = CompressedImage(format='jpeg', data=jpeg.tobytes())
    data = tmp_path / 'message'
    data.write_bytes(serialize_message(message))
    root = Path(__file__).resolve().parent.parent
    child = subprocess.run(
        [sys.executable, '-c', KILLED, str(path), str(data)],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(root), *sys.path])},
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    assert not path.exists()
    LossLog(Recording(folder), warned, informed).tidy()
    assert recordings(folder) == [path.name]
    assert numbers(path) == list(range(6))
    assert Bag(path).frame_count == 6
    assert informed.texts == [f'recording left by a crash completed: {path}']
    assert warned.texts == []


@pytest.mark.parametrize('share', [0.0, 0.3, 0.6, 0.9, 1.0])
def test_a_file_cut_anywhere_is_completed_or_removed(tmp_path, share):
    whole = McapFile(tmp_path / 'a.mcap')
    for number in range(50):
        whole.write(entry(number))
        whole.flush()
    whole.finish()
    part = tmp_path / 'b.mcap.part'
    content = (tmp_path / 'a.mcap').read_bytes()
    # The end is the index, from which nothing is needed here.
    messages_end = content.rindex(bytes(100))
    part.write_bytes(content[: int(share * messages_end)] if share < 1 else content)
    rescued = rescue(part)
    found = [] if rescued is None else numbers(rescued)
    assert found == list(range(len(found)))
    assert (len(found) == 50) == (share == 1.0)
    left = {'a.mcap', 'b.mcap'} if found else {'a.mcap'}
    assert {path.name for path in tmp_path.iterdir()} == left


def test_a_file_that_another_node_writes_is_left_alone(log, folder, warned, informed):
    log.add(entry(1), 1.0)
    log.lost('a', 1.0)
    LossLog(Recording(folder), warned, informed).tidy()
    assert informed.texts == []
    log.finish()
    assert numbers(folder / recordings(folder)[0]) == [1]


def test_a_definition_has_all_that_is_in_it():
    text = definition_of('vision_msgs/msg/Detection2DArray')
    main, *others = text.split('=' * 80 + '\n')
    assert 'Detection2D[] detections' in main
    names = [part.partition('\n')[0] for part in others]
    assert len(names) == len(set(names))
    assert {
        'MSG: std_msgs/Header',
        'MSG: builtin_interfaces/Time',
        'MSG: vision_msgs/Detection2D',
        'MSG: vision_msgs/BoundingBox2D',
        'MSG: geometry_msgs/PoseWithCovariance',
        'MSG: geometry_msgs/Quaternion',
    } <= set(names)
    assert all(part.strip().partition('\n')[2] for part in others)


def test_a_definition_of_a_package_that_is_not_there_is_empty():
    assert definition_of('no_such_msgs/msg/Thing') == ''


def fed(recorder, clock, count=40, lost_at=25):
    """Feed a recorder as the node does, at 10 Hz."""
    for number in range(count):
        clock.now_s += 0.1
        header = Header(frame_id='camera', stamp=Time(sec=5, nanosec=number * 10**8))
        recorder.info(INFO_TOPIC, CameraInfo(width=64, height=48))
        recorder.image(IMAGE_TOPIC, images.to_message(frame(number), header))
        recorder.message(SAID_TOPIC, said(number))
        recorder.watch({'target_1': State.LOST if number >= lost_at else State.TRACKING})


def test_a_recording_plays_back(folder, clock, warned, informed, monkeypatch):
    monkeypatch.setattr('tracker_ros.ros.recorder._MOST_WAITING_IMAGES', 1000)
    recorder = Recorder(
        Recording(folder, before_s=2.05, after_s=60.0, images=True), warned, informed, clock
    )
    fed(recorder, clock)
    recorder.close()
    assert warned.texts == []
    assert recorder.left_out == 0
    (name,) = recordings(folder)
    path = folder / name
    topics = {topic: kind for topic, kind, _, _ in contents(path)}
    assert topics == {
        IMAGE_TOPIC + '/compressed': 'sensor_msgs/msg/CompressedImage',
        INFO_TOPIC: 'sensor_msgs/msg/CameraInfo',
        SAID_TOPIC: 'vision_msgs/msg/Detection2DArray',
    }
    # The loss is in frame 25, and frame 5 is 2 s before.
    bag = Bag(path)
    assert bag.info_topic == INFO_TOPIC
    frames = list(bag.frames())
    assert [each.image.header.stamp.nanosec // 10**8 for each in frames] == list(range(5, 40))
    assert frames[0].info.width == 64
    shown = images.decode_compressed(frames[0].image)
    assert np.abs(shown.astype(int) - frame(5)).mean() < 3
    reel = open_reel(str(path), 0.0, Format(True, False, 80, '', None))
    assert len(list(reel.pictures(0))) == 35
    ids = [
        deserialize_message(data, Detection2DArray).detections[0].id
        for topic, _, _, data in contents(path)
        if topic == SAID_TOPIC
    ]
    assert ids == [f'target_{number}' for number in range(5, 40)]


def test_a_recording_is_a_proper_one_of_ros_2(folder, clock, warned, informed):
    recorder = Recorder(Recording(folder), warned, informed, clock)
    fed(recorder, clock)
    recorder.close()
    with (folder / recordings(folder)[0]).open('rb') as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_header().profile == 'ros2'
        summary = reader.get_summary()
        assert list(reader.iter_messages())
    for channel in summary.channels.values():
        assert channel.message_encoding == 'cdr'
        assert 'offered_qos_profiles' in channel.metadata
    for schema in summary.schemas.values():
        assert schema.encoding == 'ros2msg'
        assert schema.data.decode() == definition_of(schema.name) != ''


def test_without_images_there_are_none(folder, clock, warned, informed):
    recorder = Recorder(Recording(folder), warned, informed, clock)
    fed(recorder, clock)
    recorder.close()
    path = folder / recordings(folder)[0]
    assert {topic for topic, _, _, _ in contents(path)} == {INFO_TOPIC, SAID_TOPIC}
    with pytest.raises(BagError, match='has no topic of type'):
        Bag(path)


def test_without_a_loss_there_is_no_file(folder, clock, warned, informed):
    recorder = Recorder(Recording(folder), warned, informed, clock)
    fed(recorder, clock, lost_at=1000)
    recorder.close()
    assert recordings(folder) == []


def test_calibrations_are_kept_once_a_second(folder, clock, warned, informed):
    recorder = Recorder(Recording(folder), warned, informed, clock)
    fed(recorder, clock, count=30)
    recorder.close()
    found = contents(folder / recordings(folder)[0])
    assert sum(topic == INFO_TOPIC for topic, _, _, _ in found) == 3


def test_a_target_that_stays_lost_is_one_loss(folder, clock, warned, informed):
    recorder = Recorder(Recording(folder, after_s=0.5), warned, informed, clock)
    fed(recorder, clock, count=40, lost_at=5)
    recorder.close()
    assert len(recordings(folder)) == 1


def test_the_file_is_completed_while_the_camera_is_silent(folder, clock, warned, informed):
    recorder = Recorder(Recording(folder, after_s=0.0), warned, informed, clock)
    recorder.message(SAID_TOPIC, said(1))
    recorder.watch({'target_1': State.LOST})
    assert informed.event.wait(PATIENCE_S)
    assert recordings(folder)[0].endswith('.mcap')
    recorder.close()


def test_a_disk_that_hangs_keeps_nobody_waiting(folder, clock, warned, informed, monkeypatch):
    began, go_on = threading.Event(), threading.Event()
    write = McapFile.write

    def hang(file, entry):
        began.set()
        assert go_on.wait(PATIENCE_S)
        write(file, entry)

    monkeypatch.setattr(McapFile, 'write', hang)
    recorder = Recorder(Recording(folder, images=True), warned, informed, clock)
    recorder.message(SAID_TOPIC, said(0))
    recorder.watch({'target_1': State.LOST})
    assert began.wait(PATIENCE_S)
    header = Header(frame_id='camera')
    for number in range(3000):
        recorder.image(IMAGE_TOPIC, images.to_message(frame(number), header))
        recorder.message(SAID_TOPIC, said(number))
    # Three images and 2000 things altogether may wait.
    assert recorder.left_out == 6000 - 2000
    go_on.set()
    recorder.close()
    assert Bag(folder / recordings(folder)[0]).frame_count == 3


def test_a_message_may_be_used_again(folder, clock, warned, informed):
    recorder = Recorder(Recording(folder), warned, informed, clock)
    message = said(1)
    recorder.message(SAID_TOPIC, message)
    message.detections[0].id = 'another'
    recorder.watch({'target_1': State.LOST})
    recorder.close()
    ((_, _, _, data),) = contents(folder / recordings(folder)[0])
    assert deserialize_message(data, Detection2DArray).detections[0].id == 'target_1'


def test_an_image_that_cannot_be_read_is_left_out(folder, clock, warned, informed):
    recorder = Recorder(Recording(folder, images=True), warned, informed, clock)
    broken = images.to_message(frame(0), Header())
    broken.encoding = 'nonsense'
    recorder.image(IMAGE_TOPIC, broken)
    fed(recorder, clock)
    recorder.close()
    assert warned.texts == []
    assert len(recordings(folder)) == 1


def test_after_its_end_nothing_is_taken(folder, clock, warned, informed):
    recorder = Recorder(Recording(folder), warned, informed, clock)
    recorder.close()
    fed(recorder, clock)
    recorder.close()
    assert recordings(folder) == []
