# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One target from start to stop."""

import math

import numpy as np
import pytest
from fakes import ScriptedTracker, Square, make_package, picture_saying

from tracker_ros.evaluation.accounts import NominalPace
from tracker_ros.geometry import Box
from tracker_ros.runtime import store
from tracker_ros.trackers import Estimate, TrackerError, create, follow_together
from tracker_ros.tracking import (
    BoxError,
    BoxFault,
    Patience,
    Session,
    State,
    Thresholds,
    confidence,
)
from tracker_ros.tracking.confidence import Calibration
from tracker_ros.tracking.recovery import Candidate, Care
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


class Told(ScriptedTracker):
    """Answers with what it was told last, and notes what it learns from."""

    answer = Estimate(BOX, 0.9)

    def __init__(self, package):
        super().__init__(package)
        self.learnt = []

    def follow(self, image):
        return self.answer

    def learn(self, image, estimate):
        self.learnt.append(estimate)


@pytest.fixture
def told():
    return Told(store.find('csrt'))


@pytest.fixture
def hunting(tmp_path):
    """A square that is followed by a fake network, and a session of three frames each way."""
    square = Square()
    tracker = create(str(make_package(tmp_path / 'm')), 'onnxruntime', 1)

    def start(**settings):
        session = Session(tracker, patience=Patience(2, 4, 3), care=Care(**settings))
        session.start(square.at(30, 40), square.box(30, 40), stamp_s=0.0)
        return session

    return square, start


def followed(session, pictures, since_s=0.0):
    """The observations of pictures a thirtieth of a second apart."""
    return [
        session.step(picture, since_s + number / 30) for number, picture in enumerate(pictures, 1)
    ]


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('place', range(5))
def test_what_is_no_number_never_reaches_the_state(told, bad, place):
    session = Session(told, Thresholds(0.3, 0.6), Patience(2, 4, 3))
    session.start(SURE, BOX)
    session.step(SURE)
    numbers = [*BOX.xywh(), 0.9]
    numbers[place] = bad
    told.answer = Estimate(Box(*numbers[:4]), numbers[4])
    for _ in range(6):
        observation = session.step(SURE)
        assert observation.confidence == 0.0
        assert observation.score == 0.0
        assert observation.box in (BOX, None)
        assert observation.predicted.box.is_finite()
    assert observation.state is State.LOST
    told.answer = Estimate(BOX, 0.9)
    assert [session.step(SURE) for _ in range(3)][-1].box == BOX


@pytest.mark.parametrize('box', [Box(-1e12, 0, 1e300, 1e300), Box(5, 5, 1e-9, 1e-9)])
def test_a_box_changes_its_size_step_by_step_and_stays_in_the_image(told, box):
    session = Session(told, Thresholds(0.3, 0.6))
    session.start(SURE, BOX)
    told.answer = Estimate(box, 0.9)
    before = BOX
    for _ in range(20):
        now = session.step(SURE).box
        assert before.w / 1.5 - 1e-9 <= now.w <= min(before.w * 1.5, 64) + 1e-9
        assert before.h / 1.5 - 1e-9 <= now.h <= min(before.h * 1.5, 48) + 1e-9
        assert 0 <= now.cx <= 64
        assert 0 <= now.cy <= 48
        assert told.searches[-1] == now, 'the tracker goes on from there'
        before = now


def test_a_score_beyond_its_range_is_held_to_it(told):
    session = Session(told, Thresholds(0.3, 0.6))
    session.start(SURE, BOX)
    told.answer = Estimate(BOX, 1.5)
    assert session.step(SURE).score == 1.0


def test_only_sure_frames_are_learnt_from(told):
    session = Session(told, Thresholds(0.3, 0.6), Patience(2, 4, 3))
    session.start(SURE, BOX)
    answers = [Estimate(BOX, score) for score in (0.9, 0.5, 0.1, 0.1, 0.7, 0.0, 0.0, 0.0, 0.0)]
    for told.answer in answers:
        session.step(SURE)
    assert told.learnt == [answers[0], answers[4]]
    assert session.observation.state is State.LOST
    told.answer = Estimate(BOX, 0.9)
    for _ in range(2):
        session.step(SURE)
    assert len(told.learnt) == 2, 'not before it is found again for sure'
    session.step(SURE)
    assert len(told.learnt) == 3


