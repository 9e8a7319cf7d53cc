# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How well probabilities tell the truth: calibration error, and telling right from wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Quality:
    """How well probabilities tell the truth.

    frames; right: share of them on the target. error, error_by_mass: expected calibration error
    over bins of equal width, and of equal numbers of frames. auroc: the chance that of a box on
    the target and one that is not, the first has the higher probability. brier: mean squared
    error. bins: (BINS, 3) frames, mean probability and share on the target in bins of equal width.
    """

    frames: int
    right: float
    error: float
    error_by_mass: float
    auroc: float
    brier: float
    bins: Array

    def as_dict(self) -> dict[str, object]:
        """As JSON can hold it."""
        return {
            'frames': self.frames,
            'on_target': _rounded(self.right),
            'ece': _rounded(self.error),
            'ece_equal_mass': _rounded(self.error_by_mass),
            'auroc': _rounded(self.auroc),
            'brier': _rounded(self.brier),
            'bins': [
                {'frames': int(count), 'probability': _rounded(mean), 'on_target': _rounded(share)}
                for count, mean, share in self.bins.tolist()
            ],
        }


def quality(probability: Array, right: Flags) -> Quality:
    """Compare probabilities (n,) with what was right. Raises ValueError for no frames."""
    if not len(right):
        raise ValueError('no frame to compare')
    bins = _by_width(probability, right)
    return Quality(
        frames=len(right),
        right=float(right.mean()),
        error=_expected_error(bins),
        error_by_mass=_expected_error(_by_mass(probability, right)),
        auroc=auroc(probability, right),
        brier=float(np.mean((probability - right) ** 2)),
        bins=bins,
    )


def auroc(probability: Array, right: Flags) -> float:
    """Area under the receiver operating characteristic; equal ones count half, nan for one class.

    By ranks (Mann and Whitney).
    """
    positive, negative = int(right.sum()), int((~right).sum())
    if not (positive and negative):
        return float('nan')
    _, inverse, counts = np.unique(probability, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    above = float(ranks[inverse][right].sum()) - positive * (positive + 1) / 2
    return above / (positive * negative)


def _by_width(probability: Array, right: Flags) -> Array:
    number = np.minimum((probability * BINS).astype(int), BINS - 1)
    return np.array([_bin(probability[number == each], right[number == each])
                     for each in range(BINS)])  # fmt: skip


def _by_mass(probability: Array, right: Flags) -> Array:
    order = np.argsort(probability, kind='stable')
    return np.array([_bin(probability[part], right[part])
                     for part in np.array_split(order, BINS)])  # fmt: skip


def _bin(probability: Array, right: Flags) -> tuple[float, float, float]:
    """Frames, mean probability, share on the target; both 0 of none."""
    if not len(right):
        return 0.0, 0.0, 0.0
    return float(len(right)), float(probability.mean()), float(right.mean())


def _expected_error(bins: Array) -> float:
    counts, means, shares = bins.T
    return float(counts @ np.abs(means - shares) / counts.sum())


def _rounded(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None
