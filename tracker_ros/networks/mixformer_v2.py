# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""MixFormerV2: Efficient Fully Transformer Tracking (Cui et al., NeurIPS 2023).

A plain vision transformer over one sequence of tokens: two templates, the search region and
four learnable prediction tokens, one for each side of the box (section 3.1). Attention is
asymmetric: template tokens see only templates, so that everything of theirs can be computed
once per target; search and prediction tokens see all. The head reads each side's position as
the expectation of a distribution over bins, the quality score as the mean of four logits.

Tensor names are those of the official checkpoints. Where the official code and the paper
differ, this follows the code, because its weights were trained with it; a comment says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from tracker_ros.networks.layers import (
    Mlp,
    PatchEmbed,
    attention,
    merge_heads,
    sine_positions,
    split_heads,
)

PATCH_PX = 16
SIDES = ('left', 'right', 'top', 'bottom')
"""What the four prediction tokens stand for, in their order."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What distinguishes the released models (section 4.1); sizes in pixels."""

    search_px: int
    template_px: int
    depth: int
    mlp_ratio: int
    bins: int = 96
    dim: int = 768
    heads: int = 12

    @property
    def search_tokens(self) -> int:
        return (self.search_px // PATCH_PX) ** 2

    @property
    def template_tokens(self) -> int:
        """Tokens of one of the two templates."""
        return (self.template_px // PATCH_PX) ** 2


VARIANTS = {
    'b': Variant(search_px=288, template_px=128, depth=8, mlp_ratio=4),
    's': Variant(search_px=224, template_px=112, depth=4, mlp_ratio=1),
    # The intermediate model after dense-to-sparse distillation, before layers are removed.
    'stage1': Variant(search_px=288, template_px=128, depth=12, mlp_ratio=4, bins=72),
}


@dataclass(frozen=True, slots=True)
class Output:
    """What the network says about a batch of search regions.

    boxes: (B, 4) cx, cy, w, h as fractions of the search crop. The right side may lie left of
        the left one; the width is then negative.
    scores: (B,) logits of the target being well inside the box.
    sides: (B, 4, bins) probability of each bin, in the order of `SIDES`.
    """

    boxes: Tensor
    scores: Tensor
    sides: Tensor


class MixedAttention(nn.Module):
    """Prediction-token-involved mixed attention (section 3.1, P-MAM)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def project(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of (B, N, C) tokens, each (B, H, N, D)."""
        query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        return (
            split_heads(query, self.heads),
            split_heads(key, self.heads),
            split_heads(value, self.heads),
        )

    def key_value(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Key and value alone, for tokens that are only looked at."""
        dim = tokens.shape[-1]
        both = nn.functional.linear(tokens, self.qkv.weight[dim:], self.qkv.bias[dim:])
        key, value = both.chunk(2, dim=-1)
        return split_heads(key, self.heads), split_heads(value, self.heads)

    def query(self, tokens: Tensor) -> Tensor:
        dim = tokens.shape[-1]
        return split_heads(
            nn.functional.linear(tokens, self.qkv.weight[:dim], self.qkv.bias[:dim]), self.heads
        )


class Block(nn.Module):
    """Pre-norm transformer block: tokens += attention, tokens += MLP."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = MixedAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, dim * mlp_ratio)
        # Training puts in its place what weakens a block or leaves it out.
        self.branch: nn.Module = nn.Identity()

    def templates(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Template tokens see each other only. Returns the tokens, their keys and values."""
        query, key, value = self.attn.project(self.norm1(tokens))
        return self._add(tokens, attention(query, key, value)), key, value

    def search(self, tokens: Tensor, key: Tensor, value: Tensor, answered: int = 0) -> Tensor:
        """Search and prediction tokens see the templates' `key` and `value`, and each other.

        Only the last `answered` tokens are carried on; 0 means all. In the last layer nobody
        reads the search tokens, so that just the four prediction tokens need an answer.
        """
        normed = self.norm1(tokens)
        own_key, own_value = self.attn.key_value(normed)
        kept = tokens[:, -answered:]
        query = self.attn.query(normed[:, -answered:])
        seen = attention(
            query, torch.cat([key, own_key], dim=2), torch.cat([value, own_value], dim=2)
        )
        return self._add(kept, seen)

    def _add(self, tokens: Tensor, seen: Tensor) -> Tensor:
        tokens = tokens + self.branch(self.attn.proj(merge_heads(seen)))
        return tokens + self.branch(self.mlp(self.norm2(tokens)))


class AsymmetricBackbone(nn.Module):
    """Patches of two templates, which see themselves only, and of a search region, which sees all.

    MixViT's as well, from which MixFormerV2 learnt. No final normalisation.
    """

    def __init__(
        self, search_px: int, template_px: int, depth: int, dim: int, heads: int, mlp_ratio: int
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(PATCH_PX, dim)
        # Stored in the checkpoints, though they are fixed.
        self.pos_embed_s = nn.Parameter(
            sine_positions(search_px // PATCH_PX, dim), requires_grad=False
        )
        self.pos_embed_t = nn.Parameter(
            sine_positions(template_px // PATCH_PX, dim), requires_grad=False
        )
        self.blocks = nn.ModuleList(Block(dim, heads, mlp_ratio) for _ in range(depth))

    def templates(self, template: Tensor, online: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, layers, H, 2 Nt, D) of both templates, each (B, 3, T, T)."""
        tokens = torch.cat(
            [self.patch_embed(image) + self.pos_embed_t for image in (template, online)], dim=1
        )
        keys, values = [], []
        *earlier, last = self._blocks()
        for block in earlier:
            tokens, key, value = block.templates(tokens)
            keys.append(key)
            values.append(value)
        # Nobody reads the template tokens after the last layer.
        key, value = last.attn.key_value(last.norm1(tokens))
        keys.append(key)
        values.append(value)
        return torch.stack(keys, dim=1), torch.stack(values, dim=1)

    def _blocks(self) -> list[Block]:
        return cast('list[Block]', list(self.blocks))


class Backbone(AsymmetricBackbone):
    """Tokens in, prediction tokens out (figure 2)."""

    def __init__(self, variant: Variant) -> None:
        dim = variant.dim
        super().__init__(
            variant.search_px,
            variant.template_px,
            variant.depth,
            dim,
            variant.heads,
            variant.mlp_ratio,
        )
        self.reg_tokens = nn.Parameter(torch.empty(1, len(SIDES), dim))
        self.pos_embed_reg = nn.Parameter(torch.zeros(1, len(SIDES), dim))
        nn.init.trunc_normal_(self.reg_tokens, std=0.02)

    def search(self, search: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """The four prediction tokens (B, 4, C) for search regions (B, 3, S, S)."""
        tokens = self.patch_embed(search) + self.pos_embed_s
        asked = (self.reg_tokens + self.pos_embed_reg).expand(tokens.shape[0], -1, -1)
        tokens = torch.cat([tokens, asked], dim=1)
        blocks = self._blocks()
        for layer, block in enumerate(blocks):
            answered = len(SIDES) if block is blocks[-1] else 0
            tokens = block.search(tokens, keys[:, layer], values[:, layer], answered)
        return tokens


class BoxHead(nn.Module):
    """Each side's position as the expectation of a distribution (section 3.2, equation 2)."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        dim, bins = variant.dim, variant.bins
        # One MLP for all four tokens; a norm follows each linear layer, the last included.
        self.layers = nn.ModuleList(
            [
                nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim)),
                nn.Sequential(nn.Linear(dim, bins), nn.LayerNorm(bins)),
            ]
        )
        # Bin i stands for the coordinate i / bins: there is no half bin.
        positions = torch.arange(bins, dtype=torch.float32) / bins
        self.positions: Tensor
        self.register_buffer('positions', positions, persistent=False)

    def logits(self, tokens: Tensor) -> Tensor:
        """(B, 4, C) to (B, 4, bins)."""
        return self.layers[1](torch.relu(self.layers[0](tokens)))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (B, 4) cx, cy, w, h, and the distributions (B, 4, bins)."""
        sides = self.logits(tokens).softmax(dim=-1)
        left, right, top, bottom = (sides @ self.positions).unbind(dim=1)
        boxes = torch.stack(
            [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], dim=1
        )
        return boxes, sides


class ScoreHead(nn.Module):
    """The quality score of online template selection (section 3.2)."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        dim = variant.dim
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(dim, dim)), nn.Linear(dim, 1)])

    def logits(self, tokens: Tensor) -> Tensor:
        """(B, 4, C) to one logit per token (B, 4, 1)."""
        return self.layers[1](torch.relu(self.layers[0](tokens)))

    def forward(self, tokens: Tensor) -> Tensor:
        # The paper averages the tokens and then applies the MLP; the code averages logits.
        return self.logits(tokens).mean(dim=(1, 2))


class MixFormerV2(nn.Module):
    """The whole tracker. Images are RGB, normalised with ImageNet's mean and deviation."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.backbone = Backbone(variant)
        self.box_head = BoxHead(variant)
        self.score_head = ScoreHead(variant)

    def templates(self, template: Tensor, online: Tensor) -> tuple[Tensor, Tensor]:
        """All that depends on the templates alone: see `Backbone.templates`."""
        return self.backbone.templates(template, online)

    def search(self, search: Tensor, keys: Tensor, values: Tensor) -> Output:
        """One frame, given what `templates` returned."""
        tokens = self.backbone.search(search, keys, values)
        boxes, sides = self.box_head(tokens)
        return Output(boxes, self.score_head(tokens), sides)

    def forward(self, template: Tensor, online: Tensor, search: Tensor) -> Output:
        """Both together, as in training: (B, 3, T, T) twice and (B, 3, S, S)."""
        return self.search(search, *self.templates(template, online))


def variant_of(shapes: dict[str, tuple[int, ...]]) -> Variant:
    """The variant that a checkpoint's tensor shapes, by name, belong to.

    Raises ValueError naming the tensor that is missing or has an impossible shape.
    """
    try:
        width, hidden = shapes['backbone.blocks.0.norm1.weight'][0], 0
        hidden = shapes['backbone.blocks.0.mlp.fc1.weight'][0]
        search_tokens = shapes['backbone.pos_embed_s'][1]
        template_tokens = shapes['backbone.pos_embed_t'][1]
        bins = shapes['box_head.layers.1.0.weight'][0]
    except (KeyError, IndexError) as error:
        raise ValueError(
            f'this is no MixFormerV2 checkpoint: the tensor {error} is missing or has too few '
            'dimensions'
        ) from error
    depth = len({name.split('.')[2] for name in shapes if name.startswith('backbone.blocks.')})
    sides = [round(tokens**0.5) for tokens in (search_tokens, template_tokens)]
    if sides[0] ** 2 != search_tokens or sides[1] ** 2 != template_tokens or width % 64:
        raise ValueError(
            f'this is no MixFormerV2 checkpoint: {search_tokens} search and {template_tokens} '
            f'template tokens of width {width}'
        )
    return Variant(
        search_px=sides[0] * PATCH_PX,
        template_px=sides[1] * PATCH_PX,
        depth=depth,
        mlp_ratio=hidden // width,
        bins=bins,
        dim=width,
        heads=width // 64,
    )
