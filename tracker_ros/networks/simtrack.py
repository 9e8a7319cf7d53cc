# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""SimTrack: Backbone is All Your Need (Chen et al., ECCV 2022).

A plain vision transformer, pre-trained on something else, sees the target and the search region
as one sequence of tokens and joins them in every layer, so that no further module has to
(section 3.2). What tells the target's tokens from the background around it is a position that is
made of how much of each patch the target covers (section 3.3.1). A foveal window, the middle of
the target cut into patches once more with the grid moved by half a patch, gives back what the cut
into patches lost (section 3.3.2). A corner head reads the box off the search tokens.

Tensor names are those of the public code, with CLIP's visual tower as the backbone. Where code
and paper differ, a comment says which is followed and why.

Template tokens attend to search tokens in each layer, so that of the template only its embedding
can be computed once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from tracker_ros.networks.heads import CornerHead
from tracker_ros.networks.layers import attention, merge_heads, split_heads


@dataclass(frozen=True, slots=True)
class Variant:
    """What distinguishes the models (table 1); sizes in pixels."""

    patch_px: int
    search_px: int
    template_px: int
    foveal_px: int
    depth: int
    pretrained_grid: int
    """Patches per side of the images that the backbone was pre-trained with."""
    dim: int = 768
    heads: int = 12
    joint_dim: int = 512
    """Width of CLIP's joint space; its projection is in the checkpoints and not used."""
    shifts_template: bool = False
    """The foveal grid is moved by shifting the image, where its place alone does not do it."""
    pretraining: Literal['clip', 'mae'] = 'clip'

    @property
    def search_grid(self) -> int:
        return self.search_px // self.patch_px

    @property
    def template_grid(self) -> int:
        return self.template_px // self.patch_px

    @property
    def foveal_grid(self) -> int:
        # A part of a patch at the rim is left out, as a convolution does.
        return self.foveal_px // self.patch_px


_B16 = Variant(16, 224, 112, 64, depth=12, pretrained_grid=14)
VARIANTS = {
    # The public code's test for the shift compares with the window's size and finds none; the
    # paper shifts this one by half a patch (section 4.1).
    'b32': Variant(32, 320, 128, 64, depth=12, pretrained_grid=7, shifts_template=True),
    'b16_8': Variant(16, 224, 112, 64, depth=8, pretrained_grid=14),
    'b16': _B16,
    'l14': Variant(14, 224, 84, 42, 24, pretrained_grid=16, dim=1024, heads=16, joint_dim=768),
    'b16_mae': Variant(16, 224, 112, 64, depth=12, pretrained_grid=14, pretraining='mae'),
}


@dataclass(frozen=True, slots=True)
class Output:
    """What the network says about a batch of search regions.

    boxes: (B, 4) cx, cy, w, h as fractions of the search crop.
    corners: (B, 2, grid, grid) probability of the top left and the bottom right corner.
    """

    boxes: Tensor
    corners: Tensor


class QuickGelu(nn.Module):
    """CLIP's approximation of the Gaussian error linear unit."""

    def forward(self, values: Tensor) -> Tensor:
        return values * torch.sigmoid(1.702 * values)


