# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How the camera has moved from one image to the next, seen in what lies around the targets."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# The longer side of the grey copy in which points are followed.
_COPY_PX = 320
_MOST_POINTS = 100
# Points are kept apart, so that one thing with much texture does not speak for the scene.
_POINT_DISTANCE_PX = 8
_POINT_QUALITY = 0.002
_WINDOW_PX = 15
_LEVELS = 3
# A point followed there and back must end this near to where it began.
_RETURN_PX = 0.5
# How far from the common motion a point may be, in the copy, and still agree with it.
_AGREEMENT_PX = 1.0
_FEWEST_POINTS = 10
_SMALLEST_SHARE = 0.4
# What no camera does between two frames is a mistake: turning, and changing size.
_MOST_TURN = 0.35
_MOST_ZOOM = 1.3
# A target's box is left out with some of what is around it.
_EXCLUDED_MARGIN = 0.1


class CameraMotion:
    """Compares each image with the one before it.

    Corners are followed by optical flow in a small grey copy, and RANSAC finds the shift, turn
    and scale that most of them share.
    """

    def __init__(self) -> None:
        self._before: Image | None = None

    def reset(self) -> None:
        """Forget the last image, as after a gap."""
        self._before = None

    def between(self, image: Image, exclude: Sequence[Box] = ()) -> Matrix | None:
        """The (2, 3) matrix that takes places of the last image to this one, in pixels.

        `image` is (H, W, 3) BGR or (H, W) uint8. `exclude` are boxes, in the last image, of
        things that move by themselves. None for the first image, for one of another size, and
        where too few points agree on one motion.
        """
        height, width = image.shape[:2]
        grey = _grey_copy(image)
        before, self._before = self._before, grey
        if before is None or before.shape != grey.shape:
            return None
        scale = np.array([grey.shape[1] / width, grey.shape[0] / height])
        points = _corners(before, [_scaled(box, scale) for box in exclude if box.is_finite()])
        matrix = None if points is None else _common_motion(before, grey, points)
        return None if matrix is None else _in_image(matrix, scale)


def _grey_copy(image: Image) -> Image:
    height, width = image.shape[:2]
    scale = min(1.0, _COPY_PX / max(height, width))
    if scale < 1.0:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    # A copy in any case: the caller may use its image again.
    return image.copy() if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)


def _scaled(box: Box, scale: Vector) -> Box:
    return Box(box.x * scale[0], box.y * scale[1], box.w * scale[0], box.h * scale[1])


def _in_image(matrix: Matrix, scale: Vector) -> Matrix:
    """The motion between two copies as that between the images."""
    # Pixel (0, 0) covers [0, 1): its centre is at 0.5 in boxes, but at 0 in OpenCV's points.
    shift = matrix[:, 2] + 0.5 - matrix[:, :2] @ (0.5, 0.5)
    turn = matrix[:, :2] * scale[None, :] / scale[:, None]
    return np.column_stack([turn, shift / scale])


def _corners(grey: Image, exclude: list[Box]) -> NDArray[np.float32] | None:
    """(n, 1, 2) places worth following, outside of the excluded boxes."""
    mask = np.full(grey.shape, 255, np.uint8)
    height, width = grey.shape
    for box in exclude:
        margin_x, margin_y = _EXCLUDED_MARGIN * box.w, _EXCLUDED_MARGIN * box.h
        x1, y1, x2, y2 = box.corners()
        left, right = np.clip([x1 - margin_x, x2 + margin_x], 0, width).round().astype(int)
        top, bottom = np.clip([y1 - margin_y, y2 + margin_y], 0, height).round().astype(int)
        mask[top:bottom, left:right] = 0
    return cv2.goodFeaturesToTrack(
        grey, _MOST_POINTS, _POINT_QUALITY, _POINT_DISTANCE_PX, mask=mask
    )


def _common_motion(before: Image, after: Image, points: NDArray[np.float32]) -> Matrix | None:
    """What most points have done between two copies, or None where they do not agree."""
    options = {'winSize': (_WINDOW_PX, _WINDOW_PX), 'maxLevel': _LEVELS}
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, **options)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, **options)
    returned = np.linalg.norm(back - points, axis=2) < _RETURN_PX
    followed = ((found == 1) & (found_back == 1) & returned).ravel()
    if followed.sum() < _FEWEST_POINTS:
        return None
    matrix, agreed = cv2.estimateAffinePartial2D(
        points[followed], there[followed], method=cv2.RANSAC, ransacReprojThreshold=_AGREEMENT_PX
    )
    if matrix is None or agreed.sum() < max(_FEWEST_POINTS, _SMALLEST_SHARE * followed.sum()):
        return None
    zoom = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    turn = float(np.arctan2(matrix[1, 0], matrix[0, 0]))
    if not 1 / _MOST_ZOOM < zoom < _MOST_ZOOM or abs(turn) > _MOST_TURN:
        return None
    return matrix
