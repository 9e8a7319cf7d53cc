# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""DualTFR: Learning Tracking Representations via Dual-Branch Fully Transformer Networks
(Xie et al., ICCV workshops 2021).

Template and search image go through the same network, each for itself: patches of 4 x 4 px,
local attention within windows where the maps are large (LAB), global attention of all tokens of
an image where they are small (GAB). Then each looks at the other (CAB). The last two layers of
the search branch together say for each token whether it lies on the target, and where the box is.

There is no public code, and the paper leaves much open; this is a reading of it. A comment that
begins with "Ours:" marks what the paper does not say. What its tables say of parameters and
work, and how this compares, is in docs/dual_tfr.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tracker_ros.networks.heads import PerceptronHead
from tracker_ros.networks.layers import Mlp, attention, merge_heads, sine_positions, split_heads
from tracker_ros.networks.swin import HEAD_DEPTH, Swin

SEARCH_PX, TEMPLATE_PX = 224, 112
"""Sides of the images (section 4.1)."""
STRIDE_PX = 16
SEARCH_GRID, TEMPLATE_GRID = SEARCH_PX // STRIDE_PX, TEMPLATE_PX // STRIDE_PX


@dataclass(frozen=True, slots=True)
class Variant:
    """Sizes of the parts; the defaults are those of the published figures (section 5.3)."""

    local_depths: tuple[int, int, int] = (2, 2, 6)
    # Ours: the text has 6 global blocks, table 9 has 4 for the chosen model, whose parameters
    # table 7 repeats.
    global_depth: int = 4
    cross_depth: int = 4
    dim: int = 128
    """C of the paper: the width of the first local stage."""
    # Ours: with 3 all rows of table 9 come out, with the usual 4 or with 2 they do not.
    mlp_ratio: int = 3
    # Ours: half of the 1024 channels that go in.
    hidden: int = 512
    """Width inside the heads."""
    has_context: bool = False
    """The spatio-temporal version: a token of the frame before stands beside the template's."""
    search_px: int = SEARCH_PX
    template_px: int = TEMPLATE_PX
    """Other sizes are for tests; both must be multiples of 112."""

    @property
    def width(self) -> int:
        """Channels of the tokens after the local blocks: 4C."""
        return 4 * self.dim


VARIANTS = {'plain': Variant(), 'spatio_temporal': Variant(has_context=True)}


@dataclass(frozen=True, slots=True)
class Template:
    """All that depends on the template alone; each (B, 49, 4C).

    tokens: after the global blocks. query, key, value: theirs in the first cross block.
    """

    tokens: Tensor
    query: Tensor
    key: Tensor
    value: Tensor


@dataclass(frozen=True, slots=True)
class Output:
    """What the network says about the tokens of a search region, row by row.

    scores: (B, 196, 2) logits of background and target.
    boxes: (B, 196, 4) cx, cy, w, h as fractions of the search crop.
    context: (B, 1, 4C) what the next frame is to know of this one.
    """

    scores: Tensor
    boxes: Tensor
    context: Tensor


class Attention(nn.Module):
    """Multi-head attention (equations 1 and 2), its parts apart."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        # Ours: heads as wide as those of the local blocks.
        self.heads = dim // HEAD_DEPTH
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def project(self, tokens: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of (B, N, C) tokens at these positions, each (B, N, C)."""
        dim = self.qkv.in_features
        parts = slice(dim), slice(dim, 2 * dim), slice(2 * dim, None)
        # Ours: positions stand in queries and keys, as in DETR; the values stay what they are.
        placed = tokens + positions
        query, key, value = (
            functional.linear(given, self.qkv.weight[part], self.qkv.bias[part])
            for given, part in zip((placed, placed, tokens), parts, strict=True)
        )
        return query, key, value

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        seen = attention(*(split_heads(part, self.heads) for part in (query, key, value)))
        return self.proj(merge_heads(seen))


