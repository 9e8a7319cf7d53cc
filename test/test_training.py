# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training on pictures made here: reading, making samples, learning, going on after an end."""

from __future__ import annotations

import dataclasses
import io
import json
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip('torch', reason='needs PyTorch: pip install torch')

from tracker_ros.cli import main  # noqa: E402
from tracker_ros.geometry import Box, stark_corner, stark_crop  # noqa: E402
from tracker_ros.networks.kestrel import VARIANTS, Output, Variant  # noqa: E402
from tracker_ros.runtime.package import read_package  # noqa: E402
from tracker_ros.training import losses, scenes  # noqa: E402
from tracker_ros.training.batches import collate  # noqa: E402
from tracker_ros.training.checkpoints import TrainingError, load  # noqa: E402
from tracker_ros.training.families import family_of  # noqa: E402
from tracker_ros.training.light import Weather, weathered  # noqa: E402
from tracker_ros.training.loop import Run, train  # noqa: E402
from tracker_ros.training.pictures import DataError, hull_of, read_collection  # noqa: E402
from tracker_ros.training.progress import end_of, rate_at  # noqa: E402
from tracker_ros.training.recipe import Recipe, RecipeError, read_recipe, recipe_from  # noqa: E402
from tracker_ros.training.samples import Crops, Mix, Sampler  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RECIPES = sorted(set((ROOT / 'recipes').glob('*.yaml')) - {ROOT / 'recipes' / 'sources.yaml'})
CROPS = Crops(template_px=32, search_px=64)
CALM = Weather(0, 0, 0, 0, 0, 0, 0, 0, 0)
SMALL = Variant((8, 8, 16, 16), (1, 1, 1), dim=16, head_dim=16, heads=2, groups=4)


def picture(seed: int, width: int = 96, height: int = 72) -> np.ndarray:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode('.png', image)[1].tobytes()


