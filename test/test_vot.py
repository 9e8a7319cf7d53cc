# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The VOT toolkit evaluates a model: a workspace of its own, with a sequence that is made here."""

import configparser
import json
import os
import shlex
import subprocess
import sys

import cv2
import numpy as np
import pytest
import yaml

from tracker_ros.cli import main
from tracker_ros.evaluation.one_pass import run
from tracker_ros.evaluation.sequences import Sequence
from tracker_ros.trackers import create

COUNT = 24
SIZE = (160, 120)
STACK = {
    'title': 'small',
    'experiments': {
        'baseline': {
            'type': 'multistart',
            'analyses': [
                {'type': 'multistart_eao_score', 'name': 'eao', 'low': 5, 'high': COUNT},
                {'type': 'multistart_average_ar', 'name': 'ar'},
            ],
        },
        'unsupervised': {
            'type': 'unsupervised',
            'repetitions': 1,
            'analyses': [{'type': 'average_accuracy', 'name': 'accuracy', 'burnin': 1}],
        },
    },
}


@pytest.fixture
def sequence(tmp_path):
    """A textured square that moves, in a workspace of the toolkit."""
    random = np.random.default_rng(5)
    background = cv2.resize(random.integers(0, 80, (30, 40, 3)).astype(np.uint8), SIZE)
    target = cv2.resize(random.integers(100, 255, (8, 8, 3)).astype(np.uint8), (32, 32))
    folder = tmp_path / 'workspace' / 'sequences' / 'square'
    (folder / 'color').mkdir(parents=True)
    truth = np.array([[20.0 + 3 * index, 30.0 + index, 32, 32] for index in range(COUNT)])
    for index, (x, y, *_) in enumerate(truth.astype(int)):
        frame = background.copy()
        frame[y : y + 32, x : x + 32] = target
        cv2.imwrite(str(folder / 'color' / f'{index + 1:08d}.jpg'), frame)
    lines = [','.join(f'{value:g}' for value in box) for box in truth]
    (folder / 'groundtruth.txt').write_text('\n'.join(lines) + '\n')
    anchors = [1] + [0] * (COUNT - 2) + [-1]
    (folder / 'anchor.value').write_text('\n'.join(map(str, anchors)) + '\n')
    about = {'channels.color': 'color/%08d.jpg', 'fps': 30, 'name': 'square', 'length': COUNT}
    about.update(width=SIZE[0], height=SIZE[1])
    (folder / 'sequence').write_text(''.join(f'{k}={v}\n' for k, v in about.items()))
    (folder.parent / 'list.txt').write_text('square\n')
    root = folder.parent.parent
    (root / 'stack.yaml').write_text(yaml.safe_dump(STACK))
    config = {'registry': ['./trackers.ini'], 'stack': 'stack.yaml'}
    (root / 'config.yaml').write_text(yaml.safe_dump(config))
    return Sequence('square', folder / 'color', truth, *SIZE, 30.0)


def toolkit(oracles, workspace, *arguments):
    done = subprocess.run(
        [sys.executable, '-m', 'vot', *arguments],
        cwd=workspace,
        env={**os.environ, 'PYTHONPATH': str(oracles)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_toolkit_scores_a_model_and_gets_the_boxes_that_we_get(oracles, sequence, capsys):
    workspace = sequence.footage.parent.parent.parent
    assert main(['vot', '--model', 'csrt', '--trackers-ini', str(workspace / 'trackers.ini')]) == 0
    assert 'vot evaluate --workspace WORKSPACE csrt' in capsys.readouterr().out
    toolkit(oracles, workspace, 'evaluate', '--workspace', '.', 'csrt')
    toolkit(oracles, workspace, 'analysis', '--workspace', '.', '--format', 'json', 'csrt')

    (found,) = (workspace / 'analysis').glob('*.json')
    results = json.loads(found.read_text())['results']
    ((eao,),), ((accuracy, robustness, *_),) = results['baseline']['results']
    assert eao > 0.5
    assert accuracy > 0.5
    assert robustness == 1.0

    from vot.region.io import read_trajectory

    path = workspace / 'results' / 'csrt' / 'unsupervised' / 'square' / 'square_001.bin'
    theirs = [(box.x, box.y, box.width, box.height) for box in read_trajectory(str(path))[1:]]
    ours = run(create('csrt', 'auto', 0), 'csrt', sequence)
    np.testing.assert_allclose(theirs, ours.boxes[1:], atol=0.01)
    # The toolkit draws boxes as pixels, so overlaps are near ours and not equal.
    assert results['unsupervised']['results'][0][0][0] == pytest.approx(ours.scores.ao, abs=0.05)


def test_the_toolkit_is_told_why_a_run_ends(oracles, sequence):
    workspace = sequence.footage.parent.parent.parent
    main(['vot', '--model', 'csrt', '--trackers-ini', str(workspace / 'trackers.ini')])
    (sequence.footage / '00000003.jpg').write_text('no picture')
    said = toolkit(oracles, workspace, 'evaluate', '--workspace', '.', 'csrt')
    assert '00000003.jpg: no image that can be read' in said


def test_entries_call_this_python_with_what_was_asked(tmp_path, monkeypatch):
    (tmp_path / '50% here').mkdir()
    ini = tmp_path / 'trackers.ini'
    monkeypatch.chdir(tmp_path)
    options = ['--runtime', 'onnxruntime', '--weights', '50% here', '--trackers-ini', str(ini)]
    assert main(['vot', '--model', 'csrt,csrt+life', *options]) == 0
    parser = configparser.ConfigParser()
    parser.read(ini)
    assert parser.sections() == ['csrt', 'csrt_life']
    assert parser['csrt_life']['label'] == 'csrt+life'
    words = shlex.split(parser['csrt_life']['command'])
    assert words[0] == sys.executable
    assert words[1:] == [
        *('-m', 'tracker_ros.cli', 'vot', '--model', 'csrt+life'),
        *('--runtime', 'onnxruntime', '--weights', str(tmp_path / '50% here')),
    ]


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--model', 'csrt,csrt'], "--model 'csrt,csrt': one model answers"),
        (['--model', ','], "--model ',': one model answers"),
        (['--model', 'nonsense'], "no model 'nonsense'"),
        (['--model', 'csrt', '--trackers-ini', '/no/such/folder/x.ini'], '/no/such/folder/x.ini'),
    ],
)
def test_what_cannot_be_served_is_named(capsys, arguments, words):
    assert main(['vot', *arguments]) == 2
    assert words in capsys.readouterr().err


def test_without_trax_it_is_said_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'trax', None)
    assert main(['vot', '--model', 'csrt']) == 2
    assert 'needs TraX: python -m pip install vot-trax' in capsys.readouterr().err


def test_without_a_toolkit_at_the_other_end_it_ends(oracles):
    done = subprocess.run(
        [sys.executable, '-m', 'tracker_ros.cli', 'vot', '--model', 'csrt'],
        env={**os.environ, 'PYTHONPATH': str(oracles)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert 'no VOT toolkit answers on the standard input' in done.stderr
