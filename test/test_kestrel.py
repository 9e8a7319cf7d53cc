# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Kestrel's network, from its parts to its graphs."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
from fakes import Square, make_package

torch = pytest.importorskip('torch', reason='needs PyTorch: pip install torch')

from tracker_ros.export.convert import convert  # noqa: E402
from tracker_ros.geometry import Box  # noqa: E402
from tracker_ros.networks.kestrel import (  # noqa: E402
    VARIANTS,
    Kestrel,
    Variant,
    grown,
    places,
    variant_of,
)
from tracker_ros.trackers import create  # noqa: E402

SMALL = Variant((4, 8, 8, 12), (1, 1, 1), dim=8, head_dim=8, heads=2, groups=4)
BOTH = {
    'small': SMALL,
    'small_online': Variant(
        (4, 8, 8, 12), (1, 0, 1), dim=8, head_dim=8, heads=2, groups=2, rounds=2, templates=2
    ),
}


pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(params=sorted(BOTH))
def network(request, monkeypatch):
    monkeypatch.setitem(VARIANTS, request.param, BOTH[request.param])
    return network_of(BOTH[request.param])


def network_of(variant: Variant) -> Kestrel:
    """With numbers everywhere, in the norms too."""
    torch.manual_seed(1)
    network = Kestrel(variant)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    network.crop_px.copy_(torch.tensor([32, 64]))
    network.train()
    for _ in range(3):
        network(*inputs_of(network, 4))
    return network.eval()


def inputs_of(network: Kestrel, count: int):
    slots = network.variant.templates
    template_px, search_px = network.crop_px.tolist()
    templates = torch.randint(0, 256, (count, slots, 3, template_px, template_px)).float()
    boxes = torch.rand(count, slots, 4) * 0.2 + 0.4
    return templates, boxes, torch.randint(0, 256, (count, 3, search_px, search_px)).float()


@pytest.mark.parametrize('name', sorted(VARIANTS))
def test_the_variants_are_known_by_their_tensors(name):
    tensors = Kestrel(VARIANTS[name]).state_dict()
    assert (
        variant_of({key: tuple(value.shape) for key, value in tensors.items()}) == (VARIANTS[name])
    )


def test_tensors_of_nothing_known_are_refused():
    with pytest.raises(ValueError, match='none of the variants nano, nano_online, tiny'):
        variant_of({'weight': (3, 3)})


