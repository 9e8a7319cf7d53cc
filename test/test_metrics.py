# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scores against cases worked out by hand, and properties that hold for all boxes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker_ros.evaluation import metrics
from tracker_ros.geometry import Box

SIZE = (1000, 1000)
ABSENT = [np.nan] * 4


def boxes(*rows):
    return np.array(rows, dtype=np.float64)


def shifted(count, share):
    """Truth 100 x 100 and predictions moved right by `share` of the width."""
    truth = np.tile([200.0, 200.0, 100.0, 100.0], (count, 1))
    predicted = truth.copy()
    predicted[:, 0] += 100.0 * share
    return predicted, truth


def test_overlap_of_worked_cases():
    truth = boxes([0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10])
    predicted = boxes(
        [0, 0, 10, 10],  # equal
        [5, 0, 10, 10],  # 50 shared of 150
        [10, 0, 10, 10],  # touching
        [0, 0, 5, 5],  # 25 of 100
    )
    expected = [1.0, 1 / 3, 0.0, 0.25]
    assert metrics.overlaps(predicted, truth) == pytest.approx(expected)


def test_overlap_of_no_box_is_zero_and_of_no_target_is_nan():
    truth = boxes([0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], ABSENT)
    predicted = boxes(ABSENT, [0, 0, np.inf, 10], [5, 5, -3, 10], [0, 0, 10, 10])
    overlap = metrics.overlaps(predicted, truth)
    assert overlap[:3].tolist() == [0.0, 0.0, 0.0]
    assert math.isnan(overlap[3])


def test_centre_errors_of_worked_cases():
    truth = boxes([0, 0, 10, 20], [0, 0, 10, 20], [0, 0, 10, 20], ABSENT)
    predicted = boxes([3, 4, 10, 20], [-5, 0, 20, 20], ABSENT, [0, 0, 1, 1])
    error = metrics.centre_errors(predicted, truth)
    assert error[:3].tolist() == [5.0, 0.0, math.inf]
    assert math.isnan(error[3])
    normalised = metrics.normalised_centre_errors(predicted, truth)
    assert normalised[0] == pytest.approx(math.hypot(0.3, 0.2))


def test_a_perfect_tracker_beats_every_threshold_but_the_last():
    truth = boxes([10, 10, 30, 40], [11.3, 12.7, 31.1, 40.9], [13, 14, 32, 41])
    scores = metrics.score_sequence(truth, truth, SIZE)
    assert scores.auc == pytest.approx(20 / 21)
    assert scores.success_curve.tolist() == [1.0] * 20 + [0.0]
    assert scores.precision == scores.normalised_precision == 1.0
    assert (scores.ao, scores.sr50, scores.sr75) == (1.0, 1.0, 1.0)


def test_an_overlap_must_be_greater_than_the_threshold():
    # Half of 100 x 100 inside it: an overlap of exactly 0.5 passes 0, 0.05, ..., 0.45.
    truth = boxes([0, 0, 100, 100], [0, 0, 100, 100])
    predicted = boxes([0, 0, 50, 100], [0, 0, 50, 100])
    scores = metrics.score_sequence(predicted, truth, SIZE)
    assert scores.auc == pytest.approx(10 / 21)
    assert scores.sr50 == 0.0


def test_a_centre_may_be_at_the_threshold():
    predicted, truth = shifted(2, 0.2)
    scores = metrics.score_sequence(predicted, truth, SIZE)
    assert scores.precision == 1.0
    assert scores.normalised_precision == 1.0
    assert scores.precision_curve[19] == 0.0


def test_dead_tracker_scores_its_first_frame_only():
    truth = boxes([0, 0, 10, 10], [500, 0, 10, 10], [600, 0, 10, 10], [700, 0, 10, 10])
    predicted = np.tile(truth[0], (4, 1))
    scores = metrics.score_sequence(predicted, truth, SIZE)
    assert scores.auc == pytest.approx(20 / 21 / 4)
    assert scores.precision == 0.25
    assert scores.ao == 0.0


def test_absent_frames_are_not_scored():
    truth = boxes([0, 0, 10, 10], ABSENT, [0, 0, 10, 10], ABSENT)
    predicted = boxes([0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], ABSENT)
    scores = metrics.score_sequence(predicted, truth, SIZE)
    assert scores.frames == 2
    assert scores.auc == pytest.approx(20 / 21)
    assert scores.ao == 1.0


def test_average_overlap_is_taken_inside_the_image():
    # Outside the image the boxes differ, inside it they are the same 10 x 10.
    truth = boxes([0, 0, 10, 10], [90, 0, 100, 10])
    predicted = boxes([0, 0, 10, 10], [90, 0, 20, 10])
    scores = metrics.score_sequence(predicted, truth, (100, 100))
    assert scores.ao == pytest.approx(1.0)
    assert scores.success_curve[5] == 0.5


