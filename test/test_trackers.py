# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What every family of trackers keeps to; a new one is tested by being registered."""

from contextlib import nullcontext, suppress

import numpy as np
import pytest
import yaml
from fakes import Square, make_package, write_manifest

from tracker_ros.geometry import Box
from tracker_ros.runtime.engine import Engine, EngineError
from tracker_ros.runtime.package import PackageError
from tracker_ros.trackers import FAMILIES, TrackerError, create, follow_together
from tracker_ros.trackers.contract import _peaks

NETWORKS = sorted(set(FAMILIES) - {'csrt'})


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Makes a tracker of a family, from a package made once."""
    folder = tmp_path_factory.mktemp('packages')

    def make(family):
        if family == 'csrt':
            return create('csrt')
        if not (folder / family).exists():
            make_package(folder / family, family)
        return create(str(folder / family), 'onnxruntime', 1)

    return make


@pytest.fixture(params=sorted(FAMILIES))
def tracker(request, made):
    return made(request.param)


@pytest.fixture(params=NETWORKS)
def network(request, made):
    return made(request.param)


class Odd(Engine):
    """An engine in front of the real one that changes what it answers."""

    name = 'odd'

    def __init__(self, engine, change):
        self._engine = engine
        self._change = change

    def template(self, *crops, **others):
        return self._engine.template(*crops, **others)

    def search(self, crop, cached):
        return self._changed(self._engine.search(crop, cached))

    def run(self, role, inputs):
        return self._changed(self._engine.run(role, inputs))

    def _changed(self, outputs):
        return {name: self._change(name, value) for name, value in outputs.items()}


def test_the_box_follows_the_target(tracker):
    square = Square()
    assert 0.5 < tracker.start(square.at(60, 50), square.box(60, 50)) <= 1
    for number in range(1, 13):
        x, y = 60 + 4 * number, 50 + 2 * number
        estimate = tracker.step(square.at(x, y))
        assert estimate.box.iou(square.box(x, y)) > 0.6, number
        assert tracker.package.confidence['lost'] < estimate.score <= 1
    assert tracker.inference_s > 0


def test_a_second_start_forgets_the_first_target(tracker):
    square = Square()
    tracker.start(square.at(20, 20), square.box(20, 20))
    tracker.step(square.at(22, 20))
    tracker.start(square.at(150, 90), square.box(150, 90))
    assert tracker.step(square.at(150, 90)).box.iou(square.box(150, 90)) > 0.7


def test_a_step_before_any_start_is_refused(tracker):
    with pytest.raises(TrackerError, match='call start first'):
        tracker.step(Square().ground)


def test_images_are_only_read(tracker):
    square = Square()
    for x in (60, 64, 68):
        picture = square.at(x, 50)
        before = picture.copy()
        picture.flags.writeable = False
        if x == 60:
            tracker.start(picture, square.box(60, 50))
        else:
            tracker.step(picture)
        np.testing.assert_array_equal(picture, before)


def test_rows_may_be_padded(tracker):
    square = Square()
    padded = [np.pad(square.at(x, 50), ((0, 0), (0, 7), (0, 0)))[:, :-7] for x in (60, 64)]
    assert not padded[0].flags.c_contiguous
    tracker.start(padded[0], square.box(60, 50))
    assert tracker.step(padded[1]).box.iou(square.box(64, 50)) > 0.6


def test_a_target_that_leaves_scores_low(tracker):
    square = Square()
    tracker.start(square.at(180, 60), square.box(180, 60))
    scores = []
    for x in range(188, 252, 8):
        scores.append(tracker.step(square.at(x, 60)).score)
    gone = [tracker.step(square.ground) for _ in range(3)]
    confidence = tracker.package.confidence
    assert scores[0] > confidence['sure']
    assert gone[-1].score < confidence['lost']


@pytest.mark.parametrize('size', [(64, 48), (9, 7), (300, 12), (1, 1)])
def test_boxes_stay_finite_and_within_the_images_size(tracker, size):
    width, height = size
    noise = np.random.default_rng(3).integers(0, 256, (6, height, width, 3), np.uint8)
    # The filter of OpenCV cannot be made for every shape; then it has to say so.
    with suppress(TrackerError) if tracker.package.family == 'csrt' else nullcontext():
        tracker.start(noise[0], Box(0, 0, width, height))
        for image in noise[1:]:
            box = tracker.step(image).box
            assert box.is_finite()
            assert 0 < box.w <= width
            assert 0 < box.h <= height
            assert -box.w <= box.x <= width
            assert -box.h <= box.y <= height


def test_a_picture_of_another_size_is_no_end(network):
    square = Square()
    network.start(square.at(60, 50), square.box(60, 50))
    box = network.step(square.at(60, 50)[:40, :50]).box
    assert box.w <= 50
    assert box.h <= 40


@pytest.mark.parametrize('poison', [np.nan, np.inf, -np.inf])
def test_a_network_that_answers_nonsense_keeps_the_box(network, poison):
    square = Square()
    network.start(square.at(60, 50), square.box(60, 50))
    before = network.step(square.at(60, 50)).box
    healthy = network._engine
    network._engine = Odd(healthy, lambda _, value: np.full_like(value, poison))
    estimate = network.step(square.at(60, 50))
    assert estimate.score in (0.0, 1.0) if np.isinf(poison) else estimate.score == 0.0
    assert estimate.box == before
    network._engine = healthy
    assert network.step(square.at(64, 50)).box.iou(square.box(64, 50)) > 0.6


@pytest.mark.parametrize('factor', [1e6, -1e6, 0.0])
def test_a_box_never_outgrows_the_image(network, factor):
    square = Square(width=200, height=100)
    network.start(square.at(60, 30), square.box(60, 30))
    network._engine = Odd(
        network._engine, lambda name, value: value if name == 'score' else factor * value
    )
    for _ in range(10):
        box = network.step(square.at(60, 30)).box
        assert 0 < box.w <= 200
        assert 0 < box.h <= 100


def test_the_search_goes_where_it_is_told(network):
    square = Square()
    network.start(square.at(20, 20), square.box(20, 20))
    network.search_around(square.box(150, 90))
    assert network.step(square.at(152, 92)).box.iou(square.box(152, 92)) > 0.6


def test_a_look_finds_the_target_elsewhere_and_changes_nothing(network):
    square = Square()
    network.start(square.at(20, 20), square.box(20, 20))
    assert network.can_look
    there = square.at(150, 90)
    assert network.look(there, square.box(142, 84)).box.iou(square.box(150, 90)) > 0.6
    assert network.step(square.at(24, 20)).box.iou(square.box(24, 20)) > 0.6


def test_many_looks_are_what_each_of_them_is(network):
    square = Square()
    network.start(square.at(20, 20), square.box(20, 20))
    places = [square.box(142, 84), square.box(20, 20), square.box(100, 30)]
    together = network.look_many(square.at(150, 90), places)
    for place, estimate in zip(places, together, strict=True):
        alone = network.look(square.at(150, 90), place)
        assert estimate.score == pytest.approx(alone.score, abs=1e-4)
        assert estimate.box.xywh() == pytest.approx(alone.box.xywh(), abs=0.01)
    assert network.look_many(square.ground, []) == []


def test_looks_before_any_start_are_refused(network):
    with pytest.raises(TrackerError, match='call start first'):
        network.another().look(Square().ground, Box(10, 10, 20, 20))


def test_a_filter_cannot_look_elsewhere(made):
    csrt = made('csrt')
    assert not csrt.can_look
    with pytest.raises(TrackerError, match='cannot look elsewhere'):
        csrt.look(Square().ground, Box(10, 10, 20, 20))


def test_a_step_is_to_follow_and_to_learn(made):
    square = Square()
    for family in sorted(FAMILIES):
        first, second = made(family), made(family).another()
        for tracker in (first, second):
            tracker.start(square.at(60, 50), square.box(60, 50))
        for number in range(1, 8):
            image = square.at(60 + 4 * number, 50)
            estimate = second.follow(image)
            second.learn(image, estimate)
            assert first.step(image).box.xywh() == pytest.approx(estimate.box.xywh(), abs=0.01)


def test_another_tracker_follows_another_target_on_the_same_engine(tracker):
    left, right = Square(seed=1), Square(seed=2)

    def both(step):
        image = left.at(20 + 3 * step, 40)
        seen = right.at(150, 90 - 2 * step)
        image[80:160, 120:] = seen[80:160, 120:]
        return image

    other = tracker.another()
    assert type(other) is type(tracker)
    tracker.start(both(0), left.box(20, 40))
    other.start(both(0), right.box(150, 90))
    for step in range(1, 4):
        estimates = follow_together([tracker, other], both(step))
        assert estimates[0].box.iou(left.box(20 + 3 * step, 40)) > 0.6
        assert estimates[1].box.iou(right.box(150, 90 - 2 * step)) > 0.6
    assert other.inference_s > 0


def test_only_the_first_tracker_ends_the_engine(network, monkeypatch):
    closed = []
    monkeypatch.setattr(network.engine, 'close', lambda: closed.append(1))
    network.another().close()
    assert closed == []
    network.close()
    assert closed == [1]


def test_followed_together_a_failure_is_of_one_target(network):
    square = Square()
    able, idle, poisoned = network, network.another(), network.another()
    able.start(square.at(60, 50), square.box(60, 50))
    poisoned.start(square.at(60, 50), square.box(60, 50))
    poisoned.search_around(Box(np.nan, 0, 10, 10))
    answers = follow_together([poisoned, able, idle], square.at(64, 50))
    assert isinstance(answers[0], ValueError)
    assert answers[1].box.iou(square.box(64, 50)) > 0.6
    assert isinstance(answers[2], TrackerError)


def test_followed_together_an_engine_that_fails_for_all_is_asked_for_each(network):
    square = Square()
    trackers = [network, network.another()]
    for tracker in trackers:
        tracker.start(square.at(60, 50), square.box(60, 50))

    def fail(crops, cached):
        raise EngineError('too many')

    network.engine.search_many, healthy = fail, network.engine.search_many
    try:
        answers = follow_together(trackers, square.at(64, 50))
    finally:
        network.engine.search_many = healthy
    for answer in answers:
        assert answer.box.iou(square.box(64, 50)) > 0.6


def test_a_flat_target_is_a_poor_one_for_csrt():
    tracker = create('csrt')
    flat = np.full((100, 100, 3), 128, np.uint8)
    assert tracker.start(flat, Box(30, 30, 20, 20)) == 0.0


def test_an_unknown_family_is_named(tmp_path):
    write_manifest(
        tmp_path / 'm',
        {'name': 'm', 'family': 'dowsing', 'licence': 'x', 'confidence': {'lost': 0, 'sure': 1}},
    )
    with pytest.raises(TrackerError, match=r"'dowsing' is unknown.*known are csrt"):
        create(str(tmp_path / 'm'))


def test_a_network_without_graphs_cannot_be_made(tmp_path):
    folder = make_package(tmp_path / 'm', graphs={})
    with pytest.raises(TrackerError, match='has no graphs'):
        create(str(folder))


@pytest.mark.parametrize('family', NETWORKS)
def test_what_a_family_needs_of_its_manifest_is_named(tmp_path, family):
    folder = make_package(tmp_path / 'm', family)
    whole = yaml.safe_load((folder / 'model.yaml').read_text())
    for group in ('inputs', 'constants'):
        for entry in whole[group]:
            broken = {**whole, group: {k: v for k, v in whole[group].items() if k != entry}}
            write_manifest(folder, broken)
            with pytest.raises((PackageError, EngineError), match=rf'{folder}.*{entry}'):
                create(str(folder), 'onnxruntime', 1)
    write_manifest(folder, {**whole, 'inputs': {**whole['inputs'], 'search_px': 'large'}})
    with pytest.raises((PackageError, EngineError), match=rf'{folder}.*large'):
        create(str(folder), 'onnxruntime', 1)


def test_a_map_tells_of_a_second_peak_and_of_what_is_elsewhere():
    response = np.zeros((24, 24))
    response[10:13, 10:13] = 0.8
    assert _peaks(response) == (0.0, pytest.approx(1.0))
    response[2, 20] = 0.4
    second, focus = _peaks(response)
    assert second == pytest.approx(0.5)
    assert focus == pytest.approx(7.2 / 7.6)
    assert _peaks(np.ones((24, 24))) == (1.0, pytest.approx(16 / 576))


@pytest.mark.parametrize('value', [0.0, -1.0, np.nan, np.inf])
def test_a_map_without_a_peak_says_that_nothing_is_there(value):
    assert _peaks(np.full((16, 16), value)) == (0.0, 0.0)
