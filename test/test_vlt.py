# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import functools
import itertools

import numpy as np
import parity
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from tracker_ros.networks.feature_fusion import FeatureFusion
from tracker_ros.networks.moda_mixer import roi_align
from tracker_ros.networks.shuffle_supernet import STAGES
from tracker_ros.networks.vlt import NETWORKS, VARIANTS, Resize, VltScar, VltTt, variant_of

TOLERANCE = 5e-5
NAMES = ['scar', 'tt']
"""Those of which there is official code."""


def build(name: str, rule: dict) -> VltScar | VltTt:
    return parity.load_made_up(NETWORKS[name](VARIANTS[name]), rule)


@functools.cache
def golden_network(folder, name: str) -> tuple[parity.Golden, VltScar | VltTt]:
    golden = parity.Golden(folder, f'module_vlt_{name}')
    return golden, build(name, golden.facts['rule'])


@pytest.mark.parametrize('name', NAMES)
def test_parity_weights_rule(parity_folder, name):
    """Names, shapes and made-up values are those of the official state dict."""
    facts = parity.Golden.facts_of(parity_folder, f'weights_vlt_{name}')
    parity.check_weights(facts, build(name, facts['rule']).state_dict())


@pytest.mark.parametrize(('name', 'parameters'), [('scar', 20_976_855), ('tt', 26_641_366)])
def test_parameter_totals(name, parameters):
    with torch.device('meta'):
        network = NETWORKS[name](VARIANTS[name])
    assert sum(tensor.numel() for tensor in network.parameters()) == parameters


@pytest.mark.parametrize(('name', 'millions'), [('scar', 14.52), ('tt', 20.13), ('rpn', 17.08)])
def test_what_no_path_takes_can_be_left_out(name, millions):
    torch.manual_seed(0)
    whole = NETWORKS[name](VARIANTS[name]).eval()
    pruned = NETWORKS[name](VARIANTS[name], whole=False).eval()
    names = set(whole.state_dict())
    (architecture,) = set(pruned.state_dict()) - names
    assert pruned.state_dict()[architecture].tolist() == VARIANTS[name].paths.genes()
    assert len(pruned.state_dict()) < len(names)
    pruned.load_state_dict(whole.state_dict(), strict=False)
    total = sum(tensor.numel() for tensor in pruned.parameters()) / 1e6
    assert total == pytest.approx(millions, abs=0.005)
    inputs = made_up_inputs(name)
    with torch.no_grad():
        for kept, full in zip(outputs(pruned(*inputs)), outputs(whole(*inputs)), strict=True):
            torch.testing.assert_close(kept, full, atol=0, rtol=0)


def made_up_inputs(name: str, batch: int = 1) -> tuple[torch.Tensor, ...]:
    variant, random = VARIANTS[name], torch.Generator().manual_seed(7)
    scale = 1.0 if name == 'tt' else 255.0
    template, search = (
        scale * torch.rand(batch, 3, side, side, generator=random)
        for side in (variant.template_px, variant.search_px)
    )
    boxes = torch.tensor([[41.0, 49.0, 85.0, 77.0]]).repeat(batch, 1)
    return template, boxes, 0.3 * torch.randn(batch, 768, generator=random), search


def outputs(output: object) -> list[torch.Tensor]:
    return [getattr(output, name) for name in output.__slots__]


@pytest.mark.parametrize('place', range(4))
@pytest.mark.parametrize('name', NAMES)
def test_parity_modules(parity_folder, name, place):
    """Every named point inside the network equals the official one, with and without sentence."""
    golden, network = golden_network(parity_folder, name)
    case = golden.facts['cases'][place]
    found = points(name, network, case)
    keys = [key for key in golden.arrays if key.startswith(f'{case["name"]}/')]
    assert {key.split('/')[1] for key in keys} - set(found) == set()
    distances = {key: parity.distance(found[key.split('/')[1]], golden, key) for key in keys}
    assert max(distances.values()) <= TOLERANCE, max(distances, key=distances.get)


