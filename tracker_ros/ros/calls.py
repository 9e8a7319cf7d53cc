# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Calling a service of which the answer may get lost.

A client sees a service before the service sees the client's end for the answer. What is answered
in that moment is dropped by the middleware, and nobody tells the client.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.client import Client
from rclpy.task import Future

AGAIN_AFTER_S = 4.0


def call(
    client: Client,
    request: Any,
    wait: Callable[[Future], None],
    timeout_s: float,
    again_after_s: float = AGAIN_AFTER_S,
) -> Any | None:
    """Ask, and ask again while no answer comes; returns the answer, None after timeout_s.

    `wait` gets the newest future and returns when it is done, or after a fraction of a second;
    somebody must spin the client's node meanwhile. The service may so see a request twice.
    """
    futures: list[Future] = []
    begin = time.monotonic()
    try:
        while (passed_s := time.monotonic() - begin) < timeout_s:
            if passed_s >= len(futures) * again_after_s:
                futures.append(client.call_async(request))
            wait(futures[-1])
            for future in futures:
                if future.done():
                    return future.result()
        return None
    finally:
        for future in futures:
            client.remove_pending_request(future)
