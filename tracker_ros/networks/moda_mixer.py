# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The vision-language backbone of VLT: a supernet with a modality mixer in each stage.

A *selector* holds one number for each channel of a stage. It comes from the mean embedding of a
sentence, of zeros ("0-tensor"), or, without language, from the features of the target in the
template ("template"; section 4.4 and algorithm 1). Template and search use the same selectors.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tracker_ros.networks.shuffle_supernet import (
    STAGES,
    Path,
    ShuffleSupernet,
    Stages,
    Used,
    candidate,
    candidates,
)

EMBEDDING = 768
"""Numbers in the embedding of a sentence, those of BERT-base."""

STAGE_COUNT = 4

_ROI_CELLS = 3
_ROI_STRIDE_PX = 8
# No target is wider than 147 px in a template crop of 128 px: 18.3 cells, 6.1 for each bin.
_MOST_SAMPLES = 8

_Select = Callable[[int, Tensor], Tensor]
"""Stage and feature before its last layer, to the selector (B, C, 1, 1)."""


@dataclass(frozen=True, slots=True)
class Paths:
    """The asymmetrical architecture (table 1): blocks by layer, and of the mixers by stage."""

    template: Path
    search: Path
    template_mixers: Path
    search_mixers: Path

    def genes(self) -> list[int]:
        """All choices in a row, in the order of the official configurations."""
        return [*self.template, *self.search, *self.template_mixers, *self.search_mixers]

    @classmethod
    def of(cls, genes: Sequence[int]) -> Paths:
        """Back from `genes`."""
        layers = len(genes) // 2 - STAGE_COUNT
        bounds = itertools.accumulate((layers, layers, STAGE_COUNT, STAGE_COUNT), initial=0)
        return cls(*(tuple(genes[a:b]) for a, b in itertools.pairwise(bounds)))


