# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The stack that a thread's signal handlers run on, kept through a library that changes it.

OpenVINO gives the thread a signal stack of its own with each model it compiles, and when the model
is freed puts back what it found. Of two models freed in the order they were made, the second puts
back the first one's, which is gone: the next signal that Python handles, such as Ctrl-C, is a
segmentation fault.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """stack_t of sigaltstack(2)."""

    _fields_ = (
        ('pointer', ctypes.c_void_p),
        ('flags', ctypes.c_int),
        ('size', ctypes.c_size_t),
    )


_sigaltstack = ctypes.CDLL(None).sigaltstack if sys.platform == 'linux' else None


@contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Put the thread's signal stack back as it was; elsewhere than on Linux, nothing."""
    before = _Stack()
    if _sigaltstack is None or _sigaltstack(None, ctypes.byref(before)) != 0:
        yield
        return
    try:
        yield
    finally:
        # A stack too small for what the CPU now has to save is refused, and the new one stays.
        _sigaltstack(ctypes.byref(before), None)