def mask_of(box: Box, instance: int = 1, width: int = 96, height: int = 72) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    x, y, w, h = map(int, box.xywh())
    mask[y : y + h, x : x + w] = instance
    return mask


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, 'w') as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def write_lines(path: Path, entries: list[object]) -> None:
    path.write_text(''.join(json.dumps(entry) + '\n' for entry in entries))


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Stills in an archive, stills in a folder, and a clip."""
    root = tmp_path_factory.mktemp('train')
    (root / 'stills').mkdir()
    (root / 'videos').mkdir()
    box = Box(30, 20, 24, 18)
    files, lines = {}, []
    for number in range(4):
        files[f'images/{number}.png'] = png(picture(number))
        files[f'masks/{number}.png'] = png(mask_of(box, 2))
        lines.append(
            {
                'file': f'images/{number}.png',
                'w': 96,
                'h': 72,
                'objects': [{'b': [30, 20, 24, 18], 'c': 'block', 'm': 2}],
                'mask': f'masks/{number}.png',
            }
        )
    write_tar(root / 'stills' / 'blocks.tar', files)
    write_lines(root / 'stills' / 'blocks.jsonl', lines)
    (root / 'stills' / 'plain').mkdir()
    (root / 'stills' / 'plain' / '0.png').write_bytes(png(picture(9)))
    write_lines(
        root / 'stills' / 'plain.jsonl',
        [{'file': '0.png', 'w': 96, 'h': 72, 'objects': [{'b': [10, 12.5, 30, 20]}]}],
    )
    clip = {}
    for number in range(5):
        clip[f'walk/img/{number:05d}.png'.replace('.png', '.jpg')] = png(picture(20 + number))
    write_tar(root / 'videos' / 'clips.tar', clip)
    truth = [[5 + number, 8, 20, 30] for number in range(5)]
    write_lines(
        root / 'videos' / 'clips.jsonl',
        [{'seq': 'walk', 'frames': 5, 'w': 96, 'h': 72, 'mask': False,
          'gt': [*truth[:3], None, truth[4]]}],
    )  # fmt: skip
    return root


@pytest.fixture(scope='module')
def collection(folder):
    return read_collection(folder)


def make_sampler(collection, mix: Mix | None = None, weather: Weather = CALM, **crops) -> Sampler:
    return Sampler(collection, dataclasses.replace(CROPS, **crops), mix or Mix(), weather, seed=5)


def recipe_of(folder: Path | str = 'none', **changes) -> Recipe:
    content = {
        'name': 'small',
        'family': 'kestrel',
        'variant': 'small',
        'data': {'folder': str(folder)},
        'crops': {'template_px': 32, 'search_px': 64},
        'steps': {'samples': 48, 'batch': 8, 'warmup_samples': 16},
        'precision': 'fp32',
        'save_minutes': 0.0,
        **changes,
    }
    return recipe_from(content, 'here')


pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(VARIANTS, 'small', SMALL)


# Reading


def test_stills_and_clips_are_read(collection):
    by_source = {}
    for subject in collection.subjects:
        by_source.setdefault(subject.source, []).append(subject)
    assert {name: len(own) for name, own in by_source.items()} == {
        'blocks': 4, 'plain': 1, 'clips': 1,
    }  # fmt: skip
    block = by_source['blocks'][1]
    assert (block.label, block.is_clip) == ('block', False)
    assert block.appearances[0].box == Box(30, 20, 24, 18)
    np.testing.assert_array_equal(collection.picture(('blocks', 'images/1.png')), picture(1))
    walk = by_source['clips'][0]
    assert [each.box.x for each in walk.appearances] == [5, 6, 7, 9], 'absent frames are left out'


def test_a_hull_is_that_of_the_mask_or_of_the_ellipse(collection):
    blocks = next(each for each in collection.subjects if each.source == 'blocks')
    plain = next(each for each in collection.subjects if each.source == 'plain')
    for subject in (blocks, plain):
        shown = subject.appearances[0]
        around = scenes.box_around(collection.hull(shown))
        assert around.xywh() == pytest.approx(shown.box.xywh(), abs=1e-6)
    assert len(collection.hull(blocks.appearances[0])) == 4
    assert len(collection.hull(plain.appearances[0])) > 16


def test_a_cutout_shows_the_subject_alone(collection):
    shown = collection.subjects[0].appearances[0]
    cutout = collection.cutout(shown)
    assert cutout.pixels.shape == (18 + 8, 24 + 8, 4)
    np.testing.assert_array_equal(cutout.pixels[8:-8, 8:-8, :3], picture(0)[24:34, 34:50])
    assert (cutout.pixels[6:-6, 6:-6, 3] == 255).all()
    assert not cutout.pixels[:3, :, 3].any()
    assert scenes.box_around(cutout.hull).xywh() == pytest.approx((4, 4, 24, 18))


def test_only_so_much_stays_decoded(folder):
    collection = read_collection(folder, cache_bytes=50_000)
    for number in (0, 1, 2, 3, 0):
        collection.picture(('blocks', f'images/{number}.png'))
    assert collection._cached_bytes <= 50_000
    np.testing.assert_array_equal(collection.picture(('blocks', 'images/2.png')), picture(2))


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('{', 'index.jsonl:1: is no JSON'),
        ('[1]', 'index.jsonl:1: must be a mapping'),
        ('{"objects": []}', "KeyError: 'file'"),
        ('{"file": "0.png", "objects": [{"b": [1, 2, 0, 4]}]}', 'is no box'),
        ('{"file": "0.png", "objects": [{"b": [1, 2, NaN, 4]}]}', 'is no box'),
    ],
)
def test_a_broken_index_is_named(tmp_path, line, message):
    (tmp_path / 'stills' / 'index').mkdir(parents=True)
    (tmp_path / 'stills' / 'index.jsonl').write_text(line + '\n')
    with pytest.raises(DataError, match=message):
        read_collection(tmp_path)


@pytest.mark.parametrize('name', ['../secret.png', '/etc/passwd'])
def test_nothing_outside_a_folder_is_read(tmp_path, name):
    (tmp_path / 'stills' / 'index').mkdir(parents=True)
    (tmp_path / 'stills' / 'secret.png').write_bytes(png(picture(0)))
    write_lines(
        tmp_path / 'stills' / 'index.jsonl', [{'file': name, 'objects': [{'b': [1, 2, 9, 9]}]}]
    )
    collection = read_collection(tmp_path)
    with pytest.raises(DataError, match='must stay below'):
        collection.picture(('index', name))


def test_what_is_no_file_or_no_picture_is_named(tmp_path):
    (tmp_path / 'stills').mkdir()
    with pytest.raises(DataError, match='holds no training data'):
        read_collection(tmp_path)
    entry = {'file': '0.png', 'objects': [{'b': [1, 2, 9, 9]}]}
    write_lines(tmp_path / 'stills' / 'index.jsonl', [entry])
    with pytest.raises(DataError, match=r'neither index\.tar nor a folder'):
        read_collection(tmp_path)
    write_tar(tmp_path / 'stills' / 'index.tar', {'0.png': b'nothing', 'empty': b''})
    collection = read_collection(tmp_path)
    for name, message in (('0.png', 'no picture'), ('empty', 'no picture'), ('1', 'no file 1')):
        with pytest.raises(DataError, match=message):
            collection.picture(('index', name))


def test_links_in_an_archive_are_no_files(tmp_path):
    (tmp_path / 'stills').mkdir()
    write_lines(
        tmp_path / 'stills' / 'index.jsonl', [{'file': 'a', 'objects': [{'b': [1, 2, 9, 9]}]}]
    )
    with tarfile.open(tmp_path / 'stills' / 'index.tar', 'w') as archive:
        entry = tarfile.TarInfo('a')
        entry.type, entry.linkname = tarfile.SYMTYPE, '/etc/passwd'
        archive.addfile(entry)
    with pytest.raises(DataError, match='no file a'):
        read_collection(tmp_path).picture(('index', 'a'))


# Making samples


def test_a_view_is_the_crop_that_the_tracker_cuts():
    """Windows on whole pixels: both resize alike, but for rounding."""
    image, box = picture(3), Box(30, 20, 24, 24)
    crop, side = stark_crop(image, box, 2.0, 32)
    left, top = stark_corner(box, side)
    corners = np.array([[box.x, box.y], [box.x + box.w, box.y + box.h]], np.float64)
    placement = scenes.placed(corners, np.eye(2), scenes.Window(2.0), 32)
    made = scenes.view(image, placement, 32)
    np.testing.assert_allclose(made.astype(int), crop.astype(int), atol=6)
    assert scenes.moved(np.array([[left, top]], float), placement) == pytest.approx(0)


def test_a_box_goes_into_the_crop_and_back():
    hull = np.array([[12.0, 7.0], [40.0, 30.0], [12.0, 30.0], [40.0, 7.0]])
    window = scenes.Window(4.4, (0.7, -0.3))
    placement = scenes.placed(hull, np.eye(2), window, 64)
    box = scenes.box_around(scenes.moved(hull, placement))
    root = np.sqrt(28 * 23)
    scale = 64 / (4.4 * root)
    assert box.cx == pytest.approx(32 - 0.7 * root * scale)
    assert box.cy == pytest.approx(32 + 0.3 * root * scale)
    assert (box.w, box.h) == pytest.approx((28 * scale, 23 * scale))
    there = scenes.moved(hull, placement)
    back = (there - placement[:, 2]) @ np.linalg.inv(placement[:, :2]).T
    np.testing.assert_allclose(back, hull)


@pytest.mark.parametrize('angle', [0.0, 0.5, 2.0, -1.2])
def test_the_box_of_a_laid_target_is_that_of_its_pixels(angle):
    """A white triangle on black: what was laid is where the label says."""
    shape = np.zeros((60, 60), np.uint8)
    cv2.fillConvexPoly(shape, np.array([[8, 50], [50, 44], [22, 9]]), 255)
    pixels = np.dstack([np.full((60, 60, 3), 255, np.uint8), shape])
    hull = hull_of(shape)
    placement = scenes.placed(
        hull, scenes.turned(angle, 0.3, 0.1), scenes.Window(3.0, (0.4, -0.2)), 128
    )
    canvas = np.zeros((128, 128, 3), np.uint8)
    scenes.lay(canvas, pixels, placement)
    seen = scenes.box_around(hull_of(canvas[..., 0]))
    said = scenes.box_around(scenes.moved(hull, placement))
    for found, true in zip(seen.corners(), said.corners(), strict=True):
        assert found == pytest.approx(true, abs=1.2)


def test_what_is_laid_beside_the_canvas_changes_nothing():
    canvas = picture(1, 64, 64)
    before = canvas.copy()
    pixels = np.full((10, 10, 4), 255, np.uint8)
    assert scenes.lay(canvas, pixels, np.array([[1.0, 0, 90], [0, 1, 5]])) is None
    np.testing.assert_array_equal(canvas, before)


def test_samples_depend_on_their_number_alone(folder, collection):
    first = make_sampler(collection, weather=Weather())
    second = make_sampler(read_collection(folder), weather=Weather())
    second(17)
    for number in (3, 40, 41):
        one, other = first(number), second(number)
        for name in ('templates', 'template_boxes', 'search', 'box', 'present', 'certain'):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert not np.array_equal(first(3).search, first(4).search)


def test_the_truth_of_samples_is_in_order(collection):
    sampler = make_sampler(collection, Mix(absent=0.25), Weather(), templates=2)
    samples = [sampler(number) for number in range(200)]
    for sample in samples:
        assert sample.templates.shape == (2, 32, 32, 3)
        assert sample.search.shape == (64, 64, 3)
        assert np.isfinite(sample.template_boxes).all()
        assert sample.template_boxes[:, :2] == pytest.approx(0.5, abs=0.06)
        if sample.present:
            assert ((sample.box[:2] > 0) & (sample.box[:2] < 1)).all()
            assert 0.05 < np.sqrt(sample.box[2] * sample.box[3]) < 0.9
    absent = sum(sample.present == 0 and sample.certain == 1 for sample in samples)
    assert 30 <= absent <= 80


def test_a_laid_target_is_found_where_the_label_says(collection):
    """Cut out and laid over others: the pixels in its box are its own."""
    mix = Mix(sources={'blocks': 1.0}, absent=0, laid=1.0, any_rectangle=0, rivals=0, occluders=0,
              stretch=0, turn=0, turn_far=0, mirror=0, fine=0)  # fmt: skip
    sampler = make_sampler(collection, mix)
    own = [
        picture(number)[20:38, 30:54].astype(np.float32).mean(axis=(0, 1)) for number in range(4)
    ]
    near = 0
    for number in range(40):
        sample = sampler(number)
        cx, cy, w, h = sample.box * 64
        rows = slice(max(0, round(cy - h / 4)), round(cy + h / 4))
        columns = slice(max(0, round(cx - w / 4)), round(cx + w / 4))
        middle = sample.search[rows, columns].astype(np.float32).mean(axis=(0, 1))
        near += min(np.abs(middle - each).max() for each in own) < 60
    assert near >= 30


def test_an_unknown_source_is_named(collection):
    with pytest.raises(DataError, match='not there: nowhere'):
        make_sampler(collection, Mix(sources={'nowhere': 1.0}))
    with pytest.raises(DataError, match='weight 0'):
        make_sampler(collection, Mix(sources={'blocks': 0.0}))


@pytest.mark.parametrize('name', [each.name for each in dataclasses.fields(Weather)])
def test_weather_changes_the_crop_and_nothing_else(name):
    crop = picture(5, 64, 64)
    before = crop.copy()
    weather = dataclasses.replace(CALM, **{name: 1.0})
    changed = weathered(crop, np.random.default_rng(0), weather)
    assert changed.shape == crop.shape
    assert changed.dtype == np.uint8
    np.testing.assert_array_equal(crop, before)
    # The strength alone changes nothing.
    assert np.array_equal(changed, crop) == (name == 'strength')


# The loss


def perfect(boxes: torch.Tensor, grid: int = 16) -> Output:
    """What a network that knows everything would answer."""
    middles = (torch.arange(grid) + 0.5) / grid
    corners = losses.corners_of(boxes)[:, :, None, None]
    x, y = middles[None, None, :], middles[None, :, None]
    sides = torch.stack(
        [
            (x - corners[:, 0]).expand(-1, grid, -1), (y - corners[:, 1]).expand(-1, -1, grid),
            (corners[:, 2] - x).expand(-1, grid, -1), (corners[:, 3] - y).expand(-1, -1, grid),
        ],
        dim=1,
    )  # fmt: skip
    scores = losses.centre_map(boxes, grid, 0.12).log().reshape(-1, 1, grid, grid)
    certain = torch.full((len(boxes),), 20.0)
    return Output(scores.clamp(min=-50), sides, certain, certain)


def test_who_knows_everything_has_no_loss():
    boxes = torch.tensor([[0.4, 0.55, 0.3, 0.2], [0.7, 0.3, 0.1, 0.25]])
    truth = losses.Truth(boxes, torch.ones(2), torch.ones(2))
    total, parts = losses.loss_of(perfect(boxes), truth, losses.Weights())
    assert float(total) == pytest.approx(0, abs=1e-3)
    assert float(parts['iou']) == pytest.approx(1, abs=1e-4)


def test_an_absent_target_teaches_presence_alone():
    boxes = torch.tensor([[0.4, 0.55, 0.3, 0.2], [0.7, 0.3, 0.1, 0.25]])
    output = perfect(boxes.flip(0))
    truth = losses.Truth(boxes, torch.zeros(2), torch.ones(2))
    _, parts = losses.loss_of(output, truth, losses.Weights())
    assert float(parts['presence']) == pytest.approx(20, abs=1e-3)
    assert all(float(parts[name]) == 0 for name in ('score', 'overlap', 'corners', 'quality'))
    truth = losses.Truth(boxes, torch.zeros(2), torch.zeros(2))
    assert float(losses.loss_of(output, truth, losses.Weights())[0]) == 0


def test_the_centre_is_in_the_cell_that_holds_it():
    places = losses.centre_map(torch.tensor([[0.53, 0.22, 0.2, 0.2]]), 16, 0.12)
    assert int(places.argmax()) == 3 * 16 + 8
    assert float(places.sum()) == pytest.approx(1)


def test_overlap_is_that_of_boxes():
    one, other = Box(0.1, 0.2, 0.3, 0.3), Box(0.25, 0.3, 0.3, 0.4)
    plain, generalized = losses.overlap(
        torch.tensor([one.corners()]), torch.tensor([other.corners()])
    )
    assert float(plain) == pytest.approx(one.iou(other), abs=1e-6)
    hull = 0.45 * 0.5
    union = one.area + other.area - one.intersection(other)
    assert float(generalized) == pytest.approx(one.iou(other) - (hull - union) / hull, abs=1e-5)


# Recipes


@pytest.mark.parametrize('path', RECIPES, ids=lambda p: p.stem)
def test_the_recipes_are_in_order(path):
    recipe = read_recipe(path)
    assert recipe_from(recipe.as_dict(), 'again') == recipe
    family = family_of(recipe)
    # Without memory for the weights of the larger ones.
    with torch.device('meta'):
        network = family.network()
    assert any(group.parameters for group in family.groups(network))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'colour': 1}, 'unknown entries colour'),
        ({'steps': {'batch': 8}}, 'steps: the entries samples are missing'),
        ({'steps': {'samples': 'many'}}, 'steps: samples must be of the type'),
        ({'steps': 3}, 'steps must be a mapping'),
        ({'precision': 'fp8'}, 'must be fp32, bf16 or fp16'),
        ({'seed': True}, 'seed must be of the type'),
        ({'data': {'folder': 'x', 'mix': {'sources': {'a': 'b'}}}}, 'sources.a must be'),
    ],
)
def test_a_wrong_recipe_is_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        recipe_of(**changes)


def test_the_rate_rises_holds_and_falls(small):
    recipe = recipe_of(
        steps={'samples': 1000, 'batch': 10, 'rate': 1.0, 'final_rate': 0.1,
               'warmup_samples': 100, 'decay_samples': 200},
    )  # fmt: skip
    run = Run(recipe)
    rates = []
    for done in (0, 40, 100, 700, 900, 1000):
        run.progress.samples = done
        rates.append(rate_at(recipe, run.progress))
    assert rates == pytest.approx([0.1, 0.5, 1.0, 1.0, 0.55, 0.1])
    run.progress.decay_from, run.progress.decay_samples = 500, 100
    run.progress.samples = 550
    assert rate_at(recipe, run.progress) == pytest.approx(0.55)
    assert end_of(recipe, run.progress) == 600


# Learning


def test_eight_samples_can_be_learned_by_heart(small, collection):
    torch.manual_seed(0)
    mix = Mix(any_rectangle=0, occluders=0, absent=0.25)
    sampler = make_sampler(collection, mix)
    batch = collate([sampler(number) for number in range(8)])
    assert 0 < batch.truth.present.sum() < 8
    steps = {'samples': 0, 'batch': 8, 'rate': 0.01, 'warmup_samples': 80}
    run = Run(recipe_of(steps=steps))
    first = run.train_on(batch)
    for _ in range(150):
        last = run.train_on(batch)
    assert float(last['iou']) > 0.8
    assert float(last['presence']) < 0.1
    assert float(last['score']) < 0.1 < float(first['score'])


def test_the_average_follows_the_weights(small, collection):
    sampler = make_sampler(collection)
    run = Run(recipe_of())
    batch = collate([sampler(number) for number in range(8)])
    before = {name: value.clone() for name, value in run.average.items()}
    run.train_on(batch)
    name = 'backbone.stem.0.weight'
    now = run.network.state_dict()[name]
    keep = 2 / 11
    torch.testing.assert_close(run.average[name], keep * before[name] + (1 - keep) * now)
    assert run.averaged().training is False


def same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, dict):
            same(value, other[name])
        elif isinstance(value, torch.Tensor):
            assert torch.equal(value, other[name]), name
        elif name not in ('spent_s', 'curve'):
            assert value == other[name], name


_SIGNALLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_training as own
from tracker_ros.networks.kestrel import VARIANTS
from tracker_ros.training.loop import train

VARIANTS['small'] = own.SMALL
samples = own.make_sampler(own.read_collection(Path({data!r})))

def signalling(number):
    if number == {sample}:
        os.kill(os.getpid(), signal.{name})
    return samples(number)

before = signal.getsignal(signal.SIGTERM)
train(own.recipe_of(), Path({out!r}), samples=signalling)
assert signal.getsignal(signal.SIGTERM) == before
"""


