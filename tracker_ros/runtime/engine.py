# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One contract for every inference library, and the choice between them."""

from __future__ import annotations

import importlib
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Image
from tracker_ros.runtime.package import ModelPackage

CPU_RUNTIMES = ('openvino', 'onnxruntime')
AUTOMATIC = ('tensorrt', 'onnxruntime_cuda', 'torch_cuda', *CPU_RUNTIMES)
"""In the order in which 'auto' tries them."""
# Only who asks for them gets ONNX Runtime's own TensorRT, which builds its engines while the
# caller waits, and PyTorch on the CPU, where it takes seconds to load and is the slowest.
RUNTIMES = (*AUTOMATIC, 'torch', 'onnxruntime_tensorrt')

Tensors = dict[str, NDArray[np.float32]]

Build = Literal['background', 'wait', 'never']
"""What to do where an engine must be built first; see `load_engine`."""

_INSTALL = {
    'tensorrt': 'tensorrt',
    'onnxruntime_cuda': 'onnxruntime-gpu',
    'onnxruntime_tensorrt': 'onnxruntime-gpu',
    'torch': 'torch onnx',
}


class EngineError(Exception):
    """No inference library can run a model, or one failed to."""


class NotReadyError(EngineError):
    """The engine is still being built, and nothing can serve meanwhile; the text says how far."""


