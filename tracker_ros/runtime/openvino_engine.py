# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""OpenVINO on the CPU.

One target is the usual case, and a graph whose sizes are all known runs up to a tenth faster
than one with a free batch. So the graphs are compiled for one target; a second copy for several
is made when they are first searched for together.

OpenVINO's cache of compiled models (CACHE_DIR) is not used: 2026.4 tells models of different
precision apart no more than by their graph, so that it ran a bf16 model in fp32 or crashed, and
loading from it was not faster than compiling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from tracker_ros.geometry import Image
from tracker_ros.runtime.engine import (
    CachedBatch,
    Engine,
    EngineError,
    Tensors,
    inputs_of,
    with_arrays,
)
from tracker_ros.runtime.package import ModelPackage
from tracker_ros.runtime.signal_stack import signal_stack_kept

RUNS_FURTHER_GRAPHS = True
RENEWS_TENSORS = True

_IN_BF16 = ('bf16', 'int8_bf16')
_COMPUTED_IN = {
    ('fp32', 'f32'): 'fp32',
    ('fp16', 'f32'): 'fp32',
    ('bf16', 'f32'): 'fp32',
    ('bf16', 'bf16'): 'bf16',
    ('int8', 'f32'): 'int8 and fp32',
    ('int8_bf16', 'f32'): 'int8 and fp32',
    ('int8_bf16', 'bf16'): 'int8 and bf16',
}