def signalled(name, sample, folder, out):
    """A run in a process of its own that gets a signal while it makes the sample of a number."""
    code = _SIGNALLED.format(
        tests=str(Path(__file__).parent), data=str(folder), out=str(out), sample=sample, name=name
    )
    return subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)


def test_a_killed_run_goes_on_as_if_nothing_had_been(small, folder, collection, tmp_path):
    """Six steps in one go, and three, a kill -9 in the fourth, and three more: bit by bit."""
    sampler = make_sampler(collection)
    train(recipe_of(), tmp_path / 'whole', samples=sampler)
    ended = signalled('SIGKILL', 29, folder, tmp_path / 'killed')
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert load(tmp_path / 'killed' / 'last.pt')['progress']['samples'] == 24
    with pytest.raises(TrainingError, match='--resume'):
        train(recipe_of(), tmp_path / 'killed', samples=sampler)
    train(recipe_of(), tmp_path / 'killed', samples=sampler, resume=True)
    whole, killed = (load(tmp_path / name / 'last.pt') for name in ('whole', 'killed'))
    assert whole['progress']['samples'] == 48
    same(whole, killed)
    same(load(tmp_path / 'whole' / 'network.pt'), load(tmp_path / 'killed' / 'network.pt'))


def test_a_run_ends_cleanly_when_asked(folder, tmp_path):
    ended = signalled('SIGTERM', 16, folder, tmp_path / 'run')
    assert ended.returncode == 0, ended.stderr
    assert load(tmp_path / 'run' / 'last.pt')['progress']['samples'] == 24
    assert 'asked to end' in (tmp_path / 'run' / 'log.txt').read_text()


