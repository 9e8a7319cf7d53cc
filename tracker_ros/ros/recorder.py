# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keeps what the node saw and said before and after it lost a target, in files of mcap.

The last seconds are held in memory, serialised. When a target is lost they are written to a file,
and what comes next is added for some seconds. All of it happens in a thread of its own: tracking
hands messages over and goes on.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from tracker_ros.ros.images import ImageError, to_bgr, to_compressed_message
from tracker_ros.ros.mcap_file import PART_SUFFIX, Entry, McapFile, rescue
from tracker_ros.tracking import State

_PREFIX = 'loss_'
_JPEG_QUALITY = 80
_MOST_MEMORY_BYTES = 256 * 10**6
# What waits for the thread. Images are left out before anything else is.
_MOST_WAITING_IMAGES = 3
_MOST_WAITING = 2000
_INFO_PERIOD_S = 1.0
# How often an open file is looked after where no message comes.
_TICK_S = 0.5
_FLUSH_PERIOD_S = 1.0
_LONGEST_CLOSE_S = 30.0


@dataclass(frozen=True, slots=True)
class Recording:
    """What is kept, and where.

    before_s, after_s: around the loss. most_mb: all recordings in the folder together.
    """

    folder: Path
    before_s: float = 60.0
    after_s: float = 60.0
    images: bool = False
    most_mb: int = 1000


class Recorder:
    """Takes messages from any thread; none of the calls waits for the disk.

    The messages of a topic are kept by its full name. Raw images are kept as JPEG, on the topic
    with /compressed behind it, as image_transport has it.
    """

    def __init__(
        self,
        recording: Recording,
        warn: Callable[[str], object],
        inform: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begins to keep; recordings that a crash has left open are completed first.

        Args:
            recording: what and where.
            warn: told once for each thing that goes wrong; called from the thread.
            inform: told of each file, likewise.
            clock: in seconds; what is kept and for how long goes by it.
        """
        self.images = recording.images
        self.left_out = 0
        """Messages that were not kept, because the thread was behind; images go first."""
        self._clock = clock
        self._log = LossLog(recording, warn, inform)
        self._last_info_s = -_INFO_PERIOD_S
        self._lost: set[str] = set()
        self._waiting: deque[Callable[[], None]] = deque()
        self._waiting_images = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name='recorder', daemon=True)
        self._thread.start()

    def message(self, topic: str, message: Any) -> None:
        """Keep a message; it may be changed as soon as this returns."""
        at_s, entry = self._clock(), _entry(topic, message, time.time_ns())
        self._offer(partial(self._log.add, entry, at_s))

    def image(self, topic: str, message: Image | CompressedImage) -> None:
        """Keep an image, if images are kept; it must not be changed any more."""
        if not self.images:
            return
        at_s, time_ns = self._clock(), time.time_ns()
        with self._changed:
            if self._waiting_images >= _MOST_WAITING_IMAGES:
                self.left_out += 1
                return
            self._waiting_images += 1
        self._offer(partial(self._add_image, topic, message, time_ns, at_s))

    def info(self, topic: str, message: CameraInfo) -> None:
        """Keep a calibration: one a second, because all are the same."""
        at_s = self._clock()
        if at_s - self._last_info_s >= _INFO_PERIOD_S:
            self._last_info_s = at_s
            self.message(topic, message)

    def watch(self, states: Mapping[str, State]) -> None:
        """Write a file if one of the targets (by id) has become LOST since the last call."""
        lost = {target_id for target_id, state in states.items() if state is State.LOST}
        for target_id in sorted(lost - self._lost):
            at_s = self._clock()
            self._offer(partial(self._log.lost, target_id, at_s))
        self._lost = lost

    def close(self) -> None:
        """Complete the file that is being written, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(_LONGEST_CLOSE_S)

    def _offer(self, work: Callable[[], None]) -> None:
        with self._changed:
            if self._closed or len(self._waiting) >= _MOST_WAITING:
                self.left_out += 1
                return
            self._waiting.append(work)
            self._changed.notify_all()

    def _add_image(
        self, topic: str, message: Image | CompressedImage, time_ns: int, at_s: float
    ) -> None:
        with self._changed:
            self._waiting_images -= 1
        if isinstance(message, Image):
            try:
                message = to_compressed_message(to_bgr(message), message.header, _JPEG_QUALITY)
            except ImageError:
                return  # the tracker has met it too, and said so
            topic += '/compressed'
        self._log.add(_entry(topic, message, time_ns), at_s)

    def _run(self) -> None:
        self._attempt(self._log.tidy)
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._waiting or self._closed,
                    _TICK_S if self._log.is_writing else None,
                )
                work = self._waiting.popleft() if self._waiting else None
                if work is None and self._closed:
                    break
            if work is not None:
                self._attempt(work)
            self._attempt(lambda: self._log.tick(self._clock()))
        self._attempt(self._log.finish)

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # a recording that fails must not end those to come
            self._log.complain('other', f'recording failed: {type(error).__name__}: {error}')


