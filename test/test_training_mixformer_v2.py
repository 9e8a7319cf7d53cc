# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""MixFormerV2 learns: from boxes, from teachers, with fewer layers, with smaller MLPs, a score."""

from __future__ import annotations

import dataclasses
import math

import pytest

torch = pytest.importorskip('torch', reason='needs PyTorch: pip install torch')

from training_runs import (  # noqa: E402
    RECIPES,
    batch_of,
    dry,
    losses_at_the_rim,
    overlap_of,
    samples_of,
    tiny_recipe,
)

from tracker_ros.cli import main  # noqa: E402
from tracker_ros.networks.mix_vit import MixVit  # noqa: E402
from tracker_ros.networks.mix_vit import Variant as MixVitVariant  # noqa: E402
from tracker_ros.networks.mixformer_v2 import MixFormerV2, Variant  # noqa: E402
from tracker_ros.training import losses  # noqa: E402
from tracker_ros.training.checkpoints import TrainingError, load  # noqa: E402
from tracker_ros.training.families import mixformer_v2, normalised  # noqa: E402
from tracker_ros.training.families.mixformer_v2 import (  # noqa: E402
    divergence_of,
    fade,
    rebinned,
    reduced,
)
from tracker_ros.training.loop import Run, train  # noqa: E402
from tracker_ros.training.recipe import RecipeError, read_recipe  # noqa: E402

TINY = Variant(64, 32, depth=4, mlp_ratio=2, bins=24, dim=64, heads=1)
UNTAUGHT = {'logits': 0.0, 'backbone_rate': 1.0, 'drop_path': 0.0}


pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """All variants as deep as they are, but narrow, on small crops."""
    for name, each in mixformer_v2.VARIANTS.items():
        small = dataclasses.replace(TINY, depth=each.depth, mlp_ratio=each.mlp_ratio)
        monkeypatch.setitem(mixformer_v2.VARIANTS, name, small)
    monkeypatch.setitem(mixformer_v2.VARIANTS, 'tiny', TINY)


def recipe_of(options: dict, **changes):
    return tiny_recipe('mixformer_v2', 2, options={**UNTAUGHT, **options}, **changes)


def lively(variant: Variant, seed: int = 1) -> MixFormerV2:
    """Weights as they are initialised give nearly the same answer to every image."""
    torch.manual_seed(seed)
    network = MixFormerV2(variant).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    return network


def saved(network, path):
    torch.save({'net': network.state_dict()}, path)
    return path


def corner_teacher(path, **facts):
    """A MixViT, with the corner head asked for, that knows the eight samples."""
    torch.manual_seed(5)
    sizes = {'search_px': 64, 'template_px': 32, 'depth': 1, 'dim': 64, 'head_channels': 32}
    network = MixVit(MixVitVariant(**{**sizes, **facts})).train()
    batch = batch_of(templates=2, search_px=network.variant.search_px)
    search = normalised(batch.search)
    templates = [normalised(each) for each in batch.templates.unbind(dim=1)]
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.005)
    for _ in range(100):
        found = losses.corners_of(network(*templates, search).boxes)
        loss = (found - losses.corners_of(batch.truth.boxes)).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        found = losses.corners_of(network.eval()(*templates, search).boxes)
    true = losses.corners_of(batch.truth.boxes)
    assert float(losses.overlap(found, true)[0].mean()) > 0.7, 'the teacher should know them'
    return saved(network, path)


# Losses


def test_complete_overlap_by_hand():
    """Two squares of 2 that share a half: IoU 1/3, centres 1 apart, hull 3 x 2."""
    found, true = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]])
    value = float(losses.complete_overlap(found, true, 0.5))
    assert value == pytest.approx(1 / 3 - 1 / 13, abs=1e-5)
    # 3 x 2 and 2 x 2 with one corner: IoU 2/3, centres 0.5 apart, hull 3 x 2; shapes count now.
    found, true = torch.tensor([[0.0, 0, 3, 2]]), torch.tensor([[0.0, 0, 2, 2]])
    unlike = 4 / math.pi**2 * (math.atan(1.5) - math.atan(1)) ** 2
    share = unlike / (1 / 3 + unlike)
    expected = 2 / 3 - 0.25 / 13 - share * unlike
    assert float(losses.complete_overlap(found, true, 0.5)) == pytest.approx(expected, abs=1e-5)


def test_a_distribution_over_other_bins_has_the_same_mean():
    random = torch.Generator().manual_seed(0)
    sides = torch.rand(3, 4, 14, generator=random)
    # Bins at the rims have no room on one side.
    sides[..., 0] = sides[..., -1] = 0
    sides /= sides.sum(dim=-1, keepdim=True)
    fine = rebinned(sides, 96)
    assert fine.sum(dim=-1).flatten().tolist() == pytest.approx([1.0] * 12)
    means = [(each @ (torch.arange(each.shape[-1]) / each.shape[-1])) for each in (sides, fine)]
    torch.testing.assert_close(*means, atol=0.004, rtol=0)
    assert rebinned(fine, 96) is fine


