# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Composed events: what is said to be hidden is hidden, and the truth is what the pixels show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest

from tracker_ros.evaluation.events import KINDS, EventError, compose, undisturbed
from tracker_ros.evaluation.painting import fractal_noise

WIDTH, HEIGHT, RATE_HZ = 320, 240, 30.0
# No ground has it, so that each pixel of it is one of the target.
MAGENTA = (255, 0, 255)


@dataclass(frozen=True, eq=False)
class Painted:
    """A rectangle that moves over rough ground. absent: frames without annotation."""

    name: str = 'painted'
    count: int = 90
    colour: tuple[int, int, int] = MAGENTA
    seed: int = 3
    absent: tuple[int, ...] = ()
    width: int = WIDTH
    height: int = HEIGHT
    rate_hz: float = RATE_HZ
    truth: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        time_s = np.arange(self.count) / self.rate_hz
        x = np.round(60 + 40 * time_s + 8 * np.sin(5 * time_s))
        y = np.round(90 + 20 * np.sin(2 * time_s))
        truth = np.stack([x, y, np.full_like(x, 36), np.full_like(x, 28)], axis=1)
        truth[list(self.absent)] = np.nan
        object.__setattr__(self, 'truth', truth)

    def ground(self) -> np.ndarray:
        noise = fractal_noise(np.random.default_rng(self.seed), self.height, self.width, 1.0)
        grey = np.clip(110 + 30 * noise, 20, 200).astype(np.uint8)
        return cv2.merge([grey, grey, np.clip(grey + 20, 0, 220).astype(np.uint8)])

    def frames(self) -> Iterator[np.ndarray]:
        ground = self.ground()
        for row in self.truth:
            frame = ground.copy()
            if np.isfinite(row).all():
                x, y, w, h = row.astype(int)
                frame[y : y + h, x : x + w] = self.colour
            frame.setflags(write=False)
            yield frame


OTHER = Painted('other', seed=8, colour=(40, 160, 200))


def clip_of(kind: str, seed: int = 0, footage: Painted | None = None, **options):
    return compose(footage or Painted(), kind, seed, others=[OTHER], **options)


def magenta(frame: np.ndarray) -> np.ndarray:
    """(H, W) where a pixel is as good as magenta."""
    pixels = frame.astype(int)
    return (pixels[..., 1] < 40) & (pixels[..., 0] > 215) & (pixels[..., 2] > 215)


