# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`tracker_ros models calibrate`: what it reads, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import fakes
import pytest
import yaml
from test_accounts import Dark

from tracker_ros.cli import main
from tracker_ros.cli.calibrate import write_entry
from tracker_ros.runtime.package import PackageError, read_package
from tracker_ros.tracking.confidence import FEATURES, Calibration

ENTRY = {'lost': 0.2, 'sure': 0.4, 'calibration': {'bias': -1.5, 'weights': {'score': 0.5}}}


def write_sequence(folder: Path, colour: tuple[int, int, int]) -> Path:
    """A folder of pictures with a rectangle that moves, and its annotation."""
    footage = Dark(folder.name, count=20, colour=colour)
    (folder / 'img').mkdir(parents=True)
    for number, frame in enumerate(footage.frames()):
        cv2.imwrite(str(folder / 'img' / f'{number:05}.png'), frame)
    rows = [','.join(f'{value:g}' for value in row) for row in footage.truth]
    (folder / 'groundtruth.txt').write_text('\n'.join(rows) + '\n')
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / 'data'
    write_sequence(folder / 'bright', (200, 220, 240))
    write_sequence(folder / 'blue', (250, 120, 60))
    return folder


def test_it_writes_what_it_fitted(tmp_path: Path, data: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    package = fakes.make_package(tmp_path / 'fake')
    other = write_sequence(tmp_path / 'check' / 'grey', (190, 190, 190)).parent
    told = tmp_path / 'told.json'
    code = main(
        ['models', 'calibrate', str(package), '--data', str(data), '--check', str(other)]
        + ['--json', str(told)]
    )
    assert code == 0, capsys.readouterr().err
    calibration = Calibration.of(read_package(package))
    assert calibration.is_fitted
    document = json.loads(told.read_text())
    assert document['model'] == 'fake'
    assert document['confidence'] == read_package(package).manifest['confidence']
    assert document['checked']['clips'] == 3
    assert set(document['confidence']['calibration']['weights']) <= set(FEATURES)
    assert 'calibrated, written to' in capsys.readouterr().out


def test_it_is_not_checked_on_what_it_was_fitted_to(tmp_path: Path, data: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    package = fakes.make_package(tmp_path / 'fake')
    before = (package / 'model.yaml').read_text()
    code = main(
        ['models', 'calibrate', str(package), '--data', str(data), '--check', str(data / 'blue')]
    )
    assert code == 1
    assert 'blue would be fitted to and checked on' in capsys.readouterr().err
    assert (package / 'model.yaml').read_text() == before


def test_data_that_are_not_there_are_named(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    package = fakes.make_package(tmp_path / 'fake')
    code = main(['models', 'calibrate', str(package), '--data', str(tmp_path / 'nowhere')])
    assert code == 1
    assert 'nowhere: no such folder' in capsys.readouterr().err


def test_the_rest_of_a_manifest_keeps_its_looks(tmp_path: Path) -> None:
    path = tmp_path / 'model.yaml'
    path.write_text(
        '# About the weights.\nname: made_up\n'
        'confidence:\n  lost: 0.4      # below: lost\n\n  sure: 0.6\n'
        'constants:   # of the head\n  score_map: 16\n'
    )
    write_entry(path, ENTRY)
    text = path.read_text()
    assert text.startswith('# About the weights.\nname: made_up\nconfidence:')
    assert text.endswith('constants:   # of the head\n  score_map: 16\n')
    assert yaml.safe_load(text)['confidence'] == ENTRY
    write_entry(path, ENTRY)
    assert path.read_text() == text


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('name: made_up\n', 'the entry confidence is missing'),
        ('{name: made_up,\nconfidence: {lost: 0.1, sure: 0.2}}\n', 'cannot be replaced'),
    ],
)
def test_a_manifest_that_cannot_be_edited_is_left_alone(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / 'model.yaml'
    path.write_text(text)
    with pytest.raises(PackageError, match=words):
        write_entry(path, ENTRY)
    assert path.read_text() == text
