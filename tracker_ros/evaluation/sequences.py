# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Annotated sequences: footage and the true box of one target in each of its frames.

The layouts of the benchmarks are read by `datasets`. The one read here is the plain one: a folder
with `groundtruth.txt` and either a video (`video.mp4`, `video.avi`, ...), a folder `img` or
`images`, or the images themselves; or a folder of such folders. `groundtruth.txt` has one line a
frame, `x y w h` separated by commas, tabs or spaces: 0-based top-left corner and size in pixels. A
frame without the target has `nan` four times, or a box of no size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracker_ros.footage import IMAGE_SUFFIXES, Footage, FootageError, natural_key, open_footage
from tracker_ros.geometry import Box

ANNOTATION_NAME = 'groundtruth.txt'
VIDEO_SUFFIXES = frozenset({'.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm'})

_IMAGE_FOLDERS = ('img', 'images')
_SEPARATORS = re.compile(r'[,;\s]+')

Boxes = NDArray[np.float64]


class SequenceError(Exception):
    """Footage or annotation is missing or broken; the text names the file, and the line."""


@dataclass(frozen=True, eq=False)
class Sequence:
    """One target in one piece of footage.

    name: unique within its set. footage: path of the video or image folder.
    truth: (n, 4) float64 of x, y, w, h in pixels, one row a frame; nan where the target is
    absent, never in the first row.
    width, height: of the frames, in pixels. rate_hz: of the footage, as it says.
    first_frame: number of the footage's frame that is the first of the sequence.
    attributes: what makes it hard, in the benchmark's words. text: the target in words.
    withheld: the benchmark gives the first box alone; there is nothing to score.
    """

    name: str
    footage: Path
    truth: Boxes
    width: int
    height: int
    rate_hz: float
    first_frame: int = 0
    attributes: tuple[str, ...] = ()
    text: str | None = None
    withheld: bool = False

    @property
    def first_box(self) -> Box:
        """The box a tracker starts from."""
        return Box(*self.truth[0].tolist())

    def __len__(self) -> int:
        return len(self.truth)

    def frames(self) -> Iterator[np.ndarray]:
        """Yield the (height, width, 3) uint8 BGR frames, exactly as many as rows of `truth`.

        Raises SequenceError when the footage ends early or cannot be read.
        """
        try:
            with open_footage(self.footage) as footage:
                count = 0
                for frame in footage.frames(self.first_frame):
                    if count == len(self):
                        return
                    count += 1
                    yield frame
        except FootageError as error:
            raise SequenceError(f'{self.footage}: {error}') from error
        if count < len(self):
            raise SequenceError(
                f'{self.footage}: ends after {count} frames, but the annotation has {len(self)}'
            )


def read_sequences(
    path: str | Path, problems: list[SequenceError] | None = None
) -> list[Sequence]:
    """Read one sequence folder, or all sequence folders directly below `path`, in natural order.

    problems: sequences that cannot be used are left out and their errors are appended here;
    without it the first such error is raised.
    Raises SequenceError when there is no sequence folder at all.
    """
    root = Path(path)
    check_folder(root)
    if _looks_like_sequence(root):
        folders = [root]
    else:
        below = sorted(root.iterdir(), key=lambda entry: natural_key(entry.name))
        folders = [entry for entry in below if entry.is_dir() and _looks_like_sequence(entry)]
    if not folders:
        raise SequenceError(
            f'{root}: neither a sequence nor a folder of sequences; a sequence is a folder with '
            f'{ANNOTATION_NAME} and video.mp4, img/ or images/'
        )
    sequences = []
    for folder in folders:
        try:
            sequences.append(read_sequence(folder))
        except SequenceError as error:
            if problems is None:
                raise
            problems.append(error)
    return sequences


def check_folder(path: Path) -> None:
    """Raise SequenceError unless `path` is a folder."""
    if path.is_file():
        raise SequenceError(
            f'{path}: is a file; give the folder that holds it and its {ANNOTATION_NAME}'
        )
    if not path.is_dir():
        raise SequenceError(f'{path}: no such folder')


