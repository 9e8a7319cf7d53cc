# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What training must know of a family of networks, and where it is found by the family's name.

A family is a module in this folder with a class `Training`, named in `FAMILIES`. An instance
belongs to one run: it has read the recipe's `options`, and may hold what the run needs beside the
network that is trained, such as a teacher. What must outlive an interruption is the network, the
optimiser and the progress alone; all else follows from the recipe and the progress.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tracker_ros.export import IMAGENET_MEAN, IMAGENET_STD
from tracker_ros.export.checkpoint import CheckpointError, read_checkpoint, tensors_of
from tracker_ros.training.batches import Batch, collate
from tracker_ros.training.checkpoints import TrainingError, load
from tracker_ros.training.losses import mean_over as mean_over
from tracker_ros.training.progress import Progress, rate_at
from tracker_ros.training.recipe import Recipe, RecipeError, made

FAMILIES: dict[str, str] = {
    'dual_tfr': 'tracker_ros.training.families.dual_tfr',
    'dual_tfr_local': 'tracker_ros.training.families.dual_tfr_local',
    'kestrel': 'tracker_ros.training.families.kestrel',
    'mixformer_v2': 'tracker_ros.training.families.mixformer_v2',
    'siam_attn': 'tracker_ros.training.families.siam_attn',
    'simtrack': 'tracker_ros.training.families.simtrack',
    'vlt': 'tracker_ros.training.families.vlt',
}
"""The module of each family, loaded when a recipe names it."""

_DTYPES = {'bf16': torch.bfloat16, 'fp16': torch.float16}


@dataclass(frozen=True)
class Group:
    """Parameters that are trained alike.

    scale: their learning rate, times that of the run. decays: whether weight decay, with the
    recipe's value, pulls at them. begins: the sample of the run from which on they are trained.
    """

    parameters: Sequence[nn.Parameter]
    scale: float = 1.0
    decays: bool = True
    begins: int = 0


@dataclass(frozen=True)
class NoOptions:
    """For families that need none."""


