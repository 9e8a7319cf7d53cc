# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`tracker_ros explain`: what the network looked at in one frame of a video, as pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tracker_ros.arguments import box

if TYPE_CHECKING:
    from tracker_ros.geometry import Image
    from tracker_ros.trackers import Tracker
    from tracker_ros.tracking import Observation


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        'explain',
        help='show what the network looked at in one frame of a video',
        description='Follows the target up to a frame and writes what the model has of: response '
        "(the head's map of where the target may be), attention (from the target's tokens to the "
        'search region), edges (the distribution of each side of the box), mask. One PNG each.',
    )
    parser.add_argument('video', metavar='VIDEO', help='video file or folder of images')
    parser.add_argument(
        '--init', required=True, type=box, metavar='x,y,w,h', help='the box in the first frame'
    )
    parser.add_argument('--model', default='vittrack', metavar='NAME', help='default: vittrack')
    parser.add_argument('--runtime', default='auto', help='inference library (default: auto)')
    parser.add_argument('--text', default=None, help='what it is, for models that take text')
    parser.add_argument(
        '--frame', type=int, default=1, metavar='N', help='counted from 0 (default: 1)'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('out/explain'), metavar='FOLDER', help='for the pictures'
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Follow, draw and write; returns the exit code."""
    from tracker_ros.footage import FootageError
    from tracker_ros.runtime.engine import EngineError
    from tracker_ros.runtime.package import PackageError
    from tracker_ros.trackers import TrackerError, create
    from tracker_ros.tracking import BoxError

    try:
        if options.frame < 1:
            raise TrackerError(f'--frame must be 1 or more, not {options.frame}: frame 0 is given')
        tracker = create(options.model, options.runtime)
        if options.text and not tracker.package.takes_text:
            raise TrackerError(f'{options.model} takes no text; leave --text out')
        image, observation = _follow(tracker, options)
        return _write(tracker, image, observation, options)
    except (FootageError, PackageError, EngineError, TrackerError, BoxError, OSError) as error:
        print(f'tracker_ros explain: {error}', file=sys.stderr)
        return 1


def _follow(tracker: Tracker, options: argparse.Namespace) -> tuple[Image, Observation]:
    from tracker_ros.footage import open_footage
    from tracker_ros.trackers import TrackerError
    from tracker_ros.tracking import Session

    session = Session(tracker)
    count = 0
    with open_footage(options.video) as footage:
        for number, image in enumerate(footage):
            count += 1
            if number == 0:
                session.start(image, options.init, text=options.text)
                continue
            tracker.keeps_insight = number == options.frame
            tracker.wants_mask = tracker.gives_mask and number == options.frame
            observation = session.step(image)
            if number == options.frame:
                return image, observation
    raise TrackerError(f'{options.video} has only {count} frames; --frame {options.frame} is none')


def _write(
    tracker: Tracker, image: Image, observation: Observation, options: argparse.Namespace
) -> int:
    import cv2

    from tracker_ros.runtime.engine import EngineError
    from tracker_ros.trackers import TrackerError
    from tracker_ros.tracking.heat import LAYERS, Explainer
    from tracker_ros.tracking.overlay import draw

    explainer = Explainer(tracker)
    options.out.mkdir(parents=True, exist_ok=True)
    written, reasons = 0, []
    for layer in LAYERS:
        picture = image.copy()
        try:
            explainer.draw(picture, tracker.insight, layer, mask=observation.mask)
        except (TrackerError, EngineError) as error:
            reasons.append(f'{layer}: {error}')
            continue
        draw(picture, observation, f'{options.model}  {layer}  frame {options.frame}')
        path = options.out / f'frame_{options.frame:06d}_{layer}.png'
        if not cv2.imwrite(str(path), picture):
            raise OSError(f'cannot write {path}')
        written += 1
        print(path)
    for reason in reasons:
        print(f'no {reason}', file=sys.stderr)
    return 0 if written else 1
