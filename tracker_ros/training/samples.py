# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training samples: templates of a target, a search crop, and the truth about it.

Each sample is made from its number and the seed alone. So a run that goes on after an
interruption sees what it would have seen without, and any sample can be looked at again.

Three ways lead to a sample. *Real*: two frames of a clip, or one picture seen twice. *Laid*: the
subject is cut out and laid over other pictures. *Absent*: what the search crop shows is another
subject, of the same kind where there is one, or none. Over all of them go look-alikes beside the
target, things in front of it, and what light and lens do (`light`).
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image, mean_colour
from tracker_ros.training.light import Weather, coarsened, other_light, weathered
from tracker_ros.training.pictures import (
    Appearance,
    Collection,
    DataError,
    Key,
    Points,
    Subject,
)
from tracker_ros.training.scenes import (
    Laid,
    Placement,
    Window,
    box_around,
    lay,
    moved,
    placed,
    turned,
    view,
)
from tracker_ros.training.tracks import frames_of

Numbers = NDArray[np.float32]

_ATTEMPTS = 8
_WIDENED_BY = 5
"""Frames, while there is none within the gap."""


@dataclass(frozen=True)
class Crops:
    """Sizes in pixels, factors of the STARK convention, and how the windows are off the target."""

    template_px: int = 64
    search_px: int = 128
    template_factor: float = 2.0
    search_factor: float = 4.0
    templates: int = 1
    centre_jitter: float = 3.4
    """Range of the target's centre in the search window, in roots of its area."""
    scale_jitter: float = 0.28
    template_jitter: float = 0.06
    box_jitter: bool = False
    """As in STARK: the target's box changes before the search window is cut around it. Each side
    changes by itself, and the centre moves in roots of the changed area."""
    context: float = 0.0
    """With 0.5 the windows are those of the PySOT convention; factors are those of a square."""
    masks: bool = False
    """Samples have the target's mask in the search crop, too."""


@dataclass(frozen=True)
class Mix:
    """How likely the kinds of samples are, and what is in them."""

    sources: dict[str, float] = field(default_factory=dict)
    """Weight of each source; one that is not named has 0. Empty: by the number of subjects."""
    order: str = 'near'
    """How the frames of a clip are chosen, see `ORDERS`."""
    gap_frames: int = 20
    backwards: float = 0.2
    absent: float = 0.12
    """How likely the target is not in the search crop: a negative pair."""
    absent_empty: float = 0.2
    """How many of these show no other subject in its place."""
    absent_own: float = 0.0
    """How many of these show where it was, in a frame of its clip in which it is hidden."""
    laid: float = 0.6
    laid_of_clips: float = 0.35
    any_rectangle: float = 0.05
    mirror: float = 0.5
    turn_far: float = 0.2
    """How likely a laid target is turned by any angle."""
    turn: float = 0.25
    """Deviation of the angle otherwise, in radians."""
    turn_boxes: float = 0.08
    """Deviation of the angle of subjects without a mask: how their box turns is not known well."""
    stretch: float = 0.18
    rivals: float = 0.5
    alike: float = 0.6
    """How likely a rival is of the target's own kind, where that is known."""
    occluders: float = 0.22
    same_scene: float = 0.65
    fine: float = 0.3
    """How likely a crop is made at twice its size and then reduced, without aliasing."""
    coarse_pair: float = 0.1
    """How likely template and search both show few pixels."""
    inexact: float = 0.3
    """How likely the box of a template is a little off, as one drawn by hand."""
    filled: bool = True
    """What is outside of a picture is mirrored or another picture, at times; or else plain."""
    unlabelled_alike: tuple[str, ...] = ()
    """Sources whose subjects of one label are often one and the same thing."""


