# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The teachers of MixFormerV2: names, sizes, and that they can be learnt from."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional

from tracker_ros.export.convert import ConversionError
from tracker_ros.export.mix_vit import load_teacher
from tracker_ros.networks.mix_vit import VARIANTS, MixVit, Output, Variant, variant_of
from tracker_ros.networks.mixformer_v2 import SIDES

TINY = Variant(search_px=96, template_px=32, depth=2, dim=128, head_channels=16)
PLAIN = dataclasses.replace(TINY, has_pyramid=False)


def network_of(variant: Variant) -> MixVit:
    torch.manual_seed(1)
    network = MixVit(variant).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if 'pos_embed' not in name:
                parameter += 0.03 * torch.randn_like(parameter)
    return network


def images(batch: int = 2) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(2)
    sides = TINY.template_px, TINY.template_px, TINY.search_px
    return tuple(torch.randn(batch, 3, side, side) for side in sides)


def block_parameters(dim: int) -> int:
    """Of one block: two norms, qkv and projection, an MLP of four times the width."""
    return 4 * dim + 4 * (dim**2 + dim) + (2 * 4 * dim**2 + 5 * dim)


def convolution_parameters(inside: int, outside: int) -> int:
    """Of a convolution of 3 x 3 with bias, and the norm behind it."""
    return 9 * inside * outside + 3 * outside


@pytest.mark.parametrize(
    ('name', 'tokens', 'parameters'),
    [('b', 18**2 + 8**2, 97_481_294), ('l', 24**2 + 12**2, 318_468_942)],
)
def test_parameters(name, tokens, parameters):
    """The sum of the parts that the official configuration names; head of 384 channels."""
    variant = VARIANTS[name]
    with torch.device('meta'):
        network = MixVit(variant)
    dim = variant.dim
    backbone = (3 * 16**2 + 1 + tokens) * dim + variant.depth * block_parameters(dim)
    widths = [
        *[(dim, 384), (384, 192), (192, 96), (96, 48)],  # the way up
        *[(dim, 192), (dim, 96)],  # the features once more
        *[(192, 96), (96, 48), (48, 1), (96, 48), (48, 1)],  # the maps of the lower resolutions
    ]
    corner = sum(convolution_parameters(*pair) for pair in widths) + 49
    found = sum(tensor.numel() for tensor in network.parameters())
    assert found == backbone + 2 * corner == parameters


def test_names_are_the_official_ones():
    names = set(MixVit(TINY).state_dict())
    backbone = {name.removeprefix('backbone.') for name in names if name.startswith('backbone.')}
    assert {'pos_embed_s', 'pos_embed_t', 'patch_embed.proj.weight'} <= backbone
    of_a_block = {
        name.removeprefix('blocks.1.') for name in backbone if name.startswith('blocks.1.')
    }
    layers = ('norm1', 'attn.qkv', 'attn.proj', 'norm2', 'mlp.fc1', 'mlp.fc2')
    assert of_a_block == {f'{layer}.{kind}' for layer in layers for kind in ('weight', 'bias')}
    # Of each corner, which convolutions there are; each but the last has its norm beside it.
    places = [f'conv{n}' for n in (1, 2, 3, 4)] + ['adjust1', 'adjust2']
    rows = [('adjust3', 3), ('adjust4', 2)]
    for corner in ('tl', 'br'):
        stems = [f'{place}_{corner}' for place in places]
        stems += [f'{row}_{corner}.{n}' for row, count in rows for n in range(count)]
        expected = {f'box_head.{stem}.0.weight' for stem in stems}
        expected.add(f'box_head.conv5_{corner}.weight')
        found = {
            name
            for name in names
            if f'_{corner}.' in name and name.endswith('weight') and not name.endswith('.1.weight')
        }
        assert found == expected
        assert all(f'box_head.{stem}.1.running_var' in names for stem in stems)


@pytest.mark.parametrize(('variant', 'bins'), [(TINY, 24), (PLAIN, 6)])
def test_shapes(variant, bins):
    with torch.no_grad():
        output = network_of(variant)(*images())
    assert output.boxes.shape == (2, 4)
    assert output.corners.shape == (2, 2, bins, bins)
    assert output.sides().shape == (2, len(SIDES), bins)
    torch.testing.assert_close(output.corners.sum(dim=(2, 3)), torch.ones(2, 2))


def test_the_pyramid_as_it_is_described():
    """At the resolutions one by one, each way added where it is enlarged."""
    network = network_of(TINY)
    features = torch.randn(2, 128, 6, 6)
    layer = network.box_head.get_submodule

    def larger(values, times):
        return functional.interpolate(values, scale_factor=times, mode='nearest')

    with torch.no_grad():
        for corner in ('tl', 'br'):
            first = layer(f'conv2_{corner}')(layer(f'conv1_{corner}')(features))
            seen = larger(layer(f'adjust1_{corner}')(features), 2)
            second = layer(f'conv3_{corner}')(larger(first, 2) + seen)
            seen = larger(layer(f'adjust2_{corner}')(features), 4)
            third = layer(f'conv4_{corner}')(larger(second, 2) + seen)
            scores = (
                layer(f'conv5_{corner}')(third)
                + larger(layer(f'adjust3_{corner}')(first), 4)
                + larger(layer(f'adjust4_{corner}')(second), 2)
            )
            found = network.box_head.scores(features, corner)
            torch.testing.assert_close(found, scores, atol=1e-6, rtol=1e-6)
            assert found.shape == (2, 1, 24, 24)


