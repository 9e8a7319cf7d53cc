# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is typed after a command."""

import argparse

import pytest

from tracker_ros.arguments import box, box_or_point
from tracker_ros.geometry import Box


def test_boxes_and_points():
    assert box('1,2.5,30,40') == box_or_point('1,2.5,30,40') == Box(1.0, 2.5, 30.0, 40.0)
    assert box_or_point('12,34.5') == Box(12.0, 34.5, 0.0, 0.0)


@pytest.mark.parametrize('parse', [box, box_or_point])
@pytest.mark.parametrize('text', ['', '1', '1,2,3', 'a,b', '1,nan', '1,2,0,4', '1,2,3,4,5', '1;2'])
def test_what_is_neither_is_named(parse, text):
    with pytest.raises(argparse.ArgumentTypeError, match='is no box'):
        parse(text)
