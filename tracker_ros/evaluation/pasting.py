# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Things laid over footage: how far they cover, and the light they take on.

Positions are continuous pixels of the picture. Images are (H, W, 3) uint8 BGR.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image

Field = NDArray[np.floating[Any]]
Opacity = NDArray[np.float32]

_POWER = 6.0
_ROOM = 2 ** (1 / _POWER) / 0.94
"""Half sides of the rounded rectangle around a box that it covers with all its corners."""
_WAVES = 3
_SPRITE_PX = 96
"""A silhouette is looked for in a picture of at most this side: it costs the square of it."""


@dataclass(frozen=True)
class Shape:
    """Something with a soft, slightly wavy edge: a rounded patch, or a strip without ends.

    half_width, half_height: of what it surely covers, in pixels, from its centre. soft: width of
    its edge. across: 'x' or 'y' for a strip that is narrow that way, '' for a patch.
    waves: (3, 2) amplitude in parts of the half side, and phase.
    """

    half_width: float
    half_height: float
    soft: float
    across: str
    waves: NDArray[np.float64]

    @property
    def reach(self) -> tuple[float, float]:
        """Beyond these distances from its centre in x and y it shows nothing; inf for no end."""
        grown = 1 + float(np.abs(self.waves[:, 0]).sum())
        x, y = (
            side * _ROOM * grown + 2 * self.soft for side in (self.half_width, self.half_height)
        )
        return (math.inf if self.across == 'y' else x), (math.inf if self.across == 'x' else y)

    def opacity(self, x: Field, y: Field) -> Opacity:
        """How much it hides at places relative to its centre, in [0, 1]; x and y broadcast."""
        # The wave only adds, so that what is to be hidden is hidden.
        if self.across:
            along, over = (y, x) if self.across == 'x' else (x, y)
            half = self.half_width if self.across == 'x' else self.half_height
            wave = self._wave(along / max(4 * half, 40.0))
            inside = half * (1.04 + wave) + self.soft - np.abs(over)
        else:
            wide, high = self.half_width * _ROOM, self.half_height * _ROOM
            radius = ((x / wide) ** _POWER + (y / high) ** _POWER) ** (1 / _POWER)
            wave = self._wave(np.arctan2(y / high, x / wide) / (2 * np.pi))
            inside = (1 + wave - radius) * min(wide, high) + self.soft
        whole = np.broadcast_to(inside, np.broadcast_shapes(x.shape, y.shape))
        return np.asarray(np.clip(whole / self.soft, 0.0, 1.0), np.float32)

    def _wave(self, turns: Field) -> Field:
        total = np.zeros_like(turns)
        for number, (amplitude, phase) in enumerate(self.waves, 1):
            total += amplitude * (1 + np.sin(2 * np.pi * (number + 1) * turns + phase)) / 2
        return total


def wavy(rng: np.random.Generator) -> NDArray[np.float64]:
    """The waves of a shape's edge."""
    return np.stack([rng.uniform(0, 0.05, _WAVES), rng.uniform(0, 2 * np.pi, _WAVES)], axis=1)


def hidden_part(shape: Shape, centre: tuple[float, float], box: Box) -> float:
    """How much of `box` a shape around `centre` hides, in [0, 1]."""
    steps = (np.arange(16) + 0.5) / 16
    x = box.x + box.w * steps[None, :] - centre[0]
    y = box.y + box.h * steps[:, None] - centre[1]
    return float(shape.opacity(x, y).mean())


