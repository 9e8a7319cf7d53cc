# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Runs that learn eight drawn samples by heart, for the families of transformers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import square_samples
import torch

from tracker_ros.training.batches import Batch, collate
from tracker_ros.training.loop import Run
from tracker_ros.training.losses import corners_of, overlap
from tracker_ros.training.recipe import Recipe, read_recipe, recipe_from
from tracker_ros.training.samples import Sample

RECIPES = Path(__file__).resolve().parent.parent / 'recipes'
STEPS = {'batch': 8, 'warmup_samples': 80, 'weight_decay': 1e-4, 'largest_gradient': 1.0}


def samples_of(templates: int = 1, template_px: int = 32, search_px: int = 64, absent: int = 0):
    """Samples by number, eight different ones; the first `absent` show something else."""

    def made(number: int) -> Sample:
        number %= 8
        sample = square_samples.sample(number, template_px, search_px)
        if number < absent:
            other = square_samples.sample(number + 50, template_px, search_px)
            sample = dataclasses.replace(sample, search=other.search, present=0.0)
        return dataclasses.replace(
            sample,
            templates=np.repeat(sample.templates, templates, axis=0),
            template_boxes=np.repeat(sample.template_boxes, templates, axis=0),
        )

    return made


def batch_of(**kinds: int) -> Batch:
    """All eight; see `samples_of`."""
    return collate([samples_of(**kinds)(number) for number in range(8)])


def tiny_recipe(family: str, templates: int = 1, steps: int = 100, **changes: Any) -> Recipe:
    """Of the variant `tiny` of a family."""
    content = {
        'name': 'tiny',
        'family': family,
        'variant': 'tiny',
        'data': {'folder': 'none'},
        'crops': {'template_px': 32, 'search_px': 64, 'templates': templates},
        'steps': {**STEPS, 'samples': 8 * steps, 'rate': 0.003, 'ema': 0.0},
        'precision': 'fp32',
        **changes,
    }
    return recipe_from(content, 'here')


def dry(name: str, steps: int, rate: float, options: dict[str, Any], **changes: Any) -> Recipe:
    """A recipe of the project as it is, but for the length, the rates and the size of crops."""
    recipe = read_recipe(RECIPES / f'{name}.yaml')
    return dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, folder='none', sets=(), workers=0),
        crops=dataclasses.replace(recipe.crops, template_px=32, search_px=64),
        steps=dataclasses.replace(recipe.steps, samples=8 * steps, rate=rate, drops=(), **STEPS),
        options={**recipe.options, **options},
        save_minutes=100.0,
        **changes,
    )


def overlap_of(run: Run, batch: Batch) -> float:
    """The mean over the batch, of the averaged weights."""
    with torch.no_grad():
        boxes = run.family.predict(
            run.averaged(), batch.templates, batch.template_boxes, batch.search
        )[0]
    return float(overlap(corners_of(boxes), corners_of(batch.truth.boxes))[0].mean())


def losses_at_the_rim(run: Run, batch: Batch) -> tuple[float, float]:
    """Of a target that the crop shows in part, and of one that is no more than that part."""

    def of(*box: float) -> float:
        truth = dataclasses.replace(batch.truth, boxes=torch.tensor([box]).expand(8, -1))
        made = dataclasses.replace(batch, truth=truth)
        with torch.no_grad():
            return float(run.family.loss(run.network, made, run.progress)[0])

    return of(0.9, 0.5, 0.6, 0.4), of(0.8, 0.5, 0.4, 0.4)
