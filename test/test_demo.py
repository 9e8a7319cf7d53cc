# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The demo: its figures and files, and one real run through two processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from tracker_ros.evaluation.scene import Scene
from tracker_ros.footage import open_footage
from tracker_ros.ros import demo
from tracker_ros.ros.demo import Frame, summarise, what_is_wrong
from tracker_ros.ros.processes import free_domain_id

FACTS = {'model': 'csrt', 'runtime': 'opencv'}
SMALL = ['--width', '320', '--height', '240']


def answered(number, box, latency_ms=10.0, state='TRACKING'):
    return Frame(number, 1000 + number, box, 0.9, state, latency_ms)


def dropped(number):
    return Frame(number, 1000 + number)


def truth_of(*rows):
    return np.array([[np.nan] * 4 if row is None else row for row in rows], float)


BOX = [10.0, 10.0, 20.0, 20.0]
HALF_OFF = [20.0, 10.0, 20.0, 20.0]  # IoU 1/3 with BOX


# --- figures ----------------------------------------------------------------------------


def test_frames_are_counted():
    frames = [answered(0, BOX), dropped(1), answered(2, BOX), dropped(3)]
    summary = summarise(frames, truth_of(BOX, BOX, BOX, BOX), FACTS)
    assert (summary['frames'], summary['processed'], summary['dropped']) == (4, 2, 2)
    assert summary['model'] == 'csrt'
    assert summary['runtime'] == 'opencv'


def test_the_mean_overlap_leaves_out_the_given_frame_and_the_hidden_ones():
    frames = [answered(0, HALF_OFF), answered(1, BOX), answered(2, HALF_OFF), answered(3, BOX)]
    summary = summarise(frames, truth_of(BOX, BOX, None, HALF_OFF), FACTS)
    assert summary['mean_iou'] == pytest.approx((1 + 1 / 3) / 2, abs=1e-4)
    assert [frame.iou for frame in frames][2] is None


def test_a_dropped_frame_is_judged_by_the_box_before_it():
    frames = [answered(0, BOX), answered(1, BOX), dropped(2)]
    summary = summarise(frames, truth_of(BOX, BOX, HALF_OFF), FACTS)
    assert frames[2].iou == pytest.approx(1 / 3)
    assert frames[2].box is None
    assert summary['mean_iou'] == pytest.approx(2 / 3, abs=1e-4)


def test_a_lost_target_overlaps_with_nothing_until_it_is_found():
    frames = [answered(0, BOX), answered(1, None, state='LOST'), dropped(2), answered(3, BOX)]
    summary = summarise(frames, truth_of(BOX, BOX, BOX, BOX), FACTS)
    assert [frame.iou for frame in frames] == [1, 0, 0, 1]
    assert summary['mean_iou'] == pytest.approx(1 / 3, abs=1e-4)


def test_latencies_are_of_the_answered_frames():
    frames = [answered(number, BOX, latency_ms=number) for number in range(101)]
    frames.append(dropped(101))
    summary = summarise(frames, truth_of(BOX), FACTS)
    assert summary['latency_p50_ms'] == pytest.approx(50)
    assert summary['latency_p95_ms'] == pytest.approx(95)


def test_without_truth_there_is_no_overlap_and_still_valid_json():
    summary = summarise([answered(0, BOX), answered(1, BOX)], truth_of(BOX), FACTS)
    assert summary['mean_iou'] is None
    nothing = summarise([dropped(0)], truth_of(BOX), FACTS)
    assert nothing['latency_p50_ms'] is None
    json.dumps([summary, nothing], allow_nan=False)


def test_truth_may_be_shorter_than_the_footage():
    frames = [answered(number, BOX) for number in range(5)]
    assert summarise(frames, truth_of(BOX, BOX), FACTS)['mean_iou'] == 1


