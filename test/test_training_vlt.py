# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training of VLT: its losses on worked examples, its optimisers, sentences, and learning."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import square_samples

torch = pytest.importorskip('torch', reason='needs PyTorch: pip install torch')

from tracker_ros.export.convert import load_network  # noqa: E402
from tracker_ros.networks import vlt  # noqa: E402
from tracker_ros.networks.moda_mixer import Paths  # noqa: E402
from tracker_ros.networks.shuffle_supernet import Stages  # noqa: E402
from tracker_ros.training import losses, vlt_losses  # noqa: E402
from tracker_ros.training.architecture import write_architecture  # noqa: E402
from tracker_ros.training.batches import Batch, collate  # noqa: E402
from tracker_ros.training.checkpoints import TrainingError  # noqa: E402
from tracker_ros.training.families import family_of  # noqa: E402
from tracker_ros.training.families.vlt import VARIANTS, Training, body_of  # noqa: E402
from tracker_ros.training.loop import Run  # noqa: E402
from tracker_ros.training.losses import Truth  # noqa: E402
from tracker_ros.training.progress import Progress  # noqa: E402
from tracker_ros.training.proposals import anchor_boxes  # noqa: E402
from tracker_ros.training.recipe import Recipe, RecipeError, read_recipe, recipe_from  # noqa: E402
from tracker_ros.training.sentences import Sentences, mean_of_words  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
SMALL = vlt.Variant(
    template_px=32,
    search_px=64,
    paths=Paths((0, 1, 2, 3, 0, 1, 2, 3), (3, 2, 1, 0) * 2, (0, 1, 2, 3), (1, 1, 0, 0)),
    stages=Stages(stem=8, layers=(2, 2, 2, 2), channels=(16, 24, 32, 48)),
    dim=32,
    kernel_cells=1,
    fusion=(1, 64),
    resizes=False,
)
# The kernels of its head lose two cells on the way.
RPN = dataclasses.replace(SMALL, kernel_cells=3)


pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(VARIANTS, 'scar_tiny', (vlt.VltScar, SMALL))
    monkeypatch.setitem(VARIANTS, 'tt_tiny', (vlt.VltTt, SMALL))
    monkeypatch.setitem(VARIANTS, 'rpn_tiny', (vlt.VltRpn, RPN))


def recipe_of(variant: str = 'scar_tiny', steps: dict | None = None, **options) -> Recipe:
    content = {
        'name': variant,
        'family': 'vlt',
        'variant': variant,
        'data': {'folder': 'none'},
        'crops': {'template_px': 32, 'search_px': 64},
        'steps': {'samples': 0, 'batch': 8, 'warmup_samples': 0, **(steps or {})},
        'precision': 'fp32',
        'options': {'language_model': 'words', **options},
    }
    return recipe_from(content, 'here')


def batch_of(*sentences: str) -> Batch:
    return collate(
        [square_samples.sample(number, sentence=said) for number, said in enumerate(sentences)]
    )


def truth_of(*boxes: tuple[float, ...], present: float = 1.0, certain: float = 1.0) -> Truth:
    count = len(boxes)
    return Truth(torch.tensor(boxes), torch.full((count,), present), torch.full((count,), certain))


# Losses of VLT_SCAR

# 100 x 60 px in the middle of 255 px: from 77.5 to 177.5 and from 97.5 to 157.5.
MIDDLE = (0.5, 0.5, 100 / 255, 60 / 255)


def scar_output(scores=(0.0, 0.0), offset: float = 1.0) -> vlt.ScarOutput:
    grid = torch.ones(1, 1, 25, 25)
    return vlt.ScarOutput(
        torch.cat([scores[0] * grid, scores[1] * grid], dim=1),
        0.0 * grid,
        offset * grid.expand(-1, 4, -1, -1),
    )


