# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One target from start to stop."""

import math

import pytest
from fakes import ScriptedTracker, Square, make_package, picture_saying

from tracker_ros.geometry import Box
from tracker_ros.runtime import store
from tracker_ros.trackers import TrackerError, create
from tracker_ros.tracking import BoxError, BoxFault, Patience, Session, State, Thresholds
from tracker_ros.tracking.session import NOTHING, check_box

SURE, DOUBTFUL, BAD = (picture_saying(score) for score in (0.9, 0.4, 0.0))
BOX = Box(10, 12, 20, 16)


@pytest.fixture
def tracker():
    return ScriptedTracker(store.find('csrt'))


@pytest.fixture
def session(tracker):
    return Session(tracker, Thresholds(0.3, 0.6), Patience(2, 4, 3))


@pytest.mark.parametrize(
    ('box', 'inside'),
    [
        (Box(0, 0, 64, 48), Box(0, 0, 64, 48)),
        (Box(10, 10, 6, 6), Box(10, 10, 6, 6)),
        (Box(-10, -10, 20, 20), Box(0, 0, 10, 10)),
        (Box(60.5, 30, 1000, 8.25), Box(60.5, 30, 3.5, 8.25)),
        (Box(-1e9, -1e9, 2e9, 2e9), Box(0, 0, 64, 48)),
    ],
)
def test_of_a_box_the_part_inside_is_taken(box, inside):
    assert check_box(box, 64, 48, 3.0) == inside


@pytest.mark.parametrize(
    ('box', 'fault', 'words'),
    [
        (Box(math.nan, 0, 10, 10), BoxFault.INVALID, 'x=nan .* is not finite'),
        (Box(0, 0, math.inf, 10), BoxFault.INVALID, 'w=inf .* is not finite'),
        (Box(-math.inf, 0, 10, 10), BoxFault.INVALID, 'is not finite'),
        (Box(1e308, 0, 1e308, 10), BoxFault.INVALID, 'is not finite'),
        (Box(5, 5, 0, 10), BoxFault.INVALID, 'w=0 h=10 has no area'),
        (Box(5, 5, 10, -1), BoxFault.INVALID, 'h=-1 has no area'),
        (Box(64, 0, 10, 10), BoxFault.OUTSIDE, 'x=64 .* outside the image of 64 x 48 px'),
        (Box(0, 48, 10, 10), BoxFault.OUTSIDE, 'outside the image'),
        (Box(-10, 0, 10, 10), BoxFault.OUTSIDE, 'outside the image'),
        (Box(1e6, 1e6, 10, 10), BoxFault.OUTSIDE, 'outside the image'),
        (Box(5, 5, 2.9, 10), BoxFault.TOO_SMALL, 'only 2.9 x 10 px .* at least 3 px'),
        (Box(62, 5, 10, 10), BoxFault.TOO_SMALL, 'covers only 2 x 10 px'),
        (Box(5, 46, 10, 10), BoxFault.TOO_SMALL, 'covers only 10 x 2 px'),
    ],
)
def test_a_box_that_cannot_start_a_target_is_refused(box, fault, words):
    with pytest.raises(BoxError, match=words) as caught:
        check_box(box, 64, 48, 3.0)
    assert caught.value.fault is fault


def test_nothing_is_followed_before_a_start(session, tracker):
    assert session.observation is NOTHING
    assert session.step(SURE) is NOTHING
    assert session.observation.state is State.IDLE
    assert session.observation.target_id == ''


def test_a_start_is_an_observation(session, tracker):
    observation = session.start(SURE, BOX)
    assert (observation.state, observation.box) == (State.STARTING, BOX)
    assert observation.score == pytest.approx(0.9, abs=0.01)
    assert observation is session.observation
    assert tracker.starts == [BOX]


def test_the_tracker_gets_the_part_of_the_box_inside(session, tracker):
    assert session.start(SURE, Box(-10, -10, 30, 30)).box == Box(0, 0, 20, 20)
    assert tracker.starts == [Box(0, 0, 20, 20)]


def test_targets_are_numbered_unless_they_are_named(session):
    names = [session.start(SURE, BOX, name).target_id for name in ('', 'red car', '')]
    assert names == ['target_1', 'red car', 'target_3']
    session.step(SURE)
    assert session.observation.target_id == 'target_3'
    session.stop()
    assert session.start(SURE, BOX).target_id == 'target_4'


