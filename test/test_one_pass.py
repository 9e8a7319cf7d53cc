# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One-pass evaluation with trackers whose scores are known beforehand."""

import dataclasses
import functools
import json
import os
import threading
from concurrent.futures import Future
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from tracker_ros.evaluation import one_pass, report
from tracker_ros.evaluation.sequences import read_sequences
from tracker_ros.geometry import Box
from tracker_ros.lookahead import read_ahead
from tracker_ros.trackers import Estimate, TrackerError

FRAMES = 5


def truth_of(index):
    """The box in frame `index`: 20 px to the right in each, so no two of them overlap."""
    return Box(20.0 * index, 10.0, 20.0, 20.0)


class Oracle:
    """Reads the frame's number from its pixels and answers the true box."""

    def start(self, image, box, text=None):
        assert box == truth_of(0)
        assert text is None

    def step(self, image):
        return Estimate(truth_of(int(image[0, 0, 0])), 0.75)


class Dead(Oracle):
    """Stays where it was started."""

    def step(self, image):
        return Estimate(truth_of(0), 0.1)


class Failing(Oracle):
    """Gives up in the third frame of one sequence."""

    def step(self, image):
        if image[0, 0, 0] == 2 and image[0, 0, 1] == 1:
            raise TrackerError('the filter diverged')
        return super().step(image)


class Buggy(Oracle):
    """Breaks in a way that trackers are not meant to."""

    def step(self, image):
        return [][1]


class Deadly(Oracle):
    """Takes its whole process with it."""

    def step(self, image):
        os._exit(1)


def make(name):
    kinds = {
        'oracle': Oracle,
        'dead': Dead,
        'failing': Failing,
        'buggy': Buggy,
        'deadly': Deadly,
    }
    if name not in kinds:
        raise TrackerError(f'there is no {name}')
    return kinds[name]()


@pytest.fixture
def sequences(tmp_path):
    """Two sequences a and b of five 120 x 40 frames; pixels hold frame and sequence numbers."""
    for number, name in enumerate('ab'):
        folder = tmp_path / name / 'img'
        folder.mkdir(parents=True)
        rows = []
        for index in range(FRAMES):
            image = np.zeros((40, 120, 3), np.uint8)
            image[...] = (index, number, 0)
            cv2.imwrite(str(folder / f'{index:03d}.png'), image)
            rows.append(','.join(map(str, truth_of(index).xywh())))
        (tmp_path / name / 'groundtruth.txt').write_text('\n'.join(rows))
    return read_sequences(tmp_path)


def test_perfect_and_dead_trackers_score_what_they_must(sequences):
    runs, failures = one_pass.evaluate(['oracle', 'dead'], sequences, make, progress=False)
    assert failures == []
    assert [(run.tracker, run.sequence.name) for run in runs] == [
        ('oracle', 'a'),
        ('oracle', 'b'),
        ('dead', 'a'),
        ('dead', 'b'),
    ]
    perfect, dead = (report.mean_scores_of(own) for own in report.by_tracker(runs).values())
    assert (perfect.ao, perfect.precision, perfect.normalised_precision) == (1.0, 1.0, 1.0)
    assert perfect.auc == pytest.approx(20 / 21)
    assert dead.auc == pytest.approx(20 / 21 / FRAMES)
    assert dead.ao == 0.0
    # The second frame's centre is exactly 20 px away, which still counts.
    assert dead.precision == pytest.approx(2 / FRAMES)


def test_a_run_holds_what_the_tracker_answered(sequences):
    run = one_pass.run(Oracle(), 'oracle', sequences[0])
    assert run.boxes.tolist() == [list(truth_of(index).xywh()) for index in range(FRAMES)]
    assert np.isnan(run.confidences[0])
    assert run.confidences[1:].tolist() == [0.75] * (FRAMES - 1)
    assert (run.times_s > 0).all()
    assert run.rate_hz > 0


def test_processes_give_the_same_boxes(sequences):
    alone, _ = one_pass.evaluate(['oracle', 'dead'], sequences, make, progress=False)
    shared, failures = one_pass.evaluate(
        ['oracle', 'dead'], sequences, functools.partial(make), jobs=2, progress=False
    )
    assert failures == []
    for one, other in zip(alone, shared, strict=True):
        assert (one.tracker, one.sequence.name) == (other.tracker, other.sequence.name)
        assert one.boxes.tolist() == other.boxes.tolist()


def test_the_longest_are_begun_first(sequences, monkeypatch):
    begun = []

    class Pool:
        def __init__(self, *_, **__):
            pass

        def submit(self, work, tracker, sequence):
            begun.append((tracker, sequence.name))
            done = Future()
            done.set_result(work(tracker, sequence))
            return done

        def shutdown(self, cancel_futures):
            pass

    monkeypatch.setattr(one_pass, 'ProcessPoolExecutor', Pool)
    a, b = sequences
    short = dataclasses.replace(a, truth=a.truth[:-1])
    runs, _ = one_pass.evaluate(['oracle', 'dead'], [short, b], make, jobs=2, progress=False)
    assert begun == [('oracle', 'b'), ('dead', 'b'), ('oracle', 'a'), ('dead', 'a')]
    assert [(run.tracker, run.sequence.name) for run in runs] == [
        ('oracle', 'a'),
        ('oracle', 'b'),
        ('dead', 'a'),
        ('dead', 'b'),
    ]


