# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The card of a model: what a training was, written by the run itself.

It says which runs made the weights, on which data under which terms, how the curve went and how
good the result is, for people (``card.md``) and, shorter, for programs (`facts_of`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tracker_ros.training.checkpoints import TrainingError, load
from tracker_ros.training.loop import MADE_BY
from tracker_ros.training.progress import Progress
from tracker_ros.training.recipe import Recipe, recipe_from
from tracker_ros.training.sets import mix_of

_LARGEST_BYTES = 64 << 20
_CURVE_LINES = 12
_SCORES = {
    'auc': 'AUC',
    'precision': 'P@20',
    'normalised_precision': 'NP',
    'ao': 'AO',
    'sr50': 'SR.5',
    'sr75': 'SR.75',
}


@dataclass(frozen=True)
class Trained:
    """A run as it lies in its folder."""

    folder: Path
    recipe: Recipe
    progress: Progress
    made_by: Mapping[str, str]
    """Version, commit and PyTorch, as far as they were recorded."""


def read_run(folder: Path) -> Trained:
    """Raises TrainingError where `folder` holds no run."""
    last = folder / 'last.pt'
    if not last.is_file():
        raise TrainingError(f'{folder} holds no run: there is no {last.name}')
    content = load(last)
    try:
        recipe = recipe_from(yaml.safe_load(content['recipe']), str(last))
        progress = Progress(**content['progress'])
    except (KeyError, TypeError, yaml.YAMLError) as error:
        raise TrainingError(f'{last} is no checkpoint of a run: {error}') from error
    made_by = _yaml(folder / MADE_BY) if (folder / MADE_BY).is_file() else {}
    return Trained(folder, recipe, progress, made_by)


def read_sources(path: Path) -> dict[str, dict[str, str]]:
    """The terms of the sources by name. Raises TrainingError."""
    content = _yaml(path)
    for name, entry in content.items():
        if not isinstance(entry, dict) or not {'dataset', 'terms'} <= entry.keys():
            raise TrainingError(f'{path}: {name} needs dataset and terms, not {entry!r}')
    return content


def read_scores(path: Path) -> dict[str, Any]:
    """What `tracker_ros eval --json` wrote. Raises TrainingError."""
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise TrainingError(f'{path} is larger than 64 MiB; that is no result of eval')
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise TrainingError(f'{path} cannot be read: {error}') from error
    if not isinstance(content, dict) or not isinstance(content.get('trackers'), dict):
        raise TrainingError(f'{path} is no result of `tracker_ros eval --json`')
    return content


def facts_of(runs: Sequence[Trained]) -> dict[str, Any]:
    """What model.yaml says of the training."""
    return {'training': [_facts(run) for run in runs]}


def _facts(run: Trained) -> dict[str, Any]:
    recipe, progress = run.recipe, run.progress
    facts: dict[str, Any] = {
        'recipe': recipe.name,
        'seed': recipe.seed,
        'samples': progress.samples,
        'hours': round(progress.spent_s / 3600, 2),
        'search_px': recipe.crops.search_px,
        **run.made_by,
    }
    if progress.curve:
        _, iou, hit, presence = progress.curve[-1]
        facts['dev_pairs'] = {
            'iou': round(iou, 4),
            'hit': round(hit, 4),
            'presence': round(presence, 4),
        }
    return facts


def card_of(
    name: str,
    runs: Sequence[Trained],
    sources: Mapping[str, Mapping[str, str]],
    scores: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The card as Markdown. Raises TrainingError for a source whose terms are not told."""
    return '\n'.join(
        [
            f'# {name}',
            '',
            'Trained by this project. The weights are under the Apache License 2.0 as far as they',
            "are the project's to give; part of what they were trained on was published for",
            'research (below), and whether that binds a use is for the user to decide. None of',
            'the footage is redistributed.',
            '',
            *_runs_table(runs),
            '',
            *_data_table(runs, sources),
            '',
            *_scores_tables(scores),
            *_curves(runs),
        ]
    )


def _runs_table(runs: Sequence[Trained]) -> list[str]:
    lines = [
        '## Runs',
        '',
        'In this order, each beginning with the averaged weights of the one before.',
        '',
        '| recipe | seed | search, px | samples | hours | rate | commit |',
        '|---|---|---|---|---|---|---|',
    ]
    for run in runs:
        recipe, progress = run.recipe, run.progress
        falls = bool(recipe.steps.decay_samples) or progress.decay_from >= 0
        rate = f'{recipe.steps.rate:g}' + (', falling' if falls else '')
        lines.append(
            f'| `{recipe.name}` | {recipe.seed} | {recipe.crops.search_px} | {progress.samples} '
            f'| {progress.spent_s / 3600:.1f} | {rate} | {run.made_by.get("commit", "-")[:12]} |'
        )
    return lines


def _sources_of(run: Trained) -> dict[str, float]:
    """The weights of the sources that the run was made on."""
    data = run.recipe.data
    return mix_of(data.mix, data.folder, data.sets).sources


def _data_table(runs: Sequence[Trained], sources: Mapping[str, Mapping[str, str]]) -> list[str]:
    mixes = [_sources_of(run) for run in runs]
    named = sorted({source for mix in mixes for source in mix})
    unknown = [source for source in named if source not in sources]
    if unknown:
        raise TrainingError(
            f'the terms of {", ".join(unknown)} are not told; add them to the file of --sources'
        )
    lines = [
        '## Data',
        '',
        '| source | what | terms | share, by run |',
        '|---|---|---|---|',
    ]
    for source in named:
        shares = []
        for weights in mixes:
            share = weights.get(source, 0.0) / max(math.fsum(weights.values()), 1e-9)
            shares.append(f'{100 * share:.1f} %')
        entry = sources[source]
        lines.append(f'| {source} | {entry["dataset"]} | {entry["terms"]} | {", ".join(shares)} |')
    return lines


def _scores_tables(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    lines: list[str] = []
    for result in scores:
        lines += [
            f'## Accuracy on {Path(str(result.get("data", "?"))).name}',
            '',
            'One pass, `tracker_ros eval`.',
            '',
            f'| tracker | {" | ".join(_SCORES.values())} |',
            '|---' * (len(_SCORES) + 1) + '|',
        ]
        for name, found in result['trackers'].items():
            cells = ' | '.join(_shown(found.get(score)) for score in _SCORES)
            # A package that was given by its folder.
            lines.append(f'| {Path(name).name} | {cells} |')
        lines.append('')
    return lines


def _curves(runs: Sequence[Trained]) -> list[str]:
    lines = [
        '## Curve',
        '',
        'Pairs of frames of the validation sequences: mean overlap, share of overlaps from 0.5, '
        'and AUROC of',
        'presence.',
        '',
        '| recipe | samples | overlap | hits | presence |',
        '|---|---|---|---|---|',
    ]
    for run in runs:
        curve = run.progress.curve
        step = max(1, math.ceil(len(curve) / _CURVE_LINES))
        # The last, and back from it.
        for samples, iou, hit, presence in curve[::-1][::step][::-1]:
            lines.append(
                f'| `{run.recipe.name}` | {int(samples)} | {iou:.3f} | {hit:.3f} '
                f'| {presence:.3f} |'
            )
    return [*lines, '']


def _shown(value: object) -> str:
    return f'{value:.3f}' if isinstance(value, float | int) else '-'


def _yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise TrainingError(f'{path} cannot be read: {error}') from error
    if not isinstance(content, dict):
        raise TrainingError(f'{path} must hold a mapping')
    return content