class OpenVinoEngine(Engine):
    def __init__(self, package: ModelPackage, threads: int) -> None:
        self._core = openvino.Core()
        hint = 'f32'
        if package.precision in _IN_BF16:
            if 'BF16' in self._core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES'):
                hint = 'bf16'
            else:
                self.note = f'this CPU cannot compute in bf16: {package.precision} runs slower'
        self.name = f'openvino (CPU, {_COMPUTED_IN[package.precision, hint]})'
        # Without the hint OpenVINO computes in bfloat16 wherever the CPU can, and says nothing.
        self._options: dict[str, Any] = {
            'PERFORMANCE_HINT': 'LATENCY',
            'INFERENCE_PRECISION_HINT': hint,
            # Pinned threads wait for their core while others are idle, and those of two
            # processes are pinned to the same cores.
            'ENABLE_CPU_PINNING': False,
        }
        if threads:
            self._options['INFERENCE_NUM_THREADS'] = threads
        self._search_path = package.graphs['search'].path
        self._template, _ = self._compiled(package.graphs['template'].path)
        search, is_batch_free = self._compiled(self._search_path)
        # In int8 several at once took up to a quarter longer each (docs/benchmarks.md).
        self._gains_by_batches = is_batch_free and not package.is_int8
        # Compiling may give an input further names, such as that of a reshape behind it.
        self.template_inputs = tuple(
            _name(port)
            for port in self._core.read_model(str(package.graphs['template'].path)).inputs
        )
        self._cached_names = {name for port in search.inputs for name in port.get_names()}
        self._one = _OneTarget(search)
        self._further = {
            role: self._compiled(package.graphs[role].path)[0].create_infer_request()
            for role in package.further
        }
        self._several: Any = None
        self._batch = CachedBatch()

    def template(self, template: Image, **others: NDArray[Any]) -> Tensors:
        crops = {'template': template, **others}
        result = self._template({name: crop[np.newaxis] for name, crop in crops.items()})
        # A port may have several names, of which ONNX knows one: the search graph tells which.
        return {
            name: np.array(result[port])
            for port in self._template.outputs
            for name in port.get_names()
            if name in self._cached_names
        }

    def renewed(self, cached: Tensors, **tensors: NDArray[np.float32]) -> Tensors:
        return with_arrays(cached, tensors)

    def search(self, crop: Image, cached: Tensors) -> Tensors:
        return self._one.run(crop, cached)

    def search_many(self, crops: NDArray[np.uint8], cached: Sequence[Tensors]) -> Tensors:
        if len(cached) == 1:
            return self._one.run(crops[0], cached[0])
        if not self._gains_by_batches:
            return super().search_many(crops, cached)
        if self._several is None:
            model = _without_bf16(self._core.read_model(str(self._search_path)))
            with signal_stack_kept():
                compiled = self._core.compile_model(model, 'CPU', self._options)
            self._several = compiled.create_infer_request()
        # The request keeps no reference to shared inputs: they live through this call.
        inputs = {'search': crops, **self._batch.of(cached)}
        return _by_name(self._several.infer(inputs, share_inputs=True))

    def run(self, role: str, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        request = self._further[role]
        # Of the several names that a port may have, the one that is meant.
        names = [
            next((name for name in port.get_names() if name in inputs), _name(port))
            for port in request.model_inputs
        ]
        return _by_name(request.infer(inputs_of(role, names, inputs), share_inputs=True))

    def _compiled(self, path: Path) -> tuple[Any, bool]:
        """The graph compiled for a batch of one, and whether it would take others."""
        model = _without_bf16(self._core.read_model(str(path)))
        shapes = {port: port.partial_shape for port in model.inputs}
        is_batch_free = all(shape[0].is_dynamic for shape in shapes.values())
        if is_batch_free:
            model.reshape({port: [1, *list(shape)[1:]] for port, shape in shapes.items()})
        with signal_stack_kept():
            return self._core.compile_model(model, 'CPU', self._options), is_batch_free


class _OneTarget:
    """The search graph with its tensors in place, so that a frame is one copy and one run."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        # A tensor that shares memory does not keep it alive: the arrays are held here.
        self._crop = np.zeros(tuple(compiled.input('search').shape), np.uint8)
        self._cached: Tensors = {}
        self._held: Tensors = {}
        self._request.set_tensor('search', openvino.Tensor(self._crop, shared_memory=True))
        self._ports = [(port, port.get_names()) for port in compiled.outputs]
        self._results: list[Any] = []
        self._outputs: Tensors = {}

    def run(self, crop: Image, cached: Tensors) -> Tensors:
        if crop.shape != self._crop.shape[1:]:
            raise EngineError(f'the crop must be {self._crop.shape[1:]}, not {crop.shape}')
        self._crop[0] = crop
        if cached is not self._cached:
            held = {name: np.ascontiguousarray(value) for name, value in cached.items()}
            for name, value in held.items():
                self._request.set_tensor(name, openvino.Tensor(value, shared_memory=True))
            self._cached, self._held = cached, held
        self._request.infer()
        if not self._outputs:
            # With all sizes known, each run writes to the same place.
            self._results = [self._request.get_tensor(port) for port, _ in self._ports]
            self._outputs = {
                name: result.data
                for result, (_, names) in zip(self._results, self._ports, strict=True)
                for name in names
            }
        return dict(self._outputs)


def _without_bf16(model: Any) -> Any:
    """The same graph typed in fp32; its weights are bf16 numbers as before.

    Told to compute in bf16, OpenVINO does so whatever the graph says. Casts between the two only
    keep it from fusing the attention into one kernel, which itself adds up in fp32.
    """
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == 'Constant' and node.get_element_type() == openvino.Type.bf16:
            # The upper half of the number in fp32.
            halves = np.atleast_1d(node.get_data()).view(np.uint16).astype(np.uint32)
            wide = (halves << 16).view(np.float32).reshape(tuple(node.get_output_shape(0)))
            node.output(0).replace(openvino.op.Constant(np.asarray(wide)).output(0))
        elif kind == 'Convert' and node.get_attributes()['destination_type'] == 'bf16':
            node.set_attribute('destination_type', 'f32')
    model.validate_nodes_and_infer_types()
    return model


def _by_name(results: Mapping[Any, NDArray[np.float32]]) -> Tensors:
    return {name: value for port, value in results.items() for name in port.get_names()}


def _name(port: Any) -> str:
    return str(port.get_any_name())


def load(package: ModelPackage, threads: int) -> Engine:
    try:
        engine = OpenVinoEngine(package, threads)
        engine.warm_up(package)
        return engine
    except Exception as error:  # the library raises RuntimeError and subclasses of Exception
        raise EngineError(f'cannot load {package.folder}: {error}') from error
