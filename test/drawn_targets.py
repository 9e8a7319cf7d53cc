# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Samples that a network can learn by heart: bright diamonds, each of its own colour, on dark."""

from __future__ import annotations

import cv2
import numpy as np

from tracker_ros.training.samples import Sample


def drawn_sample(seed: int, template_px: int, search_px: int, factors: tuple[float, float]):
    """A diamond in the middle of the template, and somewhere about the middle of the search crop.

    factors: sides of both crops, in roots of the target's area.
    """
    random = np.random.default_rng([seed, 1])
    width, height = np.exp(random.uniform(-0.2, 0.2, 2))
    shift = random.uniform(-0.5, 0.5, 2)
    crops, masks, boxes = [], [], []
    for side, factor, off in ((template_px, factors[0], 0), (search_px, factors[1], shift)):
        root = side / factor
        cx, cy = side / 2 + root * np.broadcast_to(off, 2)
        crop, mask = _diamond(seed, side, (cx, cy), (root * width, root * height))
        crops.append(crop)
        masks.append(mask)
        boxes.append(np.array([cx, cy, root * width, root * height], np.float32) / side)
    return Sample(
        crops[0][None], boxes[0][None], crops[1], boxes[1], 1.0, 1.0, mask=masks[1], has_mask=1.0
    )


def _diamond(seed: int, side: int, middle, size) -> tuple[np.ndarray, np.ndarray]:
    """A crop (side, side, 3) and the mask of its target."""
    random = np.random.default_rng(seed)
    dark = random.integers(40, 120, (8, 8, 3), np.uint8)
    crop = cv2.resize(dark, (side, side), interpolation=cv2.INTER_CUBIC)
    (cx, cy), (w, h) = middle, size
    corners = np.array([[cx, cy - h / 2], [cx + w / 2, cy], [cx, cy + h / 2], [cx - w / 2, cy]])
    mask = np.zeros((side, side), np.uint8)
    cv2.fillConvexPoly(mask, np.rint(corners * 16 - 8).astype(np.int32), 255, shift=4)
    crop[mask > 0] = random.integers(150, 256, 3)
    return crop, mask
