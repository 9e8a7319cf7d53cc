# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a place in the image to a direction in the world: calibrated cameras and their lenses.

Directions are in the camera's optical frame (REP 103): x to the right, y down, z forward. Lens
models are those of OpenCV, under the names that ROS gives them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

_MOST_STEPS = 50
_MOST_HALVINGS = 20
# In normalised image coordinates: far below what a pixel is.
_PRECISION = 1e-12
# In normalised image coordinates, and far outside of any image.
_FARTHEST = 1e3
# How much the sides of an image may differ in scale for it to be a resized copy.
_MOST_STRETCH = 0.01


class CalibrationError(ValueError):
    """No directions can be had from this calibration; the text names entry, value and remedy."""


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the sensor, in unbinned pixels; a width or height of 0 stands for all of it."""

    x: int = 0
    y: int = 0
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class Calibration:
    """What sensor_msgs/CameraInfo says, field by field.

    width, height: of the calibrated image, before binning and region. k (9), r (9), p (12): row
    by row. d: as many as `distortion_model` has. binning: of x and y; 0 counts as 1.
    """

    width: int
    height: int
    distortion_model: str
    d: tuple[float, ...]
    k: tuple[float, ...]
    r: tuple[float, ...] = ()
    p: tuple[float, ...] = ()
    binning: tuple[int, int] = (1, 1)
    region: Region = Region()


@dataclass(frozen=True, slots=True, eq=False)
class Bearing:
    """Where a place in the image lies as seen from the camera.

    ray: (3,) unit vector in the optical frame.
    azimuth: atan2(x, z), to the right, in rad.
    elevation: upwards from the plane of x and z, in rad.
    covariance: (2, 2) of azimuth and elevation, in square rad.
    """

    ray: Vector
    azimuth: float
    elevation: float
    covariance: Matrix


class Camera:
    """A calibrated camera that gives images of one size."""

    def __init__(
        self, calibration: Calibration, width: int, height: int, rectified: bool = False
    ) -> None:
        """Makes a camera.

        Args:
            calibration: of the camera.
            width, height: of the images as published, in pixels. Those of a resized copy are
                scaled to the calibration's.
            rectified: the images were rectified: straight lines are straight, P holds in place
                of K and D. Directions are turned back by R, so that they are the same as from
                the image before.

        Raises:
            CalibrationError: the calibration is empty, broken, or for other images.
        """
        _check_size(calibration)
        self._scale, self._offset = _to_sensor(calibration, width, height)
        if rectified:
            name, entries = 'P', _entries('P', calibration.p, 12)
            matrix = np.array(entries).reshape(3, 4)[:, :3]
            self._turn = _rotation(calibration.r).T
            self._lens: _Lens = _NoLens()
        else:
            name, entries = 'K', _entries('K', calibration.k, 9)
            matrix = np.array(entries).reshape(3, 3)
            self._turn = np.eye(3)
            self._lens = _lens(calibration.distortion_model, calibration.d)
        self._inverse = _inverse(name, matrix)

    def bearing(self, x: float, y: float, covariance: Matrix | None = None) -> Bearing | None:
        """The direction of the place (x, y), in pixels as boxes have them.

        `covariance` is the (2, 2) of x and y in square pixels; without it that of the result is
        zero. None where the lens model does not reach, as far outside of the image.
        """
        # Calibrations count from the centre of the first pixel, boxes from its corner.
        place = np.array([x, y]) * self._scale + self._offset - 0.5
        across, down = (self._inverse[:, :2] @ place + self._inverse[:, 2]).tolist()
        # Written so that NaN, which compares false with everything, is refused too.
        if not math.hypot(across, down) < _FARTHEST:
            return None
        found = self._lens.ray(across, down)
        if found is None:
            return None
        ray, slope = found
        ray, slope = self._turn @ ray, self._turn @ slope @ (self._inverse[:, :2] * self._scale)
        level = math.hypot(ray[0], ray[2])
        angles = np.array(
            [
                (ray[2] * slope[0] - ray[0] * slope[2]) / max(level**2, _PRECISION),
                -slope[1] / max(level, _PRECISION),
            ]
        )
        spread = np.zeros((2, 2)) if covariance is None else angles @ covariance @ angles.T
        return Bearing(
            ray,
            math.atan2(ray[0], ray[2]),
            math.atan2(-ray[1], level),
            0.5 * (spread + spread.T),
        )


def image_error(box: Box, width: int, height: int) -> tuple[float, float]:
    """How far the box's centre is from the image's: -1 at the left or upper border, 1 opposite.

    Held to that range, so that a controller gets no more than it can ask for.
    """
    across = 2.0 * box.cx / width - 1.0
    down = 2.0 * box.cy / height - 1.0
    return min(max(across, -1.0), 1.0), min(max(down, -1.0), 1.0)


def is_rectified(topic: str) -> bool:
    """Whether images on a topic are rectified by the name that ROS gives such topics.

    That is image_rect, image_rect_color and so on, also with a transport behind it.
    """
    return any(part.startswith('image_rect') for part in topic.split('/'))


class _Lens(ABC):
    @abstractmethod
    def ray(self, x: float, y: float) -> tuple[Vector, Matrix] | None:
        """The unit ray (3,) of the normalised image point (x, y) and its derivative (3, 2)."""


class _NoLens(_Lens):
    def ray(self, x: float, y: float) -> tuple[Vector, Matrix] | None:
        return _unit_ray(x, y, np.eye(2))


class _Polynomial(_Lens):
    """OpenCV's model: rational radial, tangential, thin prism and tilted sensor."""

    def __init__(self, coefficients: tuple[float, ...]) -> None:
        self._d = (*coefficients, *(0.0,) * (14 - len(coefficients)))
        self._untilt = None
        if self._d[12] or self._d[13]:
            self._untilt = np.linalg.inv(_tilt(self._d[12], self._d[13]))

    def ray(self, x: float, y: float) -> tuple[Vector, Matrix] | None:
        untilted = np.eye(2)
        if self._untilt is not None:
            tilted = self._untilt @ (x, y, 1.0)
            if tilted[2] <= 0:
                return None
            x, y = (tilted[:2] / tilted[2]).tolist()
            untilted = (self._untilt[:2, :2] - np.outer((x, y), self._untilt[2, :2])) / tilted[2]
        place = (0.0, 0.0)
        # From the image's centre outwards, so that it stays on the branch on which the lens works.
        for part, precision in ((0.5, 1e-3), (1.0, _PRECISION)):
            found = self._undistorted(place, (part * x, part * y), precision)
            if found is None:
                return None
            place = found
        slope = np.array(self._distorted(*place)[2:]).reshape(2, 2)
        return _unit_ray(*place, np.linalg.inv(slope) @ untilted)

    def _undistorted(
        self, here: tuple[float, float], aim: tuple[float, float], precision: float
    ) -> tuple[float, float] | None:
        """The point that the lens puts at `aim`, by Newton's method from `here` on."""
        (x, y), (aim_x, aim_y) = here, aim
        at_x, at_y, xx, xy, yx, yy = self._distorted(x, y)
        missing = math.hypot(aim_x - at_x, aim_y - at_y)
        for _ in range(_MOST_STEPS):
            if missing < precision:
                return x, y
            determinant = xx * yy - xy * yx
            step_x = (yy * (aim_x - at_x) - xy * (aim_y - at_y)) / determinant
            step_y = (xx * (aim_y - at_y) - yx * (aim_x - at_x)) / determinant
            for _ in range(_MOST_HALVINGS):
                at_x, at_y, xx, xy, yx, yy = self._distorted(x + step_x, y + step_y)
                left = math.hypot(aim_x - at_x, aim_y - at_y)
                # Where the determinant is negative the lens has folded the image over.
                if left < missing and xx * yy > xy * yx:
                    break
                step_x, step_y = 0.5 * step_x, 0.5 * step_y
            else:
                # As near as numbers come, or beyond what the lens reaches.
                return (x, y) if missing < 1e3 * precision else None
            x, y, missing = x + step_x, y + step_y, left
        return None

    def _distorted(self, x: float, y: float) -> tuple[float, float, float, float, float, float]:
        """Where the lens puts the normalised point (x, y), and the derivative row by row."""
        k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = self._d[:12]
        r2 = x * x + y * y
        above = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        below = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
        if below <= 0:
            return math.inf, math.inf, 0.0, 0.0, 0.0, 0.0
        radial = above / below
        by_r2 = (
            (k1 + r2 * (2 * k2 + r2 * 3 * k3)) - radial * (k4 + r2 * (2 * k5 + r2 * 3 * k6))
        ) / below
        mixed = 2 * x * y * by_r2 + 2 * p1 * x + 2 * p2 * y
        prism_x, prism_y = 2 * (s1 + 2 * s2 * r2), 2 * (s3 + 2 * s4 * r2)
        return (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + r2 * (s1 + s2 * r2),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + r2 * (s3 + s4 * r2),
            radial + 2 * x * x * by_r2 + 2 * p1 * y + 6 * p2 * x + x * prism_x,
            mixed + y * prism_x,
            mixed + x * prism_y,
            radial + 2 * y * y * by_r2 + 6 * p1 * y + 2 * p2 * x + y * prism_y,
        )


