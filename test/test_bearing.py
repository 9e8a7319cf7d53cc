# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Directions, against OpenCV's own projection of points."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from tracker_ros.geometry import Box
from tracker_ros.tracking.bearing import (
    Calibration,
    CalibrationError,
    Camera,
    Region,
    image_error,
    is_rectified,
)

WIDTH, HEIGHT = 640, 480
K = (410.0, 0.0, 318.7, 0.0, 405.0, 243.1, 0.0, 0.0, 1.0)
RADIAL = (-0.28, 0.07, 0.0006, -0.0004, -0.006)
RATIONAL = (0.9, 0.35, -0.0003, 0.0005, 0.02, 1.25, 0.6, 0.08)
PRISM = (0.001, -0.0007, 0.0012, 0.0004)
LENSES = {
    'none': ('', ()),
    'zeros': ('', (0.0,) * 5),
    'plumb_bob of 4': ('plumb_bob', RADIAL[:4]),
    'plumb_bob': ('plumb_bob', RADIAL),
    'plumb_bob, pincushion': ('plumb_bob', (0.2, 0.1, -0.001, 0.002, 0.03)),
    'plumb_bob, empty': ('plumb_bob', ()),
    'rational_polynomial': ('rational_polynomial', RATIONAL),
    'thin prism': ('rational_polynomial', RATIONAL + PRISM),
    'thin prism by name': ('thin_prism', RATIONAL + PRISM),
    'tilted sensor': ('rational_polynomial', (*RATIONAL, *PRISM, 0.03, -0.05)),
    'equidistant': ('equidistant', (0.08, -0.02, 0.006, -0.0012)),
    'fisheye': ('fisheye', (-0.01, 0.02, -0.011, 0.002)),
}
PLAIN = Calibration(WIDTH, HEIGHT, 'plumb_bob', RADIAL, K)


def calibration_with(lens):
    model, coefficients = LENSES[lens]
    return replace(PLAIN, distortion_model=model, d=coefficients)


def projected(rays, calibration, matrix=None):
    """(n, 2) where OpenCV sees rays (n, 3), in the coordinates of boxes."""
    matrix = np.array(calibration.k).reshape(3, 3) if matrix is None else matrix
    rays = np.asarray(rays, float).reshape(-1, 1, 3)
    none, coefficients = np.zeros(3), np.array(calibration.d)
    if calibration.distortion_model in ('equidistant', 'fisheye'):
        points, _ = cv2.fisheye.projectPoints(rays, none, none, matrix, coefficients)
    else:
        points, _ = cv2.projectPoints(rays, none, none, matrix, coefficients)
    return points.reshape(-1, 2) + 0.5


def rays_in_view(x=0.7, y=0.5):
    across, down = np.meshgrid(np.linspace(-x, x, 9), np.linspace(-y, y, 7))
    rays = np.stack([across, down, np.ones_like(across)], -1).reshape(-1, 3)
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def angle_between(first, second):
    # By the cross product, because the arc cosine of nearly 1 has lost half of its digits.
    return math.atan2(np.linalg.norm(np.cross(first, second)), np.dot(first, second))


@pytest.mark.parametrize('lens', LENSES)
def test_a_ray_comes_back_from_where_opencv_projects_it(lens):
    calibration = calibration_with(lens)
    camera = Camera(calibration, WIDTH, HEIGHT)
    rays = rays_in_view()
    for ray, (x, y) in zip(rays, projected(rays, calibration), strict=True):
        bearing = camera.bearing(x, y)
        assert angle_between(bearing.ray, ray) < 1e-6
        assert np.linalg.norm(bearing.ray) == pytest.approx(1, abs=1e-12)
        assert bearing.azimuth == pytest.approx(math.atan2(ray[0], ray[2]), abs=1e-6)
        assert bearing.elevation == pytest.approx(math.asin(-ray[1]), abs=1e-6)


@pytest.mark.parametrize('lens', ['equidistant', 'fisheye'])
def test_a_fisheye_sees_far_to_the_side(lens):
    calibration = calibration_with(lens)
    camera = Camera(calibration, WIDTH, HEIGHT)
    for degrees in (60, 80, 89):
        angle = math.radians(degrees)
        ray = np.array([math.sin(angle), 0.0, math.cos(angle)])
        x, y = projected([ray], calibration)[0]
        assert angle_between(camera.bearing(x, y).ray, ray) < 1e-6


def test_a_fisheye_sees_behind_itself():
    # Straight proportion: 300 px off the centre at 100 px / rad is 3 rad.
    calibration = replace(
        PLAIN, k=(100.0, 0, 320, 0, 100, 240, 0, 0, 1), d=(0.0,) * 4,
        distortion_model='equidistant',
    )  # fmt: skip
    bearing = Camera(calibration, WIDTH, HEIGHT).bearing(320.5 + 300, 240.5)
    assert bearing.azimuth == pytest.approx(3.0)
    assert Camera(calibration, WIDTH, HEIGHT).bearing(320.5 + 315, 240.5) is None


