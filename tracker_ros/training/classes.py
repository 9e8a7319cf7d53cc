# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Images and their classes, for networks that learn to classify before they learn to track.

A folder holds one folder a class, as ImageNet is unpacked, with that class's images. Each sample
follows from the seed and its number, as those of `samples` do. Images are BGR.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tracker_ros.geometry import Image
from tracker_ros.training.light import relit
from tracker_ros.training.pictures import DataError

_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
_LARGEST_SIDE_PX = 16384


@dataclass(frozen=True)
class Changes:
    """What is done to the images, as in Swin Transformer's training (its appendix A2.1).

    Without its RandAugment, for which there is other light.
    """

    smallest_area: float = 0.08
    """Of a crop, in parts of the image."""
    mirror: float = 0.5
    light: float = 0.8
    """How likely exposure and colours are changed."""
    erase: float = 0.25
    """How likely a rectangle, of 2 % to a third of the image, becomes noise."""
    mix: float = 1.0
    """How likely two images are laid over each other, or one into the other."""
    mix_alpha: float = 0.8
    """Of the beta distribution of the share, where they are laid over each other."""
    paste_alpha: float = 1.0
    """The same, where a rectangle of one is put into the other."""


@dataclass(frozen=True, eq=False)
class Classified:
    """image: (S, S, 3) uint8. classes: (2,), of both images in it, and shares: (2,), sum 1."""

    image: Image
    classes: NDArray[np.int64]
    shares: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ClassBatch:
    """search: (B, 3, S, S) in 0..255, named as in `Batch`. classes: (B, 2). shares: (B, 2)."""

    search: Tensor
    classes: Tensor
    shares: Tensor

    def to(self, device: torch.device) -> ClassBatch:
        """The same on a device."""
        return ClassBatch(self.search.to(device), self.classes.to(device), self.shares.to(device))


class ClassFolder:
    """Makes samples by number. Every image comes once in each round through all of them."""

    def __init__(self, folder: Path, side_px: int, changes: Changes, seed: int = 0) -> None:
        """Raises DataError."""
        if not folder.is_dir():
            raise DataError(
                f'{folder} is no folder; give one that holds a folder of images for each class'
            )
        self.classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        self.side_px, self.changes, self.seed = side_px, changes, seed
        self._files: list[tuple[Path, int]] = []
        for label, name in enumerate(self.classes):
            own = sorted(
                entry.name
                for entry in os.scandir(folder / name)
                if entry.name.lower().endswith(_SUFFIXES)
            )
            if not own:
                raise DataError(
                    f'{folder / name} holds no image ({", ".join(_SUFFIXES)}); each folder in '
                    f'{folder} is a class'
                )
            self._files += [(folder / name / file, label) for file in own]
        if len(self.classes) < 2:
            raise DataError(
                f'{folder} must hold a folder of images for each of two classes or more, not '
                f'{len(self.classes)}'
            )
        self._round: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self._files)

    def __call__(self, number: int) -> Classified:
        random = np.random.default_rng([self.seed, number])
        changes = self.changes
        first, label = self._one(self._place(number), random)
        if random.random() >= changes.mix:
            return _classified(first, label, label, 1.0)
        second, other = self._one(int(random.integers(len(self))), random)
        if random.random() < 0.5:
            share = float(random.beta(changes.mix_alpha, changes.mix_alpha))
            mixed = cv2.addWeighted(first, share, second, 1 - share, 0.0)
            return _classified(np.asarray(mixed, np.uint8), label, other, share)
        share = float(random.beta(changes.paste_alpha, changes.paste_alpha))
        pasted, kept = _pasted(first, second, share, random)
        return _classified(pasted, label, other, kept)

    def _place(self, number: int) -> int:
        """Which file it is: each round in an order of its own."""
        turn, place = divmod(number, len(self))
        if self._round[0] != turn:
            # Beside the numbers of samples, which have two.
            order = np.random.default_rng([self.seed, turn, 1]).permutation(len(self))
            self._round = (turn, order)
        return int(self._round[1][place])

    def _one(self, place: int, random: np.random.Generator) -> tuple[Image, int]:
        """An image, cropped and changed, (S, S, 3) uint8, and its class."""
        path, label = self._files[place]
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None or max(image.shape[:2]) > _LARGEST_SIDE_PX:
            raise DataError(f'{path} is no image that can be used: put it out of the folder')
        areas = (self.changes.smallest_area, 1.0)
        rows, columns = _rectangle(image.shape[0], image.shape[1], areas, 4 / 3, random)
        size = (self.side_px, self.side_px)
        crop = cv2.resize(image[rows, columns], size, interpolation=cv2.INTER_AREA)
        if random.random() < self.changes.mirror:
            crop = cv2.flip(crop, 1)
        if random.random() < self.changes.light:
            crop = relit(crop, random)
        crop = np.asarray(crop, np.uint8)
        if random.random() < self.changes.erase:
            rows, columns = _rectangle(self.side_px, self.side_px, (0.02, 1 / 3), 3.3, random)
            crop[rows, columns] = random.integers(0, 256, crop[rows, columns].shape, np.uint8)
        return crop, label


def collate_classes(samples: list[Classified], dtype: torch.dtype = torch.float32) -> ClassBatch:
    """A batch of samples, its pixels as `dtype`."""
    images = np.stack([sample.image for sample in samples])
    return ClassBatch(
        torch.from_numpy(images).permute(0, 3, 1, 2).to(dtype),
        torch.from_numpy(np.stack([sample.classes for sample in samples])),
        torch.from_numpy(np.stack([sample.shares for sample in samples])),
    )


def _classified(image: Image, label: int, other: int, share: float) -> Classified:
    return Classified(image, np.array([label, other]), np.array([share, 1 - share], np.float32))


def _rectangle(
    height: int,
    width: int,
    areas: tuple[float, float],
    longest: float,
    random: np.random.Generator,
) -> tuple[slice, slice]:
    """Rows and columns of a part of an image: of an area, in parts of it, and up to so long."""
    for _ in range(10):
        area = height * width * random.uniform(*areas)
        shape = np.exp(random.uniform(-np.log(longest), np.log(longest)))
        w, h = round(np.sqrt(area * shape)), round(np.sqrt(area / shape))
        if 0 < w <= width and 0 < h <= height:
            top, left = (int(random.integers(0, room + 1)) for room in (height - h, width - w))
            return slice(top, top + h), slice(left, left + w)
    # So long an image that none fits: its middle.
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return slice(top, top + side), slice(left, left + side)


def _pasted(
    image: Image, other: Image, share: float, random: np.random.Generator
) -> tuple[Image, float]:
    """A rectangle of `other` put into `image`, which keeps about `share`; what it does keep."""
    side = image.shape[0]
    half = side * np.sqrt(1 - share) / 2
    cy, cx = random.integers(0, side, 2)
    top, left = (max(0, round(middle - half)) for middle in (cy, cx))
    bottom, right = (min(side, round(middle + half)) for middle in (cy, cx))
    pasted = image.copy()
    pasted[top:bottom, left:right] = other[top:bottom, left:right]
    return pasted, 1 - max(0, bottom - top) * max(0, right - left) / side**2
