# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One engine serves while another is built, and hands over between two frames."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tracker_ros.runtime.building import BuildingEngine
from tracker_ros.runtime.engine import Engine, EngineError, NotReadyError
from tracker_ros.runtime.engine_cache import BuildCancelledError

ROOT = Path(__file__).resolve().parent.parent
LONG_S = 30.0
"""For what happens at once, unless something is wrong."""


class Named(Engine):
    """Answers with its own number and the mean of what it caches; can be closed."""

    def __init__(self, name, number, inputs=('template', 'online')):
        self.name = name
        self.number = number
        self.template_inputs = inputs
        self.templates = 0
        self.is_closed = False

    def template(self, template, **others):
        assert not self.is_closed
        self.templates += 1
        crops = {'template': template, **others}
        return self, {name: float(crop.mean()) for name, crop in crops.items()}

    def search(self, crop, cached):
        assert not self.is_closed
        owner, means = cached
        assert owner is self, 'these tensors belong to another engine'
        score = sum(means.values()) + float(crop.mean())
        return {'score': np.array([score], np.float32), 'by': np.array([self.number], np.float32)}

    def renewed(self, cached, **tensors):
        owner, means = cached
        assert owner is self, 'these tensors belong to another engine'
        return self, {**means, **{name: float(value.mean()) for name, value in tensors.items()}}

    def close(self):
        self.is_closed = True


class Build:
    """A build that goes on when it is told to, and ends as it is told to."""

    def __init__(self, made=None, error=None):
        self.made = made
        self.error = error
        self.reports = []
        self._begun = threading.Event()
        self._may_end = threading.Event()
        self.report = None

    def __call__(self, report, cancelled):
        self.report = report
        self._begun.set()
        while not self._may_end.wait(0.01):
            if cancelled.is_set():
                raise BuildCancelledError('cancelled')
        if self.error is not None:
            raise self.error
        return self.made

    def has_begun(self):
        assert self._begun.wait(LONG_S)

    def end(self):
        self._may_end.set()


@pytest.fixture
def fallback():
    engine = Named('openvino (CPU, fp32)', 1)
    engine.rejected = ('onnxruntime_cuda: no GPU',)
    return engine


@pytest.fixture
def made():
    return Named('tensorrt 10.13.3 (Fake GPU, fp32)', 2)


@pytest.fixture
def begin():
    """Begins builds, and closes them at the end."""
    engines = []

    def begin(build, fallback):
        engine = BuildingEngine('tensorrt', build, fallback)
        engines.append(engine)
        build.has_begun()
        return engine

    yield begin
    for engine in engines:
        engine.close()


def crop(value, side=4):
    return np.full((side, side, 3), value, np.uint8)


def ended(engine, build):
    build.end()
    assert engine.wait(LONG_S)


def by(outputs):
    return outputs['by'].tolist()


def test_the_fallback_serves_meanwhile(begin, fallback):
    engine = begin(Build(), fallback)
    target = engine.template(crop(10), online=crop(20))
    outputs = engine.search(crop(5), target)
    assert by(outputs) == [1]
    assert outputs['score'] == 35
    assert engine.name == fallback.name
    assert engine.template_inputs == ('template', 'online')


def test_progress_is_told(begin, fallback):
    build = Build()
    engine = begin(build, fallback)
    assert engine.progress == 0.0
    assert engine.note == 'building tensorrt 0 %, openvino meanwhile'
    build.report('building', 0.4)
    assert engine.progress == 0.4
    assert engine.note == 'building tensorrt 40 %, openvino meanwhile'
    build.report('checking')
    assert engine.progress is None
    assert engine.note == 'checking tensorrt, openvino meanwhile'


def test_the_switch_comes_between_frames_and_templates_come_along(begin, fallback, made):
    build = Build(made)
    engine = begin(build, fallback)
    targets = [
        engine.template(crop(10), online=crop(20)),
        engine.template(crop(30), online=crop(0)),
    ]
    assert by(engine.search(crop(5), targets[0])) == [1]
    ended(engine, build)
    outputs = engine.search(crop(5), targets[0])
    assert by(outputs) == [2]
    assert outputs['score'] == 35, 'of the same crops as before'
    assert engine.search(crop(5), targets[1])['score'] == 35
    assert made.templates == 2
    engine.search(crop(5), targets[0])
    assert made.templates == 2, 'once for each target'
    assert fallback.is_closed
    assert engine.name == made.name
    assert (engine.progress, engine.note, engine.failure) == (None, '', '')


def test_a_target_that_starts_after_the_switch(begin, fallback, made):
    build = Build(made)
    engine = begin(build, fallback)
    ended(engine, build)
    target = engine.template(crop(10), online=crop(20))
    assert by(engine.search(crop(5), target)) == [2]
    assert (fallback.templates, made.templates) == (0, 1)


def test_the_name_is_that_of_what_serves_next(begin, fallback, made):
    build = Build(made)
    engine = begin(build, fallback)
    made.note = 'without CUDA graph'
    made.rejected = ()
    ended(engine, build)
    assert engine.name == made.name
    assert engine.note == 'without CUDA graph'
    assert engine.rejected == ()
    assert not fallback.is_closed, 'a call may still be on its way'


