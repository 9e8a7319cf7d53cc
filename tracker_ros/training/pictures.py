# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What training sees: subjects, each shown in one or more pictures.

A collection is a folder with ``stills`` and ``videos``. Of each source there is an index
``SOURCE.jsonl`` and the files it names, in ``SOURCE.tar`` or in a folder ``SOURCE``:

- stills: a line a picture, ``{file, w, h, objects: [{b: [x, y, w, h], c: label, m: instance,
  sentence}], mask}``; the mask is a picture of one channel, whose pixels are instances.
- videos: a line a sequence, ``{seq, frames, w, h, mask, gt: [[x, y, w, h] or null], sentence}``,
  with ``SEQ/img/00000.jpg`` and, where there are masks, ``SEQ/mask/00000.png`` with 1 for the
  target.

Nothing is unpacked to disk and nothing in the files is run: bytes are read from the archive and
decoded by OpenCV. Pictures are (H, W, 3) uint8 BGR.
"""

from __future__ import annotations

import json
import math
import os
import tarfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image

Points = NDArray[np.float64]
Key = tuple[str, str]
"""A source and the name of one of its files."""

_LARGEST_FILE_BYTES = 64 << 20
_LARGEST_SIDE_PX = 16384
_ROUND = np.stack(
    [np.cos(np.linspace(0, 2 * np.pi, 32, endpoint=False)),
     np.sin(np.linspace(0, 2 * np.pi, 32, endpoint=False))], axis=1
)  # fmt: skip


class DataError(Exception):
    """Training data are missing or broken; the text names the file, and the line."""


@dataclass(frozen=True, slots=True)
class Appearance:
    """A subject in one picture.

    mask: the file with its outline, and `instance` its value there. frame: when it was, in frames
    of the footage.
    """

    picture: Key
    box: Box
    mask: Key | None = None
    instance: int = 0
    frame: int = 0


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that can be followed; the appearances of one clip are in the order of time."""

    source: str
    label: str | None
    appearances: Sequence[Appearance]
    sentence: str = ''
    """What was said of it, for trackers that are told; empty where nothing was."""
    hidden: Sequence[Appearance] = ()
    """Where it is not seen, as far as that is told, with the box it has in the nearest other."""

    @property
    def is_clip(self) -> bool:
        return len(self.appearances) > 1


@dataclass(frozen=True, eq=False)
class Cutout:
    """A subject cut out of its picture: (H, W, 4) BGR and opacity; the hull in its pixels."""

    pixels: NDArray[np.uint8]
    hull: Points


class Files(Protocol):
    """Where the bytes of a source are."""

    def read(self, name: str) -> bytes:
        """Raises DataError."""


class FolderFiles:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes:
        path = self._folder / name
        if Path(name).is_absolute() or '..' in Path(name).parts:
            raise DataError(f'{path}: names of files must stay below {self._folder}')
        try:
            if path.stat().st_size > _LARGEST_FILE_BYTES:
                raise DataError(f'{path} is larger than {_LARGEST_FILE_BYTES >> 20} MiB')
            return path.read_bytes()
        except OSError as error:
            raise DataError(f'{path} cannot be read: {error}') from error


