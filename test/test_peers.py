# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""OpenCV's trackers behind our contract."""

import numpy as np
import pytest

from tracker_ros.evaluation.peers import PEERS, OpenCvTracker, create_peer
from tracker_ros.geometry import Box
from tracker_ros.trackers import TrackerError

BACKGROUND = np.random.default_rng(3).integers(0, 60, (160, 240, 3)).astype(np.uint8)
TARGET = np.random.default_rng(4).integers(120, 255, (40, 40, 3)).astype(np.uint8)


def frame(x, y):
    image = BACKGROUND.copy()
    image[y : y + 40, x : x + 40] = TARGET
    return image


@pytest.mark.parametrize('name', ['opencv_csrt', 'opencv_kcf'])
def test_a_moving_patch_is_followed(name):
    tracker = create_peer(name)
    tracker.start(frame(60, 60), Box(60, 60, 40, 40))
    for step in range(1, 6):
        estimate = tracker.step(frame(60 + 3 * step, 60 + step))
    assert estimate.score == 1.0
    assert estimate.box.iou(Box(75, 65, 40, 40)) > 0.5


def test_mil_answers():
    """It draws its samples at random, from threads: where it goes differs from run to run."""
    tracker = create_peer('opencv_mil')
    tracker.start(frame(60, 60), Box(60, 60, 40, 40))
    estimate = tracker.step(frame(60, 60))
    assert estimate.score == 1.0
    assert (estimate.box.w, estimate.box.h) == (40, 40)
    assert estimate.box.iou(Box(60, 60, 40, 40)) > 0


def test_a_lost_target_keeps_its_box_with_score_zero():
    class Blind:
        def init(self, image, box):
            assert box == (10, 20, 31, 40)

        def update(self, image):
            return False, (0, 0, 0, 0)

    tracker = OpenCvTracker(Blind)
    tracker.start(frame(0, 0), Box(10.4, 19.6, 30.7, 40.2))
    estimate = tracker.step(frame(0, 0))
    assert estimate.box == Box(10.4, 19.6, 30.7, 40.2)
    assert estimate.score == 0.0


def test_what_cannot_be_done_is_refused_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.setenv('TRACKER_ROS_CACHE', str(tmp_path))
    with pytest.raises(TrackerError, match=r"no peer 'opencv_x'.*opencv_csrt"):
        create_peer('opencv_x')
    with pytest.raises(TrackerError, match=r'vittrack.*--weights.*models fetch vittrack'):
        create_peer('opencv_vit', tmp_path)
    tracker = create_peer('opencv_csrt')
    with pytest.raises(TrackerError, match='step before start'):
        tracker.step(frame(0, 0))
    with pytest.raises(TrackerError, match='no text'):
        tracker.start(frame(0, 0), Box(0, 0, 40, 40), 'a red car')


def test_trackers_with_weights_run_on_published_files(shared):
    for name in ('opencv_vit', 'opencv_nano'):
        tracker = create_peer(name, shared / 'weights')
        tracker.start(frame(60, 60), Box(60, 60, 40, 40))
        assert tracker.step(frame(62, 60)).box.is_finite()
        assert PEERS[name].package
