# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training of SiamAttn (Yu et al. 2020, sections 3.4 and 4.2); see `networks/siam_attn.py`.

One stage, end to end: proposals from the template's correlation with the search region, and, for
the regions near the target among them, the corrections of their boxes and their masks. Where paper
and official code differ, this follows the code's configuration; docs/training.md has both. The
published script leaves attention, feature fusion and box head out of its optimiser; here all
parts are trained.

Regions are in pixels from the middle of the search crop until they go into the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from tracker_ros.export import IMAGENET_MEAN, IMAGENET_STD
from tracker_ros.networks.siam_attn import MASK_PX, STRIDE_PX, VARIANTS, Output, SiamAttn
from tracker_ros.training.batches import Batch
from tracker_ros.training.checkpoints import TrainingError
from tracker_ros.training.families import Family, Group, check_crops, checked_variant
from tracker_ros.training.losses import corners_of, mean_over
from tracker_ros.training.progress import Progress, log_rate_at
from tracker_ros.training.proposals import (
    NEGATIVE,
    POSITIVE,
    Sampling,
    anchor_boxes,
    class_errors,
    corrected,
    correction_errors,
    corrections,
    corrections_by_anchor,
    labels_of,
    logits_by_anchor,
    overlaps,
    regions_near,
)

_CORRECTION_STDS = (0.1, 0.1, 0.2, 0.2)
"""The box head learns corrections divided by these, as `trackers/siam_attn.py` expects them."""
_SMALLEST_PX = 10.0
"""Sides of a proposal are held to this, as in tracking."""
_STRIDED = ('layer2.0', 'layer3.0', 'layer4.0')


@dataclass(frozen=True)
class Options:
    """The recipe's `options`. The defaults are those of the official configuration."""

    cls_weight: float = 5.0
    loc_weight: float = 1.2
    box_weight: float = 1.0
    mask_weight: float = 0.5
    """With 0 the mask head is not trained, and no masks are needed."""
    anchors: Sampling = field(default_factory=Sampling)
    anchor_ratios: tuple[float, ...] = (0.33, 0.5, 1.0, 2.0, 3.0)
    anchor_scale: int = 8
    regions: int = 15
    """Proposals of an image that are refined, beside the target's own box."""
    region_iou: float = 0.5
    """They overlap the target more than this."""
    hard_pixels: float = 0.7
    """Of a mask, the part of the pixels that counts: the worst."""
    first_rate: float = 1e-3
    """The learning rate rises from here to `steps.rate`, within `steps.warmup_samples`."""
    backbone_rate: float = 0.05
    """Times the rate of the other parts."""
    backbone_begins: int = 6_000_000
    """The sample of the run from which on the backbone is trained."""
    backbone_layers: tuple[str, ...] = ('layer2', 'layer3', 'layer4')
    """What of it is trained then; the rest stays what ImageNet made of it."""


