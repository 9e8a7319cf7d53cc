# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Every inference library gives the same answers, and says why it cannot give any."""

import sys

import numpy as np
import pytest
from fakes import make_package
from runtimes import ON_THE_CPU

from tracker_ros.runtime.engine import CPU_RUNTIMES, EngineError, load_engine
from tracker_ros.runtime.package import read_package


@pytest.fixture
def package(tmp_path):
    return read_package(make_package(tmp_path / 'm'))


@pytest.fixture
def crops():
    random = np.random.default_rng(5)
    return [random.integers(0, 256, (side, side, 3), np.uint8) for side in (32, 64)]


def answers(engine, crops):
    template, search = crops
    return engine.search(search, engine.template(template))


def test_the_libraries_agree(package, crops):
    first, *others = [answers(load_engine(package, runtime), crops) for runtime in CPU_RUNTIMES]
    assert set(first) >= {'score', 'size', 'offset'}
    assert np.ptp(first['score']) > 0.01
    for other in others:
        for name in ('score', 'size', 'offset'):
            value = first[name]
            assert value.dtype == np.float32
            np.testing.assert_allclose(other[name], value, rtol=0, atol=1e-4)


@pytest.mark.parametrize('runtime', ON_THE_CPU)
def test_crops_may_be_read_only_and_are_left_alone(package, crops, runtime):
    engine = load_engine(package, runtime, threads=1)
    expected = {name: value.copy() for name, value in answers(engine, crops).items()}
    copies = [crop.copy() for crop in crops]
    for crop in crops:
        crop.flags.writeable = False
    for name, value in answers(engine, crops).items():
        np.testing.assert_array_equal(value, expected[name])
    for crop, copy in zip(crops, copies, strict=True):
        np.testing.assert_array_equal(crop, copy)


@pytest.mark.parametrize('runtime', ON_THE_CPU)
def test_what_is_cached_outlives_the_next_template(package, crops, runtime):
    engine = load_engine(package, runtime, threads=1)
    template, search = crops
    cached = engine.template(template)
    expected = engine.search(search, cached)['score'].copy()
    other = engine.template(255 - template)
    assert np.abs(engine.search(search, other)['score'] - expected).max() > 0.01
    np.testing.assert_array_equal(engine.search(search, cached)['score'], expected)


@pytest.mark.parametrize('runtime', ON_THE_CPU)
def test_an_engine_says_what_it_is(package, runtime):
    assert runtime in load_engine(package, runtime).name


@pytest.mark.parametrize('runtime', ON_THE_CPU)
def test_a_library_that_is_missing_says_what_to_install(package, monkeypatch, runtime):
    monkeypatch.delitem(sys.modules, f'tracker_ros.runtime.{runtime}_engine', raising=False)
    monkeypatch.setitem(sys.modules, runtime, None)
    with pytest.raises(EngineError, match=rf'{runtime}: .*pip install {runtime}'):
        load_engine(package, runtime)


def test_auto_takes_the_next_where_one_is_missing(package, crops, monkeypatch):
    first, second = CPU_RUNTIMES
    monkeypatch.delitem(sys.modules, f'tracker_ros.runtime.{first}_engine', raising=False)
    monkeypatch.setitem(sys.modules, first, None)
    engine = load_engine(package)
    assert second in engine.name
    assert set(answers(engine, crops)) >= {'score', 'size', 'offset'}


def test_where_none_works_each_says_why(package):
    (package.graphs['search'].path).write_bytes(b'no network')
    with pytest.raises(
        EngineError, match=r'(?s)m \(.*csrt.*\)\. tensorrt: .*; openvino: .*; onnxruntime: '
    ) as caught:
        load_engine(package)
    assert str(caught.value).count(str(package.folder)) >= 2


def test_an_unknown_runtime_is_named(package):
    with pytest.raises(EngineError, match=r"no runtime 'tpu'; known are auto, tensorrt"):
        load_engine(package, 'tpu')


def test_a_negative_number_of_threads_is_refused(package):
    with pytest.raises(EngineError, match=r'threads must be 0 .* not -1'):
        load_engine(package, threads=-1)
