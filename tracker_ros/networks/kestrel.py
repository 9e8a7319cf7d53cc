# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Kestrel: the small trackers of this project, trained from nothing on a CPU.

Convolutions see, attention compares. A backbone shared by both crops gives features of stride 8.
Each cell of the search region asks the cells of the template by the angle between their features,
and is answered with what those cells are: their feature, whether they belong to the target, and
where in its box they lie. So each part of the target that is recognised votes for the box. Beside
it stands what attention alone would normalise away: how alike the cells are that answered, and
the likeness to the means of target and surroundings. A small head with one step to stride 16 and
back reads score, sides, presence and quality.

Everything of the template is computed once: keys, values and means. Several templates, of the
start and of later, stand side by side in them.

Shapes: B batch, K templates, N and M cells of search and template, H heads, D channels of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE_PX = 8
_POSITIONS = 8
"""What is told of a template cell beside its feature: see `places`."""
_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class Variant:
    """What distinguishes the models."""

    widths: tuple[int, int, int, int]
    """Channels at stride 2, 4, 8 and 16."""
    depths: tuple[int, int, int]
    """Residual blocks at stride 4, 8 and 16."""
    dim: int
    """Channels of the features that are compared."""
    head_dim: int
    heads: int = 4
    groups: int = 8
    """Parts of the channels that are compared with the means one by one."""
    rounds: int = 1
    """How often the search region asks the template."""
    templates: int = 1


VARIANTS = {
    'nano': Variant(widths=(16, 32, 64, 80), depths=(1, 2, 2), dim=64, head_dim=80),
    'nano_online': Variant(
        widths=(16, 32, 64, 80), depths=(1, 2, 2), dim=64, head_dim=80, templates=2
    ),
    # As wide as nano, so that its weights are a beginning (`grown`), but deeper.
    'tiny': Variant(
        widths=(16, 32, 64, 80), depths=(2, 4, 6), dim=64, head_dim=80, rounds=2, templates=2
    ),
}


@dataclass(frozen=True, slots=True)
class Memory:
    """What is kept of the templates; the M cells of all K templates stand in one row.

    keys: for each round (B, H, D, M), of length 1 along D. values: for each round (B, H, M, 2 D),
    what a cell is and its key once more. means: (B, groups, 2 K, C / groups), target and
    surroundings, of length 1 along the last.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    means: Tensor


@dataclass(frozen=True, slots=True)
class Output:
    """What the network says about a batch of search regions, on a grid of cells.

    scores: (B, 1, grid, grid) logits; their softmax over all cells says where the target's
    centre is, if it is there. sides: (B, 4, grid, grid) from the middle of the cell to the left,
    upper, right and lower side of the box, in parts of the crop. presence, quality: (B,) logits
    of the target being there and of the overlap of the best cell's box with the true one.
    """

    scores: Tensor
    sides: Tensor
    presence: Tensor
    quality: Tensor


class ConvNorm(nn.Sequential):
    """A convolution and its norm, which become one in a graph."""

    def __init__(self, inside: int, outside: int, side: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inside, outside, side, stride, padding=side // 2, bias=False),
            nn.BatchNorm2d(outside),
        )

    @property
    def norm(self) -> nn.BatchNorm2d:
        return cast(nn.BatchNorm2d, self[1])


class Residual(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, dim)
        self.conv2 = ConvNorm(dim, dim)
        # A block that begins as the identity: deep stacks learn from the first step on.
        nn.init.zeros_(self.conv2.norm.weight)

    def forward(self, features: Tensor) -> Tensor:
        change = self.conv2(relu(self.conv1(features)))
        return relu(features + change)


class Down(nn.Module):
    """Half the side, then residual blocks."""

    def __init__(self, inside: int, outside: int, depth: int) -> None:
        super().__init__()
        self.enter = ConvNorm(inside, outside, stride=2)
        self.blocks = nn.Sequential(*(Residual(outside) for _ in range(depth)))

    def forward(self, features: Tensor) -> Tensor:
        return self.blocks(relu(self.enter(features)))


class Backbone(nn.Module):
    """Pixels (B, 3, S, S) in 0..255, BGR, to features (B, dim, S / 8, S / 8).

    Pixels are taken as they are: the first norm finds mean and scale by itself, and the black
    around an image is the zeros around a crop.
    """

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        first, second, third, fourth = variant.widths
        self.stem = ConvNorm(3, first, stride=2)
        self.stage4 = Down(first, second, variant.depths[0])
        self.stage8 = Down(second, third, variant.depths[1])
        self.stage16 = Down(third, fourth, variant.depths[2])
        self.fine = ConvNorm(third, variant.dim, side=1)
        self.coarse = ConvNorm(fourth, variant.dim, side=1)
        self.smooth = ConvNorm(variant.dim, variant.dim)

    def forward(self, pixels: Tensor) -> Tensor:
        features = relu(self.stem(pixels))
        fine = self.stage8(self.stage4(features))
        coarse = self.coarse(self.stage16(fine))
        fused = relu(self.fine(fine) + twice(coarse))
        return self.smooth(fused)


class Matching(nn.Module):
    """One round of search cells asking template cells."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        dim, self.heads = variant.dim, variant.heads
        # The same for both sides: like features are alike before anything is learned.
        self.alike = nn.Conv2d(dim, dim, 1)
        self.value = nn.Linear(dim + _POSITIONS, dim)
        self.sharpness = nn.Parameter(torch.full((1, self.heads, 1, 1), 2.3))

    def template(self, features: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, C, h, w) and what is told of their cells (B, M, P) to keys and values."""
        keys = unit(by_head(self.alike(features), self.heads), dim=2)
        values = self.value(torch.cat([features.flatten(2).transpose(1, 2), told], dim=-1))
        return keys, torch.cat([by_head_last(values, self.heads), keys.transpose(2, 3)], dim=-1)

    def forward(self, features: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, C, g, g) to answers (B, C, g, g) and cosines (B, H, g, g).

        The cosine is that with the key of the cells that answered.
        """
        side, depth = int(features.shape[-1]), int(keys.shape[2])
        asked = unit(by_head(self.alike(features), self.heads), dim=2)
        sharp = asked * self.sharpness.clamp(max=4.0).exp()
        shares = (sharp.transpose(2, 3) @ keys).softmax(dim=-1)
        answers, answered = (shares @ values).transpose(2, 3).split(depth, dim=2)
        cosines = (asked * answered).sum(dim=2)
        return (
            answers.reshape(-1, self.heads * depth, side, side),
            cosines.reshape(-1, self.heads, side, side),
        )


