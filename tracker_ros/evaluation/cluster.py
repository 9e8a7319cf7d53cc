# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Runs spread over the machines of a Ray cluster.

Each run is a task of one core. When a machine goes, Ray gives its tasks to the others; a run comes
back once, whole, and is kept where the evaluation was started. The machines need this package, the
model packages, and the footage at the same path.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, NoReturn

import cv2
from tqdm import tqdm

from tracker_ros.evaluation.one_pass import Failure, Outcome, Run, Task, Work
from tracker_ros.evaluation.sequences import Sequence

RETRIES = 3
"""How often a run is begun anew because its machine or process has gone."""

_PATIENCE_S = 10.0
"""How long the head may take to answer at all."""


class ClusterError(Exception):
    """There is no cluster to run on; the text says why and what to do."""


def in_cluster(
    address: str, tasks: list[Task], work: Work, bar: tqdm[NoReturn]
) -> Iterator[Outcome]:
    """Yields the outcome of each task, in the order in which they end.

    address: what `ray.init` takes: HOST:PORT of the head, or 'auto' on one of the machines.
    Raises ClusterError without Ray, and when no cluster answers at the address.
    """
    ray = _connected(address)
    try:
        remote = ray.remote(num_cpus=1, max_retries=RETRIES)(_work_here)
        # The footage's truth and size go with each task; the footage itself does not.
        waiting = {remote.remote(work, task[1], task[2]): task for task in tasks}
        while waiting:
            (ready,), _ = ray.wait(list(waiting), num_returns=1)
            index, tracker, sequence = waiting.pop(ready)
            yield index, _outcome(ray, ready, tracker, sequence)
            bar.update(len(sequence))
    finally:
        ray.shutdown()


def _connected(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise ClusterError(f'needs Ray: python -m pip install ray ({error})') from None
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level='ERROR')
    except (ValueError, RuntimeError, OSError, ray.exceptions.RayError) as error:
        raise ClusterError(
            f'no Ray cluster answers at {address!r}: give HOST:PORT of a running "ray start '
            f'--head" ({error})'
        ) from None
    return ray


def _knock(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT: Ray itself tries for minutes."""
    host, _, port = address.rpartition(':')
    if host and port.isdecimal() and '//' not in host:
        socket.create_connection((host.strip('[]'), int(port)), _PATIENCE_S).close()


def _outcome(ray: Any, ready: Any, tracker: str, sequence: Sequence) -> Run | Failure:
    try:
        outcome: Run | Failure = ray.get(ready)
    except ray.exceptions.RayError as error:
        # The first line says what; traces of the cluster's own code follow.
        reason = str(error).strip().partition('\n')[0]
        return Failure(tracker, sequence.name, f'the cluster could not run it: {reason}')
    if isinstance(outcome, Run):
        # Its sequence is a copy that has travelled.
        return Run(tracker, sequence, outcome.boxes, outcome.confidences, outcome.times_s)
    return outcome


def _work_here(work: Work, tracker: str, sequence: Sequence) -> Run | Failure:
    """On a machine of the cluster."""
    cv2.setNumThreads(1)
    outcome = work(tracker, sequence)
    if isinstance(outcome, Failure):
        reason = f'on {socket.gethostname()}: {outcome.reason}'
        return Failure(outcome.tracker, outcome.sequence, reason)
    return outcome
