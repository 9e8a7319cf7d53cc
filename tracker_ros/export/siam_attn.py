# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""SiamAttn as a model package of four graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tracker_ros.export.graphs import Graph, GraphPair, planes
from tracker_ros.networks.siam_attn import SEARCH_PX, TEMPLATE_PX, SiamAttn, Template, check_shapes

_CACHED = ('features', 'own', 'channels')
_SHALLOW = ('conv1', 'layer1', 'enhanced')


def build(shapes: Mapping[str, tuple[int, ...]]) -> SiamAttn:
    check_shapes(shapes)
    # The checkpoint has all weights: making up 140 million first takes longer than reading them.
    with torch.device('meta'):
        network = SiamAttn()
    return network.to_empty(device='cpu')


class TemplateGraph(nn.Module):
    """Template crop (B, 127, 127, 3) uint8 BGR to all that depends on it alone."""

    def __init__(self, network: SiamAttn) -> None:
        super().__init__()
        self.network = network

    def forward(self, template: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.network.template(planes(template))
        return found.features, found.own, found.channels


class SearchGraph(nn.Module):
    """Search crop (B, 255, 255, 3) uint8 BGR to proposals, and features to refine one with."""

    def __init__(self, network: SiamAttn) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, search: Tensor, features: Tensor, own: Tensor, channels: Tensor
    ) -> tuple[Tensor, ...]:
        found = self.network.search(planes(search), Template(features, own, channels))
        return (
            found.cls,
            found.loc,
            found.box_features,
            found.conv1,
            found.layer1,
            found.enhanced,
        )


class RefineGraph(nn.Module):
    """Box features and a box (B, 4) x1, y1, x2, y2 in the crop to its correction (B, 4)."""

    def __init__(self, network: SiamAttn) -> None:
        super().__init__()
        self.network = network.bbox_head

    def forward(self, box_features: Tensor, roi: Tensor) -> Tensor:
        return self.network(box_features, roi)


class MaskGraph(nn.Module):
    """Shallow and enhanced features and a box to mask logits (B, 1, 64, 64)."""

    def __init__(self, network: SiamAttn) -> None:
        super().__init__()
        self.fusion = network.feature_fusion
        self.head = network.mask_head

    def forward(self, conv1: Tensor, layer1: Tensor, enhanced: Tensor, roi: Tensor) -> Tensor:
        return self.head(self.fusion.mask(conv1, layer1, enhanced), roi)


def graphs(network: SiamAttn) -> GraphPair:
    # Two in the batch, so that no dimension of one is taken for a constant.
    template = torch.zeros(2, TEMPLATE_PX, TEMPLATE_PX, 3, dtype=torch.uint8)
    search = torch.zeros(2, SEARCH_PX, SEARCH_PX, 3, dtype=torch.uint8)
    roi = torch.tensor([[64.0, 64.0, 192.0, 192.0]] * 2)
    with torch.no_grad():
        cached = TemplateGraph(network)(template)
        _cls, _loc, box_features, *shallow = SearchGraph(network)(search, *cached)
    return GraphPair(
        Graph(TemplateGraph(network), (template,), ('template',), _CACHED),
        Graph(
            SearchGraph(network),
            (search, *cached),
            ('search', *_CACHED),
            ('cls', 'loc', 'box_features', *_SHALLOW),
        ),
        {
            'refine': Graph(
                RefineGraph(network), (box_features, roi), ('box_features', 'roi'), ('correction',)
            ),
            'mask': Graph(
                MaskGraph(network), (*shallow, roi), (*_SHALLOW, 'roi'), ('mask_logits',)
            ),
        },
    )


def manifest(network: SiamAttn) -> dict[str, Any]:
    """Settings for VOT2018, as published with the weights (architectures: section 4.2)."""
    return {
        'summary': 'SiamAttn, ResNet-50, deformable attention, box and mask refinement',
        'inputs': {
            'template_px': TEMPLATE_PX,
            'search_px': SEARCH_PX,
            'refine_values': {'roi': [4]},
            'mask_values': {'roi': [4]},
        },
        'constants': {
            'context': 0.5,
            'stride': 8,
            'score_map': 25,
            'anchor_ratios': [0.33, 0.5, 1.0, 2.0, 3.0],
            'anchor_scale': 8,
            'penalty_k': 0.1,
            'window_influence': 0.25,
            'size_rate': 0.45,
            'mask_threshold': 0.2,
        },
        # Not calibrated.
        'confidence': {'lost': 0.3, 'sure': 0.6},
    }
