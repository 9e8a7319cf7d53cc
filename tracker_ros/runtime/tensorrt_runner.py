# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Running plans of TensorRT and TensorRT-RTX on an NVIDIA GPU.

What `template` returns stays on the GPU. A frame is one launch of a CUDA graph: the crop goes
from pinned memory to the GPU, the network runs, the outputs come back, all on one stream.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Image
from tracker_ros.runtime.cuda import Cuda, Memory
from tracker_ros.runtime.engine import Engine, EngineError, Tensors, inputs_of
from tracker_ros.runtime.engine_cache import SideFile
from tracker_ros.runtime.tensorrt_builder import Toolkit

_log = logging.getLogger(__name__)

_ITEM_BYTES = {
    'FLOAT': 4,
    'HALF': 2,
    'BF16': 2,
    'INT8': 1,
    'UINT8': 1,
    'BOOL': 1,
    'INT32': 4,
    'INT64': 8,
}
# What crosses between GPU and host. Cached tensors do not, so that they may be of any type.
_ARRAY_TYPES: dict[str, type[np.generic]] = {
    'FLOAT': np.float32,
    'HALF': np.float16,
    'UINT8': np.uint8,
}


class Network:
    """A plan, loaded. Raises EngineError for one that this TensorRT or this GPU cannot run."""

    def __init__(self, toolkit: Toolkit, plan: bytes, kernels: SideFile) -> None:
        toolkit.errors.clear()
        self.toolkit = toolkit
        self._runtime = toolkit.module.Runtime(toolkit.listener)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise toolkit.error('cannot load the engine')
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.types: dict[str, str] = {}
        for number in range(self._engine.num_io_tensors):
            self._take_in(self._engine.get_tensor_name(number))
        self._just_in_time = _JustInTime.of(toolkit, self._engine, kernels)

    @property
    def is_batch_free(self) -> bool:
        return any(self._engine.get_tensor_shape(name)[0] == -1 for name in self.inputs)

    def new_context(self) -> Any:
        if self._just_in_time is None:
            context = self._engine.create_execution_context()
        else:
            context = self._engine.create_execution_context(self._just_in_time.config)
        if context is None:
            raise self.toolkit.error('cannot run the engine')
        return context

    def keep_kernels(self) -> None:
        """Put what was compiled so far where the next start finds it."""
        if self._just_in_time is not None:
            self._just_in_time.keep()

    def _take_in(self, name: str) -> None:
        kind = self._engine.get_tensor_dtype(name).name
        if kind not in _ITEM_BYTES:
            raise EngineError(f'the graph has {name!r} in {kind}, which is not known here')
        self.types[name] = kind
        mode = self._engine.get_tensor_mode(name)
        is_input = mode == self.toolkit.module.TensorIOMode.INPUT
        (self.inputs if is_input else self.outputs).append(name)


class _JustInTime:
    """How TensorRT-RTX compiles kernels: when a shape is first seen, and once on this machine."""

    def __init__(self, module: Any, engine: Any, kernels: SideFile) -> None:
        self.config = engine.create_runtime_config()
        # Else it compiles in the background, and a CUDA graph made meanwhile keeps slow kernels.
        strategies = module.DynamicShapesKernelSpecializationStrategy
        self.config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        self._cache = self.config.create_runtime_cache()
        self._file = kernels
        self._kept = kernels.read()
        if self._kept and not self._cache.deserialize(self._kept):
            self._kept = b''  # of another driver, say: it compiles anew
        self.config.set_runtime_cache(self._cache)

    @classmethod
    def of(cls, toolkit: Toolkit, engine: Any, kernels: SideFile) -> _JustInTime | None:
        """None with TensorRT itself, whose plans hold all kernels."""
        if not hasattr(toolkit.module, 'DynamicShapesKernelSpecializationStrategy'):
            return None
        return cls(toolkit.module, engine, kernels)

    def keep(self) -> None:
        content = bytes(memoryview(self._cache.serialize()))
        if content != self._kept:
            self._file.write(content)
            self._kept = content