def test_graphs_equal_the_network(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / 'w.pt')
    package = convert(tmp_path / 'w.pt', 'kestrel', 'small', tmp_path / 'small')
    first, second = (
        onnxruntime.InferenceSession(package.graphs[role].path) for role in ('template', 'search')
    )
    torch.manual_seed(2)
    templates, boxes, search = inputs_of(network, 3)
    crops = templates.permute(0, 1, 3, 4, 2).to(torch.uint8).numpy()
    fed = {'template': crops[:, 0], 'box': boxes[:, 0].numpy()}
    if network.variant.templates == 2:
        fed |= {'online': crops[:, 1], 'online_box': boxes[:, 1].numpy()}
    cached = dict(
        zip((each.name for each in first.get_outputs()), first.run(None, fed), strict=True)
    )
    cached['search'] = search.permute(0, 2, 3, 1).to(torch.uint8).numpy()
    score, sides, presence, quality = (torch.from_numpy(v) for v in second.run(None, cached))
    with torch.no_grad():
        output = network(templates, boxes, search)
    shares = output.scores.flatten(1).softmax(dim=-1).reshape(score.shape)
    torch.testing.assert_close(score, shares, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(sides, output.sides, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(presence, output.presence.sigmoid(), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(quality, output.quality.sigmoid(), atol=2e-5, rtol=1e-4)


def test_a_graph_has_no_branches_and_no_loose_shapes(network, tmp_path):
    """What compilers for GPUs stumble over."""
    torch.save(network.state_dict(), tmp_path / 'w.pt')
    package = convert(tmp_path / 'w.pt', 'kestrel', 'small', tmp_path / 'small')
    for graph in package.graphs.values():
        used = {node.op_type for node in onnx.load(graph.path).graph.node}
        assert not used & {'If', 'Loop', 'NonZero', 'ScatterND', 'Einsum', 'BatchNormalization'}


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino', 'torch'])
def test_a_package_runs(network, tmp_path, runtime):
    torch.save(network.state_dict(), tmp_path / 'w.pt')
    convert(tmp_path / 'w.pt', 'kestrel', 'small', tmp_path / 'small')
    tracker = create(str(tmp_path / 'small'), runtime, 1)
    square = Square()
    tracker.start(square.at(60, 50), square.box(60, 50))
    for x in range(60, 170):
        estimate = tracker.step(square.at(x, 50))
        assert estimate.box.is_finite()
        assert 0 <= estimate.score <= 1


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino', 'torch'])
def test_weights_in_16_bits_say_the_same_in_half_the_size(tmp_path, monkeypatch, runtime):
    variant = dataclasses.replace(SMALL, widths=(16, 32, 48, 48), dim=32)
    monkeypatch.setitem(VARIANTS, 'small', variant)
    network = network_of(variant)
    torch.save(network.state_dict(), tmp_path / 'w.pt')
    said, sizes = [], []
    square = Square()
    for half in (False, True):
        folder = tmp_path / str(half)
        package = convert(tmp_path / 'w.pt', 'kestrel', 'small', folder, half_weights=half)
        sizes.append(package.graphs['search'].path.stat().st_size)
        tracker = create(str(folder), runtime, 1)
        tracker.start(square.at(60, 50), square.box(60, 50))
        estimate = tracker.step(square.at(66, 50))
        said.append([*estimate.box.xywh(), estimate.score])
    assert sizes[1] < 0.65 * sizes[0]
    assert said[1] == pytest.approx(said[0], rel=0.02, abs=0.05)
    assert said[1] != said[0]


def test_templates_see_nothing_of_each_other(monkeypatch):
    """The memory of two templates is that of each, side by side."""
    network = network_of(BOTH['small_online'])
    torch.manual_seed(3)
    templates, boxes, _ = inputs_of(network, 1)
    with torch.no_grad():
        memory = network.template(templates, boxes)
        changed = templates.clone()
        changed[:, 1] = 0
        other = network.template(changed, boxes)
    cells = memory.keys[0].shape[-1] // 2
    assert torch.equal(memory.keys[0][..., :cells], other.keys[0][..., :cells])
    assert not torch.equal(memory.keys[0][..., cells:], other.keys[0][..., cells:])
    assert torch.equal(memory.means[:, :, :2], other.means[:, :, :2])


@pytest.mark.parametrize(
    'more',
    [{'templates': 2}, {'depths': (2, 2, 3)}, {'rounds': 3}, {'rounds': 2, 'templates': 2}],
    ids=str,
)
def test_a_grown_network_says_the_same(more):
    small = network_of(SMALL)
    large = Kestrel(dataclasses.replace(SMALL, **more))
    large.load_state_dict(grown(small.state_dict(), large.variant))
    large.eval()
    templates, boxes, search = inputs_of(small, 3)
    count = large.variant.templates
    with torch.no_grad():
        expected = small(templates, boxes, search)
        output = large(templates.repeat(1, count, 1, 1, 1), boxes.repeat(1, count, 1), search)
    for name in ('scores', 'sides', 'presence', 'quality'):
        torch.testing.assert_close(getattr(output, name), getattr(expected, name))


def test_a_grown_network_learns_in_its_new_parts():
    small = network_of(SMALL)
    large = Kestrel(dataclasses.replace(SMALL, depths=(2, 2, 2), rounds=2))
    large.load_state_dict(grown(small.state_dict(), large.variant))
    templates, boxes, search = inputs_of(small, 3)
    output = large(templates, boxes, search)
    (output.scores.square().mean() + output.presence.mean()).backward()
    grads = {name: each.grad for name, each in large.named_parameters() if each.grad is not None}
    learning = {name for name, grad in grads.items() if grad.abs().max() > 0}
    assert {'rounds.1.value.weight', 'backbone.stage4.blocks.1.conv2.1.weight'} <= learning


def test_places_are_those_of_the_box():
    """Of 4 x 4 cells a box over the right half of the upper left quarter."""
    covered, told = places(torch.tensor([[0.375, 0.25, 0.25, 0.5]]), 4)
    expected = torch.zeros(4, 4)
    expected[:2, 1] = 1
    assert torch.equal(covered.reshape(4, 4), expected)
    inside = told.reshape(4, 4, 8)[0, 1]
    assert inside.tolist() == pytest.approx([1, 0, -0.25, 0, -0.25, 1, 2, 1])
    half, _ = places(torch.tensor([[0.5, 0.5, 0.25, 0.25]]), 4)
    assert half.sum().item() == pytest.approx(1)


def test_the_box_is_drawn_back_through_the_window(tmp_path):
    """A cell's sides, in parts of the crop, become the box in the image they were cut from."""
    make_package(tmp_path / 'k', 'kestrel', constants={
        'clip_margin_px': 2, 'window': 0.0, 'size_pace': 1.0,
    })  # fmt: skip
    tracker = create(str(tmp_path / 'k'), 'onnxruntime', 1)
    truth = Box(103.3, 61.7, 22.5, 31.0)
    tracker._box = Box(101.0, 60.0, 20.0, 30.0)
    side = 99
    left, top = round(111.0 - side / 2), round(75.0 - side / 2)
    score = torch.zeros(1, 1, 32, 32)
    score[0, 0, 17, 19] = 1.0
    x, y = left + 19.5 / 32 * side, top + 17.5 / 32 * side
    sides = torch.zeros(1, 4, 32, 32)
    reach = torch.tensor([x - truth.x, y - truth.y, truth.x + truth.w - x, truth.y + truth.h - y])
    sides[0, :, 17, 19] = reach / side
    outputs = {
        'score': score.numpy(), 'sides': sides.numpy(), 'presence': torch.ones(1).numpy(),
    }  # fmt: skip
    assert tracker._decode(outputs, side).box.iou(truth) > 0.9999


@pytest.fixture
def decoder(tmp_path):
    """Decodes cells {(column, row): share} of 32 with boxes like the last, or twice as large."""
    make_package(tmp_path / 'k', 'kestrel', constants={
        'clip_margin_px': 2, 'window': 1.0, 'size_pace': 0.5,
    })  # fmt: skip
    tracker = create(str(tmp_path / 'k'), 'onnxruntime', 1)
    side = 80
    tracker._box = Box.from_center(100.0, 100.0, 20.0, 20.0)

    def decode(cells, presence=1.0, growth=1.0):
        score = np.full((1, 1, 32, 32), 1e-6, np.float32)
        for (column, row), share in cells.items():
            score[0, 0, row, column] = share
        sides = np.full((1, 4, 32, 32), growth * 10.0 / side, np.float32)
        outputs = {'score': score, 'sides': sides, 'presence': np.array([presence], np.float32)}
        return tracker._decode(outputs, side).box

    return decode


MIDDLE, BESIDE, FAR = (16, 16), (20, 16), (26, 16)
"""At (1, 1), (11, 1) and (26, 1) px from the middle of the crop, whose target has 20."""


@pytest.mark.parametrize(
    ('cells', 'offset_px'),
    [
        ({MIDDLE: 0.02, FAR: 0.9}, 1.25),  # the target is still there, and something like it came
        ({MIDDLE: 0.001, FAR: 0.9}, 26.25),  # gone there, all but
        ({FAR: 0.9}, 26.25),
        ({BESIDE: 0.02, FAR: 0.9}, 11.25),
        ({MIDDLE: 0.1, BESIDE: 0.9}, 11.25),  # no farther than a target moves
        ({(25, 16): 0.02, FAR: 0.9}, 26.25),  # as far: not the target's place either
    ],
)
def test_something_like_the_target_that_comes_from_afar_must_be_much_likelier(
    decoder, cells, offset_px
):
    assert decoder(cells).cx - 100.0 == pytest.approx(offset_px, abs=0.51)


def test_a_slope_towards_the_far_is_no_peak(decoder):
    """The cells between belong to what is far, however likely they are."""
    slope = {(column, 16): 0.9 * 0.7 ** (26 - column) for column in range(16, 27)}
    assert decoder(slope).cx - 100.0 == pytest.approx(26.25, abs=0.51)


def test_the_size_follows_as_the_score_allows(decoder):
    sizes = [decoder({MIDDLE: 0.9}, presence, growth=2.0).w for presence in (1.0, 0.5, 0.0)]
    assert sizes == pytest.approx([30.0, 25.0, 20.0])
