# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`tracker_ros build`: compile a model for this GPU now, so that no start has to wait for it."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracker_ros.runtime.tensorrt_engine import TensorRtMaker

_SHOWN_EVERY_S = 0.2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        'build',
        help='build the engine of a model for this GPU ahead of time',
        description=(
            'Builds the engine of a model for this GPU, compares its answers with those on the '
            "CPU, and keeps it in the user's cache, where every later start finds it. A node does "
            'the same by itself in the background. Exit code 1 when there is no engine afterwards.'
        ),
    )
    parser.add_argument('name', metavar='NAME', help='a model, or the path of a package folder')
    parser.add_argument(
        '--runtime', choices=('tensorrt',), default='tensorrt', help='the library to build for'
    )
    parser.add_argument(
        '--precision',
        default='',
        help="refuse to build anything else than this; it is the graphs' own that counts",
    )
    parser.add_argument('--rebuild', action='store_true', help='build anew what was built before')
    parser.add_argument(
        '--force',
        action='store_true',
        help='use the engine even if its answers are too far from those on the CPU',
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Build, and say how it went."""
    from tracker_ros.runtime import store
    from tracker_ros.runtime.engine import EngineError
    from tracker_ros.runtime.package import PackageError
    from tracker_ros.runtime.tensorrt_builder import find_toolkit
    from tracker_ros.runtime.tensorrt_engine import TensorRtMaker

    try:
        package = store.find(options.name)
        if not package.graphs:
            raise PackageError('it has no network, so that there is nothing to build')
        maker = TensorRtMaker(package, find_toolkit(), options.precision)
    except (PackageError, EngineError) as error:
        print(f'{options.name}: {error}', file=sys.stderr)
        return 1
    print(f'{package.name}: {maker.toolkit.name} for {maker.toolkit.device.name}')
    failure = _build(maker, options.force, options.rebuild)
    if failure:
        print(f'{package.name}: {failure}', file=sys.stderr)
        return 1
    if maker.difference is not None:
        print(f'{package.name}: at most {maker.difference} away from the CPU')
    print(f'{package.name}: ready ({maker.cache.folder})')
    return 0


def _build(maker: TensorRtMaker, force: bool, rebuild: bool) -> str:
    """Show the build as it goes; returns why it failed, or nothing."""
    from tqdm import tqdm

    from tracker_ros.runtime.building import BuildingEngine

    make = partial(maker.make, force=force, rebuild=rebuild)
    # In a thread of its own, so that Ctrl-C is heard while the library computes.
    engine = BuildingEngine(maker.toolkit.flavour, make, None)
    try:
        with tqdm(total=100, unit='%', desc='building') as bar:
            while not engine.wait(_SHOWN_EVERY_S):
                bar.set_description(engine.note)
                bar.update(100 * (engine.progress or 0.0) - bar.n)
            if not engine.failure:
                bar.update(100 - bar.n)
    finally:
        engine.close()
    return engine.failure