def test_signs_are_those_of_the_optical_frame():
    camera = Camera(PLAIN, WIDTH, HEIGHT)
    right_and_up = camera.bearing(500, 100)
    assert right_and_up.azimuth > 0
    assert right_and_up.elevation > 0
    x, y, z = right_and_up.ray
    assert x > 0 > y
    assert z > 0
    ahead = camera.bearing(K[2] + 0.5, K[5] + 0.5)
    assert ahead.ray == pytest.approx([0, 0, 1], abs=1e-12)


@pytest.mark.parametrize('lens', LENSES)
def test_the_covariance_follows_small_changes_of_the_place(lens):
    camera = Camera(calibration_with(lens), WIDTH, HEIGHT)
    covariance = np.array([[4.0, 1.5], [1.5, 9.0]])
    step = 1e-4
    for x, y in ((500.0, 120.0), (321.0, 400.0), (60.0, 70.0), (319.2, 243.6)):
        slopes = [
            [
                (getattr(after, name) - getattr(before, name)) / (2 * step)
                for before, after in (
                    (camera.bearing(x - step, y), camera.bearing(x + step, y)),
                    (camera.bearing(x, y - step), camera.bearing(x, y + step)),
                )
            ]
            for name in ('azimuth', 'elevation')
        ]
        expected = np.array(slopes) @ covariance @ np.transpose(slopes)
        found = camera.bearing(x, y, covariance).covariance
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-12)
        assert (np.linalg.eigvalsh(found) > 0).all()
    assert not camera.bearing(500.0, 120.0).covariance.any()


def test_skew_counts():
    skewed = replace(PLAIN, k=(410.0, 3.0, 318.7, 0.0, 405.0, 243.1, 0, 0, 1), d=())
    matrix = np.array(skewed.k).reshape(3, 3)
    ray = np.array([0.3, -0.2, 1.0])
    x, y = (matrix @ ray)[:2] + 0.5
    found = Camera(skewed, WIDTH, HEIGHT).bearing(x, y).ray
    assert found == pytest.approx(ray / np.linalg.norm(ray))


def test_where_the_lens_model_ends_there_is_no_direction():
    # This barrel distortion folds over at a radius of sqrt(1 / (3 * 0.28)), 0.73 in the image.
    camera = Camera(replace(PLAIN, d=(-0.28, 0.0, 0.0, 0.0)), WIDTH, HEIGHT)
    assert camera.bearing(K[2] + 0.70 * 410, K[5]) is not None
    assert camera.bearing(K[2] + 0.75 * 410, K[5]) is None
    assert camera.bearing(math.nan, 10.0) is None
    assert camera.bearing(1e308, 10.0) is None


def test_a_fisheye_polynomial_that_turns_back_ends_there():
    calibration = replace(PLAIN, distortion_model='equidistant', d=(-0.2, 0.0, 0.0, 0.0))
    camera = Camera(calibration, WIDTH, HEIGHT)
    widest = math.sqrt(1 / 0.6)
    radius = widest * (1 - 0.2 * widest**2)
    inside = camera.bearing(K[2] + 0.5 + 0.999 * radius * 410, K[5] + 0.5)
    assert 0.9 * widest < inside.azimuth < widest
    assert camera.bearing(K[2] + 0.5 + 1.001 * radius * 410, K[5] + 0.5) is None


def test_binning_and_region_of_interest():
    whole = Camera(PLAIN, WIDTH, HEIGHT)
    part = replace(PLAIN, binning=(2, 4), region=Region(100, 40, 400, 320))
    camera = Camera(part, 200, 80)
    expected = whole.bearing(100 + 2 * 30.5, 40 + 4 * 60.25, np.diag([4.0, 16.0]))
    found = camera.bearing(30.5, 60.25, np.eye(2))
    assert found.ray == pytest.approx(expected.ray)
    assert found.covariance == pytest.approx(expected.covariance)
    # 0 is what a driver sends that does not bin, and a region of no size is the whole sensor.
    same = Camera(replace(PLAIN, binning=(0, 0), region=Region(0, 0, 0, 0)), WIDTH, HEIGHT)
    assert same.bearing(30.5, 60.25).ray == pytest.approx(whole.bearing(30.5, 60.25).ray)


def test_a_side_that_binning_does_not_divide_is_rounded():
    odd = replace(PLAIN, width=641, binning=(2, 2))
    assert Camera(odd, 320, 240).bearing(10, 20).ray == pytest.approx(
        Camera(replace(PLAIN, width=641), 641, 480).bearing(20, 40).ray
    )


def test_a_resized_copy_is_scaled():
    found = Camera(PLAIN, 320, 240).bearing(100, 60, np.eye(2))
    expected = Camera(PLAIN, WIDTH, HEIGHT).bearing(200, 120, 4 * np.eye(2))
    assert found.ray == pytest.approx(expected.ray)
    assert found.covariance == pytest.approx(expected.covariance)


