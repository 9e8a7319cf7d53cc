#!/usr/bin/env python3
# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a box is worth that comes late: started in its own frame, or in the newest one.

    python benchmarks/stale_start.py DATA [DATA ...] --model vittrack --delay 0.3

An operator draws the true box on a frame and its answer arrives `--delay` later. *Matched*: the
history of frames still has the one that was drawn on; the target starts there and runs forward
to the newest, as the node does. *Stale*: the same box is taken for one of the newest frame. Both
then follow the target for `--seconds`. Starts are made every half second on footage in which the
target moves by at least half its size within the delay.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.evaluation.accounts import LOOK_S, NominalPace
from tracker_ros.evaluation.followed import Followed
from tracker_ros.evaluation.metrics import overlaps, score_sequence
from tracker_ros.evaluation.report import format_table
from tracker_ros.evaluation.sequences import Sequence, SequenceError, read_sequences
from tracker_ros.geometry import Box, Image
from tracker_ros.trackers import Tracker, TrackerError, create
from tracker_ros.tracking import Session
from tracker_ros.tracking.history import History, Kept, run_forward

EVERY_S = 0.5
FAST = 0.5
"""Least median movement within the delay, in roots of the target's area."""
HELD_OVERLAP = 0.5
HISTORY_S, HISTORY_BYTES = 2.0, 1 << 30


@dataclass(frozen=True)
class Start:
    """One start: AUC afterwards, and whether the target was held half a second later."""

    sequence: str
    frame: int
    moved: float
    matched_auc: float
    stale_auc: float
    matched_held: bool
    stale_held: bool
    catch_up_s: float


def main() -> int:
    """Run all starts, print a line a sequence, write the file."""
    args = parse()
    cv2.setNumThreads(1)
    starts: list[Start] = []
    try:
        tracker = create(args.model, threads=args.threads, build='wait')
        for sequence in [each for folder in args.data for each in read_sequences(folder)]:
            if movement(sequence, args.delay) >= FAST:
                starts += starts_on(tracker, sequence, args.delay, args.seconds)
    except (SequenceError, TrackerError) as error:
        print(f'stale_start: {error}', file=sys.stderr)
        return 2
    if not starts:
        print('stale_start: no footage is fast enough', file=sys.stderr)
        return 1
    print(table(starts))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(as_dict(starts, args), indent=1) + '\n', encoding='utf-8')
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('data', nargs='+', type=Path, metavar='DATA')
    parser.add_argument('--model', default='vittrack')
    parser.add_argument('--threads', type=int, default=1, help='of inference (default: 1)')
    parser.add_argument('--delay', type=float, default=0.3, metavar='S')
    parser.add_argument('--seconds', type=float, default=2.0, help='followed after the start')
    parser.add_argument('--json', type=Path, metavar='FILE')
    return parser.parse_args()


def movement(sequence: Sequence, delay_s: float) -> float:
    """Median way of the target's centre within the delay, in roots of its area."""
    late = round(delay_s * sequence.rate_hz)
    truth = sequence.truth
    centres = truth[:, :2] + truth[:, 2:] / 2
    way = np.hypot(*(centres[late:] - centres[:-late]).T)
    return float(np.nanmedian(way / np.sqrt(truth[:-late, 2] * truth[:-late, 3])))


