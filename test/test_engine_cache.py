# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Engines on disk: taken when they fit, built when they do not, whole or not at all."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tracker_ros.runtime import engine_cache
from tracker_ros.runtime.engine import EngineError
from tracker_ros.runtime.engine_cache import BuildCancelledError, EngineCache, EngineKey

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, 'PYTHONPATH': f'{ROOT}{os.pathsep}{ROOT / "test"}'}
KEY = EngineKey('a' * 64, 'tensorrt', '10.13.3', 'Fake GPU', '8.9', 'fp32', 'batch 1 to 8')
PLAN = b'plan' + bytes(range(256)) * 40


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / 'engines')


def load(data):
    """What a library makes of a plan: its first letters."""
    if not data.startswith(b'plan'):
        raise EngineError('these bytes are no plan')
    return data[:4].decode() + str(len(data))


class Build:
    """Builds, and counts how often."""

    def __init__(self, plan=PLAN):
        self.count = 0
        self._plan = plan

    def __call__(self):
        self.count += 1
        return self._plan


def obtain(cache, build, key=KEY, **options):
    return cache.obtain(key, 'm/search.onnx', load, build, threading.Event(), **options)


def files(cache):
    return sorted(path.name for path in cache.folder.iterdir() if path.suffix != '.lock')


def test_an_engine_is_built_once(cache):
    build = Build()
    first = obtain(cache, build)
    second = obtain(cache, build)
    assert build.count == 1
    assert first.value == second.value == load(PLAN)
    assert first.sha256 == second.sha256
    assert (first.was_built, second.was_built) == (True, False)
    assert cache.path(KEY).read_bytes() == PLAN
    assert files(cache) == sorted([f'{KEY.digest}.engine', f'{KEY.digest}.json'])


def test_the_key_is_in_clear_beside_it(cache):
    obtain(cache, Build())
    facts = json.loads(cache.path(KEY).with_suffix('.json').read_text())
    assert facts['about'] == 'm/search.onnx'
    assert facts['key']['gpu'] == 'Fake GPU'
    assert facts['key']['version'] == '10.13.3'


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('graph_sha256', 'b' * 64),
        ('flavour', 'tensorrt_rtx'),
        ('version', '10.13.4'),
        ('gpu', 'Another GPU'),
        ('compute_capability', '8.6'),
        ('precision', 'fp16'),
        ('shapes', 'batch 1 to 4'),
    ],
)
def test_an_engine_for_anything_else_is_another_engine(cache, name, value):
    obtain(cache, Build())
    build = Build(b'planned otherwise')
    assert obtain(cache, build, replace(KEY, **{name: value})).was_built
    assert not obtain(cache, Build()).was_built, 'the first is still there'


def test_an_engine_of_another_version_is_named(cache, caplog):
    obtain(cache, Build())
    with caplog.at_level(logging.INFO):
        obtain(cache, Build(), replace(KEY, version='11.4.0'))
    assert f'{cache.path(KEY)} does not fit' in caplog.text
    assert "version '10.13.3', here it is '11.4.0'" in caplog.text
    assert 'gpu' not in caplog.text


def test_nothing_is_said_of_engines_of_other_graphs(cache, caplog):
    obtain(cache, Build(), replace(KEY, graph_sha256='b' * 64))
    (cache.folder / 'other.json').write_text('[]')
    with caplog.at_level(logging.INFO):
        obtain(cache, Build())
    assert 'does not fit' not in caplog.text


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_facts(path, **changes):
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, **changes}))


