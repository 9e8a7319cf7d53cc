# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Compiling with what TensorRT 8.6, 10, 11 and TensorRT-RTX have in common, on a fake of each."""

from __future__ import annotations

import re
import sys
import threading
import types

import onnx
import pytest
from fake_tensorrt import DEVICE, VERSIONS, fake_gpu
from small_graphs import SEARCH_PX, make_small

from tracker_ros.runtime.cuda import Device
from tracker_ros.runtime.engine import EngineError
from tracker_ros.runtime.engine_cache import BuildCancelledError, EngineCache
from tracker_ros.runtime.package import Graph
from tracker_ros.runtime.tensorrt_builder import (
    Progress,
    Recipe,
    build_plan,
    find_toolkit,
    make_toolkit,
)


@pytest.fixture(params=VERSIONS)
def gpu(request, monkeypatch, tmp_path):
    with fake_gpu(monkeypatch, tmp_path, request.param) as gpu:
        yield gpu


@pytest.fixture
def gpu_10(monkeypatch, tmp_path):
    with fake_gpu(monkeypatch, tmp_path, '10') as gpu:
        yield gpu


@pytest.fixture
def gpu_8(monkeypatch, tmp_path):
    with fake_gpu(monkeypatch, tmp_path, '8.6') as gpu:
        yield gpu


@pytest.fixture
def package(tmp_path):
    return make_small(tmp_path / 'small')


@pytest.fixture
def timing(tmp_path):
    (tmp_path / 'engines').mkdir()
    return EngineCache(tmp_path / 'engines').side_file('timing')


def build(graph, timing, report=lambda fraction: None, cancelled=None, max_batch=8):
    return build_plan(
        find_toolkit(),
        Recipe(graph, max_batch, 'fp32'),
        timing,
        report,
        cancelled or threading.Event(),
    )


def graph_of(model, tmp_path):
    path = tmp_path / 'made.onnx'
    path.write_bytes(onnx.parser.parse_model(model).SerializeToString())
    return Graph(path, '0' * 64)


def test_the_toolkit_is_what_is_there(gpu):
    toolkit = find_toolkit()
    assert (toolkit.flavour, toolkit.version) == (gpu.module.__name__, gpu.module.__version__)
    assert toolkit.device == DEVICE


def test_without_tensorrt_it_says_what_to_install(gpu_10, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    with pytest.raises(EngineError, match=r'tensorrt: .*; tensorrt_rtx: .*pip install tensorrt'):
        find_toolkit()


def test_a_broken_installation_is_told_and_the_other_taken(gpu_10, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorrt', types.ModuleType('tensorrt'))
    with pytest.raises(EngineError, match=r'tensorrt: .*has no attribute'):
        find_toolkit()
    monkeypatch.setitem(sys.modules, 'tensorrt_rtx', gpu_10.module)
    assert find_toolkit().flavour == 'tensorrt_rtx'


def test_without_a_gpu_no_tensorrt_is_imported(gpu_10, monkeypatch):
    gpu_10.fail('cudaGetDeviceCount', 100)
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    with pytest.raises(EngineError, match='no CUDA-capable device') as caught:
        find_toolkit()
    assert 'pip install tensorrt' not in str(caught.value)


def test_a_plan_is_built_with_every_version(gpu, package, timing):
    build(package.graphs['search'], timing)
    (built,) = gpu.behaviour.builds
    one, most = [1, SEARCH_PX, SEARCH_PX, 3], [8, SEARCH_PX, SEARCH_PX, 3]
    assert [list(shape) for shape in built['profile']['search']] == [one, one, most]
    assert [list(shape) for shape in built['profile']['colour']] == [[1, 3], [1, 3], [8, 3]]


def test_fp32_is_not_rounded(gpu, package, timing):
    build(package.graphs['search'], timing)
    assert gpu.behaviour.builds[0]['flags'] == []


def test_tensorrt_8_is_held_to_the_types_of_the_graph(gpu_8, tmp_path, timing):
    package = make_small(tmp_path / 'half', half=True)
    build(package.graphs['template'], timing)
    (built,) = gpu_8.behaviour.builds
    assert built['flags'] == ['FP16', 'OBEY_PRECISION_CONSTRAINTS']
    assert built['held'] > 3, 'layers that give fp32 stay there'


def test_quantised_graphs_are_int8_for_tensorrt_8(gpu_8, tmp_path, timing):
    graph = graph_of(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 4] x) => (float[N, 4] y) <float scale = {0.1}, int8 zero = {0}>
        {
            q = QuantizeLinear (x, scale, zero)
            y = DequantizeLinear (q, scale, zero)
        }
        """,
        tmp_path,
    )
    build(graph, timing)
    assert gpu_8.behaviour.builds[0]['flags'] == ['INT8']


def test_a_fixed_batch_needs_no_profile(gpu_10, tmp_path, timing):
    build(make_small(tmp_path / 'one', batch='1').graphs['search'], timing)
    assert gpu_10.behaviour.builds[0]['profile'] == {}


@pytest.mark.parametrize('shape', ['2, N', 'N, M'])
def test_only_the_batch_may_be_free(gpu_10, tmp_path, timing, shape):
    graph = graph_of(
        f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[{shape}] x) => (float[{shape}] y) {{ y = Relu (x) }}
        """,
        tmp_path,
    )
    with pytest.raises(EngineError, match=r"input 'x' is .*; only the first dimension"):
        build(graph, timing)


def test_a_profile_that_is_refused_is_told(gpu_10, package, timing):
    with pytest.raises(EngineError, match='refused batches of 1 to 0'):
        build(package.graphs['search'], timing, max_batch=0)


