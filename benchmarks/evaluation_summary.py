#!/usr/bin/env python3
# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""The table of an evaluation, from what `tracker_ros eval --report` or `--json` wrote.

    python benchmarks/evaluation_summary.py out/results.json --data DATA --markdown out/dev.md

Scores come from the file, which may be of a busy machine. Time does not: with --data each tracker
follows the beginning of some clips, frames held in memory, all of them in turns frame by frame on
one thread, and the CPU time of its process is taken, which other programs hardly change.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tracker_ros.cli.eval import make_tracker
from tracker_ros.evaluation import machine
from tracker_ros.evaluation.datasets import read_dataset
from tracker_ros.evaluation.one_pass import TRACKER_ERRORS
from tracker_ros.evaluation.sequences import SequenceError

SCORES = {
    'auc': 'AUC',
    'precision': 'P@20',
    'normalised_precision': 'NP',
    'ao': 'AO',
    'sr50': 'SR.5',
    'sr75': 'SR.75',
}
CAMERA_HZ = 30.0
UNSTEADY_FRAMES = 2
"""After a start, in which libraries still make things ready."""


def main() -> int:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('results', type=Path, metavar='RESULTS', help='results.json')
    parser.add_argument('--data', type=Path, help='measure time on these sequences')
    parser.add_argument('--clips', type=int, default=3, help='of --data (default: 3)')
    parser.add_argument('--frames', type=int, default=40, help='of each clip (default: 40)')
    parser.add_argument('--weights', type=Path, metavar='DIR')
    parser.add_argument('--markdown', type=Path, metavar='FILE')
    parser.add_argument('--json', type=Path, metavar='FILE')
    args = parser.parse_args()
    try:
        results = json.loads(args.results.read_text(encoding='utf-8'))
        trackers = results['trackers']
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f'{args.results}: no results of tracker_ros eval: {error}', file=sys.stderr)
        return 1
    times_ms: dict[str, list[float]] = {}
    if args.data is not None:
        try:
            times_ms = measure(list(trackers), args)
        except (SequenceError, *TRACKER_ERRORS) as error:
            print(f'{args.data}: {error}', file=sys.stderr)
            return 1
    summary = {
        'versions': results['versions'],
        'machine': machine.describe(),
        'trackers': {name: _entry(trackers[name], times_ms.get(name)) for name in trackers},
    }
    table = markdown(summary['trackers'])
    print(table)
    for path, text in ((args.markdown, table), (args.json, json.dumps(summary, indent=1))):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + '\n', encoding='utf-8')
    return 0


def measure(names: list[str], args: argparse.Namespace) -> dict[str, list[float]]:
    """CPU milliseconds of each step, by tracker; all take the same frames, in turns."""
    cv2.setNumThreads(1)
    made = {name: make_tracker(name, args.weights, 'auto', threads=1) for name in names}
    times_ms: dict[str, list[float]] = {name: [] for name in names}
    for sequence in read_dataset(args.data, []).sequences[: args.clips]:
        with contextlib.closing(sequence.frames()) as frames:
            images = list(itertools.islice(frames, args.frames))
        for tracker in made.values():
            tracker.start(images[0], sequence.first_box)
        for number, image in enumerate(images[1:]):
            for name, tracker in made.items():
                began = time.process_time()
                tracker.step(image)
                if number >= UNSTEADY_FRAMES:
                    times_ms[name].append(1000 * (time.process_time() - began))
    return times_ms


def markdown(trackers: dict[str, dict[str, Any]]) -> str:
    """A line a tracker, best AUC first."""
    heads = ['tracker', *SCORES.values(), 'CPU ms, median', 'p95', f'keeps {CAMERA_HZ:g} Hz']
    lines = ['| ' + ' | '.join(heads) + ' |', '|' + '---|' * len(heads)]
    for name, entry in sorted(trackers.items(), key=lambda item: -item[1]['auc']):
        cells = [f'`{name}`']
        for score in SCORES:
            low, high = entry['intervals'][score]
            cells.append(f'{entry[score]:.3f} ({low:.3f} - {high:.3f})')
        if 'cpu_ms' in entry:
            p50, p95 = entry['cpu_ms']['p50'], entry['cpu_ms']['p95']
            cells += [f'{p50:.1f}', f'{p95:.1f}', 'yes' if p95 < 1000 / CAMERA_HZ else 'no']
        else:
            cells += ['-', '-', '-']
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def _entry(scores: dict[str, Any], times_ms: list[float] | None) -> dict[str, Any]:
    entry = {name: scores[name] for name in ('frames', *SCORES, 'intervals', 'rate_hz')}
    if times_ms:
        p50, p95 = np.percentile(times_ms, [50, 95])
        entry['cpu_ms'] = {'p50': round(p50, 2), 'p95': round(p95, 2), 'steps': len(times_ms)}
    entry['auc_by_sequence'] = {name: round(run['auc'], 4) for name, run in scores['runs'].items()}
    return entry


if __name__ == '__main__':
    sys.exit(main())
