# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The filter that predicts boxes."""

import math
from itertools import pairwise

import numpy as np
import pytest

from tracker_ros.geometry import Box
from tracker_ros.tracking import motion as constants
from tracker_ros.tracking.motion import Motion, predict_to_now

INTERVAL_S = 1 / 30
BOX = Box(100.0, 80.0, 60.0, 40.0)
SIZE = (640, 480)


def moved(box, vx, vy, seconds, growth=0.0):
    return Box.from_center(
        box.cx + vx * seconds,
        box.cy + vy * seconds,
        box.w + growth * seconds,
        box.h + growth * seconds,
    )


def following(boxes, interval_s=INTERVAL_S, image_size=None):
    motion = Motion()
    motion.start(boxes[0], 0.0, image_size)
    for number, box in enumerate(boxes[1:], 1):
        motion.update(box, number * interval_s)
    return motion


def straight(count, vx=90.0, vy=-45.0, interval_s=INTERVAL_S, growth=0.0):
    return [moved(BOX, vx, vy, number * interval_s, growth) for number in range(count)]


@pytest.fixture
def motion():
    """Has followed a target with a velocity of (90, -45) px/s for 2 s."""
    return following(straight(61))


@pytest.mark.parametrize('interval_s', [1 / 120, 1 / 30, 0.1])
def test_exact_on_constant_velocity(interval_s):
    count = round(4 / interval_s) + 1
    boxes = straight(count, 240.0, -120.0, interval_s, growth=6.0)
    motion = following(boxes, interval_s)
    last_s = (count - 1) * interval_s
    for ahead_s in (interval_s, 0.1, 0.2):
        predicted = motion.predict(last_s + ahead_s)
        expected = moved(BOX, 240.0, -120.0, last_s + ahead_s, 6.0)
        assert (predicted.box.cx, predicted.box.cy) == pytest.approx(
            (expected.cx, expected.cy), abs=1e-3
        )
        if ahead_s <= 0.1:  # further ahead a change of size is not believed
            assert (predicted.box.w, predicted.box.h) == pytest.approx(
                (expected.w, expected.h), abs=0.05
            )
    assert motion.predict(last_s).velocity == pytest.approx([240, -120, 6, 6], rel=0.01)


def test_a_target_that_stands_is_predicted_where_it_is():
    predicted = following([BOX] * 30).predict(5.0)
    assert predicted.box.xywh() == pytest.approx(BOX.xywh())
    assert predicted.velocity == pytest.approx(np.zeros(4), abs=1e-9)


def test_a_velocity_is_not_believed_for_ever(motion):
    at_once, later, much_later = (
        motion.predict(2.0 + ahead_s).box.cx - motion.predict(2.0).box.cx
        for ahead_s in (0.2, 20.0, 60.0)
    )
    assert at_once == pytest.approx(18.0, abs=0.01)
    assert 90 < later < 3 * 90
    assert later == pytest.approx(much_later, abs=0.1)


def test_what_goes_to_and_fro_is_not_expected_far_away():
    stamps = np.arange(0, 3, INTERVAL_S)
    places = [BOX.cx + 20 * math.sin(8 * stamp_s) for stamp_s in stamps]
    swinging = following([Box.from_center(place, 100, 60, 40) for place in places])
    velocity = swinging.predict(stamps[-1]).velocity[0]
    ahead = swinging.predict(stamps[-1] + 1.0).box.cx - swinging.predict(stamps[-1]).box.cx
    assert abs(velocity) > 50
    assert abs(ahead) < 0.3 * abs(velocity)


def test_predicting_changes_nothing(motion):
    before = motion.predict(2.1)
    motion.predict(9.0).covariance[:] = 0
    motion.predict(2.1).velocity[:] = 0
    motion.distance(BOX, 7.0)
    after = motion.predict(2.1)
    assert after.box == before.box
    assert (after.velocity == before.velocity).all()
    assert (after.covariance == before.covariance).all()


def test_the_covariance_grows_while_predicting_and_shrinks_with_a_box(motion):
    places = [motion.predict(2.0 + ahead_s).covariance[:4, :4] for ahead_s in (0, 0.05, 0.2, 1, 3)]
    for earlier, later in pairwise(places):
        assert (np.linalg.eigvalsh(later - earlier) > 0).all()
    expected = motion.predict(2.2)
    motion.update(expected.box, 2.2)
    left = expected.covariance[:4, :4] - motion.predict(2.2).covariance[:4, :4]
    assert (np.linalg.eigvalsh(left) > 0).all()


