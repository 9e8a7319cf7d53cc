# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training of DualTFR: local blocks that classify, then the whole network, each learning.

Numbers in the examples were worked out by hand.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs PyTorch: pip install torch')

from drawn_targets import drawn_sample  # noqa: E402

from tracker_ros.networks.dual_tfr import (  # noqa: E402
    VARIANTS,
    DualTfr,
    LocalClassifier,
    Output,
    Variant,
)
from tracker_ros.training import losses  # noqa: E402
from tracker_ros.training.batches import collate  # noqa: E402
from tracker_ros.training.checkpoints import TrainingError  # noqa: E402
from tracker_ros.training.classes import Changes, ClassFolder, collate_classes  # noqa: E402
from tracker_ros.training.families import normalised  # noqa: E402
from tracker_ros.training.families.dual_tfr import (  # noqa: E402
    Training,
    local_weights,
    tokens_inside,
)
from tracker_ros.training.families.dual_tfr_local import DroppedPath  # noqa: E402
from tracker_ros.training.loop import Run, train  # noqa: E402
from tracker_ros.training.pictures import DataError  # noqa: E402
from tracker_ros.training.progress import Progress  # noqa: E402
from tracker_ros.training.recipe import read_recipe, recipe_from  # noqa: E402

RECIPES = Path(__file__).resolve().parent.parent / 'recipes'
SMALL = Variant(
    (1, 1, 1), global_depth=1, cross_depth=2, dim=32, hidden=32, search_px=112, template_px=112
)
CALM = {'mix': 0.0, 'smallest_area': 1.0, 'mirror': 0.0, 'light': 0.0, 'erase': 0.0}


pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(VARIANTS, 'small', SMALL)
    monkeypatch.setitem(VARIANTS, 'small_context', dataclasses.replace(SMALL, has_context=True))


@pytest.fixture(scope='module')
def batch():
    return collate([drawn_sample(number, 112, 112, (1.5, 3.0)) for number in range(8)])


def recipe_of(**changes):
    content = {
        'name': 'small',
        'family': 'dual_tfr',
        'variant': 'small',
        'data': {'folder': 'none'},
        'crops': {
            'template_px': 112, 'search_px': 112, 'template_factor': 1.5, 'search_factor': 3.0
        },
        'steps': {'samples': 320, 'batch': 8, 'rate': 1e-3, 'warmup_samples': 0},
        'precision': 'fp32',
        **changes,
    }  # fmt: skip
    return recipe_from(content, 'here')


# Tokens and losses


def test_tokens_in_a_box():
    """Of 4 x 4 tokens with middles at 1/8, 3/8, 5/8 and 7/8; and a box between them."""
    boxes = torch.tensor([[0.5, 0.375, 0.5, 0.75], [0.5, 0.5, 0.1, 0.1], [0.76, 0.2, 0.01, 0.01]])
    found = tokens_inside(boxes, 16).view(3, 4, 4)
    wide = torch.zeros(4, 4, dtype=torch.bool)
    # x from 1/4 to 3/4, y from 0 to 3/4.
    wide[:3, 1:3] = True
    assert torch.equal(found[0], wide)
    # Its centre lies on the edge of four, and belongs to the last.
    assert found[1].nonzero().tolist() == [[2, 2]]
    assert found[2].nonzero().tolist() == [[0, 3]]


class Answer(torch.nn.Module):
    """Says what it was told to, in place of a network."""

    variant = SMALL

    def __init__(self, scores, boxes) -> None:
        super().__init__()
        self.output = Output(scores, boxes, torch.zeros(()))

    def forward(self, template, search, previous) -> Output:
        return self.output


def one_batch(box: list[float], present: float = 1.0, certain: float = 1.0):
    made = collate([drawn_sample(0, 112, 112, (1.5, 3.0))])
    truth = losses.Truth(torch.tensor([box]), torch.tensor([present]), torch.tensor([certain]))
    return dataclasses.replace(made, truth=truth)