def test_processes_make_the_same_samples(small, folder, tmp_path):
    recipe = recipe_of(folder, steps={'samples': 16, 'batch': 8})
    here = train(recipe, tmp_path / 'here')
    data = dataclasses.replace(recipe.data, workers=2)
    there = train(dataclasses.replace(recipe, data=data), tmp_path / 'there')
    same(here.network.state_dict(), there.network.state_dict())


def test_weights_can_be_taken_from_another_run(small, collection, tmp_path):
    sampler = make_sampler(collection)
    first = train(recipe_of(), tmp_path / 'first', samples=sampler)
    run = Run(recipe_of(crops={'template_px': 48, 'search_px': 96}))
    run.begin_with(tmp_path / 'first' / 'last.pt')
    state = run.network.state_dict()
    assert torch.equal(state['backbone.stem.0.weight'], first.average['backbone.stem.0.weight'])
    assert run.network.crop_px.tolist() == [48, 96]
    (tmp_path / 'junk.pt').write_bytes(b'junk')
    with pytest.raises(TrainingError, match='no checkpoint'):
        run.begin_with(tmp_path / 'junk.pt')


# The command


def test_the_command_trains_and_goes_on(small, folder, tmp_path, capsys):
    content = recipe_of(folder, steps={'samples': 16, 'batch': 8}).as_dict()
    path = tmp_path / 'small.yaml'
    path.write_text(yaml.safe_dump({**content, 'data': {'folder': 'elsewhere'}}))
    arguments = ['train', str(path), '--out', str(tmp_path / 'run'), '--data', str(folder)]
    assert main(arguments) == 0
    assert load(tmp_path / 'run' / 'last.pt')['progress']['samples'] == 16
    assert main(arguments) == 2
    assert '--resume' in capsys.readouterr().err
    assert main([*arguments, '--resume', '--decay', '8']) == 0
    progress = load(tmp_path / 'run' / 'last.pt')['progress']
    assert (progress['samples'], progress['decay_from']) == (24, 16)


