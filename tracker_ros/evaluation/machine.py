# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What else this machine does while something is measured; Linux."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

QUIET_CORES = 0.15
"""Other programs that use less than this leave a measurement quiet."""

_TICKS = os.sysconf('SC_CLK_TCK')
# What decides how fast a CPU multiplies matrices.
_TELLING_FLAGS = (
    'avx2',
    'avx512f',
    'avx512_vnni',
    'avx512_bf16',
    'avx_vnni',
    'amx_bf16',
    'amx_int8',
)


class Watch:
    """Measures how many cores programs other than `pids` use, from when it is made."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = tuple(pids)
        self._began = time.monotonic()
        self._ours_s, self._all_s = cpu_seconds(self._pids), busy_seconds()

    def others_cores(self) -> float:
        ours_s = cpu_seconds(self._pids) - self._ours_s
        all_s = busy_seconds() - self._all_s
        return max(0.0, (all_s - ours_s) / max(time.monotonic() - self._began, 1e-3))


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time that these processes used so far."""
    ticks = 0
    for pid in pids:
        # The name, in brackets, may hold spaces.
        fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def busy_seconds() -> float:
    """CPU time that the machine's cores were not idle so far, stolen time included."""
    user, nice, system, _, _, *rest = map(int, Path('/proc/stat').read_text().split()[1:9])
    return (user + nice + system + sum(rest)) / _TICKS


def resident_bytes(pid: int) -> int:
    """Memory that a process has in use, shared libraries included."""
    pages = int(Path(f'/proc/{pid}/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE')


def describe() -> dict[str, Any]:
    """The machine, for the record of a measurement."""
    facts: dict[str, str] = {}
    for line in Path('/proc/cpuinfo').read_text().splitlines():
        key, _, value = line.partition(':')
        facts.setdefault(key.strip(), value.strip())
    flags = (facts.get('flags') or facts.get('Features') or '').split()
    return {
        'cpu': facts.get('model name', platform.machine()),
        'cores': os.cpu_count(),
        'instructions': [flag for flag in _TELLING_FLAGS if flag in flags],
        'load_average': round(os.getloadavg()[0], 2),
    }
