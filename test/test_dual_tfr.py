# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""DualTFR: what the paper says of it, and that what is computed once is computed rightly."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tracker_ros.networks.dual_tfr import VARIANTS, DualTfr, Template, Variant, variant_of

TINY = Variant((2, 2, 2), global_depth=1, cross_depth=3, dim=32, hidden=16)
CONTEXT = dataclasses.replace(TINY, has_context=True)

# Table 9, the fourth row of which is also table 7: depths of the local, global and cross blocks,
# parameters in millions, and what the paper counts as work, in G.
TABLE_9 = [
    ((2, 2, 6), 0, 4, 34.1, 14.2),
    ((2, 2, 6), 0, 2, 29.2, 11.3),
    ((2, 2, 6), 2, 4, 39.2, 16.5),
    ((2, 2, 6), 4, 4, 44.1, 18.9),
    # The paper says 18, but its text says nine blocks more than 6, and so do its parameters.
    ((2, 2, 15), 4, 4, 72.4, 30.0),
]


def network_of(variant: Variant) -> DualTfr:
    torch.manual_seed(1)
    network = DualTfr(variant).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.03 * torch.randn_like(parameter)
    return network


def images(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    return torch.randn(batch, 3, 112, 112), torch.randn(batch, 3, 224, 224)


def parameters_of(variant: Variant) -> int:
    with torch.device('meta'):
        network = DualTfr(variant)
    return sum(tensor.numel() for tensor in network.parameters())


def gmacs_of(variant: Variant) -> tuple[float, float]:
    """Of the template and of a search region, in G."""
    with torch.device('meta'), torch.no_grad():
        network = DualTfr(variant)
        template, search = images(1)
        with FlopCounterMode(display=False) as before:
            known = network.template(template)
        with FlopCounterMode(display=False) as frame:
            network.search(search, known)
    return before.get_total_flops() / 2e9, frame.get_total_flops() / 2e9


@pytest.mark.parametrize(('local', 'whole', 'cross', 'millions', 'work'), TABLE_9)
def test_parameters_of_table_9(local, whole, cross, millions, work):
    found = parameters_of(Variant(local, whole, cross)) / 1e6
    assert found == pytest.approx(millions, rel=0.03)


def test_a_block_has_the_parameters_of_table_9():
    """By the differences between its rows: 2.5 M for a global, 2.45 M for a cross block."""
    first, no_global, fewer = (
        parameters_of(Variant(global_depth=whole, cross_depth=cross)) / 1e6
        for whole, cross in ((4, 4), (0, 4), (0, 2))
    )
    assert (first - no_global) / 4 == pytest.approx((44.1 - 34.1) / 4, rel=0.06)
    assert (no_global - fewer) / 2 == pytest.approx((34.1 - 29.2) / 2, rel=0.08)


@pytest.mark.parametrize('ratio', [2, 4])
def test_no_other_width_of_the_mlp_fits_table_9(ratio):
    distance = [
        abs(parameters_of(Variant(local, whole, cross, mlp_ratio=ratio)) / 1e6 - millions)
        / millions
        for local, whole, cross, millions, _ in TABLE_9
    ]
    assert max(distance) > 0.06


def test_the_local_blocks_are_the_first_three_stages_of_swin():
    """Their size is what remains of table 9 without global and cross blocks and heads."""
    with torch.device('meta'):
        network = DualTfr(VARIANTS['plain'])
    local = sum(tensor.numel() for tensor in network.lab.parameters())
    assert local == 21_575_608


def test_exact_figures():
    assert parameters_of(VARIANTS['plain']) == 44_177_342
    assert parameters_of(VARIANTS['spatio_temporal']) == 44_177_342 + 512
    template, search = gmacs_of(VARIANTS['plain'])
    assert (template, search) == pytest.approx((2.204, 11.6), abs=0.01)


@pytest.mark.parametrize(('local', 'whole', 'cross', 'millions', 'work'), TABLE_9)
def test_work_is_less_than_the_paper_counts(local, whole, cross, millions, work):
    """No reading of the paper gives its figures; docs/dual_tfr.md says so. The order is right."""
    found = sum(gmacs_of(Variant(local, whole, cross)))
    assert 0.69 * work < found < 0.87 * work


@pytest.mark.parametrize('variant', [TINY, CONTEXT])
def test_what_is_known_of_the_template_changes_nothing(variant):
    """Every frame anew, the plain way, with nothing kept and nothing left out."""
    network = network_of(variant)
    template, search = images()
    context = torch.randn(2, 1, 128) if variant.has_context else None
    with torch.no_grad():
        found = network.search(search, network.template(template), context)
        scores, boxes = plainly(network, template, search, context)
    torch.testing.assert_close(found.scores, scores, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.boxes, boxes, atol=1e-6, rtol=1e-6)
    assert found.scores.shape == (2, 196, 2)
    assert found.boxes.shape == (2, 196, 4)
    assert found.context.shape == (2, 1, 128)


def plainly(network, template, search, context):
    """The paper's equations on both branches, each block on all tokens, the last one too."""
    places = {'template': network.template_positions, 'search': network.search_positions}
    tokens = {'template': template, 'search': search}
    for name, image in tokens.items():
        tokens[name] = network.lab_norm(network.lab(image, image.shape[-1]))
        for block in network.gab:
            tokens[name] = block.answer(tokens[name], *block.project(tokens[name], places[name]))
    if context is not None:
        tokens['template'] = torch.cat([tokens['template'], context], dim=1)
        places['template'] = torch.cat([places['template'], network.context_position], dim=1)
    layers = []
    for block in network.cab:
        projected = {name: block.project(tokens[name], places[name]) for name in tokens}
        tokens = {
            name: block.answer(tokens[name], projected[name][0], *projected[other][1:])
            for name, other in (('template', 'search'), ('search', 'template'))
        }
        layers.append(tokens['search'])
    features = torch.cat([network.out_norms[0](layers[-2]), network.out_norms[1](layers[-1])], -1)
    return network.cls_head(features), network.box_head(features).sigmoid()


def test_the_context_is_the_mean_of_the_search_region_before():
    network = network_of(CONTEXT)
    template, search = images()
    before = search.flip(-1)
    with torch.no_grad():
        known = network.template(template)
        first = network.search(before, known, network.first_context(known))
        expected = network.search(search, known, first.context)
        found = network(template, search, before)
        other = network(template, search)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-6, rtol=1e-5)
    assert (found.scores - other.scores).abs().max() > 1e-4, 'the context should matter'


