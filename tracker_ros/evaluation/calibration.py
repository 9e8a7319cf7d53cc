# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How a model's confidence is fitted to annotated footage, and how well it then tells the truth.

A tracker follows its target through whatever happens to it. Of each frame it is noted what spoke
for the box, and whether the box was *on the target*: its overlap with the true one at least
`ON_TARGET`. A target that is hidden or out of the picture has no box, so none is on it.

What is believed decides where the tracker looks next, and with it what there is to be fitted to.
So there are two rounds: in the first the truth says what is to be believed, in the second a
`Session` with the calibration of the first, as on the robot.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracker_ros.evaluation.accounts import NominalPace
from tracker_ros.evaluation.events import Annotated, EventClip, EventError, compose, undisturbed
from tracker_ros.evaluation.life_metrics import GOOD_OVERLAP, SEEN
from tracker_ros.evaluation.reliability import Array, Flags, quality
from tracker_ros.trackers import Tracker
from tracker_ros.tracking.confidence import FEATURES, Calibration, Evidence, Judge, features
from tracker_ros.tracking.life import State, Thresholds
from tracker_ros.tracking.motion import Motion
from tracker_ros.tracking.session import Session

ON_TARGET = 0.2
"""Overlap from which on a box is on the target and not beside it, or on something else."""
NOTICED_FRAMES = 5
LOOK_S = 0.008
"""What a look elsewhere is taken to cost, so that results do not depend on the machine."""

TRAINING_KINDS = (
    'occlusion', 'crossing', 'occlusion', 'leave_and_return', 'occlusion', 'cut', 'dark',
    'occlusion', 'jump', 'calm', 'occlusion', 'drop',
)  # fmt: skip
"""What happens in the clips that are fitted to, in turns."""
CHECKING_S = (0.2, 1.0, 2.0, 0.5, 3.0)
"""Lengths of the occlusions that are checked on, in turns."""

# In frames: those of a clip are so alike that about so many of them count as one.
_RIDGE = 30.0
_MOST_STEPS = 50
# What hardly ever differs must not be weighed by the few frames in which it does.
_LEAST_SPREAD = 0.1


class FitError(ValueError):
    """Nothing can be fitted to this footage; the text says why."""


@dataclass(frozen=True, eq=False)
class Record:
    """What spoke for the boxes of one clip, and what they were worth; the first frame is left out.

    evidence: (n, k) by FEATURES. confidence: (n,) as it was told. tracked: (n,) the state was
    TRACKING. overlap: (n,) with the true box, 0 where there is none. absent: (n,) nothing of the
    target can be seen. seen: (n,) all of it can.
    """

    clip: str
    kind: str
    evidence: Array
    confidence: Array
    tracked: Flags
    overlap: Array
    absent: Flags
    seen: Flags

    @property
    def right(self) -> Flags:
        return self.overlap >= ON_TARGET

    @property
    def good(self) -> Flags:
        return self.seen & (self.overlap >= GOOD_OVERLAP)


@dataclass(frozen=True, slots=True)
class Alarms:
    """What states make of the confidence.

    false: ends of TRACKING between good frames, of `good` frames. noticed: losses of which
    TRACKING ended within NOTICED_FRAMES, of `losses`.
    """

    false: int
    good: int
    noticed: int
    losses: int


def training_clips(
    footage: Sequence[Annotated], seed: int = 0, times: int = 1
) -> Iterator[EventClip]:
    """Each piece of footage so many times, with something that happens in it, by turns."""
    kinds = itertools.cycle(TRAINING_KINDS)
    for number, each in enumerate(itertools.chain.from_iterable([footage] * times)):
        try:
            yield compose(each, next(kinds), seed + number, others=footage, lead_s=1.2, tail_s=1.5)
        except EventError:
            continue


def checking_clips(footage: Sequence[Annotated], seed: int = 0) -> Iterator[EventClip]:
    """Each piece of footage as it is, and twice with something that hides the target."""
    lengths = itertools.cycle(CHECKING_S)
    for each in footage:
        yield undisturbed(each)
        for number in (0, 1):
            try:
                yield compose(
                    each, 'occlusion', seed + number, duration_s=next(lengths), others=footage
                )
            except EventError:
                continue


def follow_truth(tracker: Tracker, clip: EventClip) -> Record:
    """Run a tracker over a clip, and believe it where it is right."""
    judge, motion = Judge(Calibration()), Motion()
    rows = []
    trusted = clip.first_box
    for number, (image, truth, stamp_s) in enumerate(clip):
        if number == 0:
            tracker.start(image, trusted)
            judge.start(image, trusted)
            motion.start(trusted, stamp_s, image_size=(clip.width, clip.height))
            continue
        estimate = tracker.follow(image)
        judgement = judge.judge(image, estimate, motion.distance(estimate.box, stamp_s))
        overlap = 0.0 if truth is None else estimate.box.iou(truth)
        rows.append((judgement.evidence, judgement.probability, False, overlap))
        if overlap >= ON_TARGET:
            trusted = estimate.box
            motion.update(trusted, stamp_s)
        else:
            tracker.search_around(trusted)
        if overlap >= GOOD_OVERLAP:
            tracker.learn(image, estimate)
            judge.accept()
    return _record(clip, rows)


