# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One-pass evaluation: a tracker is started with the true box of the first frame and then left
alone until the last one.

A run is a tracker on a sequence. Runs are independent of each other, so they spread over
processes; a run that fails is reported as failed and the others go on.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import NoReturn, Protocol, TypeVar

import cv2
import numpy as np
from tqdm import tqdm

from tracker_ros.evaluation.followed import Followed
from tracker_ros.evaluation.metrics import Array, Errors, Scores, errors_of, scores_of
from tracker_ros.evaluation.sequences import Sequence, SequenceError
from tracker_ros.geometry import Box
from tracker_ros.lookahead import read_ahead
from tracker_ros.runtime.engine import EngineError
from tracker_ros.runtime.package import PackageError
from tracker_ros.trackers import Estimate, TrackerError

Item = TypeVar('Item')

TRACKER_ERRORS = (TrackerError, PackageError, EngineError, cv2.error)
"""What making, starting or stepping a tracker raises."""

_READ_AHEAD_FRAMES = 8


class OnePassTracker(Protocol):
    """What is evaluated: the part of the trackers' contract that a one-pass run needs."""

    def start(self, image: np.ndarray, box: Box, text: str | None = None) -> object:
        """Take (H, W, 3) uint8 BGR and the target's box in it."""

    def step(self, image: np.ndarray) -> Estimate:
        """Find the target in the next image."""


MakeTracker = Callable[[str], OnePassTracker]
"""Makes a tracker from its name. It is sent to other processes, so it must be picklable."""


@dataclass(frozen=True, eq=False)
class Run:
    """What one tracker did on one sequence.

    boxes: (n, 4) x, y, w, h in pixels, the first row the given one; nan for no box.
    confidences: (n,) raw scores, nan for the first frame.
    times_s: (n,) seconds of the tracker alone, without decoding; the first is its start; nan for
    a frame that came while the tracker was busy.
    """

    tracker: str
    sequence: Sequence
    boxes: Array
    confidences: Array
    times_s: Array

    @functools.cached_property
    def errors(self) -> Errors:
        """Its boxes against the true ones."""
        return errors_of(
            self.boxes, self.sequence.truth, (self.sequence.width, self.sequence.height)
        )

    @functools.cached_property
    def scores(self) -> Scores:
        """The metrics of this run."""
        return scores_of(self.errors)

    @property
    def dropped(self) -> int:
        """Frames that the tracker did not see."""
        return int(np.isnan(self.times_s).sum())

    @property
    def rate_hz(self) -> float:
        """Frames a second: the inverse of the median step; nan for a single frame."""
        return median_rate_hz([self])


@dataclass(frozen=True)
class Failure:
    """A run that gave no result, and why."""

    tracker: str
    sequence: str
    reason: str


Task = tuple[int, str, Sequence]
"""Its number, the tracker and the sequence."""
Outcome = tuple[int, Run | Failure]
"""The number of a task and what became of it."""
Work = Callable[..., Run | Failure]
Spread = Callable[[list[Task], Work, 'tqdm[NoReturn]'], Iterable[Outcome]]
"""Does tasks somewhere and gives each outcome as it comes."""


class Results(Protocol):
    """Where runs are kept. It is sent to other processes, so it must be picklable."""

    def find(self, tracker: str, sequence: Sequence) -> Run | None:
        """The run if it was kept, whole."""

    def keep(self, run: Run) -> None:
        """Keep it, whole or not at all."""


def evaluate(
    trackers: Iterable[str],
    sequences: list[Sequence],
    make_tracker: MakeTracker,
    *,
    jobs: int = 1,
    progress: bool = True,
    real_time_hz: float | None = None,
    results: Results | None = None,
    spread: Spread | None = None,
) -> tuple[list[Run], list[Failure]]:
    """Run every tracker on every sequence.

    jobs: processes; with more than one each of them uses one thread of OpenCV's. progress:
    whether a bar is drawn on stderr. real_time_hz: see `run`. results: keeps what is done the
    moment it is done, and what it already has is not run again. spread: runs them elsewhere, and
    what comes back is kept here; jobs is not looked at.
    Returns runs and failures, both ordered by tracker and then by sequence as given.
    Raises ValueError for fewer jobs than one.
    """
    if jobs < 1:
        raise ValueError(f'jobs must be at least 1, not {jobs}')
    tasks = [(tracker, sequence) for tracker in trackers for sequence in sequences]
    outcomes: dict[int, Run | Failure] = {}
    for index, (tracker, sequence) in enumerate(tasks):
        kept = results.find(tracker, sequence) if results is not None else None
        if kept is not None:
            outcomes[index] = kept
    waiting = [(index, *task) for index, task in enumerate(tasks) if index not in outcomes]
    # What runs elsewhere is kept here: the folder of the results may not be there.
    keeper = results if spread is None else None
    work = functools.partial(_run_and_keep, make_tracker, real_time_hz, keeper)
    with tqdm(
        total=sum(len(sequence) for *_, sequence in waiting),
        unit=' frames',
        disable=not progress,
        dynamic_ncols=True,
    ) as bar:
        if spread is not None:
            for index, outcome in spread(waiting, work, bar) if waiting else ():
                outcomes[index] = outcome
                if results is not None and isinstance(outcome, Run):
                    results.keep(outcome)
        elif jobs == 1:
            outcomes.update(_here(waiting, work, bar))
        else:
            outcomes.update(_in_processes(waiting, work, jobs, bar))
    ordered = [outcomes[index] for index in range(len(tasks))]
    runs = [outcome for outcome in ordered if isinstance(outcome, Run)]
    failures = [outcome for outcome in ordered if isinstance(outcome, Failure)]
    return runs, failures


