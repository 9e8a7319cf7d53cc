# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What every test runs in: a ROS of its own, and the folder of shared footage if there is one."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / 'shared'
ORACLES = ROOT / '.venv' / 'oracles'
REQUIRED = {
    'TRACKER_ROS_REQUIRE_SHARED': {'shared', 'parity_folder'},
    'TRACKER_ROS_REQUIRE_ORACLES': {'oracles'},
}
"""Where the variable is 1, a test with one of the fixtures may not be skipped."""

# Read when rclpy and the message packages are imported, so set before any test module is.
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 101))
os.environ.setdefault('ROS_PYTHON_CHECK_FIELDS', '1')
# A shell's background job ignores Ctrl-C, and so would every process that a test starts and ends.
signal.signal(signal.SIGINT, signal.default_int_handler)
# The tests mean the CPU. What needs a GPU is measured by benchmarks/gpu.py.
os.environ['CUDA_VISIBLE_DEVICES'] = ''


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        '--parity',
        metavar='DIR',
        default=str(SHARED / 'parity'),
        help='folder of golden numbers (default: parity in the shared folder beside the checkout)',
    )


@pytest.fixture(scope='session', autouse=True)
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's own model packages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TRACKER_ROS_CACHE', str(tmp_path_factory.mktemp('cache')))
        yield


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    folder = tmp_path / 'cache'
    monkeypatch.setenv('TRACKER_ROS_CACHE', str(folder))
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: two for small networks only wait for each other."""
    import torch  # so that tests without PyTorch need none

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def graph() -> Iterator[Any]:
    """A ROS graph of the test's own."""
    from ros_graph import RosGraph  # so that tests without ROS need none

    graph = RosGraph()
    yield graph
    graph.close()


@pytest.fixture
def bench(graph: Any) -> Iterator[Any]:
    """Makes tracker nodes on benches, and takes them down after the test."""
    from node_bench import Bench

    made = []

    def make(**options: Any) -> Any:
        made.append(Bench(graph, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def scripted(bench: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a bench whose tracker finds in each picture how to score it.

    What is published once in a while comes every `tick_s`, that is never, so that no test waits
    for it without knowing.
    """
    from fakes import ScriptedTracker

    from tracker_ros.ros import node
    from tracker_ros.runtime import store

    tracker = ScriptedTracker(store.find('csrt'))
    monkeypatch.setattr(node, 'create', lambda *_: tracker)

    def make(tick_s: float = 3600.0, **options: Any) -> Any:
        monkeypatch.setattr(node, '_STATE_PERIOD_S', tick_s)
        made = bench(**options)
        made.tracker = tracker
        return made

    return make


@pytest.fixture(scope='session')
def shared() -> Path:
    """The folder of footage and weights beside the checkout; the test is skipped without it."""
    if not SHARED.is_dir():
        pytest.skip(f'needs the folder {SHARED} with footage and weights')
    return SHARED


@pytest.fixture(scope='session')
def parity_folder(request: pytest.FixtureRequest) -> Path:
    """The folder of golden numbers; the test is skipped without it."""
    folder = Path(request.config.getoption('parity')).resolve()
    if not folder.is_dir():
        pytest.skip(f'no folder {folder} with golden numbers: pass --parity DIR')
    return folder


@pytest.fixture(scope='module')
def oracles() -> Iterator[Path]:
    """The folder of reference tools, which can then be imported; skipped without it.

    They are looked for last, so that what the environment has as well is taken from there.
    """
    if not (ROOT / '.venv' / 'setup' / 'oracles.stamp').is_file():
        pytest.skip(f'needs the reference tools in {ORACLES}: make test installs them')
    sys.path.append(str(ORACLES))
    yield ORACLES
    sys.path.remove(str(ORACLES))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Where something must be there, a test that needs it may not be skipped."""
    report = yield
    if report.skipped and not hasattr(report, 'wasxfail'):
        fixtures = set(getattr(item, 'fixturenames', ()))
        for variable, needing in REQUIRED.items():
            if os.environ.get(variable) == '1' and needing & fixtures:
                reason = report.longrepr
                reason = reason[2] if isinstance(reason, tuple) else reason
                report.outcome = 'failed'
                report.longrepr = f'{variable}=1, yet this test was skipped: {reason}'
    return report
