# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A box for a point."""

import cv2
import numpy as np
import pytest
from fakes import Square

from tracker_ros.evaluation.scene import Scene
from tracker_ros.evaluation.sequences import read_sequences
from tracker_ros.geometry import Box
from tracker_ros.tracking.proposal import propose

# Of clicks into the middle of the truth; 0.59 and 0.69 over eight frames of each sequence.
DEV_OVERLAP, DEV_SHARE = 0.5, 0.55


def disc(radius, at=(160, 120), size=(320, 240)):
    picture = np.full((size[1], size[0], 3), (60, 90, 70), np.uint8)
    cv2.circle(picture, at, radius, (40, 60, 220), cv2.FILLED, cv2.LINE_AA)
    noise = np.random.default_rng(3).integers(-6, 7, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize('radius', [6, 12, 25, 50, 80])
def test_an_object_of_any_size_is_found(radius):
    proposal = propose(disc(radius), 160, 120)
    assert proposal.box.iou(Box.from_center(160, 120, 2 * radius, 2 * radius)) > 0.7
    assert 0.25 <= proposal.overlap <= 1


@pytest.mark.parametrize(('x', 'y'), [(150, 112), (172, 126), (160, 135)])
def test_a_click_beside_the_middle_will_do(x, y):
    assert propose(disc(25), x, y).box.iou(Box.from_center(160, 120, 50, 50)) > 0.5


def test_the_same_click_gives_the_same_box():
    square = Square()
    image = square.at(60, 50)
    first = propose(image, 81, 69)
    cv2.setRNGSeed(99)
    assert propose(image, 81, 69) == first
    assert first.box.iou(square.box(60, 50)) > 0.6


def test_an_object_at_the_border_is_boxed_within_the_image():
    x1, y1, x2, y2 = propose(disc(30, at=(4, 120)), 8, 120).box.corners()
    assert x1 == 0
    assert y1 >= 0
    assert x2 <= 320
    assert y2 <= 240


def test_the_box_is_no_smaller_than_asked_for():
    box = propose(disc(5), 160, 120, smallest_px=40).box
    assert min(box.w, box.h) >= 40


@pytest.mark.parametrize('size', [(1, 1), (3, 200), (17, 17), (64, 48)])
def test_in_a_uniform_picture_of_any_size_there_is_nothing(size):
    picture = np.full((*size, 3), 90, np.uint8)
    assert propose(picture, size[1] / 2, size[0] / 2) is None


@pytest.mark.parametrize(('x', 'y'), [(0, 0), (319.9, 239.9), (0, 239.9), (319.9, 0)])
def test_a_click_into_a_corner_is_answered(x, y):
    proposal = propose(disc(25), x, y)
    assert proposal is None or proposal.box.is_finite()


def test_the_image_is_only_read():
    image = disc(25)
    image.flags.writeable = False
    assert propose(image, 160, 120)


def test_cars_of_the_rendered_scene_are_found():
    """Clicks into the middle of the car, in ten frames of its course."""
    scene = Scene(640, 480)
    overlaps = []
    for index in range(0, 150, 15):
        image, truth = scene.frame(index)
        proposal = propose(image, truth.box.cx, truth.box.cy)
        overlaps.append(proposal.box.iou(truth.box) if proposal else 0.0)
    assert np.mean(overlaps) > 0.6
    assert np.mean(np.array(overlaps) > 0.5) >= 0.8


def test_objects_of_real_footage_are_found(shared):
    """A click into the middle of the target of the first frame, and of one later on."""
    overlaps = []
    for sequence in read_sequences(shared / 'data' / 'dev'):
        for place, image in enumerate(sequence.frames()):
            if place in (0, 60):
                truth = Box(*sequence.truth[place].tolist())
                proposal = propose(image, truth.cx, truth.cy)
                overlaps.append(proposal.box.iou(truth) if proposal else 0.0)
            if place == 60:
                break
    assert np.mean(overlaps) >= DEV_OVERLAP
    assert np.mean(np.array(overlaps) > 0.5) >= DEV_SHARE
