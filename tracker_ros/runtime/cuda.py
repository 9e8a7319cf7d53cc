# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The CUDA runtime library: memory, one stream, graphs. A thin layer over its C functions.

TensorRT wants addresses and a stream and brings no way to get them. A robot that runs TensorRT
has the CUDA runtime, but seldom PyTorch or CuPy, and needs neither for this.

The GPU is the first that CUDA shows; CUDA_VISIBLE_DEVICES chooses another.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tracker_ros.runtime.engine import EngineError

_log = logging.getLogger(__name__)

_NAMES = ('libcudart.so.13', 'libcudart.so.12', 'libcudart.so.11.0')
_TOOLKITS = ('cuda/lib64', 'cuda-*/lib64', 'cuda*/targets/*/lib')
_INSTALL = (
    'install the NVIDIA driver and the CUDA runtime (pip install nvidia-cuda-runtime for CUDA 13, '
    'nvidia-cuda-runtime-cu12 for CUDA 12; on a Jetson both come with JetPack)'
)

_REMEDIES = {
    2: 'free GPU memory or choose a smaller model',
    35: 'install or update the NVIDIA driver (nvidia-smi shows it)',
    100: 'check that nvidia-smi shows a GPU, and CUDA_VISIBLE_DEVICES',
    700: 'the GPU is lost to this process; restart it',
    719: 'the GPU is lost to this process; restart it',
}

_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76  # of enum cudaDeviceAttr
_COPY_BY_ADDRESS = 4  # cudaMemcpyDefault: the addresses tell what is on the device
_NON_BLOCKING = 1  # cudaStreamNonBlocking: never waits for the default stream
_OF_THIS_THREAD = 1  # cudaStreamCaptureModeThreadLocal: other threads may allocate meanwhile
_LARGEST_PROPERTIES_BYTES = 1 << 14  # cudaDeviceProp grew from 0.7 to 1.1 kB so far

_int_out = ctypes.POINTER(ctypes.c_int)
_address_out = ctypes.POINTER(ctypes.c_void_p)
_handle = ctypes.c_void_p
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    'cudaGetDeviceCount': (_int_out,),
    'cudaGetDeviceProperties': (ctypes.c_void_p, ctypes.c_int),
    'cudaDeviceGetAttribute': (_int_out, ctypes.c_int, ctypes.c_int),
    'cudaGetLastError': (),
    'cudaMalloc': (_address_out, ctypes.c_size_t),
    'cudaFree': (ctypes.c_void_p,),
    'cudaMallocHost': (_address_out, ctypes.c_size_t),
    'cudaFreeHost': (ctypes.c_void_p,),
    'cudaMemcpyAsync': (
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        _handle,
    ),
    'cudaStreamCreateWithFlags': (_address_out, ctypes.c_uint),
    'cudaStreamDestroy': (_handle,),
    'cudaStreamSynchronize': (_handle,),
    'cudaStreamBeginCapture': (_handle, ctypes.c_int),
    'cudaStreamEndCapture': (_handle, _address_out),
    # cudaGraphInstantiate takes other arguments since CUDA 12; this one is in 11.4 to 13.
    'cudaGraphInstantiateWithFlags': (_address_out, _handle, ctypes.c_ulonglong),
    'cudaGraphLaunch': (_handle, _handle),
    'cudaGraphDestroy': (_handle,),
    'cudaGraphExecDestroy': (_handle,),
}


