# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scores to states: a table of what people expect, and the dwell at each threshold."""

import math

import pytest

from tracker_ros.tracking import Life, Patience, State, Thresholds

STATES = {'S': State.STARTING, 'T': State.TRACKING, 'U': State.UNCERTAIN, 'L': State.LOST}
# One letter a frame: a score below `lost`, between the two, and at or above `sure`.
SCORES = {'l': 0.1, 'm': 0.4, 's': 0.9}


def lived(scores, patience=None):
    """The states after each of the scores, as letters."""
    life = Life(Thresholds(0.3, 0.6), patience or Patience(2, 4, 3))
    names = {state: letter for letter, state in STATES.items()}
    return ''.join(names[life.update(SCORES[score])] for score in scores)


@pytest.mark.parametrize(
    ('scores', 'states'),
    [
        ('ssss', 'TTTT'),
        # The first sure frame confirms a start; a doubtful one delays it.
        ('mss', 'STT'),
        ('ml', 'SU'),
        ('mmmmmm', 'SUUUUU'),
        ('llllll', 'SUULLL'),
        # One bad frame changes nothing, two in a row do.
        ('slsssl', 'TTTTTT'),
        ('smsmsm', 'TTTTTT'),
        ('sll', 'TTU'),
        ('smm', 'TTU'),
        ('slm', 'TTU'),
        # Four in a row below `lost` do; one in between begins the count anew.
        ('sllll', 'TTUUL'),
        ('slllmllll', 'TTUUUUUUL'),
        ('sllsll', 'TTUUUU'),
        # Back takes three sure frames in a row.
        ('sllsss', 'TTUUUT'),
        ('sllssmsss', 'TTUUUUUUT'),
        ('sllllsss', 'TTUULLLT'),
        ('sllllssmlsss', 'TTUULLLLLLLT'),
        # What may be the target for as long as it took to lose it is told, in doubt.
        ('sllllmmmlmmm', 'TTUULLLLLLLL'),
        ('sllllmmmm', 'TTUULLLLU'),
        ('sllllmmmmlllsllll', 'TTUULLLLUUUUUUUUL'),
        ('sllllmmmmsss', 'TTUULLLLUUUT'),
        # And from there everything goes on as before.
        ('sllllsssll', 'TTUULLLTTU'),
    ],
)
def test_scores_make_states(scores, states):
    assert lived(scores) == states


def test_without_patience_every_frame_counts():
    assert lived('slmsl', Patience(1, 1, 1)) == 'TLUTL'
    assert lived('smsl', Patience(1, 1, 1)) == 'TUTL'


def test_patience_for_losing_may_be_shorter_than_for_doubt():
    assert lived('sllss', Patience(3, 2, 2)) == 'TTLLT'


@pytest.mark.parametrize(
    ('score', 'state'), [(0.6, 'T'), (0.5999, 'U'), (0.3, 'U'), (0.2999, 'L')]
)
def test_a_threshold_itself_is_on_the_good_side(score, state):
    life = Life(Thresholds(0.3, 0.6), Patience(1, 1, 1))
    assert life.update(score) is STATES[state]


def test_reasons_are_for_people():
    life = Life(Thresholds(0.3, 0.6), Patience(2, 4, 3))
    assert life.reason == 'started'
    reasons = []
    for score in 'slllllsss':
        before = life.state
        life.update(SCORES[score])
        if life.state is not before:
            reasons.append(life.reason)
    assert reasons == [
        'found again in the first frame after the start',
        'score below 0.60 for 2 frames',
        'score below 0.30 for 4 frames',
        'recovered: score at least 0.60 for 3 frames',
    ]
    life.update(0.1), life.update(0.1)
    for _ in range(3):
        life.update(0.9)
    assert life.reason.startswith('sure again')


def test_a_changed_patience_holds_from_the_next_frame_on():
    life = Life(Thresholds(0.3, 0.6), Patience(2, 4, 3))
    life.update(0.9)
    life.update(0.1)
    life.patience = Patience(1, 1, 1)
    assert life.update(0.1) is State.LOST


@pytest.mark.parametrize(
    ('lost', 'sure'), [(0.6, 0.3), (-0.1, 0.5), (0.5, 1.1), (float('nan'), 0.5)]
)
def test_impossible_thresholds_are_refused(lost, sure):
    with pytest.raises(ValueError, match=f'not lost {lost:g}, sure {sure:g}'):
        Thresholds(lost, sure)


@pytest.mark.parametrize('name', ['uncertain_frames', 'lost_frames', 'sure_frames'])
def test_impossible_patience_is_refused(name):
    with pytest.raises(ValueError, match=f'{name} must be at least 1, not 0'):
        Patience(**{name: 0})


def test_the_numbers_are_those_of_the_message():
    from tracker_ros_interfaces.msg import TrackerState

    assert {state.name: state.value for state in State} == {
        name: getattr(TrackerState, name) for name in State.__members__
    }


def minding(scores, patience=None):
    """A life that minds falls, after these scores."""
    life = Life(Thresholds(0.2, 0.4), patience or Patience(2, 4, 3), minds_falls=True)
    for score in scores:
        life.update(score)
    return life


def test_a_sudden_fall_is_doubt_though_above_the_threshold():
    life = minding([0.97] * 20)
    assert life.enough == pytest.approx(0.773, abs=0.01)
    assert life.update(0.55) is State.TRACKING
    assert life.update(0.55) is State.UNCERTAIN
    assert life.reason == 'score below 0.77 for 2 frames'
    assert [life.update(0.55) for _ in range(5)] == [State.UNCERTAIN] * 5
    assert [life.update(0.9) for _ in range(3)][-1] is State.TRACKING
    plain = Life(Thresholds(0.2, 0.4), Patience(2, 4, 3))
    for score in [0.97] * 20 + [0.55] * 5:
        assert plain.update(score) is State.TRACKING


def test_a_slow_fall_is_none():
    life = minding([0.97] * 20)
    states = {life.update(0.97 - 0.5 * step / 200) for step in range(200)}
    assert states == {State.TRACKING}


def test_what_stays_as_it_became_is_sure_again_after_a_while():
    life = minding([0.97] * 20 + [0.6] * 2)
    waited = next(n for n in range(1000) if life.update(0.6) is State.TRACKING)
    assert 30 < waited < 120


def test_one_that_was_never_very_sure_cannot_fall_far():
    life = minding([0.6] * 30)
    assert life.enough == 0.4
    assert life.update(0.45) is State.TRACKING
    assert life.update(0.45) is State.TRACKING


def test_certainty_asks_for_no_more_than_much():
    life = minding([1.0] * 200)
    assert life.enough == pytest.approx(1 / (1 + math.exp(2.25 - 4.0)))


def test_a_fall_alone_is_no_loss():
    life = minding([0.97] * 20)
    assert State.LOST not in [life.update(0.3) for _ in range(30)]
    assert State.LOST in [life.update(0.1) for _ in range(4)]


def test_what_is_found_again_has_to_be_surer_also_in_doubt():
    life = minding([0.5] * 20 + [0.1] * 4)
    assert (life.state, life.is_missing) == (State.LOST, True)
    assert life.enough == pytest.approx(0.58)
    states = [life.update(0.5) for _ in range(8)]
    assert states == [State.LOST] * 3 + [State.UNCERTAIN] * 5
    assert life.reason == 'perhaps seen again: score at least 0.20 for 4 frames'
    assert life.enough == pytest.approx(0.58)
    assert [life.update(0.6) for _ in range(3)][-1] is State.TRACKING
    assert life.reason.startswith('recovered')
    assert (life.is_missing, life.enough) == (False, 0.4)