def test_cells_lie_where_the_official_code_has_them():
    places = vlt_losses.cell_places(25, 255)
    assert places[[0, 1, 24]].tolist() == [32, 40, 224]
    assert vlt_losses.cell_places(7, 64)[[0, 6]].tolist() == [8, 56]


def test_sides_and_nearness_of_a_cell():
    """The cell at (120, 136) of the box from (80, 100) to (180, 160)."""
    boxes = torch.tensor([[80.0, 100.0, 180.0, 160.0]])
    places = vlt_losses.cell_places(25, 255)
    sides = vlt_losses.sides_of(boxes, places)
    assert sides[0, :, 13, 11].tolist() == [40, 36, 60, 24]
    near = vlt_losses.nearness(sides)
    assert float(near[0, 13, 11]) == pytest.approx(math.sqrt(40 / 60 * 24 / 36))
    assert float(near[0, 0, 0]) == 0, 'cells beside the box are not near'
    back = vlt_losses.boxes_of(sides, places)
    torch.testing.assert_close(back, boxes[:, None, None].expand_as(back))


def test_the_targets_cells_are_in_the_inner_part():
    """At least 30 px from left and right, 18 from top and bottom: 5 x 3 of them."""
    boxes = torch.tensor([[77.5, 97.5, 177.5, 157.5]])
    sides = vlt_losses.sides_of(boxes, vlt_losses.cell_places(25, 255))
    inner = vlt_losses._is_inner(sides, boxes)[0]
    rows, columns = (inner.any(dim=axis).nonzero()[:, 0].tolist() for axis in (1, 0))
    assert int(inner.sum()) == 15
    assert (rows, columns) == ([11, 12, 13], [10, 11, 12, 13, 14])


def test_losses_of_scar_by_hand():
    parts = vlt_losses.scar_parts(scar_output(), truth_of(MIDDLE), 255)
    assert float(parts['scores']) == pytest.approx(math.log(2), rel=1e-5)
    assert float(parts['centres']) == pytest.approx(math.log(2), rel=1e-5)
    # Logits 0 and 2: the target is said everywhere, with the probability p.
    p = 1 / (1 + math.exp(-2))
    parts = vlt_losses.scar_parts(scar_output((0.0, 2.0)), truth_of(MIDDLE), 255)
    expected = -0.5 * math.log(p) - 0.5 * math.log(1 - p)
    assert float(parts['scores']) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('kind', vlt_losses.BOX_LOSSES)
def test_boxes_of_scar_are_weighed_by_nearness(kind):
    """One cell is off: its loss counts as its nearness among that of all 15."""
    truth = truth_of(MIDDLE)
    corners = torch.tensor([[77.5, 97.5, 177.5, 157.5]])
    sides = vlt_losses.sides_of(corners, vlt_losses.cell_places(25, 255))
    output = scar_output()
    output = dataclasses.replace(output, offsets=sides.clamp(min=0.1).clone())
    assert float(vlt_losses.scar_parts(output, truth, 255, kind)['overlap']) == pytest.approx(
        0, abs=1e-5
    )
    # Half as wide on the right side of the cell at (112, 120): from 65.5 px to 32.75.
    output.offsets[0, 2, 11, 10] /= 2
    near = vlt_losses.nearness(sides)[0, 11:14, 10:15]
    found = torch.tensor([77.5, 97.5, 144.75, 157.5])
    off = float(vlt_losses.box_losses(found, corners[0], kind))
    expected = float(near[0, 0] / near.sum()) * off
    parts = vlt_losses.scar_parts(output, truth, 255, kind)
    assert float(parts['overlap']) == pytest.approx(expected, rel=1e-4)


