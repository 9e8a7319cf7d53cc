# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`tracker_ros track`: follow an object through a video, without ROS."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tracker_ros.arguments import box
from tracker_ros.geometry import Image

if TYPE_CHECKING:
    from tracker_ros.footage import Footage
    from tracker_ros.tracking import Observation, Session

# Called with the frame's number, its pixels (H, W, 3) uint8 BGR and what was found.
Sink = Callable[[int, Image, 'Observation'], None]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        'track',
        help='follow an object through a video, without ROS',
        description='Prints how it went; with --json one object per frame: frame, box (x, y, w, '
        'h in pixels, null while lost), score and state.',
    )
    parser.add_argument('video', metavar='VIDEO', help='video file, folder of images, or camera')
    parser.add_argument(
        '--init', required=True, type=box, metavar='x,y,w,h', help='the box in the first frame'
    )
    parser.add_argument('--model', default='nano', metavar='NAME', help='default: %(default)s')
    parser.add_argument('--runtime', default='auto', help='inference library (default: auto)')
    parser.add_argument('--text', default=None, help='what it is, for models that take text')
    parser.add_argument('--out', type=Path, metavar='FILE.mp4', help='write an annotated video')
    parser.add_argument(
        '--json', type=Path, metavar='FILE.jsonl', help='write the boxes; - prints'
    )
    parser.add_argument('--frames', type=int, metavar='N', help='stop after N frames')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Track and report; returns the exit code."""
    from tracker_ros.footage import FootageError, open_footage
    from tracker_ros.runtime.engine import EngineError
    from tracker_ros.runtime.package import PackageError
    from tracker_ros.trackers import TrackerError, create
    from tracker_ros.tracking import BoxError, Session
    from tracker_ros.tracking.confidence import remark_on

    try:
        session = Session(create(options.model, options.runtime))
        if remark := remark_on(session.tracker.package):
            print(remark, file=sys.stderr)
        if options.text and not session.tracker.package.takes_text:
            raise TrackerError(f'{options.model} takes no text; leave --text out')
        with ExitStack() as stack:
            footage = stack.enter_context(open_footage(options.video))
            sinks = [stack.enter_context(sink) for sink in _sinks(options, footage)]
            return _follow(session, footage, options, sinks)
    except (FootageError, PackageError, EngineError, TrackerError, BoxError, OSError) as error:
        print(f'tracker_ros track: {error}', file=sys.stderr)
        return 1


def _follow(
    session: Session, footage: Footage, options: argparse.Namespace, sinks: list[Sink]
) -> int:
    from tqdm import tqdm

    states: dict[str, int] = {}
    spent_s = 0.0
    total = footage.frame_count
    if options.frames and (total is None or options.frames < total):
        total = options.frames
    number = 0
    # On standard error, and only where it is a terminal: standard output may be the JSON.
    for number, image in enumerate(tqdm(footage, total=total, unit='frame', disable=None), 1):
        began = time.perf_counter()
        if number == 1:
            observation = session.start(image, options.init, text=options.text)
        else:
            observation = session.step(image)
            spent_s += time.perf_counter() - began
        states[observation.state.name] = states.get(observation.state.name, 0) + 1
        for sink in sinks:
            sink(number - 1, image, observation)
        if number == options.frames:
            break
    if number == 0:
        print(f'tracker_ros track: {options.video} has no frames', file=sys.stderr)
        return 1
    counts = ', '.join(f'{count} {name}' for name, count in states.items())
    rate = f', {(number - 1) / spent_s:.0f} frames/s' if spent_s else ''
    print(
        f'{number} frames ({counts}), {options.model} on {session.tracker.runtime}{rate}',
        file=sys.stderr,
    )
    return 0


def _sinks(
    options: argparse.Namespace, footage: Footage
) -> Iterator[contextlib.AbstractContextManager[Sink]]:
    if options.json:
        yield _json_sink(options.json)
    if options.out:
        yield _video_sink(options.out, footage, options.model)


@contextlib.contextmanager
def _json_sink(path: Path) -> Iterator[Sink]:
    with ExitStack() as stack:
        stream = sys.stdout
        if str(path) != '-':
            stream = stack.enter_context(path.open('w', encoding='utf-8'))

        def write(number: int, _image: Image, observation: Observation) -> None:
            found = observation.box
            line = {
                'frame': number,
                'box': [round(value, 3) for value in found.xywh()] if found else None,
                'score': round(observation.score, 4),
                'state': observation.state.name,
            }
            print(json.dumps(line), file=stream)

        yield write


@contextlib.contextmanager
def _video_sink(path: Path, footage: Footage, model: str) -> Iterator[Sink]:
    import cv2

    from tracker_ros.tracking.overlay import draw

    size = (footage.width, footage.height)
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter_fourcc(*'mp4v'), footage.rate_hz or 30.0, size
    )
    if not writer.isOpened():
        raise OSError(
            f'cannot write {path}; give a name that ends in .mp4 in a folder that exists'
        )

    def write(_number: int, image: Image, observation: Observation) -> None:
        picture = image.copy()
        draw(picture, observation, model)
        writer.write(picture)

    try:
        yield write
    finally:
        writer.release()
