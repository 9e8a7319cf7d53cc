# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The training loop, of one process or several, ended and continued at any time without a trace.

What a run is lies in its folder: ``last.pt`` (all that is needed to go on), ``network.pt`` (the
averaged weights, for `tracker_ros models convert`), ``recipe.yaml``, ``made_by.yaml`` (versions
and commit), ``log.txt``, ``curve.tsv``.
"""

from __future__ import annotations

import copy
import functools
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import cv2
import torch
import yaml
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from tracker_ros import __version__
from tracker_ros.training.batches import Batch
from tracker_ros.training.checkpoints import TrainingError, load, save
from tracker_ros.training.families import Family, family_of, read_weights
from tracker_ros.training.processes import Processes, joined
from tracker_ros.training.progress import Progress, end_of
from tracker_ros.training.recipe import Recipe, recipe_from
from tracker_ros.training.samples import Sample, Sampler
from tracker_ros.training.sets import mix_of, read_sources
from tracker_ros.training.validation import Pairs, read_pairs, validate

MADE_BY = 'made_by.yaml'
_LOG_EVERY_S = 60.0
_REQUESTS = (signal.SIGTERM, signal.SIGINT)


class Samples(Protocol):
    """Makes the sample of a number."""

    def __call__(self, number: int, /) -> Sample: ...


class Run:
    """The state of a run: what a checkpoint holds."""

    def __init__(self, recipe: Recipe, processes: Processes | None = None) -> None:
        """`processes`: those that train together, and where; if none, this one on the CPU."""
        self.recipe = recipe
        self.processes = processes or Processes()
        self._check_batch()
        self.family = family_of(recipe)
        self.family.prepare(self.processes.device)
        torch.manual_seed(recipe.seed)
        self.network: Any = self.family.network().to(self.processes.device)
        self._average_from_here()
        self.groups = [group for group in self.family.groups(self.network) if group.parameters]
        self.optimiser = self._optimiser()
        self.progress = Progress()
        is_half = recipe.precision == 'fp16'
        self._scaler = torch.amp.GradScaler(self.processes.device.type, enabled=is_half)
        self._loss: Any = _Loss(self.family, self.network)
        if recipe.gradient_checkpointing:
            self._compute_again()
        if self.processes.count > 1:
            # Not every batch needs every part: a mask is learned where one is known.
            self._loss = DistributedDataParallel(
                self._loss, find_unused_parameters=not self.family.uses_all
            )

    def begin_with(self, path: Path) -> None:
        """Take the averaged weights of another run, or weights of a family's own files."""
        tensors = read_weights(path)
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
        loss, parts = self._loss(batch.to(self.processes.device), progress)
        self.optimiser.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(self.optimiser)
        for group in self.groups:
            if progress.samples < group.begins:
                for parameter in group.parameters:
                    parameter.grad = None
        norm = nn.utils.clip_grad_norm_(self._trained, self.recipe.steps.largest_gradient)
        if torch.isfinite(norm):
            self._scaler.step(self.optimiser)
        if self._scaler.is_enabled():
            self._scaler.update()
        progress.step += 1
        progress.samples += len(batch.search) * self.processes.count
        self._update_average()
        parts = {'loss': loss, 'norm': norm, **parts}
        return {name: value.detach() for name, value in parts.items()}

    def _check_batch(self) -> None:
        batch, count = self.recipe.steps.batch, self.processes.count
        if batch % count:
            raise TrainingError(
                f'a batch of {batch} cannot be shared by {count} processes: steps.batch must be '
                'a multiple of their number'
            )

    def _compute_again(self) -> None:
        """Let parts keep nothing of what they compute: gradient checkpointing."""
        parts = list(self.family.checkpointed(self.network))
        if not parts:
            raise TrainingError(
                f'{self.recipe.family} has no part that could be computed twice: take '
                'gradient_checkpointing out of the recipe'
            )
        for module, method in parts:
            again = functools.partial(checkpoint, getattr(module, method), use_reentrant=False)
            setattr(module, method, again)

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
        """What a checkpoint holds. Of the scaler only where there is one."""
        scaler = {'scaler': self._scaler.state_dict()} if self._scaler.is_enabled() else {}
        return {
            'recipe': yaml.safe_dump(self.recipe.as_dict(), sort_keys=False),
            'progress': vars(self.progress),
            'network': self.network.state_dict(),
            'average': self.average,
            'optimiser': self.optimiser.state_dict(),
            'random': torch.get_rng_state(),
            **scaler,
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Go on from a checkpoint. Raises TrainingError when it is of another network."""
        try:
            self.network.load_state_dict(content['network'])
            device = self.processes.device
            self.average = {name: each.to(device) for name, each in content['average'].items()}
            self.optimiser.load_state_dict(content['optimiser'])
            self.progress = Progress(**content['progress'])
            torch.set_rng_state(content['random'])
            if 'scaler' in content and self._scaler.is_enabled():
                self._scaler.load_state_dict(content['scaler'])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise TrainingError(
                f'the checkpoint does not fit the recipe {self.recipe.name}: {error}'
            ) from error


class _Loss(nn.Module):
    """A family's loss as a module, so that it is up to the family how it runs its network.

    `DistributedDataParallel` averages the gradients of what its module's `forward` has used.
    """

    def __init__(self, family: Family, network: nn.Module) -> None:
        super().__init__()
        self._family, self.network = family, network

    def forward(self, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        return self._family.loss(self.network, batch, progress)


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
    device: str = '',
) -> Run:
    """Train until the recipe's end, or for `minutes`, or until SIGTERM.

    resume: go on with the run in `folder`. begin_with: weights to begin with. decay_samples: lower
    the rate from here on, and end after so many samples. samples: what to train on, if not what
    the recipe says. device: see `processes.joined`; started by torchrun, this is one process of
    several. Raises TrainingError, RecipeError or DataError.
    """
    torch.set_num_threads(recipe.threads)
    cv2.setNumThreads(1)
    run = _begun(recipe, folder, resume, begin_with, joined(device))
    _go(run, folder, minutes, decay_samples, samples)
    return run


def _go(
    run: Run, folder: Path, minutes: float, decay_samples: int, samples: Samples | None
) -> None:
    if decay_samples:
        run.progress.decay_from = run.progress.samples
        run.progress.decay_samples = decay_samples
    recipe = run.recipe
    samples = samples or run.family.samples()
    if samples is None:
        data = recipe.data
        tell = _tell if run.processes.is_first else lambda _line: None
        collection = read_sources(data.folder, data.sets, data.cache_mib << 20, tell)
        mix = mix_of(data.mix, data.folder, data.sets)
        samples = Sampler(collection, recipe.crops, mix, data.weather, recipe.seed)
    pairs = None
    if recipe.validation.folder and run.processes.is_first:
        pairs = read_pairs(recipe.validation, recipe.crops, folder)
    _Session(run, folder, samples, pairs, minutes * 60).go()


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _begun(
    recipe: Recipe, folder: Path, resume: bool, begin_with: Path | None, processes: Processes
) -> Run:
    last = folder / 'last.pt'
    if last.exists() and not resume:
        raise TrainingError(f'{folder} holds a run: give --resume to go on, or another folder')
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(recipe, processes)
    if last.exists():
        content = load(last)
        before = recipe_from(yaml.safe_load(content['recipe']), str(last))
        if (before.family, before.variant) != (recipe.family, recipe.variant):
            raise TrainingError(f'{last} is of {before.family}, variant {before.variant}')
        run.restore(content)
    elif begin_with is not None:
        run.begin_with(begin_with)
    if processes.count > 1:
        processes.check_alike(run.progress.samples, folder)
        # What is random in a network is another in each process, from here on.
        torch.manual_seed(hash((recipe.seed, processes.rank, run.progress.samples)))
    if not processes.is_first:
        return run
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
        self._processes = run.processes
        self._board = _board(folder) if run.processes.is_first else None

    def go(self) -> None:
        with Stop() as stop:
            self._go(stop)
        if self._board is not None:
            self._board.close()

    def _go(self, stop: Stop) -> None:
        run, recipe = self._run, self._run.recipe
        end = end_of(recipe, run.progress)
        self._log(
            f'{recipe.name}: from sample {run.progress.samples} to {end}, '
            f'{sum(value.numel() for value in run.network.parameters())} parameters'
        )
        batches = self._batches(end)
        is_over = stop.asked or self._is_over()
        while run.progress.samples < end and not is_over:
            before = time.monotonic()
            batch = next(batches)
            self._waited_s += time.monotonic() - before
            # All processes end after the same step.
            parts, is_over = self._processes.together(
                run.train_on(batch), stop.asked or self._is_over()
            )
            for name, value in parts.items():
                self._sums[name] = self._sums.get(name, 0.0) + value.float()
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
        # Whole numbers up to 255 are the same in it.
        dtype = torch.bfloat16 if recipe.precision == 'bf16' else torch.float32
        own = [self._processes.own(number, size) for number in range(first, end, size)]
        if recipe.data.workers:
            yield from _loaded(self._samples, own, self._run.family, dtype)
        for numbers in own:
            made = [self._samples(number) for number in numbers]
            yield self._run.family.collate(made, dtype)

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
            + f'  rate {self._run.family.rate(progress):.2e}'
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
        slots, device = run.recipe.crops.templates, run.processes.device
        found = validate(predict, self._pairs, slots, device)
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
        if not self._processes.is_first:
            return
        save(self._run.state(), self._folder / 'last.pt')
        save(self._run.average, self._folder / 'network.pt')
        self._saved = time.monotonic()

    def _log(self, text: str) -> None:
        if not self._processes.is_first:
            return
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
    samples: Samples, numbers: Sequence[range], family: Family, dtype: torch.dtype
) -> Iterator[Batch]:
    """Batches of these numbers, made by processes of their own."""
    loader = torch.utils.data.DataLoader(
        _Numbered(samples),
        batch_sampler=[list(each) for each in numbers],
        num_workers=family.recipe.data.workers,
        collate_fn=lambda each: family.collate(each, dtype),
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
