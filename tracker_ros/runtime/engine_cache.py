# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Compiled engines on disk, so that a robot builds each of them once.

An engine fits one graph, one GPU and one version of the library only. What it was built from is
in its file name as a digest, and in clear in the JSON file beside it, together with its sha256.
An engine appears whole or not at all; one that was damaged is noticed, named and built again.
Nothing here stops a tracker from running: where the folder cannot be written the engine is used
from memory, with a warning.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from tracker_ros.resources import cache_path
from tracker_ros.runtime.engine import EngineError

_log = logging.getLogger(__name__)

_LOCK_POLL_S = 0.1
_SHA256_BYTES = 32

Value = TypeVar('Value')


@dataclass(frozen=True, slots=True)
class EngineKey:
    """Everything that an engine depends on."""

    graph_sha256: str
    flavour: str
    version: str
    gpu: str
    compute_capability: str
    precision: str
    shapes: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Obtained(Generic[Value]):
    """An engine, loaded; the sha256 of its file; what else is noted of it; where it came from."""

    value: Value
    sha256: str
    notes: dict[str, Any]
    was_built: bool


class BuildCancelledError(EngineError):
    """Nobody wants the engine any more."""


class _UnusableError(Exception):
    """What is in the cache cannot be used; the text says why."""


class EngineCache:
    """A folder of engines. Several processes may use it at once."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_path('engines')
        self._warned = False

    def path(self, key: EngineKey) -> Path:
        """Where the engine of `key` lies, if it is there."""
        return self.folder / f'{key.digest}.engine'

    def find(self, key: EngineKey, load: Callable[[bytes], Value]) -> Obtained[Value] | None:
        """The engine of `key`, loaded by `load`; None where none is that can be used."""
        try:
            return self._read(key, load)
        except _UnusableError:
            return None  # whoever builds it anew says so, once

    def obtain(
        self,
        key: EngineKey,
        about: str,
        load: Callable[[bytes], Value],
        build: Callable[[], bytes],
        cancelled: threading.Event,
        waiting: Callable[[], None] = lambda: None,
        rebuild: bool = False,
    ) -> Obtained[Value]:
        """The engine of `key` from the folder, or built and put there.

        `about` tells people whose graph it is: 'vittrack/search.onnx'. While another process
        builds it `waiting` is called, once, and its engine is taken then. `load` raises
        EngineError for bytes that are no engine. What `build` raises, and BuildCancelledError,
        pass through.
        """
        if not rebuild and (found := self.find(key, load)):
            return found
        with ExitStack() as held:
            can_write = self._lock(key, held, cancelled, waiting)
            if not rebuild:
                try:
                    if found := self._read(key, load):
                        return found
                    self._tell_of_others(key)
                except _UnusableError as problem:
                    _log.warning('%s; it is built again', problem)
            data = build()
            value = load(data)
            if can_write:
                self._keep(key, about, data)
            return Obtained(value, hashlib.sha256(data).hexdigest(), {}, was_built=True)

    def note(self, key: EngineKey, **notes: Any) -> None:
        """Put `notes` beside the engine of `key`, if it is there; they go when it is replaced."""
        with ExitStack() as held:
            if not self._lock(key, held, threading.Event(), lambda: None):
                return
            try:
                facts = self._facts(key)
                if facts is not None:
                    facts['notes'] = {**facts['notes'], **notes}
                    self._write_json(key, facts)
            except (OSError, _UnusableError) as error:
                self._warn(error)

    def side_file(self, name: str) -> SideFile:
        return SideFile(self.folder / name, self._warn)

    # -- files --------------------------------------------------------------------------------

    def _facts(self, key: EngineKey) -> dict[str, Any] | None:
        path = self.path(key).with_suffix('.json')
        try:
            facts = json.loads(path.read_text(encoding='utf-8'))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise _UnusableError(f'{path} cannot be read: {error}') from error
        if not (
            isinstance(facts, dict)
            and isinstance(facts.get('sha256'), str)
            and isinstance(facts.get('notes'), dict)
        ):
            raise _UnusableError(f'{path} does not describe an engine')
        if facts.get('key') != asdict(key):
            raise _UnusableError(f'{path} describes an engine for something else')
        return facts

    def _read(self, key: EngineKey, load: Callable[[bytes], Value]) -> Obtained[Value] | None:
        facts = self._facts(key)
        if facts is None:
            return None
        path = self.path(key)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _UnusableError(f'{path} cannot be read: {error}') from error
        digest = hashlib.sha256(data).hexdigest()
        if digest != facts['sha256']:
            raise _UnusableError(f'{path} was changed or damaged: its sha256 is not the one noted')
        try:
            return Obtained(load(data), digest, facts['notes'], was_built=False)
        except EngineError as error:
            raise _UnusableError(f'{path} cannot be loaded: {error}') from error

    def _keep(self, key: EngineKey, about: str, data: bytes) -> None:
        path = self.path(key)
        try:
            # Nobody else writes this engine: what a process that was killed left can go.
            for left in self.folder.glob(f'.{key.digest}-*'):
                left.unlink()
            # Without the description there is no engine, so it goes first and comes last.
            path.with_suffix('.json').unlink(missing_ok=True)
            with _replacing(path, key.digest) as partial:
                partial.write_bytes(data)
            facts = {
                'about': about,
                'key': asdict(key),
                'sha256': hashlib.sha256(data).hexdigest(),
                'notes': {},
            }
            self._write_json(key, facts)
        except OSError as error:
            self._warn(error)
            return
        _log.info('engine of %s kept in %s', about, path)

    def _write_json(self, key: EngineKey, facts: dict[str, Any]) -> None:
        with _replacing(self.path(key).with_suffix('.json'), key.digest) as partial:
            partial.write_text(json.dumps(facts, indent=1), encoding='utf-8')

    def _lock(
        self,
        key: EngineKey,
        held: ExitStack,
        cancelled: threading.Event,
        waiting: Callable[[], None],
    ) -> bool:
        """Keep other processes from building `key` until `held` ends; False where that fails.

        The kernel lets go of the lock when the process ends, however it does.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = held.enter_context((self.folder / f'{key.digest}.lock').open('ab'))
            if _take(file):
                return True
            waiting()
            while not cancelled.wait(_LOCK_POLL_S):
                if _take(file):
                    return True
        except OSError as error:
            self._warn(error)
            return False
        raise BuildCancelledError('no longer wanted')

    def _tell_of_others(self, key: EngineKey) -> None:
        """Say why engines of the same graph that are here do not fit."""
        wanted = asdict(key)
        for path in sorted(self.folder.glob('*.json')):
            try:
                found = json.loads(path.read_text(encoding='utf-8'))['key']
                if found['graph_sha256'] != key.graph_sha256:
                    continue
                differences = [
                    f'{name} {found.get(name)!r}, here it is {value!r}'
                    for name, value in wanted.items()
                    if found.get(name) != value
                ]
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                _log.debug('%s: %s', path, error)
                continue
            _log.info(
                '%s does not fit, another is built: it is for %s',
                path.with_suffix('.engine'),
                '; '.join(differences),
            )

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                'engines cannot be kept in %s: %s. They are used from memory, and built again at '
                'the next start; TRACKER_ROS_CACHE names another folder',
                self.folder,
                error,
            )


class SideFile:
    """What a library found out while it built or ran, which makes the next time faster."""

    def __init__(self, path: Path, warn: Callable[[Exception], None]) -> None:
        self._path = path
        self._warn = warn

    def read(self) -> bytes:
        """What `write` was given; nothing where that cannot be had whole."""
        try:
            content = self._path.read_bytes()
        except OSError as error:
            _log.debug('%s: %s', self._path, error)
            return b''
        digest, data = content[:_SHA256_BYTES], content[_SHA256_BYTES:]
        return data if hashlib.sha256(data).digest() == digest else b''

    def write(self, data: bytes) -> None:
        try:
            with _replacing(self._path, self._path.name) as partial:
                partial.write_bytes(hashlib.sha256(data).digest() + data)
        except OSError as error:
            self._warn(error)


def _take(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _replacing(path: Path, prefix: str) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place, when all went well and is on disk."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{prefix}-')
    partial = Path(name)
    try:
        os.close(handle)
        yield partial
        with partial.open('rb') as written:
            os.fsync(written.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
