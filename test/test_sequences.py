# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Annotated sequences in plain folders, and what is said about broken ones."""

import cv2
import numpy as np
import pytest

from tracker_ros.evaluation.sequences import SequenceError, read_boxes, read_sequences
from tracker_ros.geometry import Box

THREE = '1,2,30,40\n2\t3\t30\t40\n3 4 30 40\n'


def write_sequence(folder, annotation=THREE, frames=3, images='img'):
    """A folder with `frames` grey images, each of the value of its number."""
    (folder / images).mkdir(parents=True)
    for index in range(frames):
        image = np.full((48, 64, 3), index, np.uint8)
        cv2.imwrite(str(folder / images / f'{index + 1}.png'), image)
    if annotation is not None:
        (folder / 'groundtruth.txt').write_text(annotation)
    return folder


@pytest.mark.parametrize('images', ['img', 'images', '.'])
def test_one_folder_is_one_sequence(tmp_path, images):
    write_sequence(tmp_path / 'one', images=images)
    (sequence,) = read_sequences(tmp_path / 'one')
    assert (sequence.name, len(sequence)) == ('one', 3)
    assert (sequence.width, sequence.height) == (64, 48)
    assert sequence.truth.tolist() == [[1, 2, 30, 40], [2, 3, 30, 40], [3, 4, 30, 40]]
    assert sequence.first_box == Box(1, 2, 30, 40)
    assert [int(frame[0, 0, 0]) for frame in sequence.frames()] == [0, 1, 2]


def test_a_video_is_footage(tmp_path):
    writer = cv2.VideoWriter(
        str(tmp_path / 'video.avi'), cv2.VideoWriter.fourcc(*'MJPG'), 10, (64, 48)
    )
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    (tmp_path / 'groundtruth.txt').write_text(THREE)
    (sequence,) = read_sequences(tmp_path)
    assert sequence.footage.name == 'video.avi'
    assert sequence.rate_hz == pytest.approx(10)
    assert len(list(sequence.frames())) == 3


def test_a_folder_of_folders_is_read_in_natural_order(tmp_path):
    for name in ('seq10', 'seq2', 'seq1'):
        write_sequence(tmp_path / name)
    (tmp_path / 'notes').mkdir()
    (tmp_path / 'README.md').write_text('no sequence')
    assert [each.name for each in read_sequences(tmp_path)] == ['seq1', 'seq2', 'seq10']


@pytest.mark.parametrize('row', ['nan,nan,nan,nan', 'NaN NaN NaN NaN', '0,0,0,0', '5,5,-1,3'])
def test_absent_targets_become_nan(tmp_path, row):
    write_sequence(tmp_path / 'one', f'1,2,30,40\n{row}\n3,4,30,40\n')
    (sequence,) = read_sequences(tmp_path)
    assert np.isnan(sequence.truth).all(axis=1).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ('annotation', 'line', 'reason'),
    [
        ('1,2,30,40\n1,2,x,40\n1,2,3,4\n', 2, 'not four numbers'),
        ('1,2,30,40\n1,2,30\n1,2,3,4\n', 2, '3 numbers'),
        ('1,2,30,40\n\n1,2,3,4\n', 2, 'not four numbers'),
        ('1,2,3,4,5,6,7,8\n1,2,3,4\n1,2,3,4\n', 1, 'polygons are for "tracker_ros vot"'),
        ('64,2,30,40\n1,2,3,4\n1,2,3,4\n', 1, 'outside of the pictures, which are 64 x 48'),
        ('1,-40,30,40\n1,2,3,4\n1,2,3,4\n', 1, 'outside of the pictures'),
        ('1,2,3,inf\n1,2,3,4\n1,2,3,4\n', 1, 'infinite'),
        ('nan,nan,nan,nan\n1,2,3,4\n1,2,3,4\n', 1, 'absent'),
        ('1,2,30,40\n1,2,30,40\n', 2, '3 frames'),
        ('1,2,3,4\n' * 4, 4, '3 frames'),
    ],
)
def test_a_broken_annotation_names_file_and_line_and_the_rest_is_read(
    tmp_path, annotation, line, reason
):
    write_sequence(tmp_path / 'bad', annotation)
    write_sequence(tmp_path / 'good')
    problems = []
    assert [each.name for each in read_sequences(tmp_path, problems)] == ['good']
    (problem,) = problems
    assert f'{tmp_path / "bad" / "groundtruth.txt"}:{line}:' in str(problem)
    assert reason in str(problem)
    with pytest.raises(SequenceError, match=reason):
        read_sequences(tmp_path)


@pytest.mark.parametrize('annotation', [None, '', b'\xff\xfe\x00'])
def test_an_annotation_that_cannot_be_read_is_named(tmp_path, annotation):
    write_sequence(tmp_path / 'bad', None)
    if isinstance(annotation, bytes):
        (tmp_path / 'bad' / 'groundtruth.txt').write_bytes(annotation)
    elif annotation is not None:
        (tmp_path / 'bad' / 'groundtruth.txt').write_text(annotation)
    problems = []
    assert read_sequences(tmp_path, problems) == []
    assert str(tmp_path / 'bad' / 'groundtruth.txt') in str(problems[0])


def test_missing_or_broken_footage_is_named(tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'empty' / 'groundtruth.txt').write_text(THREE)
    (tmp_path / 'broken').mkdir()
    (tmp_path / 'broken' / 'groundtruth.txt').write_text(THREE)
    (tmp_path / 'broken' / 'video.mp4').write_bytes(b'no video at all')
    problems = []
    assert read_sequences(tmp_path, problems) == []
    assert 'video.mp4' in str(problems[0])
    assert str(tmp_path / 'empty') in str(problems[1])


def test_a_folder_without_sequences_is_refused(tmp_path):
    with pytest.raises(SequenceError, match='neither a sequence nor a folder of sequences'):
        read_sequences(tmp_path)
    with pytest.raises(SequenceError, match='no such folder'):
        read_sequences(tmp_path / 'missing')


def test_footage_that_changes_under_the_reader_is_named(tmp_path):
    write_sequence(tmp_path / 'one')
    (sequence,) = read_sequences(tmp_path)
    (tmp_path / 'one' / 'img' / '3.png').unlink()
    with pytest.raises(SequenceError, match='ends after 2 frames'):
        list(sequence.frames())


def test_a_byte_order_mark_and_trailing_blank_lines_are_accepted(tmp_path):
    path = tmp_path / 'groundtruth.txt'
    path.write_bytes(b'\xef\xbb\xbf1,2,3,4\r\n5,6,7,8\r\n\r\n')
    assert read_boxes(path).tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
