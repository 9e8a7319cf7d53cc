# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""DualTFR from a checkpoint to tracked pictures, in all three versions."""

from __future__ import annotations

import importlib
import threading

import cv2
import numpy as np
import onnx
import onnxruntime
import parity
import pytest
import torch
import yaml
from fake_tensorrt import fake_gpu
from fakes import Square, make_package
from test_dual_tfr import CONTEXT, TINY, network_of
from test_mixformer_v2_tracking import normalised

from tracker_ros.export.convert import ConversionError, convert, load_network
from tracker_ros.export.half import halved
from tracker_ros.export.quantize import prepared
from tracker_ros.geometry import Box, stark_crop
from tracker_ros.networks.layers import split_heads
from tracker_ros.runtime.attention import AttentionProbe
from tracker_ros.runtime.engine import Engine, EngineError, load_engine
from tracker_ros.runtime.onnxruntime_gpu import OnnxRuntimeGpuEngine
from tracker_ros.runtime.package import ModelPackage, PackageError, read_package, sha256_of
from tracker_ros.trackers.dual_tfr import DualTfr as DualTfrTracker
from tracker_ros.trackers.online_filter import OnlineFilter

VERSIONS = {'plain': TINY, 'spatio_temporal': CONTEXT}
RUNTIMES = ['onnxruntime', 'openvino', 'torch']


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """The package of a version, made once."""
    folder = tmp_path_factory.mktemp('packages')

    def made(version: str) -> ModelPackage:
        if not (folder / version).exists():
            torch.save({'net': network_of(VERSIONS[version]).state_dict()}, folder / 'w.pth')
            convert(folder / 'w.pth', 'dual_tfr', version, folder / version)
        return read_package(folder / version)

    return made


def changed(package: ModelPackage, **constants) -> ModelPackage:
    """The package with other constants."""
    manifest = {**package.manifest, 'constants': {**package.constants, **constants}}
    (package.folder / 'model.yaml').write_text(yaml.safe_dump(manifest))
    found = read_package(package.folder)
    (package.folder / 'model.yaml').write_text(yaml.safe_dump(package.manifest))
    return found


@pytest.mark.parametrize('version', VERSIONS)
def test_graphs_equal_the_network(made, version):
    """Caching and pixels in the graph change nothing; targets of a batch stay apart."""
    package, network = made(version), network_of(VERSIONS[version])
    random = np.random.default_rng(0)
    template = random.integers(0, 256, (3, 112, 112, 3), np.uint8)
    search = random.integers(0, 256, (3, 224, 224, 3), np.uint8)
    sessions = [
        onnxruntime.InferenceSession(package.graphs[role].path) for role in ('template', 'search')
    ]
    names = [value.name for value in sessions[0].get_outputs()]
    cached = dict(zip(names, sessions[0].run(names, {'template': template}), strict=True))
    score, box, *context = sessions[1].run(None, {'search': search, **cached})
    with torch.no_grad():
        expected = network(*(torch.from_numpy(normalised(crops)) for crops in (template, search)))
    np.testing.assert_allclose(score, expected.scores.softmax(-1)[..., 1], atol=1e-6)
    np.testing.assert_allclose(box, expected.boxes, atol=1e-6)
    assert len(context) == (version == 'spatio_temporal')
    for value in context:
        np.testing.assert_allclose(value, expected.context, atol=2e-6)
    assert np.ptp(box, axis=0).max() > 1e-3, 'the three targets should differ'


def test_the_graphs_move_windows_by_slices(made):
    """And have their sizes known: nothing of the local blocks asks for a shape."""
    graph = onnx.load(made('plain').graphs['search'].path).graph
    of_local = [node for node in graph.node if '/lab/layers' in node.name]
    kinds = {node.op_type for node in of_local}
    assert {'Slice', 'Concat', 'Reshape', 'Transpose'} <= kinds
    assert not kinds & {'Shape', 'Gather', 'GatherND', 'ScatterND', 'Expand'}


@pytest.mark.parametrize('runtime', RUNTIMES)
@pytest.mark.parametrize('version', VERSIONS)
def test_it_tracks_on_every_engine(made, version, runtime):
    """All libraries give the boxes of one, and of the clip of a moving square none runs away."""
    square = Square()
    boxes = {}
    for name in ('onnxruntime', runtime):
        tracker = DualTfrTracker(made(version), load_engine(made(version), name, 1))
        assert 0 <= tracker.start(square.at(60, 50), square.box(60, 50)) <= 1
        boxes[name] = [tracker.step(square.at(60 + 2 * n, 50)).box.xywh() for n in range(5)]
    np.testing.assert_allclose(boxes[runtime], boxes['onnxruntime'], atol=0.01)
    assert np.isfinite(boxes[runtime]).all()


