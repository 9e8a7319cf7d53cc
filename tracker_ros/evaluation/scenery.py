# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The land the rendered scene flies over: ground, road, buildings, trees, a bridge, and shade.

World frame: metres, x along the road, y to its right, z up; the land repeats every PERIOD_M in
x. Everything that does not move is painted once. What stands up is a stack of sheets at fixed
heights, or faces in space, so that it leans outward in the picture as real relief does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracker_ros.evaluation import smoke
from tracker_ros.evaluation.painting import (
    Canvas,
    Colour,
    Field,
    Pixels,
    Points,
    bgr,
    fractal_noise,
    premultiplied,
    rectangle,
    ribbon,
)

PERIOD_M = 128.0
HALF_HEIGHT_M = 46.0
ROAD_HALF_WIDTH_M = 4.1
LANE_M = 1.8  # the middle of a lane, from the middle of the road

# A shadow falls this far, in metres of x and y, for each metre of height.
SUN_SHIFT = np.array([0.95, 0.80])
# What is left of blue, green and red in full shade.
SHADE_COLOUR = np.array([0.55, 0.49, 0.45])

# The heights at which trees and the bridge's deck are drawn.
SHEET_HEIGHTS_M = (1.6, 3.6, 5.6)
BRIDGE_X_M, BRIDGE_WIDTH_M, BRIDGE_HEADING = 123.0, 9.4, np.pi / 2 - 0.12
BRIDGE_HEIGHT_M = SHEET_HEIGHTS_M[-1]
_BRIDGE_ALONG = np.array([np.cos(BRIDGE_HEADING), np.sin(BRIDGE_HEADING)])
_BRIDGE_ASIDE = np.array([-_BRIDGE_ALONG[1], _BRIDGE_ALONG[0]])


def road_y(x: ArrayLike) -> NDArray[np.float64]:
    """Y of the middle of the road, in metres."""
    turn = 2 * np.pi / PERIOD_M
    x = np.asarray(x)
    return np.asarray(3.8 * np.sin(turn * x + 0.4) + 1.3 * np.sin(2 * turn * x + 2.0))


def road_slope(x: ArrayLike) -> NDArray[np.float64]:
    turn = 2 * np.pi / PERIOD_M
    x = np.asarray(x)
    return np.asarray(turn * (3.8 * np.cos(turn * x + 0.4) + 2.6 * np.cos(2 * turn * x + 2.0)))


class Road:
    """Positions along the road by arc length."""

    def __init__(self) -> None:
        self._x = np.linspace(0, PERIOD_M, 4097)
        step = np.diff(self._x) * np.sqrt(1 + road_slope(self._x[:-1]) ** 2)
        self._s = np.concatenate([[0.0], np.cumsum(step)])
        self.length_m = float(self._s[-1])

    def distance(self, x: float) -> float:
        """Arc length from x = 0 to x, in metres."""
        turns, rest = divmod(x, PERIOD_M)
        return turns * self.length_m + float(np.interp(rest, self._x, self._s))

    def place(self, s: float, aside: float) -> tuple[float, float, float]:
        """x, y and heading (rad) `s` metres along, `aside` metres to the right of the middle."""
        turns, rest = divmod(s, self.length_m)
        x = np.interp(rest, self._s, self._x) + turns * PERIOD_M
        heading = float(np.arctan(road_slope(x)))
        return (
            float(x - aside * np.sin(heading)),
            float(road_y(x) + aside * np.cos(heading)),
            heading,
        )


@dataclass(frozen=True, slots=True)
class Face:
    """A flat piece of a building: four corners in space and the picture between them."""

    corners: NDArray[np.float64]  # (4, 3) metres, clockwise from the picture's top left
    picture: Pixels  # premultiplied BGRA


@dataclass(frozen=True, slots=True)
class Sheet:
    """Everything at one height."""

    height_m: float
    canvas: Canvas  # premultiplied BGRA
    occupied: NDArray[np.bool_]  # per cell of CELL x CELL texels


CELL = 16


@dataclass(frozen=True, slots=True)
class Scenery:
    ground: Canvas  # BGR, shade included
    shade: Canvas  # 1 channel, 255: full shade
    sheets: tuple[Sheet, ...]
    low_faces: tuple[Face, ...]  # below the upper sheets
    high_faces: tuple[Face, ...]  # above everything
    parked: tuple[tuple[float, float, float], ...]  # x, y, heading of places for cars


def build(seed: int, scale: float, view_m: float) -> Scenery:
    """Paint the land with `scale` texels a metre, for views up to `view_m` metres wide."""
    return _Painter(seed, scale, view_m).paint()