def test_a_graph_that_cannot_be_read_is_named(gpu, package, timing):
    path = package.graphs['search'].path
    path.write_bytes(b'no graph')
    with pytest.raises(EngineError, match=rf'cannot read {re.escape(str(path))}: Failed to parse'):
        build(package.graphs['search'], timing)


def test_what_the_parser_refuses_is_told(gpu_10, tmp_path, timing):
    graph = graph_of(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        g (uint8[1, 4] x) => (uint8[4, 1] y) { y = Transpose (x) }
        """,
        tmp_path,
    )
    with pytest.raises(EngineError, match='Transpose: UInt8 not allowed'):
        build(graph, timing)


def test_a_build_that_fails_tells_what_tensorrt_said(gpu, package, timing):
    gpu.behaviour.refuse_to_build = 'Error Code 10: could not find any implementation for node x'
    with pytest.raises(EngineError, match=r'cannot build .*search\.onnx: Error Code 10: could'):
        build(package.graphs['search'], timing)


def test_the_last_error_is_not_told_again(gpu_10, package, timing):
    toolkit = find_toolkit()
    toolkit.errors.append('an error of long ago')
    gpu_10.behaviour.refuse_to_build = 'an error of now'
    recipe = Recipe(package.graphs['search'], 8, 'fp32')
    with pytest.raises(EngineError) as caught:
        build_plan(toolkit, recipe, timing, lambda fraction: None, threading.Event())
    assert str(caught.value).endswith(': an error of now')


# -- TensorRT-RTX ------------------------------------------------------------------------------


def test_rtx_is_told_what_to_build_for(monkeypatch, tmp_path, package, timing):
    with fake_gpu(monkeypatch, tmp_path, 'rtx') as gpu:
        build(package.graphs['search'], timing)
        assert gpu.behaviour.builds[0]['capability'] == 'SM89'


def test_a_gpu_that_rtx_does_not_know_is_named(monkeypatch, tmp_path, package, timing):
    with fake_gpu(monkeypatch, tmp_path, 'rtx') as gpu:
        toolkit = make_toolkit(gpu.module, 'tensorrt_rtx', gpu.cuda, Device('NVIDIA H200', (9, 0)))
        recipe = Recipe(package.graphs['search'], 8, 'fp32')
        with pytest.raises(EngineError, match=r'capability 9\.0 \(NVIDIA H200\); pip install'):
            build_plan(toolkit, recipe, timing, lambda fraction: None, threading.Event())


# -- timings -----------------------------------------------------------------------------------


@pytest.mark.parametrize('version', ['8.6', '10', '11'])
def test_what_one_build_measured_the_next_one_takes(
    monkeypatch, tmp_path, package, timing, version
):
    with fake_gpu(monkeypatch, tmp_path, version):
        build(package.graphs['template'], timing)
        first = timing.read()
        build(package.graphs['search'], timing)
        assert timing.read() == first + b' +1'


def test_timings_of_another_version_are_dropped(gpu_10, package, timing):
    timing.write(b'timings of 8.6.1 +1')
    build(package.graphs['search'], timing)
    assert timing.read() == b'timings of 10.13.3 +1'


# -- progress ----------------------------------------------------------------------------------


def test_progress_is_told(gpu, package, timing):
    told = []
    build(package.graphs['search'], timing, told.append)
    if gpu.module.__version__.startswith('8'):
        assert told == [], 'TensorRT 8 tells nothing'
        return
    assert told == sorted(told)
    assert told[0] == 0.25
    assert told[-1] == 1.0
    assert len(set(told)) == 4


def test_a_build_ends_where_it_is_cancelled(gpu_10, package, timing):
    cancelled = threading.Event()
    seen = []

    def before_step(step):
        seen.append(step)
        if step == 1:
            cancelled.set()

    gpu_10.behaviour.before_step = before_step
    with pytest.raises(BuildCancelledError):
        build(package.graphs['search'], timing, cancelled=cancelled)
    assert seen == [0, 1]
    assert timing.read() == b''


def test_a_version_that_cannot_be_stopped_is_not_believed_either(gpu_8, package, timing):
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(BuildCancelledError):
        build(package.graphs['search'], timing, cancelled=cancelled)


def test_phases_of_phases_add_up():
    progress = Progress()
    progress.start('all', None, 4)
    assert progress.complete('all', 0) == 0.25
    progress.start('part', 'all', 2)
    assert progress.complete('part', 0) == 0.375
    progress.start('piece', 'part', 10)
    assert progress.complete('piece', 4) == pytest.approx(0.4375)
    progress.finish('piece')
    assert progress.complete('part', 1) == 0.5
    progress.finish('part')
    assert progress.complete('all', 1) == 0.5
    assert progress.complete('all', 3) == 1.0


def test_progress_never_goes_back():
    progress = Progress()
    progress.start('first', None, 2)
    assert progress.complete('first', 0) == 0.5
    progress.finish('first')
    progress.start('second', None, 10)
    assert progress.complete('second', 0) == 0.5, 'a second phase was not announced'
    assert progress.complete('second', 8) == 0.9


def test_more_steps_than_announced_do_not_matter():
    """Seen in TensorRT-RTX 1.7."""
    progress = Progress()
    progress.start('all', None, 2)
    progress.start('part', 'all', 3)
    assert [progress.complete('part', step) for step in range(5)][-1] == 0.5
    progress.finish('part')
    progress.complete('all', 1)
    progress.start('late', 'all', 3)
    assert progress.complete('late', 0) == 1.0


def test_phases_that_were_not_begun_do_not_matter():
    progress = Progress()
    assert progress.complete('unknown', 3) == 0.0
    progress.start('part', 'unknown', 0)
    assert progress.complete('part', 0) == 1.0
    assert progress.finish('unknown') == 1.0
