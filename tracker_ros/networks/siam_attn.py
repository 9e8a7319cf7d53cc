# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""SiamAttn: Deformable Siamese Attention Networks for Visual Object Tracking (Yu et al. 2020).

Features of template and search region are enhanced by attention within and between them
(section 3.2), correlated by region proposal networks (section 3.1), and the best proposal is
refined to a box and, for who wants it, a mask (section 3.3). The choice of the proposal is made
outside the network, which therefore comes in four parts: `template`, `search`, `refine`, `mask`.

Tensor names are those of the official checkpoints. Where the official code and the paper
differ, this follows the code, because its weights were trained with it; a comment says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tracker_ros.networks.deformable import DeformableConv, DeformableRoiPool
from tracker_ros.networks.region_proposals import LEVELS, DepthwiseXCorr, MultiRPN
from tracker_ros.networks.resnet import BLOCKS, WIDTHS, Features, ResNet50, cells_of
from tracker_ros.networks.siamese import AdjustNeck

TEMPLATE_PX, SEARCH_PX = 127, 255
DIM = 256
STRIDE_PX = 8
TEMPLATE_CELLS, SEARCH_CELLS = 7, 31
"""The middle of the template's features, and those of the search region."""
MASK_PX = 64
_LOST_CELLS = 6
"""By which a correlation with the template's features is smaller than those of the search."""


@dataclass(frozen=True, slots=True)
class Variant:
    """Sizes of the parts. The defaults are the published network's; others are for tests.

    dim: channels behind the neck. widths, blocks: of the backbone's stages. offset_hidden,
    box_hidden: width of the linear layers that find offsets and the box's correction.
    """

    dim: int = DIM
    widths: tuple[int, int, int, int] = WIDTHS
    blocks: tuple[int, int, int, int] = BLOCKS
    template_px: int = TEMPLATE_PX
    search_px: int = SEARCH_PX
    offset_hidden: int = 1024
    box_hidden: int = 512

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the five stages' features."""
        return (self.widths[0], *(4 * width for width in self.widths))

    @property
    def search_cells(self) -> int:
        return cells_of(self.search_px)[2]

    @property
    def box_cells(self) -> int:
        """Side of the maps of anchors, and of the features that the box is refined from."""
        return self.search_cells - _LOST_CELLS

    @property
    def mask_cells(self) -> int:
        """Side of the features that the mask is made from: 63, where the paper has 64."""
        return cells_of(self.search_px)[1]


VARIANTS = {'resnet50': Variant()}


@dataclass(frozen=True, slots=True)
class Template:
    """All that depends on the template alone; the second dimension counts the levels.

    features: (B, 3, C, 7, 7) before attention.
    own: (B, 3, C, 7, 7) the sum of both self-attentions.
    channels: (B, 3, C, C) the channel attention matrix, which the search features use as well.
    """

    features: Tensor
    own: Tensor
    channels: Tensor


@dataclass(frozen=True, slots=True)
class Output:
    """What the network says about a batch of search regions.

    cls: (B, 10, 25, 25) logits: background of the five anchors, then target.
    loc: (B, 20, 25, 25) of each anchor dx, then dy, dw, dh.
    box_features: (B, C, 25, 25) for `SiamAttn.refine`.
    conv1, layer1, enhanced: (B, 64, 125, 125), (B, C, 63, 63), (B, 3, C, 31, 31) for
        `SiamAttn.mask`.
    """

    cls: Tensor
    loc: Tensor
    box_features: Tensor
    conv1: Tensor
    layer1: Tensor
    enhanced: Tensor


class SpatialAttention(nn.Module):
    """Spatial self-attention (equations 1 and 2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.query_conv = nn.Conv2d(dim, dim // 8, 1)
        self.key_conv = nn.Conv2d(dim, dim // 8, 1)
        self.value_conv = nn.Conv2d(dim, dim, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        query = self.query_conv(features).flatten(2)
        key = self.key_conv(features).flatten(2)
        value = self.value_conv(features).flatten(2)
        attention = (query.transpose(1, 2) @ key).softmax(dim=-1)
        return self.gamma * (value @ attention.transpose(1, 2)).reshape_as(features) + features


def channel_attention(features: Tensor) -> Tensor:
    """Which channel looks at which: (B, C, H, W) to (B, C, C) in fp32 (equation 3).

    The paper has a plain softmax of the products. In the code channels look at those that they
    are least like.
    """
    # Sums of products of raw features: more than 16 bits hold.
    flat = features.float().flatten(2)
    return (-(flat @ flat.transpose(1, 2))).softmax(dim=-1)


class ChannelUse(nn.Module):
    """Features with a channel attention matrix applied, their own or the other branch's.

    One scalar serves self- and cross-attention of both branches (equation 4).
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor, channels: Tensor) -> Tensor:
        seen = (channels @ features.float().flatten(2)).reshape_as(features)
        return self.gamma * seen.to(features.dtype) + features