def test_crops_may_be_written_over(begin, fallback, made):
    build = Build(made)
    engine = begin(build, fallback)
    template, online = crop(10), crop(20)
    target = engine.template(template, online=online)
    template[...] = online[...] = 99
    ended(engine, build)
    assert engine.search(crop(5), target)['score'] == 35


def test_what_was_renewed_comes_along(begin, fallback, made):
    build = Build(made)
    engine = begin(build, fallback)
    target = engine.template(crop(10), online=crop(20))
    value = np.full((1, 4), 7, np.float32)
    changed = engine.renewed(target, online=value)
    value[...] = 99
    assert engine.search(crop(5), changed)['score'] == 22
    assert engine.search(crop(5), target)['score'] == 35, 'the target itself stays as it was'
    ended(engine, build)
    outputs = engine.search(crop(5), changed)
    assert (by(outputs), outputs['score']) == ([2], 22)
    again = engine.renewed(changed, template=np.float32([[1]]))
    assert engine.search(crop(5), again)['score'] == 13
    assert engine.search(crop(5), target)['score'] == 35


def test_many_targets_switch_together(begin, fallback, made):
    build = Build(made)
    engine = begin(build, fallback)
    targets = [engine.template(crop(value), online=crop(0)) for value in (10, 20, 30)]
    crops = np.stack([crop(1)] * 3)
    assert by(engine.search_many(crops, targets)) == [1, 1, 1]
    ended(engine, build)
    outputs = engine.search_many(crops, targets)
    assert by(outputs) == [2, 2, 2]
    assert outputs['score'].tolist() == [11, 21, 31]


def test_a_build_that_fails_leaves_the_fallback(begin, fallback, caplog):
    build = Build(error=EngineError('no kernel for node 7'))
    engine = begin(build, fallback)
    target = engine.template(crop(10), online=crop(20))
    ended(engine, build)
    assert by(engine.search(crop(5), target)) == [1]
    assert engine.name == fallback.name
    assert engine.progress is None
    assert engine.note == 'tensorrt is not used: no kernel for node 7'
    assert engine.failure == 'no kernel for node 7'
    assert engine.rejected == ('onnxruntime_cuda: no GPU', 'tensorrt: no kernel for node 7')
    assert 'tensorrt is not used: no kernel for node 7' in caplog.text
    assert not fallback.is_closed


def test_whatever_a_build_raises_the_fallback_stays(begin, fallback):
    build = Build(error=ZeroDivisionError('in a library'))
    engine = begin(build, fallback)
    ended(engine, build)
    assert "ZeroDivisionError('in a library')" in engine.note
    assert by(engine.search(crop(5), engine.template(crop(1)))) == [1]


# -- without a fallback ------------------------------------------------------------------------


def test_without_a_fallback_it_says_how_far_it_is(begin):
    build = Build()
    engine = begin(build, None)
    build.report('building', 0.4)
    with pytest.raises(NotReadyError, match=r'^building tensorrt 40 %$'):
        engine.template(crop(10))
    assert engine.name == 'tensorrt (being built)'


def test_without_a_fallback_it_serves_when_it_is_built(begin, made):
    build = Build(made)
    engine = begin(build, None)
    ended(engine, build)
    assert by(engine.search(crop(5), engine.template(crop(1)))) == [2]
    assert engine.template_inputs == made.template_inputs


def test_without_either_it_says_why(begin):
    build = Build(error=EngineError('no kernel'))
    engine = begin(build, None)
    ended(engine, build)
    with pytest.raises(EngineError, match='tensorrt is not used: no kernel') as caught:
        engine.template(crop(10))
    assert not isinstance(caught.value, NotReadyError), 'it never will be'


# -- the end -----------------------------------------------------------------------------------


def test_closing_ends_the_build(fallback):
    build = Build()
    engine = BuildingEngine('tensorrt', build, fallback)
    build.has_begun()
    engine.close()
    assert engine.wait(0)
    assert fallback.is_closed
    assert engine.failure == 'the build was cancelled'
    assert engine.note == 'the build of tensorrt was cancelled'
    with pytest.raises(EngineError, match='cancelled'):
        engine.template(crop(1))


def test_closing_closes_what_was_built_and_never_used(begin, fallback, made):
    build = Build(made)
    engine = begin(build, fallback)
    ended(engine, build)
    engine.close()
    assert made.is_closed
    assert fallback.is_closed


def test_waiting_may_take_too_long(begin, fallback):
    engine = begin(Build(), fallback)
    assert engine.wait(0) is False


AT_EXIT = """
import threading
from tracker_ros.runtime.building import BuildingEngine
from tracker_ros.runtime.engine_cache import BuildCancelledError

begun = threading.Event()

def make(report, cancelled):
    begun.set()
    cancelled.wait()
    print('cancelled', flush=True)
    raise BuildCancelledError('cancelled')

engine = BuildingEngine('tensorrt', make, None)
begun.wait()
"""


def test_a_process_that_ends_ends_its_build_first():
    done = subprocess.run(
        [sys.executable, '-c', AT_EXIT],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=True,
    )
    assert (done.stdout, done.stderr) == ('cancelled\n', '')
