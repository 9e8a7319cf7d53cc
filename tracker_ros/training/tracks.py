# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the annotations of a large set say, in columns, and kept for the next time.

TrackingNet has 14 million boxes. As objects they would take gigabytes and, copied into each
process that loads data, several times that; here a frame is 28 bytes, shared by all of them, and
becomes an `Appearance` only when a sample is made of it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box
from tracker_ros.resources import cache_path
from tracker_ros.training.pictures import Appearance, DataError, Key, Subject

LARGEST_COORDINATE_PX = 65536.0
"""No picture is that large: a box beyond it is broken."""

_FORMAT = 2
_PICTURES_OF_A_CLIP = 8
_NOTHING = -1


@dataclass(frozen=True, eq=False)
class Columns:
    """All subjects of one set: a row a frame, those of a subject one after the other.

    Of each, the frames that show it come first, then those in which it is hidden, with the box it
    had in the nearest that does.

    texts: every string, once; the other columns have places in it, or -1 for none.
    first: (S + 1,) where the rows of each subject begin. seen: (S,) how many of them show it.
    prefix, suffix, label, sentence: (S,).
    boxes: (N, 4) float32 of x, y, w, h in pixels, 0-based: a ten-thousandth of a pixel exact.
    frames: (N,) when each was, in frames. numbers: (N,) what is between prefix and suffix of its
    file: a number of at least `digits` digits; -1 digits: a place in `texts`.
    instances: (N,) the value in its mask, 0 without one. masks: as `mask_name` has it.
    outlines, parts, outline_first, sizes: where masks are drawn, see `outline`.
    """

    texts: list[str]
    first: NDArray[np.int64]
    seen: NDArray[np.int64]
    prefix: NDArray[np.int32]
    suffix: NDArray[np.int32]
    label: NDArray[np.int32]
    sentence: NDArray[np.int32]
    boxes: NDArray[np.float32]
    frames: NDArray[np.int32]
    numbers: NDArray[np.int32]
    instances: NDArray[np.int32]
    digits: int
    masks: str
    outlines: NDArray[np.float32]
    parts: NDArray[np.int64]
    outline_first: NDArray[np.int64]
    sizes: NDArray[np.int32]
    problems: tuple[str, ...]
    """What was left out, and why; each names file and line."""

    def text(self, place: int) -> str:
        return self.texts[place] if place >= 0 else ''

    def picture_name(self, subject: int, row: int) -> str:
        number = int(self.numbers[row])
        middle = self.texts[number] if self.digits < 0 else str(number).zfill(self.digits)
        return self.text(self.prefix[subject]) + middle + self.text(self.suffix[subject])

    def outline(self, row: int) -> tuple[list[NDArray[np.float32]], int, int, bool]:
        """Of a row whose mask is drawn: polygons, or one list of runs; width, height, are runs."""
        first, last = self.outline_first[row : row + 2].tolist()
        ends = self.parts[first : last + 1].tolist()
        width, height, are_runs = self.sizes[row].tolist()
        polygons = [self.outlines[a:b] for a, b in itertools.pairwise(ends)]
        return polygons, width, height, bool(are_runs)

    def mask_name(self, subject: int, row: int) -> str:
        """`masks` is 'outline', for one that is drawn, or the folder and suffix of its file.

        The latter, 'JPEGImages/ Annotations/ .png', is: in place of which folder, which, and which
        suffix.
        """
        if self.masks == 'outline':
            return f'{OUTLINE}{row}'
        pictures, masks, suffix = self.masks.split(' ')
        name = self.picture_name(subject, row)
        return name.replace(pictures, masks, 1).rpartition('.')[0] + suffix


OUTLINE = 'outline:'
"""What names of masks that are drawn begin with; the number of the row follows."""