def test_who_says_what_the_teacher_says_does_not_diverge():
    logits = torch.randn(2, 4, 24, generator=torch.Generator().manual_seed(0))
    own = divergence_of(logits.softmax(dim=-1), logits)
    assert own.abs().max() < 1e-6
    two = torch.zeros(1, 4, 24)
    two[..., 3] = two[..., 7] = 0.5
    found = divergence_of(two, torch.zeros(1, 4, 24))
    assert found.flatten().tolist() == pytest.approx([math.log(12)] * 4, abs=1e-5)


def test_the_network_is_that_of_the_tracker():
    """Walked through layer by layer, with or without features, it says the same."""
    run = Run(recipe_of({}))
    run.network.load_state_dict(lively(TINY).state_dict())
    run.network.eval()
    batch = batch_of(templates=2)
    crops = [normalised(each) for each in (*batch.templates.unbind(dim=1), batch.search)]
    with torch.no_grad():
        whole = run.network(*crops)
        boxes, scores = run.family.predict(
            run.network, batch.templates, batch.template_boxes, batch.search
        )
        seen = run.family._run(run.network, batch.templates, batch.search, [1, 3])
    torch.testing.assert_close(boxes, whole.boxes, atol=1e-6, rtol=0)
    torch.testing.assert_close(scores, whole.scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(run.network.box_head(seen.tokens)[1], whole.sides)
    assert list(seen.features) == [1, 3]
    assert all(each.shape == (8, 2 * 4 + 16 + 4, 64) for each in seen.features.values())


# Depth and width


def test_layers_fade_as_a_cosine():
    assert [fade(samples, 400) for samples in (0, 100, 200, 400, 500)] == pytest.approx(
        [1, 0.5 + math.sqrt(2) / 4, 0.5, 0, 0]
    )
    assert fade(400, 400) == 0.0


def test_a_wholly_faded_network_is_the_pruned_one(tmp_path):
    """No bit differs, in boxes, scores and features."""
    run = Run(recipe_of({'faded': [0, 2], 'fade_samples': 80}))
    run.network.load_state_dict(lively(TINY).state_dict())
    run.progress.samples = 80
    run.family.set_mode(run.network, run.progress)
    variant = dataclasses.replace(TINY, depth=2)
    pruned = MixFormerV2(variant)
    pruned.load_state_dict(reduced(run.network.state_dict(), pruned, (1, 3)))
    batch = batch_of(templates=2)
    with torch.no_grad():
        faded, less = (
            run.family._run(network.eval(), batch.templates, batch.search, layers)
            for network, layers in ((run.network, (1, 3)), (pruned, (0, 1)))
        )
    assert torch.equal(faded.tokens, less.tokens)
    for one, other in ((1, 0), (3, 1)):
        assert torch.equal(faded.features[one], less.features[other])
    run.progress.samples = 40
    run.family.set_mode(run.network, run.progress)
    with torch.no_grad():
        half = run.family._run(run.network.eval(), batch.templates, batch.search, (1, 3))
    assert not torch.allclose(half.tokens, less.tokens, atol=1e-3)


def test_what_vanishes_is_not_trained(tmp_path):
    run = Run(recipe_of({'faded': [0, 2], 'fade_samples': 80}))
    before = {name: each.detach().clone() for name, each in run.network.named_parameters()}
    for _ in range(2):
        run.train_on(batch_of(templates=2))
    held = {
        name for name, each in run.network.named_parameters() if torch.equal(each, before[name])
    }
    of_blocks = {name.split('.')[2] for name in held if '.blocks.' in name}
    assert of_blocks == {'0', '2'}
    others = {name for name in held if '.blocks.' not in name}
    fixed = {'backbone.pos_embed_s', 'backbone.pos_embed_t'}
    assert others == fixed | {name for name in before if name.startswith('score_head.')}


def test_smaller_mlps_keep_the_first_units(tmp_path):
    wide = dataclasses.replace(TINY, mlp_ratio=4)
    teacher = lively(wide)
    run = Run(recipe_of({}))
    run.begin_with(saved(teacher, tmp_path / 'wide.pt'))
    mlp, its = run.network.backbone.blocks[1].mlp, teacher.backbone.blocks[1].mlp
    assert torch.equal(mlp.fc1.weight, its.fc1.weight[:128])
    assert torch.equal(mlp.fc1.bias, its.fc1.bias[:128])
    assert torch.equal(mlp.fc2.weight, its.fc2.weight[:, :128])
    assert torch.equal(mlp.fc2.bias, its.fc2.bias)


def test_which_layers_stay_must_be_told(tmp_path):
    path = saved(lively(dataclasses.replace(TINY, depth=6)), tmp_path / 'deep.pt')
    with pytest.raises(TrainingError, match='are of 6 layers, the network has 4: name those'):
        Run(recipe_of({})).begin_with(path)
    run = Run(recipe_of({'kept': [0, 2, 3, 5]}))
    run.begin_with(path)
    name = 'backbone.blocks.{}.attn.qkv.weight'
    assert torch.equal(run.network.state_dict()[name.format(3)], load(path)['net'][name.format(5)])


def test_it_begins_with_the_transformer_of_mae(tmp_path):
    own = lively(dataclasses.replace(TINY, depth=5)).state_dict()
    mae = {
        name.removeprefix('backbone.'): each
        for name, each in own.items()
        if '.blocks.' in name or '.patch_embed.' in name
    }
    mae |= {'pos_embed': torch.zeros(1, 197, 64), 'cls_token': torch.zeros(1, 1, 64)}
    torch.save({'model': mae}, tmp_path / 'mae.pt')
    run = Run(recipe_of({}))
    positions = run.network.backbone.pos_embed_s.clone()
    run.begin_with(tmp_path / 'mae.pt')
    name = 'backbone.blocks.3.mlp.fc2.weight'
    assert torch.equal(run.network.state_dict()[name], own[name])
    assert torch.equal(run.network.backbone.pos_embed_s, positions)
    del mae['blocks.2.norm1.weight']
    torch.save(mae, tmp_path / 'mae.pt')
    with pytest.raises(TrainingError, match=r'backbone\.blocks\.2\.norm1\.weight'):
        run.begin_with(tmp_path / 'mae.pt')


# Teachers


def test_a_student_comes_nearer_to_a_plain_corner_head(tmp_path):
    """Whose cells are fewer than the student's bins, and whose crop is larger."""
    facts = {'search_px': 96, 'has_pyramid': False}
    teacher = corner_teacher(tmp_path / 'plain.pt', **facts)
    options = {'l1': 0.0, 'ciou': 0.0, 'logits': 5.0}
    recipe = recipe_of(options, teacher=str(teacher))
    run = Run(recipe)
    batch = batch_of(templates=2, search_px=96)
    first = run.train_on(batch)
    for _ in range(60):
        last = run.train_on(batch)
    assert float(last['logits']) < 0.3 * float(first['logits'])
    # Of the truth it has been told by the teacher alone.
    assert float(last['iou']) > 0.5 > float(first['iou'])


def test_features_come_nearer_to_those_of_the_teacher(tmp_path):
    teacher = lively(dataclasses.replace(TINY, depth=6))
    options = {'l1': 0.0, 'ciou': 0.0, 'features': 0.2, 'matched': [[1, 2], [3, 5]]}
    run = Run(recipe_of(options, teacher=str(saved(teacher, tmp_path / 'deep.pt'))))
    batch = batch_of(templates=2)
    first = run.train_on(batch)
    for _ in range(40):
        last = run.train_on(batch)
    assert float(last['features']) < 0.5 * float(first['features'])
    assert set(last) == {'loss', 'norm', 'l1', 'ciou', 'features', 'iou'}


def test_features_are_compared_by_the_mean_over_the_pairs(tmp_path):
    teacher = saved(lively(dataclasses.replace(TINY, depth=6)), tmp_path / 'deep.pt')
    batch = batch_of(templates=2)

    def of(*matched):
        options = {'features': 0.2, 'matched': [list(pair) for pair in matched], 'drop_path': 0.0}
        run = Run(recipe_of(options, teacher=str(teacher)))
        run.network.load_state_dict(lively(TINY).state_dict())
        with torch.no_grad():
            return float(run.family.loss(run.network, batch, run.progress)[1]['features'])

    first, second, both = of((1, 2)), of((3, 5)), of((1, 2), (3, 5))
    assert first != pytest.approx(second, rel=0.01)
    assert both == pytest.approx((first + second) / 2, rel=1e-4)


def test_a_target_at_the_rim_counts_as_far_as_it_is_seen():
    run = Run(recipe_of({'drop_path': 0.0}))
    whole, seen = losses_at_the_rim(run, batch_of(templates=2))
    assert whole == pytest.approx(seen, rel=1e-5)


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        ({'logits': 5.0}, TrainingError, 'tracker_ros distill RECIPE --teacher FILE'),
        ({'features': 0.2}, RecipeError, 'give options.matched'),
        ({'matched': [[1, 2, 3]]}, RecipeError, 'must be pairs'),
        ({'matched': [[4, 2]], 'features': 0.2}, TrainingError, r'no layers \[4\]'),
        ({'faded': [1]}, RecipeError, 'needs options.fade_samples'),
        ({'faded': [9], 'fade_samples': 8}, TrainingError, r'no layers \[9\].*0 to 3'),
        ({'stage': 'last'}, RecipeError, "one of boxes, score, not 'last'"),
        ({'drop_path': 1.0}, RecipeError, r'drop_path must be in \[0, 1\)'),
        ({'layers': 3}, RecipeError, 'unknown entries layers'),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, error, message):
    teacher = str(saved(lively(TINY), tmp_path / 't.pt')) if 'features' in options else ''
    with pytest.raises(error, match=message):
        Run(recipe_of(options, teacher=teacher))


