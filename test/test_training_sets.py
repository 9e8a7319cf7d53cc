# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The field's training sets in their own layouts: miniatures of each, written here."""

from __future__ import annotations

import json
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip('torch', reason='needs PyTorch: pip install torch')

from tracker_ros.cli import main  # noqa: E402
from tracker_ros.geometry import Box, stark_crop  # noqa: E402
from tracker_ros.networks.kestrel import VARIANTS, Variant  # noqa: E402
from tracker_ros.training.layouts import LAYOUTS, lasot_test  # noqa: E402
from tracker_ros.training.light import Weather  # noqa: E402
from tracker_ros.training.loop import train  # noqa: E402
from tracker_ros.training.outlines import filled, from_runs, runs_of, size_of, with_indices  # noqa: E402
from tracker_ros.training.pictures import Appearance, Collection, DataError, Subject  # noqa: E402
from tracker_ros.training.recipe import Recipe, RecipeError, recipe_from  # noqa: E402
from tracker_ros.training.samples import Crops, Mix, Sampler  # noqa: E402
from tracker_ros.training.sets import SetSource, mix_of, read_set, read_sources  # noqa: E402

WIDTH, HEIGHT = 96, 72


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv('TRACKER_ROS_CACHE', str(tmp_path_factory.mktemp('cache')))


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def picture(path: Path, seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    write(path, cv2.imencode('.png' if path.suffix == '.png' else '.jpg', image)[1].tobytes())


def lines(rows: list[str]) -> str:
    return '\n'.join(rows) + '\n'


def palette_png(indices: np.ndarray, bits: int = 8) -> bytes:
    """A PNG with a palette in which all indices but 0 have the same colour."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack('>I', len(content)) + body + struct.pack('>I', zlib.crc32(body))

    height, width = indices.shape
    if bits == 8:
        packed = indices
    else:
        packed = np.packbits(
            np.unpackbits(indices[..., None], axis=2)[..., 8 - bits :].reshape(height, -1), axis=1
        )
    rows = b''.join(b'\0' + row.tobytes() for row in packed)
    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, bits, 3, 0, 0, 0))
        + chunk(b'PLTE', bytes(3) + b'\xc0\x80\x40' * ((1 << bits) - 1))
        + chunk(b'IDAT', zlib.compress(rows))
        + chunk(b'IEND', b'')
    )


# Miniatures. Each has two sequences, or pictures with two objects.


def write_lasot(root: Path) -> None:
    for name, flags in (
        ('airplane-2', '0,0,1,0'),
        ('airplane-3', '0,0,0,0'),
        ('airplane-1', '0,0,0,0'),
    ):
        folder = root / 'airplane' / name
        write(
            folder / 'groundtruth.txt',
            lines(['11,21,30,20', '12,21,30,20', '13,21,30,20', '14,21,0,0']),
        )
        write(folder / 'full_occlusion.txt', flags)
        write(folder / 'out_of_view.txt', '0,0,0,0')
        write(folder / 'nlp.txt', f'white {name}\n')
        for number in range(1, 5):
            picture(folder / 'img' / f'{number:08d}.jpg', number)


def write_got10k(root: Path) -> None:
    names = ['GOT-10k_Train_000001', 'GOT-10k_Train_000002']
    write(root / 'train' / 'list.txt', lines(names))
    for name in names:
        folder = root / 'train' / name
        write(
            folder / 'groundtruth.txt',
            lines([f'{10 + k}.5000,20.0000,30.0000,20.0000' for k in range(4)]),
        )
        write(folder / 'absence.label', lines(['0', '1', '0', '0']))
        write(folder / 'cover.label', lines(['8', '8', '0', '3']))
        write(
            folder / 'meta_info.ini',
            '[METAINFO]\nurl: https://example.org/a:b\nobject_class: pickup truck\n'
            'motion_class: driving\nmajor_class: vehicle\nroot_class: artifact\n',
        )
        for number in range(1, 5):
            picture(folder / f'{number:08d}.jpg', number)


def write_trackingnet(root: Path) -> None:
    for part, name in (('TRAIN_0', 'abc_0'), ('TRAIN_11', '-3TI_2')):
        write(
            root / part / 'anno' / f'{name}.txt',
            lines([f'{10.25 + k},20.5,30.125,20' for k in range(3)]),
        )
        for number in range(3):
            picture(root / part / 'frames' / name / f'{number}.jpg', number)
    write(root / 'TEST' / 'anno' / 'test_0.txt', '1,2,3,4\n')


def write_tnl2k(root: Path) -> None:
    for name in ('Cartoon_1', 'INF_2', 'test_3'):
        folder = root / 'TNL2K_train' / name
        write(folder / 'groundtruth.txt', lines(['10,20,30,20', '0,0,0,0', '12,20,30,20']))
        write(folder / 'language.txt', 'the red thing  on the left\n')
        for number in (9, 10, 11):
            picture(folder / 'imgs' / f'frame {number}.png', number)


def voc(objects: list[str]) -> str:
    return (
        '<annotation><folder>x</folder><filename>y</filename>'
        f'<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>{"".join(objects)}</annotation>'
    )


def thing(box: tuple[float, ...], track: int | None = None, name: str = 'n02958343') -> str:
    identity = '' if track is None else f'<trackid>{track}</trackid>'
    x1, y1, x2, y2 = box
    return (
        f'<object>{identity}<name>{name}</name><bndbox><xmax>{x2}</xmax><xmin>{x1}</xmin>'
        f'<ymax>{y2}</ymax><ymin>{y1}</ymin></bndbox><occluded>0</occluded></object>'
    )


def write_vid(root: Path) -> None:
    for video in ('ILSVRC2015_train_00000000', 'ILSVRC2015_train_00000001'):
        below = f'VID/train/ILSVRC2015_VID_train_0000/{video}'
        for frame in range(3):
            objects = [thing((10 + frame, 20, 40 + frame, 40), 0)]
            if frame != 1:
                objects.append(thing((50, 30, 70, 60 + frame), 1, 'n02084071'))
            write(root / 'Annotations' / below / f'{frame:06d}.xml', voc(objects))
            picture(root / 'Data' / below / f'{frame:06d}.JPEG', frame)


def write_det(root: Path) -> None:
    for below in ('ILSVRC2013_train/n01/n01_7', 'ILSVRC2014_train_0000/t_1'):
        objects = [thing((10, 20, 40, 40)), thing((50, 30, 70, 60), name='n02084071')]
        write(root / 'Annotations' / 'DET' / 'train' / f'{below}.xml', voc(objects))
        picture(root / 'Data' / 'DET' / 'train' / f'{below}.JPEG')


def write_ytbb(root: Path) -> None:
    rows = []
    for video, kind in (('AAA-', '0'), ('_B_b', '17')):
        for second in (2, 1, 3, 4):
            time = 1000 * second
            sides = f'0.1{second},0.5,0.25,0.5'
            if second == 3:
                rows.append(f'{video},{time},{kind},cat,1,absent,-1.0,-1.0,-1.0,-1.0')
                continue
            rows.append(f'{video},{time},{kind},cat,1,present,{sides}')
            if second != 4:
                name = f'{video}_{time}_{kind}_1.jpg'
                picture(root / 'yt_bb_detection_train' / kind / name, second, 100, 80)
    write(root / 'yt_bb_detection_train.csv', lines(rows))


SQUARE = [10, 20, 40, 20, 40, 40, 10, 40]
RUNS = [0, 2 * HEIGHT, (WIDTH - 2) * HEIGHT]


def coco() -> dict:
    def item(
        number: int, image: int, box: list[float], segmentation: object, crowd: int = 0
    ) -> dict:
        return {'id': number, 'image_id': image, 'category_id': 18, 'bbox': box, 'iscrowd': crowd,
                'segmentation': segmentation, 'area': 1}  # fmt: skip

    runs = {'size': [HEIGHT, WIDTH], 'counts': RUNS}
    return {
        'images': [
            {'id': k, 'file_name': f'{k:012d}.jpg', 'width': WIDTH, 'height': HEIGHT}
            for k in (9, 25)
        ],
        'categories': [{'id': 18, 'name': 'dog'}],
        'annotations': [
            item(1, 25, [10.0, 20.0, 30.0, 20.0], [SQUARE]),
            item(2, 9, [0.0, 0.0, 2.0, 72.0], runs),
            item(3, 9, [0.0, 0.0, 50.0, 50.0], runs, crowd=1),
            item(4, 9, [50.5, 20.25, 10.0, 20.0], []),
        ],
    }  # fmt: skip


def write_coco(root: Path) -> None:
    write(root / 'annotations' / 'instances_train2017.json', json.dumps(coco()))
    for number in (9, 25):
        picture(root / 'train2017' / f'{number:012d}.jpg', number)


def write_vos(root: Path) -> None:
    videos = {}
    for video, bits in (('0a1', 8), ('0b2', 4)):
        frames = ['00000', '00005', '00010']
        videos[video] = {
            'objects': {
                '1': {'category': 'penguin', 'frames': frames},
                '2': {'category': 'dog', 'frames': frames[1:]},
            }
        }
        for place, frame in enumerate(frames):
            picture(root / 'train' / 'JPEGImages' / video / f'{frame}.jpg', place)
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            mask[20:40, 10 + place : 40 + place] = 1
            if place == 1:
                mask[50:60, 60:80] = 2
            write(root / 'train' / 'Annotations' / video / f'{frame}.png', palette_png(mask, bits))
    write(root / 'train' / 'meta.json', json.dumps({'videos': videos}))


WRITERS: dict[str, Callable[[Path], None]] = {
    'lasot': write_lasot,
    'got10k': write_got10k,
    'trackingnet': write_trackingnet,
    'tnl2k': write_tnl2k,
    'imagenet_vid': write_vid,
    'imagenet_det': write_det,
    'youtube_bb': write_ytbb,
    'coco': write_coco,
    'youtube_vos': write_vos,
}


def read(kind: str, root: Path, told: list[str] | None = None, **more: str) -> list[Subject]:
    tell = [].append if told is None else told.append
    return read_set(SetSource(kind, str(root), **more), tell)[0]


def boxes_of(subject: Subject) -> list[tuple[float, ...]]:
    return [each.box.xywh() for each in subject.appearances]


def names_of(subject: Subject) -> list[str]:
    return [each.picture[1] for each in subject.appearances]


# Reading


def test_all_kinds_have_a_miniature():
    assert set(WRITERS) == set(LAYOUTS)


def test_lasot(tmp_path):
    write_lasot(tmp_path)
    subjects = read('lasot', tmp_path)
    assert len(subjects) == 2, 'airplane-1 is of the test'
    hidden, seen = subjects
    assert boxes_of(hidden) == [(10, 20, 30, 20), (11, 20, 30, 20)], 'counted from 1; occluded'
    assert boxes_of(seen) == [(10, 20, 30, 20), (11, 20, 30, 20), (12, 20, 30, 20)]
    assert names_of(seen)[2] == 'airplane/airplane-3/img/00000003.jpg'
    assert [each.frame for each in seen.appearances] == [0, 1, 2]
    assert (hidden.label, hidden.sentence) == ('airplane', 'white airplane-2')
    assert len(read('lasot', tmp_path, split='test')) == 1
    assert len(read('lasot', tmp_path, split='all')) == 3


def test_where_a_target_is_hidden_is_kept_apart(tmp_path):
    write_lasot(tmp_path)
    hidden, seen = read('lasot', tmp_path)
    frames = [(each.frame, each.picture[1][-6:-4], each.box.x) for each in hidden.hidden]
    assert frames == [(2, '03', 11), (3, '04', 11)], 'with the box before'
    assert [each.frame for each in seen.hidden] == [3]
    write_trackingnet(tmp_path / 'other')
    assert not read('trackingnet', tmp_path / 'other')[0].hidden


def test_a_hidden_target_is_a_negative_pair(tmp_path):
    write_lasot(tmp_path)
    collection = read_sources('', [SetSource('lasot', str(tmp_path))])
    asked = []
    picture_of = collection.picture
    collection.picture = lambda key: (asked.append(key), picture_of(key))[1]
    mix = Mix(absent=1.0, absent_own=1.0, any_rectangle=0, rivals=0, occluders=0, filled=False)
    sampler = Sampler(collection, Crops(template_px=32, search_px=64), mix, Weather())
    hidden = {each.picture for subject in collection.subjects for each in subject.hidden}
    for number in range(6):
        asked.clear()
        sample = sampler(number)
        assert (sample.present, sample.certain) == (0, 1)
        assert asked[-1] in hidden
        assert not hidden & set(asked[:-1])


def test_the_test_of_lasot_is_left_out_of_its_training():
    test = lasot_test()
    assert len(test) == 70
    assert all(len(numbers) == 4 and max(numbers) <= 20 for numbers in test.values())
    # From protocol II of the paper's supplement, as everybody evaluates.
    assert test['airplane'] == {1, 9, 13, 15}
    assert test['volleyball'] == {1, 13, 18, 19}


def test_got10k(tmp_path):
    write_got10k(tmp_path)
    first, _ = read('got10k', tmp_path)
    assert boxes_of(first) == [(10.5, 20, 30, 20), (13.5, 20, 30, 20)], 'absent, and covered'
    assert names_of(first) == [f'train/GOT-10k_Train_000001/{k:08d}.jpg' for k in (1, 4)]
    assert [each.frame for each in first.appearances] == [0, 3]
    assert first.label == 'pickup truck'
    assert first.sentence == 'pickup truck driving vehicle artifact'


@pytest.mark.parametrize('words', ['1\n', 'GOT-10k_Train_000002\n'])
def test_sequences_are_chosen_by_name_or_number(tmp_path, words):
    """Such as those of GOT-10k that VOT allows."""
    write_got10k(tmp_path / 'set')
    write(tmp_path / 'only.txt', words)
    (only,) = read('got10k', tmp_path / 'set', only=str(tmp_path / 'only.txt'))
    assert names_of(only)[0].startswith('train/GOT-10k_Train_000002/')


def test_what_is_chosen_must_be_there(tmp_path):
    write_got10k(tmp_path / 'set')
    for words, message in (('2', 'no sequence 2 of 2'), ('nobody', 'no sequence nobody')):
        write(tmp_path / 'only.txt', words)
        with pytest.raises(DataError, match=message):
            read('got10k', tmp_path / 'set', only=str(tmp_path / 'only.txt'))
    with pytest.raises(DataError, match='no list of sequences'):
        read('coco', tmp_path / 'set', only='some.txt')


def test_trackingnet(tmp_path):
    write_trackingnet(tmp_path)
    first, second = read('trackingnet', tmp_path)
    assert boxes_of(first) == [(10.25 + k, 20.5, 30.125, 20) for k in range(3)]
    assert names_of(second) == [f'TRAIN_11/frames/-3TI_2/{k}.jpg' for k in range(3)]


def test_tnl2k(tmp_path):
    write_tnl2k(tmp_path)
    first, second = read('tnl2k', tmp_path)
    assert boxes_of(first) == [(10, 20, 30, 20), (12, 20, 30, 20)]
    assert names_of(second) == [f'TNL2K_train/INF_2/imgs/frame {k}.png' for k in (9, 11)]
    assert first.sentence == 'the red thing on the left'


def test_imagenet_vid(tmp_path):
    write_vid(tmp_path)
    subjects = read('imagenet_vid', tmp_path)
    assert len(subjects) == 4, 'two tracks in each of two videos'
    assert boxes_of(subjects[0]) == [(10 + k, 20, 30, 20) for k in range(3)]
    assert boxes_of(subjects[1]) == [(50, 30, 20, 30), (50, 30, 20, 32)]
    assert [each.frame for each in subjects[1].appearances] == [0, 2]
    assert [each.label for each in subjects[:2]] == ['n02958343', 'n02084071']
    assert names_of(subjects[3])[1] == (
        'Data/VID/train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000001/000002.JPEG'
    )


def test_imagenet_det(tmp_path):
    write_det(tmp_path)
    subjects = read('imagenet_det', tmp_path)
    assert [boxes_of(each)[0] for each in subjects[:2]] == [(10, 20, 30, 20), (50, 30, 20, 30)]
    assert names_of(subjects[2]) == ['Data/DET/train/ILSVRC2014_train_0000/t_1.JPEG']
    assert not any(each.is_clip for each in subjects)


def test_youtube_bb(tmp_path):
    write_ytbb(tmp_path)
    first, second = read('youtube_bb', tmp_path)
    assert boxes_of(first) == [
        pytest.approx((100 * (0.1 + second / 100), 20, 100 * (0.4 - second / 100), 20))
        for second in (1, 2)
    ], 'in the order of time; without absent ones, and those whose picture is gone'
    assert names_of(second) == [
        f'yt_bb_detection_train/17/_B_b_{1000 * second}_17_1.jpg' for second in (1, 2)
    ]
    assert [each.frame for each in first.appearances] == [30, 60]


def test_coco(tmp_path):
    write_coco(tmp_path)
    collection = read_sources('', [SetSource('coco', str(tmp_path))])
    runs, plain, square = collection.subjects
    assert [boxes_of(each)[0] for each in (square, plain)] == [
        (10, 20, 30, 20),
        (50.5, 20.25, 10, 20),
    ]
    assert plain.appearances[0].mask is None
    assert names_of(square) == ['train2017/000000000025.jpg']
    assert square.label == 'dog'
    true = np.zeros((HEIGHT, WIDTH), np.uint8)
    true[20:40, 10:40] = 255
    np.testing.assert_array_equal(collection.mask(square.appearances[0]), true)
    true = np.zeros((HEIGHT, WIDTH), np.uint8)
    true[:, :2] = 255
    np.testing.assert_array_equal(collection.mask(runs.appearances[0]), true)
    assert len(collection.pictures) == 2


def test_youtube_vos(tmp_path):
    write_vos(tmp_path)
    collection = read_sources('', [SetSource('youtube_vos', str(tmp_path))])
    assert len(collection.subjects) == 4
    for penguin, dog in (collection.subjects[:2], collection.subjects[2:]):
        assert (penguin.label, dog.label) == ('penguin', 'dog')
        assert boxes_of(penguin) == [(10 + k, 20, 30, 20) for k in range(3)]
        assert boxes_of(dog) == [(60, 50, 20, 10)], 'in one of its frames it is not seen'
        assert [each.frame for each in penguin.appearances] == [0, 5, 10]
        true = np.zeros((HEIGHT, WIDTH), np.uint8)
        true[50:60, 60:80] = 255
        np.testing.assert_array_equal(collection.mask(dog.appearances[0]), true)


# Masks


def test_a_polygon_is_filled_where_its_pixels_have_their_middle():
    triangle = filled([np.array([0.0, 0, 8, 0, 0, 8])], 10, 10)
    for row in range(10):
        assert triangle[row].tolist() == [int(x + row < 7) for x in range(10)]
    ring = filled(
        [np.array([1.0, 1, 9, 1, 9, 9, 1, 9, 1, 1, 3, 3, 7, 3, 7, 7, 3, 7, 3, 3])], 10, 10
    )
    assert ring.sum() == 64 - 16
    outside = filled([np.array([-5.0, -5, 3, -5, 3, 40, -5, 40])], 10, 10)
    assert outside[:, :3].all()
    assert not outside[:, 3:].any()


def test_runs_go_down_the_columns():
    mask = from_runs([1, 2, 3], 2, 3)
    assert mask.tolist() == [[0, 0], [1, 0], [1, 0]]
    with pytest.raises(ValueError, match='no mask of 2 x 3'):
        from_runs([1, 2], 2, 3)


def compressed(runs: list[int]) -> str:
    """COCO's compression, written from its description."""
    text = ''
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        while True:
            group, value = value & 0x1F, value >> 5
            is_last = value == (-1 if group & 0x10 else 0)
            text += chr(48 + group + (0 if is_last else 0x20))
            if is_last:
                break
    return text


def test_compressed_runs():
    for runs in ([0, 5, 7], [3, 1, 40, 2, 39, 1000, 5, 31, 6], [0, 16, 15, 32]):
        assert runs_of(compressed(runs)) == runs
    for text in ('~~', 'o', 'P' * 10):
        with pytest.raises(ValueError, match=r'compressed mask|within a number'):
            runs_of(text)


def test_a_palette_does_not_hide_the_indices():
    indices = np.random.default_rng(0).integers(0, 200, (40, 30)).astype(np.uint8)
    content = palette_png(indices)
    grey = cv2.imdecode(np.frombuffer(with_indices(content), np.uint8), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(grey, indices)
    plain = cv2.imencode('.png', indices)[1].tobytes()
    assert with_indices(plain) == plain


def test_sizes_are_read_from_headers(tmp_path):
    for name in ('a.jpg', 'a.png'):
        picture(tmp_path / name, 0, 123, 45)
        assert size_of((tmp_path / name).read_bytes()) == (123, 45)
    with pytest.raises(ValueError, match='no JPEG or PNG'):
        size_of(b'\xff\xd8\xff\xe0nothing')


# What is broken


def broken_set(kind: str, root: Path) -> Path:
    WRITERS[kind](root)
    return root


PLANE = 'airplane/airplane-2'
PICKUP = 'train/GOT-10k_Train_000001'
VIDEO = 'Annotations/VID/train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000'
DET = 'Annotations/DET/train/ILSVRC2014_train_0000'


@pytest.mark.parametrize(
    ('kind', 'file', 'content', 'message'),
    [
        ('lasot', f'{PLANE}/groundtruth.txt', '1,2,3,4\n1,2,3\n', r'groundtruth.txt:2: 3 numbers'),
        (
            'lasot',
            f'{PLANE}/groundtruth.txt',
            '1,2,3,4\n1,x,3,4\n',
            r'groundtruth.txt:2: .*not four',
        ),
        ('lasot', f'{PLANE}/out_of_view.txt', '0,0', r'out_of_view.txt:1: 2 numbers where 4'),
        ('got10k', f'{PICKUP}/groundtruth.txt', '', 'groundtruth.txt: is empty'),
        ('got10k', f'{PICKUP}/groundtruth.txt', '1,2,3,inf\n' * 4, ':1: a box cannot be inf'),
        ('got10k', f'{PICKUP}/groundtruth.txt', '1,2,3,1e9\n' * 4, 'no picture has a box'),
        ('got10k', f'{PICKUP}/cover.label', '8\n8\nx\n8\n', r"cover.label:3: 'x' is not"),
        ('trackingnet', 'TRAIN_0/anno/abc_0.txt', '1,2,3,4\n' * 9, 'picture that is not there'),
        (
            'tnl2k',
            'TNL2K_train/INF_2/groundtruth.txt',
            '1,2,3,4\n' * 5,
            r':5: the annotation ends',
        ),
        (
            'imagenet_vid',
            f'{VIDEO}/000001.xml',
            '<annotation>\n<object>',
            r'000001.xml:2: is no XML',
        ),
        ('imagenet_det', f'{DET}/t_1.xml', voc([thing((40, 20, 10, 40))]), 't_1.xml: a box of no'),
        ('imagenet_det', f'{DET}/t_1.xml', voc([thing((0, 0, 1e30, 40))]), 't_1.xml: .*is no box'),
        (
            'youtube_vos',
            'train/Annotations/0a1/00005.png',
            b'nothing',
            '00005.png: is no JPEG or PNG',
        ),
    ],
)
def test_a_broken_sequence_is_named_and_the_rest_used(tmp_path, kind, file, content, message):
    whole = read(kind, broken_set(kind, tmp_path / 'whole'))
    root = broken_set(kind, tmp_path / 'broken')
    write(root / file, content)
    told: list[str] = []
    subjects = read(kind, root, told)
    assert 0 < len(subjects) < len(whole)
    assert len(told) == 2, told
    assert 'left out' in told[1]
    assert re.search(message, told[1]), told[1]


def test_broken_lines_of_youtube_bb_are_named(tmp_path):
    write_ytbb(tmp_path)
    table = tmp_path / 'yt_bb_detection_train.csv'
    rows = table.read_text().splitlines()
    rows[1] = rows[1].replace('0.5', '1.5', 1)
    table.write_text(lines([*rows, 'AAA-,1']))
    told: list[str] = []
    (kept,) = read('youtube_bb', tmp_path, told)
    assert names_of(kept)[0].startswith('yt_bb_detection_train/17/')
    assert 'yt_bb_detection_train.csv:2: ' in told[1]
    assert 'yt_bb_detection_train.csv:9: 2 columns, not 10' in told[2]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'bbox': [1, 2, 'x', 4]}, 'annotation 0: ValueError'),
        ({'bbox': [1, 2, float('nan'), 4]}, 'annotation 0: .*is no box'),
        ({'bbox': [1, 2, 3, -4]}, 'annotation 0: a box of no size'),
        ({'category_id': 3}, 'annotation 0: KeyError: 3'),
        ({'image_id': 77}, 'annotation 0: KeyError: 77'),
        ({'segmentation': [[1, 2, 3]]}, 'annotation 0: .*three points'),
        ({'segmentation': [[1, 2, 3, 4, 5, 1e12]]}, 'annotation 0: .*far outside'),
        ({'segmentation': {'size': [72, 96], 'counts': [1 << 40]}}, 'annotation 0: .*of 96 x 72'),
        ({'segmentation': {'size': [72, 96], 'counts': '~~'}}, 'annotation 0: .*no compressed'),
    ],
)
def test_broken_annotations_of_coco_are_named(tmp_path, change, message):
    write_coco(tmp_path)
    content = coco()
    content['annotations'][0].update(change)
    write(tmp_path / 'annotations' / 'instances_train2017.json', json.dumps(content))
    told: list[str] = []
    assert len(read('coco', tmp_path, told)) == 2
    assert re.search(message, told[1]), told[1]


