# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Clips of the training collection as annotated footage, as evaluation has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracker_ros.footage import FALLBACK_RATE_HZ
from tracker_ros.geometry import Image
from tracker_ros.training.pictures import Collection, Subject


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of one clip that show its target; those without it are left out of collections.

    truth: (n, 4) x, y, w, h in pixels. rate_hz: as they are played; a collection keeps every
    few frames of the footage, so that things move faster in them than they did.
    """

    name: str
    truth: NDArray[np.float64]
    width: int
    height: int
    rate_hz: float
    collection: Collection
    subject: Subject

    def __len__(self) -> int:
        return len(self.truth)

    def frames(self) -> Iterator[Image]:
        """Yield the (height, width, 3) uint8 BGR frames; not to be written to."""
        for appearance in self.subject.appearances:
            yield self.collection.picture(appearance.picture)


def clips_of(
    collection: Collection, rate_hz: float = FALLBACK_RATE_HZ, least_frames: int = 10
) -> list[Clip]:
    """All clips with at least so many frames, all of one size, in the collection's order."""
    clips: list[Clip] = []
    names: Counter[str] = Counter()
    for subject in collection.subjects:
        if not subject.is_clip or len(subject.appearances) < least_frames:
            continue
        source, file = subject.appearances[0].picture
        name = f'{source}_{file.partition("/")[0]}'
        names[name] += 1
        if names[name] > 1:
            name = f'{name}_{names[name]}'
        height, width = collection.picture(subject.appearances[0].picture).shape[:2]
        truth = np.array([appearance.box.xywh() for appearance in subject.appearances])
        clips.append(Clip(name, truth, width, height, rate_hz, collection, subject))
    return clips
