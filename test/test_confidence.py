# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How likely it is that a box is on the target."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from test_appearance import BOX, scene

from tracker_ros.geometry import Box
from tracker_ros.runtime.package import PackageError, read_package
from tracker_ros.trackers import Estimate
from tracker_ros.tracking.confidence import (
    FEATURES,
    Calibration,
    CalibrationError,
    Evidence,
    Judge,
    features,
    remark_on,
)

GOOD = Evidence(0.9, 0.8, 1.0, 1.0, 1.0, 1.0, 0.9, 0.95, 0.9, 1.0, 1.0, 1.0)
FITTED = Calibration(-12.0, dict.fromkeys(FEATURES, 2.0))
AWAY = Box(10.0, 150.0, 60.0, 40.0)


def test_without_a_calibration_the_raw_score_stands() -> None:
    assert not Calibration().is_fitted
    assert Calibration().probability(GOOD) == 0.9
    assert Calibration().probability(GOOD._replace(score=math.nan)) == 0.0


def test_a_calibration_is_a_logistic_function() -> None:
    calibration = Calibration(-1.0, {'colour': 2.0, 'score': 0.5})
    logit = -1.0 + 2.0 * 0.95 + 0.5 * math.log(0.9 / 0.1)
    assert calibration.probability(GOOD) == pytest.approx(1 / (1 + math.exp(-logit)))


@pytest.mark.parametrize('name', FEATURES)
def test_more_of_what_speaks_for_a_box_makes_it_likelier(name: str) -> None:
    worse = FITTED.probability(GOOD._replace(**{name: 0.3}))
    better = FITTED.probability(GOOD._replace(**{name: 0.7}))
    assert 0.0 < worse < better < 1.0


@pytest.mark.parametrize('name', FEATURES)
@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_evidence_that_is_no_number_never_makes_a_box_likely(name: str, value: float) -> None:
    probability = FITTED.probability(GOOD._replace(**{name: value}))
    without = Calibration(FITTED.bias, {**FITTED.weights, name: 0.0})
    assert probability == 0.0 or probability <= FITTED.probability(GOOD._replace(**{name: 1.0}))
    assert 0.0 <= without.probability(GOOD._replace(**{name: value})) <= 1.0


def test_a_score_of_one_is_no_certainty() -> None:
    values = features(GOOD._replace(score=1.0))
    assert values[:2] == (6.0, pytest.approx(math.log(0.8 / 0.2)))
    assert values[2:] == GOOD[2:]


def test_a_box_a_little_over_the_border_is_as_good_as_one_inside() -> None:
    values = [features(GOOD._replace(inside=part))[-1] for part in (1.0, 0.75, 0.375)]
    assert values == [1.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ('entry', 'words'),
    [
        ('{weights: {score: 1}}', 'bias'),
        ('{bias: 0}', 'weights'),
        ('{bias: 0, weights: 3}', 'weights'),
        ('{bias: 0, weights: {luck: 1}}', "'luck'.*known are score"),
        ('{bias: 0, weights: {score: -1}}', 'score must be a number of at least 0, not -1'),
        ('{bias: 0, weights: {score: .nan}}', 'score must be'),
        ('{bias: 0, weights: {score: high}}', "not 'high'"),
        ('{bias: .inf, weights: {score: 1}}', 'bias must be finite'),
    ],
)
def test_a_bad_entry_is_named(tmp_path: Path, entry: str, words: str) -> None:
    package = package_with(tmp_path, f'calibration: {entry}')
    with pytest.raises(CalibrationError, match=words):
        Calibration.of(package)


def test_an_entry_that_is_no_mapping_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r'confidence\.calibration must be a mapping, not 3'):
        Calibration.of(package_with(tmp_path, 'calibration: 3'))


def test_a_good_entry_is_taken(tmp_path: Path) -> None:
    package = package_with(tmp_path, 'calibration: {bias: -1, weights: {score: 0.5}}')
    assert Calibration.of(package) == Calibration(-1.0, {'score': 0.5})
    assert not Calibration.of(package_with(tmp_path, '')).is_fitted


