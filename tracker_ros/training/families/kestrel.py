# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training of the small trackers of this project; see `networks/kestrel.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tracker_ros.networks.kestrel import VARIANTS, Kestrel, grown
from tracker_ros.training import losses
from tracker_ros.training.batches import Batch
from tracker_ros.training.checkpoints import TrainingError
from tracker_ros.training.families import Family, checked_variant
from tracker_ros.training.progress import Progress


class Training(Family):
    uses_all = True

    def network(self) -> Kestrel:
        recipe = self.recipe
        network = Kestrel(checked_variant(recipe, VARIANTS))
        if network.variant.templates != recipe.crops.templates:
            raise TrainingError(
                f'{recipe.variant} takes {network.variant.templates} templates, the recipe '
                f'makes {recipe.crops.templates}: put it right in crops.templates'
            )
        self._tell_crops(network)
        # Half as fast in any other order.
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss(
        self, network: Any, batch: Batch, progress: Progress
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `losses.loss_of`."""
        with self.autocast(batch.search.device):
            output = network(batch.templates, batch.template_boxes, batch.search)
        return losses.loss_of(output, batch.truth, self.recipe.loss)

    def begin_with(self, network: Any, tensors: Mapping[str, Tensor]) -> None:
        """Of a network as large, or of one with less depth or fewer templates: see `grown`."""
        network.load_state_dict(grown(tensors, network.variant))
        self._tell_crops(network)

    def predict(
        self, network: Any, templates: Tensor, boxes: Tensor, search: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The box of the best cell, and the logit of presence."""
        output = network(templates, boxes, search)
        best = output.scores.flatten(1).argmax(dim=-1)
        corners = losses.cell_boxes(output.sides)[torch.arange(len(best)), best]
        return losses.centred(corners), output.presence

    def _tell_crops(self, network: Kestrel) -> None:
        crops = self.recipe.crops
        network.crop_px.copy_(torch.tensor([crops.template_px, crops.search_px]))
        network.crop_factors.copy_(torch.tensor([crops.template_factor, crops.search_factor]))