class Training(Family):
    options_kind = Options

    def network(self) -> SiamAttn:
        recipe, options = self.recipe, self.options
        variant = checked_variant(recipe, VARIANTS)
        if recipe.precision != 'fp32':
            raise TrainingError(
                f'{recipe.name}: SiamAttn multiplies features that are not normalised, which '
                f'{recipe.precision} does not hold: put fp32 in precision'
            )
        check_crops(recipe, variant.template_px, variant.search_px, 1)
        unknown = set(options.backbone_layers) - {f'layer{stage}' for stage in range(1, 5)}
        if unknown:
            raise TrainingError(
                f'options.backbone_layers: the backbone has layer1 to layer4, no {min(unknown)!r}'
            )
        self.search_px = variant.search_px
        self.anchors = anchor_boxes(
            options.anchor_ratios, variant.box_cells, STRIDE_PX, options.anchor_scale
        )
        return SiamAttn(variant)

    def groups(self, network: SiamAttn) -> list[Group]:
        """The backbone's trained layers, later and more slowly; and all other parts."""
        options = self.options
        backbone = [
            parameter
            for layer in options.backbone_layers
            for parameter in network.backbone.get_submodule(layer).parameters()
        ]
        held = ['backbone.']
        if not options.mask_weight:
            held += ['mask_head.', 'feature_fusion.lateral_convs.']
        others = [
            parameter
            for name, parameter in network.named_parameters()
            if not name.startswith(tuple(held))
        ]
        return [
            Group(others),
            Group(backbone, options.backbone_rate, begins=options.backbone_begins),
        ]

    def rate(self, progress: Progress) -> float:
        """Rising, then falling, by equal factors."""
        return log_rate_at(self.recipe, progress, self.options.first_rate)

    def set_mode(self, network: SiamAttn, progress: Progress) -> None:
        """The backbone holds what it has, norms too, but for layers that are trained by now."""
        super().set_mode(network, progress)
        has_begun = progress.samples >= self.options.backbone_begins
        for name, part in network.backbone.named_children():
            is_trained = has_begun and name in self.options.backbone_layers
            part.train(is_trained and not self.recipe.steps.hold_norms)
            # What is held needs no gradients computed.
            part.requires_grad_(is_trained)

    def begin_with(self, network: SiamAttn, tensors: Mapping[str, Tensor]) -> None:
        """All weights, or those of a ResNet-50 trained on ImageNet: see `backbone_of`."""
        if 'conv1.weight' in tensors:
            network.backbone.load_state_dict(backbone_of(tensors))
        else:
            network.load_state_dict(tensors)

    def loss(
        self, network: SiamAttn, batch: Batch, progress: Progress
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Equation 5, with the official weights."""
        options, truth = self.options, batch.truth
        random = torch.Generator()
        # By the sample, so that a run that goes on draws what it would have drawn.
        random.manual_seed((self.recipe.seed << 40) + progress.samples)
        output = network.search(batch.search, network.template(batch.templates[:, 0]))
        anchors = self.anchors.to(batch.search.device)
        boxes = self._from_middle(truth.boxes)
        present = torch.where(truth.certain > 0.5, truth.present, 0.5)
        logits, found = logits_by_anchor(output.cls), corrections_by_anchor(output.loc)

        labels = labels_of(overlaps(anchors, boxes), present, options.anchors, random)
        errors = class_errors(logits, labels)
        parts = {
            'cls': 0.5 * mean_over(errors, (labels == POSITIVE).float())
            + 0.5 * mean_over(errors, (labels == NEGATIVE).float()),
            'loc': correction_errors(found, anchors, boxes, labels).mean(),
        }
        with torch.no_grad():
            proposals = self._held(corrected(anchors, found))
            regions, there = regions_near(
                proposals, boxes, options.region_iou, options.regions, random
            )
            there = there * (present > 0.99)[:, None]
        parts['box'], refined = self._refined(network, output, regions, boxes, there)
        mask_iou = None
        if options.mask_weight:
            parts['mask'], mask_iou = self._masked(network, output, regions, batch, there)
        total = torch.stack(
            [getattr(options, f'{name}_weight') * value for name, value in parts.items()]
        ).sum()
        with torch.no_grad():
            best = logits.diff(dim=-1)[..., 0].argmax(dim=1)
            first = proposals[torch.arange(len(best)), best][:, None]
            shown = (present > 0.99).float()
            parts['iou'] = mean_over(overlaps(first, boxes)[:, 0], shown)
            parts['refined_iou'] = mean_over(overlaps(refined, boxes), there)
            if mask_iou is not None:
                parts['mask_iou'] = mask_iou
        return total, parts

    def predict(
        self, network: SiamAttn, templates: Tensor, boxes: Tensor, search: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The best proposal, refined, without the ranking by size and place; its logit."""
        output = network.search(search, network.template(templates[:, 0]))
        logits = logits_by_anchor(output.cls).diff(dim=-1)[..., 0]
        sure, best = logits.max(dim=1)
        anchors = self.anchors.to(search.device)
        proposals = self._held(corrected(anchors, corrections_by_anchor(output.loc)))
        first = proposals[torch.arange(len(best)), best]
        found = network.refine(output.box_features, self._rois(first, rim=0.5))
        found = corrected(first, found * found.new_tensor(_CORRECTION_STDS))
        middle = found.new_tensor([0.5, 0.5, 0.0, 0.0])
        return found / self.search_px + middle, sure

    def _refined(
        self, network: SiamAttn, output: Output, regions: Tensor, boxes: Tensor, there: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss of the regions' corrections, and the regions (B, R, 4) corrected."""
        count = regions.shape[1]
        rois = self._rois(regions, rim=0.5).flatten(0, 1)
        found = network.refine(output.box_features, rois, count).unflatten(0, (-1, count))
        stds = found.new_tensor(_CORRECTION_STDS)
        wanted = corrections(regions, boxes[:, None]) / stds
        # The mean over the four, as in the official code; that of the proposals is their sum.
        off = functional.smooth_l1_loss(found, wanted, reduction='none').mean(dim=-1)
        return mean_over(off, there), corrected(regions, found.detach() * stds)

    def _masked(
        self, network: SiamAttn, output: Output, regions: Tensor, batch: Batch, there: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss of the regions' masks, and how far the masks overlap the true ones."""
        if batch.masks is None or batch.has_mask is None:
            raise TrainingError(
                'SiamAttn learns masks: put true in crops.masks, or 0 in options.mask_weight'
            )
        counted = there * batch.has_mask[:, None]
        count = regions.shape[1]
        rois = self._rois(regions, rim=0.0)
        logits = network.mask(
            output.conv1, output.layer1, output.enhanced, rois.flatten(0, 1), count
        ).view(-1, count, MASK_PX, MASK_PX)
        wanted = masks_in(batch.masks, rois)
        off = functional.binary_cross_entropy_with_logits(logits, wanted, reduction='none')
        error = worst_mean(off.flatten(2), self.options.hard_pixels)
        found, true = logits.detach() > 0, wanted > 0.5
        common, either = (found & true).sum(dim=(2, 3)), (found | true).sum(dim=(2, 3))
        return mean_over(error, counted), mean_over(common / either.clamp(min=1), counted)

    def _from_middle(self, boxes: Tensor) -> Tensor:
        """Boxes (B, 4) in parts of the crop, in pixels from its middle."""
        return (boxes - boxes.new_tensor([0.5, 0.5, 0.0, 0.0])) * self.search_px

    def _held(self, proposals: Tensor) -> Tensor:
        """Proposals (..., 4) as tracking holds them in the crop."""
        middle, last = self.search_px / 2, self.search_px - 1
        return torch.cat(
            [
                proposals[..., :2].clamp(-middle, last - middle),
                proposals[..., 2:].clamp(_SMALLEST_PX, last),
            ],
            dim=-1,
        )

    def _rois(self, regions: Tensor, rim: float) -> Tensor:
        """Regions (..., 4) as corners in pixels of the crop, moved in by `rim` on each side.

        With 0.5 they are the middles of the first and the last pixel, as the box head is given.
        """
        corners = corners_of(regions) + self.search_px / 2
        return corners + corners.new_tensor([rim, rim, -rim, -rim])


def masks_in(masks: Tensor, rois: Tensor) -> Tensor:
    """What masks (B, S, S), 0 to 1, show in regions (B, R, 4) x1, y1, x2, y2: (B, R, 64, 64) 0/1.

    Regions are in pixels of the masks; outside of them there is no target.
    """
    count, side = rois.shape[1], masks.shape[-1]
    middles = (torch.arange(MASK_PX, device=rois.device) + 0.5) / MASK_PX
    x, y = (
        rois[..., axis, None] + middles * (rois[..., axis + 2] - rois[..., axis])[..., None]
        for axis in (0, 1)
    )
    grid = torch.stack(
        [
            x[:, :, None, :].expand(-1, -1, MASK_PX, -1),
            y[:, :, :, None].expand(-1, -1, -1, MASK_PX),
        ],
        dim=-1,
    )
    shown = functional.grid_sample(
        masks[:, None], (2 * grid / side - 1).flatten(1, 2), align_corners=False
    )
    return (shown.view(-1, count, MASK_PX, MASK_PX) > 0.5).to(masks.dtype)


def worst_mean(errors: Tensor, part: float) -> Tensor:
    """The mean over the largest `part` of the errors (..., N), such as 0.7: (...)."""
    return errors.topk(max(1, int(part * errors.shape[-1])), dim=-1).values.mean(dim=-1)


def backbone_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's weights from those of a ResNet-50 trained on ImageNet.

    PySOT's own (shortcuts of 3 x 3, pixels as SiamAttn takes them) are taken as they are.
    torchvision's have shortcuts of 1 x 1, which become the middle of 3 x 3, and want RGB that is
    normalised, which goes into the first convolution and its norm. Raises KeyError.
    """
    own = {name: value for name, value in tensors.items() if not name.startswith('fc.')}
    shortcuts = [f'{block}.downsample.0.weight' for block in _STRIDED]
    if own[shortcuts[0]].shape[-1] == 3:
        return own
    for name in shortcuts:
        own[name] = functional.pad(own[name], (1, 1, 1, 1))
    weight = own['conv1.weight']
    mean, std = (
        weight.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    # Normalising subtracts the same from every output, since the convolution has no padding.
    own['bn1.running_mean'] = own['bn1.running_mean'] + (weight * mean / std).sum(dim=(1, 2, 3))
    own['conv1.weight'] = (weight / (255 * std)).flip(1)
    return own
