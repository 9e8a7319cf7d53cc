# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sequences through the running node: what a consumer of the detections is left with."""

import json
import math

import cv2
import numpy as np
import pytest
from vision_msgs.msg import Detection2D, ObjectHypothesisWithPose

from tracker_ros.cli import main
from tracker_ros.evaluation import through_node
from tracker_ros.evaluation.sequences import Sequence, read_sequences
from tracker_ros.ros import replay
from tracker_ros.ros.rig import Received, to_stamp

NOISE = np.random.default_rng(6)
BACKGROUND = NOISE.integers(0, 80, (120, 160, 3)).astype(np.uint8)
TARGET = cv2.resize(NOISE.integers(100, 255, (8, 8, 3)).astype(np.uint8), (32, 32))
FRAMES = 12


@pytest.fixture
def data(tmp_path):
    """Two sequences of different image sizes in which a textured square moves."""
    for name, scale in (('small', 1), ('large', 2)):
        images = tmp_path / 'data' / name / 'img'
        images.mkdir(parents=True)
        rows = []
        for index in range(FRAMES):
            x, y = 30 + 3 * index, 40 + 2 * index
            frame = BACKGROUND.copy()
            frame[y : y + 32, x : x + 32] = TARGET
            frame = cv2.resize(frame, None, fx=scale, fy=scale)
            cv2.imwrite(str(images / f'{index:02d}.png'), frame)
            rows.append(f'{scale * x},{scale * y},{scale * 32},{scale * 32}')
        (images.parent / 'groundtruth.txt').write_text('\n'.join(rows))
    return tmp_path / 'data'


class FakeRig:
    """Holds the detections of a node that never ran."""

    def __init__(self, detections):
        self._detections = detections

    def received(self, stamp_ns):
        return self._detections.get(stamp_ns)


def detection(stamp_ns, age_ns, center=None, score=0.0):
    message = Detection2D()
    message.header.stamp = to_stamp(stamp_ns)
    if center is not None:
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.score = score
        message.results = [hypothesis]
        message.bbox.center.position.x, message.bbox.center.position.y = center
        message.bbox.size_x = message.bbox.size_y = 10.0
    return Received(message, stamp_ns + age_ns)


def test_a_frame_without_a_box_keeps_the_last_one(tmp_path):
    truth = np.tile([0.0, 0.0, 10.0, 10.0], (5, 1))
    sequence = Sequence('still', tmp_path, truth, 100, 100, 30.0)
    stamps = [10**9 * second for second in range(1, 6)]
    rig = FakeRig(
        {
            stamps[1]: detection(stamps[1], 2_000_000, (25.0, 15.0), 0.5),
            stamps[3]: detection(stamps[3], 4_000_000),
            stamps[4]: detection(stamps[4], 6_000_000, (45.0, 15.0), 0.25),
        }
    )
    result = replay.collect(rig, 'model', sequence, stamps, np.zeros(5))
    assert result.run.boxes.tolist() == [
        [0, 0, 10, 10],
        [20, 10, 10, 10],
        [20, 10, 10, 10],
        [20, 10, 10, 10],
        [40, 10, 10, 10],
    ]
    assert (result.dropped, result.lost) == (1, 1)
    assert result.ages_s[[1, 3, 4]].tolist() == pytest.approx([0.002, 0.004, 0.006])
    assert result.run.confidences[[1, 4]].tolist() == [0.5, 0.25]
    assert through_node.age_quantiles_ms([result])[0] == pytest.approx(4.0)
    assert through_node.age_quantiles_ms([result])[2] == pytest.approx(6.0)


def test_ages_of_nothing_are_unknown(tmp_path):
    truth = np.tile([0.0, 0.0, 10.0, 10.0], (3, 1))
    sequence = Sequence('still', tmp_path, truth, 100, 100, 30.0)
    result = replay.collect(FakeRig({}), 'model', sequence, [1, 2, 3], np.zeros(3))
    assert result.dropped == 2
    assert all(map(math.isnan, through_node.age_quantiles_ms([result])))
    plain = through_node.as_dict([result], 30.0)
    json.dumps(plain, allow_nan=False)
    assert plain['trackers']['model']['age_p50_ms'] is None


def test_a_rate_must_be_above_zero():
    with pytest.raises(ValueError, match='above 0 Hz, not 0'):
        replay.replay('csrt', [], rate_hz=0)


def test_the_command_plays_sequences_of_different_sizes_through_the_node(data, tmp_path, capsys):
    path = tmp_path / 'eval.json'
    arguments = ['eval', str(data), '--model', 'csrt', '--through-ros', '--rate', '20']
    out = tmp_path / 'out'
    assert main([*arguments, '--quiet', '--json', str(path), '--report', str(out)]) == 0
    assert 'Through the node, at 20 frames a second' in (out / 'index.html').read_text()
    table = capsys.readouterr().out
    assert 'through the node' in table
    through = json.loads(path.read_text())['through_ros']
    assert through['rate_hz'] == 20
    runs = through['trackers']['csrt']['runs']
    assert sorted(runs) == ['large', 'small']
    for name, sequence in zip(runs, read_sequences(data), strict=True):
        assert len(runs[name]['boxes']) == FRAMES
        # However slow the machine, the last frame is answered before the next sequence begins.
        x, y, w, h = runs[name]['boxes'][-1]
        true_x, true_y, true_w, true_h = sequence.truth[-1]
        assert abs(x + w / 2 - true_x - true_w / 2) < true_w / 2
        assert abs(y + h / 2 - true_y - true_h / 2) < true_h / 2


def test_a_model_the_node_cannot_load_is_a_failure_with_its_log(data):
    with pytest.raises(replay.ProcessError, match=r"no model 'nonsense'"):
        replay.replay('nonsense', read_sequences(data), progress=False)