def test_recipes_follow_each_other(small, folder, tmp_path, capsys):
    steps = {'samples': 16, 'batch': 8, 'rate': 1e-4}
    paths = []
    for name, seed in (('long', 1), ('last', 2)):
        recipe = recipe_of(folder, steps=steps, name=name, seed=seed)
        paths.append(str(tmp_path / f'{name}.yaml'))
        Path(paths[-1]).write_text(yaml.safe_dump(recipe.as_dict()))
    out = tmp_path / 'run'
    assert main(['train', paths[0], paths[0], '--out', str(out)]) == 2
    assert 'the same name' in capsys.readouterr().err
    assert main(['train', *paths, '--out', str(out)]) == 0
    both = [load(out / name / 'last.pt') for name in ('long', 'last')]
    assert [each['progress']['samples'] for each in both] == [16, 16]
    name = 'backbone.stem.0.weight'
    began, ended = (each['average'][name] for each in both)
    # A few small steps from where it began, not from the seed.
    assert 0 < (ended - began).abs().max() < 0.01
    # After a crash in the last part, the first is left as it is.
    (out / 'last' / 'last.pt').unlink()
    before = (out / 'long' / 'log.txt').read_text()
    assert main(['train', *paths, '--out', str(out), '--resume']) == 0
    assert (out / 'long' / 'log.txt').read_text() == before
    assert torch.equal(load(out / 'last' / 'last.pt')['average'][name], ended)


