# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How likely is it that a box is on the target?

A network's score says how much what it found looks like something that it would follow; trained
on pictures that always show the target, it is high on much else too. Here it is one piece of
evidence among others: is the box where the target can have moved to, does it look like the
target, is it in the image at all. One logistic function of all makes them a probability. Its
weights are fitted for each model on annotated footage (`tracker_ros models calibrate`) and stand
in the model's package.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from tracker_ros.geometry import Box, Image
from tracker_ros.runtime.package import ModelPackage, PackageError
from tracker_ros.trackers import Estimate
from tracker_ros.tracking.appearance import NOTHING, Similarity, describe
from tracker_ros.tracking.life import Thresholds

CALIBRATED = Thresholds(lost=0.2, sure=0.4)
"""The thresholds of models whose confidence is a probability; docs/confidence.md says why."""

# A score of 1 is no certainty: beyond this many units of its logit it says nothing more.
_LARGEST_LOGIT = 6.0
_LEAST_SHARE = 1.0 / (1.0 + math.exp(_LARGEST_LOGIT))
# How fast what is usual of a target's looks and of the scores for it follows it, a sure frame.
_RATE = 0.004
_LEVEL_RATE = 0.04
# A score whose logit is so far below the usual one has nothing left of its level.
_LOWEST_LEVEL = 2.0
# What the newest score counts for in the mean over the last ones.
_RECENT = 0.4
# In logits: how much less a score is clearly less.
_CLEARLY = 0.7
# How much of a box has to be inside: less than this of it outside says nothing, as trackers
# answer with whole boxes for targets that are cut by the border.
_ENOUGH_INSIDE = 0.75


class Evidence(NamedTuple):
    """What speaks for a box, each in [0, 1].

    score: the model's own.
    recent: the same, as a mean over the last frames.
    level: the same against what is usual for this target, 1 for no less.
    single: how far the response of the model elsewhere is below that for the box; 1 where it
    gives no map of its response.
    focus: the part of that response that is at the box; 1 where there is no map.
    quality: the overlap with the true box that the model expects; 1 where it expects nothing.
    agreement: with where motion expects the box; 1 where nothing is expected.
    colour, pattern: likeness to the first template.
    origin: the mean of both, against what is usual for this target.
    size: of the box, against what is usual.
    inside: the part of the box that lies in the image.
    """

    score: float
    recent: float
    level: float
    single: float
    focus: float
    quality: float
    agreement: float
    colour: float
    pattern: float
    origin: float
    size: float
    inside: float


FEATURES = Evidence._fields


class CalibrationError(PackageError):
    """A package's calibration cannot be used; the text names entry and value."""


@dataclass(frozen=True)
class Calibration:
    """A logistic function of evidence; without weights the model's raw score as it is.

    weights: by names of FEATURES, for the values that `features` gives. Those of what speaks
    for a box are never negative, so that more of it never makes the box less likely.
    """

    bias: float = 0.0
    weights: Mapping[str, float] | None = None

    @classmethod
    def of(cls, package: ModelPackage) -> Calibration:
        """That of the package. Raises CalibrationError where its entry cannot be used."""
        entry = package.calibration
        if not entry:
            return cls()
        try:
            return cls(float(entry['bias']), dict(entry['weights'].items()))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CalibrationError(
                f'{package.name}: confidence.calibration needs bias, a number, and weights, '
                f'numbers by name: {error!r}; run "tracker_ros models calibrate"'
            ) from error

    def __post_init__(self) -> None:
        for name, weight in (self.weights or {}).items():
            if name not in FEATURES:
                raise CalibrationError(
                    f'confidence.calibration has a weight for {name!r}; known are '
                    f'{", ".join(FEATURES)}'
                )
            if not (isinstance(weight, int | float) and math.isfinite(weight) and weight >= 0):
                raise CalibrationError(
                    f'confidence.calibration.weights.{name} must be a number of at least 0, not '
                    f'{weight!r}'
                )
        if not math.isfinite(self.bias):
            raise CalibrationError(
                f'confidence.calibration.bias must be finite, not {self.bias!r}'
            )

    @cached_property
    def _in_order(self) -> tuple[float, ...]:
        """The weights, one for each of FEATURES."""
        weights = self.weights or {}
        return tuple(weights.get(name, 0.0) for name in FEATURES)

    @property
    def is_fitted(self) -> bool:
        return self.weights is not None

    def probability(self, evidence: Evidence) -> float:
        """In [0, 1]; 0 for evidence that is not of numbers."""
        if self.weights is None:
            return evidence.score if math.isfinite(evidence.score) else 0.0
        logit = self.bias + sum(map(operator.mul, self._in_order, features(evidence)))
        if not math.isfinite(logit):
            return 0.0
        return _logistic(logit)


def remark_on(package: ModelPackage) -> str:
    """What people should know of the confidence of a model; empty where it is a probability."""
    if package.calibration:
        return ''
    return (
        f'the confidence of {package.name} is its raw score, not a probability: it was not '
        f'calibrated ("tracker_ros models calibrate {package.name}")'
    )


