# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Runs over a Ray cluster: with a stand-in for Ray, and where Ray is installed with Ray."""

import json
import socket
import sys
import types

import cv2
import numpy as np
import pytest

from tracker_ros.cli import main
from tracker_ros.evaluation.cluster import ClusterError, in_cluster
from tracker_ros.evaluation.kept import KeptRuns
from tracker_ros.evaluation.one_pass import Failure, Run, evaluate
from tracker_ros.evaluation.sequences import Sequence


class RayError(Exception):
    """As Ray's."""


class StandIn(types.ModuleType):
    """As much of Ray as is used, in this process: a task is done when it is waited for.

    dying: names of sequences whose every machine goes. The newest task ends first.
    """

    def __init__(self, dying=()):
        super().__init__('ray')
        self.dying, self.initialised, self.shut, self.options = dying, [], 0, {}
        self.exceptions = types.SimpleNamespace(RayError=RayError)

    def init(self, **options):
        self.initialised.append(options['address'])

    def remote(self, **options):
        self.options = options
        return lambda function: types.SimpleNamespace(remote=lambda *args: (function, args))

    def wait(self, references, num_returns):
        return references[-num_returns:], references[:-num_returns]

    def get(self, reference):
        function, args = reference
        if args[2].name in self.dying:
            raise RayError('The worker died.\nA long trace.')
        return function(*args)

    def shutdown(self):
        self.shut += 1


class Still:
    """Finds the target where it was."""

    def start(self, image, box):
        self.box = box

    def step(self, image):
        return types.SimpleNamespace(box=self.box, score=0.5)


class Frames(Sequence):
    """A sequence without files."""

    def frames(self):
        return iter(np.zeros((len(self), 48, 64, 3), np.uint8))


def sequences(folder, count=3):
    footage = folder / 'footage'
    footage.mkdir()
    truth = np.tile([4.0, 4.0, 8.0, 8.0], (5, 1))
    return [Frames(f's{index}', footage, truth, 64, 48, 30.0) for index in range(count)]


def make(name):
    if name == 'broken':
        raise RuntimeError('no such thing')
    return Still()


@pytest.fixture
def data(tmp_path):
    """One sequence of six frames in which a textured square moves."""
    random = np.random.default_rng(5)
    background = random.integers(0, 80, (120, 160, 3)).astype(np.uint8)
    target = cv2.resize(random.integers(100, 255, (8, 8, 3)).astype(np.uint8), (32, 32))
    images = tmp_path / 'data' / 'square' / 'img'
    images.mkdir(parents=True)
    boxes = [(30 + 4 * index, 40 + 2 * index, 32, 32) for index in range(6)]
    for index, (x, y, w, h) in enumerate(boxes):
        frame = background.copy()
        frame[y : y + h, x : x + w] = target
        cv2.imwrite(str(images / f'{index}.png'), frame)
    lines = [','.join(map(str, box)) for box in boxes]
    (images.parent / 'groundtruth.txt').write_text('\n'.join(lines))
    return tmp_path / 'data'


@pytest.fixture
def ray(monkeypatch):
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, 'ray', stand_in)
    return stand_in


def spread(tasks, work, bar):
    return in_cluster('auto', tasks, work, bar)


def test_runs_come_back_in_order_and_are_kept_where_the_evaluation_began(ray, tmp_path):
    kept = KeptRuns(tmp_path / 'runs', {'still': 'x'})
    given = sequences(tmp_path)
    runs, failures = evaluate(['still'], given, make, progress=False, results=kept, spread=spread)
    assert [run.sequence for run in runs] == given
    assert failures == []
    assert all(isinstance(kept.find('still', each), Run) for each in given)
    assert ray.initialised == ['auto']
    assert ray.shut == 1
    assert ray.options['max_retries'] > 0
    # All are there, so no cluster is asked.
    again, _ = evaluate(['still'], given, make, progress=False, results=kept, spread=spread)
    assert len(again) == len(given)
    assert ray.initialised == ['auto']


def test_what_the_cluster_cannot_run_is_a_failure_and_the_rest_goes_on(ray, tmp_path):
    ray.dying = ('s1',)
    runs, failures = evaluate(['still'], sequences(tmp_path), make, progress=False, spread=spread)
    assert [run.sequence.name for run in runs] == ['s0', 's2']
    assert failures == [Failure('still', 's1', 'the cluster could not run it: The worker died.')]


def test_a_failure_names_the_machine(ray, tmp_path):
    _, (failure,) = evaluate(
        ['broken'], sequences(tmp_path, 1), make, progress=False, spread=spread
    )
    assert failure.reason == f'on {socket.gethostname()}: RuntimeError: no such thing'


def test_the_cluster_is_left_when_the_evaluation_is_interrupted(ray, tmp_path, monkeypatch):
    def interrupted(reference):
        raise KeyboardInterrupt

    monkeypatch.setattr(ray, 'get', interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(['still'], sequences(tmp_path), make, progress=False, spread=spread)
    assert ray.shut == 1


def test_where_nothing_listens_it_is_said_at_once(ray):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))  # and does not listen
        address = f'127.0.0.1:{taken.getsockname()[1]}'
        with pytest.raises(ClusterError, match=f"no Ray cluster answers at '{address}'"):
            next(in_cluster(address, [], None, None))
    assert ray.initialised == []


def test_without_ray_it_is_said_what_to_install(data, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    assert main(['eval', str(data), '--model', 'csrt', '--ray', 'auto', '--quiet']) == 2
    assert 'needs Ray: python -m pip install ray' in capsys.readouterr().err


def test_the_command_gives_the_same_report(ray, data, tmp_path):
    for name, options in (('here', []), ('there', ['--ray', 'auto'])):
        out = str(tmp_path / name)
        arguments = ['eval', str(data), '--model', 'csrt', '--report', out, '--quiet', *options]
        assert main(arguments) == 0
    here, there = (
        json.loads((tmp_path / name / 'results.json').read_text())['trackers']['csrt']
        for name in ('here', 'there')
    )
    for name in ('auc', 'precision', 'ao', 'intervals'):
        assert here[name] == there[name]
    assert here['runs']['square']['boxes'] == there['runs']['square']['boxes']


def test_a_machine_with_another_version_runs_nothing(ray, data, capsys, monkeypatch):
    from tracker_ros.cli import eval as command

    names = iter(['OpenCV 1', 'OpenCV 2'])
    monkeypatch.setattr(command, '_identity_of', lambda *_: next(names))
    assert main(['eval', str(data), '--model', 'csrt', '--ray', 'auto', '--quiet']) == 1
    said = capsys.readouterr().err
    assert "csrt is another one here: 'OpenCV 2' where 'OpenCV 1' is evaluated" in said


def test_jobs_and_a_cluster_exclude_each_other(data, capsys):
    with pytest.raises(SystemExit, match='2'):
        main(['eval', str(data), '--model', 'csrt', '--ray', 'auto', '--jobs', '2'])
    assert 'not allowed with argument' in capsys.readouterr().err


def test_with_ray_itself(data, tmp_path):
    pytest.importorskip('ray', reason='needs Ray: pip install ray')
    out = tmp_path / 'out'
    arguments = ['eval', str(data), '--model', 'csrt', '--report', str(out), '--quiet']
    assert main([*arguments, '--ray', 'local']) == 0
    scores = json.loads((out / 'results.json').read_text())['trackers']['csrt']
    assert scores['auc'] > 0.6
