# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training of SiamAttn: which anchors and regions it learns from, its losses, and that it learns.

Numbers in the examples were worked out by hand.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs PyTorch: pip install torch')

from drawn_targets import drawn_sample  # noqa: E402
from torch import nn  # noqa: E402

from tracker_ros.networks.deformable import DeformableRoiPool  # noqa: E402
from tracker_ros.networks.resnet import ResNet50, cells_of  # noqa: E402
from tracker_ros.networks.siam_attn import VARIANTS, SiamAttn, Variant  # noqa: E402
from tracker_ros.trackers.pysot import Anchors  # noqa: E402
from tracker_ros.training import losses, proposals  # noqa: E402
from tracker_ros.training.batches import collate  # noqa: E402
from tracker_ros.training.checkpoints import TrainingError  # noqa: E402
from tracker_ros.training.families.siam_attn import (  # noqa: E402
    Training,
    backbone_of,
    masks_in,
    worst_mean,
)
from tracker_ros.training.loop import Run  # noqa: E402
from tracker_ros.training.progress import Progress  # noqa: E402
from tracker_ros.training.proposals import (  # noqa: E402
    IGNORED,
    NEGATIVE,
    POSITIVE,
    Sampling,
    anchor_boxes,
    labels_of,
    regions_near,
)
from tracker_ros.training.recipe import RecipeError, read_recipe, recipe_from  # noqa: E402

RECIPE = Path(__file__).resolve().parent.parent / 'recipes' / 'siam_attn.yaml'
RATIOS = (0.33, 0.5, 1.0, 2.0, 3.0)
SMALL = Variant(
    dim=16,
    widths=(4, 4, 4, 8),
    blocks=(1, 1, 1, 1),
    template_px=63,
    search_px=127,
    offset_hidden=16,
    box_hidden=32,
)


pytestmark = pytest.mark.usefixtures('one_thread')


