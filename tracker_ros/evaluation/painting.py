# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the rendered scene is painted with: noise, premultiplied pictures, a canvas in metres.

Colours are BGR, 0 to 255. Pictures with transparency are (H, W, 4) uint8 BGRA with the colour
premultiplied by alpha, so that filtering them never bleeds colour in from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Field = NDArray[np.float32]
Points = NDArray[np.float64]  # (N, 2), metres or pixels
# A BGR colour, a grey level, or a function of x and y (metres, both (H, W)) that gives colours.
Colour = Sequence[float] | float | Callable[[Field, Field], Field]

# Sub-pixel bits of OpenCV's drawing functions.
_SHIFT = 4
# Rows painted at once.
_STRIP = 128


def bgr(blue: float, green: float, red: float) -> Field:
    return np.array([blue, green, red], np.float32)


def fractal_noise(rng: np.random.Generator, height: int, width: int, roughness: float) -> Field:
    """Noise (height, width) of zero mean and unit deviation that repeats without a seam.

    Its amplitude falls with frequency f as f ** -roughness: 0 is white, 1 to 2 looks like land.
    """
    fy = np.fft.fftfreq(height)[:, None] * height
    fx = np.fft.rfftfreq(width)[None, :] * width
    frequency = np.maximum(np.hypot(fy, fx), 1.0)
    phase = rng.uniform(0, 2 * np.pi, frequency.shape)
    spectrum = frequency**-roughness * np.exp(1j * phase)
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, s=(height, width))
    return np.asarray(noise / noise.std(), np.float32)


def over(target: Pixels, picture: Pixels) -> None:
    """Lay a premultiplied BGRA `picture` over the BGR `target` of the same size, in place."""
    through = cv2.cvtColor(cv2.bitwise_not(cv2.extractChannel(picture, 3)), cv2.COLOR_GRAY2BGR)
    colour = cv2.cvtColor(picture, cv2.COLOR_BGRA2BGR)
    cv2.add(cv2.multiply(target, through, scale=1 / 255), colour, target)


def over_alpha(target: Pixels, picture: Pixels) -> None:
    """Lay a premultiplied BGRA `picture` over a premultiplied BGRA `target`, in place."""
    through = cv2.merge([cv2.bitwise_not(cv2.extractChannel(picture, 3))] * 4)
    target[...] = cv2.add(cv2.multiply(target, through, scale=1 / 255), picture)


def premultiplied(colour: NDArray[np.float32], alpha: NDArray[np.float32]) -> Pixels:
    """BGRA picture from a colour (H, W, 3) in [0, 255] and an alpha (H, W) in [0, 1]."""
    stack = np.dstack([np.clip(colour, 0, 255) * alpha[..., None], 255 * alpha])
    return np.asarray(np.rint(stack), np.uint8)


def line_kernel(dx: float, dy: float) -> NDArray[np.float32] | None:
    """Filter kernel that smears along (dx, dy) pixels, or None where that is not visible."""
    length = float(np.hypot(dx, dy))
    if length < 0.5:
        return None
    half = int(np.ceil(length / 2)) + 1
    size = 2 * half + 1
    kernel = np.zeros((size, size), np.float32)
    for step in np.linspace(-0.5, 0.5, 4 * size):
        x, y = half + step * dx, half + step * dy
        left, top = int(x), int(y)
        fx, fy = x - left, y - top
        kernel[top, left] += (1 - fx) * (1 - fy)
        kernel[top, left + 1] += fx * (1 - fy)
        kernel[top + 1, left] += (1 - fx) * fy
        kernel[top + 1, left + 1] += fx * fy
    # Faint corners cost as much as any other tap and show nothing.
    kernel[kernel < 0.1 * kernel.max()] = 0
    return kernel / kernel.sum()


