# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
import math

import cv2
import numpy as np
import parity
import pytest

from tracker_ros import geometry
from tracker_ros.geometry import Box, RotatedBox, pysot_crop, stark_crop


def test_box_conversions_agree():
    box = Box(10, 20, 30, 40)
    assert (box.cx, box.cy, box.area) == (25, 40, 1200)
    assert Box.from_center(25, 40, 30, 40) == box
    assert Box.from_corners(*box.corners()) == box


@pytest.mark.parametrize(
    ('other', 'iou'),
    [
        (Box(0, 0, 10, 10), 1.0),
        (Box(5, 0, 10, 10), 50 / 150),
        (Box(10, 0, 10, 10), 0.0),
        (Box(2, 2, 5, 5), 0.25),
        (Box(3, 3, -4, 5), 0.0),
    ],
)
def test_iou(other, iou):
    assert Box(0, 0, 10, 10).iou(other) == pytest.approx(iou)
    assert other.iou(Box(0, 0, 10, 10)) == pytest.approx(iou)


def test_finite():
    assert Box(0, 0, 1, 1).is_finite()
    assert not Box(0, math.nan, 1, 1).is_finite()
    assert not Box(0, 0, math.inf, 1).is_finite()


@pytest.mark.parametrize(
    ('box', 'expected'),
    [
        (Box(10, 10, 50, 50), Box(10, 10, 50, 50)),
        (Box(-20, -20, 50, 50), Box(0, 0, 30, 30)),
        (Box(-100, 0, 20, 20), Box(0, 0, 10, 20)),
        (Box(95, 75, 50, 50), Box(90, 70, 10, 10)),
        (Box(40, 40, 2, 3), Box(40, 40, 10, 10)),
    ],
)
def test_clip_keeps_a_margin_inside(box, expected):
    assert box.clipped(100, 80) == expected


def test_stark_box_mapping_is_the_inverse_of_the_crop():
    previous = Box(100, 80, 40, 30)
    _, side = stark_crop(np.zeros((200, 300, 3), np.uint8), previous, 4.0, 128)
    box = geometry.box_from_stark(0.5, 0.5, previous.w / side, previous.h / side, previous, side)
    assert box.xywh() == pytest.approx(previous.xywh())


@pytest.mark.parametrize('shape', [(240, 320, 3), (240, 320)])
def test_a_window_far_outside_is_all_fill(shape):
    image = np.full(shape, 200, np.uint8)
    crop = pysot_crop(image, -5000, 100, 60, 32, (7, 8, 9))
    assert crop.shape == (32, 32, *shape[2:])
    assert np.unique(crop).tolist() == ([7, 8, 9] if image.ndim == 3 else [7])


def test_too_small_a_box_is_refused():
    with pytest.raises(ValueError, match='too small'):
        stark_crop(np.zeros((50, 50, 3), np.uint8), Box(10, 10, 0, 5), 4.0, 32)
    with pytest.raises(ValueError, match='too small'):
        pysot_crop(np.zeros((50, 50, 3), np.uint8), 10, 10, 0, 32, (0, 0, 0))


def test_crop_does_not_alias_the_image():
    image = np.zeros((100, 100, 3), np.uint8)
    crop = pysot_crop(image, 50, 50, 32, 32, (0, 0, 0))
    crop[:] = 255
    assert image.max() == 0


@pytest.mark.parametrize('seed', range(12))
def test_sampling_a_huge_window_equals_padding_it(seed, monkeypatch):
    """The path for windows too large to pad gives the very same bytes as the plain one."""
    random = np.random.default_rng(seed)
    image = parity.synth_image(seed, int(random.integers(40, 200)), int(random.integers(40, 260)))
    if seed % 4 == 3:
        image = np.ascontiguousarray(image[..., 0])
    height, width = image.shape[:2]
    box = Box.from_center(
        random.uniform(0, width), random.uniform(0, height), *random.uniform(20, 150, 2)
    )
    size = int(random.integers(30, 300))
    padded, _ = stark_crop(image, box, 5.0, size)
    monkeypatch.setattr(geometry, '_LARGEST_PADDED_PX', 0)
    sampled, _ = stark_crop(image, box, 5.0, size)
    np.testing.assert_array_equal(sampled, padded)


