# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The first step of DualTFR's training: its local blocks classify images (section 4.1).

As Swin Transformer is trained on ImageNet-1K, of whose stages the local blocks are the first
three. The recipe's `data.folder` holds a folder of images for each class. What comes out is for
`--begin-with` of a recipe of the family `dual_tfr`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tracker_ros.networks.dual_tfr import VARIANTS, LocalClassifier
from tracker_ros.networks.swin import SwinBlock
from tracker_ros.training.checkpoints import TrainingError
from tracker_ros.training.classes import Changes, ClassBatch, ClassFolder, collate_classes
from tracker_ros.training.families import (
    Family,
    Group,
    checked_variant,
    decaying,
    normalised,
)
from tracker_ros.training.pictures import DataError
from tracker_ros.training.progress import Progress

_TABLE = 'relative_position_bias_table'


@dataclass(frozen=True)
class Options:
    """The recipe's `options`."""

    classes: int = 1000
    smoothing: float = 0.1
    """What the other classes share of a label."""
    drop_path: float = 0.2
    """How likely each branch of the last block is left out for an image; of the first never."""
    changes: Changes = field(default_factory=Changes)


class DroppedPath(nn.Module):
    """Stochastic depth (Huang et al., ECCV 2016): a block's change is left out for some images."""

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.drop = drop

    def forward(self, change: Tensor) -> Tensor:
        """(B, side, side, C) to the same, with the same mean over many; unchanged in use."""
        if not self.training or not self.drop:
            return change
        kept = torch.rand(len(change), 1, 1, 1, device=change.device) >= self.drop
        return change * kept / (1 - self.drop)


class Training(Family):
    options_kind = Options
    uses_all = True

    def network(self) -> LocalClassifier:
        variant = checked_variant(self.recipe, VARIANTS)
        drop = self.options.drop_path
        if not 0 <= drop < 1:
            raise TrainingError(f'options.drop_path must be in [0, 1), not {drop}')
        network = LocalClassifier(variant, self.options.classes)
        network.apply(_narrow)
        blocks = [part for part in network.modules() if isinstance(part, SwinBlock)]
        for place, block in enumerate(blocks):
            block.branch = DroppedPath(drop * place / max(1, len(blocks) - 1))
        return network

    def groups(self, network: LocalClassifier) -> list[Group]:
        """As Swin's: the tables of the relative positions do not decay either."""
        named = dict(network.named_parameters())
        tables = [each for name, each in named.items() if name.endswith(_TABLE)]
        others = [each for name, each in named.items() if not name.endswith(_TABLE)]
        return [*decaying(others), Group(tables, decays=False)]

    def samples(self) -> ClassFolder:
        """Raises DataError where the folder's classes are not as many as the recipe says."""
        recipe, options = self.recipe, self.options
        side_px = checked_variant(recipe, VARIANTS).search_px
        folder = ClassFolder(Path(recipe.data.folder), side_px, options.changes, recipe.seed)
        if len(folder.classes) != options.classes:
            raise DataError(
                f'{recipe.data.folder} holds {len(folder.classes)} classes, the recipe says '
                f'{options.classes}: put it right in options.classes'
            )
        return folder

    def collate(self, samples: list[Any], dtype: torch.dtype) -> ClassBatch:
        return collate_classes(samples, dtype)

    def checkpointed(self, network: LocalClassifier) -> Iterable[tuple[nn.Module, str]]:
        """All blocks."""
        return [(part, 'forward') for part in network.modules() if isinstance(part, SwinBlock)]

    def loss(
        self, network: LocalClassifier, batch: Any, progress: Progress
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy with smoothed labels, of both classes where two images are mixed.

        batch: a `ClassBatch`.
        """
        with self.autocast(batch.search.device):
            logits = network(normalised(batch.search))
        logits = logits.float()
        both = torch.stack(
            [
                functional.cross_entropy(
                    logits, own, reduction='none', label_smoothing=self.options.smoothing
                )
                for own in batch.classes.unbind(dim=1)
            ],
            dim=1,
        )
        loss = (both * batch.shares).sum(dim=1).mean()
        hit = logits.argmax(dim=1) == batch.classes[:, 0]
        return loss, {'accuracy': hit.float().mean()}


def _narrow(part: nn.Module) -> None:
    """The initial weights of Swin Transformer."""
    if isinstance(part, nn.Linear):
        nn.init.trunc_normal_(part.weight, std=0.02)
        if part.bias is not None:
            nn.init.zeros_(part.bias)