DAMAGES = {
    'a bit': ('.engine', flip, 'changed or damaged'),
    'half of it': ('.engine', halve, 'changed or damaged'),
    'empty': ('.engine', lambda path: path.write_bytes(b''), 'changed or damaged'),
    'gone': ('.engine', Path.unlink, 'cannot be read'),
    'half a description': ('.json', halve, 'cannot be read'),
    'no description': ('.json', lambda path: path.write_text('[]'), 'does not describe'),
    'no text': ('.json', lambda path: path.write_bytes(b'\xff\xfe{}'), 'cannot be read'),
    'notes of another kind': (
        '.json',
        lambda path: write_facts(path, notes=3),
        'does not describe',
    ),
    'for something else': (
        '.json',
        lambda path: write_facts(path, key={'gpu': 'x'}),
        'for something else',
    ),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_engine_is_noticed_named_and_built_again(cache, caplog, damage):
    suffix, spoil, words = DAMAGES[damage]
    obtain(cache, Build())
    spoil(cache.path(KEY).with_suffix(suffix))
    assert cache.find(KEY, load) is None
    build = Build()
    assert obtain(cache, build).was_built
    assert build.count == 1
    assert str(cache.path(KEY).with_suffix('')) in caplog.text
    assert words in caplog.text
    assert 'built again' in caplog.text
    assert not obtain(cache, Build()).was_built, 'and it is whole now'


def test_an_engine_that_the_library_refuses_is_built_again(cache, caplog):
    obtain(cache, Build())

    def load_new(data):
        if data == PLAN:
            raise EngineError('of another driver')
        return load(data)

    assert cache.find(KEY, load_new) is None
    build = Build(b'plan anew')
    assert cache.obtain(KEY, 'm', load_new, build, threading.Event()).was_built
    assert build.count == 1
    assert 'cannot be loaded: of another driver; it is built again' in caplog.text
    assert cache.find(KEY, load_new).value == load(b'plan anew')


def test_without_its_description_an_engine_is_not_there(cache):
    """So it is when the power fails between the two."""
    obtain(cache, Build())
    cache.path(KEY).with_suffix('.json').unlink()
    assert cache.find(KEY, load) is None
    assert obtain(cache, Build()).was_built


def test_on_demand_it_is_built_anew(cache):
    obtain(cache, Build())
    build = Build(b'plan of today')
    assert obtain(cache, build, rebuild=True).was_built
    assert cache.path(KEY).read_bytes() == b'plan of today'


def test_a_build_that_fails_leaves_nothing(cache):
    def fail():
        raise EngineError('no kernel for this')

    with pytest.raises(EngineError, match='no kernel'):
        obtain(cache, fail)
    assert files(cache) == []
    assert obtain(cache, Build()).was_built, 'and the lock is free'


def test_an_engine_that_does_not_load_is_not_kept(cache):
    with pytest.raises(EngineError, match='no plan'):
        obtain(cache, Build(b'garbage'))
    assert files(cache) == []


def test_an_engine_stays_where_its_rebuild_fails(cache):
    obtain(cache, Build())
    with pytest.raises(EngineError):
        obtain(cache, Build(b'garbage'), rebuild=True)
    assert not obtain(cache, Build()).was_built


# -- notes -------------------------------------------------------------------------------------


def test_notes_lie_beside_the_engine(cache):
    obtain(cache, Build())
    cache.note(KEY, box_px=0.5)
    cache.note(KEY, forced=True)
    assert obtain(cache, Build()).notes == {'box_px': 0.5, 'forced': True}


def test_notes_go_with_the_engine(cache):
    obtain(cache, Build())
    cache.note(KEY, box_px=0.5)
    obtain(cache, Build(), rebuild=True)
    assert obtain(cache, Build()).notes == {}


def test_without_an_engine_there_is_nothing_to_note_of(cache):
    cache.note(KEY, box_px=0.5)
    assert files(cache) == []


# -- side files --------------------------------------------------------------------------------


def test_a_side_file_gives_what_was_written(cache):
    cache.folder.mkdir()
    file = cache.side_file('a.timing')
    assert file.read() == b''
    file.write(b'12 us')
    assert cache.side_file('a.timing').read() == b'12 us'


@pytest.mark.parametrize('spoil', [flip, halve, lambda path: path.write_bytes(b'')])
def test_a_damaged_side_file_is_as_good_as_none(cache, spoil):
    cache.folder.mkdir()
    file = cache.side_file('a.timing')
    file.write(b'12 us')
    spoil(cache.folder / 'a.timing')
    assert file.read() == b''


# -- folders that cannot be written ------------------------------------------------------------


def full(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def assert_used_from_memory(cache, caplog, reason):
    build = Build()
    obtained = obtain(cache, build)
    assert obtained.was_built
    assert obtained.value == load(PLAN)
    assert reason in caplog.text
    assert str(cache.folder) in caplog.text
    assert 'TRACKER_ROS_CACHE' in caplog.text
    assert cache.find(KEY, load) is None


def test_a_folder_that_cannot_be_made(tmp_path, caplog):
    (tmp_path / 'file').touch()
    assert_used_from_memory(EngineCache(tmp_path / 'file' / 'engines'), caplog, 'Not a directory')


READ_ONLY = """
import logging, os, sys, threading
from pathlib import Path
from test_engine_cache import KEY, PLAN, load
from tracker_ros.runtime.engine_cache import EngineCache

if os.geteuid() == 0:  # root may write everywhere
    os.setgid(65534)
    os.setuid(65534)
logging.basicConfig()
cache = EngineCache(Path(sys.argv[1]))
print(cache.obtain(KEY, 'm', load, lambda: PLAN, threading.Event()).value)
"""


def test_a_folder_that_is_read_only():
    with tempfile.TemporaryDirectory() as outer:
        Path(outer).chmod(0o755)
        folder = Path(outer) / 'engines'
        folder.mkdir(mode=0o555)
        done = subprocess.run(
            [sys.executable, '-c', READ_ONLY, str(folder)],
            cwd=ROOT,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == f'{load(PLAN)}\n', done.stderr
        assert f'cannot be kept in {folder}: ' in done.stderr
        assert 'Permission denied' in done.stderr
        assert 'TRACKER_ROS_CACHE' in done.stderr
        assert list(folder.iterdir()) == []


def test_a_disk_that_is_full_from_the_start(cache, caplog, monkeypatch):
    monkeypatch.setattr(Path, 'mkdir', full)
    assert_used_from_memory(cache, caplog, 'No space left on device')


@pytest.mark.parametrize('function', ['fsync', 'replace'])
def test_a_disk_that_is_full_in_the_end(cache, caplog, monkeypatch, function):
    monkeypatch.setattr(*(Path, 'replace') if function == 'replace' else (os, 'fsync'), full)
    assert_used_from_memory(cache, caplog, 'No space left on device')
    assert files(cache) == [], 'nothing half done is left'


def test_a_disk_that_is_full_between_an_engine_and_its_description(cache, caplog, monkeypatch):
    obtain(cache, Build())
    replace_file = Path.replace

    def replace_engines_only(path, target):
        if target.suffix == '.json':
            full()
        return replace_file(path, target)

    monkeypatch.setattr(Path, 'replace', replace_engines_only)
    assert obtain(cache, Build(b'plan anew'), rebuild=True).was_built
    monkeypatch.undo()
    caplog.clear()
    assert obtain(cache, Build()).was_built
    assert 'damaged' not in caplog.text, 'the old description is not taken for that of the new'


def test_a_disk_that_fills_while_it_is_written(cache, caplog):
    """The kernel refuses the write in its middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(PLAN) // 2, before[1]))
    try:
        assert_used_from_memory(cache, caplog, 'File too large')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files(cache) == []
    assert obtain(cache, Build()).was_built
    assert not obtain(cache, Build()).was_built, 'with room again it is kept'


def test_the_warning_comes_once(tmp_path, caplog):
    (tmp_path / 'file').touch()
    cache = EngineCache(tmp_path / 'file')
    obtain(cache, Build())
    obtain(cache, Build())
    cache.note(KEY, box_px=1.0)
    cache.side_file('timing').write(b'12 us')
    assert caplog.text.count('cannot be kept') == 1


def test_a_read_only_cache_still_serves_what_is_in_it(cache, monkeypatch):
    obtain(cache, Build())
    monkeypatch.setattr(engine_cache, '_take', full)
    assert not obtain(cache, Build()).was_built


# -- several processes -------------------------------------------------------------------------

CHILD = """
import sys, threading
from pathlib import Path
from test_engine_cache import KEY, PLAN, load
from tracker_ros.runtime import engine_cache

def told(word):
    print(word, flush=True)
    sys.stdin.readline()

def build():
    told('building')
    return b'plan of the child'

if sys.argv[2] == 'writing':
    # Half of the file is there, and then nothing more.
    def fsync(number):
        told('writing')
    engine_cache.os.fsync = fsync

cache = engine_cache.EngineCache(Path(sys.argv[1]))
cache.obtain(KEY, 'm', load, build, threading.Event())
print('done', flush=True)
"""


class Child:
    """Another process that obtains the engine; its build takes until it is told to go on."""

    def __init__(self, cache, stops_at='building'):
        self._process = subprocess.Popen(
            [sys.executable, '-c', CHILD, str(cache.folder), stops_at],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self._process.kill()
        self._process.communicate()

    def reaches(self, word):
        assert self._process.stdout.readline() == f'{word}\n'

    def go_on(self):
        self._process.stdin.write('\n')
        self._process.stdin.flush()

    def kill(self):
        self._process.kill()  # SIGKILL
        assert self._process.wait() == -9


def test_of_two_processes_one_builds(cache):
    build = Build()
    with Child(cache) as child:
        child.reaches('building')
        # It is told to go on only once this process is seen to wait for it.
        obtained = obtain(cache, build, waiting=child.go_on)
        child.reaches('done')
    assert build.count == 0
    assert obtained.value == load(b'plan of the child')
    assert not obtained.was_built


def test_who_waits_builds_when_the_other_is_killed(cache):
    build = Build()
    with Child(cache) as child:
        child.reaches('building')
        obtained = obtain(cache, build, waiting=child.kill)
    assert build.count == 1
    assert obtained.was_built


def test_what_was_killed_while_it_wrote_is_not_taken(cache, caplog):
    with Child(cache, 'writing') as child:
        child.reaches('building')
        child.go_on()
        child.reaches('writing')
        child.kill()
    left = files(cache)
    assert len(left) == 1, left
    assert left[0].startswith('.'), 'there is half a file, but not under the name of the engine'
    assert cache.find(KEY, load) is None
    build = Build()
    assert obtain(cache, build).was_built
    assert files(cache) == sorted([f'{KEY.digest}.engine', f'{KEY.digest}.json'])
    assert 'damaged' not in caplog.text


def test_waiting_can_be_given_up(cache):
    cancelled = threading.Event()
    with Child(cache) as child:
        child.reaches('building')
        with pytest.raises(BuildCancelledError):
            cache.obtain(KEY, 'm', load, Build(), cancelled, waiting=cancelled.set)


def test_two_threads_of_one_process_build_once(cache):
    """Two nodes in one process are as good as two processes."""
    waits = threading.Event()

    def build_slowly():
        assert waits.wait(30)
        return PLAN

    started = threading.Event()
    first = threading.Thread(
        target=lambda: cache.obtain(
            KEY, 'm', load, lambda: (started.set(), build_slowly())[1], threading.Event()
        )
    )
    first.start()
    assert started.wait(30)
    build = Build()
    assert not obtain(EngineCache(cache.folder), build, waiting=waits.set).was_built
    first.join()
    assert build.count == 0