def points(name: str, network: VltScar | VltTt, case: dict) -> dict[str, np.ndarray]:
    """The values that the golden numbers name, by their names."""
    paths, found = network.variant.paths, {'template_bbox': torch.tensor([case['template_bbox']])}
    template = crop(name, case['template_seed'], case['template'])
    search = crop(name, case['search_seed'], case['search'])
    is_spoken = case['mode'] == 'sentence'
    embedding = torch.from_numpy(parity.language(case['lang_seed']))[None] if is_spoken else None
    matching = scar_points(network) if name == 'scar' else tt_points(network)
    with torch.no_grad(), noting(found, *matching):
        with noting(found, *branch_points(network, 'z', paths.template, paths.template_mixers)):
            cached, selectors = network.template(template, found['template_bbox'], embedding)
        with noting(found, *branch_points(network, 'x', paths.search, paths.search_mixers)):
            output = network.search(search, cached, selectors)
    for stage, selector in enumerate(selectors):
        found[f'z_{"lang" if is_spoken else "vis"}token{stage}'] = selector
        found[f'z_roi{stage}'] = roi_align(found[f'z_before{stage}'], found['template_bbox'])
    if name == 'scar':
        found.update({f'z_neck{level}': value for level, value in enumerate(cached.chunk(3, 1))})
        found.update(out_cls=output.scores, out_cen=output.centres, out_reg=output.offsets)
    else:
        positions = network.neck.template_position.transpose(1, 2).unflatten(2, (16, 16))
        found.update(z_pos=positions, out_cls=output.scores, out_reg=output.boxes)
    return {key: value.numpy() for key, value in found.items()}


def crop(name: str, seed: int, side: int) -> torch.Tensor:
    if name == 'scar':
        image = np.float32(parity.synth_image(seed, side, side).transpose(2, 0, 1))[None]
    else:
        image = parity.net_input(seed, side)
    return torch.from_numpy(image)


@contextlib.contextmanager
def noting(found: dict, inside: dict[str, nn.Module], outside: dict[str, nn.Module]):
    """What goes into the modules `inside` and comes out of those `outside`, by name."""

    def note_input(name):
        return lambda _module, inputs: found.update({name: inputs[0]})

    def note_output(name):
        return lambda _module, _inputs, output: found.update({name: output})

    hooks = [
        *(module.register_forward_pre_hook(note_input(name)) for name, module in inside.items()),
        *(module.register_forward_hook(note_output(name)) for name, module in outside.items()),
    ]
    yield
    for hook in hooks:
        hook.remove()


def branch_points(network, branch, path, mixers):
    backbone = network.body
    inside, outside = {}, {'stem': backbone.first_conv, 'layer0': backbone.block(0, path)}
    for stage, end in enumerate(STAGES.ends):
        inside[f'before{stage}'] = outside[f'layer{end - 1}'] = backbone.block(end - 1, path)
        mixed = backbone.nlp_layers[stage][str(mixers[stage])]
        inside[f'mixed{stage}'] = outside[f'nlp{stage}'] = mixed
    return tuple(
        {f'{branch}_{name}': module for name, module in named.items()}
        for named in (inside, outside)
    )


def scar_points(network):
    head, neck = network.head, network.neck
    outside = {f'x_neck{level}': getattr(neck, f'downsample{5 + level}') for level in range(3)}
    outside.update(head_cls_tower=head.cls_tower, head_bbox_tower=head.bbox_tower)
    return {'head_down': head.cls_tower}, outside


def tt_points(network):
    neck = network.neck
    outside = {'proj_z': neck.input_proj, 'proj_x': neck.input_proj_copy}
    for place in (0, 3):
        layer = neck.encoder['layers'][place]
        outside.update({f'fusion{place}_z': layer.norm13, f'fusion{place}_x': layer.norm23})
    return {'z_backbone': neck.input_proj}, {**outside, 'decoder': neck.decoder['norm']}


@pytest.mark.parametrize(
    'box', [(41.2, 49.0, 84.8, 77.0), (-9.5, 30.0, 136.0, 60.2), (3, 3, 4, 4)]
)
@pytest.mark.parametrize('cells', [32, 16])
def test_roi_align_is_that_of_the_kernel(box, cells):
    """Bilinear samples one by one, as the operator of torchvision takes them."""
    feature = torch.randn(1, 5, cells, cells, generator=torch.Generator().manual_seed(3))
    found = roi_align(feature, torch.tensor([box]))
    np.testing.assert_allclose(found[0], roi_align_by_loops(feature[0].numpy(), box), atol=1e-5)