def drawing(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Anchors


def test_anchors_are_those_of_the_tracker():
    """In the same order, and what a network says makes the same boxes of them."""
    offsets = np.random.default_rng(0).normal(0, 0.3, (20, 25, 25))
    expected = np.stack(Anchors(list(RATIOS), 25, 8, 8).boxes(offsets), axis=1)
    anchors = anchor_boxes(RATIOS, 25, 8, 8)
    found = proposals.corrections_by_anchor(torch.from_numpy(offsets[None]).float())
    boxes = proposals.corrected(anchors, found)[0]
    np.testing.assert_allclose(boxes.numpy(), expected, atol=1e-3)


def test_anchors_of_the_published_network():
    anchors = anchor_boxes(RATIOS, 25, 8, 8)
    assert anchors.shape == (3125, 4)
    # The first shape in the first cell, the next cell of its row, and the third in the middle.
    assert anchors[0].tolist() == [-96, -96, 104, 32]
    assert anchors[1].tolist() == [-88, -96, 104, 32]
    assert anchors[2 * 625 + 12 * 25 + 12].tolist() == [0, 0, 64, 64]


def test_corrections_and_back():
    anchors = torch.tensor([[10.0, -20.0, 40.0, 80.0]])
    boxes = torch.tensor([[14.0, -60.0, 80.0, 40.0]])
    found = proposals.corrections(anchors, boxes)
    torch.testing.assert_close(found, torch.tensor([[0.1, -0.5, math.log(2), -math.log(2)]]))
    torch.testing.assert_close(proposals.corrected(anchors, found), boxes)


def test_what_a_new_network_says_stays_finite():
    found = proposals.corrected(torch.ones(1, 4), torch.full((1, 4), 1000.0))
    assert found.isfinite().all()


def test_overlaps_of_worked_examples():
    anchors = torch.tensor([[0.0, 0, 10, 10], [5.0, 0, 10, 10], [0, 0, 20, 10], [30, 0, 10, 10]])
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    torch.testing.assert_close(
        proposals.overlaps(anchors, boxes), torch.tensor([[1.0, 1 / 3, 1 / 2, 0.0]])
    )


def test_labels_by_overlap():
    """More than 0.6 is on the target, less than 0.3 beside it, the rest is not asked for."""
    ious = torch.tensor([[0.9, 0.61, 0.6, 0.45, 0.3, 0.29, 0.0]])
    labels = labels_of(ious, torch.ones(1), Sampling(), drawing())
    assert labels.tolist() == [[POSITIVE, POSITIVE, IGNORED, IGNORED, IGNORED, NEGATIVE, NEGATIVE]]


def test_so_many_labels_and_no_more():
    ious = torch.cat([torch.full((3, 100), 0.8), torch.full((3, 900), 0.1)], dim=1)
    present = torch.tensor([1.0, 0.0, 0.5])
    labels = labels_of(ious, present, Sampling(), drawing())
    counts = [
        [int((row == kind).sum()) for kind in (POSITIVE, NEGATIVE, IGNORED)] for row in labels
    ]
    # The target is there; it is not; it is not known.
    assert counts == [[16, 48, 936], [0, 16, 984], [0, 0, 1000]]
    assert (labels[0, :100] != NEGATIVE).all()
    assert (labels[0, 100:] != POSITIVE).all()
    # Without a target no overlap means anything.
    assert (labels[1, :100] == NEGATIVE).any() or (labels[1, 100:] == NEGATIVE).any()


def test_labels_are_drawn_evenly_and_repeatably():
    ious = torch.full((1, 40), 0.8)
    sampling = Sampling(positives=10)
    times = torch.zeros(40)
    for seed in range(200):
        labels = labels_of(ious, torch.ones(1), sampling, drawing(seed))
        again = labels_of(ious, torch.ones(1), sampling, drawing(seed))
        assert torch.equal(labels, again)
        times += labels[0] == POSITIVE
    assert times.sum() == 2000
    assert times.min() > 25
    assert times.max() < 80


# Losses


def test_class_errors_of_a_worked_example():
    """Logits of background and target, 0 and log 3: the target's share is 3 / 4."""
    logits = torch.tensor([[[0.0, math.log(3)]] * 3])
    labels = torch.tensor([[POSITIVE, NEGATIVE, IGNORED]])
    torch.testing.assert_close(
        proposals.class_errors(logits, labels),
        torch.tensor([[math.log(4 / 3), math.log(4), 0.0]]),
    )


def test_logits_belong_to_their_anchors():
    """Of the maps of ten the first five are of the background."""
    cls = torch.arange(2 * 10 * 3 * 3).reshape(2, 10, 3, 3)
    found = proposals.logits_by_anchor(cls)
    assert found.shape == (2, 45, 2)
    shape, row, column = 4, 1, 2
    place = shape * 9 + row * 3 + column
    assert found[1, place].tolist() == [
        int(cls[1, shape, row, column]), int(cls[1, 5 + shape, row, column])
    ]  # fmt: skip


def test_correction_errors_of_a_worked_example():
    """Each image's mean over its positives of the sum of four; 0 for one without."""
    anchors = torch.tensor([[0.0, 0, 10, 10], [10.0, 0, 10, 10], [0, 0, 20, 20]])
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]] * 2)
    found = torch.zeros(2, 3, 4)
    labels = torch.tensor([[POSITIVE, POSITIVE, NEGATIVE], [NEGATIVE, IGNORED, NEGATIVE]])
    # Of the first image 0 for the first, and one side's shift for the second anchor.
    torch.testing.assert_close(
        proposals.correction_errors(found, anchors, boxes, labels), torch.tensor([0.5, 0.0])
    )
    found[0, 0] = torch.tensor([0.25, -0.25, 0.5, 1.0])
    torch.testing.assert_close(
        proposals.correction_errors(found, anchors, boxes, labels), torch.tensor([1.5, 0.0])
    )


def test_regions_near_the_target():
    own = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 4.0, 4.0]])
    # Overlaps with the first: 1, 9/11, 1/2, 1/3, 0.
    near = torch.tensor([[0.0, 0, 10, 10], [1.0, 0, 10, 10], [0, 0, 20, 10], [5, 0, 10, 10],
                         [40, 0, 10, 10]])  # fmt: skip
    regions, there = regions_near(near.expand(2, -1, -1), own, 0.5, 3, drawing())
    assert there.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert regions[0].tolist() == [own[0].tolist(), near[0].tolist(), near[1].tolist(),
                                   own[0].tolist()]  # fmt: skip
    assert regions[1].tolist() == [own[1].tolist()] * 4


def test_the_worst_pixels_count():
    errors = torch.tensor([[4.0, 0, 1, 3, 2, 0, 0, 0, 0, 0]])
    torch.testing.assert_close(worst_mean(errors, 0.3), torch.tensor([3.0]))
    torch.testing.assert_close(worst_mean(errors, 1.0), torch.tensor([1.0]))


