# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import numpy as np
import parity
import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from tracker_ros.networks.mixformer_v2 import VARIANTS, MixFormerV2, Variant, variant_of

TOLERANCE = 5e-5


def build(variant: Variant, rule: dict) -> MixFormerV2:
    """The network with the made-up weights of the golden numbers' rule."""
    return parity.load_made_up(MixFormerV2(variant), rule)


@pytest.mark.parametrize('name', ['b', 's'])
def test_parity_weights_rule(parity_folder, name):
    """Names, shapes and made-up values are those of the official state dict."""
    golden = parity.Golden.facts_of(parity_folder, f'weights_mixformerv2_{name}')
    parity.check_weights(golden, build(VARIANTS[name], golden['rule']).state_dict())


@pytest.mark.parametrize('name', ['b', 's'])
def test_parity_modules(parity_folder, name):
    """Every named point inside the network equals the official one."""
    golden = parity.Golden(parity_folder, f'module_mixformerv2_{name}')
    network = build(VARIANTS[name], golden.facts['rule'])
    for case in golden.facts['cases']:
        found = points(network, case)
        keys = [key for key in golden.arrays if key.startswith(f'{case["name"]}/')]
        assert {key.split('/')[1] for key in keys} == set(found)
        for key in keys:
            assert parity.distance(found[key.split('/')[1]], golden, key) <= TOLERANCE, key


def points(network: MixFormerV2, case: dict) -> dict[str, np.ndarray]:
    """The values that the golden numbers name, by their names."""
    template = torch.from_numpy(parity.net_input(case['template_seed'], case['template']))
    online = torch.from_numpy(parity.net_input(case['online_seed'], case['template']))
    search = torch.from_numpy(parity.net_input(case['search_seed'], case['search']))
    backbone = network.backbone
    with torch.no_grad():
        keys, values = network.templates(template, online)
        seen = torch.cat(
            [backbone.patch_embed(image) + backbone.pos_embed_t for image in (template, online)],
            dim=1,
        )
        tokens = backbone.patch_embed(search) + backbone.pos_embed_s
        tokens = torch.cat([tokens, backbone.reg_tokens + backbone.pos_embed_reg], dim=1)
        blocks = []
        for layer, block in enumerate(backbone.blocks):
            seen = block.templates(seen)[0]
            tokens = block.search(tokens, keys[:, layer], values[:, layer])
            blocks.append(torch.cat([seen, tokens], dim=1))
        asked = tokens[:, -4:]
        logits = network.box_head.logits(asked)
        output = network.search(search, keys, values)
    found = {
        'patch_embed_template': backbone.patch_embed(template),
        'block0': blocks[0],
        'block1': blocks[1],
        'block_last': blocks[-1],
        'reg_tokens_out': asked,
        'score_logits_per_token': network.score_head.logits(asked),
        'pred_boxes': output.boxes[:, None],
        'pred_scores': output.scores,
    }
    for place, side in enumerate('lrtb'):
        found[f'box_logits_{side}'] = logits[:, place]
        found[f'prob_{side}'] = output.sides[:, place]
    return {name: value.detach().numpy() for name, value in found.items()}


@pytest.mark.parametrize(
    ('variant', 'parameters'),
    [
        (VARIANTS['b'], 58_855_201),
        (dataclasses.replace(VARIANTS['b'], bins=72), 58_836_697),
        (VARIANTS['s'], 16_228_897),
    ],
)
def test_parameter_totals(variant, parameters):
    network = MixFormerV2(variant)
    assert sum(tensor.numel() for tensor in network.parameters()) == parameters


@pytest.mark.parametrize('name', sorted(VARIANTS))
def test_variant_is_read_off_the_shapes(name):
    with torch.device('meta'):
        shapes = {
            key: tuple(value.shape)
            for key, value in MixFormerV2(VARIANTS[name]).state_dict().items()
        }
    assert variant_of(shapes) == VARIANTS[name]


def test_other_checkpoints_are_named_as_such():
    with pytest.raises(ValueError, match=r'no MixFormerV2 checkpoint.*norm1'):
        variant_of({'backbone.conv1.weight': (64, 3, 7, 7)})


def test_epsilons_are_the_official_ones():
    network = MixFormerV2(VARIANTS['s'])
    assert {block.norm1.eps for block in network.backbone.blocks} == {1e-6}
    assert {block.norm2.eps for block in network.backbone.blocks} == {1e-6}
    assert [layer[1].eps for layer in network.box_head.layers] == [1e-5, 1e-5]


