# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of where trackers were worst, with their boxes and the true one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.evaluation.one_pass import Run
from tracker_ros.evaluation.sequences import Sequence, SequenceError

MISS = 0.1
"""An overlap below this is a failure."""

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
    wanted: dict[Sequence, set[int]] = {}
    for each in chosen.values():
        for run, frame in each:
            wanted.setdefault(run.sequence, set()).add(frame)
    pictures = {
        sequence: _pictures(sequence, frames, width_px) for sequence, frames in wanted.items()
    }
    return {
        name: [
            WorstFrame(
                run,
                frame,
                float(run.errors.overlap[frame]),
                _drawn(pictures[run.sequence].get(frame), run, frame),
            )
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


def _pictures(sequence: Sequence, wanted: set[int], width_px: int) -> dict[int, np.ndarray]:
    """The wanted frames `width_px` wide, by number; without those that cannot be read."""
    found: dict[int, np.ndarray] = {}
    try:
        # One pass over the footage: decoding it anew for each tracker takes minutes.
        for number, image in enumerate(sequence.frames()):
            if number in wanted:
                height_px = max(round(image.shape[0] * width_px / image.shape[1]), 1)
                size = (width_px, height_px)
                found[number] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            if len(found) == len(wanted):
                break
    except SequenceError:
        pass
    return found


def _drawn(picture: np.ndarray | None, run: Run, frame: int) -> bytes:
    """The picture with both boxes as JPEG; empty without a picture."""
    if picture is None:
        return b''
    image = picture.copy()
    scale = image.shape[1] / run.sequence.width
    for box, colour in (
        (run.sequence.truth[frame], _TRUE_COLOUR),
        (run.boxes[frame], _FOUND_COLOUR),
    ):
        if np.isfinite(box).all():
            x1, y1, x2, y2 = np.clip(
                np.rint(np.concatenate([box[:2], box[:2] + box[2:]]) * scale), -9999, 9999
            ).astype(int)
            cv2.rectangle(image, (int(x1), int(y1)), (int(x2), int(y2)), colour, 2)
    written, jpeg = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return jpeg.tobytes() if written else b''