def test_the_covariance_stays_symmetric_and_positive():
    generator = np.random.default_rng(3)
    motion = following([BOX])
    stamp_s = 0.0
    for _ in range(500):
        stamp_s += generator.choice([0.0, 0.001, 0.03, 0.5, 2.9])
        box = Box.from_center(*(generator.normal(300, 80, 2)), *generator.uniform(1, 200, 2))
        motion.update(box, stamp_s, generator.uniform())
        covariance = motion.predict(stamp_s).covariance
        assert (covariance == covariance.T).all()
        assert (np.linalg.eigvalsh(covariance) > 0).all()


def simulated(generator, liveliness, count=300):
    """Boxes of a target of about 200 px that moves and is measured as the filter assumes."""
    unit, dt = 200.0, INTERVAL_S
    place, velocity = np.array([3e4, 3e4, unit, unit]), np.zeros(4)
    noises = [
        np.repeat(pair, 2) * unit
        for pair in (constants._ACCELERATION_NOISE, constants._WALK_NOISE, constants._BOX_NOISE)
    ]
    acceleration, walk, measured = noises
    scale = math.sqrt(liveliness)
    boxes = []
    for _ in range(count):
        kick = generator.normal(size=(2, 4)) * acceleration * scale
        # What white acceleration does to place and velocity within a frame, with its correlation.
        place = place + dt * velocity + dt**1.5 * (kick[0] / 2 + kick[1] / math.sqrt(12))
        place = place + math.sqrt(dt) * scale * walk * generator.normal(size=4)
        velocity = velocity + math.sqrt(dt) * kick[0]
        # A target whose size runs away has another unit than this one.
        place[2:] += 0.1 * (unit - place[2:])
        velocity[2:] *= 0.5
        boxes.append(Box.from_center(*(place + measured * generator.normal(size=4)).tolist()))
    return boxes


@pytest.mark.parametrize('liveliness', [0.1, 1.0, 6.0])
def test_consistent_with_what_it_says(liveliness):
    """Normalised innovations squared have the mean of their chi-square distribution."""
    generator = np.random.default_rng(11)
    found = []
    for _ in range(12):
        boxes = simulated(generator, liveliness)
        motion = following(boxes[:100])
        for number in range(100, len(boxes)):
            stamp_s = number * INTERVAL_S
            found.append(motion.distance(boxes[number], stamp_s))
            motion.update(boxes[number], stamp_s)
    # A chi-square of 4 degrees over 4: mean 1, and 5 % are above 2.372.
    assert 0.8 < np.mean(found) < 1.2
    assert 0.02 < np.mean(np.array(found) > 2.372) < 0.08


def test_a_lively_target_is_expected_in_a_wider_place():
    generator = np.random.default_rng(5)
    quiet, lively = (
        following(simulated(generator, liveliness)).predict(11.0).covariance[0, 0]
        for liveliness in (0.1, 5.0)
    )
    assert lively > 5 * quiet


def test_noise_is_in_units_of_the_size():
    small = following(straight(40))
    large = following([Box(*(10 * value for value in box.xywh())) for box in straight(40)])
    stamp_s = 40 * INTERVAL_S
    assert large.predict(stamp_s).covariance == pytest.approx(
        100 * small.predict(stamp_s).covariance
    )


def test_confidence_is_the_weight_of_a_box(motion):
    expected = motion.predict(2.1).box
    beside = Box(expected.x + 20, expected.y, expected.w, expected.h)
    pulls = []
    for confidence in (1.0, 0.5, 0.1, 0.0, math.nan):
        motion = following(straight(61))
        motion.update(beside, 2.1, confidence)
        pulls.append(motion.predict(2.1).box.cx - expected.cx)
    assert pulls[0] > pulls[1] > pulls[2] > pulls[3] > 0
    assert pulls[0] > 10
    assert pulls[3] == pulls[4] < 2


def test_distance(motion):
    stamp_s = 2.0 + INTERVAL_S
    expected = motion.predict(stamp_s).box
    assert motion.distance(expected, stamp_s) == pytest.approx(0, abs=1e-9)
    beside = [
        motion.distance(Box(expected.x + away, expected.y, expected.w, expected.h), stamp_s)
        for away in (1, 5, 60)
    ]
    assert beside[0] < 1 < beside[1] < beside[2]
    assert motion.distance(Box(math.nan, 0, 1, 1), stamp_s) == math.inf


@pytest.mark.parametrize('stamp_s', [2.0, 1.5, -1e9, math.nan, math.inf, -math.inf])
def test_a_stamp_that_does_not_advance(motion, stamp_s):
    newest = motion.predict(2.0)
    assert motion.predict(stamp_s).box == newest.box
    box = Box(newest.box.x + 3, newest.box.y, newest.box.w, newest.box.h)
    motion.update(box, stamp_s)
    after = motion.predict(stamp_s)
    assert newest.box.cx < after.box.cx <= box.cx
    assert np.isfinite(after.covariance).all()