def test_masks_within_regions():
    """A square on the left half of its region, a region beyond the crop, and one off it."""
    masks = torch.zeros(1, 128, 128)
    masks[0, 20:60, 20:40] = 1
    rois = torch.tensor([[[20.0, 20, 60, 60], [0, 20, 40, 60], [-20, -20, 20, 20],
                          [-60, 20, 100, 60]]])  # fmt: skip
    found = masks_in(masks, rois)[0]
    half = torch.zeros(64, 64)
    half[:, :32] = 1
    assert torch.equal(found[0], half)
    assert torch.equal(found[1], 1 - half)
    assert not found[2].any()
    # 160 px in 64 cells: the square is in 8 of them, from the 32nd on.
    assert found[3].nonzero()[:, 1].unique().tolist() == list(range(32, 40))


def test_several_regions_of_an_image_are_pooled_as_each_alone():
    torch.manual_seed(0)
    pool = DeformableRoiPool(3, 4, 9, 72, hidden=8)
    features = torch.randn(2, 3, 9, 9)
    rois = torch.rand(6, 2) * 30
    rois = torch.cat([rois, rois + 5 + 30 * torch.rand(6, 2)], dim=1)
    with torch.no_grad():
        found = pool(features, rois, each=3)
        alone = pool(features.repeat_interleave(3, dim=0), rois)
    torch.testing.assert_close(found, alone)


# Weights to begin with


def test_imagenet_weights_of_torchvision_become_those_of_the_backbone():
    """They want normalised RGB; the backbone has the same features from its own pixels."""
    torch.manual_seed(0)
    backbone = ResNet50((4, 4, 4, 4), (1, 1, 1, 1)).eval()
    theirs = {name: value.clone() for name, value in backbone.state_dict().items()}
    theirs['bn1.running_mean'].normal_()
    for block in ('layer2.0', 'layer3.0', 'layer4.0'):
        name = f'{block}.downsample.0.weight'
        theirs[name] = theirs[name][..., 1:2, 1:2]
    theirs['fc.weight'] = torch.zeros(1000, 16)
    backbone.load_state_dict(backbone_of(theirs))

    pixels = torch.randint(0, 256, (1, 3, 63, 63)).float()
    mean, std = (torch.tensor(values)[:, None, None] for values in (
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))  # fmt: skip
    normalised = (pixels.flip(1) / 255 - mean) / std
    convolution = nn.functional.conv2d(normalised, theirs['conv1.weight'], stride=2)
    shift = theirs['bn1.running_mean'][:, None, None]
    expected = ((convolution - shift) / math.sqrt(1 + 1e-5)).relu()
    with torch.no_grad():
        found = backbone(pixels)
        torch.testing.assert_close(found.conv1, expected, atol=1e-4, rtol=1e-4)
        # The 1 x 1 shortcut, where it is now the middle of 3 x 3.
        first = backbone.layer2[0].downsample[0](found.layer1)
        middle = found.layer1[..., 1:-1:2, 1:-1:2]
        plain = nn.functional.conv2d(middle, theirs['layer2.0.downsample.0.weight'])
    torch.testing.assert_close(first, plain)


def test_pysot_weights_are_taken_as_they_are():
    own = ResNet50((4, 4, 4, 4), (1, 1, 1, 1)).state_dict()
    found = backbone_of({**own, 'fc.bias': torch.zeros(1000)})
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], own[name]) for name in own)


def test_sizes_of_the_published_network():
    assert cells_of(255) == (125, 63, 31)
    assert cells_of(127) == (61, 31, 15)
    variant = Variant()
    assert variant.channels == (64, 256, 512, 1024, 2048)
    assert (variant.search_cells, variant.box_cells, variant.mask_cells) == (31, 25, 63)


# Learning


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(VARIANTS, 'small', SMALL)


def recipe_of(options: dict | None = None, **changes):
    content = {
        'name': 'small',
        'family': 'siam_attn',
        'variant': 'small',
        'data': {'folder': 'none'},
        'crops': {'template_px': 63, 'search_px': 127, 'context': 0.5, 'masks': True},
        'steps': {
            'samples': 320,
            'batch': 8,
            'rate': 5e-3,
            'final_rate': 2e-3,
            'warmup_samples': 40,
            'weight_decay': 1e-4,
            'largest_gradient': 10.0,
        },
        'options': {
            'anchor_scale': 4,
            'backbone_begins': 0,
            'backbone_rate': 1.0,
            'regions': 4,
            **(options or {}),
        },
        'precision': 'fp32',
        **changes,
    }
    return recipe_from(content, 'here')


