# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""SimTrack as a model package."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tracker_ros.export import IMAGENET_MEAN
from tracker_ros.export.graphs import Graph, GraphPair, planes, taking_pixels
from tracker_ros.export.simtrack_pyramid import graphs as pyramid_graphs
from tracker_ros.export.simtrack_pyramid import manifest as pyramid_manifest
from tracker_ros.networks import simtrack_pyramid
from tracker_ros.networks.heads import CORNERS
from tracker_ros.networks.simtrack import VARIANTS, SimTrack, Variant, variant_of
from tracker_ros.networks.simtrack_pyramid import PyramidSimTrack

Tensors = Mapping[str, NDArray[Any]]

_OF_TOWER = re.compile(
    r'(class_embedding$|positional_embedding$|proj$|(conv1|ln_\w+|transformer)\.)'
)
# MAE's names, as timm has them, and CLIP's.
_OF_MAE = {
    r'cls_token$': 'class_embedding',
    r'pos_embed$': 'positional_embedding',
    r'patch_embed\.proj\.': 'conv1.',
    r'blocks\.(\d+)\.norm(\d)\.': r'transformer.resblocks.\1.ln_\2.',
    r'blocks\.(\d+)\.attn\.qkv\.': r'transformer.resblocks.\1.attn.in_proj_',
    r'blocks\.(\d+)\.attn\.proj\.': r'transformer.resblocks.\1.attn.out_proj.',
    r'blocks\.(\d+)\.mlp\.fc1\.': r'transformer.resblocks.\1.mlp.c_fc.',
    r'blocks\.(\d+)\.mlp\.fc2\.': r'transformer.resblocks.\1.mlp.c_proj.',
    r'norm\.': 'ln_post.',
}
_CORNER = re.compile(rf'(?:^|[._])({"|".join(CORNERS)})(?:[._]|$)')


def build(shapes: Mapping[str, tuple[int, ...]]) -> SimTrack | PyramidSimTrack:
    pyramid = simtrack_pyramid.variant_of(shapes)
    return SimTrack(variant_of(shapes)) if pyramid is None else PyramidSimTrack(pyramid)


def official_names(tensors: Tensors) -> dict[str, NDArray[Any]]:
    """The tensors by the names of the public code.

    The published files were written by other code, with names of its own. The tower is known by
    the ends of its names, everything else by shape and order. What fits nothing keeps its name.
    """
    if simtrack_pyramid.variant_of({name: value.shape for name, value in tensors.items()}):
        return dict(tensors)  # of which nobody has published any
    found: dict[str, NDArray[Any]] = {}
    rest: dict[str, NDArray[Any]] = {}
    prefix, of_mae = _tower_of(tensors)
    for name, value in tensors.items():
        inner = name.removeprefix(prefix) if name.startswith(prefix) else ''
        own = _renamed(inner) if of_mae else inner
        if _OF_TOWER.match(own):
            found[f'backbone.visual.{own}'] = _unbatched(own, value)
        else:
            rest[name] = value
    conv1 = found.get('backbone.visual.conv1.weight')
    if conv1 is None:
        return dict(tensors)  # and the reader will name what is missing
    found.update(_linear_layers(rest, len(conv1)))
    found.update(_corner_head(rest))
    if not of_mae and 'backbone.visual.proj' not in found:
        # CLIP's way into its joint space, of no use here; some files leave it out.
        joint = {variant.dim: variant.joint_dim for variant in VARIANTS.values()}
        size = (len(conv1), joint.get(len(conv1), 0))
        found['backbone.visual.proj'] = np.zeros(size, np.float32)
    return {**found, **rest}


def _tower_of(tensors: Tensors) -> tuple[str, bool]:
    """What the tower's names begin with, and whether they are those of MAE."""
    for name in tensors:
        for ending, of_mae in (('class_embedding', False), ('patch_embed.proj.weight', True)):
            if name.endswith(ending):
                return name.removesuffix(ending), of_mae
    return '', False


def _renamed(name: str) -> str:
    for pattern, ours in _OF_MAE.items():
        if re.match(pattern, name):
            return re.sub(pattern, ours, name, count=1)
    return name


def _unbatched(name: str, value: NDArray[Any]) -> NDArray[Any]:
    """MAE's class token is (1, 1, C) and its positions are (1, N, C)."""
    dimensions = {'class_embedding': 1, 'positional_embedding': 2}.get(name)
    return value if dimensions is None else value.reshape(value.shape[-dimensions:])