def test_it_goes_on_after_time_has_gone_back(motion):
    for number, box in enumerate(straight(60)):
        motion.update(box, -50.0 + number * INTERVAL_S)
    assert motion.predict(-50.0 + 60 * INTERVAL_S).box.cx == pytest.approx(
        moved(BOX, 90, -45, 2.0).cx, abs=0.2
    )


def test_a_camera_without_stamps_is_followed():
    motion = following([BOX])
    for box in straight(60):
        motion.update(box, 0.0)
    assert motion.predict(0.0).box.cx == pytest.approx(straight(60)[-1].cx, abs=1.0)


def test_a_start_without_a_stamp():
    motion = Motion()
    motion.start(BOX, math.nan)
    assert motion.stamp_s is None
    assert motion.predict(5.0).box == BOX
    motion.update(BOX, 7.0)
    assert motion.stamp_s == 7.0


def test_after_a_long_gap_the_velocity_is_learnt_anew(motion):
    there = Box(400, 300, 50, 50)
    motion.update(there, 1000.0, 0.5)
    predicted = motion.predict(1000.0)
    assert predicted.box == there
    assert not predicted.velocity.any()


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('place', range(4))
def test_a_box_that_is_not_finite_is_ignored(motion, bad, place):
    before = motion.predict(2.2)
    values = list(BOX.xywh())
    values[place] = bad
    motion.update(Box(*values), 2.1)
    after = motion.predict(2.2)
    assert after.box == before.box
    assert (after.covariance == before.covariance).all()
    with pytest.raises(ValueError, match='not finite'):
        motion.start(Box(*values), 0.0)


@pytest.mark.parametrize('growth', [-900.0, 5000.0])
def test_a_box_stays_within_the_image_and_above_a_pixel(growth):
    motion = Motion()
    motion.start(BOX, 0.0, SIZE)
    for number in range(1, 60):
        box = moved(BOX, 4000.0, -3000.0, number * INTERVAL_S, growth)
        motion.update(Box.from_center(box.cx, box.cy, max(box.w, -50), box.h), number * INTERVAL_S)
        for ahead_s in (0.0, 0.1, 2.0):
            predicted = motion.predict(number * INTERVAL_S + ahead_s)
            assert 1 <= predicted.box.w <= SIZE[0]
            assert 1 <= predicted.box.h <= SIZE[1]
            assert -predicted.box.w / 2 <= predicted.box.cx <= SIZE[0] + predicted.box.w / 2
            assert -predicted.box.h / 2 <= predicted.box.cy <= SIZE[1] + predicted.box.h / 2
            assert np.isfinite(predicted.covariance).all()


def test_a_camera_that_moves_takes_the_target_along(motion):
    before = motion.predict(2.0)
    motion.warp(np.array([[1.0, 0.0, 12.0], [0.0, 1.0, -7.0]]))
    after = motion.predict(2.0)
    assert after.box.cx == pytest.approx(before.box.cx + 12)
    assert after.box.cy == pytest.approx(before.box.cy - 7)
    assert (after.box.w, after.box.h) == pytest.approx((before.box.w, before.box.h))
    assert after.velocity == pytest.approx(before.velocity)
    assert after.covariance == pytest.approx(before.covariance)


def test_a_camera_that_turns_and_zooms(motion):
    before = motion.predict(2.0)
    angle, zoom = 0.1, 1.2
    turn = zoom * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    motion.warp(np.column_stack([turn, [5.0, 6.0]]))
    after = motion.predict(2.0)
    centre = turn @ (before.box.cx, before.box.cy) + (5, 6)
    assert (after.box.cx, after.box.cy) == pytest.approx(tuple(centre))
    assert (after.box.w, after.box.h) == pytest.approx((zoom * before.box.w, zoom * before.box.h))
    assert after.velocity[:2] == pytest.approx(turn @ before.velocity[:2])
    assert after.covariance[:2, :2] == pytest.approx(turn @ before.covariance[:2, :2] @ turn.T)


def test_a_target_on_the_scene_is_predicted_well_while_the_camera_shakes():
    generator = np.random.default_rng(7)
    shakes = np.cumsum(generator.normal(0, 15, (90, 2)), axis=0)
    errors = {}
    for told in (False, True):
        motion = following([BOX])
        errors[told] = []
        for number in range(1, 90):
            stamp_s = number * INTERVAL_S
            if told:
                step = shakes[number] - shakes[number - 1]
                motion.warp(np.column_stack([np.eye(2), step]))
            shift = shakes[number] - shakes[0]
            box = Box(BOX.x + shift[0], BOX.y + shift[1], BOX.w, BOX.h)
            predicted = motion.predict(stamp_s).box
            errors[told].append(math.hypot(predicted.cx - box.cx, predicted.cy - box.cy))
            motion.update(box, stamp_s)
    assert np.mean(errors[True]) < 0.01 < 10 < np.mean(errors[False])


