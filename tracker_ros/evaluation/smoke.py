# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The smoke of a bonfire beside the road: the wind carries it across, and it hides what it meets.

Where the smoke hangs stays the same; its billows move with the wind.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.evaluation.painting import Pixels, bgr, fractal_noise

FIRE = np.array([66.0, 5.4])  # metres
# The plume lies slanted over the road; the billows go along it, as fast as the cars, so that
# what hides a car also stays with it.
PLUME_HEADING = -0.55
WIND = np.array([10.6, -1.9])  # metres a second
HEIGHT_M = 5.0
# Leaves about a sixteenth of a car's contrast where the plume is densest.
THICKNESS = 2.4

# The picture is soft: it is drawn this much smaller than the image.
_COARSE = 4
_SIDE = 256
_BILLOW_M = 20.0  # after this many metres the pattern repeats


class Smoke:
    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 3])
        noise = fractal_noise(rng, _SIDE, _SIDE, 2.0)
        # One row and column more, so that bilinear look-ups wrap around.
        self._billows = np.pad(noise, ((0, 1), (0, 1)), mode='wrap')
        self._along = np.array([np.cos(PLUME_HEADING), np.sin(PLUME_HEADING)])

    def draw(
        self, to_metres: NDArray[np.float64], width: int, height: int, time_s: float
    ) -> Pixels | None:
        """Premultiplied BGRA (height, width, 4) as seen at `time_s`; None where none is seen.

        to_metres: (2, 3), continuous pixels to metres relative to the nearest fire.
        """
        columns, rows = -(-width // _COARSE), -(-height // _COARSE)
        u = ((np.arange(columns) + 0.5) * _COARSE).astype(np.float32)
        v = ((np.arange(rows) + 0.5) * _COARSE).astype(np.float32)
        u, v = np.meshgrid(u, v)
        x, y = (
            np.float32(line[0]) * u + np.float32(line[1]) * v + np.float32(line[2])
            for line in to_metres
        )
        thickness = self._thickness(x, y, time_s)
        if float(thickness.max()) <= 0.02:
            return None
        alpha = 1 - np.exp(-(np.maximum(thickness, 0) ** 2))
        light = self._light(x, y, time_s)
        colour = bgr(206, 207, 208) * light[..., None]
        small = np.dstack([np.clip(colour, 0, 255) * alpha[..., None], 255 * alpha])
        # Coarse samples lie at the middles of their blocks, as resize takes them.
        large = cv2.resize(
            small, (columns * _COARSE, rows * _COARSE), interpolation=cv2.INTER_LINEAR
        )
        return np.asarray(np.rint(large[:height, :width]), np.uint8)

    def _thickness(
        self, x: NDArray[np.float32], y: NDArray[np.float32], time_s: float
    ) -> NDArray[np.float32]:
        """How much smoke there is over a place, in metres relative to the fire."""
        cx, cy = (np.float32(value) for value in self._along)
        along, across = cx * x + cy * y, cx * y - cy * x
        beyond = np.maximum(along, np.float32(0))
        # A plume widens with the distance, and thins out far away.
        half_width = 0.8 + 2.4 * (1 - np.exp(-beyond / 7.0)) + 0.08 * beyond
        dense = THICKNESS * np.clip((along + 0.7) / 2.0, 0, 1) * np.exp(-((beyond / 24.0) ** 3))
        swing = 0.7 * self._look(x * 0.4, y * 0.4, 0.4 * time_s) * np.clip(beyond / 10, 0, 1)
        shape = np.exp(-((np.abs(across - swing) / half_width) ** 2))
        billows = 1 + 0.2 * self._look(x, y, time_s)
        return np.asarray(dense * shape * billows - 0.12, np.float32)

    def _light(
        self, x: NDArray[np.float32], y: NDArray[np.float32], time_s: float
    ) -> NDArray[np.float32]:
        """Billows are bright on the side of the sun."""
        step = np.float32(0.5)
        slope = self._look(x, y, time_s) - self._look(x - step, y - step, time_s)
        return np.asarray(0.97 + 0.2 * slope + 0.03 * self._look(x, y, time_s), np.float32)

    def _look(
        self, x: NDArray[np.float32], y: NDArray[np.float32], time_s: float
    ) -> NDArray[np.float32]:
        scale = _SIDE / _BILLOW_M
        column = ((x - WIND[0] * time_s) * scale) % _SIDE
        row = ((y - WIND[1] * time_s) * scale) % _SIDE
        return cv2.remap(
            self._billows, column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR
        )
