# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`tracker_ros export`: from the folder of a training to a model package with its card."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

_LICENCE = 'Apache-2.0; trained in part on research footage, see card.md'


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        'export',
        help='make a model package of a training run (needs PyTorch)',
        description=(
            'Makes a package in fp32 of the averaged weights of the last RUN, and writes card.md '
            'beside them: runs, seeds, data and terms, curve, accuracy. "tracker_ros models '
            'quantize" and "models calibrate" go on from there.'
        ),
    )
    parser.add_argument(
        'runs',
        nargs='+',
        type=Path,
        metavar='RUN',
        help='folders of `tracker_ros train`, in the order in which they built on each other',
    )
    parser.add_argument('--name', required=True, help='of the package')
    parser.add_argument('--output', type=Path, required=True, metavar='FOLDER')
    parser.add_argument(
        '--sources',
        type=Path,
        required=True,
        metavar='FILE',
        help='YAML with dataset and terms of each source, such as recipes/sources.yaml',
    )
    parser.add_argument(
        '--scores',
        type=Path,
        nargs='+',
        default=[],
        metavar='FILE',
        help='what `tracker_ros eval --json` wrote, for the card',
    )
    parser.add_argument(
        '--half-weights',
        action='store_true',
        help='keep the weights in 16 bits, and compute in 32: half the size',
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the verb; returns the exit code."""
    try:
        from tracker_ros.export.checkpoint import CheckpointError
        from tracker_ros.export.convert import ConversionError, convert
        from tracker_ros.training.card import (
            card_of,
            facts_of,
            read_run,
            read_scores,
            read_sources,
        )
        from tracker_ros.training.checkpoints import TrainingError
    except ImportError as error:
        print(f'tracker_ros export: needs PyTorch and onnx ({error})', file=sys.stderr)
        return 2
    from tracker_ros.runtime.package import CARD, PackageError

    try:
        runs = [read_run(folder) for folder in args.runs]
        sources, scores = read_sources(args.sources), [read_scores(path) for path in args.scores]
        # Before anything is written: it may find that terms are not told.
        card = card_of(args.name, runs, sources, scores)
        last = runs[-1]
        package = convert(
            last.folder / 'network.pt',
            last.recipe.family,
            args.name,
            args.output,
            licence=_LICENCE,
            half_weights=args.half_weights,
            **facts_of(runs),
        )
        (package.folder / CARD).write_text(card, encoding='utf-8')
    except (TrainingError, CheckpointError, ConversionError, PackageError, OSError) as error:
        print(f'tracker_ros export: {error}', file=sys.stderr)
        return 1
    print(f'{package.name}: {package.summary}, ready in {package.folder}')
    return 0
