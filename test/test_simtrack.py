# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import numpy as np
import parity
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tracker_ros.networks.simtrack import VARIANTS, SimTrack, Variant, coverage, variant_of

TOLERANCE = 5e-5


def build(variant: Variant, rule: dict) -> SimTrack:
    """The network with the made-up weights of the golden numbers' rule."""
    return parity.load_made_up(SimTrack(variant), rule)


@pytest.mark.parametrize('name', ['b16', 'b32', 'l14'])
def test_parity_weights_rule(parity_folder, name):
    """Names, shapes and made-up values are those of the official state dict."""
    golden = parity.Golden.facts_of(parity_folder, f'weights_simtrack_{name}')
    parity.check_weights(golden, build(VARIANTS[name], golden['rule']).state_dict())


@pytest.mark.parametrize('name', ['b16', 'b32', 'l14'])
def test_parity_modules(parity_folder, name):
    """Every named point inside the network equals the official one."""
    golden = parity.Golden(parity_folder, f'module_simtrack_{name}')
    network = build(VARIANTS[name], golden.facts['rule'])
    for case in golden.facts['cases']:
        variant = dataclasses.replace(VARIANTS[name], shifts_template=case['shift_flag'])
        network.backbone.variant = variant
        found = points(network, case)
        keys = [
            key
            for key in golden.arrays
            if key.startswith(f'{case["name"]}/') and not key.endswith('template_anno')
        ]
        assert {key.split('/')[1] for key in keys} == set(found)
        for key in keys:
            assert parity.distance(found[key.split('/')[1]], golden, key) <= TOLERANCE, key


def points(network: SimTrack, case: dict) -> dict[str, np.ndarray]:
    """The values that the golden numbers name, by their names."""
    template = torch.from_numpy(parity.net_input(case['template_seed'], case['template']))
    search = torch.from_numpy(parity.net_input(case['search_seed'], case['search']))
    box = torch.tensor([case['template_anno']]).float()
    backbone, visual, variant = network.backbone, network.backbone.visual, network.backbone.variant
    blocks = visual.transformer.resblocks
    grid, foveal_grid = variant.template_grid, variant.foveal_grid
    with torch.no_grad():
        inside = coverage(box, grid)
        # The parts before ln_pre, which the network never joins.
        positions = backbone.pos_fc(inside) * 2 - 1
        plane = positions.transpose(1, 2).unflatten(2, (grid, grid))
        searched = visual.patches(search) + visual.search_positions(variant.search_grid)
        of_class = (visual.class_embedding + visual.positional_embedding[0])[None, None]
        foveal_patches = backbone.foveal_patches(template)
        before = torch.cat(
            [
                visual.patches(template) + positions,
                of_class,
                searched,
                foveal_patches + backbone.foveal_positions(plane),
            ],
            dim=1,
        )
        after = visual.ln_pre(before)
        kept, foveal = network.template(template, box)
        parts = torch.cat([kept, backbone.search_tokens(search), foveal], dim=1)
        torch.testing.assert_close(parts, after, atol=1e-6, rtol=0)
        tokens = after
        every = []
        for block in blocks:
            tokens = block(tokens)
            every.append(tokens)
        done = visual.ln_post(tokens)
        narrow = network.bottleneck(done[:, : -(foveal_grid**2)])
        side = variant.search_grid
        features = narrow[:, -(side**2) :].transpose(1, 2).unflatten(2, (side, side))
        output = network.search(search, kept, foveal)
        half = variant.patch_px // 2
        shifted = torch.nn.functional.pad(template[:, :, half:, half:], (0, half, 0, half))
        fovea = (
            visual.conv1(shifted)
            if variant.shifts_template
            else foveal_patches.transpose(1, 2).unflatten(2, (foveal_grid, foveal_grid))
        )
        found = {
            'conv1_search': visual.conv1(search),
            'conv1_template': visual.conv1(template),
            'conv1_foveal': fovea,
            'pos_fc_in': inside[0],
            'pos_fc_out': backbone.pos_fc(inside)[0],
            'tokens_before_ln_pre': before,
            'tokens_after_ln_pre': after,
            'block0_seq_first': every[0].transpose(0, 1),
            'block_last_seq_first': every[-1].transpose(0, 1),
            'ln_post': done,
            'bottleneck': narrow,
            'head_conv1_tl': network.box_head.get_submodule('conv1_tl')(features),
            'score_tl': network.box_head.scores(features, 'tl'),
            'score_br': network.box_head.scores(features, 'br'),
            'pred_boxes': output.boxes[:, None],
        }
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize(
    ('name', 'parameters'),
    [('b16', 88_643_458), ('b32', 90_300_034), ('l14', 306_712_706), ('b16_8', 60_291_970)],
)
def test_parameter_totals(name, parameters):
    with torch.device('meta'):
        network = SimTrack(VARIANTS[name])
    assert sum(tensor.numel() for tensor in network.parameters()) == parameters