class _Painter:
    def __init__(self, seed: int, scale: float, view_m: float) -> None:
        self.rng = np.random.default_rng(seed)
        # The fine grain must repeat with the land: half a period is a whole number of texels.
        self.grain_side = round(PERIOD_M * scale / 2)
        self.scale = 2 * self.grain_side / PERIOD_M
        width = PERIOD_M + view_m
        self.ground, self.shade = (
            Canvas(PERIOD_M, width, HALF_HEIGHT_M, self.scale, n) for n in (3, 1)
        )
        self.layers = [
            Canvas(PERIOD_M, width, HALF_HEIGHT_M, self.scale, 4) for _ in SHEET_HEIGHTS_M
        ]
        self.low_faces: list[Face] = []
        self.high_faces: list[Face] = []
        self.grain = fractal_noise(self.rng, self.grain_side, self.grain_side, 0.75)
        self.cloud = fractal_noise(self.rng, 256, int(2 * PERIOD_M), 1.6)
        self.trees = [self._tree(radius) for radius in (1.3, 1.7, 2.1, 2.5, 2.9, 3.2)]
        self.bushes = [self._bush(radius) for radius in (0.6, 0.8, 1.0)]

    def paint(self) -> Scenery:
        self._land()
        self._tracks()
        self._yards()
        self._road()
        self._bonfire()
        self._bridge_ground()
        for index, house in enumerate(_HOUSES):
            self._house(index, *house)
        self._tower()
        self._vegetation()
        self._bridge_deck()
        self._apply_shade()
        sheets = tuple(
            Sheet(height, canvas, _occupied(canvas.pixels))
            for height, canvas in zip(SHEET_HEIGHTS_M, self.layers, strict=True)
        )
        faces = tuple(self.low_faces), tuple(self.high_faces)
        return Scenery(self.ground, self.shade, sheets, *faces, _PARKED)

    # --- noise ----------------------------------------------------------------

    def fine(self, x: Field, y: Field, zoom: float = 1.0) -> Field:
        """Grain at (x, y) metres, deviation 1; `zoom` is a whole number of times finer."""
        column = np.floor(x * np.float32(self.scale * zoom)).astype(np.int32) % self.grain_side
        row = np.floor((y + 100) * np.float32(self.scale * zoom)).astype(np.int32)
        return self.grain[row % self.grain_side, column]

    def coarse(self, x: Field, y: Field) -> Field:
        """Patches tens of metres wide at (x, y) metres, deviation 1."""
        column = (x * 2) % np.float32(2 * PERIOD_M)
        row = np.clip((y + HALF_HEIGHT_M) * 2, 0, 254)
        wrapped = np.hstack([self.cloud, self.cloud[:, :1]])
        return cv2.remap(wrapped, column, row.astype(np.float32), cv2.INTER_LINEAR)

    # --- fields ---------------------------------------------------------------

    def _land(self) -> None:
        everything = np.array([[-1, -60], [PERIOD_M + 1, -60], [PERIOD_M + 1, 60], [-1, 60]])
        self.ground.fill(everything, self._meadow)
        for outline, kind, angle in _PARCELS:
            paint = {
                'wheat': self._wheat,
                'green': self._green,
                'soil': self._soil,
                'mown': self._mown,
            }[kind]
            self.ground.fill(np.array(outline), paint(angle), feather=0.25)

    def _meadow(self, x: Field, y: Field) -> Field:
        patch, grain = self.coarse(x, y), self.fine(x, y)
        dry = np.clip(0.35 + 0.28 * patch + 0.12 * grain, 0, 1)[..., None]
        colour = bgr(52, 104, 88) * (1 - dry) + bgr(84, 142, 140) * dry
        return np.asarray(colour * (1 + 0.13 * grain)[..., None], np.float32)

    def _rows(self, x: Field, y: Field, angle: float, pitch: float) -> Field:
        """Rows of plants, -1 between and 1 on them, a little unsteady."""
        across = -x * np.sin(angle) + y * np.cos(angle) + 0.10 * self.coarse(x, y)
        return np.sin(across * np.float32(2 * np.pi / pitch))

    def _tramlines(self, x: Field, y: Field, angle: float) -> Field:
        """Wheel tracks of the farm machines, 1 on them."""
        across = -x * np.sin(angle) + y * np.cos(angle) + 0.10 * self.coarse(x, y)
        offset = np.abs((across % 12.0) - 6.0)
        return np.exp(-(((offset - 0.9) / 0.22) ** 2)).astype(np.float32)

    def _wheat(self, angle: float) -> Callable[[Field, Field], Field]:
        def paint(x: Field, y: Field) -> Field:
            grain = self.fine(x, y)
            light = 1 + 0.06 * self._rows(x, y, angle, 0.62) + 0.09 * grain
            light += 0.07 * self.coarse(x, y)
            colour = bgr(98, 168, 198) * light[..., None]
            track = 0.65 * self._tramlines(x, y, angle)[..., None]
            return np.asarray(colour * (1 - track) + bgr(70, 108, 128) * track)

        return paint

    def _green(self, angle: float) -> Callable[[Field, Field], Field]:
        def paint(x: Field, y: Field) -> Field:
            grain = self.fine(x, y)
            leaf = np.clip(0.62 + 0.33 * self._rows(x, y, angle, 0.9) + 0.22 * grain, 0, 1)
            leaf *= 1 - 0.8 * self._tramlines(x, y, angle)
            leaf = (leaf * (1 + 0.08 * self.coarse(x, y)))[..., None]
            soil = bgr(58, 84, 102) * (1 + 0.12 * grain)[..., None]
            return np.asarray(soil * (1 - leaf) + bgr(56, 140, 82) * leaf, np.float32)

        return paint

    def _soil(self, angle: float) -> Callable[[Field, Field], Field]:
        def paint(x: Field, y: Field) -> Field:
            light = 1 + 0.13 * self._rows(x, y, angle, 0.75) + 0.16 * self.fine(x, y)
            light += 0.10 * self.coarse(x, y)
            return np.asarray(bgr(74, 98, 124) * light[..., None], np.float32)

        return paint

    def _mown(self, angle: float) -> Callable[[Field, Field], Field]:
        def paint(x: Field, y: Field) -> Field:
            grain = self.fine(x, y)
            light = 1 + 0.07 * np.tanh(4 * self._rows(x, y, angle, 5.0)) + 0.09 * grain
            light += 0.06 * self.coarse(x, y)
            return np.asarray(bgr(62, 134, 98) * light[..., None], np.float32)

        return paint

    # --- tracks, yards, road --------------------------------------------------

    def _tracks(self) -> None:
        for points, width in _TRACKS:
            path = _smooth(np.array(points))
            self.ground.fill(ribbon(path, width), self._gravel, 0.85, feather=0.25)
            self.ground.fill(ribbon(path, 0.5), (76, 124, 104), 0.6, feather=0.2)

    def _gravel(self, x: Field, y: Field) -> Field:
        light = 1 + 0.13 * self.fine(x, y) + 0.05 * self.coarse(x, y)
        return np.asarray(bgr(128, 152, 166) * light[..., None], np.float32)

    def _asphalt(self, level: float) -> Callable[[Field, Field], Field]:
        def paint(x: Field, y: Field) -> Field:
            light = 1 + 0.05 * self.fine(x, y) + 0.035 * self.coarse(x, y)
            return np.asarray(bgr(1.02, 1.0, 0.98) * (level * light)[..., None], np.float32)

        return paint

    def _paving(self, x: Field, y: Field) -> Field:
        joint = np.minimum(np.abs((x % 0.8) - 0.4), np.abs((y % 0.8) - 0.4))
        light = (1 + 0.06 * self.fine(x, y)) * (1 - 0.14 * (joint < 0.05))
        return np.asarray(bgr(150, 160, 166) * light[..., None], np.float32)

    def _yards(self) -> None:
        for outline in _DRIVEWAYS:
            self.ground.fill(np.array(outline), self._paving, feather=0.04)
        # The tower's forecourt and the lay-by, both of asphalt, with marked places.
        self.ground.fill(_along(33.5, 53.0, -21.0, -3.6), self._asphalt(112), feather=0.05)
        self.ground.fill(_LAY_BY, self._asphalt(100), feather=0.05)
        self.ground.fill(ribbon(_LAY_BY, 0.22), (170, 176, 178), 0.85)
        for x, y, heading in _PARKED[:-2]:
            for side in (-1.35, 1.35):
                line_x, line_y = x - side * np.sin(heading), y + side * np.cos(heading)
                line = rectangle(line_x, line_y, 5.0, 0.12, heading)
                self.ground.fill(line, (225, 228, 228), 0.8)

    def _road(self) -> None:
        wide = ROAD_HALF_WIDTH_M
        self.ground.fill(_band(-wide - 0.9, wide + 0.9), self._gravel, 0.9, feather=0.22)
        self.ground.fill(_band(-wide, wide), self._worn_asphalt, feather=0.03)
        for start, end, near, far in (
            (14, 23, 0.6, 3.2),
            (52, 57, -3.1, -0.2),
            (92, 99, 0.1, 3.1),
        ):
            patch = _along(start, end, near, far)
            self.ground.fill(patch, self._asphalt(82), 0.8, feather=0.04)
        for _ in range(11):
            self._crack()
        white = (222, 226, 226)
        for side in (-1, 1):
            edge = side * (wide - 0.35)
            self.ground.fill(_band(edge - 0.075, edge + 0.075), white, 0.82)
        for x in np.arange(0, PERIOD_M, 8.0):
            self.ground.fill(_along(x, x + 3.6, -0.075, 0.075), white, 0.88)
        for x in (22.0, 58.0, 104.0):
            self._arrow(x, white)

    def _worn_asphalt(self, x: Field, y: Field) -> Field:
        aside = (y - road_y(x)) * np.cos(np.arctan(road_slope(x)))
        colour = self._asphalt(116)(x, y)
        wheels = np.zeros_like(x)
        for lane in (-LANE_M, LANE_M):
            for wheel in (-0.78, 0.78):
                wheels += np.exp(-(((aside - lane - wheel) / 0.26) ** 2)).astype(np.float32)
        oil = sum(np.exp(-(((aside - lane) / 0.3) ** 2)) for lane in (-LANE_M, LANE_M))
        light = 1 + 0.055 * wheels - 0.045 * oil
        return np.asarray(colour * light[..., None], np.float32)

    def _crack(self) -> None:
        x, aside = self.rng.uniform(0, PERIOD_M), self.rng.uniform(-3.5, 3.5)
        steps = self.rng.normal(0, 0.35, (9, 2)) + [0.55, 0]
        line = np.cumsum(steps, axis=0)
        if self.rng.random() < 0.4:
            line = line[:, ::-1]
        xs = x + line[:, 0]
        path = np.column_stack([xs, road_y(xs) + np.clip(aside + line[:, 1], -3.9, 3.9)])
        self.ground.fill(ribbon(path, 0.04), (70, 70, 70), 0.55)

    def _arrow(self, x: float, colour: tuple[int, int, int]) -> None:
        """A straight-ahead arrow in the right lane."""
        shape = np.array(
            [[0, -0.08], [2.2, -0.08], [2.2, -0.32], [3.4, 0], [2.2, 0.32], [2.2, 0.08], [0, 0.08]]
        )
        middle = float(road_y(x))
        slope = float(road_slope(x))
        c, s = np.cos(np.arctan(slope)), np.sin(np.arctan(slope))
        turned = (shape + [0, LANE_M]) @ np.array([[c, s], [-s, c]]) + [x, middle]
        self.ground.fill(turned, colour, 0.8)

    # --- the bridge -----------------------------------------------------------

    def _bonfire(self) -> None:
        x, y = smoke.FIRE
        self.ground.fill(_round(x, y, 1.7), (62, 68, 70), 0.8, feather=0.3)
        self.ground.fill(_round(x, y, 0.9), (40, 40, 42), 0.9, feather=0.15)
        for _ in range(26):
            angle, reach = self.rng.uniform(0, 2 * np.pi), self.rng.uniform(0.05, 0.75)
            place = x + reach * np.cos(angle), y + reach * np.sin(angle)
            colour = ((40, 110, 250), (90, 190, 255), (30, 60, 200))[int(self.rng.integers(3))]
            self.ground.fill(_round(*place, 0.11), colour, 0.95)

    def _bridge_axis(self) -> Points:
        middle = np.array([BRIDGE_X_M, float(road_y(BRIDGE_X_M))])
        return middle + np.linspace(-60, 60, 61)[:, None] * _BRIDGE_ALONG

    def _bridge_ground(self) -> None:
        """Worn earth under the deck, and the deck's shadow."""
        axis = self._bridge_axis()
        far = np.abs(axis[:, 1] - axis[30, 1]) > 8
        for part in (axis[:30][far[:30]], axis[31:][far[31:]]):
            self.ground.fill(ribbon(part, BRIDGE_WIDTH_M), (92, 112, 122), 0.7, feather=0.7)
        self.shade.fill(
            ribbon(axis + SUN_SHIFT * BRIDGE_HEIGHT_M, BRIDGE_WIDTH_M + 0.4),
            255,
            0.97,
            feather=0.16,
        )

    def _bridge_deck(self) -> None:
        deck = self.layers[-1]
        axis = self._bridge_axis()

        def strip(left: float, right: float, colour: Colour, opacity: float = 1.0) -> None:
            middle = axis + _BRIDGE_ASIDE * (left + right) / 2
            deck.fill(ribbon(middle, right - left), _opaque(colour), opacity)

        def bar(along: float, length: float, width: float, colour: Colour) -> None:
            x, y = axis[30] + along * _BRIDGE_ALONG
            deck.fill(rectangle(x, y, length, width, BRIDGE_HEADING), _opaque(colour))

        half = BRIDGE_WIDTH_M / 2
        strip(-half, half, (150, 158, 162))
        strip(-half + 1.25, half - 1.25, self._asphalt(96))
        strip(-half, -half + 0.3, (188, 196, 200))
        strip(half - 0.3, half, (188, 196, 200))
        for edge in (-half + 1.5, half - 1.5):
            strip(edge - 0.06, edge + 0.06, (222, 226, 226), 0.85)
        for along in np.arange(-60, 60, 6.0):
            bar(along + 1.2, 2.4, 0.13, (208, 212, 212))
        for along in (-11.0, 11.0):
            bar(along, 0.10, BRIDGE_WIDTH_M, (84, 86, 88))
        self.low_faces += self._bridge_sides(axis)

    def _bridge_sides(self, axis: Points) -> list[Face]:
        faces = []
        for side in (-1, 1):
            # In pieces, so that each stays near the picture; the sun is on one side.
            edge = axis[::6] + side * _BRIDGE_ASIDE * BRIDGE_WIDTH_M / 2
            level = 150 if side == 1 else 84
            if side == 1:
                edge = edge[::-1]
            for a, b in pairwise(edge):
                faces.append(_wall(a, b, 4.4, BRIDGE_HEIGHT_M, _plain(level, 16, 48)))
        return faces

    # --- buildings ------------------------------------------------------------

    def _house(
        self, index: int, x: float, y: float, length: float, width: float, heading: float
    ) -> None:
        wall_m, ridge_m = 3.0, 3.0 + 0.33 * width
        base = rectangle(x, y, length, width, heading)
        self.ground.fill(
            rectangle(x, y, length + 1.4, width + 1.4, heading), self._paving, feather=0.05
        )
        along = np.array([np.cos(heading), np.sin(heading)])
        ridge = np.array([[x, y], [x, y]]) + np.outer([-0.5, 0.5], along * length)
        self._cast(np.vstack([base, ridge]), [wall_m] * 4 + [ridge_m] * 2)
        tint = _ROOFS[index % len(_ROOFS)]
        wall = _WALLS[index % len(_WALLS)]
        faces = [
            _wall(base[k], base[(k + 1) % 4], 0, wall_m, self._facade(wall, heading, k, length))
            for k in range(4)
        ]
        for k in (1, 3):
            light = 0.8 + 0.25 * _sunlight(heading, k)
            faces.append(_wall(base[k], base[(k + 1) % 4], wall_m, ridge_m, _gable(wall, light)))
        eaves = rectangle(x, y, length + 0.5, width + 0.7, heading)
        top = np.array([[x, y], [x, y]]) + np.outer([-0.5, 0.5], along * (length + 0.5))
        for k, first, rim in ((0, 0, top[::-1]), (2, 2, top)):
            corners = np.vstack(
                [
                    np.column_stack([rim, [ridge_m] * 2]),
                    np.column_stack([eaves[first : first + 2], [wall_m - 0.15] * 2]),
                ]
            )
            faces.append(Face(corners, self._roof(tint, 0.95 + 0.25 * _sunlight(heading, k))))
        self.low_faces += faces

    def _roof(self, tint: tuple[int, int, int], light: float) -> Pixels:
        """One slope of tiles, ridge at the top."""
        rows, columns = 80, 200
        y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
        course = 1 - 0.16 * ((y % 8) < 1.6) + 0.05 * np.sin(x * 1.1)
        speckle = 1 + 0.07 * self.rng.standard_normal((rows // 4, columns // 5))
        course = course * cv2.resize(
            speckle.astype(np.float32), (columns, rows), interpolation=cv2.INTER_NEAREST
        )
        colour = bgr(*tint) * (course * light)[..., None]
        colour[:4] = bgr(*tint) * light * 0.8
        self._roof_fittings(colour, light)
        return _framed(colour)

    def _roof_fittings(self, colour: NDArray[np.float32], light: float) -> None:
        """A chimney, roof windows or solar panels, as chance will have it."""
        pick = self.rng.integers(3)
        if pick == 0:
            colour[6:20, 50:60] = (110 * light,) * 3
            colour[8:16, 52:58] = 40
        elif pick == 1:
            for left in (50, 120):
                colour[28:48, left : left + 18] = (150, 140, 128)
                colour[31:45, left + 2 : left + 16] = (112, 92, 74)
        elif light > 1:
            for left in range(40, 160, 20):
                colour[14:60, left : left + 18] = (74, 46, 34)
                colour[14:60:12, left : left + 18] = (110, 96, 88)

    def _facade(
        self, tint: tuple[int, int, int], heading: float, side: int, length: float
    ) -> Pixels:
        light = 0.8 + 0.25 * _sunlight(heading, side)
        columns = int(10 * length)
        colour = np.full((34, columns, 3), bgr(*tint) * light, np.float32)
        for left in range(12, columns - 14, 26):
            colour[9:23, left : left + 10] = (92, 76, 62)
        return _framed(colour)

    def _tower(self) -> None:
        """A tall flat-roofed building whose shade falls across the road."""
        x, y, length, width, height = 40.0, -16.2, 13.0, 10.5, 20.0
        heading = 0.05
        base = rectangle(x, y, length, width, heading)
        self._cast(base, [height] * 4)
        faces = [
            _wall(base[k], base[(k + 1) % 4], 0, height, self._offices(heading, k))
            for k in range(4)
        ]
        colour = np.full((160, 200, 3), (150, 156, 158), np.float32)
        colour *= 1 + 0.03 * self.rng.standard_normal((160, 200, 1)).astype(np.float32)
        colour[:7], colour[-7:], colour[:, :7], colour[:, -7:] = 205, 205, 205, 205
        for left, top, wide, tall in ((30, 30, 44, 30), (112, 90, 52, 36), (40, 100, 26, 26)):
            colour[top + 6 : top + tall + 12, left + 8 : left + wide + 14] = (86, 88, 92)
            colour[top : top + tall, left : left + wide] = (176, 180, 182)
            colour[top + 5 : top + tall - 5 : 4, left + 4 : left + wide - 4] = (128, 130, 132)
        corners = np.column_stack([base, [height] * 4])
        faces.append(Face(corners, _framed(colour)))
        self.high_faces += faces

    def _offices(self, heading: float, side: int) -> Pixels:
        light = 0.8 + 0.25 * _sunlight(heading, side)
        colour = np.full((200, 130, 3), bgr(176, 186, 194) * light, np.float32)
        for top in range(8, 195, 27):
            for left in range(5, 125, 15):
                glass = bgr(120, 98, 76) * self.rng.uniform(0.7, 1.15) * light
                colour[top : top + 15, left : left + 11] = glass
        return _framed(colour)

    def _cast(self, points: Points, heights: list[float]) -> None:
        """Shade of a convex thing standing on the ground, its top at `points` and `heights`."""
        tips = points + np.outer(heights, SUN_SHIFT)
        everything = np.vstack([points, tips]).astype(np.float32)
        hull = cv2.convexHull(everything)[:, 0].astype(np.float64)
        self.shade.fill(hull, 255, 0.97, feather=0.14)

    # --- trees and bushes -----------------------------------------------------

    def _tree(self, radius: float) -> list[Pixels]:
        """A crown as one premultiplied picture for each sheet."""
        lean = self.rng.uniform([0.95, 0.92, 0.9], [1.15, 1.04, 1.15])
        base = np.array([48, 100, 74]) * lean * self.rng.uniform(0.8, 1.1)
        return [self._crown(radius, base, above) for above in (0.0, 0.5, 0.8)]

    def _bush(self, radius: float) -> Pixels:
        base = np.array([50, 106, 84]) * self.rng.uniform(0.8, 1.1)
        return self._crown(radius, base, 0.0)

    def _crown(self, radius: float, base: NDArray[np.float64], above: float) -> Pixels:
        """Clumps of leaves on a dome, lit by the sun; `above` cuts off its lower part."""
        fine = 2 * self.scale
        half = int((radius * 1.25) * fine)
        colour = np.zeros((2 * half, 2 * half, 3), np.uint8)
        alpha = np.zeros((2 * half, 2 * half), np.uint8)
        sun = np.array([-SUN_SHIFT[0], -SUN_SHIFT[1], 0.9])
        sun /= np.linalg.norm(sun)
        count = int(260 * radius)
        places = self.rng.uniform(-1, 1, (count * 2, 2))
        bearing = np.arctan2(places[:, 1], places[:, 0])
        lumps = 1 + 0.12 * np.sin(3 * bearing + base[0]) + 0.09 * np.sin(7 * bearing + base[1])
        reach = np.hypot(*places.T) / lumps
        places, reach = places[reach < 1], reach[reach < 1]
        heights = np.sqrt(1 - reach**2)
        for k in np.argsort(heights):
            if heights[k] < above:
                continue
            normal = np.array([*places[k], heights[k] * 0.9])
            light = 0.50 + 0.62 * max(0.0, float(normal @ sun)) + self.rng.normal(0, 0.10)
            light *= 0.72 + 0.28 * heights[k]
            size = self.rng.uniform(0.11, 0.27) * fine
            centre = (places[k] * radius * fine + half) * 16
            where = (int(centre[0]), int(centre[1]))
            tone = tuple(float(v) for v in np.clip(base * light * 1.25, 0, 255))
            cv2.circle(colour, where, int(size * 16), tone, -1, cv2.LINE_AA, 4)
            cv2.circle(alpha, where, int(size * 16), 255, -1, cv2.LINE_AA, 4)
            glint = (int(centre[0] - size * 5), int(centre[1] - size * 4))
            tone = tuple(float(v) for v in np.clip(base * light * 1.5, 0, 255))
            cv2.circle(colour, glint, int(size * 7), tone, -1, cv2.LINE_AA, 4)
        coverage = alpha.astype(np.float32) / np.float32(255)
        picture = premultiplied(colour.astype(np.float32), coverage)
        return cv2.resize(picture, (half, half), interpolation=cv2.INTER_AREA)

    def _plant_tree(self, x: float, y: float, size: int) -> None:
        tree = self.trees[size]
        for picture, canvas, height in zip(tree, self.layers, SHEET_HEIGHTS_M, strict=True):
            canvas.stamp(picture, x, y)
            fall = SUN_SHIFT * height
            soft = cv2.GaussianBlur(picture[..., 3], (0, 0), 0.03 * height * self.scale)
            self.shade.darken(soft, x + fall[0], y + fall[1])
        under = cv2.GaussianBlur(tree[0][..., 3], (0, 0), 0.25 * self.scale)
        self.shade.darken((under * 0.55).astype(np.uint8), x, y)

    def _plant_bush(self, x: float, y: float) -> None:
        picture = self.bushes[int(self.rng.integers(len(self.bushes)))]
        self.layers[0].stamp(picture, x, y)
        soft = cv2.GaussianBlur(picture[..., 3], (0, 0), 0.06 * self.scale)
        self.shade.darken(soft, x + 0.8, y + 0.7)

    def _vegetation(self) -> None:
        spots = [*_TREES]
        for x1, y1, x2, y2, count in _WOODS:
            spots += self._scattered(x1, y1, x2, y2, count)
        for x, y, size in spots:
            self._plant_tree(x, y, size)
        for points in _HEDGES:
            path = _smooth(np.array(points), 0.75)
            for x, y in path + self.rng.normal(0, 0.14, path.shape):
                self._plant_bush(x, y)
        for _ in range(110):
            x, y = self.rng.uniform(0, PERIOD_M), self.rng.uniform(-45, 45)
            verge = abs(y - float(road_y(x)))
            if 5.5 < verge < 9 and abs(x - BRIDGE_X_M) > 12 and not 84 < x < 112:
                self._plant_bush(x, y)

    def _scattered(
        self, x1: float, y1: float, x2: float, y2: float, count: int
    ) -> list[tuple[float, float, int]]:
        """Places of trees in a rectangle, none closer than their crowns allow."""
        placed: list[tuple[float, float, int]] = []
        for _ in range(count * 12):
            x, y = self.rng.uniform(x1, x2), self.rng.uniform(y1, y2)
            size = int(self.rng.integers(1, len(self.trees)))
            if all(np.hypot(x - a, y - b) > 2.6 for a, b, _ in placed):
                placed.append((x, y, size))
            if len(placed) == count:
                break
        return placed

    # --- light ----------------------------------------------------------------

    def _apply_shade(self) -> None:
        pixels, mask = self.ground.pixels, self.shade.pixels
        # As 8-bit factors: the whole ground at once, without a copy in floating point.
        left = 255 - np.outer(np.arange(256), 1 - SHADE_COLOUR)
        table = np.rint(left)[None].astype(np.uint8)
        for top in range(0, pixels.shape[0], 256):
            area = pixels[top : top + 256]
            light = cv2.LUT(cv2.merge([mask[top : top + 256]] * 3), table)
            cv2.multiply(area, light, area, scale=1 / 255)


def _smooth(points: Points, step: float = 1.0) -> Points:
    """A polyline with a point every `step` metres and its corners rounded."""
    legs = np.linalg.norm(np.diff(points, axis=0), axis=1)
    at = np.concatenate([[0.0], np.cumsum(legs)])
    where = np.arange(0, at[-1], step)
    path = np.column_stack([np.interp(where, at, points[:, axis]) for axis in (0, 1)])
    for _ in range(4):
        path[1:-1] = (path[:-2] + 2 * path[1:-1] + path[2:]) / 4
    return path


def _along(x1: float, x2: float, near: float, far: float) -> Points:
    """Outline of a strip that follows the road, from `near` to `far` metres right of it."""
    x = np.linspace(x1, x2, max(2, int((x2 - x1) / 0.5)))
    slope = np.arctan(road_slope(x))
    normal = np.column_stack([-np.sin(slope), np.cos(slope)])
    middle = np.column_stack([x, road_y(x)])
    return np.vstack([middle + near * normal, (middle + far * normal)[::-1]])


def _band(near: float, far: float) -> Points:
    # Half a metre of overlap hides the seam between repetitions.
    return _along(-0.25, PERIOD_M + 0.25, near, far)


def _round(x: float, y: float, radius: float) -> Points:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)])


