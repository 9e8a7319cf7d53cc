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
        alone = {
            **candidate.search(sample.search, cached[row]),
            **_closer(package, candidate, expected),
        }
        in_batch = {name: value[row : row + 1] for name, value in batch.items()}
        for found, right in (
            (alone, {**expected, **_closer(package, reference, expected)}),
            (in_batch, expected),
        ):
            box, score = _apart(package, found, right)
            boxes.append(box)
            scores.append(score)
    # np.max and not max: a nan must come out as one.
    return Difference(float(np.max(boxes)), float(np.max(scores)))


def _closer(package: ModelPackage, engine: Engine, outputs: Tensors) -> Tensors:
    """What the further graphs make of the outputs of a search.

    What else they take is a box in the search crop, for which the middle of it will do.
    """
    found: Tensors = {}
    for role in package.further:
        middle = np.array([0.25, 0.25, 0.75, 0.75], np.float32) * package.crop_px('search')
        numbers = {
            name: np.resize(middle, (1, *shape)) for name, shape in package.values_of(role).items()
        }
        found.update(engine.run(role, {**outputs, **numbers}))
    return found


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


def _vlt_scar(package: ModelPackage, outputs: Tensors, expected: Tensors) -> tuple[Values, Values]:
    box, probabilities = _nanotrack(package, outputs, expected)
    centres = 1 / (1 + np.exp(-_numbers(outputs['centre'])[0, 0]))
    return box, np.stack([probabilities, centres])


def _vlt_tt(package: ModelPackage, outputs: Tensors, expected: Tensors) -> tuple[Values, Values]:
    target, background = _numbers(outputs['score'])[0].T
    cell = int((expected['score'][0, :, 0] - expected['score'][0, :, 1]).argmax())
    box = _numbers(outputs['box'])[0, cell] * package.crop_px('search')
    return box, 1 / (1 + np.exp(background - target))


def _proposals(
    package: ModelPackage, outputs: Tensors, expected: Tensors
) -> tuple[Values, Values]:
    # Classes, and the four numbers of a box, come before the anchors.
    background, target = _numbers(outputs['cls'])[0].reshape(2, -1)
    true_background, true_target = _numbers(expected['cls'])[0].reshape(2, -1)
    best = int((true_target - true_background).argmax())
    # Numbers relative to the anchor; all anchors have about this side.
    side = float(package.constants['stride']) * float(package.constants['anchor_scale'])
    box = _numbers(outputs['loc'])[0].reshape(4, -1)[:, best] * side
    logits = [target - background]
    if 'correction' in outputs:
        # A fifth of the box's side at most for each unit.
        correction = _numbers(outputs['correction'])[0] * 0.2 * package.crop_px('search') / 2
        box = np.concatenate([box, correction])
        logits.append(_numbers(outputs['mask_logits']).reshape(-1))
    return box, 1 / (1 + np.exp(-np.concatenate(logits)))


def _dual_tfr(package: ModelPackage, outputs: Tensors, expected: Tensors) -> tuple[Values, Values]:
    best = int(expected['score'][0].argmax())
    box = _numbers(outputs['box'])[0, best] * package.crop_px('search')
    return box, _numbers(outputs['score'])[0]


def _kestrel(package: ModelPackage, outputs: Tensors, expected: Tensors) -> tuple[Values, Values]:
    cell = int(expected['score'][0, 0].argmax())
    sides = _at(cell, outputs['sides']) * package.crop_px('search')
    shares = _numbers(outputs['score'])[0].ravel()
    return sides, np.concatenate([shares, _numbers(outputs['presence'])])


READERS: dict[str, Reader] = {
    'dual_tfr': _dual_tfr,
    'kestrel': _kestrel,
    'mixformer_v2': _mixformer_v2,
    'nanotrack': _nanotrack,
    'siam_attn': _proposals,
    'simtrack': _simtrack,
    'vittrack': _vittrack,
    'vlt_rpn': _proposals,
    'vlt_scar': _vlt_scar,
    'vlt_tt': _vlt_tt,
}


def _at(cell: int, maps: NDArray[np.float32]) -> Values:
    """The values of maps (1, K, cells, cells) in a cell, counted row by row."""
    return _numbers(maps)[0].reshape(maps.shape[1], -1)[:, cell]


def _numbers(values: NDArray[Any]) -> Values:
    return values.astype(np.float64)


def _middle(scene: Image, side: int) -> Image:
    first = (len(scene) - side) // 2
    return np.ascontiguousarray(scene[first : first + side, first : first + side])
