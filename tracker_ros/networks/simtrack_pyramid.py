# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""SimTrack with a pyramid for a backbone (Chen et al., ECCV 2022, section 4.3 and table 7).

The paper has one paragraph on them, and there is no public code and no weights; this is a reading
of it. A comment that begins with "Ours:" marks what the paper does not say. As in the plain
SimTrack the target joins the search region in every layer, and a corner head reads the box.

- Swin-B: the target's tokens see the target alone, so that they are computed once. The tokens of
  the search region see their window and the target's, pooled to the size of a window.
- PVT-M: all tokens see all, reduced, the target's half as much as those of the search region.

Ours, of both: three of the four stages, whose map has the 14 x 14 cells of the plain SimTrack and
whose work is near that of table 7 (14.8 for 15.0 G, 8.4 for 8.9 G); the position of a target's
patch as in the plain SimTrack; no foveal window, which gives back what patches of 16 px lose,
while these have 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from tracker_ros.networks import pvt
from tracker_ros.networks.heads import CornerHead
from tracker_ros.networks.simtrack import Output, coverage
from tracker_ros.networks.swin import HEAD_DEPTH, PATCH_PX, WINDOW, Swin, SwinBlock

SEARCH_PX, TEMPLATE_PX = 224, 112
"""Sides of the images, those of the plain SimTrack."""
SEARCH_GRID = SEARCH_PX // PATCH_PX
TEMPLATE_GRID = TEMPLATE_PX // PATCH_PX
"""Tokens per side in the first stage; half as many in each that follows."""


@dataclass(frozen=True, slots=True)
class SwinVariant:
    dim: int = 128
    """Width of the first stage; that of each further stage is twice as large."""
    depths: tuple[int, ...] = (2, 2, 18)


@dataclass(frozen=True, slots=True)
class PvtVariant:
    dims: tuple[int, ...] = (64, 128, 320)
    depths: tuple[int, ...] = (3, 4, 18)
    heads: tuple[int, ...] = (1, 2, 5)
    ratios: tuple[int, ...] = (8, 4, 2)
    """By how much the tokens of the search region are reduced, along each side."""
    mlp_ratios: tuple[int, ...] = (8, 8, 4)


VARIANTS: dict[str, SwinVariant | PvtVariant] = {'swin_b': SwinVariant(), 'pvt_m': PvtVariant()}


