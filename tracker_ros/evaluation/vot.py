# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the VOT toolkit calls: a tracker behind the TraX protocol, and its entry in trackers.ini.

The toolkit starts the tracker as a process and talks with it over its standard input and output.
One process takes many starts, so the networks are loaded once.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import cv2

from tracker_ros.evaluation.one_pass import OnePassTracker
from tracker_ros.geometry import Box

_COLOUR = 'color'
_TIMEOUT_S = 120
"""How long the toolkit waits for an answer: inference libraries load and compile before theirs."""


class VotError(Exception):
    """The toolkit cannot be served; the text says why and what to do."""


def serve(tracker: OnePassTracker, name: str) -> None:
    """Answer the toolkit on standard input and output until it says quit.

    Each start begins a new target. The score goes with each box as `confidence`.
    Raises VotError without TraX, without a toolkit at the other end, and for an image or start
    that cannot be used; the toolkit is told the same.
    """
    try:
        import trax
        import trax.image
        import trax.region
        import trax.server
    except (ImportError, OSError) as error:
        raise VotError(f'needs TraX: python -m pip install vot-trax ({error})') from None
    try:
        server = trax.server.Server(
            [trax.region.Region.RECTANGLE],
            [trax.image.Image.PATH],
            [_COLOUR],
            tracker_name=name,
            tracker_family='tracker_ros',
        )
        for box, confidence in _answers(server, tracker):
            region = trax.region.Rectangle.create(*box.xywh())
            server.status([(region, {'confidence': f'{confidence:.6f}'})])
    except trax.TraxException as error:
        raise VotError(f'no VOT toolkit answers on the standard input: {error}') from None


def entries(commands: Iterable[tuple[str, list[str]]]) -> str:
    """The text of a trackers.ini. commands: a tracker's name, and the words that start it.

    The names of the entries have letters, digits, _ and - alone, as the toolkit wants them.
    """
    return '\n'.join(
        f'[{entry_name(name)}]\nlabel = {name}\nprotocol = trax\n'
        # A % would begin a reference in an ini file.
        f'command = {shlex.join(command).replace("%", "%%")}\ntimeout = {_TIMEOUT_S}\n'
        for name, command in commands
    )


def entry_name(name: str) -> str:
    """What the toolkit calls the tracker: `vittrack+life` becomes `vittrack_life`."""
    return re.sub(r'[^A-Za-z0-9_-]+', '_', name).strip('_')


def command_of(name: str, *options: str) -> list[str]:
    """The command that serves a tracker with the Python that runs here."""
    return [sys.executable, '-m', 'tracker_ros.cli', 'vot', '--model', name, *options]


def _answers(server: Any, tracker: OnePassTracker) -> Iterator[tuple[Box, float]]:
    """Yields box and score for each image that the toolkit sends, until it says quit."""
    started = False
    while (request := server.wait()).type != 'quit':
        try:
            image = _image_of(request.image)
            if request.type == 'initialize':
                box = _first_box(request.objects)
                tracker.start(image, box)
                started = True
                yield box, 1.0
            elif not started:
                raise VotError('the toolkit sent a frame before a start')
            else:
                estimate = tracker.step(image)
                yield estimate.box, estimate.score
        except Exception as error:
            server.quit(str(error))
            raise


def _image_of(images: Any) -> Any:
    path = images[_COLOUR].path() if _COLOUR in images else None
    image = cv2.imread(path, cv2.IMREAD_COLOR) if path is not None else None
    if image is None:
        raise VotError(f'{path}: no image that can be read')
    return image


def _first_box(objects: Any) -> Box:
    if len(objects) != 1:
        raise VotError(
            f'{len(objects)} objects to follow, but this tracker follows one: take a stack with '
            'single objects, such as vot2022/shorttermbox'
        )
    region, _ = objects[0]
    # Of a polygon or mask these are the box around it.
    x, y, width, height = region.bounds()
    return Box(x, y, width, height)
