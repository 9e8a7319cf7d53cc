# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The images that are kept, and running forward through them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker_ros.tracking.history import History, run_forward

MS = 1_000_000


def filled(count=10, longest_s=10.0, most_bytes=10**6, every_ms=100, size_bytes=10):
    history = History(longest_s, most_bytes)
    for number in range(count):
        history.add(number * every_ms * MS, number, size_bytes)
    return history


def items(history, stamp_ms):
    return [kept.item for kept in history.since(stamp_ms * MS)]


def test_it_gives_the_image_of_a_stamp_and_all_since():
    history = filled()
    assert items(history, 700) == [7, 8, 9]
    assert items(history, 900) == [9]
    assert items(history, 0) == list(range(10))


@pytest.mark.parametrize(
    ('stamp_ms', 'first'), [(649, 6), (651, 7), (-5000, 0), (99_000, 9), (650, 6)]
)
def test_a_stamp_between_images_takes_the_nearest(stamp_ms, first):
    assert items(filled(), stamp_ms)[0] == first


def test_it_is_bounded_in_seconds():
    history = filled(longest_s=0.35)
    assert items(history, 0) == [6, 7, 8, 9]
    assert history.span_s == pytest.approx(0.3)


def test_it_is_bounded_in_bytes():
    history = filled(most_bytes=35)
    assert items(history, 0) == [7, 8, 9]
    assert history.size_bytes == 30
    history.add(10**10, 'large', 36)
    assert len(history) == 0
    assert history.size_bytes == 0


def test_nothing_is_kept_where_nothing_may_be():
    history = filled(longest_s=0.0)
    assert items(history, 0) == [9]
    assert filled(most_bytes=0).since(0) == []
    assert filled(most_bytes=0).span_s == 0.0


def test_bounds_may_change():
    history = filled()
    history.longest_s = 0.15
    history.add(1000 * MS, 10, 10)
    assert items(history, 0) == [9, 10]


@pytest.mark.parametrize('stamp_ms', [900, 300, -1])
def test_time_that_goes_back_begins_anew(stamp_ms):
    history = filled()
    history.add(stamp_ms * MS, 'again', 5)
    assert items(history, 0) == ['again']
    assert history.size_bytes == 5


@given(
    st.lists(st.tuples(st.integers(-5, 50), st.integers(0, 100)), max_size=60),
    st.floats(0, 10),
    st.integers(0, 300),
)
def test_bounds_hold_whatever_comes(steps, longest_s, most_bytes):
    history = History(longest_s, most_bytes)
    stamp_ms = 0
    for step_ms, size_bytes in steps:
        stamp_ms += 10 * step_ms
        history.add(stamp_ms * MS, stamp_ms, size_bytes)
        kept = history.since(-(10**15))
        assert history.size_bytes == sum(each.size_bytes for each in kept) <= most_bytes
        assert history.span_s <= longest_s
        assert len(kept) == len(history)


class Clock:
    """Time that passes by `cost_s` for each image that is stepped through."""

    def __init__(self, cost_s):
        self.now_s = 100.0
        self.cost_s = cost_s
        self.seen = []

    def step(self, item):
        self.seen.append(item)
        self.now_s += self.cost_s

    def __call__(self):
        return self.now_s


@pytest.mark.parametrize('cost_s', [0.0, 0.001, 0.05])
def test_all_are_taken_where_there_is_time(cost_s):
    clock = Clock(cost_s)
    assert run_forward(range(10), clock.step, 1.0, clock) == 10
    assert clock.seen == list(range(10))


@pytest.mark.parametrize(('cost_s', 'most'), [(0.11, 9), (0.3, 4), (5.0, 2)])
def test_some_are_left_out_where_there_is_not(cost_s, most):
    clock = Clock(cost_s)
    count = run_forward(range(30), clock.step, 1.0, clock)
    assert clock.seen[-1] == 29, 'the newest is always reached'
    assert count == len(clock.seen) <= most
    assert clock.seen == sorted(set(clock.seen))
    # Evenly: after the first, whose cost nobody knew.
    steps = [b - a for a, b in zip(clock.seen[1:], clock.seen[2:], strict=False)]
    assert not steps or max(steps) - min(steps) <= 2


def test_there_may_be_nothing_to_run_through():
    assert run_forward([], lambda _: pytest.fail('called'), 1.0) == 0


@given(st.integers(0, 200), st.floats(0, 3), st.floats(0, 2))
def test_the_newest_is_always_reached(count, cost_s, budget_s):
    clock = Clock(cost_s)
    run_forward(range(count), clock.step, budget_s, clock)
    assert clock.seen[-1:] == list(range(count))[-1:]
    assert clock.seen == sorted(set(clock.seen))