def test_people_are_told_that_a_model_was_not_calibrated(tmp_path: Path) -> None:
    package = package_with(tmp_path, '')
    assert 'made_up is its raw score, not a probability' in remark_on(package)
    entry = 'calibration: {bias: -1, weights: {score: 0.5}}'
    assert remark_on(package_with(tmp_path, entry)) == ''


def test_the_target_itself_has_all_for_it() -> None:
    judge = Judge(FITTED)
    judge.start(scene(), BOX)
    evidence = judge.judge(scene(), Estimate(BOX, 0.8), distance=0.0).evidence
    assert evidence == pytest.approx((0.8, 0.8, *[1.0] * 10), abs=1e-5)


def test_something_else_has_less() -> None:
    judge = Judge(FITTED)
    judge.start(scene(), BOX)
    right = judge.judge(scene(), Estimate(BOX, 0.8), distance=0.0)
    wrong = judge.judge(scene(), Estimate(AWAY, 0.8), distance=30.0)
    assert wrong.evidence.pattern < 0.6
    assert wrong.evidence.agreement < 0.05
    assert wrong.probability < right.probability


def test_what_was_accepted_makes_nothing_else_the_target() -> None:
    judge = Judge(FITTED)
    judge.start(scene(), BOX)
    before = judge.judge(scene(), Estimate(AWAY, 0.8)).evidence
    for _ in range(10):
        judge.judge(scene(), Estimate(AWAY, 0.8))
        judge.accept()
    after = judge.judge(scene(), Estimate(AWAY, 0.8)).evidence
    assert (after.colour, after.pattern) == (before.colour, before.pattern)
    assert after.origin == pytest.approx(before.origin, rel=0.05)
    for _ in range(1500):
        judge.judge(scene(), Estimate(AWAY, 0.8))
        judge.accept()
    usual = judge.judge(scene(), Estimate(AWAY, 0.8)).evidence
    assert usual.origin > 0.95, 'in the end it is usual'


def test_a_score_counts_against_what_is_usual() -> None:
    judge = Judge(FITTED)
    judge.start(scene(), BOX)
    assert judge.judge(scene(), Estimate(BOX, 0.3), distance=0.0).evidence.level == 1.0
    for _ in range(200):
        judge.judge(scene(), Estimate(BOX, 0.9), distance=0.0)
        judge.accept()
    less = judge.judge(scene(), Estimate(BOX, 0.8), distance=0.0).evidence.level
    assert less == pytest.approx(1.0 - (math.log(9.0) - math.log(4.0)) / 2.0, abs=1e-3)
    assert judge.judge(scene(), Estimate(BOX, 0.95), distance=0.0).evidence.level == 1.0
    assert judge.judge(scene(), Estimate(BOX, 0.2), distance=0.0).evidence.level == 0.0


def test_the_scores_of_the_last_frames_count() -> None:
    judge = Judge(FITTED)
    judge.start(scene(), BOX)
    for score in (0.9, 0.9, 0.1, 0.1):
        evidence = judge.judge(scene(), Estimate(BOX, score), distance=0.0).evidence
    up = math.log(9.0)
    assert evidence.recent == pytest.approx(1 / (1 + math.exp(-up * (2 * 0.6**2 - 1))))


def test_a_look_elsewhere_has_no_history_and_makes_none() -> None:
    judge = Judge(FITTED)
    judge.start(scene(), BOX)
    before = judge.judge(scene(), Estimate(BOX, 0.2), distance=0.0).evidence
    elsewhere = judge.judge(scene(), Estimate(AWAY, 0.9)).evidence
    assert (elsewhere.recent, elsewhere.agreement) == (pytest.approx(0.9), 1.0)
    after = judge.judge(scene(), Estimate(BOX, 0.2), distance=0.0).evidence
    assert after.recent == pytest.approx(before.recent)


def test_what_was_found_elsewhere_starts_with_a_clean_record() -> None:
    judge = Judge(FITTED)
    judge.start(scene(), BOX)
    for _ in range(9):
        judge.judge(scene(), Estimate(BOX, 0.1), distance=0.0)
    judge.judge(scene(), Estimate(AWAY, 0.8))
    judge.accept()
    evidence = judge.judge(scene(), Estimate(AWAY, 0.8), distance=0.0).evidence
    assert evidence.recent == pytest.approx(0.8)


