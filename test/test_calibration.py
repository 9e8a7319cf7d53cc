# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Confidence fitted to footage: the fit itself, what it is fitted to, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pytest
from test_accounts import Dark

from tracker_ros.evaluation.calibration import (
    FitError,
    Record,
    alarms,
    checking_clips,
    fit,
    fit_logistic,
    follow,
    follow_truth,
    report,
    training_clips,
)
from tracker_ros.evaluation.events import compose
from tracker_ros.trackers import create
from tracker_ros.tracking.confidence import CALIBRATED, FEATURES, Calibration

FOOTAGE = [Dark('bright', count=40, colour=(200, 220, 240)), Dark('blue', colour=(250, 120, 60))]


def record(evidence: np.ndarray, right: np.ndarray, **changes: object) -> Record:
    """A record of which only the boxes' worth matters, or what is given."""
    count = len(right)
    values = {
        'clip': 'made up',
        'kind': 'calm',
        'evidence': evidence,
        'confidence': np.full(count, 0.5),
        'tracked': np.ones(count, bool),
        'overlap': np.where(right, 0.8, 0.1),
        'absent': np.zeros(count, bool),
        'seen': np.ones(count, bool),
        **changes,
    }
    return Record(**values)  # type: ignore[arg-type]


def test_the_fit_finds_the_function_behind_samples() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(size=(40000, 3)) * (3.0, 0.3, 1.0) + (0.0, 0.8, 5.0)
    logit = -2.0 + values @ (0.6, 2.0, 0.0)
    right = rng.uniform(size=40000) < 1 / (1 + np.exp(-logit))
    bias, weights = fit_logistic(values, right)
    assert bias == pytest.approx(-2.0, abs=0.25)
    assert weights == pytest.approx([0.6, 2.0, 0.0], abs=0.06)


def test_what_would_speak_against_a_box_weighs_nothing() -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(size=(20000, 3))
    right = rng.uniform(size=20000) < 1 / (1 + np.exp(-(values @ (1.0, -2.0, 0.5))))
    bias, weights = fit_logistic(values, right)
    assert weights[1] == 0.0
    assert weights[0] > 0.4
    # As good as the fit without it.
    others = fit_logistic(values[:, [0, 2]], right)
    assert bias == pytest.approx(others[0], abs=1e-6)
    assert weights[[0, 2]] == pytest.approx(others[1], abs=1e-6)


def test_samples_count_by_their_weight() -> None:
    values = np.zeros((4, 1))
    right = np.array([True, False, False, False])
    bias, _ = fit_logistic(values, right, np.array([3.0, 1.0, 1.0, 1.0]))
    assert bias == pytest.approx(0.0, abs=1e-6)


def test_samples_that_can_be_told_apart_have_finite_weights() -> None:
    values = np.r_[np.zeros(50), np.ones(50)][:, None]
    bias, weights = fit_logistic(values, np.arange(100) >= 50)
    assert np.isfinite([bias, *weights]).all()
    assert 0 < weights[0] < 100


def test_clips_count_the_same_however_long() -> None:
    rng = np.random.default_rng(7)
    # Scores mean the opposite in the long one; in both colour is what tells.
    long = rng.uniform(0.1, 0.9, (5000, len(FEATURES)))
    shorts = [rng.uniform(0.1, 0.9, (100, len(FEATURES))) for _ in range(9)]
    score = FEATURES.index('score')
    records = [record(long, long[:, score] < 0.5)]
    records += [record(each, each[:, score] > 0.5) for each in shorts]
    found = fit(records).weights
    assert found is not None
    assert found['score'] > 0.5


@pytest.mark.parametrize('right', [True, False])
def test_boxes_of_one_kind_are_refused(right: bool) -> None:
    with pytest.raises(FitError, match=f'{9 * right} of 9 boxes are on the target'):
        fit([record(np.zeros((9, len(FEATURES))), np.full(9, right))])


def test_states_are_counted() -> None:
    tracked = np.array([1, 1, 0, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1], bool)
    absent = np.zeros(13, bool)
    absent[5:11] = True
    right = ~absent
    each = record(np.zeros((13, len(FEATURES))), right, tracked=tracked, absent=absent,
                  overlap=np.where(right, 0.9, 0.0), seen=~absent)  # fmt: skip
    found = alarms([each])
    assert (found.false, found.good, found.noticed, found.losses) == (1, 7, 1, 1)
    late = record(np.zeros((13, len(FEATURES))), right, absent=absent, seen=~absent)
    both = alarms([each, late])
    assert (both.noticed, both.losses) == (1, 2)


@pytest.fixture
def tracker(tmp_path: Path):  # type: ignore[no-untyped-def]
    tracker = create(str(fakes.make_package(tmp_path / 'fake')))
    yield tracker
    tracker.close()


def test_what_is_hidden_is_on_no_target(tracker) -> None:  # type: ignore[no-untyped-def]
    clip = compose(FOOTAGE[0], 'occlusion', 2, duration_s=0.5, others=FOOTAGE)
    for found in (follow_truth(tracker, clip), follow(tracker, clip, Calibration(), CALIBRATED)):
        assert found.evidence.shape == (len(clip) - 1, len(FEATURES))
        assert np.isfinite(found.evidence).all()
        first = clip.event[0]
        assert found.right[5 : first - 10].all()
        assert not found.right[found.absent].any()
        assert found.absent.sum() == np.isnan(clip.truth[:, 0]).sum()
        score = FEATURES.index('score')
        assert (
            found.evidence[: first - 10, score].min() > found.evidence[found.absent, score].max()
        )


def test_a_session_is_told_of_as_it_speaks(tracker) -> None:  # type: ignore[no-untyped-def]
    clip = compose(FOOTAGE[0], 'occlusion', 2, duration_s=1.0, others=FOOTAGE)
    found = follow(tracker, clip, Calibration(), CALIBRATED)
    first, last = clip.event
    assert found.tracked[10 : first - 10].all()
    assert not found.tracked[first + 4 : last - 2].any()
    counted = report([found])
    assert (counted['noticed'], counted['losses']) == (1, 1)
    assert counted['quality']['auroc'] > 0.95


def test_footage_is_used_in_turns() -> None:
    kinds = [clip.kind for clip in training_clips(FOOTAGE * 3)]
    assert kinds == ['occlusion', 'crossing', 'occlusion', 'leave_and_return', 'occlusion', 'cut']
    checked = [(clip.source, clip.kind, clip.duration_s) for clip in checking_clips(FOOTAGE)]
    assert [each[:2] for each in checked[:3]] == [
        ('bright', 'calm'),
        ('bright', 'occlusion'),
        ('bright', 'occlusion'),
    ]
    assert [each[2] for each in checked if each[1] == 'occlusion'] == [0.2, 1.0, 2.0, 0.5]


def test_the_same_clip_gives_the_same_record(tracker) -> None:  # type: ignore[no-untyped-def]
    clip = next(iter(training_clips(FOOTAGE, 4)))
    one, other = (follow(tracker, clip, Calibration(), CALIBRATED) for _ in range(2))
    np.testing.assert_array_equal(one.confidence, other.confidence)
    np.testing.assert_array_equal(one.overlap, other.overlap)