class Attention(nn.Module):
    """Multi-head self-attention of all tokens among each other (equation 3)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, tokens: Tensor, answered: slice) -> Tensor:
        """(B, N, C) to (B, M, C), for the M tokens in `answered`."""
        dim = tokens.shape[-1]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        query = functional.linear(tokens[:, answered], weight[:dim], bias[:dim])
        key, value = functional.linear(tokens, weight[dim:], bias[dim:]).chunk(2, dim=-1)
        seen = attention(*(split_heads(part, self.heads) for part in (query, key, value)))
        return self.out_proj(merge_heads(seen))


class Mlp(nn.Module):
    def __init__(self, dim: int, activation: nn.Module) -> None:
        super().__init__()
        self.c_fc = nn.Linear(dim, 4 * dim)
        self.act = activation
        self.c_proj = nn.Linear(4 * dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.c_proj(self.act(self.c_fc(tokens)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        dim, is_clip = variant.dim, variant.pretraining == 'clip'
        eps = 1e-5 if is_clip else 1e-6
        self.ln_1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, variant.heads)
        self.ln_2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, QuickGelu() if is_clip else nn.GELU())

    def forward(self, tokens: Tensor, answered: slice = slice(None)) -> Tensor:
        """Only the tokens in `answered` are carried on."""
        kept = tokens[:, answered] + self.attn(self.ln_1(tokens), answered)
        return kept + self.mlp(self.ln_2(kept))


class Transformer(nn.Module):
    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(variant) for _ in range(variant.depth))


class VisualTower(nn.Module):
    """The pre-trained transformer (CLIP's, or MAE's, which has no norm before the first block)."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        dim, patch = variant.dim, variant.patch_px
        is_clip = variant.pretraining == 'clip'
        self.pretrained_grid = variant.pretrained_grid
        self.conv1 = nn.Conv2d(3, dim, kernel_size=patch, stride=patch, bias=not is_clip)
        self.class_embedding = nn.Parameter(0.02 * torch.randn(dim))
        self.positional_embedding = nn.Parameter(
            0.02 * torch.randn(1 + variant.pretrained_grid**2, dim)
        )
        self.ln_pre = nn.LayerNorm(dim) if is_clip else nn.Identity()
        self.transformer = Transformer(variant)
        self.ln_post = nn.LayerNorm(dim, eps=1e-5 if is_clip else 1e-6)
        if is_clip:
            self.proj = nn.Parameter(torch.zeros(dim, variant.joint_dim))

    def patches(self, image: Tensor) -> Tensor:
        """(B, 3, S, S) to tokens (B, N, C), row by row."""
        return self.conv1(image).flatten(2).transpose(1, 2)

    def search_positions(self, grid: int) -> Tensor:
        """The pre-trained positions (grid^2, C), resized to the search region's grid."""
        learnt = self.positional_embedding[1:]
        side = self.pretrained_grid
        if side == grid:
            return learnt
        plane = learnt.T.reshape(1, -1, side, side)
        resized = functional.interpolate(plane, size=(grid, grid), mode='bilinear')
        return resized.flatten(2)[0].T


class Backbone(nn.Module):
    """All tokens through the tower, in the order template, class, search, foveal."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.visual = VisualTower(variant)
        dim = variant.dim
        self.pos_fc = nn.Sequential(
            nn.Linear(3, dim // 2), nn.ReLU(), nn.Linear(dim // 2, dim), nn.Sigmoid()
        )
        # What is put where an image ends; 0 is the mean colour of normalised images.
        self.void: Tensor
        self.register_buffer('void', torch.zeros(1, 3, 1, 1), persistent=False)

    def template_tokens(self, template: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of the template (B, Nt, C) and of its foveal window (B, Nf, C), normalised.

        template: (B, 3, T, T). box: (B, 4) x, y, w, h of the target as fractions of the crop.
        """
        grid = self.variant.template_grid
        positions = self.pos_fc(coverage(box, grid)) * 2 - 1
        tokens = self.visual.patches(template) + positions
        plane = positions.transpose(1, 2).unflatten(2, (grid, grid))
        foveal = self.foveal_patches(template) + self.foveal_positions(plane)
        return self.visual.ln_pre(tokens), self.visual.ln_pre(foveal)

    def foveal_patches(self, template: Tensor) -> Tensor:
        """Patches (B, Nf, C) of the template's middle, half a patch beside its own."""
        variant = self.variant
        if not variant.shifts_template:
            # In steps of half a patch, which puts the window on the seams of the patches.
            first = (variant.template_grid - variant.foveal_grid) * variant.patch_px // 2
            end = first + variant.foveal_px
            return self.visual.patches(template[:, :, first:end, first:end])
        half = variant.patch_px // 2
        moved = template[:, :, half:, half:] - self.void
        shifted = functional.pad(moved, (0, half, 0, half)) + self.void
        first = (variant.template_grid - variant.foveal_grid) // 2
        end = first + variant.foveal_grid
        plane = self.visual.conv1(shifted)[:, :, first:end, first:end]
        return plane.flatten(2).transpose(1, 2)

    def foveal_positions(self, plane: Tensor) -> Tensor:
        """(B, Nf, C): between two diagonal neighbours of the template's positions (B, C, n, n)."""
        variant = self.variant
        grid, foveal = variant.template_grid, variant.foveal_grid
        between = (functional.pad(plane, (0, 1, 0, 1)) + functional.pad(plane, (1, 0, 1, 0))) / 2
        first = (grid - foveal) // 2 + 1
        end = first + foveal
        return between[:, :, first:end, first:end].flatten(2).transpose(1, 2)

    def search_tokens(self, search: Tensor) -> Tensor:
        """Class token and search tokens (B, 1 + Ns, C) of (B, 3, S, S), normalised."""
        visual = self.visual
        tokens = visual.patches(search) + visual.search_positions(self.variant.search_grid)
        of_class = visual.class_embedding + visual.positional_embedding[0]
        of_class = of_class.expand(tokens.shape[0], 1, -1)
        return visual.ln_pre(torch.cat([of_class, tokens], dim=1))

    def forward(self, template: Tensor, foveal: Tensor, search: Tensor) -> Tensor:
        """Search tokens (B, Ns, C) that have seen the target."""
        tokens = torch.cat([template, search, foveal], dim=1)
        last = self.visual.transformer.resblocks[-1]
        for block in self.visual.transformer.resblocks:
            # After the last layer nobody reads any but the search tokens.
            answered = self._searched(template) if block is last else slice(None)
            tokens = block(tokens, answered)
        return self.visual.ln_post(tokens)

    def _searched(self, template: Tensor) -> slice:
        first = template.shape[1] + 1
        return slice(first, first + self.variant.search_grid**2)


