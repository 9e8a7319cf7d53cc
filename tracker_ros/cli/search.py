# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`tracker_ros search`: find an architecture in a trained supernet, off the robot."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tracker_ros.cli.train import with_folders


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        'search',
        help='search an architecture in a trained supernet (needs PyTorch)',
        description=(
            'Searches the asymmetrical architecture of VLT: which blocks template and search '
            'images go through. The recipe is the one that trained the supernet. A search can be '
            'ended at any time and continued with --resume, to the same result. Writes '
            'architecture.yaml, which recipes take as options.architecture. Exit code 2 when the '
            'recipe, the weights or the data are wrong.'
        ),
    )
    parser.add_argument(
        'recipe', type=Path, metavar='RECIPE', help='a YAML file, see recipes/vlt_ass.yaml'
    )
    parser.add_argument(
        '--weights',
        type=Path,
        required=True,
        metavar='FILE',
        help='the trained supernet: network.pt of its run',
    )
    parser.add_argument(
        '--out', type=Path, required=True, metavar='FOLDER', help='where the search lives'
    )
    parser.add_argument('--resume', action='store_true', help='go on with the search in FOLDER')
    parser.add_argument('--data', metavar='DIR', help="training data, instead of the recipe's")
    parser.add_argument(
        '--dev', metavar='DIR', help="sequences to judge on, instead of the recipe's"
    )
    parser.add_argument(
        '--minutes', type=float, default=0.0, metavar='N', help='end after N minutes'
    )
    parser.add_argument(
        '--device', default='', help='cpu, cuda or cuda:N (default: a GPU where there is one)'
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the verb; returns the exit code."""
    try:
        from tracker_ros.training.checkpoints import TrainingError
        from tracker_ros.training.pictures import DataError
        from tracker_ros.training.recipe import RecipeError, read_recipe
        from tracker_ros.training.search import search
    except ImportError as error:
        print(f'tracker_ros search: needs PyTorch: pip install torch ({error})', file=sys.stderr)
        return 2
    from tracker_ros.evaluation.sequences import SequenceError

    try:
        recipe = with_folders(read_recipe(args.recipe), args)
        search(
            recipe,
            args.weights,
            args.out,
            resume=args.resume,
            minutes=args.minutes,
            device=args.device,
        )
    except (TrainingError, RecipeError, DataError, SequenceError) as error:
        print(f'tracker_ros search: {error}', file=sys.stderr)
        return 2
    return 0