def test_other_images_are_refused():
    words = r'camera_info is for images of 640 x 480 px, but they have 640 x 360'
    with pytest.raises(CalibrationError, match=words):
        Camera(PLAIN, 640, 360)


def test_a_rectified_image_gives_the_direction_of_the_raw_one():
    turn, _ = cv2.Rodrigues(np.array([0.02, -0.05, 0.01]))
    p = (380.0, 0, 310, -45.6, 0, 380.0, 236, 0, 0, 0, 1, 0)
    pair = replace(PLAIN, r=tuple(turn.ravel()), p=p)
    raw = Camera(pair, WIDTH, HEIGHT)
    rectified = Camera(pair, WIDTH, HEIGHT, rectified=True)
    matrix, lens = np.array(K).reshape(3, 3), np.array(RADIAL)
    for place in ((120.0, 90.0), (500.0, 400.0)):
        there = cv2.undistortPoints(
            np.array([[place]]) - 0.5, matrix, lens, R=turn, P=np.array(p).reshape(3, 4)[:, :3],
        )[0, 0] + 0.5  # fmt: skip
        # OpenCV's own way back stops after five steps, so it is the one that is not exact.
        assert angle_between(rectified.bearing(*there).ray, raw.bearing(*place).ray) < 1e-4


def test_a_rectified_image_needs_no_r():
    alone = replace(PLAIN, r=(0.0,) * 9, p=(410.0, 0, 318.7, 0, 0, 405.0, 243.1, 0, 0, 0, 1, 0))
    found = Camera(alone, WIDTH, HEIGHT, rectified=True).bearing(100.0, 60.0)
    plain = Camera(replace(PLAIN, d=()), WIDTH, HEIGHT).bearing(100.0, 60.0)
    assert found.ray == pytest.approx(plain.ray)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'k': (0.0,) * 9}, 'K is zero: the camera is not calibrated'),
        ({'k': (math.nan,) * 9}, 'K has entries that are not finite'),
        ({'k': K[:8]}, 'K has 8 entries, it must have 9'),
        ({'k': (-410.0, *K[1:])}, 'focal lengths -410 and 405'),
        ({'k': (*K[:8], 0.0)}, 'K is no camera matrix'),
        ({'k': K[::-1]}, 'K is no camera matrix|focal lengths'),
        ({'width': 0}, 'width and height are 0 x 480'),
        ({'d': RADIAL[:3]}, 'D has 3 entries; plumb_bob has 4 or 5'),
        ({'d': RATIONAL}, 'D has 8 entries; plumb_bob has 4 or 5'),
        ({'d': (math.inf, 0, 0, 0, 0)}, 'D has entries that are not finite'),
        ({'distortion_model': 'equidistant'}, 'D has 5 entries; equidistant has 4'),
        ({'distortion_model': 'equidistant', 'd': ()}, 'D has 0 entries; equidistant has 4'),
        ({'distortion_model': ''}, "distortion_model is ''; known are plumb_bob, rational"),
        ({'distortion_model': 'x' * 1000}, "distortion_model is 'x{60}';"),
    ],
)
def test_a_broken_calibration_is_refused_in_words(changes, words):
    with pytest.raises(CalibrationError, match=words):
        Camera(replace(PLAIN, **changes), WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({}, 'P has 0 entries'),
        ({'p': (0.0,) * 12}, 'P is zero'),
        ({'p': (*K[:3], 0, *K[3:6], 0, *K[6:], 0), 'r': (1.0,) * 9}, 'R is no rotation'),
        ({'p': (*K[:3], 0, *K[3:6], 0, *K[6:], 0), 'r': (math.nan,) * 9}, 'R .* not finite'),
    ],
)
def test_a_broken_rectification_is_refused_in_words(changes, words):
    with pytest.raises(CalibrationError, match=words):
        Camera(replace(PLAIN, **changes), WIDTH, HEIGHT, rectified=True)


def test_coefficients_with_zeros_behind_are_taken():
    longer = Camera(replace(PLAIN, d=(*RADIAL, 0.0, 0.0, 0.0)), WIDTH, HEIGHT)
    expected = Camera(PLAIN, WIDTH, HEIGHT).bearing(60.0, 70.0).ray
    assert longer.bearing(60.0, 70.0).ray == pytest.approx(expected)


@pytest.mark.parametrize(
    ('place', 'error'),
    [((0, 0), (-1, -1)), ((320, 240), (0, 0)), ((640, 480), (1, 1)), ((480, -90), (0.5, -1))],
)
def test_the_image_error_is_1_at_the_border(place, error):
    assert image_error(Box.from_center(*place, 30, 20), WIDTH, HEIGHT) == pytest.approx(error)


@pytest.mark.parametrize(
    ('topic', 'expected'),
    [
        ('/camera/image_rect', True),
        ('/camera/image_rect_color/compressed', True),
        ('/camera/image_raw', False),
        ('/rectory/image', False),
    ],
)
def test_rectified_images_are_known_by_their_topic(topic, expected):
    assert is_rectified(topic) is expected
