# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Child processes: their environment, their words, and that none of them stays behind."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from tracker_ros.ros.processes import (
    Child,
    ProcessError,
    dds_environment,
    free_domain_id,
    node_command,
)

STUBBORN = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('ready')
time.sleep(60)
"""
POLITE = """
import time
try:
    print('ready')
    time.sleep(60)
except KeyboardInterrupt:
    print('bye')
"""


def python(code):
    return [sys.executable, '-c', code]


def has_said(child, word):
    return lambda: word in child.log_tail()


def exists(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_child_is_interrupted_first_and_keeps_its_words():
    child = Child('polite', python(POLITE))
    child.wait_until(has_said(child, 'ready'), 20, 'its word')
    assert child.is_running()
    assert child.end() == 0
    assert child.log_tail() == 'ready\nbye'
    assert child.end() == 0


def test_a_child_that_ignores_signals_is_killed():
    child = Child('stubborn', python(STUBBORN))
    child.wait_until(has_said(child, 'ready'), 20, 'its word')
    assert child.end(grace_s=0.1) == -signal.SIGKILL
    assert not exists(child.pid)


def test_a_context_ends_its_child_when_the_block_fails():
    def fail_inside():
        with Child('polite', python(POLITE)) as child:
            pids.append(child.pid)
            child.wait_until(has_said(child, 'ready'), 20, 'its word')
            raise ZeroDivisionError

    pids = []
    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert not exists(pids[0])


def test_a_child_dies_with_its_parent():
    parent = f"""
import os, signal, sys
from tracker_ros.ros.processes import Child
child = Child('orphan', [sys.executable, '-c', 'import time; print(1); time.sleep(60)'])
child.wait_until(lambda: '1' in child.log_tail(), 20, 'its word')
print(child.pid)
os.kill(os.getpid(), {signal.SIGKILL})
"""
    with Child('parent', python(parent)) as child:
        assert child.wait(30) == -signal.SIGKILL
        orphan = int(child.log_tail(1))
        # The kernel delivers the signal; wait for its end without a handle on the process.
        end = Child(
            'watch',
            python(f"""
import os, time
while os.path.exists('/proc/{orphan}') and open('/proc/{orphan}/stat').read().split()[2] != 'Z':
    time.sleep(0.05)
"""),
        )
        assert end.wait(20) == 0


def test_waiting_ends_with_the_reason_and_the_last_words():
    child = Child('brief', python("print('no camera'); raise SystemExit(3)"))
    with pytest.raises(ProcessError, match=r'brief .* ended with code 3.*\n.*no camera'):
        child.wait_until(lambda: False, 20, 'the moon')
    with Child('polite', python(POLITE)) as child:
        child.wait_until(has_said(child, 'ready'), 20, 'its word')
        with pytest.raises(ProcessError, match=r'the moon was not there after 0\.1 s.*\nready'):
            child.wait_until(lambda: False, 0.1, 'the moon')
        with pytest.raises(ProcessError, match=r'still runs after 0\.1 s'):
            child.wait(0.1)


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(ProcessError, match=r'ghost: cannot run /no/such/program'):
        Child('ghost', ['/no/such/program'])


def test_output_goes_to_the_file_and_to_the_listener(tmp_path):
    lines = []
    path = tmp_path / 'child.log'
    code = "import os; print(os.environ['SHADE']); print('two')"
    with Child(
        'shade', python(code), {'SHADE': 'blue'}, log_file=path, on_line=lines.append
    ) as it:
        assert it.wait(20) == 0
    assert lines == ['blue', 'two']
    assert path.read_text() == 'blue\ntwo\n'


def test_the_environment_carries_large_images_and_stays_on_the_machine():
    environment = dds_environment(7)
    assert environment['ROS_DOMAIN_ID'] == '7'
    assert environment['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    profile = Path(environment['FASTRTPS_DEFAULT_PROFILES_FILE'])
    assert 'segment_size' in profile.read_text()
    assert int(environment['MALLOC_MMAP_THRESHOLD_']) > 1920 * 1080 * 3


def test_a_domain_with_a_participant_is_not_free():
    domain_id = free_domain_id()
    assert 1 <= domain_id <= 100
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
        participant.bind(('', 7400 + 250 * domain_id + 10))
        assert {free_domain_id() for _ in range(200)}.isdisjoint({domain_id})


def test_a_node_command_quotes_parameters_as_yaml(tmp_path):
    command = node_command(
        'package.node',
        parameters={'model': 'csrt', 'version': '1', 'rate': 2.5, 'loop': True, 'names': ['a']},
        params_file=tmp_path / 'p.yaml',
        remaps={'image_raw': 'camera'},
        name='other',
        namespace='/left',
        log_level='warn',
    )
    assert command[:4] == [sys.executable, '-m', 'package.node', '--ros-args']
    text = ' '.join(command)
    for part in (
        f'--params-file {tmp_path / "p.yaml"}',
        '-p model:="csrt"',
        '-p version:="1"',
        '-p rate:=2.5',
        '-p loop:=true',
        '-p names:=["a"]',
        '-r image_raw:=camera',
        '-r __node:=other',
        '-r __ns:=/left',
        '--log-level warn',
    ):
        assert part in text
