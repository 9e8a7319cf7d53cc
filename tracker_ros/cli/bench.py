# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`tracker_ros bench`: how fast models run on this machine, side by side."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracker_ros.evaluation.speed import Contestant

_MOST_TARGETS = 64


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        'bench',
        help='measure how fast models run here',
        description=(
            'Times whole frames (crop, network, decode) of every model on every library, each in '
            'a process of its own, in turns of half a second, so that what else the machine does '
            'falls on all of them. The pictures are made up and so are the answers: speed alone '
            'is measured. Exit code 1 when something could not run.'
        ),
    )
    parser.add_argument(
        'models', type=_names, metavar='MODEL[,MODEL...]', help='names, or package folders'
    )
    parser.add_argument(
        '--runtime', type=_names, default=['auto'], metavar='A,B', help='libraries (default: auto)'
    )
    parser.add_argument(
        '--threads', type=_threads, default=0, metavar='N', help='of inference (0: automatic)'
    )
    parser.add_argument(
        '--targets',
        type=_counts,
        default=[],
        metavar='N,N',
        help='also run the network for so many targets in one call, such as 1,2,4,8',
    )
    parser.add_argument(
        '--size', type=image_size, default=(1920, 1080), metavar='WxH', help='default: 1920x1080'
    )
    parser.add_argument(
        '--seconds',
        type=_seconds,
        default=10.0,
        metavar='S',
        help='of measuring for each thing measured (default: %(default)g)',
    )
    parser.add_argument(
        '--until-quiet',
        action='store_true',
        help='count only turns during which other programs used less than 0.15 cores, for up to '
        'ten minutes',
    )
    parser.add_argument(
        '--peak',
        action='store_true',
        help='also measure how fast the CPU multiplies matrices, and each network against that',
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all of it here')
    parser.add_argument('--quiet', action='store_true', help='no progress bar')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print; returns the exit code."""
    from tracker_ros.evaluation import speed_report
    from tracker_ros.evaluation.speed import SpeedError, compare

    contestants, problems = _contestants(options)
    for problem in problems:
        print(f'tracker_ros bench: {problem}', file=sys.stderr)
    if not contestants:
        return 1
    try:
        records = compare(
            contestants,
            options.seconds,
            quiet_only=options.until_quiet,
            progress=not options.quiet and sys.stderr.isatty(),
        )
    except SpeedError as error:
        print(f'tracker_ros bench: {error}', file=sys.stderr)
        return 1
    report = speed_report.as_dict(records, options.size, options.threads, options.until_quiet)
    print(speed_report.table(report))
    if options.json:
        try:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
        except OSError as error:
            print(f'tracker_ros bench: cannot write the results: {error}', file=sys.stderr)
            return 1
    return 1 if problems else 0


def _contestants(options: argparse.Namespace) -> tuple[list[Contestant], list[str]]:
    """What can run, tried out here first, and why the rest cannot."""
    from functools import partial

    from tracker_ros.evaluation import peak
    from tracker_ros.evaluation.speed import Contestant, TrackerSubject
    from tracker_ros.runtime import store
    from tracker_ros.runtime.engine import RUNTIMES
    from tracker_ros.runtime.package import PackageError

    contestants, problems, kinds = [], [], set()
    unknown = [name for name in options.runtime if name not in ('auto', *RUNTIMES)]
    if unknown:
        return [], [f'there is no runtime {unknown[0]!r}; known are auto, {", ".join(RUNTIMES)}']
    for model in options.models:
        try:
            package = store.find(model)
        except PackageError as error:
            problems.append(str(error))
            continue
        if package.graphs:
            kinds.add(peak.kind_of(package.precision))
        for runtime in options.runtime if package.graphs else ['opencv']:
            make = partial(TrackerSubject, model, runtime, options.threads, options.size)
            works = ('frame', *(options.targets if package.graphs else ()))
            contestants.append(Contestant(f'{package.name} on {runtime}', make, works))
    if options.peak and kinds:
        contestants.append(peak.contestant(tuple(sorted(kinds)), options.threads))
    return contestants, problems


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(',') if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError('give one name or several, with commas between them')
    return list(dict.fromkeys(names))


def _counts(text: str) -> list[int]:
    try:
        counts = sorted({int(part) for part in text.split(',')})
    except ValueError:
        counts = [0]
    if not 1 <= counts[0] <= counts[-1] <= _MOST_TARGETS:
        raise argparse.ArgumentTypeError(
            f'{text!r} must be numbers from 1 to {_MOST_TARGETS}, such as 1,2,4,8'
        )
    return counts


def image_size(text: str) -> tuple[int, int]:
    """'1280x720' as (1280, 720)."""
    match = re.fullmatch(r'(\d{2,5})x(\d{2,5})', text.lower())
    if match is None or min(map(int, match.groups())) < 64 or max(map(int, match.groups())) > 8192:
        raise argparse.ArgumentTypeError(
            f'{text!r} is no size; give WIDTHxHEIGHT in pixels, 64 to 8192 each, such as 1280x720'
        )
    return int(match[1]), int(match[2])


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f'{text!r} must be above 0 and at most 3600')
    return value


def _threads(text: str) -> int:
    if not text.isdecimal() or int(text) > 1024:
        raise argparse.ArgumentTypeError(f'{text!r} must be 0 (automatic) or more, up to 1024')
    return int(text)
