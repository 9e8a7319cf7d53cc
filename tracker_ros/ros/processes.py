# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Child processes that run ROS nodes: start, wait until ready, always end.

Used by whatever plays footage into a real node in a process of its own: the demo, the
replay of sequences and the benchmarks. Importing this module does not import rclpy.

    domain = free_domain_id()
    environment = dds_environment(domain)
    os.environ.update(environment)                 # before rclpy.init() of this process
    with Child('tracker', node_command('tracker_ros.ros.node', parameters={'model': 'csrt'}),
               environment) as node:
        node.wait_until(client.service_is_ready, timeout_s=20, what='~/init_target')
        ...
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tracker_ros.resources import share_path

# glibc maps and unmaps every block above its threshold, that is every image: taking a 720p
# message is then four to twelve times slower. These only work from the start of a process.
MALLOC_SETTINGS = {
    'MALLOC_MMAP_THRESHOLD_': '1073741824',
    'MALLOC_TRIM_THRESHOLD_': '4294967296',
    'MALLOC_TOP_PAD_': '67108864',
}

_PR_SET_PDEATHSIG = 1
_LOG_LINES = 400


class ProcessError(Exception):
    """A child process did not start, did not become ready or died; the text ends with its log."""


def dds_environment(domain_id: int | None = None) -> dict[str, str]:
    """The variables with which large images pass between processes of this machine.

    Fast DDS profile (a shared-memory segment that holds several images), malloc settings,
    discovery limited to this machine and a ROS domain.

    domain_id: None takes a free one, so that a run meets no other node of this machine.
    For the calling process, put them into os.environ before rclpy.init(); the malloc settings
    then do nothing, because they count only when a process starts.
    """
    return {
        'FASTRTPS_DEFAULT_PROFILES_FILE': str(share_path('config', 'fastdds.xml')),
        'FASTDDS_DEFAULT_PROFILES_FILE': str(share_path('config', 'fastdds.xml')),
        'RMW_IMPLEMENTATION': 'rmw_fastrtps_cpp',
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'ROS_DOMAIN_ID': str(free_domain_id() if domain_id is None else domain_id),
        **MALLOC_SETTINGS,
    }


def free_domain_id() -> int:
    """A ROS domain id in 1..100 in which no participant of this machine lives.

    Raises ProcessError when all are taken.
    """
    candidates = list(range(1, 101))
    random.SystemRandom().shuffle(candidates)
    for domain_id in candidates:
        # RTPS: port base 7400, domain gain 250; participant n listens at 10 + 2 n and 11 + 2 n.
        base = 7400 + 250 * domain_id
        if all(_udp_port_is_free(base + offset) for offset in (0, 10, 11)):
            return domain_id
    raise ProcessError('all ROS domains 1..100 are in use on this machine; name one yourself')


def node_command(
    module: str,
    *,
    parameters: Mapping[str, object] | None = None,
    params_file: Path | None = None,
    remaps: Mapping[str, str] | None = None,
    name: str | None = None,
    namespace: str | None = None,
    log_level: str | None = None,
) -> list[str]:
    """The command line that runs `python -m module` as a node with these ROS arguments."""
    command = [sys.executable, '-m', module, '--ros-args']
    if params_file is not None:
        command += ['--params-file', str(params_file)]
    for key, value in (parameters or {}).items():
        # JSON is YAML, which is what ROS reads; quotes keep a text such as "1" a text.
        command += ['-p', f'{key}:={json.dumps(value)}']
    for source, target in (remaps or {}).items():
        command += ['-r', f'{source}:={target}']
    if name is not None:
        command += ['-r', f'__node:={name}']
    if namespace is not None:
        command += ['-r', f'__ns:={namespace}']
    if log_level is not None:
        command += ['--log-level', log_level]
    return command


class Child:
    """A running child process whose output is kept and which never outlives its parent.

    Use it as a context manager, or call `end()` in a `finally`. Create it in the main thread:
    the kernel ends the child when the creating thread ends without having ended it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        log_file: Path | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        """Start it.

        name: for messages. environment: added to this process's own.
        log_file: its output (stdout and stderr together) is also written there.
        on_line: called for each line of output, in a thread of its own.
        Raises ProcessError when the program cannot be run.
        """
        self.name = name
        self._lines: deque[str] = deque(maxlen=_LOG_LINES)
        self._on_line = on_line
        self._log_file = log_file
        try:
            self._process = subprocess.Popen(
                list(command),
                env={**os.environ, 'PYTHONUNBUFFERED': '1', **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors='replace',
                # A Ctrl-C in the terminal then reaches only the parent, which ends the children
                # in its own order.
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        except OSError as error:
            raise ProcessError(f'{name}: cannot run {command[0]}: {error}') from error
        self._reader = threading.Thread(target=self._read, name=f'{name} log', daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.returncode is None

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of its output."""
        return '\n'.join(list(self._lines)[-lines:])

    def check(self) -> None:
        """Raise ProcessError when it has ended."""
        if not self.is_running():
            self._reader.join(timeout=1.0)
            raise ProcessError(
                f'{self.name} (pid {self.pid}) ended with code {self.returncode}; its last '
                f'lines:\n{self.log_tail()}'
            )

    def wait_until(
        self, is_ready: Callable[[], bool], timeout_s: float, what: str, poll_s: float = 0.05
    ) -> None:
        """Wait until `is_ready()` answers True.

        Raises ProcessError when the child ends first or after timeout_s; `what` says in its
        text what was waited for.
        """
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            self.check()
            if time.monotonic() >= deadline:
                raise ProcessError(
                    f'{self.name} (pid {self.pid}) runs, but {what} was not there after '
                    f'{timeout_s:g} s; its last lines:\n{self.log_tail()}'
                )
            time.sleep(poll_s)

    def wait(self, timeout_s: float) -> int:
        """Wait for it to end by itself and return the exit code; ProcessError after timeout_s."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ProcessError(
                f'{self.name} (pid {self.pid}) still runs after {timeout_s:g} s; its last '
                f'lines:\n{self.log_tail()}'
            ) from None
        self._reader.join(timeout=1.0)
        return code

    def end(self, grace_s: float = 5.0) -> int:
        """End it and return the exit code: SIGINT, after grace_s SIGTERM, then SIGKILL."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if not self.is_running():
                break
            self._process.send_signal(number)
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                continue
        code = self._process.wait()
        self._reader.join(timeout=1.0)
        return code

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def _read(self) -> None:
        assert self._process.stdout is not None
        log = self._log_file.open('w', encoding='utf-8') if self._log_file else None
        try:
            for line in self._process.stdout:
                self._lines.append(line.rstrip('\n'))
                if log is not None:
                    log.write(line)
                    log.flush()
                if self._on_line is not None:
                    self._on_line(line.rstrip('\n'))
        finally:
            if log is not None:
                log.close()


def _udp_port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(('', port))
        except OSError:
            return False
    return True


_prctl = ctypes.CDLL(None).prctl if sys.platform == 'linux' else None


def _die_with_parent() -> None:
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