def test_the_box_is_that_of_the_best_token(made):
    tracker = DualTfrTracker(made('plain'), load_engine(made('plain'), 'onnxruntime', 1))
    image = parity.synth_image(5, 120, 160)
    tracker.start(image, Box(40, 30, 30, 20))
    outputs = {
        'score': np.full((1, 196), 0.1, np.float32),
        'box': np.full((1, 196, 4), 0.3, np.float32),
    }
    outputs['score'][0, 77] = 0.8
    outputs['box'][0, 77] = 0.5, 0.5, 0.2, 0.1
    estimate = tracker._decode(outputs, 100)
    assert estimate.score == pytest.approx(0.8)
    assert estimate.box.xywh() == pytest.approx((45.0, 35.0, 20.0, 10.0), abs=1e-4)


@pytest.mark.parametrize('version', VERSIONS)
def test_attention_is_that_of_the_target_to_the_search_region(made, version):
    """In the last cross block in which the target asks: it sees nothing but the search region."""
    package, network = made(version), network_of(VERSIONS[version])
    crops = [parity.synth_image(seed, side, side) for seed, side in ((1, 112), (2, 224))]
    found = AttentionProbe(package).attention({'template': crops[0]}, crops[1])
    assert found.sum() == pytest.approx(1, abs=1e-5)
    seen = []
    asking = network.cab[-2].attn
    asking.register_forward_pre_hook(lambda module, given: seen.append(given))
    with torch.no_grad():
        network(*(torch.from_numpy(normalised(crop[None])) for crop in crops))
    query, key, _ = seen[1]
    heads = network.cab[-2].attn.heads
    match = split_heads(query, heads) @ split_heads(key, heads).transpose(2, 3) / 32**0.5
    expected = match.softmax(-1)[0, :, :49].mean(dim=(0, 1)).reshape(14, 14)
    np.testing.assert_allclose(found, expected.detach(), atol=1e-6)


# -- the spatio-temporal version ---------------------------------------------------------------


class Renewing(Engine):
    """Notes what is renewed, before it is."""

    name = 'renewing'

    def __init__(self, engine, change=lambda name, value: value):
        self._engine, self._change = engine, change
        self.contexts = []

    def template(self, template, **others):
        return self._engine.template(template, **others)

    def renewed(self, cached, **tensors):
        assert list(tensors) == ['context']
        self.contexts.append(tensors['context'].copy())
        return self._engine.renewed(cached, **tensors)

    def search(self, crop, cached):
        outputs = self._engine.search(crop, cached)
        return {name: self._change(name, value) for name, value in outputs.items()}


def renewing(made, **changes):
    package = changed(made('spatio_temporal'), **changes)
    return package, Renewing(load_engine(package, 'onnxruntime', 1))


def test_each_frame_hands_its_context_on(made):
    package, engine = renewing(made, update_score=0.0)
    tracker = DualTfrTracker(package, engine)
    square = Square()
    tracker.start(square.at(60, 50), square.box(60, 50))
    for number in range(3):
        tracker.step(square.at(60 + 2 * number, 50))
    assert len(engine.contexts) == 4
    assert all(context.shape == (1, 128) for context in engine.contexts)
    assert np.abs(engine.contexts[-1] - engine.contexts[0]).max() > 1e-4


def test_a_context_changes_the_answer(made):
    _, engine = renewing(made)
    crops = [parity.synth_image(seed, side, side) for seed, side in ((1, 112), (2, 224))]
    cached = engine.template(crops[0])
    before = {name: value.copy() for name, value in cached.items()}
    first = engine.search(crops[1], cached)['score'].copy()
    other = engine.renewed(cached, context=np.ones((1, 128), np.float32))
    assert np.abs(engine.search(crops[1], other)['score'] - first).max() > 1e-4
    for name, value in cached.items():
        np.testing.assert_array_equal(value, before[name])


def of_gpu(package, _runtime, _threads):
    """The way in which a library on a GPU keeps tensors, on the CPU."""
    return OnnxRuntimeGpuEngine(package, [('CPUExecutionProvider', {})], 'cpu', 1)


@pytest.mark.parametrize('precision', ['fp32', 'fp16'])
@pytest.mark.parametrize('runtime', [*RUNTIMES, 'gpu'])
def test_every_library_renews(made, tmp_path, runtime, precision):
    """Also where what is cached has fewer bits."""
    package = made('spatio_temporal')
    expected = scores_with_context(load_engine(package, 'onnxruntime', 1))
    if precision == 'fp16':
        package = in_fp16(package, tmp_path / 'fp16')
    load = of_gpu if runtime == 'gpu' else load_engine
    found = scores_with_context(load(package, runtime, 1))
    np.testing.assert_allclose(found, expected, atol=2e-6 if precision == 'fp32' else 5e-3)