@pytest.fixture(scope='module')
def batch():
    return collate([drawn_sample(number, 63, 127, (2.0, 4.0)) for number in range(8)])


def test_corrections_of_regions_count_by_their_mean(small):
    """One region at the target, one a tenth of its width beside it: 1 off in one of four.

    Smooth L1 of 1 is a half, so 1/8 of that region; the third region is not there.
    """
    family = Run(recipe_of()).family
    boxes = torch.tensor([[0.0, 0, 20, 30]])
    regions = torch.tensor([[[0.0, 0, 20, 30], [2.0, 0, 20, 30], [9.0, 9, 20, 30]]])
    told = SimpleNamespace(refine=lambda _features, _rois, count: torch.zeros(count, 4))
    output = SimpleNamespace(box_features=None)
    there = torch.tensor([[1.0, 1.0, 0.0]])
    loss, refined = family._refined(told, output, regions, boxes, there)
    assert float(loss) == pytest.approx((0 + 0.5 / 4) / 2)
    torch.testing.assert_close(refined, regions)


def test_eight_samples_are_learnt_by_heart(small, batch):
    run = Run(recipe_of())
    told = [run.train_on(batch) for _ in range(40)]
    first, last = ({name: float(value) for name, value in told[n].items()} for n in (0, -1))
    for name, part in (('loss', 0.4), ('cls', 0.3), ('loc', 0.2), ('box', 0.7), ('mask', 0.8)):
        assert last[name] < part * first[name], name
    # Of the best proposals; corrections of them take longer to learn.
    assert last['iou'] > 0.8
    assert last['refined_iou'] > first['refined_iou'] + 0.05
    # A mask that is all target would have half of it.
    assert first['mask_iou'] < 0.5
    assert last['mask_iou'] > 0.8

    network, family = run.network, run.family
    with torch.no_grad():
        # The means of the norms are those of the last weights, not of all on the way.
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.reset_running_stats()
                part.momentum = None
        family.loss(network, batch, run.progress)
        network.eval()
        boxes, sure = family.predict(network, batch.templates, batch.template_boxes, batch.search)
    found = losses.overlap(losses.corners_of(boxes), losses.corners_of(batch.truth.boxes))[0]
    assert found.mean() > 0.6
    # More likely the target than not.
    assert sure.mean() > 0


def gradients(network) -> set[str]:
    """The parts and the layers of the backbone that a gradient reached."""
    reached = set()
    for name, parameter in network.named_parameters():
        part, _, rest = name.partition('.')
        if parameter.grad is not None and parameter.grad.abs().sum() > 0:
            reached.add(f'backbone.{rest.partition(".")[0]}' if part == 'backbone' else part)
    return reached


PARTS = {'neck', 'feature_enhance', 'rpn_head', 'feature_fusion', 'bbox_head', 'mask_head'}


def test_the_backbone_waits(small, batch):
    """Until its sample comes nothing in it changes, its norms neither; then some layers do."""
    run = Run(recipe_of({'backbone_begins': 8, 'backbone_rate': 0.05}))
    before = {name: value.clone() for name, value in run.network.backbone.state_dict().items()}
    run.train_on(batch)
    assert gradients(run.network) == PARTS
    after = run.network.backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)

    run.train_on(batch)
    assert gradients(run.network) == PARTS | {f'backbone.layer{stage}' for stage in (2, 3, 4)}
    after = run.network.backbone.state_dict()
    changed = {
        name.partition('.')[0] for name in before if not torch.equal(before[name], after[name])
    }
    assert changed == {'layer2', 'layer3', 'layer4'}
    assert not torch.equal(before['layer2.0.bn1.running_mean'], after['layer2.0.bn1.running_mean'])
    rates = [group['lr'] for group in run.optimiser.param_groups]
    assert rates[1] == pytest.approx(0.05 * rates[0])


def test_every_parameter_but_the_first_layers_is_in_a_group(small):
    family = Run(recipe_of()).family
    network = SiamAttn(SMALL)
    grouped = {id(each) for group in family.groups(network) for each in group.parameters}
    left = {name for name, each in network.named_parameters() if id(each) not in grouped}
    assert left == {
        name
        for name, _ in network.named_parameters()
        if name.startswith(('backbone.conv1', 'backbone.bn1', 'backbone.layer1'))
    }