def test_a_target_that_fills_the_image_makes_no_giant_copy(monkeypatch):
    def refuse(*_args, **_keywords):
        raise AssertionError('padded a huge window')

    monkeypatch.setattr(cv2, 'copyMakeBorder', refuse)
    image = np.full((1080, 1920, 3), 90, np.uint8)
    crop, side = stark_crop(image, Box(0, 0, 1920, 1080), 5.0, 288)
    assert side == math.ceil(math.sqrt(1920 * 1080) * 5)
    assert crop[144, 144].tolist() == [90, 90, 90]
    assert crop[0, 0].tolist() == [0, 0, 0]


@pytest.fixture(scope='module')
def golden(parity_folder):
    return parity.Golden(parity_folder, 'crops')


def images(golden, shared):
    for entry in golden.facts['images']:
        if entry['kind'] == 'synth':
            yield entry['name'], parity.synth_image(entry['seed'], entry['H'], entry['W'])
        else:
            yield (
                entry['name'],
                parity.frame(shared, entry['name'], entry['frame_index'], entry['sha256_16']),
            )


def test_parity_stark_crops(golden, shared):
    checked = 0
    for name, image in images(golden, shared):
        rgb = np.ascontiguousarray(image[..., ::-1])
        digests = golden.facts['sha'][f'{name}/stark']
        for row, digest in zip(
            golden.table(f'{name}/stark/table', 'stark_columns'), digests, strict=True
        ):
            box = Box(row['x'], row['y'], row['w'], row['h'])
            if row['ok'] == 0:
                with pytest.raises(ValueError, match='too small'):
                    stark_crop(rgb, box, row['factor'], int(row['N']))
                continue
            crop, side = stark_crop(rgb, box, row['factor'], int(row['N']))
            assert side == row['crop_side']
            assert int(row['N']) / side == pytest.approx(row['resize_factor'])
            if row['ok'] == 1:
                assert parity.sha16(crop) == digest, (name, row)
                checked += 1
    assert checked >= 60


def test_parity_pysot_crops(golden, shared):
    checked = 0
    for name, image in images(golden, shared):
        fill = geometry.mean_colour(image)
        mean = golden.arrays[f'{name}/channel_mean_bgr']
        assert fill == tuple(int(value) for value in mean)
        digests = golden.facts['sha'][f'{name}/pysot']
        for row, digest in zip(
            golden.table(f'{name}/pysot/table', 'pysot_columns'), digests, strict=True
        ):
            if row['ok'] != 1:
                continue
            crop = pysot_crop(image, row['cx'], row['cy'], int(row['s']), int(row['N']), fill)
            assert parity.sha16(crop) == digest, (name, row)
            checked += 1
    assert checked >= 60


def test_parity_stark_boxes(parity_folder):
    """Mapping to the image and clipping, on the official functions' own cases."""
    stored = parity.Golden(parity_folder, 'post_stark_box')
    cases = next(iter(stored.arrays.values()))
    assert len(cases) >= 40
    for case in cases:
        height, width, resize_factor = case[:3]
        previous = Box(*case[3:7])
        side = stored.facts['search_size'] / resize_factor
        mapped = geometry.box_from_stark(*case[7:11], previous, side)
        assert mapped.xywh() == pytest.approx(case[11:15], abs=1e-3)
        clipped = mapped.clipped(int(width), int(height), stored.facts['margin'])
        assert clipped.xywh() == pytest.approx(case[15:19], abs=1e-3)


def test_the_corners_of_a_rotated_box_turn_clockwise_in_the_image():
    level = RotatedBox(10.0, 20.0, 8.0, 4.0, 0.0)
    assert level.corners().tolist() == [[6, 18], [14, 18], [14, 22], [6, 22]]
    turned = RotatedBox(10.0, 20.0, 8.0, 4.0, math.pi / 2)
    np.testing.assert_allclose(turned.corners(), [[12, 16], [12, 24], [8, 24], [8, 16]])