def scores_with_context(engine: Engine) -> np.ndarray:
    crops = [parity.synth_image(seed, side, side) for seed, side in ((1, 112), (2, 224))]
    cached = engine.renewed(engine.template(crops[0]), context=np.ones((1, 128), np.float32))
    return engine.search(crops[1], cached)['score'].copy()


def in_fp16(package: ModelPackage, folder) -> ModelPackage:
    """The package in fp16, its cached tensors too."""
    folder.mkdir()
    models = {role: prepared(onnx.load(graph.path)) for role, graph in package.graphs.items()}
    cached = {value.name for value in models['template'].graph.output}
    models['template'] = halved(models['template'], 'fp16', half_outputs=cached)
    models['search'] = halved(models['search'], 'fp16', half_inputs=cached)
    graphs = {}
    for role, model in models.items():
        onnx.save(model, folder / f'{role}.onnx')
        digest = sha256_of(folder / f'{role}.onnx')
        graphs[role] = {'file': f'{role}.onnx', 'sha256': digest}
    manifest = {**package.manifest, 'precision': 'fp16', 'graphs': graphs}
    (folder / 'model.yaml').write_text(yaml.safe_dump(manifest))
    return read_package(folder)


def test_frames_without_the_target_teach_nothing(made):
    package, engine = renewing(made, update_score=1.1)
    tracker = DualTfrTracker(package, engine)
    square = Square()
    tracker.start(square.at(60, 50), square.box(60, 50))
    tracker.step(square.at(62, 50))
    assert len(engine.contexts) == 1, 'that of the start alone'


def test_a_context_that_is_no_number_is_not_kept(made):
    package = changed(made('spatio_temporal'), update_score=0.0)
    spoil = {'next_context': np.nan}
    engine = Renewing(
        load_engine(package, 'onnxruntime', 1), lambda name, value: value + spoil.get(name, 0)
    )
    tracker = DualTfrTracker(package, engine)
    square = Square()
    tracker.start(square.at(60, 50), square.box(60, 50))
    assert tracker.step(square.at(62, 50)).score > 0
    assert not engine.contexts


def test_a_library_that_cannot_renew_is_passed_over(made, monkeypatch):
    module = importlib.import_module('tracker_ros.runtime.onnxruntime_engine')
    monkeypatch.delattr(module, 'RENEWS_TENSORS')
    with pytest.raises(EngineError, match='onnxruntime: it cannot renew the tensors context yet'):
        load_engine(made('spatio_temporal'), 'onnxruntime', 1)
    assert load_engine(made('plain'), 'onnxruntime', 1)


def test_an_engine_that_cannot_renew_says_so(made):
    class Fixed(Renewing):
        name = 'fixed'
        renewed = Engine.renewed

    _, engine = renewing(made)
    with pytest.raises(EngineError, match='fixed cannot renew context'):
        Fixed(engine).renewed({}, context=np.zeros((1, 128), np.float32))


def test_names_that_are_no_list_are_named(tmp_path):
    inputs = {'template_px': 32, 'search_px': 64, 'renewed': 'context'}
    package = read_package(make_package(tmp_path / 'm', 'dual_tfr', inputs=inputs))
    with pytest.raises(PackageError, match=r"inputs\.renewed must be a list of names, not 'cont"):
        _ = package.renewed


# -- the online version ------------------------------------------------------------------------


def crops_of(square: Square, *places: tuple[int, int]) -> list[np.ndarray]:
    """Search crops around (60, 50) with the square at each of the places."""
    return [stark_crop(square.at(*place), square.box(60, 50), 3.0, 224)[0] for place in places]


@pytest.mark.parametrize('move', [(0, 0), (10, 0), (-8, 6), (4, -12)])
def test_the_filter_points_to_where_the_target_went(move):
    square = Square()
    learnt, moved = crops_of(square, (60, 50), (60 + move[0], 50 + move[1]))
    online = OnlineFilter(56, 3.0)
    online.learn(learnt)
    answer = online.response(moved)
    row, column = np.unravel_index(answer.argmax(), answer.shape)
    # The crop is 120 px wide.
    found = [(place + 0.5) * 120 / 56 - 60 for place in (column, row)]
    assert found == pytest.approx(move, abs=1.6)
    assert 0.25 < answer.max() <= 1.0


def test_the_filter_knows_nothing_before_it_has_learnt():
    square = Square()
    (crop,) = crops_of(square, (60, 50))
    online = OnlineFilter(56, 3.0)
    assert not online.response(crop).any()
    online.learn(crop)
    assert online.response(crop).max() > 0.8
    assert np.isfinite(online.response(np.zeros_like(crop))).all()
    online.forget()
    assert not online.response(crop).any()


def test_a_filter_that_has_seen_nothing_but_black_answers_with_numbers():
    online = OnlineFilter(56, 3.0)
    black = np.zeros((224, 224, 3), np.uint8)
    online.learn(black)
    assert np.isfinite(online.response(black)).all()