def test_a_step_is_prepare_follow_and_digest(hunting):
    square, start = hunting
    pictures = [square.at(30 + 5 * n, 40) for n in range(1, 6)]
    whole = followed(start(), pictures)
    session = start()
    for number, (picture, expected) in enumerate(zip(pictures, whole, strict=True), 1):
        session.prepare(picture, number / 30)
        (estimate,) = follow_together([session.tracker], picture)
        assert session.digest(picture, estimate) == expected


def test_after_missing_frames_the_search_goes_where_the_target_was_going(told):
    session = Session(told, Thresholds(0.3, 0.6))
    picture = picture_saying(0.9, 640, 480)
    session.start(picture, Box(10, 200, 20, 20), stamp_s=0.0)
    for number in range(1, 11):
        told.answer = Estimate(Box(10 + 4 * number, 200, 20, 20), 0.9)
        session.step(picture, number / 30)
    assert told.searches == [], 'it moves little from frame to frame'
    session.step(picture, 10 / 30 + 0.4)
    (searched,) = told.searches
    assert searched.cx == pytest.approx(60 + 0.4 * 120, abs=20)
    assert (searched.w, searched.h) == (20, 20)


def test_the_motion_is_told_also_while_the_target_is_not_seen(hunting):
    square, start = hunting
    session = start()
    seen = followed(session, [square.at(30 + 4 * n, 40) for n in range(1, 11)])
    assert seen[-1].predicted.velocity[0] == pytest.approx(120, rel=0.3)
    gone = followed(session, [square.ground] * 6, 10 / 30)
    assert gone[-1].state is State.LOST
    assert gone[-1].predicted.box.cx > seen[-1].box.cx + 10
    assert gone[-1].predicted.covariance[0, 0] > seen[-1].predicted.covariance[0, 0]


def test_a_target_that_comes_back_elsewhere_is_found(hunting):
    square, start = hunting
    session = start()
    followed(session, [square.at(30, 40)] * 5)
    gone = followed(session, [square.ground] * 60, 5 / 30)
    assert gone[-1].state is State.LOST
    back = followed(session, [square.at(180, 100)] * 30, 65 / 30)
    assert back[-1].state is State.TRACKING
    assert back[-1].box.iou(square.box(180, 100)) > 0.5
    assert any('recovered' in each.reason for each in back)


def test_nothing_is_found_where_nothing_is(hunting):
    square, start = hunting
    session = start()
    followed(session, [square.at(30, 40)] * 5)
    gone = followed(session, [square.ground] * 120, 5 / 30)
    assert {each.state for each in gone[10:]} == {State.LOST}
    assert all(each.box is None for each in gone[10:])


def test_without_a_search_the_target_has_to_come_back_itself(hunting):
    square, start = hunting
    session = start(search=False)
    followed(session, [square.at(30, 40)] * 5)
    followed(session, [square.ground] * 20, 5 / 30)
    assert followed(session, [square.at(180, 100)] * 30, 25 / 30)[-1].state is State.LOST
    assert followed(session, [square.at(30, 40)] * 3, 55 / 30)[-1].state is State.TRACKING


def test_looks_are_few_in_each_frame(hunting, monkeypatch):
    square, start = hunting
    session = start(most_looks=2, time_share=1.0)
    look_many, counts = session.tracker.look_many, []
    monkeypatch.setattr(
        session.tracker,
        'look_many',
        lambda image, around: counts.append(len(around)) or look_many(image, around),
    )
    followed(session, [square.at(30, 40)] * 5)
    assert counts == [], 'no look elsewhere while the target is there'
    for number in range(100):
        session.step(square.ground, 1 + 0.5 * number)
    assert max(counts) <= 2
    assert sum(counts) > 50


def test_a_hint_is_looked_at_first(hunting, monkeypatch):
    square, start = hunting
    session = start()
    followed(session, [square.at(30, 40)] * 5)
    followed(session, [square.ground] * 10, 5 / 30)
    asked = []
    look_many = session.tracker.look_many
    monkeypatch.setattr(
        session.tracker,
        'look_many',
        lambda image, around: asked.append(list(around)) or look_many(image, around),
    )
    hint = Box(200, 20, 30, 30)
    session.hint(hint)
    followed(session, [square.ground] * 10, 15 / 30)
    assert next(filter(None, asked))[0] == hint
    assert sum(box == hint for around in asked for box in around) == 1


