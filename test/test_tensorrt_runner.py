# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Plans that run on the GPU give what ONNX Runtime gives, and nothing of the GPU is lost."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from fake_tensorrt import VERSIONS, fake_gpu
from small_graphs import crops, make_small

from tracker_ros.runtime.engine import EngineError, load_engine
from tracker_ros.runtime.engine_cache import EngineCache
from tracker_ros.runtime.tensorrt_builder import Recipe, build_plan, find_toolkit
from tracker_ros.runtime.tensorrt_runner import Network, TensorRtEngine


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
def engines(tmp_path):
    """Makes engines, without a cache, and closes them."""
    made = []
    cache = EngineCache(tmp_path / 'engines')
    (tmp_path / 'engines').mkdir()

    def network(toolkit, graph, max_batch):
        recipe = Recipe(graph, max_batch, 'fp32')
        side = cache.side_file('side')
        plan = build_plan(toolkit, recipe, side, lambda fraction: None, threading.Event())
        return Network(toolkit, plan, cache.side_file('kernels'))

    def make(package, max_batch=4, template_of=None):
        toolkit = find_toolkit()
        template = network(toolkit, (template_of or package).graphs['template'], 1)
        search = network(toolkit, package.graphs['search'], max_batch)
        engine = TensorRtEngine(toolkit, template, search, 'fp32', max_batch)
        made.append(weakref.ref(engine))
        return engine

    yield make
    for reference in made:
        engine = reference()
        if engine is not None:
            engine.close()


@pytest.fixture
def reference(package):
    return load_engine(package, 'onnxruntime', 1)


def one_by_one(engine, templates, searches):
    targets = [engine.template(**crops) for crops in templates]
    return [engine.search(crop, target) for crop, target in zip(searches, targets, strict=True)]


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-6, err_msg=name)


def test_it_answers_as_onnx_runtime_does(any_gpu, engines, package, reference):
    templates, searches = crops(3)
    found = one_by_one(engines(package), templates, searches)
    expected = one_by_one(reference, templates, searches)
    for one, other in zip(found, expected, strict=True):
        assert_equal(one, other)
    assert np.ptp([one['score'] for one in expected]) > 0.01, 'the targets should differ'


def test_half_precision_stays_on_the_gpu(any_gpu, engines, tmp_path):
    package = make_small(tmp_path / 'half', half=True)
    templates, searches = crops(2)
    found = one_by_one(engines(package), templates, searches)
    expected = one_by_one(load_engine(package, 'onnxruntime', 1), templates, searches)
    for one, other in zip(found, expected, strict=True):
        assert_equal(one, other)


def test_every_version_takes_several_batch_sizes(any_gpu, engines, package, reference):
    engine = engines(package)
    templates, searches = crops(3)
    targets = [engine.template(**crops) for crops in templates]
    others = [reference.template(**crops) for crops in templates]
    for count in (1, 3, 2, 1):
        found = engine.search_many(searches[:count], targets[:count])
        assert_equal(found, reference.search_many(searches[:count], others[:count]))


