# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How good a network is on pairs of frames of annotated sequences: quick, and with little noise.

A pair is a template of one frame and a search crop of a later one, off the target by a little as
in tracking. Of each sequence there are equally many. For the presence there are as many pairs of
a template and another sequence's search crop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tracker_ros.evaluation.sequences import Sequence, read_sequences
from tracker_ros.geometry import Box, Image, mean_colour, pysot_crop, stark_corner, stark_crop
from tracker_ros.training.losses import corners_of, overlap
from tracker_ros.training.recipe import Validation
from tracker_ros.training.samples import Crops
from tracker_ros.training.scenes import reach_of

_HIT = 0.5
_BATCH = 50

Predict = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True, eq=False)
class Pairs:
    """templates: (N, T, T, 3), searches: (N, S, S, 3) uint8; boxes cx, cy, w, h in parts."""

    templates: Image
    template_boxes: NDArray[np.float32]
    searches: Image
    boxes: NDArray[np.float32]
    sequences: NDArray[np.int64]
    """The number of each pair's sequence."""


@dataclass(frozen=True, slots=True)
class Found:
    """Mean overlap, share of overlaps from 0.5, and how well presence tells pairs from others.

    presence: the probability that a target's presence is above that of no target (AUROC).
    """

    iou: float
    hit: float
    presence: float
    by_sequence: tuple[float, ...]


def read_pairs(validation: Validation, crops: Crops, folder: Path) -> Pairs:
    """Cut the pairs, or take those that a run has cut before and kept in `folder`."""
    sizes = (crops.template_px, crops.search_px, validation.pairs, validation.gap_frames)
    name = f'pairs-{"-".join(map(str, sizes))}'
    kept = folder / (f'{name}-context-{crops.context:g}.npz' if crops.context else f'{name}.npz')
    if kept.is_file():
        with np.load(kept, allow_pickle=False) as arrays:
            return Pairs(**{name: arrays[name] for name in arrays.files})
    sequences = read_sequences(validation.folder)
    cut = [
        _pairs_of(sequence, number, validation, crops) for number, sequence in enumerate(sequences)
    ]
    pairs = Pairs(*(np.concatenate(arrays) for arrays in zip(*cut, strict=True)))
    arrays = {name: getattr(pairs, name) for name in Pairs.__dataclass_fields__}
    fresh = kept.with_name(f'.{kept.name}')
    np.savez(fresh, **arrays)
    fresh.replace(kept)
    return pairs


def _pairs_of(
    sequence: Sequence, number: int, validation: Validation, crops: Crops
) -> tuple[NDArray[np.generic], ...]:
    random = np.random.default_rng(number)
    shown = np.flatnonzero(np.isfinite(sequence.truth).all(axis=1))
    firsts = random.choice(shown[:-1], validation.pairs)
    seconds = np.array(
        [
            random.choice(shown[(shown > first) & (shown <= first + validation.gap_frames)])
            for first in firsts
        ]
    )
    templates: dict[int, Image] = {}
    searches: dict[int, Image] = {}
    template_boxes: dict[int, NDArray[np.float64]] = {}
    boxes: dict[int, NDArray[np.float64]] = {}
    for index, frame in enumerate(sequence.frames()):
        for place in np.flatnonzero(firsts == index).tolist():
            box = Box(*sequence.truth[index])
            crop, window = _cut(
                frame, box, crops.template_factor, crops.template_px, crops.context
            )
            templates[place], template_boxes[place] = crop, _inside(box, window)
        for place in np.flatnonzero(seconds == index).tolist():
            box = Box(*sequence.truth[index])
            around = _nearby(box, np.random.default_rng([number, place]))
            crop, window = _cut(frame, around, crops.search_factor, crops.search_px, crops.context)
            searches[place], boxes[place] = crop, _inside(box, window)
    order = range(validation.pairs)
    return (
        np.stack([templates[place] for place in order]),
        np.stack([template_boxes[place] for place in order]).astype(np.float32),
        np.stack([searches[place] for place in order]),
        np.stack([boxes[place] for place in order]).astype(np.float32),
        np.full(validation.pairs, number),
    )


