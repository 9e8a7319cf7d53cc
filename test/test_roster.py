# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Several targets: ids and order stay, and what happens to one does not touch the others."""

import math

import numpy as np
import pytest
from fakes import ScriptedTracker, Square, make_package, picture_saying

from tracker_ros.geometry import Box
from tracker_ros.runtime import store
from tracker_ros.trackers import Estimate, TrackerError, create
from tracker_ros.tracking import BoxError, Session, State
from tracker_ros.tracking.camera_motion import CameraMotion
from tracker_ros.tracking.recovery import Care
from tracker_ros.tracking.roster import Roster, RosterFullError

SURE, BAD = picture_saying(0.9), picture_saying(0.0)
BOXES = [Box(5.0 * number, 6.0, 12.0, 10.0) for number in range(4)]


@pytest.fixture
def roster():
    def make(most=4):
        return Roster(ScriptedTracker(store.find('csrt')), Session, most)

    return make


def ids(roster):
    return [track.target_id for track in roster]


def states(roster):
    return {track.target_id: track.observation.state for track in roster}


def test_nobody_is_there_at_first(roster):
    roster = roster()
    assert not roster
    assert roster.step(SURE) == []
    assert roster.first.state is State.IDLE
    assert roster.first.reason == 'no target'


def test_targets_are_added_in_their_order_with_ids_of_their_own(roster):
    roster = roster()
    for target_id, box in zip(['a', '', 'target_3', ''], BOXES, strict=True):
        roster.start(SURE, box, target_id)
    assert ids(roster) == ['a', 'target_2', 'target_3', 'target_4']
    roster.step(SURE)
    assert [track.observation.box for track in roster] == BOXES
    assert roster.first.target_id == 'a'


def test_an_id_that_the_node_chooses_is_not_taken(roster):
    roster = roster()
    roster.start(SURE, BOXES[0], 'target_2')
    assert roster.start(SURE, BOXES[1]).target_id == 'target_3'


def test_a_full_roster_refuses_and_names_who_is_there(roster):
    roster = roster(2)
    for target_id in 'ab':
        roster.start(SURE, BOXES[0], target_id)
    with pytest.raises(RosterFullError, match=r'2 targets.*a, b.*max_targets'):
        roster.start(SURE, BOXES[1], 'c')
    assert ids(roster) == ['a', 'b']
    roster.stop('a')
    roster.start(SURE, BOXES[1], 'c')
    assert ids(roster) == ['b', 'c']


def test_with_room_for_one_the_new_takes_the_place_of_the_old(roster):
    roster = roster(1)
    roster.start(SURE, BOXES[0], 'old', stamp_s=1.0)
    roster.step(SURE, 2.0)
    track = roster.start(SURE, BOXES[1], 'new', stamp_s=3.0)
    assert ids(roster) == ['new']
    assert (track.frames, track.since_s) == (0, 3.0)
    assert len(roster.sessions) == 1


def test_a_start_by_the_same_id_keeps_place_and_history(roster):
    roster = roster(2)
    roster.start(SURE, BOXES[0], 'a', stamp_s=1.0)
    roster.start(SURE, BOXES[1], 'b', stamp_s=2.0)
    roster.step(SURE, 3.0)
    again = roster.start(SURE, BOXES[2], 'a', stamp_s=4.0)
    assert ids(roster) == ['a', 'b']
    assert (again.frames, again.since_s) == (1, 1.0)
    assert again.newest_box == BOXES[2]
    assert again.observation.state is State.STARTING


@pytest.mark.parametrize('most', [1, 3])
def test_a_box_that_is_none_changes_nothing(roster, most):
    roster = roster(most)
    roster.start(SURE, BOXES[0], 'a')
    roster.step(SURE)
    for target_id in ('a', 'b'):
        with pytest.raises(BoxError):
            roster.start(SURE, Box(math.nan, 0.0, 5.0, 5.0), target_id)
    assert states(roster) == {'a': State.TRACKING}
    assert roster.step(SURE) == []
    assert next(iter(roster)).frames == 2


