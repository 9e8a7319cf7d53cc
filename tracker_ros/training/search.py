# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ASS: which blocks template and search images should go through (VLT, section 3.2, appendix A.3).

A trained supernet gives its weights to every architecture. One is judged by the mean overlap on
pairs of frames that nothing was trained on, without language, which is the area under their
success plot (the paper's reward); before, the means of its norms are taken anew, since those of
the supernet are of all paths mixed. Evolution finds the best (`evolution`).

What a search is lies in its folder: ``search.json`` (every verdict so far, written after each),
``architecture.yaml`` (the best, at the end), ``log.txt``.
"""

from __future__ import annotations

import copy
import hashlib
import json
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tracker_ros.networks.moda_mixer import MixedBackbone, Paths
from tracker_ros.networks.shuffle_supernet import CANDIDATES, candidate
from tracker_ros.training.architecture import replace_text, write_architecture
from tracker_ros.training.batches import Batch, collate
from tracker_ros.training.checkpoints import TrainingError, load
from tracker_ros.training.evolution import Evolution, Genome, Space, SpaceError
from tracker_ros.training.families import family_of, weights_in
from tracker_ros.training.families.vlt import SUPERNET, Training, body_of
from tracker_ros.training.loop import Samples, Stop
from tracker_ros.training.processes import device_of
from tracker_ros.training.recipe import Recipe
from tracker_ros.training.samples import Sampler
from tracker_ros.training.sets import mix_of, read_sources
from tracker_ros.training.validation import Pairs, read_pairs, validate

ARCHITECTURE = 'architecture.yaml'
STATE = 'search.json'
_LARGEST_STATE_BYTES = 64 << 20


@dataclass(frozen=True)
class Found:
    """What a search came to. median_random: of the first generation, which is all random."""

    paths: Paths
    score: float
    median_random: float
    judged: int


class Judge:
    """A supernet that says how good an architecture is with its weights."""

    def __init__(self, family: Training, network: Any, batches: Sequence[Batch], pairs: Pairs):
        """batches: of the training data, for the norms. pairs: to be judged on."""
        self._family, self._network = family, network
        self._batches, self._pairs = batches, pairs
        self._device = next(network.parameters()).device

    def __call__(self, genome: Genome) -> float:
        """The mean overlap on the pairs."""
        family, network = self._family, self._network
        family.take(network, genome)
        batches = (batch.to(self._device) for batch in self._batches)
        renew_norms(network, (family.run(network, batch) for batch in batches))
        network.eval()

        def predict(templates: Tensor, boxes: Tensor, search: Tensor) -> tuple[Tensor, None]:
            return family.predict(network, templates, boxes, search)[0], None

        return validate(predict, self._pairs, device=self._device).iou


@torch.no_grad()
def renew_norms(network: nn.Module, runs: Iterable[object]) -> None:
    """Take means and variances of all batch norms anew, as plain means over `runs`.

    Each of `runs`, when it is asked for, has run the network once. Norms that no run meets are
    left without: mean 0, variance 1. Nothing else changes.
    """
    norms = [
        module
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    before = [norm.momentum for norm in norms]
    network.train()
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        for _ in runs:
            pass
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum


class Work:
    """Multiply-accumulates of the backbone on one search image, by the paths it takes."""

    def __init__(self, body: MixedBackbone, search_px: int) -> None:
        shadow = copy.deepcopy(body).to('meta').eval()
        stages = body.stages
        image = torch.empty(1, 3, search_px, search_px, device='meta')
        self.stem, feature = _macs(shadow.first_conv, image)
        self.layers: list[list[float]] = []
        self.mixers: list[list[float]] = []
        for layer in range(stages.ends[-1]):
            blocks = [candidate(shadow.features[layer], kind) for kind in range(CANDIDATES)]
            if layer + 1 in stages.ends:
                mixers = shadow.nlp_layers[len(self.mixers)]
                self.mixers.append(
                    [_macs(candidate(mixers, kind), feature)[0] for kind in range(CANDIDATES)]
                )
            found = [_macs(block, feature) for block in blocks]
            self.layers.append([count for count, _ in found])
            feature = found[0][1]

    def __call__(self, genome: Genome) -> float:
        """Billions."""
        paths = Paths(*genome)
        total = self.stem
        for table, kinds in ((self.layers, paths.search), (self.mixers, paths.search_mixers)):
            total += sum(counts[kind] for counts, kind in zip(table, kinds, strict=True))
        return total / 1e9


@torch.no_grad()
def _macs(module: nn.Module, feature: Tensor) -> tuple[float, Tensor]:
    with FlopCounterMode(display=False) as counter:
        result = module(feature)
    return counter.get_total_flops() / 2, result


def search(
    recipe: Recipe,
    weights: Path,
    folder: Path,
    *,
    resume: bool = False,
    minutes: float = 0.0,
    device: str = '',
    samples: Samples | None = None,
    pairs: Pairs | None = None,
) -> Found | None:
    """Search until the recipe's last generation; None where it was ended before.

    weights: what `tracker_ros train` made of the same recipe. resume: go on with the search in
    `folder`. device: see `processes.device_of`. samples, pairs: instead of what the recipe says.
    Raises TrainingError, RecipeError or DataError.
    """
    torch.set_num_threads(recipe.threads)
    cv2.setNumThreads(1)
    family = family_of(recipe)
    if not isinstance(family, Training) or not family.is_supernet:
        raise TrainingError(
            f'{recipe.name} trains no supernet: a search needs the family vlt and, in its '
            f'options, architecture: {SUPERNET}'
        )
    if pairs is None and not recipe.validation.folder:
        raise TrainingError(
            f'{recipe.name} names no pairs to judge by: give --dev, or validation.folder'
        )
    place = device_of(device)
    network = family.network().to(place)
    tensors = weights_in(load(weights), weights)
    try:
        family.begin_with(network, tensors)
    except RuntimeError as error:
        raise TrainingError(f'{weights} does not fit {recipe.variant}: {error}') from error
    options = family.options
    work = Work(body_of(network), family.variant.search_px)
    space = family.space
    if options.largest_gmacs:
        space = Space(
            space.lengths, space.kinds, lambda genome: work(genome) <= options.largest_gmacs
        )
    state = _State(folder, _identity(recipe, weights), resume)
    try:
        evolution = Evolution(space, options.search, recipe.seed)
        evolution.generation, evolution.scores = state.generation, state.scores
        evolution.ask()
    except SpaceError as error:
        raise TrainingError(f'{recipe.name}: options.search: {error}') from error
    pairs = pairs or read_pairs(recipe.validation, recipe.crops, folder)
    judge = Judge(family, network, batches_of(recipe, options.norm_batches, samples), pairs)
    session = _Session(evolution, judge, work, state, folder, minutes * 60)
    with Stop() as stop:
        if not session.go(stop):
            return None
    return _report(evolution, work, family, folder)


class _Session:
    """One stretch of a search, from a start to an end or an interruption."""

    def __init__(
        self,
        evolution: Evolution,
        judge: Judge,
        work: Work,
        state: _State,
        folder: Path,
        limit_s: float,
    ) -> None:
        self._evolution, self._judge, self._work = evolution, judge, work
        self._state, self._folder, self._limit_s = state, folder, limit_s
        self._began = time.monotonic()

    def go(self, stop: Stop) -> bool:
        """Whether the search has come to its end."""
        evolution = self._evolution
        while not evolution.has_ended:
            for genome in evolution.ask()[len(self._state.current) :]:
                if stop.asked or 0 < self._limit_s < time.monotonic() - self._began:
                    _log(self._folder, 'ended before the end: go on with --resume')
                    return False
                self._state.add(self._judge(genome))
            evolution.tell(self._state.current)
            self._state.close(evolution)
            best = evolution.best()[0]
            _log(
                self._folder,
                f'generation {evolution.generation} of {evolution.plan.generations}, '
                f'{len(evolution.scores)} judged: best {evolution.scores[best]:.4f} at '
                f'{self._work(best):.4f} GMAC, median of this '
                f'{statistics.median(list(evolution.scores.values())[-self._state.last :]):.4f}',
            )
        return True


class _State:
    """What a search has found out, in its folder."""

    def __init__(self, folder: Path, identity: dict[str, Any], resume: bool) -> None:
        self._path, self._identity = folder / STATE, identity
        self.generation = self.last = 0
        self.scores: dict[Genome, float] = {}
        self.current: list[float] = []
        if self._path.exists():
            if not resume:
                raise TrainingError(
                    f'{folder} holds a search: give --resume to go on, or another folder'
                )
            self._read()
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, score: float) -> None:
        self.current.append(score)
        self._write()

    def close(self, evolution: Evolution) -> None:
        """The generation has been judged."""
        self.generation, self.scores = evolution.generation, evolution.scores
        self.last, self.current = len(self.current), []
        self._write()

    def _write(self) -> None:
        content = {
            **self._identity,
            'generation': self.generation,
            'judged': [[genome, score] for genome, score in self.scores.items()],
            'current': self.current,
        }
        replace_text(self._path, json.dumps(content))

    def _read(self) -> None:
        try:
            if self._path.stat().st_size > _LARGEST_STATE_BYTES:
                raise ValueError('it is larger than 64 MiB')
            content = json.loads(self._path.read_text(encoding='utf-8'))
            changed = [name for name, value in self._identity.items() if content[name] != value]
            self.generation = int(content['generation'])
            self.current = [float(score) for score in content['current']]
            self.scores = {
                tuple(tuple(map(int, genes)) for genes in genome): float(score)
                for genome, score in content['judged']
            }
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise TrainingError(
                f'{self._path} is no search that can go on: {type(error).__name__}: {error}'
            ) from error
        if changed:
            raise TrainingError(
                f'{self._path} is of another search: {", ".join(changed)} differ. Take another '
                'folder, or the recipe and the weights that it began with'
            )


def _identity(recipe: Recipe, weights: Path) -> dict[str, Any]:
    """What must be the same for a search to go on; the number of generations may grow."""
    plan = recipe.as_dict()
    options = dict(plan['options'])
    search_plan = dict(options.get('search') or {})
    search_plan.pop('generations', None)
    options['search'] = search_plan
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    return {'variant': recipe.variant, 'seed': recipe.seed, 'options': options, 'weights': digest}


def batches_of(recipe: Recipe, count: int, samples: Samples | None = None) -> Sequence[Batch]:
    """The first batches that a run of the recipe sees."""
    if samples is None:
        data = recipe.data
        collection = read_sources(data.folder, data.sets, data.cache_mib << 20)
        mix = mix_of(data.mix, data.folder, data.sets)
        samples = Sampler(collection, recipe.crops, mix, data.weather, recipe.seed)
    return _Collated(samples, count, recipe.steps.batch)


class _Collated(Sequence[Batch]):
    """The first batches of a run; pixels are kept as bytes, a quarter of their size."""

    def __init__(self, samples: Samples, count: int, size: int) -> None:
        self._samples = [samples(number) for number in range(count * size)]
        self._count, self._size = count, size

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: Any) -> Any:
        return collate(self._samples[place * self._size : (place + 1) * self._size])

    def __iter__(self) -> Iterator[Batch]:
        return (self[place] for place in range(self._count))


def _report(evolution: Evolution, work: Work, family: Training, folder: Path) -> Found:
    best = evolution.best()[0]
    scores = list(evolution.scores.values())
    random = statistics.median(scores[: evolution.plan.population])
    found = Found(Paths(*best), evolution.scores[best], random, len(scores))
    notes = {
        'variant': family.recipe.variant,
        'overlap': round(found.score, 4),
        'median_random': round(random, 4),
        'judged': found.judged,
        'gmacs_backbone': round(work(best), 4),
        'seed': family.recipe.seed,
    }
    write_architecture(found.paths, family.variant.stages, folder / ARCHITECTURE, notes)
    _log(
        folder,
        f'found {folder / ARCHITECTURE}: overlap {found.score:.4f}, where the median of '
        f'random ones is {random:.4f}',
    )
    return found


def _log(folder: Path, text: str) -> None:
    line = f'{time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())} {text}'
    print(line, flush=True)
    with (folder / 'log.txt').open('a', encoding='utf-8') as stream:
        stream.write(line + '\n')
