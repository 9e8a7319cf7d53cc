# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training samples with the target's mask, and with the windows of the PySOT convention."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tracker_ros.geometry import mean_colour, pysot_context_side
from tracker_ros.training import scenes
from tracker_ros.training.light import Weather
from tracker_ros.training.pictures import Collection, read_collection
from tracker_ros.training.recipe import Validation
from tracker_ros.training.samples import Crops, Mix, Sample, Sampler
from tracker_ros.training.validation import read_pairs

CALM = Weather(0, 0, 0, 0, 0, 0, 0, 0, 0)
CROPS = Crops(template_px=32, search_px=64, masks=True)
PLAIN = Mix(absent=0.0, laid=0.0, any_rectangle=0.0, rivals=0.0, occluders=0.0, coarse_pair=0.0)


@pytest.fixture(scope='module')
def collection(tmp_path_factory) -> Collection:
    """White ellipses on grey, of known outline; and one picture without an outline."""
    folder = tmp_path_factory.mktemp('white')
    (folder / 'stills' / 'white').mkdir(parents=True)
    lines = []
    for number in range(4):
        middle, half = (50 + 3 * number, 36), (14 + number, 9)
        mask = np.zeros((72, 96), np.uint8)
        cv2.ellipse(mask, middle, half, 0, 0, 360, 1, -1)
        image = np.full((72, 96, 3), 60, np.uint8)
        image[mask > 0] = 255
        cv2.imwrite(str(folder / 'stills' / 'white' / f'{number}.png'), image)
        cv2.imwrite(str(folder / 'stills' / 'white' / f'{number}m.png'), mask)
        x, y, w, h = cv2.boundingRect(mask)
        entry = {'file': f'{number}.png', 'mask': f'{number}m.png'}
        lines.append({**entry, 'objects': [{'b': [x, y, w, h], 'm': 1}]})
    (folder / 'stills' / 'bare').mkdir()
    cv2.imwrite(str(folder / 'stills' / 'bare' / '0.png'), np.full((72, 96, 3), 60, np.uint8))
    for name, entries in (
        ('white', lines),
        ('bare', [{'file': '0.png', 'objects': [{'b': [9, 9, 30, 30]}]}]),
    ):
        path = folder / 'stills' / f'{name}.jsonl'
        path.write_text(''.join(json.dumps(entry) + '\n' for entry in entries))
    return read_collection(Path(folder))


def sampler_of(collection: Collection, crops: Crops = CROPS, **mix) -> Sampler:
    changed = dataclasses.replace(PLAIN, sources={'white': 1.0}, **mix)
    return Sampler(collection, crops, changed, CALM, seed=3)


def reach_of_mask(sample: Sample) -> np.ndarray:
    """x1, y1, x2, y2 of the mask in parts of the crop."""
    rows, columns = np.nonzero(sample.mask > 127)
    ends = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return np.array(ends) / sample.mask.shape[0]


def test_the_mask_is_where_the_target_is_seen(collection):
    sampler = sampler_of(collection)
    for number in range(20):
        sample = sampler(number)
        assert sample.has_mask == 1
        assert sample.mask.shape == (64, 64)
        assert sample.mask.dtype == np.uint8
        # In its box alone: beyond its picture the same picture may be mirrored.
        cx, cy, w, h = sample.box * 64
        x1, y1 = (max(0, round(float(value))) for value in (cx - w / 2, cy - h / 2))
        x2, y2 = round(float(cx + w / 2)), round(float(cy + h / 2))
        seen, mask = sample.search[y1:y2, x1:x2, 1] > 157, sample.mask[y1:y2, x1:x2] > 127
        # All pixels but the few that the outline cuts through.
        assert (mask != seen).sum() <= 0.05 * seen.size
        assert 0.6 * seen.size < seen.sum() < 0.95 * seen.size
        assert (sample.mask > 127).sum() <= mask.sum() + 0.05 * seen.size