class SimTrack(nn.Module):
    """The whole tracker. Images are RGB, normalised with ImageNet's mean and deviation."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.backbone = Backbone(variant)
        self.bottleneck = nn.Linear(variant.dim, 256)
        # The public code counts cells of 16 px whatever the patch; that fits only B/16.
        self.box_head = CornerHead(variant.search_grid)

    def template(self, template: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
        """All that depends on the template alone: see `Backbone.template_tokens`."""
        return self.backbone.template_tokens(template, box)

    def search(self, search: Tensor, template: Tensor, foveal: Tensor) -> Output:
        """One frame (B, 3, S, S), given what `template` returned."""
        tokens = self.bottleneck(
            self.backbone(template, foveal, self.backbone.search_tokens(search))
        )
        grid = self.variant.search_grid
        return Output(*self.box_head(tokens.transpose(1, 2).unflatten(2, (grid, grid))))

    def forward(self, template: Tensor, box: Tensor, search: Tensor) -> Output:
        """Both together, as in training."""
        return self.search(search, *self.template(template, box))


def coverage(box: Tensor, grid: int) -> Tensor:
    """What the position of a template patch is made of (equation 5): (B, 4) to (B, grid^2, 3).

    For each patch, row by row: the share of it that the box covers, moved to [0.5, 1], and the
    patch's centre x, y. The box is x, y, w, h as fractions of the crop, of which only the part
    inside the crop counts.
    """
    first, end = box[:, :2].clamp(0, 1), (box[:, :2] + box[:, 2:]).clamp(0, 1)
    edges = torch.arange(grid + 1, dtype=box.dtype, device=box.device) / grid
    overlap = (
        torch.minimum(end[:, :, None], edges[1:]) - torch.maximum(first[:, :, None], edges[:-1])
    ).clamp(min=0)
    across, down = (overlap * grid).unbind(dim=1)
    share = down[:, :, None] * across[:, None, :]
    centres = ((edges[1:] + edges[:-1]) / 2).expand_as(share)
    return torch.stack([(share + 1) / 2, centres, centres.transpose(1, 2)], dim=-1).flatten(1, 2)


def variant_of(shapes: Mapping[str, tuple[int, ...]]) -> Variant:
    """The variant that a checkpoint's tensor shapes, by name, belong to.

    Raises ValueError naming the tensor that is missing, or what there is no variant for.
    """
    try:
        width, _, patch, _ = shapes['backbone.visual.conv1.weight']
        positions = shapes['backbone.visual.positional_embedding'][0]
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(
            f'this is no SimTrack checkpoint: the tensor {error} is missing or has another shape'
        ) from error
    prefix = 'backbone.visual.transformer.resblocks.'
    depth = len({name.split('.')[4] for name in shapes if name.startswith(prefix)})
    pretraining = 'clip' if 'backbone.visual.ln_pre.weight' in shapes else 'mae'
    for variant in VARIANTS.values():
        if (width, patch, depth, positions, pretraining) == (
            variant.dim,
            variant.patch_px,
            variant.depth,
            1 + variant.pretrained_grid**2,
            variant.pretraining,
        ):
            return variant
    raise ValueError(
        f'there is no SimTrack of width {width}, patches of {patch} px, {depth} layers and '
        f'{positions} positions, pre-trained as {pretraining}'
    )
