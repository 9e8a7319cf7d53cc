# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the gate lets through, for every family: equal answers, and no others."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from fakes import make_package
from small_graphs import make_small

from tracker_ros.runtime.engine import Engine, EngineError, load_engine
from tracker_ros.runtime.gate import (
    DEFAULT_TOLERANCE,
    READERS,
    Difference,
    made_up_samples,
    measure,
    tolerance_of,
)
from tracker_ros.runtime.package import PackageError, read_package
from tracker_ros.trackers import FAMILIES


class Changed(Engine):
    """An engine in front of another that changes what it answers."""

    def __init__(self, engine, change=lambda name, value: value, batched=None):
        self.name = 'changed'
        self.template_inputs = engine.template_inputs
        self._engine = engine
        self._change = change
        self._batched = batched or change

    def template(self, template, **others):
        return self._engine.template(template, **others)

    def search(self, crop, cached):
        return self._changed(self._change, self._engine.search(crop, cached))

    def search_many(self, crops, cached):
        return self._changed(self._batched, self._engine.search_many(crops, cached))

    def run(self, role, inputs):
        return self._changed(self._change, self._engine.run(role, inputs))

    @staticmethod
    def _changed(change, outputs):
        return {name: np.asarray(change(name, value.copy())) for name, value in outputs.items()}


@pytest.fixture(params=sorted(READERS))
def package(request, tmp_path):
    return read_package(make_package(tmp_path / 'm', request.param))


@pytest.fixture
def small(tmp_path):
    return make_small(tmp_path / 'small')


def measured(package, change=lambda name, value: value, batched=None):
    reference = load_engine(package, 'onnxruntime', 1)
    candidate = Changed(load_engine(package, 'onnxruntime', 1), change, batched)
    samples = made_up_samples(package, candidate.template_inputs)
    return measure(package, candidate, reference, samples)


def test_every_family_with_a_network_can_be_compared():
    assert set(READERS) == set(FAMILIES) - {'csrt'}


def test_equal_answers_do_not_differ(package):
    assert measured(package) == Difference(0.0, 0.0)


BOX_OUTPUT = {
    'dual_tfr': 'box',
    'kestrel': 'sides',
    'mixformer_v2': 'box',
    'nanotrack': 'offset',
    'siam_attn': 'loc',
    'simtrack': 'box',
    'vittrack': 'size',
    'vlt_rpn': 'loc',
    'vlt_scar': 'offset',
    'vlt_tt': 'box',
}
SCORE_OUTPUT = {'siam_attn': 'cls', 'simtrack': 'corners', 'vlt_rpn': 'cls'}
"""Where it has another name than 'score'."""
# By how much an output has to change for the box to change by one pixel of the search crop.
PER_PIXEL = {
    'dual_tfr': 1 / 64,
    'kestrel': 1 / 64,
    'mixformer_v2': 1 / 64,
    'nanotrack': 1.0,
    'siam_attn': 1 / 16,
    'simtrack': 1 / 64,
    'vittrack': 1 / 64,
    'vlt_rpn': 1 / 16,
    'vlt_scar': 1.0,
    'vlt_tt': 1 / 64,
}


def test_a_box_is_measured_in_pixels_of_the_search_crop(package):
    output, step = BOX_OUTPUT[package.family], PER_PIXEL[package.family]
    found = measured(package, lambda name, value: value + 3 * step * (name == output))
    assert found.box_px == pytest.approx(3.0, rel=1e-4)
    assert found.score == 0.0


def test_an_offset_within_the_cell_counts_too(tmp_path):
    package = read_package(make_package(tmp_path / 'm', 'vittrack'))
    found = measured(package, lambda name, value: value + 0.5 * (name == 'offset'))
    assert found.box_px == pytest.approx(0.5 * 64 / 32)


def test_a_score_is_measured_as_what_it_is(package):
    def change(name, value):
        if name != SCORE_OUTPUT.get(package.family, 'score'):
            return value
        return value * 0.5 if package.family != 'nanotrack' else value * [[[[1]], [[0.5]]]]

    found = measured(package, change)
    assert 0.01 < found.score <= 0.5
    assert found.box_px == 0.0, 'the box is read in the cell that is the best of the reference'


def test_further_graphs_are_compared_too(tmp_path):
    package = read_package(make_package(tmp_path / 'm', 'siam_attn'))
    found = measured(package, lambda name, value: value + 0.5 * (name == 'correction'))
    assert found == Difference(pytest.approx(0.5 * 0.2 * 63 / 2), 0.0)
    found = measured(package, lambda name, value: value - 4 * (name == 'mask_logits'))
    assert found == Difference(0.0, pytest.approx(1 / (1 + math.exp(-4)) - 0.5))