class FeatureEnhance(nn.Module):
    """Deformable Siamese attention (section 3.2), the same weights for both branches."""

    def __init__(self, dim: int, search_cells: int = SEARCH_CELLS) -> None:
        super().__init__()
        self.search_cells = search_cells
        self.pams = nn.ModuleList(SpatialAttention(dim) for _ in range(LEVELS))
        self.cam_uses = nn.ModuleList(ChannelUse() for _ in range(LEVELS))
        self.deform_convs = nn.ModuleList(DeformableConv(dim) for _ in range(LEVELS))

    def template(self, levels: list[Tensor]) -> Template:
        """What can be known of the template's (B, C, 7, 7) before there is a search region."""
        channels = [channel_attention(level) for level in levels]
        own = [self.own(place, levels[place], channels[place]) for place in range(LEVELS)]
        return Template(
            torch.stack(levels, dim=1), torch.stack(own, dim=1), torch.stack(channels, dim=1)
        )

    def own(self, place: int, features: Tensor, channels: Tensor) -> Tensor:
        """The sum of both self-attentions, at the level counted `place`."""
        return self.pams[place](features) + self.cam_uses[place](features, channels)

    def forward(
        self, template: Template, levels: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Attentional features of the template (B, C, 7, 7) and of the search region."""
        templates, searches = [], []
        for place, search in enumerate(levels):
            channels = channel_attention(search)
            own = self.own(place, search, channels)
            use, deform = self.cam_uses[place], self.deform_convs[place]
            kernel = template.own[:, place] + use(template.features[:, place], channels)
            search = own + use(search, template.channels[:, place])
            templates.append(deform(kernel, TEMPLATE_CELLS))
            searches.append(deform(search, self.search_cells))
        return templates, searches


class ConvNorm(nn.Module):
    """Convolution, normalisation, ReLU, by the names of the refinement module."""

    def __init__(self, channels: int, dim: int, kernel: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, dim, kernel, padding=kernel // 2, bias=False)
        self.BN256 = nn.BatchNorm2d(dim)

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.BN256(self.conv(features)))


class FeatureFusion(nn.Module):
    """Features for the refinement, from several stages (section 3.3)."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        dim, self.mask_cells = variant.dim, variant.mask_cells
        self.lateral_convs = nn.ModuleList(
            ConvNorm(channels, dim) for channels in (*variant.channels[:2], *[dim] * LEVELS)
        )
        self.xcorr = nn.ModuleList(DepthwiseXCorr(dim, dim) for _ in range(LEVELS))
        self.convs = nn.ModuleList(ConvNorm(dim, dim) for _ in range(LEVELS))

    def box(self, kernels: list[Tensor], searches: list[Tensor]) -> Tensor:
        """Correlations of all levels: (B, C, 25, 25)."""
        found = [
            conv(xcorr(kernel, search))
            for conv, xcorr, kernel, search in zip(
                self.convs, self.xcorr, kernels, searches, strict=True
            )
        ]
        return found[0] + found[1] + found[2]

    def mask(self, conv1: Tensor, layer1: Tensor, enhanced: Tensor) -> Tensor:
        """The search region's own features, shallow ones for their detail: (B, C, 63, 63)."""
        conv1_lateral, layer1_lateral, *laterals = cast('list[ConvNorm]', [*self.lateral_convs])
        total = conv1_lateral(self._resized(conv1)) + layer1_lateral(layer1)
        for place, lateral in enumerate(laterals):
            # The code resizes before the convolution; after it is the same for a quarter.
            small = lateral.BN256(lateral.conv(enhanced[:, place]))
            total = total + torch.relu(self._resized(small))
        return total

    def _resized(self, features: Tensor) -> Tensor:
        """(B, C, S, S) to (B, C, 63, 63)."""
        return functional.interpolate(
            features,
            size=(self.mask_cells, self.mask_cells),
            mode='bilinear',
            align_corners=True,
        )


class BoxHead(nn.Module):
    """The proposal's correction (tx, ty, tw, th), normalised (section 3.3)."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        dim, hidden = variant.dim, variant.box_hidden
        self.roi_pool_b = DeformableRoiPool(
            dim, 4, variant.box_cells, variant.search_px, variant.offset_hidden
        )
        self.tail_det = nn.Sequential(
            nn.Linear(dim * 16, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.tail_det_box = nn.Linear(hidden, 4)

    def forward(self, features: Tensor, rois: Tensor, each: int = 1) -> Tensor:
        """`each`: as for `DeformableRoiPool`."""
        pooled = self.roi_pool_b(features, rois, each)
        return self.tail_det_box(self.tail_det(pooled.flatten(1)))


class MaskHead(nn.Module):
    """The target's shape within a box (section 3.3): logits (B, 1, 64, 64)."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        dim = variant.dim
        self.roi_pool_m = DeformableRoiPool(
            dim, MASK_PX // 4, variant.mask_cells, variant.search_px, variant.offset_hidden
        )
        self.convs = nn.Sequential(*[ConvNorm(dim, dim, kernel=3) for _ in range(4)])
        self.upsample = nn.ConvTranspose2d(dim, dim, 4, stride=4)
        self.conv_logits = nn.Conv2d(dim, 1, 1)

    def forward(self, features: Tensor, rois: Tensor, each: int = 1) -> Tensor:
        """`each`: as for `DeformableRoiPool`."""
        found = self.convs(self.roi_pool_m(features, rois, each))
        return self.conv_logits(torch.relu(self.upsample(found)))


class SiamAttn(nn.Module):
    """The whole tracker. Images are BGR, 0 to 255, not normalised. Boxes are x1, y1, x2, y2."""

    def __init__(self, variant: Variant = VARIANTS['resnet50']) -> None:
        super().__init__()
        self.variant = variant
        self.backbone = ResNet50(variant.widths, variant.blocks)
        self.neck = AdjustNeck(variant.channels[-LEVELS:], variant.dim)
        self.feature_enhance = FeatureEnhance(variant.dim, variant.search_cells)
        self.rpn_head = MultiRPN(variant.dim)
        self.feature_fusion = FeatureFusion(variant)
        self.bbox_head = BoxHead(variant)
        self.mask_head = MaskHead(variant)

    def template(self, image: Tensor) -> Template:
        """All that depends on the template (B, 3, 127, 127) alone."""
        features: Features = self.backbone(image)
        return self.feature_enhance.template(self.neck(features.deep, crop=TEMPLATE_CELLS))

    def search(self, image: Tensor, template: Template) -> Output:
        """One frame: the search region (B, 3, 255, 255)."""
        features: Features = self.backbone(image)
        kernels, searches = self.feature_enhance(template, self.neck(features.deep))
        cls, loc = self.rpn_head(kernels, searches)
        return Output(
            cls,
            loc,
            self.feature_fusion.box(kernels, searches),
            features.conv1,
            features.layer1,
            torch.stack(searches, dim=1),
        )

    def refine(self, box_features: Tensor, rois: Tensor, each: int = 1) -> Tensor:
        """The correction (B, 4) of one box (B, 4) in each search region, in its pixels.

        each: boxes of one search region, side by side: there are B x each boxes and corrections.
        """
        return self.bbox_head(box_features, rois, each)

    def mask(
        self, conv1: Tensor, layer1: Tensor, enhanced: Tensor, rois: Tensor, each: int = 1
    ) -> Tensor:
        """Mask logits (B, 1, 64, 64) over one box (B, 4) in each search region; or over `each`."""
        return self.mask_head(self.feature_fusion.mask(conv1, layer1, enhanced), rois, each)


def check_shapes(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError unless these are the tensor shapes, by name, of a SiamAttn checkpoint."""
    probe = 'feature_enhance.deform_convs.0.weight'
    if shapes.get(probe) != (DIM, DIM, 3, 3):
        raise ValueError(
            f'this is no SiamAttn checkpoint: the tensor {probe!r} is missing or has another shape'
        )