def test_the_command_names_what_is_wrong(tmp_path, capsys):
    path = tmp_path / 'small.yaml'
    path.write_text('name: small\n')
    assert main(['train', str(path), '--out', str(tmp_path / 'run')]) == 2
    assert 'are missing' in capsys.readouterr().err
    assert main(['train', str(tmp_path / 'none.yaml'), '--out', str(tmp_path / 'run')]) == 2
    assert 'cannot be read' in capsys.readouterr().err


# The card


@pytest.fixture
def exported(small, collection, folder, tmp_path):
    """Exports a short run, with these terms of its sources; returns the exit code."""
    mix = {'sources': {'blocks': 3.0, 'clips': 1.0}}
    recipe = recipe_of(folder, data={'folder': str(folder), 'mix': mix})
    train(recipe, tmp_path / 'run', samples=make_sampler(collection))

    def export(terms: object, *options: str) -> int:
        (tmp_path / 'sources.yaml').write_text(yaml.safe_dump(terms))
        arguments = ['--name', 'own', '--output', str(tmp_path / 'own')]
        sources = ['--sources', str(tmp_path / 'sources.yaml')]
        return main(['export', str(tmp_path / 'run'), *arguments, *sources, *options])

    return export


TERMS = {
    'blocks': {'dataset': 'blocks of colour', 'terms': 'CC0-1.0'},
    'clips': {'dataset': 'a walk', 'terms': 'research'},
}


