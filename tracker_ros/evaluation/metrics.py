# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scores of predicted boxes against true ones, as the tracking benchmarks define them.

Boxes are (n, 4) float64 rows x, y, w, h in pixels. Where the truth is nan the target is absent,
and the frame is not scored. A predicted row that is not finite or has no size misses: overlap
0, infinitely far.

OTB's one-pass curves (success, precision, normalised precision) count the first frame, which
every tracker gets right because it is given; OTB's toolkit does, and published numbers contain
it. Each set score is the mean over sequences of their own curves, so that a long sequence
weighs as much as a short one.

- success: share of frames whose overlap is strictly greater than a threshold, at the 21
  thresholds 0, 0.05, ..., 1. AUC is the mean of the 21 shares. No overlap is greater than 1,
  so a perfect tracker has 20/21 = 0.952.
- precision: share of frames whose centres are at most a threshold apart; P@20 at 20 pixels.
- normalised precision: the same with the distance's x and y divided by the true width and
  height; NP at 0.2.

GOT-10k's scores leave the first frame out, clip both boxes to the image as its toolkit does (a
corner left of or above the image moves to its edge, and the box keeps its size), and are taken
over all frames of all sequences together: AO, the mean overlap, and SR.5 and SR.75, the shares of
frames whose overlap is strictly greater than 0.5 and 0.75.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

OVERLAP_THRESHOLDS: Array = np.linspace(0.0, 1.0, 21)
"""Of the success curve."""
ERROR_THRESHOLDS_PX: Array = np.arange(0.0, 51.0)
"""Of the precision curve."""
NORMALISED_ERROR_THRESHOLDS: Array = np.linspace(0.0, 0.5, 51)
"""Of the normalised precision curve."""

_P20 = 20
_NP20 = 20


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of one sequence or of a set of them, each in [0, 1].

    frames: frames scored by the curves, the first included.
    success_curve (21,), precision_curve (51,), normalised_precision_curve (51,).
    ao, sr50, sr75: nan when nothing follows the first frame.
    """

    frames: int
    success_curve: Array
    precision_curve: Array
    normalised_precision_curve: Array
    ao: float
    sr50: float
    sr75: float

    @property
    def auc(self) -> float:
        """Mean of the success curve."""
        return float(self.success_curve.mean())

    @property
    def precision(self) -> float:
        """Precision at 20 px."""
        return float(self.precision_curve[_P20])

    @property
    def normalised_precision(self) -> float:
        """Normalised precision at 0.2."""
        return float(self.normalised_precision_curve[_NP20])

    def as_dict(self) -> dict[str, object]:
        """Every score and curve as plain numbers and lists; None for nan."""
        return {
            'frames': self.frames,
            'auc': self.auc,
            'precision': self.precision,
            'normalised_precision': self.normalised_precision,
            'ao': _number(self.ao),
            'sr50': _number(self.sr50),
            'sr75': _number(self.sr75),
            'success_curve': self.success_curve.tolist(),
            'precision_curve': self.precision_curve.tolist(),
            'normalised_precision_curve': self.normalised_precision_curve.tolist(),
        }


@dataclass(frozen=True, eq=False)
class Errors:
    """How far each frame of a sequence is off: (n,) each, nan where the target is absent.

    overlap: intersection over union. centre_px: distance of the centres in pixels.
    centre_normalised: the same in units of the true width and height.
    overlap_in_image: intersection over union of the boxes clipped to the image.
    """

    overlap: Array
    centre_px: Array
    centre_normalised: Array
    overlap_in_image: Array


def score_sequence(predicted: Array, truth: Array, frame_size: tuple[int, int]) -> Scores:
    """Score the boxes (n, 4) of one sequence. frame_size: width, height in pixels."""
    return scores_of(errors_of(predicted, truth, frame_size))


def errors_of(predicted: Array, truth: Array, frame_size: tuple[int, int]) -> Errors:
    """Compare boxes (n, 4) with the true ones (n, 4), frame by frame.

    Raises ValueError when the shapes differ.
    """
    if predicted.shape != truth.shape or truth.ndim != 2 or truth.shape[1] != 4:
        raise ValueError(f'boxes of shape {predicted.shape} against truth of {truth.shape}')
    return Errors(
        overlaps(predicted, truth),
        centre_errors(predicted, truth),
        normalised_centre_errors(predicted, truth),
        overlaps(clip_boxes(predicted, frame_size), clip_boxes(truth, frame_size)),
    )


def scores_of(errors: Errors) -> Scores:
    """The scores of one sequence; ValueError when no frame has the target."""
    scored = ~np.isnan(errors.overlap)
    if not scored.any():
        raise ValueError('the target is absent from every frame: there is nothing to score')
    ao, sr50, sr75 = _overlap_scores(errors.overlap_in_image[1:])
    return Scores(
        frames=int(scored.sum()),
        success_curve=success_curve(errors.overlap),
        precision_curve=error_curve(errors.centre_px, ERROR_THRESHOLDS_PX),
        normalised_precision_curve=error_curve(
            errors.centre_normalised, NORMALISED_ERROR_THRESHOLDS
        ),
        ao=ao,
        sr50=sr50,
        sr75=sr75,
    )


def mean_scores(sequences: Sequence[Errors]) -> Scores:
    """The scores of a set: curves averaged over sequences, GOT-10k's scores over all frames."""
    each = [scores_of(errors) for errors in sequences]
    if not each:
        raise ValueError('no sequence to score')
    ao, sr50, sr75 = _overlap_scores(
        np.concatenate([errors.overlap_in_image[1:] for errors in sequences])
    )
    return Scores(
        frames=sum(scores.frames for scores in each),
        success_curve=np.mean([scores.success_curve for scores in each], axis=0),
        precision_curve=np.mean([scores.precision_curve for scores in each], axis=0),
        normalised_precision_curve=np.mean(
            [scores.normalised_precision_curve for scores in each], axis=0
        ),
        ao=ao,
        sr50=sr50,
        sr75=sr75,
    )


