#!/usr/bin/env python3
# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How well motion is predicted, beside the guess that a target stays where it was seen last.

    python benchmarks/motion.py DATA [DATA ...] --boxes out/eval.json --camera-motion

The filter is fed with the true boxes of annotated footage, or with the boxes that trackers gave
(`--boxes`, what `tracker_ros eval --json` wrote), of which those that miss the target are left
out. Errors are those of the centre, in roots of the target's area, against the truth. With
`--camera-motion` the footage is read as well, and the filter is told how the camera has moved
before it is asked for the next frame, as in the node. Further ahead it can only guess that.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tracker_ros.evaluation.metrics import overlaps
from tracker_ros.evaluation.report import format_table
from tracker_ros.evaluation.sequences import Boxes, Sequence, SequenceError, read_sequences
from tracker_ros.geometry import Box
from tracker_ros.tracking.camera_motion import CameraMotion
from tracker_ros.tracking.motion import Matrix, Motion

HORIZONS_S = (0.0, 0.1, 0.3, 1.0)
"""How far ahead; 0 stands for the frame after the one seen last."""
LEARNING_FRAMES = 5
SEEN_OVERLAP = 0.5
CHI_SQUARE_95 = 9.488 / 4


@dataclass
class Errors:
    """Of one way to predict: a list for each horizon; `distances` only of the filter."""

    ahead: list[list[float]] = field(default_factory=lambda: [[] for _ in HORIZONS_S])
    distances: list[float] = field(default_factory=list)

    def means(self) -> list[float]:
        return [float(np.mean(each)) if each else math.nan for each in self.ahead]


def follow(sequence: Sequence, boxes: Boxes, warps: list[Matrix | None]) -> tuple[Errors, Errors]:
    """Feed the filter with a sequence: errors of the filter, and of staying."""
    moving, staying = Errors(), Errors()
    interval_s = 1.0 / sequence.rate_hz
    # NaN compares false with everything: a frame without the target is not seen.
    seen = overlaps(boxes, sequence.truth) > SEEN_OVERLAP
    motion = Motion()
    motion.start(sequence.first_box, 0.0, (sequence.width, sequence.height))
    last = sequence.first_box

    def compare(place: int, then: int) -> None:
        if then < len(sequence) and np.isfinite(sequence.truth[then]).all():
            truth = Box(*sequence.truth[then].tolist())
            moving.ahead[place].append(beside(motion.predict(then * interval_s).box, truth))
            staying.ahead[place].append(beside(last, truth))

    for index in range(1, len(sequence)):
        warp = warps[index]
        if warp is not None:
            motion.warp(warp, index * interval_s)
        if seen[index - 1] and index > LEARNING_FRAMES:
            compare(0, index)
        if not seen[index]:
            continue
        last = Box(*boxes[index].tolist())
        moving.distances.append(motion.distance(last, index * interval_s))
        motion.update(last, index * interval_s)
        if index >= LEARNING_FRAMES:
            for place, horizon_s in enumerate(HORIZONS_S[1:], 1):
                compare(place, index + max(1, round(horizon_s / interval_s)))
    return moving, staying


def beside(box: Box, truth: Box) -> float:
    return math.hypot(box.cx - truth.cx, box.cy - truth.cy) / math.sqrt(truth.area)


def camera_warps(sequence: Sequence) -> list[Matrix | None]:
    """How the camera moved from each frame to the next; the target is left out of that."""
    camera = CameraMotion()
    boxes = [[], *([Box(*row)] for row in sequence.truth[:-1].tolist())]
    return [
        camera.between(frame, exclude)
        for frame, exclude in zip(sequence.frames(), boxes, strict=True)
    ]


def table(rows: dict[str, tuple[Errors, Errors]]) -> str:
    """A line a sequence, and the means; each cell is the filter's error / that of staying."""
    header = ['centre error / size', 'next frame', '0.1 s', '0.3 s', '1 s', 'distance', '> 95 %']
    lines = []
    for name, (moving, staying) in rows.items():
        cells = [
            f'{ours:.3f} / {theirs:.3f}'
            for ours, theirs in zip(moving.means(), staying.means(), strict=True)
        ]
        distances = np.array(moving.distances)
        lines.append(
            [
                name,
                *cells,
                f'{np.median(distances):.2f}',
                f'{100 * np.mean(distances > CHI_SQUARE_95):.1f} %',
            ]
        )
    means = np.nanmean([[a.means(), b.means()] for a, b in rows.values()], axis=0)
    everything = np.concatenate([moving.distances for moving, _ in rows.values()])
    lines.append(
        [
            'mean',
            *(f'{ours:.3f} / {theirs:.3f}' for ours, theirs in means.T),
            f'{np.median(everything):.2f}',
            f'{100 * np.mean(everything > CHI_SQUARE_95):.1f} %',
        ]
    )
    return format_table(header, lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('data', nargs='+', type=Path, help='folders of annotated sequences')
    parser.add_argument('--boxes', type=Path, help='what `tracker_ros eval --json` wrote')
    parser.add_argument('--camera-motion', action='store_true', help='tell it of the camera')
    arguments = parser.parse_args()
    try:
        sequences = [each for path in arguments.data for each in read_sequences(path)]
        none: dict[str, list[Matrix | None]] = {s.name: [None] * len(s) for s in sequences}
        warps = (
            {each.name: camera_warps(each) for each in sequences}
            if arguments.camera_motion
            else none
        )
    except SequenceError as error:
        print(error, file=sys.stderr)
        return 1
    print('true boxes')
    print(table({s.name: follow(s, s.truth, warps[s.name]) for s in sequences}))
    if arguments.boxes is not None:
        trackers = json.loads(arguments.boxes.read_text(encoding='utf-8'))['trackers']
        for name, tracker in trackers.items():
            print(f'\nboxes of {name}')
            print(
                table(
                    {
                        s.name: follow(
                            s,
                            np.array(tracker['runs'][s.name]['boxes'], float),
                            warps[s.name],
                        )
                        for s in sequences
                        if s.name in tracker['runs']
                    }
                )
            )
    return 0


if __name__ == '__main__':
    sys.exit(main())
