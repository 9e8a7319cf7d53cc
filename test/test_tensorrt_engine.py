# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a package to TensorRT: built behind a fallback, checked, kept, found again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from fake_tensorrt import VERSIONS, fake_gpu
from fakes import Square, make_package
from small_graphs import crops, make_small

from tracker_ros.geometry import Box
from tracker_ros.runtime import engine as engine_module
from tracker_ros.runtime.building import BuildingEngine
from tracker_ros.runtime.engine import EngineError, NotReadyError, load_engine
from tracker_ros.runtime.engine_cache import BuildCancelledError, EngineCache
from tracker_ros.runtime.package import read_package
from tracker_ros.runtime.tensorrt_builder import find_toolkit
from tracker_ros.runtime.tensorrt_engine import TensorRtMaker
from tracker_ros.trackers.mixformer_v2 import MixFormerV2
from tracker_ros.trackers.siam_attn import SiamAttn

LONG_S = 60.0
"""For what happens at once, unless something is wrong."""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The user's cache."""
    monkeypatch.setenv('TRACKER_ROS_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'engines'


@pytest.fixture(params=VERSIONS)
def any_gpu(request, monkeypatch, tmp_path):
    with fake_gpu(monkeypatch, tmp_path, request.param) as gpu:
        yield gpu


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    with fake_gpu(monkeypatch, tmp_path) as gpu:
        yield gpu


@pytest.fixture
def package(tmp_path):
    return make_small(tmp_path / 'small')


@pytest.fixture
def load(request):
    """Loads engines and closes them."""
    made = []

    def load(package, runtime='auto', **options):
        engine = load_engine(package, runtime, 1, **options)
        made.append(engine)
        return engine

    yield load
    for engine in made:
        engine.close()


@pytest.fixture
def held(gpu):
    """Builds stop before their step 2 until `let_go`; `reached` when one is there."""
    return Held(gpu.behaviour)


class Held:
    def __init__(self, behaviour):
        self._at_step = threading.Event()
        self._may_go_on = threading.Event()
        behaviour.before_step = self._before_step

    def _before_step(self, step):
        if step == 2:
            self._at_step.set()
            assert self._may_go_on.wait(LONG_S)

    def reached(self):
        assert self._at_step.wait(LONG_S)

    def let_go(self):
        self._may_go_on.set()


def built(engine):
    assert isinstance(engine, BuildingEngine)
    assert engine.wait(LONG_S)
    return engine


def assert_answers(engine, package, count=2):
    """As the CPU does."""
    reference = load_engine(package, 'onnxruntime', 1)
    templates, searches = crops(count)
    found = engine.search_many(searches, [engine.template(**crops) for crops in templates])
    expected = reference.search_many(
        searches, [reference.template(**crops) for crops in templates]
    )
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6)


def engines_in(folder):
    return sorted(path.name for path in folder.glob('*.engine'))


# -- building ----------------------------------------------------------------------------------


def test_auto_builds_behind_the_next_library(any_gpu, load, package, folder):
    engine = built(load(package))
    name = f'{any_gpu.module.__name__} {any_gpu.module.__version__} (Fake GPU, fp32)'
    assert engine.name == name
    assert (engine.note, engine.progress, engine.failure, engine.rejected) == ('', None, '', ())
    assert_answers(engine, package)
    assert len(engines_in(folder)) == 2


def test_while_it_is_built_the_next_library_serves(gpu, load, package, held):
    engine = load(package)
    held.reached()
    assert engine.name == 'openvino (CPU, fp32)'
    assert engine.note == 'building tensorrt 25 %, openvino meanwhile'
    assert engine.progress == 0.25
    assert_answers(engine, package)
    held.let_go()
    built(engine)
    assert engine.name.startswith('tensorrt 10')
    assert_answers(engine, package)


def test_a_tracker_follows_through_the_switch(gpu, load, package, held):
    random = np.random.default_rng(3)
    image = random.integers(0, 256, (120, 160, 3), np.uint8)
    engine = load(package)
    tracker = MixFormerV2(package, engine)
    calm = MixFormerV2(package, load_engine(package, 'onnxruntime', 1))
    for each in (tracker, calm):
        each.start(image, Box(40, 30, 30, 20))
    for frame in range(12):
        if frame == 4:
            held.let_go()
            built(engine)
        found, expected = tracker.step(image), calm.step(image)
        assert found.box.xywh() == pytest.approx(expected.box.xywh(), abs=1e-3), frame
        assert found.score == pytest.approx(expected.score, abs=1e-6)
    assert tracker.runtime.startswith('tensorrt')


