# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""SimTrack on Swin and PVT: what the paper says of them, and from a checkpoint to boxes."""

from __future__ import annotations

import numpy as np
import onnxruntime
import parity
import pytest
import torch
from test_mixformer_v2_tracking import normalised
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from tracker_ros.export.convert import ConversionError, convert, load_network
from tracker_ros.geometry import Box
from tracker_ros.networks.layers import merge_heads, split_heads
from tracker_ros.networks.simtrack_pyramid import (
    VARIANTS,
    PvtVariant,
    PyramidSimTrack,
    SwinVariant,
    variant_of,
)
from tracker_ros.networks.swin import cut_windows, join_windows
from tracker_ros.runtime.attention import AttentionProbe
from tracker_ros.runtime.engine import load_engine
from tracker_ros.runtime.package import read_package
from tracker_ros.trackers.simtrack import SimTrack as SimTrackTracker

TINY = {
    'swin': SwinVariant(dim=32, depths=(2, 2, 2)),
    'pvt': PvtVariant((64, 128, 192), (1, 1, 2), (1, 2, 3), mlp_ratios=(2, 2, 2)),
}


def network_of(variant) -> PyramidSimTrack:
    torch.manual_seed(1)
    network = PyramidSimTrack(variant).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.03 * torch.randn_like(parameter)
    return network