# What is hostile

BOMB = (
    '<?xml version="1.0"?>\n<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa">'
    '<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>\n'
    '<annotation><object><name>&b;</name></object></annotation>'
)


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-16'])
def test_entities_are_refused(tmp_path, encoding):
    write_det(tmp_path)
    bomb = BOMB.encode(encoding)
    write(tmp_path / 'Annotations' / 'DET' / 'train' / 'ILSVRC2014_train_0000' / 't_1.xml', bomb)
    told: list[str] = []
    assert len(read('imagenet_det', tmp_path, told)) == 2
    assert 't_1.xml:2: has a document type' in told[1]


@pytest.mark.parametrize(
    'name', ['../../secret.jpg', '/etc/passwd', 'a/../../b', '..\\b', 'c:/b', 'a\0b']
)
def test_names_stay_below_the_set(tmp_path, name):
    write_coco(tmp_path / 'coco')
    content = coco()
    content['images'][0]['file_name'] = name
    write(tmp_path / 'coco' / 'annotations' / 'instances_train2017.json', json.dumps(content))
    with pytest.raises(DataError, match='no name of a file below the set'):
        read('coco', tmp_path / 'coco')
    write_vos(tmp_path / 'vos')
    meta = {'videos': {name: {'objects': {'1': {'category': 'x', 'frames': ['00000']}}}}}
    write(tmp_path / 'vos' / 'train' / 'meta.json', json.dumps(meta))
    with pytest.raises(DataError, match='no name of a file below the set'):
        read('youtube_vos', tmp_path / 'vos')


