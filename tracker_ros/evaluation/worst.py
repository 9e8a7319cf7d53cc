# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of where trackers were worst, with their boxes and the true one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.evaluation.metrics import Array
from tracker_ros.evaluation.one_pass import Run
from tracker_ros.evaluation.sequences import Sequence, SequenceError

MISS = 0.1
"""An overlap below this is a failure."""

_SURROUNDINGS, _ROOM, _NEARLY_ALL = 6.0, 1.3, 0.7
"""A view is as wide as so many targets, or so much wider than the boxes; from the last share of
the picture on it is all of it."""

_TRUE_COLOUR = (60, 220, 60)
_FOUND_COLOUR = (40, 60, 240)


@dataclass(frozen=True)
class WorstFrame:
    """One frame of a run. jpeg: the picture, boxes drawn; empty where it cannot be read."""

    run: Run
    frame: int
    overlap: float
    jpeg: bytes


def worst_frames(
    groups: Mapping[str, Iterable[Run]], count: int = 4, width_px: int = 360
) -> dict[str, list[WorstFrame]]:
    """Of each group the worst frames of the `count` runs that are worst by AUC, worst first."""
    chosen = {
        name: [
            (run, worst_frame(run.errors.overlap))
            for run in sorted(runs, key=lambda run: run.scores.auc)[:count]
        ]
        for name, runs in groups.items()
    }
    wanted: dict[Sequence, dict[int, list[Run]]] = {}
    for each in chosen.values():
        for run, frame in each:
            wanted.setdefault(run.sequence, {}).setdefault(frame, []).append(run)
    jpegs: dict[Run, bytes] = {}
    for sequence, runs_of in wanted.items():
        jpegs.update(_pictures(sequence, runs_of, width_px))
    return {
        name: [
            WorstFrame(run, frame, float(run.errors.overlap[frame]), jpegs.get(run, b''))
            for run, frame in each
        ]
        for name, each in chosen.items()
    }


def worst_frame(overlap: NDArray[np.float64]) -> int:
    """The middle of the longest failure, or the frame of least overlap where none failed.

    overlap: (n,), nan where the target is absent.
    """
    failed = overlap < MISS
    edges = np.flatnonzero(np.diff(np.concatenate([[False], failed, [False]]).astype(np.int8)))
    if not len(edges):
        return int(np.nanargmin(overlap))
    begins, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - begins))
    return int((begins[longest] + ends[longest] - 1) // 2)


def _pictures(
    sequence: Sequence, wanted: Mapping[int, list[Run]], width_px: int
) -> dict[Run, bytes]:
    """A JPEG for each run of the wanted frames; none for frames that cannot be read."""
    found: dict[Run, bytes] = {}
    try:
        # One pass over the footage: decoding it anew for each tracker takes minutes.
        for number, image in enumerate(sequence.frames()):
            for run in wanted.get(number, ()):
                found[run] = _picture(image, sequence.truth[number], run.boxes[number], width_px)
            if number >= max(wanted):
                break
    except SequenceError:
        pass
    return found


def _picture(image: np.ndarray, true: Array, found: Array, width_px: int) -> bytes:
    """The picture, or the part that matters of it, with both boxes (4,), as JPEG."""
    boxes = [(true, _TRUE_COLOUR)]
    if np.isfinite(found).all():
        boxes.append((found, _FOUND_COLOUR))
    x, y, w, h = _view(np.array([box for box, _ in boxes]), image.shape[1], image.shape[0])
    scale = width_px / w
    size = (width_px, max(round(h * scale), 1))
    shown = cv2.resize(image[y : y + h, x : x + w], size, interpolation=cv2.INTER_AREA)
    for box, colour in boxes:
        corners = np.concatenate([box[:2], box[:2] + box[2:]]) - [x, y, x, y]
        x1, y1, x2, y2 = np.clip(np.rint(corners * scale), -9999, 9999).astype(int)
        cv2.rectangle(shown, (int(x1), int(y1)), (int(x2), int(y2)), colour, 2)
    written, jpeg = cv2.imencode('.jpg', shown, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return jpeg.tobytes() if written else b''


def _view(boxes: Array, width: int, height: int) -> tuple[int, int, int, int]:
    """Of a picture what is shown, x, y, w, h: all of it, or the surroundings of a small target.

    boxes: (n, 4), the true one first; all of them are in it as far as they are in the picture.
    """
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    corners = np.clip(corners, 0, [width, height])
    begin, end = corners.min(axis=0), corners.max(axis=0)
    needed = max(*(_ROOM * (end - begin)), _SURROUNDINGS * boxes[0, 2:].max())
    share = max(needed / width, needed / height)
    if share >= _NEARLY_ALL:
        return 0, 0, width, height
    w, h = max(round(share * width), 1), max(round(share * height), 1)
    x, y = np.clip((begin + end - [w, h]) / 2, 0, [width - w, height - h])
    return int(x), int(y), w, h
