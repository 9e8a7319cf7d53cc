# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where a lost target is looked for, and what of the finds is proposed."""

import numpy as np
import pytest
from fakes import Square

from tracker_ros.geometry import Box
from tracker_ros.tracking.colours import Colours
from tracker_ros.tracking.recovery import Candidate, Care, Needed, Search, shifted

SQUARE = Square()
LOST_AT = SQUARE.box(30, 40)
NEEDED = Needed(near=0.4, far=0.7, overwhelming=0.9)


def search(stamp_s=0.0):
    return Search(Colours(SQUARE.at(30, 40), LOST_AT), LOST_AT, stamp_s)


def places(search, image, count=3, stamp_s=0.0, expected=LOST_AT, watched=LOST_AT):
    return search.places(image, count, stamp_s, expected, watched)


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        ({'time_share': 0.0}, 'time_share must be above 0 and at most 1, not 0'),
        ({'time_share': 1.5}, 'not 1.5'),
        ({'time_share': float('nan')}, 'not nan'),
        ({'most_looks': 0}, 'most_looks must be at least 1, not 0'),
    ],
)
def test_impossible_care_is_refused(values, words):
    with pytest.raises(ValueError, match=words):
        Care(**values)


def test_the_first_place_is_where_the_colours_are():
    first = places(search(), SQUARE.at(150, 90))[0]
    assert first.iou(SQUARE.box(150, 90)) > 0.7


def test_without_the_colours_the_first_place_is_near_the_loss():
    grey = np.full((160, 240, 3), 128, np.uint8)
    first = places(search(), grey)[0]
    assert abs(first.cx - LOST_AT.cx) < LOST_AT.w
    assert abs(first.cy - LOST_AT.cy) < LOST_AT.h


def test_in_a_sweep_no_place_comes_twice_and_all_of_the_image_is_seen():
    hunt, grey = search(), np.full((160, 240, 3), 128, np.uint8)
    seen = []
    while hunt.propose([], NEEDED, 0.0) is None and len(seen) < 100:
        found = places(hunt, grey, stamp_s=100.0)
        if not found or hunt.sweeps:
            break
        seen += found
    centres = {(box.cx, box.cy) for box in seen}
    assert len(centres) == len(seen)
    for x, y in [(30, 30), (210, 30), (30, 130), (210, 130), (120, 80)]:
        assert min(abs(box.cx - x) + abs(box.cy - y) for box in seen) < 3 * LOST_AT.w


def test_a_hint_comes_first_and_once():
    hunt, hint = search(), Box(200, 20, 30, 30)
    hunt.hint(hint)
    assert places(hunt, SQUARE.ground, 1) == [hint]
    assert places(hunt, SQUARE.ground, 1) != [hint]


def test_where_the_target_was_going_comes_before_the_colours():
    hunt, ahead = search(), SQUARE.box(110, 40)
    first, second, *_ = places(hunt, SQUARE.at(150, 90), expected=ahead)
    assert first == ahead
    assert second.iou(SQUARE.box(150, 90)) > 0.7


def test_later_sweeps_look_for_other_sizes():
    hunt, widths = search(), set()
    for _ in range(200):
        widths |= {round(box.w, 1) for box in places(hunt, SQUARE.ground, 6)}
        hunt.propose([], NEEDED, 0.0)
    assert min(widths) < 0.9 * LOST_AT.w
    assert max(widths) > 1.2 * LOST_AT.w


def test_what_is_near_is_proposed_at_once():
    hunt, near = search(), Candidate(Box(60, 40, 40, 40), 0.41, True)
    assert hunt.propose([Candidate(near.box, 0.39, True)], NEEDED, 0.0) is None
    assert hunt.propose([near], NEEDED, 0.0) == near


def test_far_away_the_best_of_a_sweep_is_proposed_unless_one_is_overwhelming():
    good, better, great = (Candidate(Box(x, 9, 40, 40), x / 100, False) for x in (71, 80, 91))
    assert search().propose([Candidate(good.box, 0.69, False)], NEEDED, 0.0) is None
    hunt = search()
    assert hunt.propose([great], NEEDED, 0.0) == great
    found = []
    for candidate in [good, better, *[good] * 100]:
        places(hunt, SQUARE.ground, 1)
        found.append(hunt.propose([candidate], NEEDED, 0.0))
        if hunt.sweeps:
            break
    assert len(found) > 2
    assert found == [None] * (len(found) - 1) + [better]


def test_what_was_seen_where_the_target_could_not_be_is_another():
    hunt, box = search(), Box(100, 100, 40, 40)
    then, later = Candidate(box, 0.6, False), Candidate(box, 0.6, True)
    assert hunt.propose([then], NEEDED, 0.0) is None
    for stamp_s in (1.0, 2.5, 4.0, 5.5):
        assert hunt.propose([later], NEEDED, stamp_s) is None
    assert hunt.propose([later], NEEDED, 6.5) == later, 'it cannot be held against it for ever'

    hunt = search()
    hunt.propose([then], NEEDED, 0.0)
    assert hunt.propose([later], NEEDED, 2.5) == later, 'it was gone for a while'


def test_what_was_refused_is_not_proposed_again_for_a_while():
    hunt = search()
    hunt.refuse(Box(100, 100, 40, 40), 1.0)
    again = Candidate(Box(105, 100, 40, 40), 0.95, True)
    elsewhere = Candidate(Box(10, 20, 40, 40), 0.9, True)
    assert hunt.propose([again], NEEDED, 1.5) is None
    assert hunt.propose([again, elsewhere], NEEDED, 1.5) == elsewhere
    assert hunt.propose([again], NEEDED, 9.0) == again


def test_places_go_with_the_camera():
    hunt = search()
    refused = Box(100, 100, 40, 40)
    hunt.refuse(refused, 0.0)
    hunt.moved(np.array([[1.0, 0.0, -60.0], [0.0, 1.0, 10.0]]))
    assert hunt.propose([Candidate(refused, 0.9, True)], NEEDED, 0.0) is not None
    assert hunt.propose([Candidate(Box(40, 110, 40, 40), 0.9, True)], NEEDED, 0.0) is None


def test_a_box_is_shifted_by_its_centre():
    matrix = np.array([[0.0, -1.0, 200.0], [1.0, 0.0, 0.0]])
    assert shifted(Box(10, 20, 40, 20), matrix) == Box(150, 20, 40, 20)
