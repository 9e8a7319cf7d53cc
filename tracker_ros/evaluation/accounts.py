# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Trackers of several kinds run over the same clip, each with the state that it claims."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tracker_ros.evaluation.events import EventClip
from tracker_ros.evaluation.followed import Followed
from tracker_ros.evaluation.life_metrics import Account
from tracker_ros.evaluation.peers import OpenCvTracker
from tracker_ros.geometry import Box, Image
from tracker_ros.trackers import Tracker
from tracker_ros.tracking.life import State, Thresholds
from tracker_ros.tracking.pace import Pace
from tracker_ros.tracking.session import Session

LOOK_S = 0.008
"""What a look for a lost target is taken to cost, so that a busy machine does not look less."""


class Claim(NamedTuple):
    """What a tracker says about a frame.

    score: what the state follows from: the confidence, or the raw score where there is no other.
    guess: the box that would be told if there had to be one, of a lost target too.
    """

    state: State
    box: Box | None
    score: float
    raw: float
    reason: str = ''
    guess: Box | None = None


class NominalPace(Pace):
    """Of a machine on which a look takes `look_s`, whatever this one is doing besides."""

    def __init__(self, look_s: float) -> None:
        super().__init__(clock=lambda: 0.0)
        self._nominal_s = look_s

    def looks(self, most: int, share: float, spent_s: float) -> int:
        return super().looks(most, share, self._nominal_s)


class Follower(ABC):
    """Something that follows a target and says in what state it is."""

    name: str

    @abstractmethod
    def start(self, image: Image, box: Box, stamp_s: float) -> None: ...

    @abstractmethod
    def step(self, image: Image, stamp_s: float) -> Claim: ...


class WithLife(Follower):
    """A tracker with the life of its target around it. make: gives a session for each start."""

    def __init__(self, name: str, make: Callable[[], Session]) -> None:
        self.name = name
        self._make = make
        self._followed = Followed(make())

    def start(self, image: Image, box: Box, stamp_s: float) -> None:
        self._followed = Followed(self._make())
        self._followed.start(image, box, stamp_s=stamp_s)

    def step(self, image: Image, stamp_s: float) -> Claim:
        self._followed.step(image, stamp_s)
        seen = self._followed.observation
        guess = self._followed.box
        return Claim(seen.state, seen.box, seen.confidence, seen.score, seen.reason, guess)


class Bare(Follower):
    """A tracker alone: its raw score against two thresholds is all that tells its state."""

    def __init__(self, name: str, tracker: Tracker, thresholds: Thresholds) -> None:
        self.name = name
        self._tracker = tracker
        self._thresholds = thresholds

    def start(self, image: Image, box: Box, stamp_s: float) -> None:
        self._tracker.start(image, box)

    def step(self, image: Image, stamp_s: float) -> Claim:
        estimate = self._tracker.step(image)
        if estimate.score >= self._thresholds.sure:
            state = State.TRACKING
        elif estimate.score >= self._thresholds.lost:
            state = State.UNCERTAIN
        else:
            state = State.LOST
        return Claim(state, estimate.box, estimate.score, estimate.score)


class Peer(Follower):
    """A tracker of OpenCV's: what it returns tells its state, or a least score where given."""

    def __init__(
        self, name: str, tracker: OpenCvTracker, least_score: float | None = None
    ) -> None:
        self.name = name
        self._tracker = tracker
        self._least_score = least_score

    def start(self, image: Image, box: Box, stamp_s: float) -> None:
        self._tracker.start(image, box)

    def step(self, image: Image, stamp_s: float) -> Claim:
        estimate = self._tracker.step(image)
        score = self._tracker.tracking_score
        found = estimate.score > 0
        if self._least_score is not None:
            found = score >= self._least_score
        return Claim(State.TRACKING if found else State.LOST, estimate.box, score, score)


def follow(
    clip: EventClip,
    followers: Sequence[Follower],
    on_claim: Callable[[Follower, int, Claim], object] | None = None,
) -> list[Account]:
    """Run all over the clip's frames, in turns within each frame.

    on_claim: is told what each says of each frame after the first.
    Raises whatever a follower raises.
    """
    count = len(clip)
    accounts = [
        Account(
            tracker=follower.name,
            clip=clip,
            states=np.full(count, State.STARTING, np.int64),
            boxes=np.full((count, 4), np.nan),
            guesses=np.full((count, 4), np.nan),
            scores=np.full(count, np.nan),
            times_s=np.full(count, np.nan),
        )
        for follower in followers
    ]
    pairs = list(zip(followers, accounts, strict=True))
    for number, (frame, stamp_s) in enumerate(zip(clip.frames(), clip.stamps_s, strict=True)):
        # Whoever comes first warms the frame up for the others.
        turn = number % len(pairs)
        for follower, account in pairs[turn:] + pairs[:turn]:
            began = time.perf_counter()
            if number == 0:
                follower.start(frame, clip.first_box, float(stamp_s))
                account.boxes[0] = account.guesses[0] = clip.truth[0]
            else:
                claim = follower.step(frame, float(stamp_s))
            account.times_s[number] = time.perf_counter() - began
            if number == 0:
                continue
            account.states[number] = claim.state
            account.scores[number] = claim.score
            if claim.box is not None:
                account.boxes[number] = claim.box.xywh()
            guess = claim.guess or claim.box
            if guess is not None:
                account.guesses[number] = guess.xywh()
            if on_claim is not None:
                on_claim(follower, number, claim)
    return accounts
