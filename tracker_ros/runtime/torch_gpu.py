# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""PyTorch on an NVIDIA GPU: a frame is one launch of a CUDA graph between two copies.

What `template` returns stays on the GPU. The crop goes there from pinned memory, the outputs come
back into pinned memory, all on one stream.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tracker_ros.geometry import Image
from tracker_ros.runtime.engine import Engine, EngineError, Tensors
from tracker_ros.runtime.package import ModelPackage
from tracker_ros.runtime.torch_engine import Cached, TorchEngine
from tracker_ros.runtime.torch_graph import TorchGraph

_log = logging.getLogger(__name__)

Work = Callable[[], dict[str, Tensor]]
"""Queues something on the GPU, and returns the tensors that will hold its results."""

STAGES = ('copy in', 'run', 'copy out')


class Gpu:
    """What is asked of CUDA: one stream, graphs of what is queued on it, pinned memory."""

    def __init__(self) -> None:
        self.device = torch.device('cuda', torch.cuda.current_device())
        self.name = torch.cuda.get_device_name(self.device)
        self._stream = torch.cuda.Stream(self.device)

    def queueing(self) -> AbstractContextManager[Any]:
        """Within, work goes to the stream."""
        return torch.cuda.stream(self._stream)

    def synchronize(self) -> None:
        """Wait for all that was queued. Other Python threads run meanwhile."""
        self._stream.synchronize()

    def capture(self, work: Work) -> Work:
        """Record what `work` queues, without doing it. The result does it, all at once.

        What it returns are the same tensors each time, with new contents.
        """
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the GPU meanwhile.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode='thread_local'):
            results = work()

        def launch() -> dict[str, Tensor]:
            graph.replay()
            return results

        return launch

    def pinned(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Host memory that the GPU copies from and to by itself."""
        return torch.zeros(*shape, dtype=dtype, pin_memory=True)

    def event(self) -> torch.cuda.Event:
        """A point in time on the stream."""
        return torch.cuda.Event(enable_timing=True)


class TorchGpuEngine(TorchEngine):
    def __init__(self, package: ModelPackage, gpu: Gpu) -> None:
        with gpu.queueing():
            super().__init__(package, gpu.device)
        self._gpu = gpu
        self._facts = f'{gpu.name}, {self._precision}'
        self.name = f'torch ({self._facts})'
        self._frames: dict[int, _Frame] = {}

    def template(self, template: Image, **others: NDArray[Any]) -> Cached:
        with self._gpu.queueing():
            cached = super().template(template, **others)
        self._gpu.synchronize()
        return cached

    def renewed(self, cached: Cached, **tensors: NDArray[np.float32]) -> Cached:
        with self._gpu.queueing():
            return super().renewed(cached, **tensors)

    def run(self, role: str, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        with self._gpu.queueing():
            return super().run(role, inputs)

    def search(self, crop: Image, cached: Cached) -> Tensors:
        return self._run_frame(crop[np.newaxis], [cached])

    def search_many(self, crops: NDArray[np.uint8], cached: Sequence[Cached]) -> Tensors:
        if not self._search.is_batch_free:
            return Engine.search_many(self, crops, cached)
        return self._run_frame(crops, cached)

    def close(self) -> None:
        """Give back the memory of the frames."""
        self._frames.clear()

    def _run_frame(self, crops: NDArray[np.uint8], cached: Sequence[Cached]) -> Tensors:
        if len(crops) != len(cached) or not len(cached):
            raise EngineError(f'{len(crops)} crops and {len(cached)} templates make no batch')
        frame = self._frames.get(len(cached))
        if frame is None:
            frame = _Frame(self._gpu, self._search, len(cached), cached[0])
            self._frames[len(cached)] = frame
            if frame.why_no_graph:
                self.note = f'without CUDA graph: {frame.why_no_graph}'
            elif len(cached) == 1:
                self.name = f'torch ({self._facts}, CUDA graph)'
        outputs = frame.run(crops, cached)
        self.stages_s = frame.stages_s()
        return outputs


class _Frame:
    """The work of one frame for a fixed number of targets, recorded.

    `example` are the cached tensors of one target.
    """

    @torch.inference_mode()
    def __init__(self, gpu: Gpu, graph: TorchGraph, batch: int, example: Cached) -> None:
        self._gpu = gpu
        self._graph = graph
        self.why_no_graph = ''
        self._crops = gpu.pinned((batch, *_sizes(graph.inputs['search'])), torch.uint8)
        self._in_place: list[Cached | None] = [None] * batch
        self._marks = [gpu.event() for _ in range(len(STAGES) + 1)]
        with gpu.queueing():
            self._inputs = {'search': torch.zeros_like(self._crops, device=gpu.device)}
            for name, row in example.items():
                self._inputs[name] = row.new_zeros((batch, *row.shape[1:]))
            first = self._work()  # for what PyTorch and its libraries do only once
            gpu.synchronize()
            self._launch = self._recorded()
        self._results = {
            name: gpu.pinned(value.shape, value.dtype) for name, value in first.items()
        }

    @torch.inference_mode()
    def run(self, crops: NDArray[np.uint8], targets: Sequence[Cached]) -> Tensors:
        """Outputs for crops (batch, side, side, 3), in memory that the next call uses again."""
        if crops.shape != self._crops.shape or crops.dtype != np.uint8:
            raise EngineError(
                f"the crop 'search' is {crops.shape} {crops.dtype}, the model takes "
                f'{tuple(self._crops.shape)} uint8'
            )
        self._crops.numpy()[...] = crops
        with self._gpu.queueing():
            self._put_in_place(targets)
            begin, copied, computed, end = self._marks
            begin.record()
            self._inputs['search'].copy_(self._crops, non_blocking=True)
            copied.record()
            outputs = self._launch()
            computed.record()
            for name, value in outputs.items():
                self._results[name].copy_(value, non_blocking=True)
            end.record()
        self._gpu.synchronize()
        return {name: value.numpy() for name, value in self._results.items()}

    def stages_s(self) -> dict[str, float]:
        """How long each stage of the newest run took on the GPU."""
        return {
            stage: begin.elapsed_time(end) / 1e3
            for stage, begin, end in zip(STAGES, self._marks, self._marks[1:], strict=False)
        }

    def _work(self) -> dict[str, Tensor]:
        found = self._graph.run(self._inputs)
        return {name: value.float() for name, value in found.items()}

    def _recorded(self) -> Work:
        try:
            return self._gpu.capture(self._work)
        except RuntimeError as error:
            self.why_no_graph = str(error).partition('\n')[0]
            _log.warning('frames are launched call by call, without a CUDA graph: %s', error)
            return self._work

    def _put_in_place(self, targets: Sequence[Cached]) -> None:
        """Copy cached tensors to where the graph reads them, where they changed."""
        for row, target in enumerate(targets):
            if self._in_place[row] is not target:
                for name, value in target.items():
                    self._inputs[name][row : row + 1].copy_(value)
                self._in_place[row] = target


def load_on_gpu(package: ModelPackage) -> Engine:
    """An engine on the GPU. Raises EngineError where PyTorch cannot use it."""
    if not torch.cuda.is_available():
        raise EngineError(
            f'PyTorch {torch.__version__} sees no GPU: install one that was built for the CUDA '
            'of this driver (nvidia-smi shows it)'
        )
    # For the whole process; fp32 would be rounded to 10 bits without a word.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    try:
        engine = TorchGpuEngine(package, Gpu())
        engine.warm_up(package)
    except EngineError:
        raise
    except Exception as error:  # PyTorch raises what it likes for a GPU that it does not know
        raise EngineError(f'cannot load {package.folder}: {error}') from error
    return engine


def _sizes(declared: tuple[int | None, ...]) -> tuple[int, ...]:
    """All dimensions but the batch."""
    sizes = declared[1:]
    if None in sizes:
        raise EngineError(f"the input 'search' is {declared}; only the batch may be of any size")
    return tuple(size for size in sizes if size is not None)
