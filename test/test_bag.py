# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
import sys

import pytest
from bag_files import write_bag
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu

from tracker_ros.ros.bag import Bag, BagError, is_bag

START_S = 1_700_000.0


def images(topic, count, interval_s=0.05, kind=Image, begin_s=START_S, **fields):
    made = []
    for number in range(count):
        message = kind(**fields)
        message.header.frame_id = f'{topic} {number}'
        made.append((topic, begin_s + number * interval_s, message))
    return made


def numbers(frames):
    return [int(frame.image.header.frame_id.split()[1]) for frame in frames]


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'drive.mcap'


def test_images_come_with_their_times_and_the_calibration_before_them(path):
    infos = [
        ('/camera/camera_info', START_S + at_s, CameraInfo(width=width))
        for at_s, width in ((0.01, 1), (0.12, 2))
    ]
    pictures = images('/camera/image_raw', 5, width=64, height=48)
    write_bag(path, sorted(infos + pictures, key=lambda entry: entry[1]))
    bag = Bag(path)
    assert (bag.topic, bag.info_topic) == ('/camera/image_raw', '/camera/camera_info')
    assert bag.frame_count == 5
    assert bag.rate_hz == pytest.approx(20.0)
    frames = list(bag.frames())
    assert numbers(frames) == [0, 1, 2, 3, 4]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert [frame.info.width for frame in frames] == [1, 1, 1, 2, 2]
    assert frames[0].image.width == 64


def test_the_rate_is_that_of_the_images_alone(path):
    others = [('/imu', START_S - 100 + number, Imu()) for number in range(300)]
    write_bag(path, others + images('/image_raw', 11, 0.1))
    assert Bag(path).rate_hz == pytest.approx(10.0)


def test_one_image_has_a_rate_too(path):
    write_bag(path, images('/image_raw', 1))
    assert Bag(path).rate_hz == 30.0


def test_frames_from_a_number_on(path):
    write_bag(path, images('/image_raw', 5))
    frames = list(Bag(path).frames(3))
    assert numbers(frames) == [3, 4]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.05])
    with pytest.raises(BagError, match='only 5 images'):
        list(Bag(path).frames(5))


def test_a_recording_in_parts_is_one_bag(tmp_path):
    for part in (0, 1, 10, 2):
        begin_s = START_S + part
        write_bag(tmp_path / f'drive_{part}.mcap', images('/image_raw', 2, begin_s=begin_s))
    bag = Bag(tmp_path)
    assert bag.frame_count == 8
    assert [round(frame.time_s, 2) for frame in bag.frames()] == [
        0, 0.05, 1, 1.05, 2, 2.05, 10, 10.05,
    ]  # fmt: skip
    assert bag.rate_hz == pytest.approx(7 / 10.05)


def test_choosing_among_topics(path):
    write_bag(
        path,
        images('/right/image_raw/compressed', 2, kind=CompressedImage)
        + images('/left/image_raw', 3)
        + [('/right/camera_info', START_S, CameraInfo(width=7))]
        + [('/left/camera_info', START_S, CameraInfo(width=8))],
    )
    assert Bag(path).topic == '/left/image_raw'
    right = Bag(path, '/right/image_raw/compressed')
    assert right.info_topic == '/right/camera_info'
    assert [frame.info.width for frame in right.frames()] == [7, 7]
    words = "no images on '/up', but on /left/image_raw, /right/image_raw/compressed"
    with pytest.raises(BagError, match=words):
        Bag(path, '/up')


def test_without_a_calibration(path):
    write_bag(path, images('/image_raw', 1))
    bag = Bag(path)
    assert bag.info_topic is None
    assert [frame.info for frame in bag.frames()] == [None]


def test_no_images_in_the_bag(path):
    write_bag(path, [('/imu', START_S, Imu())])
    with pytest.raises(BagError, match='has no topic of type sensor_msgs/msg/Image or'):
        Bag(path)


def test_images_of_another_serialisation_do_not_count(path):
    write_bag(path, images('/image_raw', 2), encoding='ros1')
    with pytest.raises(BagError, match='has no topic'):
        Bag(path)


def test_missing_and_empty(tmp_path):
    with pytest.raises(BagError, match=r"no\.mcap' does not exist"):
        Bag(tmp_path / 'no.mcap')
    with pytest.raises(BagError, match=r'holds no \.mcap file.*ros2 bag convert'):
        Bag(tmp_path)


@pytest.mark.parametrize('content', [b'', b'not a bag at all' * 20])
def test_not_a_bag(path, content):
    path.write_bytes(content)
    with pytest.raises(BagError, match=r'drive\.mcap.*is damaged or not an mcap file'):
        Bag(path)


@pytest.mark.parametrize('share', [0.1, 0.5, 0.9, 0.99])
def test_a_bag_cut_short(path, share):
    write_bag(path, images('/image_raw', 5, data=b'x' * 1000))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(BagError, match='mcap recover'):
        Bag(path)


def test_damaged_bags_give_errors_only(path):
    write_bag(path, images('/image_raw', 5, data=b'x' * 100))
    whole = path.read_bytes()
    outcomes = set()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            outcomes.add(len(list(Bag(path).frames())))
        except BagError as error:
            outcomes.add('named' if 'drive.mcap' in str(error) else 'nameless')
    assert {5, 'named'} <= outcomes
    assert 'nameless' not in outcomes


def test_without_the_package_mcap(path, monkeypatch):
    write_bag(path, images('/image_raw', 1))
    monkeypatch.setitem(sys.modules, 'mcap.reader', None)
    with pytest.raises(BagError, match='pip install mcap'):
        Bag(path)


def test_what_looks_like_a_bag(tmp_path):
    assert not is_bag(tmp_path)
    assert not is_bag('clip.mp4')
    assert is_bag('drive.mcap')
    (tmp_path / 'metadata.yaml').touch()
    assert is_bag(tmp_path)