def test_a_box_that_begins_outside_moves_in_as_in_got10ks_toolkit():
    clipped = metrics.clip_boxes(boxes([-30, 5, 40, 10], [90, 95, 40, 10]), (100, 100))
    assert clipped.tolist() == [[0, 5, 40, 10], [90, 95, 10, 5]]


def test_interval_of_equal_sequences_has_no_width():
    assert metrics.bootstrap_interval(np.full(7, 0.25)) == pytest.approx((0.25, 0.25))


def test_interval_covers_the_mean_narrows_with_sequences_and_repeats():
    few = np.random.default_rng(0).uniform(0, 1, 10)
    many = np.tile(few, 20)
    low, high = metrics.bootstrap_interval(few)
    assert low < few.mean() < high
    # The normal distribution's 1.96 standard errors; 10 values are close to it already.
    assert high - low == pytest.approx(2 * 1.96 * few.std() / np.sqrt(10), rel=0.1)
    narrow = metrics.bootstrap_interval(many)
    assert narrow[1] - narrow[0] < (high - low) / 3
    assert metrics.bootstrap_interval(few) == (low, high)
    assert np.isnan(metrics.bootstrap_interval(np.array([]))).all()


def test_intervals_hold_the_scores_of_the_set():
    errors = [
        metrics.errors_of(*shifted(count, share), SIZE)
        for count, share in [(5, 0.0), (9, 0.3), (30, 0.6), (4, 0.1)]
    ]
    scores = metrics.mean_scores(errors)
    found = metrics.intervals(errors)
    assert set(found) == {'auc', 'precision', 'normalised_precision', 'ao', 'sr50', 'sr75'}
    for name, (low, high) in found.items():
        assert low <= getattr(scores, name) <= high


def test_a_single_frame_has_no_average_overlap():
    truth = boxes([0, 0, 10, 10])
    scores = metrics.score_sequence(truth, truth, SIZE)
    assert math.isnan(scores.ao)
    assert scores.as_dict()['ao'] is None


def test_sets_average_curves_over_sequences_and_overlaps_over_frames():
    good = metrics.errors_of(*reversed(shifted(3, 0.0)), SIZE)
    bad_predicted, bad_truth = shifted(9, 5.0)
    bad = metrics.errors_of(bad_predicted, bad_truth, SIZE)
    scores = metrics.mean_scores([good, bad])
    assert scores.frames == 12
    assert scores.auc == pytest.approx(20 / 21 / 2)
    assert scores.ao == pytest.approx(2 / 10)
    assert scores.sr50 == pytest.approx(2 / 10)


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match=r'\(2, 4\).*\(1, 4\)'):
        metrics.errors_of(np.zeros((2, 4)), np.zeros((1, 4)), SIZE)
    with pytest.raises(ValueError, match='absent from every frame'):
        metrics.score_sequence(np.zeros((1, 4)), boxes(ABSENT), SIZE)
    with pytest.raises(ValueError, match='no sequence'):
        metrics.mean_scores([])


places = st.floats(-500, 500, allow_nan=False)
sizes = st.floats(0.5, 400, allow_nan=False)
some_boxes = st.tuples(places, places, sizes, sizes)


@given(st.lists(st.tuples(some_boxes, some_boxes), min_size=1, max_size=20))
def test_overlaps_agree_with_the_box_and_are_symmetric(pairs):
    ours, theirs = (boxes(*rows) for rows in zip(*pairs, strict=True))
    overlap = metrics.overlaps(ours, theirs)
    assert ((overlap >= 0) & (overlap <= 1)).all()
    assert overlap == pytest.approx(metrics.overlaps(theirs, ours))
    one_by_one = [Box(*a).iou(Box(*b)) for a, b in pairs]
    assert overlap == pytest.approx(one_by_one, abs=1e-9)


@given(st.lists(st.tuples(some_boxes, some_boxes), min_size=2, max_size=20))
def test_curves_are_monotonic_shares(pairs):
    predicted, truth = (boxes(*rows) for rows in zip(*pairs, strict=True))
    scores = metrics.score_sequence(predicted, truth, SIZE)
    curves = (
        scores.success_curve,
        scores.precision_curve[::-1],
        scores.normalised_precision_curve[::-1],
    )
    for curve in curves:
        assert (np.diff(curve) <= 0).all()
        assert ((curve >= 0) & (curve <= 1)).all()
    assert scores.sr75 <= scores.sr50


@given(st.floats(0, 0.9), st.floats(0.01, 0.1))
def test_a_closer_box_never_scores_worse(share, step):
    nearer = metrics.score_sequence(*shifted(3, share), SIZE)
    farther = metrics.score_sequence(*shifted(3, share + step), SIZE)
    assert nearer.auc >= farther.auc
    assert nearer.ao > farther.ao
    assert nearer.precision >= farther.precision