@pytest.mark.parametrize('name', sorted(VARIANTS))
def test_variant_is_read_off_the_shapes(name):
    with torch.device('meta'):
        state = SimTrack(VARIANTS[name]).state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    assert variant_of(shapes) == VARIANTS[name]


def test_other_checkpoints_are_named_as_such():
    with pytest.raises(ValueError, match=r'no SimTrack checkpoint.*conv1'):
        variant_of({'backbone.blocks.0.norm1.weight': (768,)})
    with pytest.raises(ValueError, match=r'no SimTrack of width 768, patches of 8 px, 0 layers'):
        variant_of(
            {
                'backbone.visual.conv1.weight': (768, 3, 8, 8),
                'backbone.visual.positional_embedding': (197, 768),
            }
        )


@pytest.mark.parametrize(('name', 'eps'), [('b16', 1e-5), ('b16_mae', 1e-6)])
def test_epsilons(name, eps):
    with torch.device('meta'):
        network = SimTrack(VARIANTS[name])
    norms = [module for module in network.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {eps}


@pytest.mark.parametrize(
    ('name', 'gmacs'), [('b32', 11.05), ('b16_8', 16.3), ('b16', 24.12), ('l14', 96.46)]
)
def test_work_per_frame(name, gmacs):
    """No more than the whole forward of the public code, and less by what is known before."""
    variant = VARIANTS[name]
    with torch.device('meta'), torch.no_grad():
        network = SimTrack(variant)
        template = torch.zeros(1, 3, variant.template_px, variant.template_px)
        search = torch.zeros(1, 3, variant.search_px, variant.search_px)
        with FlopCounterMode(display=False) as counter:
            cached = network.template(template, torch.zeros(1, 4))
        before = counter.get_total_flops() / 2e9
        with FlopCounterMode(display=False) as counter:
            network.search(search, *cached)
    frame = counter.get_total_flops() / 2e9
    assert frame + before < gmacs
    tokens = variant.template_grid**2 + variant.foveal_grid**2 + 1
    # In the last layer the tokens that are not searched need no query, output and MLP.
    pruned = tokens * 10 * variant.dim**2 / 1e9
    assert frame + before + pruned == pytest.approx(gmacs, rel=0.02)


def test_a_box_covers_patches():
    """Equation 5 by hand: a box over the left half of the middle of a grid of two."""
    found = coverage(torch.tensor([[0.25, 0.0, 0.25, 1.0]]), 2)[0]
    expected = [[0.75, 0.25, 0.25], [0.5, 0.75, 0.25], [0.75, 0.25, 0.75], [0.5, 0.75, 0.75]]
    assert found.tolist() == expected


def test_targets_do_not_depend_on_the_batch():
    torch.manual_seed(0)
    network = SimTrack(TINY).eval()
    template, search = torch.randn(3, 3, 32, 32), torch.randn(3, 3, 64, 64)
    box = torch.rand(3, 4)
    with torch.no_grad():
        together = network(template, box, search)
        for target in range(3):
            part = slice(target, target + 1)
            alone = network(template[part], box[part], search[part])
            torch.testing.assert_close(together.boxes[part], alone.boxes, atol=1e-6, rtol=1e-5)


TINY = Variant(8, 64, 32, 16, depth=2, pretrained_grid=8, dim=64, heads=2, joint_dim=32)
