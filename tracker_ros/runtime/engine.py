# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One contract for every inference library, and the choice between them."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Image
from tracker_ros.runtime.package import ModelPackage

RUNTIMES = ('openvino', 'onnxruntime')

Tensors = dict[str, NDArray[np.float32]]


class EngineError(Exception):
    """No inference library can run a model, or one failed to."""


class Engine(ABC):
    """A loaded model package: the cheap call of every frame apart from the rare one."""

    name: str
    """The library and what it runs on, for people: 'onnxruntime (CPU, fp32)'."""

    @abstractmethod
    def template(self, template: Image, **others: Image) -> Any:
        """Run the template graph on a crop (side, side, 3) uint8 BGR.

        `others` are further crops of the same kind, by the names of the graph's inputs. Returns what `search` needs of it; it stays where the engine keeps its tensors.
        """

    @abstractmethod
    def search(self, crop: Image, cached: Any) -> Tensors:
        """Run the search graph on a crop (side, side, 3) uint8 BGR.

        Returns the outputs by name, each (1, ...) float32. The arrays may be reused by the next
        call: copy what must outlive it.
        """


def load_engine(package: ModelPackage, runtime: str = 'auto', threads: int = 0) -> Engine:
    """Load `package` with the library named by `runtime`, or with the first that works.

    `threads` is the number of CPU threads for inference; 0 lets the library choose.
    Raises EngineError saying why each candidate could not be used and what to install.
    """
    if runtime != 'auto' and runtime not in RUNTIMES:
        raise EngineError(
            f'there is no runtime {runtime!r}; known are auto, {", ".join(RUNTIMES)}'
        )
    if threads < 0:
        raise EngineError(f'threads must be 0 (automatic) or more, not {threads}')
    reasons = []
    for candidate in RUNTIMES if runtime == 'auto' else (runtime,):
        try:
            module = importlib.import_module(f'tracker_ros.runtime.{candidate}_engine')
        except ImportError as error:
            reasons.append(f'{candidate}: {error} (pip install {candidate})')
            continue
        try:
            engine: Engine = module.load(package, threads)
        except EngineError as error:
            reasons.append(f'{candidate}: {error}')
            continue
        return engine
    raise EngineError(f'no inference library can run {package.name}. ' + '; '.join(reasons))