def test_further_graphs_are_built_and_run(gpu, load, tmp_path, folder, held):
    package = read_package(make_package(tmp_path / 'siamattn', 'siam_attn'))
    engine = load(package)
    trackers = [SiamAttn(package, engine), SiamAttn(package, load_engine(package, 'openvino', 1))]
    square = Square()
    for tracker in trackers:
        tracker.wants_mask = True
        tracker.start(square.at(60, 50), square.box(60, 50))
    for frame in range(6):
        if frame == 3:
            held.let_go()
            built(engine)
        found, expected = (tracker.step(square.at(60 + 3 * frame, 50)) for tracker in trackers)
        assert found.box.xywh() == pytest.approx(expected.box.xywh(), abs=1e-3)
        np.testing.assert_array_equal(found.mask, expected.mask)
    assert trackers[0].runtime.startswith('tensorrt')
    assert len(engines_in(folder)) == 4


def test_another_start_finds_the_engine(any_gpu, load, package):
    built(load(package))
    count = len(any_gpu.behaviour.builds)
    engine = load(package)
    assert not isinstance(engine, BuildingEngine)
    assert engine.name.startswith(any_gpu.module.__name__)
    assert len(any_gpu.behaviour.builds) == count
    assert_answers(engine, package)


def test_who_wants_to_wait_waits(gpu, load, package):
    engine = load(package, build='wait')
    assert not isinstance(engine, BuildingEngine)
    assert engine.name.startswith('tensorrt')
    assert_answers(engine, package)


def test_who_wants_no_build_gets_none(gpu, load, package):
    engine = load(package, build='never')
    assert engine.name == 'openvino (CPU, fp32)'
    assert gpu.behaviour.builds == []
    assert 'tensorrt: there is no engine for this GPU yet' in engine.rejected[0]
    assert '"tracker_ros build small"' in engine.rejected[0]
    with pytest.raises(EngineError, match='no engine for this GPU yet'):
        load(package, 'tensorrt', build='never')


def test_an_unknown_way_to_build_is_refused(package):
    with pytest.raises(EngineError, match="build must be one of background, wait, never, not 'x'"):
        load_engine(package, build='x')


def test_with_nothing_else_it_is_not_ready_until_it_is_built(
    gpu, load, package, held, monkeypatch, caplog
):
    monkeypatch.setattr(engine_module, 'AUTOMATIC', ('tensorrt',))
    monkeypatch.setattr('tracker_ros.runtime.tensorrt_engine.AUTOMATIC', ('tensorrt',))
    engine = load(package)
    held.reached()
    assert 'nothing can run small until its engine is built' in caplog.text
    with pytest.raises(NotReadyError, match='building tensorrt 25 %'):
        engine.template(np.zeros((16, 16, 3), np.uint8))
    held.let_go()
    built(engine)
    assert_answers(engine, package)


def test_a_build_that_fails_is_told_and_the_fallback_stays(gpu, load, package, caplog):
    gpu.behaviour.refuse_to_build = 'Error Code 10: could not find any implementation'
    engine = built(load(package))
    assert engine.name == 'openvino (CPU, fp32)'
    assert 'could not find any implementation' in engine.note
    assert engine.rejected[-1].startswith('tensorrt: ')
    assert 'could not find any implementation' in engine.rejected[-1]
    assert 'could not find any implementation' in caplog.text
    assert_answers(engine, package)


def test_closing_ends_the_build(gpu, package, held, folder):
    engine = load_engine(package)
    held.reached()
    held.let_go()
    engine.close()
    assert engine.wait(0)
    assert [gpu.live(what) for what in ('device', 'pinned', 'streams')] == [0, 0, 0]


def test_a_build_that_nobody_wants_is_not_checked(gpu, package, monkeypatch):
    """TensorRT 8 cannot be stopped; what comes after can."""
    cancelled = threading.Event()
    maker = TensorRtMaker(package, find_toolkit())
    maker.make(lambda *_: None, threading.Event()).close()
    cancelled.set()
    monkeypatch.setattr(TensorRtMaker, '_measure', None)
    with pytest.raises(BuildCancelledError):
        maker.make(lambda *_: None, cancelled)


