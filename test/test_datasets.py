# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The benchmarks' layouts, as small trees of made-up pictures."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tracker_ros.evaluation.datasets import read_dataset
from tracker_ros.evaluation.sequences import SequenceError

THREE = '11,21,30,40\n12,22,30,40\n13,23,30,40\n'


def images(folder, count=3, first=1, digits=4):
    """Grey JPEGs, each of ten times the value of its number."""
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        picture = np.full((48, 64, 3), 10 * number % 250, np.uint8)
        cv2.imwrite(str(folder / f'{number:0{digits}}.jpg'), picture)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def read(root, **options):
    problems = []
    return read_dataset(root, problems, **options), [str(problem) for problem in problems]


def by_name(dataset):
    return {sequence.name: sequence for sequence in dataset.sequences}


def absent(sequence):
    return np.isnan(sequence.truth).any(axis=1).tolist()


def test_otb(tmp_path):
    images(tmp_path / 'Boy' / 'img')
    write(tmp_path / 'Boy' / 'groundtruth_rect.txt', THREE.replace(',', '\t'))
    write(tmp_path / 'anno' / 'att' / 'Boy.txt', '1,0,0,1,0,0,0,0,0,0,0')
    images(tmp_path / 'Jogging' / 'img')
    write(tmp_path / 'Jogging' / 'groundtruth_rect.1.txt', THREE)
    write(tmp_path / 'Jogging' / 'groundtruth_rect.2.txt', THREE)
    images(tmp_path / 'Human4' / 'img')
    write(tmp_path / 'Human4' / 'groundtruth_rect.1.txt', '')
    write(tmp_path / 'Human4' / 'groundtruth_rect.2.txt', THREE)
    dataset, problems = read(tmp_path)
    assert (dataset.benchmark, dataset.origin, problems) == ('otb', 1, [])
    found = by_name(dataset)
    assert list(found) == ['Boy', 'Human4', 'Jogging.1', 'Jogging.2']
    assert found['Boy'].truth[0].tolist() == [10, 20, 30, 40]
    assert found['Boy'].attributes == ('illumination variation', 'occlusion')
    assert found['Jogging.1'].attributes == ()


def test_frames_of_otb_that_do_not_begin_with_the_first_image(tmp_path):
    images(tmp_path / 'David' / 'img', count=5, first=298)
    write(tmp_path / 'David' / 'groundtruth_rect.txt', THREE)
    images(tmp_path / 'BlurCar1' / 'img', first=247)
    write(tmp_path / 'BlurCar1' / 'groundtruth_rect.txt', THREE)
    dataset, problems = read(tmp_path)
    assert problems == []
    values = [int(frame[0, 0, 0]) for frame in by_name(dataset)['David'].frames()]
    assert values == pytest.approx([3000 % 250, 3010 % 250, 3020 % 250], abs=2)


def test_dtb70(tmp_path):
    root = tmp_path / 'DTB70'
    images(root / 'Animal1' / 'img', digits=5)
    write(root / 'Animal1' / 'groundtruth_rect.txt', THREE)
    dataset, problems = read(root)
    assert (dataset.benchmark, len(dataset.sequences), problems) == ('dtb70', 1, [])
    assert dataset.sequences[0].truth[0].tolist() == [10, 20, 30, 40]


ENTRY = "struct('name','{}','path','F:\\data_seq\\UAV123\\{}\\','startFrame',{},'endFrame',{})"
CONFIG = (
    'function seqs=configSeqs\n'
    f'seqUAV123 = {{{ENTRY.format("bike1", "bike1", 1, 3)},...\n'
    f'    {ENTRY.format("bird1_2", "bird1", 4, 6)}}};\n'
    f'seqUAV20L = {{{ENTRY.format("bike1", "bike1", 2, 3)}}};\n'
)


def uav123(root, config=CONFIG):
    images(root / 'data_seq' / 'UAV123' / 'bike1', digits=6)
    images(root / 'data_seq' / 'UAV123' / 'bird1', count=8, digits=6)
    write(root / 'anno' / 'UAV123' / 'bike1.txt', THREE)
    write(root / 'anno' / 'UAV123' / 'bird1_2.txt', '1,1,5,5\nNaN,NaN,NaN,NaN\n2,2,5,5\n')
    write(root / 'anno' / 'UAV123' / 'att' / 'bike1.txt', '0,1,0,0,0,0,0,0,0,0,0,1')
    write(root / 'anno' / 'UAV20L' / 'bike1.txt', '1,1,5,5\n1,1,5,5\n')
    if config:
        write(root / 'configSeqs.m', config)


