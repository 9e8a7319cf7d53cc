#!/usr/bin/env python3
# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A picture of where a model is worst: one frame of each of its worst sequences.

    python benchmarks/worst_frames.py DATA --model nano --out out/worst.jpg

Above each stand the sequence, the frame, its overlap and the AUC of the sequence. Green is the
true box, red the model's. `tracker_ros eval --report` shows the same for several models. Most
footage may not be passed on: keep the picture to yourself.
"""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path

import cv2
import numpy as np

from tracker_ros.cli.eval import make_tracker
from tracker_ros.evaluation.one_pass import evaluate
from tracker_ros.evaluation.sequences import SequenceError, read_sequences
from tracker_ros.evaluation.worst import WorstFrame, worst_frames
from tracker_ros.geometry import Image

WIDTH_PX, HEIGHT_PX, TITLE_PX, COLUMNS = 320, 200, 24, 4


def main() -> int:
    """Run the model on all sequences and write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('data', type=Path, metavar='DATA')
    parser.add_argument('--model', default='nano')
    parser.add_argument('--count', type=int, default=8, help='sequences (default: 8)')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE')
    args = parser.parse_args()
    make = functools.partial(make_tracker, weights=None, runtime='auto', threads=1)
    try:
        sequences = list(read_sequences(args.data))
    except SequenceError as error:
        print(f'worst_frames: {error}', file=sys.stderr)
        return 1
    runs, failures = evaluate([args.model], sequences, make)
    for each in failures:
        print(f'worst_frames: {each.sequence}: {each.reason}', file=sys.stderr)
    if failures:
        return 1
    worst = worst_frames({args.model: runs}, args.count, WIDTH_PX)[args.model]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(args.out), sheet([tile(each) for each in worst]))
    for each in worst:
        print(title(each))
    return 0


def title(each: WorstFrame) -> str:
    """What it is, in a line."""
    run = each.run
    return (
        f'{run.sequence.name} {each.frame}: overlap {each.overlap:.2f}, AUC {run.scores.auc:.2f}'
    )


def tile(each: WorstFrame) -> Image:
    """(TITLE_PX + HEIGHT_PX, WIDTH_PX, 3): the title above the frame, or what fits of it."""
    shown = np.full((TITLE_PX + HEIGHT_PX, WIDTH_PX, 3), 255, np.uint8)
    image = cv2.imdecode(np.frombuffer(each.jpeg, np.uint8), cv2.IMREAD_COLOR)
    scale = min(1.0, HEIGHT_PX / image.shape[0])
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    left = (WIDTH_PX - image.shape[1]) // 2
    shown[TITLE_PX : TITLE_PX + image.shape[0], left : left + image.shape[1]] = image
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(shown, title(each), (4, 16), font, 0.36, (0, 0, 0), 1, cv2.LINE_AA)
    return shown


def sheet(tiles: list[Image]) -> Image:
    """Tiles in rows of COLUMNS."""
    tiles = tiles + [np.full_like(tiles[0], 255)] * (-len(tiles) % COLUMNS)
    rows = [tiles[place : place + COLUMNS] for place in range(0, len(tiles), COLUMNS)]
    return np.vstack([np.hstack(row) for row in rows])


if __name__ == '__main__':
    sys.exit(main())