class Head(nn.Module):
    """What was found on the grid to score, sides, presence and quality."""

    def __init__(self, inside: int, dim: int, evidence: int) -> None:
        super().__init__()
        self.enter = ConvNorm(inside, dim, side=1)
        self.context = Down(dim, dim, depth=1)
        self.back = ConvNorm(dim, dim, side=1)
        self.block = Residual(dim)
        # The score, then the sides.
        self.answer = nn.Conv2d(dim, 5, 3, padding=1)
        self.verdict = nn.Sequential(
            nn.Linear(dim + 2 * evidence, dim), nn.ReLU(), nn.Linear(dim, 2)
        )
        with torch.no_grad():
            self.answer.weight[1:].normal_(std=0.01)
            # Of a target of a quarter of the crop, half to each side.
            nn.init.constant_(cast(Tensor, self.answer.bias)[1:], -2.08)

    def forward(self, found: Tensor, evidence: Tensor) -> Output:
        features = relu(self.enter(found))
        features = relu(features + twice(self.back(self.context(features))))
        features = self.block(features)
        answer = self.answer(features).float()
        scores, sides = answer[:, :1], answer[:, 1:].clamp(-7.0, 0.7).exp()
        # The verdict is on what the best cells saw, and must not move the score to please itself.
        shares = scores.detach().flatten(2).softmax(dim=-1).transpose(1, 2)
        at_best = [(part.flatten(2).float() @ shares)[..., 0] for part in (features, evidence)]
        at_best.append(evidence.flatten(2).float().amax(dim=-1))
        verdict = self.verdict(torch.cat(at_best, dim=-1)).float()
        return Output(scores, sides, verdict[:, 0], verdict[:, 1])


