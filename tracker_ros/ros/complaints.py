# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a topic, said once: a stream of bad messages is one warning, not a flood."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Complaints:
    """Says the first of each kind of fault on a topic, and again after the topic was well."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._told: set[tuple[str, object]] = set()
        self._lock = threading.Lock()
        self.count = 0
        """All that was ever wrong, also what was not said."""

    def complain(self, topic: str, kind: object, text: str) -> None:
        with self._lock:
            self.count += 1
            is_new = (topic, kind) not in self._told
            self._told.add((topic, kind))
        if is_new:
            self._say(f'{topic}: {text}')

    def is_well(self, topic: str) -> None:
        with self._lock:
            self._told = {each for each in self._told if each[0] != topic}