def test_the_mask_of_a_laid_target_fills_its_box(collection):
    # Not turned: the box of a turned hull is wider than what is to be seen in it.
    sampler = sampler_of(collection, laid=1.0, turn=0.0, turn_far=0.0, stretch=0.0)
    for number in range(20):
        sample = sampler(number)
        cx, cy, w, h = sample.box
        corners = np.clip([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 0, 1)
        np.testing.assert_allclose(reach_of_mask(sample), corners, atol=2 / 64)


def test_what_is_in_front_of_the_target_is_not_in_its_mask(collection):
    free, hidden = (sampler_of(collection, occluders=share) for share in (0.0, 1.0))
    less = 0
    for number in range(20):
        # The same but for the numbers drawn after the scene.
        before, after = free(number).mask > 127, hidden(number).mask > 127
        assert not (after & ~before).any()
        less += after.sum() < before.sum()
    assert less >= 15


def test_no_mask_where_there_is_no_target_or_no_outline(collection):
    absent = sampler_of(collection, absent=1.0)(0)
    bare = Sampler(collection, CROPS, dataclasses.replace(PLAIN, sources={'bare': 1.0}), CALM)(0)
    for sample in (absent, bare):
        assert sample.has_mask == 0
        assert sample.mask.shape == (64, 64)
        assert not sample.mask.any()


def test_samples_are_the_same_whether_masks_are_asked_for_or_not(collection):
    mix = {'absent': 0.2, 'laid': 0.5, 'rivals': 0.5, 'occluders': 0.5}
    with_masks = sampler_of(collection, **mix)
    without = sampler_of(collection, dataclasses.replace(CROPS, masks=False), **mix)
    for number in range(20):
        one, other = with_masks(number), without(number)
        assert other.mask is None
        for name in ('templates', 'template_boxes', 'search', 'box', 'present', 'certain'):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize(('width', 'height'), [(20.0, 20.0), (40.0, 10.0), (8.0, 24.0)])
def test_windows_of_the_pysot_convention(width, height):
    """A template's window is the box with its context; a search region's 255 / 127 of that."""
    hull = np.array([[10, 5], [10 + width, 5], [10, 5 + height], [10 + width, 5 + height]])
    side = pysot_context_side(width, height)
    for factor, crop_px, window in ((2.0, 127, side), (2 * 255 / 127, 255, side * 255 / 127)):
        placement = scenes.placed(hull, np.eye(2), scenes.Window(factor, context=0.5), crop_px)
        x1, y1, x2, y2 = scenes.extent(scenes.moved(hull, placement))
        assert (x2 - x1) / crop_px == pytest.approx(width / window)
        assert (y2 - y1) / crop_px == pytest.approx(height / window)
        assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((crop_px / 2, crop_px / 2))


@pytest.mark.parametrize('context', [0.0, 0.5])
def test_beyond_the_picture_it_is_plain(collection, context):
    """In the PySOT convention of the picture's mean colour, otherwise black."""
    crops = dataclasses.replace(CROPS, context=context, search_factor=12.0)
    sampler = sampler_of(collection, crops, filled=False)
    means = [
        list(mean_colour(collection.picture(('white', f'{number}.png')))) for number in range(4)
    ]
    for number in range(4):
        corner = sampler(number).search[0, 0].tolist()
        assert corner in (means if context else [[0, 0, 0]])


def test_without_context_a_window_is_the_root_of_the_area():
    assert scenes.reach_of(40.0, 10.0, 0.0) == np.sqrt(400.0)


def test_pairs_are_cut_in_the_recipe_s_convention(tmp_path):
    """A white bar on black is where each pair says it is, in both conventions."""
    folder = tmp_path / 'footage' / 'bar'
    (folder / 'img').mkdir(parents=True)
    boxes = [(60 + 2 * number, 50, 48, 12) for number in range(4)]
    for number, (x, y, w, h) in enumerate(boxes):
        frame = np.zeros((120, 200, 3), np.uint8)
        frame[y : y + h, x : x + w] = 255
        cv2.imwrite(str(folder / 'img' / f'{number + 1:04d}.png'), frame)
    (folder / 'groundtruth.txt').write_text('\n'.join(','.join(map(str, box)) for box in boxes))
    validation = Validation(folder=str(tmp_path / 'footage'), pairs=3, gap_frames=2)
    widths = []
    for context in (0.0, 0.5):
        pairs = read_pairs(validation, dataclasses.replace(CROPS, context=context), tmp_path)
        for crop, box in zip(pairs.searches, pairs.boxes, strict=True):
            rows, columns = np.nonzero(crop[..., 1] > 127)
            cx, cy, w, h = box * 64
            # What lies beyond the crop is not seen.
            assert columns.min() == pytest.approx(max(0, cx - w / 2), abs=1.5)
            assert columns.max() + 1 == pytest.approx(min(64, cx + w / 2), abs=1.5)
            assert rows.min() == pytest.approx(max(0, cy - h / 2), abs=1.5)
        widths.append(pairs.template_boxes[:, 2].mean())
    # The box with its context is wider than what the root of its area says.
    assert widths[0] == pytest.approx(48 / 48, abs=0.03)
    assert widths[1] == pytest.approx(48 / np.sqrt(78 * 42), abs=0.03)
    assert len(list(tmp_path.glob('pairs-*.npz'))) == 2