@pytest.mark.parametrize('count', [1, 2, 4, 5, 9])
def test_many_targets_are_one_call_or_a_few(gpu, engines, package, reference, count):
    engine = engines(package, max_batch=4)
    templates, searches = crops(count)
    targets = [engine.template(**crops) for crops in templates]
    engine.search_many(searches, targets)
    before = gpu.behaviour.runs
    found = engine.search_many(searches, targets)
    assert gpu.behaviour.runs - before == -(-count // 4)
    expected = reference.search_many(
        searches, [reference.template(**crops) for crops in templates]
    )
    assert found['box'].shape == (count, 4)
    assert_equal(found, expected)


def test_a_graph_with_a_fixed_batch_runs_one_after_the_other(gpu, engines, tmp_path):
    package = make_small(tmp_path / 'one', batch='1')
    engine, other = engines(package), load_engine(package, 'onnxruntime', 1)
    assert engine.max_batch == 1
    templates, searches = crops(3)
    found = engine.search_many(searches, [engine.template(**crops) for crops in templates])
    expected = other.search_many(searches, [other.template(**crops) for crops in templates])
    assert_equal(found, expected)


def test_targets_may_change_places(gpu, engines, package, reference):
    engine = engines(package)
    templates, searches = crops(3)
    targets = [engine.template(**crops) for crops in templates]
    expected = one_by_one(reference, templates, searches)
    for order in ([0, 1, 2], [2, 1, 0], [1, 1, 0], [0], [2], [1, 2]):
        found = engine.search_many(searches[order], [targets[place] for place in order])
        for row, place in enumerate(order):
            alone = {name: value[row : row + 1] for name, value in found.items()}
            assert_equal(alone, expected[place])


def test_a_new_template_in_the_memory_of_an_old_one_is_seen(gpu, engines, package, reference):
    """The memory is the same, the target is not."""
    engine = engines(package)
    templates, searches = crops(5)
    expected = one_by_one(reference, templates, searches)
    device = set()
    for crop, templates_of_one, right in zip(searches, templates, expected, strict=True):
        target = engine.template(**templates_of_one)
        assert_equal(engine.search(crop, target), right)
        del target
        device.add(gpu.live('device'))
    assert len(device) == 1, 'templates that are gone give their memory to the next'


def test_what_a_search_gave_is_not_overwritten(gpu, engines, package):
    engine = engines(package)
    templates, searches = crops(2)
    target = engine.template(**templates[0])
    first = engine.search(searches[0], target)
    kept = {name: value.copy() for name, value in first.items()}
    engine.search(searches[1], target)
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)


def test_the_template_stays_on_the_gpu(gpu, engines, package):
    engine = engines(package)
    templates, _ = crops(1)
    before = gpu.live('pinned')
    target = engine.template(**templates[0])
    assert gpu.live('pinned') == before
    assert gpu.live('device') > 0
    del target


def test_a_frame_is_one_launch_of_a_graph(gpu, engines, package):
    engine = engines(package)
    templates, searches = crops(1)
    target = engine.template(**templates[0])
    engine.search(searches[0], target)
    before = gpu.live('launches')
    for _ in range(5):
        engine.search(searches[0], target)
    assert gpu.live('launches') - before == 5
    assert gpu.live('graphs') == 1
    assert engine.note == ''


def test_cached_tensors_are_copied_when_they_change(gpu, engines, package):
    engine = engines(package)
    templates, searches = crops(2)
    targets = [engine.template(**crops) for crops in templates]
    engine.search(searches[0], targets[0])

    def copies(target):
        before = gpu.live('copies')
        engine.search(searches[0], target)
        return gpu.live('copies') - before

    assert [copies(targets[place]) for place in (0, 1, 1, 0)] == [0, 2, 0, 2]


@pytest.mark.parametrize(
    'function',
    ['cudaStreamBeginCapture', 'cudaStreamEndCapture', 'cudaGraphInstantiateWithFlags'],
)
def test_without_a_graph_it_works_on_and_says_so(
    gpu, engines, package, reference, caplog, function
):
    gpu.fail(function, 900)
    engine = engines(package)
    templates, searches = crops(3)
    found = one_by_one(engine, templates, searches)
    for one, other in zip(found, one_by_one(reference, templates, searches), strict=True):
        assert_equal(one, other)
    assert (gpu.live('graphs'), gpu.live('launches')) == (0, 0)
    assert 'without a CUDA graph' in caplog.text
    assert engine.note.startswith('without CUDA graph: ')
    assert function in engine.note


def test_kernels_of_rtx_are_compiled_at_once_and_kept(monkeypatch, tmp_path, engines, package):
    with fake_gpu(monkeypatch, tmp_path, 'rtx'):
        engine = engines(package)
        config = engine._search._just_in_time.config
        assert config.dynamic_shapes_kernel_specialization_strategy.name == 'EAGER'
        assert config.cache is not None
        engine._search.keep_kernels()
        assert EngineCache(tmp_path / 'engines').side_file('kernels').read() == b'kernels'