def read_sequence(folder: Path) -> Sequence:
    """Read the sequence of one folder; SequenceError when it cannot be used."""
    source = _find_footage(folder)
    if source is None:
        raise SequenceError(f'{folder}: holds no video.mp4 (or .avi, ...), img/ or images/')
    annotation = folder / ANNOTATION_NAME
    return assemble(folder.name or folder.resolve().name, source, annotation)


def assemble(
    name: str,
    source: Path,
    annotation: Path,
    *,
    truth: Boxes | None = None,
    first_frame: int = 0,
    spare_frames: bool = False,
    attributes: tuple[str, ...] = (),
    text: str | None = None,
    withheld: bool = False,
) -> Sequence:
    """Put footage and annotation together.

    truth: what is in `annotation`, where the caller has read it. spare_frames: whether the
    footage may go on after the annotation. withheld: `truth` is the first box alone; the other
    frames get rows of nan.
    Raises SequenceError when they do not fit each other.
    """
    truth = read_boxes(annotation) if truth is None else truth
    if np.isnan(truth[0]).any():
        raise SequenceError(f'{annotation}:1: the target is absent, but a start needs its box')
    with _open(source) as footage:
        count = footage.frame_count
        if count is not None:
            count -= first_frame
            if withheld:
                truth = np.vstack([truth[:1], np.full((max(count - 1, 0), 4), np.nan)])
            if count < len(truth) or (count > len(truth) and not spare_frames):
                raise SequenceError(
                    f'{annotation}:{len(truth)}: the annotation ends here, but {source} has '
                    f'{count} frames; each must have its line'
                )
        box, size = truth[0], (footage.width, footage.height)
        if not ((box[:2] < size).all() and (box[:2] + box[2:] > 0).all()):
            raise SequenceError(
                f'{annotation}:1: the box {", ".join(f"{value:g}" for value in box)} lies outside '
                f'of the pictures, which are {size[0]} x {size[1]}'
            )
        return Sequence(
            name,
            source,
            truth,
            footage.width,
            footage.height,
            footage.rate_hz,
            first_frame,
            attributes,
            text,
            withheld,
        )


def read_boxes(path: Path) -> Boxes:
    """Read (n, 4) boxes x, y, w, h; rows of `nan` or without size become nan.

    Raises SequenceError which names the file and the line.
    """
    try:
        lines = path.read_text(encoding='utf-8-sig').rstrip().splitlines()
    except FileNotFoundError:
        raise SequenceError(f'{path}: no such file') from None
    except (OSError, UnicodeDecodeError) as error:
        raise SequenceError(f'{path}: cannot be read: {error}') from error
    if not lines:
        raise SequenceError(f'{path}: is empty')
    return np.array([_read_row(path, number, line) for number, line in enumerate(lines, 1)])


def _read_row(path: Path, number: int, line: str) -> tuple[float, float, float, float]:
    words = _SEPARATORS.split(line.strip())
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise SequenceError(f'{path}:{number}: {line!r} is not four numbers x, y, w, h') from None
    if len(values) != 4:
        remedy = '; polygons are for "tracker_ros vot"' if len(values) >= 6 else ''
        raise SequenceError(
            f'{path}:{number}: {len(values)} numbers where x, y, w, h are expected: {line!r}'
            f'{remedy}'
        )
    x, y, w, h = values
    if np.isinf(values).any():
        raise SequenceError(f'{path}:{number}: a box cannot be infinite: {line!r}')
    if np.isnan(values).any() or w <= 0 or h <= 0:
        return np.nan, np.nan, np.nan, np.nan
    return x, y, w, h


def _open(source: Path) -> Footage:
    try:
        return open_footage(source)
    except FootageError as error:
        raise SequenceError(f'{source}: {error}') from error


def _looks_like_sequence(folder: Path) -> bool:
    return (folder / ANNOTATION_NAME).exists() or _find_footage(folder) is not None


def _find_footage(folder: Path) -> Path | None:
    for path in sorted(folder.glob('video.*')):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            return path
    for name in _IMAGE_FOLDERS:
        if (folder / name).is_dir():
            return folder / name
    if any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir()):
        return folder
    return None
