# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`tracker_ros vot`: what the VOT toolkit calls to evaluate a model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        'vot',
        help='let the VOT toolkit evaluate a model',
        description=(
            'With --trackers-ini it writes the entries for the VOT toolkit. Without, it is what '
            'those entries call: a tracker that answers the toolkit on standard input and output '
            'by the TraX protocol (python -m pip install vot-trax).'
        ),
    )
    parser.add_argument(
        '--model',
        required=True,
        metavar='A,B',
        help='as for `tracker_ros eval`; one, unless the entries are written',
    )
    parser.add_argument('--runtime', default='auto', help='inference library (default: auto)')
    parser.add_argument(
        '--weights', type=Path, metavar='DIR', help="published weight files, for OpenCV's trackers"
    )
    parser.add_argument(
        '--trackers-ini',
        type=Path,
        metavar='FILE',
        help='write an entry for each model, then end; the folder is a workspace of the toolkit',
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the verb; returns the exit code."""
    from tracker_ros.cli.eval import make_tracker
    from tracker_ros.evaluation.one_pass import TRACKER_ERRORS
    from tracker_ros.evaluation.vot import VotError, serve

    names = [name.strip() for name in args.model.split(',') if name.strip()]
    try:
        if not names or (len(names) > 1 and args.trackers_ini is None):
            raise VotError(f'--model {args.model!r}: one model answers the toolkit at a time')
        trackers = [make_tracker(name, args.weights, args.runtime, 0) for name in names]
        if args.trackers_ini is None:
            serve(trackers[0], names[0])
        else:
            _write_entries(args, names)
    except (VotError, ImportError, OSError, *TRACKER_ERRORS) as error:
        print(f'tracker_ros vot: {error}', file=sys.stderr)
        return 2
    return 0


def _write_entries(args: argparse.Namespace, names: list[str]) -> None:
    from tracker_ros.evaluation.vot import command_of, entries, entry_name

    options = [] if args.runtime == 'auto' else ['--runtime', args.runtime]
    if args.weights is not None:
        options += ['--weights', str(args.weights.resolve())]
    # The toolkit calls it from another folder.
    called = [str(Path(name).resolve()) if Path(name).is_dir() else name for name in names]
    args.trackers_ini.write_text(
        entries(
            (name, command_of(each, *options)) for name, each in zip(names, called, strict=True)
        ),
        encoding='utf-8',
    )
    print(f'written: {args.trackers_ini}')
    print(f'next: vot evaluate --workspace WORKSPACE {" ".join(map(entry_name, names))}')
