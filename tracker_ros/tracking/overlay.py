# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a person sees: the target's box, its state and score, drawn into an image."""

from __future__ import annotations

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
    colour = COLOURS[observation.state]
    unit = max(1.0, min(image.shape[:2]) / 480)
    words = [observation.state.name]
    if observation.state is not State.IDLE:
        words += [observation.target_id, f'{observation.score:.2f}']
    if note:
        words.append(note)
    _label(image, '  '.join(words), unit, colour)
    if observation.box is not None:
        draw_box(image, observation.box, colour, scale, unit)


def draw_box(
    image: Image, box: Box, colour: tuple[int, int, int], scale: float = 1.0, unit: float = 1.0
) -> None:
    """A box with a dark rim, so that it is seen on any ground."""
    x1, y1, x2, y2 = (round(corner * scale) for corner in box.corners())
    thickness = max(1, round(2 * unit))
    cv2.rectangle(image, (x1, y1), (x2, y2), _INK, thickness + 2, cv2.LINE_AA)
    cv2.rectangle(image, (x1, y1), (x2, y2), colour, thickness, cv2.LINE_AA)


def _label(image: Image, text: str, unit: float, colour: tuple[int, int, int]) -> None:
    size = 0.5 * unit
    thickness = max(1, round(unit))
    (width, height), base = cv2.getTextSize(text, _FONT, size, thickness)
    pad = round(6 * unit)
    bottom = height + base + 2 * pad
    cv2.rectangle(image, (0, 0), (width + 3 * pad, bottom), _INK, cv2.FILLED)
    cv2.rectangle(image, (0, 0), (max(2, pad // 2), bottom), colour, cv2.FILLED)
    cv2.putText(
        image, text, (2 * pad, height + pad), _FONT, size, (245, 245, 245), thickness, cv2.LINE_AA
    )
