# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where the colours of a target are."""

import numpy as np
import pytest
from fakes import Square

from tracker_ros.geometry import Box
from tracker_ros.tracking.colours import Colours


@pytest.mark.parametrize(
    ('side', 'width', 'height'), [(40, 240, 160), (12, 640, 480), (90, 300, 200)]
)
def test_the_best_cell_has_the_target_in_it(side, width, height):
    square = Square(side, width, height)
    colours = Colours(square.at(20, 30), square.box(20, 30))
    x, y = width - side - 15, height - side - 10
    likely, centres = colours.peaks(square.at(x, y), side, side, 1.5 * side)
    best = int(likely.argmax())
    assert likely[best] > 0.8
    assert np.abs(centres[best] - (x + side / 2, y + side / 2)).max() < 0.3 * side
    assert likely.min() < 0.3


def test_cells_cover_the_image_each_with_a_place_of_its_own():
    square = Square()
    colours = Colours(square.at(20, 30), square.box(20, 30))
    likely, centres = colours.peaks(square.ground, 40, 40, 60)
    assert len(likely) == len(centres) == 4 * 3
    assert len(np.unique(centres // 60, axis=0)) == 12
    assert (centres >= 0).all()
    assert (centres[:, 0] <= 240).all()
    assert (centres[:, 1] <= 160).all()


@pytest.mark.parametrize('box', [Box(0, 0, 1, 1), Box(238, 158, 2, 2), Box(0, 0, 240, 160)])
def test_any_box_that_a_target_can_have_will_do(box):
    square = Square()
    colours = Colours(square.ground, box)
    likely, _ = colours.peaks(square.ground, box.w, box.h, 20.0)
    assert np.isfinite(likely).all()


def test_what_was_never_seen_counts_for_nothing():
    black, white = (np.full((60, 80, 3), value, np.uint8) for value in (0, 255))
    likely, _ = Colours(black, Box(20, 20, 20, 20)).peaks(white, 20, 20, 20.0)
    assert likely.max() <= 0.51
