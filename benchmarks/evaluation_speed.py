#!/usr/bin/env python3
# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What an evaluation costs beside its trackers, and what a second process gains.

    python benchmarks/evaluation_speed.py DATA --model vittrack,csrt

Two tables. Of clocks: frames a second of the tracker alone and of the whole evaluation, and the
time of one and of two processes; on a machine that is busy otherwise they measure that, too. Of
CPU time, which other programs hardly change: what a frame takes of the tracker, of the evaluation
beside it, and of the thread that decodes ahead, and what share of the tracker's own rate is left
where a core is free for that thread; and CPU seconds of one and of two processes, twice whose
ratio is the most that the second can gain.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import resource
import time
from pathlib import Path

import cv2
import numpy as np

from tracker_ros.cli.eval import make_tracker
from tracker_ros.evaluation.datasets import read_dataset
from tracker_ros.evaluation.one_pass import MakeTracker, OnePassTracker, evaluate, run
from tracker_ros.evaluation.report import format_table
from tracker_ros.evaluation.sequences import Sequence

ALONE_FRAMES = 100
"""Of each clip, held in memory while the tracker runs alone."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('data', type=Path, help='as for tracker_ros eval')
    parser.add_argument('--model', required=True, metavar='A,B')
    parser.add_argument('--weights', type=Path, metavar='DIR')
    parser.add_argument('--rounds', type=int, default=3, help='the median of them is printed')
    args = parser.parse_args()
    sequences = read_dataset(args.data, []).sequences
    frames = sum(map(len, sequences))
    make = functools.partial(make_tracker, weights=args.weights, runtime='auto', threads=1)
    cv2.setNumThreads(1)
    clocks, cpu = [], []
    for name in args.model.split(','):
        tracker = make(name)
        rounds = [_round(tracker, name, sequences) for _ in range(args.rounds)]
        own_s, whole_s, alone_ms, beside_ms, decode_ms = np.median(rounds, axis=0)
        (one_s, one_cpu_s), (two_s, two_cpu_s) = (
            _processes(name, sequences, make, jobs) for jobs in (1, 2)
        )
        clocks.append(
            [name, f'{frames / own_s:.1f}', f'{frames / whole_s:.1f}', f'{own_s / whole_s:.3f}']
            + [f'{one_s:.1f}', f'{two_s:.1f}', f'{one_s / two_s:.2f}']
        )
        share = alone_ms / max(alone_ms + beside_ms, decode_ms)
        cpu.append(
            [name, f'{alone_ms:.2f}', f'{beside_ms:.3f}', f'{decode_ms:.2f}', f'{share:.3f}']
            + [f'{one_cpu_s:.1f}', f'{two_cpu_s:.1f}', f'{2 * one_cpu_s / two_cpu_s:.2f}']
        )
    heads = ['tracker fps', 'evaluation fps', 'share', '1 process s', '2 processes s', 'x']
    print(format_table(['clock', *heads], clocks) + '\n')
    heads = ['tracker ms', 'beside ms', 'decoding ms', 'share', '1 process s', '2 processes s']
    print(format_table(['CPU time', *heads, 'x, at most'], cpu))
    print(f'\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {frames} frames')


def _round(
    tracker: OnePassTracker, name: str, sequences: list[Sequence]
) -> tuple[float, float, float, float, float]:
    """Seconds of the tracker and of all, by the clock; then CPU ms a frame of the tracker, of the
    evaluation beside it, and of decoding.
    """
    frames = sum(map(len, sequences))
    began = time.perf_counter()
    runs = [run(tracker, name, sequence) for sequence in sequences]
    whole_s = time.perf_counter() - began
    own_s = sum(float(np.nansum(each.times_s)) for each in runs)
    # The thread that runs the tracker, without the tracker; waiting is no CPU time.
    began = time.thread_time()
    runs = [run(tracker, name, each, clock=time.thread_time) for each in sequences]
    beside_s = time.thread_time() - began - sum(float(np.nansum(each.times_s)) for each in runs)
    began = time.process_time()
    for sequence in sequences:
        for _ in sequence.frames():
            pass
    decode_s = time.process_time() - began
    alone_s, alone_frames = 0.0, 0
    for sequence in sequences:
        images = list(itertools.islice(sequence.frames(), ALONE_FRAMES))
        began = time.process_time()
        tracker.start(images[0], sequence.first_box)
        for image in images[1:]:
            tracker.step(image)
        alone_s += time.process_time() - began
        alone_frames += len(images)
    beside_ms, decode_ms = (1000 * spent / frames for spent in (beside_s, decode_s))
    return own_s, whole_s, 1000 * alone_s / alone_frames, beside_ms, decode_ms


def _processes(
    name: str, sequences: list[Sequence], make: MakeTracker, jobs: int
) -> tuple[float, float]:
    """Seconds by the clock, and CPU seconds of all processes."""
    began, began_cpu = time.perf_counter(), _cpu_s()
    _, failures = evaluate([name], sequences, make, jobs=jobs, progress=False)
    if failures:
        raise SystemExit(f'{failures[0].tracker} on {failures[0].sequence}: {failures[0].reason}')
    return time.perf_counter() - began, _cpu_s() - began_cpu


def _cpu_s() -> float:
    """Of this process, and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == '__main__':
    main()