def test_losses_of_a_worked_example():
    """Of 2 x 2 tokens the left two lie on a target that fills the left half.

    Probabilities of the target are 3/4 for the first token, and 1/2 for the others. The first has
    the box right, the third says the whole crop: overlap 1/2, hull the whole, so GIoU 1/2.
    """
    scores = torch.zeros(1, 4, 2)
    scores[0, 0, 1] = math.log(3)
    boxes = torch.tensor([[[0.25, 0.5, 0.5, 1.0]] * 2 + [[0.5, 0.5, 1.0, 1.0]] * 2])
    family = Training(recipe_of())
    made = one_batch([0.25, 0.5, 0.5, 1.0])
    total, parts = family.loss(Answer(scores, boxes), made, Progress())
    expected = {
        'cls': (math.log(4 / 3) + 3 * math.log(2)) / 4,
        'l1': (0 + 0.75 / 4) / 2,
        'giou': (0 + 0.5) / 2,
        'iou': 1.0,
    }
    assert {name: float(value) for name, value in parts.items()} == pytest.approx(expected)
    assert float(total) == pytest.approx(
        expected['cls'] + 5 * expected['l1'] + 2 * expected['giou']
    )


def test_background_can_count_less():
    scores = torch.zeros(1, 4, 2)
    scores[0, 0, 1] = math.log(3)
    boxes = torch.full((1, 4, 4), 0.5)
    family = Training(recipe_of(options={'background_weight': 0.5}))
    _, parts = family.loss(Answer(scores, boxes), one_batch([0.25, 0.5, 0.5, 1.0]), Progress())
    # Two tokens on the target, two beside it that count half.
    expected = (math.log(4 / 3) + math.log(2) + 0.5 * 2 * math.log(2)) / 3
    assert float(parts['cls']) == pytest.approx(expected)


@pytest.mark.parametrize('present', [0.0, 1.0])
def test_what_is_not_there_or_not_known_has_no_box(present):
    scores, boxes = torch.zeros(1, 4, 2), torch.full((1, 4, 4), 0.5)
    made = one_batch([0.25, 0.5, 0.5, 1.0], present, certain=1 - present)
    total, parts = Training(recipe_of()).loss(Answer(scores, boxes), made, Progress())
    assert float(parts['l1']) == float(parts['giou']) == 0
    # Where it is known that there is none, all tokens are background.
    assert float(total) == pytest.approx(0.0 if present else math.log(2))


