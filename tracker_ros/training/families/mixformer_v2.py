# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training of MixFormerV2 (Cui et al., NeurIPS 2023, sections 3.2 and 3.3); see its network.

Stages, each a run that begins with the weights of the one before and most with a teacher:

- dense to sparse: a student of 12 layers learns the four distributions from the corner maps of
  MixViT (section 3.2.1, equation 5).
- deep to shallow: layers fade out while the others learn the features of the teacher's layers
  (section 3.2.2, equations 6 to 9); then they are left out, and the rest goes on learning so.
  To four layers by way of eight, the intermediate teacher.
- MLP reduction: the first hidden units are kept (section 3.2.2), with the same teaching.
- score: all but the score head is held.

What is taught and what is faded stands in the recipe's `options`; the teacher is a file, and its
kind is known by its tensors. Where the public code and the paper differ, a comment says which is
followed. "Ours:" marks what neither says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tracker_ros.networks import mix_vit, mixformer_v2
from tracker_ros.networks.mixformer_v2 import MixFormerV2, Variant
from tracker_ros.training.batches import Batch
from tracker_ros.training.checkpoints import TrainingError
from tracker_ros.training.families import (
    Family,
    Group,
    checked_variant,
    normalised,
    read_weights,
)
from tracker_ros.training.losses import complete_overlap, corners_of, mean_over, overlap
from tracker_ros.training.progress import Progress
from tracker_ros.training.recipe import Recipe, RecipeError

VARIANTS = {
    **mixformer_v2.VARIANTS,
    # On the way to the released ones: 12 layers, fewer, and those of S with the whole MLP.
    'b12': Variant(search_px=288, template_px=128, depth=12, mlp_ratio=4),
    's12': Variant(search_px=224, template_px=112, depth=12, mlp_ratio=4),
    's8': Variant(search_px=224, template_px=112, depth=8, mlp_ratio=4),
    's4': Variant(search_px=224, template_px=112, depth=4, mlp_ratio=4),
}
STAGES = ('boxes', 'score')
_FIXED = ('backbone.pos_embed_s', 'backbone.pos_embed_t')
_BLOCK = re.compile(r'backbone\.blocks\.(\d+)\.(.+)')
# Of MAE's transformer, by its own names; its positions are not taken (public code).
_OF_MAE = re.compile(r'(?:backbone\.)?(patch_embed\.proj\.\w+|blocks\.\d+\..+)$')


@dataclass(frozen=True)
class Options:
    """The recipe's `options`."""

    stage: str = 'boxes'
    """boxes, or score: only the score head, on targets that are there or not."""
    l1: float = 5.0
    ciou: float = 2.0
    logits: float = 5.0
    """Of the mean over the four sides of the divergence from the teacher's distribution, as in
    the public code; the paper sums and counts 1, which is 4 here."""
    features: float = 0.0
    """Of the squared difference to the teacher's features in `matched`, the mean over all pairs;
    0.2 in section 4.1."""
    matched: tuple[tuple[int, int], ...] = ()
    """Layer of the student and layer of the teacher whose outputs are compared, from 0."""
    faded: tuple[int, ...] = ()
    """Layers that vanish."""
    fade_samples: int = 0
    """After how many samples they have."""
    kept: tuple[int, ...] = ()
    """Of deeper weights to begin with, the layers that are kept; empty: as many as there are."""
    backbone_rate: float = 0.1
    """Learning rate of the backbone, times that of the heads (public code)."""
    drop_path: float = 0.1
    """How likely a sample leaves out a branch of the last block; less in those before."""


class Branch(nn.Module):
    """What training does to both branches of a block: it weakens them, and leaves some out."""

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.weight = 1.0

    def forward(self, change: Tensor) -> Tensor:
        """(B, N, C) to the same; while training each sample's is left out with `drop`."""
        if self.training and self.drop > 0:
            kept = torch.rand(len(change), 1, 1, device=change.device) >= self.drop
            change = change * kept / (1 - self.drop)
        # The public code weakens each branch. Equation 8 weakens their sum; both end the same.
        return change if self.weight == 1.0 else change * self.weight


@dataclass(frozen=True, slots=True)
class Seen:
    """tokens: (B, 4, C) for the heads. features: by layer, those of all tokens (B, N, C)."""

    tokens: Tensor
    features: dict[int, Tensor]