def test_a_list_cannot_lead_elsewhere(tmp_path):
    write_got10k(tmp_path)
    write(tmp_path / 'train' / 'list.txt', '../../elsewhere\n')
    with pytest.raises(DataError, match='no name of a file below the set'):
        read('got10k', tmp_path)


@pytest.mark.parametrize(
    'content',
    [
        b'{',
        b'[' * 100_000,
        b'{"images": ' + b'9' * 10_000 + b'}',
        b'[]',
        b'{"videos": 3}',
        b'\xff\xfe\x00',
    ],
)
def test_hostile_json_is_refused(tmp_path, content):
    write_coco(tmp_path / 'coco')
    write(tmp_path / 'coco' / 'annotations' / 'instances_train2017.json', content)
    with pytest.raises(DataError, match=r'instances_train2017\.json'):
        read('coco', tmp_path / 'coco')
    write_vos(tmp_path / 'vos')
    write(tmp_path / 'vos' / 'train' / 'meta.json', content)
    with pytest.raises(DataError, match=r'meta\.json'):
        read('youtube_vos', tmp_path / 'vos')


def test_a_mask_that_is_too_large_is_not_decoded(tmp_path):
    write_vos(tmp_path)
    content = bytearray((tmp_path / 'train' / 'Annotations' / '0a1' / '00000.png').read_bytes())
    content[16:24] = struct.pack('>II', 60000, 4000)
    write(tmp_path / 'train' / 'Annotations' / '0a1' / '00000.png', bytes(content))
    told: list[str] = []
    assert len(read('youtube_vos', tmp_path, told)) == 2
    assert '00000.png: is too large' in told[1]


