# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A scene rendered from nothing: a drone follows one car among its look-alikes, truth included.

The drone looks straight down from about 60 m. It drifts, turns slowly, climbs and sinks, and
shakes a little. The car drives through a tower's shade, is overtaken by a twin, is hidden for
about 0.4 s by the smoke of a bonfire, and passes a lay-by full of cars of its kind. Moving
things are blurred in proportion to their speed, and the sensor is noisy.

After about 11 s the road leads under a bridge. A tracker that cannot find its target again
loses it there: what hides the car then is itself easy to follow.

    scene = Scene()
    for image, truth in scene:
        ...
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.evaluation import scenery, smoke
from tracker_ros.evaluation.painting import Pixels, Points, line_kernel, over
from tracker_ros.evaluation.scenery import CELL, PERIOD_M, Face, Sheet
from tracker_ros.evaluation.vehicles import CAR_LENGTH_M, Paint, Slice, Vehicle, car
from tracker_ros.geometry import Box

ALTITUDE_M = 60.0
SPEED_MPS = 10.0
START_M = 9.0
# The shutter is open for this part of the time between two frames.
SHUTTER = 0.35
# Below this visible fraction the car counts as hidden, and the truth holds no box. What is
# left of its contrast then drowns in that of the smoke.
HIDDEN_BELOW = 0.08

_TILE_W, _TILE_H = 160, 120
_NOISE_SIGMA = 2.2

_TARGET = Paint((44, 32, 176), glass_roof=True)
# Same shape; other colour nuance or other markings.
_TWINS = (
    Paint((44, 32, 176)),
    Paint((58, 46, 150), rack=True),
    Paint((46, 58, 188)),
    Paint((40, 30, 112), glass_roof=True),
    Paint((232, 234, 232)),
    Paint((196, 194, 190), roof=(34, 32, 32)),
    Paint((116, 70, 34)),
    Paint((54, 50, 48)),
    Paint((150, 146, 140)),
    Paint((44, 32, 176), stripes=(228, 232, 235)),
)


@dataclass(frozen=True, slots=True)
class SceneTruth:
    """Where the car is: the box of its rotated outline, and how much of it can be seen."""

    box: Box | None  # None where the car is hidden
    visible: float  # fraction of the car's pixels, 0 to 1


@dataclass(frozen=True, slots=True)
class _Camera:
    """Looks straight down; maps metres to pixels, at any height above the ground."""

    x: float
    y: float
    altitude_m: float
    turn: float  # rad; positive turns the picture clockwise
    focal_px: float
    centre: NDArray[np.float64]  # pixels
    _matrices: dict[float, NDArray[np.float64]] = field(default_factory=dict)

    def scale(self, height_m: float) -> float:
        """Pixels a metre."""
        return self.focal_px / (self.altitude_m - height_m)

    def matrix(self, height_m: float) -> NDArray[np.float64]:
        """(2, 3): metres to continuous pixels, at one height."""
        matrix = self._matrices.get(height_m)
        if matrix is None:
            rotation = self.scale(height_m) * _rotation(self.turn)
            matrix = np.column_stack([rotation, self.centre - rotation @ [self.x, self.y]])
            matrix.setflags(write=False)
            self._matrices[height_m] = matrix
        return matrix

    def project(self, points: Points, height_m: float) -> Points:
        """(N, 2) metres to (N, 2) continuous pixels."""
        matrix = self.matrix(height_m)
        return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])

    def nearest(self, x: float) -> float:
        """The repetition of x that is nearest to the camera."""
        return x + PERIOD_M * round((self.x - x) / PERIOD_M)


@dataclass(frozen=True, slots=True)
class _Pose:
    """A vehicle's place: metres, rad; `base_m` is the height of what it stands on."""

    x: float
    y: float
    heading: float
    base_m: float = 0.0