def test_what_is_known_of_the_templates_changes_nothing():
    """One sequence of tokens through every block, templates masked from the search region."""
    network = network_of(TINY)
    template, online, search = images()
    backbone = network.backbone
    with torch.no_grad():
        found = network(template, online, search)
        tokens = torch.cat(
            [
                backbone.patch_embed(template) + backbone.pos_embed_t,
                backbone.patch_embed(online) + backbone.pos_embed_t,
                backbone.patch_embed(search) + backbone.pos_embed_s,
            ],
            dim=1,
        )
        hidden = torch.zeros(44, 44)
        hidden[:8, 8:] = -torch.inf
        for block in backbone.blocks:
            query, key, value = block.attn.project(block.norm1(tokens))
            seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=hidden)
            tokens = block._add(tokens, seen)
        boxes, corners = network.box_head(tokens[:, 8:].transpose(1, 2).unflatten(2, (6, 6)))
    torch.testing.assert_close(found.boxes, boxes, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.corners, corners, atol=1e-6, rtol=1e-5)


def test_sides_are_the_sums_of_rows_and_columns():
    corners = torch.zeros(1, 2, 5, 5)
    corners[0, 0, 1, 0] = 1  # top left: row 1, column 0
    corners[0, 1, 4, 3] = 1
    sides = Output(torch.zeros(1, 4), corners).sides()[0]
    places = dict(zip(SIDES, sides.argmax(dim=1).tolist(), strict=True))
    assert places == {'left': 0, 'right': 3, 'top': 1, 'bottom': 4}


def test_sides_give_the_box():
    """Their expectations are the box that the head reads, so that a student learns the same."""
    with torch.no_grad():
        output = network_of(TINY)(*images())
    edges = output.sides() @ (torch.arange(24) / 24)
    left, right, top, bottom = edges.unbind(dim=1)
    boxes = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], 1)
    torch.testing.assert_close(output.boxes, boxes, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize('variant', [TINY, PLAIN])
def test_every_parameter_gets_a_gradient(variant):
    network = network_of(variant).train()
    output = network(*images())
    (output.boxes.square().sum() + output.corners.square().sum()).backward()
    idle = {
        name
        for name, value in network.named_parameters()
        if value.requires_grad and (value.grad is None or not value.grad.abs().any())
    }
    # A softmax does not see what is added to all cells; nor a norm what is added before it.
    assert all(name.startswith('box_head') and name.endswith('bias') for name in idle), idle
    fixed = {name for name, value in network.named_parameters() if not value.requires_grad}
    assert fixed == {'backbone.pos_embed_s', 'backbone.pos_embed_t'}


@pytest.mark.parametrize('variant', [*VARIANTS.values(), TINY, PLAIN])
def test_variant_is_read_off_the_shapes(variant):
    with torch.device('meta'):
        state = MixVit(variant).state_dict()
    assert variant_of({name: tuple(value.shape) for name, value in state.items()}) == variant


def test_a_checkpoint_is_loaded_without_what_has_no_part_in_the_box(tmp_path):
    network = network_of(TINY)
    unused = {
        'backbone.cls_token': torch.zeros(1, 1, 128),
        'backbone.pos_embed': torch.zeros(1, 197, 128),
        'backbone.norm.weight': torch.ones(128),
        'backbone.head.bias': torch.zeros(1000),
        'score_branch.score_token': torch.zeros(1, 1, 128),
    }
    torch.save({'net': {**network.state_dict(), **unused}}, tmp_path / 'mixvit.pth.tar')
    found = load_teacher(tmp_path / 'mixvit.pth.tar')
    assert found.variant == TINY
    assert not found.training
    for name, value in found.state_dict().items():
        assert torch.equal(value, network.state_dict()[name]), name


def test_other_checkpoints_are_named_as_such(tmp_path):
    state = network_of(TINY).state_dict()
    del state['box_head.adjust2_br.0.bias']
    torch.save({'net': state}, tmp_path / 'part.pth')
    with pytest.raises(ConversionError, match=r'not fit MixViT.*missing: box_head\.adjust2_br'):
        load_teacher(tmp_path / 'part.pth')
    torch.save({'net': {'conv1.weight': torch.zeros(1)}}, tmp_path / 'other.pth')
    with pytest.raises(ConversionError, match=r'no MixViT checkpoint.*backbone\.pos_embed_s'):
        load_teacher(tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='322 search and 64 template tokens of width 768'):
        variant_of(
            {
                'backbone.pos_embed_s': (1, 322, 768),
                'backbone.pos_embed_t': (1, 64, 768),
                'box_head.conv1_tl.0.weight': (384, 768, 3, 3),
            }
        )
