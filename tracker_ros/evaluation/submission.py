# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes as text, a file a sequence, in the forms in which the benchmarks take them."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tracker_ros.evaluation.kept import write_whole
from tracker_ros.evaluation.metrics import Array
from tracker_ros.evaluation.one_pass import Run
from tracker_ros.evaluation.report import by_tracker

_ZIPPED = {'got10k', 'trackingnet'}
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def write_submissions(
    folder: Path, runs: Iterable[Run], benchmark: str, origin: int
) -> list[Path]:
    """Write FOLDER/TRACKER/..., and for GOT-10k and TrackingNet FOLDER/TRACKER.zip.

    origin: the number that the benchmark gives to the first pixel.
    Returns what is handed in: the zips, or the folders.
    """
    written = []
    for tracker, own in by_tracker(runs).items():
        name = file_name(tracker)
        files = {path: text for run in own for path, text in _files_of(run, benchmark, origin)}
        for path, text in files.items():
            write_whole(folder / name / path, text.encode())
        if benchmark in _ZIPPED:
            write_whole(folder / f'{name}.zip', _zipped(files))
            written.append(folder / f'{name}.zip')
        else:
            written.append(folder / name)
    return written


def file_name(name: str) -> str:
    """A name for a file that tells `name`, and is another one for another name."""
    plain = re.sub(r'[^A-Za-z0-9._+-]+', '_', name).lstrip('.')[-80:]
    if plain == name:
        return plain
    return f'{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}'


def _files_of(run: Run, benchmark: str, origin: int) -> list[tuple[str, str]]:
    """Relative paths and texts of one run."""
    name = file_name(run.sequence.name)
    boxes = _without_gaps(run.boxes) + np.array([origin, origin, 0.0, 0.0])
    if benchmark == 'got10k':
        # A frame that was not looked at took no time of the tracker's.
        times = ''.join(f'{spent:.8f}\n' for spent in np.nan_to_num(run.times_s))
        return [
            (f'{name}/{name}_001.txt', _lines(boxes, 4)),
            (f'{name}/{name}_time.txt', times),
        ]
    return [(f'{name}.txt', _lines(boxes, 2 if benchmark == 'trackingnet' else 4))]


def _lines(boxes: Array, digits: int) -> str:
    return ''.join(','.join(f'{value:.{digits}f}' for value in box) + '\n' for box in boxes)


def _without_gaps(boxes: Array) -> Array:
    """Each frame without a box has the last one: the benchmarks' readers take numbers alone."""
    filled = boxes.copy()
    for index in range(1, len(filled)):
        if not np.isfinite(filled[index]).all():
            filled[index] = filled[index - 1]
    return filled


def _zipped(files: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w', zipfile.ZIP_DEFLATED) as archive:
        for path, text in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(path, _ZIP_TIME), text, zipfile.ZIP_DEFLATED)
    return content.getvalue()
