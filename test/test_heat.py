# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is drawn of a network's work lies where the network saw it."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import onnx
import pytest
from fakes import Square, make_package

from tracker_ros.cli import main
from tracker_ros.geometry import Box
from tracker_ros.runtime.attention import AttentionProbe
from tracker_ros.runtime.engine import EngineError
from tracker_ros.runtime.package import read_package
from tracker_ros.trackers import FAMILIES, TrackerError, create
from tracker_ros.trackers.insight import Insight
from tracker_ros.tracking.heat import LAYERS, Explainer, draw_edges, draw_heat


def insight_of(folder, frames=3):
    """The newest insight of a fake model that follows a square, and where the square is."""
    tracker = create(str(folder), 'onnxruntime', 1)
    square = Square()
    tracker.start(square.at(60, 50), square.box(60, 50))
    for number in range(1, frames + 1):
        tracker.keeps_insight = True
        tracker.step(square.at(60 + 4 * number, 50 + 2 * number))
    return tracker, tracker.insight, square.box(60 + 4 * frames, 50 + 2 * frames)


def warmest(picture):
    """Where a picture that was black is brightest: the middle of its best pixels."""
    bright = picture.sum(axis=2)
    rows, columns = np.nonzero(bright >= 0.98 * bright.max())
    return columns.mean() + 0.5, rows.mean() + 0.5


@pytest.mark.parametrize('family', sorted(set(FAMILIES) - {'csrt'}))
def test_nothing_is_kept_unless_asked(tmp_path, family):
    tracker = create(str(make_package(tmp_path / 'm', family)), 'onnxruntime', 1)
    square = Square()
    tracker.start(square.at(60, 50), square.box(60, 50))
    tracker.step(square.at(62, 50))
    assert tracker.insight is None
    tracker.keeps_insight = True
    tracker.step(square.at(64, 50))
    assert isinstance(tracker.insight, Insight)
    tracker.keeps_insight = False
    tracker.step(square.at(66, 50))
    assert tracker.insight is None


@pytest.mark.parametrize('family', ['nanotrack', 'vittrack'])
@pytest.mark.parametrize('scale', [1.0, 0.5])
def test_the_response_is_warm_where_the_target_is(tmp_path, family, scale):
    _, insight, box = insight_of(make_package(tmp_path / 'm', family))
    picture = np.zeros((round(200 * scale), round(240 * scale), 3), np.uint8)
    draw_heat(picture, insight.response_window, insight.response, scale)
    x, y = warmest(picture)
    # Within two cells of the response: the box is found finer than that, by its offset.
    cell = scale * insight.response_window.w / insight.response.shape[1]
    assert abs(x - scale * box.cx) < 2 * cell
    assert abs(y - scale * box.cy) < 2 * cell
    assert insight.response.min() >= 0
    assert insight.response.max() <= 1


def test_heat_lies_in_its_window():
    picture = np.zeros((100, 120, 3), np.uint8)
    heat = np.zeros((4, 4))
    heat[1, 2] = 1.0
    draw_heat(picture, Box(20, 10, 80, 80), heat)
    assert warmest(picture) == pytest.approx((70, 40), abs=1)
    outside = picture.copy()
    outside[10:90, 20:100] = 0
    assert not outside.any()


@pytest.mark.parametrize(
    'window', [Box(-50, -50, 80, 80), Box(100, 80, 80, 80), Box(500, 0, 9, 9), Box(0, 0, 0.1, 0.1)]
)
def test_a_window_may_reach_over_the_image(window):
    picture = np.full((100, 120, 3), 7, np.uint8)
    draw_heat(picture, window, np.ones((3, 3)))
    x1, y1, x2, y2 = (round(max(corner, 0)) for corner in window.corners())
    assert (picture[y1:y2, x1:x2] != 7).all()
    changed = (picture != 7).any(axis=2)
    changed[y1:y2, x1:x2] = False
    assert not changed.any()


def test_edges_stand_where_they_are_expected():
    edges = np.zeros((4, 8))
    edges[range(4), (2, 6, 1, 7)] = 1.0
    picture = np.zeros((100, 100, 3), np.uint8)
    draw_edges(picture, Box(10, 10, 80, 80), edges)
    # In the rim that the curves do not reach.
    assert np.nonzero(picture[88, :, 0] > 200)[0].tolist() == [30]
    assert np.nonzero(picture[85, 40:, 2] > 200)[0].tolist() == [30]
    assert np.nonzero(picture[:, 88, 0] > 200)[0].tolist() == [20]
    assert np.nonzero(picture[:, 85, 2] > 200)[0].tolist() == [80]


# Attention

_TOKENS = """
<ir_version: 8, opset_import: ["" : 17]>
search (uint8[1, 64, 64, 3] search, float[1, 3, 1, 1] colour) =>
    (float[1, 1, 32, 32] score, float[1, 2, 32, 32] size, float[1, 2, 32, 32] offset)
<
    float[1, 2, 3, 6] logits = {%s}, int64[4] map = {1, 1, 32, 32}, int64[4] maps = {1, 2, 32, 32},
    float[1] zero = {0}
> {
    pixels = Cast <to = 1> (search)
    mean = ReduceMean <keepdims = 0> (pixels)
    nothing = Mul (mean, zero)
    all = Add (logits, nothing)
    shares = Softmax <axis = 3> (all)
    one = ReduceMean <keepdims = 0> (shares)
    coloured = ReduceMean <keepdims = 0> (colour)
    void = Mul (coloured, zero)
    value = Add (one, void)
    score = Expand (value, map)
    size = Expand (value, maps)
    offset = Expand (value, maps)
}
"""
ENTRY = {'softmax': 0, 'queries': [1, 3], 'keys': [2, 6]}


