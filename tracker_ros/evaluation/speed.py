# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How fast trackers are, side by side.

Each contestant runs in a process of its own, so that its memory can be told and its threads
disturb no other. They compute in turns of a fraction of a second, round and round, so that what
else the machine does falls on all of them; how much that was is noted for each turn, and turns
that were disturbed can be left out.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tracker_ros.evaluation.machine import QUIET_CORES, Watch, resident_bytes
from tracker_ros.geometry import Box, Image
from tracker_ros.runtime.engine import Engine
from tracker_ros.runtime.gate import made_up_samples
from tracker_ros.trackers import create
from tracker_ros.trackers.contract import NetworkTracker

TEMPLATE = 'template'
"""A contestant's work: crop the target and encode it; that time is the second column."""
TURN_S = 0.5
SETTLING = 2
"""Left out at the begin of each turn: caches are cold after the others' turns."""
LONGEST_START_S = 300.0
_FEWEST = 3
_BOX_PX = (100.0, 80.0)
_PATCH_FRAMES = 24


class SpeedError(Exception):
    """A contestant could not be started, or died; the text says which and why."""


class Subject(Protocol):
    """What runs in a contestant's process."""

    def facts(self) -> dict[str, Any]:
        """What it is, for the record."""

    def turn(self, work: Any, seconds: float) -> list[list[float]]:
        """Do `work` for about `seconds`; a row of times in s, the total first, for each."""


@dataclass(frozen=True)
class Contestant:
    """A name, and what makes the subject in its process; `make` must be picklable."""

    name: str
    make: Callable[[], Subject]
    works: tuple[Any, ...] = ('frame',)
    """What is measured of it, each in turns of its own."""


@dataclass
class Turn:
    """The times of one turn, settled, and the cores that others used meanwhile."""

    rows: list[list[float]]
    others_cores: float

    @property
    def is_quiet(self) -> bool:
        return self.others_cores < QUIET_CORES


@dataclass
class Record:
    """All that was measured of a contestant."""

    name: str
    start_s: float
    """From the start of its process to the first answer."""
    facts: dict[str, Any]
    turns: dict[Any, list[Turn]] = field(default_factory=dict)
    resident_bytes: int = 0

    def rows(self, work: Any, quiet: bool) -> NDArray[np.float64]:
        """Times in s (n, columns) of all turns, or of the quiet ones."""
        turns = [turn for turn in self.turns.get(work, []) if turn.is_quiet or not quiet]
        return np.array([row for turn in turns for row in turn.rows], np.float64)


def compare(
    contestants: Sequence[Contestant],
    seconds: float,
    quiet_only: bool = False,
    longest_s: float = 600.0,
    progress: bool = False,
) -> list[Record]:
    """Run all in turns, until each had `seconds` for each of its works.

    With `quiet_only`, only turns that other programs left undisturbed count towards that, for at
    most `longest_s` altogether. Raises SpeedError.
    """
    with ExitStack() as stack:
        runners = [stack.enter_context(_running(item)) for item in contestants]
        pids = [os.getpid(), *(runner.pid for runner in runners)]
        give_up = time.monotonic() + longest_s
        wanted = max(1, round(seconds / TURN_S))
        total = wanted * sum(len(runner.contestant.works) for runner in runners)
        with tqdm(total=total, unit='turn', disable=not progress) as bar:
            while time.monotonic() < give_up:
                open_works = [
                    (runner, work)
                    for runner in runners
                    for work in runner.contestant.works
                    if runner.counted(work, quiet_only) < wanted
                ]
                if not open_works:
                    break
                for runner, work in open_works:
                    runner.take_turn(work, pids)
                done = sum(
                    min(wanted, runner.counted(work, quiet_only))
                    for runner in runners
                    for work in runner.contestant.works
                )
                bar.update(done - bar.n)
        return [runner.finished() for runner in runners]


