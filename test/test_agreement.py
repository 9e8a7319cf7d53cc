# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Libraries that answer alike pass; one that does not is named."""

from __future__ import annotations

import sys
import types
from dataclasses import replace

import numpy as np
import pytest
from fakes import make_package
from small_graphs import make_small

from tracker_ros.cli import main
from tracker_ros.runtime import agreement
from tracker_ros.runtime.agreement import DisagreementError, compare_libraries
from tracker_ros.runtime.engine import Engine, load_engine
from tracker_ros.runtime.gate import READERS
from tracker_ros.runtime.package import read_package


class Wrong(Engine):
    """Answers as ONNX Runtime does, but for what `spoil` does to outputs by batch size."""

    name = 'wrong (CPU, fp32)'

    def __init__(self, package, spoil):
        self._engine = load_engine(package, 'onnxruntime', 1)
        self._spoil = spoil
        self.template_inputs = self._engine.template_inputs
        self.is_closed = False

    def template(self, template, **others):
        return self._engine.template(template, **others)

    def search(self, crop, cached):
        return self._spoil(1, self._engine.search(crop, cached))

    def search_many(self, crops, cached):
        return self._spoil(len(crops), self._engine.search_many(crops, cached))

    def close(self):
        self.is_closed = True


@pytest.fixture
def package(tmp_path):
    return make_small(tmp_path / 'small')


@pytest.fixture
def wrong(monkeypatch):
    """Installs a library that answers as `spoil` has it, in place of OpenVINO."""

    def wrong(spoil):
        made = []

        def load(package, _threads):
            made.append(Wrong(package, spoil))
            return made[-1]

        module = types.ModuleType('tracker_ros.runtime.openvino_engine')
        module.load = load
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return made

    return wrong


def of_one(change):
    """Spoils what is answered for one target; batches are right."""
    return lambda count, outputs: (
        {name: change(name, value) for name, value in outputs.items()} if count == 1 else outputs
    )


def of_many(change):
    """Spoils batches alone."""
    return lambda count, outputs: (
        {name: change(name, value) for name, value in outputs.items()} if count > 1 else outputs
    )


def test_what_is_installed_agrees(package):
    found = compare_libraries(package)
    names = [found.reference, *found.differences]
    assert [name.split()[0] for name in names][-2:] == ['onnxruntime', 'openvino']
    assert all(value.box_px < 0.01 for value in found.differences.values())
    assert 'openvino (CPU, fp32): at most ' in str(found)


@pytest.mark.parametrize('family', sorted(READERS))
def test_every_family_is_compared(tmp_path, family):
    found = compare_libraries(read_package(make_package(tmp_path / 'm', family)))
    assert found.differences


@pytest.mark.parametrize('spoilt', [of_one, of_many])
@pytest.mark.parametrize(
    'change',
    [
        lambda name, value: value + 0.1 * (name == 'box'),
        lambda name, value: value + 0.1 * (name == 'score'),
        lambda name, value: value * np.nan if name == 'box' else value,
    ],
    ids=['box', 'score', 'nan'],
)
def test_a_library_that_is_wrong_is_named(package, wrong, spoilt, change):
    made = wrong(spoilt(change))
    with pytest.raises(DisagreementError, match=r'small: wrong \(CPU, fp32\) is .* away from'):
        compare_libraries(package)
    assert made[0].is_closed


def test_a_little_is_allowed_and_the_package_says_how_much(package, wrong):
    wrong(of_one(lambda name, value: value + 0.01 * (name == 'box')))
    found = compare_libraries(package)
    assert found.differences['wrong (CPU, fp32)'].box_px == pytest.approx(0.32, abs=0.01)
    strict = replace(package, manifest={**package.manifest, 'parity': {'box_px': 0.1}})
    with pytest.raises(DisagreementError, match=r'0\.32 px .* 0\.1 px of the box .* is allowed'):
        compare_libraries(strict)


def test_one_library_alone_is_no_comparison(package, monkeypatch):
    monkeypatch.setattr(agreement, 'REFERENCES', ('onnxruntime',))
    assert compare_libraries(package) is None


def test_fewer_bits_are_compared_on_footage(tmp_path, wrong):
    package = make_small(tmp_path / 'fewer', precision='int8_bf16')
    assert not wrong(of_one(lambda name, value: value + 1))
    assert compare_libraries(package) is None


@pytest.mark.parametrize('spoil', [0.0, 0.1])
def test_verify_tells(cache, wrong, capsys, spoil):
    make_small(cache / 'models' / 'small')
    wrong(of_one(lambda name, value: value + spoil))
    assert main(['models', 'verify', 'small']) == (1 if spoil else 0)
    told = capsys.readouterr()
    assert 'small: 2 files as they should be' in told.out
    assert ('do not trust wrong (CPU, fp32)' in told.err) == bool(spoil)
    assert ('wrong (CPU, fp32): at most ' in told.out) == (not spoil)
    assert main(['models', 'verify', 'small', '--files-only']) == 0
