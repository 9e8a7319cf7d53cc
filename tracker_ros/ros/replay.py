# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sequences played over DDS, at a rate, into the running node; what it publishes is scored.

The boxes are those a consumer of the detections would hold: a frame without a detection, or
whose detection says that the target is lost, keeps the last box. So frames that were dropped or
lost on the way cost accuracy here, unlike in a one-pass run.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from tracker_ros.evaluation.metrics import Array
from tracker_ros.evaluation.one_pass import Failure, Run
from tracker_ros.evaluation.sequences import Sequence, SequenceError
from tracker_ros.evaluation.through_node import Replay
from tracker_ros.lookahead import read_ahead
from tracker_ros.ros.processes import ProcessError
from tracker_ros.ros.rig import Rig, running_node

_READ_AHEAD_FRAMES = 8
_LAST_ANSWER_S = 5.0


def replay(
    model: str,
    sequences: list[Sequence],
    *,
    rate_hz: float = 30.0,
    parameters: dict[str, object] | None = None,
    domain_id: int | None = None,
    progress: bool = True,
) -> tuple[list[Replay], list[Failure]]:
    """Start the node with `model` and play every sequence into it.

    parameters: further parameters of the node. domain_id: None takes a free ROS domain.
    A sequence that cannot be read or that the node refuses becomes a Failure.
    Raises ProcessError when the node does not come up or dies, ValueError for a bad rate.
    """
    if not rate_hz > 0:
        raise ValueError(f'the rate must be above 0 Hz, not {rate_hz}')
    replays: list[Replay] = []
    failures: list[Failure] = []
    with (
        running_node({**(parameters or {}), 'model': model}, domain_id) as rig,
        tqdm(
            total=sum(map(len, sequences)), unit=' frames', disable=not progress, desc=model
        ) as bar,
    ):
        for sequence in sequences:
            bar.set_description(f'{model} {sequence.name} at {rate_hz:g} Hz')
            try:
                replays.append(_play(rig, model, sequence, rate_hz, bar.update))
            except (SequenceError, ProcessError) as error:
                rig.child.check()
                failures.append(Failure(model, sequence.name, str(error)))
    return replays, failures


def _play(
    rig: Rig,
    model: str,
    sequence: Sequence,
    rate_hz: float,
    on_frame: Callable[[], object],
) -> Replay:
    """Play one sequence. The camera stands still while the node takes the target."""
    stamps: list[int] = []
    lateness_s = np.full(len(sequence), np.nan)
    messages = read_ahead(
        (rig.make_image(frame) for frame in sequence.frames()), _READ_AHEAD_FRAMES
    )
    rig.forget()
    begin = 0.0
    for index, message in enumerate(messages):
        if index == 0:
            stamps.append(rig.start_on(message, sequence.first_box))
            begin = time.monotonic()
        else:
            due = begin + index / rate_hz
            time.sleep(max(0.0, due - time.monotonic()))
            lateness_s[index] = time.monotonic() - due
            stamps.append(rig.publish(message))
        on_frame()
    rig.await_detection(stamps[-1], _LAST_ANSWER_S)
    rig.stop_target()
    return collect(rig, model, sequence, stamps, lateness_s)


def collect(
    rig: Rig, model: str, sequence: Sequence, stamps: list[int], lateness_s: Array
) -> Replay:
    """What the rig received for the frames of these stamps, as a consumer would have held it."""
    boxes = np.tile(sequence.truth[0], (len(sequence), 1))
    confidences = np.full(len(sequence), np.nan)
    ages_s = np.full(len(sequence), np.nan)
    lost = 0
    for index, stamp_ns in enumerate(stamps[1:], 1):
        boxes[index] = boxes[index - 1]
        received = rig.received(stamp_ns)
        if received is None:
            continue
        ages_s[index] = (received.received_ns - stamp_ns) / 1e9
        confidences[index] = received.score
        if received.box is None:
            lost += 1
        else:
            boxes[index] = received.box.xywh()
    times_s = np.full(len(sequence), np.nan)
    return Replay(Run(model, sequence, boxes, confidences, times_s), ages_s, lateness_s, lost)
