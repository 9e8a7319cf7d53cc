# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Graphs beside template and search: who runs them, with what, and what is said where not."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from fakes import make_package
from runtimes import ON_THE_CPU

from tracker_ros.runtime import engine as engines
from tracker_ros.runtime.engine import Engine, EngineError, load_engine
from tracker_ros.runtime.package import PackageError, read_package

CROPS = [np.full((side, side, 3), 100, np.uint8) for side in (31, 63)]
ROI = np.float32([[10, 12, 30, 40]])


@pytest.fixture
def package(tmp_path):
    return read_package(make_package(tmp_path / 'm', 'siam_attn'))


@pytest.fixture(params=ON_THE_CPU)
def engine(request, package):
    return load_engine(package, request.param, 1)


def test_a_graph_takes_what_it_needs_of_the_searchs_outputs(engine):
    template, search = CROPS
    outputs = engine.search(search, engine.template(template))
    found = engine.run('mask', {**outputs, 'roi': ROI})
    assert set(found) >= {'mask_logits'}
    assert found['mask_logits'].shape == (1, 1, 64, 64)
    assert found['mask_logits'] == pytest.approx(4.0)


def test_an_input_that_nobody_gives_is_named(engine):
    template, search = CROPS
    outputs = engine.search(search, engine.template(template))
    with pytest.raises(EngineError, match=r'the graph refine takes roi.*refine_values'):
        engine.run('refine', outputs)


def test_the_package_tells_its_further_graphs(package):
    assert package.further == ('refine', 'mask')
    assert package.values_of('mask') == {'roi': (4,)}
    assert package.values_of('search') == {}
    package.inputs['mask_values'] = {'roi': 4}
    with pytest.raises(PackageError, match=r'inputs\.mask_values must give a list of sizes'):
        package.values_of('mask')


def test_a_runtime_that_cannot_run_them_is_passed_over(package, monkeypatch):
    plain = types.ModuleType('tracker_ros.runtime.plain_engine')
    monkeypatch.setitem(sys.modules, plain.__name__, plain)
    engine = engines.load_first(package, ('plain', 'onnxruntime'), 1)
    assert engine.name.startswith('onnxruntime')
    assert engine.rejected == ('plain: it cannot run the graphs refine, mask yet',)
    with pytest.raises(EngineError, match='cannot run the graphs refine, mask yet'):
        engines.load_first(package, ('plain',), 1)


def test_a_graph_that_fails_is_noticed_when_the_package_is_loaded(package):
    package.inputs.pop('mask_values')
    with pytest.raises(EngineError, match=r'the graph mask takes roi'):
        load_engine(package, 'onnxruntime', 1)


def test_an_engine_without_them_says_so():
    class Plain(Engine):
        name = 'plain'
        template = search = None

    with pytest.raises(EngineError, match="plain does not run the graph 'mask'"):
        Plain().run('mask', {})
