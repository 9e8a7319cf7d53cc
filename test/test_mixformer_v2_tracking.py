# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""MixFormerV2 from an official-looking checkpoint to tracked sequences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import parity
import pytest
import torch
from runtimes import ON_THE_CPU
from test_mixformer_v2 import build, in_one_sequence

from tracker_ros.export.convert import ConversionError, convert
from tracker_ros.geometry import Box
from tracker_ros.networks.mixformer_v2 import VARIANTS, MixFormerV2, Variant
from tracker_ros.runtime.attention import AttentionProbe
from tracker_ros.runtime.engine import load_engine
from tracker_ros.runtime.package import ModelPackage
from tracker_ros.trackers.mixformer_v2 import MixFormerV2 as MixFormerV2Tracker

TINY = Variant(64, 32, depth=2, mlp_ratio=1, bins=24, dim=128, heads=2)


def saved(network: MixFormerV2, path: Path) -> Path:
    """A checkpoint in the official layout."""
    torch.save({'epoch': 500, 'net_type': 'MixFormer', 'net': network.state_dict()}, path)
    return path


@pytest.fixture
def tiny(tmp_path) -> tuple[MixFormerV2, ModelPackage]:
    torch.manual_seed(1)
    network = MixFormerV2(TINY).eval()
    # Weights as they are initialised give nearly the same answer to every image.
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    path = saved(network, tmp_path / 'tiny.pth.tar')
    return network, convert(path, 'mixformer_v2', 'tiny', tmp_path / 'models' / 'tiny')


def test_graphs_equal_the_network(tiny):
    """Template caching, last-layer pruning and pixels in the graph change nothing."""
    network, package = tiny
    random = np.random.default_rng(0)
    template, online = random.integers(0, 256, (2, 3, 32, 32, 3), np.uint8)
    search = random.integers(0, 256, (3, 64, 64, 3), np.uint8)
    first = onnxruntime.InferenceSession(package.graphs['template'].path)
    second = onnxruntime.InferenceSession(package.graphs['search'].path)
    keys, values = first.run(['keys', 'values'], {'template': template, 'online': online})
    box, score, sides = second.run(
        ['box', 'score', 'sides'], {'search': search, 'keys': keys, 'values': values}
    )
    with torch.no_grad():
        expected = network(
            *(torch.from_numpy(normalised(crop)) for crop in (template, online, search))
        )
    np.testing.assert_allclose(box, expected.boxes, atol=1e-6)
    np.testing.assert_allclose(score, expected.scores.sigmoid(), atol=1e-6)
    np.testing.assert_allclose(sides, expected.sides, atol=1e-6)
    assert np.ptp(box, axis=0).max() > 1e-3, 'the three targets should differ'


@pytest.mark.parametrize('name', ['s', 'b'])
def test_parity_of_the_graphs(parity_folder, tmp_path, name):
    """The same of the real networks: no output is 1e-6 from the whole forward in one sequence."""
    golden = parity.Golden.facts_of(parity_folder, f'module_mixformerv2_{name}')
    network = build(VARIANTS[name], golden['rule'])
    package = convert(
        saved(network, tmp_path / 'w.pth'), 'mixformer_v2', name, tmp_path / 'models' / name
    )
    variant = network.variant
    crops = [
        parity.synth_image(seed, side, side)
        for seed, side in (
            (1, variant.template_px),
            (2, variant.template_px),
            (3, variant.search_px),
        )
    ]
    engine = load_engine(package, 'onnxruntime', threads=2)
    found = engine.search(crops[2], engine.template(crops[0], online=crops[1]))
    with torch.no_grad():
        boxes, scores, sides, attention = in_one_sequence(
            network, *(torch.from_numpy(normalised(crop[np.newaxis])) for crop in crops)
        )
    np.testing.assert_allclose(found['box'], boxes, atol=1e-6)
    np.testing.assert_allclose(found['score'], scores.sigmoid(), atol=1e-6)
    np.testing.assert_allclose(found['sides'], sides, atol=1e-6)
    probe = AttentionProbe(package)
    shown = probe.attention({'template': crops[0], 'online': crops[1]}, crops[2])
    first = 2 * variant.template_tokens
    expected = attention[0, :, -4:, first : first + variant.search_tokens].mean(dim=(0, 1))
    np.testing.assert_allclose(shown.ravel(), expected, atol=1e-6)