class Track(Sequence[Appearance]):
    """The appearances of one subject, made when they are asked for; or where it is hidden."""

    __slots__ = ('_columns', '_last', '_row', '_source', '_subject')

    def __init__(
        self, columns: Columns, source: str, subject: int, is_hidden: bool = False
    ) -> None:
        self._columns, self._source, self._subject = columns, source, subject
        first, last = columns.first[subject : subject + 2].tolist()
        middle = first + int(columns.seen[subject])
        self._row, self._last = (middle, last) if is_hidden else (first, middle)

    def __len__(self) -> int:
        return self._last - self._row

    @overload
    def __getitem__(self, place: int) -> Appearance: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Appearance, ...]: ...
    def __getitem__(self, place: int | slice) -> Appearance | tuple[Appearance, ...]:
        rows = range(self._row, self._last)[place]
        if isinstance(rows, range):
            return tuple(self._made(row) for row in rows)
        return self._made(rows)

    def frames(self) -> NDArray[np.int32]:
        """(n,) when each was, in frames."""
        return self._columns.frames[self._row : self._last]

    def _made(self, row: int) -> Appearance:
        columns = self._columns
        instance = int(columns.instances[row])
        mask = (self._source, columns.mask_name(self._subject, row)) if instance else None
        return Appearance(
            (self._source, columns.picture_name(self._subject, row)),
            Box(*columns.boxes[row].tolist()),
            mask,
            instance,
            int(columns.frames[row]),
        )


def frames_of(subject: Subject) -> NDArray[np.integer]:
    """(n,) when each of its appearances was, in frames."""
    if isinstance(subject.appearances, Track):
        return subject.appearances.frames()
    return np.array([each.frame for each in subject.appearances])


def subjects_of(columns: Columns, source: str) -> list[Subject]:
    hidden = set(np.flatnonzero(np.diff(columns.first) > columns.seen).tolist())
    return [
        Subject(
            source,
            columns.text(int(columns.label[number])) or None,
            Track(columns, source, number),
            columns.text(int(columns.sentence[number])),
            Track(columns, source, number, is_hidden=True) if number in hidden else (),
        )
        for number in range(len(columns.label))
    ]