def quantiles(times: NDArray[np.float64]) -> dict[str, float] | None:
    """Median, p10 and p90 in ms; None of nothing."""
    if not len(times):
        return None
    low, middle, high = np.percentile(times * 1e3, [10, 50, 90])
    return {'median': round(middle, 3), 'p10': round(low, 3), 'p90': round(high, 3)}


class _Runner:
    """The parent's end of a contestant's process."""

    def __init__(self, contestant: Contestant, pid: int, pipe: Connection) -> None:
        self.contestant, self.pid = contestant, pid
        self._pipe = pipe
        began = time.monotonic()
        facts = self._answer(LONGEST_START_S)
        self.record = Record(contestant.name, time.monotonic() - began, facts)
        self.record.turns = {work: [] for work in contestant.works}

    def counted(self, work: Any, quiet_only: bool) -> int:
        return sum(turn.is_quiet or not quiet_only for turn in self.record.turns[work])

    def take_turn(self, work: Any, pids: Sequence[int]) -> None:
        watch = Watch(pids)
        self._pipe.send((work, TURN_S))
        rows = self._answer(LONGEST_START_S)
        self.record.turns[work].append(Turn(rows[SETTLING:], watch.others_cores()))

    def finished(self) -> Record:
        self.record.resident_bytes = resident_bytes(self.pid)
        return self.record

    def _answer(self, timeout_s: float) -> Any:
        name = self.contestant.name
        try:
            if not self._pipe.poll(timeout_s):
                raise SpeedError(f'{name} gave no answer within {timeout_s:.0f} s')
            kind, value = self._pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            raise SpeedError(f'{name}: its process died') from error
        if kind == 'error':
            raise SpeedError(f'{name}: {value}')
        return value


@contextmanager
def _running(contestant: Contestant) -> Iterator[_Runner]:
    context = multiprocessing.get_context('spawn')
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, contestant.make), daemon=True)
    process.start()
    theirs.close()
    try:
        assert process.pid is not None
        yield _Runner(contestant, process.pid, ours)
    finally:
        ours.close()
        process.join(5.0)
        if process.is_alive():
            process.kill()
            process.join()


def _serve(pipe: Connection, make: Callable[[], Subject]) -> None:
    """The contestant's process: make the subject, then do what is asked until the pipe closes."""
    try:
        subject = make()
        pipe.send(('facts', subject.facts()))
        while True:
            work, seconds = pipe.recv()
            pipe.send(('rows', subject.turn(work, seconds)))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        return
    except Exception as error:  # whatever it was, the parent says it
        pipe.send(('error', f'{type(error).__name__}: {error}'))


def timed(step: Callable[[], Sequence[float]], seconds: float) -> list[list[float]]:
    """Call `step` for `seconds`, a few times at least; its total time and what it returns."""
    rows: list[list[float]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rows) < SETTLING + _FEWEST:
        began = time.perf_counter()
        parts = step()
        rows.append([time.perf_counter() - began, *parts])
    return rows