def panned(target_speed, camera_speed, told, count=60):
    """Has followed a target while the camera moved, both along x and in px/s of the image."""
    motion = following([BOX])
    step = np.array([[1.0, 0.0, camera_speed * INTERVAL_S], [0.0, 1.0, 0.0]])
    for number in range(1, count):
        stamp_s = number * INTERVAL_S
        if told:
            motion.warp(step, stamp_s)
        motion.update(moved(BOX, target_speed, 0.0, stamp_s), stamp_s)
    return motion


@pytest.mark.parametrize('told', [False, True])
@pytest.mark.parametrize(
    ('target_speed', 'camera_speed'), [(0.0, -300.0), (200.0, 200.0), (250.0, -100.0)]
)
def test_a_camera_that_pans_goes_on_to_do_so(target_speed, camera_speed, told):
    motion = panned(target_speed, camera_speed, told)
    last_s = motion.stamp_s
    assert motion.predict(last_s).velocity[0] == pytest.approx(target_speed, abs=1.0)
    for ahead_s in (INTERVAL_S, 0.1):
        place = motion.predict(last_s + ahead_s).box.cx
        assert place == pytest.approx(BOX.cx + target_speed * (last_s + ahead_s), abs=1.0)


def test_the_motion_of_a_camera_counts_once():
    motion = panned(0.0, -300.0, told=True)
    now_s = motion.stamp_s + INTERVAL_S
    guessed = motion.predict(now_s).box
    motion.warp(np.array([[1.0, 0.0, -300.0 * INTERVAL_S], [0.0, 1.0, 0.0]]), now_s)
    assert motion.predict(now_s).box.cx == pytest.approx(guessed.cx, abs=0.1)


def test_a_camera_that_stops_has_stopped():
    motion = panned(0.0, -300.0, told=True)
    for number in range(1, 20):
        stamp_s = 59 * INTERVAL_S + number * INTERVAL_S
        motion.warp(np.eye(2, 3), stamp_s)
        motion.update(BOX, stamp_s)
    assert motion.predict(stamp_s + 0.1).box.cx == pytest.approx(BOX.cx, abs=3.0)
    assert motion.predict(stamp_s + 0.1).velocity[0] == pytest.approx(0, abs=30.0)


@pytest.mark.parametrize('stamp_s', [math.nan, math.inf, -5.0, 1e9])
def test_a_warp_with_a_useless_stamp_still_moves_the_target(motion, stamp_s):
    before = motion.predict(2.0).box
    motion.warp(np.array([[1.0, 0.0, 12.0], [0.0, 1.0, 0.0]]), stamp_s)
    assert motion.predict(2.0).box.cx == pytest.approx(before.cx + 12)
    motion.update(before, 2.1)
    assert np.isfinite(motion.predict(2.2).covariance).all()


@pytest.mark.parametrize(
    'matrix',
    [
        np.full((2, 3), math.nan),
        [[1, 0, math.inf], [0, 1, 0]],
        np.zeros((2, 3)),
        [[-1, 0, 0], [0, 1, 0]],
    ],
)
def test_a_warp_that_no_camera_makes_is_ignored(motion, matrix):
    before = motion.predict(2.0).box
    motion.warp(matrix)
    assert motion.predict(2.0).box == before


def test_before_the_start():
    motion = Motion()
    assert motion.stamp_s is None
    for call in (
        lambda: motion.predict(0.0),
        lambda: motion.update(BOX, 0.0),
        lambda: motion.distance(BOX, 0.0),
        lambda: motion.warp(np.eye(2, 3)),
    ):
        with pytest.raises(RuntimeError, match='start'):
            call()


def test_a_start_forgets_what_was(motion):
    motion.start(BOX, 3.0)
    predicted = motion.predict(3.5)
    assert predicted.box == BOX
    assert not predicted.velocity.any()


def test_predict_to_now(motion):
    now = predict_to_now(motion, 2.12)
    assert (now.seen_s, now.age_s) == pytest.approx((2.0, 0.12))
    assert now.predicted.box == motion.predict(2.12).box
    assert predict_to_now(motion, 2.0).age_s == 0.0


def test_nothing_is_said_for_now_where_it_cannot_be(motion):
    assert predict_to_now(Motion(), 2.0) is None
    assert predict_to_now(motion, 1.99) is None
    assert predict_to_now(motion, 3.01) is None
    assert predict_to_now(motion, 3.01, longest_s=2.0) is not None
    assert predict_to_now(motion, math.nan) is None
