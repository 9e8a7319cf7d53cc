# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where a target is about to be: a Kalman filter over its boxes.

The state is centre and size of the box and their velocities: constant velocity, disturbed by
random acceleration. All noise is in units of the target's size, so that one set of constants
serves a target of 10 px and one of 500; how much of it a target makes is learnt as it moves.
The figures behind the constants are in docs/motion.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# Each pair is for the box's centre and for its size, in units of the target's size.
_BOX_NOISE = (0.02, 0.02)
# Random walk: sizes per sqrt(s).
_WALK_NOISE = (0.15, 0.2)
# Random acceleration: sizes per s^1.5.
_ACCELERATION_NOISE = (2.5, 0.2)
# What is not known of the velocity at a start: sizes per s.
_FIRST_VELOCITY_NOISE = (3.0, 0.5)

# How far ahead a velocity is believed in full, after which it fades. For the centre it is this
# share of the time in which the target's random acceleration makes such a velocity, within limits:
# what flies straight is believed for longer than what goes to and fro.
_BELIEF = 0.15
_HORIZON_S = (0.1, 1.5)
_SIZE_HORIZON_S = 0.1
# Time constant of the fading, as a share of that.
_FADING = 0.5

# Liveliness is the variance of what a target does relative to the constants above. It grows or
# falls by this share for each unit of `distance` above or below 1, within these limits.
_LEARNING = 0.05
_LIVELINESS = (0.03, 10.0)
# A single box beside the expected place says no more than this.
_FARTHEST = 5.0

# The share of a new frame in what is known of the camera's own velocity.
_CAMERA_LEARNING = 0.5

# A gap longer than this tells nothing of the velocity: the next box is a start.
_LONGEST_GAP_S = 3.0
# Until two stamps have told the time between frames.
_FIRST_INTERVAL_S = 1.0 / 30.0
# The variance of a box of no confidence is that of a sure one over the square of this.
_LEAST_CONFIDENCE = 0.05
_SMALLEST_SIDE_PX = 1.0
# Noise gets no smaller for targets smaller than this: pixels have a size too.
_SMALLEST_UNIT_PX = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """Where the target is thought to be at some time.

    box: at least a pixel, at most the image; its centre at most half a box outside of it.
    velocity: (4,) of cx, cy, w and h in the image, in px/s.
    covariance: (8, 8) of cx, cy, w, h (px) and their velocities (px/s), in that order.
    """

    box: Box
    velocity: Vector
    covariance: Matrix


@dataclass(frozen=True, slots=True, eq=False)
class Extrapolated:
    """What is said for a time of which there is no image yet.

    seen_s: stamp of the newest box that it rests on. age_s: from there to the time it is for.
    """

    predicted: Predicted
    seen_s: float
    age_s: float


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """Replaced as a whole, never changed, so that another thread may predict meanwhile."""

    mean: Vector
    covariance: Matrix
    stamp_s: float
    interval_s: float
    liveliness: float = 1.0
    # Of the centre, in px/s; and until when the camera's motion is in the mean already.
    camera_velocity: tuple[float, float] = (0.0, 0.0)
    camera_s: float = -math.inf

    def elapsed_s(self, stamp_s: float) -> float:
        """Time since the newest box; 0 where stamps repeat, go back or are no numbers."""
        elapsed_s = stamp_s - self.stamp_s
        return elapsed_s if elapsed_s > 0 and math.isfinite(elapsed_s) else 0.0

    @property
    def camera_base_s(self) -> float:
        return max(self.stamp_s, self.camera_s)