def normalised(crops: np.ndarray) -> np.ndarray:
    rgb = crops[..., ::-1].astype(np.float32) / 255
    return np.ascontiguousarray(
        ((rgb - parity.IMAGENET_MEAN) / parity.IMAGENET_STD).transpose(0, 3, 1, 2)
    )


@pytest.mark.parametrize('runtime', ON_THE_CPU)
def test_it_tracks_on_every_engine(tiny, runtime):
    _, package = tiny
    tracker = MixFormerV2Tracker(package, load_engine(package, runtime, threads=1))
    image = parity.synth_image(5, 120, 160)
    assert 0 <= tracker.start(image, Box(40, 30, 30, 20)) <= 1
    for _ in range(3):
        estimate = tracker.step(image)
        assert estimate.box.is_finite()
        assert 0 <= estimate.score <= 1
        assert estimate.box.w <= 160


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ('drop', 'tensors are missing: score_head.layers.1.bias'),
        ('add', 'tensors are unexpected: extra.weight'),
        ('shape', 'tensors have a wrong shape: box_head.layers.0.0.weight'),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(tmp_path, change, message):
    state = MixFormerV2(TINY).state_dict()
    if change == 'drop':
        del state['score_head.layers.1.bias']
    elif change == 'add':
        state['extra.weight'] = torch.ones(3)
    else:
        state['box_head.layers.0.0.weight'] = torch.ones(128, 64)
    torch.save({'net': state}, tmp_path / 'w.pth')
    with pytest.raises(ConversionError, match=message):
        convert(tmp_path / 'w.pth', 'mixformer_v2', 'x', tmp_path / 'models' / 'x')
    assert not (tmp_path / 'models' / 'x').exists()


@pytest.fixture(scope='module')
def small(tmp_path_factory, parity_folder):
    """Packages of MixFormerV2-S by the made-up weights of each golden run."""
    made: dict[str, ModelPackage] = {}

    def make(run: dict) -> ModelPackage:
        name = run['sequence'].lower().replace('-', '_')
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            path = saved(build(VARIANTS['s'], run['rule']), folder / 'mixformerv2_small.pth.tar')
            made[name] = convert(path, 'mixformer_v2', name, folder / name)
            path.unlink()
        return made[name]

    return make


@pytest.mark.parametrize(
    ('sequence', 'runtime'),
    [
        ('otb_Crossing_fallback', 'onnxruntime'),
        ('otb_Crossing', 'onnxruntime'),
        ('davis_drift-chicane', 'onnxruntime'),
        ('synth', 'onnxruntime'),
        ('synth', 'torch'),
    ],
)
def test_parity_whole_sequences(small, parity_folder, shared, sequence, runtime):
    """Box, score and online template of every frame are the official tracker's."""
    golden = parity.Golden(parity_folder, 'pipeline_mixformerv2_s')
    run = next(run for run in golden.facts['runs'] if run['sequence'] == sequence)
    package = small(run)
    package.inputs.update(
        search_factor=run['search_factor'], template_factor=run['template_factor']
    )
    package.constants.update(update_interval_frames=run['update_interval'])
    tracker = MixFormerV2Tracker(package, load_engine(package, runtime))
    frames = parity.sequence(shared, run)
    tracker.start(frames[0], Box(*run['init_box']))
    boxes = golden.arrays[f'{sequence}/boxes']
    assert len(boxes) == len(frames) - 1
    for row, image in enumerate(frames[1:]):
        estimate = tracker.step(image)
        assert estimate.box.xywh() == pytest.approx(boxes[row], abs=0.02), row
        assert estimate.score == pytest.approx(golden.arrays[f'{sequence}/scores'][row], abs=1e-4)
        best = golden.arrays[f'{sequence}/max_pred_score'][row]
        assert tracker._best_score == pytest.approx(best, abs=1e-4), row
        online = normalised(tracker._online[np.newaxis])
        expected = golden.arrays[f'{sequence}/online_template_mean_std'][row]
        # The crop itself may sit a hundredth of a pixel away.
        assert (online.mean(), online.std(ddof=1)) == pytest.approx(expected, abs=2e-3), row