class _Equidistant(_Lens):
    """OpenCV's fisheye model (Kannala and Brandt): an odd polynomial of the angle off the axis."""

    def __init__(self, coefficients: tuple[float, ...]) -> None:
        self._d = coefficients
        # The polynomial rises from 0; where it stops to do so ends what the lens sees.
        k1, k2, k3, k4 = coefficients
        turns = np.roots([9 * k4, 7 * k3, 5 * k2, 3 * k1, 1.0])
        squares = [turn.real for turn in turns if abs(turn.imag) < 1e-9 and turn.real > 0]
        self._widest = math.sqrt(min([*squares, math.pi**2]))

    def ray(self, x: float, y: float) -> tuple[Vector, Matrix] | None:
        radius = math.hypot(x, y)
        found = self._angle(radius)
        if found is None:
            return None
        angle, slope = found
        if radius < 1e-9:
            # On the axis sin(angle) / radius is 0 / 0; its limit is 1.
            return _unit_ray(x, y, np.eye(2))
        cosine, sine = x / radius, y / radius
        ray = np.array([math.sin(angle) * cosine, math.sin(angle) * sine, math.cos(angle)])
        outwards = np.array([math.cos(angle) * cosine, math.cos(angle) * sine, -math.sin(angle)])
        around = np.array([-sine, cosine, 0.0])
        derivative = np.outer(outwards / slope, (cosine, sine))
        derivative += np.outer(around * math.sin(angle) / radius, (-sine, cosine))
        return ray, derivative

    def _angle(self, radius: float) -> tuple[float, float] | None:
        """The angle off the axis at a distance from the image's centre, and d radius / d angle."""
        low, high = 0.0, self._widest
        angle = min(radius, 0.5 * high)
        for _ in range(_MOST_STEPS):
            value, slope = self._distorted(angle)
            if abs(value - radius) < _PRECISION:
                return angle, slope
            low, high = (low, angle) if value > radius else (angle, high)
            angle = angle + (radius - value) / slope if slope > 0 else high
            if not low < angle < high:
                angle = 0.5 * (low + high)
        return None

    def _distorted(self, angle: float) -> tuple[float, float]:
        k1, k2, k3, k4 = self._d
        square = angle * angle
        value = 1 + square * (k1 + square * (k2 + square * (k3 + square * k4)))
        slope = 1 + square * (3 * k1 + square * (5 * k2 + square * (7 * k3 + square * 9 * k4)))
        return angle * value, slope