class Motion:
    """The filter of one target. `predict` may be called from any thread, the rest from one."""

    def __init__(self) -> None:
        self._state: _State | None = None
        self._image_size = (math.inf, math.inf)
        # A frame asks for the same time more than once: to predict, to compare, to update.
        self._newest: tuple[_State, float, Vector, Matrix] | None = None

    @property
    def stamp_s(self) -> float | None:
        """Of the newest box taken in; None before the start and where stamps are no numbers."""
        state = self._state
        return state.stamp_s if state is not None and math.isfinite(state.stamp_s) else None

    def start(self, box: Box, stamp_s: float, image_size: tuple[int, int] | None = None) -> None:
        """Begins anew with `box` and an unknown velocity.

        `image_size` is width and height in pixels; without it boxes are not held to an image.
        Raises ValueError for a box that is not finite.
        """
        if not box.is_finite():
            raise ValueError(f'{box} is not finite: no motion can start from it')
        width, height = image_size or (math.inf, math.inf)
        self._image_size = (float(width), float(height))
        self._begin(box, stamp_s, _FIRST_INTERVAL_S)

    def predict(self, stamp_s: float) -> Predicted:
        """Where the target is at `stamp_s`; changes nothing.

        For the time of the newest box or one before it, that is where the target was then.
        """
        state = self._started()
        mean, covariance = self._at(state, stamp_s)
        box = Box.from_center(*self._held(mean)[:4].tolist())
        velocity = mean[4:].copy()
        velocity[:2] += state.camera_velocity
        return Predicted(box, velocity, covariance)

    def update(self, box: Box, stamp_s: float, confidence: float = 1.0) -> None:
        """Takes in where the target was seen; `confidence` in [0, 1] is the weight of that.

        A box that is not finite is ignored. With a stamp that repeats or goes back the target
        has not moved on; after a long gap its velocity is learnt anew.
        """
        state = self._started()
        if not box.is_finite():
            return
        elapsed_s = state.elapsed_s(stamp_s)
        if elapsed_s > _LONGEST_GAP_S:
            self._begin(box, stamp_s, state.interval_s)
            return
        mean, covariance = self._at(state, stamp_s)
        if not elapsed_s:
            # A camera without stamps is always here, and its target moves: it must not be
            # averaged into standing still.
            covariance += _process_noise(state, state.interval_s)
        spread = covariance[:4, :4] + _box_noise(mean, confidence)
        beside = _vector(box) - mean[:4]
        solved = np.linalg.solve(spread, np.column_stack([covariance[:4], beside]))
        gain = solved[:, :8].T
        mean += gain @ beside
        covariance -= gain @ covariance[:4]
        distance = min(float(beside @ solved[:, 8]) / 4.0, _FARTHEST)
        liveliness = state.liveliness * math.exp(_LEARNING * (distance - 1.0))
        self._state = replace(
            state,
            mean=self._held(mean),
            covariance=0.5 * (covariance + covariance.T),
            stamp_s=stamp_s if math.isfinite(stamp_s) else state.stamp_s,
            interval_s=0.9 * state.interval_s + 0.1 * elapsed_s if elapsed_s else state.interval_s,
            liveliness=min(max(liveliness, _LIVELINESS[0]), _LIVELINESS[1]),
        )

    def warp(self, matrix: Matrix, stamp_s: float = math.nan) -> None:
        """The camera has moved: `matrix` (2, 3) takes places of the last image to the new one.

        `stamp_s` is that of the new image; by it the filter learns how fast the camera moves, and
        expects that to go on. A matrix that is not finite or that turns the image inside out is
        ignored.
        """
        state = self._started()
        matrix = np.asarray(matrix, np.float64)
        turn, shift = matrix[:, :2], matrix[:, 2]
        squared_scale = float(turn[0, 0] * turn[1, 1] - turn[0, 1] * turn[1, 0])
        if not (np.isfinite(matrix).all() and squared_scale > 0):
            return
        whole = math.sqrt(squared_scale) * np.eye(8)
        whole[0:2, 0:2] = whole[4:6, 4:6] = turn
        mean = whole @ state.mean
        mean[:2] += shift
        velocity = state.camera_velocity
        took_s = stamp_s - state.camera_base_s
        if 0 < took_s < _LONGEST_GAP_S:
            moved = (mean[:2] - state.mean[:2]) / took_s
            x, y = (velocity + _CAMERA_LEARNING * (moved - velocity)).tolist()
            velocity = (x, y)
        self._state = replace(
            state,
            mean=self._held(mean),
            covariance=whole @ state.covariance @ whole.T,
            camera_velocity=velocity,
            camera_s=stamp_s if math.isfinite(stamp_s) else state.camera_s,
        )

    def distance(self, box: Box, stamp_s: float) -> float:
        """How far `box` is from where the target is expected at `stamp_s`.

        The squared Mahalanobis distance of cx, cy, w and h over 4: about 1 for a box that
        agrees; infinite for one that is not finite.
        """
        state = self._started()
        if not box.is_finite():
            return math.inf
        mean, covariance = self._at(state, stamp_s)
        spread = covariance[:4, :4] + _box_noise(mean, 1.0)
        beside = _vector(box) - mean[:4]
        return float(beside @ np.linalg.solve(spread, beside)) / 4.0

    def _started(self) -> _State:
        if self._state is None:
            raise RuntimeError('Motion.start has not been called')
        return self._state

    def _at(self, state: _State, stamp_s: float) -> tuple[Vector, Matrix]:
        """As `_ahead`; both may be changed."""
        newest = self._newest
        if newest is None or newest[0] is not state or newest[1] != stamp_s:
            self._newest = newest = (state, stamp_s, *_ahead(state, stamp_s))
        return newest[2].copy(), newest[3].copy()

    def _begin(self, box: Box, stamp_s: float, interval_s: float) -> None:
        mean = self._held(np.concatenate([_vector(box), np.zeros(4)]))
        covariance = np.zeros((8, 8))
        covariance[:4, :4] = _box_noise(mean, 1.0)
        covariance[4:, 4:] = _unit_px(mean) ** 2 * _FIRST_VELOCITY
        stamp_s = stamp_s if math.isfinite(stamp_s) else -math.inf
        self._state = _State(mean, covariance, stamp_s, interval_s)

    def _held(self, mean: Vector) -> Vector:
        """`mean` with the box held in size and place, in place; its speed stays what it is."""
        for axis, longest in enumerate(self._image_size):
            side = min(max(float(mean[2 + axis]), _SMALLEST_SIDE_PX), longest)
            mean[2 + axis] = side
            if longest < math.inf:
                mean[axis] = min(max(float(mean[axis]), -0.5 * side), longest + 0.5 * side)
        return mean