def test_uav123(tmp_path):
    uav123(tmp_path)
    dataset, problems = read(tmp_path)
    assert (dataset.benchmark, problems) == ('uav123', [])
    found = by_name(dataset)
    assert list(found) == ['bike1', 'bird1_2']
    assert found['bike1'].attributes == ('aspect ratio change', 'similar object')
    assert absent(found['bird1_2']) == [False, True, False]
    values = [int(frame[0, 0, 0]) for frame in found['bird1_2'].frames()]
    assert values == pytest.approx([40, 50, 60], abs=2)


def test_uav123_without_its_list_says_what_is_missing_for_parts_of_a_folder(tmp_path):
    uav123(tmp_path, config=None)
    dataset, problems = read(tmp_path)
    assert list(by_name(dataset)) == ['bike1']
    assert 'bird1_2' in problems[0]
    assert 'configSeqs.m' in problems[0]


def lasot(root, category='cat', number=3, **labels):
    folder = root / category / f'{category}-{number}'
    images(folder / 'img', digits=8)
    write(folder / 'groundtruth.txt', THREE)
    write(folder / 'full_occlusion.txt', labels.get('full_occlusion', '0,1,0'))
    write(folder / 'out_of_view.txt', labels.get('out_of_view', '0,0,1'))
    write(folder / 'nlp.txt', 'a grey cat\n')


@pytest.mark.parametrize(
    ('folder', 'benchmark'), [('LaSOT', 'lasot'), ('LaSOT_extension_subset', 'lasot_ext')]
)
def test_lasot_and_its_extension(tmp_path, folder, benchmark):
    root = tmp_path / folder
    lasot(root)
    write(root / 'annos' / 'att' / 'cat-3.txt', '0,1,0,0,0,0,0,0,0,0,0,0,0,1')
    dataset, problems = read(root)
    assert (dataset.benchmark, problems) == (benchmark, [])
    (sequence,) = dataset.sequences
    assert (sequence.name, sequence.text) == ('cat-3', 'a grey cat')
    assert absent(sequence) == [False, True, True]
    assert sequence.attributes == ('partial occlusion', 'aspect ratio change')


def test_lasots_toolkit_and_list_of_the_test_have_the_last_word(tmp_path):
    lasot(tmp_path)
    lasot(tmp_path, number=4)
    write(tmp_path / 'testing_set.txt', 'cat-3\ncat-9\n')
    write(tmp_path / 'annos' / 'absent' / 'cat-3.txt', '0\n0\n1\n')
    dataset, problems = read(tmp_path)
    assert absent(dataset.sequences[0]) == [False, False, True]
    assert list(by_name(dataset)) == ['cat-3']
    assert problems == [f'{tmp_path / "testing_set.txt"}: cat-9 is not below {tmp_path}']


def got10k(root, part, truth, names=('GOT-10k_Val_000001',)):
    for name in names:
        images(root / part / name, digits=8)
        write(root / part / name / 'groundtruth.txt', truth)
    write(root / part / 'list.txt', '\n'.join(names) + '\n')


def test_got10k(tmp_path):
    got10k(tmp_path, 'val', THREE)
    write(tmp_path / 'val' / 'GOT-10k_Val_000001' / 'cover.label', '8\n0\n3\n')
    dataset, problems = read(tmp_path)
    assert (dataset.benchmark, dataset.origin, problems) == ('got10k', 0, [])
    (sequence,) = dataset.sequences
    assert sequence.truth[0].tolist() == [11, 21, 30, 40]
    assert absent(sequence) == [False, True, False]
    assert not sequence.withheld


def test_the_test_of_got10k_keeps_its_boxes_to_itself(tmp_path):
    got10k(tmp_path, 'test', '11.0000,21.0000,30.0000,40.0000\n', ['GOT-10k_Test_000001'])
    dataset, problems = read(tmp_path / 'test')
    assert problems == []
    (sequence,) = dataset.sequences
    assert sequence.withheld
    assert absent(sequence) == [False, True, True]
    assert len(list(sequence.frames())) == 3


