# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""MixViT: MixFormer, End-to-End Tracking with Iterative Mixed Attention (Cui et al., TPAMI 2024).

Here as the teacher of MixFormerV2 (there section 3.2.1): the same blocks and attention
without prediction tokens, deeper or wider, and a corner head whose two heat maps become the
distributions of the four sides that the student learns. No tracker runs it.

Tensor names are those of the official checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tracker_ros.networks.heads import CornerHead, PyramidCornerHead
from tracker_ros.networks.mixformer_v2 import PATCH_PX, AsymmetricBackbone

HEAD_DEPTH = 64
"""Channels of an attention head."""
MLP_RATIO = 4


@dataclass(frozen=True, slots=True)
class Variant:
    """What distinguishes the models; sizes in pixels."""

    search_px: int
    template_px: int
    depth: int
    dim: int
    head_channels: int = 384
    has_pyramid: bool = True
    """The plain corner head is that of the trackers, the pyramid that of the teachers."""

    @property
    def search_grid(self) -> int:
        return self.search_px // PATCH_PX


VARIANTS = {
    'b': Variant(search_px=288, template_px=128, depth=12, dim=768),
    'l': Variant(search_px=384, template_px=192, depth=24, dim=1024),
}


@dataclass(frozen=True, slots=True)
class Output:
    """What the network says about a batch of search regions.

    boxes: (B, 4) cx, cy, w, h as fractions of the search crop.
    corners: (B, 2, bins, bins) probability of the top left and the bottom right corner.
    """

    boxes: Tensor
    corners: Tensor

    def sides(self) -> Tensor:
        """The probability of each bin, (B, 4, bins), in the order of `mixformer_v2.SIDES`.

        That of a corner to lie in a column is that of its vertical side. The paper's equation 4
        exchanges left and top; its code, followed here, does not.
        """
        first, last = self.corners.unbind(dim=1)
        # Rows are summed for the sides at an x, columns for those at a y.
        return torch.stack([first.sum(1), last.sum(1), first.sum(2), last.sum(2)], dim=1)


class Backbone(AsymmetricBackbone):
    def __init__(self, variant: Variant) -> None:
        dim = variant.dim
        sizes = variant.search_px, variant.template_px, variant.depth
        super().__init__(*sizes, dim, dim // HEAD_DEPTH, MLP_RATIO)

    def search(self, search: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Search tokens (B, N, C) that have seen the templates, for images (B, 3, S, S)."""
        tokens = self.patch_embed(search) + self.pos_embed_s
        for layer, block in enumerate(self._blocks()):
            tokens = block.search(tokens, keys[:, layer], values[:, layer])
        return tokens


class MixVit(nn.Module):
    """Backbone and head. Images are RGB, normalised with ImageNet's mean and deviation."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.backbone = Backbone(variant)
        head = PyramidCornerHead if variant.has_pyramid else CornerHead
        self.box_head = head(variant.search_grid, variant.head_channels, variant.dim)

    def templates(self, template: Tensor, online: Tensor) -> tuple[Tensor, Tensor]:
        """All that depends on the templates alone: see `AsymmetricBackbone.templates`."""
        return self.backbone.templates(template, online)

    def search(self, search: Tensor, keys: Tensor, values: Tensor) -> Output:
        """One frame, given what `templates` returned."""
        tokens = self.backbone.search(search, keys, values)
        grid = self.variant.search_grid
        return Output(*self.box_head(tokens.transpose(1, 2).unflatten(2, (grid, grid))))

    def forward(self, template: Tensor, online: Tensor, search: Tensor) -> Output:
        """Both together: (B, 3, T, T) twice and (B, 3, S, S)."""
        return self.search(search, *self.templates(template, online))


def variant_of(shapes: Mapping[str, tuple[int, ...]]) -> Variant:
    """The variant that a checkpoint's tensor shapes, by name, belong to.

    Raises ValueError naming the tensor that is missing or has an impossible shape.
    """
    try:
        _, search_tokens, dim = shapes['backbone.pos_embed_s']
        template_tokens = shapes['backbone.pos_embed_t'][1]
        channels = shapes['box_head.conv1_tl.0.weight'][0]
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(
            f'this is no MixViT checkpoint: the tensor {error} is missing or has another shape'
        ) from error
    sides = [round(tokens**0.5) for tokens in (search_tokens, template_tokens)]
    if sides[0] ** 2 != search_tokens or sides[1] ** 2 != template_tokens or dim % HEAD_DEPTH:
        raise ValueError(
            f'this is no MixViT checkpoint: {search_tokens} search and {template_tokens} '
            f'template tokens of width {dim}'
        )
    return Variant(
        search_px=sides[0] * PATCH_PX,
        template_px=sides[1] * PATCH_PX,
        depth=len({name.split('.')[2] for name in shapes if name.startswith('backbone.blocks.')}),
        dim=dim,
        head_channels=channels,
        has_pyramid='box_head.adjust1_tl.0.weight' in shapes,
    )
