# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The thread that works on the newest item; every meeting of threads is by events."""

import threading
from concurrent.futures import CancelledError

import pytest

from tracker_ros.ros.worker import NewestWins

WAIT_S = 30


class Rig:
    """A worker whose handling of an item can be held up."""

    def __init__(self):
        self.handled = []
        self.errors = []
        self.busy = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.worker = NewestWins('test', self._handle, self._failed)
        self.worker.start()

    def _handle(self, item):
        self.busy.set()
        assert self.go_on.wait(WAIT_S)
        if isinstance(item, Exception):
            raise item
        self.handled.append(item)

    def _failed(self, error):
        self.errors.append(error)

    def hold(self, item='held'):
        """Keeps the worker busy with `item` until `go_on`."""
        self.go_on.clear()
        self.busy.clear()
        self.worker.offer(item)
        assert self.busy.wait(WAIT_S)

    def settle(self):
        """Waits until everything that was put in before is done."""
        self.go_on.set()
        while True:
            self.worker.call(lambda: None).result(WAIT_S)
            with self.worker._changed:
                if self.worker._pending is None:
                    break
        # The last item was taken out, and is done when a task has its turn.
        self.worker.call(lambda: None).result(WAIT_S)


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.go_on.set()
    rig.worker.stop()


def test_an_item_is_handled_in_the_workers_thread(rig):
    names = []
    rig.worker.call(lambda: names.append(threading.current_thread().name)).result(WAIT_S)
    rig.worker.offer('a')
    rig.settle()
    assert rig.handled == ['a']
    assert names == ['test']


def test_the_newest_wins_and_the_others_are_counted(rig):
    rig.hold('first')
    for item in range(10):
        rig.worker.offer(item)
    rig.settle()
    assert rig.handled == ['first', 9]
    assert (rig.worker.offered, rig.worker.replaced) == (11, 9)


def test_an_item_that_was_taken_out_is_not_handled(rig):
    rig.hold('first')
    rig.worker.offer('second')
    assert rig.worker.take() == 'second'
    assert rig.worker.take() is None
    rig.settle()
    assert rig.handled == ['first']
    assert rig.worker.replaced == 0


def test_tasks_go_first_and_in_order(rig):
    rig.hold('first')
    rig.worker.offer('second')
    done = [rig.worker.call(lambda n=n: rig.handled.append(n)) for n in range(3)]
    assert not any(future.done() for future in done)
    rig.settle()
    assert rig.handled == ['first', 0, 1, 2, 'second']


def test_a_task_brings_its_result_or_its_error(rig):
    assert rig.worker.call(lambda: 7).result(WAIT_S) == 7
    with pytest.raises(ZeroDivisionError):
        rig.worker.call(lambda: 1 / 0).result(WAIT_S)
    assert rig.errors == []
    assert rig.worker.call(lambda: 8).result(WAIT_S) == 8


def test_a_task_that_is_not_wanted_any_more_is_not_run(rig):
    ran = []
    rig.hold()
    future = rig.worker.call(lambda: ran.append(1))
    assert future.cancel()
    rig.settle()
    assert ran == []


def test_an_error_is_told_and_the_next_item_handled(rig):
    error = ValueError('bad frame')
    rig.worker.offer(error)
    rig.settle()
    rig.worker.offer('good')
    rig.settle()
    assert rig.errors == [error]
    assert rig.handled == ['good']


def test_even_an_error_in_the_telling_does_not_end_the_thread(rig, capfd, monkeypatch):
    def fail(error):
        raise RuntimeError('nobody listens')

    monkeypatch.setattr(rig.worker, '_failed', fail)
    rig.worker.offer(ValueError('bad frame'))
    rig.settle()
    rig.worker.offer('good')
    rig.settle()
    assert rig.handled == ['good']
    assert 'nobody listens' in capfd.readouterr().err


def test_a_stop_lets_the_work_in_hand_end_and_cancels_the_rest(rig):
    rig.hold('first')
    rig.worker.offer('second')
    waiting = rig.worker.call(lambda: 1)
    stopping = threading.Thread(target=rig.worker.stop)
    stopping.start()
    rig.go_on.set()
    stopping.join(WAIT_S)
    assert not stopping.is_alive()
    assert rig.handled == ['first']
    with pytest.raises(CancelledError):
        waiting.result(WAIT_S)


def test_a_task_after_the_stop_is_cancelled_at_once(rig):
    rig.worker.stop()
    with pytest.raises(CancelledError):
        rig.worker.call(lambda: 1).result(WAIT_S)
    assert not rig.worker._thread.is_alive()


def test_many_hands_lose_nothing(rig):
    def put():
        for number in range(200):
            rig.worker.offer(number)

    hands = [threading.Thread(target=put) for _ in range(4)]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join(WAIT_S)
    rig.settle()
    assert rig.worker.offered == 800
    assert len(rig.handled) + rig.worker.replaced == 800
