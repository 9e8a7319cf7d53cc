# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""MixFormerV2 as a model package."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tracker_ros.export.graphs import Graph, GraphPair, planes, taking_pixels
from tracker_ros.networks.mixformer_v2 import MixFormerV2, variant_of


def build(shapes: Mapping[str, tuple[int, ...]]) -> MixFormerV2:
    return MixFormerV2(variant_of(dict(shapes)))


class TemplateGraph(nn.Module):
    """Both template crops (B, T, T, 3) uint8 BGR to keys and values of every layer."""

    def __init__(self, network: MixFormerV2) -> None:
        super().__init__()
        self.network = network

    def forward(self, template: Tensor, online: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.templates(planes(template), planes(online))


class SearchGraph(nn.Module):
    """Search crop (B, S, S, 3) uint8 BGR to box (B, 4), score (B,) in [0, 1] and sides."""

    def __init__(self, network: MixFormerV2) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, search: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        output = self.network.search(planes(search), keys, values)
        return output.boxes, output.scores.sigmoid(), output.sides


def graphs(network: MixFormerV2) -> GraphPair:
    network = copy.deepcopy(network)
    network.backbone.patch_embed.proj = taking_pixels(network.backbone.patch_embed.proj)
    variant = network.variant
    # Two in the batch, so that no dimension of one is taken for a constant.
    template = torch.zeros(2, variant.template_px, variant.template_px, 3, dtype=torch.uint8)
    search = torch.zeros(2, variant.search_px, variant.search_px, 3, dtype=torch.uint8)
    with torch.no_grad():
        cached = TemplateGraph(network)(template, template)
    return GraphPair(
        Graph(
            TemplateGraph(network),
            (template, template),
            ('template', 'online'),
            ('keys', 'values'),
        ),
        Graph(
            SearchGraph(network),
            (search, *cached),
            ('search', 'keys', 'values'),
            ('box', 'score', 'sides'),
        ),
    )


def manifest(network: MixFormerV2) -> dict[str, Any]:
    """Crop factors and update rule of the official tests (architectures: section 4.1)."""
    variant = network.variant
    small = variant.mlp_ratio == 1
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
        # The score was trained to choose templates; its thresholds here are not calibrated.
        'confidence': {'lost': 0.2, 'sure': 0.5},
    }
