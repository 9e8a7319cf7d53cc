# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Samples side by side, as a network takes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tracker_ros.training.losses import Truth
from tracker_ros.training.samples import Sample


@dataclass(frozen=True, slots=True)
class Batch:
    """Pixels are in 0..255, BGR.

    templates: (B, K, 3, T, T). template_boxes: (B, K, 4) cx, cy, w, h in parts of the crop.
    search: (B, 3, S, S). sentences: of each sample what is to be followed, or an empty one.
    masks: (B, S, S), 1 where the target is seen in the search crop, with has_mask (B,): 1 where
    that is known; both None where the recipe's crops ask for none.
    """

    templates: Tensor
    template_boxes: Tensor
    search: Tensor
    truth: Truth
    sentences: tuple[str, ...] = ()
    masks: Tensor | None = None
    has_mask: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        if device == self.search.device:
            return self
        truth = Truth(*(getattr(self.truth, name).to(device) for name in Truth.__slots__))
        return Batch(
            self.templates.to(device),
            self.template_boxes.to(device),
            self.search.to(device),
            truth,
            self.sentences,
            None if self.masks is None else self.masks.to(device),
            None if self.has_mask is None else self.has_mask.to(device),
        )


def collate(samples: list[Sample], dtype: torch.dtype = torch.float32) -> Batch:
    """A batch of samples, its pixels as `dtype`."""

    def stacked(name: str) -> np.ndarray:
        return np.stack([getattr(sample, name) for sample in samples])

    with_masks = samples[0].mask is not None
    return Batch(
        torch.from_numpy(stacked('templates')).permute(0, 1, 4, 2, 3).to(dtype),
        torch.from_numpy(stacked('template_boxes')),
        # So it lies in memory as channels_last, which the network is in.
        torch.from_numpy(stacked('search')).permute(0, 3, 1, 2).to(dtype),
        Truth(
            torch.from_numpy(stacked('box')),
            torch.from_numpy(stacked('present').astype(np.float32)),
            torch.from_numpy(stacked('certain').astype(np.float32)),
        ),
        tuple(sample.sentence for sample in samples),
        torch.from_numpy(stacked('mask').astype(np.float32) / 255) if with_masks else None,
        torch.from_numpy(stacked('has_mask').astype(np.float32)) if with_masks else None,
    )