def test_trackers_are_used_again(roster):
    roster = roster(2)
    for _ in range(3):
        for target_id in 'ab':
            roster.start(SURE, BOXES[0], target_id)
        roster.stop()
    assert len(roster.sessions) == 2
    assert roster.sessions[0].tracker is roster.tracker


def test_stopping_tells_who_it_was(roster):
    roster = roster()
    for target_id in 'abc':
        roster.start(SURE, BOXES[0], target_id)
    assert roster.stop('x') == []
    assert roster.stop('b') == ['b']
    assert ids(roster) == ['a', 'c']
    assert roster.stop(reason='that is all') == ['a', 'c']
    assert roster.first.reason == 'that is all'


def break_of(roster, target_id, answer):
    """Makes the tracker of a target give `answer`, or raise it."""

    def follow(image):
        if isinstance(answer, Exception):
            raise answer
        return answer

    roster.find(target_id).session.tracker.follow = follow


@pytest.mark.parametrize('broken', 'abc')
@pytest.mark.parametrize('error', [TrackerError('no more'), ZeroDivisionError('in the depths')])
def test_a_tracker_that_fails_loses_its_own_target_only(roster, broken, error):
    roster = roster()
    for target_id, box in zip('abc', BOXES, strict=False):
        roster.start(SURE, box, target_id)
    break_of(roster, broken, error)
    (failure,) = roster.step(SURE)
    assert (failure.target_id, failure.error) == (broken, error)
    others = [target_id for target_id in 'abc' if target_id != broken]
    assert ids(roster) == others
    assert roster.step(SURE) == []
    assert set(states(roster).values()) == {State.TRACKING}
    assert [track.frames for track in roster] == [2, 2]
    roster.start(SURE, BOXES[0], broken)
    assert ids(roster) == [*others, broken]


def test_the_last_failure_is_the_reason(roster):
    roster = roster()
    roster.start(SURE, BOXES[0], 'a')
    break_of(roster, 'a', TrackerError('no more'))
    roster.step(SURE)
    assert roster.first.reason == 'the tracker failed: no more'
    assert roster.first.state is State.IDLE


def test_a_start_that_fails_leaves_the_others(roster):
    roster = roster()
    for target_id in 'ab':
        roster.start(SURE, BOXES[0], target_id)

    def fail(image):
        raise TrackerError('no features')

    for session in roster.sessions:
        session.tracker.before = fail
    with pytest.raises(TrackerError):
        roster.start(SURE, BOXES[1], 'b')
    assert ids(roster) == ['a']


@pytest.mark.parametrize('number', [math.nan, math.inf, -math.inf])
def test_answers_that_are_no_numbers_stay_with_their_target(tmp_path, number):
    """Of a network that answers nonsense about one target, in the batch with another."""
    tracker = create(str(make_package(tmp_path / 'tiny')), 'onnxruntime', 1)
    roster = Roster(tracker, Session, 2)
    square = Square()
    image = square.at(60, 50)
    for target_id in 'ab':
        roster.start(image, square.box(60, 50), target_id)
    poisoned = roster.find('a').session.tracker
    poisoned._cached = {
        name: np.full_like(value, number) for name, value in poisoned._cached.items()
    }
    for x in (62, 64, 66):
        roster.step(square.at(x, 50))
    healthy, ill = roster.find('b').observation, roster.find('a').observation
    assert healthy.state is State.TRACKING
    assert healthy.box.iou(square.box(66, 50)) > 0.6
    assert ill.state is not State.TRACKING
    assert ill.score == 0
    assert ill.box is None or ill.box.is_finite()
    roster.close()


