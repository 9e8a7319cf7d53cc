# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a person sees: the target's box, its state and score, drawn into an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import cv2

from tracker_ros.geometry import Box, Image
from tracker_ros.tracking.life import State
from tracker_ros.tracking.session import Observation

# BGR; told apart by people who see no red and green as well.
COLOURS = {
    State.IDLE: (160, 160, 160),
    State.STARTING: (230, 190, 80),
    State.TRACKING: (120, 220, 60),
    State.UNCERTAIN: (40, 190, 250),
    State.LOST: (80, 80, 240),
}
_INK = (24, 24, 24)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw(image: Image, observation: Observation, note: str = '', scale: float = 1.0) -> None:
    """Draw `observation` into `image` (H, W, 3) uint8 BGR, in place.

    `scale` is the size of this image relative to the one that the box belongs to; `note` is
    added to the line at the top.
    """
    draw_all(image, [observation], note, scale)


def draw_all(
    image: Image, observations: Sequence[Observation], note: str = '', scale: float = 1.0
) -> None:
    """Draw several targets, with a line each at the top; see `draw`.

    A box is that of the target; a dashed one is where a lost target is thought to be.
    """
    unit = max(1.0, min(image.shape[:2]) / 480)
    are_many = len(observations) > 1
    for observation in observations:
        colour = COLOURS[observation.state]
        name = observation.target_id if are_many else ''
        if observation.box is not None:
            draw_box(image, observation.box, colour, scale, unit)
            _tag(image, name, observation.box, unit, colour, scale)
        elif observation.predicted is not None:
            _draw_dashed(image, observation.predicted.box, colour, scale, unit)
            _tag(image, name, observation.predicted.box, unit, colour, scale)
    top = 0
    for place, observation in enumerate(observations):
        words = [observation.state.name]
        if observation.state is not State.IDLE:
            words += [observation.target_id, f'{observation.confidence:.2f}']
        if note and not place:
            words.append(note)
        top += _label(image, '  '.join(words), unit, COLOURS[observation.state], top)


def draw_box(
    image: Image, box: Box, colour: tuple[int, int, int], scale: float = 1.0, unit: float = 1.0
) -> None:
    """A box with a dark rim, so that it is seen on any ground."""
    x1, y1, x2, y2 = (round(corner * scale) for corner in box.corners())
    thickness = max(1, round(2 * unit))
    cv2.rectangle(image, (x1, y1), (x2, y2), _INK, thickness + 2, cv2.LINE_AA)
    cv2.rectangle(image, (x1, y1), (x2, y2), colour, thickness, cv2.LINE_AA)


def _draw_dashed(
    image: Image, box: Box, colour: tuple[int, int, int], scale: float, unit: float
) -> None:
    x1, y1, x2, y2 = (corner * scale for corner in box.corners())
    dash = 6 * unit
    thickness = max(1, round(2 * unit))
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]
    for start, end in pairwise(corners):
        length = math.dist(start, end)
        # Of a box that is larger than the picture, dashes would be drawn for ever.
        count = min(max(1, round(length / (2 * dash))), 200)
        for number in range(count):
            first, last = (
                tuple(round(a + (b - a) * part / count) for a, b in zip(start, end, strict=True))
                for part in (number, number + 0.5)
            )
            cv2.line(image, first, last, _INK, thickness + 2, cv2.LINE_AA)
            cv2.line(image, first, last, colour, thickness, cv2.LINE_AA)


def _tag(
    image: Image, text: str, box: Box, unit: float, colour: tuple[int, int, int], scale: float
) -> None:
    """A name above the upper left corner of a box."""
    if not text:
        return
    place = round(box.x * scale), max(round(10 * unit), round(box.y * scale - 4 * unit))
    thickness = max(1, round(unit))
    cv2.putText(image, text, place, _FONT, 0.4 * unit, _INK, thickness + 2, cv2.LINE_AA)
    cv2.putText(image, text, place, _FONT, 0.4 * unit, colour, thickness, cv2.LINE_AA)


def _label(
    image: Image, text: str, unit: float, colour: tuple[int, int, int], top: int = 0
) -> int:
    """A line on a ground of its own, `top` pixels from above; returns its height."""
    size = 0.5 * unit
    thickness = max(1, round(unit))
    (width, height), base = cv2.getTextSize(text, _FONT, size, thickness)
    pad = round(6 * unit)
    bottom = top + height + base + 2 * pad
    cv2.rectangle(image, (0, top), (width + 3 * pad, bottom), _INK, cv2.FILLED)
    cv2.rectangle(image, (0, top), (max(2, pad // 2), bottom), colour, cv2.FILLED)
    place = (2 * pad, top + height + pad)
    cv2.putText(image, text, place, _FONT, size, (245, 245, 245), thickness, cv2.LINE_AA)
    return bottom - top
