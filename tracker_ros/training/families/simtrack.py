# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training of SimTrack (Chen et al., ECCV 2022); see `networks/simtrack.py`.

One stage: the whole network on pairs, by generalized IoU and L1 of the box (equation 3), the
pre-trained backbone at a tenth of the rate (supplement, training details). `--begin-with` takes
the weights of CLIP's visual tower or of MAE, or those of a whole tracker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tracker_ros.export.simtrack import official_names
from tracker_ros.networks.simtrack import VARIANTS, Output, SimTrack
from tracker_ros.training.batches import Batch
from tracker_ros.training.checkpoints import TrainingError
from tracker_ros.training.families import (
    Family,
    Group,
    check_crops,
    checked_variant,
    normalised,
)
from tracker_ros.training.losses import corners_of, generalized_overlap, mean_over, overlap
from tracker_ros.training.progress import Progress

_TOWER = 'backbone.visual.'
_UNUSED = 'backbone.visual.proj'


@dataclass(frozen=True)
class Options:
    """The recipe's `options`: what the parts of the loss count, and the backbone's rate."""

    giou: float = 2.0
    l1: float = 5.0
    backbone_rate: float = 0.1
    """Learning rate of the pre-trained backbone, times that of the rest."""


class Training(Family):
    options_kind = Options
    uses_all = True

    def network(self) -> SimTrack:
        variant = checked_variant(self.recipe, VARIANTS)
        check_crops(self.recipe, variant.template_px, variant.search_px, 1)
        return SimTrack(variant)

    def groups(self, network: SimTrack) -> list[Group]:
        """The tower; and the position of the template, the bottleneck and the head."""
        tower: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, parameter in network.named_parameters():
            if name != _UNUSED:
                (tower if name.startswith(_TOWER) else rest).append(parameter)
        return [Group(tower, self.options.backbone_rate), Group(rest)]

    def begin_with(self, network: SimTrack, tensors: Mapping[str, Tensor]) -> None:
        """All weights, or those of a tower alone; of a deeper one, the first layers."""
        named = official_names({name: each.float().numpy() for name, each in tensors.items()})
        own = network.state_dict()
        found = {name: torch.from_numpy(each) for name, each in named.items() if name in own}
        missing = [name for name in own if name not in found]
        lacking = [name for name in missing if name.startswith(_TOWER)]
        if lacking or (missing and any(not name.startswith(_TOWER) for name in found)):
            raise TrainingError(
                f'{len(missing)} tensors are missing, such as {missing[0]}: neither a whole '
                'tracker nor the tower of CLIP or MAE'
            )
        network.load_state_dict(found, strict=False)

    def loss(
        self, network: SimTrack, batch: Batch, progress: Progress
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Of samples that show the target; the others say nothing of where it is."""
        output = self._run(network, batch.templates, batch.template_boxes, batch.search)
        shown = batch.truth.present * batch.truth.certain
        # Of a target at the rim, as far as the crop shows it: the corners cannot lie outside.
        found, true = corners_of(output.boxes), corners_of(batch.truth.boxes).clamp(0, 1)
        parts = {
            'giou': mean_over(1 - generalized_overlap(found, true), shown),
            'l1': mean_over((found - true).abs().mean(dim=-1), shown),
        }
        loss = self.options.giou * parts['giou'] + self.options.l1 * parts['l1']
        parts['iou'] = mean_over(overlap(found.detach(), true)[0], shown)
        return loss, parts

    def predict(
        self, network: SimTrack, templates: Tensor, boxes: Tensor, search: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The box, and how sure the corners are: the paper has no score."""
        output = self._run(network, templates, boxes, search)
        return output.boxes, output.corners.flatten(2).amax(dim=-1).mean(dim=-1)

    def checkpointed(self, network: SimTrack) -> Iterable[tuple[nn.Module, str]]:
        return [(block, 'forward') for block in network.backbone.visual.transformer.resblocks]

    def _run(self, network: SimTrack, templates: Tensor, boxes: Tensor, search: Tensor) -> Output:
        box = torch.cat([boxes[:, 0, :2] - boxes[:, 0, 2:] / 2, boxes[:, 0, 2:]], dim=-1)
        with self.autocast(search.device):
            template, foveal = network.template(normalised(templates[:, 0]), box)
            tokens = network.backbone(
                template, foveal, network.backbone.search_tokens(normalised(search))
            )
            tokens = network.bottleneck(tokens)
        # In half precision an expectation over the cells would be off by part of a pixel.
        grid = network.variant.search_grid
        return Output(*network.box_head(tokens.float().transpose(1, 2).unflatten(2, (grid, grid))))
