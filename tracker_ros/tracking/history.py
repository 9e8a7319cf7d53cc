# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The newest images, so that a target can start in the one that its operator saw.

What a person or a detector points at is old when the box arrives: it has travelled, been looked
at and drawn upon. Started in the newest image that box is beside the target. Here the start is
made in the image of the box, and the tracker then runs forward through those that came since.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar('Item')


@dataclass(frozen=True, slots=True)
class Kept(Generic[Item]):
    """An item with the time it shows."""

    stamp_ns: int
    item: Item
    size_bytes: int


class History(Generic[Item]):
    """Items of the last `longest_s` seconds, by their own stamps, in at most `most_bytes`."""

    def __init__(self, longest_s: float, most_bytes: int) -> None:
        self.longest_s = longest_s
        self.most_bytes = most_bytes
        self.size_bytes = 0
        self._kept: deque[Kept[Item]] = deque()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def span_s(self) -> float:
        """From the oldest to the newest."""
        return 1e-9 * (self._kept[-1].stamp_ns - self._kept[0].stamp_ns) if self._kept else 0.0

    def add(self, stamp_ns: int, item: Item, size_bytes: int) -> None:
        """Keep the newest item, and let go what is too old or too much."""
        if self._kept and stamp_ns <= self._kept[-1].stamp_ns:
            # Time has gone back, as when a recording starts again: what came before is no past.
            self.clear()
        self._kept.append(Kept(stamp_ns, item, size_bytes))
        self.size_bytes += size_bytes
        while self._kept and (self.span_s > self.longest_s or self.size_bytes > self.most_bytes):
            self.size_bytes -= self._kept.popleft().size_bytes

    def clear(self) -> None:
        self._kept.clear()
        self.size_bytes = 0

    def since(self, stamp_ns: int) -> list[Kept[Item]]:
        """All from the one nearest to `stamp_ns` on; empty where nothing is kept."""
        kept = list(self._kept)
        if not kept:
            return []
        first = min(range(len(kept)), key=lambda place: abs(kept[place].stamp_ns - stamp_ns))
        return kept[first:]


def run_forward(
    items: Sequence[Item],
    step: Callable[[Item], None],
    budget_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """Call `step` with items in their order up to the last; returns how many were taken.

    Where all of them would take longer than `budget_s`, some are left out, evenly.
    """
    began_s = clock()
    place, taken = -1, 0
    while place < len(items) - 1:
        left = len(items) - 1 - place
        place += _stride(left, taken, clock() - began_s, budget_s)
        step(items[place])
        taken += 1
    return taken


def _stride(left: int, taken: int, spent_s: float, budget_s: float) -> int:
    if not taken or spent_s <= 0:
        return 1
    affordable = max(1, int((budget_s - spent_s) / (spent_s / taken)))
    return math.ceil(left / min(affordable, left))