def test_a_gpu_without_memory_is_told(gpu, load, package):
    built(load(package)).close()
    gpu.fail('cudaMalloc', 2)
    engine = load(package)
    assert engine.name == 'openvino (CPU, fp32)'
    assert 'out of memory' in engine.rejected[0]


def test_tensorrt_alone_can_be_asked_for(gpu, load, package):
    engine = built(load(package, 'tensorrt'))
    assert engine.name.startswith('tensorrt')


def test_without_a_gpu_the_reason_is_kept(gpu, load, package):
    gpu.fail('cudaGetDeviceCount', 100)
    engine = load(package)
    assert engine.name == 'openvino (CPU, fp32)'
    assert 'no CUDA-capable device' in engine.rejected[0]


# -- the cache ---------------------------------------------------------------------------------


def test_another_version_builds_anew(monkeypatch, tmp_path, load, package, caplog, folder):
    with fake_gpu(monkeypatch, tmp_path, '10'):
        built(load(package)).close()
    with fake_gpu(monkeypatch, tmp_path, '11') as gpu, caplog.at_level(logging.INFO):
        engine = built(load(package))
        assert engine.name.startswith('tensorrt 11')
        assert len(gpu.behaviour.builds) == 2
        assert "version '10.13.3', here it is '11.4.0'" in caplog.text
        engine.close()
    assert len(engines_in(folder)) == 4


def test_a_changed_graph_is_built_anew(gpu, load, package, tmp_path):
    built(load(package))
    other = make_small(tmp_path / 'other' / 'small', half=True)
    count = len(gpu.behaviour.builds)
    built(load(other))
    assert len(gpu.behaviour.builds) == count + 2


def test_a_damaged_engine_is_built_anew(gpu, load, package, folder, caplog):
    built(load(package)).close()
    damaged = folder / engines_in(folder)[0]
    damaged.write_bytes(damaged.read_bytes()[:-10])
    count = len(gpu.behaviour.builds)
    engine = built(load(package))
    assert len(gpu.behaviour.builds) == count + 1, 'only the damaged one'
    assert f'{damaged} was changed or damaged' in caplog.text
    assert_answers(engine, package)


def test_an_engine_that_the_library_refuses_is_built_anew(gpu, load, package, folder, caplog):
    """With a sha256 that is right: so looks an engine of another build of the same version."""
    built(load(package)).close()
    path = folder / engines_in(folder)[0]
    path.write_bytes(b'of another build')
    description = path.with_suffix('.json')
    facts = json.loads(description.read_text())
    facts['sha256'] = hashlib.sha256(b'of another build').hexdigest()
    description.write_text(json.dumps(facts))
    engine = built(load(package))
    assert f'{path} cannot be loaded: tensorrt 10.13.3 cannot load the engine' in caplog.text
    assert engine.name.startswith('tensorrt')


def test_where_nothing_can_be_kept_it_is_used_from_memory(
    gpu, load, package, tmp_path, monkeypatch, caplog
):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('TRACKER_ROS_CACHE', str(tmp_path / 'file'))
    engine = built(load(package))
    assert engine.name.startswith('tensorrt')
    assert_answers(engine, package)
    assert caplog.text.count('cannot be kept') == 1
    assert 'TRACKER_ROS_CACHE' in caplog.text


def test_a_second_node_waits_and_takes_what_the_first_builds(gpu, load, package, held):
    first = load(package)
    held.reached()
    waits = threading.Event()
    maker = TensorRtMaker(package, find_toolkit())

    def report(doing, fraction=None):
        if doing.startswith('waiting'):
            waits.set()

    made = []
    second = threading.Thread(target=lambda: made.append(maker.make(report, threading.Event())))
    second.start()
    assert waits.wait(LONG_S)
    held.let_go()
    second.join(LONG_S)
    built(first)
    assert len(gpu.behaviour.builds) == 2, 'one for each graph'
    assert_answers(made[0], package)
    made[0].close()


def test_rtx_keeps_its_kernels(monkeypatch, tmp_path, load, package, folder):
    with fake_gpu(monkeypatch, tmp_path, 'rtx'):
        built(load(package)).close()
        assert len(list(folder.glob('*.kernels'))) == 2
        assert list(folder.glob('*.timing')) == []


