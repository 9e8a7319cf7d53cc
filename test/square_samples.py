# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training samples that need no data: a patterned square on a smooth background."""

from __future__ import annotations

import cv2
import numpy as np

from tracker_ros.training.samples import Sample
from tracker_ros.training.validation import Pairs


def sample(number: int, template_px: int = 32, search_px: int = 64, sentence: str = '') -> Sample:
    """A target of two fifths of the search crop's side or so, anywhere in it."""
    random = np.random.default_rng(number)
    pattern = random.integers(0, 256, (2, 2, 3), np.uint8)
    side = round(search_px * random.uniform(0.37, 0.5))
    x, y = random.integers(2, search_px - side - 2, 2)
    search = _smooth(random, search_px)
    search[y : y + side, x : x + side] = _enlarged(pattern, side)
    template = _smooth(random, template_px)
    first, shown = template_px // 4, template_px // 2
    template[first : first + shown, first : first + shown] = _enlarged(pattern, shown)
    box = np.array([x + side / 2, y + side / 2, side, side], np.float32) / search_px
    return Sample(
        template[None],
        np.array([[0.5, 0.5, 0.5, 0.5]], np.float32),
        search,
        box,
        present=1.0,
        certain=1.0,
        sentence=sentence,
    )


def pairs(numbers: range, template_px: int = 32, search_px: int = 64) -> Pairs:
    """The same as pairs to validate on, each of a sequence of its own."""
    made = [sample(number, template_px, search_px) for number in numbers]
    return Pairs(
        np.stack([each.templates[0] for each in made]),
        np.stack([each.template_boxes[0] for each in made]),
        np.stack([each.search for each in made]),
        np.stack([each.box for each in made]),
        np.arange(len(made)),
    )


def _smooth(random: np.random.Generator, side: int) -> np.ndarray:
    coarse = random.integers(60, 196, (4, 4, 3), np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)


def _enlarged(pattern: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(pattern, (side, side), interpolation=cv2.INTER_NEAREST)