# Another folder, another time


@pytest.mark.parametrize('kind', list(LAYOUTS))
def test_another_layout_is_told_with_what_was_found(tmp_path, kind):
    write(tmp_path / 'notes.txt', 'x')
    (tmp_path / 'pictures').mkdir()
    with pytest.raises(DataError) as error:
        read(kind, tmp_path)
    assert f'is not laid out as {kind}: looked for {LAYOUTS[kind].looked_for}' in str(error.value)
    assert str(error.value).endswith('found notes.txt, pictures')
    with pytest.raises(DataError, match='there is no such folder'):
        read(kind, tmp_path / 'nowhere')


def test_an_unknown_kind_or_split_is_told(tmp_path):
    with pytest.raises(DataError, match="no set 'imagenet'; known are lasot"):
        read('imagenet', tmp_path)
    with pytest.raises(DataError, match="lasot has no split 'val'; there are train, test, all"):
        read('lasot', tmp_path, split='val')


@pytest.mark.parametrize('kind', list(LAYOUTS))
def test_annotations_are_read_once(tmp_path, kind):
    WRITERS[kind](tmp_path)
    told: list[str] = []
    first = read(kind, tmp_path, told)
    second = read(kind, tmp_path, told)
    assert len(told) == 1, 'it says so when it reads'
    for one, other in zip(first, second, strict=True):
        assert (one.label, one.sentence) == (other.label, other.sentence)
        assert list(one.appearances) == list(other.appearances)


