#!/usr/bin/env python3
# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the search of VLT's architecture finds better ones than chance, in a small space.

    python benchmarks/architecture_search.py recipes/vlt_ass_small.yaml --out runs/ass
    python benchmarks/architecture_search.py recipes/vlt_ass_small.yaml --out runs/ass \
        --test ../shared/data/small

Trains the supernet of the recipe, searches in it to the end, and then judges what was found and
as many random architectures as asked on pairs which neither the training nor the search has
seen. All have the weights of the supernet, and norms taken anew. Every step goes on where it was
ended. The report is `--report`.md and .json.

With `--retrain` what was found and the first of the random ones are trained from the beginning,
each by itself (stage 3), and compared again.

Without `--test` all pictures are made up, which a small supernet learns in minutes of one core: a
patch with a pattern, another beside it that only the pattern tells apart, both of any size and
light. With it the data are those of the recipe.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from tracker_ros.evaluation.sequences import SequenceError
from tracker_ros.geometry import Image
from tracker_ros.networks.moda_mixer import Paths
from tracker_ros.training.architecture import read_architecture, write_architecture
from tracker_ros.training.checkpoints import TrainingError, load
from tracker_ros.training.evolution import Genome
from tracker_ros.training.families import family_of, weights_in
from tracker_ros.training.families.vlt import Training, body_of
from tracker_ros.training.loop import Samples, train
from tracker_ros.training.pictures import DataError
from tracker_ros.training.recipe import Recipe, RecipeError, read_recipe
from tracker_ros.training.samples import Crops, Sample
from tracker_ros.training.search import ARCHITECTURE, STATE, Judge, Work, batches_of, search
from tracker_ros.training.validation import Pairs, read_pairs, validate

SEED_OF_RANDOM = 1000
MADE_UP_PAIRS = 768
# The numbers of made-up samples; trainings count from 0.
JUDGED_ON, TESTED_ON = 10_000_000, 20_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('recipe', type=Path)
    parser.add_argument('--out', type=Path, required=True, help='where the runs live')
    parser.add_argument('--test', help='sequences that nothing has seen')
    parser.add_argument('--pairs', type=int, default=40, help='of each of them')
    parser.add_argument('--random', type=int, default=30, help='architectures to compare with')
    parser.add_argument('--retrain', type=int, default=0, help='samples to train again with')
    parser.add_argument('--retrained', type=int, default=3, help='random ones to train again')
    parser.add_argument(
        '--report', type=Path, default=Path('benchmarks/results/architecture_search')
    )
    arguments = parser.parse_args()
    try:
        return run(arguments)
    except (RecipeError, TrainingError, DataError, SequenceError) as error:
        print(error, file=sys.stderr)
        return 2


def run(arguments: argparse.Namespace) -> int:
    recipe = read_recipe(arguments.recipe)
    samples = pairs = None
    if not arguments.test:
        validation = dataclasses.replace(recipe.validation, folder='')
        recipe = dataclasses.replace(recipe, validation=validation)
        samples = functools.partial(made_up, crops=recipe.crops)
        pairs = made_up_pairs(range(JUDGED_ON, JUDGED_ON + MADE_UP_PAIRS), recipe.crops)
    supernet, searched = arguments.out / 'supernet', arguments.out / 'search'
    weights = supernet / 'network.pt'
    if not weights.exists() or progress_of(supernet)['samples'] < recipe.steps.samples:
        train(recipe, supernet, resume=(supernet / 'last.pt').exists(), samples=samples)
    found = search(recipe, weights, searched, resume=True, samples=samples, pairs=pairs)
    if found is None:
        return 1
    compared = compare(recipe, weights, searched, samples, arguments)
    result = {
        'recipe': recipe.name,
        'data': 'the data of the recipe' if arguments.test else 'pictures made up',
        'space': f'4^{len(found.paths.genes())}',
        'supernet': {
            'samples': progress_of(supernet)['samples'],
            'minutes': round(progress_of(supernet)['spent_s'] / 60, 1),
            'curve': progress_of(supernet)['curve'],
        },
        'search': generations(recipe, searched),
        'found': found.paths.genes(),
        **compared,
    }
    arguments.report.with_suffix('.json').write_text(json.dumps(result, indent=1) + '\n')
    arguments.report.with_suffix('.md').write_text(report(recipe, result))
    print(report(recipe, result))
    return 0