class Training(Family):
    options_kind = Options
    uses_all = True
    options: Options

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._teacher: MixFormerV2 | mix_vit.MixVit | None = None
        self._check_options()

    def network(self) -> MixFormerV2:
        recipe, options = self.recipe, self.options
        variant = checked_variant(recipe, VARIANTS)
        if recipe.crops.templates != 2:
            raise TrainingError(
                f'MixFormerV2 takes 2 templates, the recipe makes {recipe.crops.templates}: put '
                'it right in crops.templates'
            )
        student_layers = [*options.faded, *(pair[0] for pair in options.matched)]
        _check_layers(student_layers, variant.depth, 'faded or matched')
        network = MixFormerV2(variant)
        for layer, block in enumerate(network.backbone.blocks):
            share = layer / max(1, variant.depth - 1)
            # What vanishes is not left out at random on top of it.
            drop = 0.0 if layer in options.faded else options.drop_path * share
            block.branch = Branch(drop)
        return network

    def prepare(self, device: torch.device) -> None:
        """Read the teacher, a MixViT or a MixFormerV2, where the recipe is taught by one."""
        recipe, options = self.recipe, self.options
        if not self._is_taught:
            return super().prepare(device)
        if not recipe.teacher:
            raise TrainingError(
                f'{recipe.name} learns from a teacher: tracker_ros distill RECIPE --teacher FILE, '
                'or set options.logits and options.features to 0'
            )
        teacher = _teacher_of(read_weights(Path(recipe.teacher)), recipe.teacher)
        own, its = teacher.variant, checked_variant(recipe, VARIANTS)
        _check_layers([pair[1] for pair in options.matched], own.depth, 'matched, of the teacher')
        if options.features and (own.dim, own.search_px) != (its.dim, its.search_px):
            raise TrainingError(
                f'features of {own.dim} channels at {own.search_px} px cannot be compared with '
                f'those of {its.dim} at {its.search_px} px: set options.features to 0'
            )
        self._teacher = teacher.to(device).eval().requires_grad_(False)
        return None

    def groups(self, network: MixFormerV2) -> list[Group]:
        """Backbone and box head, without what vanishes; or the score head."""
        if self.options.stage == 'score':
            return [Group(list(network.score_head.parameters()))]
        backbone = []
        for name, parameter in network.named_parameters():
            found = _BLOCK.match(name)
            vanishes = found is not None and int(found[1]) in self.options.faded
            # The public code gives these layers no gradient.
            if name.startswith('backbone.') and name not in _FIXED and not vanishes:
                backbone.append(parameter)
        heads = list(network.box_head.parameters())
        return [Group(backbone, self.options.backbone_rate), Group(heads)]

    def set_mode(self, network: MixFormerV2, progress: Progress) -> None:
        """Weaken what vanishes; while the score is learned, all but its head is as in use."""
        super().set_mode(network, progress)
        weight = fade(progress.samples, self.options.fade_samples)
        for layer in self.options.faded:
            block = network.backbone.blocks[layer]
            block.branch.weight = weight  # type: ignore[union-attr]
        if self.options.stage == 'score':
            network.backbone.eval()

    def begin_with(self, network: MixFormerV2, tensors: Mapping[str, Tensor]) -> None:
        """All weights; or of a deeper network with larger MLPs; or of a transformer of MAE."""
        if 'backbone.reg_tokens' in tensors:
            network.load_state_dict(reduced(tensors, network, self.options.kept))
            return
        found = {
            f'backbone.{match[1]}': each
            for name, each in tensors.items()
            if (match := _OF_MAE.match(name))
        }
        own = {name for name in network.state_dict() if _OF_MAE.match(name)}
        found = {name: each for name, each in found.items() if name in own}
        if own - found.keys():
            raise TrainingError(
                f'{len(own - found.keys())} tensors are missing, such as '
                f'{min(own - found.keys())}: neither a MixFormerV2 nor a transformer of MAE'
            )
        network.load_state_dict(found, strict=False)

    def loss(
        self, network: MixFormerV2, batch: Batch, progress: Progress
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Equation 10; or that of the score."""
        matched = self.options.matched if self.options.features else ()
        seen = self._run(network, batch.templates, batch.search, [pair[0] for pair in matched])
        truth = batch.truth
        shown = truth.present * truth.certain
        # Of a target at the rim, as far as the crop shows it: no bin lies outside.
        true = corners_of(truth.boxes).clamp(0, 1)
        if self.options.stage == 'score':
            scores = network.score_head(seen.tokens)
            errors = functional.binary_cross_entropy_with_logits(
                scores, truth.present, reduction='none'
            )
            right = ((scores > 0) == (truth.present > 0.5)).float()
            with torch.no_grad():
                found = corners_of(network.box_head(seen.tokens)[0])
            parts = {'score': mean_over(errors, truth.certain)}
            loss = parts['score']
            parts['right'] = mean_over(right, truth.certain)
            parts['iou'] = mean_over(overlap(found, true)[0], shown)
            return loss, parts
        options = self.options
        logits = network.box_head.logits(seen.tokens)
        found = _corners(logits, network.box_head.positions)
        parts = {
            'l1': mean_over((found - true).abs().mean(dim=-1), shown),
            'ciou': mean_over(1 - complete_overlap(found, true, 0.5), shown),
        }
        if self._teacher is not None:
            sides, features = self._taught(batch, [pair[1] for pair in matched])
            if options.logits:
                divergence = divergence_of(sides, logits).mean(dim=-1)
                parts['logits'] = mean_over(divergence, shown)
            if options.features:
                of_each = [
                    (seen.features[one].float() - features[other].float())
                    .square()
                    .mean(dim=(1, 2))
                    for one, other in matched
                ]
                # The public code's mean; equation 6 has the sum over the pairs.
                parts['features'] = torch.stack(of_each).mean()
        loss = torch.stack([getattr(options, name) * each for name, each in parts.items()]).sum()
        parts['iou'] = mean_over(overlap(found.detach(), true)[0], shown)
        return loss, parts

    def predict(
        self, network: MixFormerV2, templates: Tensor, boxes: Tensor, search: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The box, and the score."""
        tokens = self._run(network, templates, search, ()).tokens
        return network.box_head(tokens)[0], network.score_head(tokens)

    def checkpointed(self, network: MixFormerV2) -> Iterable[tuple[nn.Module, str]]:
        blocks = network.backbone.blocks
        return [(block, method) for block in blocks for method in ('templates', 'search')]

    @property
    def _is_taught(self) -> bool:
        options = self.options
        return options.stage == 'boxes' and (options.logits > 0 or options.features > 0)

    def _check_options(self) -> None:
        options, place = self.options, f'{self.recipe.name}: options'
        if options.stage not in STAGES:
            raise RecipeError(
                f'{place}.stage must be one of {", ".join(STAGES)}, not {options.stage!r}'
            )
        if options.features and not options.matched:
            raise RecipeError(f'{place}.features needs layers to compare: give options.matched')
        if any(len(pair) != 2 for pair in options.matched):
            raise RecipeError(
                f'{place}.matched must be pairs of a layer of the student and one of the teacher, '
                f'not {options.matched}'
            )
        if options.faded and options.fade_samples <= 0:
            raise RecipeError(f'{place}.faded needs options.fade_samples above 0')
        if not 0 <= options.drop_path < 1:
            raise RecipeError(f'{place}.drop_path must be in [0, 1), not {options.drop_path}')

    def _run(
        self, network: MixFormerV2, templates: Tensor, search: Tensor, layers: Sequence[int]
    ) -> Seen:
        """The network on crops of any size, with the features of some layers."""
        variant = network.variant
        with self.autocast(search.device):
            return _walk(network.backbone, _crops(variant, templates, search), layers)

    @torch.no_grad()
    def _taught(self, batch: Batch, layers: Sequence[int]) -> tuple[Tensor, dict[int, Tensor]]:
        """The teacher's distributions (B, 4, bins), and its features by layer."""
        teacher = self._teacher
        assert teacher is not None
        crops = _crops(teacher.variant, batch.templates, batch.search)
        if isinstance(teacher, MixFormerV2):
            with self.autocast(batch.search.device):
                seen = _walk(teacher.backbone, crops, layers)
            return teacher.box_head(seen.tokens)[1], seen.features
        with self.autocast(batch.search.device):
            backbone = teacher.backbone
            tokens = backbone.search(crops[2], *backbone.templates(*crops[:2]))
        grid = teacher.variant.search_grid
        maps = tokens.float().transpose(1, 2).unflatten(2, (grid, grid))
        return mix_vit.Output(*teacher.box_head(maps)).sides(), {}


def fade(samples: int, length: int) -> float:
    """How much a vanishing layer still counts (equation 9): 1, falling as a cosine, and 0."""
    if samples >= length:
        return 0.0
    return 0.5 * (1 + math.cos(math.pi * samples / length))


def divergence_of(sides: Tensor, logits: Tensor) -> Tensor:
    """KL of the teacher's distributions (B, 4, n) from the student's logits (B, 4, bins): (B, 4).

    Ours: where the numbers of bins differ, the teacher's are laid over the student's.
    """
    sides = rebinned(sides.float(), int(logits.shape[-1])).clamp(min=1e-9)
    return (sides * (sides.log() - logits.float().log_softmax(dim=-1))).sum(dim=-1)


def rebinned(sides: Tensor, bins: int) -> Tensor:
    """Distributions (..., n) over the coordinates i / n, over i / bins instead.

    Each bin is spread over its neighbourhood, as wide as the coarser of both bins.
    """
    count = int(sides.shape[-1])
    if count == bins:
        return sides
    old = torch.arange(count, device=sides.device, dtype=sides.dtype) / count
    new = torch.arange(bins, device=sides.device, dtype=sides.dtype) / bins
    spread = (1 - (old[:, None] - new).abs() * min(count, bins)).clamp(min=0)
    return sides @ (spread / spread.sum(dim=1, keepdim=True))


def reduced(
    tensors: Mapping[str, Tensor], network: MixFormerV2, kept: Sequence[int] = ()
) -> dict[str, Tensor]:
    """The weights of a deeper network with larger MLPs, as those of `network`.

    kept: the layers that stay, from 0. Of an MLP the first hidden units stay. Raises
    TrainingError where it is not told which layers to keep.
    """
    depth = len({found[1] for name in tensors if (found := _BLOCK.match(name))})
    own = network.variant.depth
    layers = list(kept) if kept and depth != own else list(range(depth))
    if len(layers) != own or max(layers) >= depth:
        raise TrainingError(
            f'the weights are of {depth} layers, the network has {own}: name those to keep in '
            f'options.kept, in their order and counted from 0, not {list(kept)}'
        )
    places = {layer: place for place, layer in enumerate(layers)}
    shapes = {name: each.shape for name, each in network.state_dict().items()}
    told = {}
    for name, each in tensors.items():
        if found := _BLOCK.match(name):
            if int(found[1]) not in places:
                continue
            name = f'backbone.blocks.{places[int(found[1])]}.{found[2]}'
            if '.mlp.' in name:
                each = each[tuple(slice(side) for side in shapes[name])]
        told[name] = each
    return told


def _walk(backbone: Any, crops: tuple[Tensor, Tensor, Tensor], layers: Sequence[int]) -> Seen:
    """Both templates and the search region through the backbone, layer by layer.

    The same as `Backbone.search` after `templates`, but in the last layer the tokens that nobody
    reads are answered only where their features are asked for.
    """
    templates = torch.cat(
        [backbone.patch_embed(each) + backbone.pos_embed_t for each in crops[:2]], dim=1
    )
    tokens = backbone.patch_embed(crops[2]) + backbone.pos_embed_s
    asked = (backbone.reg_tokens + backbone.pos_embed_reg).expand(len(tokens), -1, -1)
    tokens = torch.cat([tokens, asked], dim=1)
    features, last = {}, len(backbone.blocks) - 1
    sides = len(mixformer_v2.SIDES)
    for layer, block in enumerate(backbone.blocks):
        answered = sides if layer == last and layer not in layers else 0
        templates, key, value = block.templates(templates)
        tokens = block.search(tokens, key, value, answered)
        if layer in layers:
            features[layer] = torch.cat([templates, tokens], dim=1)
    return Seen(tokens[:, -sides:].float(), features)


def _crops(
    variant: Variant | mix_vit.Variant, templates: Tensor, search: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Both templates (B, 2, 3, T, T) and the search crop, as a network takes them."""
    first, second = (_fitted(each, variant.template_px) for each in templates.unbind(dim=1))
    return first, second, _fitted(search, variant.search_px)


def _fitted(pixels: Tensor, side: int) -> Tensor:
    """Crops (B, 3, S, S) in 0..255, at the size that a network takes, normalised.

    The larger of student and teacher may have a larger crop of the same region.
    """
    if pixels.shape[-1] == side:
        return normalised(pixels)
    small = functional.interpolate(
        pixels.float(), size=(side, side), mode='bilinear', antialias=True
    )
    return normalised(small)


def _corners(logits: Tensor, positions: Tensor) -> Tensor:
    """Logits of the sides (B, 4, bins) to x1, y1, x2, y2 (B, 4) in parts of the crop."""
    left, right, top, bottom = (logits.softmax(dim=-1) @ positions).unbind(dim=1)
    return torch.stack([left, top, right, bottom], dim=1)


def _teacher_of(tensors: Mapping[str, Tensor], place: str) -> MixFormerV2 | mix_vit.MixVit:
    """The network that the weights are of."""
    shapes = {name: tuple(each.shape) for name, each in tensors.items()}
    teacher: MixFormerV2 | mix_vit.MixVit
    try:
        if 'backbone.reg_tokens' in shapes:
            teacher = MixFormerV2(mixformer_v2.variant_of(shapes))
        else:
            teacher = mix_vit.MixVit(mix_vit.variant_of(shapes))
        own = teacher.state_dict()
        # MixViT's own score module is not needed here.
        teacher.load_state_dict({name: each for name, each in tensors.items() if name in own})
    except (ValueError, RuntimeError) as error:
        raise TrainingError(f'the teacher {place} cannot be used: {error}') from error
    return teacher


def _check_layers(layers: Sequence[int], depth: int, what: str) -> None:
    wrong = [layer for layer in layers if not 0 <= layer < depth]
    if wrong:
        raise TrainingError(
            f'options: no layers {wrong} ({what}): they are counted from 0 to {depth - 1}'
        )