# -- the gate ----------------------------------------------------------------------------------


def off_by(box=0.0, score=0.0):
    def distort(name, value):
        return value + {'box': box, 'score': score}.get(name, 0.0)

    return distort


def notes(folder):
    return [json.loads(path.read_text())['notes'] for path in sorted(folder.glob('*.json'))]


def test_what_was_found_is_noted(gpu, load, package, folder, caplog):
    with caplog.at_level(logging.INFO):
        built(load(package))
    (noted,) = [note for note in notes(folder) if note]
    assert (noted['box_px'], noted['score']) == (0.0, 0.0)
    assert len(noted['plans']) == 2
    assert 'differs from onnxruntime (CPU, fp32) by 0 px of the box' in caplog.text


@pytest.mark.parametrize(
    'distort', [off_by(box=1.1 / 32), off_by(score=0.03), off_by(box=np.nan), off_by(score=np.nan)]
)
def test_wrong_answers_do_not_pass(gpu, load, package, distort):
    gpu.behaviour.distort = distort
    engine = built(load(package))
    assert engine.name == 'openvino (CPU, fp32)'
    assert 'away from those on the CPU, and 1 px of the box and 0.02' in engine.failure
    assert '--force' in engine.failure
    assert_answers(engine, package)
    assert gpu.live('device') == gpu.live('pinned') == gpu.live('streams') == 0


@pytest.mark.parametrize(('output', 'error'), [('correction', 0.3), ('mask_logits', -1.0)])
def test_wrong_answers_of_further_graphs_do_not_pass(gpu, load, tmp_path, output, error):
    gpu.behaviour.distort = lambda name, value: value + error * (name == output)
    package = read_package(make_package(tmp_path / 'siamattn', 'siam_attn'))
    engine = built(load(package))
    assert engine.name.startswith('openvino')
    assert 'away from those on the CPU' in engine.failure
    assert gpu.live('device') == gpu.live('pinned') == gpu.live('streams') == 0


@pytest.mark.parametrize('distort', [off_by(box=0.9 / 32), off_by(score=0.019)])
def test_small_differences_pass(gpu, load, package, distort):
    gpu.behaviour.distort = distort
    assert built(load(package)).name.startswith('tensorrt')


def test_the_package_says_how_much_is_allowed(gpu, load, tmp_path):
    gpu.behaviour.distort = off_by(box=3 / 32)
    lenient = make_small(tmp_path / 'a' / 'small', parity={'box_px': 4.0})
    assert built(load(lenient)).name.startswith('tensorrt')


def test_what_did_not_pass_is_not_built_at_every_start(gpu, load, package):
    gpu.behaviour.distort = off_by(box=0.5)
    built(load(package)).close()
    count = len(gpu.behaviour.builds)
    engine = load(package)
    assert not isinstance(engine, BuildingEngine)
    assert engine.name == 'openvino (CPU, fp32)'
    assert 'away from those on the CPU' in engine.rejected[0]
    assert '"tracker_ros build small --rebuild"' in engine.rejected[0]
    assert len(gpu.behaviour.builds) == count


def test_what_is_forced_is_used_with_a_warning(gpu, load, package, caplog):
    gpu.behaviour.distort = off_by(box=0.5)
    maker = TensorRtMaker(package, find_toolkit())
    made = maker.make(lambda *_: None, threading.Event(), force=True)
    assert made.name.startswith('tensorrt')
    assert maker.difference.box_px == pytest.approx(16.0)
    made.close()
    caplog.clear()
    engine = load(package)
    assert engine.name.startswith('tensorrt')
    assert 'it is used because that was forced' in caplog.text


def test_what_is_built_anew_is_checked_anew(gpu, load, package):
    gpu.behaviour.distort = off_by(box=0.5)
    maker = TensorRtMaker(package, find_toolkit())
    maker.make(lambda *_: None, threading.Event(), force=True).close()
    gpu.behaviour.distort = off_by()
    maker.make(lambda *_: None, threading.Event(), rebuild=True).close()
    assert maker.difference.box_px == 0.0
    assert load(package).name.startswith('tensorrt')