def images(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Templates, boxes in them, and search regions."""
    torch.manual_seed(2)
    boxes = torch.tensor([[0.25, 0.3, 0.5, 0.4]]).repeat(batch, 1)
    return torch.randn(batch, 3, 112, 112), boxes, torch.randn(batch, 3, 224, 224)


@pytest.mark.parametrize(
    ('name', 'gmacs', 'share'), [('swin_b', 15.0, 0.02), ('pvt_m', 8.9, 0.07)]
)
def test_work_is_near_that_of_table_7(name, gmacs, share):
    """Per frame, the target known; the paper does not say what it counts."""
    with torch.device('meta'), torch.no_grad():
        network = PyramidSimTrack(VARIANTS[name]).eval()
        template, box, search = images(1)
        cached = network.template(template, box)
        with FlopCounterMode(display=False) as counter:
            output = network.search(search, *cached)
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmacs, rel=share)
    assert output.corners.shape == (1, 2, 14, 14)


@pytest.mark.parametrize(('name', 'parameters'), [('swin_b', 61_534_330), ('pvt_m', 36_117_314)])
def test_parameters(name, parameters):
    with torch.device('meta'):
        network = PyramidSimTrack(VARIANTS[name])
    assert sum(tensor.numel() for tensor in network.parameters()) == parameters


@pytest.mark.parametrize('kind', TINY)
def test_shapes(kind):
    with torch.no_grad():
        output = network_of(TINY[kind])(*images())
    assert output.boxes.shape == (2, 4)
    assert output.corners.shape == (2, 2, 14, 14)


def test_each_window_sees_itself_and_the_pooled_target():
    """The paper's words on Swin, with the target's tokens beside those of each window."""
    network = network_of(TINY['swin'])
    block = network.backbone.swin.layers[0].blocks[0]
    search, target = torch.randn(1, 56, 56, 32), torch.randn(1, 28, 28, 32)
    with torch.no_grad():
        pooled = functional.avg_pool2d(block.norm1(target).permute(0, 3, 1, 2), 4)
        others = block.attn.key_value(pooled.flatten(2).transpose(1, 2))
        found = block(search, 56, others)
        # Each window as a sequence of its own with the target's 49 tokens behind it.
        windows = cut_windows(block.norm1(search), 56, 32)[0]
        beside = pooled.flatten(2).transpose(1, 2).expand(64, -1, -1)
        query, key, value = block.attn.qkv(torch.cat([windows, beside], dim=1)).chunk(3, dim=-1)
        bias = functional.pad(block.attn.bias(), (0, 49))
        parts = (split_heads(part, 1) for part in (query[:, :49], key, value))
        seen = functional.scaled_dot_product_attention(*parts, attn_mask=bias)
        seen = join_windows(block.attn.proj(merge_heads(seen))[None], 56, 32)
        expected = search + seen
        expected = expected + block.mlp(block.norm2(expected))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_swin_target_is_known_once():
    """It sees itself alone: another search region leaves what is cached as it is."""
    network = network_of(TINY['swin'])
    template, box, search = images()
    with torch.no_grad():
        cached = network.template(template, box)
        plain = network.backbone.swin(template, 112)
        assert [tuple(part.shape) for part in cached[::2]] == [
            (2, 2, 49, 32),
            (2, 2, 49, 64),
            (2, 2, 49, 128),
        ]
        moved = network.template(template, box + 0.1)
        found, other = network.search(search, *cached), network.search(search, *moved)
    assert plain.shape == (2, 49, 128)
    assert (found.corners - other.corners).abs().max() > 1e-7, 'the box should matter'


def test_pvt_reduces_the_target_half_as_much():
    network = network_of(TINY['pvt'])
    attn = network.backbone.block1[0].attn
    with torch.no_grad():
        first = attn(torch.randn(1, 56 * 56, 64), 56)
        second = attn.second(torch.randn(1, 28 * 28, 64), 28)
    assert first.shape == second.shape == (1, 49, 64)
    last = network.backbone.block3[0].attn
    assert last.sr.kernel_size == (2, 2)
    assert last.second.sr is None
    tokens = torch.randn(1, 49, 192)
    assert last.second(tokens, 7) is tokens


def test_a_pvt_block_looks_at_both():
    """Token by token in plain words, and pruned as whole."""
    network = network_of(TINY['pvt'])
    block = network.backbone.block1[0]
    first, second = torch.randn(2, 56 * 56, 64), torch.randn(2, 28 * 28, 64)
    with torch.no_grad():
        found = block(first, second, (56, 28))
        alone, rest = block(first, second, (56, 28), first_alone=True)
        plane = block.norm1(first).transpose(1, 2).unflatten(2, (56, 56))
        few = block.attn.norm(block.attn.sr(plane).flatten(2).transpose(1, 2))
        plane = block.norm1(second).transpose(1, 2).unflatten(2, (28, 28))
        more = block.attn.second.norm(block.attn.second.sr(plane).flatten(2).transpose(1, 2))
        key, value = block.attn.kv(torch.cat([few, more], dim=1)).chunk(2, dim=-1)
        for tokens, answer in zip((first, second), found, strict=True):
            match = block.attn.q(block.norm1(tokens)) @ key.transpose(1, 2) / 8
            expected = tokens + block.attn.proj(match.softmax(-1) @ value)
            expected = expected + block.mlp(block.norm2(expected))
            torch.testing.assert_close(answer, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone, found[0], atol=1e-6, rtol=1e-6)
    assert rest.shape[1] == 0


def test_names_are_those_of_the_published_backbones():
    with torch.device('meta'):
        swin, pvt = (set(PyramidSimTrack(variant).state_dict()) for variant in TINY.values())
    assert 'backbone.swin.layers.2.blocks.1.attn.relative_position_bias_table' in swin
    assert 'backbone.swin.layers.1.downsample.reduction.weight' in swin
    for name in ('attn.q', 'attn.kv', 'attn.sr', 'attn.norm', 'attn.proj', 'mlp.fc1', 'norm2'):
        assert f'backbone.block2.0.{name}.weight' in pvt
    assert {'backbone.pos_embed3', 'backbone.patch_embed2.proj.bias'} <= pvt


@pytest.mark.parametrize('variant', [*VARIANTS.values(), *TINY.values()])
def test_variant_is_read_off_the_shapes(variant):
    with torch.device('meta'):
        state = PyramidSimTrack(variant).state_dict()
    assert variant_of({name: tuple(value.shape) for name, value in state.items()}) == variant


def test_other_networks_are_no_pyramid():
    assert variant_of({'backbone.visual.conv1.weight': (768, 3, 16, 16)}) is None


@pytest.mark.parametrize('kind', TINY)
def test_every_parameter_gets_a_gradient(kind):
    network = network_of(TINY[kind]).train()
    output = network(*images())
    (output.boxes.square().sum() + output.corners.square().sum()).backward()
    idle = {name for name, value in network.named_parameters() if value.grad is None}
    # Of the last block only keys and values of the target are looked at, not what it sees.
    assert not idle


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """The package of a kind, made once."""
    folder = tmp_path_factory.mktemp('packages')

    def made(kind):
        if not (folder / kind).exists():
            torch.save({'net': network_of(TINY[kind]).state_dict()}, folder / 'w.pth')
            convert(folder / 'w.pth', 'simtrack', kind, folder / kind)
        return read_package(folder / kind)

    return made


@pytest.mark.parametrize('kind', TINY)
def test_graphs_equal_the_network(made, kind):
    package, network = made(kind), network_of(TINY[kind])
    random = np.random.default_rng(0)
    template = random.integers(0, 256, (3, 112, 112, 3), np.uint8)
    search = random.integers(0, 256, (3, 224, 224, 3), np.uint8)
    box = np.float32([[0.25, 0.25, 0.5, 0.5], [0.3, 0.2, 0.4, 0.6], [-0.1, 0.4, 1.3, 0.2]])
    sessions = [
        onnxruntime.InferenceSession(package.graphs[role].path) for role in ('template', 'search')
    ]
    names = [value.name for value in sessions[0].get_outputs()]
    values = sessions[0].run(names, {'template': template, 'box': box})
    cached = dict(zip(names, values, strict=True))
    found = sessions[1].run(['box', 'corners'], {'search': search, **cached})
    with torch.no_grad():
        expected = network(
            torch.from_numpy(normalised(template)),
            torch.from_numpy(box),
            torch.from_numpy(normalised(search)),
        )
    np.testing.assert_allclose(found[0], expected.boxes, atol=1e-5)
    np.testing.assert_allclose(found[1], expected.corners, atol=1e-5)
    assert np.ptp(found[0], axis=0).max() > 1e-4, 'the three targets should differ'


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino', 'torch'])
@pytest.mark.parametrize('kind', TINY)
def test_it_tracks_on_every_engine(made, kind, runtime):
    image = parity.synth_image(5, 120, 160)
    boxes = {}
    for name in ('onnxruntime', runtime):
        tracker = SimTrackTracker(made(kind), load_engine(made(kind), name, 1))
        assert 0 <= tracker.start(image, Box(40, 30, 30, 20)) <= 1
        boxes[name] = [tracker.step(image).box.xywh() for _ in range(3)]
    np.testing.assert_allclose(boxes[runtime], boxes['onnxruntime'], atol=0.02)


def test_attention_is_that_of_the_target_to_the_search_region(made):
    """On PVT; on Swin the target asks nobody but itself."""
    crops = [parity.synth_image(seed, side, side) for seed, side in ((1, 112), (2, 224))]
    given = {'template': crops[0], 'box': np.float32([0.25, 0.3, 0.5, 0.4])}
    found = AttentionProbe(made('pvt')).attention(given, crops[1])
    assert found.shape == (7, 7)
    assert 0.2 < found.sum() < 0.8, 'half of the keys are those of the target'
    network, seen = network_of(TINY['pvt']), []
    attn = network.backbone.block3[-2].attn
    attn.q.register_forward_hook(lambda module, given, query: seen.append(query))
    attn.kv.register_forward_hook(lambda module, given, both: seen.append(both[..., :192]))
    with torch.no_grad():
        template, search = (torch.from_numpy(normalised(crop[None])) for crop in crops)
        network(template, torch.from_numpy(given['box'][None]), search)
    query, key = (split_heads(part, 3) for part in sorted(seen, key=lambda part: -part.shape[1]))
    match = (query @ key.transpose(2, 3) / 8).softmax(-1)[0, :, 196:, :49]
    np.testing.assert_allclose(found, match.mean(dim=(0, 1)).reshape(7, 7), atol=1e-6)
    assert 'attention' not in made('swin').manifest


@pytest.mark.parametrize('kind', TINY)
def test_checkpoints_that_do_not_fit_are_refused(kind):
    state = {name: value.numpy() for name, value in network_of(TINY[kind]).state_dict().items()}
    del state['bottleneck.weight']
    with pytest.raises(ConversionError, match=r'tensors are missing: bottleneck\.weight'):
        load_network('simtrack', state)