def test_a_run_becomes_a_package_with_a_card(exported, tmp_path):
    found = {'auc': 0.5, 'precision': 0.25, 'normalised_precision': 0.75}
    scores = tmp_path / 'scores.json'
    scores.write_text(json.dumps({'data': '/some/walks', 'trackers': {'/a/own': found}}))
    assert exported(TERMS, '--scores', str(scores)) == 0
    package = read_package(tmp_path / 'own')
    package.verify()
    (training,) = package.manifest['training']
    assert (training['recipe'], training['samples'], training['seed']) == ('small', 48, 0)
    assert training['torch'] == torch.__version__
    card = (tmp_path / 'own' / 'card.md').read_text()
    assert '| blocks | blocks of colour | CC0-1.0 | 75.0 % |' in card
    assert '| clips | a walk | research | 25.0 % |' in card
    assert '| own | 0.500 | 0.250 | 0.750 | - | - | - |' in card
    assert '## Accuracy on walks' in card


def test_no_card_without_the_terms_of_the_data(exported, tmp_path, capsys):
    assert exported({'blocks': TERMS['blocks']}) == 1
    assert 'the terms of clips are not told' in capsys.readouterr().err
    assert exported({'blocks': {'terms': 'CC0-1.0'}}) == 1
    assert 'blocks needs dataset and terms' in capsys.readouterr().err
    assert not (tmp_path / 'own').exists()


def test_scores_that_are_none_are_refused(exported, tmp_path, capsys):
    (tmp_path / 'scores.json').write_text('{"trackers": 3}')
    assert exported(TERMS, '--scores', str(tmp_path / 'scores.json')) == 1
    assert 'no result of' in capsys.readouterr().err


def test_only_a_run_is_exported(tmp_path, capsys):
    (tmp_path / 'sources.yaml').write_text(yaml.safe_dump(TERMS))
    arguments = ['--name', 'own', '--output', str(tmp_path / 'own')]
    sources = ['--sources', str(tmp_path / 'sources.yaml')]
    assert main(['export', str(tmp_path / 'none'), *arguments, *sources]) == 1
    assert 'holds no run' in capsys.readouterr().err


def test_the_terms_of_all_sources_of_the_recipes_are_told():
    terms = yaml.safe_load((ROOT / 'recipes' / 'sources.yaml').read_text())
    for path in RECIPES:
        assert read_recipe(path).data.mix.sources.keys() <= terms.keys()
