# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a tracker feeds its networks with on footage: what quantisation is calibrated on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker_ros.evaluation.sequences import Sequence as Footage
from tracker_ros.geometry import Image
from tracker_ros.runtime.engine import Engine, Tensors
from tracker_ros.runtime.package import ModelPackage
from tracker_ros.trackers import FAMILIES

STRIDE = 5
"""One of so many frames is kept: neighbours look alike."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One frame: what the template graph was given for its target, and what the search graph."""

    templates: dict[str, NDArray[Any]]
    crop: Image
    cached: Tensors

    def feeds(self) -> dict[str, dict[str, NDArray[Any]]]:
        """By graph and input, with their batch of one."""
        return {
            'template': {name: value[np.newaxis] for name, value in self.templates.items()},
            'search': {'search': self.crop[np.newaxis], **self.cached},
        }


class Listener(Engine):
    """Passes everything on to an engine, and remembers what the last search was given.

    The engine must be one whose cached tensors are arrays by name: one for the CPU.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.name
        self.template_inputs = engine.template_inputs
        self.seen: Seen | None = None
        self._templates: dict[str, NDArray[Any]] = {}

    def template(self, template: Image, **others: NDArray[Any]) -> Any:
        given = {'template': template, **others}
        self._templates = {name: np.array(value) for name, value in given.items()}
        return self._engine.template(**given)

    def renewed(self, cached: Any, **tensors: NDArray[np.float32]) -> Any:
        return self._engine.renewed(cached, **tensors)

    def search(self, crop: Image, cached: Any) -> Tensors:
        self.seen = Seen(self._templates, crop.copy(), cached)
        return self._engine.search(crop, cached)

    def run(self, role: str, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        return self._engine.run(role, inputs)


def collect(
    package: ModelPackage,
    engine: Engine,
    footage: Sequence[Footage],
    count: int,
    on_sample: Callable[[], object] = lambda: None,
) -> list[Seen]:
    """About `count` samples, of the tracker's way through the first frames of each sequence.

    `engine` runs the package on the CPU. Raises SequenceError for footage that cannot be read.
    """
    share = -(-count // len(footage))
    samples: list[Seen] = []
    for sequence in footage:
        listener = Listener(engine)
        tracker = FAMILIES[package.family](package, listener)
        frames = sequence.frames()
        tracker.start(next(frames), sequence.first_box)
        for number, image in enumerate(itertools.islice(frames, share * STRIDE)):
            tracker.step(image)
            if number % STRIDE == 0 and listener.seen is not None:
                samples.append(listener.seen)
                on_sample()
    return samples