class CudaError(EngineError):
    """The CUDA runtime is absent or refused a call."""


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU: 'NVIDIA GeForce RTX 4070', (8, 9)."""

    name: str
    compute_capability: tuple[int, int]


class Cuda:
    """The functions of a loaded libcudart. Each raises CudaError with CUDA's own words."""

    def __init__(self, library: Any) -> None:
        self._library = library
        try:
            for name, arguments in _FUNCTIONS.items():
                function = getattr(library, name)
                function.argtypes, function.restype = arguments, ctypes.c_int
            library.cudaGetErrorString.argtypes = (ctypes.c_int,)
            library.cudaGetErrorString.restype = ctypes.c_char_p
        except AttributeError as error:
            raise CudaError(f'too old: {error}; CUDA 11.4 or later is needed') from error

    def device(self) -> Device:
        count, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        self._call('cudaGetDeviceCount', ctypes.byref(count))
        if count.value < 1:
            raise CudaError(f'CUDA shows no GPU; {_REMEDIES[100]}')
        self._call('cudaDeviceGetAttribute', ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, 0)
        self._call('cudaDeviceGetAttribute', ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, 0)
        # The layout differs between versions of CUDA, but the name comes first in all of them.
        properties = ctypes.create_string_buffer(_LARGEST_PROPERTIES_BYTES)
        self._call('cudaGetDeviceProperties', properties, 0)
        return Device(properties.value.decode(errors='replace'), (major.value, minor.value))

    def copy(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """Queue a copy between device memory and pinned memory, either way, or on the device."""
        self._call('cudaMemcpyAsync', target, source, size_bytes, _COPY_BY_ADDRESS, stream)

    def create_stream(self) -> int:
        return self._created('cudaStreamCreateWithFlags', _NON_BLOCKING)

    def destroy_stream(self, stream: int) -> None:
        self._release('cudaStreamDestroy', stream)

    def synchronize(self, stream: int) -> None:
        """Wait until everything queued on `stream` is done. Other Python threads run meanwhile."""
        self._call('cudaStreamSynchronize', stream)

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """Record what `work` queues on `stream`, without doing it, as a graph to launch."""
        graph = ctypes.c_void_p()
        self._call('cudaStreamBeginCapture', stream, _OF_THIS_THREAD)
        try:
            work()
        except BaseException:
            # A stream left in capture mode would take no other work.
            self._library.cudaStreamEndCapture(stream, ctypes.byref(graph))
            self._library.cudaGetLastError()
            if graph.value:
                self._release('cudaGraphDestroy', graph)
            raise
        self._call('cudaStreamEndCapture', stream, ctypes.byref(graph))
        try:
            return self._created('cudaGraphInstantiateWithFlags', graph, 0)
        finally:
            self._release('cudaGraphDestroy', graph)

    def launch(self, graph: int, stream: int) -> None:
        self._call('cudaGraphLaunch', graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._release('cudaGraphExecDestroy', graph)

    def allocate(self, size_bytes: int) -> int:
        """The address of new device memory."""
        return self._created('cudaMalloc', size_bytes)

    def free(self, address: int) -> None:
        self._release('cudaFree', address)

    def allocate_pinned(self, size_bytes: int) -> int:
        """The address of new host memory that the GPU copies from and to by itself."""
        return self._created('cudaMallocHost', size_bytes)

    def free_pinned(self, address: int) -> None:
        self._release('cudaFreeHost', address)

    def _created(self, name: str, *arguments: Any) -> int:
        handle = ctypes.c_void_p()
        self._call(name, ctypes.byref(handle), *arguments)
        if handle.value is None:
            raise CudaError(f'{name} gave nothing')
        return handle.value

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            self._library.cudaGetLastError()  # else the next call may report it once more
            raise self._error(name, code)

    def _release(self, name: str, handle: Any) -> None:
        code = getattr(self._library, name)(handle)
        if code:  # it is gone either way, with the process at the latest
            _log.debug('%s', self._error(name, code))

    def _error(self, name: str, code: int) -> CudaError:
        words = self._library.cudaGetErrorString(code).decode(errors='replace')
        remedy = f'; {_REMEDIES[code]}' if code in _REMEDIES else ''
        return CudaError(f'{name}: {words} (CUDA error {code}){remedy}')


class Memory:
    """Device and pinned memory that is given back all at once."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._held = ExitStack()

    def device(self, size_bytes: int) -> int:
        """The address of new device memory."""
        address = self._cuda.allocate(size_bytes)
        self._held.callback(self._cuda.free, address)
        return address

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """A new array of zeros in pinned memory. It must not be touched after `close`."""
        size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = self._cuda.allocate_pinned(size_bytes)
        self._held.callback(self._cuda.free_pinned, address)
        content = memoryview((ctypes.c_uint8 * size_bytes).from_address(address))
        array: NDArray[Any] = np.frombuffer(content, dtype).reshape(shape)
        array[...] = 0
        return array

    def close(self) -> None:
        self._held.close()


def find_cuda() -> Cuda:
    """The newest CUDA runtime library that reaches a GPU.

    Raises CudaError telling what was tried and what to install.
    """
    reasons: dict[str, str] = {}
    for candidate in _candidates():
        try:
            cuda = Cuda(ctypes.CDLL(candidate))
            cuda.device()
        except OSError as error:
            # Where the loader has none, that is no news; a file that does not load is.
            if '/' in candidate:
                reasons.setdefault(str(error), candidate)
            continue
        except CudaError as error:
            reasons.setdefault(str(error), candidate)
            continue
        _log.debug('CUDA runtime: %s', candidate)
        return cuda
    if not reasons:
        raise CudaError(f'there is no CUDA runtime library (libcudart); {_INSTALL}')
    told = '; '.join(f'{candidate}: {why}' for why, candidate in reasons.items())
    raise CudaError(f'no GPU can be used ({told})')


def _candidates() -> Iterator[str]:
    """Names for the loader and paths of files, the newest version first."""
    folders = [*_wheel_folders()]
    for pattern in _TOOLKITS:
        folders += sorted(Path('/usr/local').glob(pattern), reverse=True)
    for name in _NAMES:
        yield name
        for folder in folders:
            if (folder / name).is_file():
                yield str(folder / name)


def _wheel_folders() -> Iterator[Path]:
    """Where the wheels of nvidia-cuda-runtime put the library."""
    spec = importlib.util.find_spec('nvidia')
    for root in (spec.submodule_search_locations or ()) if spec else ():
        yield from sorted(Path(root).glob('cu*/lib'), reverse=True)
