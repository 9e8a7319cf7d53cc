# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Bearings by the newest CameraInfo."""

import math

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo

from tracker_ros.geometry import Box
from tracker_ros.ros.direction import Direction

BOX = Box.from_center(420.5, 240.5, 40, 30)


@pytest.fixture
def said():
    return []


@pytest.fixture
def direction(said):
    return Direction(said.append)


def info(focal_length=500.0, **fields):
    return CameraInfo(
        width=640,
        height=480,
        k=[focal_length, 0.0, 320.0, 0.0, focal_length, 240.0, 0.0, 0.0, 1.0],
        **fields,
    )


def test_without_a_camera_info_it_says_so_once(direction, said):
    for _ in range(30):
        assert direction.of(BOX, 640, 480) is None
    assert said == []
    for _ in range(30):
        assert direction.of(BOX, 640, 480) is None
    assert said == ['no camera_info has come: bearings are not published']


def test_a_direction_with_its_covariance(direction, said):
    direction.take(info())
    bearing = direction.of(BOX, 640, 480, np.diag([25.0, 4.0]))
    assert bearing.azimuth == pytest.approx(math.atan2(100, 500))
    assert bearing.elevation == pytest.approx(0)
    # d atan(u / f) / du = f / (f^2 + u^2)
    assert bearing.covariance[0, 0] == pytest.approx(25 * (500 / (500**2 + 100**2)) ** 2)
    assert said == []


def test_a_new_calibration_counts_from_then_on(direction):
    direction.take(info())
    direction.of(BOX, 640, 480)
    direction.take(info(focal_length=250.0))
    assert direction.of(BOX, 640, 480).azimuth == pytest.approx(math.atan2(100, 250))


def test_another_size_of_image_counts_from_then_on(direction):
    direction.take(info())
    whole = direction.of(Box.from_center(200, 100, 10, 10), 640, 480)
    half = direction.of(Box.from_center(100, 50, 10, 10), 320, 240)
    assert half.ray == pytest.approx(whole.ray)


@pytest.mark.parametrize(
    ('message', 'words'),
    [
        (CameraInfo(width=640, height=480), 'K is zero: the camera is not calibrated'),
        (info(focal_length=math.nan), 'K has entries that are not finite'),
        (info(distortion_model='plumb_bob', d=[0.1] * 3), 'D has 3 entries'),
        (info(distortion_model='odd', d=[0.1]), "distortion_model is 'odd'"),
    ],
)
def test_a_useless_camera_info_is_named_once(direction, said, message, words):
    for _ in range(3):
        direction.take(message)
        assert direction.of(BOX, 640, 480) is None
    assert len(said) == 1
    assert said[0].startswith('bearings are not published: ')
    assert words in said[0]


def test_it_recovers_from_a_useless_camera_info(direction):
    direction.take(CameraInfo())
    assert direction.of(BOX, 640, 480) is None
    direction.take(info())
    assert direction.of(BOX, 640, 480) is not None


def test_what_it_says_is_bounded(direction, said):
    for number in range(50):
        direction.take(info(distortion_model=f'model {number}', d=[1.0]))
        direction.of(BOX, 640, 480)
    assert len(said) == 10


def test_rectified_images_are_seen_through_p(said):
    direction = Direction(said.append, rectified=True)
    p = [400.0, 0.0, 320.0, 0.0, 0.0, 400.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    direction.take(info(p=p, distortion_model='plumb_bob', d=[0.3, 0.0, 0.0, 0.0, 0.0]))
    assert direction.of(BOX, 640, 480).azimuth == pytest.approx(math.atan2(100, 400))