class LossLog:
    """What is kept in memory, and the file that is written; for one thread."""

    def __init__(
        self,
        recording: Recording,
        warn: Callable[[str], object],
        inform: Callable[[str], object],
    ) -> None:
        self._recording = recording
        self._warn = warn
        self._inform = inform
        self._warned: set[str] = set()
        self._is_able = True
        self._most_bytes = recording.most_mb * 10**6
        self._kept: deque[tuple[float, Entry]] = deque()
        self._kept_bytes = 0
        self._file: McapFile | None = None
        self._left_bytes = 0
        self._until_s = 0.0
        self._flush_s = 0.0

    @property
    def is_writing(self) -> bool:
        return self._file is not None

    def tidy(self) -> None:
        """Make the folder, and complete the files that a crash has left."""
        if find_spec('mcap') is None:
            self._is_able = False
            self.complain('mcap', 'recording needs the Python package mcap: pip install mcap')
            return
        folder = self._recording.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for part in sorted(folder.glob(f'{_PREFIX}*{PART_SUFFIX}')):
                rescued = rescue(part)
                if rescued is not None:
                    self._inform(f'recording left by a crash completed: {rescued}')
        except OSError as error:
            self.complain('disk', f"record_dir '{folder}' cannot be used: {error}")

    def add(self, entry: Entry, at_s: float) -> None:
        """Keep a message, and write it where a file is being written."""
        self._kept.append((at_s, entry))
        self._kept_bytes += len(entry.data)
        oldest_s = at_s - self._recording.before_s
        most_bytes = min(_MOST_MEMORY_BYTES, self._most_bytes)
        while self._kept and (self._kept[0][0] < oldest_s or self._kept_bytes > most_bytes):
            self._kept_bytes -= len(self._kept.popleft()[1].data)
        if self._file is not None:
            self._write(entry)

    def lost(self, target_id: str, at_s: float) -> None:
        """Begin a file with what is kept, or go on longer with the one that is being written."""
        self._until_s = at_s + self._recording.after_s
        if self._file is not None or not self._is_able:
            return
        try:
            self._left_bytes = self._most_bytes - self._used_bytes()
            # Of what fits, half is for what comes: the oldest that is kept gives way.
            spare_bytes = self._left_bytes // 2
            kept, size_bytes = [], 0
            for _, entry in reversed(self._kept):
                size_bytes += len(entry.data)
                if size_bytes > spare_bytes:
                    break
                kept.append(entry)
            if self._left_bytes <= 0 or len(kept) < min(1, len(self._kept)):
                self._complain_of_size()
                return
            self._file = McapFile(self._new_path(target_id))
        except OSError as error:
            self._fail(error)
            return
        self._flush_s = at_s
        for entry in reversed(kept):
            self._write(entry)

    def tick(self, at_s: float) -> None:
        """Look after the file that is being written."""
        if self._file is None:
            return
        if at_s >= self._until_s:
            self.finish()
        elif at_s >= self._flush_s + _FLUSH_PERIOD_S:
            self._flush_s = at_s
            try:
                self._file.flush()
            except OSError as error:
                self._fail(error)

    def finish(self) -> None:
        """Complete the file that is being written, if there is one."""
        file = self._file
        if file is None:
            return
        try:
            file.finish()
        except OSError as error:
            self._fail(error)
            return
        self._file = None
        self._inform(f'recorded {file.path}, {1e-6 * file.size_bytes:.1f} MB')

    def complain(self, kind: str, text: str) -> None:
        """Say the first thing of each kind that goes wrong."""
        if kind not in self._warned:
            self._warned.add(kind)
            self._warn(text)

    def _write(self, entry: Entry) -> None:
        file = self._file
        if file is None:
            return
        if file.size_bytes + len(entry.data) > self._left_bytes:
            self._complain_of_size()
            self.finish()
            return
        try:
            file.write(entry)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        """Give the file up: a full disk is worse for a robot than a missing recording."""
        file, self._file = self._file, None
        folder = self._recording.folder
        self.complain('disk', f"nothing can be recorded in record_dir '{folder}': {error}")
        if file is not None:
            try:
                file.abandon()
            except OSError as unremoved:
                self.complain('remains', f"'{file.path}' cannot be removed: {unremoved}")

    def _complain_of_size(self) -> None:
        self.complain(
            'size',
            f"the recordings in record_dir '{self._recording.folder}' have reached record_mb "
            f'({self._recording.most_mb}): nothing more is recorded until some are removed',
        )

    def _used_bytes(self) -> int:
        return sum(path.stat().st_size for path in self._recording.folder.glob(f'{_PREFIX}*'))

    def _new_path(self, target_id: str) -> Path:
        when = time.strftime('%Y%m%d_%H%M%S')
        name = re.sub(r'[^A-Za-z0-9_-]', '_', target_id)[:40]
        stem = f'{_PREFIX}{when}_{name}'
        taken = [path.name for path in self._recording.folder.glob(f'{stem}*')]
        number = 2
        unused = stem
        while any(each.startswith(f'{unused}.') for each in taken):
            unused = f'{stem}_{number}'
            number += 1
        return self._recording.folder / f'{unused}.mcap'


def _entry(topic: str, message: Any, time_ns: int) -> Entry:
    package = type(message).__module__.partition('.')[0]
    kind = f'{package}/msg/{type(message).__name__}'
    return Entry(topic, kind, time_ns, serialize_message(message))