def test_notes_that_cannot_be_read_mean_another_check(gpu, load, package, folder, caplog):
    built(load(package)).close()
    (path,) = [path for path in folder.glob('*.json') if json.loads(path.read_text())['notes']]
    facts = json.loads(path.read_text())
    facts['notes']['box_px'] = 'little'
    path.write_text(json.dumps(facts))
    count = len(gpu.behaviour.builds)
    engine = built(load(package))
    assert engine.name.startswith('tensorrt')
    assert len(gpu.behaviour.builds) == count, 'checked, and not built'
    assert 'cannot be read' in caplog.text


def test_a_note_of_other_plans_means_another_check(gpu, load, package, folder):
    built(load(package)).close()
    for path in folder.glob('*.json'):
        facts = json.loads(path.read_text())
        if facts['notes']:
            facts['notes'].update(box_px=99.0, plans=['a' * 64, 'b' * 64])
            path.write_text(json.dumps(facts))
    assert built(load(package)).name.startswith('tensorrt')


def test_an_engine_whose_check_was_cut_short_is_checked(gpu, load, package, folder):
    """So it is after kill -9 between the build and the check."""
    built(load(package)).close()
    for path in folder.glob('*.json'):
        facts = json.loads(path.read_text())
        path.write_text(json.dumps({**facts, 'notes': {}}))
    gpu.behaviour.distort = off_by(box=0.5)
    count = len(gpu.behaviour.builds)
    engine = built(load(package))
    assert engine.name == 'openvino (CPU, fp32)'
    assert len(gpu.behaviour.builds) == count


def test_without_a_reference_it_is_used_and_said(gpu, load, package, folder, monkeypatch, caplog):
    monkeypatch.setattr('tracker_ros.runtime.tensorrt_engine.CPU_RUNTIMES', ())
    engine = built(load(package))
    assert engine.name.startswith('tensorrt')
    assert 'were not checked' in caplog.text
    assert [note for note in notes(folder) if note] == []
    engine.close()
    monkeypatch.undo()


def test_a_family_that_cannot_be_compared_is_not_used(gpu, load, tmp_path):
    package = make_small(tmp_path / 'other', family='siamese')
    engine = built(load(package))
    assert engine.name == 'openvino (CPU, fp32)'
    assert "family 'siamese' cannot be compared" in engine.failure


# -- precision ---------------------------------------------------------------------------------


def test_the_precision_is_that_of_the_graphs(gpu, load, tmp_path):
    package = make_small(tmp_path / 'half', half=True, precision='fp16')
    assert built(load(package)).name == 'tensorrt 10.13.3 (Fake GPU, fp16)'


def test_another_precision_is_refused(gpu, package):
    assert TensorRtMaker(package, find_toolkit(), 'fp32').precision == 'fp32'
    with pytest.raises(EngineError, match=r'graphs of small are fp32.*for fp16 take, or make'):
        TensorRtMaker(package, find_toolkit(), 'fp16')


def test_a_maker_may_have_a_cache_of_its_own(gpu, package, tmp_path, folder):
    maker = TensorRtMaker(package, find_toolkit(), cache=EngineCache(tmp_path / 'own'))
    maker.make(lambda *_: None, threading.Event()).close()
    assert len(engines_in(tmp_path / 'own')) == 2
    assert not folder.exists()


# -- kill -9 -----------------------------------------------------------------------------------

CHILD = """
import os, signal, sys
from pathlib import Path
import pytest
from fake_tensorrt import fake_gpu
from tracker_ros.runtime.engine import load_engine
from tracker_ros.runtime.package import read_package

def kill(step):
    if step == 3:
        os.kill(os.getpid(), signal.SIGKILL)

with fake_gpu(pytest.MonkeyPatch(), Path(sys.argv[2])) as gpu:
    gpu.behaviour.before_step = kill
    load_engine(read_package(Path(sys.argv[1]))).wait()
"""


def test_kill_9_during_a_build(gpu, load, package, folder, tmp_path):
    (tmp_path / 'child').mkdir()
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, '-c', CHILD, str(package.folder), str(tmp_path / 'child')],
        cwd=root,
        env={**os.environ, 'PYTHONPATH': f'{root}:{root / "test"}'},
        check=False,
    )
    assert done.returncode == -9
    assert engines_in(folder) == []
    engine = built(load(package))
    assert engine.name.startswith('tensorrt')
    assert_answers(engine, package)
