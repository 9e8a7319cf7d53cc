# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The time between two frames, and how many looks elsewhere fit into what is left of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# What is taken for the time between frames until two stamps have told, and without stamps.
_PERIOD_S = 1.0 / 30.0
_SHORTEST_S, _LONGEST_S = 1.0 / 240.0, 1.0
# Share of the newest value in a mean.
_RATE = 0.1
# Where nothing is left of the time between two frames, there is still one look in so many.
_LEAST_LOOKS = 0.25


class Pace:
    """Follows the stamps of images, and the time that looks take by a clock in seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.stamp_s = 0.0
        """Of the newest image; made up, equally spaced, where it had none."""
        self._clock = clock
        self._period_s = _PERIOD_S
        self._is_stamped = False
        self._look_s: float | None = None
        self._credit = 0.0

    def begin(self, stamp_s: float | None) -> None:
        """The image of a start."""
        self._is_stamped = stamp_s is not None and math.isfinite(stamp_s)
        self.stamp_s = float(stamp_s) if self._is_stamped and stamp_s is not None else 0.0
        self._credit = 0.0

    def take(self, stamp_s: float | None) -> None:
        """A further image."""
        if stamp_s is None or not math.isfinite(stamp_s):
            self.stamp_s += self._period_s
            self._is_stamped = False
            return
        passed_s = stamp_s - self.stamp_s
        if self._is_stamped and passed_s > 0:
            passed_s = min(max(passed_s, _SHORTEST_S), _LONGEST_S)
            self._period_s += _RATE * (passed_s - self._period_s)
        self.stamp_s, self._is_stamped = stamp_s, True

    def looks(self, most: int, share: float, spent_s: float) -> int:
        """How many looks there is time for in this frame, at most `most`.

        `share` is the part of the time between two frames that may be used in all, `spent_s` how
        long the network has already worked on this frame.
        """
        look_s = max(self._look_s or spent_s, 1e-5)
        free = (share * self._period_s - spent_s) / look_s
        self._credit = min(self._credit + max(free, _LEAST_LOOKS), float(most))
        count = int(self._credit)
        self._credit -= count
        return count

    @contextmanager
    def looking(self, count: int) -> Iterator[None]:
        """Around `count` looks: takes note of the time they take."""
        began_s = self._clock()
        yield
        took_s = (self._clock() - began_s) / max(1, count)
        self._look_s = (
            took_s if self._look_s is None else self._look_s + _RATE * (took_s - self._look_s)
        )