def test_a_wrong_batch_is_found(package):
    output, step = BOX_OUTPUT[package.family], PER_PIXEL[package.family]
    found = measured(package, batched=lambda name, value: value + 2 * step * (name == output))
    assert found.box_px == pytest.approx(2.0, rel=1e-4)


def test_rows_that_are_mixed_up_are_found(small):
    assert measured(small, batched=lambda name, value: value[::-1]).box_px > 0.1


@pytest.mark.parametrize('value', [math.nan, math.inf])
@pytest.mark.parametrize('output', ['box', 'score'])
def test_what_is_no_number_is_within_nothing(small, output, value):
    found = measured(small, lambda name, right: right + value * (name == output))
    assert not found.is_within(Difference(1e9, 1e9))


def test_one_answer_that_is_no_number_is_enough(small):
    count = []

    def change(name, value):
        count.append(name)
        return value * math.nan if len(count) == 5 else value

    found = measured(small, change, batched=lambda name, value: value)
    assert len(count) > 5
    assert not found.is_within(Difference(1e9, 1e9))


def test_of_two_cells_the_reference_chooses(tmp_path):
    """Where they are nearly alike, either may be the best; the box is that of one and the same."""
    package = read_package(make_package(tmp_path / 'm', 'vittrack'))
    scores = np.zeros((2, 1, 1, 2, 2), np.float32)
    scores[0, ..., 1, 0], scores[1, ..., 0, 1] = 0.9, 0.9
    maps = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    expected = {'score': scores[0], 'offset': maps, 'size': maps + 10}
    found = {'score': scores[1], 'offset': maps, 'size': maps + 10}
    box, _ = READERS['vittrack'](package, found, expected)
    np.testing.assert_allclose(box, [2 * 32, 6 * 32, 12 * 64, 16 * 64])

    logits = np.concatenate([np.zeros_like(scores), scores], axis=2)
    maps = np.arange(16, dtype=np.float32).reshape(1, 4, 2, 2)
    expected = {'score': logits[0], 'offset': maps}
    found = {'score': logits[1], 'offset': maps}
    box, probabilities = READERS['nanotrack'](package, found, expected)
    np.testing.assert_allclose(box, [2, 6, 10, 14])
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-scores[1, 0, 0])), rtol=1e-6)


def test_within_is_below_or_at_both():
    allowed = Difference(1.0, 0.1)
    assert Difference(1.0, 0.1).is_within(allowed)
    assert not Difference(1.1, 0.0).is_within(allowed)
    assert not Difference(0.0, 0.11).is_within(allowed)
    assert not Difference(math.nan, 0.0).is_within(allowed)


def test_a_family_that_nobody_can_read_is_named(small):
    engine = load_engine(small, 'onnxruntime', 1)
    small = replace(small, family='siamese')
    with pytest.raises(EngineError, match=r"family 'siamese' cannot be compared; known are dual"):
        measure(small, engine, engine, [])


# -- tolerances --------------------------------------------------------------------------------


def test_without_a_word_the_default_counts(small):
    assert tolerance_of(small) == DEFAULT_TOLERANCE


def test_the_manifest_may_say_otherwise(tmp_path):
    assert tolerance_of(make_small(tmp_path / 'a', parity={'box_px': 3})) == Difference(
        3.0, DEFAULT_TOLERANCE.score
    )
    assert tolerance_of(make_small(tmp_path / 'b', parity={'score': 0.5})) == Difference(
        DEFAULT_TOLERANCE.box_px, 0.5
    )


@pytest.mark.parametrize('entry', [{'box_px': 'much'}, ['box_px'], 3, {'score': None}])
def test_a_tolerance_that_is_none_is_named(tmp_path, entry):
    package = make_small(tmp_path / 'a', parity=entry)
    with pytest.raises(PackageError, match='parity must be a mapping with the numbers box_px'):
        tolerance_of(package)


# -- samples -----------------------------------------------------------------------------------


def test_samples_are_the_same_each_time(small):
    one, other = (made_up_samples(small, ('template', 'online')) for _ in range(2))
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first.search, second.search)
        assert first.templates.keys() == {'template', 'online'}
        np.testing.assert_array_equal(first.templates['online'], second.templates['online'])


def test_samples_show_the_template_and_differ(small):
    samples = made_up_samples(small, ('template',))
    assert len(samples) > 1
    for sample in samples:
        assert sample.search.shape == (32, 32, 3)
        assert sample.search.dtype == np.uint8
        np.testing.assert_array_equal(sample.templates['template'], sample.search[8:24, 8:24])
    assert not np.array_equal(samples[0].search, samples[1].search)


def test_sides_that_are_missing_are_named(tmp_path):
    package = make_small(tmp_path / 'a', inputs={'search_px': 32})
    with pytest.raises(PackageError, match='inputs needs template_px'):
        made_up_samples(package, ('template',))