def test_a_hint_changes_nothing_while_the_target_is_there(hunting):
    square, start = hunting
    pictures = [square.at(30 + 3 * n, 40) for n in range(1, 9)]
    expected = followed(start(), pictures)
    session = start()
    session.hint(Box(200, 100, 40, 40))
    session.hint(Box(math.nan, 0, 1, 1))
    assert followed(session, pictures) == expected


def test_a_hint_without_a_target_is_nothing(told):
    session = Session(told)
    session.hint(BOX)
    assert session.observation is NOTHING


def test_a_target_that_walks_out_is_said_to(hunting):
    square, start = hunting
    session = start()
    seen = followed(session, [square.at(30 + 8 * n, 40) for n in range(1, 30)])
    assert seen[-1].state is State.LOST
    assert any('leaving the image on the right' in each.reason for each in seen)


def test_confidence_is_that_of_the_calibration(told):
    calibration = Calibration(bias=-1.0, weights={'score': 0.0})
    session = Session(told, Thresholds(0.3, 0.6), calibration=calibration)
    session.start(SURE, BOX)
    observation = session.step(SURE)
    assert observation.confidence == pytest.approx(1 / (1 + math.e))
    assert observation.score == 0.9


def test_the_reason_names_what_is_wrong_where_that_is_known(told):
    weights = {'colour': 20.0}
    session = Session(
        told, Thresholds(0.3, 0.6), Patience(2, 4, 3), calibration=Calibration(-15.0, weights)
    )
    red, blue = np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64, 3), np.uint8)
    red[..., 2], blue[..., 0] = 80, 80
    session.start(red, BOX)
    assert session.step(red).state is State.TRACKING
    reasons = [session.step(blue).reason for _ in range(4)]
    assert reasons[1] == 'behind something, or changed: unlike the template for 2 frames'
    assert session.observation.state is State.LOST


def test_what_is_suddenly_much_less_likely_is_not_believed(told):
    score_alone = Calibration(bias=0.0, weights={'score': 1.0})
    session = Session(told, Thresholds(0.2, 0.4), Patience(2, 4, 3), calibration=score_alone)
    session.start(SURE, BOX)
    told.answer = Estimate(BOX, 0.97)
    for _ in range(20):
        session.step(SURE)
    learnt, beside = len(told.learnt), Box(20, 20, 20, 16)
    told.answer = Estimate(beside, 0.6)
    observed = [session.step(SURE) for _ in range(6)]
    assert [each.state.name[0] for each in observed] == list('TUUUUU')
    assert len(told.learnt) == learnt
    assert observed[-1].predicted.box.iou(BOX) > 0.9, 'nor does it move the target'
    told.answer = Estimate(BOX, 0.9)
    assert [session.step(SURE) for _ in range(3)][-1].state is State.TRACKING
    assert len(told.learnt) > learnt


class Looking(Told):
    """The same, and finds where it looks what it was told is there; nothing elsewhere."""

    can_look = True

    def __init__(self, package):
        super().__init__(package)
        self.there = []

    def look_many(self, image, around):
        found = []
        for box in around:
            near = [each for each in self.there if each.box.iou(box) > 0.3]
            found.append(near[0] if near else Estimate(box, 0.0))
        return found


OWN, TRIED = Box(12, 14, 20, 16), Box(40, 28, 20, 16)


@pytest.fixture
def looking():
    """It was sure of BOX, then found OWN, in doubt, and has TRIED on trial now."""
    tracker = Looking(store.find('csrt'))
    session = Session(tracker, Thresholds(0.3, 0.6), Patience(2, 4, 3), pace=NominalPace(0.001))
    session.start(SURE, BOX)
    session.step(SURE)
    tracker.answer = Estimate(OWN, 0.1)
    tracker.there = [Estimate(TRIED, 0.99)]
    assert session.step(SURE).state is State.TRACKING
    session.hint(TRIED)
    assert session.step(SURE).state is State.UNCERTAIN
    assert tracker.searches == [TRIED]
    return session, tracker


def test_in_doubt_a_tracker_goes_on_from_what_it_found_itself(told):
    told.can_look = True
    told.look_many = lambda image, around: [Estimate(box, 0.0) for box in around]
    session = Session(told, Thresholds(0.3, 0.6), Patience(2, 4, 3), pace=NominalPace(0.001))
    session.start(SURE, BOX)
    session.step(SURE)
    told.answer = Estimate(Box(14, 12, 30, 20), 0.1)
    boxes = [session.step(SURE).box for _ in range(3)]
    assert boxes == [told.answer.box] * 3
    assert told.searches == []
    told.answer = Estimate(Box(10, 12, 60, 40), 0.01)
    session.step(SURE)
    assert told.searches == [BOX], 'but not without any confidence'


