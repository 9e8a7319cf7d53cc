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
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from tracker_ros.evaluation.metrics import Array
from tracker_ros.evaluation.one_pass import Failure, Run
from tracker_ros.evaluation.report import by_tracker, format_table, mean_scores_of, numbers
from tracker_ros.evaluation.sequences import Sequence, SequenceError
from tracker_ros.lookahead import read_ahead
from tracker_ros.ros.processes import ProcessError
from tracker_ros.ros.rig import Rig, running_node

_READ_AHEAD_FRAMES = 8
_LAST_ANSWER_S = 5.0


@dataclass(frozen=True, eq=False)
class Replay:
    """What the node made of one sequence.

    run: boxes and confidences as a consumer held them; its times_s are nan.
    ages_s: (n,) from an image's stamp, which is when it was published, to its detection here;
    nan for the first frame and where no detection came.
    lateness_s: (n,) how much later than planned each frame was published.
    lost: frames whose detection said that the target is lost.
    """

    run: Run
    ages_s: Array
    lateness_s: Array
    lost: int

    @property
    def dropped(self) -> int:
        """Frames after the first for which no detection came."""
        return int(np.isnan(self.ages_s[1:]).sum())


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


def replay_table(replays: list[Replay], offline: list[Run]) -> str:
    """One line a model: scores through the node, the offline AUC beside them, drops and ages."""
    offline_of = by_tracker(offline)
    rows = []
    for model, runs in by_tracker([each.run for each in replays]).items():
        own = [each for each in replays if each.run.tracker == model]
        scores = mean_scores_of(runs)
        names = {run.sequence.name for run in runs}
        same = [run for run in offline_of.get(model, []) if run.sequence.name in names]
        offline_auc = mean_scores_of(same).auc if same else float('nan')
        p50, p95, longest = age_quantiles_ms(own)
        rows.append(
            [
                model,
                f'{scores.auc:.3f}',
                f'{offline_auc:.3f}',
                f'{scores.auc - offline_auc:+.3f}',
                f'{scores.precision:.3f}',
                f'{scores.normalised_precision:.3f}',
                f'{scores.ao:.3f}',
                str(sum(each.dropped for each in own)),
                str(sum(each.lost for each in own)),
                str(scores.frames),
                f'{p50:.1f}',
                f'{p95:.1f}',
                f'{longest:.1f}',
            ]
        )
    header = ['through the node', 'AUC', 'offline', 'diff', 'P@20', 'NP', 'AO', 'dropped', 'lost']
    return format_table([*header, 'frames', 'age p50 ms', 'p95', 'max'], rows)


def as_dict(replays: list[Replay], rate_hz: float) -> dict[str, object]:
    """Everything as plain data: `trackers` by name, with `runs` by sequence."""
    trackers: dict[str, dict[str, object]] = {}
    for model, runs in by_tracker([each.run for each in replays]).items():
        own = [each for each in replays if each.run.tracker == model]
        p50, p95, longest = age_quantiles_ms(own)
        trackers[model] = {
            **mean_scores_of(runs).as_dict(),
            'dropped': sum(each.dropped for each in own),
            'lost': sum(each.lost for each in own),
            'age_p50_ms': numbers(p50),
            'age_p95_ms': numbers(p95),
            'age_max_ms': numbers(longest),
            'runs': {each.run.sequence.name: _replay_as_dict(each) for each in own},
        }
    return {'rate_hz': rate_hz, 'trackers': trackers}


def age_quantiles_ms(replays: list[Replay]) -> tuple[float, float, float]:
    """Median, 95th percentile and maximum of the ages; nan without a detection."""
    ages = np.concatenate([each.ages_s for each in replays])
    ages = ages[~np.isnan(ages)] * 1000
    if not len(ages):
        return float('nan'), float('nan'), float('nan')
    p50, p95, longest = np.percentile(ages, [50, 95, 100])
    return float(p50), float(p95), float(longest)


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


def _replay_as_dict(each: Replay) -> dict[str, object]:
    return {
        **each.run.scores.as_dict(),
        'dropped': each.dropped,
        'lost': each.lost,
        'boxes': numbers(each.run.boxes),
        'confidences': numbers(each.run.confidences),
        'ages_ms': numbers(each.ages_s * 1000),
        'lateness_ms': numbers(each.lateness_s * 1000),
    }