def starts_on(
    tracker: Tracker, sequence: Sequence, delay_s: float, seconds: float
) -> Iterator[Start]:
    """Starts every half second, as far as the footage reaches."""
    rate_hz = sequence.rate_hz
    late, length = round(delay_s * rate_hz), round(seconds * rate_hz)
    frames = list(sequence.frames())
    moved = movement(sequence, delay_s)
    for first in range(0, len(frames) - late - length // 2, round(EVERY_S * rate_hz)):
        end = min(first + late + length, len(frames))
        truth = sequence.truth[first + late : end]
        if np.isnan(sequence.truth[first]).any() or np.isnan(truth).any():
            continue
        box = Box(*sequence.truth[first].tolist())
        history: History[Image] = History(HISTORY_S, HISTORY_BYTES)
        for number in range(max(0, first - 2), first + late + 1):
            frame = frames[number]
            history.add(stamp_ns(number, rate_hz), frame, frame.nbytes)
        began = time.perf_counter()
        matched = start_matched(tracker, history, stamp_ns(first, rate_hz), box, rate_hz)
        catch_up_s = time.perf_counter() - began
        later = range(first + late + 1, end)
        matched_boxes = boxes_of(matched, frames, later)
        stale = with_life(tracker, rate_hz)
        stale.start(frames[first + late], box, stamp_s=(first + late) / rate_hz)
        stale_boxes = boxes_of(stale, frames, later)
        size = sequence.width, sequence.height
        yield Start(
            sequence.name,
            first,
            round(moved, 3),
            score_sequence(matched_boxes, truth, size).auc,
            score_sequence(stale_boxes, truth, size).auc,
            is_held(matched_boxes, truth, rate_hz),
            is_held(stale_boxes, truth, rate_hz),
            catch_up_s,
        )


def start_matched(
    tracker: Tracker, history: History[Image], stamp: int, box: Box, rate_hz: float
) -> Followed:
    """Started in the frame of the stamp, and run forward to the newest."""
    kept = history.since(stamp)
    followed = with_life(tracker, rate_hz)
    followed.start(kept[0].item, box, stamp_s=1e-9 * kept[0].stamp_ns)

    def step(later: Kept[Image]) -> None:
        followed.step(later.item, 1e-9 * later.stamp_ns)

    # However slow this machine is, no frame is left out: the figures shall not depend on it.
    run_forward(kept[1:], step, budget_s=1e6)
    return followed


def with_life(tracker: Tracker, rate_hz: float) -> Followed:
    """As the node follows, with the same time for looks on every machine."""
    return Followed(Session(tracker, pace=NominalPace(LOOK_S)), rate_hz)


def boxes_of(followed: Followed, frames: list[Image], later: range) -> NDArray[np.float64]:
    """(1 + len(later), 4) the box it has now, and those of the later frames."""
    rows = [followed.box.xywh()]
    rows += [
        followed.step(frames[number], number / followed.rate_hz).box.xywh() for number in later
    ]
    return np.array(rows)


def is_held(boxes: NDArray[np.float64], truth: NDArray[np.float64], rate_hz: float) -> bool:
    """Whether the target is followed half a second after the start."""
    place = min(len(truth) - 1, round(0.5 * rate_hz))
    return bool(overlaps(boxes, truth)[place] >= HELD_OVERLAP)


def stamp_ns(number: int, rate_hz: float) -> int:
    """When a frame was taken."""
    return round(1e9 * number / rate_hz)


def table(starts: list[Start]) -> str:
    """A line a sequence, and one for all."""
    names = list(dict.fromkeys(start.sequence for start in starts))
    rows = [row(name, [each for each in starts if each.sequence == name]) for name in names]
    header = ['sequence', 'starts', 'moved', 'AUC matched', 'stale', 'held matched', 'stale']
    return format_table([*header, 'catch-up ms'], [*rows, row('all', starts)])


def row(name: str, starts: list[Start]) -> list[str]:
    """Cells of a line."""
    means = [
        float(np.mean([getattr(each, field) for each in starts]))
        for field in ('moved', 'matched_auc', 'stale_auc', 'matched_held', 'stale_held')
    ]
    catch_up_ms = 1000 * float(np.median([each.catch_up_s for each in starts]))
    return [name, str(len(starts)), *(f'{mean:.3f}' for mean in means), f'{catch_up_ms:.0f}']


def as_dict(starts: list[Start], args: argparse.Namespace) -> dict[str, object]:
    """For JSON."""
    return {
        'model': args.model,
        'delay_s': args.delay,
        'seconds': args.seconds,
        'matched_auc': round(float(np.mean([each.matched_auc for each in starts])), 4),
        'stale_auc': round(float(np.mean([each.stale_auc for each in starts])), 4),
        'starts': [
            {
                name: round(value, 4) if isinstance(value, float) else value
                for name, value in vars(start).items()
            }
            for start in starts
        ],
    }


if __name__ == '__main__':
    sys.exit(main())
