# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`tracker_ros eval` as a person calls it."""

import errno
import json
import os
import shutil
import sys

import cv2
import fakes
import numpy as np
import pytest

from tracker_ros import trackers
from tracker_ros.cli import main
from tracker_ros.evaluation.one_pass import run

NOISE = np.random.default_rng(5)
BACKGROUND = NOISE.integers(0, 80, (120, 160, 3)).astype(np.uint8)
TARGET = cv2.resize(NOISE.integers(100, 255, (8, 8, 3)).astype(np.uint8), (32, 32))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('TRACKER_ROS_CACHE', str(tmp_path / 'cache'))


@pytest.fixture
def data(tmp_path):
    """One sequence of eight frames in which a textured square moves."""
    images = tmp_path / 'data' / 'square' / 'img'
    images.mkdir(parents=True)
    rows = []
    for index in range(8):
        x, y = 30 + 4 * index, 40 + 2 * index
        frame = BACKGROUND.copy()
        frame[y : y + 32, x : x + 32] = TARGET
        cv2.imwrite(str(images / f'{index}.png'), frame)
        rows.append(f'{x},{y},32,32')
    (images.parent / 'groundtruth.txt').write_text('\n'.join(rows))
    return tmp_path / 'data'


def test_table_and_json_of_one_model(data, tmp_path, capsys):
    path = tmp_path / 'out' / 'eval.json'
    code = main(['eval', str(data), '--model', 'csrt', '--per-sequence', '--json', str(path)])
    assert code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ['sequence', 'model', 'AUC']
    assert lines[2].split()[:2] == ['square', 'csrt']
    result = json.loads(path.read_text())
    scores = result['trackers']['csrt']
    assert scores['auc'] > 0.6
    assert f'{scores["auc"]:.3f}' in lines[6]
    assert len(scores['runs']['square']['boxes']) == 8
    assert result['problems'] == result['failures'] == []


def test_peers_run_beside_and_those_without_weights_say_why(data, capsys):
    assert main(['eval', str(data), '--peers', '--quiet']) == 0
    captured = capsys.readouterr()
    names = [line.split()[0] for line in captured.out.splitlines()[2:]]
    assert sorted(names) == ['opencv_csrt', 'opencv_kcf', 'opencv_mil']
    assert 'skipped: opencv_vit: the weights' in captured.err
    assert 'skipped: opencv_nano: the weights' in captured.err


def test_models_run_with_the_life_of_their_target_beside_them(data, tmp_path, capsys):
    package = str(fakes.make_package(tmp_path / 'fake'))
    path = tmp_path / 'eval.json'
    arguments = ['eval', str(data), '--model', f'{package},opencv_kcf', '--life', '--quiet']
    assert main([*arguments, '--json', str(path)]) == 0
    trackers = json.loads(path.read_text())['trackers']
    assert list(trackers) == [package, 'opencv_kcf', f'{package}+life']
    assert capsys.readouterr().err == ''


def test_a_model_is_loaded_once_and_each_run_has_a_tracker_of_its_own(data, tmp_path, monkeypatch):
    package = str(fakes.make_package(tmp_path / 'fake'))
    for name in ('second', 'third'):
        shutil.copytree(data / 'square', data / name)
    made, started = [], []
    create = trackers.create
    monkeypatch.setattr(trackers, 'create', lambda *a, **k: made.append(a) or create(*a, **k))
    arguments = ['eval', str(data), '--model', package, '--quiet']
    monkeypatch.setattr(
        'tracker_ros.evaluation.one_pass.run',
        lambda tracker, *rest, **more: started.append(tracker) or run(tracker, *rest, **more),
    )
    assert main(arguments) == 0
    # Once to see that it can be made, on one thread, and once for the runs, on all.
    assert [threads for _, _, threads in made] == [1, 0]
    assert len({id(tracker) for tracker in started}) == len(started) == 3


def test_a_model_may_be_named_with_the_life_of_its_target_alone(data, capsys):
    assert main(['eval', str(data), '--model', 'csrt+life', '--quiet']) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]] == ['csrt+life']