def ribbon(points: Points, width: float) -> Points:
    """Outline (2N, 2) of a line through `points` (N, 2) with the given full width."""
    along = np.gradient(points, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    normal = np.column_stack([-along[:, 1], along[:, 0]]) * width / 2
    return np.vstack([points + normal, (points - normal)[::-1]])


def rectangle(x: float, y: float, length: float, width: float, heading: float = 0.0) -> Points:
    """Corners (4, 2) of a rectangle centred on (x, y), `length` along `heading` (rad)."""
    c, s = np.cos(heading), np.sin(heading)
    half = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [length / 2, width / 2]
    return half @ np.array([[c, s], [-s, c]]) + [x, y]


class Canvas:
    """A picture of the world that repeats every `period` metres in x, painted in metres.

    The picture covers x in [0, width) and y in [-half_height, half_height), in metres, with
    `scale` texels a metre. It is wider than the period, so that every view fits into it;
    whatever is painted appears in all its repetitions.
    """

    def __init__(
        self, period: float, width: float, half_height: float, scale: float, channels: int
    ) -> None:
        self.period, self.scale, self.half_height = period, scale, half_height
        rows, columns = int(2 * half_height * scale), int(width * scale)
        shape = (rows, columns) if channels == 1 else (rows, columns, channels)
        self.pixels: Pixels = np.zeros(shape, np.uint8)
        self._shifts = range(-1, int(np.ceil(width / period)) + 1)

    def texels(self, points: Points) -> Points:
        """World coordinates (N, 2) in metres as continuous texel coordinates."""
        return (np.asarray(points, np.float64) + [0.0, self.half_height]) * self.scale

    def fill(
        self,
        outline: Points,
        colour: Colour,
        opacity: float = 1.0,
        feather: float = 0.0,
    ) -> None:
        """Fill a polygon (N, 2). `feather` is the softness of its edge in metres."""
        for shift in self._shifts:
            moved = self.texels(np.asarray(outline) + [shift * self.period, 0.0])
            window = self._window(moved, 2 + 2 * feather * self.scale)
            if window is None:
                continue
            left, top, right, bottom = window
            mask = np.zeros((bottom - top, right - left), np.uint8)
            fixed = np.rint((moved - 0.5 - [left, top]) * (1 << _SHIFT)).astype(np.int32)
            cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, _SHIFT)
            weight = mask.astype(np.float32) * (opacity / 255)
            if feather:
                weight = cv2.GaussianBlur(weight, (0, 0), feather * self.scale)
            self._blend(window, colour, weight, shift)

    def stamp(self, picture: Pixels, x: float, y: float) -> None:
        """Lay a premultiplied picture over a BGRA canvas, its centre at (x, y) metres."""
        for window, part in self._placed(picture, x, y):
            left, top, right, bottom = window
            over_alpha(self.pixels[top:bottom, left:right], part)

    def darken(self, mask: Pixels, x: float, y: float) -> None:
        """Raise a single-channel canvas to `mask` (H, W) where that is larger."""
        for window, part in self._placed(mask, x, y):
            left, top, right, bottom = window
            area = self.pixels[top:bottom, left:right]
            np.maximum(area, part, out=area)

    def _window(self, texels: Points, margin: float) -> tuple[int, int, int, int] | None:
        rows, columns = self.pixels.shape[:2]
        left, top = np.floor(texels.min(axis=0) - margin).astype(int)
        right, bottom = np.ceil(texels.max(axis=0) + margin).astype(int)
        left, top = max(0, left), max(0, top)
        right, bottom = min(columns, right), min(rows, bottom)
        return (left, top, right, bottom) if left < right and top < bottom else None

    def _blend(
        self,
        window: tuple[int, int, int, int],
        colour: Colour,
        weight: Field,
        shift: int,
    ) -> None:
        left, _, right, _ = window
        x = (np.arange(left, right, dtype=np.float32) + 0.5) / self.scale
        x -= np.float32(shift * self.period)
        # In strips: a function's intermediate pictures of a whole canvas would fill gigabytes.
        for top in range(window[1], window[3], _STRIP):
            bottom = min(top + _STRIP, window[3])
            area = self.pixels[top:bottom, left:right]
            if callable(colour):
                y = (np.arange(top, bottom, dtype=np.float32) + 0.5) / self.scale
                paint = colour(*np.meshgrid(x, y - np.float32(self.half_height)))
            else:
                paint = np.asarray(colour, np.float32)
            part = weight[top - window[1] : bottom - window[1]]
            mixed = area.astype(np.float32)
            mixed += (paint - mixed) * (part if area.ndim == 2 else part[..., None])
            area[...] = np.clip(np.rint(mixed), 0, 255)

    def _placed(
        self, picture: Pixels, x: float, y: float
    ) -> list[tuple[tuple[int, int, int, int], Pixels]]:
        """Where `picture` comes to lie, as (window, the part of the picture inside it)."""
        height, width = picture.shape[:2]
        rows, columns = self.pixels.shape[:2]
        placed = []
        for shift in self._shifts:
            centre = self.texels(np.array([[x + shift * self.period, y]]))[0]
            left, top = np.rint(centre - [width / 2, height / 2]).astype(int)
            x1, y1 = max(0, left), max(0, top)
            x2, y2 = min(columns, left + width), min(rows, top + height)
            if x1 < x2 and y1 < y2:
                part = picture[y1 - top : y2 - top, x1 - left : x2 - left]
                placed.append(((int(x1), int(y1), int(x2), int(y2)), part))
        return placed