class Scene:
    """Frames and truth; the same arguments give the same pixels.

    width, height: of the image, at least 160 x 120 and at most 2:1. In 720p the car is about
    90 px long; smaller images see less land, so that the car keeps enough pixels.
    frames, rate_hz: how many, and how many a second. The smoke comes after 6 s.
    """

    def __init__(
        self,
        width: int = 1280,
        height: int = 720,
        frames: int = 300,
        rate_hz: float = 30.0,
        seed: int = 7,
    ) -> None:
        _check(width, height, frames, rate_hz)
        self.width, self.height, self.frames, self.rate_hz = width, height, frames, rate_hz
        self.seed = seed
        relative = height / 720
        self._metre_px = 20.0 * (relative if relative > 1 else math.sqrt(relative))
        self._view_m = 1.25 * math.hypot(width, height) / self._metre_px
        self._road = scenery.Road()
        self._land = scenery.build(seed, 1.1 * self._metre_px, self._view_m)
        self._target = car(_TARGET, 1.6 * self._metre_px)
        self._twins = [car(paint, 1.6 * self._metre_px) for paint in _TWINS]
        rng = np.random.default_rng([seed, 1])
        self._phases = rng.uniform(0, 2 * np.pi, 12)
        self._noise = _sensor_noise(rng, width, height)
        self._smoke = smoke.Smoke(seed)
        self._vignette = _vignette(width, height)

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[tuple[Pixels, SceneTruth]]:
        # OpenCV gives Python's lock back while it works, so threads do share the frames.
        workers = min(os.cpu_count() or 1, 4)
        with ThreadPoolExecutor(workers) as pool:
            ahead: deque[Future[tuple[Pixels, SceneTruth]]] = deque()
            for index in range(self.frames):
                ahead.append(pool.submit(self.frame, index))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def frame(self, index: int) -> tuple[Pixels, SceneTruth]:
        """Image (height, width, 3) uint8 BGR and truth of one frame; frames may be asked for
        in any order. IndexError outside [0, frames).
        """
        if not 0 <= index < self.frames:
            raise IndexError(f'frame {index}: the scene has frames 0 to {self.frames - 1}')
        return self._render(index)

    def write(self, folder: Path) -> Path:
        """Write `video.mp4` and `groundtruth.txt` into `folder`; returns the video's path.

        The truth has one line a frame: `x,y,w,h` of the box, 0-based pixels, or
        `nan,nan,nan,nan` where the car is hidden. OSError if the video cannot be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / 'video.mp4'
        lines = []
        writer = cv2.VideoWriter(
            str(path), cv2.VideoWriter.fourcc(*'mp4v'), self.rate_hz, (self.width, self.height)
        )
        if not writer.isOpened():
            raise OSError(f'{path}: this OpenCV cannot write MPEG-4 video there')
        try:
            for image, truth in self:
                writer.write(image)
                values = truth.box.xywh() if truth.box else (math.nan,) * 4
                lines.append(','.join(f'{value:.2f}' for value in values))
        finally:
            writer.release()
        (folder / 'groundtruth.txt').write_text('\n'.join(lines) + '\n')
        return path

    # --- where everything is --------------------------------------------------

    def _way_m(self, time_s: float) -> float:
        """How far along the road the car is, in metres."""
        return START_M + SPEED_MPS * time_s + 1.5 * math.sin(0.8 * time_s)

    def _target_pose(self, time_s: float) -> _Pose:
        aside = scenery.LANE_M + 0.12 * math.sin(0.9 * time_s + self._phases[0])
        return _Pose(*self._road.place(self._way_m(time_s), aside))

    def _traffic(self, time_s: float, lap_s: float) -> list[tuple[Vehicle, _Pose]]:
        """Every other car near the camera; `lap_s` decides which lap of its circuit it is on."""
        here = self._way_m(time_s)
        placed = []
        # The one that overtakes: from behind the target to before it, by the other lane.
        phase = 1 / (1 + math.exp(-2.1 * (time_s - 3.1)))
        gap = -11.5 + 24.5 * phase
        aside = scenery.LANE_M * (1 - 2 * math.exp(-(((time_s - 3.1) / 1.35) ** 4)))
        for twin, ahead, lane in (
            (0, gap, aside),
            (1, 23.0 + 2.0 * math.sin(0.5 * time_s), scenery.LANE_M),
            (5, -21.0 + 1.5 * math.sin(0.4 * time_s + 1), scenery.LANE_M),
            (7, 36.0 + 1.5 * math.sin(0.4 * time_s + 2), scenery.LANE_M),
        ):
            placed.append((self._twins[twin], _Pose(*self._road.place(here + ahead, lane))))
        # Oncoming cars, each back again after `circuit` metres.
        circuit = 152.0
        for twin, meets_s in ((4, 0.4), (9, 5.9), (6, 7.0), (3, 7.9)):
            closing = SPEED_MPS + 9.0
            laps = round(closing * (meets_s - lap_s) / circuit)
            ahead = closing * (meets_s - time_s) - laps * circuit
            x, y, heading = self._road.place(here + ahead, -scenery.LANE_M)
            placed.append((self._twins[twin], _Pose(x, y, heading + math.pi)))
        for number, (x, y, heading) in enumerate(self._land.parked):
            twin = (2, 0, 5, 1, 9, 3, 8, 4, 6, 7, 2, 5)[number % 12]
            placed.append((self._twins[twin], _Pose(x, y, heading)))
        return placed

    def _bridge_traffic(self, time_s: float, lap_s: float) -> list[tuple[Vehicle, _Pose]]:
        axis = scenery.BRIDGE_HEADING
        middle_y = float(scenery.road_y(scenery.BRIDGE_X_M))
        placed = []
        for twin, side, start, speed in ((8, 1, -46.0, 8.0), (2, -1, 62.0, 9.0)):
            laps = round((start + side * speed * lap_s) / 140.0)
            along = start + side * speed * time_s - 140.0 * laps
            aside = 1.7 * side
            x = scenery.BRIDGE_X_M + along * math.cos(axis) - aside * math.sin(axis)
            y = middle_y + along * math.sin(axis) + aside * math.cos(axis)
            heading = axis + (math.pi if side < 0 else 0.0)
            placed.append((self._twins[twin], _Pose(x, y, heading, scenery.BRIDGE_HEIGHT_M)))
        return placed

    def _camera(self, time_s: float) -> _Camera:
        p = self._phases
        way = self._way_m(time_s) + 3.5 * math.sin(0.45 * time_s + p[1])
        x, y, _ = self._road.place(way, 2.2 * math.sin(0.6 * time_s + p[2]))
        shake = (
            self._metre_px
            / 20
            * np.array(
                [
                    0.9 * math.sin(11.3 * time_s + p[3]) + 0.5 * math.sin(29.1 * time_s + p[4]),
                    0.9 * math.sin(9.7 * time_s + p[5]) + 0.5 * math.sin(24.3 * time_s + p[6]),
                ]
            )
        )
        return _Camera(
            x,
            y,
            ALTITUDE_M * (1 + 0.06 * math.sin(0.62 * time_s + p[7])),
            0.20 * math.sin(0.42 * time_s + p[8]) + 0.012 * math.sin(2.9 * time_s + p[9]),
            self._metre_px * ALTITUDE_M,
            np.array([self.width, self.height]) / 2 + shake,
        )

    # --- one frame ------------------------------------------------------------

    def _render(self, index: int, target: bool = True) -> tuple[Pixels, SceneTruth]:
        """`target=False` leaves the car out, but not its shadow."""
        time_s = index / self.rate_hz
        return _Exposure(self, index, time_s).take(target)


class _Exposure:
    """One frame while it is being made."""

    def __init__(self, scene: Scene, index: int, time_s: float) -> None:
        self.scene, self.index, self.time_s = scene, index, time_s
        self.camera = scene._camera(time_s)
        half = 0.5 * SHUTTER / scene.rate_hz
        self.opens, self.closes = time_s - half, time_s + half
        self.camera_opens = scene._camera(self.opens)
        self.camera_closes = scene._camera(self.closes)
        self.image: Pixels = np.empty((scene.height, scene.width, 3), np.uint8)

    def take(self, target: bool) -> tuple[Pixels, SceneTruth]:
        scene = self.scene
        pose = scene._target_pose(self.time_s)
        traffic = self._in_sight(scene._traffic)
        self._ground()
        self._vehicle_shadow(scene._target, pose)
        for vehicle, place, _, _ in traffic:
            self._vehicle_shadow(vehicle, place)
        for car_and_poses in traffic:
            self._vehicle(*car_and_poses)
        box, cover = self._truth_box(pose)
        if target:
            self._vehicle(
                scene._target,
                pose,
                scene._target_pose(self.opens),
                scene._target_pose(self.closes),
            )
        # From low to high; the bridge's sides end where its deck, the highest sheet, begins.
        lowest, *higher = scene._land.sheets
        self._sheet(lowest, cover)
        for face in scene._land.low_faces:
            self._face(face, cover)
        for sheet in higher:
            self._sheet(sheet, cover)
        self._smoke(cover)
        for face in scene._land.high_faces:
            self._face(face, cover)
        for car_and_poses in self._in_sight(scene._bridge_traffic):
            self._vehicle(*car_and_poses)
        self._develop()
        visible = cover.visible()
        return self.image, SceneTruth(box if visible >= HIDDEN_BELOW else None, visible)

    def _ground(self) -> None:
        matrix = self._texel_matrix(self.scene._land.ground.scale, 0.0)
        self.image = _warp(self.scene._land.ground.pixels, matrix, (0, 0), self.image.shape)
        kernel = line_kernel(*self._ground_motion())
        if kernel is not None:
            self.image = cv2.filter2D(self.image, -1, kernel)

    def _ground_motion(self) -> NDArray[np.float64]:
        here = np.array([[self.camera.x, self.camera.y]])
        return np.asarray(
            self.camera_closes.project(here, 0)[0] - self.camera_opens.project(here, 0)[0]
        )

    def _texel_matrix(self, scale: float, height_m: float) -> NDArray[np.float64]:
        """(2, 3): texel indices of a canvas to pixel indices."""
        # The repetition of the land that holds the whole view.
        margin = self.scene._view_m / 2
        x = margin + (self.camera.x - margin) % PERIOD_M
        matrix = self.camera.matrix(height_m).copy()
        matrix[:, 2] += matrix[:, :2] @ [self.camera.x - x, -scenery.HALF_HEIGHT_M]
        matrix[:, :2] /= scale
        return _indices(matrix)

    # --- vehicles -------------------------------------------------------------

    def _vehicle_shadow(self, vehicle: Vehicle, pose: _Pose) -> None:
        shift = 0.8 * scenery.SUN_SHIFT
        fallen = _Pose(pose.x + shift[0], pose.y + shift[1], pose.heading)
        matrix = self._sprite_matrix(vehicle.shadow, vehicle.texels_per_m, fallen, 0.0)
        window = self._window(_picture_corners(vehicle.shadow, matrix), 2)
        if window is None:
            return
        left, top, right, bottom = window
        shape = (bottom - top, right - left)
        shadow = _warp(vehicle.shadow, matrix, (left, top), shape).astype(np.float32)
        shade = self._shade(window, 0.0)
        # Where it is shady already, only the sky's light is lost.
        amount = shadow / 255 * (0.62 - 0.42 * shade)
        area = self.image[top:bottom, left:right]
        area[...] = area * (1 - amount[..., None])

    def _in_sight(
        self, traffic: Callable[[float, float], list[tuple[Vehicle, _Pose]]]
    ) -> list[tuple[Vehicle, _Pose, _Pose, _Pose]]:
        """The vehicles in or near the image: now, when the shutter opens, and when it closes."""
        now, before, after = (
            traffic(moment, self.time_s) for moment in (self.time_s, self.opens, self.closes)
        )
        reach = 2 * CAR_LENGTH_M * self.camera.scale(scenery.BRIDGE_HEIGHT_M)
        return [
            (vehicle, pose, opens, closes)
            for (vehicle, pose), (_, opens), (_, closes) in zip(now, before, after, strict=True)
            if self._window(self.camera.project(self._point(pose), pose.base_m), reach)
        ]

    def _vehicle(self, vehicle: Vehicle, pose: _Pose, opens: _Pose, closes: _Pose) -> None:
        for part in vehicle.slices:
            self._slice(part, vehicle.texels_per_m, pose, opens, closes)

    def _slice(
        self, part: Slice, texels_per_m: float, pose: _Pose, opens: _Pose, closes: _Pose
    ) -> None:
        height = pose.base_m + part.height_m
        matrix = self._sprite_matrix(part.picture, texels_per_m, pose, height)
        # All three places in the same repetition of the land.
        here = self._point(pose)
        start = here + [[opens.x - pose.x, opens.y - pose.y]]
        end = here + [[closes.x - pose.x, closes.y - pose.y]]
        motion = (
            self.camera_closes.project(end, height) - self.camera_opens.project(start, height)
        )[0]
        window = self._window(
            _picture_corners(part.picture, matrix), 2 + float(np.abs(motion).max())
        )
        if window is None:
            return
        left, top, right, bottom = window
        picture = _warp(part.picture, matrix, (left, top), (bottom - top, right - left))
        kernel = line_kernel(*motion)
        if kernel is not None:
            picture = cv2.filter2D(picture, -1, kernel, borderType=cv2.BORDER_CONSTANT)
        if not pose.base_m:
            light = 1 - (1 - scenery.SHADE_COLOUR) * self._shade(window, height)[..., None]
            picture[..., :3] = picture[..., :3] * light
        over(self.image[top:bottom, left:right], picture)

    def _point(self, pose: _Pose) -> Points:
        return np.array([[self.camera.nearest(pose.x), pose.y]])

    def _shade(self, window: tuple[int, int, int, int], height_m: float) -> NDArray[np.float32]:
        """(H, W) shade in [0, 1] at a height above the ground, in a window of the image."""
        left, top, right, bottom = window
        canvas = self.scene._land.shade
        matrix = self._texel_matrix(canvas.scale, height_m)
        # The light that ends here would have reached the ground further on.
        matrix[:, 2] -= matrix[:, :2] @ (scenery.SUN_SHIFT * height_m * canvas.scale)
        mask = _warp(canvas.pixels, matrix, (left, top), (bottom - top, right - left))
        return np.asarray(mask / np.float32(255), np.float32)

    def _sprite_matrix(
        self, picture: Pixels, texels_per_m: float, pose: _Pose, height_m: float
    ) -> NDArray[np.float64]:
        """(2, 3): indices of a vehicle's picture to pixel indices."""
        rows, columns = picture.shape[:2]
        turn = _rotation(pose.heading) / texels_per_m
        place = self._point(pose)[0] - turn @ [columns / 2, rows / 2]
        camera = self.camera.matrix(height_m)
        return _indices(
            np.column_stack([camera[:, :2] @ turn, camera[:, :2] @ place + camera[:, 2]])
        )

    def _truth_box(self, pose: _Pose) -> tuple[Box, _Cover]:
        corners = np.vstack(
            [
                self.camera.project(
                    part.outline @ _rotation(pose.heading).T + self._point(pose), part.height_m
                )
                for part in self.scene._target.slices
            ]
        )
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        box = Box.from_corners(float(left), float(top), float(right), float(bottom))
        return box, self._cover(pose)

    def _cover(self, pose: _Pose) -> _Cover:
        """How opaque the target is, pixel by pixel, before anything comes over it."""
        target = self.scene._target
        body = target.slices[0]
        matrix = self._sprite_matrix(body.picture, target.texels_per_m, pose, body.height_m)
        corners = _picture_corners(body.picture, matrix)
        left, top = np.floor(corners.min(axis=0)).astype(int)
        right, bottom = np.ceil(corners.max(axis=0)).astype(int)
        alpha = _warp(
            np.ascontiguousarray(body.picture[..., 3]),
            matrix,
            (left, top),
            (bottom - top, right - left),
        )
        return _Cover((int(left), int(top)), alpha, self.image.shape[:2])

    # --- what stands above the ground -----------------------------------------

    def _face(self, face: Face, cover: _Cover) -> None:
        x, y, z = face.corners.T
        x = x + (self.camera.nearest(x[0]) - x[0])
        if abs(x[0] - self.camera.x) > self.scene._view_m:
            return
        points = np.vstack([self.camera.project(np.array([[x[k], y[k]]]), z[k]) for k in range(4)])
        window = self._window(points, 2)
        if window is None or not _clockwise(points):
            return
        left, top, right, bottom = window
        rows, columns = face.picture.shape[:2]
        # The outermost texels are the clear rim, which lies outside the corners.
        source = np.array([[1, 1], [columns - 1, 1], [columns - 1, rows - 1], [1, rows - 1]])
        warp = cv2.getPerspectiveTransform(
            (source - 0.5).astype(np.float32), (points - 0.5 - [left, top]).astype(np.float32)
        )
        picture = cv2.warpPerspective(face.picture, warp, (right - left, bottom - top))
        over(self.image[top:bottom, left:right], picture)
        cover.hide((left, top), picture[..., 3])

    def _sheet(self, sheet: Sheet, cover: _Cover) -> None:
        """Lay a sheet over the image, tile by tile, and only where there is something on it."""
        matrix = self._texel_matrix(sheet.canvas.scale, sheet.height_m)
        back = cv2.invertAffineTransform(matrix)
        kernel = line_kernel(*self._ground_motion())
        pad = 0 if kernel is None else kernel.shape[0] // 2
        for top in range(0, self.scene.height, _TILE_H):
            for left in range(0, self.scene.width, _TILE_W):
                bottom = min(top + _TILE_H, self.scene.height)
                right = min(left + _TILE_W, self.scene.width)
                if not _anything(sheet.occupied, back, (left, top, right, bottom)):
                    continue
                shape = (bottom - top + 2 * pad, right - left + 2 * pad)
                picture = _warp(sheet.canvas.pixels, matrix, (left - pad, top - pad), shape)
                if kernel is not None:
                    picture = cv2.filter2D(picture, -1, kernel)
                    picture = picture[pad : shape[0] - pad, pad : shape[1] - pad]
                if picture[..., 3].any():
                    over(self.image[top:bottom, left:right], picture)
                    cover.hide((left, top), picture[..., 3])

    def _smoke(self, cover: _Cover) -> None:
        matrix = self.camera.matrix(smoke.HEIGHT_M)
        to_metres = cv2.invertAffineTransform(matrix)
        to_metres[:, 2] -= [self.camera.nearest(smoke.FIRE[0]), smoke.FIRE[1]]
        picture = self.scene._smoke.draw(
            to_metres, self.scene.width, self.scene.height, self.time_s
        )
        if picture is not None:
            over(self.image, picture)
            cover.hide((0, 0), picture[..., 3])

    # --- lens and sensor ------------------------------------------------------

    def _develop(self) -> None:
        scene = self.scene
        rng = np.random.default_rng([scene.seed, 2, self.index])
        top, left = rng.integers(0, _NOISE_MARGIN, 2)
        noise = scene._noise[top : top + scene.height, left : left + scene.width]
        cv2.multiply(self.image, scene._vignette, self.image, scale=1 / 255)
        cv2.addWeighted(self.image, 1.0, noise, 1.0, -128, self.image)

    def _window(self, points: Points, margin: float) -> tuple[int, int, int, int] | None:
        """The part of the image (left, top, right, bottom) around `points`, or None."""
        left, top = np.floor(points.min(axis=0) - margin).astype(int)
        right, bottom = np.ceil(points.max(axis=0) + margin).astype(int)
        left, top = max(0, int(left)), max(0, int(top))
        right, bottom = min(self.scene.width, int(right)), min(self.scene.height, int(bottom))
        return (left, top, right, bottom) if left < right and top < bottom else None


