# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Clips of a training collection, as events are composed on them."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from tracker_ros.evaluation.events import compose
from tracker_ros.training.clips import clips_of
from tracker_ros.training.pictures import read_collection


@pytest.fixture
def collection(tmp_path):
    """Two clips, of 12 and of 5 frames; the first lacks its target in frame 3."""
    folder = tmp_path / 'videos'
    lines = []
    for name, count in (('long', 12), ('short', 5)):
        images = folder / 'made' / name / 'img'
        images.mkdir(parents=True)
        boxes = []
        for number in range(count):
            picture = np.full((48, 64, 3), 10 * number, np.uint8)
            cv2.imwrite(str(images / f'{number:05d}.jpg'), picture)
            boxes.append([10 + number, 20, 8, 6])
        if name == 'long':
            boxes[3] = None
        lines.append({'seq': name, 'frames': count, 'w': 64, 'h': 48, 'mask': False, 'gt': boxes})
    (folder / 'made.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    return read_collection(tmp_path)


def test_a_clip_shows_its_frames_with_the_target(collection):
    (clip,) = clips_of(collection, rate_hz=10.0)
    assert clip.name == 'made_long'
    assert (clip.width, clip.height, clip.rate_hz) == (64, 48, 10.0)
    assert clip.truth[:, 0].tolist() == [10, 11, 12, *range(14, 22)]
    greys = [round(frame.mean()) for frame in clip.frames()]
    assert greys == pytest.approx([0, 10, 20, *range(40, 120, 10)], abs=2)
    assert len(clip) == 11


def test_short_clips_are_left_out_unless_they_are_wanted(collection):
    names = [clip.name for clip in clips_of(collection, least_frames=5)]
    assert names == ['made_long', 'made_short']


def test_events_are_composed_on_clips(collection):
    clips = clips_of(collection, least_frames=5)
    event = compose(clips[0], 'cut', 0, others=clips, duration_s=0.5)
    assert len(list(event.frames())) == len(event)
    assert event.hides
