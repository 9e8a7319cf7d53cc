# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
import threading

import pytest

from tracker_ros.lookahead import Lookahead

PATIENCE_S = 30.0


def everything(ahead):
    items = []
    while (item := ahead.take()) is not None:
        items.append(item)
    return items


class Steps:
    """An iterator that tells how far it came and can be waited for."""

    def __init__(self, count=10**9):
        self.count = count
        self.made = 0
        self.reached = threading.Condition()
        self.thread = None

    def __iter__(self):
        self.thread = threading.current_thread()
        for number in range(1, self.count + 1):
            with self.reached:
                self.made = number
                self.reached.notify_all()
            yield number

    def wait_for(self, number):
        with self.reached:
            assert self.reached.wait_for(lambda: self.made >= number, PATIENCE_S)


def test_items_come_in_order_and_then_none():
    ahead = Lookahead(iter(range(1, 50)), depth=3)
    assert everything(ahead) == list(range(1, 50))
    assert ahead.take() is None


def test_it_works_ahead_but_not_farther_than_told():
    steps = Steps()
    ahead = Lookahead(iter(steps), depth=3)
    steps.wait_for(4)  # three wait, the fourth is in hand
    assert ahead.take() == 1
    steps.wait_for(5)
    assert steps.made == 5
    assert steps.thread is not threading.current_thread()
    ahead.close()


def test_a_live_source_keeps_only_the_newest():
    steps = Steps(1000)
    ahead = Lookahead(iter(steps), depth=1, newest_only=True)
    steps.wait_for(1000)
    ahead._thread.join(PATIENCE_S)
    assert everything(ahead) == [1000]


def test_an_error_comes_after_the_items_before_it():
    def failing():
        yield 1
        yield 2
        raise ValueError('broken picture')

    ahead = Lookahead(failing(), depth=5)
    assert [ahead.take(), ahead.take()] == [1, 2]
    with pytest.raises(ValueError, match='broken picture'):
        ahead.take()


def test_close_ends_the_thread_while_it_waits_for_room():
    steps = Steps()
    ahead = Lookahead(iter(steps), depth=2)
    steps.wait_for(3)
    ahead.close()
    assert not ahead._thread.is_alive()
    assert ahead.take() is None


def test_wake_frees_who_waits_for_an_item():
    may_end = threading.Event()

    def slow():
        may_end.wait(PATIENCE_S)
        yield 1

    ahead = Lookahead(slow(), depth=1)
    taken = []
    taker = threading.Thread(target=lambda: taken.append(ahead.take()))
    taker.start()
    ahead.wake()
    taker.join(PATIENCE_S)
    assert taken == [None]
    may_end.set()
    ahead.close()
