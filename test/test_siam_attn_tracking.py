# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""SiamAttn from an official-looking checkpoint to tracked sequences with masks."""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
import parity
import pytest
import torch
from fakes import Square, make_package
from test_siam_attn import build

from tracker_ros.export import siam_attn
from tracker_ros.export.convert import convert
from tracker_ros.geometry import Box, RotatedBox
from tracker_ros.runtime.engine import Engine, load_engine
from tracker_ros.runtime.package import ModelPackage, read_package
from tracker_ros.trackers.pysot import anchor_sizes
from tracker_ros.trackers.siam_attn import SiamAttn, smallest_outline

ANCHORS = anchor_sizes([0.33, 0.5, 1.0, 2.0, 3.0], stride=8, scale=8)


def hyper_parameters(case: dict) -> dict[str, float]:
    return {
        'penalty_k': case['penalty_k'],
        'window_influence': case['window_influence'],
        'size_rate': case['lr'],
    }


def official_box(x: float, y: float, w: float, h: float) -> Box:
    """A box as the official tracker is given it, whose middle is that of a row of pixels."""
    return Box.from_center(x + (w - 1) / 2, y + (h - 1) / 2, w, h)


def polygon_iou(outline: RotatedBox, polygon: np.ndarray) -> float:
    """Of the outline, in its official measure (middles of pixels), and four official corners."""
    inner = RotatedBox(
        outline.cx - 0.5, outline.cy - 0.5, outline.w - 1, outline.h - 1, outline.theta
    )
    found = np.float32(inner.corners())
    expected = cv2.convexHull(np.float32(polygon.reshape(4, 2)))[:, 0]
    common, _ = cv2.intersectConvexConvex(found, expected)
    areas = cv2.contourArea(found) + cv2.contourArea(expected)
    return common / (areas - common)


def area_of(mask: np.ndarray) -> int:
    return int(np.count_nonzero(mask))


class Answers(Engine):
    """Gives what it is told to, and remembers where it was asked to look closer."""

    name = 'answers'

    def __init__(self, search: dict, closer: dict) -> None:
        self.search_outputs, self.closer_outputs = search, closer
        self.rois: dict[str, np.ndarray] = {}

    def template(self, template, **others):
        return {}

    def search(self, crop, cached):
        return self.search_outputs

    def run(self, role, inputs):
        assert self.search_outputs.items() <= inputs.items()
        self.rois[role] = inputs['roi']
        return self.closer_outputs[role]


def undecoded(proposals: np.ndarray) -> np.ndarray:
    """(1, 20, 25, 25) as the network gives it, of boxes in pixels from the crop's middle."""
    cx, cy, w, h = proposals.astype(np.float64).reshape(4, 5, 25, 25)
    anchor_w, anchor_h = ANCHORS.T[:, :, None, None]
    points = (np.arange(25) - 12) * 8.0
    deltas = [
        (cx - points) / anchor_w,
        (cy - points[:, None]) / anchor_h,
        np.log(w / anchor_w),
        np.log(h / anchor_h),
    ]
    return np.stack(deltas).reshape(1, 20, 25, 25).astype(np.float32)


@pytest.fixture
def official_package(tmp_path) -> ModelPackage:
    """A package with the official settings and graphs of another size, which nobody runs."""
    official = siam_attn.manifest(None)
    folder = make_package(tmp_path / 'siamattn', 'siam_attn', **official)
    return read_package(folder)


@pytest.mark.parametrize('number', range(20))
def test_parity_postprocessing(official_package, parity_folder, number):
    golden = parity.Golden(parity_folder, 'post_siamattn')
    case = golden.facts['cases'][number]
    outputs = {
        name: golden.arrays[f'case{number}/{name}']
        for name in ('cls', 'loc', 'bbox_pred', 'mask_logits')
    }
    engine = Answers(
        {'cls': outputs['cls'], 'loc': undecoded(outputs['loc'])},
        {
            'refine': {'correction': outputs['bbox_pred']},
            'mask': {'mask_logits': outputs['mask_logits']},
        },
    )
    official_package.constants.update(
        hyper_parameters(case), mask_threshold=golden.facts['mask_threshold']
    )
    tracker = SiamAttn(official_package, engine)
    tracker.wants_mask = True
    image = np.zeros((case['H'], case['W'], 3), np.uint8)
    tracker.start(image, official_box(*case['init_box']))
    estimate = tracker.step(image)
    assert estimate.box.xywh() == pytest.approx(case['bbox'], abs=1e-3)
    assert estimate.score == pytest.approx(case['score'], abs=1e-5)
    assert engine.rois['refine'][0] == pytest.approx(case['roi_box'][1:], abs=1e-3)
    assert engine.rois['mask'][0] == pytest.approx(case['roi_mask'][1:], abs=1e-3)
    assert area_of(estimate.mask) == pytest.approx(case['mask_area'], abs=3)
    polygon = np.array(case['polygon'])
    if estimate.outline.theta == 0 and estimate.outline.w == estimate.box.w:
        # Without an outline the official tracker gives the corners of the upright box.
        corners = np.array(estimate.box.corners())[[0, 1, 2, 1, 2, 3, 0, 3]]
        assert polygon == pytest.approx(corners, abs=1e-3)
    else:
        assert polygon_iou(estimate.outline, polygon) >= 0.8