class Family(ABC):
    """One family in one run."""

    options_kind: ClassVar[type] = NoOptions
    """A frozen dataclass: the entries of the recipe's `options`, with their defaults."""
    uses_all: ClassVar[bool] = False
    """Each batch's loss depends on all that is trained; several processes need not look then."""

    def __init__(self, recipe: Recipe) -> None:
        """Raises RecipeError where the options are wrong."""
        self.recipe = recipe
        self.options: Any = made(self.options_kind, recipe.options, f'{recipe.name}: options')

    @abstractmethod
    def network(self) -> nn.Module:
        """A fresh network. Raises TrainingError where the recipe does not fit it."""

    def prepare(self, device: torch.device) -> None:
        """Bring what a run needs beside its network, such as a teacher, before all else.

        Raises TrainingError where it is not there. Here there is none.
        """
        if self.recipe.teacher:
            raise TrainingError(
                f'the family {self.recipe.family} learns from no teacher: leave it out, or train '
                'by a recipe that distils'
            )

    def samples(self) -> Callable[[int], Any] | None:
        """What is trained on, by number; None for the crops that the recipe's `data` make.

        Raises DataError.
        """
        return None

    def collate(self, samples: list[Any], dtype: torch.dtype) -> Any:
        """A batch of samples, its pixels as `dtype`; as `Batch`, with `search` and `to`."""
        return collate(samples, dtype)

    @abstractmethod
    def loss(
        self, network: Any, batch: Batch, progress: Progress
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and its parts by name, for the log; among them `iou`.

        Networks are run inside of `autocast`, losses are taken in float32. Means over the samples
        of a batch are taken with `losses.mean_over` where not all of them count, so that several
        processes have the loss of one.
        """

    def groups(self, network: Any) -> list[Group]:
        """What is trained; parameters in no group are held. Here: all, biases without decay."""
        return decaying(network.parameters())

    def optimiser(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """AdamW, or SGD with momentum where the recipe asks for it."""
        steps = self.recipe.steps
        if steps.optimiser == 'sgd':
            return torch.optim.SGD(groups, lr=steps.rate, momentum=steps.momentum, foreach=True)
        return torch.optim.AdamW(groups, lr=steps.rate, foreach=True)

    def rate(self, progress: Progress) -> float:
        """The learning rate of the next step, of groups whose scale is 1."""
        return rate_at(self.recipe, progress)

    def set_mode(self, network: Any, progress: Progress) -> None:
        """For training, before each step; norms that are held stay in their other mode."""
        network.train()
        if self.recipe.steps.hold_norms:
            for module in network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def begin_with(self, network: Any, tensors: Mapping[str, Tensor]) -> None:
        """Take weights from elsewhere. Raises TrainingError or RuntimeError: they do not fit."""
        network.load_state_dict(tensors)

    def predict(
        self, network: Any, templates: Tensor, boxes: Tensor, search: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """What is measured on pairs: boxes (B, 4) cx, cy, w, h in parts of the search crop, and
        how sure the network is that the target is there, (B,), or None where it does not say.

        templates (B, K, 3, T, T), boxes (B, K, 4), search (B, 3, S, S) as in `Batch`.
        """  # fmt: skip
        raise TrainingError(
            f'the family {self.recipe.family} cannot be validated on pairs: leave '
            'validation.folder empty'
        )

    def checkpointed(self, network: Any) -> Iterable[tuple[nn.Module, str]]:
        """Modules with the name of a method whose inside is computed again for the gradient.

        Nothing in them may change by being run, such as the means of a batch norm.
        """
        return ()

    def autocast(self, device: torch.device) -> torch.autocast:
        """Inside of it a network computes with the recipe's precision."""
        dtype = _DTYPES.get(self.recipe.precision)
        return torch.autocast(device.type, dtype, enabled=dtype is not None)


def family_of(recipe: Recipe) -> Family:
    """Raises RecipeError for a family that is not known, or wrong options."""
    if recipe.family not in FAMILIES:
        raise RecipeError(
            f'{recipe.name}: there is no family {recipe.family!r} that can be trained; known are '
            f'{", ".join(sorted(FAMILIES))}'
        )
    return importlib.import_module(FAMILIES[recipe.family]).Training(recipe)


def decaying(
    parameters: Iterable[nn.Parameter], scale: float = 1.0, begins: int = 0
) -> list[Group]:
    """Two groups: weights, which decay, and biases, norms and the like, which do not."""
    own = list(parameters)
    return [
        Group([each for each in own if each.ndim > 1], scale, True, begins),
        Group([each for each in own if each.ndim <= 1], scale, False, begins),
    ]


def checked_variant(recipe: Recipe, variants: Mapping[str, Any]) -> Any:
    """The recipe's variant among those of a family. Raises TrainingError."""
    if recipe.variant not in variants:
        raise TrainingError(
            f'there is no variant {recipe.variant!r}; known are {", ".join(variants)}'
        )
    return variants[recipe.variant]


def check_crops(recipe: Recipe, template_px: int, search_px: int, templates: int) -> None:
    """Raises TrainingError where the recipe's crops are not those that a network takes."""
    crops = recipe.crops
    made = crops.template_px, crops.search_px, crops.templates
    if made != (template_px, search_px, templates):
        raise TrainingError(
            f'{recipe.family} {recipe.variant} takes {templates} template(s) of {template_px} px '
            f'and search crops of {search_px} px, the recipe makes {made[2]} of {made[0]} and '
            f'{made[1]}: put it right in crops'
        )


def normalised(pixels: Tensor) -> Tensor:
    """BGR (..., 3, S, S) in 0..255 to RGB in float32, by ImageNet's mean and deviation."""
    values = pixels.float().flip(-3) / 255
    mean, deviation = (
        values.new_tensor(each)[:, None, None] for each in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return (values - mean) / deviation


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a file: of a run, a state dict, or a checkpoint of another project.

    Nothing that such a file names is run. Raises TrainingError.
    """
    try:
        return weights_in(load(path), path)
    except TrainingError:
        if not path.is_file():
            raise
    # Those of other projects may hold their own objects beside the weights.
    try:
        tensors = tensors_of(read_checkpoint(path))
    except CheckpointError as error:
        raise TrainingError(f'{path} is no checkpoint that can be read: {error}') from error
    return {name: torch.from_numpy(value) for name, value in tensors.items()}


def weights_in(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The tensors in a checkpoint: those averaged by a run, or those of another project.

    Raises TrainingError where there are none.
    """
    for key in ('average', 'net', 'state_dict', 'model'):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = {
        str(name).removeprefix('module.'): value
        for name, value in content.items()
        if isinstance(value, Tensor)
    }
    if not tensors:
        raise TrainingError(f'{path} holds no weights')
    return tensors