class MixedBackbone(ShuffleSupernet):
    """Images and language in, the features of stages 2 to 4 out, at a stride of 8.

    paths: which blocks images go through; while the supernet is trained, others for each step.
    """

    def __init__(self, paths: Paths, whole: bool, stages: Stages = STAGES) -> None:
        """`whole`: with the candidates that no path takes, as official checkpoints have them.

        Otherwise the paths are kept with the weights, which do not tell them.
        """
        layers = stages.ends[-1]
        used = Used.by(paths.template, paths.search)
        super().__init__(Used.all(layers, extra=True) if whole else used, stages)
        self.paths = paths
        if not whole:
            self.architecture: Tensor
            self.register_buffer('architecture', torch.tensor(paths.genes(), dtype=torch.uint8))
            self.register_load_state_dict_post_hook(_take_paths)
        mixers = Used.by(paths.template_mixers, paths.search_mixers)
        if whole:
            mixers = Used.all(len(stages.channels))
        self.nlp_layers = nn.ModuleList(
            candidates(kinds, channels, channels, 1, False)
            for kinds, channels in zip(mixers.layers, stages.channels, strict=True)
        )
        self.vistoken_layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, _ROI_CELLS),
                nn.BatchNorm2d(channels),
                nn.LeakyReLU(0.1),
            )
            for channels in stages.channels
        )
        self.token_map = nn.ModuleList(
            nn.Sequential(nn.Conv2d(EMBEDDING, channels, 1, bias=False), nn.BatchNorm2d(channels))
            for channels in stages.channels
        )

    def selectors_of(self, embedding: Tensor) -> list[Tensor]:
        """By stage (B, C, 1, 1), from mean embeddings (B, 768) of sentences."""
        return [layer(embedding[:, :, None, None]) for layer in self.token_map]

    def template(
        self,
        image: Tensor,
        boxes: Tensor,
        embedding: Tensor | None,
        by_language: Tensor | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Features of stages 2 to 4 and the selectors (B, C, 1, 1) of all stages.

        `boxes` (B, 4) are the targets' x1, y1, x2, y2 in pixels of the template crop. The
        selectors are made from the embedding, where there is none from the features in the
        boxes. Where both are at hand, `by_language` (B, 1) says 1 for targets that go by the
        embedding and 0 for the others.
        """
        spoken = self.selectors_of(embedding) if embedding is not None else []
        selectors: list[Tensor] = []

        def select(stage: int, feature: Tensor) -> Tensor:
            if spoken and by_language is None:
                selector = spoken[stage]
            else:
                selector = self.vistoken_layers[stage](roi_align(feature, boxes))
                if spoken and by_language is not None:
                    is_spoken = by_language[:, :, None, None] > 0.5
                    selector = torch.where(is_spoken, spoken[stage], selector)
            selectors.append(selector)
            return selector

        paths = self.paths
        stages = list(self._stages(image, paths.template, paths.template_mixers, select))
        return stages[1:], selectors

    def search(self, image: Tensor, selectors: Sequence[Tensor]) -> list[Tensor]:
        """Features of stages 2 to 4, given the selectors that `template` returned."""
        paths = self.paths
        return list(
            self._stages(
                image,
                paths.search,
                paths.search_mixers,
                lambda stage, _feature: selectors[stage],
            )
        )[1:]

    def _stages(
        self, image: Tensor, path: Path, mixers: Path, select: _Select
    ) -> Iterator[Tensor]:
        """The output of each stage, whose last layer belongs to the mixer."""
        feature, layer = self.first_conv(image), 0
        for stage, end in enumerate(self.stages.ends):
            while layer < end - 1:
                feature, layer = self.block(layer, path)(feature), layer + 1
            feature = moda_mixer(
                feature,
                select(stage, feature),
                visual_block=self.block(layer, path),
                mixed_block=candidate(self.nlp_layers[stage], mixers[stage]),
            )
            layer += 1
            yield feature


def _take_paths(backbone: nn.Module, _keys: object) -> None:
    """After weights were loaded: go the ways that they were trained for."""
    assert isinstance(backbone, MixedBackbone)
    if backbone.architecture.device.type != 'meta':
        backbone.paths = Paths.of(backbone.architecture.tolist())


def moda_mixer(
    feature: Tensor, selector: Tensor, visual_block: nn.Module, mixed_block: nn.Module
) -> Tensor:
    """Channels chosen by the selector, added to the plain ones (equation 1)."""
    return mixed_block(feature * selector) + visual_block(feature)


def roi_align(feature: Tensor, boxes: Tensor) -> Tensor:
    """The feature (B, C, H, W) in boxes (B, 4) as 3 x 3 cells (B, C, 3, 3): RoIAlign.

    Boxes are x1, y1, x2, y2 in pixels. Every stage counts as one of a stride of 8, also the
    first, whose stride is 4: the official weights were trained with it. Bilinear sampling is
    separable, so that two small matrices do the work of an operator that not every inference
    library has.
    """
    x1, y1, x2, y2 = (boxes / _ROI_STRIDE_PX).unbind(dim=1)
    rows = _sampling(y1, y2, feature.shape[2])
    columns = _sampling(x1, x2, feature.shape[3])
    return rows[:, None] @ feature @ columns[:, None].transpose(-1, -2)


def _sampling(first: Tensor, last: Tensor, cells: int) -> Tensor:
    """The weight (B, 3, cells) of each cell in the means of three parts of [first, last]."""
    part = (last - first).clamp(min=1.0) / _ROI_CELLS
    count = part.ceil()
    bins = torch.arange(_ROI_CELLS, dtype=part.dtype, device=part.device)
    samples = torch.arange(_MOST_SAMPLES, dtype=part.dtype, device=part.device)
    # (B, 3, samples)
    step = (samples + 0.5) / count[:, None]
    places = first[:, None, None] + (bins[:, None] + step[:, None, :]) * part[:, None, None]
    is_inside = (places >= -1.0) & (places <= cells) & (samples < count[:, None])[:, None, :]
    held = places.clamp(0.0, cells - 1.0)
    nodes = torch.arange(cells, dtype=part.dtype, device=part.device)
    weights = functional.relu(1.0 - (held[..., None] - nodes).abs())
    return (weights * is_inside[..., None]).sum(dim=2) / count[:, None, None]
