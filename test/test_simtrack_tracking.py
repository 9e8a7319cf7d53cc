# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""SimTrack from checkpoints of several writings to tracked sequences."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnxruntime
import parity
import pytest
import torch
from test_mixformer_v2_tracking import normalised
from test_simtrack import TINY, build

from tracker_ros.export.convert import ConversionError, convert, load_network
from tracker_ros.geometry import Box
from tracker_ros.networks.simtrack import VARIANTS, SimTrack
from tracker_ros.runtime.engine import load_engine
from tracker_ros.runtime.package import ModelPackage
from tracker_ros.trackers.simtrack import SimTrack as SimTrackTracker


@pytest.fixture
def tiny(monkeypatch):
    """A small variant, known to the reader of checkpoints for the time of the test."""
    monkeypatch.setitem(VARIANTS, 'tiny', TINY)
    return network_of(TINY)


def network_of(variant):
    torch.manual_seed(1)
    network = SimTrack(variant).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.03 * torch.randn_like(parameter)
    return network


def converted(network, folder, **facts) -> ModelPackage:
    folder.mkdir(exist_ok=True)
    torch.save({'net': network.state_dict()}, folder / 'w.pth')
    return convert(folder / 'w.pth', 'simtrack', 'tiny', folder / 'models' / 'tiny', **facts)


@pytest.mark.parametrize('shifts', [False, True])
def test_graphs_equal_the_network(tiny, tmp_path, monkeypatch, shifts):
    """Caching, last-layer pruning and pixels in the graph change nothing."""
    variant = dataclasses.replace(TINY, shifts_template=shifts)
    monkeypatch.setitem(VARIANTS, 'tiny', variant)
    network = network_of(variant)
    package = converted(network, tmp_path)
    random = np.random.default_rng(0)
    template = random.integers(0, 256, (3, 32, 32, 3), np.uint8)
    search = random.integers(0, 256, (3, 64, 64, 3), np.uint8)
    box = np.float32([[0.25, 0.25, 0.5, 0.5], [0.3, 0.2, 0.4, 0.6], [-0.1, 0.4, 1.3, 0.2]])
    first = onnxruntime.InferenceSession(package.graphs['template'].path)
    second = onnxruntime.InferenceSession(package.graphs['search'].path)
    tokens, foveal = first.run(['tokens', 'foveal'], {'template': template, 'box': box})
    found = second.run(['box', 'corners'], {'search': search, 'tokens': tokens, 'foveal': foveal})
    with torch.no_grad():
        expected = network(
            torch.from_numpy(normalised(template)),
            torch.from_numpy(box),
            torch.from_numpy(normalised(search)),
        )
    np.testing.assert_allclose(found[0], expected.boxes, atol=1e-6)
    np.testing.assert_allclose(found[1], expected.corners, atol=1e-6)
    assert np.ptp(found[0], axis=0).max() > 1e-3, 'the three targets should differ'


def with_prefix(state):
    return {f'module.model.{name}': value for name, value in state.items()}


def of_another_project(state):
    """A tower at the top, layers with other names, and corner branches as plain lists."""
    renamed = {}
    for name, value in state.items():
        name = name.removeprefix('backbone.visual.')
        name = name.replace('backbone.pos_fc.', 'position.net.').replace('bottleneck', 'adjust')
        if name.startswith('box_head.conv'):
            place, corner, rest = (
                name.removeprefix('box_head.conv').replace('.', '_', 1).split('_', 2)
            )
            rest = rest if place != '5' else f'0.{rest}'
            name = f'head.{corner}.{place}.{rest}'
        renamed[name] = value
    del renamed['proj']
    return renamed


@pytest.mark.parametrize('rename', [with_prefix, of_another_project])
def test_names_vary(tiny, rename):
    state = tiny.state_dict()
    found = load_network('simtrack', {k: v.numpy() for k, v in rename(state).items()})
    assert found.variant == TINY
    for name, value in found.state_dict().items():
        if not name.endswith('.proj'):
            assert torch.equal(value, state[name]), name