def test_a_broken_sequence_is_left_out_and_told_by_the_exit_code(data, capsys):
    (data / 'broken').mkdir()
    (data / 'broken' / 'groundtruth.txt').write_text('1,2,3,4\n')
    assert main(['eval', str(data), '--model', 'csrt', '--quiet']) == 1
    captured = capsys.readouterr()
    assert 'csrt' in captured.out
    assert f'left out: {data / "broken"}' in captured.err


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--model', 'nonsense'], "no model 'nonsense'"),
        (['--model', 'vittrack'], 'models fetch vittrack'),
        (['--model', 'vittrack', '--weights', '.'], 'are not in'),
        (['--model', 'opencv_nonsense'], "no peer 'opencv_nonsense'"),
        (['--model', ' , '], 'nothing to run'),
        ([], 'nothing to run'),
        (['--model', 'csrt', '--weights', 'nowhere'], '--weights nowhere: no such folder'),
        (['--model', 'csrt', '--benchmark', 'got10k'], 'list.txt: no such file'),
        (['--model', 'csrt', '--benchmark', 'trackingnet'], 'in the layout of trackingnet'),
    ],
)
def test_what_cannot_run_is_refused_before_anything_runs(data, capsys, arguments, words):
    assert main(['eval', str(data), '--quiet', *arguments]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ''


@pytest.mark.parametrize('option', ['--report', '--json'])
@pytest.mark.parametrize('place', ['taken/below', 'folder'])
def test_what_could_not_be_written_is_refused_before_anything_runs(
    data, tmp_path, capsys, monkeypatch, option, place
):
    (tmp_path / 'taken').write_text('a file')
    (tmp_path / 'folder' / 'runs').mkdir(parents=True)
    monkeypatch.setattr('tracker_ros.evaluation.one_pass.run', None)
    if option == '--report' and place == 'folder':
        monkeypatch.setattr('tempfile.TemporaryFile', _full_disk)
    arguments = ['--model', 'csrt', '--quiet', option, str(tmp_path / place)]
    assert main(['eval', str(data), *arguments]) == 2
    captured = capsys.readouterr()
    assert 'results cannot be written: ' in captured.err
    assert captured.out == ''


def test_a_disk_that_fills_up_is_told_and_the_same_command_goes_on(
    data, tmp_path, capsys, monkeypatch
):
    command = ['eval', str(data), '--model', 'csrt', '--quiet', '--report', str(tmp_path / 'out')]
    with monkeypatch.context() as patch:
        patch.setattr('tracker_ros.evaluation.kept.write_whole', _full_disk)
        assert main(command) == 1
    assert 'No space left on device; the same command goes on' in capsys.readouterr().err
    assert main(command) == 0
    assert (tmp_path / 'out' / 'index.html').is_file()


def _full_disk(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_data_of_which_nothing_can_be_used_is_told(data, capsys):
    (data / 'square' / 'groundtruth.txt').write_text('1,2,3\n')
    assert main(['eval', str(data), '--model', 'csrt']) == 2
    error = capsys.readouterr().err
    assert 'groundtruth.txt:1: 3 numbers' in error
    assert 'nothing to run: no sequence of DATA can be used' in error


def test_a_file_as_data_is_refused(data, capsys):
    annotation = data / 'square' / 'groundtruth.txt'
    assert main(['eval', str(annotation), '--model', 'csrt']) == 2
    assert 'is a file; give the folder' in capsys.readouterr().err


def test_no_data_is_refused(tmp_path, capsys):
    assert main(['eval', str(tmp_path / 'none'), '--model', 'csrt']) == 2
    assert 'no such folder' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('option', 'value', 'words'),
    [
        ('--jobs', '0', 'must be at least 1, not 0'),
        ('--jobs', 'two', 'invalid'),
        ('--rate', '0', 'must be above 0, not 0'),
        ('--rate', 'nan', 'must be above 0, not nan'),
        ('--domain-id', '233', 'must be 0 to 232, not 233'),
    ],
)
def test_impossible_numbers_are_refused(data, capsys, option, value, words):
    with pytest.raises(SystemExit, match='2'):
        main(['eval', str(data), '--model', 'csrt', option, value])
    assert words in capsys.readouterr().err


def test_without_ros_only_the_part_through_the_node_fails(data, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tracker_ros.ros.replay', None)
    monkeypatch.delattr('tracker_ros.ros.replay', raising=False)
    assert main(['eval', str(data), '--model', 'csrt', '--through-ros', '--quiet']) == 1
    captured = capsys.readouterr()
    assert 'csrt' in captured.out
    assert 'failed: the node on all sequences: needs ROS 2' in captured.err


def test_a_report_is_written_and_the_next_run_takes_what_is_there(data, tmp_path, monkeypatch):
    out = tmp_path / 'out'
    command = ['eval', str(data), '--model', 'csrt', '--report', str(out), '--quiet']
    assert main(command) == 0
    assert 'csrt' in (out / 'index.html').read_text()
    assert len((out / 'boxes' / 'csrt' / 'square.txt').read_text().splitlines()) == 8
    first = json.loads((out / 'results.json').read_text())
    low, high = first['trackers']['csrt']['intervals']['auc']
    assert low <= first['trackers']['csrt']['auc'] + 1e-4
    assert high >= first['trackers']['csrt']['auc'] - 1e-4
    # Would a second run track again, it would fail here.
    monkeypatch.setattr('tracker_ros.evaluation.one_pass.run', None)
    assert main(command) == 0
    assert json.loads((out / 'results.json').read_text()) == first