def predict_to_now(motion: Motion, now_s: float, longest_s: float = 1.0) -> Extrapolated | None:
    """What `motion` says for `now_s`, for a consumer that acts at its own time.

    Boxes are as old as exposure, transport and inference take. None before the start, where the
    newest box is older than `longest_s`, and where its stamp is after `now_s`: those clocks do
    not agree, so no age can be told.
    """
    seen_s = motion.stamp_s
    if seen_s is None or not 0.0 <= now_s - seen_s <= longest_s:
        return None
    return Extrapolated(motion.predict(now_s), seen_s, now_s - seen_s)


def _ahead(state: _State, stamp_s: float) -> tuple[Vector, Matrix]:
    """Mean (8,) and covariance (8, 8) at `stamp_s`."""
    elapsed_s = state.elapsed_s(stamp_s)
    if not elapsed_s:
        return state.mean, state.covariance
    transition = _EYE.copy()
    horizon_s = _horizon_s(state)
    for first, longest_s in ((0, horizon_s), (2, _SIZE_HORIZON_S)):
        reach_s, left = _reach(elapsed_s, longest_s)
        for place in (first, first + 1):
            transition[place, place + 4] = reach_s
            transition[place + 4, place + 4] = left
    mean = transition @ state.mean
    if state.camera_velocity != (0.0, 0.0):
        # As far as the target's own: where the camera follows it, the two are each other's
        # opposite.
        unseen_s = max(0.0, stamp_s - state.camera_base_s)
        mean[:2] += np.multiply(state.camera_velocity, _reach(unseen_s, horizon_s)[0])
    covariance = transition @ state.covariance @ transition.T
    return mean, covariance + _process_noise(state, elapsed_s)


def _reach(elapsed_s: float, horizon_s: float) -> tuple[float, float]:
    """For how long a velocity counts within `elapsed_s`, in s, and what is left of it then."""
    if elapsed_s <= horizon_s:
        return elapsed_s, 1.0
    fading_s = _FADING * horizon_s
    left = math.exp((horizon_s - elapsed_s) / fading_s)
    return horizon_s + fading_s * (1.0 - left), left


def _horizon_s(state: _State) -> float:
    """How far ahead the velocity of the centre is believed in full."""
    squared_speed = float(state.mean[4] ** 2 + state.mean[5] ** 2)
    disturbance = 2.0 * state.liveliness * (_ACCELERATION_NOISE[0] * _unit_px(state.mean)) ** 2
    return min(max(_BELIEF * squared_speed / disturbance, _HORIZON_S[0]), _HORIZON_S[1])


def _process_noise(state: _State, elapsed_s: float) -> Matrix:
    """(8, 8) what the target may have done by itself: white acceleration and a random walk."""
    elapsed_s = min(elapsed_s, _LONGEST_GAP_S)
    noise = (elapsed_s**2 / 2) * _ACCELERATED_BOTH
    noise[:4, :4] = (elapsed_s**3 / 3) * _ACCELERATION + elapsed_s * _WALK
    noise[4:, 4:] = elapsed_s * _ACCELERATION
    noise *= state.liveliness * _unit_px(state.mean) ** 2
    return noise


def _box_noise(mean: Vector, confidence: float) -> Matrix:
    """(4, 4) of a measured box."""
    # NaN compares false with everything and counts for no confidence.
    weight = min(confidence, 1.0) if confidence > _LEAST_CONFIDENCE else _LEAST_CONFIDENCE
    return (_unit_px(mean) / weight) ** 2 * _BOX


def _unit_px(mean: Vector) -> float:
    """The target's size, in which its noise is counted."""
    return max(math.sqrt(max(0.0, float(mean[2] * mean[3]))), _SMALLEST_UNIT_PX)


def _vector(box: Box) -> Vector:
    return np.array([box.cx, box.cy, box.w, box.h])


def _variances(noise: tuple[float, float]) -> Matrix:
    centre, size = noise
    return np.diag([centre**2, centre**2, size**2, size**2])


_EYE = np.eye(8)
_BOX = _variances(_BOX_NOISE)
_WALK = _variances(_WALK_NOISE)
_ACCELERATION = _variances(_ACCELERATION_NOISE)
_FIRST_VELOCITY = _variances(_FIRST_VELOCITY_NOISE)
_ACCELERATED_BOTH = np.asarray(np.kron([[0, 1], [1, 0]], _ACCELERATION), np.float64)
