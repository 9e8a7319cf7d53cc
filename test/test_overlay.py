# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is drawn for people."""

import numpy as np
import pytest

from tracker_ros.geometry import Box
from tracker_ros.tracking import Observation, State
from tracker_ros.tracking.motion import Predicted
from tracker_ros.tracking.overlay import COLOURS, draw, draw_all
from tracker_ros.tracking.session import NOTHING

BOX = Box(100, 80, 60, 40)


def seen(box=BOX, state=State.TRACKING):
    return Observation(state, 'target_1', box, 0.8, 'seen')


def blank(height=240, width=320):
    return np.full((height, width, 3), 128, np.uint8)


def pixels_of(image, colour):
    return np.argwhere((image == colour).all(axis=2))


def test_it_draws_in_place():
    image = blank()
    draw(image, seen())
    assert (image != 128).any()


@pytest.mark.parametrize('state', [state for state in State if state is not State.IDLE])
def test_the_box_is_drawn_in_the_colour_of_the_state(state):
    image = blank()
    draw(image, seen(state=state))
    rows, columns = pixels_of(image[60:], COLOURS[state]).T
    assert abs(columns.min() - 100) <= 2
    assert abs(columns.max() - 160) <= 2
    assert abs(rows.min() + 60 - 80) <= 2
    assert abs(rows.max() + 60 - 120) <= 2
    assert (image[95:105, 120:140] == 128).all(), 'what is in the box stays visible'


def test_the_box_shrinks_with_the_picture():
    image = blank(120, 160)
    draw(image, seen(), scale=0.5)
    rows, columns = pixels_of(image[30:], COLOURS[State.TRACKING]).T
    assert abs(columns.min() - 50) <= 2
    assert abs(columns.max() - 80) <= 2
    assert abs(rows.max() + 30 - 60) <= 2


def test_states_are_told_apart_by_colour():
    assert len(set(COLOURS.values())) == len(State)


@pytest.mark.parametrize('observation', [NOTHING, seen(box=None, state=State.LOST)])
def test_without_a_box_only_the_line_at_the_top_is_drawn(observation):
    image = blank()
    draw(image, observation, 'a note')
    assert (image[:30] != 128).any()
    assert (image[60:] == 128).all()


def test_the_note_makes_the_line_longer():
    short, long = blank(), blank()
    draw(short, NOTHING)
    draw(long, NOTHING, 'vittrack 8.1 ms')
    ends = [np.argwhere((image != 128).any(axis=(0, 2))).max() for image in (short, long)]
    assert ends[1] > ends[0] + 50


@pytest.mark.parametrize(
    'box',
    [
        Box(-50, -40, 60, 50),
        Box(310, 230, 60, 50),
        Box(-1000, -1000, 5000, 5000),
        Box(1000, 1000, 10, 10),
        Box(-1e8, 3, 2e8, 5),
        Box(10, 60, 0.1, 0.1),
    ],
)
def test_a_box_across_or_beyond_the_border_is_drawn_as_far_as_it_goes(box):
    image = blank()
    draw(image, seen(box))
    assert image.shape == (240, 320, 3)


@pytest.mark.parametrize('size', [(1, 1), (8, 8), (3, 500), (2160, 3840)])
def test_pictures_of_any_size_are_drawn_on(size):
    image = blank(*size)
    draw(image, seen(Box(0, 0, 2, 2)), 'note')
    assert (image != 128).any()


def lost_at(box):
    predicted = Predicted(box, np.zeros(4), np.eye(8))
    return Observation(State.LOST, 'target_1', None, 0.1, 'gone', predicted=predicted)


def test_where_a_lost_target_is_expected_is_dashed():
    image, whole = blank(), blank()
    draw(image, lost_at(BOX))
    draw(whole, seen(state=State.LOST))
    dashed, solid = (len(pixels_of(each[60:], COLOURS[State.LOST])) for each in (image, whole))
    assert 0.2 * solid < dashed < 0.8 * solid
    rows, columns = pixels_of(image[60:], COLOURS[State.LOST]).T
    assert abs(columns.min() - 100) <= 3
    assert abs(rows.max() + 60 - 120) <= 3


@pytest.mark.parametrize('box', [Box(-1e7, -1e7, 2e7, 2e7), Box(-1e8, 3, 2e8, 5), Box(5, 5, 0, 0)])
def test_a_dashed_box_of_any_size_ends(box):
    image = blank()
    draw(image, lost_at(box))
    assert image.shape == (240, 320, 3)


def test_several_targets_have_a_line_and_a_box_each_and_a_name():
    first, second = (
        seen(),
        Observation(State.UNCERTAIN, 'second', Box(220, 160, 60, 40), 0.3, 'hm', confidence=0.3),
    )
    image, alone = blank(), blank()
    draw_all(image, [first, second])
    draw_all(alone, [first])
    for state, box in ((State.TRACKING, BOX), (State.UNCERTAIN, second.box)):
        _rows, columns = pixels_of(image[int(box.y) :], COLOURS[state]).T
        assert abs(columns.min() - box.x) <= 2
    assert (alone[30:60] == 128).all()
    assert (image[30:45] != 128).any(), 'the second line'
    assert (alone[66:77, 95:150] == 128).all()
    assert (image[66:77, 95:150] != 128).any(), 'the name above the box'


def test_the_confidence_is_shown_not_the_score():
    one, other, third = blank(), blank(), blank()
    draw(one, Observation(State.TRACKING, 'a', None, 0.9, '', confidence=0.5))
    draw(other, Observation(State.TRACKING, 'a', None, 0.1, '', confidence=0.5))
    draw(third, Observation(State.TRACKING, 'a', None, 0.9, '', confidence=0.7))
    assert (one == other).all()
    assert (one != third).any()