def roi_align_by_loops(feature: np.ndarray, box: tuple[float, ...]) -> np.ndarray:
    x1, y1, x2, y2 = (value / 8 for value in box)
    wide, high = max(x2 - x1, 1.0) / 3, max(y2 - y1, 1.0) / 3
    across, down = int(np.ceil(wide)), int(np.ceil(high))
    result = np.zeros((len(feature), 3, 3))
    for row, column in np.ndindex(3, 3):
        for j, i in np.ndindex(down, across):
            y, x = y1 + (row + (j + 0.5) / down) * high, x1 + (column + (i + 0.5) / across) * wide
            result[:, row, column] += bilinear(feature, y, x) / (down * across)
    return result


def bilinear(feature: np.ndarray, y: float, x: float) -> np.ndarray:
    height, width = feature.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(len(feature))
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = feature[:, top, left] * (1 - x + left) + feature[:, top, right] * (x - left)
    lower = feature[:, bottom, left] * (1 - x + left) + feature[:, bottom, right] * (x - left)
    return upper * (1 - y + top) + lower * (y - top)


@pytest.mark.parametrize('name', NETWORKS)
def test_modes_in_one_batch(name):
    """Each target of a batch goes by language or by its template, as alone."""
    torch.manual_seed(0)
    network = NETWORKS[name](VARIANTS[name], whole=False).eval()
    template, boxes, embedding, search = made_up_inputs(name, batch=3)
    embedding[1] = 0  # "0-tensor"
    with torch.no_grad():
        by_language = torch.tensor([[1.0], [1.0], [0.0]])
        together = outputs(
            network.search(search, *network.template(template, boxes, embedding, by_language))
        )
        for target, spoken in enumerate([embedding[:1], torch.zeros(1, 768), None]):
            part = slice(target, target + 1)
            alone = network(template[part], boxes[part], spoken, search[part])
            for whole, single in zip(together, outputs(alone), strict=True):
                torch.testing.assert_close(whole[part], single, atol=2e-4, rtol=2e-4)