def features(evidence: Evidence) -> tuple[float, ...]:
    """What the logistic function weighs, in the order of FEATURES: of scores the logits, the part
    inside only as far as it is short of enough, the rest as it is.
    """
    score, recent, *others, inside = evidence
    return (_logit(score), _logit(recent), *others, min(1.0, inside / _ENOUGH_INSIDE))


class Judgement(NamedTuple):
    """How likely a box is on the target, and why."""

    probability: float
    evidence: Evidence


class Judge:
    """Judges the boxes of one target."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        self._first = NOTHING
        self._recent: float | None = None
        """Mean logit of the scores of the last frames."""
        self._newest = _Looks(0.0, Similarity(0.0, 0.0), 0.0, False)
        self._usual_likeness = self._usual_size = 0.0
        self._usual_logit: float | None = None

    def start(self, image: Image, box: Box) -> None:
        """The target is in `box` of `image` (H, W, 3) uint8 BGR."""
        self._first = describe(image, box)
        # It is like itself: where it soon is less so, something else may have been followed.
        itself = self._first.similarity(self._first)
        self._recent = self._usual_logit = None
        self._usual_likeness, self._usual_size = itself.mean, _size(box)
        self._newest = _Looks(0.0, itself, self._usual_size, False)

    def judge(
        self,
        image: Image,
        estimate: Estimate,
        distance: float | None = None,
        looks_as_before: bool = False,
    ) -> Judgement:
        """`distance` is that of `Motion.distance`, for a box that continues the track.

        None for a look elsewhere: neither motion nor the scores of the last frames say anything
        about it. With `looks_as_before` its looks are taken for those of the box judged before
        it, which saves most of the time.
        """
        box = estimate.box
        likeness = self._newest.likeness
        if not looks_as_before:
            likeness = describe(image, box).similarity(self._first)
        logit = _logit(estimate.score)
        recent = logit
        if distance is not None:
            recent = self._recent = _followed(self._recent, logit, _RECENT)
        usual_logit = logit if self._usual_logit is None else self._usual_logit
        size = _size(box)
        height, width = image.shape[:2]
        evidence = Evidence(
            score=estimate.score,
            recent=_logistic(recent),
            level=1.0 - min(max(usual_logit - logit, 0.0) / _LOWEST_LEVEL, 1.0),
            single=1.0 - estimate.rival,
            focus=estimate.focus,
            quality=estimate.quality,
            agreement=1.0 if distance is None else 1.0 / (1.0 + max(distance, 0.0)),
            colour=likeness.colour,
            pattern=likeness.pattern,
            origin=_share(likeness.mean, self._usual_likeness),
            size=_alike(size, self._usual_size),
            inside=_inside(box, width, height),
        )
        self._newest = _Looks(logit, likeness, size, distance is None)
        return Judgement(self.calibration.probability(evidence), evidence)

    def falls(self, score: float) -> bool:
        """Whether a score is clearly below those of the last frames."""
        return self._recent is None or _logit(score) < self._recent - _CLEARLY

    def accept(self) -> None:
        """The box last judged is surely on the target: so it is what is usual for it."""
        newest = self._newest
        if newest.is_elsewhere:
            # The doubts about what was followed before are not about this.
            self._recent = newest.logit
        self._usual_logit = _followed(self._usual_logit, newest.logit, _LEVEL_RATE)
        self._usual_likeness = _followed(self._usual_likeness, newest.likeness.mean, _RATE)
        self._usual_size = _followed(self._usual_size, newest.size, _RATE)


class _Looks(NamedTuple):
    """Of the box last judged: logit of its score, likeness to the first template, size in px."""

    logit: float
    likeness: Similarity
    size: float
    is_elsewhere: bool


def _logit(share: float) -> float:
    """The logit of a share in [0, 1], held to what can still be told apart."""
    if share <= _LEAST_SHARE:
        return -_LARGEST_LOGIT
    if share >= 1.0 - _LEAST_SHARE:
        return _LARGEST_LOGIT
    return math.log(share / (1.0 - share))


def _logistic(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(logit, -60.0), 60.0)))


def _followed(mean: float | None, value: float, rate: float) -> float:
    """A running mean after one more value; the first is the mean."""
    return value if mean is None else mean + rate * (value - mean)


def _share(value: float, usual: float) -> float:
    """`value` against what is usual, at most 1."""
    return min(1.0, value / usual) if usual > 0 else 1.0


def _size(box: Box) -> float:
    """In pixels, so that a box twice as wide and high is twice as large."""
    return math.sqrt(box.area)


def _alike(one: float, other: float) -> float:
    """The smaller against the larger."""
    return min(one, other) / max(one, other, 1e-9)


def _inside(box: Box, width: int, height: int) -> float:
    """The part of the box in an image of this size; 0 for one without area."""
    x1, y1, x2, y2 = box.corners()
    if 0.0 <= x1 < x2 <= width and 0.0 <= y1 < y2 <= height:
        return 1.0
    image = Box(0.0, 0.0, float(width), float(height))
    return min(1.0, box.intersection(image) / box.area) if box.area > 0 else 0.0