class _Cover:
    """Counts how much of the target stays visible as things are laid over it."""

    def __init__(self, corner: tuple[int, int], alpha: Pixels, shape: tuple[int, int]) -> None:
        self._left, self._top = corner
        self._all = float(alpha.sum())
        self._seen = alpha.astype(np.float32)
        # What lies outside the image cannot be seen.
        rows, columns = alpha.shape
        self._seen[: max(0, -self._top)] = 0
        self._seen[:, : max(0, -self._left)] = 0
        self._seen[max(0, min(rows, shape[0] - self._top)) :] = 0
        self._seen[:, max(0, min(columns, shape[1] - self._left)) :] = 0

    def hide(self, corner: tuple[int, int], alpha: Pixels) -> None:
        """Something with `alpha` (H, W) was laid over the image at `corner`."""
        left, top = corner[0] - self._left, corner[1] - self._top
        rows, columns = self._seen.shape
        x1, y1 = max(0, left), max(0, top)
        x2, y2 = min(columns, left + alpha.shape[1]), min(rows, top + alpha.shape[0])
        if x1 < x2 and y1 < y2:
            part = alpha[y1 - top : y2 - top, x1 - left : x2 - left]
            self._seen[y1:y2, x1:x2] *= 1 - part / np.float32(255)

    def visible(self) -> float:
        return float(self._seen.sum()) / self._all


