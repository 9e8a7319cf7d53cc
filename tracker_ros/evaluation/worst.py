# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of where trackers were worst, with their boxes and the true one."""

from __future__ import annotations

from collections.abc import Iterable
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


def worst_frames(runs: Iterable[Run], count: int = 4, width_px: int = 360) -> list[WorstFrame]:
    """The worst frame of each of the `count` runs that are worst by AUC, worst first."""
    ordered = sorted(runs, key=lambda run: run.scores.auc)[:count]
    frames = []
    for run in ordered:
        frame = worst_frame(run.errors.overlap)
        jpeg = _picture(run, frame, width_px)
        frames.append(WorstFrame(run, frame, float(run.errors.overlap[frame]), jpeg))
    return frames


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


def _picture(run: Run, frame: int, width_px: int) -> bytes:
    try:
        image = _read(run.sequence, frame)
    except SequenceError:
        return b''
    scale = width_px / image.shape[1]
    size = (width_px, max(round(image.shape[0] * scale), 1))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
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


def _read(sequence: Sequence, wanted: int) -> np.ndarray:
    for number, image in enumerate(sequence.frames()):
        if number == wanted:
            return image
    raise SequenceError(f'{sequence.footage}: has no frame {wanted}')