def test_kernels_of_another_driver_are_compiled_anew(monkeypatch, tmp_path, engines, package):
    kernels = EngineCache(tmp_path / 'engines').side_file('kernels')
    kernels.write(b'of another driver')
    with fake_gpu(monkeypatch, tmp_path, 'rtx'):
        engine = engines(package)
        engine._search.keep_kernels()
        assert kernels.read() == b'kernels'


# -- what is refused ---------------------------------------------------------------------------


def test_a_plan_that_is_none_is_refused(any_gpu, tmp_path):
    side = EngineCache(tmp_path).side_file('kernels')
    with pytest.raises(EngineError, match='cannot load the engine: Error Code 1: Serialization'):
        Network(find_toolkit(), b'garbage' * 100, side)


def test_graphs_that_do_not_belong_together_are_refused(gpu, engines, package, tmp_path):
    other = make_small(tmp_path / 'half', half=True)
    engine = engines(package, template_of=other)
    templates, searches = crops(1)
    target = engine.template(**templates[0])
    with pytest.raises(EngineError, match=r'HALF.* but .*FLOAT.* do not belong together'):
        engine.search(searches[0], target)


def test_crops_of_another_size_are_refused(gpu, engines, package):
    engine = engines(package)
    templates, searches = crops(1)
    target = engine.template(**templates[0])
    with pytest.raises(EngineError, match=r"crop 'search' is \(1, 30, 32, 3\) uint8, the model"):
        engine.search(searches[0][:30], target)
    with pytest.raises(EngineError, match=r"crop 'search' is .* float64"):
        engine.search(searches[0].astype(float), target)
    with pytest.raises(EngineError, match="crop 'online' is"):
        engine.template(templates[0]['template'], online=searches[0])


def test_template_crops_of_other_names_are_refused(gpu, engines, package):
    engine = engines(package)
    templates, _ = crops(1)
    with pytest.raises(EngineError, match=r"are \['template', 'online'\], not \['template'\]"):
        engine.template(templates[0]['template'])


def test_crops_and_targets_must_be_as_many(gpu, engines, package):
    engine = engines(package)
    templates, searches = crops(2)
    target = engine.template(**templates[0])
    with pytest.raises(EngineError, match='2 crops and 1 templates'):
        engine.search_many(searches, [target])
    with pytest.raises(EngineError, match='0 crops and 0 templates'):
        engine.search_many(searches[:0], [])


def test_a_template_of_another_engine_is_refused(gpu, engines, package, reference):
    engine, other = engines(package), engines(package)
    templates, searches = crops(1)
    for stranger in (other.template(**templates[0]), reference.template(**templates[0])):
        with pytest.raises(EngineError, match='computed by another engine'):
            engine.search(searches[0], stranger)


# -- memory ------------------------------------------------------------------------------------


def nothing_left(gpu):
    return [gpu.live(what) for what in ('device', 'pinned', 'graphs', 'streams')] == [0, 0, 0, 0]


def test_closing_gives_everything_back(gpu, engines, package):
    engine = engines(package)
    templates, searches = crops(3)
    targets = [engine.template(**crops) for crops in templates]
    engine.search_many(searches, targets)
    engine.search(searches[0], targets[0])
    assert not nothing_left(gpu)
    engine.close()
    assert nothing_left(gpu)
    engine.close()


def test_so_does_letting_go(gpu, engines, package):
    engine = engines(package)
    templates, searches = crops(1)
    target = engine.template(**templates[0])
    engine.search(searches[0], target)
    assert not nothing_left(gpu)
    del engine, target
    gc.collect()
    assert nothing_left(gpu)


def test_after_closing_nothing_runs(gpu, engines, package):
    engine = engines(package)
    templates, searches = crops(1)
    target = engine.template(**templates[0])
    engine.close()
    with pytest.raises(EngineError, match='was closed'):
        engine.search(searches[0], target)
    with pytest.raises(EngineError, match='was closed'):
        engine.template(**templates[0])


