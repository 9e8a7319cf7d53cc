# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime's GPU providers: they are in the session, or it is an error."""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime
import pytest
from fake_tensorrt import compile_cudart
from fakes import make_package
from small_graphs import crops, make_small

from tracker_ros.runtime import cuda as cuda_module
from tracker_ros.runtime import onnxruntime_cuda_engine, onnxruntime_gpu
from tracker_ros.runtime.engine import EngineError, load_engine
from tracker_ros.runtime.onnxruntime_gpu import OnnxRuntimeGpuEngine
from tracker_ros.runtime.package import read_package

NAMES = {
    'onnxruntime_cuda': 'CUDAExecutionProvider',
    'onnxruntime_tensorrt': 'TensorrtExecutionProvider',
}


@pytest.fixture(params=NAMES)
def runtime(request):
    return request.param


@pytest.fixture
def package(tmp_path):
    return make_small(tmp_path / 'small')


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    library = compile_cudart(tmp_path)
    monkeypatch.setattr(cuda_module, '_candidates', lambda: iter([library._name]))
    return library


@pytest.fixture
def all_providers(monkeypatch):
    """As onnxruntime-gpu says on every machine, with a GPU or without."""
    names = [*NAMES.values(), 'CPUExecutionProvider']
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: names)


def on_the_cpu(package):
    """The same code, with the one provider that is everywhere."""
    return OnnxRuntimeGpuEngine(package, (('CPUExecutionProvider', {}),), 'cpu', 1)


@pytest.mark.filterwarnings('ignore:Specified provider')
def test_a_silent_fall_back_is_an_error(gpu, all_providers, package, runtime):
    """This ONNX Runtime has no such provider, and takes the CPU as it does without a driver."""
    taken = onnxruntime.InferenceSession(
        package.graphs['search'].path, providers=[NAMES[runtime], 'CPUExecutionProvider']
    ).get_providers()
    assert taken == ['CPUExecutionProvider'], 'else this test shows nothing'
    with pytest.raises(
        EngineError, match=rf'{NAMES[runtime]} did not load, and CPUExecutionProvider took its'
    ):
        load_engine(package, runtime)


@pytest.mark.filterwarnings('ignore:Specified provider')
def test_auto_goes_on_and_says_why(gpu, all_providers, package, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    monkeypatch.setitem(sys.modules, 'tensorrt_rtx', None)
    engine = load_engine(package)
    assert engine.name == 'openvino (CPU, fp32)'
    tensorrt, cuda, torch = engine.rejected
    assert tensorrt.startswith('tensorrt: ')
    assert cuda.startswith('onnxruntime_cuda: ')
    assert 'did not load' in cuda
    assert torch.startswith('torch_cuda: ')


def test_a_library_without_the_provider_says_what_to_install(gpu, package, runtime, monkeypatch):
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: ['CPUExecutionProvider'])
    with pytest.raises(
        EngineError, match=rf'has no {NAMES[runtime]}; pip install onnxruntime-gpu'
    ):
        load_engine(package, runtime)


def test_without_a_gpu_the_reason_is_that(gpu, package, runtime):
    gpu.fake_fail(b'cudaGetDeviceCount', 100, 0)
    with pytest.raises(EngineError, match='no CUDA-capable device'):
        load_engine(package, runtime)


def test_without_the_library_it_says_what_to_install(gpu, package, runtime, monkeypatch):
    monkeypatch.delitem(sys.modules, 'tracker_ros.runtime.onnxruntime_gpu')
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(EngineError, match='pip install onnxruntime-gpu'):
        load_engine(package, runtime)


def test_a_package_that_does_not_load_is_named(gpu, package, monkeypatch):
    monkeypatch.setattr(onnxruntime_cuda_engine, 'PROVIDERS', (('CPUExecutionProvider', {}),))
    package.graphs['search'].path.write_bytes(b'no graph')
    with pytest.raises(EngineError, match=f'cannot load {package.folder}'):
        load_engine(package, 'onnxruntime_cuda')


def test_the_name_says_what_it_runs_on(package):
    assert on_the_cpu(package).name == 'onnxruntime (CPU)'


def test_fp32_is_not_rounded():
    assert dict(onnxruntime_cuda_engine.PROVIDERS)['CUDAExecutionProvider'] == {'use_tf32': '0'}


def test_what_is_cached_stays_on_the_device(package):
    templates, _ = crops(1)
    cached = on_the_cpu(package).template(**templates[0])
    assert {type(value).__name__ for value in cached.values()} == {'OrtValue'}


@pytest.mark.parametrize('batch', ['N', '1'])
@pytest.mark.parametrize('half', [False, True])
def test_it_answers_as_on_the_cpu(tmp_path, batch, half):
    package = make_small(tmp_path / 'other', half=half, batch=batch)
    engine, reference = on_the_cpu(package), load_engine(package, 'onnxruntime', 1)
    templates, searches = crops(3)
    targets = [engine.template(**crops) for crops in templates]
    others = [reference.template(**crops) for crops in templates]
    expected = reference.search_many(searches, others)
    for order in ([0, 1, 2], [2, 0, 1], [1, 0], [1]):
        found = engine.search_many(searches[order], [targets[place] for place in order])
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value[order], atol=1e-6)
    alone = engine.search(searches[1], targets[1])
    np.testing.assert_allclose(alone['box'], expected['box'][1:2], atol=1e-6)


def test_templates_are_joined_once(package, monkeypatch):
    engine = on_the_cpu(package)
    templates, searches = crops(2)
    targets = [engine.template(**crops) for crops in templates]
    joined = []
    original = onnxruntime_gpu.np.concatenate
    monkeypatch.setattr(
        onnxruntime_gpu.np, 'concatenate', lambda parts: joined.append(1) or original(parts)
    )
    for _ in range(3):
        engine.search_many(searches, targets)
    assert len(joined) == 2, 'one for each cached tensor'


def test_further_graphs_run_there_too(tmp_path):
    package = read_package(make_package(tmp_path / 'm', 'siam_attn'))
    engine = on_the_cpu(package)
    template, search = (np.full((side, side, 3), 90, np.uint8) for side in (31, 63))
    outputs = engine.search(search, engine.template(template))
    found = engine.run('mask', {**outputs, 'roi': np.float32([[8, 8, 40, 40]])})
    assert found['mask_logits'] == pytest.approx(4.0)
