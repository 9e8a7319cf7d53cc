# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The rendered scene: the same every time, and its truth is what the pixels show."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from tracker_ros.evaluation import scenery, vehicles
from tracker_ros.evaluation.scene import HIDDEN_BELOW, Scene, _Exposure
from tracker_ros.evaluation.sequences import read_sequence
from tracker_ros.footage import open_footage

WIDTH, HEIGHT = 320, 240


@pytest.fixture(scope='module')
def scene() -> Scene:
    """The whole course of the default scene, in small pictures."""
    return Scene(WIDTH, HEIGHT)


@pytest.fixture(scope='module')
def short() -> Scene:
    return Scene(WIDTH, HEIGHT, frames=12)


def outline(scene: Scene, index: int):
    """The box of the target's outline, whether it can be seen or not."""
    time_s = index / scene.rate_hz
    box, _ = _Exposure(scene, index, time_s)._truth_box(scene._target_pose(time_s))
    return box


def test_the_same_arguments_give_the_same_pixels(short):
    again = Scene(WIDTH, HEIGHT, frames=12)
    for index in (0, 7):
        (image, truth), (image_again, truth_again) = short.frame(index), again.frame(index)
        assert np.array_equal(image, image_again)
        assert truth == truth_again


def test_another_seed_gives_another_picture(short):
    other = Scene(WIDTH, HEIGHT, frames=12, seed=8)
    assert not np.array_equal(short.frame(0)[0], other.frame(0)[0])


def test_iterating_gives_the_frames_in_order(short):
    frames = list(short)
    assert len(frames) == len(short) == 12
    for index in (11, 0, 5):
        image, truth = short.frame(index)
        assert np.array_equal(frames[index][0], image)
        assert frames[index][1] == truth


def test_a_frame_is_a_picture(short):
    image, truth = short.frame(3)
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == np.uint8
    assert 60 < image.mean() < 160
    assert truth.visible == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize('index', [0, 45, 100, 150, 250, 299])
def test_the_truth_is_the_box_of_the_pixels_the_car_changes(scene, index):
    time_s = index / scene.rate_hz
    image, truth = _Exposure(scene, index, time_s).take(target=True)
    without, same_truth = _Exposure(scene, index, time_s).take(target=False)
    assert same_truth == truth
    changed = cv2.absdiff(image, without).max(axis=2) > 12
    columns, rows = np.flatnonzero(changed.any(axis=0)), np.flatnonzero(changed.any(axis=1))
    seen = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert np.abs(np.subtract(seen, truth.box.corners())).max() < 2.0
    # Nothing outside the box changes, but for a pixel of softness.
    x1, y1, x2, y2 = truth.box.corners()
    assert seen[0] >= math.floor(x1) - 1
    assert seen[1] >= math.floor(y1) - 1
    assert seen[2] <= math.ceil(x2) + 1
    assert seen[3] <= math.ceil(y2) + 1


def test_the_car_is_hidden_once_for_about_four_tenths_of_a_second(scene):
    visible = np.array([scene.frame(index)[1].visible for index in range(170, 260)])
    hidden = np.flatnonzero(visible < HIDDEN_BELOW)
    assert 0.25 <= len(hidden) / scene.rate_hz <= 0.6
    assert np.all(np.diff(hidden) == 1)
    assert visible[0] > 0.97
    assert visible[-1] > 0.97
    assert scene.frame(170 + int(hidden[0]))[1].box is None
    assert scene.frame(170 + int(hidden[0]) - 1)[1].box is not None


def test_what_is_hidden_cannot_be_seen_in_the_pixels(scene):
    index = 211
    time_s = index / scene.rate_hz
    image, truth = _Exposure(scene, index, time_s).take(target=True)
    without, _ = _Exposure(scene, index, time_s).take(target=False)
    assert truth.box is None
    here = np.abs(image.astype(int) - without).mean(axis=2)
    box = outline(scene, index)
    x1, y1, x2, y2 = (round(corner) for corner in box.corners())
    assert here[y1:y2, x1:x2].mean() < 8


def test_long_scenes_pass_under_the_bridge():
    scene = Scene(WIDTH, HEIGHT, frames=400)
    under = [index for index in range(330, 400, 2) if scene.frame(index)[1].visible < 0.01]
    assert 4 <= len(under) <= 20


