# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Followers of all kinds over the same clip, and a session as a one-pass tracker."""

from __future__ import annotations

import math

import fakes
import numpy as np
import pytest
from test_events import MAGENTA, Painted

from tracker_ros.evaluation.accounts import Bare, NominalPace, Peer, WithLife, follow
from tracker_ros.evaluation.events import compose, undisturbed
from tracker_ros.evaluation.followed import Followed
from tracker_ros.evaluation.one_pass import run
from tracker_ros.evaluation.peers import create_peer
from tracker_ros.geometry import Box
from tracker_ros.trackers import create
from tracker_ros.tracking import Session, State, Thresholds


@pytest.fixture
def package(tmp_path):
    return str(fakes.make_package(tmp_path / 'fake'))


class Dark(Painted):
    """On black ground, where the fake network finds its way."""

    def ground(self):
        return np.zeros((self.height, self.width, 3), np.uint8)


FOOTAGE = Dark(count=40, colour=(200, 220, 240))


def test_each_is_told_the_same_frames_and_stamps_and_gives_an_account(package):
    thresholds = Thresholds(fakes.LOST, fakes.SURE)
    followers = [
        WithLife('with', lambda: Session(create(package))),
        Bare('bare', create(package), thresholds),
    ]
    heard = []
    clip = undisturbed(FOOTAGE)
    accounts = follow(clip, followers, lambda who, number, claim: heard.append((who.name, number)))
    assert [account.tracker for account in accounts] == ['with', 'bare']
    assert len(heard) == 2 * (len(clip) - 1)
    for account in accounts:
        assert account.clip is clip
        assert np.array_equal(account.boxes[0], clip.truth[0])
        assert account.states[0] == State.STARTING
        assert (account.states[5:] == State.TRACKING).all()
        assert np.isfinite(account.times_s).all()
        assert np.abs(account.boxes - clip.truth).max() < 12


def test_stamps_are_those_of_the_clip(package):
    stamps = []

    class Listening(Session):
        def start(self, *arguments, stamp_s=None, **others):
            stamps.append(stamp_s)
            return super().start(*arguments, stamp_s=stamp_s, **others)

        def step(self, image, stamp_s=None):
            stamps.append(stamp_s)
            return super().step(image, stamp_s)

    clip = compose(FOOTAGE, 'drop', 0)
    follow(clip, [WithLife('with', lambda: Listening(create(package)))])
    assert stamps == clip.stamps_s.tolist()


@pytest.mark.parametrize(
    ('score', 'state'), [(0.9, State.TRACKING), (0.3, State.UNCERTAIN), (0.1, State.LOST)]
)
def test_a_bare_tracker_is_what_its_score_says(tmp_path, score, state):
    tracker = fakes.ScriptedTracker(create(str(fakes.make_package(tmp_path / 'fake'))).package)
    bare = Bare('bare', tracker, Thresholds(0.2, 0.5))
    picture = fakes.picture_saying(score)
    bare.start(picture, Box(10, 10, 8, 8), 0.0)
    claim = bare.step(picture, 1 / 30)
    assert claim.state is state
    assert claim.box is not None


def test_a_peer_says_what_opencv_says():
    peer = create_peer('opencv_kcf')
    account = follow(undisturbed(Painted(count=5, colour=MAGENTA)), [Peer('kcf', peer)])[0]
    assert set(account.states[1:]) <= {State.TRACKING, State.LOST}
    assert math.isnan(peer.tracking_score)


def test_a_session_follows_as_a_one_pass_tracker_at_the_rate_of_the_footage(package):
    footage = Dark(count=20, rate_hz=24.0, colour=(200, 220, 240))
    followed = Followed(create(package))
    result = run(followed, 'with', undisturbed(footage))
    assert followed.rate_hz == 24.0
    assert np.abs(result.boxes - footage.truth).max() < 12


def test_of_a_lost_target_the_answer_is_what_is_still_followed(package):
    followed = Followed(create(package))
    frames = list(FOOTAGE.frames())
    followed.start(frames[0], Box(*FOOTAGE.truth[0]))
    for frame in frames[1:6]:
        last = followed.step(frame)
    black = np.zeros_like(frames[0])
    for _ in range(40):
        estimate = followed.step(black)
    assert followed.observation.state is State.LOST
    assert followed.observation.box is None
    assert estimate.box == followed.observation.looked_at
    assert estimate.box.iou(last.box) > 0.3


def test_of_a_lost_target_no_box_is_told_but_the_guess(package):
    clip = undisturbed(FOOTAGE)
    black = np.zeros((clip.height, clip.width, 3), np.uint8)
    follower = WithLife('with', lambda: Session(create(package)))
    follower.start(next(iter(clip.frames())), clip.first_box, 0.0)
    claims = [follower.step(black, number / 30) for number in range(1, 40)]
    assert claims[-1].state is State.LOST
    assert claims[-1].box is None
    assert claims[-1].guess is not None
    account = follow(clip, [follower])[0]
    assert np.array_equal(account.guesses, account.boxes)


def test_the_nominal_pace_does_not_ask_how_busy_the_machine_is():
    counts = []
    for spent_s in (0.0001, 10.0):
        pace = NominalPace(0.010)
        pace.begin(0.0)
        with pace.looking(2):
            pass
        counts.append([pace.looks(6, 1.0, spent_s) for _ in range(6)])
    assert counts[0] == counts[1]
    # Of a thirtieth of a second, without the look that tracking is.
    assert sum(counts[0]) == int(6 * (1 / 30 - 0.010) / 0.010)
