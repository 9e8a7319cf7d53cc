# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The runtimes that need no GPU, for tests of what all of them do alike."""

from importlib.util import find_spec

import pytest

from tracker_ros.runtime.engine import CPU_RUNTIMES

ON_THE_CPU = (
    *CPU_RUNTIMES,
    pytest.param(
        'torch',
        marks=pytest.mark.skipif(
            find_spec('torch') is None, reason='needs PyTorch: pip install torch'
        ),
    ),
)
