# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""An architecture of VLT as a YAML file: what a search finds and a training takes.

``template`` and ``search`` list the block of each layer, a list a stage; ``template_mixers`` and
``search_mixers`` that of each stage's mixer. 0, 1 and 2 are shuffle blocks with kernels of 3, 5
and 7 pixels, 3 is the Xception block (table 1). Other entries are notes.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tracker_ros.networks.moda_mixer import Paths
from tracker_ros.networks.shuffle_supernet import CANDIDATES, Stages
from tracker_ros.training.checkpoints import TrainingError

LISTS = ('template', 'search', 'template_mixers', 'search_mixers')
_LARGEST_BYTES = 1 << 20


def lengths_of(stages: Stages) -> dict[str, int]:
    """How many choices each list of an architecture has."""
    layers, mixers = stages.ends[-1], len(stages.layers)
    return dict(zip(LISTS, (layers, layers, mixers, mixers), strict=True))


def read_architecture(path: Path, stages: Stages) -> Paths:
    """Raises TrainingError, which names the entry that is wrong."""
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise TrainingError(f'{path} is larger than 1 MiB; that is no architecture')
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise TrainingError(
            f'{path} cannot be read: {error}. `tracker_ros search` writes architectures.'
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise TrainingError(f'{path} is not readable YAML: {error}') from error
    if not isinstance(content, dict):
        raise TrainingError(f'{path} must be a mapping with {", ".join(LISTS)}')
    return Paths(
        *(
            _genes(content.get(name), count, f'{path}: {name}')
            for name, count in lengths_of(stages).items()
        )
    )


def _genes(value: object, count: int, place: str) -> tuple[int, ...]:
    if isinstance(value, list) and all(isinstance(each, list) for each in value):
        value = list(itertools.chain.from_iterable(value))
    if not isinstance(value, list) or not all(
        type(each) is int and 0 <= each < CANDIDATES for each in value
    ):
        raise TrainingError(
            f'{place} must be a list of numbers from 0 to {CANDIDATES - 1}, not {value!r}'
        )
    if len(value) != count:
        raise TrainingError(
            f'{place} has {len(value)} blocks, but the network has {count}: is it of another '
            'variant?'
        )
    return tuple(value)


def write_architecture(
    paths: Paths, stages: Stages, path: Path, notes: Mapping[str, Any] | None = None
) -> None:
    """Write an architecture, whole or not at all."""
    bounds = list(itertools.pairwise((0, *stages.ends)))
    content: dict[str, Any] = {
        'template': [list(paths.template[first:end]) for first, end in bounds],
        'search': [list(paths.search[first:end]) for first, end in bounds],
        'template_mixers': list(paths.template_mixers),
        'search_mixers': list(paths.search_mixers),
        **(notes or {}),
    }
    replace_text(path, yaml.safe_dump(content, sort_keys=False, default_flow_style=None))


def replace_text(path: Path, text: str) -> None:
    """Write a file in the place of the last one; a crash leaves one of both."""
    fresh = path.with_name(f'.{path.name}.{os.getpid()}')
    with fresh.open('w', encoding='utf-8') as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)