def test_changed_annotations_are_read_again(tmp_path):
    write_lasot(tmp_path)
    read('lasot', tmp_path)
    path = tmp_path / 'airplane' / 'airplane-3' / 'groundtruth.txt'
    write(path, lines(['5,6,30,20'] * 4))
    os.utime(path, ns=(1, 1))
    told: list[str] = []
    assert boxes_of(read('lasot', tmp_path, told)[1])[0] == (4, 5, 30, 20)
    assert len(told) == 1


def test_a_damaged_cache_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv('TRACKER_ROS_CACHE', str(tmp_path / 'cache'))
    write_lasot(tmp_path / 'set')
    read('lasot', tmp_path / 'set')
    (kept,) = (tmp_path / 'cache' / 'sets').iterdir()
    kept.write_bytes(kept.read_bytes()[:700])
    assert len(read('lasot', tmp_path / 'set')) == 2
    kept.write_bytes(b'')
    assert len(read('lasot', tmp_path / 'set')) == 2


# Samples


@pytest.mark.parametrize('kind', list(LAYOUTS))
def test_samples_are_made_of_each(tmp_path, kind):
    WRITERS[kind](tmp_path)
    collection = read_sources('', [SetSource(kind, str(tmp_path))])
    crops = Crops(template_px=32, search_px=64)
    sampler = Sampler(collection, crops, Mix(), Weather(), seed=1)
    samples = [sampler(number) for number in range(12)]
    assert all(sample.search.shape == (64, 64, 3) for sample in samples)
    assert all(np.isfinite(sample.box).all() for sample in samples)
    assert any(sample.present for sample in samples)