def test_without_masks_the_mask_head_is_left_as_it_is(small, batch):
    run = Run(recipe_of({'mask_weight': 0.0}))
    parts = run.train_on(dataclasses.replace(batch, masks=None, has_mask=None))
    assert 'mask' not in parts
    assert gradients(run.network) & {'mask_head', 'bbox_head'} == {'bbox_head'}
    with pytest.raises(TrainingError, match=r'crops\.masks, or 0 in options\.mask_weight'):
        Run(recipe_of()).train_on(dataclasses.replace(batch, masks=None, has_mask=None))


def test_without_a_target_only_the_classes_count(small, batch):
    """Of absent and of hidden targets neither box nor mask says anything."""
    nothing = torch.zeros(8)
    run = Run(recipe_of())
    for present, certain in ((nothing, torch.ones(8)), (torch.ones(8), nothing)):
        truth = dataclasses.replace(batch.truth, present=present, certain=certain)
        loss, parts = run.family.loss(
            run.network, dataclasses.replace(batch, truth=truth), run.progress
        )
        told = {name: float(value.detach()) for name, value in parts.items()}
        assert [told[name] for name in ('loc', 'box', 'mask')] == [0, 0, 0]
        assert float(loss.detach()) == pytest.approx(5 * told['cls'])
        assert (told['cls'] > 0) == bool(certain.any())


def loss_of(run, batch) -> float:
    with torch.no_grad():
        return float(run.family.loss(run.network, batch, run.progress)[0])


def test_the_same_sample_draws_the_same_regions(small, batch):
    run = Run(recipe_of())
    losses_of = [loss_of(run, batch) for _ in range(2)]
    run.progress.samples = 8
    losses_of.append(loss_of(run, batch))
    assert losses_of[0] == losses_of[1] != losses_of[2]


def test_the_rate_rises_and_falls_by_equal_factors(small):
    """Section 4.2: from 1e-3 to 5e-3 in 5 of 20 epochs, then to 5e-4."""
    recipe = read_recipe(RECIPE)
    family = Training(recipe)
    epoch = recipe.steps.samples // 20
    rates = [family.rate(Progress(samples=epochs * epoch)) for epochs in (0, 2.5, 5, 12.5, 20)]
    expected = [1e-3, math.sqrt(5) * 1e-3, 5e-3, math.sqrt(2.5) * 1e-3, 5e-4]
    assert rates == pytest.approx(expected)
    # Asked to end earlier, it falls from where it is.
    ending = Progress(samples=5 * epoch, decay_from=5 * epoch, decay_samples=epoch)
    assert family.rate(ending) == pytest.approx(5e-3)
    ending.samples = 6 * epoch
    assert family.rate(ending) == pytest.approx(5e-4)


def test_the_recipe_is_that_of_the_paper():
    recipe = read_recipe(RECIPE)
    with torch.device('meta'):
        network = Training(recipe).network()
    assert network.variant == Variant()
    assert (recipe.steps.optimiser, recipe.steps.momentum) == ('sgd', 0.9)
    assert 2 * recipe.options['backbone_begins'] == recipe.steps.samples
    assert recipe.crops.search_factor == pytest.approx(2 * 255 / 127, abs=1e-3)


@pytest.mark.parametrize(
    ('options', 'changes', 'message'),
    [
        ({}, {'precision': 'bf16'}, 'put fp32 in precision'),
        ({}, {'crops': {'template_px': 64, 'search_px': 127}}, 'makes 1 of 64 and 127'),
        (
            {},
            {'crops': {'template_px': 63, 'search_px': 127, 'templates': 2}},
            'makes 2 of 63 and 127',
        ),
        ({'backbone_layers': ['layer5']}, {}, "no 'layer5'"),
        ({}, {'variant': 'huge'}, "no variant 'huge'"),
    ],
)
def test_what_does_not_fit_is_told(small, options, changes, message):
    with pytest.raises(TrainingError, match=message):
        Run(recipe_of(options, **changes))


def test_unknown_options_are_told(small):
    with pytest.raises(RecipeError, match=r'unknown entries mask_wait; known are .*mask_weight'):
        Run(recipe_of({'mask_wait': 1.0}))


def test_a_run_begins_with_an_imagenet_backbone(small, tmp_path):
    backbone = ResNet50(SMALL.widths, SMALL.blocks).state_dict()
    torch.save(
        {'state_dict': {**backbone, 'fc.bias': torch.zeros(1000)}}, tmp_path / 'imagenet.pt'
    )
    run = Run(recipe_of())
    run.begin_with(tmp_path / 'imagenet.pt')
    found = run.network.backbone.state_dict()
    assert all(torch.equal(found[name], value) for name, value in backbone.items())