def _opaque(colour: Colour) -> Callable[[Field, Field], Field]:
    """A paint for BGRA canvases from a BGR colour or a paint."""

    def paint(x: Field, y: Field) -> Field:
        if callable(colour):
            shown = colour(x, y)
        else:
            shown = np.broadcast_to(np.asarray(colour, np.float32), (*x.shape, 3))
        return np.dstack([shown, np.full(x.shape, 255)]).astype(np.float32)

    return paint


def _framed(colour: NDArray[np.float32]) -> Pixels:
    """An opaque picture with a clear rim, so that it is drawn with soft edges."""
    picture = premultiplied(colour, np.ones(colour.shape[:2], np.float32))
    return cv2.copyMakeBorder(picture, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))


def _plain(level: float, rows: int, columns: int) -> Pixels:
    return _framed(np.full((rows, columns, 3), level, np.float32))


def _wall(a: Points, b: Points, low: float, high: float, picture: Pixels) -> Face:
    """An upright face over the ground from a to b, to be seen from the left of that way."""
    return Face(np.array([[*b, high], [*a, high], [*a, low], [*b, low]]), picture)


def _gable(tint: tuple[int, int, int], light: float) -> Pixels:
    """The triangle of wall under the end of a roof."""
    y, x = np.mgrid[0:48, 0:96].astype(np.float32)
    colour = np.full((48, 96, 3), bgr(*tint) * light, np.float32)
    alpha = np.clip(y - np.abs(x - 47.5) + 1, 0, 1).astype(np.float32)
    picture = premultiplied(colour, alpha)
    return cv2.copyMakeBorder(picture, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))


