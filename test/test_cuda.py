# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The layer over the CUDA runtime, against a runtime without a GPU; and the real one, if any."""

from __future__ import annotations

import ctypes
import re
import sys

import numpy as np
import pytest
from fake_tensorrt import compile_cudart

from tracker_ros.runtime import cuda as cuda_module
from tracker_ros.runtime.cuda import Cuda, CudaError, Memory, find_cuda


@pytest.fixture
def library(tmp_path):
    return compile_cudart(tmp_path)


@pytest.fixture
def cuda(library):
    return Cuda(library)


@pytest.fixture
def memory(cuda):
    memory = Memory(cuda)
    yield memory
    memory.close()


@pytest.fixture
def stream(cuda):
    stream = cuda.create_stream()
    yield stream
    cuda.destroy_stream(stream)


def candidates(monkeypatch, *names):
    monkeypatch.setattr(cuda_module, '_candidates', lambda: iter(names))


def test_the_device_is_described(cuda):
    device = cuda.device()
    assert device.name == 'Fake GPU'
    assert device.compute_capability == (8, 9)


def test_bytes_go_to_the_gpu_and_back(cuda, memory, stream):
    there = memory.pinned((2, 3), np.float32)
    back = memory.pinned((2, 3), np.float32)
    place = memory.device(there.nbytes)
    assert not there.any(), 'new memory is zeros'
    there[...] = np.arange(6).reshape(2, 3)
    cuda.copy(place, there.ctypes.data, there.nbytes, stream)
    cuda.copy(back.ctypes.data, place, back.nbytes, stream)
    cuda.synchronize(stream)
    np.testing.assert_array_equal(back, there)


def test_memory_is_given_back_all_at_once(cuda, library, memory):
    memory.device(10)
    memory.device(300)
    memory.pinned((4,), np.uint8)
    assert (library.fake_live(b'device'), library.fake_live(b'pinned')) == (2, 1)
    memory.close()
    assert (library.fake_live(b'device'), library.fake_live(b'pinned')) == (0, 0)


def test_an_error_tells_function_cause_and_remedy(cuda, library):
    library.fake_fail(b'cudaMalloc', 2, 0)
    with pytest.raises(CudaError, match=r'cudaMalloc: out of memory \(CUDA error 2\); free GPU'):
        cuda.allocate(100)
    assert cuda.allocate(100), 'and is not told once more by the next call'


def test_a_graph_does_what_was_recorded_each_time(cuda, memory, stream):
    source, target = memory.pinned((4,), np.uint8), memory.pinned((4,), np.uint8)
    graph = cuda.capture(
        stream, lambda: cuda.copy(target.ctypes.data, source.ctypes.data, 4, stream)
    )
    for value in (7, 9):
        source[...] = value
        cuda.synchronize(stream)
        assert (target != value).all(), 'nothing happens before it is launched'
        cuda.launch(graph, stream)
        cuda.synchronize(stream)
        assert (target == value).all()
    cuda.destroy_graph(graph)


@pytest.mark.parametrize(
    ('function', 'words'),
    [
        ('cudaStreamBeginCapture', 'cudaStreamBeginCapture'),
        ('cudaStreamEndCapture', 'cudaStreamEndCapture'),
        ('cudaGraphInstantiateWithFlags', 'cudaGraphInstantiateWithFlags'),
        ('cudaMemcpyAsync', 'cudaMemcpyAsync'),
    ],
)
def test_a_stream_works_on_after_a_capture_that_failed(
    cuda, library, memory, stream, function, words
):
    source, target = memory.pinned((4,), np.uint8), memory.pinned((4,), np.uint8)

    def copy():
        cuda.copy(target.ctypes.data, source.ctypes.data, 4, stream)

    library.fake_fail(function.encode(), 1, 0)
    with pytest.raises(CudaError, match=words):
        cuda.capture(stream, copy)
    source[...] = 5
    copy()
    cuda.synchronize(stream)
    assert (target == 5).all()
    assert library.fake_live(b'graphs') == 0


def test_what_a_capture_does_not_survive_is_told(cuda, library, memory, stream):
    def allocate():
        cuda.allocate(8)

    with pytest.raises(CudaError, match=r'not permitted when stream is capturing'):
        cuda.capture(stream, allocate)
    with pytest.raises(CudaError, match='not permitted'):
        cuda.capture(stream, lambda: cuda.synchronize(stream))
    assert library.fake_live(b'graphs') == 0
    cuda.synchronize(stream)


def test_an_exception_in_the_work_of_a_capture_comes_through(cuda, stream):
    def fail():
        raise ValueError('of the caller')

    with pytest.raises(ValueError, match='of the caller'):
        cuda.capture(stream, fail)
    cuda.synchronize(stream)


def test_the_first_library_with_a_gpu_is_taken(library, monkeypatch, tmp_path, caplog):
    damaged = tmp_path / 'libcudart.so.13'
    damaged.write_bytes(b'no library')
    candidates(monkeypatch, 'libcudart.so.99', str(damaged), library._name)
    assert find_cuda().device().name == 'Fake GPU'


def test_without_a_library_it_says_what_to_install(monkeypatch):
    candidates(monkeypatch, 'libcudart.so.99')
    with pytest.raises(CudaError, match=r'no CUDA runtime library .*nvidia-cuda-runtime'):
        find_cuda()


def test_each_library_that_fails_says_why(library, monkeypatch, tmp_path):
    damaged = tmp_path / 'libcudart.so.13'
    damaged.write_bytes(b'no library')
    candidates(monkeypatch, str(damaged), 'libc.so.6', library._name)
    library.fake_fail(b'cudaGetDeviceCount', 100, 0)
    with pytest.raises(CudaError) as caught:
        find_cuda()
    told = str(caught.value)
    assert f'{damaged}: ' in told
    assert 'libc.so.6: too old' in told
    assert 'no CUDA-capable device is detected (CUDA error 100)' in told
    assert 'nvidia-smi' in told


def test_the_wheels_of_nvidia_are_looked_into(monkeypatch, tmp_path):
    for folder in ('cuda_runtime', 'cu13'):
        (tmp_path / 'nvidia' / folder / 'lib').mkdir(parents=True)
    twelve = tmp_path / 'nvidia' / 'cuda_runtime' / 'lib' / 'libcudart.so.12'
    thirteen = tmp_path / 'nvidia' / 'cu13' / 'lib' / 'libcudart.so.13'
    for path in (twelve, thirteen):
        path.touch()
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])
    for name in [name for name in sys.modules if name.partition('.')[0] == 'nvidia']:
        monkeypatch.delitem(sys.modules, name)
    found = list(cuda_module._candidates())
    assert found.index(str(thirteen)) < found.index('libcudart.so.12') < found.index(str(twelve))


def test_the_real_library_has_every_function():
    for name in cuda_module._candidates():
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        break
    else:
        pytest.skip('there is no CUDA runtime library on this machine')
    cuda = Cuda(library)
    try:
        cuda.device()
    except CudaError as error:
        told = str(error)
    else:
        return
    assert re.match(r'cudaGetDeviceCount: .* \(CUDA error \d+\)', told), told
