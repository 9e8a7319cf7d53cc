# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
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

RUNS_FURTHER_GRAPHS = True
RENEWS_TENSORS = True


class OnnxRuntimeEngine(Engine):
    def __init__(self, package: ModelPackage, threads: int) -> None:
        # Beside the layers in int8 it computes in fp32, whatever others may do.
        computed_in = 'int8 and fp32' if package.is_int8 else package.precision
        self.name = f'onnxruntime (CPU, {computed_in})'
        self._template = _session(package.graphs['template'].path, threads)
        self._search = _session(package.graphs['search'].path, threads)
        self._further = {
            role: _session(package.graphs[role].path, threads) for role in package.further
        }
        self.template_inputs = tuple(value.name for value in self._template.get_inputs())
        self._cached_names = [output.name for output in self._template.get_outputs()]
        self._output_names = [output.name for output in self._search.get_outputs()]
        self._is_batch_free = is_batch_free(self._search)
        self._batch = CachedBatch()

    def template(self, template: Image, **others: NDArray[Any]) -> Tensors:
        crops = {'template': template, **others}
        feeds = {name: crop[np.newaxis] for name, crop in crops.items()}
        outputs = self._template.run(self._cached_names, feeds)
        return dict(zip(self._cached_names, outputs, strict=True))

    def renewed(self, cached: Tensors, **tensors: NDArray[np.float32]) -> Tensors:
        return with_arrays(cached, tensors)

    def search(self, crop: Image, cached: Tensors) -> Tensors:
        return self._run(crop[np.newaxis], cached)

    def search_many(self, crops: NDArray[np.uint8], cached: Sequence[Tensors]) -> Tensors:
        if not self._is_batch_free:
            return super().search_many(crops, cached)
        return self._run(crops, self._batch.of(cached))

    def run(self, role: str, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        return run_further(self._further[role], role, inputs)

    def _run(self, crops: NDArray[np.uint8], cached: Tensors) -> Tensors:
        outputs = self._search.run(self._output_names, {'search': crops, **cached})
        return dict(zip(self._output_names, outputs, strict=True))


def load(package: ModelPackage, threads: int) -> Engine:
    if package.precision == 'bf16':
        raise EngineError(
            'ONNX Runtime computes nothing in bf16 on the CPU; take openvino, or a package in '
            'fp32, fp16 or int8'
        )
    try:
        engine = OnnxRuntimeEngine(package, threads)
        engine.warm_up(package)
        return engine
    except Exception as error:  # the library's exceptions have no common base class
        raise EngineError(f'cannot load {package.folder}: {error}') from error


def run_further(
    session: onnxruntime.InferenceSession, role: str, inputs: Mapping[str, NDArray[np.float32]]
) -> Tensors:
    """Run the graph `role`, which takes what it needs of `inputs`."""
    names = [output.name for output in session.get_outputs()]
    taken = inputs_of(role, [value.name for value in session.get_inputs()], inputs)
    return dict(zip(names, session.run(names, taken), strict=True))


def is_batch_free(session: onnxruntime.InferenceSession) -> bool:
    return all(isinstance(value.shape[0], str | None) for value in session.get_inputs())


def session_options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Waiting threads would otherwise spin on the core that the ROS executor needs.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    options.log_severity_level = 3
    return options


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        str(path), sess_options=session_options(threads), providers=['CPUExecutionProvider']
    )