def follow(
    tracker: Tracker, clip: EventClip, calibration: Calibration, thresholds: Thresholds
) -> Record:
    """Run a session over a clip."""
    session = Session(tracker, thresholds, calibration=calibration)
    session._pace = NominalPace(LOOK_S)
    rows = []
    for number, (image, truth, stamp_s) in enumerate(clip):
        if number == 0:
            session.start(image, clip.first_box, stamp_s=stamp_s)
            continue
        told = session.step(image, stamp_s)
        box, evidence = told.looked_at, told.evidence
        if box is None or evidence is None:
            raise FitError(f'{clip.name}: the session gave up its target: {told.reason}')
        overlap = 0.0 if truth is None else box.iou(truth)
        rows.append((evidence, told.confidence, told.state is State.TRACKING, overlap))
    return _record(clip, rows)


def _record(clip: EventClip, rows: Sequence[tuple[Evidence, float, bool, float]]) -> Record:
    evidence, confidence, tracked, overlap = zip(*rows, strict=True)
    return Record(
        clip.name,
        clip.kind,
        np.array(evidence),
        np.array(confidence),
        np.array(tracked),
        np.array(overlap),
        np.isnan(clip.truth[1:, 0]),
        clip.visible[1:] >= SEEN,
    )


def fit(records: Sequence[Record]) -> Calibration:
    """The logistic function nearest to what was found; every clip counts the same.

    Raises FitError where all boxes are on the target, or none.
    """
    values = np.array([features(Evidence(*row)) for each in records for row in each.evidence])
    right = np.concatenate([each.right for each in records])
    if right.all() or not right.any():
        raise FitError(
            f'{int(right.sum())} of {len(right)} boxes are on the target; to tell them apart '
            'some must be and some not: give more footage'
        )
    counts = [len(each.right) for each in records]
    weights = np.concatenate([np.full(count, np.mean(counts) / count) for count in counts])
    bias, found = fit_logistic(values, right, weights)
    named = zip(FEATURES, found.tolist(), strict=True)
    return Calibration(
        round(bias, 4), {name: round(value, 4) for name, value in named if value > 0}
    )


def fit_logistic(
    values: Array, right: Flags, sample_weights: Array | None = None
) -> tuple[float, Array]:
    """Bias and weights (k,), none below 0, of the likeliest logistic function of values (n, k).

    Newton's method; each step's quadratic is solved under the bounds, one weight at a time.
    """
    count, width = values.shape
    sample_weights = np.ones(count) if sample_weights is None else sample_weights
    middle, spread = values.mean(axis=0), np.maximum(values.std(axis=0), _LEAST_SPREAD)
    design = np.column_stack([np.ones(count), (values - middle) / spread])
    ridge = np.r_[0.0, np.full(width, _RIDGE)]
    beta = np.zeros(width + 1)
    for _ in range(_MOST_STEPS):
        probability = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        slope = design.T @ (sample_weights * (right - probability)) - ridge * beta
        bend = np.maximum(sample_weights * probability * (1 - probability), 1e-9)
        hessian = (design * bend[:, None]).T @ design + np.diag(ridge)
        step = _bounded(hessian, slope, beta)
        beta = beta + step
        if np.abs(step).max() < 1e-8:
            break
    weights = beta[1:] / spread
    return float(beta[0] - weights @ middle), weights


def _bounded(hessian: Array, slope: Array, beta: Array) -> Array:
    """The step that is best for the quadratic, without taking weights below 0."""
    step = np.zeros_like(beta)
    for _ in range(200):
        before = step.copy()
        for place in range(len(beta)):
            wanted = step[place] + (slope[place] - hessian[place] @ step) / hessian[place, place]
            step[place] = wanted if place == 0 else max(wanted, -beta[place])
        if np.abs(step - before).max() < 1e-10:
            break
    return step


def alarms(records: Sequence[Record]) -> Alarms:
    """Count what the states of the records say."""
    false = noticed = losses = 0
    for each in records:
        tracked, good = each.tracked, each.good
        false += int((tracked[:-1] & ~tracked[1:] & good[:-1] & good[1:]).sum())
        gone = np.flatnonzero(each.absent[1:] & ~each.absent[:-1]) + 1
        for first in gone.tolist()[:1]:
            before = tracked[max(0, first - 2 * NOTICED_FRAMES) : first]
            span = slice(first, first + NOTICED_FRAMES)
            if before.any() and each.absent[span].all():
                losses += 1
                noticed += int(not tracked[span].all())
    return Alarms(false, sum(int(each.good.sum()) for each in records), noticed, losses)


def report(records: Sequence[Record]) -> dict[str, Any]:
    """What there is to tell of the confidence in these records, as JSON can hold it.

    Beside it the raw score, and the confidence where a good box, of GOOD_OVERLAP, is asked for.
    """
    confidence = np.concatenate([each.confidence for each in records])
    raw = np.concatenate([each.evidence[:, FEATURES.index('score')] for each in records])
    right = np.concatenate([each.right for each in records])
    overlap = np.concatenate([each.overlap for each in records])
    counted = alarms(records)
    return {
        'clips': len(records),
        'quality': quality(confidence, right).as_dict(),
        'raw_score': quality(raw, right).as_dict(),
        'good_box': quality(confidence, overlap >= GOOD_OVERLAP).as_dict(),
        'false_alarms': counted.false,
        'good_frames': counted.good,
        'noticed': counted.noticed,
        'losses': counted.losses,
    }