def _sunlight(heading: float, side: int) -> float:
    """How much a rectangle's side faces the sun, -1 to 1; sides as `rectangle` orders them."""
    angle = heading + (side - 1) * np.pi / 2
    sun = -SUN_SHIFT / np.linalg.norm(SUN_SHIFT)
    return float(np.cos(angle) * sun[0] + np.sin(angle) * sun[1])


def _occupied(pixels: Pixels) -> NDArray[np.bool_]:
    rows, columns = pixels.shape[0] // CELL + 1, pixels.shape[1] // CELL + 1
    alpha = np.zeros((rows * CELL, columns * CELL), np.uint8)
    alpha[: pixels.shape[0], : pixels.shape[1]] = pixels[..., 3]
    return np.asarray(alpha.reshape(rows, CELL, columns, CELL).any(axis=(1, 3)))


# --- the map ------------------------------------------------------------------

_PARCELS = (
    # outline, crop, direction of its rows
    ([(0, -60), (31, -60), (30, -26), (31, -9.5), (1.5, -9)], 'wheat', 0.10),
    ([(34, -60), (64, -60), (60, -27), (33, -27)], 'green', 1.35),
    ([(78, -60), (112, -60), (114, -31), (76, -31)], 'soil', 0.25),
    ([(0, 31), (36, 28), (37, 60), (0, 60)], 'green', 0.05),
    ([(38, 28), (63, 28.5), (58, 60), (39, 60)], 'wheat', 1.5),
    ([(77, 27), (113, 24), (116, 60), (71, 60)], 'wheat', -0.12),
    ([(2, 11), (17.5, 11.5), (18, 28), (2, 29)], 'mown', 1.5),
    ([(82, -28), (114, -28), (115, -14), (84, -14)], 'mown', 0.15),
    ([(66, 9), (82, 10), (81, 25), (67, 25)], 'soil', 1.2),
    ([(47, -25), (62, -25), (62, -11), (54, -11), (54, -22), (47, -22)], 'mown', 0.4),
)
_TRACKS = (
    ([(32, -5), (32.3, -12), (32.2, -30), (33, -60)], 2.6),
    ([(113, 6), (113, 14), (114, 21), (117, 40), (118, 60)], 2.4),
    ([(62.5, 6), (63.5, 20), (64.5, 34), (60.5, 60)], 2.2),
    ([(78, -8), (79, -12), (79, -29.5), (100, -29.5), (119, -29.0)], 2.2),
)
_HOUSES = (
    # x, y, length, width, heading of the ridge
    (23.0, 18.5, 11.0, 7.6, 0.12),
    (36.0, 19.5, 9.5, 7.2, 1.62),
    (48.5, 18.0, 11.5, 7.8, 0.02),
    (57.5, 21.0, 7.0, 5.0, 1.5),
    (29.5, 26.0, 5.0, 4.0, 0.1),
    (57.0, -17.5, 10.0, 7.0, -0.3),
    (9.0, -17.0, 14.0, 8.0, 0.1),
)
_DRIVEWAYS = (
    [(26.5, 6.0), (29.4, 6.0), (29.4, 23), (26.5, 23)],
    [(39.8, 6.0), (42.6, 6.0), (42.6, 21), (39.8, 21)],
    [(53.2, 5.5), (56.0, 5.5), (56.0, 19), (53.2, 19)],
    [(14.5, -18), (18.5, -18), (18.5, -4.0), (15.2, -4.0)],
)
_ROOFS = ((70, 88, 158), (84, 92, 104), (62, 74, 128), (96, 104, 112), (72, 80, 140))
_WALLS = ((206, 222, 228), (190, 204, 214), (214, 226, 232), (178, 200, 220))
_LAY_BY = _along(88, 108, 3.9, 10.6)
_PARKED = (
    # the lay-by's places, then the forecourt and two driveways
    *(
        (x - 7.3 * np.sin(turn), float(road_y(x)) + 7.3 * np.cos(turn), turn + np.pi / 2 + skew)
        for x, skew in zip(
            np.arange(89.6, 107.0, 2.72), (0.0, 0.03, -0.02, 0.02, 0.0, -0.04, 0.01), strict=True
        )
        for turn in [float(np.arctan(road_slope(x)))]
    ),
    (50.0, -12.0, 0.05),
    (50.0, -14.8, 0.05),
    (50.0, -17.6, 0.05),
    (27.9, 14.0, 1.57),
    (41.2, 15.5, -1.57),
)
_TREES = (
    # x, y, size: gardens, the verge, single trees in the fields
    (20.0, 11.0, 3),
    (33.0, 12.0, 2),
    (45.5, 10.5, 1),
    (60.0, 13.0, 4),
    (17.5, 22.5, 4),
    (42.5, 27.0, 3),
    (31.5, 20.0, 1),
    (53.0, 24.5, 3),
    (5.0, 9.8, 4),
    (12.5, 9.6, 3),
    (3.5, -10.5, 3),
    (22.0, -12.5, 2),
    (27.0, -9.8, 4),
    (60.5, -8.5, 3),
    (54.5, -7.4, 1),
    (82.0, -9.0, 4),
    (88.5, -8.6, 3),
    (95.0, -7.8, 4),
    (101.5, -7.2, 3),
    (108.0, -6.6, 4),
    (114.0, -5.6, 2),
    (84.0, 12.0, 3),
    (110.5, 9.5, 4),
    (109.0, 14.5, 2),
    (86.0, 17.0, 4),
    (93.0, 18.5, 3),
    (100.0, 17.5, 4),
    (106.0, 18.0, 3),
    (15.0, -35.0, 4),
    (104.0, 40.0, 4),
    (26.0, 40.0, 3),
)
_WOODS = (
    (84, -27, 115, -15, 30),
    (64, -40, 76, -18, 15),
    (109, 16, 118, 26, 9),
    (2, 29.5, 36, 31.5, 9),
)
_HEDGES = (
    [(19.0, 10.0), (25.6, 10.0)],
    [(30.2, 10.0), (39.0, 9.8)],
    [(43.4, 9.8), (52.4, 9.6)],
    [(18.8, 10.0), (18.8, 27.5), (37, 27.5), (62, 27.5)],
    [(34.5, 11.0), (34.5, 26.5)],
    [(45.5, 13.0), (45.5, 26.5)],
    [(4, -8.8), (14, -8.6)],
    [(19.4, -8.4), (31, -8.0)],
    [(87.5, 13.2), (108.5, 12.4)],
    [(76.5, 26), (72, 60)],
    [(37.5, 28), (38.0, 60)],
)
