# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""OpenVINO: what it computes in and says so, and whose memory it reads."""

from __future__ import annotations

import gc
import subprocess
import sys

import numpy as np
import openvino
import pytest
from small_graphs import SEARCH_PX, crops, make_small

from tracker_ros.runtime import openvino_engine
from tracker_ros.runtime.engine import EngineError, load_engine


def load(folder, **changes):
    return load_engine(make_small(folder, **changes), 'openvino', threads=1)


@pytest.fixture
def capabilities(monkeypatch):
    """Makes OpenVINO say that the CPU can do this."""

    def pretend(*names):
        class Core(openvino.Core):
            def get_property(self, device, name):
                if name == 'OPTIMIZATION_CAPABILITIES':
                    return list(names)
                return super().get_property(device, name)

        monkeypatch.setattr(openvino_engine.openvino, 'Core', Core)

    return pretend


@pytest.mark.parametrize(
    ('precision', 'name', 'hint'),
    [
        ('fp32', 'fp32', 'f32'),
        ('fp16', 'fp32', 'f32'),
        ('bf16', 'bf16', 'bf16'),
        ('int8', 'int8 and fp32', 'f32'),
        ('int8_bf16', 'int8 and bf16', 'bf16'),
    ],
)
def test_the_precision_is_that_of_the_package_and_is_said(
    tmp_path, capabilities, precision, name, hint
):
    capabilities('FP32', 'INT8', 'BF16')
    engine = load(tmp_path / 'm', precision=precision)
    assert engine.name == f'openvino (CPU, {name})'
    assert engine.note == ''
    assert engine._options['INFERENCE_PRECISION_HINT'] == hint


@pytest.mark.parametrize(('precision', 'name'), [('bf16', 'fp32'), ('int8_bf16', 'int8 and fp32')])
def test_a_cpu_without_bf16_is_noticed(tmp_path, capabilities, precision, name):
    capabilities('FP32', 'INT8')
    engine = load(tmp_path / 'm', precision=precision)
    assert engine.name == f'openvino (CPU, {name})'
    assert f'cannot compute in bf16: {precision} runs slower' in engine.note
    assert engine._options['INFERENCE_PRECISION_HINT'] == 'f32'


def test_fp32_is_never_rounded_to_bf16(tmp_path):
    """The library's default on CPUs that can; its error would be a hundred times this."""
    engine = load(tmp_path / 'm')
    reference = load_engine(make_small(tmp_path / 'r'), 'onnxruntime', threads=1)
    (templates,), (search,) = crops(1)
    found = engine.search(search, engine.template(**templates))
    expected = reference.search(search, reference.template(**templates))
    np.testing.assert_allclose(found['box'], expected['box'], atol=2e-6)


def test_cached_tensors_live_as_long_as_they_are_used(tmp_path):
    engine = load(tmp_path / 'm')
    (templates,), (search,) = crops(1)
    cached = engine.template(**templates)
    expected = engine.search(search, cached)['box'].copy()
    del cached
    gc.collect()
    scribble = [np.full(3, np.nan, np.float32) for _ in range(1000)]
    # The same target, as copies that are views with gaps.
    wide = {name: np.repeat(value, 2, axis=-1) for name, value in engine._one._held.items()}
    cached = {name: value[..., ::2] for name, value in wide.items()}
    del wide, scribble
    np.testing.assert_array_equal(engine.search(search, cached)['box'], expected)
    del cached
    gc.collect()
    held = engine._one._cached
    np.testing.assert_array_equal(engine.search(search, held)['box'], expected)


def test_a_frame_reads_the_newest_crop_and_the_right_target(tmp_path):
    engine = load(tmp_path / 'm')
    templates, searches = crops(2)
    targets = [engine.template(**part) for part in templates]
    answers = {}
    for order in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0), (1, 1)):
        crop, target = order
        box = engine.search(searches[crop], targets[target])['box'].copy()
        np.testing.assert_array_equal(answers.setdefault(order, box), box)
    assert len({box.tobytes() for box in answers.values()}) == 4


def test_a_crop_of_another_size_is_refused(tmp_path):
    engine = load(tmp_path / 'm')
    (templates,), _ = crops(1)
    cached = engine.template(**templates)
    with pytest.raises(EngineError, match=rf'must be \({SEARCH_PX}, {SEARCH_PX}, 3\), not \(1, '):
        engine.search(np.zeros((1, SEARCH_PX, 3), np.uint8), cached)


def test_several_targets_are_compiled_for_when_they_come(tmp_path):
    engine = load(tmp_path / 'm')
    templates, searches = crops(3)
    targets = [engine.template(**part) for part in templates]
    engine.search_many(searches[:1], targets[:1])
    assert engine._several is None
    engine.search_many(searches, targets)
    several = engine._several
    engine.search_many(searches[:2], targets[:2])
    assert engine._several is several


def test_types_are_widened_and_numbers_kept():
    graph = pytest.importorskip('openvino.opset13')
    random = np.random.default_rng(0)
    weight = random.standard_normal((4, 4)).astype(np.float32)
    entry = graph.parameter([1, 4], np.float32)
    inside = graph.convert(entry, 'bf16')
    for value in (weight, np.array(1.4140625, np.float32)):
        number = openvino.op.Constant(
            openvino.Type.bf16, openvino.Shape(value.shape), value.ravel().tolist()
        )
        inside = graph.multiply(inside, number)
    model = openvino.Model([graph.convert(inside, 'f32')], [entry], 'bf16')

    def answer(model):
        compiled = openvino.compile_model(model, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
        return compiled(np.ones((1, 4), np.float32))[0]

    expected = answer(model)
    wide = openvino_engine._without_bf16(model)
    types = {str(node.get_output_element_type(0)) for node in wide.get_ops()}
    assert types == {"<Type: 'float32'>"}
    np.testing.assert_allclose(answer(wide), expected, rtol=2**-7)
    assert np.ptp(expected) > 0.1


def test_nothing_is_written_to_the_users_cache(tmp_path, cache):
    """OpenVINO's own cache mixes up precisions; it stays off."""
    load(tmp_path / 'm')
    assert not cache.exists()


_SIGNALLED = """
import faulthandler, gc, os, signal
from pathlib import Path
from tracker_ros.runtime.engine import load_engine
from tracker_ros.runtime.package import read_package

faulthandler.enable()  # as pytest and many programs do: it has a signal stack of its own
engines = [load_engine(read_package(Path({folder!r})), 'openvino', threads=1) for _ in range(2)]
while engines:
    del engines[0]
    gc.collect()
signal.signal(signal.SIGTERM, lambda number, frame: print('handled'))
os.kill(os.getpid(), signal.SIGTERM)
print('went on')
"""


def test_a_signal_is_handled_when_engines_are_gone(tmp_path):
    """OpenVINO leaves signal stacks behind that are gone with its models."""
    code = _SIGNALLED.format(folder=str(make_small(tmp_path / 'm').folder))
    ended = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout.split()) == (0, ['handled', 'went', 'on'])
