# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`tracker_ros build`: an engine ahead of time, or the reason why there is none."""

from __future__ import annotations

import sys
import threading

import pytest
from fake_tensorrt import fake_gpu
from small_graphs import make_small

from tracker_ros.cli import main
from tracker_ros.runtime.building import BuildingEngine
from tracker_ros.runtime.engine import load_engine


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv('TRACKER_ROS_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'engines'


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    with fake_gpu(monkeypatch, tmp_path) as gpu:
        yield gpu


@pytest.fixture
def package(tmp_path):
    return make_small(tmp_path / 'small')


def build(package, *options):
    return main(['build', str(package.folder), *options])


def test_it_builds_and_a_start_finds_it(gpu, package, folder, capsys):
    assert build(package) == 0
    told = capsys.readouterr()
    assert 'small: tensorrt 10.13.3 for Fake GPU\n' in told.out
    assert 'small: at most 0 px of the box and 0 of the score away from the CPU\n' in told.out
    assert f'small: ready ({folder})\n' in told.out
    assert '100%' in told.err
    engine = load_engine(package)
    assert not isinstance(engine, BuildingEngine)
    engine.close()
    assert len(gpu.behaviour.builds) == 2


def test_what_is_there_is_not_built_again_unless_told(gpu, package):
    assert build(package) == 0
    assert build(package) == 0
    assert len(gpu.behaviour.builds) == 2
    assert build(package, '--rebuild') == 0
    assert len(gpu.behaviour.builds) == 4


def test_wrong_answers_are_told(gpu, package, capsys):
    gpu.behaviour.distort = lambda name, value: value + 0.5 * (name in ('box', 'score'))
    assert build(package) == 1
    told = capsys.readouterr()
    assert 'small: the answers of the engine are 16 px of the box and 0.5 of the sc' in told.err
    assert '--force' in told.err
    assert 'ready' not in told.out


def test_wrong_answers_can_be_forced(gpu, package, capsys):
    gpu.behaviour.distort = lambda name, value: value + 0.5 * (name in ('box', 'score'))
    assert build(package, '--force') == 0
    assert 'at most 16 px of the box and 0.5 of the score away' in capsys.readouterr().out
    engine = load_engine(package)
    assert engine.name.startswith('tensorrt')
    engine.close()


def test_a_build_that_fails_is_told(gpu, package, capsys):
    gpu.behaviour.refuse_to_build = 'Error Code 10: could not find any implementation'
    assert build(package) == 1
    assert 'could not find any implementation' in capsys.readouterr().err


def test_without_a_gpu_it_says_so(gpu, package, capsys):
    gpu.fail('cudaGetDeviceCount', 35)
    assert build(package) == 1
    assert 'install or update the NVIDIA driver' in capsys.readouterr().err


def test_without_tensorrt_it_says_what_to_install(gpu, package, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    assert build(package) == 1
    assert 'pip install tensorrt' in capsys.readouterr().err


def test_another_precision_is_refused(gpu, package, capsys):
    assert build(package, '--precision', 'int8') == 1
    assert 'the graphs of small are fp32' in capsys.readouterr().err
    assert build(package, '--precision', 'fp32') == 0


def test_what_is_no_model_is_told(gpu, tmp_path, capsys):
    assert main(['build', str(tmp_path / 'nothing')]) == 1
    assert 'is no model package' in capsys.readouterr().err
    assert main(['build', 'csrt']) == 1
    assert 'csrt: it has no network' in capsys.readouterr().err


def test_another_library_cannot_be_built_for(package, capsys):
    with pytest.raises(SystemExit):
        build(package, '--runtime', 'openvino')
    assert "invalid choice: 'openvino'" in capsys.readouterr().err


def test_ctrl_c_ends_the_build(gpu, package, folder, capsys, monkeypatch):
    """It comes to the main thread while another one builds."""
    engines = []
    is_interrupted = threading.Event()
    wait = BuildingEngine.wait

    def interrupted_once(engine, timeout_s=None):
        if not engines:
            engines.append(engine)
            is_interrupted.set()
            raise KeyboardInterrupt
        return wait(engine, timeout_s)

    monkeypatch.setattr(BuildingEngine, 'wait', interrupted_once)

    def before_step(step):
        if step == 2:
            assert is_interrupted.wait(60)
            assert engines[0]._cancelled.wait(60)

    gpu.behaviour.before_step = before_step
    assert build(package) == 130
    assert 'interrupted' in capsys.readouterr().err
    assert engines[0].failure == 'the build was cancelled'
    assert list(folder.glob('*.engine')) == []
