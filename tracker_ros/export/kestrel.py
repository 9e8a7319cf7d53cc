# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Kestrel as a model package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tracker_ros.export.graphs import Graph, GraphPair, planes
from tracker_ros.networks.kestrel import Kestrel, Memory, variant_of


def build(shapes: Mapping[str, tuple[int, ...]]) -> Kestrel:
    return Kestrel(variant_of(shapes))


class TemplateGraph(nn.Module):
    """Template crops, each (B, T, T, 3) uint8 BGR, and boxes, each (B, 4), to the memory.

    All crops come first, then all boxes: cx, cy, w, h in parts of the crop.
    """

    def __init__(self, network: Kestrel) -> None:
        super().__init__()
        self.network = network

    def forward(self, *crops_and_boxes: Tensor) -> tuple[Tensor, ...]:
        count = self.network.variant.templates
        crops = torch.stack([planes(crop) for crop in crops_and_boxes[:count]], dim=1)
        boxes = torch.stack(list(crops_and_boxes[count:]), dim=1)
        memory = self.network.template(crops, boxes)
        return (*memory.keys, *memory.values, memory.means)


class SearchGraph(nn.Module):
    """Search crop (B, S, S, 3) uint8 BGR and the memory to what `Kestrel.search` says.

    score: (B, 1, grid, grid), the probability of the target's centre in each cell. sides:
    (B, 4, grid, grid). presence and quality: (B,), probabilities.
    """

    def __init__(self, network: Kestrel) -> None:
        super().__init__()
        self.network = network

    def forward(self, search: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        rounds = self.network.variant.rounds
        memory = Memory(cached[:rounds], cached[rounds : 2 * rounds], cached[-1])
        output = self.network.search(planes(search), memory)
        grid = int(output.scores.shape[-1])
        score = output.scores.reshape(-1, 1, grid * grid).softmax(dim=-1)
        return (
            score.reshape(-1, 1, grid, grid),
            output.sides,
            output.presence.sigmoid(),
            output.quality.sigmoid(),
        )


def graphs(network: Kestrel) -> GraphPair:
    variant = network.variant
    template_px, search_px = network.crop_px.tolist()
    # Two in the batch, so that no dimension of one is taken for a constant.
    template = torch.zeros(2, template_px, template_px, 3, dtype=torch.uint8)
    search = torch.zeros(2, search_px, search_px, 3, dtype=torch.uint8)
    box = torch.tensor([[0.5, 0.5, 0.5, 0.5]]).repeat(2, 1)
    crops, boxes = _slots(variant.templates)
    examples = (template,) * variant.templates + (box,) * variant.templates
    with torch.no_grad():
        cached = TemplateGraph(network)(*examples)
    rounds = range(1, variant.rounds + 1)
    names = (*(f'keys{each}' for each in rounds), *(f'values{each}' for each in rounds), 'means')
    return GraphPair(
        Graph(TemplateGraph(network), examples, (*crops, *boxes), names),
        Graph(
            SearchGraph(network),
            (search, *cached),
            ('search', *names),
            ('score', 'sides', 'presence', 'quality'),
        ),
    )


def _slots(templates: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the crops and of the boxes: of the first template, and of the online one."""
    if templates == 1:
        return ('template',), ('box',)
    return ('template', 'online'), ('box', 'online_box')


def manifest(network: Kestrel) -> dict[str, Any]:
    template_px, search_px = network.crop_px.tolist()
    template_factor, search_factor = network.crop_factors.tolist()
    _, boxes = _slots(network.variant.templates)
    return {
        'summary': f'Kestrel, of this project, search {search_px} px',
        'inputs': {
            'template_px': template_px,
            'template_factor': template_factor,
            'search_px': search_px,
            'search_factor': search_factor,
            'template_values': {name: [4] for name in boxes},
        },
        'constants': {
            'clip_margin_px': 2,
            'window': 1.0,
            'size_pace': 0.3,
            **({'update_interval_frames': 25, 'update_score': 0.7} if len(boxes) > 1 else {}),
        },
        # Not calibrated yet.
        'confidence': {'lost': 0.3, 'sure': 0.6},
    }