def test_complete_overlap_by_hand():
    def of(one, other):
        return float(losses.complete_overlap(torch.tensor(one), torch.tensor(other)))

    assert of([0.0, 0, 2, 2], [0.0, 0, 2, 2]) == pytest.approx(1)
    # A seventh in common, the centres a third of the hull's diagonal apart, shapes alike.
    assert of([0.0, 0, 2, 2], [1.0, 1, 3, 3]) == pytest.approx(1 / 7 - 1 / 9)
    # Half in common; hull 4 x 2, centres 1 apart; twice as wide as high beside a square.
    unlike = 4 / math.pi**2 * (math.atan(2) - math.atan(1)) ** 2
    expected = 0.5 - 1 / 20 - unlike**2 / (0.5 + unlike)
    assert of([0.0, 0, 4, 2], [0.0, 0, 2, 2]) == pytest.approx(expected, rel=1e-5)
    plain = vlt_losses.box_losses(
        torch.tensor([0.0, 0, 4, 2]), torch.tensor([0.0, 0, 2, 2]), 'iou'
    )
    assert float(plain) == pytest.approx(math.log(2), rel=1e-5)


# Losses of VLT_RPN++


def test_losses_of_rpn_by_hand():
    """One anchor in each of 9 cells, that in the middle as large as the target."""
    grid = torch.ones(1, 1, 3, 3)
    output = vlt.RpnOutput(
        torch.cat([0.0 * grid, 2.0 * grid], dim=1), 0.25 * grid.expand(-1, 4, -1, -1)
    )
    anchors = anchor_boxes((1.0,), 3, 16, 2)
    assert anchors[4].tolist() == [0, 0, 32, 32]
    parts = vlt_losses.rpn_parts(
        output, truth_of((0.5, 0.5, 0.5, 0.5)), 64, anchors, torch.Generator()
    )
    # The one in the middle is on the target; those in the corners overlap it by a seventh.
    p = 1 / (1 + math.exp(-2))
    expected = -0.5 * math.log(p) - 0.5 * math.log(1 - p)
    assert float(parts['scores']) == pytest.approx(expected, rel=1e-5)
    assert float(parts['corrections']) == pytest.approx(4 * 0.25, rel=1e-5)


# Losses of VLT_TT


def tt_output(scores=(0.0, 0.0), box=(0.5, 0.5, 0.25, 0.25)) -> vlt.TtOutput:
    return vlt.TtOutput(torch.tensor(scores).expand(1, 64, 2), torch.tensor(box).expand(1, 64, 4))


def test_cells_of_a_box():
    boxes = torch.tensor([[0.5, 0.5, 0.25, 0.25], [0.3, 0.9, 0.01, 0.01], [0.5, 0.25, 0.5, 0.1]])
    cells = vlt_losses.cells_in(boxes, 8).reshape(3, 8, 8)
    assert cells[0].nonzero().tolist() == [[3, 3], [3, 4], [4, 3], [4, 4]]
    assert cells[1].nonzero().tolist() == [[7, 2]], 'the cell that holds the centre'
    assert cells[2].nonzero()[:, 1].tolist() == [2, 3, 4, 5]


def test_losses_of_tt_by_hand():
    truth = truth_of((0.5, 0.5, 0.25, 0.25))
    parts = vlt_losses.tt_parts(tt_output(), truth)
    assert float(parts['scores']) == pytest.approx(math.log(2), rel=1e-5)
    assert float(parts['corners']) == pytest.approx(0, abs=1e-6)
    assert float(parts['iou']) == pytest.approx(1, rel=1e-5)
    # Four cells of the target, which each count as 16 of the 60 others.
    p = 1 / (1 + math.exp(-2))
    parts = vlt_losses.tt_parts(tt_output((2.0, 0.0), (0.5, 0.5, 0.5, 0.25)), truth)
    expected = (-4 * math.log(p) - 60 / 16 * math.log(1 - p)) / (4 + 60 / 16)
    assert float(parts['scores']) == pytest.approx(expected, rel=1e-5)
    assert float(parts['corners']) == pytest.approx(0.25, rel=1e-5), 'two sides, 1/8 each'
    assert float(parts['iou']) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize('name', ['scar', 'tt'])