def with_attention(folder, entry=None):
    """A model whose search graph holds one attention of made-up numbers."""
    random = np.random.default_rng(3)
    logits = random.normal(size=(1, 2, 3, 6)).astype(np.float32)
    make_package(folder, attention=entry or ENTRY)
    text = _TOKENS % ', '.join(map(str, logits.ravel()))
    (folder / 'search.onnx').write_bytes(onnx.parser.parse_model(text).SerializeToString())
    return read_package(folder), logits


def test_attention_is_that_of_the_graph(tmp_path):
    package, logits = with_attention(tmp_path / 'm')
    shares = np.exp(logits.astype(np.float64))
    shares /= shares.sum(axis=-1, keepdims=True)
    expected = shares[0, :, 1:3, 2:6].mean(axis=(0, 1)).reshape(2, 2)
    templates = {'template': np.zeros((32, 32, 3), np.uint8)}
    found = AttentionProbe(package).attention(templates, np.zeros((64, 64, 3), np.uint8))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        ({**ENTRY, 'softmax': 1}, r'attention.softmax is 1, but .* has only 1'),
        ({**ENTRY, 'softmax': -1}, 'must be a mapping'),
        ({**ENTRY, 'softmax': True}, 'must be a mapping'),
        ({**ENTRY, 'keys': [2, 5]}, 'the keys a square'),
        ({**ENTRY, 'keys': [6, 2]}, 'the keys a square'),
        ({**ENTRY, 'keys': 'all'}, 'must be a mapping'),
        ({**ENTRY, 'queries': [0, 1, 2]}, 'must be a mapping'),
        ({'softmax': 0}, 'must be a mapping'),
        ([1], 'must be a mapping'),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, entry, message):
    package, _ = with_attention(tmp_path / 'm', entry)
    with pytest.raises(EngineError, match=message):
        AttentionProbe(package)


def test_tokens_that_are_not_there_are_named(tmp_path):
    package, _ = with_attention(tmp_path / 'm', {**ENTRY, 'keys': [0, 9]})
    templates = {'template': np.zeros((32, 32, 3), np.uint8)}
    with pytest.raises(EngineError, match='has other tokens'):
        AttentionProbe(package).attention(templates, np.zeros((64, 64, 3), np.uint8))


def test_a_model_says_what_it_has(tmp_path):
    tracker, insight, _ = insight_of(make_package(tmp_path / 'm', 'vittrack'))
    explainer = Explainer(tracker)
    picture = np.zeros((200, 240, 3), np.uint8)
    explainer.draw(picture, insight, 'response')
    assert picture.any()
    with pytest.raises(TrackerError, match='m has no edges; it has response'):
        explainer.draw(picture, insight, 'edges')
    with pytest.raises(EngineError, match='m says nothing of attention'):
        explainer.draw(picture, insight, 'attention')
    bare = dataclasses.replace(insight, response=None)
    with pytest.raises(TrackerError, match='m has no response; see which'):
        explainer.draw(picture, bare, 'response')
    with pytest.raises(TrackerError, match='csrt has no network'):
        Explainer(create('csrt')).draw(picture, None, 'response')


def test_where_nothing_was_kept_nothing_is_drawn(tmp_path):
    tracker = create(str(make_package(tmp_path / 'm')), 'onnxruntime', 1)
    picture = np.zeros((20, 20, 3), np.uint8)
    Explainer(tracker).draw(picture, None, 'response')
    assert not picture.any()


# The command


@pytest.fixture
def video(tmp_path):
    folder = tmp_path / 'video'
    folder.mkdir()
    for number in range(4):
        cv2.imwrite(str(folder / f'{number}.png'), Square().at(60 + 4 * number, 50))
    return str(folder)


def explain(video, folder, model, frame=2, *more):
    square = ','.join(str(value) for value in Square().box(60, 50).xywh())
    arguments = ['explain', video, '--init', square, '--model', str(model), '--out', str(folder)]
    return main([*arguments, '--frame', str(frame), '--runtime', 'onnxruntime', *more])


@pytest.mark.parametrize(
    ('family', 'layers'),
    [
        ('vittrack', {'response'}),
        ('nanotrack', {'response'}),
        ('simtrack', {'response'}),
        ('mixformer_v2', {'edges'}),
    ],
)
def test_pictures_are_written(tmp_path, video, capsys, family, layers):
    model = make_package(tmp_path / 'm', family)
    assert explain(video, tmp_path / 'out', model) == 0
    captured = capsys.readouterr()
    written = {tmp_path / 'out' / f'frame_000002_{layer}.png' for layer in layers}
    assert set((tmp_path / 'out').iterdir()) == written
    assert captured.out.split() == [str(path) for path in sorted(written)]
    for layer in set(LAYERS) - layers:
        assert f'no {layer}: ' in captured.err
    for path in written:
        picture = cv2.imread(str(path))
        assert picture.shape == Square().at(60, 50).shape
        assert (picture != Square().at(68, 50)).any()


@pytest.mark.parametrize(
    ('frame', 'words'), [(9, 'has only 4 frames; --frame 9'), (0, '--frame must be 1 or more')]
)
def test_a_frame_that_is_none_is_named(tmp_path, video, capsys, frame, words):
    assert explain(video, tmp_path / 'out', make_package(tmp_path / 'm'), frame) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_a_model_without_a_network_shows_nothing(tmp_path, video, capsys):
    assert explain(video, tmp_path / 'out', 'csrt') == 1
    assert 'csrt has no network to look into' in capsys.readouterr().err


def test_text_for_a_model_that_takes_none(tmp_path, video, capsys):
    model = make_package(tmp_path / 'm')
    assert explain(video, tmp_path / 'out', model, 2, '--text', 'a car') == 1
    assert 'takes no text' in capsys.readouterr().err
