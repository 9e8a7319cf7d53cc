# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Doing work ahead of time, in a thread, so that what is needed next is ready when it is due."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar('T')

_LONGEST_STEP_S = 10.0
"""How long closing waits for one step of the iterator; a hung camera must not hang the node."""


def read_ahead(items: Iterator[T], depth: int) -> Iterator[T]:
    """The same items, made by a thread that is up to `depth` of them ahead.

    An error of the source is raised where the item would have come; abandoning the result ends
    the thread. No item may be None.
    """
    ahead = Lookahead(items, depth)
    try:
        while (item := ahead.take()) is not None:
            yield item
    finally:
        ahead.close()


class Lookahead(Generic[T]):
    """Runs an iterator in a thread of its own, some items ahead of who takes them.

    An error of the iterator comes out of `take` after the items before it.
    """

    def __init__(self, items: Iterator[T], depth: int, newest_only: bool = False) -> None:
        """Starts.

        Args:
            items: used up by the thread only.
            depth: how many items may wait; the iterator pauses when they do.
            newest_only: instead of pausing, drop the oldest: for live sources.
        """
        self._items = items
        self._depth = depth
        self._newest_only = newest_only
        self._ready: deque[T] = deque()
        self._error: Exception | None = None
        self._ended = False
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name='lookahead', daemon=True)
        self._thread.start()

    def take(self) -> T | None:
        """The next item, waiting for it; None at the end and after `wake` or `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._ended or self._closed)
            if self._closed:
                return None
            if self._ready:
                self._changed.notify_all()
                return self._ready.popleft()
            if self._error is not None:
                raise self._error
            return None

    def wake(self) -> None:
        """Ends it without waiting for the thread: `take` returns None from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def close(self) -> None:
        """Ends it and waits for the thread, after which nothing uses the iterator any more."""
        self.wake()
        self._thread.join(_LONGEST_STEP_S)

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._offer(item):
                    break
        except Exception as error:  # handed to who takes the items
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _offer(self, item: T) -> bool:
        with self._changed:
            if self._newest_only:
                while len(self._ready) >= self._depth:
                    self._ready.popleft()
            self._changed.wait_for(lambda: len(self._ready) < self._depth or self._closed)
            self._ready.append(item)
            self._changed.notify_all()
            return not self._closed