class Kestrel(nn.Module):
    crop_px: Tensor
    """The sides of template and search crop that it was last trained with."""
    crop_factors: Tensor
    """The sides of their windows, in roots of the area of the target's box."""
    likeness: nn.Conv2d

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        dim = variant.dim
        self.backbone = Backbone(variant)
        self.slots = nn.Parameter(torch.zeros(variant.templates, _POSITIONS))
        self.rounds = nn.ModuleList(Matching(variant) for _ in range(variant.rounds))
        self.again = nn.ModuleList(
            ConvNorm(2 * dim, dim, side=1) for _ in range(variant.rounds - 1)
        )
        self.likeness = nn.Conv2d(dim, dim, 1)
        evidence = 2 * variant.groups * variant.templates + variant.heads
        self.head = Head(2 * dim + evidence, variant.head_dim, evidence)
        self.register_buffer('crop_px', torch.tensor([64, 128]))
        self.register_buffer('crop_factors', torch.tensor([2.0, 4.0]))

    def forward(self, templates: Tensor, boxes: Tensor, search: Tensor) -> Output:
        """Templates (B, K, 3, T, T) and boxes (B, K, 4) as `template`, search (B, 3, S, S)."""
        return self.search(search, self.template(templates, boxes))

    def template(self, pixels: Tensor, boxes: Tensor) -> Memory:
        """Crops (B, K, 3, T, T) in 0..255 and cx, cy, w, h (B, K, 4) in parts of the crop."""
        count = self.variant.templates
        features = self.backbone(pixels.flatten(0, 1))
        side = int(features.shape[-1])
        belongs, told = places(boxes.flatten(0, 1).float(), side)
        told = told.reshape(-1, count, side * side, _POSITIONS) + self.slots[:, None]
        told = told.reshape(-1, side * side, _POSITIONS)
        kept = [cast(Matching, each).template(features, told) for each in self.rounds]
        return Memory(
            keys=tuple(in_row(keys, count, 3) for keys, _ in kept),
            values=tuple(in_row(values, count, 2) for _, values in kept),
            means=self._means(features, belongs),
        )

    def search(self, pixels: Tensor, memory: Memory) -> Output:
        """Search crops (B, 3, S, S) in 0..255."""
        features = self.backbone(pixels)
        answers, cosines = self.rounds[0](features, memory.keys[0], memory.values[0])
        for again, ask, keys, values in zip(
            self.again, list(self.rounds)[1:], memory.keys[1:], memory.values[1:], strict=True
        ):
            asking = relu(again(torch.cat([features, answers], dim=1)))
            answers = answers + ask(asking, keys, values)[0]
        evidence = torch.cat([self._correlation(features, memory.means), cosines], dim=1)
        return self.head(torch.cat([features, answers, evidence], dim=1), evidence)

    def _means(self, features: Tensor, belongs: Tensor) -> Tensor:
        """The mean features of target and surroundings, by groups of channels."""
        groups, count = self.variant.groups, self.variant.templates
        cells = by_head_last(self.likeness(features).flatten(2).transpose(1, 2), groups)
        weights = torch.stack([belongs, 1 - belongs], dim=1)
        weights = weights / (weights.sum(dim=-1, keepdim=True) + _EPS)
        means = weights[:, None].to(cells.dtype) @ cells
        return unit(in_row(means, count, 2), dim=-1)

    def _correlation(self, features: Tensor, means: Tensor) -> Tensor:
        """(B, groups * 2 K, g, g): cosines of each cell with the means."""
        side = int(features.shape[-1])
        cells = unit(by_head(self.likeness(features), self.variant.groups), dim=2)
        maps = int(means.shape[1]) * int(means.shape[2])
        return (means @ cells).reshape(-1, maps, side, side)


