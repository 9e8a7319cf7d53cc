# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a sequence of confidences to the state of a target.

``IDLE -> STARTING -> TRACKING <-> UNCERTAIN <-> LOST -> TRACKING (recovered)``. Two thresholds
with dwell: one bad frame changes nothing, several in a row do, and the way back asks for more
than the way out.

A target that has long been followed without doubt and is suddenly much less sure has most likely
gone behind something, although what is there may look well enough. So how sure it usually was
tells what is enough, besides the thresholds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

# All in logits, of which probabilities have more the surer they are. A fall by so much below
# what is usual is no sure frame any more; beyond the highest, usual is no surer.
_FALL = 2.25
_HIGHEST_USUAL = 4.0
# How fast what is usual follows sure frames, and how much it sinks with each that is not: what
# has changed for good is sure again after a while.
_RATE = 0.1
_SINKING = 0.01
_NEARLY = 1e-6
# What is found of a lost target has to be surer than `sure`: by so much of the doubt that leaves.
_FOUND_DOUBT = 0.3


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

    uncertain_frames: int = 4
    lost_frames: int = 5
    sure_frames: int = 3

    def __post_init__(self) -> None:
        for name in ('uncertain_frames', 'lost_frames', 'sure_frames'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be at least 1, not {getattr(self, name)}')


class Life:
    """The state of one target, fed with one confidence a frame; a raw score is one as well."""

    def __init__(
        self, thresholds: Thresholds, patience: Patience, minds_falls: bool = False
    ) -> None:
        """`minds_falls` for confidences that are probabilities: others fall for any reason."""
        self.thresholds = thresholds
        self.patience = patience
        self._minds_falls = minds_falls
        self._usual: float | None = None
        """Mean logit of sure frames, sinking in doubt."""
        self.state = State.STARTING
        self.is_missing = False
        """Whether it was LOST and not TRACKING since."""
        self.reason = 'started'
        self._below_lost = self._credible = 0
        self._below_sure = 0
        self._sure = 0

    @property
    def enough(self) -> float:
        """The confidence from which on a frame is sure: `sure`, or more of one that was surer.

        More, too, of what may be something else, found where the target was looked for.
        """
        least = self.thresholds.sure
        if self._usual is None:
            return least
        if self.is_missing:
            least += _FOUND_DOUBT * (1.0 - least)
        return max(least, 1.0 / (1.0 + math.exp(_FALL - self._usual)))

    def update(self, score: float, because: str = '') -> State:
        """Take the score of a frame; returns the state after it, `reason` says why.

        `because` says in words why the score is low, where that is known.
        """
        enough = self.enough
        self._count(score, enough)
        if self._minds_falls:
            self._follow(score, score >= enough)
        patience, thresholds = self.patience, self.thresholds
        if self._below_lost >= patience.lost_frames:
            if self.state is not State.LOST:
                cause = because or f'score below {thresholds.lost:.2f}'
                self._enter(State.LOST, f'{cause} for {self._below_lost} frames')
        elif self.state in (State.STARTING, State.TRACKING):
            if self._below_sure >= patience.uncertain_frames:
                cause = because or f'score below {enough:.2f}'
                self._enter(State.UNCERTAIN, f'{cause} for {self._below_sure} frames')
            elif self.state is State.STARTING and self._sure:
                self._enter(State.TRACKING, 'found again in the first frame after the start')
        elif self._sure >= patience.sure_frames:
            word = 'recovered' if self.is_missing else 'sure again'
            self._enter(
                State.TRACKING,
                f'{word}: score at least {enough:.2f} for {self._sure} frames',
            )
        elif self.state is State.LOST and self._credible >= patience.lost_frames:
            self._enter(
                State.UNCERTAIN,
                f'perhaps seen again: score at least {thresholds.lost:.2f} for '
                f'{self._credible} frames',
            )
        return self.state

    def _count(self, score: float, enough: float) -> None:
        self._below_lost = self._below_lost + 1 if score < self.thresholds.lost else 0
        self._credible = self._credible + 1 if score >= self.thresholds.lost else 0
        self._below_sure = self._below_sure + 1 if score < enough else 0
        self._sure = self._sure + 1 if score >= enough else 0

    def _follow(self, score: float, is_sure: bool) -> None:
        if not is_sure:
            if self._usual is not None:
                self._usual -= _SINKING
            return
        held = min(max(score, _NEARLY), 1.0 - _NEARLY)
        logit = min(math.log(held / (1.0 - held)), _HIGHEST_USUAL)
        self._usual = logit if self._usual is None else self._usual + _RATE * (logit - self._usual)

    def _enter(self, state: State, reason: str) -> None:
        self.state = state
        if state is not State.UNCERTAIN:
            self.is_missing = state is State.LOST
        self.reason = reason