class Block(nn.Module):
    """Pre-norm transformer block (equation 5), for tokens that look at any others."""

    def __init__(self, dim: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_ratio * dim)

    def project(self, tokens: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.attn.project(self.norm1(tokens), positions)

    def answer(self, tokens: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Tokens whose `query` has looked at `key` and `value`, of their own or of others."""
        tokens = tokens + self.attn(query, key, value)
        return tokens + self.mlp(self.norm2(tokens))


class DualTfr(nn.Module):
    """The whole tracker. Images are RGB, normalised with ImageNet's mean and deviation.

    The weights of each block are those of both branches. Ours for global and cross blocks:
    two sets would have half as many parameters again as table 9 has.
    """

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        width, ratio = variant.width, variant.mlp_ratio
        self.lab = local_blocks(variant, (variant.search_px, variant.template_px))
        # Ours: Swin has a norm behind its last stage, which here is the third.
        self.lab_norm = nn.LayerNorm(width)
        self.gab = nn.ModuleList(Block(width, ratio) for _ in range(variant.global_depth))
        self.cab = nn.ModuleList(Block(width, ratio) for _ in range(variant.cross_depth))
        # Ours: of the pre-norm blocks the outputs have no norm yet.
        self.out_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.cls_head = PerceptronHead(2 * width, variant.hidden, 2)
        self.box_head = PerceptronHead(2 * width, variant.hidden, 4)
        # Ours: fixed positions, which add no parameters; a relative one for global attention of
        # two images of different size has no counterpart in the paper.
        self.search_positions: Tensor
        self.template_positions: Tensor
        for name, side_px in (('search', variant.search_px), ('template', variant.template_px)):
            positions = sine_positions(side_px // STRIDE_PX, width)
            self.register_buffer(f'{name}_positions', positions, persistent=False)
        if variant.has_context:
            # Ours: what a token of no place has in place of a position.
            self.context_position = nn.Parameter(torch.zeros(1, 1, width))

    def template(self, image: Tensor) -> Template:
        """All that depends on the template (B, 3, 112, 112) alone."""
        positions = self.template_positions
        tokens = self._alone(image, self.variant.template_px, positions)
        return Template(tokens, *self._crosses()[0].project(tokens, positions))

    def first_context(self, template: Template) -> Tensor:
        """What stands for the frame before where there is none: (B, 1, 4C)."""
        # Ours: the mean of the target itself.
        return template.tokens.mean(dim=1, keepdim=True)

    def search(self, image: Tensor, template: Template, context: Tensor | None = None) -> Output:
        """One frame (B, 3, 224, 224), given what `template` returned.

        context: that of the output of the frame before, for the spatio-temporal version.
        """
        searched = self._alone(image, self.variant.search_px, self.search_positions)
        # Ours: the search branch before it meets the template, where its tokens are of the same
        # kind as those that the context joins, and depend on nothing but this frame.
        next_context = searched.mean(dim=1, keepdim=True)
        features = self._together(searched, *self._joined(template, context))
        boxes = self.box_head(features).sigmoid()
        return Output(self.cls_head(features), boxes, next_context)

    def forward(self, template: Tensor, search: Tensor, previous: Tensor | None = None) -> Output:
        """Everything at once, as in training; `previous` is the search region a frame before."""
        known = self.template(template)
        if not self.variant.has_context:
            return self.search(search, known)
        if previous is None:
            return self.search(search, known, self.first_context(known))
        tokens = self._alone(previous, self.variant.search_px, self.search_positions)
        return self.search(search, known, tokens.mean(dim=1, keepdim=True))

    def _alone(self, image: Tensor, side_px: int, positions: Tensor) -> Tensor:
        """An image's tokens after its local and global blocks."""
        tokens = self.lab_norm(self.lab(image, side_px))
        for block in cast('list[Block]', list(self.gab)):
            tokens = block.answer(tokens, *block.project(tokens, positions))
        return tokens

    def _joined(self, template: Template, context: Tensor | None) -> tuple[Template, Tensor]:
        """The template with the context as one more token, and the positions of its tokens."""
        if not self.variant.has_context:
            return template, self.template_positions
        if context is None:
            raise ValueError('the spatio-temporal version needs the context of the frame before')
        added = context, *self._crosses()[0].project(context, self.context_position)
        own = template.tokens, template.query, template.key, template.value
        parts = (torch.cat(pair, dim=1) for pair in zip(own, added, strict=True))
        return Template(*parts), torch.cat([self.template_positions, self.context_position], dim=1)

    def _together(self, searched: Tensor, template: Template, positions: Tensor) -> Tensor:
        """The last two layers of the search branch side by side: (B, 196, 8C)."""
        target = template.tokens
        asked = template.query, template.key, template.value
        blocks = self._crosses()
        layers = []
        for block in blocks:
            if block is not blocks[0]:
                asked = block.project(target, positions)
            query, key, value = block.project(searched, self.search_positions)
            searched = block.answer(searched, query, *asked[1:])
            # After the last block nobody reads the template's tokens.
            if block is not blocks[-1]:
                target = block.answer(target, asked[0], key, value)
            layers.append(searched)
        normed = zip(self.out_norms, layers[-2:], strict=True)
        return torch.cat([norm(tokens) for norm, tokens in normed], dim=-1)

    def _crosses(self) -> list[Block]:
        return cast('list[Block]', list(self.cab))


class LocalClassifier(nn.Module):
    """The local blocks alone, saying of which class an image is: how they are trained first.

    Its tensors have the names that they have in `DualTfr`, but for those of `head`.
    """

    def __init__(self, variant: Variant, classes: int) -> None:
        super().__init__()
        self.search_px = variant.search_px
        self.lab = local_blocks(variant, (variant.search_px,))
        self.lab_norm = nn.LayerNorm(variant.width)
        self.head = nn.Linear(variant.width, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, 3, 224, 224) as those of the tracker to logits (B, classes)."""
        # Ours, as in Swin: the mean over all tokens says it.
        return self.head(self.lab_norm(self.lab(image, self.search_px)).mean(dim=1))


def local_blocks(variant: Variant, images_px: Sequence[int]) -> Swin:
    """The local attention blocks, for images of these sides."""
    heads = [(variant.dim << stage) // HEAD_DEPTH for stage in range(3)]
    return Swin(variant.dim, variant.local_depths, heads, images_px)


def variant_of(shapes: Mapping[str, tuple[int, ...]]) -> Variant:
    """The variant that a checkpoint's tensor shapes, by name, belong to.

    Raises ValueError naming the tensor that is missing.
    """
    try:
        dim = shapes['lab.patch_embed.proj.weight'][0]
        ratio = shapes['cab.0.mlp.fc1.weight'][0] // shapes['cab.0.mlp.fc1.weight'][1]
        hidden = shapes['cls_head.layers.0.weight'][0]
    except (KeyError, IndexError) as error:
        raise ValueError(
            f'this is no DualTFR checkpoint: the tensor {error} is missing or has too few '
            'dimensions'
        ) from error
    local = tuple(_count(shapes, f'lab.layers.{stage}.blocks.') for stage in range(3))
    return Variant(
        local_depths=cast('tuple[int, int, int]', local),
        global_depth=_count(shapes, 'gab.'),
        cross_depth=_count(shapes, 'cab.'),
        dim=dim,
        mlp_ratio=ratio,
        hidden=hidden,
        has_context='context_position' in shapes,
    )


def _count(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    """Of how many blocks there are tensors."""
    return len({name[len(prefix) :].split('.')[0] for name in shapes if name.startswith(prefix)})
