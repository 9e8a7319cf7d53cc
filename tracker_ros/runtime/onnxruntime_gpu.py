# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on an NVIDIA GPU.

Where a provider does not load, ONNX Runtime computes on the CPU and says so to nobody who reads
no log. Here it is an error: the provider that was asked for must be in the session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tracker_ros.geometry import Image
from tracker_ros.runtime.engine import CachedBatch, Engine, EngineError, Tensors
from tracker_ros.runtime.onnxruntime_engine import is_batch_free, run_further, session_options
from tracker_ros.runtime.package import ModelPackage

Providers = Sequence[tuple[str, dict[str, Any]]]


class OnnxRuntimeGpuEngine(Engine):
    """The first of `providers` takes the graphs, the others what it leaves over.

    `device` is where it keeps tensors, as ONNX Runtime names it: 'cuda'.
    """

    def __init__(
        self, package: ModelPackage, providers: Providers, device: str, threads: int
    ) -> None:
        provider = providers[0][0]
        self.name = f'onnxruntime ({provider.removesuffix("ExecutionProvider")})'
        self._device = device
        self._template = _session(package.graphs['template'].path, providers, threads)
        self._search = _session(package.graphs['search'].path, providers, threads)
        self._further = {
            role: _session(package.graphs[role].path, providers, threads)
            for role in package.further
        }
        self.template_inputs = tuple(value.name for value in self._template.get_inputs())
        self._cached_names = [value.name for value in self._template.get_outputs()]
        self._output_names = [value.name for value in self._search.get_outputs()]
        self._is_batch_free = is_batch_free(self._search)
        self._batch = CachedBatch(self._joined)

    def template(self, template: Image, **others: NDArray[Any]) -> dict[str, Any]:
        """The cached tensors, as values on the device."""
        binding = self._template.io_binding()
        for name, crop in {'template': template, **others}.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(crop[np.newaxis]))
        for name in self._cached_names:
            binding.bind_output(name, self._device)
        self._template.run_with_iobinding(binding)
        return dict(zip(self._cached_names, binding.get_outputs(), strict=True))

    def renewed(self, cached: dict[str, Any], **tensors: NDArray[np.float32]) -> dict[str, Any]:
        given = {}
        for name, value in tensors.items():
            # In the type that it had.
            array = value[np.newaxis].astype(cached[name].numpy().dtype)
            given[name] = onnxruntime.OrtValue.ortvalue_from_numpy(array, self._device, 0)
        return {**cached, **given}

    def search(self, crop: Image, cached: dict[str, Any]) -> Tensors:
        return self._run(crop[np.newaxis], cached)

    def search_many(self, crops: NDArray[np.uint8], cached: Sequence[dict[str, Any]]) -> Tensors:
        if not self._is_batch_free:
            return super().search_many(crops, cached)
        return self._run(crops, self._batch.of(cached))

    def run(self, role: str, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        return run_further(self._further[role], role, inputs)

    def _run(self, crops: NDArray[np.uint8], cached: dict[str, Any]) -> Tensors:
        binding = self._search.io_binding()
        binding.bind_cpu_input('search', np.ascontiguousarray(crops))
        for name, value in cached.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._output_names:
            binding.bind_output(name, 'cpu')
        self._search.run_with_iobinding(binding)
        return dict(zip(self._output_names, binding.copy_outputs_to_cpu(), strict=True))

    def _joined(self, values: list[Any]) -> Any:
        # Only by way of the host; it happens once for each new template.
        together = np.concatenate([value.numpy() for value in values])
        return onnxruntime.OrtValue.ortvalue_from_numpy(together, self._device, 0)


def load_on(package: ModelPackage, providers: Providers, threads: int) -> Engine:
    """An engine on the first of `providers`. Raises EngineError where that does not load."""
    provider = providers[0][0]
    if provider not in onnxruntime.get_available_providers():
        raise EngineError(
            f'this ONNX Runtime ({onnxruntime.__version__}) has no {provider}; '
            'pip install onnxruntime-gpu in place of onnxruntime'
        )
    try:
        engine = OnnxRuntimeGpuEngine(package, providers, 'cuda', threads)
        engine.warm_up(package)
    except EngineError:
        raise
    except Exception as error:  # the library's exceptions have no common base class
        raise EngineError(f'cannot load {package.folder}: {error}') from error
    return engine


def _session(path: Path, providers: Providers, threads: int) -> onnxruntime.InferenceSession:
    session = onnxruntime.InferenceSession(
        str(path), sess_options=session_options(threads), providers=list(providers)
    )
    taken = session.get_providers()
    if taken[0] != providers[0][0]:
        raise EngineError(
            f'{providers[0][0]} did not load, and {", ".join(taken)} took its place: install the '
            f'versions of CUDA and cuDNN that ONNX Runtime {onnxruntime.__version__} was built '
            'for (pip install onnxruntime-gpu[cuda,cudnn])'
        )
    session.disable_fallback()
    return session