def test_absent_targets_are_background_and_hidden_ones_nothing(name):
    box = (0.5, 0.5, 0.25, 0.25)

    def parts_of(**flags):
        if name == 'tt':
            return vlt_losses.tt_parts(tt_output((2.0, 0.0)), truth_of(box, **flags))
        return vlt_losses.scar_parts(scar_output((0.0, 2.0)), truth_of(box, **flags), 255)

    absent = parts_of(present=0.0)
    share = 1.0 if name == 'tt' else 0.5
    expected = -share * math.log(1 - 1 / (1 + math.exp(-2)))
    assert float(absent['scores']) == pytest.approx(expected, rel=1e-5)
    assert all(float(absent[part]) == 0 for part in absent.keys() - {'scores'})
    assert all(float(value) == 0 for value in parts_of(present=0.0, certain=0.0).values())


# Sentences


def test_words_are_numbers():
    car, red_car = mean_of_words('car'), mean_of_words('The red CAR.')
    assert car.shape == (768,)
    np.testing.assert_array_equal(car, mean_of_words('car'))
    others = [mean_of_words(word) for word in ('the', 'red', 'car')]
    np.testing.assert_allclose(red_car, np.mean(others, axis=0), atol=1e-6)
    assert abs(float(np.corrcoef(car, mean_of_words('dog'))[0, 1])) < 0.15


def test_nothing_to_read_is_zero_and_told():
    embedding, told = Sentences('words')(['a car', '', '  '])
    assert told[:, 0].tolist() == [1, 0, 0]
    assert not embedding[1:].any()
    np.testing.assert_array_equal(embedding[0], mean_of_words('a car'))


def test_a_missing_language_model_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_DATA_HOME', str(tmp_path))
    assert not Sentences('nowhere')([''])[1].any(), 'nothing is loaded for nothing'
    with pytest.raises(TrainingError, match=r'nowhere.*sentence_dropped: 1\.0'):
        Sentences('nowhere')(['a car'])


@pytest.mark.parametrize('without', ['template', 'zero'])
def test_a_dropped_sentence_is_an_empty_one(without):
    told, untold = batch_of('a car', 'a dog'), batch_of('', '')
    losses = {}
    for name, batch, dropped in (
        ('dropped', told, 1.0), ('empty', untold, 0.0), ('told', told, 0.0),
    ):  # fmt: skip
        recipe = recipe_of(sentence_dropped=dropped, without_sentence=without)
        run = Run(recipe)
        losses[name] = run.family.loss(run.network, batch, Progress())[0]
    assert torch.equal(losses['dropped'], losses['empty'])
    assert not torch.equal(losses['told'], losses['empty'])


def test_how_often_sentences_are_dropped():
    family = Training(recipe_of(sentence_dropped=0.25))
    batch = dataclasses.replace(batch_of(''), sentences=('a car',) * 1000)
    heard = family._heard(batch, Progress(samples=40))
    assert 200 < heard.count('') < 300
    assert heard == family._heard(batch, Progress(samples=40)), 'the same after an interruption'
    assert heard != family._heard(batch, Progress(samples=48))


# What is trained, and how fast


def test_the_pretrained_layers_learn_more_slowly():
    family = Training(recipe_of())
    network = family.network()
    slow, fast = family.groups(network)
    assert (slow.scale, fast.scale) == (0.1, 1.0)
    body = body_of(network)
    wanted = {id(each) for part in (body.first_conv, body.features) for each in part.parameters()}
    assert {id(each) for each in slow.parameters} == wanted
    assert len(slow.parameters) + len(fast.parameters) == len(list(network.parameters()))


