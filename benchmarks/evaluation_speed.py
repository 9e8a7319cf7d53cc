#!/usr/bin/env python3
# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What an evaluation costs beside its trackers: time of the trackers alone, of the whole, and of
two processes instead of one. On a machine that is busy otherwise it measures that, too.

    python benchmarks/evaluation_speed.py DATA --model vittrack,csrt
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from pathlib import Path

import cv2
import numpy as np

from tracker_ros.cli.eval import make_tracker
from tracker_ros.evaluation.datasets import read_dataset
from tracker_ros.evaluation.one_pass import evaluate, run
from tracker_ros.evaluation.report import format_table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n\n')[0])
    parser.add_argument('data', type=Path, help='as for tracker_ros eval')
    parser.add_argument('--model', required=True, metavar='A,B')
    parser.add_argument('--weights', type=Path, metavar='DIR')
    parser.add_argument('--rounds', type=int, default=3, help='the median of them is printed')
    args = parser.parse_args()
    sequences = read_dataset(args.data, []).sequences
    make = functools.partial(make_tracker, weights=args.weights, runtime='auto', threads=1)
    cv2.setNumThreads(1)
    rows = []
    for name in args.model.split(','):
        tracker = make(name)
        rounds = []
        for _ in range(args.rounds):
            began = time.perf_counter()
            runs = [run(tracker, name, sequence) for sequence in sequences]
            whole_s = time.perf_counter() - began
            rounds.append((sum(float(np.nansum(each.times_s)) for each in runs), whole_s))
        own_s, whole_s = np.median(rounds, axis=0)
        one_s, two_s = (_processes(name, sequences, make, jobs) for jobs in (1, 2))
        frames = sum(map(len, sequences))
        rows.append(
            [name, f'{frames / own_s:.1f}', f'{frames / whole_s:.1f}', f'{own_s / whole_s:.3f}']
            + [f'{one_s:.1f}', f'{two_s:.1f}', f'{one_s / two_s:.2f}']
        )
    heads = [
        'model',
        'tracker fps',
        'evaluation fps',
        'share',
        '1 process s',
        '2 processes s',
        'x',
    ]
    print(format_table(heads, rows))
    print(f'{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {frames} frames')


def _processes(name: str, sequences: list, make: functools.partial, jobs: int) -> float:
    began = time.perf_counter()
    _, failures = evaluate([name], sequences, make, jobs=jobs, progress=False)
    if failures:
        raise SystemExit(f'{failures[0].tracker} on {failures[0].sequence}: {failures[0].reason}')
    return time.perf_counter() - began


if __name__ == '__main__':
    main()