def test_the_names_of_mae(monkeypatch):
    variant = dataclasses.replace(TINY, pretraining='mae')
    monkeypatch.setitem(VARIANTS, 'tiny', variant)
    network = network_of(variant)
    state = network.state_dict()
    renamed = {}
    for name, value in state.items():
        own = name.replace('backbone.visual.', 'backbone.')
        for ours, theirs in (
            ('class_embedding', 'cls_token'),
            ('positional_embedding', 'pos_embed'),
            ('conv1.', 'patch_embed.proj.'),
            ('transformer.resblocks', 'blocks'),
            ('.ln_1', '.norm1'),
            ('.ln_2', '.norm2'),
            ('attn.in_proj_', 'attn.qkv.'),
            ('attn.out_proj', 'attn.proj'),
            ('mlp.c_fc', 'mlp.fc1'),
            ('mlp.c_proj', 'mlp.fc2'),
            ('ln_post', 'norm'),
        ):
            if not own.startswith('box_head'):
                own = own.replace(ours, theirs)
        if own.endswith(('cls_token', 'pos_embed')):
            value = value.reshape(1, -1, variant.dim)
        renamed[own] = value
    found = load_network('simtrack', {k: v.numpy() for k, v in renamed.items()})
    assert found.variant == variant
    for name, value in found.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ('bottleneck.weight', 'tensors are missing: bottleneck.weight'),
        ('box_head.conv5_br.weight', 'tensors are missing: box_head.conv5_br.weight'),
        ('backbone.visual.conv1.weight', 'no SimTrack checkpoint'),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(tiny, change, message):
    state = {name: value.numpy() for name, value in tiny.state_dict().items()}
    del state[change]
    with pytest.raises(ConversionError, match=message):
        load_network('simtrack', state)


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
def test_it_tracks_on_every_engine(tiny, tmp_path, runtime):
    package = converted(tiny, tmp_path)
    tracker = SimTrackTracker(package, load_engine(package, runtime, threads=1))
    image = parity.synth_image(5, 120, 160)
    assert 0 <= tracker.start(image, Box(40, 30, 30, 20)) <= 1
    for _ in range(3):
        estimate = tracker.step(image)
        assert estimate.box.is_finite()
        assert 0 <= estimate.score <= 1


def peak(*places):
    shares = np.zeros((14, 14))
    for row, column in places:
        shares[row, column] = 1 / len(places)
    return shares


@pytest.mark.parametrize(
    ('top_left', 'bottom_right', 'score'),
    [
        (peak((3, 4)), peak((9, 10)), 1.0),
        (peak((3, 4), (3, 5)), peak((9, 10)), 1.0),  # between two cells
        (peak((1, 1), (11, 11)), peak((9, 10)), 0.0),  # at two places, in neither's middle
        (peak(*np.ndindex(13, 13)), peak((9, 10)), 9 / 169),  # anywhere
    ],
)
def test_the_score_says_how_well_the_corners_are_known(
    tiny, tmp_path, top_left, bottom_right, score
):
    package = converted(tiny, tmp_path)
    tracker = SimTrackTracker(package, load_engine(package, 'onnxruntime', threads=1))
    outputs = {
        'box': np.float32([[0.5, 0.5, 0.2, 0.2]]),
        'corners': np.float32([[top_left, bottom_right]]),
    }
    assert tracker._decode(outputs, 100).score == pytest.approx(score**0.5, abs=1e-6)


@pytest.mark.parametrize('sequence', ['otb_Crossing', 'davis_drift-chicane', 'synth'])
def test_parity_whole_sequences(parity_folder, shared, tmp_path, sequence):
    """The boxes of every frame are the official tracker's."""
    golden = parity.Golden(parity_folder, 'pipeline_simtrack_b16')
    run = next(run for run in golden.facts['runs'] if run['sequence'] == sequence)
    frames = parity.sequence(shared, run)
    package = converted(build(VARIANTS['b16'], run['rule']), tmp_path)
    inputs = package.inputs
    assert inputs['search_factor'] == run['search_factor']
    assert inputs['template_factor'] == run['template_factor']
    tracker = SimTrackTracker(package, load_engine(package, 'onnxruntime'))
    seen = {}
    make = tracker._engine.template
    tracker._engine.template = lambda **inputs: seen.update(inputs) or make(**inputs)
    tracker.start(frames[0], Box(*run['init_box']))
    assert seen['box'] == pytest.approx(golden.arrays[f'{sequence}/template_anno'], abs=1e-6)
    boxes = golden.arrays[f'{sequence}/boxes']
    assert len(boxes) == len(frames) - 1
    for row, image in enumerate(frames[1:]):
        assert tracker.step(image).box.xywh() == pytest.approx(boxes[row], abs=0.02), row
