# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Verdicts on made-up accounts, in which everything is known."""

from __future__ import annotations

import numpy as np
import pytest

from tracker_ros.evaluation.events import EventClip
from tracker_ros.evaluation.life_metrics import Account, Rate, Share, judge, tally
from tracker_ros.tracking.life import State

COUNT, BEGIN, END = 200, 60, 90
T, U, L = State.TRACKING, State.UNCERTAIN, State.LOST


def clip_of(kind: str = 'occlusion', hides: bool = True, rival=None) -> EventClip:
    """A target that stands still, absent from BEGIN to END where it `hides`."""
    truth = np.tile([100.0, 80.0, 40.0, 40.0], (COUNT, 1))
    visible = np.ones(COUNT)
    if hides:
        truth[BEGIN:END] = np.nan
        visible[BEGIN:END] = 0
        visible[BEGIN - 3 : BEGIN] = visible[END : END + 2] = 0.5
    return EventClip(
        name='made up',
        kind=kind,
        source='made up',
        duration_s=1.0,
        truth=truth,
        visible=visible,
        rival=np.full((COUNT, 4), np.nan) if rival is None else rival,
        stamps_s=np.arange(COUNT) / 30,
        width=320,
        height=240,
        rate_hz=30.0,
        event=(BEGIN, END),
        order=np.arange(COUNT),
        _footage=None,
        _begin=None,
    )


def verdict_on(spans, clip=None, off=()):
    """spans: (first, end, state); TRACKING elsewhere. off: (first, end, x) of a box elsewhere.

    A lost target has no box.
    """
    states = np.full(COUNT, T)
    for first, end, state in spans:
        states[first:end] = state
    boxes = np.tile([100.0, 80.0, 40.0, 40.0], (COUNT, 1))
    for first, end, x in off:
        boxes[first:end, 0] = x
    boxes[states == L] = np.nan
    nothing = np.full(COUNT, np.nan)
    return judge(Account('it', clip or clip_of(), states, boxes, boxes, nothing, nothing))


def test_one_who_knows_all_is_without_fault():
    verdict = verdict_on([(BEGIN, BEGIN + 4, U), (BEGIN + 4, END + 1, L)])
    assert verdict.held
    assert verdict.noticed == {5: True, 10: True}
    assert verdict.lost == {5: True, 10: True}
    # Half of it is still hidden in the first two frames of its return.
    assert verdict.recovered
    assert verdict.recovered_s == 0
    assert verdict.wrong_lock is False
    assert verdict.absent_lock is False
    assert verdict.doubts == verdict.losses == 0
    assert verdict.good_frames == COUNT - 1 - (END - BEGIN) - 5


@pytest.mark.parametrize(('delay', 'noticed'), [(0, True), (4, True), (5, False), (40, False)])
def test_a_loss_is_noticed_within_the_first_five_frames(delay, noticed):
    verdict = verdict_on([(BEGIN + delay, END + 20, U)])
    assert verdict.noticed[5] is noticed
    assert verdict.lost[5] is False


def test_whoever_doubted_before_need_not_notice_again():
    assert verdict_on([(BEGIN - 2, END, U)]).noticed[5] is True


def test_lost_counts_on_its_own():
    verdict = verdict_on([(BEGIN, BEGIN + 7, U), (BEGIN + 7, END, L)])
    assert verdict.lost == {5: False, 10: True}


@pytest.mark.parametrize(
    ('back', 'recovered_s'), [(2, 0.0), (32, 1.0), (62, 2.0), (63, None), (105, None)]
)
def test_recovery_is_timed_from_the_full_return(back, recovered_s):
    verdict = verdict_on([(BEGIN, END + back, L)])
    assert verdict.recovered is (recovered_s is not None)
    assert verdict.recovered_s == pytest.approx(recovered_s)


def test_what_is_not_kept_is_not_recovered():
    verdict = verdict_on([(BEGIN, END + 5, L), (END + 8, COUNT, L)])
    assert verdict.recovered is False


def test_a_claim_elsewhere_is_no_recovery():
    verdict = verdict_on([(BEGIN, END, L)], off=[(END, COUNT, 200.0)])
    assert verdict.recovered is False
    assert verdict.wrong_lock is True


@pytest.mark.parametrize(('frames', 'wrong'), [(9, False), (10, True)])
def test_a_wrong_lock_takes_ten_frames_in_a_row(frames, wrong):
    first = END + 30
    verdict = verdict_on([(BEGIN, END, L)], off=[(first, first + frames, 200.0)])
    assert verdict.wrong_lock is wrong


