# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""PyTorch: on the GPU where it sees one, else on the CPU.

On the CPU it is slower than the other libraries, and there to compare them with. PyTorch has one
number of threads for the whole process: one that is asked for holds for all else in it, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tracker_ros.geometry import Image
from tracker_ros.runtime.engine import CachedBatch, Engine, EngineError, Tensors, inputs_of
from tracker_ros.runtime.package import ModelPackage
from tracker_ros.runtime.torch_graph import TorchGraph

RUNS_FURTHER_GRAPHS = True
RENEWS_TENSORS = True

Cached = dict[str, Tensor]


class TorchEngine(Engine):
    def __init__(self, package: ModelPackage, device: torch.device) -> None:
        self._precision = package.precision
        if package.is_int8:
            # Rounded as int8 is, but no number has fewer bits.
            self._precision = 'int8 in fp32'
        self.name = f'torch (CPU, {self._precision})'
        self._device = device
        self._template = TorchGraph(package.graphs['template'].path, device)
        self._search = TorchGraph(package.graphs['search'].path, device)
        self._further = {
            role: TorchGraph(package.graphs[role].path, device) for role in package.further
        }
        self.template_inputs = tuple(self._template.inputs)
        self._batch = CachedBatch(torch.cat)

    def template(self, template: Image, **others: NDArray[Any]) -> Cached:
        inputs = {'template': template, **others}
        found = self._template.run(
            {name: self._tensor(value[np.newaxis]) for name, value in inputs.items()}
        )
        # Of their own, for they may be parts of something larger.
        return {name: value.clone() for name, value in found.items()}

    def renewed(self, cached: Cached, **tensors: NDArray[np.float32]) -> Cached:
        given = {
            name: self._tensor(value[np.newaxis]).to(cached[name].dtype)
            for name, value in tensors.items()
        }
        return {**cached, **given}

    def search(self, crop: Image, cached: Cached) -> Tensors:
        return self._run(crop[np.newaxis], cached)

    def search_many(self, crops: NDArray[np.uint8], cached: Sequence[Cached]) -> Tensors:
        if not self._search.is_batch_free:
            return super().search_many(crops, cached)
        return self._run(crops, self._batch.of(cached))

    def run(self, role: str, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        graph = self._further[role]
        taken = inputs_of(role, graph.inputs, inputs)
        found = graph.run({name: self._tensor(value) for name, value in taken.items()})
        return {name: value.float().cpu().numpy() for name, value in found.items()}

    def _run(self, crops: NDArray[np.uint8], cached: Cached) -> Tensors:
        found = self._search.run({'search': self._tensor(crops), **cached})
        return {name: value.float().numpy() for name, value in found.items()}

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        # A copy: the caller may use its array again, and PyTorch dislikes read-only ones.
        return torch.from_numpy(np.array(values, order='C')).to(self._device)


def load(package: ModelPackage, threads: int) -> Engine:
    if torch.cuda.is_available():
        from tracker_ros.runtime.torch_gpu import load_on_gpu

        return load_on_gpu(package)
    if threads:
        torch.set_num_threads(threads)
    try:
        engine = TorchEngine(package, torch.device('cpu'))
        engine.warm_up(package)
    except EngineError:
        raise
    except Exception as error:  # PyTorch raises what it likes for shapes that do not fit
        raise EngineError(f'cannot load {package.folder}: {error}') from error
    return engine