class _Context:
    """A network made ready to run for one batch size: shapes set, addresses to be set."""

    def __init__(self, network: Network, batch: int, stream: int) -> None:
        self._toolkit = network.toolkit
        self._types = network.types
        self._batch = batch
        self._context = network.new_context()
        # With TensorRT 8 only the first context has the profile by itself.
        if network.is_batch_free and not self._context.set_optimization_profile_async(0, stream):
            raise self._toolkit.error('refused its own optimisation profile')
        for name in network.inputs:
            row = tuple(self._context.get_tensor_shape(name))[1:]
            if not self._context.set_input_shape(name, (batch, *row)):
                raise self._toolkit.error(f'refused a batch of {batch} for {name!r}')
        self.shapes = {name: self._shape(name) for name in (*network.inputs, *network.outputs)}

    def pinned(self, memory: Memory, name: str) -> NDArray[Any]:
        """An array that holds the tensor `name` on the host."""
        kind = self._types[name]
        if kind not in _ARRAY_TYPES:
            raise EngineError(f'{name!r} is {kind}; crops are uint8, outputs fp32 or fp16')
        return memory.pinned(self.shapes[name], _ARRAY_TYPES[kind])

    def row(self, name: str) -> tuple[tuple[int, ...], str]:
        """Shape and type of one target's part of the tensor `name`."""
        return self.shapes[name][1:], self._types[name]

    def row_bytes(self, name: str) -> int:
        return prod(self.shapes[name][1:]) * _ITEM_BYTES[self._types[name]]

    def size_bytes(self, name: str) -> int:
        return self._batch * self.row_bytes(name)

    def set_address(self, name: str, address: int) -> None:
        if not self._context.set_tensor_address(name, address):
            raise self._toolkit.error(f'refused the memory for {name!r}')

    def queue(self, stream: int) -> None:
        if not self._context.execute_async_v3(stream):
            raise self._toolkit.error('did not run')

    def _shape(self, name: str) -> tuple[int, ...]:
        shape = tuple(self._context.get_tensor_shape(name))
        if not shape or shape[0] != self._batch or -1 in shape:
            raise EngineError(
                f'{name!r} is {shape} for a batch of {self._batch}; the first dimension must be '
                'the batch and the others fixed'
            )
        return shape


