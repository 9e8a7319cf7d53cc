# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How many looks fit between two frames."""

import math

import pytest

from tracker_ros.tracking.pace import Pace


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def paced(period_s=0.1, look_s=0.01, frames=200):
    """A pace that has seen frames so far apart, and looks that took so long."""
    clock = Clock()
    pace = Pace(clock)
    pace.begin(0.0)
    for number in range(1, frames):
        pace.take(number * period_s)
    for _ in range(100):
        with pace.looking(2):
            clock.now_s += 2 * look_s
    return pace


@pytest.mark.parametrize(
    ('period_s', 'look_s', 'share', 'spent_s', 'most', 'looks'),
    [
        (0.1, 0.01, 0.5, 0.0, 100, 5),
        (0.1, 0.01, 0.5, 0.02, 100, 3),
        (0.1, 0.01, 0.5, 0.02, 2, 2),
        (0.04, 0.01, 1.0, 0.01, 100, 3),
    ],
)
def test_looks_take_the_time_that_is_left(period_s, look_s, share, spent_s, most, looks):
    pace = paced(period_s, look_s)
    counts = [pace.looks(most, share, spent_s + 1e-6) for _ in range(100)]
    assert sum(counts) / 100 == pytest.approx(looks, abs=0.05)
    assert max(counts) <= looks


def test_where_no_time_is_left_there_is_a_look_now_and_then():
    pace = paced(period_s=0.02, look_s=0.03)
    assert sum(pace.looks(6, 0.5, 0.03) for _ in range(100)) == 25


def test_before_any_look_one_is_thought_to_take_as_long_as_the_network():
    pace = Pace(Clock())
    pace.begin(None)
    assert pace.looks(100, 1.0, 0.004) == 7


def test_images_without_stamps_are_equally_spaced():
    pace = Pace(Clock())
    pace.begin(None)
    stamps = []
    for stamp_s in (None, None, math.nan):
        pace.take(stamp_s)
        stamps.append(pace.stamp_s)
    assert stamps == pytest.approx([1 / 30, 2 / 30, 3 / 30])


def test_stamps_are_taken_as_they_are():
    pace = Pace(Clock())
    pace.begin(7.0)
    for stamp_s in (8.0, 8.0, 3.0):
        pace.take(stamp_s)
        assert pace.stamp_s == stamp_s


def test_gaps_and_repeats_do_not_set_the_pace():
    pace = paced(period_s=0.1)
    before = pace.looks(100, 0.5, 1e-6)
    pace.take(1e6)
    pace.take(1e6)
    pace.take(0.0)
    pace.take(1e-9)
    assert pace.looks(100, 0.5, 1e-6) <= 3 * before
