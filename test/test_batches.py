# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Several targets in one call: the same answers, in their order, in one run where that can be."""

from __future__ import annotations

import numpy as np
import pytest
from runtimes import ON_THE_CPU
from small_graphs import crops, make_small

from tracker_ros.runtime.engine import CachedBatch, Engine, EngineError, load_engine


@pytest.fixture(params=ON_THE_CPU)
def runtime(request):
    return request.param


@pytest.fixture(params=['N', '1'], ids=['free', 'fixed'])
def package(request, tmp_path):
    return make_small(tmp_path / 'small', batch=request.param)


def apart(engine, templates, searches):
    rows = [
        {name: value.copy() for name, value in engine.search(crop, target).items()}
        for crop, target in zip(
            searches, [engine.template(**crops) for crops in templates], strict=True
        )
    ]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize('count', [1, 2, 5])
def test_together_is_as_apart(runtime, package, count):
    engine = load_engine(package, runtime, 1)
    templates, searches = crops(count)
    expected = apart(engine, templates, searches)
    targets = [engine.template(**crops) for crops in templates]
    found = engine.search_many(searches, targets)
    assert found['box'].shape == (count, 4)
    for name, value in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], value, atol=1e-6)


def test_targets_come_go_and_change_places(runtime, package):
    engine = load_engine(package, runtime, 1)
    templates, searches = crops(4)
    targets = [engine.template(**crops) for crops in templates]
    expected = apart(engine, templates, searches)
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [3, 2], [0], [1, 1]):
        found = engine.search_many(searches[order], [targets[place] for place in order])
        np.testing.assert_allclose(found['box'], expected['box'][order], atol=1e-6)


def test_a_free_batch_is_one_run(runtime, tmp_path, monkeypatch):
    engine = load_engine(make_small(tmp_path / 'free'), runtime, 1)
    templates, searches = crops(3)
    targets = [engine.template(**crops) for crops in templates]
    monkeypatch.setattr(Engine, 'search_many', None)
    assert engine.search_many(searches, targets)['score'].shape == (3,)


def test_the_names_of_the_template_crops_are_known(runtime, package):
    assert load_engine(package, runtime, 1).template_inputs == ('template', 'online')


def test_a_package_without_sizes_cannot_be_warmed_up(runtime, tmp_path):
    package = make_small(tmp_path / 'small', inputs={'search_px': 32})
    with pytest.raises(EngineError, match='inputs needs template_px'):
        load_engine(package, runtime, 1)


def test_a_package_whose_sizes_are_wrong_is_refused_when_it_is_loaded(runtime, tmp_path):
    package = make_small(tmp_path / 'small', inputs={'search_px': 40, 'template_px': 16})
    with pytest.raises(EngineError, match=runtime):
        load_engine(package, runtime, 1)


class Reusing(Engine):
    """Gives the same array each time, as it may."""

    name = 'reusing'

    def __init__(self):
        self._score = np.zeros(1, np.float32)

    def template(self, template, **others):
        return None

    def search(self, crop, cached):
        self._score[0] = crop.mean()
        return {'score': self._score}


def test_arrays_that_are_reused_do_not_mix():
    searches = np.stack([np.full((4, 4, 3), value, np.uint8) for value in (1, 2, 3)])
    assert Reusing().search_many(searches, [None] * 3)['score'].tolist() == [1, 2, 3]


def test_a_batch_is_joined_when_a_part_changes_and_only_then():
    calls = []

    def join(parts):
        calls.append(parts)
        return sum(parts)

    batch = CachedBatch(join)
    one, two, three = {'a': 1}, {'a': 2}, {'a': 3}
    assert batch.of([one, two]) == {'a': 3}
    assert batch.of([one, two]) == {'a': 3}
    assert len(calls) == 1
    assert batch.of([one, three]) == {'a': 4}
    assert batch.of([one]) == {'a': 1}
    assert batch.of([{'a': 1}]) == {'a': 1}
    assert len(calls) == 4, 'equal is not the same'
