# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where the installed programs begin: Ctrl-C ends them quietly even while they are loading.

Loading rclpy, OpenCV and NumPy takes most of a second, in which Python's own handler would
answer Ctrl-C with a traceback. Nothing is imported here that takes time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def tracker_node() -> int:
    """The node `tracker`."""
    with _quiet_end():
        from tracker_ros.ros.node import main
    return main()


def video_source() -> int:
    """The node `video_source`."""
    with _quiet_end():
        from tracker_ros.ros.video_source import main
    return main()


@contextmanager
def _quiet_end() -> Iterator[None]:
    before = {number: signal.signal(number, _end) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    # Ctrl-C stays quiet until the program has set its own handler, which it does at once.
    signal.signal(signal.SIGTERM, before[signal.SIGTERM])


def _end(_number: int, _frame: FrameType | None) -> None:
    # Nothing has begun that would need an orderly end, and raising would print a traceback.
    os._exit(0)