# Names of sensor_msgs/distortion_models.hpp and others in use, with the lengths that D may have.
_LENSES: dict[str, tuple[type[_Polynomial] | type[_Equidistant], tuple[int, ...]]] = {
    'plumb_bob': (_Polynomial, (4, 5)),
    'rational_polynomial': (_Polynomial, (8, 12, 14)),
    'thin_prism': (_Polynomial, (12, 14)),
    'equidistant': (_Equidistant, (4,)),
    'fisheye': (_Equidistant, (4,)),
}


def _lens(model: str, coefficients: tuple[float, ...]) -> _Lens:
    if not all(map(math.isfinite, coefficients)):
        raise CalibrationError(f'D has entries that are not finite: {_shown(coefficients)}')
    if model in ('', 'none') and not any(coefficients):
        return _NoLens()
    if model not in _LENSES:
        raise CalibrationError(
            f'distortion_model is {model[:60]!r}; known are {", ".join(_LENSES)}, and none where '
            'D is empty or zero'
        )
    kind, lengths = _LENSES[model]
    if not coefficients and kind is _Polynomial:
        return _NoLens()
    # Longer ones come with zeros behind.
    fitting = [n for n in lengths if n == len(coefficients)]
    fitting += [n for n in lengths if n < len(coefficients) and not any(coefficients[n:])]
    if not fitting:
        raise CalibrationError(
            f'D has {len(coefficients)} entries; {model} has {" or ".join(map(str, lengths))}'
        )
    return kind(coefficients[: fitting[0]])