def backgrounds_of(subjects: Iterable[Subject]) -> list[Key]:
    """Pictures to lay things over: each still once, and a few of each clip."""
    found: dict[Key, None] = {}
    for subject in subjects:
        count = len(subject.appearances)
        for place in range(0, count, max(1, -(-count // _PICTURES_OF_A_CLIP))):
            found[subject.appearances[place].picture] = None
    return list(found)


class Writer:
    """Gathers the columns of a set while its annotations are read."""

    def __init__(self, digits: int = _NOTHING, masks: str = '') -> None:
        self.problems: list[str] = []
        self._digits, self._masks = digits, masks
        self._texts: dict[str, int] = {}
        self._subjects: list[tuple[int, ...]] = []
        self._boxes: list[NDArray[np.float32]] = []
        self._frames: list[NDArray[np.int32]] = []
        self._numbers: list[NDArray[np.int32]] = []
        self._instances: list[NDArray[np.int32]] = []
        self._outlines: list[NDArray[np.float32]] = []
        self._parts: list[int] = [0]
        self._outline_first: list[int] = [0]
        self._sizes: list[tuple[int, int, int]] = []

    def place(self, text: str | None) -> int:
        """Where a text is in `Columns.texts`; -1 for none."""
        return self._texts.setdefault(text, len(self._texts)) if text else _NOTHING

    def add(
        self,
        boxes: NDArray[np.float64],
        frames: NDArray[np.int64],
        numbers: NDArray[np.int64] | Sequence[str],
        prefix: str = '',
        suffix: str = '',
        label: str | None = None,
        sentence: str | None = None,
        instances: NDArray[np.int64] | None = None,
    ) -> None:
        """Add a subject with n rows, nan where it is hidden; hidden in all, there is no subject.

        numbers: (n,) of its files, or what names them, one a row. The others as in `Columns`.
        Raises DataError for a box that no picture can have.
        """
        is_seen = np.asarray(np.isfinite(boxes).all(axis=1))
        seen = np.flatnonzero(is_seen)
        if not len(seen):
            return
        shown = np.concatenate([seen, np.flatnonzero(~is_seen)])
        boxes = boxes[seen[_nearest(frames[seen], frames[shown])]]
        if (np.abs(boxes) > LARGEST_COORDINATE_PX).any():
            worst = boxes[np.abs(boxes).max(axis=1).argmax()].tolist()
            raise DataError(f'{prefix}: no picture has a box {worst}')
        if isinstance(numbers, np.ndarray):
            middles = numbers[shown]
        else:
            middles = np.array([self.place(numbers[row]) for row in shown.tolist()])
        instances = np.zeros(len(boxes), np.int64) if instances is None else instances[shown]
        instances = np.where(is_seen[shown], instances, 0)
        places = [self.place(text) for text in (prefix, suffix, label, sentence)]
        self._subjects.append((len(shown), len(seen), *places))
        self._boxes.append(boxes.astype(np.float32))
        self._frames.append(frames[shown].astype(np.int32))
        self._numbers.append(middles.astype(np.int32))
        self._instances.append(instances.astype(np.int32))

    def add_outline(
        self, parts: Sequence[NDArray[np.float64]], width: int, height: int, are_runs: bool
    ) -> None:
        """The outline of the row that was added last, for sets in which each row has one.

        parts: polygons (2 n,) of x, y, x, y ...; or one list of runs, see `outlines.from_runs`.
        """
        for part in parts:
            self._outlines.append(part.astype(np.float32))
            self._parts.append(self._parts[-1] + len(part))
        self._outline_first.append(len(self._parts) - 1)
        self._sizes.append((width, height, int(are_runs)))

    def leave_out(self, error: object) -> None:
        self.problems.append(str(error))

    def columns(self) -> Columns:
        table = np.array(self._subjects, np.int64).reshape(-1, 6)
        first = np.concatenate([[0], np.cumsum(table[:, 0])])
        prefix, suffix, label, sentence = (table[:, k].astype(np.int32) for k in range(2, 6))
        return Columns(
            list(self._texts),
            first.astype(np.int64),
            table[:, 1],
            prefix,
            suffix,
            label,
            sentence,
            _joined(self._boxes, np.float32).reshape(-1, 4),
            _joined(self._frames, np.int32),
            _joined(self._numbers, np.int32),
            _joined(self._instances, np.int32),
            self._digits,
            self._masks,
            _joined(self._outlines, np.float32),
            np.array(self._parts, np.int64),
            np.array(self._outline_first, np.int64),
            np.array(self._sizes, np.int32).reshape(-1, 3),
            tuple(self.problems),
        )


def kept(identity: Sequence[str], stamp: str, read: Callable[[], Columns]) -> Columns:
    """The columns as they were read before, or else read now and kept in the user's cache.

    identity: all that says which set it is. stamp: of its annotations as they are now, see
    `stamp_of`; with another they are read anew. Where the cache cannot be written to, they are
    read each time.
    """
    digest = hashlib.sha256('\0'.join([str(_FORMAT), *identity]).encode()).hexdigest()[:16]
    path = cache_path('sets', f'{identity[0]}-{digest}.npz')
    columns = _load(path, stamp)
    if columns is None:
        columns = read()
        _save(path, stamp, columns)
    return columns


def stamp_of(paths: Iterable[Path]) -> str:
    """Changes when a file is changed, or when in a folder files come or go.

    A file that is edited in place below one of the folders does not count.
    """
    digest = hashlib.sha256()
    for path in paths:
        facts = path.stat()
        size = 0 if path.is_dir() else facts.st_size
        digest.update(f'{path}\0{size}\0{facts.st_mtime_ns}\0'.encode())
    return digest.hexdigest()


_ARRAYS = (
    'first', 'seen', 'prefix', 'suffix', 'label', 'sentence', 'boxes', 'frames', 'numbers',
    'instances', 'outlines', 'parts', 'outline_first', 'sizes',
)  # fmt: skip


def _save(path: Path, stamp: str, columns: Columns) -> None:
    said = {
        'stamp': stamp,
        'texts': columns.texts,
        'digits': columns.digits,
        'masks': columns.masks,
        'problems': columns.problems,
    }
    arrays = {name: getattr(columns, name) for name in _ARRAYS}
    arrays['said'] = np.frombuffer(json.dumps(said).encode(), np.uint8)
    fresh = path.with_name(f'.{os.getpid()}-{path.name}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open('wb') as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)


def _load(path: Path, stamp: str) -> Columns | None:
    """None where there is no such file, or one that is damaged or of other annotations."""
    try:
        with np.load(path, allow_pickle=False) as content:
            said = json.loads(content['said'].tobytes())
            if said['stamp'] != stamp:
                return None
            arrays = {name: content[name] for name in _ARRAYS}
        return Columns(
            texts=said['texts'],
            digits=said['digits'],
            masks=said['masks'],
            problems=tuple(said['problems']),
            **arrays,
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


def _nearest(frames: NDArray[np.integer], to: NDArray[np.integer]) -> NDArray[np.integer]:
    """Places in `frames`, which rise, of those nearest in time."""
    after = np.searchsorted(frames, to).clip(0, len(frames) - 1)
    before = (after - 1).clip(0)
    is_before = np.abs(to - frames[before]) < np.abs(frames[after] - to)
    return np.asarray(np.where(is_before, before, after))


def _joined(arrays: Sequence[NDArray[Any]], kind: type) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.empty(0, kind)