def test_templates_do_not_depend_on_the_batch():
    """Several targets in one call get what each alone gets."""
    torch.manual_seed(0)
    variant = Variant(64, 32, depth=2, mlp_ratio=1, bins=24, dim=128, heads=2)
    network = MixFormerV2(variant).eval()
    template, online = torch.randn(2, 3, 3, 32, 32)
    search = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        together = network(template, online, search)
        for target in range(3):
            part = slice(target, target + 1)
            alone = network(template[part], online[part], search[part])
            torch.testing.assert_close(together.boxes[part], alone.boxes, atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(together.scores[part], alone.scores, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ('name', 'template_gmacs', 'search_gmacs'), [('s', 1.258, 2.766), ('b', 6.744, 18.468)]
)
def test_work_per_frame(name, template_gmacs, search_gmacs):
    """Cached templates and a pruned last layer leave the multiply-accumulates that they should."""
    variant = VARIANTS[name]
    with torch.device('meta'), torch.no_grad():
        network = MixFormerV2(variant)
        template = torch.zeros(1, 3, variant.template_px, variant.template_px)
        search = torch.zeros(1, 3, variant.search_px, variant.search_px)
        with FlopCounterMode(display=False) as counter:
            cached = network.templates(template, template)
        templates = counter.get_total_flops() / 2e9
        with FlopCounterMode(display=False) as counter:
            network.search(search, *cached)
    assert counter.get_total_flops() / 2e9 == pytest.approx(search_gmacs, abs=0.002)
    assert templates == pytest.approx(template_gmacs, abs=0.002)


@pytest.mark.parametrize('name', ['b', 's'])
def test_caching_and_pruning_are_exact(name):
    """Equal to all tokens in one sequence, with the masked attention of the paper."""
    torch.manual_seed(3)
    variant = VARIANTS[name]
    network = MixFormerV2(variant).eval()
    # Larger than they are initialised, so that attention is far from uniform.
    with torch.no_grad():
        for block in network.backbone.blocks:
            block.attn.qkv.weight *= 4
    template, online = torch.randn(2, 1, 3, variant.template_px, variant.template_px)
    search = torch.randn(1, 3, variant.search_px, variant.search_px)
    with torch.no_grad():
        found = network.search(search, *network.templates(template, online))
        boxes, scores, sides, _ = in_one_sequence(network, template, online, search)
    torch.testing.assert_close(found.boxes, boxes, atol=1e-6, rtol=0)
    # As probabilities, which is what the graphs give.
    torch.testing.assert_close(found.scores.sigmoid(), scores.sigmoid(), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.sides, sides, atol=1e-6, rtol=0)


def in_one_sequence(network, template, online, search):
    """The whole forward with nothing saved: what `search` and `templates` must be equal to.

    Returns box, score logit, sides and the attention of the last layer.
    """
    weights = network.state_dict()

    def linear(tokens, name):
        return functional.linear(tokens, weights[f'{name}.weight'], weights[f'{name}.bias'])

    def norm(tokens, name, eps):
        weight, bias = weights[f'{name}.weight'], weights[f'{name}.bias']
        return functional.layer_norm(tokens, weight.shape, weight, bias, eps)

    def patches(image, positions):
        projection = weights['backbone.patch_embed.proj.weight']
        bias = weights['backbone.patch_embed.proj.bias']
        tokens = functional.conv2d(image, projection, bias, stride=16).flatten(2).transpose(1, 2)
        return tokens + weights[f'backbone.{positions}']

    seen = [patches(template, 'pos_embed_t'), patches(online, 'pos_embed_t')]
    asked = weights['backbone.reg_tokens'] + weights['backbone.pos_embed_reg']
    tokens = torch.cat([*seen, patches(search, 'pos_embed_s'), asked], dim=1)
    count = tokens.shape[1]
    templates = 2 * seen[0].shape[1]
    allowed = torch.ones(count, count, dtype=torch.bool)
    allowed[:templates, templates:] = False
    for layer in range(network.variant.depth):
        block = f'backbone.blocks.{layer}'
        qkv = linear(norm(tokens, f'{block}.norm1', 1e-6), f'{block}.attn.qkv')
        query, key, value = qkv.view(1, count, 3, 12, 64).permute(2, 0, 3, 1, 4)
        similar = (query @ key.mT / 8).masked_fill(~allowed, -torch.inf).softmax(dim=-1)
        mixed = (similar @ value).transpose(1, 2).reshape(1, count, 768)
        tokens = tokens + linear(mixed, f'{block}.attn.proj')
        hidden = linear(norm(tokens, f'{block}.norm2', 1e-6), f'{block}.mlp.fc1')
        tokens = tokens + linear(functional.gelu(hidden), f'{block}.mlp.fc2')
    asked = tokens[:, -4:]
    hidden = norm(linear(asked, 'box_head.layers.0.0'), 'box_head.layers.0.1', 1e-5).relu()
    logits = norm(linear(hidden, 'box_head.layers.1.0'), 'box_head.layers.1.1', 1e-5)
    sides = logits.softmax(dim=-1)
    left, right, top, bottom = (
        sides * torch.arange(network.variant.bins) / network.variant.bins
    ).sum(dim=-1)[0]
    boxes = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])
    hidden = linear(asked, 'score_head.layers.0.0').relu()
    scores = linear(hidden, 'score_head.layers.1').mean(dim=(1, 2))
    return boxes[None], scores, sides, similar
