# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Calibration error and AUROC against cases by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tracker_ros.evaluation.reliability import BINS, auroc, quality


def test_expected_error_of_a_case_by_hand() -> None:
    probability = np.array([0.1, 0.1, 0.1, 0.1, 0.9, 0.9])
    right = np.array([True, False, False, False, True, True])
    # Four at 0.1 of which a quarter is right, two at 0.9 which are all right.
    found = quality(probability, right)
    assert found.error == pytest.approx((4 * 0.15 + 2 * 0.1) / 6)
    used = found.bins[found.bins[:, 0] > 0]
    assert used.tolist() == [pytest.approx([4, 0.1, 0.25]), pytest.approx([2, 0.9, 1.0])]
    assert found.brier == pytest.approx((0.81 + 3 * 0.01 + 2 * 0.01) / 6)
    assert (found.frames, found.right) == (6, 0.5)


def test_bins_of_equal_mass_hold_equally_many() -> None:
    # All in one bin of equal width, where too high and too low cancel out.
    probability = np.repeat(np.linspace(0.61, 0.65, BINS), 10)
    right = np.tile(np.arange(10) < 5, BINS)
    right[: 10 * (BINS // 2)] = False
    right[10 * (BINS - BINS // 2) :] = True
    found = quality(probability, right)
    assert found.error == pytest.approx(abs(0.63 - right.mean()))
    assert found.error_by_mass > found.error + 0.2


def test_what_is_as_likely_as_it_says_has_next_to_no_error() -> None:
    rng = np.random.default_rng(4)
    probability = rng.uniform(size=40000)
    right = rng.uniform(size=40000) < probability
    assert quality(probability, right).error < 0.01
    timid = 0.5 + 0.5 * (probability - 0.5)
    assert quality(timid, right).error > 0.1


def test_certainty_is_in_the_last_bin() -> None:
    found = quality(np.array([1.0, 0.0]), np.array([True, False]))
    assert found.bins[-1].tolist() == [1, 1, 1]
    assert found.bins[0].tolist() == [1, 0, 0]
    assert found.error == 0


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ValueError, match='no frame'):
        quality(np.zeros(0), np.zeros(0, bool))


@pytest.mark.parametrize(
    ('scores', 'area'),
    [
        ([0.1, 0.2, 0.8, 0.9], 1.0),
        ([0.9, 0.8, 0.2, 0.1], 0.0),
        ([0.5, 0.5, 0.5, 0.5], 0.5),
        ([0.1, 0.5, 0.5, 0.9], 0.875),
    ],
)
def test_auroc_of_cases_by_hand(scores: list[float], area: float) -> None:
    right = np.array([False, False, True, True])
    assert auroc(np.array(scores), right) == pytest.approx(area)


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(5)
    scores = rng.integers(0, 20, 300) / 20.0
    right = rng.uniform(size=300) < 0.2 + 0.6 * scores
    on, off = scores[right][:, None], scores[~right][None, :]
    pairs = float(((on > off) + 0.5 * (on == off)).mean())
    assert auroc(scores, right) == pytest.approx(pairs)


def test_auroc_of_one_class_is_not_known() -> None:
    assert math.isnan(auroc(np.ones(3), np.ones(3, bool)))
    assert quality(np.ones(3), np.ones(3, bool)).as_dict()['auroc'] is None