def test_caching_is_exact():
    """Equal to both images in one go, every step as the paper and PyTorch have it."""
    torch.manual_seed(0)
    network = VltScar(VARIANTS['scar'], whole=False).eval().double()
    template, boxes, embedding, search = (value.double() for value in made_up_inputs('scar'))
    with torch.no_grad():
        found = network.search(search, *network.template(template, boxes, embedding))
        expected = scar_step_by_step(network, template, embedding, search)
    for ours, theirs in zip(outputs(found), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def scar_step_by_step(network, template, embedding, search):
    paths, backbone = network.variant.paths, network.backbone
    tokens = [layer(embedding[:, :, None, None]) for layer in backbone.token_map]

    def block(unit, feature):
        if hasattr(unit, 'branch_proj'):
            return torch.cat([unit.branch_proj(feature), unit.branch_main(feature)], dim=1)
        return torch.cat([feature[:, 0::2], unit.branch_main(feature[:, 1::2])], dim=1)

    def features(image, path, mixers, side):
        feature, found = backbone.first_conv(image), []
        for stage, (first, end) in enumerate(itertools.pairwise((0, *STAGES.ends))):
            for layer in range(first, end - 1):
                feature = block(backbone.features[layer][str(path[layer])], feature)
            visual = backbone.features[end - 1][str(path[end - 1])]
            mixed = backbone.nlp_layers[stage][str(mixers[stage])]
            feature = block(visual, feature) + block(mixed, tokens[stage] * feature)
            found.append(feature)
        return [functional.interpolate(level, (side, side), mode='bicubic') for level in found[1:]]

    neck, correlated = network.neck, []
    z = features(template, paths.template, paths.template_mixers, 15)
    x = features(search, paths.search, paths.search_mixers, 31)
    for level in range(3):
        kernel = getattr(neck, f'downsample{2 + level}')(z[level])[:, :, 4:11, 4:11]
        sought = getattr(neck, f'downsample{5 + level}')(x[level])
        correlated.append(functional.conv2d(sought, kernel.transpose(0, 1), groups=256))
    head = network.head
    joined = head.down(torch.cat(correlated, dim=1))
    named, bounded = head.cls_tower(joined), head.bbox_tower(joined)
    return head.cls_logits(named), head.centerness(named), head.bbox_pred(bounded).exp()


def test_fusion_with_a_cached_template_is_exact():
    """Equal to all steps of all layers in their order, from the projected features on."""
    torch.manual_seed(0)
    fusion = FeatureFusion(64, 4, 6, dim=64).eval().double()
    z, x = (torch.randn(1, 64, side, side, dtype=torch.float64) for side in (4, 6))
    with torch.no_grad():
        found = fusion.search(x, fusion.template(z))
        expected = fusion_step_by_step(fusion, z, x)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


def fusion_step_by_step(fusion: FeatureFusion, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    def attend(module, query, key, value):
        heads = [tokens.unflatten(2, (8, -1)).transpose(1, 2) for tokens in (query, key, value)]
        similar = (heads[0] @ heads[1].mT / heads[0].shape[-1] ** 0.5).softmax(dim=-1)
        return (similar @ heads[2]).transpose(1, 2).flatten(2) @ module.attn['fc'].weight.T

    z = fusion.input_proj(z).flatten(2).mT
    x = fusion.input_proj_copy(x).flatten(2).mT
    of_z, of_x = fusion.template_position, fusion.search_position
    for layer in fusion.encoder['layers']:
        z = layer.norm11(z + attend(layer.self_attn1, z + of_z, z + of_z, z))
        x = layer.norm21(x + attend(layer.self_attn2, x + of_x, x + of_x, x))
        z, x = (
            layer.norm12(z + attend(layer.multihead_attn1, z + of_z, x + of_x, x)),
            layer.norm22(x + attend(layer.multihead_attn2, x + of_x, z + of_z, z)),
        )
        z = layer.norm13(z + layer.linear12(layer.linear11(z).relu()))
        x = layer.norm23(x + layer.linear22(layer.linear21(x).relu()))
    last = fusion.decoder['layers'][0]
    x = last.norm1(x + attend(last.multihead_attn, x + of_x, z + of_z, z))
    x = last.norm2(x + last.linear2(last.linear1(x).relu()))
    return fusion.decoder['norm'](x)


def test_resizing_is_bicubic():
    feature = torch.randn(2, 3, 16, 16)
    found = Resize(16, 15)(feature)
    expected = functional.interpolate(feature, (15, 15), mode='bicubic', align_corners=False)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ('name', 'template_gmacs', 'search_gmacs'),
    [('scar', 0.558, 5.698), ('tt', 0.632, 13.191), ('rpn', 0.647, 5.853)],
)
def test_work_per_frame(name, template_gmacs, search_gmacs):
    """Official: 0.60 and 5.63 for VLT_SCAR, 0.54 and 13.28 for VLT_TT.

    Of the template's features only the middle is adjusted here; resizing is counted; the
    template's own step of the fusion has gone from the frame to the template.
    """
    with torch.device('meta'), torch.no_grad():
        network = NETWORKS[name](VARIANTS[name], whole=False).eval()
        template, boxes, embedding, search = (
            torch.empty(value.shape) for value in made_up_inputs(name)
        )
        with FlopCounterMode(display=False) as counter:
            cached = network.template(template, boxes, embedding)
        templates = counter.get_total_flops() / 2e9
        with FlopCounterMode(display=False) as counter:
            network.search(search, *cached)
    assert templates == pytest.approx(template_gmacs, abs=0.002)
    assert counter.get_total_flops() / 2e9 == pytest.approx(search_gmacs, abs=0.002)


def test_epsilons_are_the_official_ones():
    for name in NETWORKS:
        kinds = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
        norms = [
            module
            for module in NETWORKS[name](VARIANTS[name]).modules()
            if isinstance(module, kinds)
        ]
        assert {norm.eps for norm in norms} == {1e-5}


@pytest.mark.parametrize('name', NETWORKS)
def test_variant_is_read_off_the_names(name):
    with torch.device('meta'):
        state = NETWORKS[name](VARIANTS[name]).state_dict()
    assert variant_of({key: tuple(value.shape) for key, value in state.items()}) == name


def test_other_checkpoints_are_named_as_such():
    with pytest.raises(ValueError, match=r'no VLT checkpoint.*head\.centerness'):
        variant_of({'head.centerness.weight': (1, 256, 3, 3)})
