# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How far a run is, and what follows from it: the learning rate, and the end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tracker_ros.training.recipe import Recipe


@dataclass
class Progress:
    """How far a run is, and what it has measured."""

    step: int = 0
    samples: int = 0
    spent_s: float = 0.0
    decay_from: int = -1
    decay_samples: int = 0
    curve: list[list[float]] = field(default_factory=list)


def rate_at(recipe: Recipe, progress: Progress) -> float:
    """The learning rate: rising at the beginning, held, and falling.

    It falls in steps at `steps.drops`, and as a cosine where that is in the recipe or asked for.
    """
    steps, done = recipe.steps, progress.samples
    rate = steps.rate * min(1.0, (done + steps.batch) / max(1, steps.warmup_samples))
    for drop in steps.drops:
        if done >= drop:
            rate *= steps.drop_factor
    begin, length = progress.decay_from, progress.decay_samples
    if begin < 0 and steps.decay_samples:
        begin, length = steps.samples - steps.decay_samples, steps.decay_samples
    if 0 <= begin < done:
        part = min(1.0, (done - begin) / max(1, length))
        fall = 0.5 * (1 + math.cos(math.pi * part))
        rate = steps.final_rate + (rate - steps.final_rate) * fall
    return rate


def log_rate_at(recipe: Recipe, progress: Progress, first_rate: float) -> float:
    """The learning rate as in PySOT: rising from `first_rate`, then falling, by equal factors.

    PySOT takes a step each epoch, here it is each batch. Where an earlier end is asked for, it
    falls to the final rate from where it is.
    """
    steps, done, begin = recipe.steps, progress.samples, progress.decay_from
    length = max(1, steps.samples - steps.warmup_samples)

    def planned(samples: int) -> float:
        if samples < steps.warmup_samples:
            return _between(first_rate, steps.rate, samples / steps.warmup_samples)
        return _between(steps.rate, steps.final_rate, (samples - steps.warmup_samples) / length)

    if begin < 0:
        return planned(done)
    part = (done - begin) / max(1, progress.decay_samples)
    return _between(planned(begin), steps.final_rate, part)


def _between(first: float, last: float, part: float) -> float:
    """From `first` at 0 to `last` at 1, by equal factors."""
    return float(first * (last / first) ** min(max(part, 0.0), 1.0))


def end_of(recipe: Recipe, progress: Progress) -> int:
    """How many samples the run sees in all."""
    if progress.decay_from >= 0:
        return progress.decay_from + progress.decay_samples
    return recipe.steps.samples


def is_over(recipe: Recipe, progress: Progress) -> bool:
    """Whether the run has seen all its samples."""
    return progress.samples >= end_of(recipe, progress)
