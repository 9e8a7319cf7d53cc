# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Writes ROS 2 messages into an mcap file that is there in full, or not there at all."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

PART_SUFFIX = '.part'
"""Added to the name of a file that is still being written."""

_PRIMITIVES = frozenset(
    {'bool', 'byte', 'char', 'float32', 'float64', 'string', 'wstring'}
    | {f'{sign}int{bits}' for sign in ('', 'u') for bits in (8, 16, 32, 64)}
)
_TYPE = re.compile(r'^(?P<name>[A-Za-z][\w/]*)')


class Entry(NamedTuple):
    """One serialised message."""

    topic: str
    kind: str
    """Such as sensor_msgs/msg/Image."""
    time_ns: int
    """When it was received or sent, since the epoch."""
    data: bytes


class McapFile:
    """An mcap file of CDR messages, by the profile `ros2`, under another name until it is done.

    Every call may raise OSError. What was flushed survives the end of the process; `rescue`
    makes a file of it.
    """

    def __init__(self, path: Path) -> None:
        # Only who records needs the library.
        from mcap.writer import CompressionType, Writer

        self.path = path
        self.size_bytes = 0
        """Of the messages; the file has a little more."""
        self._part = path.with_name(path.name + PART_SUFFIX)
        self._file = self._part.open('wb')
        with suppress(OSError):  # some file systems have no locks
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Images are compressed already, and the rest is small.
        self._writer = Writer(self._file, compression=CompressionType.NONE)
        self._writer.start(profile='ros2', library='tracker_ros')
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}

    def write(self, entry: Entry) -> None:
        if entry.topic not in self._channels:
            self.add_channel(entry.topic, entry.kind, definition_of(entry.kind).encode())
        self._writer.add_message(
            self._channels[entry.topic], entry.time_ns, entry.data, entry.time_ns
        )
        self.size_bytes += len(entry.data)

    def add_channel(self, topic: str, kind: str, definition: bytes) -> None:
        if kind not in self._schemas:
            self._schemas[kind] = self._writer.register_schema(kind, 'ros2msg', definition)
        self._channels[topic] = self._writer.register_channel(
            topic, 'cdr', self._schemas[kind], {'offered_qos_profiles': '[]'}
        )

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._writer.flush()
        self._file.flush()

    def finish(self) -> None:
        """Complete the file and give it its name."""
        self._writer.finish()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.replace(self.path)

    def abandon(self) -> None:
        """Remove what was written."""
        try:
            self._file.close()
        finally:
            self._part.unlink(missing_ok=True)


def rescue(part: Path) -> Path | None:
    """Makes a proper file of one whose writer was ended before it could.

    Returns its path. None where it is still being written, and where nothing was in it, in which
    case it is removed. Raises OSError.
    """
    with part.open('rb') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        path = part.with_name(part.name.removesuffix(PART_SUFFIX))
        # Another name than the writer's own, whose lock and part this one has.
        rescued = McapFile(path.with_name(f'rescued_{path.name}'))
        try:
            count = _copy(file, rescued)
            if count:
                rescued.finish()
                rescued.path.replace(path)
            else:
                rescued.abandon()
        except Exception:
            rescued.abandon()
            raise
    part.unlink()
    return path if count else None


def _copy(file: Any, to: McapFile) -> int:
    """Write the messages of an open mcap file into another; returns how many there were."""
    from mcap.records import Channel, Message, Schema

    schemas: dict[int, Schema] = {}
    kinds: dict[int, tuple[str, str]] = {}
    count = 0
    for record in _records(file):
        if isinstance(record, Schema):
            schemas[record.id] = record
        elif isinstance(record, Channel) and record.id not in kinds:
            schema = schemas[record.schema_id]
            kinds[record.id] = (record.topic, schema.name)
            to.add_channel(record.topic, schema.name, schema.data)
        elif isinstance(record, Message):
            to.write(Entry(*kinds[record.channel_id], record.log_time, record.data))
            count += 1
    return count


def _records(file: Any) -> Iterator[Any]:
    """The records of an mcap file up to where it breaks off."""
    from mcap.stream_reader import StreamReader

    records = StreamReader(file, record_size_limit=1 << 30).records
    while True:
        try:
            yield next(records)
        except (StopIteration, GeneratorExit):
            return
        except OSError:
            raise
        except Exception:  # half a record fails in mcap, in struct, or as text
            return


@cache
def definition_of(kind: str) -> str:
    """The message definition with all that it contains, as mcap wants it.

    Empty where the package's .msg files are not installed: players that bring their own then
    still read the file.
    """
    found: dict[str, str] = {}
    waiting = [kind]
    while waiting:
        name = waiting.pop(0)
        if name in found:
            continue
        package, _, message = name.split('/')
        path = _installed(package, f'{message}.msg')
        if path is None:
            return ''
        text = path.read_text(encoding='utf-8')
        found[name] = text
        waiting += _contained(text, package)
    parts = [found.pop(kind)]
    parts += [f'MSG: {name.replace("/msg/", "/")}\n{text}' for name, text in found.items()]
    return f'\n{"=" * 80}\n'.join(parts)


def _installed(package: str, name: str) -> Path | None:
    """A package's .msg file, in the share folder beside its Python module."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    for folder in Path(spec.origin).parents:
        path = folder / 'share' / package / 'msg' / name
        if path.is_file():
            return path
    return None


def _contained(text: str, package: str) -> list[str]:
    """The types of a definition's fields that are messages themselves, in full."""
    names = []
    for line in text.splitlines():
        match = _TYPE.match(line.strip())
        if match is None or match['name'] in _PRIMITIVES:
            continue
        *outer, name = match['name'].split('/')
        names.append(f'{outer[0] if outer else package}/msg/{name}')
    return names