_NOISE_MARGIN = 64


def _sensor_noise(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """Noise around 128, larger than the image so that each frame cuts another part of it."""
    shape = (height + _NOISE_MARGIN, width + _NOISE_MARGIN)
    grey = rng.standard_normal((*shape, 1), np.float32)
    colour = rng.standard_normal((*shape, 3), np.float32)
    return np.asarray(np.rint(128 + _NOISE_SIGMA * (0.85 * grey + 0.53 * colour)), np.uint8)


def _vignette(width: int, height: int) -> Pixels:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    reach = ((x - width / 2) ** 2 + (y - height / 2) ** 2) / (width**2 + height**2) * 4
    return np.asarray(np.repeat((255 * (1 - 0.22 * reach**1.5))[..., None], 3, 2), np.uint8)


def _rotation(angle: float) -> NDArray[np.float64]:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s], [s, c]])


def _indices(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same map between indices, which lie half a pixel before the pixels' middles."""
    matrix = matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    return matrix


def _warp(
    picture: Pixels,
    matrix: NDArray[np.float64],
    corner: tuple[int, int],
    shape: tuple[int, ...],
) -> Pixels:
    """`picture` through `matrix`, cut out of the image at `corner` with `shape` (H, W)."""
    moved = matrix.copy()
    moved[:, 2] -= corner
    warped = cv2.warpAffine(picture, moved, (int(shape[1]), int(shape[0])))
    return np.asarray(warped, np.uint8)


def _picture_corners(picture: Pixels, matrix: NDArray[np.float64]) -> Points:
    rows, columns = picture.shape[:2]
    corners = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]]) - 0.5
    return np.asarray(corners @ matrix[:, :2].T + matrix[:, 2] + 0.5)


