# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the page says of sequences that were played into the running node."""

import re

import numpy as np
import pytest
from test_page import COUNT, NASTY, Links, runs

from tracker_ros.evaluation.page import page
from tracker_ros.evaluation.through_node import Replay, replay_table, section


def played(run, ages_ms, lost=0):
    """A replay of the run's sequence. ages_ms: of the frames after the first, nan for dropped."""
    ages = np.array([np.nan, *ages_ms]) / 1000
    return Replay(run, ages, np.zeros(len(run.sequence)), lost)


def points_of(svg):
    """Points of each line by its name, in pixels."""
    found = re.findall(r'<polyline points="([^"]*)"[^>]*><title>([^<]*)</title>', svg)
    return {
        name: [tuple(map(float, point.split(','))) for point in points.split()]
        for points, name in found
    }


def test_dropped_frames_and_ages_are_in_the_page(tmp_path):
    good, bad = runs(tmp_path)
    replays = [played(bad, [4, 6, np.nan, 8, np.nan], lost=1)]
    text = page('data', [good, bad], [], (), None, (replays, 25.0))
    _, part = text.split('<h2 id="through-ros">')
    assert part.startswith('Through the node, at 25 frames a second')
    row = re.search(r'<tr><td>bad</td>(.*?)</tr>', part).group(1)
    cells = re.findall(r'<td>([^<]*)</td>', row)
    assert cells[6:] == ['2', '1', str(COUNT), '6.0', '7.8', '8.0']
    assert cells[2] == '+0.000', 'the same boxes offline'
    assert 'clip' in part.split('Each clip')[1]
    found = Links(text)
    assert all(link[1:] in found.anchors for link in found.links)


def test_the_curve_of_ages_ends_at_the_share_that_was_answered(tmp_path):
    good, _ = runs(tmp_path)
    text = section([played(good, [4, 6, np.nan, 8, np.nan])], [good], 30.0, {'good': 0})
    ages, success = re.findall(r'<svg.*?</svg>', text, re.DOTALL)
    bottom, top = (float(y) for y in re.findall(r'<path d="M52 ([\d.]+)H', ages)[::5])
    (points,) = points_of(ages).values()
    assert (bottom - points[-1][1]) / (bottom - top) == pytest.approx(3 / 5, abs=0.01)
    assert points[0][1] == pytest.approx(bottom)
    assert set(points_of(success)) == {'0.952 good, node', '0.952 good'}
    dashed = re.findall(r'<(\w+)[^>]*stroke-dasharray', success)
    assert dashed == ['polyline', 'path']


def test_offline_runs_of_other_sequences_are_not_compared(tmp_path):
    good, _ = runs(tmp_path)
    (other, _) = runs(tmp_path, 'other')
    replays = [played(good, [4] * (COUNT - 1))]
    assert 'nan' in replay_table(replays, [other]).splitlines()[2]
    assert 'nan' not in replay_table(replays, [other, good]).splitlines()[2]


def test_a_node_that_answered_nothing_has_a_page_as_well(tmp_path):
    good, _ = runs(tmp_path)
    text = section([played(good, [np.nan] * (COUNT - 1))], [good], 30.0, {})
    assert f'<td>{COUNT - 1}</td>' in text
    assert section([], [good], 30.0, {}) == ''


def test_names_stay_texts(tmp_path):
    nasty, _ = runs(tmp_path, NASTY, (NASTY, 'b'))
    text = section([played(nasty, [4] * (COUNT - 1))], [nasty], 30.0, {})
    assert '<script' not in text
