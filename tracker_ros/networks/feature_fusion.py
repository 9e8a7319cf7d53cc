# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The matching of VLT_TT: template and search tokens that attend to themselves and each other.

The paper names TransT as its baseline. The code that the weights were trained with has no
projections of queries, keys and values: the heads are parts of the channels as they are.

Shapes: B batch, Nz template and Nx search tokens, C channels.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from tracker_ros.networks.layers import attention, merge_heads, split_heads

HEADS = 8
LAYERS = 4
HIDDEN = 2048


def line_positions(side: int, dim: int) -> Tensor:
    """Fixed sine positions of DETR: (1, side * side, dim), tokens row by row.

    The first half of the channels encodes the row, the second the column, each counted from 1
    and scaled so that the last is 2 pi; sines and cosines alternate.
    """
    half = dim // 2
    place = torch.arange(1, side + 1, dtype=torch.float32)
    place = place / (place[-1] + 1e-6) * (2 * math.pi)
    pair = torch.arange(half, dtype=torch.float32).div(2, rounding_mode='floor')
    phase = place[:, None] / 10000 ** (2 * pair / half)
    line = torch.stack([phase[:, 0::2].sin(), phase[:, 1::2].cos()], dim=2).flatten(1)
    rows = line[:, None, :].expand(side, side, -1)
    columns = line[None, :, :].expand(side, side, -1)
    return torch.cat([rows, columns], dim=2).reshape(1, side * side, dim)


class PlainAttention(nn.Module):
    """Attention whose only weights are those of its output."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attn = nn.ModuleDict({'fc': nn.Linear(dim, dim, bias=False)})

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, Nq, C) looks at (B, Nk, C)."""
        seen = attention(*(split_heads(tokens, HEADS) for tokens in (query, key, value)))
        return self.attn['fc'](merge_heads(seen))


class FusionLayer(nn.Module):
    """Each side looks at itself, then at the other; a norm follows each step.

    Names that end in 1, or begin their number with it, are of the template, those with 2 of the
    search tokens.
    """

    def __init__(self, dim: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.self_attn1 = PlainAttention(dim)
        self.self_attn2 = PlainAttention(dim)
        self.multihead_attn1 = PlainAttention(dim)
        self.multihead_attn2 = PlainAttention(dim)
        self.linear11 = nn.Linear(dim, hidden)
        self.linear12 = nn.Linear(hidden, dim)
        self.linear21 = nn.Linear(dim, hidden)
        self.linear22 = nn.Linear(hidden, dim)
        self.norm11, self.norm12, self.norm13 = (nn.LayerNorm(dim) for _ in range(3))
        self.norm21, self.norm22, self.norm23 = (nn.LayerNorm(dim) for _ in range(3))

    def template_alone(self, template: Tensor, position: Tensor) -> Tensor:
        """The first step of the template, which needs no search tokens."""
        placed = template + position
        return self.norm11(template + self.self_attn1(placed, placed, template))

    def search_alone(self, search: Tensor, position: Tensor) -> Tensor:
        placed = search + position
        return self.norm21(search + self.self_attn2(placed, placed, search))

    def together(
        self, template: Tensor, search: Tensor, template_position: Tensor, search_position: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The rest of the layer, from what `template_alone` and `search_alone` gave."""
        placed, sought = template + template_position, search + search_position
        template, search = (
            self.norm12(template + self.multihead_attn1(placed, sought, search)),
            self.norm22(search + self.multihead_attn2(sought, placed, template)),
        )
        template = self.norm13(template + self.linear12(self.linear11(template).relu()))
        return template, self.norm23(search + self.linear22(self.linear21(search).relu()))


class DecoderLayer(nn.Module):
    """Search tokens look at the template a last time."""

    def __init__(self, dim: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.multihead_attn = PlainAttention(dim)
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(
        self, search: Tensor, template: Tensor, search_position: Tensor, template_position: Tensor
    ) -> Tensor:
        seen = self.multihead_attn(
            search + search_position, template + template_position, template
        )
        search = self.norm1(search + seen)
        return self.norm2(search + self.linear2(self.linear1(search).relu()))


class FeatureFusion(nn.Module):
    """Backbone features of both images in, search tokens that know the target out."""

    def __init__(
        self,
        channels: int,
        template_cells: int,
        search_cells: int,
        dim: int = 256,
        layers: int = LAYERS,
        hidden: int = HIDDEN,
    ) -> None:
        """`template_cells`, `search_cells`: sides of the features (B, channels, side, side)."""
        super().__init__()
        self.input_proj = nn.Conv2d(channels, dim, 1)
        self.input_proj_copy = nn.Conv2d(channels, dim, 1)
        encoders = nn.ModuleList(FusionLayer(dim, hidden) for _ in range(layers))
        self.encoder = nn.ModuleDict({'layers': encoders})
        decoders = nn.ModuleList([DecoderLayer(dim, hidden)])
        self.decoder = nn.ModuleDict({'layers': decoders, 'norm': nn.LayerNorm(dim)})
        self.template_position: Tensor
        self.search_position: Tensor
        for name, side in (('template', template_cells), ('search', search_cells)):
            positions = line_positions(side, dim)
            self.register_buffer(f'{name}_position', positions, persistent=False)

    def template(self, feature: Tensor) -> Tensor:
        """The template tokens (B, Nz, C) after the first step of the first layer."""
        tokens = self.input_proj(feature).flatten(2).transpose(1, 2)
        return self._layers()[0].template_alone(tokens, self.template_position)

    def search(self, feature: Tensor, template: Tensor) -> Tensor:
        """The search tokens (B, Nx, C), given what `template` returned."""
        positions = self.template_position, self.search_position
        tokens = self.input_proj_copy(feature).flatten(2).transpose(1, 2)
        for place, layer in enumerate(self._layers()):
            if place:
                template = layer.template_alone(template, positions[0])
            tokens = layer.search_alone(tokens, positions[1])
            template, tokens = layer.together(template, tokens, *positions)
        for last in cast('nn.ModuleList', self.decoder['layers']):
            tokens = last(tokens, template, positions[1], positions[0])
        return self.decoder['norm'](tokens)

    def _layers(self) -> list[FusionLayer]:
        return cast('list[FusionLayer]', list(cast('nn.ModuleList', self.encoder['layers'])))
