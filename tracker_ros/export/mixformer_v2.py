# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""MixFormerV2 as a model package.

The graphs compute what `tracker_ros.networks.mixformer_v2` does, arranged so that an inference
library has nothing to do but the arithmetic: constant factors are part of the weights, tokens
stay (B, N, C) until the very product that needs heads, nothing is split or copied on the way,
and no size depends on another but the batch. All of it is exact, apart from rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tracker_ros.export.graphs import Graph, GraphPair, taking_pixels
from tracker_ros.networks.mixformer_v2 import (
    PATCH_PX,
    SIDES,
    Block,
    MixFormerV2,
    variant_of,
)


def build(shapes: Mapping[str, tuple[int, ...]]) -> MixFormerV2:
    return MixFormerV2(variant_of(dict(shapes)))


class Patches(nn.Module):
    """Pixels (B, side, side, 3) uint8 BGR to one embedded token for each patch, (B, N, C).

    The convolution as a product of matrices: its patches do not overlap.
    """

    def __init__(self, convolution: nn.Conv2d, side: int) -> None:
        super().__init__()
        folded = taking_pixels(convolution)
        self.row = side // PATCH_PX
        # From channel, row, column to the order in which an image has its numbers.
        weight = folded.weight.detach().permute(0, 2, 3, 1).flatten(1)
        assert folded.bias is not None
        self.embed = _linear(weight, folded.bias.detach())

    def forward(self, pixels: Tensor) -> Tensor:
        strip = 3 * PATCH_PX
        # The cast comes first: TensorRT takes 8-bit tensors nowhere else.
        cells = pixels.float().reshape(-1, self.row, PATCH_PX, self.row, strip)
        patches = cells.transpose(2, 3).reshape(-1, self.row**2, PATCH_PX * strip)
        return self.embed(patches)


