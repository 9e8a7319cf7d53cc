# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Trackers of others behind our contract, to run on the same frames: OpenCV's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tracker_ros.geometry import Box
from tracker_ros.resources import cache_path
from tracker_ros.runtime import store
from tracker_ros.runtime.package import sha256_of
from tracker_ros.trackers import Estimate, TrackerError

PREFIX = 'opencv_'
"""Names of peers begin with it, so that `opencv_csrt` is not our `csrt`."""


@dataclass(frozen=True)
class Peer:
    """A tracker of OpenCV's.

    summary: what it is called there. package: the model package whose published weights it
    needs, empty for none. make: gives the OpenCV object from those files by role.
    """

    summary: str
    package: str
    make: Callable[[dict[str, Path]], Any]


class OpenCvTracker:
    """An OpenCV tracker as `start` and `step`.

    It reports no confidence of its own kind: 1 while it says it follows the target, 0 when not;
    then the box is the last one.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        """make: gives a fresh OpenCV tracker, because they cannot be initialised twice."""
        self._make = make
        self._tracker: Any = None
        self._box = Box(0.0, 0.0, 0.0, 0.0)

    def start(self, image: np.ndarray, box: Box, text: str | None = None) -> None:
        """Start on (H, W, 3) uint8 BGR. OpenCV takes whole pixels, so the box is rounded.

        Raises TrackerError for a text or when OpenCV refuses.
        """
        if text is not None:
            raise TrackerError("OpenCV's trackers take no text")
        self._tracker = self._make()
        self._box = box
        try:
            self._tracker.init(image, tuple(round(value) for value in box.xywh()))
        except cv2.error as error:
            raise TrackerError(f'OpenCV refuses the box {box}: {error}') from error

    def step(self, image: np.ndarray) -> Estimate:
        """Find the target in (H, W, 3) uint8 BGR; TrackerError when OpenCV fails."""
        if self._tracker is None:
            raise TrackerError('step before start')
        try:
            found, rectangle = self._tracker.update(image)
        except cv2.error as error:
            raise TrackerError(f'OpenCV failed: {error}') from error
        if found:
            self._box = Box(*(float(value) for value in rectangle))
        return Estimate(self._box, 1.0 if found else 0.0)

    @property
    def tracking_score(self) -> float:
        """The score of the newest step, of the trackers of OpenCV that tell one; otherwise nan."""
        score = getattr(self._tracker, 'getTrackingScore', None)
        return float(score()) if score is not None else math.nan


def create_peer(name: str, weights: Path | None = None) -> OpenCvTracker:
    """Make the peer `name`, one of `PEERS`.

    weights: a folder where weight files are looked for, besides the project's own store.
    Raises TrackerError for an unknown name, or when OpenCV lacks the tracker or weights are not
    here; the text says which.
    """
    peer = PEERS.get(name)
    if peer is None:
        raise TrackerError(f'there is no peer {name!r}; known are {", ".join(PEERS)}')
    files = find_weights(peer.package, weights) if peer.package else {}

    def make() -> Any:
        return peer.make(files)

    try:
        make()
    except AttributeError as error:
        raise TrackerError(
            f'{peer.summary} is not in OpenCV {cv2.__version__} ({error}); '
            'install opencv-contrib-python'
        ) from error
    except cv2.error as error:
        raise TrackerError(f'{peer.summary} cannot be made: {error}') from error
    return OpenCvTracker(make)


def find_weights(package: str, folder: Path | None = None) -> dict[str, Path]:
    """The published weight files of a model package by role, told by size and sha256.

    Looks below `folder` and in the user's cache. Raises TrackerError naming what is missing.
    """
    roots = [root for root in (folder, cache_path('weights')) if root is not None]
    candidates = [path for root in roots if root.is_dir() for path in root.rglob('*.onnx')]
    found: dict[str, Path] = {}
    for published in store.describe(package).published:
        for path in candidates:
            if path.stat().st_size == published.size_bytes and (
                sha256_of(path) == published.sha256
            ):
                found[published.role] = path
                break
        else:
            places = ' or '.join(str(root) for root in roots)
            raise TrackerError(
                f'the weights {published.name} of {package} are not in {places}; name their '
                f'folder with --weights, or get them with "tracker_ros models fetch {package}"'
            )
    return found


def _make_csrt(files: dict[str, Path]) -> Any:
    return cv2.TrackerCSRT_create()


def _make_kcf(files: dict[str, Path]) -> Any:
    return cv2.TrackerKCF_create()


def _make_mil(files: dict[str, Path]) -> Any:
    return cv2.TrackerMIL_create()


def _make_vit(files: dict[str, Path]) -> Any:
    parameters = cv2.TrackerVit_Params()
    (network,) = files.values()
    parameters.net = str(network)
    return cv2.TrackerVit_create(parameters)


def _make_nano(files: dict[str, Path]) -> Any:
    parameters = cv2.TrackerNano_Params()
    parameters.backbone = str(files['backbone'])
    parameters.neckhead = str(files['head'])
    return cv2.TrackerNano_create(parameters)


PEERS: dict[str, Peer] = {
    f'{PREFIX}csrt': Peer('OpenCV TrackerCSRT', '', _make_csrt),
    f'{PREFIX}kcf': Peer('OpenCV TrackerKCF', '', _make_kcf),
    f'{PREFIX}mil': Peer('OpenCV TrackerMIL', '', _make_mil),
    f'{PREFIX}vit': Peer('OpenCV TrackerVit', 'vittrack', _make_vit),
    f'{PREFIX}nano': Peer('OpenCV TrackerNano', 'nanotrack_v2', _make_nano),
}
