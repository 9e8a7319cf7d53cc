# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The life of a target: states, and the confidence that moves between them."""

from tracker_ros.tracking.life import Life, Patience, State, Thresholds
from tracker_ros.tracking.session import BoxError, BoxFault, Observation, Session

__all__ = [
    'BoxError',
    'BoxFault',
    'Life',
    'Observation',
    'Patience',
    'Session',
    'State',
    'Thresholds',
]