def test_looks_may_be_taken_for_those_of_the_frame_before() -> None:
    judge = Judge(FITTED)
    judge.start(scene(), BOX)
    before = judge.judge(scene(), Estimate(BOX, 0.8), distance=0.0).evidence
    judge.accept()
    kept = judge.judge(scene(), Estimate(AWAY, 0.5), 0.0, looks_as_before=True).evidence
    assert (kept.colour, kept.pattern, kept.origin) == (
        before.colour,
        before.pattern,
        pytest.approx(before.origin),
    )
    assert kept.score == 0.5
    after = judge.judge(scene(), Estimate(AWAY, 0.5), distance=0.0).evidence
    assert after.pattern < 0.6


def test_a_size_counts_against_what_is_usual() -> None:
    judge = Judge(FITTED)
    judge.start(scene(), BOX)
    twice = Box.from_center(BOX.cx, BOX.cy, 2 * BOX.w, 2 * BOX.h)
    assert judge.judge(scene(), Estimate(twice, 0.8)).evidence.size == pytest.approx(0.5)
    for _ in range(1000):
        judge.judge(scene(), Estimate(twice, 0.8))
        judge.accept()
    assert judge.judge(scene(), Estimate(twice, 0.8)).evidence.size > 0.95
    assert judge.judge(scene(), Estimate(BOX, 0.8)).evidence.size < 0.55


def test_a_rival_speaks_against_a_box() -> None:
    judge = Judge(FITTED)
    judge.start(scene(), BOX)
    alone = judge.judge(scene(), Estimate(BOX, 0.8, rival=0.1))
    rivalled = judge.judge(scene(), Estimate(BOX, 0.8, rival=0.9))
    assert rivalled.evidence.single == pytest.approx(0.1)
    assert rivalled.probability < alone.probability


@pytest.mark.parametrize('name', ['focus', 'quality'])
def test_what_the_model_says_of_its_own_box_counts(name: str) -> None:
    judge = Judge(FITTED)
    judge.start(scene(), BOX)
    good, poor = (judge.judge(scene(), Estimate(BOX, 0.8, **{name: part})) for part in (0.9, 0.2))
    assert getattr(poor.evidence, name) == 0.2
    assert poor.probability < good.probability


def test_an_answer_that_is_no_numbers_has_nothing_that_speaks_for_it() -> None:
    judge = Judge(FITTED)
    judge.start(scene(), BOX)
    evidence = judge.judge(scene(), Estimate.none(BOX)).evidence
    assert (evidence.score, evidence.single, evidence.focus, evidence.quality) == (0, 0, 0, 0)


def test_the_part_outside_the_image_is_told() -> None:
    judge = Judge(FITTED)
    judge.start(scene(), BOX)
    half_out = Box(-30.0, 80.0, 60.0, 40.0)
    assert judge.judge(scene(), Estimate(half_out, 0.8)).evidence.inside == pytest.approx(0.5)
    assert judge.judge(scene(), Estimate(Box(5, 5, 0, 9), 0.8)).evidence.inside == 0.0


def test_all_evidence_lies_between_zero_and_one() -> None:
    rng = np.random.default_rng(3)
    judge = Judge(FITTED)
    judge.start(scene(), BOX)
    for _ in range(200):
        x, y, w, h = rng.uniform([-50, -50, 1, 1], [330, 250, 200, 200])
        estimate = Estimate(Box(x, y, w, h), float(rng.uniform()))
        judgement = judge.judge(scene(), estimate, float(rng.exponential(5.0)))
        assert all(0.0 <= value <= 1.0 for value in judgement.evidence)
        assert 0.0 <= judgement.probability <= 1.0
        if rng.uniform() < 0.2:
            judge.accept()


def package_with(folder: Path, entry: str):  # type: ignore[no-untyped-def]
    """A package whose confidence has one entry more."""
    (folder / 'model.yaml').write_text(
        'name: made_up\nfamily: csrt\nlicence: none\n'
        f'confidence:\n  lost: 0.2\n  sure: 0.5\n  {entry}\n',
        encoding='utf-8',
    )
    return read_package(folder)