def _nearby(box: Box, random: np.random.Generator) -> Box:
    """Where a tracker may have left its box a frame ago."""
    root = np.sqrt(box.area)
    dx, dy = random.uniform(-0.75, 0.75, 2) * root
    width, height = np.exp(0.15 * random.standard_normal(2)) * (box.w, box.h)
    return Box.from_center(box.cx + dx, box.cy + dy, float(width), float(height))


def _cut(frame: Image, box: Box, factor: float, size_px: int, context: float) -> tuple[Image, Box]:
    """The crop around a box as the tracker cuts it, and its window in the frame.

    context: 0 for the STARK convention, otherwise that of PySOT.
    """
    if not context:
        crop, side = stark_crop(frame, box, factor, size_px)
        left, top = stark_corner(box, side)
    else:
        side = round(reach_of(box.w, box.h, context) * factor)
        crop = pysot_crop(frame, box.cx, box.cy, side, size_px, mean_colour(frame))
        left, top = (math.floor(middle - side / 2) for middle in (box.cx, box.cy))
    return crop, Box(left, top, side, side)


def _inside(box: Box, window: Box) -> NDArray[np.float64]:
    """cx, cy, w, h of `box` in parts of a window."""
    return np.array([box.cx - window.x, box.cy - window.y, box.w, box.h]) / window.w


@torch.no_grad()
def validate(
    predict: Predict, pairs: Pairs, slots: int = 1, device: torch.device | str = 'cpu'
) -> Found:
    """A network on all pairs; it must be in its mode for evaluation.

    predict: templates (B, slots, 3, T, T), boxes (B, slots, 4) and search (B, 3, S, S) to boxes
    (B, 4) cx, cy, w, h and presence (B,) or None, without which `presence` is NaN.
    """
    overlaps, presences, absences = [], [], []
    count = len(pairs.searches)
    for first in range(0, count, _BATCH):
        rows = slice(first, first + _BATCH)
        crops = torch.from_numpy(pairs.templates[rows]).permute(0, 3, 1, 2)[:, None].float()
        boxes = torch.from_numpy(pairs.template_boxes[rows])[:, None]
        templates = crops.expand(-1, slots, -1, -1, -1).to(device)
        template_boxes = boxes.expand(-1, slots, -1).to(device)
        found, presence = predict(templates, template_boxes, _pixels(pairs, rows, device))
        true = corners_of(torch.from_numpy(pairs.boxes[rows]))
        overlaps.append(overlap(corners_of(found.float().cpu()), true)[0].numpy())
        if presence is None:
            continue
        presences.append(presence.float().cpu().numpy())
        # The search crops of another sequence: those of the next batch but one or so.
        others = (np.arange(count)[rows] + _step(pairs)) % count
        absence = predict(templates, template_boxes, _pixels(pairs, others, device))[1]
        assert absence is not None
        absences.append(absence.float().cpu().numpy())
    overlap_all = np.concatenate(overlaps)
    numbers = np.unique(pairs.sequences)
    return Found(
        float(overlap_all.mean()),
        float((overlap_all >= _HIT).mean()),
        _auroc(np.concatenate(presences), np.concatenate(absences)) if presences else math.nan,
        tuple(float(overlap_all[pairs.sequences == number].mean()) for number in numbers),
    )


def _pixels(pairs: Pairs, rows: slice | NDArray[np.int64], device: torch.device | str) -> Tensor:
    return torch.from_numpy(pairs.searches[rows]).permute(0, 3, 1, 2).float().to(device)


def _step(pairs: Pairs) -> int:
    """How far away in the row the pairs of the next sequence are."""
    return int((pairs.sequences == pairs.sequences[0]).sum())


def _auroc(above: NDArray[np.float32], below: NDArray[np.float32]) -> float:
    """The share of pairs of both in which `above` is above `below`."""
    differences = above[:, None] - below[None, :]
    return float((differences > 0).mean() + 0.5 * (differences == 0).mean())
