# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How the camera moved, seen in rendered images."""

import cv2
import numpy as np
import pytest

from tracker_ros.geometry import Box
from tracker_ros.tracking.camera_motion import CameraMotion

WIDTH, HEIGHT = 640, 360
# (n, 2) where a matrix is compared: the corners of the image.
CORNERS = np.array([[0, 0], [WIDTH, 0], [0, HEIGHT], [WIDTH, HEIGHT]], float)


@pytest.fixture(scope='module')
def world():
    """Large enough to look around in; spots of many sizes, so that corners are everywhere."""
    generator = np.random.default_rng(2)
    noise = sum(
        cv2.resize(
            generator.normal(size=(900 // size, 1500 // size, 3)), (1500, 900),
            interpolation=cv2.INTER_CUBIC,
        )
        for size in (6, 15, 40, 100)
    )  # fmt: skip
    return np.clip(128 + 40 * noise, 0, 255).astype(np.uint8)


def seen(world, matrix=None, size=(WIDTH, HEIGHT)):
    """The world through a camera that `matrix` takes from its first view to this one."""
    view = np.array([[1.0, 0.0, -400.0], [0.0, 1.0, -250.0], [0.0, 0.0, 1.0]])
    if matrix is not None:
        view = np.vstack([matrix, [0, 0, 1]]) @ view
    # Boxes count from the corner of the first pixel, OpenCV from its centre.
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    view = np.linalg.inv(half) @ view @ half
    return cv2.warpAffine(world, view[:2], size, flags=cv2.INTER_CUBIC)


def turned(angle, zoom, x, y):
    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    return np.array([[cosine, -sine, x], [sine, cosine, y]])


def beside(found, expected):
    """How far apart two matrices put the corners of the image, in pixels."""
    return np.abs((found - expected) @ np.column_stack([CORNERS, np.ones(4)]).T).max()


@pytest.mark.parametrize(
    'matrix',
    [
        turned(0, 1, 0, 0),
        turned(0, 1, 3.3, -2.7),
        turned(0, 1, -25.5, 14.25),
        turned(0.02, 1.01, 4, 1),
        turned(-0.05, 0.97, 10, -6),
    ],
)
def test_a_camera_is_followed_to_less_than_a_pixel(world, matrix):
    camera = CameraMotion()
    assert camera.between(seen(world)) is None
    found = camera.between(seen(world, matrix))
    assert found.shape == (2, 3)
    assert beside(found, matrix) < 0.5


def test_a_pan_adds_up(world):
    camera = CameraMotion()
    whole = np.eye(3)
    camera.between(seen(world))
    for number in range(1, 21):
        step = camera.between(seen(world, turned(0, 1, -6.4 * number, 2.3 * number)))
        whole = np.vstack([step, [0, 0, 1]]) @ whole
    assert beside(whole[:2], turned(0, 1, -128, 46)) < 2.0


def test_grey_images_of_a_small_camera(world):
    camera = CameraMotion()
    first, second = (
        cv2.cvtColor(seen(world, matrix, (200, 150)), cv2.COLOR_BGR2GRAY)
        for matrix in (None, turned(0, 1, 2.5, 1.5))
    )
    camera.between(first)
    assert beside(camera.between(second), turned(0, 1, 2.5, 1.5)) < 0.5


def test_the_image_may_be_used_again(world):
    camera = CameraMotion()
    image = cv2.cvtColor(seen(world, None, (200, 150)), cv2.COLOR_BGR2GRAY)
    camera.between(image)
    image[:] = cv2.cvtColor(seen(world, turned(0, 1, 4, 0), (200, 150)), cv2.COLOR_BGR2GRAY)
    assert beside(camera.between(image), turned(0, 1, 4, 0)) < 0.5


def test_what_moves_by_itself_is_left_out(world):
    """The target fills most of the image and goes elsewhere than the scene behind it."""
    target = Box(100, 40, 470, 290)
    patch = seen(world, turned(0, 1, -300, -200), (470, 290))
    images = []
    for step in (0, 1):
        image = seen(world, turned(0, 1, 4.0 * step, 0))
        image[40:330, 100 - 6 * step : 570 - 6 * step] = patch
        images.append(image)
    camera = CameraMotion()
    camera.between(images[0])
    assert beside(camera.between(images[1], [target]), turned(0, 1, 4, 0)) < 0.5
    camera.reset()
    camera.between(images[0])
    fooled = camera.between(images[1])
    assert fooled is None or beside(fooled, turned(0, 1, 4, 0)) > 5


@pytest.mark.parametrize(
    'boxes', [[Box(np.nan, 0, 5, 5)], [Box(-1e9, -1e9, 1, 1)], [Box(5, 5, -3, -3)]]
)
def test_useless_boxes_do_no_harm(world, boxes):
    camera = CameraMotion()
    camera.between(seen(world))
    assert camera.between(seen(world, turned(0, 1, 3, 3)), boxes) is not None


def test_no_answer_where_there_is_nothing_to_see(world):
    camera = CameraMotion()
    blank = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    assert [camera.between(image) for image in (blank, blank, seen(world), blank)] == [None] * 4


def test_no_answer_where_everything_is_left_out(world):
    camera = CameraMotion()
    camera.between(seen(world))
    assert camera.between(seen(world), [Box(0, 0, WIDTH, HEIGHT)]) is None


def test_no_answer_after_a_cut(world):
    camera = CameraMotion()
    camera.between(seen(world))
    assert camera.between(seen(world[::-1])) is None


def test_no_answer_after_another_size_or_a_reset(world):
    camera = CameraMotion()
    camera.between(seen(world))
    assert camera.between(seen(world, size=(320, 240))) is None
    assert camera.between(seen(world, size=(320, 240))) is not None
    camera.reset()
    assert camera.between(seen(world, size=(320, 240))) is None
