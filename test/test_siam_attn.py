# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import parity
import pytest
import torch
from torch import nn
from torch.nn import functional

from tracker_ros.networks.deformable import DeformableConv, DeformableRoiPool
from tracker_ros.networks.siam_attn import (
    FeatureEnhance,
    SiamAttn,
    channel_attention,
    check_shapes,
)

TOLERANCE = 5e-5
PARAMETERS = {
    'backbone': 45_528_128,
    'neck': 919_040,
    'rpn_head': 7_503_456,
    'feature_enhance': 2_140_668,
    'feature_fusion': 4_416_768,
    'mask_head': 72_094_721,
    'bbox_head': 7_640_100,
}


def build(rule: dict) -> SiamAttn:
    """The network with the made-up weights of the golden numbers' rule."""
    return parity.load_made_up(SiamAttn(), rule).requires_grad_(False)


def empty() -> SiamAttn:
    """The network without the time that initial weights take."""
    with torch.device('meta'):
        return SiamAttn().eval()


@pytest.fixture(scope='module')
def official(parity_folder) -> SiamAttn:
    return build(parity.Golden.facts_of(parity_folder, 'module_siamattn')['rule'])


def test_parity_weights_rule(parity_folder, official):
    """Names, shapes and made-up values are those of the official state dict."""
    golden = parity.Golden.facts_of(parity_folder, 'weights_siamattn')
    parity.check_weights(golden, official.state_dict())


def test_parity_modules(parity_folder, official):
    """Every named point inside the network equals the official one."""
    golden = parity.Golden(parity_folder, 'module_siamattn')
    for case in golden.facts['cases']:
        prefix = f'{case["name"]}/'
        keys = {key.removeprefix(prefix) for key in golden.arrays if key.startswith(prefix)}
        with torch.no_grad():
            found = points(
                official,
                image(case['template_seed'], 127),
                image(case['search_seed'], 255),
                *(
                    torch.from_numpy(golden.arrays[f'{prefix}rois_{kind}'][:, 1:])
                    for kind in ('box', 'mask')
                ),
            )
        assert keys - set(found) == {'rois_box', 'rois_mask'}
        for key in sorted(found):
            assert parity.distance(found[key].numpy(), golden, prefix + key) <= TOLERANCE, (
                prefix + key
            )


def image(seed: int, size: int) -> torch.Tensor:
    pixels = np.floor(parity.struct_noise(seed, size, size) * np.float32(256))
    return torch.from_numpy(pixels[None])


