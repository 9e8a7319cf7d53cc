# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How a target starts: in the image it was seen in, then forward to the newest one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from builtin_interfaces.msg import Time

from tracker_ros.geometry import Box
from tracker_ros.geometry import Image as Pixels
from tracker_ros.ros.images import ImageError
from tracker_ros.ros.inputs import Arrival
from tracker_ros.ros.messages import BOX_FAULT_CODES, RequestError, is_zero, seconds
from tracker_ros.runtime.engine import EngineError, NotReadyError
from tracker_ros.trackers import TrackerError
from tracker_ros.tracking import BoxError
from tracker_ros.tracking.history import run_forward
from tracker_ros.tracking.proposal import Proposal, propose
from tracker_ros.tracking.roster import Roster, RosterFullError, Track
from tracker_ros_interfaces.srv import InitTarget

# A start in an older image runs forward to the newest within about this time.
_CATCH_UP_S = 1.0


@dataclass(frozen=True, slots=True)
class StartRequest:
    """What somebody wants to have followed.

    frames: the image of the start, and all that came since.
    box: in pixels of that image; of no size for what is at the point of its centre.
    stamp: as it was asked for; zero for the newest image.
    """

    frames: list[Arrival]
    box: Box
    target_id: str
    text: str
    stamp: Time


@dataclass(frozen=True, slots=True)
class Started:
    """How a start went: `box` and `score` are those of the image of the start.

    `pixels` (H, W, 3) uint8 BGR are those of the newest image that was run through.
    """

    track: Track
    box: Box
    score: float
    words: str
    frame_age_s: float
    catch_up_frames: int
    catch_up_s: float
    pixels: Pixels


def start(
    roster: Roster,
    request: StartRequest,
    smallest_px: float,
    refused: Callable[[ImageError], None],
) -> Started:
    """Start what `request` names and run forward to the newest of its frames.

    `refused` is told of images on the way that are none. Raises RequestError, or whatever the
    tracker raises; of a start that fails half-way no target of this id is left.
    """
    first, last = request.frames[0], request.frames[-1]
    pixels = first.pixels()
    box, proposal = request.box, None
    if not (box.w or box.h):
        proposal = _proposed(pixels, box, smallest_px)
        box = proposal.box
    try:
        track = roster.start(
            pixels, box, request.target_id, request.text or None, smallest_px, first.stamp_s
        )
    except BoxError as error:
        raise RequestError(BOX_FAULT_CODES[error.fault], str(error)) from error
    except RosterFullError as error:
        raise RequestError(InitTarget.Response.NODE_FULL, str(error)) from error
    observation = track.observation
    assert observation.box is not None, 'a target starts where the caller says'
    newest = pixels

    def step(arrival: Arrival) -> None:
        nonlocal newest
        try:
            newest = arrival.pixels()
        except ImageError as error:
            if arrival is last:
                raise
            refused(error)
            return
        for failure in roster.step_some([track], newest, arrival.stamp_s):
            raise failure.error

    began_s = time.perf_counter()
    try:
        count = run_forward(request.frames[1:], step, _CATCH_UP_S)
    except Exception as error:
        roster.stop(track.target_id, f'the start failed: {error}')
        raise
    age_s = (last.stamp_s or 0.0) - (first.stamp_s or 0.0)
    took_s = time.perf_counter() - began_s if count else 0.0
    words = _words(request, proposal, age_s, observation.box)
    sure = track.session.thresholds.sure
    if observation.score < sure:
        words += f'; the score is only {observation.score:.2f}: choose a tighter box if it fails'
    if count:
        words += f'; ran through {count} images in {took_s:.3f} s, to the newest'
    return Started(track, observation.box, observation.score, words, age_s, count, took_s, newest)


def refusal(error: Exception, otherwise: int) -> tuple[int, str]:
    """Code and words of the answer to a request that raised `error`."""
    if isinstance(error, RequestError):
        return error.code, str(error)
    if isinstance(error, NotReadyError):
        return InitTarget.Response.NOT_READY, str(error)
    if isinstance(error, TrackerError | EngineError | ImageError):
        return otherwise, str(error)
    return otherwise, f'{type(error).__name__}: {error}'


def _proposed(pixels: Pixels, point: Box, smallest_px: float) -> Proposal:
    """The box of what is at `point`. Raises RequestError where nothing stands out."""
    height, width = pixels.shape[:2]
    if not point.is_finite():
        raise RequestError(
            InitTarget.Response.INVALID_BOX,
            f'the point x={point.x:g} y={point.y:g} is not finite; give numbers in pixels',
        )
    if not (0 <= point.x < width and 0 <= point.y < height):
        raise RequestError(
            InitTarget.Response.BOX_OUTSIDE_IMAGE,
            f'the point x={point.x:g} y={point.y:g} lies outside the image of {width} x '
            f'{height} px; points are in pixels of the published image',
        )
    proposal = propose(pixels, point.x, point.y, smallest_px)
    if proposal is None:
        raise RequestError(
            InitTarget.Response.NOTHING_THERE,
            f'at x={point.x:g} y={point.y:g} nothing stands out from what is around it; give a '
            'box, bbox.size_x and size_y above 0',
        )
    return proposal


def _words(request: StartRequest, proposal: Proposal | None, age_s: float, box: Box) -> str:
    x, y, w, h = box.xywh()
    words = f'started at x={x:.1f} y={y:.1f} w={w:.1f} h={h:.1f}'
    if proposal is not None:
        words += f', proposed for the point, with an overlap of {proposal.overlap:.2f} to expect'
    if not is_zero(request.stamp):
        words += f' in the image of {age_s:.3f} s ago'
        beside_s = seconds(request.stamp) - (request.frames[0].stamp_s or 0.0)
        if abs(beside_s) > 1e-6:
            words += f', the nearest to the stamp, {abs(beside_s):.3f} s beside it'
    return words
