# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The training loop: one process, ended and continued at any time without a trace.

What a run is lies in its folder: ``last.pt`` (all that is needed to go on), ``network.pt`` (the
averaged weights, for `tracker_ros models convert`), ``recipe.yaml``, ``made_by.yaml`` (versions
and commit), ``log.txt``, ``curve.tsv``.
"""

from __future__ import annotations

import copy
import functools
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import cv2
import torch
import yaml
from torch import Tensor, nn

from tracker_ros import __version__
from tracker_ros.training.batches import Batch, collate
from tracker_ros.training.checkpoints import TrainingError, load, save
from tracker_ros.training.families import family_of, weights_in
from tracker_ros.training.pictures import read_collection
from tracker_ros.training.progress import Progress, end_of, rate_at
from tracker_ros.training.recipe import Recipe, recipe_from
from tracker_ros.training.samples import Sample, Sampler
from tracker_ros.training.validation import Pairs, read_pairs, validate

MADE_BY = 'made_by.yaml'
_LOG_EVERY_S = 60.0
_REQUESTS = (signal.SIGTERM, signal.SIGINT)


class Samples(Protocol):
    """Makes the sample of a number."""

    def __call__(self, number: int) -> Sample: ...


class Run:
    """The state of a run: what a checkpoint holds."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.family = family_of(recipe)
        torch.manual_seed(recipe.seed)
        self.network: Any = self.family.network()
        self._average_from_here()
        self.groups = [group for group in self.family.groups(self.network) if group.parameters]
        self.optimiser = self._optimiser()
        self.progress = Progress()

    def begin_with(self, path: Path) -> None:
        """Take the averaged weights of another run, or weights of a family's own files."""
        tensors = weights_in(load(path), path)
        try:
            self.family.begin_with(self.network, tensors)
        except (RuntimeError, KeyError, ValueError) as error:
            raise TrainingError(f'{path} does not fit {self.recipe.variant}: {error}') from error
        self._average_from_here()

    def train_on(self, batch: Batch) -> dict[str, Tensor]:
        """One step; returns the parts of the loss."""
        progress = self.progress
        self.family.set_mode(self.network, progress)
        rate = self.family.rate(progress)
        for group, own in zip(self.groups, self.optimiser.param_groups, strict=True):
            own['lr'] = rate * group.scale
        loss, parts = self.family.loss(self.network, batch, progress)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for group in self.groups:
            if progress.samples < group.begins:
                for parameter in group.parameters:
                    parameter.grad = None
        norm = nn.utils.clip_grad_norm_(self._trained, self.recipe.steps.largest_gradient)
        if torch.isfinite(norm):
            self.optimiser.step()
        progress.step += 1
        progress.samples += len(batch.search)
        self._update_average()
        parts = {'loss': loss, 'norm': norm, **parts}
        return {name: value.detach() for name, value in parts.items()}

    def _optimiser(self) -> torch.optim.Optimizer:
        grouped = [each for group in self.groups for each in group.parameters]
        if len(set(grouped)) < len(grouped):
            raise TrainingError(f'{self.recipe.family}: a parameter is in more than one group')
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
        for parameter in grouped:
            parameter.requires_grad_(True)
        # In the network's order, so that the groups do not change how their norms are summed.
        self._trained = [each for each in self.network.parameters() if each.requires_grad]
        decay = self.recipe.steps.weight_decay
        return self.family.optimiser(
            [
                {'params': list(group.parameters), 'weight_decay': decay if group.decays else 0.0}
                for group in self.groups
            ]
        )

    def _average_from_here(self) -> None:
        self.average = {
            name: value.detach().clone() for name, value in self.network.state_dict().items()
        }

    @torch.no_grad()
    def _update_average(self) -> None:
        step = self.progress.step
        keep = min(self.recipe.steps.ema, (1 + step) / (10 + step))
        now = self.network.state_dict()
        floats = [name for name, value in self.average.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self.average[name] for name in floats], [now[name] for name in floats], 1 - keep
        )
        for name in self.average.keys() - floats:
            self.average[name].copy_(now[name])

    def averaged(self) -> Any:
        """A network with the averaged weights, for evaluation."""
        network = copy.deepcopy(self.network)
        network.load_state_dict(self.average)
        return network.eval()

    def state(self) -> dict[str, Any]:
        return {
            'recipe': yaml.safe_dump(self.recipe.as_dict(), sort_keys=False),
            'progress': vars(self.progress),
            'network': self.network.state_dict(),
            'average': self.average,
            'optimiser': self.optimiser.state_dict(),
            'random': torch.get_rng_state(),
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Go on from a checkpoint. Raises TrainingError when it is of another network."""
        try:
            self.network.load_state_dict(content['network'])
            self.average = content['average']
            self.optimiser.load_state_dict(content['optimiser'])
            self.progress = Progress(**content['progress'])
            torch.set_rng_state(content['random'])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise TrainingError(
                f'the checkpoint does not fit the recipe {self.recipe.name}: {error}'
            ) from error


class Stop:
    """Inside of it, a request to end the process ends only the loop, after the step it is in."""

    def __init__(self) -> None:
        self.asked = False
        self._before: list[Any] = []

    def __enter__(self) -> Stop:
        self._before = [signal.signal(number, self._ask) for number in _REQUESTS]
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in zip(_REQUESTS, self._before, strict=True):
            signal.signal(number, handler)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True


def train(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    begin_with: Path | None = None,
    minutes: float = 0.0,
    decay_samples: int = 0,
    samples: Samples | None = None,
) -> Run:
    """Train until the recipe's end, or for `minutes`, or until SIGTERM.

    resume: go on with the run in `folder`. begin_with: weights to begin with. decay_samples: lower
    the rate from here on, and end after so many samples. samples: what to train on, if not what
    the recipe says. Raises TrainingError, RecipeError or DataError.
    """
    torch.set_num_threads(recipe.threads)
    cv2.setNumThreads(1)
    run = _begun(recipe, folder, resume, begin_with)
    if decay_samples:
        run.progress.decay_from = run.progress.samples
        run.progress.decay_samples = decay_samples
    recipe = run.recipe
    if samples is None:
        data = recipe.data
        collection = read_collection(Path(data.folder), cache_bytes=data.cache_mib << 20)
        samples = Sampler(collection, recipe.crops, data.mix, data.weather, recipe.seed)
    pairs = None
    if recipe.validation.folder:
        pairs = read_pairs(recipe.validation, recipe.crops, folder)
    _Session(run, folder, samples, pairs, minutes * 60).go()
    return run


def _begun(recipe: Recipe, folder: Path, resume: bool, begin_with: Path | None) -> Run:
    last = folder / 'last.pt'
    if last.exists() and not resume:
        raise TrainingError(f'{folder} holds a run: give --resume to go on, or another folder')
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(recipe)
    if last.exists():
        content = load(last)
        before = recipe_from(yaml.safe_load(content['recipe']), str(last))
        if (before.family, before.variant) != (recipe.family, recipe.variant):
            raise TrainingError(f'{last} is of {before.family}, variant {before.variant}')
        run.restore(content)
    elif begin_with is not None:
        run.begin_with(begin_with)
    (folder / 'recipe.yaml').write_text(
        yaml.safe_dump(recipe.as_dict(), sort_keys=False), encoding='utf-8'
    )
    (folder / MADE_BY).write_text(yaml.safe_dump(_made_by(), sort_keys=False), encoding='utf-8')
    return run


def _made_by() -> dict[str, str]:
    """What a run is made with; the commit where the package runs from a checkout with git."""
    facts = {'tracker_ros': __version__, 'torch': str(torch.__version__)}
    command = ['git', '-C', str(Path(__file__).parent), 'rev-parse', 'HEAD']
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return facts
    return {**facts, 'commit': found.stdout.strip()}


class _Session:
    """One stretch of a run, from a start to an end or an interruption."""

    def __init__(
        self, run: Run, folder: Path, samples: Samples, pairs: Pairs | None, limit_s: float
    ) -> None:
        self._run, self._folder, self._samples, self._pairs = run, folder, samples, pairs
        self._limit_s = limit_s
        self._began = self._saved = self._logged = time.monotonic()
        self._spent_before_s = run.progress.spent_s
        self._waited_s = 0.0
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._board = _board(folder)

    def go(self) -> None:
        with Stop() as stop:
            self._go(stop)

    def _go(self, stop: Stop) -> None:
        run, recipe = self._run, self._run.recipe
        end = end_of(recipe, run.progress)
        self._log(
            f'{recipe.name}: from sample {run.progress.samples} to {end}, '
            f'{sum(value.numel() for value in run.network.parameters())} parameters'
        )
        batches = self._batches(end)
        while run.progress.samples < end and not stop.asked and not self._is_over():
            before = time.monotonic()
            batch = next(batches)
            self._waited_s += time.monotonic() - before
            parts = run.train_on(batch)
            for name, value in parts.items():
                self._sums[name] = self._sums.get(name, torch.zeros(())) + value.float()
            self._steps += 1
            self._after_step(end)
        self._report(end)
        self._save()
        self._log('asked to end' if stop.asked else 'ended')

    def _is_over(self) -> bool:
        return 0 < self._limit_s < time.monotonic() - self._began

    def _batches(self, end: int) -> Iterator[Batch]:
        recipe, first = self._run.recipe, self._run.progress.samples
        size = recipe.steps.batch
        dtype = torch.bfloat16 if recipe.precision == 'bf16' else torch.float32
        if recipe.data.workers:
            yield from _loaded(self._samples, range(first, end + size), recipe, dtype)
        for number in range(first, end, size):
            yield collate([self._samples(number + place) for place in range(size)], dtype)

    def _after_step(self, end: int) -> None:
        progress, recipe = self._run.progress, self._run.recipe
        now = time.monotonic()
        progress.spent_s = self._spent_before_s + now - self._began
        if now - self._logged > _LOG_EVERY_S:
            self._report(end)
        every, size = recipe.validation.every_samples, recipe.steps.batch
        is_due = progress.samples // every > (progress.samples - size) // every
        if self._pairs is not None and (is_due or progress.samples >= end):
            self._validate()
        if now - self._saved > recipe.save_minutes * 60:
            self._save()

    def _report(self, end: int) -> None:
        if not self._steps:
            return
        progress, size = self._run.progress, self._run.recipe.steps.batch
        now = time.monotonic()
        passed = max(1e-9, now - self._logged)
        rate = self._steps * size / passed
        means = {name: float(value) / self._steps for name, value in self._sums.items()}
        left_s = (end - progress.samples) / max(rate, 1e-9)
        self._log(
            f'{progress.samples} samples  '
            + '  '.join(f'{name} {value:.4f}' for name, value in means.items())
            + f'  rate {rate_at(self._run.recipe, progress):.2e}'
            + f'  {rate:.0f}/s  waiting {100 * self._waited_s / passed:.0f} %'
            + f'  {left_s / 3600:.1f} h left'
        )
        if self._board is not None:
            for name, value in means.items():
                self._board.add_scalar(f'train/{name}', value, progress.samples)
        self._sums, self._steps, self._waited_s, self._logged = {}, 0, 0.0, now

    def _validate(self) -> None:
        assert self._pairs is not None
        progress = self._run.progress
        run = self._run
        predict = functools.partial(run.family.predict, run.averaged())
        found = validate(predict, self._pairs, run.recipe.crops.templates)
        line = [float(progress.samples), found.iou, found.hit, found.presence]
        progress.curve.append(line)
        self._log(
            f'{progress.samples} samples  dev pairs: iou {found.iou:.4f}  hit {found.hit:.4f}  '
            f'presence {found.presence:.4f}  each '
            + ' '.join(f'{value:.2f}' for value in found.by_sequence)
        )
        with (self._folder / 'curve.tsv').open('a', encoding='utf-8') as stream:
            stream.write('\t'.join(f'{value:.6g}' for value in [*line, progress.spent_s]) + '\n')
        if self._board is not None:
            for name in ('iou', 'hit', 'presence'):
                self._board.add_scalar(f'dev/{name}', getattr(found, name), progress.samples)

    def _save(self) -> None:
        save(self._run.state(), self._folder / 'last.pt')
        save(self._run.average, self._folder / 'network.pt')
        self._saved = time.monotonic()

    def _log(self, text: str) -> None:
        line = f'{time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())} {text}'
        print(line, flush=True)
        with (self._folder / 'log.txt').open('a', encoding='utf-8') as stream:
            stream.write(line + '\n')


class _Numbered(torch.utils.data.Dataset[Sample]):
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __getitem__(self, number: int) -> Sample:
        return self._samples(number)


def _loaded(
    samples: Samples, numbers: range, recipe: Recipe, dtype: torch.dtype
) -> Iterator[Batch]:
    """Batches made by processes of their own, in the order of their numbers."""
    loader = torch.utils.data.DataLoader(
        _Numbered(samples),
        batch_size=recipe.steps.batch,
        sampler=numbers,
        num_workers=recipe.data.workers,
        collate_fn=lambda each: collate(each, dtype),
        drop_last=True,
        worker_init_fn=lambda _: cv2.setNumThreads(1),
    )
    yield from loader


def _board(folder: Path) -> Any:
    """A writer for TensorBoard, where that is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / 'board'))
