# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""SimTrack with a pyramid for a backbone, as a model package of the family of the plain one."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from tracker_ros.export.graphs import Graph, GraphPair, planes, taking_pixels
from tracker_ros.networks.simtrack_pyramid import (
    SEARCH_PX,
    TEMPLATE_PX,
    PvtBackbone,
    PvtVariant,
    PyramidSimTrack,
    SwinBackbone,
)


class TemplateGraph(nn.Module):
    """Template crop (B, T, T, 3) uint8 BGR and the target's box in it to what is cached."""

    def __init__(self, network: PyramidSimTrack) -> None:
        super().__init__()
        self.network = network

    def forward(self, template: Tensor, box: Tensor) -> tuple[Tensor, ...]:
        return self.network.template(planes(template), box)


class SearchGraph(nn.Module):
    """Search crop (B, S, S, 3) uint8 BGR to box (B, 4) and corners (B, 2, grid, grid)."""

    def __init__(self, network: PyramidSimTrack) -> None:
        super().__init__()
        self.network = network

    def forward(self, search: Tensor, *cached: Tensor) -> tuple[Tensor, Tensor]:
        output = self.network.search(planes(search), *cached)
        return output.boxes, output.corners


def graphs(network: PyramidSimTrack) -> GraphPair:
    network = copy.deepcopy(network)
    backbone = network.backbone
    stages = range(1, len(network.variant.depths) + 1)
    if isinstance(backbone, SwinBackbone):
        patches = backbone.swin.patch_embed
        patches.proj = taking_pixels(patches.proj)
        names = [f'{kind}{stage}' for stage in stages for kind in ('keys', 'values')]
    else:
        assert isinstance(backbone, PvtBackbone)
        first = backbone.get_submodule('patch_embed1.proj')
        assert isinstance(first, nn.Conv2d)
        backbone.set_submodule('patch_embed1.proj', taking_pixels(first))
        names = ['tokens', *(f'positions{stage}' for stage in stages[1:])]
    # Two in the batch, so that no dimension of one is taken for a constant.
    template = torch.zeros(2, TEMPLATE_PX, TEMPLATE_PX, 3, dtype=torch.uint8)
    search = torch.zeros(2, SEARCH_PX, SEARCH_PX, 3, dtype=torch.uint8)
    box = torch.full((2, 4), 0.25)
    with torch.no_grad():
        cached = TemplateGraph(network)(template, box)
    return GraphPair(
        Graph(TemplateGraph(network), (template, box), ('template', 'box'), tuple(names)),
        Graph(SearchGraph(network), (search, *cached), ('search', *names), ('box', 'corners')),
    )


def manifest(network: PyramidSimTrack) -> dict[str, Any]:
    """Crop factors of the plain SimTrack with the same images (section 4.1)."""
    kind = 'Swin' if isinstance(network.backbone, SwinBackbone) else 'PVT'
    depths = ', '.join(map(str, network.variant.depths))
    attention: dict[str, Any] = {}
    if isinstance(network.variant, PvtVariant):
        first, reduced = network.grid**2, network.grid // network.variant.ratios[-1]
        # From the target to the search region in the last layer in which the target asks.
        attention['attention'] = {
            'softmax': sum(network.variant.depths) - 2,
            'queries': [first, first + (network.grid // 2) ** 2],
            'keys': [0, reduced**2],
        }
    return {
        'summary': f'SimTrack, {kind} of {depths} layers, search {SEARCH_PX} px',
        'inputs': {
            'template_px': TEMPLATE_PX,
            'template_factor': 2.0,
            'search_px': SEARCH_PX,
            'search_factor': 4.0,
            'template_values': {'box': [4]},
        },
        'constants': {'clip_margin_px': 10},
        **attention,
        # How far the corners' distributions are gathered; not calibrated.
        'confidence': {'lost': 0.2, 'sure': 0.5},
    }