def test_pixels_are_normalised_as_in_the_package():
    blue = torch.tensor([255.0, 0, 0])[None, :, None, None]
    found = normalised(blue)[0, :, 0, 0]
    expected = [(0 - 0.485) / 0.229, (0 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert found.tolist() == pytest.approx(expected)


# Tracking


def test_eight_samples_are_learnt_by_heart(small, batch):
    run = Run(recipe_of(options={'local_rate': 1.0}))
    told = [run.train_on(batch) for _ in range(40)]
    first, last = ({name: float(value) for name, value in told[n].items()} for n in (0, -1))
    assert last['loss'] < 0.25 * first['loss']
    network = run.network.eval()
    with torch.no_grad():
        boxes, sure = run.family.predict(
            network, batch.templates, batch.template_boxes, batch.search
        )
    found = losses.overlap(losses.corners_of(boxes), losses.corners_of(batch.truth.boxes))[0]
    assert found.mean() > 0.7
    # More likely the target than not.
    assert (sure > 0).all()


def test_every_part_is_trained_and_the_local_blocks_more_slowly(small, batch):
    run = Run(recipe_of())
    run.train_on(batch)
    without = [
        name
        for name, parameter in run.network.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    # The softmax of an attention does not see what is added to all keys: rounding decides.
    assert all(name.endswith('attn.qkv.bias') for name in without)
    rates = {
        id(parameter): group['lr']
        for group in run.optimiser.param_groups
        for parameter in group['params']
    }
    for name, parameter in run.network.named_parameters():
        expected = 1e-4 if name.startswith(('lab.', 'lab_norm.')) else 1e-3
        assert rates[id(parameter)] == pytest.approx(expected), name


def test_half_of_the_batches_know_a_frame_before(small, batch, monkeypatch):
    run = Run(recipe_of(variant='small_context'))
    seen = []
    forward = DualTfr.forward

    def watched(network, template, search, previous=None):
        seen.append(previous)
        return forward(network, template, search, previous)

    monkeypatch.setattr(DualTfr, 'forward', watched)
    for _ in range(2):
        parts = run.train_on(batch)
    assert seen[0] is None
    assert torch.equal(seen[1], normalised(batch.search))
    assert parts['loss'].isfinite()
    assert run.network.context_position.grad.abs().sum() > 0


@pytest.fixture(scope='module')
def two():
    return collate([drawn_sample(number, 112, 112, (1.5, 3.0)) for number in range(2)])


def test_blocks_computed_twice_change_nothing(small, two):
    after = []
    for again in (False, True):
        run = Run(recipe_of(gradient_checkpointing=again))
        run.train_on(two)
        after.append({name: parameter.grad for name, parameter in run.network.named_parameters()})
    assert all(torch.equal(after[0][name], after[1][name]) for name in after[0])


def test_sixteen_bits_lose_little(small, two):
    told = [Run(recipe_of(precision=name)).train_on(two) for name in ('fp32', 'bf16')]
    for name in ('loss', 'cls', 'l1', 'giou'):
        assert float(told[1][name]) == pytest.approx(float(told[0][name]), rel=0.03)


def test_the_recipe_is_that_of_the_paper():
    recipe = read_recipe(RECIPES / 'dual_tfr.yaml')
    with torch.device('meta'):
        family = Training(recipe)
        groups = family.groups(family.network())
    at = [family.rate(Progress(samples=epoch * 40_000)) * groups[0].scale for epoch in (0, 39, 40)]
    assert at == pytest.approx([1e-5, 1e-5, 1e-6])
    assert family.rate(Progress()) == pytest.approx(1e-4)
    assert (recipe.crops.template_factor, recipe.crops.search_factor) == (1.5, 3.0)


def test_what_does_not_fit_is_told(small):
    with pytest.raises(TrainingError, match='112 px, the recipe makes 1 of 64 and 112'):
        Run(recipe_of(crops={'template_px': 64, 'search_px': 112}))
    with pytest.raises(TrainingError, match="no variant 'huge'"):
        Run(recipe_of(variant='huge'))


# Classifying first


@pytest.fixture(scope='module')
def pictures(tmp_path_factory) -> Path:
    """Two images of each of four classes: stripes and spots, on two colours."""
    folder = tmp_path_factory.mktemp('classes')
    for number, name in enumerate(('lines_blue', 'lines_red', 'spots_blue', 'spots_red')):
        (folder / name).mkdir()
        for copy in range(2):
            image = np.zeros((120, 140, 3), np.uint8)
            image[..., 2 * (number % 2)] = 200 + 20 * copy
            if number < 2:
                image[:, :: 16 + copy] = 255
            else:
                for x in range(10, 140, 24):
                    cv2.circle(image, (x, 60 + copy), 9, (255, 255, 255), -1)
            cv2.imwrite(str(folder / name / f'{copy}.png'), image)
        (folder / name / 'notes.txt').write_text('no image')
    return folder


def local_recipe(folder: Path | str, **options):
    return recipe_of(
        family='dual_tfr_local',
        data={'folder': str(folder)},
        steps={'samples': 240, 'batch': 8, 'rate': 1e-3, 'warmup_samples': 0, 'ema': 0.9},
        options={'classes': 4, 'smoothing': 0.0, 'drop_path': 0.0, 'changes': CALM, **options},
        save_minutes=100.0,
    )


def test_a_folder_of_classes(pictures):
    folder = ClassFolder(pictures, 112, Changes(), seed=3)
    assert folder.classes == ['lines_blue', 'lines_red', 'spots_blue', 'spots_red']
    assert len(folder) == 8
    again = ClassFolder(pictures, 112, Changes(), seed=3)
    for number in (0, 11, 5):
        one, other = folder(number), again(number)
        assert one.image.shape == (112, 112, 3)
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.classes, other.classes)
        assert one.shares.sum() == pytest.approx(1.0)
    # In each round every image once, in another order.
    calm = ClassFolder(pictures, 112, Changes(**CALM), seed=3)
    rounds = [[int(calm(number).classes[0]) for number in range(first, first + 8)]
              for first in (0, 8)]  # fmt: skip
    assert sorted(rounds[0]) == sorted(rounds[1]) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert rounds[0] != rounds[1]


def test_mixed_images_have_the_classes_of_both(pictures):
    """Of blue and red there is the more of which the share is larger."""
    folder = ClassFolder(pictures, 112, Changes(**{**CALM, 'mix': 1.0}), seed=3)
    mixed = 0
    for number in range(40):
        sample = folder(number)
        reds = sample.classes % 2
        of_red = float((sample.shares * reds).sum())
        # Stripes and spots are white, and there are not as many of both.
        if abs(of_red - 0.5) < 0.2 or reds[0] == reds[1]:
            continue
        mixed += 1
        level = sample.image[..., 2].astype(float) - sample.image[..., 0]
        assert np.sign(level.mean()) == np.sign(of_red - 0.5)
    assert mixed > 5


def test_erased_parts_are_noise(pictures):
    """Alone the images have but a few colours."""
    plain, erased = (
        ClassFolder(pictures, 112, Changes(**{**CALM, 'erase': share}), seed=3)
        for share in (0.0, 1.0)
    )
    for number in range(8):
        before, after = plain(number).image, erased(number).image
        changed = (before != after).any(axis=2)
        rows, columns = np.nonzero(changed)
        area = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert 0.015 < area[0] * area[1] / 112**2 < 0.35
        # All of the rectangle, and nothing else.
        assert changed.sum() > 0.98 * area[0] * area[1]


def test_paths_are_dropped_by_image_and_more_so_the_deeper(small):
    blocks = [
        part
        for part in Run(local_recipe('none', drop_path=0.4)).network.modules()
        if isinstance(part, DroppedPath)
    ]
    assert [block.drop for block in blocks] == pytest.approx([0.0, 0.2, 0.4])
    torch.manual_seed(0)
    change = torch.ones(2000, 2, 2, 3)
    found = blocks[2].train()(change)
    assert found.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    assert torch.equal(found.amin(dim=(1, 2, 3)), found.amax(dim=(1, 2, 3)))
    assert float(found.mean()) == pytest.approx(1.0, abs=0.05)
    assert torch.equal(blocks[2].eval()(change), change)
    with pytest.raises(TrainingError, match=r'drop_path must be in \[0, 1\), not 1.5'):
        Run(local_recipe('none', drop_path=1.5))


def test_the_error_of_mixed_classes_is_shared(small):
    """Of four classes, logits log 5 for the first: probabilities 5/8 and 1/8."""
    family = Run(local_recipe('none')).family

    class Says(torch.nn.Module):
        def forward(self, images):
            return torch.tensor([[math.log(5), 0.0, 0.0, 0.0]])

    made = dataclasses.replace(
        _batch_of(np.zeros((112, 112, 3), np.uint8)),
        classes=torch.tensor([[0, 2]]),
        shares=torch.tensor([[0.75, 0.25]]),
    )
    loss, parts = family.loss(Says(), made, Progress())
    assert float(loss) == pytest.approx(0.75 * math.log(8 / 5) + 0.25 * math.log(8))
    assert float(parts['accuracy']) == 1.0


def _batch_of(image):
    from tracker_ros.training.classes import Classified

    return collate_classes([Classified(image, np.array([0, 0]), np.array([1, 0], np.float32))])


def test_local_blocks_learn_classes_and_the_tracker_begins_with_them(small, pictures, tmp_path):
    run = train(local_recipe(pictures), tmp_path / 'local')
    made = collate_classes([run.family.samples()(number) for number in range(8)])
    with torch.no_grad():
        found = run.averaged()(normalised(made.search)).argmax(dim=1)
    assert torch.equal(found, made.classes[:, 0])

    tracking = Run(recipe_of())
    fresh = tracking.network.state_dict()['cab.0.attn.qkv.weight'].clone()
    tracking.begin_with(tmp_path / 'local' / 'network.pt')
    state = tracking.network.state_dict()
    taken = {name for name in run.average if name.startswith(('lab.', 'lab_norm.'))}
    assert taken == run.average.keys() - {'head.weight', 'head.bias'}
    assert all(torch.equal(state[name], run.average[name]) for name in taken)
    assert torch.equal(state['cab.0.attn.qkv.weight'], fresh)


def test_swin_weights_as_published_fit(small):
    """Stages beyond the third, further blocks, masks, norm and head are left out."""
    torch.manual_seed(0)
    ours = LocalClassifier(SMALL, 4).lab.state_dict()
    theirs = {name: torch.randn_like(value.float()) for name, value in ours.items()}
    theirs |= {
        'layers.2.blocks.1.norm1.weight': torch.ones(128),
        'layers.2.downsample.norm.weight': torch.ones(512),
        'layers.3.blocks.0.norm1.weight': torch.ones(256),
        'layers.0.blocks.0.attn_mask': torch.zeros(4, 49, 49),
        'norm.weight': torch.ones(256),
        'head.weight': torch.ones(1000, 256),
    }
    found = local_weights(theirs, SMALL.local_depths)
    assert found.keys() == {f'lab.{name}' for name in ours}
    run = Run(recipe_of())
    run.family.begin_with(run.network, theirs)
    state = run.network.state_dict()
    name = 'layers.2.blocks.0.mlp.fc1.weight'
    assert torch.equal(state[f'lab.{name}'], theirs[name])


def test_weights_of_something_else_are_told(small):
    run = Run(recipe_of())
    with pytest.raises(
        TrainingError, match=r'no weights of the local blocks: \d+ tensors are mis'
    ):
        run.family.begin_with(run.network, {'conv1.weight': torch.zeros(1)})


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        ((), 'two classes or more, not 0'),
        (('a/0.png',), 'two classes or more, not 1'),
        (('a/0.png', 'b/0.txt'), 'b holds no image'),
    ],
)
def test_folders_without_classes_are_told(tmp_path, names, message):
    for name in names:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b'')
    with pytest.raises(DataError, match=message):
        ClassFolder(tmp_path, 112, Changes())