@pytest.mark.parametrize('after', range(6))
def test_memory_that_runs_out_is_told_and_nothing_is_lost(gpu, engines, package, after):
    engine = engines(package)
    templates, searches = crops(2)
    targets = [engine.template(**crops) for crops in templates]
    engine.search(searches[0], targets[0])
    before = gpu.live('device'), gpu.live('pinned')
    gpu.fail('cudaMalloc' if after < 4 else 'cudaMallocHost', 2, after % 4)
    with pytest.raises(EngineError, match='out of memory'):
        engine.search_many(searches, targets)
    assert (gpu.live('device'), gpu.live('pinned')) == before
    assert engine.search_many(searches, targets)['box'].shape == (2, 4), 'with room again'


def test_memory_that_runs_out_while_it_is_loaded(gpu, engines, package):
    gpu.fail('cudaMalloc', 2, 1)
    with pytest.raises(EngineError, match='out of memory'):
        engines(package)
    assert nothing_left(gpu)


def test_a_gpu_that_is_lost_is_told(gpu, engines, package):
    engine = engines(package)
    templates, searches = crops(1)
    target = engine.template(**templates[0])
    engine.search(searches[0], target)
    gpu.fail('cudaStreamSynchronize', 719)
    with pytest.raises(EngineError, match=r'CUDA error 719\); the GPU is lost'):
        engine.search(searches[0], target)


# -- renewed -----------------------------------------------------------------------------------


def renewed_scores(engine, value):
    """Scores before, with the colour renewed, and of the target as it was."""
    templates, searches = crops(1)
    target = engine.template(**templates[0])
    before = engine.search(searches[0], target)['score'].copy()
    other = engine.renewed(target, colour=np.full(3, value, np.float32))
    changed = engine.search(searches[0], other)['score'].copy()
    return np.concatenate([before, changed, engine.search(searches[0], target)['score']])


@pytest.mark.parametrize('half', [False, True])
def test_a_cached_tensor_can_be_renewed(any_gpu, engines, tmp_path, half):
    package = make_small(tmp_path / 'package', half=half)
    found = renewed_scores(engines(package), 30.3)
    expected = renewed_scores(load_engine(package, 'onnxruntime', 1), 30.3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert found[1] != pytest.approx(found[0], abs=0.01)
    assert found[2] == found[0], 'the target itself stays as it was'


def test_what_is_renewed_stays_apart_in_a_batch(gpu, engines, package, reference):
    templates, searches = crops(3)
    found = []
    for engine in (engines(package), reference):
        targets = [engine.template(**crops) for crops in templates]
        targets[1] = engine.renewed(targets[1], colour=np.float32([9, 200, 40]))
        found.append(engine.search_many(searches, targets))
        targets[1] = engine.renewed(targets[1], contrast=np.full((1, 3), 17, np.float32))
        found[-1] = {**found[-1], 'again': engine.search_many(searches, targets)['box']}
    assert_equal(*found)


def test_only_what_was_renewed_is_copied_and_memory_is_used_again(gpu, engines, package):
    engine = engines(package)
    templates, searches = crops(1)
    target = engine.template(**templates[0])
    engine.search(searches[0], target)
    copies, device, pinned = [], [], []
    for value in range(5):
        before = gpu.live('copies')
        target = engine.renewed(target, colour=np.full(3, value, np.float32))
        engine.search(searches[0], target)
        copies.append(gpu.live('copies') - before)
        device.append(gpu.live('device'))
        pinned.append(gpu.live('pinned'))
    assert copies == [2] * 5, 'one to the GPU, one to where the network reads'
    assert len(set(device[1:])) == len(set(pinned)) == 1


def test_what_cannot_be_renewed_is_named(gpu, engines, package, reference):
    engine = engines(package)
    templates, _ = crops(1)
    target = engine.template(**templates[0])
    with pytest.raises(EngineError, match=r"'color' is no cached tensor; there are colour, contr"):
        engine.renewed(target, color=np.zeros(3, np.float32))
    with pytest.raises(EngineError, match=r"'colour' is \(3,\) FLOAT .* renewed with \(4,\) floa"):
        engine.renewed(target, colour=np.zeros(4, np.float32))
    with pytest.raises(EngineError, match='computed by another engine'):
        engine.renewed(reference.template(**templates[0]), colour=np.zeros(3, np.float32))
    engine.close()
    with pytest.raises(EngineError, match='was closed'):
        engine.renewed(target, colour=np.zeros(3, np.float32))