def test_the_rate_of_scar_rises_and_falls_evenly_in_the_logarithm():
    steps = {'samples': 1000, 'rate': 0.005, 'final_rate': 0.0005, 'warmup_samples': 200}
    family = Training(recipe_of(steps=steps, schedule='log'))
    rates = [family.rate(Progress(samples=done)) for done in (0, 100, 200, 600, 1000)]
    assert rates == pytest.approx(
        [0.001, 0.001 * math.sqrt(5), 0.005, 0.005 / math.sqrt(10), 0.0005]
    )
    # Asked to end earlier, it falls from where it is.
    ending = Progress(samples=600, decay_from=600, decay_samples=100)
    assert family.rate(ending) == pytest.approx(0.005 / math.sqrt(10))
    ending.samples = 700
    assert family.rate(ending) == pytest.approx(0.0005)


def test_the_supernet_goes_other_ways_in_each_step():
    run = Run(recipe_of(architecture='supernet', steps={'optimiser': 'sgd'}))
    body = body_of(run.network)
    batch = batch_of('a car', '')
    ways = []
    for _ in range(2):
        loss, _parts = run.family.loss(run.network, batch, run.progress)
        run.network.zero_grad(set_to_none=True)
        loss.backward()
        ways.append(body.paths)
        for layer, choices in enumerate(body.features):
            for kind, block in choices.items():
                taken = int(kind) in (body.paths.template[layer], body.paths.search[layer])
                assert all((each.grad is not None) == taken for each in block.parameters())
        run.train_on(batch)
    assert ways[0] != ways[1]
    again = Run(recipe_of(architecture='supernet'))
    assert Paths(*again.family.random_genome(Progress(step=1))) == ways[1]


def test_mixers_begin_with_the_last_layer_of_their_stage():
    """From a pretrained supernet, which has the names of the backbone alone (appendix A.3)."""
    supernet = Training(recipe_of(architecture='supernet'))
    torch.manual_seed(1)
    whole = supernet.network()
    pretrained = {
        name.removeprefix('backbone.'): value
        for name, value in whole.state_dict().items()
        if name.startswith(('backbone.first_conv', 'backbone.features', 'backbone.c'))
    }
    torch.manual_seed(2)
    for family in (supernet, Training(recipe_of()), Training(recipe_of('tt_tiny'))):
        network = family.network()
        family.begin_with(network, pretrained)
        body = body_of(network)
        for stage, kind in enumerate(SMALL.paths.search_mixers):
            mixer = body.nlp_layers[stage][str(kind)].branch_main[0].weight
            name = f'features.{2 * stage + 1}.{kind}.branch_main.0.weight'
            assert torch.equal(mixer, pretrained[name])


def test_what_was_found_takes_its_weights_from_the_supernet(tmp_path):
    """The same answers as the supernet along these paths; and it can be converted."""
    torch.manual_seed(0)
    supernet = Training(recipe_of(architecture='supernet'))
    whole = supernet.network().eval()
    found = Paths((1,) * 8, (2, 3) * 4, (3, 2, 1, 0), (0,) * 4)
    write_architecture(found, SMALL.stages, tmp_path / 'architecture.yaml')
    family = Training(recipe_of(architecture=str(tmp_path / 'architecture.yaml')))
    network = family.network().eval()
    family.begin_with(network, whole.state_dict())
    assert network.backbone.paths == found
    whole.backbone.paths = found
    batch = batch_of('a car', '')
    with torch.no_grad():
        one, other = (family.run(each, batch) for each in (whole, network))
    for name in one.__slots__:
        assert torch.equal(getattr(one, name), getattr(other, name))