def test_the_filter_follows_a_target_that_changes():
    """By and by: what it saw in the last frames is answered better than at the first sight."""
    (first,) = crops_of(Square(), (60, 50))
    later = 255 - first
    online = OnlineFilter(56, 3.0)
    online.learn(first)
    before = online.response(later)[28, 28]
    for _ in range(40):
        online.learn(later)
    assert online.response(later)[28, 28] > before + 0.3


def test_of_two_alike_the_filter_chooses(made):
    """The network sees no difference between two tokens; the filter does."""
    square = Square()
    package = changed(made('plain'), filter_weight=0.2)
    tracker = DualTfrTracker(package, load_engine(package, 'onnxruntime', 1))
    tracker.start(square.at(60, 50), square.box(60, 50))
    tracker._crop = tracker._search_crop(square.at(80, 50))[0]
    scores = np.zeros((1, 14, 14), np.float32)
    # 20 px to the right of the middle, and as far to the left; the crop is 120 px wide.
    scores[0, 7, 9], scores[0, 7, 4] = 0.60, 0.62
    boxes = np.zeros((1, 14, 14, 4), np.float32)
    boxes[..., 0] = (np.arange(14) + 0.5) / 14
    boxes[..., 1:] = 0.5
    outputs = {'score': scores.reshape(1, 196), 'box': boxes.reshape(1, 196, 4)}
    estimate = tracker._decode(outputs, 120)
    assert estimate.box.cx - 80 == pytest.approx(9.5 / 14 * 120 - 60, abs=0.01)
    assert estimate.score == pytest.approx(0.60), 'the score is that of the network'
    tracker._filter_weight = 0.0
    assert tracker._decode(outputs, 120).score == pytest.approx(0.62)


def test_the_filter_learns_only_from_frames_with_the_target(made):
    square = Square()
    learnt = []
    for least in (0.0, 1.1):
        package = changed(made('plain'), filter_weight=0.2, update_score=least)
        tracker = DualTfrTracker(package, load_engine(package, 'onnxruntime', 1))
        online = tracker._filter
        learn, seen = online.learn, []
        online.learn = lambda crop, learn=learn, seen=seen: seen.append(crop) or learn(crop)
        tracker.start(square.at(60, 50), square.box(60, 50))
        for _ in range(2):
            tracker.step(square.at(62, 50))
        learnt.append(len(seen))
    assert learnt == [3, 1]


def test_without_a_weight_there_is_no_filter(made):
    tracker = DualTfrTracker(made('plain'), load_engine(made('plain'), 'onnxruntime', 1))
    assert tracker._filter is None


# -- checkpoints -------------------------------------------------------------------------------


def test_checkpoints_that_do_not_fit_are_refused():
    state = {name: value.numpy() for name, value in network_of(TINY).state_dict().items()}
    del state['gab.0.attn.proj.bias']
    with pytest.raises(ConversionError, match=r'tensors are missing: gab\.0\.attn\.proj\.bias'):
        load_network('dual_tfr', state)
    with pytest.raises(ConversionError, match='no DualTFR checkpoint'):
        load_network('dual_tfr', {'conv1.weight': np.zeros(1, np.float32)})


def test_an_image_smaller_than_the_window_is_tracked(made):
    package = changed(made('plain'), filter_weight=0.2)
    tracker = DualTfrTracker(package, load_engine(package, 'onnxruntime', 1))
    image = cv2.resize(parity.synth_image(5, 120, 160), (40, 30))
    tracker.start(image, Box(5, 5, 20, 20))
    assert tracker.step(image).box.is_finite()


def test_tensorrt_renews_before_and_after_its_engine_is_built(made, cache, monkeypatch, tmp_path):
    """The context goes along when the library changes between two frames."""
    package = changed(made('spatio_temporal'), update_score=0.0)
    square = Square()
    with fake_gpu(monkeypatch, tmp_path) as gpu:
        may_go_on = threading.Event()
        gpu.behaviour.before_step = lambda step: may_go_on.wait(60)
        engine = load_engine(package, 'tensorrt', 1)
        trackers = [
            DualTfrTracker(package, engine),
            DualTfrTracker(package, load_engine(package, 'onnxruntime', 1)),
        ]
        for tracker in trackers:
            tracker.start(square.at(60, 50), square.box(60, 50))
        for frame in range(6):
            if frame == 3:
                may_go_on.set()
                assert engine.wait(60)
            found, expected = (tracker.step(square.at(60 + 3 * frame, 50)) for tracker in trackers)
            assert found.box.xywh() == pytest.approx(expected.box.xywh(), abs=0.01)
            assert found.score == pytest.approx(expected.score, abs=1e-4)
        assert trackers[0].runtime.startswith('tensorrt')
        engine.close()
