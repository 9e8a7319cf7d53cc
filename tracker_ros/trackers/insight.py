# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a network saw and answered in one frame, for people who want to look into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image


@dataclass(frozen=True, slots=True)
class Insight:
    """One frame of a tracker.

    window: the search window in image pixels.
    search: the search crop (S, S, 3) uint8 BGR.
    templates: what the template graph took, by name.
    response: (rows, columns) of the head's map, from 0 to 1, where the target may be; None for
        heads that have none.
    response_window: what of the image, in pixels, the response's cells cover.
    edges: (4, bins) the probability of the left, right, top and bottom side over the search
        window; None for heads that give no distributions.
    """

    window: Box
    search: Image
    templates: Mapping[str, NDArray[Any]]
    response: NDArray[np.float64] | None
    response_window: Box
    edges: NDArray[np.float64] | None