@pytest.mark.parametrize(
    ('figures', 'judged', 'words'),
    [
        ({}, True, ''),
        ({'mean_iou': 0.6}, True, ''),
        ({'mean_iou': 0.599}, True, 'mean IoU is 0.599, below 0.6'),
        ({'mean_iou': None}, True, 'mean IoU is None'),
        ({'mean_iou': 0.1}, False, ''),
        ({'mean_iou': None}, False, ''),
        ({'processed': 0, 'dropped': 9}, False, 'none of 9 frames'),
    ],
)
def test_a_run_is_sound_or_the_figure_is_named(figures, judged, words):
    summary = {'frames': 9, 'processed': 7, 'dropped': 2, 'mean_iou': 0.8, **figures}
    wrong = what_is_wrong(summary, judged)
    assert (words in wrong) if words else wrong == ''


# --- footage ------------------------------------------------------------------------------


def options_of(*arguments):
    return demo._parser().parse_args([str(argument) for argument in arguments])


@pytest.mark.parametrize('box', ['1,2,3', '1,2,3,x', '1,2,0,4', '1,2,3,nan', ''])
def test_a_box_that_is_none_is_refused(box, capsys):
    with pytest.raises(SystemExit) as end:
        options_of('--video', 'clip.mp4', '--box', box)
    assert end.value.code == 2
    assert 'is no box' in capsys.readouterr().err


def test_a_video_without_a_box_is_refused_with_the_remedy(tmp_path, capsys):
    video = tmp_path / 'clip.mp4'
    assert demo.main(['--video', str(video), '--output', str(tmp_path / 'out')]) == 1
    words = capsys.readouterr().err
    assert str(video) in words
    assert 'BOX=x,y,w,h' in words


def test_a_broken_truth_is_told_with_its_line(tmp_path, capsys):
    (tmp_path / 'groundtruth.txt').write_text('1,2,3,4\nrubbish\n', encoding='utf-8')
    arguments = ['--video', str(tmp_path / 'clip.mp4'), '--output', str(tmp_path / 'out')]
    assert demo.main(arguments) == 1
    assert 'groundtruth.txt:2' in capsys.readouterr().err


def test_the_truth_beside_a_video_gives_the_first_box(tmp_path):
    (tmp_path / 'groundtruth.txt').write_text('1,2,3,4\n2,3,4,5\n', encoding='utf-8')
    video, truth = demo._footage(options_of('--video', tmp_path / 'clip.mp4'))
    assert video == tmp_path / 'clip.mp4'
    assert truth.tolist() == [[1, 2, 3, 4], [2, 3, 4, 5]]


def test_a_given_box_goes_before_the_truth(tmp_path):
    (tmp_path / 'groundtruth.txt').write_text('1,2,3,4\n2,3,4,5\n', encoding='utf-8')
    _, truth = demo._footage(options_of('--video', tmp_path / 'clip.mp4', '--box', '9,8,7,6'))
    assert truth.tolist() == [[9, 8, 7, 6], [2, 3, 4, 5]]


# --- files --------------------------------------------------------------------------------


def test_the_files_tell_every_frame(tmp_path):
    scene = Scene(320, 240, frames=15)
    video = scene.write(tmp_path)
    boxes = [list(truth.box.xywh()) for _, truth in scene]
    frames = [dropped(n) if n % 3 == 1 else answered(n, boxes[n]) for n in range(15)]
    truth = np.array(boxes)
    summary = summarise(frames, truth, FACTS)
    output = tmp_path / 'out'
    output.mkdir()
    demo._write(output, video, frames, truth, summary)

    assert json.loads((output / 'summary.json').read_text(encoding='utf-8')) == summary
    lines = [json.loads(line) for line in (output / 'detections.jsonl').open(encoding='utf-8')]
    assert [line['frame'] for line in lines] == list(range(15))
    assert [line['box'] is None for line in lines] == [n % 3 == 1 for n in range(15)]
    assert {'stamp_ns', 'score', 'state', 'latency_ms'} <= set(lines[0])
    with open_footage(output / 'annotated.mp4') as footage:
        pictures = list(footage)
    assert len(pictures) == 15
    # The box is drawn: its edge differs from the rendered picture, its middle does not.
    x, y, w, h = (round(value) for value in boxes[0])
    changed = cv2.absdiff(pictures[0], scene.frame(0)[0]).mean(axis=2)
    assert changed[y, x : x + w].mean() > 40
    assert changed[y + h // 3 : y + 2 * h // 3, x + w // 3 : x + 2 * w // 3].mean() < 15
    sheet = cv2.imread(str(output / 'contact_sheet.png'))
    assert sheet.shape == (3 * 360, 4 * 480, 3)


@pytest.mark.parametrize('count', [1, 5, 12, 300])
def test_the_contact_sheet_shows_answered_frames_from_first_to_last(count):
    frames = [dropped(n) if n % 2 else answered(n, BOX) for n in range(2 * count)]
    picked = sorted(demo._picked(frames))
    assert len(picked) == min(count, 12)
    assert all(number % 2 == 0 for number in picked)
    assert picked[0] == 0
    assert picked[-1] == 2 * (count - 1) or count == 1


# --- real runs ----------------------------------------------------------------------------


def started(output: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, '-m', 'tracker_ros.ros.demo', '--output', str(output)),
            *('--domain-id', str(free_domain_id()), *arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, 'PYTHONUNBUFFERED': '1'},
    )


def children_of(pid: int) -> list[int]:
    found = []
    for entry in Path('/proc').iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / 'stat').read_text().rpartition(')')[2].split()
            except OSError:  # it ended meanwhile
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def no_orphans():
    """A watchdog: the demo started by a test is killed with it."""
    running: list[subprocess.Popen[str]] = []
    yield running
    for process in running:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_real_run(tmp_path, no_orphans):
    # At 5 Hz a frame in time or late gives the same outcome on any machine.
    process = started(tmp_path, *SMALL, '--frames', '24', '--rate', '5')
    no_orphans.append(process)
    words, _ = process.communicate(timeout=180)
    assert process.returncode == 0, words
    summary = json.loads((tmp_path / 'summary.json').read_text(encoding='utf-8'))
    assert summary['frames'] == 24
    assert summary['processed'] + summary['dropped'] == 24
    assert summary['mean_iou'] >= 0.6
    assert summary['model'] == 'nano'
    assert summary['latency_p50_ms'] > 0
    lines = (tmp_path / 'detections.jsonl').read_text(encoding='utf-8').splitlines()
    stamps = [json.loads(line)['stamp_ns'] for line in lines]
    assert stamps == sorted(set(stamps))
    with open_footage(tmp_path / 'annotated.mp4') as footage:
        assert sum(1 for _ in footage) == 24


def test_ctrl_c_ends_everything(tmp_path, no_orphans):
    process = started(tmp_path, *SMALL, '--frames', '400')
    no_orphans.append(process)
    giving_up = threading.Timer(180, process.kill)
    giving_up.start()
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith('frame'):
            break
    children = children_of(process.pid)
    assert len(children) == 2, lines
    process.send_signal(signal.SIGINT)
    words = process.stdout.read()
    assert process.wait(60) == 130, words
    giving_up.cancel()
    assert 'interrupted' in words
    assert 'Traceback' not in words
    assert not any(is_alive(pid) for pid in children)


def test_an_unknown_model_is_told_and_nothing_stays_behind(tmp_path, no_orphans):
    process = started(tmp_path, *SMALL, '--frames', '2', '--model', 'no_such_model')
    no_orphans.append(process)
    words, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert 'no_such_model' in words
    assert 'Traceback' not in words


def test_a_box_outside_the_picture_is_told(tmp_path, no_orphans):
    video = Scene(320, 240, frames=2).write(tmp_path)
    (tmp_path / 'groundtruth.txt').unlink()
    process = started(tmp_path / 'out', '--video', str(video), '--box', '900,900,20,20')
    no_orphans.append(process)
    words, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert 'outside the image of 320 x 240' in words
    assert 'Traceback' not in words
