# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`tracker_ros distill`: train a network that learns from another one."""

from __future__ import annotations

import argparse
from pathlib import Path

from tracker_ros.cli.train import add_arguments, run_by_recipe


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        'distill',
        help='train a network that learns from another one (needs PyTorch)',
        description=(
            'Trains as `tracker_ros train`, by a recipe that distils: a student learns what a '
            'teacher answers, and where the recipe says so, the features of its layers. What '
            'kind of network the teacher is, its weights tell. Exit code 2 when recipe, teacher '
            'or data are wrong.'
        ),
    )
    add_arguments(parser)
    parser.add_argument(
        '--teacher', type=Path, metavar='FILE', help="weights to learn from, if not the recipe's"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the verb; returns the exit code."""
    return run_by_recipe(args, 'distill')
