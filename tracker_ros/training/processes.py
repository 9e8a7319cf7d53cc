# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training in several processes, on one machine or more, started by torchrun.

Each has the whole network and a share of every batch; gradients are averaged. Since a sample
follows from its number, all processes together see the samples that one would see.
"""

from __future__ import annotations

import atexit
import datetime
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from tracker_ros.training.checkpoints import TrainingError

# The others wait while the first one validates and saves.
_PATIENCE = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Processes:
    """This process among all of a run, and where it computes."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device('cpu'))

    @property
    def is_first(self) -> bool:
        """The one that writes: log, curve and checkpoints."""
        return self.rank == 0

    def own(self, number: int, batch: int) -> range:
        """The numbers of this process's samples, of those of the batch that begins at `number`."""
        size = batch // self.count
        return range(number + self.rank * size, number + (self.rank + 1) * size)

    def check_alike(self, samples: int, folder: Path) -> None:
        """Raises TrainingError where not all processes have read the same checkpoint."""
        least, most = (torch.tensor(samples, device=self.device) for _ in range(2))
        dist.all_reduce(least, dist.ReduceOp.MIN)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        if least != most:
            raise TrainingError(
                f'some processes begin at sample {int(least)}, some at {int(most)}: {folder} '
                'must be the same folder for all, on a file system that the machines share'
            )

    def together(self, parts: dict[str, Tensor], flag: bool) -> tuple[dict[str, Tensor], bool]:
        """The means of the parts over all processes, and whether the flag is set in any."""
        if self.count == 1:
            return parts, flag
        values = [*parts.values(), torch.tensor(float(flag), device=self.device)]
        packed = torch.stack([value.detach().float() for value in values])
        dist.all_reduce(packed)
        means = (packed[:-1] / self.count).unbind()
        return dict(zip(parts, means, strict=True)), bool(packed[-1] > 0)


def joined(device: str = '') -> Processes:
    """This process among those that torchrun has started, or as the only one.

    device: as PyTorch names it; if empty, a GPU where there is one, of several that of the
    process's number on its machine. Raises TrainingError where it is not there.
    """
    count = int(os.environ.get('WORLD_SIZE', '1'))
    place = device_of(device, int(os.environ.get('LOCAL_RANK', '0')))
    if place.type == 'cuda':
        torch.cuda.set_device(place)
    if count == 1:
        return Processes(0, 1, place)
    backend = 'nccl' if place.type == 'cuda' else 'gloo'
    try:
        # They meet once, however many runs there are, and part when the process ends.
        if not dist.is_initialized():
            dist.init_process_group(backend, timeout=_PATIENCE)
            atexit.register(dist.destroy_process_group)
    except (ValueError, RuntimeError) as error:
        raise TrainingError(
            f'the {count} processes that WORLD_SIZE tells of cannot join: {error}; start them '
            'with torchrun'
        ) from error
    return Processes(dist.get_rank(), count, place)


def device_of(name: str, local_rank: int = 0) -> torch.device:
    """Raises TrainingError for what is no device, or not there."""
    if not name:
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        device = torch.device(name)
        if device.type == 'cuda' and device.index is None:
            device = torch.device('cuda', local_rank)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        message = str(error).partition('\n')[0]
        raise TrainingError(
            f'there is no device {name!r} to train on: {message}; --device cpu is always there'
        ) from error
    return device


def mean_of_all(count: Tensor) -> Tensor:
    """A sum over this process's samples, as the mean over all processes.

    What is divided by it and then averaged is the same as if one process had all samples.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return count
    count = count.detach().clone()
    dist.all_reduce(count)
    return count / dist.get_world_size()


def least_count() -> float:
    """One sample of all, in the measure of `mean_of_all`."""
    if not (dist.is_available() and dist.is_initialized()):
        return 1.0
    return 1.0 / dist.get_world_size()
