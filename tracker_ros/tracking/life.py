# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a sequence of confidences to the state of a target.

``IDLE -> STARTING -> TRACKING <-> UNCERTAIN -> LOST -> TRACKING (recovered)``. Two thresholds
with dwell: one bad frame changes nothing, several in a row do, and the way back asks for more
than the way out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class State(IntEnum):
    """What is known about the target; the numbers are those of TrackerState.msg."""

    IDLE = 0
    STARTING = 1
    TRACKING = 2
    UNCERTAIN = 3
    LOST = 4


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Scores in [0, 1]: below `lost` a frame says lost, from `sure` on it says tracked."""

    lost: float
    sure: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.lost <= self.sure <= 1.0:
            raise ValueError(
                f'thresholds need 0 <= lost <= sure <= 1, not lost {self.lost:g}, '
                f'sure {self.sure:g}'
            )


@dataclass(frozen=True, slots=True)
class Patience:
    """How many frames in a row it takes to change the state."""

    uncertain_frames: int = 2
    lost_frames: int = 5
    sure_frames: int = 3

    def __post_init__(self) -> None:
        for name in ('uncertain_frames', 'lost_frames', 'sure_frames'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be at least 1, not {getattr(self, name)}')


class Life:
    """The state of one target, fed with one confidence a frame; a raw score is one as well."""

    def __init__(self, thresholds: Thresholds, patience: Patience) -> None:
        self.thresholds = thresholds
        self.patience = patience
        self.state = State.STARTING
        self.reason = 'started'
        self._below_lost = 0
        self._below_sure = 0
        self._sure = 0

    def update(self, score: float, because: str = '') -> State:
        """Take the score of a frame; returns the state after it, `reason` says why.

        `because` says in words why the score is low, where that is known.
        """
        self._count(score)
        patience, thresholds = self.patience, self.thresholds
        if self._below_lost >= patience.lost_frames:
            if self.state is not State.LOST:
                cause = because or f'score below {thresholds.lost:.2f}'
                self._enter(State.LOST, f'{cause} for {self._below_lost} frames')
        elif self.state in (State.STARTING, State.TRACKING):
            if self._below_sure >= patience.uncertain_frames:
                cause = because or f'score below {thresholds.sure:.2f}'
                self._enter(State.UNCERTAIN, f'{cause} for {self._below_sure} frames')
            elif self.state is State.STARTING and self._sure:
                self._enter(State.TRACKING, 'found again in the first frame after the start')
        elif self._sure >= patience.sure_frames:
            word = 'recovered' if self.state is State.LOST else 'sure again'
            self._enter(
                State.TRACKING,
                f'{word}: score at least {thresholds.sure:.2f} for {self._sure} frames',
            )
        return self.state

    def _count(self, score: float) -> None:
        self._below_lost = self._below_lost + 1 if score < self.thresholds.lost else 0
        self._below_sure = self._below_sure + 1 if score < self.thresholds.sure else 0
        self._sure = self._sure + 1 if score >= self.thresholds.sure else 0

    def _enter(self, state: State, reason: str) -> None:
        self.state = state
        self.reason = reason