@pytest.mark.parametrize('size', [(1280, 720), (320, 240), (240, 240), (640, 320)])
def test_the_car_stays_inside_and_the_ground_fills_the_picture(size):
    scene = Scene(*size, frames=1800)
    half = scenery.HALF_HEIGHT_M
    for index in range(0, 1800, 15):
        box = outline(scene, index)
        assert size != (1280, 720) or 60 <= max(box.w, box.h) <= 110
        x1, y1, x2, y2 = box.corners()
        assert x1 > 0
        assert y1 > 0
        assert x2 < size[0]
        assert y2 < size[1]
        back = cv2.invertAffineTransform(scene._camera(index / 30).matrix(0))
        corners = np.array([[0, 0], [size[0], 0], [0, size[1]], size]) @ back[:, :2].T + back[:, 2]
        assert np.abs(corners[:, 1]).max() < half


def test_there_are_look_alikes_in_every_picture(scene):
    shape = [part.outline for part in scene._target.slices]
    for index in range(0, 300, 20):
        exposure = _Exposure(scene, index, index / scene.rate_hz)
        near = exposure._in_sight(scene._traffic)
        alike = [
            vehicle
            for vehicle, *_ in near
            if all(
                np.allclose(part.outline, own)
                for part, own in zip(vehicle.slices, shape, strict=True)
            )
        ]
        assert len(alike) >= 2


def test_no_look_alike_looks_the_same():
    pictures = [
        np.hstack([part.picture.ravel() for part in car.slices])
        for scene in [Scene(WIDTH, HEIGHT, frames=1)]
        for car in (scene._target, *scene._twins)
    ]
    for number, picture in enumerate(pictures):
        for other in pictures[number + 1 :]:
            assert np.abs(picture.astype(int) - other).mean() > 1


def test_cars_do_not_drive_through_each_other(scene):
    for index in range(0, 300, 3):
        time_s = index / scene.rate_hz
        poses = [scene._target_pose(time_s)]
        poses += [pose for _, pose in scene._traffic(time_s, time_s)]
        places = np.array([[pose.x, pose.y] for pose in poses])
        apart = np.linalg.norm(places[:, None] - places[None], axis=2) + 99 * np.eye(len(places))
        assert apart.min() > vehicles.CAR_WIDTH_M


def test_faster_things_are_more_blurred():
    quick, slow = Scene(WIDTH, HEIGHT, 60, 10.0), Scene(WIDTH, HEIGHT, 600, 100.0)
    # The same moment; at a lower rate the shutter is open for longer.
    sharpness = [
        cv2.Laplacian(picture, cv2.CV_64F).var()
        for picture in (quick.frame(30)[0], slow.frame(300)[0])
    ]
    assert sharpness[0] < 0.9 * sharpness[1]


def test_what_is_written_is_what_was_rendered(short, tmp_path):
    path = short.write(tmp_path / 'scene')
    with open_footage(path) as footage:
        assert footage.size == (WIDTH, HEIGHT)
        assert footage.rate_hz == pytest.approx(30)
        decoded = list(footage)
    rendered = [image for image, _ in short]
    assert len(decoded) == len(rendered)
    for index, image in enumerate(decoded):
        errors = [np.abs(image.astype(int) - other).mean() for other in rendered]
        assert int(np.argmin(errors)) == index
        assert errors[index] < 6


def test_what_is_written_is_a_sequence(short, tmp_path):
    folder = tmp_path / 'scene'
    short.write(folder)
    sequence = read_sequence(folder)
    assert len(sequence) == 12
    for row, (_, truth) in zip(sequence.truth, short, strict=True):
        assert row == pytest.approx(truth.box.xywh(), abs=0.006)


def test_a_hidden_car_has_no_box_in_the_file(tmp_path):
    scene = Scene(160, 120, frames=72, rate_hz=10.0)
    scene.write(tmp_path)
    lines = (tmp_path / 'groundtruth.txt').read_text(encoding='utf-8').splitlines()
    hidden = [index for index, line in enumerate(lines) if line == 'nan,nan,nan,nan']
    assert len(lines) == 72
    assert hidden == [index for index in range(72) if scene.frame(index)[1].box is None]
    assert hidden


def test_a_folder_that_cannot_be_written_is_named(short, tmp_path):
    (tmp_path / 'video.mp4').mkdir()
    with pytest.raises(OSError, match=r'video\.mp4'):
        short.write(tmp_path)


def test_frames_outside_the_scene_are_refused(short):
    for index in (-1, 12):
        with pytest.raises(IndexError, match='0 to 11'):
            short.frame(index)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'width': 100, 'height': 100}, 'height of 120'),
        ({'width': 200, 'height': 240}, 'between one and two heights'),
        ({'width': 900, 'height': 240}, 'between one and two heights'),
        ({'frames': 0}, 'at least one'),
        ({'rate_hz': 0.0}, 'positive'),
        ({'rate_hz': math.nan}, 'positive'),
    ],
)
def test_impossible_scenes_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Scene(**arguments)