@pytest.mark.parametrize(
    ('part', 'truth', 'withheld'), [('TEST', '1,2,3,4', True), ('TRAIN_0', THREE, False)]
)
def test_trackingnet(tmp_path, part, truth, withheld):
    images(tmp_path / part / 'frames' / 'abc-1', count=11, first=0, digits=1)
    write(tmp_path / part / 'anno' / 'abc-1.txt', truth if withheld else THREE + '1,2,3,4\n' * 8)
    dataset, problems = read(tmp_path)
    assert (dataset.benchmark, problems) == ('trackingnet', [])
    (sequence,) = dataset.sequences
    assert (sequence.withheld, len(sequence)) == (withheld, 11)
    last = [int(frame[0, 0, 0]) for frame in sequence.frames()][-1]
    assert last == pytest.approx(100, abs=2)


@pytest.mark.parametrize('parent', ['.', 'part1'])
def test_tnl2k(tmp_path, parent):
    folder = tmp_path / parent / 'Cartoon_done'
    images(folder / 'imgs')
    write(folder / 'groundtruth.txt', THREE)
    write(folder / 'language.txt', 'the bird that\nflies')
    write(tmp_path / 'annos' / 'att' / 'Cartoon_done_attribute.txt', '\n'.join('1' + '0' * 16))
    write(tmp_path / 'annos' / 'absent' / 'Cartoon_done.txt', '0 \n1 \n0 \n')
    dataset, problems = read(tmp_path)
    assert (dataset.benchmark, problems) == ('tnl2k', [])
    (sequence,) = dataset.sequences
    assert sequence.text == 'the bird that flies'
    assert sequence.attributes == ('camera motion',)
    assert absent(sequence) == [False, True, False]


def test_plain_folders(tmp_path):
    images(tmp_path / 'one' / 'img')
    write(tmp_path / 'one' / 'groundtruth.txt', THREE)
    dataset, problems = read(tmp_path)
    assert (dataset.benchmark, dataset.origin, problems) == ('plain', 0, [])
    assert dataset.sequences[0].truth[0].tolist() == [11, 21, 30, 40]


def test_what_is_broken_is_named_with_file_and_line_and_the_rest_is_read(tmp_path):
    lasot(tmp_path, number=1)
    lasot(tmp_path, number=2, full_occlusion='0,1')
    lasot(tmp_path, number=3, out_of_view='0,0,\nno')
    lasot(tmp_path, number=4)
    (tmp_path / 'cat' / 'cat-4' / 'groundtruth.txt').write_text('1,2,3,4\n5,6,seven,8\n1,2,3,4\n')
    lasot(tmp_path, number=5)
    (tmp_path / 'cat' / 'cat-5' / 'groundtruth.txt').unlink()
    dataset, problems = read(tmp_path)
    assert list(by_name(dataset)) == ['cat-1']
    expected = [
        ('cat-2/full_occlusion.txt:1:', '2 numbers where 3'),
        ('cat-3/out_of_view.txt:2:', "'no'"),
        ('cat-4/groundtruth.txt:2:', 'seven'),
        ('cat-5/groundtruth.txt:', 'no such file'),
    ]
    assert len(problems) == len(expected)
    for problem, (place, reason) in zip(problems, expected, strict=True):
        assert place in problem
        assert reason in problem


def test_a_missing_annotation_of_otb_is_named(tmp_path):
    images(tmp_path / 'Boy' / 'img')
    write(tmp_path / 'Boy' / 'groundtruth_rect.txt', THREE)
    images(tmp_path / 'Car' / 'img')
    dataset, problems = read(tmp_path)
    assert list(by_name(dataset)) == ['Boy']
    assert problems == [f'{tmp_path / "Car" / "groundtruth_rect.txt"}: no such file']


def test_a_layout_can_be_asked_for(tmp_path):
    images(tmp_path / 'Boy' / 'img')
    write(tmp_path / 'Boy' / 'groundtruth_rect.txt', THREE)
    assert read(tmp_path, benchmark='dtb70')[0].benchmark == 'dtb70'
    with pytest.raises(SequenceError, match='no benchmark'):
        read_dataset(tmp_path, [], 'kitti')
    with pytest.raises(SequenceError, match='layout of tnl2k'):
        read_dataset(tmp_path, [], 'tnl2k')
    with pytest.raises(SequenceError, match='no such folder'):
        read_dataset(Path(tmp_path / 'none'), [])