class Engine(ABC):
    """A loaded model package: the cheap call of every frame apart from the rare one."""

    name: str
    """The library and what it runs on, for people: 'onnxruntime (CPU, fp32)'."""

    template_inputs: tuple[str, ...] = ('template',)
    """The names of what `template` takes."""

    progress: float | None = None
    """How far the build of an engine that is to take over is, 0 to 1; None when there is none."""

    note: str = ''
    """What people should know of it now: 'building tensorrt 40 %, openvino meanwhile'."""

    rejected: tuple[str, ...] = ()
    """Why each library that was tried before could not be used."""

    stages_s: Mapping[str, float] = MappingProxyType({})
    """How long the stages of the newest search took, in seconds and in their order, such as
    'copy in', 'run' and 'copy out'; empty where the library does not tell."""

    @abstractmethod
    def template(self, template: Image, **others: NDArray[Any]) -> Any:
        """Run the template graph on a crop (side, side, 3) uint8 BGR.

        `others` are its further inputs by name: crops of the same kind, or float32 numbers in the
        shapes of `ModelPackage.template_values`. Returns what `search` needs of it; it stays
        where the engine keeps its tensors.
        """

    def renewed(self, cached: Any, **tensors: NDArray[np.float32]) -> Any:
        """What `template` returned with some of its tensors replaced, without their batch.

        The names are those of `ModelPackage.renewed`; `cached` itself stays as it is.
        """
        raise EngineError(f'{self.name} cannot renew {", ".join(tensors)}')

    @abstractmethod
    def search(self, crop: Image, cached: Any) -> Tensors:
        """Run the search graph on a crop (side, side, 3) uint8 BGR.

        Returns the outputs by name, each (1, ...) float32. The arrays may be reused by the next
        call: copy what must outlive it.
        """

    def search_many(self, crops: NDArray[np.uint8], cached: Sequence[Any]) -> Tensors:
        """Run the search graph for N targets: crops (N, side, side, 3) uint8 BGR.

        Returns the outputs by name, each (N, ...) float32, as `search` does.
        """
        rows = [
            {name: value.copy() for name, value in self.search(crop, target).items()}
            for crop, target in zip(crops, cached, strict=True)
        ]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def run(self, role: str, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        """Run a further graph of the package for one target, on arrays (1, ...) float32 by name.

        `inputs` may hold more than the graph takes: all outputs of `search`, say, with the few
        numbers that it takes beside them. Returns the outputs by name, as `search` does.
        """
        raise EngineError(f'{self.name} does not run the graph {role!r}')

    def warm_up(self, package: ModelPackage) -> None:
        """Run once on black crops: the first run is the slowest, and tells whether any works."""
        template, search = (
            np.zeros((side, side, 3), np.uint8)
            for side in (package.crop_px('template'), package.crop_px('search'))
        )
        inputs = dict.fromkeys(self.template_inputs, template)
        for name, shape in package.template_values.items():
            inputs[name] = np.zeros(shape, np.float32)
        try:
            cached = self.template(**inputs)
        except Exception as error:  # whatever the library raises
            raise EngineError(
                f'the template graph does not take its inputs ({", ".join(inputs)}); those that '
                f'are no crops need their shape in inputs.template_values: {error}'
            ) from error
        outputs = self.search(search, cached)
        for role in package.further:
            numbers = {
                name: np.zeros((1, *shape), np.float32)
                for name, shape in package.values_of(role).items()
            }
            self.run(role, {**outputs, **numbers})

    def close(self) -> None:  # noqa: B027 - most libraries free their memory by themselves
        """Give back what the engine holds. It cannot be used any more."""


def inputs_of(
    role: str, names: Iterable[str], inputs: Mapping[str, NDArray[np.float32]]
) -> Tensors:
    """Those of `inputs` that the graph `role` takes. Raises EngineError where one is missing."""
    taken = {name: inputs[name] for name in names if name in inputs}
    missing = [name for name in names if name not in taken]
    if missing:
        raise EngineError(
            f'the graph {role} takes {", ".join(missing)}, which the search graph does not give; '
            f'{role}_values in model.yaml tells the sizes of what else it takes'
        )
    return taken


def with_arrays(cached: Tensors, given: Mapping[str, NDArray[np.float32]]) -> Tensors:
    """`Engine.renewed` where cached tensors are arrays: each keeps the type that it had."""
    fresh = {name: value[np.newaxis].astype(cached[name].dtype) for name, value in given.items()}
    return {**cached, **fresh}


class CachedBatch:
    """Cached tensors of several targets as one batch, joined anew only when a target changes."""

    def __init__(self, join: Callable[[list[Any]], Any] = np.concatenate) -> None:
        self._join = join
        self._parts: list[dict[str, Any]] = []
        self._batch: dict[str, Any] = {}

    def of(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        is_same = len(parts) == len(self._parts) and all(map(operator.is_, parts, self._parts))
        if not is_same:
            self._parts = list(parts)
            self._batch = {name: self._join([part[name] for part in parts]) for name in parts[0]}
        return self._batch


def load_engine(
    package: ModelPackage, runtime: str = 'auto', threads: int = 0, build: Build = 'background'
) -> Engine:
    """Load `package` with the library named by `runtime`, or with the first that works.

    `threads` is the number of CPU threads for inference; 0 lets the library choose. Where an
    engine must be built first, `build` says whether the next library serves meanwhile, the caller
    waits, or the next library is taken for good. The engine says in `rejected` why each library
    before it could not be used.
    Raises EngineError saying that of all, and what to install.
    """
    if runtime != 'auto' and runtime not in RUNTIMES:
        raise EngineError(
            f'there is no runtime {runtime!r}; known are auto, {", ".join(RUNTIMES)}'
        )
    if threads < 0:
        raise EngineError(f'threads must be 0 (automatic) or more, not {threads}')
    if build not in get_args(Build):
        raise EngineError(f'build must be one of {", ".join(get_args(Build))}, not {build!r}')
    return load_first(package, AUTOMATIC if runtime == 'auto' else (runtime,), threads, build)


def load_first(
    package: ModelPackage, runtimes: Iterable[str], threads: int, build: Build = 'background'
) -> Engine:
    """Load `package` with the first of `runtimes` that works; see `load_engine`."""
    reasons: list[str] = []
    for candidate in runtimes:
        try:
            module = importlib.import_module(f'tracker_ros.runtime.{candidate}_engine')
        except (ImportError, OSError) as error:  # the latter where it lacks a library of its own
            install = _INSTALL.get(candidate, candidate)
            reasons.append(f'{candidate}: {error} (pip install {install})')
            continue
        if package.further and not getattr(module, 'RUNS_FURTHER_GRAPHS', False):
            reasons.append(
                f'{candidate}: it cannot run the graphs {", ".join(package.further)} yet'
            )
            continue
        if package.renewed and not getattr(module, 'RENEWS_TENSORS', False):
            names = ', '.join(package.renewed)
            reasons.append(f'{candidate}: it cannot renew the tensors {names} yet')
            continue
        load = partial(module.load, package, threads)
        try:
            engine: Engine = load(build) if candidate == 'tensorrt' else load()
        except EngineError as error:
            reasons.append(f'{candidate}: {error}')
            continue
        if reasons:
            engine.rejected = (*reasons, *engine.rejected)
        return engine
    raise EngineError(
        f'no inference library can run {package.name} (the model csrt needs none). '
        + '; '.join(reasons)
    )