@dataclass(frozen=True, eq=False)
class Sample:
    """templates: (K, T, T, 3) and search: (S, S, 3) uint8 BGR.

    template_boxes: (K, 4) and box: (4,) cx, cy, w, h in parts of the crop. present: 1 or 0.
    certain: weight of `present`; a target that is nearly hidden is neither. mask: (S, S) uint8,
    255 where the target is seen in the search crop; only if `Crops.masks` asks for it. has_mask:
    1, or 0 for a target whose outline is not known, or that is not there.
    """

    templates: Image
    template_boxes: Numbers
    search: Image
    box: Numbers
    present: float
    certain: float
    sentence: str = ''
    """What is said of the target; the name of its kind where that is all there is."""
    mask: Image | None = None
    has_mask: float = 0.0


@dataclass(frozen=True, slots=True)
class _Backdrop:
    """A picture behind a laid target: which part of it, its centre and side in its pixels."""

    picture: Image
    centre: tuple[float, float]
    side: float

    def placement(self, side_px: int) -> Placement:
        scale = side_px / self.side
        x, y = self.centre
        return np.array([[scale, 0, side_px / 2 - scale * x], [0, scale, side_px / 2 - scale * y]])


class _Shape:
    """The mask of a target while its crop is drawn: (side, side) uint8."""

    drawn: Image | None = None

    def cover(self, put: Laid | None) -> None:
        """What was laid over it is not seen any more."""
        if put is not None and self.drawn is not None:
            rows, columns, opacity = put
            self.drawn[rows, columns][opacity > 127] = 0


ORDERS = {
    'near': 'two frames with no more than gap_frames seen ones between; some the other way round',
    'interval': 'all within gap_frames of the first template, before or after (PySOT, STARK)',
    'causal': 'the search frame after the first template, further templates before it (STARK)',
    'trident': 'any two; further templates beside the search frame, towards the first (STARK)',
}
"""Frames in which the target is hidden are never chosen; `gap_frames` grows where it must."""


@dataclass(frozen=True, eq=False)
class _Alike:
    """Subjects of one label that can be cut out, and of each the number of its picture."""

    subjects: list[Subject]
    pictures: NDArray[np.int64]