def run_safely(
    make_tracker: MakeTracker,
    name: str,
    sequence: Sequence,
    on_frame: Callable[[], object] | None = None,
    real_time_hz: float | None = None,
) -> Run | Failure:
    """Make the tracker `name` and run it; what goes wrong with either becomes a Failure."""
    try:
        return run(make_tracker(name), name, sequence, on_frame, real_time_hz)
    except (SequenceError, *TRACKER_ERRORS) as error:
        return Failure(name, sequence.name, str(error))
    except Exception as error:  # a tracker with a bug must not take the other runs with it
        return Failure(name, sequence.name, f'{type(error).__name__}: {error}')


def run(
    tracker: OnePassTracker,
    name: str,
    sequence: Sequence,
    on_frame: Callable[[], object] | None = None,
    real_time_hz: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Run:
    """One pass of `tracker` over `sequence`; `on_frame` is called after each frame.

    real_time_hz: frames come at this rate, and the tracker, whenever it is free, takes the newest.
    A frame that comes and goes while it is busy keeps the box of the one before. Time is what
    `clock` says the tracker took, in seconds; decoding costs none. The start takes none either:
    the benchmarks let a tracker take its target before time begins. None: every frame is seen.
    Raises SequenceError and whatever the tracker raises.
    """
    if isinstance(tracker, Followed):
        tracker.rate_hz = sequence.rate_hz
    boxes = np.full((len(sequence), 4), np.nan)
    confidences = np.full(len(sequence), np.nan)
    times_s = np.full(len(sequence), np.nan)
    free_s = 0.0
    for index, frame in enumerate(read_ahead(sequence.frames(), _READ_AHEAD_FRAMES)):
        if index and real_time_hz is not None and free_s >= (index + 1) / real_time_hz:
            # The next frame is here before the tracker is free, so this one is never looked at.
            boxes[index], confidences[index] = boxes[index - 1], confidences[index - 1]
        else:
            begin = clock()
            if index == 0:
                tracker.start(frame, sequence.first_box, *_words_for(tracker, sequence))
                boxes[0] = sequence.truth[0]
            else:
                estimate = tracker.step(frame)
                boxes[index] = estimate.box.xywh()
                confidences[index] = estimate.score
            times_s[index] = clock() - begin
            if index and real_time_hz is not None:
                free_s = max(free_s, index / real_time_hz) + times_s[index]
        if on_frame is not None:
            on_frame()
    return Run(name, sequence, boxes, confidences, times_s)


def _words_for(tracker: OnePassTracker, sequence: Sequence) -> tuple[str, ...]:
    """The sentence, for a tracker whose package takes one."""
    takes = getattr(getattr(tracker, 'package', None), 'takes_text', False)
    return (sequence.text,) if takes and sequence.text else ()


def median_rate_hz(runs: Iterable[Run]) -> float:
    """Inverse of the median time of a step over all runs; nan without a step."""
    steps = np.concatenate([each.times_s[1:] for each in runs])
    steps = steps[~np.isnan(steps)]
    return float(1.0 / np.median(steps)) if len(steps) else float('nan')


def _run_and_keep(
    make_tracker: MakeTracker,
    real_time_hz: float | None,
    results: Results | None,
    name: str,
    sequence: Sequence,
    on_frame: Callable[[], object] | None = None,
) -> Run | Failure:
    outcome = run_safely(make_tracker, name, sequence, on_frame, real_time_hz)
    if results is not None and isinstance(outcome, Run):
        # Here, in the process that ran it: it is safe even if the one that asked is gone.
        results.keep(outcome)
    return outcome


def _here(tasks: list[Task], work: Work, bar: tqdm[NoReturn]) -> Iterator[Outcome]:
    for index, tracker, sequence in tasks:
        bar.set_description(f'{tracker} {sequence.name}')
        before = bar.n
        yield index, work(tracker, sequence, bar.update)
        bar.update(before + len(sequence) - bar.n)


def _in_processes(
    tasks: list[Task], work: Work, jobs: int, bar: tqdm[NoReturn]
) -> Iterator[Outcome]:
    pool = ProcessPoolExecutor(
        jobs,
        # A forked copy of a process whose inference library has threads can hang.
        mp_context=multiprocessing.get_context('spawn'),
        initializer=_begin_process,
    )
    try:
        futures = {
            pool.submit(work, tracker, sequence): (index, tracker, sequence)
            # The longest first, so that no process works at the end while the others are done.
            for index, tracker, sequence in sorted(tasks, key=lambda task: -len(task[2]))
        }
        for future in as_completed(futures):
            index, tracker, sequence = futures[future]
            try:
                yield index, future.result()
            except BrokenProcessPool as error:
                yield index, Failure(tracker, sequence.name, f'its process died: {error}')
            bar.update(len(sequence))
    finally:
        # Otherwise an interrupted evaluation would first run all that waits.
        pool.shutdown(cancel_futures=True)


def _begin_process() -> None:
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Where the parent was killed nobody wants the results, and nobody would end this process."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