def _linear_layers(rest: dict[str, NDArray[Any]], dim: int) -> dict[str, NDArray[Any]]:
    """The layers of the position and the bottleneck, by shape; taken out of `rest`."""
    places = {
        (dim // 2, 3): 'backbone.pos_fc.0',
        (dim, dim // 2): 'backbone.pos_fc.2',
        (256, dim): 'bottleneck',
    }
    found = {}
    for name, value in list(rest.items()):
        place = places.get(value.shape)
        stem = name.removesuffix('.weight')
        if place and stem != name and f'{place}.weight' not in found:
            found[f'{place}.weight'] = rest.pop(name)
            if f'{stem}.bias' in rest:
                found[f'{place}.bias'] = rest.pop(f'{stem}.bias')
    return found


def _corner_head(rest: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The convolutions and norms of both corners, in their order; taken out of `rest`."""
    stems = list(dict.fromkeys(name.rpartition('.')[0] for name in rest))
    layers: dict[str, list[str]] = {'conv': [], 'norm': []}
    for stem in stems:
        if rest.get(f'{stem}.weight', np.empty(0)).ndim == 4:
            layers['conv'].append(stem)
        elif f'{stem}.running_mean' in rest:
            layers['norm'].append(stem)
    found = {}
    for kind, names in layers.items():
        count = {'conv': 5, 'norm': 4}[kind]
        if len(names) != 2 * count:
            return {}
        for corner, half in zip(CORNERS, (names[:count], names[count:]), strict=True):
            marked = [stem for stem in names if _marks(stem, corner)]
            for place, stem in enumerate(marked if len(marked) == count else half):
                layer = f'box_head.conv{place + 1}_{corner}'
                # The last convolution stands alone; the others are followed by their norm.
                layer += {'conv': '' if place == 4 else '.0', 'norm': '.1'}[kind]
                for name in [name for name in rest if name.rpartition('.')[0] == stem]:
                    found[f'{layer}.{name.rpartition(".")[2]}'] = rest.pop(name)
    return found


def _marks(name: str, corner: str) -> bool:
    match = _CORNER.search(name)
    return match is not None and match[1] == corner


class TemplateGraph(nn.Module):
    """Template crop (B, T, T, 3) uint8 BGR and the target's box in it to embedded tokens."""

    def __init__(self, network: SimTrack) -> None:
        super().__init__()
        self.network = network

    def forward(self, template: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.template(planes(template), box)


class SearchGraph(nn.Module):
    """Search crop (B, S, S, 3) uint8 BGR to box (B, 4) and corners (B, 2, grid, grid)."""

    def __init__(self, network: SimTrack) -> None:
        super().__init__()
        self.network = network

    def forward(self, search: Tensor, tokens: Tensor, foveal: Tensor) -> tuple[Tensor, Tensor]:
        output = self.network.search(planes(search), tokens, foveal)
        return output.boxes, output.corners


def graphs(network: SimTrack | PyramidSimTrack) -> GraphPair:
    if isinstance(network, PyramidSimTrack):
        return pyramid_graphs(network)
    network = copy.deepcopy(network)
    visual = network.backbone.visual
    visual.conv1 = taking_pixels(visual.conv1)
    network.backbone.void = 255 * torch.tensor(IMAGENET_MEAN).flip(0)[None, :, None, None]
    variant = network.variant
    # Two in the batch, so that no dimension of one is taken for a constant.
    template = torch.zeros(2, variant.template_px, variant.template_px, 3, dtype=torch.uint8)
    search = torch.zeros(2, variant.search_px, variant.search_px, 3, dtype=torch.uint8)
    box = torch.full((2, 4), 0.25)
    with torch.no_grad():
        cached = TemplateGraph(network)(template, box)
    return GraphPair(
        Graph(TemplateGraph(network), (template, box), ('template', 'box'), ('tokens', 'foveal')),
        Graph(
            SearchGraph(network),
            (search, *cached),
            ('search', 'tokens', 'foveal'),
            ('box', 'corners'),
        ),
    )


def manifest(network: SimTrack | PyramidSimTrack) -> dict[str, Any]:
    """Crop factors of the paper (section 4.1)."""
    if isinstance(network, PyramidSimTrack):
        return pyramid_manifest(network)
    variant = network.variant
    first = variant.template_grid**2 + 1
    template_factor, search_factor = _FACTORS.get(variant.patch_px, (2.0, 4.0))
    return {
        'summary': f'SimTrack, {_summary(variant)}, search {variant.search_px} px',
        'inputs': {
            'template_px': variant.template_px,
            'template_factor': template_factor,
            'search_px': variant.search_px,
            'search_factor': search_factor,
            'template_values': {'box': [4]},
        },
        'constants': {'clip_margin_px': 10},
        # From the target to the search region in the last layer in which the target asks.
        'attention': {
            'softmax': variant.depth - 2,
            'queries': [0, variant.template_grid**2],
            'keys': [first, first + variant.search_grid**2],
        },
        # How far the corners' distributions are gathered; not calibrated.
        'confidence': {'lost': 0.2, 'sure': 0.5},
    }


_FACTORS = {32: (2.0, 5.0), 14: (1.5, 4.0)}
"""Template and search factor by the size of a patch, where they are not 2 and 4."""


def _summary(variant: Variant) -> str:
    return (
        f'ViT of {variant.depth} layers, patch {variant.patch_px} ({variant.pretraining.upper()})'
    )