def test_a_teacher_that_is_none_is_refused(tmp_path, capsys):
    torch.save({'weight': torch.zeros(3)}, tmp_path / 'none.pt')
    with pytest.raises(TrainingError, match=r'the teacher .*none\.pt cannot be used'):
        Run(recipe_of({'logits': 5.0}, teacher=str(tmp_path / 'none.pt')))
    wide = saved(lively(dataclasses.replace(TINY, dim=128, heads=2)), tmp_path / 'wide.pt')
    with pytest.raises(TrainingError, match=r'128 channels .* cannot be compared'):
        Run(recipe_of({'features': 0.2, 'matched': [[1, 1]]}, teacher=str(wide)))
    recipe = str(RECIPES / 'mixformer_v2_b_deep.yaml')
    assert main(['distill', recipe, '--out', str(tmp_path / 'run')]) == 2
    assert 'names no teacher: give its weights with --teacher' in capsys.readouterr().err


# The recipes, one after the other, each from what the one before has left


def score_batch():
    return batch_of(templates=2, absent=4)


def test_the_recipes_from_the_teacher_to_the_smallest(tmp_path):
    """MixViT, 12 layers, 8 and 4, the small MLP, and the score: the targets stay found."""
    samples = samples_of(templates=2)
    batch = batch_of(templates=2)
    teacher = corner_teacher(tmp_path / 'teacher.pt')
    fast = {'backbone_rate': 1.0}

    def stage(name, steps, rate, begin_with=None, teacher='', least=0.7, absent=0, **options):
        recipe = dry(f'mixformer_v2_{name}', steps, rate, {**fast, **options}, teacher=teacher)
        made = samples_of(templates=2, absent=absent) if absent else samples
        run = train(recipe, tmp_path / name, samples=made, begin_with=begin_with)
        assert overlap_of(run, batch) > least, name
        return run, str(tmp_path / name / 'network.pt')

    first = Run(dry('mixformer_v2_b_sparse', 8, 0.003, fast, teacher=str(teacher)))
    before = first.train_on(batch)
    run, twelve = stage('b_sparse', 100, 0.003, teacher=str(teacher))
    after = run.train_on(batch)
    assert float(after['logits']) < 0.4 * float(before['logits'])
    assert float(after['loss']) < 0.4 * float(before['loss'])

    run, faded = stage('b_fade', 30, 0.001, twelve, twelve, fade_samples=160)
    assert [block.branch.weight for block in run.network.backbone.blocks[:4]] == [0, 1, 1, 0]
    run, eight = stage('b_deep', 10, 0.001, faded, twelve)
    assert len(run.network.backbone.blocks) == 8

    run, faded = stage('s_fade4', 35, 0.001, eight, eight, fade_samples=160)
    run, four = stage('s_deep4', 10, 0.001, faded, eight)
    run, small = stage('s_mlp', 30, 0.002, four, four)
    assert run.network.variant == dataclasses.replace(TINY, mlp_ratio=1)

    kept = {name: each.clone() for name, each in load(tmp_path / 's_mlp' / 'network.pt').items()}
    run, _ = stage('s_score', 40, 0.003, small, absent=4)
    changed = {name for name, each in run.average.items() if not torch.equal(each, kept[name])}
    assert changed == {name for name in kept if name.startswith('score_head.')}
    assert float(run.train_on(score_batch())['right']) == 1.0


@pytest.mark.parametrize(
    ('one', 'other'),
    [
        ('b_sparse', 's_sparse'),
        ('b_fade', 's_fade8'),
        ('b_deep', 's_deep8'),
        ('b_score', 's_score'),
    ],
)
def test_base_and_small_take_the_same_way(one, other):
    """What was shown of one recipe holds for the other: only sizes differ."""
    first, second = (read_recipe(RECIPES / f'mixformer_v2_{name}.yaml') for name in (one, other))
    assert first.options == second.options
    assert first.steps == second.steps
    assert first.data == second.data