def test_who_is_elsewhere_and_says_so_has_no_wrong_lock():
    verdict = verdict_on([(BEGIN, COUNT, U)], off=[(END, COUNT, 200.0)])
    assert verdict.wrong_lock is False
    assert verdict.recovered is False


def test_a_look_alike_is_a_wrong_lock_at_any_time():
    rival = np.full((COUNT, 4), np.nan)
    rival[20:50] = [200.0, 80.0, 40.0, 40.0]
    clip = clip_of('crossing', hides=False, rival=rival)
    assert verdict_on([], clip).wrong_lock is False
    assert verdict_on([], clip, off=[(30, 40, 205.0)]).wrong_lock is True
    assert verdict_on([], clip, off=[(30, 40, 260.0)]).wrong_lock is False


def test_claims_while_the_target_is_absent_are_counted():
    verdict = verdict_on([(BEGIN, BEGIN + 5, U), (BEGIN + 17, END, L)])
    assert verdict.absent_lock is True
    assert (verdict.claimed_absent, verdict.absent) == (12, END - BEGIN)


def test_false_alarms_are_counted_where_they_begin():
    verdict = verdict_on([(20, 22, U), (30, 40, U), (40, 45, L), (BEGIN, END, L), (150, 155, L)])
    assert verdict.doubts == 3
    assert verdict.losses == 2


def test_a_doubt_about_a_bad_box_is_no_false_alarm():
    assert verdict_on([(30, 40, U), (BEGIN, END, L)], off=[(28, 42, 200.0)]).doubts == 0


def test_a_doubt_about_a_target_that_is_being_hidden_is_no_false_alarm():
    assert verdict_on([(BEGIN - 2, END, L)]).doubts == 0


def test_who_lost_the_target_before_the_event_is_judged_by_alarms_alone():
    verdict = verdict_on([(20, 22, U)], off=[(45, COUNT, 200.0)])
    assert not verdict.held
    assert verdict.recovered is verdict.wrong_lock is verdict.absent_lock is None
    assert verdict.noticed == {5: None, 10: None}
    assert verdict.doubts == 1
    counted = tally([verdict])
    assert counted.held == Share(0, 1)
    assert counted.recovered == Share(0, 0)


def test_an_undisturbed_clip_counts_for_alarms_alone():
    verdict = verdict_on([(20, 22, U)], clip_of('calm', hides=False))
    assert verdict.recovered is None
    assert verdict.wrong_lock is None
    counted = tally([verdict])
    assert counted.held == Share(0, 0)
    assert counted.doubts == Rate(1, COUNT - 1)


def test_a_short_absence_does_not_ask_for_more_frames_than_it_has():
    clip = clip_of()
    clip.truth[BEGIN + 6 : END] = clip.truth[0]
    clip.visible[BEGIN + 6 : END] = 1
    verdict = verdict_on([(BEGIN, END, U)], clip)
    assert verdict.noticed == {5: True, 10: None}


def test_verdicts_are_counted():
    good = verdict_on([(BEGIN, END, L)])
    bad = verdict_on([], off=[(BEGIN, COUNT, 200.0)])
    counted = tally([good, good, bad])
    assert counted.noticed[5] == Share(2, 3)
    assert counted.recovered == Share(2, 3)
    assert counted.wrong_lock == Share(1, 3)
    assert counted.absent_lock == Share(1, 3)
    assert counted.as_dict()['recovered']['of'] == 3
    assert counted.as_dict()['recovery_s_median'] == 0


def test_intervals_are_those_of_the_textbook():
    # Wilson's interval of 15 in 20, and Garwood's exact one of 3 in 1000, which Byar's is near.
    assert Share(15, 20).interval == pytest.approx((0.531, 0.888), abs=1e-3)
    assert Share(0, 0).interval == (0.0, 1.0)
    assert Rate(3, 1000).interval == pytest.approx((0.619, 8.767), abs=0.05)
    assert Rate(0, 1000).interval == pytest.approx((0, 3.689), abs=0.05)
    assert Share(20, 20).interval[1] == pytest.approx(1)


def test_an_account_of_another_length_is_refused():
    short = np.zeros(3)
    with pytest.raises(ValueError, match='200 frames, the account 3 states'):
        judge(Account('it', clip_of(), short, np.zeros((3, 4)), np.zeros((3, 4)), short, short))
