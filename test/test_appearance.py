# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a target looks like, in a few numbers."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from tracker_ros.geometry import Box, Image
from tracker_ros.tracking.appearance import NOTHING, describe


def scene(seed: int = 0) -> Image:
    """Blobs of all colours, (240, 320, 3)."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    return np.asarray(cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC), np.uint8)


BOX = Box(100.0, 80.0, 60.0, 40.0)


def test_the_same_box_is_like_itself() -> None:
    found = describe(scene(), BOX)
    similarity = found.similarity(found)
    assert similarity.colour == pytest.approx(1.0, abs=1e-5)
    assert similarity.pattern == pytest.approx(1.0, abs=1e-5)
    assert similarity.mean == pytest.approx(1.0, abs=1e-5)


def test_another_place_is_less_alike_than_the_same_one_in_another_light() -> None:
    image = scene()
    target = describe(image, BOX)
    elsewhere = target.similarity(describe(image, Box(10.0, 150.0, 60.0, 40.0)))
    darker = target.similarity(describe((0.7 * image).astype(np.uint8), BOX))
    assert darker.pattern > 0.95
    assert elsewhere.pattern < 0.6
    assert elsewhere.mean < darker.mean


def test_the_same_thing_at_twice_the_size_is_alike() -> None:
    image = scene()
    larger = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    similarity = describe(image, BOX).similarity(
        describe(larger, Box(2 * BOX.x, 2 * BOX.y, 2 * BOX.w, 2 * BOX.h))
    )
    assert similarity.colour > 0.9
    assert similarity.pattern > 0.98


def test_colours_are_compared_wherever_they_are() -> None:
    image = scene()
    upside_down = np.ascontiguousarray(image[::-1, ::-1])
    turned = Box(320 - BOX.x - BOX.w, 240 - BOX.y - BOX.h, BOX.w, BOX.h)
    similarity = describe(image, BOX).similarity(describe(upside_down, turned))
    assert similarity.colour > 0.97
    assert similarity.pattern < 0.8


def test_a_flat_patch_has_colours_but_no_pattern() -> None:
    flat = np.full((240, 320, 3), (40, 90, 160), np.uint8)
    found = describe(flat, BOX)
    assert not found.pattern.any()
    assert found.similarity(found).colour == pytest.approx(1.0)
    assert found.similarity(found).pattern == 0.0


@pytest.mark.parametrize(
    'box',
    [
        Box(-200.0, 10.0, 50.0, 50.0),
        Box(400.0, 10.0, 50.0, 50.0),
        Box(10.0, 10.0, 0.0, 5.0),
        Box(math.nan, 10.0, 5.0, 5.0),
        Box(10.0, math.inf, 5.0, 5.0),
    ],
)
def test_where_nothing_is_inside_there_is_nothing(box: Box) -> None:
    found = describe(scene(), box)
    assert found is NOTHING
    assert found.similarity(found).mean == 0.0


@pytest.mark.parametrize('box', [Box(-20.0, -20.0, 60.0, 60.0), Box(5.2, 7.9, 1.0, 1.0)])
def test_a_part_inside_is_described(box: Box) -> None:
    found = describe(scene(), box)
    assert np.linalg.norm(found.colours) == pytest.approx(1.0, abs=1e-5)


def test_the_image_is_only_read() -> None:
    image = scene()
    before = image.copy()
    describe(image, BOX)
    np.testing.assert_array_equal(image, before)