def test_a_network_that_was_found_is_built_from_its_weights(monkeypatch, tmp_path):
    monkeypatch.setitem(vlt.VARIANTS, 'scar', SMALL)
    paths = Paths((1, 0) * 4, (2, 3) * 4, (3, 2, 1, 0), (0,) * 4)
    network = vlt.VltScar(dataclasses.replace(SMALL, paths=paths), whole=False)
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    built = load_network('vlt_scar', tensors)
    assert built.backbone.paths == paths
    for name, value in network.state_dict().items():
        assert torch.equal(built.state_dict()[name], value)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'colour': 1}, 'unknown entries colour'),
        ({'without_sentence': 'one'}, "template, zero, not 'one'"),
        ({'sentence_dropped': 2.0}, 'from 0 to 1, not 2'),
        ({'weights': {'scores': 1.0}}, 'weights must be of scores, overlap, centres'),
        ({'search': {'mutation': 0.0}}, 'mutation must be'),
        ({'norm_batches': 0}, 'norm_batches must be 1 or more, not 0'),
        ({'schedule': 'cosine'}, "steps, log, not 'cosine'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(RecipeError, match=message):
        family_of(recipe_of(**options))


def test_crops_of_another_size_are_refused():
    recipe = dataclasses.replace(recipe_of(), variant='scar')
    with pytest.raises(TrainingError, match=r'1 template\(s\) of 127 px.*makes 1 of 32'):
        family_of(recipe)
    crops = dataclasses.replace(recipe.crops, templates=2)
    with pytest.raises(TrainingError, match=r'takes 1 template.*the recipe makes 2'):
        family_of(dataclasses.replace(recipe_of(), crops=crops))


@pytest.mark.parametrize(
    ('name', 'optimiser', 'rates'),
    [
        ('vlt_scar', 'sgd', {0: 0.001, 3_000_000: 0.002236, 6_000_000: 0.005, 24_000_000: 0.0005}),
        ('vlt_tt', 'adamw', {0: 5e-4, 759_000: 5e-4, 760_000: 1.58e-4, 3_799_000: 4.986e-6}),
        ('vlt_ass', 'sgd', {0: 0.005, 6_000_000: 0.0005}),
    ],
)
def test_the_recipes_have_the_rates_of_the_papers(name, optimiser, rates):
    recipe = read_recipe(ROOT / 'recipes' / f'{name}.yaml')
    family = family_of(recipe)
    assert recipe.steps.optimiser == optimiser
    assert recipe.steps.weight_decay == 1e-4
    assert family.options.backbone_rate == 0.1
    found = {done: family.rate(Progress(samples=done)) for done in rates}
    assert found == pytest.approx(rates, rel=1e-3)


# Learning


@pytest.mark.parametrize('variant', ['scar_tiny', 'tt_tiny', 'rpn_tiny'])
def test_in_16_bits_the_loss_is_about_the_same(variant):
    """The recipes train in bf16, with sentences for some."""
    recipe = recipe_of(variant, anchor_scale=3)
    batch = batch_of('a car', '', 'a dog', '')
    found = []
    for precision in ('fp32', 'bf16'):
        run = Run(dataclasses.replace(recipe, precision=precision))
        loss, _parts = run.family.loss(run.network, batch, Progress())
        loss.backward()
        assert loss.dtype == torch.float32
        found.append(float(loss.detach()))
    assert found[1] == pytest.approx(found[0], rel=0.03)
    assert found[1] != found[0]


@pytest.mark.parametrize(
    ('variant', 'optimiser', 'rate'),
    [('scar_tiny', 'sgd', 0.02), ('tt_tiny', 'adamw', 0.003), ('rpn_tiny', 'adamw', 0.003)],
)
def test_eight_samples_can_be_learned_by_heart(variant, optimiser, rate):
    """Some with a sentence, some without."""
    steps = {'rate': rate, 'optimiser': optimiser, 'weight_decay': 1e-4, 'warmup_samples': 80}
    run = Run(recipe_of(variant, steps=steps, backbone_rate=1.0, anchor_scale=3))
    batch = batch_of('a car', '', 'a red car', '', 'a dog', '', 'a boat', '')
    first = run.train_on(batch)
    for _ in range(200):
        last = run.train_on(batch)
        if float(last['iou']) > 0.75 and float(last['loss']) < 0.4 * float(first['loss']):
            break
    assert float(last['iou']) > 0.7
    assert float(last['loss']) < 0.5 * float(first['loss'])
