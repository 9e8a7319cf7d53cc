# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`tracker_ros bench`: what it measures, how it counts, and what it says of wrong arguments.

Nothing here depends on how fast anything is.
"""

from __future__ import annotations

import json
import os
import re
import time
from functools import partial

import numpy as np
import pytest
from fakes import make_package
from small_graphs import make_small

from tracker_ros.cli import main
from tracker_ros.evaluation import machine, peak, speed, speed_report
from tracker_ros.evaluation.speed import (
    SETTLING,
    Contestant,
    Record,
    SpeedError,
    Turn,
    compare,
    moving_patch,
    quantiles,
    timed,
)


@pytest.fixture
def short(monkeypatch):
    """Turns of a few frames."""
    monkeypatch.setattr(speed, 'TURN_S', 0.01)


def bench(*arguments: str) -> int:
    return main(['bench', *arguments, '--quiet'])


def test_everything_is_measured_side_by_side(tmp_path, capsys, short):
    package = make_small(tmp_path / 'small', gmacs_per_frame=0.001)
    path = tmp_path / 'out' / 'speed.json'
    what = ['--runtime', 'openvino,onnxruntime', '--targets', '1,3', '--peak']
    how = ['--threads', '1', '--size', '320x240', '--seconds', '0.02', '--json', str(path)]
    code = bench(f'{package.folder},csrt', *what, *how)
    assert code == 0
    report = json.loads(path.read_text())
    results = {result['name']: result for result in report['results']}
    assert set(results) == {'small on openvino', 'small on onnxruntime', 'csrt on opencv'}
    for name in ('small on openvino', 'small on onnxruntime'):
        result = results[name]
        assert result['runtime'].startswith(name.split()[-1])
        assert list(result['stages_ms']) == ['crop', 'network', 'decode']
        assert set(result['targets_ms']) == {'1', '3'}
        assert (
            result['frame_ms']['p10'] <= result['frame_ms']['median'] <= result['frame_ms']['p90']
        )
        parts = sum(times['p10'] for times in result['stages_ms'].values())
        assert parts <= result['frame_ms']['p90']
        assert result['turns'] == 2 * 3
        assert result['cached_bytes_per_target'] == 4 * (3 + 3)
        assert result['resident_mib'] > 10
        assert result['start_s'] > 0
        assert result['percent_of_peak'] > 0
    assert results['csrt on opencv']['targets_ms'] == {}
    assert results['csrt on opencv']['precision'] is None
    assert report['peak_gops']['fp32'] > 0
    assert report['image'] == [320, 240]
    printed = capsys.readouterr().out
    assert 'small on openvino' in printed
    assert '% of the peak' in printed


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['csrt', '--size', '1280'], "'1280' is no size"),
        (['csrt', '--size', '10x10'], 'no size; give WIDTHxHEIGHT'),
        (['csrt', '--targets', '0,1'], 'must be numbers from 1 to 64'),
        (['csrt', '--targets', 'two'], 'must be numbers from 1 to 64'),
        (['csrt', '--seconds', '0'], 'must be above 0'),
        (['csrt', '--seconds', 'nan'], 'must be above 0'),
        (['csrt', '--threads', '-1'], 'must be 0 .automatic. or more'),
        ([','], 'give one name or several'),
    ],
)
def test_wrong_arguments_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(['bench', *arguments])
    assert caught.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_an_unknown_model_is_named_and_the_others_run(capsys, short):
    assert bench('csrt,nothing_like_it', '--size', '160x120', '--seconds', '0.01') == 1
    captured = capsys.readouterr()
    assert "no model 'nothing_like_it'" in captured.err
    assert 'csrt on opencv' in captured.out


def test_an_unknown_runtime_is_named(capsys):
    assert bench('csrt', '--runtime', 'abacus') == 1
    assert "no runtime 'abacus'; known are auto" in capsys.readouterr().err


def test_a_model_that_no_library_runs_says_why(tmp_path, capsys, short):
    folder = make_package(tmp_path / 'm', inputs={})
    assert bench(str(folder), '--runtime', 'onnxruntime', '--seconds', '0.01') == 1
    assert 'm on onnxruntime: ' in capsys.readouterr().err


def test_results_that_cannot_be_written_are_an_error(tmp_path, capsys, short):
    (tmp_path / 'file').write_text('')
    path = tmp_path / 'file' / 'speed.json'
    code = bench('csrt', '--size', '160x120', '--seconds', '0.01', '--json', str(path))
    assert code == 1
    assert 'cannot write the results' in capsys.readouterr().err


class Counting:
    """A subject that does nothing, and dies where it is told to."""

    def __init__(self, dies: bool = False) -> None:
        if dies:
            raise ValueError('no such subject')

    def facts(self):
        return {'stages': ['all'], 'pid': os.getpid()}

    def turn(self, work, seconds):
        if work == 'death':
            os._exit(3)
        if work == 'error':
            raise ValueError('cannot do that')
        return [[float(count), float(count)] for count in range(SETTLING + 2)]


def test_each_runs_in_a_process_of_its_own_and_turns_are_settled(short):
    one, other = compare(
        [Contestant('one', Counting), Contestant('other', Counting, ('frame', 2))], 0.03
    )
    assert len({one.facts['pid'], other.facts['pid'], os.getpid()}) == 3
    assert [len(turns) for turns in other.turns.values()] == [3, 3]
    first = float(SETTLING)
    assert one.rows('frame', quiet=False)[:, 0].tolist() == [first, first + 1] * 3


@pytest.mark.parametrize(
    ('contestant', 'message'),
    [
        (Contestant('poor', partial(Counting, dies=True)), 'poor: ValueError: no such subject'),
        (Contestant('poor', Counting, ('error',)), 'poor: ValueError: cannot do that'),
        (Contestant('poor', Counting, ('death',)), 'poor: its process died'),
    ],
)
def test_one_that_fails_is_named(contestant, message, short):
    with pytest.raises(SpeedError, match=message):
        compare([contestant], 0.01)


def test_a_machine_that_is_never_quiet_ends_the_wait(short, monkeypatch):
    monkeypatch.setattr(speed.Watch, 'others_cores', lambda self: 1.0)
    (record,) = compare([Contestant('one', Counting)], 0.01, quiet_only=True, longest_s=0.2)
    assert len(record.turns['frame']) > 1
    result = speed_report.result_of(
        Record('one', 1.0, {'stages': ['all'], 'gmacs_per_frame': None}, record.turns), True, {}
    )
    assert result['frame_ms'] is None
    assert result['quiet_turns'] == 0


def test_quiet_turns_alone_count_where_that_is_wished():
    record = Record('one', 1.0, {})
    record.turns['frame'] = [Turn([[1.0]], 0.01), Turn([[5.0]], 0.9)]
    assert record.rows('frame', quiet=True).tolist() == [[1.0]]
    assert record.rows('frame', quiet=False).tolist() == [[1.0], [5.0]]
    assert record.rows('other', quiet=False).tolist() == []


def test_share_of_the_peak():
    """2 operations a multiply-accumulate; the better size of the products is the peak."""
    tops = Record('peak', 1.0, {})
    tops.turns = {
        ('fp32', side): [Turn([[peak.operations(side) / rate]], 0.0)]
        for side, rate in ((512, 100e9), (1024, 200e9))
    }
    peaks = speed_report.peaks_of(tops, True)
    assert peaks == pytest.approx({'fp32': 200.0})
    record = Record('one', 1.0, {
        'stages': ['crop', 'network', 'decode'], 'gmacs_per_frame': 1.0, 'precision': 'fp32',
    })  # fmt: skip
    record.turns['frame'] = [Turn([[0.03, 0.005, 0.02, 0.005]], 0.0)]
    result = speed_report.result_of(record, True, peaks)
    assert result['gops'] == 100
    assert result['percent_of_peak'] == pytest.approx(50.0)


def test_quantiles():
    assert quantiles(np.array([])) is None
    found = quantiles(np.linspace(0.001, 0.011, 11))
    assert found == {'median': 6.0, 'p10': 2.0, 'p90': 10.0}


def test_a_step_is_timed_a_few_times_however_slow():
    rows = timed(lambda: (1.0, 2.0), 0.0)
    assert len(rows) > SETTLING
    assert all(row[1:] == [1.0, 2.0] and row[0] >= 0 for row in rows)


def test_the_patch_is_where_its_box_says():
    frames, boxes = moving_patch(640, 480, 8)

    def inside(frame, box):
        x, y, w, h = map(int, box.xywh())
        return frame[y : y + h, x : x + w]

    for frame, box in zip(frames, boxes, strict=True):
        np.testing.assert_array_equal(inside(frame, box), inside(frames[0], boxes[0]))
        assert np.abs(inside(frame, box).astype(int) - inside(frames[0], box)).any() == (
            box != boxes[0]
        )
    assert len({box.x for box in boxes}) > 2


def test_own_work_is_not_that_of_others():
    watch = machine.Watch([os.getpid()])
    began, end = machine.cpu_seconds([os.getpid()]), time.monotonic() + 0.3
    while time.monotonic() < end:
        pass
    assert machine.cpu_seconds([os.getpid()]) > began
    assert 0 <= watch.others_cores() <= machine.describe()['cores'] + 0.1


def test_memory_in_use_is_seen():
    before = machine.resident_bytes(os.getpid())
    block = np.ones(1 << 23)
    assert machine.resident_bytes(os.getpid()) >= before + block.nbytes // 2