class TarFiles:
    """Plain files of an uncompressed archive, by name; read where they lie."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, tuple[int, int]] = {}
        try:
            with tarfile.open(path, 'r:') as archive:
                for member in archive:
                    if member.isreg() and member.size <= _LARGEST_FILE_BYTES:
                        self._places[member.name] = (member.offset_data, member.size)
            self._stream = path.open('rb')
        except (OSError, tarfile.TarError) as error:
            raise DataError(f'{path} cannot be read: {error}') from error

    def read(self, name: str) -> bytes:
        if name not in self._places:
            raise DataError(f'{self._path} holds no file {name}')
        offset, size = self._places[name]
        # Processes that load data share the file, but must not share a place in it.
        return os.pread(self._stream.fileno(), size, offset)


@dataclass
class Collection:
    """All subjects of a folder, and their pictures, of which the newest stay decoded.

    cache_bytes: how much memory decoded pictures may take.
    """

    subjects: list[Subject]
    pictures: list[Key]
    """Every picture of the stills, and some of each clip: for backgrounds."""
    files: dict[str, Files]
    cache_bytes: int = 3 << 30
    _cache: OrderedDict[object, Any] = field(default_factory=OrderedDict, repr=False)
    _cached_bytes: int = 0

    def picture(self, key: Key) -> Image:
        """Decoded; not to be written to."""
        return self._kept(key, lambda: self._decode(key, cv2.IMREAD_COLOR))

    def hull(self, appearance: Appearance) -> Points:
        """(N, 2) x and y in the picture, around the subject.

        Of its outline, where there is one, otherwise of the ellipse that fills its box.
        """
        if appearance.mask is None:
            box = appearance.box
            return np.asarray((box.cx, box.cy) + _ROUND * (box.w / 2, box.h / 2))
        return self._kept((appearance, 'hull'), lambda: hull_of(self._mask(appearance)))

    def mask(self, appearance: Appearance) -> NDArray[np.uint8]:
        """(H, W) of its picture, 255 for the subject; only of appearances with a mask."""
        return self._kept((appearance, 'mask'), lambda: self._mask(appearance))

    def cutout(self, appearance: Appearance) -> Cutout:
        """The subject alone; only of appearances with a mask."""
        return self._kept((appearance, 'cutout'), lambda: self._cut(appearance))

    def _cut(self, appearance: Appearance) -> Cutout:
        mask, picture = self._mask(appearance), self.picture(appearance.picture)
        if mask.shape != picture.shape[:2]:
            raise DataError(
                f'{appearance.picture[0]}: {appearance.picture[1]} is {picture.shape[1]} x '
                f'{picture.shape[0]}, its mask {mask.shape[1]} x {mask.shape[0]}'
            )
        x, y, w, h = cv2.boundingRect(mask)
        # A rim of nothing around it, so that it ends softly wherever it is put.
        rows, columns = slice(max(0, y - 2), y + h + 2), slice(max(0, x - 2), x + w + 2)
        inside = cv2.copyMakeBorder(mask[rows, columns], 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=0)
        colours = cv2.copyMakeBorder(picture[rows, columns], 2, 2, 2, 2, cv2.BORDER_REPLICATE)
        # The rim of an outline has pixels of the old background: a little narrower, and soft.
        opacity = cv2.GaussianBlur(inside, (3, 3), 0)
        opacity = np.clip(opacity.astype(np.int16) * 2 - 255, 0, 255).astype(np.uint8)
        shift = (columns.start - 2, rows.start - 2)
        return Cutout(np.dstack([colours, opacity]), self.hull(appearance) - shift)

    def _mask(self, appearance: Appearance) -> NDArray[np.uint8]:
        if appearance.mask is None:
            raise DataError(f'{appearance.picture[1]} has no mask')
        values = self._decode(appearance.mask, cv2.IMREAD_GRAYSCALE)
        mask = (values == appearance.instance).astype(np.uint8) * 255
        if not mask.any():
            raise DataError(
                f'{appearance.mask[0]}: {appearance.mask[1]} shows no instance '
                f'{appearance.instance}'
            )
        return mask

    def _decode(self, key: Key, mode: int) -> Any:
        source, name = key
        content = np.frombuffer(self.files[source].read(name), np.uint8)
        image = cv2.imdecode(content, mode) if content.size else None
        if image is None or max(image.shape[:2]) > _LARGEST_SIDE_PX:
            raise DataError(f'{source}: {name} is no picture that can be used')
        return image

    def _kept(self, key: object, make: Any) -> Any:
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        value = make()
        self._cache[key] = value
        self._cached_bytes += _size_of(value)
        while self._cached_bytes > self.cache_bytes:
            self._cached_bytes -= _size_of(self._cache.popitem(last=False)[1])
        return value


def hull_of(mask: NDArray[np.uint8]) -> Points:
    """(N, 2) convex hull around the pixels above 127, with their full squares."""
    inside = cv2.findNonZero((mask > 127).astype(np.uint8))
    if inside is None:
        return np.empty((0, 2))
    corners = cv2.convexHull(inside)[:, 0].astype(np.float64)
    squares = np.concatenate([corners + shift for shift in ((0, 0), (1, 0), (0, 1), (1, 1))])
    return np.asarray(cv2.convexHull(squares.astype(np.float32))[:, 0], np.float64)


def read_collection(
    folder: Path, leave_out: tuple[str, ...] = (), cache_bytes: int = 3 << 30
) -> Collection:
    """Read all sources below `folder` but those in `leave_out`. Raises DataError."""
    subjects: list[Subject] = []
    pictures: list[Key] = []
    files: dict[str, Files] = {}
    for kind, read in (('stills', _stills), ('videos', _videos)):
        for index in sorted((folder / kind).glob('*.jsonl')):
            source = index.stem
            if source in leave_out:
                continue
            if source in files:
                raise DataError(f'{index}: there are stills and videos of the name {source}')
            files[source] = _open(index)
            for subject in read(index, source, pictures):
                subjects.append(subject)
    if not subjects:
        raise DataError(f'{folder} holds no training data: no stills/*.jsonl or videos/*.jsonl')
    return Collection(subjects, pictures, files, cache_bytes)


def _open(index: Path) -> Files:
    archive, folder = index.with_suffix('.tar'), index.with_suffix('')
    if archive.is_file():
        return TarFiles(archive)
    if folder.is_dir():
        return FolderFiles(folder)
    raise DataError(f'{index}: neither {archive.name} nor a folder {folder.name} is beside it')


def _stills(index: Path, source: str, pictures: list[Key]) -> Iterator[Subject]:
    for place, entry in _lines(index):
        try:
            picture = (source, str(entry['file']))
            mask = (source, str(entry['mask'])) if entry.get('mask') else None
            pictures.append(picture)
            for item in entry['objects']:
                instance = int(item.get('m') or 0)
                yield Subject(
                    source,
                    str(item['c']) if item.get('c') else None,
                    (Appearance(picture, _box(item['b']), mask if instance else None, instance),),
                    str(item.get('sentence') or ''),
                )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f'{place}: {type(error).__name__}: {error}') from error


def _videos(index: Path, source: str, pictures: list[Key]) -> Iterator[Subject]:
    for place, entry in _lines(index):
        try:
            name, truth = str(entry['seq']), entry['gt']
            shown = []
            for number, values in enumerate(truth):
                picture = (source, f'{name}/img/{number:05d}.jpg')
                mask = (source, f'{name}/mask/{number:05d}.png') if entry.get('mask') else None
                if number % 10 == 0:
                    pictures.append(picture)
                if values is not None and all(map(_is_finite, values)):
                    shown.append(Appearance(picture, _box(values), mask, int(bool(mask)), number))
            if len(shown) > 1:
                yield Subject(source, None, tuple(shown), str(entry.get('sentence') or ''))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f'{place}: {type(error).__name__}: {error}') from error


def _lines(index: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        lines = index.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f'{index} cannot be read: {error}') from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f'{index}:{number}: is no JSON: {error}') from error
        if not isinstance(entry, dict):
            raise DataError(f'{index}:{number}: must be a mapping')
        yield f'{index}:{number}', entry


def _box(values: Any) -> Box:
    x, y, w, h = map(float, values)
    if not (w > 0 and h > 0 and all(map(math.isfinite, (x, y, w, h)))):
        raise ValueError(f'{values} is no box')
    return Box(x, y, w, h)


def _is_finite(value: Any) -> bool:
    return value is not None and math.isfinite(float(value))


def _size_of(value: Any) -> int:
    if isinstance(value, Cutout):
        return value.pixels.nbytes + value.hull.nbytes
    return int(value.nbytes)
