# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What happens to a target in its life, composed into annotated footage, with exact truth.

    for image, box, stamp_s in compose(sequence, 'occlusion', seed=3, duration_s=2.0):
        ...

The target is seen for a while, something happens, and it is seen again:

- *calm*: nothing happens.
- *occlusion*: something moves over the target, hides all of it and moves on.
- *leave_and_return*: the camera turns away until the target is out of the picture, and back over
  the same border or the next.
- *crossing*: a look-alike, cut out of the footage itself, crosses the target's way.
- *cut*: for a while the pictures are those of another sequence.
- *jump*: from one frame to the next the view is displaced, and stays so.
- *drop*: frames are missing; only the stamps tell.
- *dark*: within a few frames there is a tenth of the light, and later all of it again.

The same footage, kind, seed and duration give the same pixels. Clips that are too short are
played forwards and backwards. Where a turned camera sees what the footage does not show, it
sees the footage mirrored, without the target.
"""

from __future__ import annotations

import itertools
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.evaluation import pasting
from tracker_ros.geometry import Box, Image

KINDS = (
    'calm',
    'occlusion',
    'leave_and_return',
    'crossing',
    'cut',
    'jump',
    'drop',
    'dark',
)
OCCLUSIONS_S = (0.2, 0.5, 1.0, 2.0, 3.0)
DURATIONS_S = {
    'calm': (0.0, 0.0),
    'occlusion': (0.2, 3.0),
    'leave_and_return': (1.0, 3.0),
    'crossing': (0.6, 1.2),
    'cut': (0.5, 2.0),
    'jump': (0.0, 0.0),
    'drop': (1.0, 1.0),
    'dark': (1.0, 2.0),
}
"""Shortest and longest of each kind, where none is asked for."""
HIDDEN_BELOW = 0.08
"""Where less of its box can be seen, the target counts as absent."""

_DARK_GAIN = 0.1
_DARK_NOISE = 1.5  # grey levels, of a sensor with its gain turned up
_LEAST_BESIDE_RIVAL = 0.35
_APPROACH_S = 0.8
_TURN_S = 0.6

Boxes = NDArray[np.float64]
Change = Callable[[int, Image], Image]
"""Takes number and picture of a frame, and gives the picture that is shown instead."""


class EventError(ValueError):
    """Nothing can be composed from this footage; the text says why."""


class Annotated(Protocol):
    """Footage with the true box of one target, as `sequences.Sequence` has it."""

    @property
    def name(self) -> str: ...

    @property
    def truth(self) -> Boxes: ...

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def rate_hz(self) -> float: ...

    def frames(self) -> Iterator[Image]:
        """(height, width, 3) uint8 BGR, as many as rows of `truth`."""


@dataclass(frozen=True, eq=False)
class EventClip:
    """A clip in which something happens to the target.

    truth: (n, 4) x, y, w, h in pixels, nan where the target is absent: hidden, or out of the
    picture. Of a target partly out of the picture it is the part inside.
    visible: (n,) how much of the target's box can be seen, in [0, 1].
    rival: (n, 4) the box of the look-alike, nan where there is none.
    stamps_s: (n,) seconds.
    order: (n,) numbers of the footage's frames that are shown.
    event: first frame of what happens and the first after it. For occlusions, leaving and cuts
    these are the frames without the target, for crossings those in which the look-alike is near,
    and for jumps and drops the first frame afterwards.
    """

    name: str
    kind: str
    source: str
    duration_s: float
    truth: Boxes
    visible: NDArray[np.float64]
    rival: Boxes
    stamps_s: NDArray[np.float64]
    width: int
    height: int
    rate_hz: float
    event: tuple[int, int]
    order: NDArray[np.int64] = field(repr=False)
    _footage: Annotated = field(repr=False)
    _begin: Callable[[], Change] = field(repr=False)

    @property
    def first_box(self) -> Box:
        """The box a tracker starts from."""
        return Box(*self.truth[0].tolist())

    @property
    def hides(self) -> bool:
        """Whether the target is absent for a while."""
        return bool(np.isnan(self.truth[:, 0]).any())

    def __len__(self) -> int:
        return len(self.truth)

    def __iter__(self) -> Iterator[tuple[Image, Box | None, float]]:
        """Yield picture, true box or None, and stamp in seconds."""
        for frame, row, stamp_s in zip(self.frames(), self.truth, self.stamps_s, strict=True):
            yield frame, None if np.isnan(row[0]) else Box(*row.tolist()), float(stamp_s)

    def frames(self) -> Iterator[Image]:
        """Yield the (height, width, 3) uint8 BGR pictures, the same ones each time."""
        change = self._begin()
        for number, frame in enumerate(_played(self._footage, self.order)):
            yield change(number, frame)


@dataclass
class _Plan:
    """A clip being composed; see EventClip. `shown` has the boxes before anything happens."""

    footage: Annotated
    rng: np.random.Generator
    duration_s: float
    order: NDArray[np.int64]
    first: int
    last: int
    shown: Boxes
    visible: NDArray[np.float64]
    truth: Boxes
    rival: Boxes
    stamps_s: NDArray[np.float64]
    others: Sequence[Annotated]

    @property
    def size(self) -> tuple[int, int]:
        return self.footage.width, self.footage.height

    @property
    def rate_hz(self) -> float:
        return self.footage.rate_hz

    def box(self, number: int) -> Box:
        return Box(*self.shown[number].tolist())

    def frames_in(self, seconds: float) -> int:
        return max(1, round(seconds * self.rate_hz))

    def hide(self) -> None:
        """Take the truth from where next to nothing can be seen."""
        self.truth[self.visible < HIDDEN_BELOW] = np.nan


def compose(
    footage: Annotated,
    kind: str,
    seed: int = 0,
    *,
    duration_s: float | None = None,
    others: Sequence[Annotated] = (),
    lead_s: float = 1.5,
    tail_s: float = 3.0,
) -> EventClip:
    """Let something of KINDS happen to the target of `footage`.

    Everything but the pictures is known at once; those are made while they are read.
    duration_s: how long the target is hidden, away, in the dark and so on; without it a length
    from DURATIONS_S is drawn. others: where occluders and the pictures of a cut come from; a cut
    needs them. lead_s, tail_s: what is seen before and afterwards.
    Raises EventError for footage without at least ten frames of the target in a row, a kind that
    is unknown, or a cut without others.
    """
    make = _MAKERS.get(kind)
    if make is None:
        raise EventError(f'{kind!r} is none of {", ".join(KINDS)}')
    others = [other for other in others if other.name != footage.name]
    rng = np.random.default_rng([seed, zlib.crc32(footage.name.encode()), KINDS.index(kind)])
    if duration_s is None:
        duration_s = round(float(rng.uniform(*DURATIONS_S[kind])), 2)
    plan = _plan(footage, kind, rng, duration_s, others, (lead_s, tail_s))
    begin = make(plan)
    plan.hide()
    return EventClip(
        name=f'{kind}_{duration_s:g}s/{footage.name}/{seed}',
        kind=kind,
        source=footage.name,
        duration_s=duration_s,
        truth=plan.truth,
        visible=plan.visible,
        rival=plan.rival,
        stamps_s=plan.stamps_s,
        width=footage.width,
        height=footage.height,
        rate_hz=footage.rate_hz,
        event=_span(plan),
        _footage=footage,
        order=plan.order,
        _begin=begin,
    )


def undisturbed(footage: Annotated) -> EventClip:
    """All of the footage as it is, as a clip in which nothing happens."""
    truth = np.array(footage.truth, np.float64)
    count = len(truth)
    return EventClip(
        name=f'calm_0s/{footage.name}/0',
        kind='calm',
        source=footage.name,
        duration_s=0.0,
        truth=truth,
        visible=np.where(np.isnan(truth[:, 0]), 0.0, 1.0),
        rival=np.full_like(truth, np.nan),
        stamps_s=np.arange(count) / footage.rate_hz,
        width=footage.width,
        height=footage.height,
        rate_hz=footage.rate_hz,
        event=(count, count),
        _footage=footage,
        order=np.arange(count),
        _begin=lambda: lambda number, frame: frame,
    )


def _plan(
    footage: Annotated,
    kind: str,
    rng: np.random.Generator,
    duration_s: float,
    others: Sequence[Annotated],
    around_s: tuple[float, float],
) -> _Plan:
    rate_hz = footage.rate_hz
    lead, tail = (max(2, round(seconds * rate_hz)) for seconds in around_s)
    during = 0 if kind == 'jump' else max(1, round(duration_s * rate_hz))
    count = lead + during + tail
    order = _order(footage, count, rng)
    stamps_s = np.arange(count) / rate_hz
    first, last = lead, lead + during
    if kind == 'drop':
        kept = np.r_[0:lead, last:count]
        order, stamps_s, last = order[kept], stamps_s[kept], lead
    shown = footage.truth[order]
    return _Plan(
        footage=footage,
        rng=rng,
        duration_s=duration_s,
        order=order,
        first=first,
        last=last,
        shown=shown,
        visible=np.ones(len(order)),
        truth=shown.copy(),
        rival=np.full_like(shown, np.nan),
        stamps_s=stamps_s,
        others=others,
    )


def _order(footage: Annotated, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Numbers (count,) of frames to play, within the longest stretch that shows the target."""
    seen = np.r_[False, ~np.isnan(footage.truth).any(axis=1), False]
    edges = np.flatnonzero(seen[1:] != seen[:-1]).reshape(-1, 2)
    if not len(edges) or (length := int(np.diff(edges).max())) < 10:
        raise EventError(f'{footage.name} does not show its target for ten frames in a row')
    first = int(edges[np.diff(edges)[:, 0].argmax(), 0])
    # From where the longest way forward is left, as far as the seed lets it.
    begin = int(rng.integers(max(length - count, length // 4) + 1))
    steps = begin + np.arange(count)
    period = 2 * (length - 1)
    folded = steps % period
    return first + np.where(folded < length, folded, period - folded)


def _span(plan: _Plan) -> tuple[int, int]:
    absent = np.flatnonzero(np.isnan(plan.truth[:, 0]))
    return (int(absent[0]), int(absent[-1]) + 1) if len(absent) else (plan.first, plan.last)


def _played(footage: Annotated, order: NDArray[np.int64]) -> Iterator[Image]:
    """Yield the frames with these numbers; those that come again are held until then."""
    awaited = Counter(order.tolist())
    held: dict[int, Image] = {}
    source = iter(enumerate(footage.frames()))
    for wanted in order.tolist():
        while wanted not in held:
            number, frame = next(source)
            if awaited[number]:
                held[number] = frame
        frame = held[wanted]
        awaited[wanted] -= 1
        if not awaited[wanted]:
            del held[wanted]
        yield frame


def _calm(plan: _Plan) -> Callable[[], Change]:
    return lambda: lambda number, frame: frame


def _drop(plan: _Plan) -> Callable[[], Change]:
    # What is missing was left out of the order.
    return _calm(plan)


def _occlusion(plan: _Plan) -> Callable[[], Change]:
    """An occluder on a smooth way of its own, large enough to hide the target all the while."""
    first, last, rng = plan.first, plan.last, plan.rng
    strip = rng.random() < 0.4
    from_scene = not plan.others or rng.random() < 0.5
    boxes = plan.shown[first:last]
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    across = ('x' if rng.random() < 0.6 else 'y') if strip else ''
    angle = rng.uniform(0, 2 * np.pi)
    heading = {'x': (1.0, 0.0), 'y': (0.0, 1.0), '': (np.cos(angle), np.sin(angle))}[across]
    towards = np.array(heading) * rng.choice([-1.0, 1.0])
    drift = 0.15 * np.sqrt(boxes[:, 2:].prod(axis=1).mean())
    way = _smooth(centres) + np.linspace(-drift, drift, len(boxes))[:, None] * towards
    # Annotated boxes may be a little smaller than what they are about.
    need = np.abs(centres - way) + boxes[:, 2:] * 0.6 + 2
    half_width, half_height = need.max(axis=0)
    soft = max(2.0, 0.08 * min(half_width, half_height))
    shape = pasting.Shape(half_width, half_height, soft, across, pasting.wavy(rng))
    # Leaving quickly enough that the target is soon seen, and out of the picture in time.
    reach = np.array([min(value, 2.0 * max(plan.size)) for value in shape.reach])
    to_border = [
        _way_out(end, sign * towards, reach, plan.size)
        for end, sign in ((way[0], -1.0), (way[-1], 1.0))
    ]
    clear_px = float(np.abs(towards) @ (2 * need.max(axis=0)))
    most = plan.frames_in(_APPROACH_S)
    speeds = [max(px / most, clear_px / plan.frames_in(0.3)) for px in to_border]
    places = np.concatenate(
        [
            way[0] - towards * speeds[0] * np.arange(first, 0, -1)[:, None],
            way,
            way[-1] + towards * speeds[1] * np.arange(1, len(plan.order) - last + 1)[:, None],
        ]
    )
    places = places.round()
    for number, place in enumerate(places):
        covered = pasting.hidden_part(shape, (place[0], place[1]), plan.box(number))
        plan.visible[number] = 1 - covered
    other = None if from_scene else _fine_enough(plan.others, half_width * half_height, rng)
    texture_seed = int(rng.integers(1 << 31))
    target = plan.box(0)

    size = plan.size

    def begin() -> Change:
        made: list[pasting.Sprite] = []

        def change(number: int, frame: Image) -> Image:
            if not made:
                texture = _texture(frame, target, shape, other, texture_seed)
                made.append(pasting.occluder(shape, texture, size))
            result = frame.copy()
            made[0].lay(result, places[number, 0], places[number, 1])
            return result

        return change

    return begin


def _fine_enough(
    others: Sequence[Annotated], wanted_px: float, rng: np.random.Generator
) -> Annotated:
    """One whose target has so many pixels or, where there are few, one of the largest four."""
    areas = np.array([other.truth[0, 2:].prod() for other in others])
    fine = np.flatnonzero(areas >= wanted_px)
    choice = fine if len(fine) >= 4 else np.argsort(-areas, kind='stable')[:4]
    return others[int(choice[int(rng.integers(len(choice)))])]


def _texture(
    frame: Image, target: Box, shape: pasting.Shape, other: Annotated | None, seed: int
) -> Image:
    """What an occluder looks like: a piece of this scene, or the target of another sequence."""
    if other is None:
        return pasting.background_of(frame, target, np.random.default_rng(seed))
    box = Box(*other.truth[0].tolist())
    picture = next(iter(other.frames()))
    x1, y1, x2, y2 = (round(value) for value in box.corners())
    x1, y1 = max(0, x1), max(0, y1)
    x2, y2 = max(x1 + 4, x2), max(y1 + 4, y2)
    piece = pasting.in_light_of(picture[y1:y2, x1:x2], frame)
    # Enlarged until it fills the occluder; a strip repeats it along its way.
    reach = [value for value in shape.reach if np.isfinite(value)]
    scale = 2 * max(reach) / min(piece.shape[:2])
    scale = min(scale, 2.0 * max(frame.shape[:2]) / max(piece.shape[:2]))
    return np.asarray(
        cv2.resize(piece, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), np.uint8
    )


def _smooth(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cubic in time nearest to points (n, 2)."""
    time = np.linspace(-1, 1, len(points))
    degree = min(3, len(points) - 1)
    fits = [np.polynomial.Polynomial.fit(time, values, degree) for values in points.T]
    return np.stack([fit(time) for fit in fits], axis=1)


def _way_out(
    place: NDArray[np.float64],
    heading: NDArray[np.float64],
    reach: NDArray[np.float64],
    size: tuple[int, int],
) -> float:
    """How far something that reaches so far goes from `place` until it is out of the picture."""
    ways = []
    for axis in (0, 1):
        if abs(heading[axis]) > 0.05:
            border = size[axis] + reach[axis] if heading[axis] > 0 else -reach[axis]
            ways.append((border - place[axis]) / heading[axis])
    return float(max(0.0, min(ways)))


def _leave_and_return(plan: _Plan) -> Callable[[], Change]:
    """The view turns away until the target is out, stays so, and comes back."""
    first, last, rng = plan.first, plan.last, plan.rng
    turn = plan.frames_in(_TURN_S)
    span = slice(max(0, first - turn), min(len(plan.order), last + turn))
    ways = _ways_out(plan.shown[span], plan.size)
    aside, above = (min(ways[axis], key=abs) for axis in (0, 1))
    out = np.array([[aside, 0.0], [0.0, above]])
    relative = np.abs(out).sum(axis=1) / plan.size
    leaving = int(relative[1] < relative[0])
    if rng.random() < 0.3 and relative.max() < 1.0:
        leaving = 1 - leaving
    # By another border only where both are near, and there is time to go round the corner.
    turns = rng.random() < 0.5 and relative.max() < 1.0 and plan.duration_s >= 0.7
    back = 1 - leaving if turns else leaving
    stops = [(first - turn, np.zeros(2)), (first, out[leaving])]
    if turns:
        third = (last - first) // 3
        stops += [(first + third, out.sum(axis=0)), (last - 1 - third, out.sum(axis=0))]
    stops += [(last - 1, out[back]), (last - 1 + turn, np.zeros(2))]
    return _moved_view(plan, _eased(stops, len(plan.order)))


def _jump(plan: _Plan) -> Callable[[], Change]:
    """The view is displaced so that the target is far from where it was, but in the picture."""
    first, rng = plan.first, plan.rng
    boxes = plan.shown[first:]
    size = np.array(plan.size, np.float64)
    low = (boxes[:, :2] + boxes[:, 2:]).max(axis=0) - size
    high = boxes[:, :2].min(axis=0)
    # A target that goes through all of the picture is partly out of it for a while.
    low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    tries = rng.uniform(np.maximum(low, -0.6 * size), np.minimum(high, 0.6 * size), (64, 2))
    far_enough = 3 * np.sqrt(boxes[0, 2:].prod())
    distance = np.minimum(np.hypot(*tries.T), far_enough)
    best = tries[np.argmax(distance)].round()
    offsets = np.zeros((len(plan.order), 2))
    offsets[first:] = best
    return _moved_view(plan, offsets)


def _ways_out(boxes: Boxes, size: tuple[int, int]) -> list[list[float]]:
    """How far the view must move for all boxes to be out: left and right, above and below."""
    room = 0.12 * boxes[:, 2:].max(axis=0) + 4
    far = (boxes[:, :2] + boxes[:, 2:]).max(axis=0) + room
    near = boxes[:, :2].min(axis=0) - room - size
    return [[float(far[axis]), float(near[axis])] for axis in (0, 1)]


def _eased(stops: list[tuple[int, NDArray[np.float64]]], count: int) -> NDArray[np.float64]:
    """Whole pixels (count, 2): from stop to stop, gently."""
    offsets = np.empty((count, 2))
    offsets[: max(0, stops[0][0])] = stops[0][1]
    for (begin, start), (end, goal) in itertools.pairwise(stops):
        frames = np.arange(begin, end + 1)
        part = (frames - begin) / max(1, end - begin)
        eased = start + (part * part * (3 - 2 * part))[:, None] * (goal - start)
        usable = (frames >= 0) & (frames < count)
        offsets[frames[usable]] = eased[usable]
    offsets[stops[-1][0] + 1 :] = stops[-1][1]
    return offsets.round()


def _moved_view(plan: _Plan, offsets: NDArray[np.float64]) -> Callable[[], Change]:
    """The view moved by offsets (n, 2) in whole pixels; the truth goes along."""
    size = np.array(plan.size, np.float64)
    moved = plan.shown.copy()
    moved[:, :2] -= offsets
    near = np.clip(moved[:, :2], 0, size)
    far = np.clip(moved[:, :2] + moved[:, 2:], 0, size)
    inside = np.concatenate([near, far - near], axis=1)
    own = np.clip(plan.shown[:, :2] + plan.shown[:, 2:], 0, size) - np.clip(
        plan.shown[:, :2], 0, size
    )
    still = (offsets == 0).all(axis=1)
    shown_area = np.maximum(own.prod(axis=1), 1e-9)
    plan.visible[:] = np.where(still, 1.0, np.clip(inside[:, 2:].prod(axis=1) / shown_area, 0, 1))
    plan.truth[:] = np.where(still[:, None], plan.shown, inside)

    def begin() -> Change:
        def change(number: int, frame: Image) -> Image:
            dx, dy = offsets[number].astype(int).tolist()
            if not (dx or dy):
                return frame
            return _view(frame, plan.box(number), dx, dy)

        return change

    return begin


def _view(frame: Image, target: Box, dx: int, dy: int) -> Image:
    """The picture that begins (dx, dy) pixels to the right of and below that of `frame`."""
    height, width = frame.shape[:2]
    left, right, top, bottom = max(0, -dx), max(0, dx), max(0, -dy), max(0, dy)
    wider = cv2.copyMakeBorder(
        pasting.filled(frame, target), top, bottom, left, right, cv2.BORDER_REFLECT
    )
    wider[top : top + height, left : left + width] = frame
    x, y = max(0, dx), max(0, dy)
    return np.ascontiguousarray(wider[y : y + height, x : x + width])


def _crossing(plan: _Plan) -> Callable[[], Change]:
    """A cut-out of the target goes by, so near that it covers part of it."""
    first, last, rng = plan.first, plan.last, plan.rng
    middle = (first + last) // 2
    box = plan.box(middle)
    angle = rng.uniform(0, 2 * np.pi)
    towards = np.array([np.cos(angle), np.sin(angle)])
    beside = np.array([-towards[1], towards[0]]) * rng.choice([-1.0, 1.0])
    near_px = 2 * float(np.hypot(*(towards * (box.w, box.h))))
    speed = 2 * near_px / max(2, last - first)
    count = len(plan.order)
    along = (np.arange(count) - middle) * speed
    strength = np.clip((1.75 * near_px - np.abs(along)) / max(speed * 5, 1.0), 0, 1)
    shown = np.flatnonzero(strength > 0)
    mirror = bool(rng.random() < 0.3)
    taken_at = max(0, int(shown[0]) - 1)
    taken = plan.box(taken_at)
    half = np.array([taken.w, taken.h]) / 2
    # On a straight line past a target that goes on as it does meanwhile.
    pace = _straight(plan.shown[first:last, :2] + plan.shown[first:last, 2:] / 2, first, count)
    # At its nearest it is this part of a box aside; farther where it would hide too much.
    aside = beside * np.array([box.w, box.h]) * rng.uniform(0.45, 0.8)
    for farther in (1.0, 1.25, 1.5, 2.0, 2.5, 3.0):
        way = pace + farther * aside + along[:, None] * towards
        rivals = np.concatenate([way - half, np.broadcast_to(2 * half, way.shape)], axis=1)
        for number in shown:
            own, rival = plan.box(int(number)), Box(*rivals[number].tolist())
            plan.visible[number] = 1 - own.intersection(rival) / max(own.area, 1e-9)
        if plan.visible.min() >= _LEAST_BESIDE_RIVAL:
            break
    middle_px = np.array(plan.size) / 2
    seen = (strength > 0.5) & (np.abs(way - middle_px) < middle_px).all(axis=1)
    plan.rival[seen] = rivals[seen]

    def begin() -> Change:
        sprites: list[pasting.Sprite] = []

        def change(number: int, frame: Image) -> Image:
            if number == taken_at:
                sprites.append(pasting.cut_out(frame, taken, mirror))
            if strength[number] <= 0:
                return frame
            result = frame.copy()
            sprites[0].lay(result, way[number, 0], way[number, 1], float(strength[number]))
            return result

        return change

    return begin


def _straight(points: NDArray[np.float64], first: int, count: int) -> NDArray[np.float64]:
    """(count, 2): the straight way nearest to the points, which begin at `first`."""
    time = first + np.arange(len(points))
    fits = [np.polynomial.Polynomial.fit(time, values, 1) for values in points.T]
    return np.stack([fit(np.arange(count)) for fit in fits], axis=1)


def _cut(plan: _Plan) -> Callable[[], Change]:
    """Pictures of another sequence instead."""
    if not plan.others:
        raise EventError('a cut needs other footage to cut to')
    other = plan.others[int(plan.rng.integers(len(plan.others)))]
    first, last = plan.first, plan.last
    plan.visible[first:last] = 0.0
    width, height = plan.size
    count = len(other.truth)
    folded = np.arange(last - first) % max(1, 2 * (count - 1))
    order = np.where(folded < count, folded, 2 * (count - 1) - folded)

    def begin() -> Change:
        source: list[Iterator[Image]] = []

        def change(number: int, frame: Image) -> Image:
            if not first <= number < last:
                return frame
            if not source:
                source.append(_played(other, order))
            return _covering(next(source[0]), width, height)

        return change

    return begin


def _covering(picture: Image, width: int, height: int) -> Image:
    """The picture enlarged or reduced until it fills width x height, and its middle."""
    scale = max(width / picture.shape[1], height / picture.shape[0])
    columns, rows = (max(side, round(scale * own)) for side, own in
                     ((width, picture.shape[1]), (height, picture.shape[0])))  # fmt: skip
    resized = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_LINEAR)
    left, top = (columns - width) // 2, (rows - height) // 2
    return np.ascontiguousarray(resized[top : top + height, left : left + width])


def _dark(plan: _Plan) -> Callable[[], Change]:
    """Less light, and the noise of a sensor that makes up for it."""
    first, last, rng = plan.first, plan.last, plan.rng
    fade = int(rng.integers(2, 6))
    down = np.clip((np.arange(len(plan.order)) - first + 1) / fade, 0, 1)
    up = np.clip((last - np.arange(len(plan.order))) / fade, 0, 1)
    gains = 1 - (1 - _DARK_GAIN) * np.minimum(down, up)
    width, height = plan.size
    seed = int(rng.integers(1 << 31))

    def begin() -> Change:
        noise_rng = np.random.default_rng(seed)
        side = 97
        tile = noise_rng.normal(0, _DARK_NOISE, (side, side, 3)).astype(np.float32)
        repeats = (-(-height // side) + 1, -(-width // side) + 1, 1)
        field = np.tile(tile, repeats)

        def change(number: int, frame: Image) -> Image:
            gain = float(gains[number])
            if gain >= 1:
                return frame
            x, y = (37 * number) % side, (61 * number) % side
            noise = field[y : y + height, x : x + width]
            mixed = cv2.addWeighted(frame, gain, noise, 1 - gain, 0, dtype=cv2.CV_32F)
            return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8)

        return change

    return begin


_MAKERS: dict[str, Callable[[_Plan], Callable[[], Change]]] = {
    'calm': _calm,
    'occlusion': _occlusion,
    'leave_and_return': _leave_and_return,
    'crossing': _crossing,
    'cut': _cut,
    'jump': _jump,
    'drop': _drop,
    'dark': _dark,
}