def _unit_ray(x: float, y: float, slope: Matrix) -> tuple[Vector, Matrix]:
    """The unit vector of (x, y, 1), and its derivative where that of (x, y) is `slope`."""
    length = math.sqrt(x * x + y * y + 1)
    ray = np.array([x, y, 1.0]) / length
    return ray, ((np.eye(3) - np.outer(ray, ray)) / length)[:, :2] @ slope


def _tilt(tau_x: float, tau_y: float) -> Matrix:
    """(3, 3) what a sensor that is turned about x, then y, makes of the image."""
    about_x = np.array(
        [
            [1, 0, 0],
            [0, math.cos(tau_x), math.sin(tau_x)],
            [0, -math.sin(tau_x), math.cos(tau_x)],
        ]
    )
    about_y = np.array(
        [
            [math.cos(tau_y), 0, -math.sin(tau_y)],
            [0, 1, 0],
            [math.sin(tau_y), 0, math.cos(tau_y)],
        ]
    )
    turn = about_y @ about_x
    onto = np.array([[turn[2, 2], 0, -turn[0, 2]], [0, turn[2, 2], -turn[1, 2]], [0, 0, 1]])
    return onto @ turn


def _check_size(calibration: Calibration) -> None:
    if calibration.width < 1 or calibration.height < 1:
        raise CalibrationError(
            f'width and height are {calibration.width} x {calibration.height}; they must be '
            'those of the calibrated image'
        )


def _to_sensor(calibration: Calibration, width: int, height: int) -> tuple[Vector, Vector]:
    """Scale (2,) and offset (2,) that take places in the image to unbinned ones on the sensor."""
    region = calibration.region
    is_whole = not (region.width and region.height)
    covered = (
        np.array([calibration.width, calibration.height], float)
        if is_whole
        else np.array([region.width, region.height], float)
    )
    offset = np.zeros(2) if is_whole else np.array([region.x, region.y], float)
    scale = covered / (width, height)
    binned = np.array([max(1, steps) for steps in calibration.binning], float)
    # Rounded, as sides need not divide by the binning.
    if (np.abs(covered / binned - (width, height)) < 1).all():
        return binned, offset
    stretch = scale[0] / binned[0] / (scale[1] / binned[1])
    if not abs(stretch - 1) <= _MOST_STRETCH:
        raise CalibrationError(
            f'camera_info is for images of {covered[0] / binned[0]:g} x '
            f'{covered[1] / binned[1]:g} px, but they have {width} x {height}, which is not a '
            'resized copy of them; publish the camera_info that belongs to the images'
        )
    return scale, offset


def _entries(name: str, values: tuple[float, ...], length: int) -> tuple[float, ...]:
    if len(values) != length:
        raise CalibrationError(f'{name} has {len(values)} entries, it must have {length}')
    if not all(map(math.isfinite, values)):
        raise CalibrationError(f'{name} has entries that are not finite: {_shown(values)}')
    if not any(values):
        raise CalibrationError(
            f'{name} is zero: the camera is not calibrated; calibrate it (camera_calibration) '
            'and let its driver publish the result'
        )
    return values


def _rotation(values: tuple[float, ...]) -> Matrix:
    """R; zeros stand for no rotation, as cameras that are not one of a pair send them."""
    if not any(values):
        return np.eye(3)
    matrix = np.array(_entries('R', values, 9)).reshape(3, 3)
    if np.abs(matrix @ matrix.T - np.eye(3)).max() > 1e-3 or np.linalg.det(matrix) < 0:
        raise CalibrationError(f'R is no rotation: {_shown(values)}')
    return matrix


def _inverse(name: str, matrix: Matrix) -> Matrix:
    """(2, 3) from pixels to normalised image coordinates."""
    fx, fy = matrix[0, 0], matrix[1, 1]
    if not (fx > 0 and fy > 0):
        raise CalibrationError(f'{name} has the focal lengths {fx:g} and {fy:g}; both must be > 0')
    if matrix[1, 0] or np.abs(matrix[2] - (0, 0, 1)).max() > 1e-9:
        raise CalibrationError(
            f'{name} is no camera matrix: {_shown(matrix.ravel())}; it must be fx s cx, 0 fy cy, '
            '0 0 1'
        )
    return np.asarray(np.linalg.inv(matrix)[:2], np.float64)


def _shown(values: tuple[float, ...] | Vector) -> str:
    return ' '.join(f'{value:g}' for value in values)
