# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How long each stage of the last frames took."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """Seconds that one frame spent: waiting for the worker, becoming pixels, in the network, and
    from its callback to its published answer in all.
    """

    waiting_s: float
    decoding_s: float
    inference_s: float
    total_s: float

    @property
    def node_share_s(self) -> float:
        """All that is not inference."""
        return self.total_s - self.inference_s


class StageTimes:
    """The last `frames` frames' times, summed up when asked for."""

    def __init__(self, frames: int = 300) -> None:
        self._frames: deque[FrameTimes] = deque(maxlen=frames)

    def add(self, times: FrameTimes) -> None:
        self._frames.append(times)

    def summary(self) -> dict[str, float]:
        """Medians and 95th percentiles in milliseconds, by 'STAGE p50 ms' and 'STAGE p95 ms'."""
        frames = list(self._frames)
        if not frames:
            return {}
        table = 1e3 * np.array(
            [
                (times.total_s, times.node_share_s, times.inference_s, times.decoding_s,
                 times.waiting_s)
                for times in frames
            ]
        )  # fmt: skip
        summary = {}
        for stage, column in zip(
            ('total', 'node share', 'inference', 'decoding', 'waiting'), table.T, strict=True
        ):
            for percentile in (50, 95):
                value = float(np.percentile(column, percentile))
                summary[f'{stage} p{percentile} ms'] = round(value, 3)
        return summary