def test_a_missing_folder_a_broken_image_and_another_number_of_classes(small, pictures, tmp_path):
    with pytest.raises(DataError, match='is no folder'):
        ClassFolder(tmp_path / 'none', 112, Changes())
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        (tmp_path / name / '0.png').write_bytes(b'nothing')
    with pytest.raises(DataError, match=r'[ab]/0\.png is no image'):
        ClassFolder(tmp_path, 112, Changes())(0)
    family = Run(local_recipe(pictures, classes=5)).family
    with pytest.raises(DataError, match='holds 4 classes, the recipe says 5'):
        family.samples()


def test_weights_decay_and_tables_of_positions_do_not(small, pictures):
    run = Run(local_recipe(pictures))
    decays = {id(each): group.decays for group in run.groups for each in group.parameters}
    named = dict(run.network.named_parameters())
    assert decays.keys() == {id(each) for each in named.values()}
    for name, each in named.items():
        is_weight = each.ndim > 1 and not name.endswith('relative_position_bias_table')
        assert decays[id(each)] == is_weight, name
    assert any(name.endswith('relative_position_bias_table') for name in named)


def test_the_first_recipe_rises_and_falls():
    recipe = read_recipe(RECIPES / 'dual_tfr_pretrain.yaml')
    steps = recipe.steps
    assert steps.warmup_samples + steps.decay_samples == steps.samples == 300 * 1_281_167
    assert steps.warmup_samples == 20 * 1_281_167
    assert recipe.options['classes'] == 1000