def test_without_a_context_its_version_refuses():
    network = network_of(CONTEXT)
    template, search = images(1)
    with torch.no_grad(), pytest.raises(ValueError, match='needs the context of the frame before'):
        network.search(search, network.template(template))


def test_windows_that_are_moved_do_not_join_opposite_rims():
    """What changes at one rim of the image is not seen at the other by the first two blocks."""
    network = network_of(TINY)
    stage = network.lab.layers[0]
    plane = torch.randn(1, 56, 56, 32)
    changed = plane.clone()
    changed[:, 0, 0] += 1
    with torch.no_grad():
        difference = (stage.blocks[1](plane, 56) - stage.blocks[1](changed, 56)).abs().amax(-1)[0]
    touched = difference > 0
    assert touched[:3, :3].all(), 'moved by three, the window at the corner has three rows'
    touched[:3, :3] = False
    assert not touched.any()


def test_targets_do_not_depend_on_the_batch():
    network = network_of(CONTEXT)
    template, search = images(3)
    with torch.no_grad():
        together = network(template, search)
        for target in range(3):
            part = slice(target, target + 1)
            alone = network(template[part], search[part])
            torch.testing.assert_close(together.boxes[part], alone.boxes, atol=1e-6, rtol=1e-5)


def test_every_parameter_gets_a_gradient():
    network = network_of(CONTEXT)
    template, search = images(1)
    output = network(template, search)
    (output.scores.sum() + output.boxes.square().sum()).backward()
    idle = [name for name, value in network.named_parameters() if not value.grad.abs().any()]
    assert not idle


@pytest.mark.parametrize('variant', [*VARIANTS.values(), TINY, CONTEXT, Variant(global_depth=0)])
def test_variant_is_read_off_the_shapes(variant):
    with torch.device('meta'):
        state = DualTfr(variant).state_dict()
    assert variant_of({name: tuple(value.shape) for name, value in state.items()}) == variant


def test_other_checkpoints_are_named_as_such():
    with pytest.raises(ValueError, match=r'no DualTFR checkpoint.*lab\.patch_embed'):
        variant_of({'backbone.visual.conv1.weight': (768, 3, 16, 16)})


def test_names_of_the_local_blocks_are_those_of_swin():
    """So that weights of its first stages, pre-trained on ImageNet, can be taken."""
    with torch.device('meta'):
        names = DualTfr(TINY).lab.state_dict()
    of_a_block = {
        name.removeprefix('layers.1.blocks.0.')
        for name in names
        if name.startswith('layers.1.blocks.0.')
    }
    assert of_a_block == {
        *(f'{layer}.{kind}' for layer in ('norm1', 'norm2') for kind in ('weight', 'bias')),
        *(f'attn.{layer}.{kind}' for layer in ('qkv', 'proj') for kind in ('weight', 'bias')),
        *(f'mlp.{layer}.{kind}' for layer in ('fc1', 'fc2') for kind in ('weight', 'bias')),
        'attn.relative_position_bias_table',
        'attn.relative_position_index',
    }
    assert {name for name in names if not name.startswith('layers')} == {
        f'patch_embed.{layer}.{kind}' for layer in ('proj', 'norm') for kind in ('weight', 'bias')
    }
    assert {'layers.0.downsample.norm.weight', 'layers.1.downsample.reduction.weight'} <= set(
        names
    )
    assert not any(name.startswith('layers.2.downsample') for name in names)


def test_template_is_what_the_first_cross_block_takes():
    network = network_of(TINY)
    with torch.no_grad():
        known = network.template(images()[0])
    assert isinstance(known, Template)
    for part in (known.tokens, known.query, known.key, known.value):
        assert part.shape == (2, 49, 128)