@pytest.fixture(scope='module')
def network(parity_folder):
    return build(parity.Golden.facts_of(parity_folder, 'pipeline_siamattn')['rule'])


@pytest.fixture(scope='module')
def converted(network, tmp_path_factory) -> ModelPackage:
    """The package of a checkpoint as its authors save theirs, by distributed training."""
    folder = tmp_path_factory.mktemp('siamattn')
    state = {f'module.{name}': value for name, value in network.state_dict().items()}
    path = folder / 'checkpoint_vot2018.pth'
    torch.save({'epoch': 20, 'state_dict': state, 'optimizer': {'param_groups': []}}, path)
    package = convert(path, 'siam_attn', 'siamattn', folder / 'siamattn')
    path.unlink()
    return package


@pytest.fixture(scope='module')
def engine_of(converted):
    """The engine of a runtime, loaded once: that takes as long as many frames."""
    return functools.cache(lambda runtime: load_engine(converted, runtime))


def test_the_package_has_four_graphs(converted):
    assert set(converted.graphs) == {'template', 'search', 'refine', 'mask'}
    assert converted.manifest['parameters'] == 140_242_881


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
def test_graphs_equal_the_network(engine_of, network, runtime):
    engine = engine_of(runtime)
    template, search = parity.synth_image(1, 127, 127), parity.synth_image(2, 255, 255)
    roi = np.float32([[61.3, 70.8, 181.2, 240.5]])
    outputs = dict(engine.search(search, engine.template(template)))
    for role in ('refine', 'mask'):
        outputs.update(engine.run(role, {**outputs, 'roi': roi}))
    with torch.no_grad():
        expected = network.search(planes(search), network.template(planes(template)))
        closer = {
            'correction': network.refine(expected.box_features, torch.from_numpy(roi)),
            'mask_logits': network.mask(
                expected.conv1, expected.layer1, expected.enhanced, torch.from_numpy(roi)
            ),
        }
    for name in ('cls', 'loc', 'box_features', 'conv1', 'layer1', 'enhanced', *closer):
        value = closer[name] if name in closer else getattr(expected, name)
        scale = float(value.abs().max())
        np.testing.assert_allclose(outputs[name], value, atol=2e-5 * scale, rtol=0, err_msg=name)


def planes(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.astype(np.float32).transpose(2, 0, 1)[np.newaxis].copy())


def test_several_targets_in_one_call_get_what_each_alone_gets(engine_of):
    engine = engine_of('onnxruntime')
    crops = np.stack([parity.synth_image(seed, 255, 255) for seed in (3, 4)])
    cached = [engine.template(parity.synth_image(seed, 127, 127)) for seed in (5, 6)]
    together = engine.search_many(crops, cached)
    for number in (0, 1):
        alone = engine.search(crops[number], cached[number])
        for name in ('cls', 'loc', 'enhanced'):
            scale = float(np.abs(alone[name]).max())
            np.testing.assert_allclose(
                together[name][number], alone[name][0], atol=1e-5 * scale, rtol=0
            )


