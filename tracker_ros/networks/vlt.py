# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""VLT: Divert More Attention to Vision-Language Tracking (Guo et al., NeurIPS 2022).

A purely convolutional backbone mixes language into the features of template and search image,
from shallow to deep, along asymmetrical paths through one supernet (section 3, `moda_mixer` and
`shuffle_supernet`). What follows is the matching of a known tracker (section 3.3): that of
SiamCAR in VLT_SCAR, that of a transformer in VLT_TT, that of SiamRPN++ in VLT_RPN++.

Tensor names are those of the official checkpoints. Where the official code and the paper
differ, this follows the code, because its weights were trained with it; a comment says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tracker_ros.networks.feature_fusion import HIDDEN, LAYERS, FeatureFusion
from tracker_ros.networks.heads import PerceptronHead
from tracker_ros.networks.moda_mixer import MixedBackbone, Paths
from tracker_ros.networks.region_proposals import MultiRPN
from tracker_ros.networks.shuffle_supernet import STAGES, Stages
from tracker_ros.networks.siamese import AdjustNeck, xcorr_depthwise

STRIDE = 8
LEVELS = 3
"""Stages 2 to 4 have the same stride and are matched."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What distinguishes the models; sizes in pixels.

    dim: channels of what is matched. kernel_cells: side of the middle of the template's features
    that the search region is correlated with. fusion: layers of VLT_TT, and their hidden width.
    resizes: whether features lose a cell outside of training; see `_Siamese`.
    """

    template_px: int
    search_px: int
    paths: Paths
    stages: Stages = STAGES
    dim: int = 256
    kernel_cells: int = 7
    fusion: tuple[int, int] = (LAYERS, HIDDEN)
    resizes: bool = True


# The first four layers are those of stage 1, then 4, 8 and 4 of the others (table 1).
_SCAR_PATHS = Paths(
    template=(2, 2, 2, 0, 3, 1, 3, 3, 3, 0, 2, 3, 0, 2, 2, 2, 2, 3, 2, 1),
    search=(1, 3, 0, 2, 1, 2, 2, 3, 1, 2, 3, 0, 3, 1, 2, 3, 3, 3, 2, 0),
    template_mixers=(3, 0, 3, 0),
    search_mixers=(3, 0, 3, 0),
)
_TT_PATHS = Paths(
    template=(3, 3, 2, 2, 3, 3, 0, 0, 2, 3, 3, 2, 2, 2, 0, 3, 2, 1, 1, 3),
    search=(2, 1, 0, 3, 3, 1, 2, 0, 0, 0, 1, 1, 3, 3, 3, 0, 2, 1, 3, 2),
    template_mixers=(3, 0, 3, 0),
    search_mixers=(3, 0, 3, 0),
)
VARIANTS = {
    'scar': Variant(template_px=127, search_px=255, paths=_SCAR_PATHS),
    'tt': Variant(template_px=128, search_px=256, paths=_TT_PATHS),
    # The paths that were found for it are not published.
    'rpn': Variant(template_px=127, search_px=255, paths=_SCAR_PATHS),
}


class CarHead(nn.Module):
    """The head of SiamCAR: class, centre and distances to the four sides for each cell."""

    def __init__(self, levels: int, dim: int) -> None:
        super().__init__()
        # Official checkpoints hold it as a transposed convolution, which of one cell is a plain
        # one with input and output channels exchanged.
        self.down = nn.ConvTranspose2d(levels * dim, dim, 1)
        self.cls_tower = _tower(dim)
        self.bbox_tower = _tower(dim)
        self.cls_logits = nn.Conv2d(dim, 2, 3, padding=1)
        self.bbox_pred = nn.Conv2d(dim, 4, 3, padding=1)
        self.centerness = nn.Conv2d(dim, 1, 3, padding=1)

    def forward(self, correlated: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, levels * dim, H, W) to maps of the same sides; see `ScarOutput`."""
        joined = functional.conv2d(correlated, self.down.weight.transpose(0, 1), self.down.bias)
        named, bounded = self.cls_tower(joined), self.bbox_tower(joined)
        return self.cls_logits(named), self.centerness(named), self.bbox_pred(bounded).exp()


def _tower(dim: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(4):
        layers += [nn.Conv2d(dim, dim, 3, padding=1), nn.GroupNorm(dim // 8, dim), nn.ReLU()]
    return nn.Sequential(*layers)


class Resize(nn.Module):
    """Bicubic resizing of square features from one fixed side to another, as two matrices."""

    def __init__(self, side: int, to: int) -> None:
        super().__init__()
        unit = torch.eye(side, dtype=torch.float64)[None, None]
        matrix = functional.interpolate(unit, (to, side), mode='bicubic', align_corners=False)
        self.matrix: Tensor
        self.register_buffer('matrix', matrix[0, 0].float(), persistent=False)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, side, side) to (B, C, to, to)."""
        return self.matrix @ feature @ self.matrix.T


