# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training of DualTFR (Xie et al. 2021, section 4.1); see `networks/dual_tfr.py`.

Two steps. First the local attention blocks learn to classify images: family `dual_tfr_local`,
`families/dual_tfr_local.py`. Then, here, the whole network learns to track, the local blocks at a
tenth of the rate. `--begin-with` takes the first step's ``network.pt``, or Swin's published
weights in its place.

There is no public code; "Ours:" marks what the paper does not say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tracker_ros.networks.dual_tfr import VARIANTS, Block, DualTfr
from tracker_ros.networks.swin import SwinBlock
from tracker_ros.training.batches import Batch
from tracker_ros.training.checkpoints import TrainingError
from tracker_ros.training.families import (
    Family,
    Group,
    check_crops,
    checked_variant,
    decaying,
    normalised,
)
from tracker_ros.training.losses import corners_of, mean_over, overlap
from tracker_ros.training.progress import Progress

_LOCAL = ('lab.', 'lab_norm.')


@dataclass(frozen=True)
class Options:
    """The recipe's `options`."""

    # Ours: what the parts count. Those of STARK, which the box's losses are from.
    cls_weight: float = 1.0
    l1_weight: float = 5.0
    giou_weight: float = 2.0
    background_weight: float = 1.0
    """Of a token beside the target, in the classification; 1 is the paper's plain form."""
    local_rate: float = 0.1
    """The learning rate of the local blocks, times that of the rest."""


class Training(Family):
    options_kind = Options
    uses_all = True

    def network(self) -> DualTfr:
        variant = checked_variant(self.recipe, VARIANTS)
        check_crops(self.recipe, variant.template_px, variant.search_px, 1)
        network = DualTfr(variant)
        for name, part in network.named_children():
            if not name.startswith('lab'):
                part.apply(_xavier)
        return network

    def groups(self, network: DualTfr) -> list[Group]:
        """The local blocks, more slowly; and the rest."""
        local: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, parameter in network.named_parameters():
            (local if name.startswith(_LOCAL) else rest).append(parameter)
        return [*decaying(local, self.options.local_rate), *decaying(rest)]

    def checkpointed(self, network: DualTfr) -> Iterable[tuple[nn.Module, str]]:
        """All blocks."""
        for part in network.modules():
            if isinstance(part, SwinBlock):
                yield part, 'forward'
            elif isinstance(part, Block):
                yield part, 'answer'

    def begin_with(self, network: DualTfr, tensors: Mapping[str, Tensor]) -> None:
        """All weights, or those of the local blocks alone: see `local_weights`."""
        if 'box_head.layers.0.weight' in tensors:
            network.load_state_dict(tensors)
            return
        own = local_weights(tensors, network.variant.local_depths)
        missing, unexpected = network.load_state_dict(own, strict=False)
        # Swin's published weights have no norm behind the third stage.
        lacking = [name for name in missing if name.startswith('lab.')]
        if lacking or unexpected:
            raise TrainingError(
                'these are no weights of the local blocks: '
                f'{len(lacking)} tensors are missing, such as {lacking[:1]}, '
                f'{len(unexpected)} are too many, such as {unexpected[:1]}'
            )

    def loss(
        self, network: DualTfr, batch: Batch, progress: Progress
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Which tokens lie on the target, and each of those where its box is."""
        options, truth = self.options, batch.truth
        search = normalised(batch.search)
        # Ours: of a clip the frame before shows nearly the same, and half of the batches take it
        # for the same. The others begin, as a first frame does, with what the template says.
        before = search if network.variant.has_context and progress.step % 2 else None
        with self.autocast(search.device):
            output = network(normalised(batch.templates[:, 0]), search, before)
        scores, boxes = output.scores.float(), output.boxes.float()
        inside = tokens_inside(truth.boxes, scores.shape[1]) & (truth.present > 0.5)[:, None]
        errors = functional.cross_entropy(
            scores.flatten(0, 1), inside.flatten().long(), reduction='none'
        ).view_as(inside)
        counts = torch.where(inside, 1.0, options.background_weight) * truth.certain[:, None]
        shown = inside * truth.certain[:, None]
        true = truth.boxes[:, None]
        off = (boxes - true).abs().mean(dim=-1)
        plain, generalized = overlap(corners_of(boxes), corners_of(true))
        parts = {
            'cls': mean_over(errors, counts),
            'l1': mean_over(off, shown),
            'giou': mean_over(1 - generalized, shown),
        }
        total = torch.stack(
            [getattr(options, f'{name}_weight') * value for name, value in parts.items()]
        ).sum()
        best = scores.diff(dim=-1)[..., 0].argmax(dim=1, keepdim=True)
        found = plain.detach().gather(1, best)[:, 0]
        parts['iou'] = mean_over(found, truth.present * truth.certain)
        return total, parts

    def predict(
        self, network: DualTfr, templates: Tensor, boxes: Tensor, search: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The box of the token that is most likely on the target, and its logit."""
        output = network(normalised(templates[:, 0]), normalised(search))
        sure, best = output.scores.diff(dim=-1)[..., 0].max(dim=1)
        return output.boxes[torch.arange(len(best)), best], sure


def tokens_inside(boxes: Tensor, count: int) -> Tensor:
    """Which of the `count` tokens of a search region lie in its box (B, 4): (B, count) bool.

    Those whose middles do; where there is none, that in which the box has its centre.
    """
    side = round(count**0.5)
    middles = (torch.arange(side, device=boxes.device, dtype=boxes.dtype) + 0.5) / side
    low, high = corners_of(boxes)[:, :, None].split(2, dim=1)
    within = (middles >= low) & (middles < high)
    inside = (within[:, 1, :, None] & within[:, 0, None, :]).flatten(1)
    # Ours: a small target would have no token at all.
    column, row = (boxes[:, :2] * side).long().clamp(0, side - 1).unbind(dim=1)
    own = functional.one_hot(row * side + column, count).bool()
    return torch.where(inside.any(dim=1, keepdim=True), inside, own)


def local_weights(tensors: Mapping[str, Tensor], depths: tuple[int, ...]) -> dict[str, Tensor]:
    """The local blocks' weights from a classifier's: ours, or Swin's as published.

    Of Swin, stages beyond the third and blocks beyond `depths` are left out.
    """
    ours = {name: value for name, value in tensors.items() if name.startswith(_LOCAL)}
    if ours:
        return ours
    kept = {}
    for name, value in tensors.items():
        parts = name.split('.')
        if parts[0] == 'layers':
            stage = int(parts[1])
            is_beyond = stage >= len(depths) or (
                int(parts[3]) >= depths[stage]
                if parts[2] == 'blocks'
                else stage + 1 == len(depths)
            )
            # Masks are made from sizes.
            if is_beyond or parts[-1] == 'attn_mask':
                continue
        elif parts[0] != 'patch_embed':
            continue
        kept[f'lab.{name}'] = value
    return kept


def _xavier(part: nn.Module) -> None:
    if isinstance(part, nn.Linear):
        nn.init.xavier_uniform_(part.weight)
        nn.init.zeros_(part.bias)
