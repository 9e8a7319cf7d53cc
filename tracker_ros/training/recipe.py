# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A recipe: every number of a training run, in one YAML file."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tracker_ros.training.light import Weather
from tracker_ros.training.losses import Weights
from tracker_ros.training.samples import ORDERS, Crops, Mix
from tracker_ros.training.sets import SetSource

_LARGEST_RECIPE_BYTES = 1 << 20


class RecipeError(Exception):
    """A recipe is missing or wrong; the text names the file and the entry."""


@dataclass(frozen=True)
class Data:
    """Where the pictures are, and what is made of them.

    folder: as `pictures` has it. sets: the field's training sets, beside it or instead.
    """

    folder: str = ''
    sets: tuple[SetSource, ...] = ()
    mix: Mix = field(default_factory=Mix)
    weather: Weather = field(default_factory=Weather)
    cache_mib: int = 3072
    workers: int = 0
    """Processes that make samples; 0: the one that trains makes them itself."""


@dataclass(frozen=True)
class Steps:
    """How the weights are changed. The rate is held until a decay is asked for."""

    samples: int
    """How many the run is meant to see in all."""
    batch: int = 32
    rate: float = 1e-3
    final_rate: float = 1e-5
    decay_samples: int = 0
    """The last so many samples of the run lower the rate; 0: only when it is asked for."""
    weight_decay: float = 0.02
    warmup_samples: int = 16000
    largest_gradient: float = 5.0
    ema: float = 0.9995
    hold_norms: bool = False
    """Norms keep the means they have: for the end of a training, at another size."""
    drops: tuple[int, ...] = ()
    """The samples at which the rate is multiplied by `drop_factor`."""
    drop_factor: float = 0.1
    optimiser: str = 'adamw'
    """adamw or sgd."""
    momentum: float = 0.9
    """Of sgd."""


@dataclass(frozen=True)
class Validation:
    """Pairs of annotated sequences that are never trained on."""

    folder: str = ''
    every_samples: int = 20000
    pairs: int = 50
    """Of each sequence."""
    gap_frames: int = 100


@dataclass(frozen=True)
class Recipe:
    name: str
    family: str
    variant: str
    data: Data
    steps: Steps
    crops: Crops = field(default_factory=Crops)
    loss: Weights = field(default_factory=Weights)
    validation: Validation = field(default_factory=Validation)
    options: dict[str, Any] = field(default_factory=dict)
    """What only this family has; see its module in `families`."""
    teacher: str = ''
    """Weights of a network to learn from, for families that distil."""
    seed: int = 0
    precision: str = 'bf16'
    """fp32, bf16 or fp16: what networks compute with; weights are always fp32."""
    gradient_checkpointing: bool = False
    """Parts of the network are computed again for the gradient: less memory, more time."""
    threads: int = 1
    save_minutes: float = 5.0

    def as_dict(self) -> dict[str, Any]:
        return _plain(dataclasses.asdict(self))


def read_recipe(path: Path) -> Recipe:
    """Raises RecipeError."""
    try:
        if path.stat().st_size > _LARGEST_RECIPE_BYTES:
            raise RecipeError(f'{path} is larger than 1 MiB; that is no recipe')
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise RecipeError(f'{path} cannot be read: {error}') from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(f'{path} is not readable YAML: {error}') from error
    return recipe_from(content, str(path))


def recipe_from(content: object, place: str) -> Recipe:
    recipe: Recipe = made(Recipe, content, place)
    data = recipe.data
    if not data.folder and not data.sets:
        raise RecipeError(f'{place}: data says nothing of where they are: give a folder, or sets')
    if data.mix.order not in ORDERS:
        raise RecipeError(
            f'{place}: data.mix.order must be one of {", ".join(ORDERS)}, not {data.mix.order!r}'
        )
    if recipe.precision not in ('fp32', 'bf16', 'fp16'):
        raise RecipeError(
            f'{place}: precision must be fp32, bf16 or fp16, not {recipe.precision!r}'
        )
    if recipe.steps.optimiser not in ('adamw', 'sgd'):
        raise RecipeError(
            f'{place}: steps.optimiser must be adamw or sgd, not {recipe.steps.optimiser!r}'
        )
    return recipe


def made(kind: type, content: object, place: str) -> Any:
    """An instance of a dataclass from a mapping, with all its entries checked."""
    if not isinstance(content, dict):
        raise RecipeError(f'{place} must be a mapping, not {type(content).__name__}')
    hints = typing.get_type_hints(kind)
    fields = {each.name: each for each in dataclasses.fields(kind)}
    unknown = sorted(map(str, content.keys() - fields.keys()))
    if unknown:
        raise RecipeError(
            f'{place}: unknown entries {", ".join(unknown)}; known are {", ".join(fields)}'
        )
    missing = [
        name
        for name, each in fields.items()
        if name not in content
        and each.default is dataclasses.MISSING
        and each.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise RecipeError(f'{place}: the entries {", ".join(missing)} are missing')
    return kind(
        **{name: _value(hints[name], value, f'{place}: {name}') for name, value in content.items()}
    )


def _value(hint: Any, value: object, place: str) -> Any:
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return made(hint, value, place)
    origin = typing.get_origin(hint)
    if origin is dict and isinstance(value, dict):
        of_value = typing.get_args(hint)[1]
        return {str(key): _value(of_value, each, f'{place}.{key}') for key, each in value.items()}
    if origin is tuple and isinstance(value, list):
        of_item = typing.get_args(hint)[0]
        return tuple(_value(of_item, each, f'{place}[{n}]') for n, each in enumerate(value))
    if hint is float and type(value) in (int, float):
        return float(typing.cast(float, value))
    if not isinstance(hint, types.GenericAlias) and type(value) is hint:
        return value
    raise RecipeError(f'{place} must be of the type {hint}, not {value!r}')


def _plain(value: Any) -> Any:
    """With lists for tuples, as YAML writes them."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return list(map(_plain, value)) if isinstance(value, list | tuple) else value
