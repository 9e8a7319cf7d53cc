# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Two networks of one tracker on the same crops: what reduced precision changes.

The reference tracks; the other is asked about every crop that the reference looks at, with the
templates that the reference takes. So one early difference cannot grow into another way through
the sequence, and every frame counts for itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker_ros.evaluation.sequences import Sequence as Footage
from tracker_ros.geometry import Image
from tracker_ros.runtime.engine import Engine, Tensors
from tracker_ros.runtime.package import ModelPackage
from tracker_ros.trackers import FAMILIES


@dataclass
class Comparison:
    """Per frame: the largest difference of a box's numbers in image px, IoU, score difference."""

    box_px: list[float] = field(default_factory=list)
    iou: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """As model.yaml keeps it."""
        box, iou, score = (np.array(values) for values in (self.box_px, self.iou, self.score))
        return {
            'frames': len(box),
            'box_px': {
                'median': _rounded(np.median(box)),
                'p95': _rounded(np.percentile(box, 95)),
                'max': _rounded(box.max()),
            },
            'iou': {
                'mean': _rounded(iou.mean()),
                'p05': _rounded(np.percentile(iou, 5)),
                'min': _rounded(iou.min()),
            },
            'score': {
                'median': _rounded(np.median(score)),
                'p95': _rounded(np.percentile(score, 95)),
                'max': _rounded(score.max()),
            },
        }


def compare(
    package: ModelPackage,
    reference: Engine,
    candidate: Engine,
    footage: Sequence[Footage],
    count: int,
    on_frame: Callable[[], object] = lambda: None,
) -> Comparison:
    """Over about `count` frames, the first ones of each sequence alike.

    Raises SequenceError for footage that cannot be read.
    """
    share = -(-count // len(footage))
    found = Comparison()
    for sequence in footage:
        both = _Both(reference, candidate)
        leader = FAMILIES[package.family](package, both)
        follower = FAMILIES[package.family](package, _Echo(both))
        frames = sequence.frames()
        box = sequence.first_box
        image = next(frames)
        leader.start(image, box)
        follower.start(image, box)
        for image in itertools.islice(frames, share):
            follower.search_around(box)
            expected = leader.step(image)
            answer = follower.step(image)
            box = expected.box
            sides = zip(answer.box.corners(), box.corners(), strict=True)
            found.box_px.append(max(abs(first - second) for first, second in sides))
            found.iou.append(answer.box.iou(box))
            found.score.append(abs(answer.score - expected.score))
            on_frame()
    return found


class _Both(Engine):
    """Answers with the reference and keeps what the candidate says of the same crops."""

    def __init__(self, reference: Engine, candidate: Engine) -> None:
        self.name = reference.name
        self.template_inputs = reference.template_inputs
        self.candidate = candidate
        self.answer: Tensors = {}
        self._reference = reference

    def template(self, template: Image, **others: NDArray[Any]) -> Any:
        return tuple(
            engine.template(template, **others) for engine in (self._reference, self.candidate)
        )

    def renewed(self, cached: Any, **tensors: NDArray[np.float32]) -> Any:
        ours, theirs = cached
        return self._reference.renewed(ours, **tensors), self.candidate.renewed(theirs, **tensors)

    def search(self, crop: Image, cached: Any) -> Tensors:
        ours, theirs = cached
        self.answer = self.candidate.search(crop, theirs)
        return self._reference.search(crop, ours)

    def run(self, role: str, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        return self._reference.run(role, inputs)


class _Echo(Engine):
    """Answers what the candidate said last, whatever the crop."""

    def __init__(self, both: _Both) -> None:
        self.name = both.candidate.name
        self.template_inputs = both.template_inputs
        self._both = both

    def template(self, template: Image, **others: NDArray[Any]) -> Any:
        return ()

    def renewed(self, cached: Any, **tensors: NDArray[np.float32]) -> Any:
        return ()

    def search(self, crop: Image, cached: Any) -> Tensors:
        return self._both.answer

    def run(self, role: str, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        return self._both.candidate.run(role, inputs)


def _rounded(value: float) -> float:
    return float(f'{float(value):.4g}')
