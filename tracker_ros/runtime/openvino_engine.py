# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""OpenVINO on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from tracker_ros.geometry import Image
from tracker_ros.runtime.engine import CachedBatch, Engine, EngineError, Tensors
from tracker_ros.runtime.package import ModelPackage

RUNS_FURTHER_GRAPHS = True


class OpenVinoEngine(Engine):
    name = 'openvino (CPU, fp32)'

    def __init__(self, package: ModelPackage, threads: int) -> None:
        core = openvino.Core()
        # Without the hint OpenVINO computes in bfloat16 wherever the CPU can, and says nothing.
        options: dict[str, Any] = {
            'PERFORMANCE_HINT': 'LATENCY',
            'INFERENCE_PRECISION_HINT': 'f32',
        }
        if threads:
            options['INFERENCE_NUM_THREADS'] = threads
        self._template = core.compile_model(str(package.graphs['template'].path), 'CPU', options)
        search = core.compile_model(str(package.graphs['search'].path), 'CPU', options)
        self._search = search.create_infer_request()
        self._further = {
            role: core.compile_model(
                str(package.graphs[role].path), 'CPU', options
            ).create_infer_request()
            for role in package.further
        }
        self.template_inputs = tuple(port.get_any_name() for port in self._template.inputs)
        self._is_batch_free = all(port.partial_shape[0].is_dynamic for port in search.inputs)
        self._batch = CachedBatch()
        self._cached_names = {name for port in search.inputs for name in port.get_names()}

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

    def search(self, crop: Image, cached: Tensors) -> Tensors:
        return self._run(crop[np.newaxis], cached)

    def search_many(self, crops: NDArray[np.uint8], cached: Sequence[Tensors]) -> Tensors:
        if not self._is_batch_free:
            return super().search_many(crops, cached)
        return self._run(crops, self._batch.of(cached))

    def run(self, role: str, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        request = self._further[role]
        names = [name for port in request.model_inputs for name in port.get_names()]
        feeds = {name: inputs[name] for name in names if name in inputs}
        return _by_name(request.infer(feeds, share_inputs=True))

    def _run(self, crops: NDArray[np.uint8], cached: Tensors) -> Tensors:
        # The infer request keeps no reference to shared inputs: they live through this call.
        result = self._search.infer({'search': crops, **cached}, share_inputs=True)
        return _by_name(result)


def _by_name(result: Mapping[Any, NDArray[np.float32]]) -> Tensors:
    return {name: value for port, value in result.items() for name in port.get_names()}


def load(package: ModelPackage, threads: int) -> Engine:
    try:
        engine = OpenVinoEngine(package, threads)
        engine.warm_up(package)
        return engine
    except Exception as error:  # the library raises RuntimeError and subclasses of Exception
        raise EngineError(f'cannot load {package.folder}: {error}') from error