@pytest.mark.parametrize('jobs', [1, 2])
def test_a_failed_run_is_told_and_the_others_go_on(sequences, jobs):
    runs, failures = one_pass.evaluate(
        ['failing', 'missing', 'oracle'], sequences, make, jobs=jobs, progress=False
    )
    assert [(run.tracker, run.sequence.name) for run in runs] == [
        ('failing', 'a'),
        ('oracle', 'a'),
        ('oracle', 'b'),
    ]
    assert [(each.tracker, each.sequence, each.reason) for each in failures] == [
        ('failing', 'b', 'the filter diverged'),
        ('missing', 'a', 'there is no missing'),
        ('missing', 'b', 'there is no missing'),
    ]


@pytest.mark.parametrize(
    ('name', 'jobs', 'reason'),
    [
        ('buggy', 1, 'IndexError: list index out of range'),
        ('buggy', 2, 'IndexError: list index out of range'),
        ('deadly', 2, 'its process died'),
    ],
)
def test_a_broken_tracker_does_not_break_the_evaluation(sequences, name, jobs, reason):
    runs, failures = one_pass.evaluate([name], sequences, make, jobs=jobs, progress=False)
    assert runs == []
    assert [each.sequence for each in failures] == ['a', 'b']
    assert all(each.reason.startswith(reason) for each in failures)


def test_the_bar_counts_every_frame_even_of_failed_runs(sequences, capsys):
    one_pass.evaluate(['failing', 'oracle'], sequences, make)
    assert f'{4 * FRAMES}/{4 * FRAMES}' in capsys.readouterr().err


def test_fewer_jobs_than_one_are_refused(sequences):
    with pytest.raises(ValueError, match='jobs must be at least 1, not 0'):
        one_pass.evaluate(['oracle'], sequences, make, jobs=0)


def test_report_names_every_model_and_sequence(sequences):
    runs, failures = one_pass.evaluate(['dead', 'failing'], sequences, make, progress=False)
    table = report.summary_table(runs).splitlines()
    assert [line.split()[0] for line in table[2:]] == ['failing', 'dead']
    assert table[2].split()[1] == '0.952'
    assert len({len(line) for line in table}) == 1
    rows = report.sequence_table(runs).splitlines()[2:]
    assert [row.split()[:2] for row in rows] == [['a', 'dead'], ['a', 'failing'], ['b', 'dead']]
    plain = json.loads(json.dumps(report.as_dict(runs, failures), allow_nan=False))
    assert plain['trackers']['dead']['runs']['a']['boxes'][4] == list(truth_of(0).xywh())
    assert plain['trackers']['dead']['runs']['a']['confidences'][0] is None
    assert plain['failures'] == [
        {'tracker': 'failing', 'sequence': 'b', 'reason': 'the filter diverged'}
    ]


def test_read_ahead_keeps_order_and_raises_where_the_error_was():
    def items():
        yield from range(20)
        raise OSError('the disk is gone')

    ahead = read_ahead(items(), 3)
    assert [next(ahead) for _ in range(20)] == list(range(20))
    with pytest.raises(OSError, match='the disk is gone'):
        next(ahead)


def test_an_abandoned_read_ahead_ends_its_thread():
    threads = set(threading.enumerate())
    ahead = read_ahead(iter(range(1000)), 2)
    assert next(ahead) == 0
    assert set(threading.enumerate()) - threads
    ahead.close()
    assert not set(threading.enumerate()) - threads


class Clock:
    """Time that only a tracker's work moves."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


class Slow(Oracle):
    """Takes a given time for each step, and a second for the start."""

    def __init__(self, clock, steps_s):
        self.clock = clock
        self.steps_s = iter(steps_s)

    def start(self, image, box, text=None):
        super().start(image, box, text)
        self.clock.now_s += 1.0

    def step(self, image):
        self.clock.now_s += next(self.steps_s)
        return super().step(image)


@pytest.mark.parametrize(
    ('steps_s', 'seen'),
    [
        ([0.09] * 4, [0, 1, 2, 3, 4]),  # faster than the frames
        ([0.16] * 4, [0, 1, 2, 4]),  # 1 ends at 0.26 s and 2 at 0.42 s, when 4 is there
        ([0.25] * 4, [0, 1, 3]),
        ([0.35] * 4, [0, 1, 4]),
        ([9.0] * 4, [0, 1]),
    ],
)
def test_in_real_time_a_busy_tracker_misses_frames(sequences, steps_s, seen):
    clock = Clock()
    sequence = sequences[0]
    found = one_pass.run(Slow(clock, steps_s), 'slow', sequence, real_time_hz=10.0, clock=clock)
    assert [index for index, spent in enumerate(found.times_s) if not np.isnan(spent)] == seen
    assert found.dropped == len(sequence) - len(seen)
    for index in range(len(sequence)):
        newest = max(number for number in seen if number <= index)
        assert found.boxes[index].tolist() == sequence.truth[newest].tolist()


class Reader(Oracle):
    """Takes a sentence."""

    package = SimpleNamespace(takes_text=True)

    def start(self, image, box, text=None):
        self.text = text


def test_a_sentence_goes_to_trackers_that_take_one(sequences):
    described = dataclasses.replace(sequences[0], text='a dull square')
    reader = Reader()
    one_pass.run(reader, 'reader', described)
    assert reader.text == 'a dull square'
    one_pass.run(Oracle(), 'oracle', described)
