# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where a target is about to be: a Kalman filter over its boxes.

The state is centre and size of the box and their velocities: constant velocity, disturbed by
random acceleration. All noise is in units of the target's size, so that one set of constants
serves a target of 10 px and one of 500; how much of it a target makes is learnt as it moves.
The figures behind the constants are in docs/motion.md.

What is not known is the same along x and y, and along width and height, and none of the four
tells of another: two covariances of a place and its velocity are all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

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
_WALK_VARIANCE, _ACCELERATION_VARIANCE = (
    tuple(noise**2 for noise in each) for each in (_WALK_NOISE, _ACCELERATION_NOISE)
)
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


class Predicted:
    """Where the target is thought to be at some time.

    box: at least a pixel, at most the image; its centre at most half a box outside of it.
    velocity: (4,) of cx, cy, w and h in the image, in px/s.
    """

    def __init__(
        self, box: Box, velocity: Vector, covariance: Matrix | Callable[[], Matrix]
    ) -> None:
        """`covariance` may be what makes it: there is one of each frame, and few are looked at."""
        self.box = box
        self.velocity = velocity
        self._covariance = covariance

    @property
    def covariance(self) -> Matrix:
        """(8, 8) of cx, cy, w, h (px) and their velocities (px/s), in that order."""
        if callable(self._covariance):
            self._covariance = self._covariance()
        return self._covariance


@dataclass(frozen=True, slots=True, eq=False)
class Extrapolated:
    """What is said for a time of which there is no image yet.

    seen_s: stamp of the newest box that it rests on. age_s: from there to the time it is for.
    """

    predicted: Predicted
    seen_s: float
    age_s: float


class _Spread(NamedTuple):
    """Covariance of a place and its velocity along one axis: px^2, px^2/s, px^2/s^2."""

    place: float
    both: float
    velocity: float

    def after(self, reach_s: float, left: float, noise: _Spread) -> _Spread:
        """With a velocity that counted for `reach_s`, and of which so much is left."""
        place, both, velocity = self
        more_place, more_both, more_velocity = noise
        carried = both + reach_s * velocity
        return _Spread(
            place + reach_s * (both + carried) + more_place,
            left * carried + more_both,
            left * left * velocity + more_velocity,
        )

    def seen(self, gain: float, speed_gain: float) -> _Spread:
        """After the place was measured, and it and its velocity followed by so much of that."""
        return _Spread(
            self.place - gain * self.place,
            self.both - gain * self.both,
            self.velocity - speed_gain * self.both,
        )

    def scaled(self, factor: float) -> _Spread:
        return _Spread(factor * self.place, factor * self.both, factor * self.velocity)


class _Guess(NamedTuple):
    """mean: of cx, cy, w, h and their velocities. centre, size: what is not known of them."""

    mean: tuple[float, ...]
    centre: _Spread
    size: _Spread

    def covariance(self) -> Matrix:
        """(8, 8)."""
        return np.array([0.0, *self.centre, *self.size])[_LAYOUT]


