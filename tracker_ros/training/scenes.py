# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Putting crops together: a picture behind, subjects cut out and laid over it.

Points are x and y in continuous pixels, as boxes are: pixel 0 covers [0, 1). A placement is an
affine map (2, 3) from the points of a picture to those of the crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image
from tracker_ros.training.pictures import Points

Placement = NDArray[np.float64]
Laid = tuple[slice, slice, Image]
"""Where something came to lie in a crop: rows, columns and its opacity (h, w) there."""


@dataclass(frozen=True, slots=True)
class Window:
    """Where a crop lies relative to the target, as the STARK convention cuts it.

    factor: side of the window by the root of the box's area. shift: of the window's centre from
    that of the box, in roots of the area. context: that of the PySOT convention, 0.5; the root is
    then that of the box with its context, by what this makes of a square: `reach_of`.
    """

    factor: float
    shift: tuple[float, float] = (0.0, 0.0)
    context: float = 0.0


def placed(hull: Points, pose: NDArray[np.float64], window: Window, side: int) -> Placement:
    """How a picture is placed in a crop of `side` pixels, for the subject in `hull` in it.

    pose: (2, 2), how the subject is turned and stretched before the window is cut around it.
    """
    x1, y1, x2, y2 = extent(hull @ pose.T)
    root = np.sqrt((x2 - x1) * (y2 - y1))
    scale = side / (reach_of(x2 - x1, y2 - y1, window.context) * window.factor)
    centre = np.array([(x1 + x2) / 2, (y1 + y2) / 2]) + root * np.asarray(window.shift)
    return np.column_stack([scale * pose, side / 2 - scale * centre])


def reach_of(w: float, h: float, context: float) -> float:
    """The length that a window's side is a multiple of: the root of the box's area, if square.

    In the PySOT convention a long box has a larger window than a square one of its area.
    """
    margin = context * (w + h)
    return float(np.sqrt((w + margin) * (h + margin)) / (1 + 2 * context))


def moved(points: Points, placement: Placement) -> Points:
    return np.asarray(points @ placement[:, :2].T + placement[:, 2])


def extent(points: Points) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 around points."""
    x1, y1 = points.min(axis=0)
    x2, y2 = points.max(axis=0)
    return float(x1), float(y1), float(x2), float(y2)


def box_around(points: Points) -> Box:
    return Box.from_corners(*extent(points))


def view(
    picture: Image,
    placement: Placement,
    side: int,
    border: int = cv2.BORDER_CONSTANT,
    fill: tuple[int, ...] = (0, 0, 0, 0),
) -> Image:
    """The picture as it is placed in a crop of `side` pixels; outside `fill`, or as `border`."""
    return cv2.warpAffine(
        picture,
        _by_index(placement),
        (side, side),
        flags=cv2.INTER_LINEAR,
        borderMode=border,
        borderValue=fill,
    )


def lay(
    canvas: Image, cutout: Image, placement: Placement, light: Image | None = None
) -> Laid | None:
    """Lay a cutout (H, W, 4) over the canvas, in place.

    light: a table (256, 1, 3) that its colours go through. Returns rows, columns and opacity
    (h, w) of where it came to lie; None for beside the canvas.
    """
    height, width = cutout.shape[:2]
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64)
    x1, y1, x2, y2 = extent(moved(corners, placement))
    side = canvas.shape[0]
    left, top = max(0, int(np.floor(x1))), max(0, int(np.floor(y1)))
    right, bottom = min(side, int(np.ceil(x2))), min(side, int(np.ceil(y2)))
    if left >= right or top >= bottom:
        return None
    shifted = placement.copy()
    shifted[:, 2] -= (left, top)
    put = cv2.warpAffine(
        cutout,
        _by_index(shifted),
        (right - left, bottom - top),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(0, 0, 0, 0),
    )
    rows, columns = slice(top, bottom), slice(left, right)
    colours, opacity = np.ascontiguousarray(put[..., :3]), put[..., 3]
    if light is not None:
        colours = cv2.LUT(colours, light)
    below = canvas[rows, columns].astype(np.int16)
    weight = opacity[..., None].astype(np.int32)
    mixed = below + ((colours.astype(np.int16) - below) * weight + 127) // 255
    canvas[rows, columns] = mixed.astype(np.uint8)
    return rows, columns, opacity


def turned(angle: float, stretch: float = 0.0, shear: float = 0.0) -> NDArray[np.float64]:
    """A pose (2, 2): sheared, `stretch` wider than high in the logarithm, turned by `angle`."""
    cosine, sine = np.cos(angle), np.sin(angle)
    shape = np.array([[np.exp(stretch / 2), shear], [0.0, np.exp(-stretch / 2)]])
    return np.array([[cosine, -sine], [sine, cosine]]) @ shape


def _by_index(placement: Placement) -> Placement:
    """The same map for OpenCV, which puts the points of pixels at whole numbers."""
    half = np.array([0.5, 0.5])
    return np.column_stack([placement[:, :2], placement[:, 2] + placement[:, :2] @ half - half])