def overlaps(predicted: Array, truth: Array) -> Array:
    """Intersection over union of (n, 4) with (n, 4): (n,), nan where the truth is nan."""
    usable = _usable(predicted)
    ours = np.where(usable[:, None], predicted, 0.0)
    left_top = np.maximum(ours[:, :2], truth[:, :2])
    right_bottom = np.minimum(ours[:, :2] + ours[:, 2:], truth[:, :2] + truth[:, 2:])
    sides = np.maximum(right_bottom - left_top, 0.0)
    common = sides[:, 0] * sides[:, 1]
    union = ours[:, 2] * ours[:, 3] + truth[:, 2] * truth[:, 3] - common
    overlap = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    # Rounding can take equal boxes a hair above 1, which would beat the last threshold.
    overlap = np.where(usable, np.minimum(overlap, 1.0), 0.0)
    return np.where(_absent(truth), np.nan, overlap)


def centre_errors(predicted: Array, truth: Array) -> Array:
    """Distance in pixels of the centres: (n,), nan where the truth is nan, inf for no box."""
    return _distance(predicted, truth, np.ones((len(truth), 2)))


def normalised_centre_errors(predicted: Array, truth: Array) -> Array:
    """Distance of the centres with x in true widths and y in true heights: (n,)."""
    return _distance(predicted, truth, truth[:, 2:])


def success_curve(overlap: Array) -> Array:
    """Shares of frames with an overlap strictly greater than each of OVERLAP_THRESHOLDS: (21,).

    overlap: (n,); nan is not counted.
    """
    counted = overlap[~np.isnan(overlap)]
    return (counted[None, :] > OVERLAP_THRESHOLDS[:, None]).mean(axis=1)


def error_curve(errors: Array, thresholds: Array) -> Array:
    """Shares of frames with an error of at most each of `thresholds`; nan is not counted."""
    counted = errors[~np.isnan(errors)]
    return (counted[None, :] <= thresholds[:, None]).mean(axis=1)


def clip_boxes(boxes: Array, frame_size: tuple[int, int]) -> Array:
    """Boxes (n, 4) in an image of (width, height), in GOT-10k's way.

    The first corner moves to the edge when it is outside; then the size ends at the other edge.
    """
    size = np.asarray(frame_size, dtype=np.float64)
    left_top = np.clip(boxes[:, :2], 0.0, size)
    return np.concatenate([left_top, np.clip(boxes[:, 2:], 0.0, size - left_top)], axis=1)


def bootstrap_interval(
    values: Array, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Where the mean over sequences lies: low and high end of the `level` interval.

    values: (n,) or (n, k), a row a sequence; the mean of a draw is its ratio of sums of the two
    columns where k is 2 (a score that is taken over all frames: sum, and count of frames). Draws
    are whole sequences with replacement, always the same ones for the same n. nan without values.
    """
    if not len(values):
        return np.nan, np.nan
    picked = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    sums = values[picked].sum(axis=1)
    with np.errstate(invalid='ignore', divide='ignore'):
        means = sums[:, 0] / sums[:, 1] if values.ndim == 2 else sums / len(values)
    means = means[np.isfinite(means)]
    if not len(means):
        return np.nan, np.nan
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def intervals(sequences: Sequence[Errors]) -> dict[str, tuple[float, float]]:
    """The 95 % bootstrap intervals over sequences of a set's scores, by name of the score."""
    each = [scores_of(errors) for errors in sequences]
    found = {
        name: bootstrap_interval(np.array([getattr(scores, name) for scores in each]))
        for name in ('auc', 'precision', 'normalised_precision')
    }
    counted = [
        overlap[~np.isnan(overlap)] for overlap in (e.overlap_in_image[1:] for e in sequences)
    ]
    for name, threshold in (('ao', None), ('sr50', 0.5), ('sr75', 0.75)):
        totals = [
            (float((part if threshold is None else part > threshold).sum()), float(len(part)))
            for part in counted
        ]
        found[name] = bootstrap_interval(np.array(totals).reshape(-1, 2))
    return found


def _overlap_scores(overlap: Array) -> tuple[float, float, float]:
    """AO, SR.5 and SR.75 of overlaps (n,), nan not counted; nan where nothing is left."""
    counted = overlap[~np.isnan(overlap)]
    if not len(counted):
        return np.nan, np.nan, np.nan
    return (
        float(counted.mean()),
        float((counted > 0.5).mean()),
        float((counted > 0.75).mean()),
    )


def _distance(predicted: Array, truth: Array, unit: Array) -> Array:
    usable = _usable(predicted)
    ours = np.where(usable[:, None], predicted, 0.0)
    apart = (ours[:, :2] + ours[:, 2:] / 2) - (truth[:, :2] + truth[:, 2:] / 2)
    error = np.hypot(*(apart / unit).T)
    return np.where(_absent(truth), np.nan, np.where(usable, error, np.inf))


def _usable(boxes: Array) -> NDArray[np.bool_]:
    return np.isfinite(boxes).all(axis=1) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)


def _absent(truth: Array) -> NDArray[np.bool_]:
    return np.asarray(np.isnan(truth).any(axis=1))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