def test_a_restart_begins_a_new_life(session):
    session.start(SURE, BOX)
    for _ in range(5):
        session.step(BAD)
    assert session.observation.state is State.LOST
    assert session.start(SURE, BOX).state is State.STARTING
    assert session.step(BAD).state is State.STARTING
    assert session.step(SURE).state is State.TRACKING


def test_a_box_is_told_until_the_target_is_lost(session):
    session.start(SURE, BOX)
    observed = [session.step(picture) for picture in (SURE, BAD, BAD, BAD, BAD, SURE, SURE, SURE)]
    assert [each.state.name[0] for each in observed] == list('TTUULLLT')
    assert [each.box is None for each in observed] == [
        each.state is State.LOST for each in observed
    ]
    assert {each.target_id for each in observed} == {'target_1'}
    assert observed[4].reason == 'score below 0.30 for 4 frames'
    assert observed[7].reason.startswith('recovered')


def test_doubtful_answers_do_not_lead_the_search_away(session, tracker):
    session.start(SURE, BOX)
    trusted = Box(14, 12, 20, 16)
    tracker._box = trusted
    session.step(DOUBTFUL)
    assert tracker.searches == []
    for x in (30, 60, 90):
        tracker._box = Box(x, 0, 20, 16)
        session.step(BAD)
    assert tracker.searches == [trusted] * 3
    tracker._box = Box(16, 12, 20, 16)
    session.step(SURE)
    assert tracker.searches == [trusted] * 3


def test_before_any_good_answer_the_search_stays_at_the_start(session, tracker):
    session.start(SURE, BOX)
    tracker._box = Box(40, 30, 5, 5)
    session.step(BAD)
    assert tracker.searches == [BOX]


def test_a_lost_target_is_found_where_it_was_left(tmp_path):
    square = Square()
    tracker = create(str(make_package(tmp_path / 'm')), 'onnxruntime', 1)
    session = Session(tracker, patience=Patience(2, 4, 2))
    session.start(square.at(60, 50), square.box(60, 50))
    states = [session.step(square.at(60 + 4 * n, 50)).state for n in range(1, 6)]
    assert set(states) == {State.TRACKING}
    for _ in range(20):
        session.step(square.ground)
    assert session.observation.state is State.LOST
    found = [session.step(square.at(84, 50)) for _ in range(2)][-1]
    assert found.state is State.TRACKING
    assert found.box.iou(square.box(84, 50)) > 0.6


def test_a_stop_says_why_and_ends_it(session, tracker):
    session.start(SURE, BOX)
    session.stop('enough')
    assert session.observation.state is State.IDLE
    assert session.observation.reason == 'enough'
    assert session.observation.box is None
    assert session.step(SURE).state is State.IDLE


def test_a_refused_box_changes_nothing(session, tracker):
    session.start(SURE, BOX)
    before = session.step(SURE)
    with pytest.raises(BoxError):
        session.start(SURE, Box(0, 0, 2, 2), smallest_px=3.0)
    assert session.observation is before
    assert session.step(SURE).target_id == 'target_1'


def test_a_start_that_fails_leaves_no_target(session, tracker):
    def fail(image):
        raise TrackerError('no features here')

    session.start(SURE, BOX)
    tracker.before = fail
    with pytest.raises(TrackerError, match='no features'):
        session.start(SURE, BOX)
    assert session.observation.state is State.IDLE
    assert session.observation.reason == 'the start failed: no features here'
    assert session.step(SURE).state is State.IDLE


def test_thresholds_come_from_the_model_unless_given(tracker):
    confidence = tracker.package.confidence
    assert Session(tracker).thresholds == Thresholds(confidence['lost'], confidence['sure'])


def test_thresholds_and_patience_change_while_a_target_is_followed(session):
    session.start(SURE, BOX)
    assert session.step(SURE).state is State.TRACKING
    session.configure(Thresholds(0.95, 0.95), Patience(1, 1, 1))
    assert session.step(SURE).state is State.LOST
    session.configure(Thresholds(0.1, 0.2), Patience(1, 1, 1))
    assert session.step(SURE).state is State.TRACKING