def outline(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Box x, y, w, h around what is true."""
    return cv2.boundingRect(mask.astype(np.uint8))


@pytest.mark.parametrize('kind', KINDS)
def test_the_same_seed_gives_the_same_pixels_and_truth(kind):
    one, two = clip_of(kind, 5), clip_of(kind, 5)
    assert np.array_equal(one.truth, two.truth, equal_nan=True)
    assert one.event == two.event
    frames = list(one.frames())
    assert all(np.array_equal(a, b) for a, b in zip(frames, two.frames(), strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(frames, one.frames(), strict=True))


@pytest.mark.parametrize('kind', [kind for kind in KINDS if kind != 'calm'])
def test_another_seed_gives_another_clip(kind):
    one, two = (clip_of(kind, seed, lead_s=0.5) for seed in (1, 2))
    same = len(one) == len(two) and np.array_equal(one.truth, two.truth, equal_nan=True)
    assert not same or any(
        not np.array_equal(a, b) for a, b in zip(one.frames(), two.frames(), strict=True)
    )


@pytest.mark.parametrize('kind', KINDS)
def test_everything_has_one_row_a_frame(kind):
    clip = clip_of(kind)
    frames = list(clip.frames())
    assert len(clip) == len(frames) == len(clip.visible) == len(clip.stamps_s)
    assert len(clip.order) == len(clip)
    assert clip.rival.shape == clip.truth.shape
    assert {(frame.shape, frame.dtype.name) for frame in frames} == {((HEIGHT, WIDTH, 3), 'uint8')}
    assert (np.diff(clip.stamps_s) > 0).all()
    begin, end = clip.event
    assert RATE_HZ <= begin <= end <= len(clip) - RATE_HZ
    # Seen well before and after, as the footage has it, where the view is not another.
    assert clip.visible[0] == 1
    assert (clip.visible[-30:] > 0.95).all()
    assert clip.first_box.xywh() == tuple(Painted().truth[clip.order[0]])


@pytest.mark.parametrize('seed', range(8))
def test_an_occluder_hides_all_of_the_target_for_as_long_as_was_asked(seed):
    one = compose(Painted(), 'occlusion', seed, duration_s=0.7)
    two = compose(Painted(colour=(10, 250, 60)), 'occlusion', seed, duration_s=0.7)
    boxes = Painted().truth[one.order]
    hidden = np.isnan(one.truth[:, 0])
    assert 0.7 <= hidden.sum() / RATE_HZ <= 1.2
    assert one.event == (np.flatnonzero(hidden)[0], np.flatnonzero(hidden)[-1] + 1)
    wholly = 0
    for number, (a, b) in enumerate(zip(one.frames(), two.frames(), strict=True)):
        # The colour of the target is all that tells the two apart.
        differs = (np.abs(a.astype(int) - b) > 2).any(axis=2)
        x, y, w, h = boxes[number].astype(int)
        share = differs[y : y + h, x : x + w].mean()
        assert share == pytest.approx(one.visible[number], abs=0.12)
        if hidden[number]:
            assert share < 0.15
            wholly += share == 0
    assert wholly >= 0.7 * RATE_HZ


def test_an_occluder_takes_on_the_light_of_the_scene():
    dim = Painted()
    clips = [compose(dim, 'occlusion', seed, duration_s=0.5, others=[OTHER]) for seed in range(6)]
    for clip in clips:
        frame = list(clip.frames())[sum(clip.event) // 2]
        x, y, w, h = dim.truth[clip.order[sum(clip.event) // 2]].astype(int)
        inside, around = frame[y : y + h, x : x + w].mean(), dim.ground().mean()
        assert abs(inside - around) < 60


@pytest.mark.parametrize('seed', range(8))
def test_a_target_that_has_left_is_nowhere_and_comes_back(seed):
    clip = clip_of('leave_and_return', seed)
    missing = 0
    for frame, box, _ in clip:
        seen = magenta(frame)
        if box is None:
            missing += 1
            # A sliver of up to 8 % of it is left when it counts as gone.
            assert seen.sum() <= 0.09 * 36 * 28
        else:
            assert outline(seen) == pytest.approx(tuple(round(side) for side in box.xywh()), abs=1)
    assert clip.duration_s - 0.1 <= missing / RATE_HZ <= clip.duration_s + 1.0
    assert clip.hides


@pytest.mark.parametrize('seed', range(8))
def test_after_a_jump_the_target_is_far_from_where_it_was(seed):
    clip = clip_of('jump', seed)
    for frame, box, _ in clip:
        assert box is not None
        assert outline(magenta(frame)) == pytest.approx(box.xywh(), abs=1)
    first = clip.event[0]
    before, after = clip.truth[first - 1, :2], clip.truth[first, :2]
    assert np.hypot(*(after - before)) > 60


@pytest.mark.parametrize('seed', range(6))
def test_a_look_alike_crosses_and_the_truth_stays(seed):
    footage = Painted()
    clip = clip_of('crossing', seed)
    assert np.array_equal(clip.truth, footage.truth[clip.order])
    with_rival = np.flatnonzero(~np.isnan(clip.rival[:, 0]))
    assert len(with_rival) > 10
    frames = list(clip.frames())
    # It appears and vanishes softly, far from the target.
    near = with_rival[(with_rival >= clip.event[0]) & (with_rival < clip.event[1])]
    apart = [number for number in near if clip.visible[number] == 1]
    assert apart
    for number in apart:
        seen = magenta(frames[number])
        x, y, w, h = (round(side) for side in clip.rival[number])
        part = seen[max(0, y) : y + h, max(0, x) : x + w]
        assert part.mean() > 0.5, 'the look-alike has the looks of the target'
        x, y, w, h = clip.truth[number].astype(int)
        assert seen[y : y + h, x : x + w].mean() > 0.9
    assert clip.visible.min() < 1, 'it comes so near that it covers some of the target'
    assert clip.visible.min() > 0.3


def test_a_cut_shows_other_footage_and_comes_back():
    footage = Painted()
    clip = clip_of('cut', 4, duration_s=0.5)
    begin, end = clip.event
    assert end - begin == 15
    other = list(OTHER.frames())
    own = list(footage.frames())
    for number, frame in enumerate(clip.frames()):
        if begin <= number < end:
            assert np.array_equal(frame, other[number - begin])
        else:
            assert np.array_equal(frame, own[clip.order[number]])
    assert np.isnan(clip.truth[begin:end]).all()


def test_a_drop_leaves_out_a_second_and_the_stamps_tell():
    clip = clip_of('drop', 1)
    begin, end = clip.event
    assert begin == end
    steps = np.diff(clip.stamps_s)
    assert steps[begin - 1] == pytest.approx(1 + 1 / RATE_HZ)
    assert np.delete(steps, begin - 1) == pytest.approx(1 / RATE_HZ)
    own = list(Painted().frames())
    for number, frame in enumerate(clip.frames()):
        assert np.array_equal(frame, own[clip.order[number]])


def test_in_the_dark_the_target_stays():
    footage = Painted()
    clip = clip_of('dark', 2)
    begin, end = clip.event
    own = list(footage.frames())
    light = [
        frame.mean() / own[number].mean()
        for frame, number in zip(clip.frames(), clip.order, strict=True)
    ]
    assert light[begin + 6] == pytest.approx(0.1, abs=0.03)
    assert light[begin - 1] == light[end] == 1
    assert np.array_equal(clip.truth, footage.truth[clip.order])


def test_short_footage_is_played_to_and_fro_and_without_frames_that_lack_the_target():
    footage = Painted(count=60, absent=(0, 1, 2, 45, 46))
    clip = clip_of('calm', 0, footage)
    assert len(clip) > 120
    assert set(clip.order.tolist()) == set(range(3, 45))
    assert (np.abs(np.diff(clip.order)) == 1).all()
    assert not np.isnan(clip.truth).any()


def test_undisturbed_is_all_of_the_footage():
    footage = Painted(count=30, absent=(7,))
    clip = undisturbed(footage)
    assert np.array_equal(clip.truth, footage.truth, equal_nan=True)
    assert all(np.array_equal(a, b) for a, b in zip(clip.frames(), footage.frames(), strict=True))
    assert clip.visible[7] == 0


@pytest.mark.parametrize(
    ('kind', 'footage', 'words'),
    [
        ('nonsense', Painted(), "'nonsense' is none of calm, occlusion"),
        ('occlusion', Painted(count=9), 'painted does not show its target for ten frames'),
        ('cut', Painted(), 'other footage'),
    ],
)
def test_what_cannot_be_composed_is_refused(kind, footage, words):
    with pytest.raises(EventError, match=words):
        compose(footage, kind)
