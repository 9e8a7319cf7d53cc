# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""DualTFR as a model package."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tracker_ros.export.graphs import Graph, GraphPair, planes, taking_pixels
from tracker_ros.networks.dual_tfr import (
    SEARCH_GRID,
    SEARCH_PX,
    TEMPLATE_GRID,
    TEMPLATE_PX,
    DualTfr,
    Template,
    variant_of,
)

_CACHED = ('tokens', 'query', 'key', 'value')
_CONTEXT = 'context'


def build(shapes: Mapping[str, tuple[int, ...]]) -> DualTfr:
    return DualTfr(variant_of(shapes))


class TemplateGraph(nn.Module):
    """Template crop (B, T, T, 3) uint8 BGR to its tokens and theirs in the first cross block.

    The spatio-temporal version has one output more, the context of the first frame.
    """

    def __init__(self, network: DualTfr) -> None:
        super().__init__()
        self.network = network

    def forward(self, template: Tensor) -> tuple[Tensor, ...]:
        known = self.network.template(planes(template))
        cached = known.tokens, known.query, known.key, known.value
        if not self.network.variant.has_context:
            return cached
        return *cached, self.network.first_context(known)


class SearchGraph(nn.Module):
    """Search crop (B, S, S, 3) uint8 BGR to score (B, N) in [0, 1] and box (B, N, 4) by token.

    The spatio-temporal version has one output more, the context of the next frame.
    """

    def __init__(self, network: DualTfr) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        search: Tensor,
        tokens: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        context: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        output = self.network.search(planes(search), Template(tokens, query, key, value), context)
        _, scores = output.scores.softmax(dim=-1).unbind(dim=-1)
        if context is None:
            return scores, output.boxes
        return scores, output.boxes, output.context


def graphs(network: DualTfr) -> GraphPair:
    network = copy.deepcopy(network)
    patches = network.lab.patch_embed
    patches.proj = taking_pixels(patches.proj)
    has_context = network.variant.has_context
    cached_names = (*_CACHED, _CONTEXT) if has_context else _CACHED
    outputs = ('score', 'box', f'next_{_CONTEXT}') if has_context else ('score', 'box')
    # Two in the batch, so that no dimension of one is taken for a constant.
    template = torch.zeros(2, TEMPLATE_PX, TEMPLATE_PX, 3, dtype=torch.uint8)
    search = torch.zeros(2, SEARCH_PX, SEARCH_PX, 3, dtype=torch.uint8)
    with torch.no_grad():
        cached = TemplateGraph(network)(template)
    return GraphPair(
        Graph(TemplateGraph(network), (template,), ('template',), cached_names),
        Graph(SearchGraph(network), (search, *cached), ('search', *cached_names), outputs),
    )


def manifest(network: DualTfr) -> dict[str, Any]:
    """Crop factors of the paper (section 4.1)."""
    variant = network.variant
    local = ', '.join(map(str, variant.local_depths))
    alone = sum(variant.local_depths) + variant.global_depth
    inputs: dict[str, Any] = {
        'template_px': TEMPLATE_PX,
        'template_factor': 1.5,
        'search_px': SEARCH_PX,
        'search_factor': 3.0,
    }
    if variant.has_context:
        inputs['renewed'] = [_CONTEXT]
    return {
        'summary': (
            f'DualTFR, local blocks {local}, {variant.global_depth} global and '
            f'{variant.cross_depth} cross blocks, search {SEARCH_PX} px'
        ),
        'inputs': inputs,
        'constants': {
            'clip_margin_px': 10,
            'score_map': SEARCH_GRID,
            # With 0.2 the online version: the weight of a correlation filter's answer.
            'filter_weight': 0.0,
            'update_score': 0.5,
        },
        # From the target to the search region in the last layer in which the target asks.
        'attention': {
            'softmax': alone + 2 * (variant.cross_depth - 2) + 1,
            'queries': [0, TEMPLATE_GRID**2],
            'keys': [0, SEARCH_GRID**2],
        },
        # Not calibrated: there are no trained weights yet.
        'confidence': {'lost': 0.2, 'sure': 0.5},
    }
