# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A process that runs a node: from its first line to an orderly end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import rclpy
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.task import Future
from rclpy.utilities import ok, try_shutdown


@contextmanager
def ros_program(arguments: list[str] | None = None) -> Iterator[Executor]:
    """Runs its body with rclpy initialised, so that Ctrl-C ends spinning and breaks nothing else.

    Ctrl-C comes twice where a terminal and a launch file both pass it on, and the second one
    would hit the clean-up. Here none becomes a KeyboardInterrupt, for the rest of the process:
    rclpy's own handler, which shuts the context down and so ends any spin, is all that answers.
    Whatever fails because the context is down ends the body silently; its `finally` is run.

    Args:
        arguments: of the command line, None for the process's own.

    Yields:
        A single-threaded executor, which is made and shut down at the right moments.

    Raises:
        SystemExit: ROS does not understand its arguments or the parameter file; with the reason.
    """
    early: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: early.append(number))
    try:
        rclpy.init(args=arguments)
    except RuntimeError as error:
        raise SystemExit(f'the arguments for ROS are wrong: {error}') from error
    executor = SingleThreadedExecutor()
    if early:  # it came before rclpy's handler was there
        try_shutdown()
    try:
        yield executor
    except ExternalShutdownException:
        pass
    except Exception:
        if ok():
            raise
    finally:
        # Before the context, of which it still uses handles.
        executor.shutdown()
        try_shutdown()
        # Python itself sets a handler of its own back while it ends, and a signal would kill it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def spin(executor: Executor, ended: Future) -> None:
    """Serves the executor's nodes until the future is done.

    Raises:
        ExternalShutdownException: the context was shut down, as by Ctrl-C.
    """
    ended.add_done_callback(lambda _: executor.wake())
    while not ended.done():
        # rclpy's signal handler first wakes the executor and then shuts the context down. An
        # executor that is back to waiting in between is not woken again, so it looks up by itself.
        executor.spin_once(timeout_sec=0.5)