def test_a_broken_picture_is_told_and_the_training_goes_on(tmp_path, capsys):
    write_trackingnet(tmp_path)
    write(tmp_path / 'TRAIN_0' / 'frames' / 'abc_0' / '1.jpg', b'broken')
    collection = read_sources('', [SetSource('trackingnet', str(tmp_path))])
    crops = Crops(template_px=32, search_px=64)
    first = [Sampler(collection, crops, Mix(), Weather())(number) for number in range(12)]
    told = capsys.readouterr().err
    assert 'is made anew: trackingnet: TRAIN_0/frames/abc_0/1.jpg is no picture' in told
    again = [Sampler(collection, crops, Mix(), Weather())(number) for number in range(12)]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.search, other.search)


def test_where_no_picture_is_whole_it_ends(tmp_path):
    write_trackingnet(tmp_path)
    for path in tmp_path.glob('TRAIN_*/frames/*/*.jpg'):
        write(path, b'broken')
    collection = read_sources('', [SetSource('trackingnet', str(tmp_path))])
    with pytest.raises(DataError, match='is no picture'):
        Sampler(collection, Crops(), Mix(), Weather())(0)


def test_a_mask_of_another_size_is_told(tmp_path):
    write_coco(tmp_path)
    picture(tmp_path / 'train2017' / '000000000025.jpg', 0, 50, 40)
    collection = read_sources('', [SetSource('coco', str(tmp_path))])
    with pytest.raises(DataError, match=r'000000000025\.jpg is 50 x 40, its mask 96 x 72'):
        collection.cutout(collection.subjects[2].appearances[0])


