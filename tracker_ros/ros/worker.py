# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One thread that works on the newest thing, so that the executor stays free to answer.

rclpy's executor threads share Python's interpreter lock; a tracker in a callback would block
services and time-outs for as long as it computes. A queue would be worse: its frames grow stale
while they wait. Here a newer item replaces one that was not taken yet, and is counted.
"""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

Item = TypeVar('Item')


class NewestWins(Generic[Item]):
    """A worker thread with room for one item, and for tasks that go first.

    `handle` is called with each item that was still the newest when the thread got to it. What
    it raises goes to `failed`; the thread goes on.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[Item], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._handle = handle
        self._failed = failed
        self._changed = threading.Condition()
        self._pending: Item | None = None
        self._tasks: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._running = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.offered = 0
        self.replaced = 0

    def start(self) -> None:
        self._running = True
        self._thread.start()

    def stop(self) -> None:
        """End the thread after what it is doing now; tasks that still wait are cancelled."""
        with self._changed:
            self._running = False
            self._changed.notify()
        self._thread.join()
        for _, future in self._tasks:
            future.cancel()

    def offer(self, item: Item) -> None:
        """Put the newest item in, in place of one that still waits."""
        with self._changed:
            self.offered += 1
            if self._pending is not None:
                self.replaced += 1
            self._pending = item
            self._changed.notify()

    def take(self) -> Item | None:
        """Take the waiting item out, for a task that uses it up."""
        with self._changed:
            item, self._pending = self._pending, None
            return item

    def call(self, task: Callable[[], Any]) -> Future[Any]:
        """Run `task` in the thread before any further item; its result comes by the future."""
        future: Future[Any] = Future()
        with self._changed:
            if self._running:
                self._tasks.append((task, future))
                self._changed.notify()
            else:
                future.cancel()
        return future

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._running and not self._tasks and self._pending is None:
                    self._changed.wait()
                if not self._running:
                    return
                work = self._tasks.popleft() if self._tasks else None
                item = None
                if work is None:
                    item, self._pending = self._pending, None
            if work is not None:
                _fulfil(*work)
            elif item is not None:
                self._attempt(item)

    def _attempt(self, item: Item) -> None:
        try:
            self._handle(item)
        except Exception as error:  # whatever it was, the next item deserves its chance
            try:
                self._failed(error)
            except Exception:  # nobody is left to be told, but a dead thread would hang callers
                traceback.print_exc()


def _fulfil(task: Callable[[], Any], future: Future[Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(task())
    except Exception as error:  # it belongs to whoever waits for the result
        future.set_exception(error)
