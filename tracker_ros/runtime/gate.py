# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether an engine gives the answers of another: the gate that a newly built one must pass.

A compiler may be wrong on one GPU and right on all others. What it made is compared with an
engine that computes on the CPU, on made-up crops, one by one and as a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Image
from tracker_ros.runtime.engine import Engine, EngineError, Tensors
from tracker_ros.runtime.package import ModelPackage, PackageError

_BLOCK_PX = 16

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest of a number of the box, in pixels of the search crop, and of the score."""

    box_px: float
    score: float

    def is_within(self, allowed: Difference) -> bool:
        # Written so that a nan, which a broken engine may give, is within nothing.
        return self.box_px <= allowed.box_px and self.score <= allowed.score

    def __str__(self) -> str:
        return f'{self.box_px:.3g} px of the box and {self.score:.3g} of the score'


DEFAULT_TOLERANCE = Difference(box_px=1.0, score=0.02)


@dataclass(frozen=True, slots=True)
class Sample:
    """One target: what its template graph takes, by name, and a search crop that shows it."""

    templates: dict[str, NDArray[Any]]
    search: Image


def tolerance_of(package: ModelPackage) -> Difference:
    """What ``parity: {box_px: , score: }`` of model.yaml allows, or else the default."""
    entry = package.manifest.get('parity', {})
    try:
        return Difference(
            float(entry.get('box_px', DEFAULT_TOLERANCE.box_px)),
            float(entry.get('score', DEFAULT_TOLERANCE.score)),
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise PackageError(
            f'{package.folder}: parity must be a mapping with the numbers box_px and score, '
            f'not {entry!r}'
        ) from error


def made_up_samples(
    package: ModelPackage, template_inputs: tuple[str, ...], count: int = 4
) -> list[Sample]:
    """Coarse blocks under fine noise; the template is the middle of the search crop."""
    random = np.random.default_rng(0)
    search_px, template_px = package.crop_px('search'), package.crop_px('template')
    samples = []
    for _ in range(count):
        side = max(search_px, template_px)
        cells = -(-side // _BLOCK_PX)
        blocks = random.integers(0, 200, (cells, cells, 3), np.uint8)
        scene = blocks.repeat(_BLOCK_PX, axis=0).repeat(_BLOCK_PX, axis=1)[:side, :side]
        scene = scene + random.integers(0, 56, scene.shape, np.uint8)
        templates: dict[str, NDArray[Any]] = {
            name: _middle(scene, template_px) + np.uint8(number)
            for number, name in enumerate(template_inputs)
        }
        for name, shape in package.template_values.items():
            templates[name] = random.random(shape, np.float32)
        samples.append(Sample(templates, _middle(scene, search_px)))
    return samples


def measure(
    package: ModelPackage, candidate: Engine, reference: Engine, samples: list[Sample]
) -> Difference:
    """How far the answers of `candidate` are from those of `reference`.

    Raises EngineError for a family whose outputs cannot be read, or when an engine fails.
    """
    if package.family not in READERS:
        raise EngineError(
            f'engines of the family {package.family!r} cannot be compared; known are '
            f'{", ".join(sorted(READERS))}'
        )
    cached = [candidate.template(**sample.templates) for sample in samples]
    batch = candidate.search_many(np.stack([sample.search for sample in samples]), cached)
    batch = {name: value.copy() for name, value in batch.items()}
    boxes, scores = [], []
    for row, sample in enumerate(samples):
        expected = reference.search(sample.search, reference.template(**sample.templates))
        for found in (
            candidate.search(sample.search, cached[row]),
            {name: value[row : row + 1] for name, value in batch.items()},
        ):
            box, score = _apart(package, found, expected)
            boxes.append(box)
            scores.append(score)
    # np.max and not max: a nan must come out as one.
    return Difference(float(np.max(boxes)), float(np.max(scores)))


def _apart(package: ModelPackage, found: Tensors, expected: Tensors) -> tuple[float, float]:
    read = READERS[package.family]
    with np.errstate(all='ignore'):
        box, score = read(package, found, expected)
        true_box, true_score = read(package, expected, expected)
        return float(np.abs(box - true_box).max()), float(np.abs(score - true_score).max())


# A reader gives the numbers of the box, in pixels of the search crop, and the scores of outputs
# for one target. Where they are maps, the box is read in the best cell of the expected outputs:
# of two cells nearly alike, either may be the best of what was found.
Reader = Callable[[ModelPackage, Tensors, Tensors], tuple[Values, Values]]


def _mixformer_v2(
    package: ModelPackage, outputs: Tensors, _expected: Tensors
) -> tuple[Values, Values]:
    return _numbers(outputs['box']) * package.crop_px('search'), _numbers(outputs['score'])


def _vittrack(package: ModelPackage, outputs: Tensors, expected: Tensors) -> tuple[Values, Values]:
    search_px = package.crop_px('search')
    scores = _numbers(outputs['score'])[0, 0]
    cell = int(expected['score'][0, 0].argmax())
    offset = _at(cell, outputs['offset']) * search_px / len(scores)
    size = _at(cell, outputs['size']) * search_px
    return np.concatenate([offset, size]), scores


def _nanotrack(
    _package: ModelPackage, outputs: Tensors, expected: Tensors
) -> tuple[Values, Values]:
    background, target = _numbers(outputs['score'])[0]
    cell = int((expected['score'][0, 1] - expected['score'][0, 0]).argmax())
    return _at(cell, outputs['offset']), 1 / (1 + np.exp(background - target))


def _simtrack(
    package: ModelPackage, outputs: Tensors, _expected: Tensors
) -> tuple[Values, Values]:
    return _numbers(outputs['box']) * package.crop_px('search'), _numbers(outputs['corners'])


READERS: dict[str, Reader] = {
    'mixformer_v2': _mixformer_v2,
    'nanotrack': _nanotrack,
    'simtrack': _simtrack,
    'vittrack': _vittrack,
}


def _at(cell: int, maps: NDArray[np.float32]) -> Values:
    """The values of maps (1, K, cells, cells) in a cell, counted row by row."""
    return _numbers(maps)[0].reshape(maps.shape[1], -1)[:, cell]


def _numbers(values: NDArray[Any]) -> Values:
    return values.astype(np.float64)


def _middle(scene: Image, side: int) -> Image:
    first = (len(scene) - side) // 2
    return np.ascontiguousarray(scene[first : first + side, first : first + side])