def points(
    network: SiamAttn,
    template: torch.Tensor,
    search: torch.Tensor,
    boxes: torch.Tensor,
    mask_boxes: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """The values that the golden numbers name, by their names."""
    found = {}
    z, x = network.backbone(template), network.backbone(search)
    enhance = network.feature_enhance
    necks = {'z': network.neck(z.deep, crop=7), 'x': network.neck(x.deep)}
    for name, features, pixels in (('z', z, template), ('x', x, search)):
        found[f'{name}_conv1'] = network.backbone.conv1(pixels)
        for stage, value in enumerate((features.layer1, *features.deep), start=1):
            found[f'{name}_layer{stage}'] = value
        for level, value in enumerate(necks[name]):
            found[f'{name}_neck{level + 2}'] = value
            found[f'{name}_pam{level}'] = enhance.pams[level](value)
            found[f'{name}_cam_matrix{level}'] = channel_attention(value)
    for one, other in ('zz', 'xx', 'zx', 'xz'):
        for level, value in enumerate(necks[one]):
            found[f'{one}{other}{level}'] = enhance.cam_uses[level](
                value, found[f'{other}_cam_matrix{level}']
            )
    for one, other in ('zx', 'xz'):
        for level in range(3):
            total = sum(found[f'{name}{level}'] for name in (f'{one}_pam', one + one, one + other))
            found[f'{one}_offset{level}'] = enhance.deform_convs[level].conv_offset(total)
    kernels, searches = enhance(enhance.template(necks['z']), necks['x'])
    for level in range(3):
        found[f'z_enh{level}'], found[f'x_enh{level}'] = kernels[level], searches[level]
        proposals = network.rpn_head.levels[level]
        found[f'rpn{level + 2}_cls'] = proposals.cls(kernels[level], searches[level])
        found[f'rpn{level + 2}_loc'] = proposals.loc(kernels[level], searches[level])
    output = network.search(search, network.template(template))
    found.update(cls=output.cls, loc=output.loc, b_fused=output.box_features)
    shallow = (output.conv1, output.layer1, output.enhanced)
    found['m_fused'] = network.feature_fusion.mask(*shallow)
    box_pool, mask_pool = network.bbox_head.roi_pool_b, network.mask_head.roi_pool_m
    # Of the last box, though the others are of the first and their note says so of all.
    found['box_roi_feat_nooffset'] = box_pool.pool(output.box_features, boxes[-1:]).flatten(1)
    first_look = box_pool.pool(output.box_features, boxes[:1])
    found['box_roi_offset'] = box_pool.offsets(first_look).flatten(1)
    found['box_roi_feat'] = box_pool(output.box_features, boxes[:1])
    found['bbox_pred'] = network.refine(output.box_features.expand(len(boxes), -1, -1, -1), boxes)
    found['mask_roi_offset'] = mask_pool.offsets(
        mask_pool.pool(found['m_fused'], mask_boxes[:1])
    ).flatten(1)
    found['mask_roi_feat'] = mask_pool(found['m_fused'], mask_boxes[:1])
    found['mask_logits'] = network.mask(
        *(value.expand(len(mask_boxes), *value.shape[1:]) for value in shallow), mask_boxes
    )
    return found


def test_parameter_totals():
    network = empty()
    own = {
        name: sum(value.numel() for value in part.parameters())
        for name, part in network.named_children()
    }
    assert own == PARAMETERS
    assert sum(own.values()) == 140_242_881


def test_other_checkpoints_are_named_as_such():
    check_shapes({name: tuple(value.shape) for name, value in empty().state_dict().items()})
    with pytest.raises(ValueError, match=r'no SiamAttn checkpoint.*deform_convs'):
        check_shapes({'backbone.conv1.weight': (64, 3, 7, 7)})


def test_caching_the_template_changes_nothing():
    """Attention with all of it computed in every frame, written out as in the paper."""
    torch.manual_seed(4)
    enhance = FeatureEnhance(64).eval()
    with torch.no_grad():
        for name, parameter in enhance.named_parameters():
            parameter += (0.5 if 'gamma' in name else 0.05) * torch.randn_like(parameter)
    templates, searches = torch.randn(3, 2, 64, 7, 7), torch.randn(3, 2, 64, 31, 31)
    with torch.no_grad():
        found = enhance(enhance.template([*templates]), [*searches])
        for level, (z, x) in enumerate(zip(templates, searches, strict=True)):
            use, deform = enhance.cam_uses[level], enhance.deform_convs[level]
            for features, other, side, value in (
                (z, x, 7, found[0][level]),
                (x, z, 31, found[1][level]),
            ):
                total = (
                    enhance.pams[level](features)
                    + use(features, channel_attention(features))
                    + use(features, channel_attention(other))
                )
                torch.testing.assert_close(value, deform(total, side), atol=1e-6, rtol=0)


def test_channels_attend_as_in_the_official_code():
    features = torch.randn(2, 8, 5, 5)
    flat = features.flatten(2)
    products = flat @ flat.transpose(1, 2)
    expected = (products.amax(dim=-1, keepdim=True) - products).softmax(dim=-1)
    torch.testing.assert_close(channel_attention(features), expected)


def test_deformable_convolution_without_offsets_is_plain():
    torch.manual_seed(5)
    deform = DeformableConv(6)
    features = torch.randn(2, 6, 9, 9)
    expected = functional.conv2d(features, deform.weight, padding=1)
    torch.testing.assert_close(deform(features, 9), expected)


def test_deformable_convolution_looks_where_the_offsets_say():
    """All taps one row down and two columns to the right: the result is shifted."""
    torch.manual_seed(6)
    deform = DeformableConv(4)
    with torch.no_grad():
        deform.conv_offset.bias.copy_(torch.tensor([1.0, 2.0] * 9))
    features = torch.randn(1, 4, 8, 8)
    shifted = functional.pad(features, (0, 2, 0, 1))[..., 1:, 2:]
    found, expected = (
        deform(features, 8),
        functional.conv2d(shifted, deform.weight, padding=1),
    )
    # Where the shift leaves the features alone the padding is not the same.
    torch.testing.assert_close(found[..., 1:, 1:], expected[..., 1:, 1:])


def test_roi_pooling_follows_its_rule():
    """Against one sample after the other; some lie outside."""
    torch.manual_seed(7)
    side, cells, image_px = 3, 11, 44
    pool = DeformableRoiPool(2, side, cells, image_px, hidden=4)
    features = torch.randn(2, 2, cells, cells)
    rois = torch.tensor([[-6.5, 3.2, 20.5, 47.9], [10.0, 12.0, 12.0, 11.0]])
    offsets = 3 * torch.randn(2, 2, side, side)
    found = pool.pool(features, rois, offsets)
    for target in range(2):
        for row in range(side):
            for column in range(side):
                expected = one_bin(
                    features[target],
                    [round_away(float(value)) for value in rois[target]],
                    (column, row),
                    offsets[target, :, row, column].tolist(),
                    side,
                    cells / image_px,
                )
                torch.testing.assert_close(
                    found[target, :, row, column], expected, atol=1e-5, rtol=1e-4
                )


def round_away(value: float) -> float:
    return math.copysign(math.floor(abs(value) + 0.5), value)


def one_bin(features, roi, place, offset, side, scale):
    """The mean over the samples of one bin, as the official kernel loops over them."""
    cells = features.shape[-1]
    samples: list[list[float]] = []
    for axis in (0, 1):
        start = roi[axis] * scale - 0.5
        length = max((roi[axis + 2] + 1) * scale - 0.5 - start, 0.1)
        first = start + place[axis] * length / side + offset[axis] * 0.1 * length
        samples.append([first + step * length / side / 4 for step in range(4)])
    total, count = torch.zeros(len(features)), 0
    for y in samples[1]:
        for x in samples[0]:
            if not (-0.5 <= x <= cells - 0.5 and -0.5 <= y <= cells - 0.5):
                continue
            inside_x, inside_y = min(max(x, 0), cells - 1), min(max(y, 0), cells - 1)
            left, top = math.floor(inside_x), math.floor(inside_y)
            right, bottom = min(left + 1, cells - 1), min(top + 1, cells - 1)
            u, v = inside_x - left, inside_y - top
            total += (features[:, top, left] * (1 - u) + features[:, top, right] * u) * (1 - v)
            total += (features[:, bottom, left] * (1 - u) + features[:, bottom, right] * u) * v
            count += 1
    return total / max(count, 1)


def test_epsilons_are_the_official_ones():
    norms = [part for part in empty().modules() if isinstance(part, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-5}
