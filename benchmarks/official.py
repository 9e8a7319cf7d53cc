# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The public PyTorch code of a tracker, from a clone of it, as a subject of `speed.compare`.

Clones are used as they are. They were written for a GPU and import all that their training needs,
so the process that runs one stands in for what is not there: `.cuda()` leaves tensors where they
are, packages are found without running their `__init__`, and of missing libraries just what the
tracker takes of them is defined. What each official_*.py replaces beyond that, it says.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
import time
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2

from tracker_ros.evaluation.speed import TEMPLATE, moving_patch, timed
from tracker_ros.geometry import Box, Image

MASK = 'mask'
"""The work of a frame that ends with the target's mask."""


class Official(ABC):
    """A tracker class of a clone, on the frames that ours get, without gradients."""

    takes_rgb = True
    """Frames are given to it in RGB, which its callers have to make first, or in BGR."""

    def __init__(
        self,
        clones: Path,
        checkpoint: Path,
        model: str,
        inputs: dict[str, Any],
        threads: int,
        size: tuple[int, int],
    ) -> None:
        """`clones` is the folder of all clones, `inputs` the entry of the package's manifest."""
        import torch

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self._clones, self._checkpoint = clones, checkpoint
        self._model, self._inputs = model, inputs
        self._note = f'PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}'
        self._network_s = 0.0
        self._place = 0
        with contextlib.redirect_stdout(io.StringIO()):
            self.load()
        pictures, self._boxes = moving_patch(*size)
        self._pictures = [
            cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) if self.takes_rgb else picture
            for picture in pictures
        ]
        self.start(self._pictures[0], self._boxes[0])

    @abstractmethod
    def load(self) -> None:
        """Make the tracker, and `clock` what its network is called by."""

    @abstractmethod
    def start(self, picture: Image, box: Box) -> None:
        """Take the target in `box`."""

    @abstractmethod
    def search_around(self, box: Box) -> None:
        """Make `box` the last place of the target."""

    @abstractmethod
    def track(self, picture: Image) -> Sequence[float]:
        """The target's new box: x, y, w, h."""

    def clock(self, owner: Any, name: str) -> None:
        """Count the time in a method of `owner` as the network's."""
        called: Callable[..., Any] = getattr(owner, name)

        def clocked(*inputs: Any, **options: Any) -> Any:
            began = time.perf_counter()
            output = called(*inputs, **options)
            self._network_s += time.perf_counter() - began
            return output

        setattr(owner, name, clocked)

    def facts(self) -> dict[str, Any]:
        return {
            'model': self._model,
            'precision': 'fp32',
            'runtime': 'official code, PyTorch',
            'note': self._note,
            'stages': ['network', 'rest'],
            'gmacs_per_frame': self._gmacs(),
            'boxes': [list(self._found(place)) for place in range(len(self._pictures))],
        }

    def turn(self, work: Any, seconds: float) -> list[list[float]]:
        return timed(self._start if work == TEMPLATE else self._frame, seconds)

    def _start(self) -> Sequence[float]:
        began = time.perf_counter()
        self.start(self._pictures[0], self._boxes[0])
        return (time.perf_counter() - began,)

    def _frame(self) -> Sequence[float]:
        self._place = (self._place + 1) % len(self._pictures)
        self._network_s = 0.0
        began = time.perf_counter()
        self._found(self._place)
        spent_s = time.perf_counter() - began
        return self._network_s, spent_s - self._network_s

    def _found(self, place: int) -> Sequence[float]:
        self.search_around(self._boxes[place])
        return [float(value) for value in self.track(self._pictures[place])]

    def _gmacs(self) -> float:
        """Billions of multiply-accumulates of a frame, counted as it runs."""
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils.flop_counter import FlopCounterMode

        counter = FlopCounterMode(display=False)
        # The counter does not know the ways in which PyTorch does attention in one go.
        torch.backends.mha.set_fastpath_enabled(False)
        with sdpa_kernel(SDPBackend.MATH), counter:
            self._found(0)
        torch.backends.mha.set_fastpath_enabled(True)
        return round(counter.get_total_flops() / 2e9, 3)


def without_cuda() -> None:
    """Let `.cuda()` leave tensors and modules where they are."""
    import torch

    for kind in (torch.Tensor, torch.nn.Module):
        kind.cuda = lambda self, *_args, **_options: self  # type: ignore[method-assign]


def stand_in(name: str, **content: Any) -> types.ModuleType:
    """A module of this name with this content, in place of one that was or was not there."""
    module = types.ModuleType(name)
    module.__dict__.update({'__path__': [], **content})
    sys.modules[name] = module
    return module


def import_from(folder: Path, *bare: str) -> None:
    """Let imports find what is in `folder`; of the packages in `bare` no `__init__` is run."""
    sys.path.insert(0, str(folder))
    for name in bare:
        stand_in(name, __path__=[str(folder / name.replace('.', '/'))])


def import_edited(name: str, path: Path, changes: dict[str, str]) -> types.ModuleType:
    """The module in the file `path`, with pieces of its text exchanged in memory."""
    text = path.read_text(encoding='utf-8')
    for piece, other in changes.items():
        if piece not in text:
            raise ValueError(f'{path} has no {piece!r}: it is not the version that this expects')
        text = text.replace(piece, other)
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__package__ = name.rpartition('.')[0]
    sys.modules[name] = module
    exec(compile(text, str(path), 'exec'), module.__dict__)
    return module


class Tree(dict[str, Any]):
    """A dictionary with its entries as attributes, all the way down."""

    def __init__(self, entries: dict[str, Any] | None = None, **_options: Any) -> None:
        super().__init__()
        for key, value in (entries or {}).items():
            self[key] = value

    def __setitem__(self, key: str, value: Any) -> None:
        is_plain = isinstance(value, dict) and not isinstance(value, Tree)
        super().__setitem__(key, Tree(value) if is_plain else value)

    __setattr__ = __setitem__

    def __getattr__(self, key: str) -> Any:
        try:
            return self[key]
        except KeyError:
            raise AttributeError(key) from None


def state_of(checkpoint: Path) -> dict[str, Any]:
    """The tensors of a checkpoint that was made here."""
    import torch

    return dict(torch.load(checkpoint, map_location='cpu', weights_only=True)['net'])