class Positions(nn.Sequential):
    """What the target's tokens know of their place (section 3.3.1): the target covers so much."""

    def __init__(self, dim: int) -> None:
        super().__init__(nn.Linear(3, dim // 2), nn.ReLU(), nn.Linear(dim // 2, dim), nn.Sigmoid())

    def of(self, box: Tensor, grid: int) -> Tensor:
        """(B, grid^2, C) for boxes (B, 4), x, y, w, h as fractions of the template."""
        return self(coverage(box, grid)) * 2 - 1


class SwinBackbone(nn.Module):
    def __init__(self, variant: SwinVariant) -> None:
        super().__init__()
        dim, depths = variant.dim, variant.depths
        self.width = dim << len(depths) - 1
        heads = [(dim << stage) // HEAD_DEPTH for stage in range(len(depths))]
        self.swin = Swin(dim, depths, heads, (SEARCH_PX, TEMPLATE_PX))
        # Ours: only the first stage adds it, as a Swin has no positions but relative ones.
        self.pos_fc = Positions(dim)
        self.norm = nn.LayerNorm(self.width)

    def template(self, image: Tensor, box: Tensor) -> tuple[Tensor, ...]:
        """Keys and values of the pooled target, for each stage: (B, layers, 49, C) twice."""
        tokens = self.swin.patch_embed(image) + self.pos_fc.of(box, TEMPLATE_GRID)
        side, cached = TEMPLATE_GRID, []
        plane = tokens.reshape(-1, side, side, self.swin.dim)
        for stage in self.swin.stages():
            pairs = []
            for block in stage.own_blocks():
                pairs.append(block.attn.key_value(_pooled(block, plane, side)))
                # After the last block nobody reads the target's tokens.
                if len(pairs) < len(stage.blocks) or stage.downsample is not None:
                    plane = block(plane, side)
            if stage.downsample is not None:
                plane, side = stage.downsample(plane, side), side // 2
            cached += [torch.stack(parts, dim=1) for parts in zip(*pairs, strict=True)]
        return tuple(cached)

    def search(self, image: Tensor, cached: tuple[Tensor, ...]) -> Tensor:
        """Tokens (B, 196, C) that have seen the target."""
        side = SEARCH_GRID
        plane = self.swin.patch_embed(image).reshape(-1, side, side, self.swin.dim)
        pairs = zip(cached[::2], cached[1::2], strict=True)
        for stage, (keys, values) in zip(self.swin.stages(), pairs, strict=True):
            for layer, block in enumerate(stage.own_blocks()):
                plane = block(plane, side, (keys[:, layer], values[:, layer]))
            if stage.downsample is not None:
                plane, side = stage.downsample(plane, side), side // 2
        return self.norm(plane.reshape(-1, side**2, self.width))


def _pooled(block: SwinBlock, plane: Tensor, side: int) -> Tensor:
    """The target's tokens as the block sees them, their means over equal parts: (B, 49, C)."""
    part = side // WINDOW
    cells = block.norm1(plane).reshape(-1, WINDOW, part, WINDOW, part, block.dim)
    return cells.mean(dim=(2, 4)).reshape(-1, WINDOW**2, block.dim)


class PvtBackbone(nn.Module):
    def __init__(self, variant: PvtVariant) -> None:
        super().__init__()
        dims = variant.dims
        self.dims, self.width = dims, dims[-1]
        inside = 3
        for place, dim in enumerate(dims):
            grid = SEARCH_GRID >> place
            patch = PATCH_PX if place == 0 else 2
            self.add_module(f'patch_embed{place + 1}', pvt.NormedPatches(patch, inside, dim))
            positions = nn.Parameter(0.02 * torch.randn(1, grid**2, dim))
            self.register_parameter(f'pos_embed{place + 1}', positions)
            # Ours: one for each stage, as each has positions for the search region.
            self.add_module(f'pos_fc{place + 1}', Positions(dim))
            blocks = nn.ModuleList(
                pvt.Block(
                    dim, variant.heads[place], variant.ratios[place], variant.mlp_ratios[place]
                )
                for _ in range(variant.depths[place])
            )
            self.add_module(f'block{place + 1}', blocks)
            inside = dim
        self.norm = nn.LayerNorm(self.width, eps=1e-6)

    def template(self, image: Tensor, box: Tensor) -> tuple[Tensor, ...]:
        """Tokens of the first stage (B, 784, C), and positions of the further ones."""
        grids = [TEMPLATE_GRID >> place for place in range(len(self.dims))]
        first, *further = (
            cast(Positions, self.get_submodule(f'pos_fc{place + 1}')).of(box, grid)
            for place, grid in enumerate(grids)
        )
        return self._patches(0)(image) + first, *further

    def search(self, image: Tensor, cached: tuple[Tensor, ...]) -> Tensor:
        """Tokens (B, 196, C) that have seen the target."""
        search, target = image, cached[0]
        for place in range(len(self.dims)):
            sides = SEARCH_GRID >> place, TEMPLATE_GRID >> place
            embed = self._patches(place)
            if place:
                # Sides of the stage before.
                search = embed.of_tokens(search, 2 * sides[0])
                target = embed.of_tokens(target, 2 * sides[1]) + cached[place]
            else:
                search = embed(search)
            search = search + self.get_parameter(f'pos_embed{place + 1}')
            *earlier, end = self._blocks(place)
            for block in earlier:
                search, target = block(search, target, sides)
            is_last = place + 1 == len(self.dims)
            search, target = end(search, target, sides, first_alone=is_last)
        return self.norm(search)

    def _patches(self, place: int) -> pvt.NormedPatches:
        return cast(pvt.NormedPatches, self.get_submodule(f'patch_embed{place + 1}'))

    def _blocks(self, place: int) -> list[pvt.Block]:
        return cast('list[pvt.Block]', list(self.get_submodule(f'block{place + 1}').children()))


class PyramidSimTrack(nn.Module):
    """The whole tracker. Images are RGB, normalised with ImageNet's mean and deviation."""

    def __init__(self, variant: SwinVariant | PvtVariant) -> None:
        super().__init__()
        self.variant = variant
        self.grid = SEARCH_GRID >> len(variant.depths) - 1
        self.backbone: SwinBackbone | PvtBackbone
        if isinstance(variant, SwinVariant):
            self.backbone = SwinBackbone(variant)
        else:
            self.backbone = PvtBackbone(variant)
        self.bottleneck = nn.Linear(self.backbone.width, 256)
        self.box_head = CornerHead(self.grid)

    def template(self, template: Tensor, box: Tensor) -> tuple[Tensor, ...]:
        """All that depends on the template (B, 3, 112, 112) and the box in it (B, 4) alone."""
        return self.backbone.template(template, box)

    def search(self, search: Tensor, *cached: Tensor) -> Output:
        """One frame (B, 3, 224, 224), given what `template` returned."""
        tokens = self.bottleneck(self.backbone.search(search, cached))
        return Output(
            *self.box_head(tokens.transpose(1, 2).reshape(-1, 256, self.grid, self.grid))
        )

    def forward(self, template: Tensor, box: Tensor, search: Tensor) -> Output:
        """Both together, as in training."""
        return self.search(search, *self.template(template, box))


def variant_of(shapes: Mapping[str, tuple[int, ...]]) -> SwinVariant | PvtVariant | None:
    """The variant that a checkpoint's tensor shapes, by name, belong to; None for no pyramid."""
    for name in ('backbone.swin.patch_embed.proj.weight', 'backbone.patch_embed1.proj.weight'):
        if name not in shapes:
            continue
        if 'swin' in name:
            depths = _depths(shapes, 'backbone.swin.layers.{}.blocks.', 0)
            return SwinVariant(shapes[name][0], depths)
        return _pvt_of(shapes)
    return None


def _pvt_of(shapes: Mapping[str, tuple[int, ...]]) -> PvtVariant:
    depths = _depths(shapes, 'backbone.block{}.', 1)
    blocks = [f'backbone.block{place + 1}.0' for place in range(len(depths))]
    dims = tuple(shapes[f'{block}.norm1.weight'][0] for block in blocks)
    # Of the published sizes; heads leave no trace in the shapes but that of PVT-M, 64 a head.
    return PvtVariant(
        dims,
        depths,
        tuple(max(dim // 64, 1) for dim in dims),
        tuple(shapes.get(f'{block}.attn.sr.weight', (1, 1, 1, 1))[2] for block in blocks),
        tuple(
            shapes[f'{block}.mlp.fc1.weight'][0] // dim
            for block, dim in zip(blocks, dims, strict=True)
        ),
    )


def _depths(shapes: Mapping[str, tuple[int, ...]], pattern: str, first: int) -> tuple[int, ...]:
    """How many blocks each stage has, by what their names begin with."""
    counts: list[int] = []
    while True:
        prefix = pattern.format(first + len(counts))
        found = {name[len(prefix) :].split('.')[0] for name in shapes if name.startswith(prefix)}
        if not found:
            return tuple(counts)
        counts.append(len(found))