@pytest.mark.parametrize(
    ('sequence', 'runtime'),
    [
        ('otb_Crossing', 'openvino'),
        ('davis_drift-chicane', 'openvino'),
        ('synth', 'onnxruntime'),
    ],
)
def test_parity_whole_sequences(converted, engine_of, parity_folder, shared, sequence, runtime):
    """Box, score and mask of every frame are the official tracker's."""
    golden = parity.Golden(parity_folder, 'pipeline_siamattn')
    run = next(run for run in golden.facts['runs'] if run['sequence'] == sequence)
    converted.constants.update(hyper_parameters(run), mask_threshold=run['mask_threshold'])
    tracker = SiamAttn(converted, engine_of(runtime))
    tracker.wants_mask = True
    frames = parity.sequence(shared, run)
    tracker.start(frames[0], official_box(*run['init_box']))
    columns = [golden.arrays[f'{sequence}/{name}'] for name in ('boxes', 'scores', 'mask_area')]
    polygons = golden.arrays[f'{sequence}/polygons']
    assert len(polygons) == len(frames) - 1
    for row, image in enumerate(frames[1:]):
        box, score, area = (column[row] for column in columns)
        estimate = tracker.step(image)
        assert estimate.box.xywh() == pytest.approx(box, abs=0.02), row
        assert estimate.score == pytest.approx(score, abs=1e-4), row
        assert area_of(estimate.mask) == pytest.approx(area, abs=3), row
        assert polygon_iou(estimate.outline, polygons[row]) >= 0.8, row


@pytest.fixture
def fake(tmp_path) -> SiamAttn:
    package = read_package(make_package(tmp_path / 'm', 'siam_attn'))
    return SiamAttn(package, load_engine(package, 'onnxruntime', 1))


def test_the_mask_comes_when_it_is_wanted(fake):
    square = Square()
    fake.start(square.at(60, 50), square.box(60, 50))
    estimate = fake.step(square.at(62, 50))
    assert estimate.mask is None
    assert estimate.outline is None
    fake.wants_mask = True
    estimate = fake.step(square.at(64, 50))
    assert estimate.mask.shape == (160, 240)
    assert set(np.unique(estimate.mask)) == {0, 255}
    rows, columns = np.nonzero(estimate.mask)
    around = Box.from_corners(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert around.iou(estimate.box) > 0.9
    outline = estimate.outline
    assert outline.theta == 0
    assert Box.from_center(outline.cx, outline.cy, outline.w, outline.h).iou(around) == 1
    fake.wants_mask = False
    assert fake.step(square.at(66, 50)).mask is None


def test_the_mask_graph_does_not_run_for_nobody(fake):
    asked = []
    run = fake._engine.run
    fake._engine.run = lambda role, inputs: asked.append(role) or run(role, inputs)
    square = Square()
    fake.start(square.at(60, 50), square.box(60, 50))
    fake.step(square.at(62, 50))
    assert set(asked) == {'refine'}


def test_a_mask_at_the_border_is_cut_off(fake):
    square = Square(width=100, height=80)
    fake.wants_mask = True
    fake.start(square.at(60, 30), square.box(60, 30))
    for x in range(60, 90, 6):
        mask = fake.step(square.at(x, 30)).mask
        assert mask.shape == (80, 100)
    assert mask[:, -2].any(), 'the target reaches the border'


def test_the_response_lies_where_the_target_is(fake):
    square = Square()
    fake.start(square.at(60, 50), square.box(60, 50))
    fake.keeps_insight = True
    fake.step(square.at(66, 50))
    insight = fake.insight
    rows, columns = insight.response.shape
    row, column = np.unravel_index(insight.response.argmax(), insight.response.shape)
    part = insight.response_window
    x, y = part.x + (column + 0.5) * part.w / columns, part.y + (row + 0.5) * part.h / rows
    assert (x, y) == pytest.approx((86, 70), abs=4)
    assert part.w / insight.window.w == pytest.approx(31 * 2 / 63)


@pytest.mark.parametrize('degrees', [0, 20, 44, -44, -10, 80])
def test_the_outline_turns_with_the_target(degrees):
    box = RotatedBox(60.0, 50.0, 50.0, 20.0, math.radians(degrees))
    y, x = np.mgrid[:100, :120] + 0.5
    along = (x - box.cx) * math.cos(box.theta) + (y - box.cy) * math.sin(box.theta)
    across = (y - box.cy) * math.cos(box.theta) - (x - box.cx) * math.sin(box.theta)
    mask = np.uint8(255) * ((abs(along) <= box.w / 2) & (abs(across) <= box.h / 2))
    found = smallest_outline(mask)
    assert abs(found.theta) <= math.pi / 4 + 1e-6
    common, _ = cv2.intersectConvexConvex(np.float32(found.corners()), np.float32(box.corners()))
    assert common > 0.9 * box.w * box.h
    assert found.w * found.h == pytest.approx(box.w * box.h, rel=0.1)


def test_a_small_mask_has_no_outline():
    mask = np.zeros((50, 50), np.uint8)
    mask[10:20, 10:20] = 255
    assert smallest_outline(mask) is None
    mask[10:25, 10:25] = 255
    assert smallest_outline(mask) == RotatedBox(17.5, 17.5, 15.0, 15.0, 0.0)