class Layer(nn.Module):
    """A `Block` of the network, its norms' weights and the attention's scale in other weights."""

    def __init__(self, block: Block, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = Standardised(block.norm1)
        parts = zip(block.attn.qkv.weight.chunk(3), block.attn.qkv.bias.chunk(3), strict=True)
        (query, key, value) = (_behind(block.norm1, *part) for part in parts)
        scale = (query.out_features // heads) ** -0.5
        self.query = _linear(query.weight * scale, query.bias * scale)
        self.key, self.value = key, value
        self.proj = block.attn.proj
        mlp = block.mlp
        self.fc1 = _behind(block.norm2, mlp.fc1.weight, mlp.fc1.bias)
        self.fc2 = mlp.fc2

    def attend(self, normed: Tensor, key: Tensor, value: Tensor, asking: int, seen: int) -> Tensor:
        """What `asking` tokens (B, asking, C) find in `seen` others, (B, seen, C) each."""
        dim = self.query.out_features
        heads, depth = self.heads, dim // self.heads
        query = self.query(normed).reshape(-1, asking, heads, depth).transpose(1, 2)
        # Turned as a whole, before there are heads: a plain transposition.
        key = key.transpose(1, 2).reshape(-1, heads, depth, seen)
        value = value.reshape(-1, seen, heads, depth).transpose(1, 2)
        found = (query @ key).softmax(dim=-1) @ value
        return self.proj(found.transpose(1, 2).reshape(-1, asking, dim))

    def think(self, tokens: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(self.norm(tokens))))


class Standardised(nn.Module):
    """Layer normalisation without weights."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.eps, self.shape = norm.eps, norm.normalized_shape

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.layer_norm(tokens, self.shape, eps=self.eps)


class TemplateGraph(nn.Module):
    """Both template crops (B, T, T, 3) uint8 BGR to keys and values of every layer.

    Each is (B, layers, 2 Nt, C).
    """

    def __init__(self, network: MixFormerV2) -> None:
        super().__init__()
        variant, backbone = network.variant, network.backbone
        self.count = 2 * variant.template_tokens
        self.patches = Patches(backbone.patch_embed.proj, variant.template_px)
        self.positions = nn.Parameter(backbone.pos_embed_t.repeat(1, 2, 1))
        self.layers = nn.ModuleList(_layers(network))

    def forward(self, template: Tensor, online: Tensor) -> tuple[Tensor, Tensor]:
        tokens = torch.cat([self.patches(template), self.patches(online)], dim=1) + self.positions
        keys, values = [], []
        *_, last = layers = cast('list[Layer]', list(self.layers))
        for layer in layers:
            normed = layer.norm(tokens)
            keys.append(layer.key(normed))
            values.append(layer.value(normed))
            # Nobody reads the template tokens after the last layer.
            if layer is not last:
                count = self.count
                tokens = tokens + layer.attend(normed, keys[-1], values[-1], count, count)
                tokens = tokens + layer.think(tokens)
        return torch.stack(keys, dim=1), torch.stack(values, dim=1)


class SearchGraph(nn.Module):
    """Search crop (B, S, S, 3) uint8 BGR to box (B, 4), score (B,) in [0, 1] and sides."""

    def __init__(self, network: MixFormerV2) -> None:
        super().__init__()
        variant, backbone = network.variant, network.backbone
        self.count = variant.search_tokens + len(SIDES)
        self.seen = self.count + 2 * variant.template_tokens
        self.patches = Patches(backbone.patch_embed.proj, variant.search_px)
        self.positions = nn.Parameter(backbone.pos_embed_s)
        self.asked = nn.Parameter(backbone.reg_tokens + backbone.pos_embed_reg)
        self.layers = nn.ModuleList(_layers(network))
        self.box_head, self.score_head = network.box_head, network.score_head

    def forward(
        self, search: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        asked = self.asked.expand(search.shape[0], -1, -1)
        tokens = torch.cat([self.patches(search) + self.positions, asked], dim=1)
        *_, last = layers = cast('list[Layer]', list(self.layers))
        for place, layer in enumerate(layers):
            asking = self.count
            normed = layer.norm(tokens)
            key = torch.cat([keys[:, place], layer.key(normed)], dim=1)
            value = torch.cat([values[:, place], layer.value(normed)], dim=1)
            if layer is last:
                # In the last layer nobody reads the search tokens.
                asking = len(SIDES)
                tokens, normed = tokens[:, -asking:], normed[:, -asking:]
            tokens = tokens + layer.attend(normed, key, value, asking, self.seen)
            tokens = tokens + layer.think(tokens)
        boxes, sides = self.box_head(tokens)
        return boxes, self.score_head(tokens).sigmoid(), sides


def graphs(network: MixFormerV2) -> GraphPair:
    variant = network.variant
    template_graph, search_graph = TemplateGraph(network), SearchGraph(network)
    # Two in the batch, so that no dimension of one is taken for a constant.
    template = torch.zeros(2, variant.template_px, variant.template_px, 3, dtype=torch.uint8)
    search = torch.zeros(2, variant.search_px, variant.search_px, 3, dtype=torch.uint8)
    with torch.no_grad():
        cached = template_graph(template, template)
    return GraphPair(
        Graph(template_graph, (template, template), ('template', 'online'), ('keys', 'values')),
        Graph(
            search_graph,
            (search, *cached),
            ('search', 'keys', 'values'),
            ('box', 'score', 'sides'),
        ),
    )


def manifest(network: MixFormerV2) -> dict[str, Any]:
    """Crop factors and update rule of the official tests (architectures: section 4.1)."""
    variant = network.variant
    small = variant.mlp_ratio == 1
    first = 2 * variant.template_tokens
    return {
        'summary': f'MixFormerV2, {variant.depth} layers, search {variant.search_px} px',
        'inputs': {
            'template_px': variant.template_px,
            'template_factor': 2.0,
            'search_px': variant.search_px,
            'search_factor': 4.5 if small else 5.0,
        },
        'constants': {
            'update_interval_frames': 200,
            'update_score': 0.5,
            'clip_margin_px': 10,
        },
        # From the prediction tokens to the search region in the last layer.
        'attention': {
            'softmax': variant.depth - 1,
            'queries': [0, len(SIDES)],
            'keys': [first, first + variant.search_tokens],
        },
        # The score was trained to choose templates; its thresholds here are not calibrated.
        'confidence': {'lost': 0.2, 'sure': 0.5},
    }


def _layers(network: MixFormerV2) -> list[Layer]:
    heads = network.variant.heads
    return [Layer(cast(Block, block), heads) for block in network.backbone.blocks]


def _behind(norm: nn.LayerNorm, weight: Tensor, bias: Tensor) -> nn.Linear:
    """The linear layer that does the part of the norm before it that has weights, too."""
    wide = weight.detach().double()
    shift = bias.detach().double() + wide @ norm.bias.detach().double()
    return _linear((wide * norm.weight.detach().double()).float(), shift.float())


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer
