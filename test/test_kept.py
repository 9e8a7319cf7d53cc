# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluations that go on after a kill, and boxes in the benchmarks' own forms."""

import dataclasses
import io
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from tracker_ros.evaluation import one_pass
from tracker_ros.evaluation.kept import KeptRuns, write_whole
from tracker_ros.evaluation.sequences import read_sequences
from tracker_ros.evaluation.submission import file_name, write_submissions
from tracker_ros.geometry import Box
from tracker_ros.trackers import Estimate

COUNT = 4


class Still:
    """Answers the first box; tells a file of each start, and dies at a frame of one sequence."""

    def __init__(self, log, dies=False):
        self.log, self.dies = log, dies

    def start(self, image, box, text=None):
        self.number = int(image[0, 0, 0])
        with self.log.open('a') as file:
            file.write(f'{self.number}\n')

    def step(self, image):
        if self.dies and self.number == 1:
            raise KeyboardInterrupt
        return Estimate(Box(1.125, 2, 3, 4), 1 / 3)


@pytest.fixture
def sequences(tmp_path):
    """Three sequences of four frames, numbered in their pixels."""
    for number in range(3):
        folder = tmp_path / 'data' / f'seq{number}'
        folder.mkdir(parents=True)
        for index in range(COUNT):
            image = np.full((20, 20, 3), number, np.uint8)
            cv2.imwrite(str(folder / f'{index}.png'), image)
        (folder / 'groundtruth.txt').write_text('1,2,3,4\n' * COUNT)
    return read_sequences(tmp_path / 'data')


def kept(tmp_path, identity='weights 1', **options):
    return KeptRuns(tmp_path / 'runs', {'still': identity}, **options)


def evaluate(tmp_path, sequences, results, dies=False):
    log = tmp_path / 'starts'
    log.write_text('')
    try:
        return one_pass.evaluate(
            ['still'], sequences, lambda _: Still(log, dies), progress=False, results=results
        )
    finally:
        starts[:] = log.read_text().split()


starts: list[str] = []


def test_what_was_done_before_a_kill_is_not_done_again_and_nothing_is_lost(tmp_path, sequences):
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path, sequences, kept(tmp_path), dies=True)
    assert starts == ['0', '1']
    runs, failures = evaluate(tmp_path, sequences, kept(tmp_path))
    assert starts == ['1', '2']
    assert failures == []
    assert [run.sequence.name for run in runs] == ['seq0', 'seq1', 'seq2']
    again, _ = evaluate(tmp_path, sequences, kept(tmp_path))
    assert starts == []
    for first, second in zip(runs, again, strict=True):
        assert np.array_equal(first.boxes, second.boxes, equal_nan=True)
        assert np.array_equal(first.confidences, second.confidences, equal_nan=True)
        assert np.array_equal(first.times_s, second.times_s, equal_nan=True)


@pytest.mark.parametrize('change', ['weights', 'rate', 'annotation', 'footage', 'sentence'])
def test_a_run_counts_only_for_what_it_was_made_with(tmp_path, sequences, change):
    evaluate(tmp_path, sequences[:1], kept(tmp_path))
    results, sequence = kept(tmp_path), sequences[0]
    assert results.find('still', sequence) is not None
    if change == 'weights':
        results = kept(tmp_path, 'weights 2')
    elif change == 'rate':
        results = kept(tmp_path, real_time_hz=30.0)
    elif change == 'annotation':
        sequence = dataclasses.replace(sequence, truth=sequence.truth + 1)
    elif change == 'sentence':
        sequence = dataclasses.replace(sequence, text='another')
    else:
        cv2.imwrite(str(sequence.footage / '1.png'), np.zeros((20, 20, 3), np.uint8) + 77)
        (sequence.footage / '1.png').touch()
    assert results.find('still', sequence) is None


@pytest.mark.parametrize('content', ['', '{', '{}', '[]', '{"boxes": [[1, 2, 3, 4]]}'])
def test_a_damaged_file_counts_as_none(tmp_path, sequences, content):
    evaluate(tmp_path, sequences[:1], kept(tmp_path))
    (path,) = (tmp_path / 'runs').iterdir()
    path.write_text(content)
    assert kept(tmp_path).find('still', sequences[0]) is None


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / 'file'
    write_whole(path, b'old')

    def fail(_):
        raise OSError('disk full')

    monkeypatch.setattr('os.fsync', fail)
    with pytest.raises(OSError, match='disk full'):
        write_whole(path, b'new')
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]


def a_run(sequence):
    boxes = np.array([[1, 2, 3, 4], [1.23456, 2, 3, 4], [np.nan] * 4, [5, 6, 7, 8]])
    times = np.array([0.5, 0.25, np.nan, 0.125])
    return one_pass.Run('a/b', sequence, boxes, np.ones(COUNT), times)


def test_got10k_takes_the_zip(tmp_path, sequences):
    (path,) = write_submissions(tmp_path / 'out', [a_run(sequences[0])], 'got10k', 0)
    archive = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    assert archive.namelist() == ['seq0/seq0_001.txt', 'seq0/seq0_time.txt']
    boxes = np.loadtxt(archive.open('seq0/seq0_001.txt'), delimiter=',')
    assert boxes.tolist() == [[1, 2, 3, 4], [1.2346, 2, 3, 4], [1.2346, 2, 3, 4], [5, 6, 7, 8]]
    times = np.loadtxt(archive.open('seq0/seq0_time.txt'))
    assert times.tolist() == [0.5, 0.25, 0, 0.125]


def test_trackingnet_takes_the_zip(tmp_path, sequences):
    (path,) = write_submissions(tmp_path / 'out', [a_run(sequences[0])], 'trackingnet', 0)
    archive = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    assert archive.namelist() == ['seq0.txt']
    assert archive.read('seq0.txt').decode().splitlines()[1] == '1.23,2.00,3.00,4.00'


def test_benchmarks_that_count_pixels_from_one_get_boxes_so(tmp_path, sequences):
    (folder,) = write_submissions(tmp_path / 'out', [a_run(sequences[0])], 'lasot', 1)
    assert (folder / 'seq0.txt').read_text().splitlines()[0] == '2.0000,3.0000,3.0000,4.0000'


def test_names_of_files_hold_no_paths_and_stay_apart():
    assert file_name('mixformerv2_s-bf16') == 'mixformerv2_s-bf16'
    assert file_name('../x') != file_name('x')
    assert '/' not in file_name('../../etc/x')
    assert not file_name('..').startswith('.')
    assert file_name('a/b') != file_name('a_b')


class Stuck:
    """Never answers."""

    def start(self, image, box, text=None):
        print('started', flush=True)

    def step(self, image):
        threading.Event().wait()


def make_stuck(name):
    return Stuck()


def test_a_kill_takes_the_other_processes_with_it(tmp_path, sequences):
    """However deep in their work they are."""
    script = (
        'from pathlib import Path\n'
        'from test_kept import make_stuck, one_pass, read_sequences\n'
        "if __name__ == '__main__':\n"
        f'    found = read_sequences(Path({str(tmp_path / "data")!r}))\n'
        "    one_pass.evaluate(['stuck'], found, make_stuck, jobs=2, progress=False)\n"
    )
    path = tmp_path / 'evaluation.py'
    path.write_text(script)
    process = subprocess.Popen(
        [sys.executable, str(path)],
        env={**os.environ, 'PYTHONPATH': str(Path(__file__).parent)},
        stdout=subprocess.PIPE,
    )
    assert [process.stdout.readline() for _ in range(2)] == [b'started\n'] * 2
    process.kill()
    # The output ends when the last process that writes to it has ended.
    process.communicate(timeout=60)