class _State(NamedTuple):
    """Replaced as a whole, never changed, so that another thread may predict meanwhile."""

    guess: _Guess
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
        self._newest: tuple[_State, float, _Guess] | None = None

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
        guess = self._at(state, stamp_s)
        vx, vy, vw, vh = guess.mean[4:]
        camera_x, camera_y = state.camera_velocity
        return Predicted(
            Box.from_center(*_held(guess.mean, self._image_size)[:4]),
            np.array([vx + camera_x, vy + camera_y, vw, vh]),
            guess.covariance,
        )

    @property
    def speed_px_s(self) -> float:
        """Of the centre in the image, when the target was seen last."""
        state = self._started()
        vx, vy = state.guess.mean[4:6]
        return math.hypot(vx + state.camera_velocity[0], vy + state.camera_velocity[1])

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
        mean, centre, size = self._at(state, stamp_s)
        if not elapsed_s:
            # A camera without stamps is always here, and its target moves: it must not be
            # averaged into standing still.
            noise = _process_noise(state, state.interval_s)
            centre, size = centre.after(0.0, 1.0, noise[0]), size.after(0.0, 1.0, noise[1])
        of_centre, of_size = _variances(mean, centre, size, confidence)
        # How much of what is beside the expected is believed, of places and of their velocities.
        gain, speed_gain = centre.place / of_centre, centre.both / of_centre
        size_gain, growth_gain = size.place / of_size, size.both / of_size
        cx, cy, w, h, vx, vy, vw, vh = mean
        dx, dy, dw, dh = _beside(box, mean)
        distance = min(_distance((dx, dy, dw, dh), of_centre, of_size), _FARTHEST)
        liveliness = state.liveliness * math.exp(_LEARNING * (distance - 1.0))
        followed = (
            cx + gain * dx,
            cy + gain * dy,
            w + size_gain * dw,
            h + size_gain * dh,
            vx + speed_gain * dx,
            vy + speed_gain * dy,
            vw + growth_gain * dw,
            vh + growth_gain * dh,
        )
        self._state = _State(
            _Guess(
                _held(followed, self._image_size),
                centre.seen(gain, speed_gain),
                size.seen(size_gain, growth_gain),
            ),
            stamp_s if math.isfinite(stamp_s) else state.stamp_s,
            0.9 * state.interval_s + 0.1 * elapsed_s if elapsed_s else state.interval_s,
            min(max(liveliness, _LIVELINESS[0]), _LIVELINESS[1]),
            state.camera_velocity,
            state.camera_s,
        )

    def warp(self, matrix: Matrix, stamp_s: float = math.nan) -> None:
        """The camera has moved: `matrix` (2, 3) takes places of the last image to the new one.

        `stamp_s` is that of the new image; by it the filter learns how fast the camera moves, and
        expects that to go on. A matrix that is not finite or that turns the image inside out is
        ignored; of one that shears, the uncertainty only grows as the area does.
        """
        state = self._started()
        matrix = np.asarray(matrix, np.float64)
        turn, shift = matrix[:, :2], matrix[:, 2]
        squared_scale = float(turn[0, 0] * turn[1, 1] - turn[0, 1] * turn[1, 0])
        if not (np.isfinite(matrix).all() and squared_scale > 0):
            return
        scale = math.sqrt(squared_scale)
        guess = state.guess
        place = (turn @ guess.mean[:2] + shift).tolist()
        speed = (turn @ guess.mean[4:6]).tolist()
        mean = (
            *place,
            *(scale * side for side in guess.mean[2:4]),
            *speed,
            *(scale * growth for growth in guess.mean[6:]),
        )
        velocity = state.camera_velocity
        took_s = stamp_s - state.camera_base_s
        if 0 < took_s < _LONGEST_GAP_S:
            x, y = (
                known + _CAMERA_LEARNING * ((now - before) / took_s - known)
                for known, now, before in zip(velocity, place, guess.mean[:2], strict=True)
            )
            velocity = (x, y)
        self._state = state._replace(
            guess=_Guess(
                _held(mean, self._image_size),
                guess.centre.scaled(squared_scale),
                guess.size.scaled(squared_scale),
            ),
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
        mean, centre, size = self._at(state, stamp_s)
        return _distance(_beside(box, mean), *_variances(mean, centre, size, 1.0))

    def _started(self) -> _State:
        if self._state is None:
            raise RuntimeError('Motion.start has not been called')
        return self._state

    def _at(self, state: _State, stamp_s: float) -> _Guess:
        """As `_ahead`."""
        newest = self._newest
        if newest is None or newest[0] is not state or newest[1] != stamp_s:
            self._newest = newest = (state, stamp_s, _ahead(state, stamp_s))
        return newest[2]

    def _begin(self, box: Box, stamp_s: float, interval_s: float) -> None:
        mean = _held((box.cx, box.cy, box.w, box.h, 0.0, 0.0, 0.0, 0.0), self._image_size)
        unit = _unit_px(mean) ** 2
        centre, size = (
            _Spread(unit * noise**2, 0.0, unit * velocity**2)
            for noise, velocity in zip(_BOX_NOISE, _FIRST_VELOCITY_NOISE, strict=True)
        )
        stamp_s = stamp_s if math.isfinite(stamp_s) else -math.inf
        self._state = _State(_Guess(mean, centre, size), stamp_s, interval_s)


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


def _held(mean: tuple[float, ...], image_size: tuple[float, float]) -> tuple[float, ...]:
    """`mean` with the box held in size and place; its speed stays what it is."""
    width, height = image_size
    cx, cy, w, h, vx, vy, vw, vh = mean
    if not (_SMALLEST_SIDE_PX <= w <= width and _SMALLEST_SIDE_PX <= h <= height):
        w = min(max(w, _SMALLEST_SIDE_PX), width)
        h = min(max(h, _SMALLEST_SIDE_PX), height)
    if not (0.0 <= cx <= width < math.inf):
        cx = min(max(cx, -0.5 * w), width + 0.5 * w) if width < math.inf else cx
    if not (0.0 <= cy <= height < math.inf):
        cy = min(max(cy, -0.5 * h), height + 0.5 * h) if height < math.inf else cy
    return cx, cy, w, h, vx, vy, vw, vh


def _ahead(state: _State, stamp_s: float) -> _Guess:
    """What is thought of the target at `stamp_s`."""
    elapsed_s = state.elapsed_s(stamp_s)
    if not elapsed_s:
        return state.guess
    (cx, cy, w, h, vx, vy, vw, vh), centre, size = state.guess
    horizon_s = _horizon_s(state)
    reach_s, left = _reach(elapsed_s, horizon_s)
    size_reach_s, size_left = _reach(elapsed_s, _SIZE_HORIZON_S)
    camera_x, camera_y = state.camera_velocity
    # As far as the target's own: where the camera follows it, the two are each other's opposite.
    unseen_s = _reach(max(0.0, stamp_s - state.camera_base_s), horizon_s)[0]
    noise = _process_noise(state, elapsed_s)
    return _Guess(
        (
            cx + reach_s * vx + unseen_s * camera_x,
            cy + reach_s * vy + unseen_s * camera_y,
            w + size_reach_s * vw,
            h + size_reach_s * vh,
            left * vx,
            left * vy,
            size_left * vw,
            size_left * vh,
        ),
        centre.after(reach_s, left, noise[0]),
        size.after(size_reach_s, size_left, noise[1]),
    )


def _reach(elapsed_s: float, horizon_s: float) -> tuple[float, float]:
    """For how long a velocity counts within `elapsed_s`, in s, and what is left of it then."""
    if elapsed_s <= horizon_s:
        return elapsed_s, 1.0
    fading_s = _FADING * horizon_s
    left = math.exp((horizon_s - elapsed_s) / fading_s)
    return horizon_s + fading_s * (1.0 - left), left


def _horizon_s(state: _State) -> float:
    """How far ahead the velocity of the centre is believed in full."""
    mean = state.guess.mean
    squared_speed = mean[4] ** 2 + mean[5] ** 2
    disturbance = 2.0 * state.liveliness * (_ACCELERATION_NOISE[0] * _unit_px(mean)) ** 2
    return min(max(_BELIEF * squared_speed / disturbance, _HORIZON_S[0]), _HORIZON_S[1])


def _process_noise(state: _State, elapsed_s: float) -> tuple[_Spread, _Spread]:
    """What centre and size may have done by themselves: white acceleration and a random walk."""
    t = min(elapsed_s, _LONGEST_GAP_S)
    unit = t * state.liveliness * _unit_px(state.guess.mean) ** 2
    return (
        _Spread(
            unit * (t * t / 3 * _ACCELERATION_VARIANCE[0] + _WALK_VARIANCE[0]),
            unit * t / 2 * _ACCELERATION_VARIANCE[0],
            unit * _ACCELERATION_VARIANCE[0],
        ),
        _Spread(
            unit * (t * t / 3 * _ACCELERATION_VARIANCE[1] + _WALK_VARIANCE[1]),
            unit * t / 2 * _ACCELERATION_VARIANCE[1],
            unit * _ACCELERATION_VARIANCE[1],
        ),
    )


def _variances(
    mean: tuple[float, ...], centre: _Spread, size: _Spread, confidence: float
) -> tuple[float, float]:
    """Of a measured cx or cy, and of a measured w or h, about the expected ones."""
    # NaN compares false with everything and counts for no confidence.
    weight = min(confidence, 1.0) if confidence > _LEAST_CONFIDENCE else _LEAST_CONFIDENCE
    unit = (_unit_px(mean) / weight) ** 2
    return centre.place + unit * _BOX_NOISE[0] ** 2, size.place + unit * _BOX_NOISE[1] ** 2


def _beside(box: Box, mean: tuple[float, ...]) -> tuple[float, float, float, float]:
    """How far cx, cy, w and h are from the expected ones."""
    return box.cx - mean[0], box.cy - mean[1], box.w - mean[2], box.h - mean[3]


def _distance(
    beside: tuple[float, float, float, float], of_centre: float, of_size: float
) -> float:
    """The squared Mahalanobis distance over 4."""
    dx, dy, dw, dh = beside
    return ((dx * dx + dy * dy) / of_centre + (dw * dw + dh * dh) / of_size) / 4.0


def _unit_px(mean: tuple[float, ...]) -> float:
    """The target's size, in which its noise is counted."""
    area = mean[2] * mean[3]
    return math.sqrt(area) if area > _SMALLEST_UNIT_PX**2 else _SMALLEST_UNIT_PX


def _layout() -> NDArray[np.intp]:
    """(8, 8) of which of 0, the centre's three and the size's three each covariance is."""
    layout = np.zeros((8, 8), np.intp)
    for axis in range(4):
        first = 1 if axis < 2 else 4
        layout[axis, axis] = first
        layout[axis, axis + 4] = layout[axis + 4, axis] = first + 1
        layout[axis + 4, axis + 4] = first + 2
    return layout


_LAYOUT = _layout()
