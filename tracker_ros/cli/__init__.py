# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command `tracker_ros`: one module per verb."""

from __future__ import annotations

import argparse
import os
import sys

from tracker_ros import __version__
from tracker_ros.cli import (
    bench,
    build,
    distill,
    doctor,
    eval,
    explain,
    export,
    models,
    search,
    services,
    track,
    train,
    vot,
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 for a failure, 2 for wrong arguments."""
    parser = argparse.ArgumentParser(
        prog='tracker_ros', description='Follow any object: without ROS, or through the node.'
    )
    parser.add_argument('--version', action='version', version=f'tracker_ros {__version__}')
    subparsers = parser.add_subparsers(required=True, metavar='VERB')
    for verb in (
        track,
        services,
        models,
        build,
        bench,
        eval,
        vot,
        explain,
        train,
        distill,
        search,
        export,
        doctor,
    ):
        verb.add_parser(subparsers)
    options = parser.parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code