class TensorRtEngine(Engine):
    """Runs `max_batch` targets at once at most; more are run in turns."""

    def __init__(
        self,
        toolkit: Toolkit,
        template: Network,
        search: Network,
        precision: str,
        max_batch: int,
        further: Mapping[str, Network] = MappingProxyType({}),
    ) -> None:
        self.name = f'{toolkit.name} ({toolkit.device.name}, {precision})'
        self.template_inputs = tuple(template.inputs)
        self.max_batch = max_batch if search.is_batch_free else 1
        self._search = search
        self._frames: dict[int, _Frame] = {}
        self._held = ExitStack()
        self._is_closed = False
        with ExitStack() as held:
            self._stream = toolkit.cuda.create_stream()
            held.callback(toolkit.cuda.destroy_stream, self._stream)
            self._memory = Memory(toolkit.cuda)
            held.callback(self._memory.close)
            self._template = _TemplateCall(template, self._memory, self._stream)
            self._cached = _CachedMemory(
                self._memory, self._stream, toolkit.cuda, self._template.rows
            )
            self._further = {
                role: _HostCall(network, self._memory, self._stream)
                for role, network in further.items()
            }
            self._held = held.pop_all()

    def template(self, template: Image, **others: NDArray[Any]) -> object:
        self._check_open()
        target = _Target(self._cached, self._cached.new_rows())
        self._template.run({'template': template, **others}, target.rows)
        return target

    def renewed(self, cached: Any, **tensors: NDArray[np.float32]) -> object:
        self._check_open()
        self._check_own([cached])
        return _Target(self._cached, {**cached.rows, **self._cached.filled(tensors)})

    def search(self, crop: Image, cached: Any) -> Tensors:
        return self.search_many(crop[np.newaxis], [cached])

    def search_many(self, crops: NDArray[np.uint8], cached: Sequence[Any]) -> Tensors:
        self._check_open()
        if len(crops) != len(cached) or not len(cached):
            raise EngineError(f'{len(crops)} crops and {len(cached)} templates make no batch')
        self._check_own(cached)
        parts = []
        for first in range(0, len(cached), self.max_batch):
            part = slice(first, first + self.max_batch)
            parts.append(self._frame(len(cached[part])).run(crops[part], cached[part]))
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def run(self, role: str, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        self._check_open()
        call = self._further[role]
        return call.run(inputs_of(role, call.inputs, inputs))

    def close(self) -> None:
        """Give back the memory of the GPU. Nothing can be run any more."""
        self._is_closed = True
        self._frames.clear()
        self._held.close()

    def __del__(self) -> None:
        if hasattr(self, '_held'):
            self.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineError(f'{self.name} was closed; load it again')

    def _check_own(self, cached: Sequence[Any]) -> None:
        for target in cached:
            if not (isinstance(target, _Target) and target.memory is self._cached):
                raise EngineError('the template was computed by another engine; compute it anew')

    def _frame(self, batch: int) -> _Frame:
        if batch not in self._frames:
            frame = _Frame(self._search, batch, self._template.rows, self._stream)
            self._held.callback(frame.close)
            self._frames[batch] = frame
            self._search.keep_kernels()
            if frame.why_no_graph:
                self.note = f'without CUDA graph: {frame.why_no_graph}'
        return self._frames[batch]


class _Row:
    """One target's part of a cached tensor, on the GPU; its memory is used again when it goes."""

    _numbers = itertools.count()

    def __init__(self, address: int, spare: list[int]) -> None:
        self.address = address
        self.number = next(self._numbers)
        self._spare = spare

    def __del__(self) -> None:
        self._spare.append(self.address)


class _CachedMemory:
    """Where cached tensors are kept on the GPU, each target's of each tensor by itself.

    `rows` are shape and type of each.
    """

    def __init__(
        self, memory: Memory, stream: int, cuda: Cuda, rows: dict[str, tuple[tuple[int, ...], str]]
    ) -> None:
        self._memory = memory
        self._stream = stream
        self._cuda = cuda
        self._rows = rows
        self._spare: dict[str, list[int]] = {name: [] for name in rows}
        self._pinned: dict[str, NDArray[Any]] = {}

    def new_rows(self) -> dict[str, _Row]:
        """Memory for all cached tensors of one target."""
        return {name: self._new_row(name) for name in self._rows}

    def filled(self, tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, _Row]:
        """Memory for these tensors alone, with their numbers in it."""
        rows = {name: self._filled(name, value) for name, value in tensors.items()}
        # The pinned memory is free for the next call.
        self._cuda.synchronize(self._stream)
        return rows

    def _filled(self, name: str, value: NDArray[np.float32]) -> _Row:
        if name not in self._rows:
            raise EngineError(f'{name!r} is no cached tensor; there are {", ".join(self._rows)}')
        shape, kind = self._rows[name]
        if value.shape != shape or kind not in _ARRAY_TYPES:
            raise EngineError(
                f'the cached tensor {name!r} is {shape} {kind} and cannot be renewed with '
                f'{value.shape} {value.dtype}'
            )
        if name not in self._pinned:
            self._pinned[name] = self._memory.pinned(shape, _ARRAY_TYPES[kind])
        host = self._pinned[name]
        host[...] = value
        row = self._new_row(name)
        self._cuda.copy(row.address, host.ctypes.data, host.nbytes, self._stream)
        return row

    def _new_row(self, name: str) -> _Row:
        spare = self._spare[name]
        if not spare:
            shape, kind = self._rows[name]
            spare.append(self._memory.device(prod(shape) * _ITEM_BYTES[kind]))
        return _Row(spare.pop(), spare)


@dataclass(frozen=True, slots=True)
class _Target:
    """The cached tensors of one target, and whose they are."""

    memory: _CachedMemory
    rows: dict[str, _Row]


class _TemplateCall:
    """Template crops to cached tensors, which are written where the target keeps them."""

    def __init__(self, network: Network, memory: Memory, stream: int) -> None:
        self._cuda = network.toolkit.cuda
        self._stream = stream
        self._context = _Context(network, 1, stream)
        self._crops = {name: self._context.pinned(memory, name) for name in network.inputs}
        self._addresses = {}
        for name, crop in self._crops.items():
            self._addresses[name] = memory.device(crop.nbytes)
            self._context.set_address(name, self._addresses[name])
        self.rows = {name: self._context.row(name) for name in network.outputs}

    def run(self, crops: dict[str, Image], rows: Mapping[str, _Row]) -> None:
        if crops.keys() != self._crops.keys():
            raise EngineError(f'the template crops are {[*self._crops]}, not {[*crops]}')
        for name, crop in crops.items():
            host = self._crops[name]
            _fill(host, crop[np.newaxis], name)
            self._cuda.copy(self._addresses[name], host.ctypes.data, host.nbytes, self._stream)
        for name, row in rows.items():
            self._context.set_address(name, row.address)
        self._context.queue(self._stream)
        self._cuda.synchronize(self._stream)


class _HostCall:
    """A graph for one target, whose inputs come from the host and whose outputs go there."""

    def __init__(self, network: Network, memory: Memory, stream: int) -> None:
        self._cuda = network.toolkit.cuda
        self._stream = stream
        self._context = _Context(network, 1, stream)
        self.inputs = list(network.inputs)
        self._outputs = list(network.outputs)
        self._arrays, self._addresses = {}, {}
        for name in (*self.inputs, *self._outputs):
            self._arrays[name] = self._context.pinned(memory, name)
            self._addresses[name] = memory.device(self._arrays[name].nbytes)
            self._context.set_address(name, self._addresses[name])

    def run(self, inputs: Tensors) -> Tensors:
        """Outputs by name, as arrays of their own."""
        for name, value in inputs.items():
            host = self._arrays[name]
            if value.shape != host.shape:
                raise EngineError(f'{name!r} is {value.shape}, the graph takes {host.shape}')
            host[...] = value
            self._cuda.copy(self._addresses[name], host.ctypes.data, host.nbytes, self._stream)
        self._context.queue(self._stream)
        for name in self._outputs:
            host = self._arrays[name]
            self._cuda.copy(host.ctypes.data, self._addresses[name], host.nbytes, self._stream)
        self._cuda.synchronize(self._stream)
        return {name: self._arrays[name].astype(np.float32) for name in self._outputs}


class _Frame:
    """The work of one frame for a fixed number of targets, ready to be launched.

    `rows` are shape and type of each cached tensor, as the template graph gives them.
    """

    def __init__(
        self,
        network: Network,
        batch: int,
        rows: dict[str, tuple[tuple[int, ...], str]],
        stream: int,
    ) -> None:
        self._cuda = network.toolkit.cuda
        self._stream = stream
        self._context = _Context(network, batch, stream)
        taken = {name: self._context.row(name) for name in network.inputs if name != 'search'}
        if taken != rows or 'search' not in network.inputs:
            raise EngineError(
                f'the template graph gives {rows}, but the search graph takes {taken} and '
                "'search': they do not belong together; make the package anew"
            )
        self._graph: int | None = None
        self.why_no_graph = ''
        self._in_place = [dict.fromkeys(rows, -1) for _ in range(batch)]
        self._memory = Memory(self._cuda)
        try:
            self._allocate(network)
            self._prepare()
        except BaseException:
            self.close()
            raise

    def run(self, crops: NDArray[np.uint8], targets: Sequence[_Target]) -> Tensors:
        """Outputs for crops (batch, side, side, 3), as arrays of their own."""
        _fill(self._crops, crops, 'search')
        self._put_in_place(targets)
        if self._graph is None:
            self._queue()
        else:
            self._cuda.launch(self._graph, self._stream)
        self._cuda.synchronize(self._stream)
        return {name: result.astype(np.float32) for name, result in self._results.items()}

    def close(self) -> None:
        if self._graph is not None:
            self._cuda.destroy_graph(self._graph)
            self._graph = None
        self._memory.close()

    def _allocate(self, network: Network) -> None:
        self._crops = self._context.pinned(self._memory, 'search')
        self._results = {
            name: self._context.pinned(self._memory, name) for name in network.outputs
        }
        self._addresses = {}
        for name in (*network.inputs, *network.outputs):
            self._addresses[name] = self._memory.device(self._context.size_bytes(name))
            self._context.set_address(name, self._addresses[name])

    def _prepare(self) -> None:
        """Run once, for what TensorRT does only then, and make the graph of it."""
        self._queue()
        self._cuda.synchronize(self._stream)
        try:
            self._graph = self._cuda.capture(self._stream, self._queue)
        except EngineError as error:
            self.why_no_graph = str(error)
            _log.warning('frames are launched step by step, without a CUDA graph: %s', error)

    def _put_in_place(self, targets: Sequence[_Target]) -> None:
        """Copy cached tensors, on the GPU, to where the network reads them, where they changed.

        A graph has addresses built in; one copy per new template is cheaper than a new graph.
        """
        for place, target in enumerate(targets):
            in_place = self._in_place[place]
            for name, row in target.rows.items():
                if in_place[name] == row.number:
                    continue
                size = self._context.row_bytes(name)
                there = self._addresses[name] + place * size
                self._cuda.copy(there, row.address, size, self._stream)
                in_place[name] = row.number

    def _queue(self) -> None:
        crops = self._crops
        self._cuda.copy(self._addresses['search'], crops.ctypes.data, crops.nbytes, self._stream)
        self._context.queue(self._stream)
        for name, result in self._results.items():
            self._cuda.copy(result.ctypes.data, self._addresses[name], result.nbytes, self._stream)


def _fill(place: NDArray[Any], crops: NDArray[np.uint8], name: str) -> None:
    if crops.shape != place.shape or crops.dtype != place.dtype:
        raise EngineError(
            f'the crop {name!r} is {crops.shape} {crops.dtype}, the model takes {place.shape} '
            f'{place.dtype}'
        )
    place[...] = crops