class Sampler:
    """Makes samples by number. Holds nothing that changes, apart from decoded pictures.

    A picture that is missing or broken is told, and another sample made in place of that which
    needs it: always the same. Raises DataError where that does not help.
    """

    def __init__(
        self, collection: Collection, crops: Crops, mix: Mix, weather: Weather, seed: int = 0
    ) -> None:
        self.collection, self.crops, self.mix = collection, crops, mix
        self.weather, self.seed = weather, seed
        by_source: dict[str, list[Subject]] = defaultdict(list)
        by_label: dict[str, list[Subject]] = defaultdict(list)
        masked: dict[str, list[tuple[Subject, int]]] = defaultdict(list)
        self._cutouts: list[Subject] = []
        self._pictures: dict[Key, int] = {}
        for subject in collection.subjects:
            by_source[subject.source].append(subject)
            first = subject.appearances[0]
            if first.mask:
                self._cutouts.append(subject)
            if subject.label and subject.source not in mix.unlabelled_alike:
                by_label[subject.label].append(subject)
                if first.mask:
                    number = self._pictures.setdefault(first.picture, len(self._pictures))
                    masked[subject.label].append((subject, number))
        if mix.order not in ORDERS:
            raise DataError(f'mix.order {mix.order!r} is none of {", ".join(ORDERS)}')
        unknown = sorted(mix.sources.keys() - by_source.keys())
        if unknown:
            raise DataError(f'the recipe names sources that are not there: {", ".join(unknown)}')
        self._by_label = {label: own for label, own in by_label.items() if len(own) > 1}
        self._alike = {
            label: _Alike([each for each, _ in own], np.array([number for _, number in own]))
            for label, own in masked.items()
            if label in self._by_label
        }
        self._sources = [by_source[name] for name in sorted(by_source)]
        weights = np.array(
            [
                mix.sources.get(name, 0.0) if mix.sources else len(by_source[name])
                for name in sorted(by_source)
            ],
            np.float64,
        )
        if weights.sum() <= 0:
            raise DataError('all sources have the weight 0')
        self._shares = weights / weights.sum()

    def __call__(self, number: int) -> Sample:
        for attempt in range(_ATTEMPTS - 1):
            seed = [self.seed, number, attempt] if attempt else [self.seed, number]
            try:
                return self._made(np.random.default_rng(seed))
            except DataError as error:
                print(f'sample {number} is made anew: {error}', file=sys.stderr, flush=True)
        return self._made(np.random.default_rng([self.seed, number, _ATTEMPTS]))

    def _made(self, random: np.random.Generator) -> Sample:
        subject, first, second, further = self._choose(random)
        mirror = random.random() < self.mix.mirror
        share = self.mix.laid_of_clips if subject.is_clip else self.mix.laid
        is_laid = bool(first.mask and second.mask) and random.random() < share
        absent = random.random() < self.mix.absent
        backdrop = self._backdrop(random) if is_laid else None
        templates, boxes = [], []
        for slot in range(self.crops.templates):
            if slot and further:
                shown = further[slot - 1]
            elif slot == 0 or random.random() < 0.3:
                shown = first
            else:
                shown = self._another(random, subject)
            crop, box = self._template(random, shown, backdrop, mirror)
            templates.append(crop)
            boxes.append(box)
        shape = None
        if absent:
            search, found = self._without(random, subject, backdrop, mirror), None
        else:
            if self.crops.masks and second.mask is not None:
                shape = _Shape()
            search, found = self._with(random, subject, second, backdrop, mirror, shape)
        box, visible = found if found is not None else (Box(0.0, 0.0, 1.0, 1.0), 0.0)
        search = weathered(search, random, self.weather)
        templates = [weathered(crop, random, self.weather) for crop in templates]
        if random.random() < self.mix.coarse_pair:
            search = coarsened(search, random)
            templates = [coarsened(crop, random) for crop in templates]
        return Sample(
            np.stack(templates),
            np.stack([_parts(each, self.crops.template_px) for each in boxes]),
            search,
            _parts(box, self.crops.search_px),
            present=float(visible > 0.2),
            certain=float(absent or not 0.1 < visible < 0.3),
            sentence=subject.sentence or (subject.label or '').replace('_', ' '),
            mask=self._mask(shape),
            has_mask=float(shape is not None),
        )

    def _mask(self, shape: _Shape | None) -> Image | None:
        """What was drawn of the target, at the size of the search crop; None if not asked for."""
        if not self.crops.masks:
            return None
        side = self.crops.search_px
        if shape is None:
            return np.zeros((side, side), np.uint8)
        assert shape.drawn is not None
        return _reduced(shape.drawn, Box(0.0, 0.0, 1.0, 1.0), side)[0]

    def _choose(
        self, random: np.random.Generator
    ) -> tuple[Subject, Appearance, Appearance, tuple[Appearance, ...]]:
        """A subject, where the first template and the search crop show it, and further templates.

        The latter are () where any appearance will do.
        """
        if random.random() < self.mix.any_rectangle:
            subject = self._rectangle(random)
            return subject, subject.appearances[0], subject.appearances[0], ()
        subject = self._subject(random)
        shown = subject.appearances
        if not subject.is_clip:
            return subject, shown[0], shown[0], ()
        if self.mix.order != 'near':
            first, second, *further = self._in_order(random, frames_of(subject))
            return subject, shown[first], shown[second], tuple(shown[each] for each in further)
        first = int(random.integers(len(shown)))
        gap = int(random.integers(0, self.mix.gap_frames + 1))
        if random.random() < self.mix.backwards:
            gap = -gap
        second = min(max(first + gap, 0), len(shown) - 1)
        return subject, shown[first], shown[second], ()

    def _in_order(self, random: np.random.Generator, frames: NDArray[np.integer]) -> list[int]:
        """Places in `frames`: of the first template, the search crop and further templates.

        frames: rising, two at least.
        """
        count, more, gap = len(frames), self.crops.templates - 1, self.mix.gap_frames
        if self.mix.order == 'trident':
            first, search = (int(each) for each in random.integers(count, size=2))
            near = int(frames[search])
            span = (near, near + gap) if first >= search else (near - gap, near)
            return [first, search, *_within(random, frames, *span, more)]
        if self.mix.order == 'causal':
            # Of the last frame nothing comes after, of the first nothing before.
            base = int(random.integers(min(more > 0, count - 2), count - 1))
            near = int(frames[base])
            since, until = near - gap, near + gap
            while base and frames[base - 1] < since:
                since -= _WIDENED_BY
            while frames[base + 1] > until:
                until += _WIDENED_BY
            before = _within(random, frames, since, near - (base > 0), more)
            return [base, *_within(random, frames, near + 1, until, 1), *before]
        base = int(random.integers(count))
        near = int(frames[base])
        further = _within(random, frames, near - gap, near + gap, more)
        return [base, *_within(random, frames, near - gap, near + gap, 1), *further]

    def _subject(self, random: np.random.Generator) -> Subject:
        own = self._sources[int(random.choice(len(self._sources), p=self._shares))]
        for _ in range(3):
            subject = own[int(random.integers(len(own)))]
            # Of the smallest there is little to be seen: they come, but not often.
            if subject.appearances[0].box.area > 144 or random.random() < 0.3:
                break
        return subject

    def _rectangle(self, random: np.random.Generator) -> Subject:
        """Any part of any picture: what it shows can be found again, whatever it is."""
        key = self.collection.pictures[int(random.integers(len(self.collection.pictures)))]
        height, width = self.collection.picture(key).shape[:2]
        w, h = (side * random.uniform(0.1, 0.4) for side in (width, height))
        box = Box(random.uniform(0, width - w), random.uniform(0, height - h), w, h)
        return Subject(key[0], None, (Appearance(key, box),))

    def _another(self, random: np.random.Generator, subject: Subject) -> Appearance:
        return subject.appearances[int(random.integers(len(subject.appearances)))]

    def _template(
        self,
        random: np.random.Generator,
        shown: Appearance,
        backdrop: _Backdrop | None,
        mirror: bool,
    ) -> tuple[Image, Box]:
        crops, jitter = self.crops, self.crops.template_jitter
        shift = random.uniform(-jitter, jitter, 2)
        window = Window(
            crops.template_factor * float(np.exp(jitter * random.standard_normal())),
            (float(shift[0]), float(shift[1])),
            crops.context,
        )
        pose = self._pose(random, shown, is_laid=backdrop is not None, is_search=False)
        side = self._drawn_at(random, crops.template_px)
        canvas, hull = self._scene(random, shown, pose @ _mirror(mirror), window, side, backdrop)
        if backdrop is not None and random.random() < 0.3 * self.mix.rivals:
            self._add_rival(random, None, canvas, box_around(hull))
        canvas, box = _reduced(canvas, box_around(hull), crops.template_px)
        if random.random() < self.mix.inexact:
            off = np.exp(0.05 * random.standard_normal(2))
            box = Box.from_center(box.cx, box.cy, box.w * off[0], box.h * off[1])
        return canvas, box

    def _with(
        self,
        random: np.random.Generator,
        subject: Subject,
        shown: Appearance,
        backdrop: _Backdrop | None,
        mirror: bool,
        shape: _Shape | None = None,
    ) -> tuple[Image, tuple[Box, float]]:
        """A search crop that shows the target, its box, and how much of it can be seen."""
        crops, mix = self.crops, self.mix
        off = random.uniform(-0.5, 0.5, 2) * crops.centre_jitter
        if crops.box_jitter:
            growth = float(np.exp(crops.scale_jitter * random.standard_normal(2).mean()))
            off = off * growth
        else:
            growth = float(np.exp(crops.scale_jitter * random.standard_normal()))
        factor = crops.search_factor * growth
        # The centre stays in the crop, however small the window.
        off = np.clip(off, -0.46 * factor, 0.46 * factor)
        window = Window(factor, (float(off[0]), float(off[1])), crops.context)
        pose = self._pose(random, shown, is_laid=backdrop is not None, is_search=True)
        if backdrop is not None:
            backdrop = self._later(random, backdrop)
        rivals = int(random.integers(1, 4)) if random.random() < mix.rivals else 0
        side = self._drawn_at(random, crops.search_px)
        canvas, hull = self._scene(
            random, shown, pose @ _mirror(mirror), window, side, backdrop, rivals, subject, shape
        )
        visible = 1.0
        if random.random() < mix.occluders:
            visible = self._hide(random, canvas, hull, shape)
        canvas, box = _reduced(canvas, box_around(hull), crops.search_px)
        return canvas, (box, visible)

    def _without(
        self,
        random: np.random.Generator,
        subject: Subject,
        backdrop: _Backdrop | None,
        mirror: bool,
    ) -> Image:
        """A search crop in which the target is not."""
        side = self.crops.search_px
        if self.mix.absent_own and subject.hidden and random.random() < self.mix.absent_own:
            there = subject.hidden[int(random.integers(len(subject.hidden)))]
            return self._with(random, subject, there, None, mirror)[0]
        is_empty = random.random() < self.mix.absent_empty
        if is_empty or (backdrop is not None and random.random() < 0.3):
            behind = self._later(random, backdrop) if backdrop else self._backdrop(random)
            canvas = view(behind.picture, behind.placement(side), side, cv2.BORDER_REFLECT_101)
            for _ in range(int(random.integers(0, 3))):
                self._add_rival(random, subject, canvas, Box(0.0, 0.0, side / 4, side / 4), True)
            return canvas
        other = self._rival_of(random, subject)
        shown = self._another(random, other)
        if not shown.mask or random.random() < 0.4:
            backdrop = None
        return self._with(random, other, shown, backdrop, mirror)[0]

    def _rival_of(self, random: np.random.Generator, subject: Subject) -> Subject:
        """Another subject than this, if it can be of its kind."""
        alike = self._by_label.get(subject.label or '', [])
        for _ in range(8):
            is_alike = alike and random.random() < self.mix.alike
            other = alike[int(random.integers(len(alike)))] if is_alike else self._subject(random)
            if other.appearances[0].picture != subject.appearances[0].picture:
                return other
        return self._rectangle(random)

    def _drawn_at(self, random: np.random.Generator, side: int) -> int:
        return 2 * side if random.random() < self.mix.fine else side

    def _pose(
        self, random: np.random.Generator, shown: Appearance, is_laid: bool, is_search: bool
    ) -> NDArray[np.float64]:
        mix = self.mix
        stretch, shear = random.standard_normal(2) * mix.stretch * (1.0, 0.5)
        if shown.mask is None:
            # The box of what is turned is not known well: it is turned little.
            angle = float(np.clip(mix.turn_boxes * random.standard_normal(), -0.2, 0.2))
            return turned(angle, 0.5 * stretch, 0.3 * shear)
        angle = mix.turn * random.standard_normal() * (1.0 if is_laid else 0.5)
        if is_search and random.random() < mix.turn_far * (1.0 if is_laid else 0.5):
            angle = random.uniform(-np.pi, np.pi)
        return turned(float(angle), stretch, shear)

    def _scene(
        self,
        random: np.random.Generator,
        shown: Appearance,
        pose: NDArray[np.float64],
        window: Window,
        side: int,
        backdrop: _Backdrop | None,
        rivals: int = 0,
        subject: Subject | None = None,
        shape: _Shape | None = None,
    ) -> tuple[Image, Points]:
        """A crop that shows the target, and the target's hull in it, in pixels.

        Its mask is drawn into `shape`, where there is one to draw into.
        """
        if backdrop is None:
            picture = self.collection.picture(shown.picture)
            source_hull = self.collection.hull(shown)
            placement = placed(source_hull, pose, window, side)
            canvas = self._surrounded(random, picture, shown.box, placement, side)
            hull = moved(source_hull, placement)
            if shape is not None:
                shape.drawn = view(self.collection.mask(shown), placement, side)
        else:
            cutout = self.collection.cutout(shown)
            placement = placed(cutout.hull, pose, window, side)
            canvas = view(backdrop.picture, backdrop.placement(side), side, cv2.BORDER_REFLECT_101)
            hull = moved(cutout.hull, placement)
        for _ in range(rivals):
            put = self._add_rival(random, subject, canvas, box_around(hull))
            if shape is not None:
                shape.cover(put)
        if backdrop is not None:
            light = other_light(random, 0.7) if random.random() < 0.5 else None
            put = lay(canvas, cutout.pixels, placement, light)
            if shape is not None:
                shape.drawn = np.zeros((side, side), np.uint8)
                if put is not None:
                    shape.drawn[put[:2]] = put[2]
        return canvas, hull

    def _surrounded(
        self,
        random: np.random.Generator,
        picture: Image,
        box: Box,
        placement: Placement,
        side: int,
    ) -> Image:
        """A picture as it is placed; outside black, or mirrored, or another picture.

        The pictures are small, and large targets would mostly be seen on black. In the PySOT
        convention, where trackers see it so, it is the picture's mean colour.
        """
        height, width = picture.shape[:2]
        if not self.mix.filled:
            fill = mean_colour(picture) if self.crops.context else (0, 0, 0)
            return view(picture, placement, side, fill=fill)
        if box.area < 0.1 * height * width:
            mirrored = random.random() < 0.4
            border = cv2.BORDER_REFLECT_101 if mirrored else cv2.BORDER_CONSTANT
            return view(picture, placement, side, border)
        if random.random() < 0.3:
            return view(picture, placement, side)
        behind = self._backdrop(random)
        canvas = view(behind.picture, behind.placement(side), side, cv2.BORDER_REFLECT_101)
        lay(canvas, cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA), placement)
        return canvas

    def _add_rival(
        self,
        random: np.random.Generator,
        subject: Subject | None,
        canvas: Image,
        box: Box,
        anywhere: bool = False,
    ) -> Laid | None:
        """Lay something beside the target; of its kind, where `subject` tells that."""
        if not self._cutouts:
            return None
        rival = self._cutouts[int(random.integers(len(self._cutouts)))]
        if subject is not None and (alike := self._alike.get(subject.label or '')) is not None:
            own = self._pictures.get(subject.appearances[0].picture, -1)
            others = np.flatnonzero(alike.pictures != own)
            if len(others) and random.random() < self.mix.alike:
                rival = alike.subjects[others[int(random.integers(len(others)))]]
        cutout = self.collection.cutout(rival.appearances[0])
        factor = 4.0 * float(np.exp(0.25 * random.standard_normal()))
        pose = turned(0.2 * random.standard_normal()) @ _mirror(random.random() < 0.5)
        root = np.sqrt(box.area)
        side = canvas.shape[0]
        for _ in range(6):
            x, y = random.uniform(0, side, 2)
            if anywhere or max(abs(x - box.cx) / box.w, abs(y - box.cy) / box.h) > 0.8:
                break
        else:
            return None
        placement = placed(cutout.hull, pose, Window(factor), round(4 * root))
        placement[:, 2] += (x - 2 * root, y - 2 * root)
        return lay(canvas, cutout.pixels, placement, other_light(random, 0.7))

    def _hide(
        self,
        random: np.random.Generator,
        canvas: Image,
        hull: Points,
        shape: _Shape | None = None,
    ) -> float:
        """Put something in front of the target; returns how much of it is still to be seen."""
        side = canvas.shape[0]
        box = box_around(hull)
        root = np.sqrt(box.area)
        whole = np.zeros((side, side), np.uint8)
        cv2.fillConvexPoly(whole, np.rint(hull - 0.5).astype(np.int32), 255)
        before = max(1, cv2.countNonZero(whole))
        x = box.cx + random.uniform(-0.7, 0.7) * box.w
        y = box.cy + random.uniform(-0.7, 0.7) * box.h
        if random.random() < 0.6 and self._cutouts:
            thing = self._cutouts[int(random.integers(len(self._cutouts)))]
            cutout = self.collection.cutout(thing.appearances[0])
            pixels, outline = cutout.pixels, cutout.hull
            pose = turned(random.uniform(-0.5, 0.5), 0.3 * random.standard_normal())
            size = root * random.uniform(0.4, 1.2)
        else:
            pixels = self._board(random)
            height, width = pixels.shape[:2]
            outline = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64)
            pose = turned(random.uniform(-0.2, 0.2), random.uniform(-2.0, 2.0))
            size = root * random.uniform(0.4, 1.0)
        placement = placed(outline, pose, Window(1.0), 1)
        placement = np.column_stack([placement[:, :2] * size, (placement[:, 2] - 0.5) * size])
        placement[:, 2] += (x, y)
        put = lay(canvas, pixels, placement)
        if put is not None:
            rows, columns, opacity = put
            whole[rows, columns][opacity > 127] = 0
        if shape is not None:
            shape.cover(put)
        return cv2.countNonZero(whole) / before

    def _board(self, random: np.random.Generator) -> Image:
        """A rectangle of any picture, opaque."""
        key = self.collection.pictures[int(random.integers(len(self.collection.pictures)))]
        picture = self.collection.picture(key)
        height, width = picture.shape[:2]
        h, w = min(48, height), min(48, width)
        y, x = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
        return np.dstack([picture[y : y + h, x : x + w], np.full((h, w), 255, np.uint8)])

    def _backdrop(self, random: np.random.Generator) -> _Backdrop:
        key = self.collection.pictures[int(random.integers(len(self.collection.pictures)))]
        picture = self.collection.picture(key)
        height, width = picture.shape[:2]
        side = random.uniform(0.35, 1.0) * min(height, width)
        x, y = (random.uniform(0.3, 0.7) * length for length in (width, height))
        return _Backdrop(picture, (x, y), side)

    def _later(self, random: np.random.Generator, backdrop: _Backdrop) -> _Backdrop:
        """The same place a while later, seen by a search crop; or another place.

        The backdrop of a template has the scale of one; a search crop sees so much more.
        """
        if random.random() > self.mix.same_scene:
            return self._backdrop(random)
        (x, y), (dx, dy) = backdrop.centre, 0.3 * backdrop.side * random.standard_normal(2)
        crops = self.crops
        side = backdrop.side * crops.search_factor / crops.template_factor
        return _Backdrop(
            backdrop.picture, (x + dx, y + dy), side * np.exp(0.1 * random.standard_normal())
        )


def _within(
    random: np.random.Generator, frames: NDArray[np.integer], first: int, last: int, count: int
) -> list[int]:
    """Places of any `count` of the frames from `first` to `last`, of which there must be one."""
    begin, end = np.searchsorted(frames, [first, last + 1]).tolist()
    return [int(each) for each in random.integers(begin, end, size=count)]


def _mirror(is_mirrored: bool) -> NDArray[np.float64]:
    return np.diag([-1.0 if is_mirrored else 1.0, 1.0])


def _reduced(canvas: Image, box: Box, side: int) -> tuple[Image, Box]:
    """A crop that may be drawn larger, and a box in it, at `side` pixels."""
    if canvas.shape[0] == side:
        return canvas, box
    scale = side / canvas.shape[0]
    small = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)
    return small, Box(*(scale * value for value in box.xywh()))


def _parts(box: Box, side: int) -> Numbers:
    """cx, cy, w, h in parts of a crop of `side` pixels."""
    return np.array([box.cx, box.cy, box.w, box.h], np.float32) / np.float32(side)
