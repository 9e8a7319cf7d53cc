# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the layers without ROS say, in a node's log.

They use Python's `logging`. Of that nothing is shown below a warning, and nothing reaches
`/rosout` and the log files of ROS.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rclpy.impl.rcutils_logger import RcutilsLogger


class _ToRos(logging.Handler):
    def __init__(self, logger: RcutilsLogger) -> None:
        super().__init__()
        # One caller each: rclpy remembers the severity that a line of code logs with.
        self._say: dict[int, Callable[[str], object]] = {
            logging.DEBUG: lambda text: logger.debug(text),
            logging.INFO: lambda text: logger.info(text),
            logging.WARNING: lambda text: logger.warning(text),
            logging.ERROR: lambda text: logger.error(text),
            logging.CRITICAL: lambda text: logger.fatal(text),
        }

    def emit(self, record: logging.LogRecord) -> None:
        try:
            severity = max(level for level in (*self._say, 0) if level <= record.levelno)
            if severity:
                self._say[severity](self.format(record))
        except Exception:  # as the handlers of the standard library do
            self.handleError(record)


@contextmanager
def python_log_in(logger: RcutilsLogger) -> Iterator[None]:
    """While it lasts, all that `tracker_ros` logs in Python goes to the log of a node.

    Which severities are shown is the matter of ROS (``--log-level``), so all are passed on.
    """
    ours = logging.getLogger('tracker_ros')
    handler = _ToRos(logger)
    level, propagate = ours.level, ours.propagate
    ours.addHandler(handler)
    ours.setLevel(logging.DEBUG)
    ours.propagate = False  # the root would print warnings once more
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)
        ours.propagate = propagate