def test_weights_are_those_of_the_sets(tmp_path):
    write_lasot(tmp_path / 'a')
    write_got10k(tmp_path / 'b')
    sets = [
        SetSource('lasot', str(tmp_path / 'a'), weight=3.0),
        SetSource('got10k', str(tmp_path / 'b'), name='got'),
    ]
    assert mix_of(Mix(), '', sets).sources == {'lasot': 3.0, 'got': 1.0}
    own = Mix(sources={'own': 2.0})
    assert mix_of(own, 'folder', sets).sources == {'own': 2.0, 'lasot': 3.0, 'got': 1.0}
    assert mix_of(own, 'folder', []) is own
    with pytest.raises(DataError, match=r'say in mix\.sources'):
        mix_of(Mix(), 'folder', sets)
    collection = read_sources('', sets)
    assert {each.source for each in collection.subjects} == {'lasot', 'got'}
    with pytest.raises(DataError, match='two sources are called lasot'):
        read_sources('', [sets[0], sets[0]])


def test_what_comes_of_a_set_is_a_collection(tmp_path):
    write_got10k(tmp_path)
    collection = read_sources('', [SetSource('got10k', str(tmp_path))])
    assert isinstance(collection, Collection)
    assert len(collection.pictures) == 4
    shown = collection.subjects[0].appearances
    assert shown[-1] == shown[1]
    assert [each.box for each in shown[:1]] == [Box(10.5, 20, 30, 20)]
    assert collection.picture(shown[0].picture).shape == (HEIGHT, WIDTH, 3)


# The order of frames


def pairs(order: str, templates: int, frames: list[int], gap: int = 10) -> np.ndarray:
    """(200, 1 + templates) frames of the search crop, the first template, and the others."""
    box = Box(1, 2, 30, 20)
    shown = tuple(Appearance(('clip', str(each)), box, frame=each) for each in frames)
    sampler = Sampler(
        Collection([Subject('clip', None, shown)], [('clip', '0')], {}),
        Crops(templates=templates),
        Mix(order=order, gap_frames=gap, any_rectangle=0),
        Weather(),
    )
    found = []
    for number in range(200):
        _, first, second, further = sampler._choose(np.random.default_rng(number))
        assert len(further) == templates - 1
        found.append([second.frame, first.frame, *(each.frame for each in further)])
    return np.array(found)


SEEN = [*range(0, 40, 2), *range(100, 130)]


def test_causal_pairs_look_ahead():
    search, first, second = pairs('causal', 2, SEEN).T
    assert (search > first).all()
    assert (second < first).all()
    # From the last frame before the target is hidden it is far to the next.
    near = first != 38
    assert ((search - first)[near] <= 10).all()
    assert set(search[~near]) <= set(range(100, 104))
    assert len(set(first)) > 30


def test_intervals_are_around_the_first_template():
    search, first, second = pairs('interval', 2, SEEN).T
    assert np.abs(search - first).max() == 10
    assert np.abs(second - first).max() <= 10
    assert 60 < (search > first).sum() < 140


def test_a_trident_has_its_second_template_beside_the_search_frame():
    search, first, second = pairs('trident', 2, SEEN).T
    assert np.abs(search - first).max() > 100
    towards = np.where(first >= search, second - search, search - second)
    assert towards.min() >= 0
    assert towards.max() <= 10


@pytest.mark.parametrize('order', ['interval', 'causal', 'trident'])
def test_two_frames_are_enough(order):
    found = pairs(order, 2, [3, 90])
    assert set(found.ravel()) <= {3, 90}
    if order == 'causal':
        assert (found == [90, 3, 3]).all()


def test_an_unknown_order_is_told():
    with pytest.raises(DataError, match="'random' is none of near, interval, causal, trident"):
        pairs('random', 1, SEEN)