@dataclass(frozen=True, slots=True)
class ScarOutput:
    """What VLT_SCAR says of the 25 x 25 cells of a search region, 8 px apart.

    scores: (B, 2, 25, 25) logits of background and target.
    centres: (B, 1, 25, 25) logits of the cell being near the target's centre.
    offsets: (B, 4, 25, 25) distances to the left, top, right and bottom side, in crop pixels.
    """

    scores: Tensor
    centres: Tensor
    offsets: Tensor


class _Siamese(nn.Module):
    """Backbone and neck of the convolutional variants. Images are BGR in 0..255, as they are.

    One cell is lost at the rim of the backbones that these heads were made for; here it is
    resized away. Not so in training: the middle of the template is then a cell larger, and the
    answer as large as ever. The official weights were trained like that.
    """

    def __init__(self, variant: Variant, whole: bool = True) -> None:
        """`whole`: with the parts of official checkpoints that the tracker does not use."""
        super().__init__()
        self.variant = variant
        self.backbone = MixedBackbone(variant.paths, whole, variant.stages)
        # Three layers for the template, then three for the search region: they come by
        # different paths.
        self.neck = AdjustNeck(variant.stages.channels[1:] * 2, variant.dim)
        template, search = (_cells(side) for side in (variant.template_px, variant.search_px))
        self.template_resize = Resize(template, template - 1)
        self.search_resize = Resize(search, search - 1)

    @property
    def body(self) -> MixedBackbone:
        return self.backbone

    @property
    def _resizes(self) -> bool:
        return self.variant.resizes and not self.training

    def template(
        self,
        image: Tensor,
        boxes: Tensor,
        embedding: Tensor | None,
        by_language: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """All that depends on template and language alone; arguments as of `MixedBackbone`.

        Returns the head's `kernels` and the selectors of the search region.
        """
        features, selectors = self.backbone.template(image, boxes, embedding, by_language)
        cells = self.variant.kernel_cells
        if self._resizes:
            features = [self.template_resize(feature) for feature in features]
        else:
            cells += 1
        return self.kernels(self.neck(features, crop=cells)), selectors

    def kernels(self, levels: list[Tensor]) -> Tensor:
        """What the head correlates with, of features (B, 256, 7, 7) of three levels."""
        raise NotImplementedError

    def search_levels(self, image: Tensor, selectors: list[Tensor]) -> list[Tensor]:
        """Features (B, 256, 31, 31) of three levels."""
        features = self.backbone.search(image, selectors)
        if self._resizes:
            features = [self.search_resize(feature) for feature in features]
        return self.neck(features, first=LEVELS)


class VltScar(_Siamese):
    """VLT_SCAR."""

    def __init__(self, variant: Variant, whole: bool = True) -> None:
        super().__init__(variant, whole)
        self.head = CarHead(LEVELS, variant.dim)

    def kernels(self, levels: list[Tensor]) -> Tensor:
        """(B, 3 * 256, 7, 7)."""
        return torch.cat(levels, dim=1)

    def search(self, image: Tensor, kernels: Tensor, selectors: list[Tensor]) -> ScarOutput:
        """One frame, given what `template` returned."""
        adjusted = torch.cat(self.search_levels(image, selectors), dim=1)
        return ScarOutput(*self.head(xcorr_depthwise(adjusted, kernels)))

    def forward(
        self,
        template: Tensor,
        boxes: Tensor,
        embedding: Tensor | None,
        search: Tensor,
        by_language: Tensor | None = None,
    ) -> ScarOutput:
        return self.search(search, *self.template(template, boxes, embedding, by_language))


@dataclass(frozen=True, slots=True)
class RpnOutput:
    """What VLT_RPN++ says of five anchors in each of the 25 x 25 cells.

    scores: (B, 10, 25, 25) logits, five of the background, then five of the target.
    offsets: (B, 20, 25, 25) dx, dy, dw, dh of the five, relative to the anchors.
    """

    scores: Tensor
    offsets: Tensor


class VltRpn(_Siamese):
    """VLT_RPN++: a row of table 7, of which neither code nor weights were published.

    Our reading: the backbone, its paths and the neck are those of VLT_SCAR ("the same as in our
    baseline" is all that section 3.3 says of what follows), the head is that of SiamRPN++ on
    stages 2 to 4. Features are resized as in VLT_SCAR, to the cells that SiamRPN++ has.
    """

    def __init__(self, variant: Variant, whole: bool = True) -> None:
        super().__init__(variant, whole)
        self.rpn_head = MultiRPN(variant.dim)

    def kernels(self, levels: list[Tensor]) -> Tensor:
        """(B, 6 * 256, 5, 5)."""
        return self.rpn_head.prepare(levels)

    def search(self, image: Tensor, kernels: Tensor, selectors: list[Tensor]) -> RpnOutput:
        """One frame, given what `template` returned."""
        return RpnOutput(*self.rpn_head.match(kernels, self.search_levels(image, selectors)))

    def forward(
        self,
        template: Tensor,
        boxes: Tensor,
        embedding: Tensor | None,
        search: Tensor,
        by_language: Tensor | None = None,
    ) -> RpnOutput:
        return self.search(search, *self.template(template, boxes, embedding, by_language))


@dataclass(frozen=True, slots=True)
class TtOutput:
    """What VLT_TT says of the 32 x 32 cells of a search region, row by row.

    scores: (B, 1024, 2) logits of target and background, in this order.
    boxes: (B, 1024, 4) cx, cy, w, h as fractions of the search crop.
    """

    scores: Tensor
    boxes: Tensor


class VltTt(nn.Module):
    """VLT_TT. Images are RGB, normalised with ImageNet's mean and deviation."""

    def __init__(self, variant: Variant, whole: bool = True) -> None:
        """`whole`: with the parts of official checkpoints that the tracker does not use."""
        super().__init__()
        self.variant = variant
        # The official backbone is a pair, of which the second has no weights.
        body = nn.ModuleDict({'body': MixedBackbone(variant.paths, whole, variant.stages)})
        self.backbone = nn.ModuleList([body])
        self.neck = FeatureFusion(
            variant.stages.channels[-1],
            _cells(variant.template_px),
            _cells(variant.search_px),
            variant.dim,
            *variant.fusion,
        )
        dim = variant.dim
        self.head = nn.ModuleDict(
            {'class_embed': PerceptronHead(dim, dim, 2), 'bbox_embed': PerceptronHead(dim, dim, 4)}
        )

    @property
    def body(self) -> MixedBackbone:
        body = self.backbone.get_submodule('0.body')
        assert isinstance(body, MixedBackbone)
        return body

    def template(
        self,
        image: Tensor,
        boxes: Tensor,
        embedding: Tensor | None,
        by_language: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """All that depends on template and language alone; arguments as of `MixedBackbone`.

        Returns template tokens (B, 256, 256) and the selectors of the search region.
        """
        features, selectors = self.body.template(image, boxes, embedding, by_language)
        return self.neck.template(features[-1]), selectors

    def search(self, image: Tensor, tokens: Tensor, selectors: list[Tensor]) -> TtOutput:
        """One frame, given what `template` returned."""
        seen = self.neck.search(self.body.search(image, selectors)[-1], tokens)
        return TtOutput(self.head['class_embed'](seen), self.head['bbox_embed'](seen).sigmoid())

    def forward(
        self,
        template: Tensor,
        boxes: Tensor,
        embedding: Tensor | None,
        search: Tensor,
        by_language: Tensor | None = None,
    ) -> TtOutput:
        return self.search(search, *self.template(template, boxes, embedding, by_language))


def _cells(side_px: int) -> int:
    """The side of the features of an image of `side_px`."""
    return -(-side_px // STRIDE)


NETWORKS: dict[str, type[VltScar | VltTt | VltRpn]] = {
    'scar': VltScar,
    'tt': VltTt,
    'rpn': VltRpn,
}

_TELLING = {
    'scar': 'head.centerness.weight',
    'tt': 'neck.input_proj_copy.weight',
    'rpn': 'rpn_head.cls_weight',
}
"""A tensor that only this variant has, beside the backbone with language."""


def variant_of(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The name of the variant that a checkpoint's tensors, by name, belong to.

    Raises ValueError for other checkpoints.
    """
    for name, tensor in _TELLING.items():
        if tensor in shapes and any('nlp_layers.' in key for key in shapes):
            return name
    raise ValueError(
        f'this is no VLT checkpoint: it has none of {", ".join(_TELLING.values())} beside a '
        'backbone with nlp_layers'
    )