def _clockwise(points: Points) -> bool:
    """Whether four corners go clockwise in the image: a face seen from its front."""
    (ax, ay), (bx, by) = points[2] - points[0], points[3] - points[1]
    return bool(ax * by - ay * bx > 0.5)


def _anything(
    occupied: NDArray[np.bool_], back: NDArray[np.float64], tile: tuple[int, int, int, int]
) -> bool:
    left, top, right, bottom = tile
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    texels = corners @ back[:, :2].T + back[:, 2]
    x1, y1 = np.maximum((texels.min(axis=0) - 8) // CELL, 0).astype(int)
    x2, y2 = ((texels.max(axis=0) + 8) // CELL + 1).astype(int)
    return bool(occupied[y1 : max(y2, 0), x1 : max(x2, 0)].any())


def _check(width: int, height: int, frames: int, rate_hz: float) -> None:
    if height < 120 or not height <= width <= 2 * height:
        raise ValueError(
            f'a scene of {width} x {height} pixels: use a height of 120 or more and a width '
            'between one and two heights'
        )
    if frames < 1:
        raise ValueError(f'{frames} frames: a scene needs at least one')
    if not (math.isfinite(rate_hz) and rate_hz > 0):
        raise ValueError(f'rate_hz is {rate_hz}: use a positive number of frames a second')
