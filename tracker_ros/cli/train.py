# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`tracker_ros train`: train a network by a recipe, off the robot."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        'train',
        help='train a network by a recipe (needs PyTorch)',
        description=(
            'Trains a network as the recipe says, in one process, or in several that torchrun '
            'starts. A run can be ended at any time (SIGTERM, Ctrl-C, or a crash) and continued '
            'with --resume, to the same result. Several recipes are run one after the other, each '
            'beginning with the averaged weights of the one before. '
            'Exit code 2 when the recipe or the data are wrong.'
        ),
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of every verb that trains by a recipe."""
    parser.add_argument(
        'recipes', type=Path, nargs='+', metavar='RECIPE', help='YAML files, see recipes/'
    )
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='FOLDER',
        help='where the run lives; of several recipes, FOLDER/NAME for each',
    )
    parser.add_argument('--resume', action='store_true', help='go on with the run in FOLDER')
    parser.add_argument(
        '--begin-with', type=Path, metavar='FILE', help='weights to begin with: a checkpoint'
    )
    parser.add_argument('--data', metavar='DIR', help="training data, instead of the recipe's")
    parser.add_argument(
        '--dev', metavar='DIR', help="sequences to validate on, instead of the recipe's"
    )
    parser.add_argument(
        '--minutes', type=float, default=0.0, metavar='N', help='end after N minutes'
    )
    parser.add_argument(
        '--decay',
        type=int,
        default=0,
        metavar='N',
        help='lower the learning rate from here on, and end after N samples',
    )
    parser.add_argument(
        '--device', default='', help='cpu, cuda or cuda:N (default: a GPU where there is one)'
    )


def run(args: argparse.Namespace) -> int:
    """Run the verb; returns the exit code."""
    return run_by_recipe(args, 'train')


def run_by_recipe(args: argparse.Namespace, verb: str) -> int:
    """Train as `verb`, taught by `args.teacher` where there is one; returns the exit code."""
    try:
        from tracker_ros.training.card import read_run
        from tracker_ros.training.checkpoints import TrainingError
        from tracker_ros.training.loop import train
        from tracker_ros.training.pictures import DataError
        from tracker_ros.training.progress import is_over
        from tracker_ros.training.recipe import RecipeError, read_recipe
    except ImportError as error:
        print(f'tracker_ros {verb}: needs PyTorch: pip install torch ({error})', file=sys.stderr)
        return 2
    from tracker_ros.evaluation.sequences import SequenceError

    try:
        recipes = [with_folders(read_recipe(path), args) for path in args.recipes]
        if verb == 'distill':
            recipes = [
                dataclasses.replace(recipe, teacher=str(args.teacher or recipe.teacher))
                for recipe in recipes
            ]
        for recipe in recipes:
            if verb == 'distill' and not recipe.teacher:
                raise TrainingError(
                    f'{recipe.name} names no teacher: give its weights with --teacher FILE'
                )
        if len({recipe.name for recipe in recipes}) < len(recipes):
            raise RecipeError('two of the recipes have the same name; their runs need one each')
        begin_with = args.begin_with
        for recipe in recipes:
            folder = args.out / recipe.name if len(recipes) > 1 else args.out
            last = folder / 'last.pt'
            if len(recipes) > 1 and args.resume and last.exists():
                before = read_run(folder)
                if is_over(before.recipe, before.progress):
                    begin_with = last
                    continue
            run = train(
                recipe,
                folder,
                resume=args.resume,
                begin_with=begin_with,
                minutes=args.minutes,
                decay_samples=args.decay,
                device=args.device,
            )
            if not is_over(run.recipe, run.progress):
                break
            begin_with = last
    except (TrainingError, RecipeError, DataError, SequenceError) as error:
        print(f'tracker_ros {verb}: {error}', file=sys.stderr)
        return 2
    return 0


def with_folders(recipe: Any, args: argparse.Namespace) -> Any:
    """The `Recipe` with the folders of the command line."""
    if args.data:
        data = dataclasses.replace(recipe.data, folder=args.data, sets=())
        recipe = dataclasses.replace(recipe, data=data)
    if args.dev:
        validation = dataclasses.replace(recipe.validation, folder=args.dev)
        recipe = dataclasses.replace(recipe, validation=validation)
    return recipe