@pytest.mark.parametrize(
    ('answer', 'kept'),
    [
        (Box(20, 18, 2, 1), Box.from_center(21, 18.5, 12.5, 10)),
        (Box(0, 0, 60, 40), Box.from_center(30, 20, 32, 25.6)),
        (Box(10, 12, 20, 40), Box.from_center(20, 32, 20, 25.6)),
    ],
)
def test_in_doubt_what_is_followed_keeps_about_the_size_that_was_believed(told, answer, kept):
    told.can_look = True
    told.look_many = lambda image, around: [Estimate(box, 0.0) for box in around]
    session = Session(told, Thresholds(0.3, 0.6), Patience(2, 4, 3), pace=NominalPace(0.001))
    session.start(SURE, BOX)
    session.step(SURE)
    told.answer = Estimate(answer, 0.1)
    for _ in range(5):
        session.step(SURE)
    assert told.searches[-1].xywh() == pytest.approx(kept.xywh())
    told.answer = Estimate(BOX, 0.9)
    assert [session.step(SURE) for _ in range(3)][-1].box == BOX


def test_after_a_trial_the_tracker_goes_on_where_it_was(looking):
    session, tracker = looking
    moved_on = Box(14, 15, 20, 16)
    tracker.answer = Estimate(TRIED, 0.1)
    tracker.there = [Estimate(moved_on, 0.2)]
    session.step(SURE)
    assert tracker.searches == [TRIED, moved_on]


def test_what_was_followed_before_a_trial_wins_when_it_is_sure_again(looking):
    session, tracker = looking
    tracker.answer = Estimate(TRIED, 0.5)
    tracker.there = [Estimate(OWN, 0.9)]
    session.step(SURE)
    assert tracker.searches == [TRIED, OWN]
    tracker.answer = Estimate(OWN, 0.9)
    observed = [session.step(SURE) for _ in range(3)][-1]
    assert (observed.state, observed.box) == (State.TRACKING, OWN)


def test_a_trial_that_is_sure_for_long_enough_moves_the_target(looking):
    session, tracker = looking
    tracker.answer = Estimate(TRIED, 0.99)
    observed = [session.step(SURE) for _ in range(3)]
    assert [each.state.name[0] for each in observed] == list('UUT')
    assert observed[-1].box == TRIED


@pytest.mark.parametrize(
    ('merit', 'states'), [(0.2, 'UUT'), (0.9, 'UUT'), (0.98, 'UUU'), (0.995, 'UUU')]
)
def test_a_trial_has_to_be_clearly_likelier_than_what_else_is_seen(looking, merit, states):
    session, tracker = looking
    far = Box(2, 30, 20, 16)
    tracker.answer = Estimate(TRIED, 0.99)
    session._note_rivals([Candidate(far, merit, True)])
    observed = [session.step(SURE) for _ in range(3)]
    assert ''.join(each.state.name[0] for each in observed) == states


def test_what_is_seen_at_the_place_of_the_trial_itself_is_no_rival(looking):
    session, tracker = looking
    tracker.answer = Estimate(TRIED, 0.99)
    session._note_rivals([Candidate(Box(44, 30, 20, 16), 0.99, True)])
    assert [session.step(SURE) for _ in range(3)][-1].state is State.TRACKING


def test_during_a_trial_others_are_looked_for(looking):
    session, tracker = looking
    tracker.answer = Estimate(TRIED, 0.99)
    own, other = Estimate(OWN, 0.1), Estimate(Box(2, 30, 20, 16), 0.98)
    tracker.look_many = lambda image, around: [
        own if box.iou(OWN) > 0.3 else other for box in around
    ]
    observed = [session.step(SURE) for _ in range(4)]
    assert State.TRACKING not in {each.state for each in observed}


@pytest.fixture
def found():
    """It was LOST for two seconds, and has TRIED on trial now."""
    tracker = Looking(store.find('csrt'))
    session = Session(tracker, Thresholds(0.3, 0.6), Patience(2, 4, 3), pace=NominalPace(0.001))
    session.start(SURE, BOX, stamp_s=0.0)
    session.step(SURE, 1 / 30)
    tracker.answer = Estimate(OWN, 0.1)
    for number in range(2, 60):
        session.step(SURE, number / 30)
    assert session.observation.state is State.LOST
    tracker.there = [Estimate(TRIED, 0.5)]
    session.hint(TRIED)
    session.step(SURE, 2.0)
    assert tracker.searches == [TRIED]
    return session, tracker


