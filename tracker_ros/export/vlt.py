# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""VLT as a model package.

The graphs hold the one path of the supernet that each image takes, and nothing of the rest.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tracker_ros.export import IMAGENET_MEAN
from tracker_ros.export.graphs import Graph, GraphPair, planes, taking_pixels
from tracker_ros.networks.moda_mixer import EMBEDDING, Paths
from tracker_ros.networks.vlt import (
    NETWORKS,
    STRIDE,
    VARIANTS,
    VltRpn,
    VltScar,
    VltTt,
    variant_of,
)

Vlt = VltScar | VltTt | VltRpn


@dataclass(frozen=True, slots=True)
class _Facts:
    """What differs between the variants outside their networks."""

    title: str
    cached: str
    outputs: tuple[str, ...]
    constants: dict[str, Any]
    is_normalised: bool = False


# Those of the official tests on LaSOT; of VLT_RPN++ those of SiamRPN++'s own code.
_FACTS = {
    VltScar: _Facts(
        'VLT_SCAR',
        'kernels',
        ('score', 'centre', 'offset'),
        {
            'score_map': 25,
            'stride': STRIDE,
            'penalty_k': 0.04,
            'size_rate': 0.33,
            'window_influence': 0.3,
        },
    ),
    VltTt: _Facts(
        'VLT_TT',
        'tokens',
        ('score', 'box'),
        {
            'score_map': 32,
            'search_context': 1.5,
            'penalty_k': 0.0,
            'size_rate': 1.0,
            'window_influence': 0.49,
        },
        is_normalised=True,
    ),
    VltRpn: _Facts(
        'VLT_RPN++',
        'kernels',
        ('cls', 'loc'),
        {
            'score_map': 25,
            'stride': STRIDE,
            'anchor_ratios': [0.33, 0.5, 1.0, 2.0, 3.0],
            'anchor_scale': 8,
            'penalty_k': 0.04,
            'size_rate': 0.4,
            'window_influence': 0.44,
        },
    ),
}


def build(name: str, shapes: Mapping[str, tuple[int, ...]]) -> Vlt:
    """The whole network of the variant `name`. Raises ValueError for tensors of another."""
    found = variant_of(shapes)
    if found != name:
        raise ValueError(f'this is a checkpoint of vlt_{found}, not of vlt_{name}')
    variant = VARIANTS[name]
    if not any(key.endswith('.architecture') for key in shapes):
        return NETWORKS[name](variant)
    # Of a training of ours: without what no path takes. The paths are among the weights; here
    # any will do that take the same blocks.
    return NETWORKS[name](dataclasses.replace(variant, paths=_paths_with(shapes)), whole=False)


def _paths_with(shapes: Mapping[str, tuple[int, ...]]) -> Paths:
    """Paths that take just the blocks with tensors of these names. Raises ValueError."""
    taken: dict[str, dict[int, set[int]]] = {'features': {}, 'nlp_layers': {}}
    for key in shapes:
        match = re.search(r'(features|nlp_layers)\.(\d+)\.(\d+)\.', key)
        if match:
            taken[match[1]].setdefault(int(match[2]), set()).add(int(match[3]))
    rows = []
    for layers in taken.values():
        kinds = [layers.get(layer, set()) for layer in range(len(layers))]
        if not all(1 <= len(each) <= 2 for each in kinds):
            raise ValueError(f'each layer of a searched network has one block or two, not {kinds}')
        rows += [tuple(map(min, kinds)), tuple(map(max, kinds))]
    return Paths(*rows)