def test_together_is_as_apart(tmp_path):
    """Each target is followed as by a roster of its own."""
    package = str(make_package(tmp_path / 'tiny'))
    places = [(60, 50), (150, 90), (20, 100)]
    squares = [Square(seed=seed) for seed in range(3)]

    def image(number):
        picture = squares[0].ground
        for square, (x, y) in zip(squares, places, strict=True):
            part = square.at(x + 2 * number, y)[y : y + 40, x + 2 * number : x + 2 * number + 40]
            picture[y : y + 40, x + 2 * number : x + 2 * number + 40] = part
        return picture

    rosters = [Roster(create(package, 'onnxruntime', 1), Session, 3)]
    rosters += [Roster(create(package, 'onnxruntime', 1), Session, 1) for _ in places]
    for number, (x, y) in enumerate(places):
        for roster in (rosters[0], rosters[1 + number]):
            roster.start(image(0), squares[number].box(x, y), f't{number}')
    for step in range(1, 8):
        for roster in rosters:
            assert roster.step(image(step), step / 30) == []
        for number, track in enumerate(rosters[0]):
            (alone,) = rosters[1 + number]
            expected = alone.observation
            assert track.observation.box.xywh() == pytest.approx(expected.box.xywh(), abs=1e-3)
            assert track.observation.score == pytest.approx(expected.score, abs=1e-5)
    for roster in rosters:
        roster.close()


def test_only_the_first_tracker_ends_the_engine(tmp_path):
    tracker = create(str(make_package(tmp_path / 'tiny')), 'onnxruntime', 1)
    roster = Roster(tracker, Session, 2)
    closed = []
    square = Square()
    for target_id in 'ab':
        roster.start(square.at(60, 50), square.box(60, 50), target_id)
    for place, session in enumerate(roster.sessions):
        session.tracker.close = lambda place=place: closed.append(place)
    roster.close()
    assert closed == [1, 0]


def test_where_a_lost_target_was_is_kept(roster):
    roster = roster()
    roster.start(SURE, BOXES[1], 'a')
    for _ in range(10):
        roster.step(BAD)
    (track,) = roster
    assert track.observation.state is State.LOST
    assert track.newest_box == BOXES[1]
    assert track.frames == 10


def test_an_estimate_is_digested_once_each(roster):
    roster = roster()
    for target_id, box in zip('ab', BOXES, strict=False):
        roster.start(SURE, box, target_id)
    break_of(roster, 'b', Estimate(Box(40.0, 20.0, 9.0, 9.0), 0.8))
    roster.step(SURE)
    assert [track.observation.box for track in roster] == [BOXES[0], Box(40.0, 20.0, 9.0, 9.0)]


def test_the_motion_of_the_camera_is_measured_once_for_all_targets(monkeypatch):
    excluded = []

    def between(camera, image, exclude=()):
        excluded.append(list(exclude))
        return np.array([[1.0, 0.0, 3.0], [0.0, 1.0, -2.0]])

    monkeypatch.setattr(CameraMotion, 'between', between)
    roster = Roster(
        ScriptedTracker(store.find('csrt')),
        lambda tracker: Session(tracker, care=Care(camera_motion=True)),
        most=3,
    )
    tracks = [roster.start(SURE, box) for box in BOXES[:2]]
    roster.step(SURE)
    assert excluded == [BOXES[:2]]
    # Both are new: the camera has not moved since they were started.
    assert all(track.session.tracker.searches == [] for track in tracks)
    tracks.append(roster.start(SURE, BOXES[2]))
    roster.step(SURE)
    assert len(excluded) == 2
    assert [track.session.tracker.searches for track in tracks] == [
        [Box(3.0, 4.0, 12.0, 10.0)],
        [Box(8.0, 4.0, 12.0, 10.0)],
        [],
    ]
    # One that is followed alone, as when it catches up, measures for itself.
    roster.step_some(tracks[:1], SURE)
    roster.step(SURE)
    assert [len(boxes) for boxes in excluded] == [2, 3, 1, 3]
    assert [len(track.session.tracker.searches) for track in tracks] == [2, 1, 0]


def test_a_camera_whose_motion_cannot_be_measured_is_each_targets_failure(monkeypatch):
    def between(camera, image, exclude=()):
        raise ValueError('no such image')

    monkeypatch.setattr(CameraMotion, 'between', between)
    roster = Roster(
        ScriptedTracker(store.find('csrt')),
        lambda tracker: Session(tracker, care=Care(camera_motion=True)),
        most=2,
    )
    for box in BOXES[:2]:
        roster.start(SURE, box)
    assert [str(failure.error) for failure in roster.step(SURE)] == ['no such image'] * 2