def test_a_trial_that_stays_credible_goes_on_without_being_believed(found):
    session, tracker = found
    tracker.answer = Estimate(TRIED, 0.5)
    tracker.there = [Estimate(OWN, 0.1)]
    states = [session.step(SURE, 2.0 + number / 30).state for number in range(1, 40)]
    assert set(states) == {State.LOST, State.UNCERTAIN}
    assert tracker.searches == [TRIED], 'and the tracker is not led away from it'
    assert session.observation.box == TRIED
    assert tracker.learnt == [Estimate(BOX, 0.9)]
    tracker.answer = Estimate(TRIED, 0.99)
    observed = [session.step(SURE, 4.0 + number / 30) for number in range(3)]
    assert observed[-1].state is State.TRACKING


def test_a_trial_that_stays_credible_gives_way_to_what_is_likelier(found):
    session, tracker = found
    tracker.answer = Estimate(TRIED, 0.5)
    tracker.there = [Estimate(OWN, 0.55)]
    for number in range(1, 12):
        session.step(SURE, 2.0 + number / 30)
    assert tracker.searches == [TRIED, OWN]


BESIDE = Box(38, 12, 20, 16)


@pytest.fixture
def covered():
    """It followed BOX for long, then nothing spoke for it in one frame."""
    tracker = Looking(store.find('csrt'))
    session = Session(tracker, Thresholds(0.3, 0.6), Patience(3, 6, 3), pace=NominalPace(0.001))
    session.start(SURE, BOX)
    for _ in range(20):
        session.step(SURE)
    tracker.learnt.clear()
    tracker.answer = Estimate(BOX, 0.01)
    assert session.step(SURE).state is State.TRACKING
    tracker.searches.clear()
    return session, tracker


def test_what_is_seen_beside_a_target_that_was_covered_is_not_taken_for_it(covered):
    session, tracker = covered
    tracker.answer = Estimate(BESIDE, 0.9)
    tracker.there = [tracker.answer]
    observed = [session.step(SURE) for _ in range(15)]
    assert State.TRACKING not in {each.state for each in observed[2:]}
    assert not tracker.learnt
    assert tracker.searches[0] == BOX, 'the tracker looks where the target was'
    tracker.answer = Estimate(BOX, 0.97)
    assert [session.step(SURE) for _ in range(3)][-1].state is State.TRACKING


@pytest.mark.parametrize('box', [BOX, Box(16, 14, 20, 16)])
def test_after_one_bad_frame_a_target_goes_on_where_it_can_have_moved_to(covered, box):
    session, tracker = covered
    tracker.answer = Estimate(box, 0.9)
    assert {session.step(SURE).state for _ in range(5)} == {State.TRACKING}
    assert tracker.searches == []
    assert len(tracker.learnt) == 5


def test_what_is_very_sure_beside_a_covered_target_goes_on_trial_first(covered):
    session, tracker = covered
    tracker.answer = Estimate(BESIDE, 0.999)
    tracker.there = [tracker.answer]
    learnt = []
    for _ in range(4):
        session.step(SURE)
        learnt.append(len(tracker.learnt))
    assert tracker.searches == [BOX, BESIDE]
    assert learnt == [0, 0, 0, 1]


def test_without_a_bad_frame_a_target_may_jump(covered):
    session, tracker = covered
    tracker.answer = Estimate(BOX, 0.9)
    session.step(SURE)
    tracker.answer = Estimate(BESIDE, 0.9)
    assert {session.step(SURE).state for _ in range(5)} == {State.TRACKING}


def test_without_doubt_the_looks_are_described_in_every_third_frame(told, monkeypatch):
    described = []
    describe = confidence.describe
    monkeypatch.setattr(
        confidence, 'describe', lambda *args: described.append(args) or describe(*args)
    )
    session = Session(told, Thresholds(0.3, 0.6))
    session.start(SURE, BOX)
    for _ in range(10):
        session.step(SURE)
    assert len(described) == 1 + 10
    for _ in range(20):
        session.step(SURE)
    assert len(described) == 1 + 10 + 6
    told.answer = Estimate(BOX, 0.79)
    for _ in range(5):
        session.step(SURE)
    assert len(described) == 1 + 10 + 6 + 5, 'a score that falls is looked into'
