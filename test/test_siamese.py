# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from tracker_ros.networks.siamese import (
    AdjustNeck,
    centre_crop,
    shifted_xcorr,
    xcorr_depthwise,
)


def test_correlation_is_that_of_each_target_and_channel():
    torch.manual_seed(0)
    search, kernel = torch.randn(2, 3, 8, 9), torch.randn(2, 3, 4, 3)
    found = xcorr_depthwise(search, kernel)
    assert found.shape == (2, 3, 5, 7)
    expected = (search[1, 2, 3:7, 4:7] * kernel[1, 2]).sum()
    torch.testing.assert_close(found[1, 2, 3, 4], expected)


def test_the_form_for_graphs_is_the_same():
    torch.manual_seed(1)
    search, kernel = torch.randn(3, 4, 11, 11), torch.randn(3, 4, 5, 5)
    torch.testing.assert_close(shifted_xcorr(search, kernel), xcorr_depthwise(search, kernel))


@pytest.mark.parametrize(('side', 'crop', 'cells'), [(15, 7, (4, 11)), (16, 8, (4, 12))])
def test_the_crop_is_central(side, crop, cells):
    features = torch.arange(side).expand(1, 1, side, side)
    assert centre_crop(features, crop)[0, 0, 0].tolist() == list(range(*cells))


def test_cropping_before_the_layer_is_cropping_after_it():
    torch.manual_seed(2)
    neck = AdjustNeck((4, 6, 4, 6), dim=8).eval()
    features = [torch.randn(2, 4, 15, 15), torch.randn(2, 6, 15, 15)]
    cropped, whole = neck(features, crop=7, first=2), neck(features, first=2)
    assert [level.shape for level in cropped] == [(2, 8, 7, 7)] * 2
    for level, expected in zip(cropped, whole, strict=True):
        torch.testing.assert_close(level, centre_crop(expected, 7))
    own = {name.split('.')[0] for name in neck.state_dict()}
    assert own == {'downsample2', 'downsample3', 'downsample4', 'downsample5'}
    assert not torch.allclose(neck(features)[0], whole[0]), 'the branches have layers of their own'