def made_up(number: int, crops: Crops) -> Sample:
    """A patch on a smooth ground, and one like it but for its pattern."""
    random = np.random.default_rng([7, number])
    patterns = random.integers(0, 256, (2, 3, 3, 3), np.uint8)
    template = ground(random, crops.template_px)
    shown = crops.template_px // 2
    put(template, patterns[0], (shown // 2, shown // 2, shown, shown), 1.0)
    search = ground(random, crops.search_px)
    sides = (crops.search_px * random.uniform(0.3, 0.45, (2, 2))).round().astype(int)
    places = [random.integers(0, crops.search_px - sides[which]) for which in range(2)]
    for which in (1, 0):
        put(search, patterns[which], (*places[which], *sides[which]), random.uniform(0.6, 1.2))
    box = np.array([*(places[0] + sides[0] / 2), *sides[0]], np.float32) / crops.search_px
    kind = str(patterns[0].reshape(-1, 3).mean(axis=0).argmax())
    return Sample(
        template[None],
        np.array([[0.5, 0.5, 0.5, 0.5]], np.float32),
        search,
        box,
        present=1.0,
        certain=1.0,
        sentence=f'a patch of kind {kind}',
    )


def ground(random: np.random.Generator, side: int) -> Image:
    coarse = random.integers(60, 196, (5, 5, 3), np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def put(canvas: Image, pattern: Image, place: tuple[int, ...], light: float) -> None:
    x, y, width, height = place
    patch = cv2.resize(pattern, (width, height), interpolation=cv2.INTER_NEAREST)
    canvas[y : y + height, x : x + width] = np.clip(light * patch, 0, 255)


def made_up_pairs(numbers: range, crops: Crops) -> Pairs:
    made = [made_up(number, crops) for number in numbers]
    return Pairs(
        np.stack([each.templates[0] for each in made]),
        np.stack([each.template_boxes[0] for each in made]),
        np.stack([each.search for each in made]),
        np.stack([each.box for each in made]),
        np.arange(len(made)),
    )


def progress_of(folder: Path) -> dict[str, Any]:
    return load(folder / 'last.pt')['progress']


def generations(recipe: Recipe, folder: Path) -> list[dict[str, float]]:
    """Best so far and median of each generation, on the pairs that were searched on."""
    judged = json.loads((folder / STATE).read_text())['judged']
    size = recipe.options['search']['population']
    rows = []
    for first in range(0, len(judged), size):
        scores = [score for _, score in judged[: first + size]]
        rows.append(
            {
                'judged': len(scores),
                'best': max(scores),
                'median': statistics.median(scores[first:]),
            }
        )
    return rows


def compare(
    recipe: Recipe,
    weights: Path,
    searched: Path,
    samples: Samples | None,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """What was found and random ones, on pairs that nothing has seen."""
    family = family_of(recipe)
    assert isinstance(family, Training)
    network = family.network()
    family.begin_with(network, weights_in(load(weights), weights))
    if arguments.test:
        validation = dataclasses.replace(
            recipe.validation, folder=arguments.test, pairs=arguments.pairs
        )
        folder = arguments.out / 'test'
        folder.mkdir(parents=True, exist_ok=True)
        pairs = read_pairs(validation, recipe.crops, folder)
    else:
        pairs = made_up_pairs(range(TESTED_ON, TESTED_ON + MADE_UP_PAIRS), recipe.crops)
    judge = Judge(family, network, batches_of(recipe, family.options.norm_batches, samples), pairs)
    work = Work(body_of(network), family.variant.search_px)
    paths = read_architecture(searched / ARCHITECTURE, family.variant.stages)
    best: Genome = (paths.template, paths.search, paths.template_mixers, paths.search_mixers)
    random = np.random.default_rng(SEED_OF_RANDOM)
    began = time.process_time()
    others = [family.space.random(random) for _ in range(arguments.random)]
    scores = [judge(genome) for genome in others]
    score = judge(best)
    again = {}
    if arguments.retrain:
        chosen = {'found': best, **{f'random_{n}': others[n] for n in range(arguments.retrained)}}
        overlaps = {
            name: retrained(
                recipe,
                Paths(*genome),
                arguments.out / 'retrained' / name,
                arguments.retrain,
                samples,
                pairs,
            )
            for name, genome in chosen.items()
        }
        again = {'retrained_samples': arguments.retrain, 'retrained_overlaps': overlaps}
    return {
        **again,
        'test_pairs': len(pairs.searches),
        'found_overlap': score,
        'found_gmacs': work(best),
        'random_overlaps': sorted(scores),
        'random_gmacs_median': statistics.median(map(work, others)),
        'random_median': statistics.median(scores),
        'random_best': max(scores),
        'better_than': sum(score > other for other in scores),
        'cpu_s_a_verdict': round((time.process_time() - began) / (len(others) + 1), 2),
        'torch': torch.__version__,
    }


def retrained(
    recipe: Recipe, paths: Paths, folder: Path, count: int, samples: Samples | None, pairs: Pairs
) -> float:
    """The mean overlap of an architecture that is trained by itself on `count` samples."""
    folder.mkdir(parents=True, exist_ok=True)
    family = family_of(recipe)
    assert isinstance(family, Training)
    write_architecture(paths, family.variant.stages, folder / ARCHITECTURE)
    options = {**recipe.options, 'architecture': str(folder / ARCHITECTURE)}
    steps = dataclasses.replace(recipe.steps, samples=count, decay_samples=count // 3)
    own = dataclasses.replace(recipe, options=options, steps=steps)
    last = folder / 'last.pt'
    if not last.exists() or progress_of(folder)['samples'] < count:
        train(own, folder, resume=last.exists(), samples=samples)
    family = family_of(own)
    assert isinstance(family, Training)
    network = family.network()
    family.begin_with(network, weights_in(load(last), last))
    network.eval()

    def predict(templates: Tensor, boxes: Tensor, search: Tensor) -> tuple[Tensor, None]:
        return family.predict(network, templates, boxes, search)[0], None

    return validate(predict, pairs).iou


def report(recipe: Recipe, result: dict[str, Any]) -> str:
    overlaps = result['random_overlaps']
    low, high = np.percentile(overlaps, [25, 75])
    rows = [
        ['found', f'{result["found_overlap"]:.4f}', f'{1000 * result["found_gmacs"]:.2f}'],
        [
            f'random, median of {len(overlaps)}',
            f'{result["random_median"]:.4f}',
            f'{1000 * result["random_gmacs_median"]:.2f}',
        ],
        ['random, quartiles', f'{low:.4f} to {high:.4f}', ''],
        ['random, best', f'{result["random_best"]:.4f}', ''],
    ]
    steps = [
        [str(row['judged']), f'{row["best"]:.4f}', f'{row["median"]:.4f}']
        for row in result['search']
    ]
    supernet, again = result['supernet'], result.get('retrained_samples')
    options = f' --retrain {again}' if again else ''
    return '\n'.join(
        [
            '# Architecture search in a small space',
            '',
            f'`python benchmarks/architecture_search.py recipes/{recipe.name}.yaml{options}`: '
            'a space of '
            f'{result["space"]} architectures, {result["data"]}; its supernet saw '
            f'{supernet["samples"]} samples.',
            '',
            f'On {result["test_pairs"]} pairs that neither training nor search has '
            f'seen, with the weights of the supernet, the found one is better than '
            f'{result["better_than"]} of {len(overlaps)} random ones:',
            '',
            markdown(['architecture', 'mean overlap', 'backbone, MMAC a frame'], rows),
            '',
            'The search itself, on the pairs that it judges by (the first generation is random):',
            '',
            markdown(['judged', 'best so far', 'median of the generation'], steps),
            '',
            f'A verdict takes {result["cpu_s_a_verdict"]} s of a core.',
            '',
            *trained_again(result),
        ]
    )


def trained_again(result: dict[str, Any]) -> list[str]:
    if 'retrained_overlaps' not in result:
        return ['Nothing was trained again after the search (stage 3).', '']
    rows = [
        [name.replace('_', ' '), f'{value:.4f}']
        for name, value in result['retrained_overlaps'].items()
    ]
    return [
        f'Trained from the beginning on {result["retrained_samples"]} samples each, the same in '
        'the same order (stage 3), on the same pairs; the random ones are the first that were '
        'drawn. One training each: differences of a few hundredths may be chance.',
        '',
        markdown(['architecture', 'mean overlap'], rows),
        '',
    ]


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


if __name__ == '__main__':
    sys.exit(main())