def places(boxes: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """How much of each of side x side cells a box covers, and where in the box the cell lies.

    boxes: (B, 4) cx, cy, w, h in parts of the crop. Returns (B, M), and (B, M, 8): covered part,
    place relative to the box (-0.5 to 0.5 inside), the same where covered, size of the box, 1.
    """
    edges = torch.arange(side, device=boxes.device, dtype=boxes.dtype) / side
    centre, size = boxes[:, :2, None], boxes[:, 2:, None]
    low = torch.maximum(edges, centre - size / 2)
    high = torch.minimum(edges + 1 / side, centre + size / 2)
    covered = (high - low).clamp(min=0) * side
    inside = (covered[:, 1, :, None] * covered[:, 0, None, :]).flatten(1)
    relative = ((edges + 0.5 / side - centre) / size.clamp(min=1 / side)).clamp(-2.0, 2.0)
    across = relative[:, 0, None, :].expand(-1, side, -1).flatten(1)
    down = relative[:, 1, :, None].expand(-1, -1, side).flatten(1)
    width, height = (boxes[:, axis, None].expand(-1, side * side) for axis in (2, 3))
    one = torch.ones_like(inside)
    told = [inside, across, down, across * inside, down * inside, 4 * width, 4 * height, one]
    return inside, torch.stack(told, dim=-1)


def twice(features: Tensor) -> Tensor:
    """Each cell as four."""
    return functional.interpolate(features, scale_factor=2.0, mode='nearest')


def relu(features: Tensor) -> Tensor:
    # In place: what goes in is always the fresh result of a norm or a sum.
    return functional.relu(features, inplace=True)


def unit(values: Tensor, dim: int) -> Tensor:
    """Of length 1 along `dim`; short vectors stay short."""
    return values * (values.square().sum(dim=dim, keepdim=True) + _EPS).rsqrt()


def by_head(features: Tensor, heads: int) -> Tensor:
    """(B, C, h, w) to (B, H, D, N)."""
    channels, height, width = map(int, features.shape[1:])
    return features.reshape(-1, heads, channels // heads, height * width)


def by_head_last(cells: Tensor, heads: int) -> Tensor:
    """(B, N, C) to (B, H, N, D)."""
    count, channels = map(int, cells.shape[1:])
    return cells.reshape(-1, count, heads, channels // heads).transpose(1, 2)


def in_row(parts: Tensor, count: int, dim: int) -> Tensor:
    """Of (B K, ...) the K parts of each one behind each other along `dim`."""
    if count == 1:
        return parts
    return torch.cat(parts.reshape(-1, count, *parts.shape[1:]).unbind(1), dim=dim)


def variant_of(shapes: Mapping[str, tuple[int, ...]]) -> Variant:
    """The variant with tensors of these names and shapes. Raises ValueError."""
    for variant in VARIANTS.values():
        own = {name: tuple(value.shape) for name, value in Kestrel(variant).state_dict().items()}
        if own == dict(shapes):
            return variant
    raise ValueError(
        f'the tensors are of none of the variants {", ".join(VARIANTS)} of the family kestrel'
    )


def grown(tensors: Mapping[str, Tensor], variant: Variant) -> dict[str, Tensor]:
    """The tensors of a network as those of a deeper one, or of one with more templates.

    It says the same, if told the same template in each place: further residual blocks begin as
    the identity, further rounds add nothing yet. So what was learned by the smaller network is a
    beginning for the larger. What is too narrow for that comes back as it is.
    """
    told = _with_templates(tensors, variant)
    fresh = Kestrel(variant).state_dict()
    blocks = [name for name in fresh if '.blocks.' in name]
    told |= {name: fresh[name] for name in blocks if name not in told}
    for index in range(1, variant.rounds):
        if f'rounds.{index}.sharpness' in told:
            continue
        for name in ('alike.weight', 'alike.bias', 'sharpness'):
            told[f'rounds.{index}.{name}'] = told[f'rounds.0.{name}'].clone()
        for name in ('weight', 'bias'):
            told[f'rounds.{index}.value.{name}'] = torch.zeros_like(told[f'rounds.0.value.{name}'])
        again = f'again.{index - 1}.'
        told |= {name: value for name, value in fresh.items() if name.startswith(again)}
    return told


def _with_templates(tensors: Mapping[str, Tensor], variant: Variant) -> dict[str, Tensor]:
    count, groups = variant.templates, variant.groups
    told = dict(tensors)
    if count == 1 or len(told.get('slots', ())) != 1:
        return told
    told['slots'] = told['slots'].repeat(count, 1)
    # The likenesses to target and surroundings stand by group, each group's templates in a row.
    maps = 2 * groups
    evidence = maps + variant.heads
    shares = torch.arange(maps).reshape(groups, 2).repeat(1, count).flatten()
    for name, first, blocks in (
        ('head.enter.0.weight', 2 * variant.dim, 1),
        ('head.verdict.0.weight', variant.head_dim, 2),
    ):
        weight = told[name]
        parts = [weight[:, :first]]
        for block in range(blocks):
            begin = first + block * evidence
            parts.append(weight[:, begin : begin + maps][:, shares] / count)
            parts.append(weight[:, begin + maps : begin + evidence])
        told[name] = torch.cat(parts, dim=1)
    return told
