#!/usr/bin/env python3
# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What several targets cost in one node: whole steps of 1, 2, 4 and 8 targets of one model.

    python benchmarks/targets.py --model vittrack --model nanotrack_v3 --json out/targets.json

A rendered picture is panned, with targets on its cars and its ground, so that all of them are
found in every frame. One roster follows them in one batch; beside it, as many sessions of one
target each do the same one after the other. All take turns of some frames, so that what else the
machine does falls on all; the first frames of a turn do not count. The CPU time of all threads is
told beside the time that passed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from tracker_ros.evaluation.scene import Scene
from tracker_ros.geometry import Box, Image
from tracker_ros.runtime.engine import EngineError
from tracker_ros.runtime.package import PackageError
from tracker_ros.trackers import TrackerError, create
from tracker_ros.tracking import Session, State
from tracker_ros.tracking.roster import Roster

COUNTS = (1, 2, 4, 8)
SIDE_PX = 80.0
STEP_PX = 3
TURN_FRAMES = 12
SETTLING_FRAMES = 3
RATE_HZ = 30.0


def main() -> int:
    """Print a table for each model; returns 1 where one cannot be run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', action='append', help='default: vittrack')
    parser.add_argument('--runtime', default='auto')
    parser.add_argument('--threads', type=int, default=0)
    parser.add_argument('--turns', type=int, default=8)
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    results = {}
    for model in args.model or ['vittrack']:
        try:
            results[model] = measure(model, args.runtime, args.threads, args.turns)
        except (PackageError, EngineError, TrackerError) as error:
            print(f'{model}: {error}', file=sys.stderr)
            return 1
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(results, indent=1) + '\n', encoding='utf-8')
    return 0


class Entrant:
    """So many targets, in one batch or one after the other, on pictures of its own."""

    def __init__(self, model: str, runtime: str, threads: int, count: int, together: bool):
        self.count, self.together = count, together
        tracker = create(model, runtime, threads)
        self.runtime = tracker.runtime
        if together:
            self.rosters = [Roster(tracker, Session, max(count, 2))]
        else:
            trackers = [tracker, *(tracker.another() for _ in range(count - 1))]
            self.rosters = [Roster(each, Session) for each in trackers]
        self._pictures = panned()
        picture = next(self._pictures)
        for number, box in enumerate(places(picture, count)):
            self.rosters[number % len(self.rosters)].start(picture, box, f't{number}')
        self._stamp_s = 0.0
        self.times_s: list[float] = []
        self.cpu_s: list[float] = []

    def turn(self) -> None:
        for number in range(TURN_FRAMES):
            picture = next(self._pictures)
            self._stamp_s += 1 / RATE_HZ
            began_s, cpu_s = time.perf_counter(), time.process_time()
            for roster in self.rosters:
                roster.step(picture, self._stamp_s)
            if number >= SETTLING_FRAMES:
                self.times_s.append(time.perf_counter() - began_s)
                self.cpu_s.append(time.process_time() - cpu_s)

    def lost(self) -> int:
        tracks = [track for roster in self.rosters for track in roster]
        return sum(track.observation.state is not State.TRACKING for track in tracks)


def measure(model: str, runtime: str, threads: int, turns: int) -> list[dict[str, float]]:
    entrants = [
        Entrant(model, runtime, threads, count, together)
        for count in COUNTS
        for together in ((True, False) if count > 1 else (True,))
    ]
    for _ in range(turns):
        for entrant in entrants:
            entrant.turn()
    print(f'{model} on {entrants[0].runtime}')
    print(
        f'{"targets":>8} {"":16} {"ms":>7} {"p90":>7} {"ms each":>8} {"CPU ms":>7}  not followed'
    )
    rows = []
    for entrant in entrants:
        p50, p90 = 1e3 * np.percentile(entrant.times_s, (50, 90))
        cpu = 1e3 * float(np.median(entrant.cpu_s))
        how = 'together' if entrant.together else 'one by one'
        print(
            f'{entrant.count:>8} {how:12} {p50:7.2f} {p90:7.2f} {p50 / entrant.count:8.2f} '
            f'{cpu:7.2f}  {entrant.lost()}'
        )
        rows.append(
            {
                'targets': entrant.count,
                'together': entrant.together,
                'p50_ms': round(float(p50), 3),
                'p90_ms': round(float(p90), 3),
                'cpu_ms': round(cpu, 3),
                'not_followed': entrant.lost(),
            }
        )
    return rows


def panned() -> Iterator[Image]:
    """A picture (720, 1280, 3) that is panned to and fro, by STEP_PX a frame, for ever."""
    ground, _ = Scene(1920, 1080, frames=1).frame(0)
    reach = ground.shape[1] - 1280
    place, step = 0, STEP_PX
    while True:
        yield np.ascontiguousarray(ground[180:900, place : place + 1280])
        if not 0 <= place + step <= reach:
            step = -step
        place += step


def places(picture: Image, count: int) -> list[Box]:
    """Where there is the most to see, apart from each other, away from the border."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32)
    side = int(SIDE_PX)
    mean, square = (cv2.blur(part, (side, side)) for part in (grey, grey * grey))
    spread = square - mean * mean
    # They stay in the picture for as long as it is panned by 640 px.
    inside = np.zeros_like(spread)
    inside[2 * side : -2 * side, 640 + side : -side] = 1
    spread = np.where(inside > 0, spread, -1).astype(np.float32)
    boxes = []
    for _ in range(count):
        y, x = np.unravel_index(int(spread.argmax()), spread.shape)
        boxes.append(Box.from_center(float(x), float(y), SIDE_PX, SIDE_PX))
        cv2.circle(spread, (int(x), int(y)), side, (-1.0,), cv2.FILLED)
    return boxes


if __name__ == '__main__':
    sys.exit(main())