def occluder(shape: Shape, texture: Image, size: tuple[int, int]) -> Sprite:
    """The shape with a texture, which goes on as in a mirror where it ends.

    size: of the picture it is for; a strip is long enough to cross it wherever it lies.
    """
    half_w, half_h = (math.ceil(min(reach, 2 * max(size))) for reach in shape.reach)
    x, y = np.arange(-half_w, half_w), np.arange(-half_h, half_h)
    rows = _mirrored(y + texture.shape[0] // 2, texture.shape[0])
    columns = _mirrored(x + texture.shape[1] // 2, texture.shape[1])
    return Sprite(
        texture[rows[:, None], columns[None, :]],
        shape.opacity(x[None, :] + 0.5, y[:, None] + 0.5),
        Box(0.0, 0.0, 2.0 * half_w, 2.0 * half_h),
    )


def blend(part: Image, picture: Image, opacity: Opacity) -> None:
    """Mix `picture` into `part` of the same size, in place."""
    near, far = opacity, 1 - opacity
    part[...] = cv2.blendLinear(picture, part, np.ascontiguousarray(near), far)


def in_light_of(picture: Image, scene: Image, share: float = 0.75) -> Image:
    """The picture with its brightness and contrast taken towards those of the scene."""
    (mean, spread), (own_mean, own_spread) = (_light(each) for each in (scene, picture))
    gain = float(np.clip(spread / max(own_spread, 1.0), 0.5, 1.6)) ** share
    target = share * mean + (1 - share) * own_mean
    return np.asarray(
        np.clip((picture.astype(np.float32) - own_mean) * gain + target, 0, 255), np.uint8
    )


def background_of(image: Image, box: Box, rng: np.random.Generator) -> Image:
    """The largest part of the picture beside `box`; one of the two largest, as it happens."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (round(value) for value in grown(box, 1.3).corners())
    parts = [
        image[:, : max(0, x1)],
        image[:, min(width, max(0, x2)) :],
        image[: max(0, y1)],
        image[min(height, max(0, y2)) :],
    ]
    parts.sort(key=lambda part: -min(part.shape[:2]))
    best = [part for part in parts[:2] if min(part.shape[:2]) >= 0.1 * min(height, width)]
    return best[int(rng.integers(len(best)))] if best else image


def filled(image: Image, box: Box) -> Image:
    """A copy of the picture with what is beside the box in place of what is in it."""
    height, width = image.shape[:2]
    place = grown(box, 1.7)
    x1, y1, x2, y2 = (round(value) for value in place.corners())
    w, h = max(1, x2 - x1), max(1, y2 - y1)
    result = image.copy()
    # From the side that has the most room, in widths or heights of what is to be filled.
    room = {(w, 0): (width - x2) / w, (-w, 0): x1 / w, (0, h): (height - y2) / h, (0, -h): y1 / h}
    dx, dy = max(room, key=lambda shift: room[shift])
    left, right, top, bottom = max(0, x1), min(width, x2), max(0, y1), min(height, y2)
    if left >= right or top >= bottom:
        return result
    columns = _mirrored(np.arange(left, right) + dx, width)
    rows = _mirrored(np.arange(top, bottom) + dy, height)
    shape = Shape(box.w * 0.65, box.h * 0.65, 2 + 0.05 * max(box.w, box.h), '', np.zeros((3, 2)))
    x, y = np.arange(left, right) + 0.5 - box.cx, np.arange(top, bottom) + 0.5 - box.cy
    blend(
        result[top:bottom, left:right],
        image[rows[:, None], columns[None, :]],
        shape.opacity(x[None, :], y[:, None]),
    )
    return result


@dataclass(frozen=True, eq=False)
class Sprite:
    """Something cut out: (h, w, 3) pixels, (h, w) opacity; `box` is its own, in its pixels."""

    pixels: Image
    opacity: Opacity
    box: Box

    def lay(self, image: Image, cx: float, cy: float, strength: float = 1.0) -> Box:
        """Lay it over `image`, its box's centre at (cx, cy), to whole pixels; returns its box."""
        left, top = round(cx - self.box.cx), round(cy - self.box.cy)
        height, width = self.opacity.shape
        x1, y1 = max(0, left), max(0, top)
        x2, y2 = min(image.shape[1], left + width), min(image.shape[0], top + height)
        if x1 < x2 and y1 < y2:
            rows, columns = slice(y1 - top, y2 - top), slice(x1 - left, x2 - left)
            blend(
                image[y1:y2, x1:x2], self.pixels[rows, columns],
                strength * self.opacity[rows, columns],
            )  # fmt: skip
        return Box(self.box.x + left, self.box.y + top, self.box.w, self.box.h)


def cut_out(image: Image, box: Box, mirror: bool = False) -> Sprite:
    """What is in the box, without the ground around it as far as colours tell them apart."""
    x1, y1, x2, y2 = (round(value) for value in grown(box, 1.3, least=3.0).corners())
    padded = cv2.copyMakeBorder(
        image[max(0, y1) : max(0, y2), max(0, x1) : max(0, x2)],
        max(0, -y1), max(0, y2 - image.shape[0]), max(0, -x1), max(0, x2 - image.shape[1]),
        cv2.BORDER_REPLICATE,
    )  # fmt: skip
    inside = Box(box.x - x1, box.y - y1, box.w, box.h)
    opacity = _silhouette(padded, inside)
    if mirror:
        padded, opacity = padded[:, ::-1].copy(), opacity[:, ::-1].copy()
        inside = Box(padded.shape[1] - inside.x - inside.w, inside.y, inside.w, inside.h)
    return Sprite(padded, opacity, inside)


def grown(box: Box, factor: float, least: float = 0.0) -> Box:
    """The box with sides times `factor`, and at least `least` pixels more on each side."""
    return Box.from_center(
        box.cx,
        box.cy,
        max(box.w * factor, box.w + 2 * least),
        max(box.h * factor, box.h + 2 * least),
    )


def _silhouette(image: Image, box: Box) -> Opacity:
    height, width = image.shape[:2]
    scale = min(1.0, _SPRITE_PX / max(height, width))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    rows, columns = small.shape[:2]
    x1, y1, x2, y2 = (scale * value for value in box.corners())
    x1, y1 = max(1, round(x1)), max(1, round(y1))
    x2, y2 = min(columns - 1, round(x2)), min(rows - 1, round(y2))
    # Without anything sure the box's own rounded shape is the silhouette.
    whole = np.zeros((rows, columns), np.uint8)
    cv2.rectangle(whole, (x1, y1), (x2 - 1, y2 - 1), 255, cv2.FILLED)
    mask = whole
    if min(x2 - x1, y2 - y1) >= 8:
        labels = np.full((rows, columns), cv2.GC_BGD, np.uint8)
        labels[y1:y2, x1:x2] = cv2.GC_PR_FGD
        cv2.setRNGSeed(1)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(small, labels, (0, 0, 0, 0), *models, 4, cv2.GC_INIT_WITH_MASK)
        found = np.where((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD), 255, 0)
        share = (found > 0).sum() / max(1, (x2 - x1) * (y2 - y1))
        if share >= 0.3:
            mask = cv2.morphologyEx(
                found.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)
            )
    enlarged = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
    soft = cv2.GaussianBlur(enlarged, (0, 0), max(0.8, 0.02 * max(box.w, box.h)))
    return np.asarray(soft.astype(np.float32) / 255, np.float32)


def _mirrored(index: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    folded = np.mod(index, 2 * size)
    return np.where(folded < size, folded, 2 * size - 1 - folded)


def _light(image: Image) -> tuple[float, float]:
    mean, spread = cv2.meanStdDev(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    return float(mean[0, 0]), float(spread[0, 0])