class TrackerSubject:
    """One of this project's trackers: whole frames, templates, the network alone for N targets.

    The target's place is told before each frame, so that every contestant crops the same window
    whatever its weights are worth.
    """

    def __init__(self, model: str, runtime: str, threads: int, size: tuple[int, int]) -> None:
        self._tracker = create(model, runtime, threads, build='wait')
        self._pictures, self._boxes = moving_patch(*size)
        self._tracker.start(self._pictures[0], self._boxes[0])
        self._place = 0
        self._targets: dict[int, tuple[NDArray[np.uint8], list[Any]]] = {}

    def facts(self) -> dict[str, Any]:
        tracker = self._tracker
        package = tracker.package
        facts: dict[str, Any] = {
            'model': package.name,
            'precision': package.precision if package.graphs else None,
            'runtime': tracker.runtime,
            'note': tracker.note,
            'rejected': list(tracker.rejected),
            'stages': self._stages,
            'gmacs_per_frame': package.manifest.get('gmacs_per_frame'),
        }
        if isinstance(tracker, NetworkTracker):
            (target,) = self._several(1)[1]
            facts['cached_bytes_per_target'] = _bytes_of(target)
        return facts

    def turn(self, work: Any, seconds: float) -> list[list[float]]:
        if work == 'frame':
            return timed(self._frame, seconds)
        if work == TEMPLATE:
            return timed(self._start, seconds)
        crops, cached = self._several(work)
        engine = self._engine

        def together() -> Sequence[float]:
            engine.search_many(crops, cached)
            return ()

        return timed(together, seconds)

    def boxes(self) -> list[tuple[float, float, float, float]]:
        """The answers of each picture, for comparison."""
        found = []
        for picture, box in zip(self._pictures, self._boxes, strict=True):
            self._tracker.search_around(box)
            found.append(self._tracker.step(picture).box.xywh())
        return found

    @property
    def _stages(self) -> list[str]:
        if isinstance(self._tracker, NetworkTracker):
            return ['crop', 'network', 'decode']
        return ['all']

    @property
    def _engine(self) -> Engine:
        assert isinstance(self._tracker, NetworkTracker)
        return self._tracker.engine

    def _frame(self) -> Sequence[float]:
        self._place = (self._place + 1) % len(self._pictures)
        tracker, box = self._tracker, self._boxes[self._place]
        began = time.perf_counter()
        tracker.search_around(box)
        tracker.step(self._pictures[self._place])
        spent_s = time.perf_counter() - began
        if not isinstance(tracker, NetworkTracker):
            return (spent_s,)
        return tracker.crop_s, tracker.inference_s, spent_s - tracker.crop_s - tracker.inference_s

    def _start(self) -> Sequence[float]:
        """Take the target anew; the first look at it, which comes with that, does not count."""
        self._tracker.start(self._pictures[0], self._boxes[0])
        return (self._tracker.template_s if isinstance(self._tracker, NetworkTracker) else 0.0,)

    def _several(self, count: int) -> tuple[NDArray[np.uint8], list[Any]]:
        """Search crops and cached tensors of so many targets, each of its own."""
        if count not in self._targets:
            engine, package = self._engine, self._tracker.package
            samples = made_up_samples(package, engine.template_inputs, count)
            self._targets[count] = (
                np.stack([sample.search for sample in samples]),
                [engine.template(**sample.templates) for sample in samples],
            )
        return self._targets[count]


def moving_patch(
    width: int, height: int, count: int = _PATCH_FRAMES
) -> tuple[list[Image], list[Box]]:
    """BGR frames in which a textured patch goes there and back, and its box in each.

    Played over and over, the motion has no jump.
    """
    noise = np.random.default_rng(7)
    small = noise.integers(40, 160, (height // 16 + 1, width // 16 + 1, 3)).astype(np.uint8)
    ground = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    across, down = int(min(_BOX_PX[0], width / 4)), int(min(_BOX_PX[1], height / 4))
    patch = cv2.resize(noise.integers(0, 255, (8, 8, 3)).astype(np.uint8), (across, down))
    frames, boxes = [], []
    for index in range(count):
        swing = np.sin(2 * np.pi * index / count)
        x, y = round(width / 2 + width / 8 * swing), round(height / 2 + height / 16 * swing)
        frame = ground.copy()
        frame[y : y + down, x : x + across] = patch
        frames.append(frame)
        boxes.append(Box(float(x), float(y), float(across), float(down)))
    return frames, boxes


def _bytes_of(cached: Any) -> int | None:
    """How much memory the cached tensors of a target take; None where the engine hides it."""
    if not isinstance(cached, dict):
        return None
    sizes = [getattr(value, 'nbytes', None) for value in cached.values()]
    known = [size for size in sizes if isinstance(size, int)]
    return sum(known) if len(known) == len(sizes) else None
