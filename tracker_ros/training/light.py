# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What light, lens, motion and transmission do to a crop. Nothing here moves anything.

Crops are (S, S, 3) uint8 BGR; each function returns a new one. The same state of `random` gives
the same crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tracker_ros.geometry import Image

_LEVELS = np.linspace(0, 1, 256)[:, None]
_NOISE_PX = 512
_NOISE = np.random.default_rng(0).standard_normal((_NOISE_PX, _NOISE_PX, 3)).astype(np.float32)


@dataclass(frozen=True)
class Weather:
    """How likely each change is, and how strong the light varies."""

    relight: float = 0.8
    strength: float = 1.0
    shade: float = 0.25
    dark: float = 0.06
    grey: float = 0.05
    blur: float = 0.15
    coarse: float = 0.18
    compress: float = 0.15
    noise: float = 0.2


def weathered(crop: Image, random: np.random.Generator, weather: Weather) -> Image:
    """A crop as another camera at another time of day could have given it."""
    if random.random() < weather.relight:
        crop = relit(crop, random, weather.strength)
    if random.random() < weather.shade:
        crop = shaded(crop, random)
    is_dark = random.random() < weather.dark
    if is_dark:
        crop = cv2.convertScaleAbs(crop, alpha=random.uniform(0.15, 0.5))
    if random.random() < weather.grey:
        crop = cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if random.random() < weather.blur:
        crop = blurred(crop, random)
    if random.random() < weather.coarse:
        crop = coarsened(crop, random)
    elif random.random() < weather.compress:
        crop = compressed(crop, int(random.integers(20, 75)))
    if is_dark or random.random() < weather.noise:
        crop = noisy(crop, random, random.uniform(1.0, 8.0))
    return crop


def relit(crop: Image, random: np.random.Generator, strength: float = 1.0) -> Image:
    """Other exposure, contrast and colour of light."""
    return cv2.LUT(crop, other_light(random, strength))


def other_light(random: np.random.Generator, strength: float = 1.0) -> Image:
    """What `relit` makes of each level: (256, 1, 3)."""
    gamma = np.exp(0.3 * strength * random.standard_normal())
    gain = np.exp(0.22 * strength * random.standard_normal())
    colour = np.exp(0.07 * strength * random.standard_normal(3))
    offset = 0.06 * strength * random.standard_normal()
    table = np.clip(_LEVELS**gamma * gain * colour + offset, 0, 1) * 255
    return table.astype(np.uint8)[:, None]


def shaded(crop: Image, random: np.random.Generator) -> Image:
    """Unequal light, or the edge of a shadow across the crop."""
    size = 8
    if random.random() < 0.5:
        field = np.exp(0.45 * random.standard_normal((3, 3)))
    else:
        angle, shift = random.uniform(0, 2 * np.pi), random.uniform(-0.3, 0.3)
        across = np.linspace(-0.5, 0.5, size)
        distance = across[:, None] * np.sin(angle) + across * np.cos(angle) - shift
        field = np.where(distance > 0, 1.0, random.uniform(0.3, 0.8))
    side = crop.shape[0]
    light = cv2.resize(field.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    return np.minimum(crop * light[..., None], 255).astype(np.uint8)


def blurred(crop: Image, random: np.random.Generator) -> Image:
    """Out of focus, or moved while the shutter was open."""
    if random.random() < 0.4:
        return cv2.GaussianBlur(crop, (0, 0), random.uniform(0.6, 2.0))
    return cv2.filter2D(crop, -1, streak(random))


def streak(random: np.random.Generator) -> np.ndarray:
    """The kernel of a straight motion."""
    length = int(random.integers(3, 10)) | 1
    kernel = np.zeros((length, length), np.float32)
    angle, half = random.uniform(0, np.pi), length / 2
    step = np.array([np.cos(angle), np.sin(angle)]) * half
    first, last = (np.rint((length - 1) / 2 + sign * step).astype(int) for sign in (-1, 1))
    cv2.line(kernel, first.tolist(), last.tolist(), 1.0)
    return kernel / kernel.sum()


def coarsened(crop: Image, random: np.random.Generator) -> Image:
    """As a target far away, of few pixels, enlarged."""
    side = crop.shape[0]
    small = max(8, round(side / random.uniform(1.5, 4.5)))
    crop = cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA)
    if random.random() < 0.5:
        crop = compressed(crop, int(random.integers(30, 85)))
    return cv2.resize(crop, (side, side), interpolation=cv2.INTER_LINEAR)


def compressed(crop: Image, quality: int) -> Image:
    _, content = cv2.imencode('.jpg', crop, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(content, cv2.IMREAD_COLOR)


def noisy(crop: Image, random: np.random.Generator, deviation: float) -> Image:
    """Grain of `deviation` grey levels."""
    side = crop.shape[0]
    y, x = random.integers(0, _NOISE_PX - side + 1, 2) if side < _NOISE_PX else (0, 0)
    grain = _NOISE[y : y + side, x : x + side]
    if grain.shape[0] < side:
        grain = cv2.resize(grain, (side, side))
    return cv2.addWeighted(crop.astype(np.float32), 1.0, grain, deviation, 0.0, dtype=cv2.CV_8U)