def official_names(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The tensors without those of BERT, which is a package of its own."""
    return {name: value for name, value in tensors.items() if 'bert_model.' not in name}


class TemplateGraph(nn.Module):
    """All that depends on the template and on what was said of the target.

    Template crop (B, T, T, 3) uint8 BGR, the target's box in it (B, 4) as x1, y1, x2, y2 in
    pixels, mean embedding of the sentence (B, 768), and whether to go by that (B, 1), 1 or 0.
    """

    def __init__(self, network: Vlt) -> None:
        super().__init__()
        self.network = network
        self.pixels = _Pixels(network)

    def forward(
        self, template: Tensor, box: Tensor, language: Tensor, by_language: Tensor
    ) -> tuple[Tensor, Tensor]:
        cached, selectors = self.network.template(
            self.pixels(template), box, language, by_language
        )
        return cached, torch.cat(selectors, dim=1)


class SearchGraph(nn.Module):
    """Search crop (B, S, S, 3) uint8 BGR to what the network answers, in its order."""

    def __init__(self, network: Vlt) -> None:
        super().__init__()
        self.network = network
        self.pixels = _Pixels(network)

    def forward(self, search: Tensor, cached: Tensor, selectors: Tensor) -> tuple[Tensor, ...]:
        by_stage, first = [], 0
        for channels in self.network.variant.stages.channels:
            by_stage.append(selectors[:, first : first + channels])
            first += channels
        output = self.network.search(self.pixels(search), cached, by_stage)
        return tuple(getattr(output, name) for name in output.__slots__)


class _Pixels(nn.Module):
    """Pixels as the stem takes them.

    Where the network takes normalised images, its padding is of the mean colour: that has to be
    subtracted here, the rest is in the weights.
    """

    def __init__(self, network: Vlt) -> None:
        super().__init__()
        mean = 255.0 * np.asarray(IMAGENET_MEAN[::-1], np.float32)
        self.mean: Tensor | None
        self.register_buffer(
            'mean',
            torch.from_numpy(mean)[:, None, None] if _facts(network).is_normalised else None,
        )

    def forward(self, crops: Tensor) -> Tensor:
        pixels = planes(crops)
        return pixels if self.mean is None else pixels - self.mean


class _GroupNorm(nn.Module):
    """Group normalisation of maps with a fixed side, as the operator that every library has."""

    def __init__(self, norm: nn.GroupNorm, cells: int) -> None:
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.shape = (norm.num_channels, cells, cells)
        self.weight = nn.Parameter(norm.weight.detach()[:, None, None])
        self.bias = nn.Parameter(norm.bias.detach()[:, None, None])

    def forward(self, maps: Tensor) -> Tensor:
        channels, rows, columns = self.shape
        count = channels // self.groups * rows * columns
        normed = functional.layer_norm(
            maps.reshape(-1, self.groups, count), (count,), eps=self.eps
        )
        return normed.reshape(-1, *self.shape) * self.weight + self.bias


def graphs(network: Vlt) -> GraphPair:
    network = copy.deepcopy(network)
    variant, facts = network.variant, _facts(network)
    if facts.is_normalised:
        stem = network.body.first_conv[0]
        assert isinstance(stem, nn.Conv2d)
        network.body.first_conv[0] = taking_pixels(stem, mean=(0.0, 0.0, 0.0))
    if isinstance(network, VltScar):
        for tower in (network.head.cls_tower, network.head.bbox_tower):
            for place, layer in enumerate(tower):
                if isinstance(layer, nn.GroupNorm):
                    tower[place] = _GroupNorm(layer, facts.constants['score_map'])
    # Two in the batch, so that no dimension of one is taken for a constant.
    template = torch.zeros(2, variant.template_px, variant.template_px, 3, dtype=torch.uint8)
    search = torch.zeros(2, variant.search_px, variant.search_px, 3, dtype=torch.uint8)
    told = (
        torch.tensor([[41.0, 49.0, 85.0, 77.0]] * 2),
        torch.zeros(2, EMBEDDING),
        torch.ones(2, 1),
    )
    with torch.no_grad():
        cached = TemplateGraph(network).eval()(template, *told)
    names = (facts.cached, 'selectors')
    return GraphPair(
        Graph(TemplateGraph(network), (template, *told), ('template', *_TOLD), names),
        Graph(SearchGraph(network), (search, *cached), ('search', *names), facts.outputs),
    )


_TOLD = {'box': [4], 'language': [EMBEDDING], 'by_language': [1]}
"""What the template graph takes beside the crop."""


def manifest(network: Vlt) -> dict[str, Any]:
    variant, facts = network.variant, _facts(network)
    return {
        'summary': f'{facts.title}, vision and language, search {variant.search_px} px',
        'takes_text': True,
        'inputs': {
            'template_px': variant.template_px,
            'search_px': variant.search_px,
            'template_values': _TOLD,
        },
        'constants': {
            'context': 0.5,
            **facts.constants,
            'without_text': 'template',
            'language_model': 'bert_base_uncased',
        },
        # Not calibrated.
        'confidence': {'lost': 0.2, 'sure': 0.5},
    }


def _facts(network: Vlt) -> _Facts:
    return _FACTS[type(network)]