def test_pairs_of_the_papers_hold_nothing_made_up(tmp_path):
    """Without what this project adds: the crop is a crop, its box where the target is."""
    write_got10k(tmp_path)
    collection = read_sources('', [SetSource('got10k', str(tmp_path))])
    mix = Mix(
        order='causal', gap_frames=200, absent=0, any_rectangle=0, mirror=0, turn_boxes=0,
        stretch=0, rivals=0, occluders=0, fine=0, coarse_pair=0, inexact=0, filled=False,
    )  # fmt: skip
    calm = Weather(0, 0, 0, 0, 0, 0, 0, 0, 0)
    crops = Crops(template_px=32, search_px=64, centre_jitter=0, scale_jitter=0, template_jitter=0)
    sampler = Sampler(collection, crops, mix, calm)
    box = Box(13.5, 20, 30, 20)
    for number in range(4):
        sample = sampler(number)
        root = (box.w * box.h) ** 0.5
        expected = [0.5, 0.5, box.w / (4 * root), box.h / (4 * root)]
        np.testing.assert_allclose(sample.box, expected, atol=1e-5)
        subject = collection.subjects[0]
        frame = collection.picture(subject.appearances[1].picture)
        crop, _ = stark_crop(frame, box, 4.0, 64)
        apart = np.abs(sample.search[4:-4, 4:-4].astype(int) - crop[4:-4, 4:-4]).mean()
        assert apart < 6


def test_the_jitter_of_stark_is_that_of_the_box(tmp_path):
    """Each side by itself, so the root of the area varies less; the centre with the window."""
    write_got10k(tmp_path)
    collection = read_sources('', [SetSource('got10k', str(tmp_path))])
    mix = Mix(
        order='causal', gap_frames=200, absent=0, any_rectangle=0, turn_boxes=0, stretch=0,
        rivals=0, occluders=0, fine=0, coarse_pair=0, inexact=0, filled=False,
    )  # fmt: skip
    calm = Weather(0, 0, 0, 0, 0, 0, 0, 0, 0)
    crops = Crops(
        template_px=16, search_px=32, search_factor=5.0, centre_jitter=4.5, scale_jitter=0.5,
        template_jitter=0.0, box_jitter=True,
    )  # fmt: skip
    sampler = Sampler(collection, crops, mix, calm)
    boxes = np.array([sampler(number).box for number in range(400)], np.float64)
    factors = 1 / np.sqrt(boxes[:, 2] * boxes[:, 3])
    assert np.log(factors / 5).std() == pytest.approx(0.5 / np.sqrt(2), rel=0.1)
    apart = np.abs(boxes[:, :2] - 0.5)
    assert apart.max() < 0.45
    assert apart.mean() == pytest.approx(0.225, rel=0.08)


# Recipes


def recipe_of(data: dict) -> Recipe:
    return recipe_from(
        {
            'name': 'small',
            'family': 'kestrel',
            'variant': 'small',
            'data': data,
            'crops': {'template_px': 32, 'search_px': 64},
            'steps': {'samples': 16, 'batch': 8, 'warmup_samples': 8},
            'precision': 'fp32',
        },
        'here',
    )


def test_recipes_name_sets():
    sets = [
        {'kind': 'lasot', 'folder': '/data/lasot'},
        {'kind': 'coco', 'folder': 'c', 'weight': 2},
    ]
    recipe = recipe_of({'sets': sets, 'mix': {'order': 'trident'}})
    assert recipe.data.sets == (
        SetSource('lasot', '/data/lasot'),
        SetSource('coco', 'c', weight=2.0),
    )
    assert recipe_from(recipe.as_dict(), 'again') == recipe


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        ({}, 'give a folder, or sets'),
        ({'sets': [{'kind': 'lasot'}]}, r'sets\[0\]: the entries folder are missing'),
        ({'sets': [{'kind': 'a', 'folder': 'b', 'part': 1}]}, r'sets\[0\]: unknown entries part'),
        ({'sets': ['lasot']}, r'sets\[0\] must be a mapping'),
        ({'folder': 'x', 'mix': {'order': 'later'}}, r"mix\.order must be one of near.*'later'"),
    ],
)
def test_wrong_sets_are_refused(data, message):
    with pytest.raises(RecipeError, match=message):
        recipe_of(data)


@pytest.fixture
def small(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    variant = Variant((8, 8, 16, 16), (1, 1, 1), dim=16, head_dim=16, heads=2, groups=4)
    monkeypatch.setitem(VARIANTS, 'small', variant)
    yield
    torch.set_num_threads(before)


def test_a_network_is_trained_on_a_set(tmp_path, small, capsys):
    write_got10k(tmp_path / 'got')
    sets = [{'kind': 'got10k', 'folder': str(tmp_path / 'got')}]
    run = train(recipe_of({'sets': sets}), tmp_path / 'run')
    assert run.progress.samples == 16
    assert 'got10k: reading the annotations below' in capsys.readouterr().err


def test_the_command_tells_what_a_folder_is_not(tmp_path, small, capsys):
    write(tmp_path / 'got' / 'GOT-10k_Train_split_01.zip', 'x')
    recipe = recipe_of({'sets': [{'kind': 'got10k', 'folder': str(tmp_path / 'got')}]})
    write(tmp_path / 'recipe.yaml', yaml.safe_dump(recipe.as_dict()))
    assert main(['train', str(tmp_path / 'recipe.yaml'), '--out', str(tmp_path / 'run')]) == 2
    told = capsys.readouterr().err
    assert 'is not laid out as got10k: looked for train/list.txt and ' in told
    assert 'found GOT-10k_Train_split_01.zip' in told
