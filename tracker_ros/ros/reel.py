# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a video source plays: pictures as finished messages, each with the time when it is due."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from copy import deepcopy
from typing import NamedTuple

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from tracker_ros.footage import Footage, open_footage
from tracker_ros.ros import images
from tracker_ros.ros.bag import Bag, is_bag
from tracker_ros.ros.camera_info import CameraInfoError, uncalibrated


class Picture(NamedTuple):
    """One image, ready to be published; only the stamps are missing."""

    due_s: float | None
    """Since the reel's first picture; None: at once, because it is live."""
    raw: Image | None
    compressed: CompressedImage | None
    info: CameraInfo


class Format(NamedTuple):
    """What is made of each picture."""

    raw: bool
    compressed: bool
    jpeg_quality: int
    frame_id: str
    """Empty: as recorded, else 'camera'."""
    info: CameraInfo | None
    """A calibration that goes before any recorded one."""


class Reel(ABC):
    """A source of pictures.

    Attributes:
        name: for messages.
        frame_count: of one pass, None where unknown.
        rate_hz: at which it is played.
        live: whether it is a camera.
    """

    name: str
    frame_count: int | None
    rate_hz: float
    live: bool = False

    @abstractmethod
    def pictures(self, start: int) -> Iterator[Picture]:
        """Yields one pass, from picture number `start`."""

    @abstractmethod
    def close(self) -> None:
        """Gives the source back."""

    def forever(self, start: int) -> Iterator[Picture]:
        """Yields pass after pass, the due times running on."""
        passed_s = 0.0
        while True:
            due_s = 0.0
            for picture in self.pictures(start):
                due_s = picture.due_s or 0.0
                yield picture._replace(due_s=passed_s + due_s)
            passed_s += due_s + 1.0 / self.rate_hz


def open_reel(source: str, rate_hz: float, form: Format, topic: str = '') -> Reel:
    """Opens footage or a bag.

    Args:
        source: what `open_footage` takes, or an mcap file or folder.
        rate_hz: pictures per second; 0 keeps the source's own times.
        form: what is made of each picture.
        topic: of a bag's images; empty takes the first.

    Raises:
        FootageError, BagError: it cannot be opened.
        CameraInfoError: the calibration is for another image size.
    """
    if is_bag(source):
        return _BagReel(Bag(source, topic), rate_hz, form)
    return _FootageReel(open_footage(source), rate_hz, form)


class _FootageReel(Reel):
    def __init__(self, footage: Footage, rate_hz: float, form: Format) -> None:
        self.name = f'{footage.name} ({footage.width}x{footage.height})'
        self.frame_count = footage.frame_count
        self.live = footage.live
        self.rate_hz = rate_hz or footage.rate_hz
        self._limited = rate_hz > 0
        self._footage = footage
        self._form = form
        self._header = Header(frame_id=form.frame_id or 'camera')
        self._info = form.info or uncalibrated(*footage.size)
        try:
            _check_size(self._info, *footage.size)
        except CameraInfoError:
            footage.close()
            raise

    def pictures(self, start: int) -> Iterator[Picture]:
        frames = self._footage.frames(start)
        if self.live:
            for frame in _thinned(frames, 1.0 / self.rate_hz if self._limited else 0.0):
                yield self._made(frame, None)
        else:
            for number, frame in enumerate(frames):
                yield self._made(frame, number / self.rate_hz)

    def close(self) -> None:
        self._footage.close()

    def _made(self, frame: np.ndarray, due_s: float | None) -> Picture:
        return Picture(
            due_s,
            images.to_message(frame, deepcopy(self._header)) if self._form.raw else None,
            images.to_compressed_message(frame, deepcopy(self._header), self._form.jpeg_quality)
            if self._form.compressed
            else None,
            _headed(self._info, self._header.frame_id),
        )


class _BagReel(Reel):
    def __init__(self, bag: Bag, rate_hz: float, form: Format) -> None:
        self.name = f'{bag.name} ({bag.topic})'
        self.frame_count = bag.frame_count
        self.rate_hz = rate_hz or bag.rate_hz
        self._recorded_times = rate_hz == 0
        self._bag = bag
        self._form = form

    def pictures(self, start: int) -> Iterator[Picture]:
        for number, frame in enumerate(self._bag.frames(start)):
            image = frame.image
            image.header.frame_id = self._form.frame_id or image.header.frame_id or 'camera'
            due_s = frame.time_s if self._recorded_times else number / self.rate_hz
            size = _size_of(image)
            info = self._form.info or frame.info or uncalibrated(*size)
            _check_size(info, *size)
            yield Picture(
                due_s,
                self._raw(image) if self._form.raw else None,
                self._compressed(image) if self._form.compressed else None,
                _headed(info, image.header.frame_id),
            )

    def close(self) -> None:
        """Nothing stays open between two passes."""

    def _raw(self, image: Image | CompressedImage) -> Image:
        if isinstance(image, Image):
            return image
        return images.to_message(images.decode_compressed(image), deepcopy(image.header))

    def _compressed(self, image: Image | CompressedImage) -> CompressedImage:
        if isinstance(image, CompressedImage):
            return image
        bgr = images.to_bgr(image)
        return images.to_compressed_message(bgr, deepcopy(image.header), self._form.jpeg_quality)


def _size_of(image: Image | CompressedImage) -> tuple[int, int]:
    if isinstance(image, CompressedImage):
        return images.compressed_size(image)
    return image.width, image.height


def _headed(info: CameraInfo, frame_id: str) -> CameraInfo:
    info = deepcopy(info)
    info.header.frame_id = frame_id
    return info


def _check_size(info: CameraInfo, width: int, height: int) -> None:
    if (info.width, info.height) != (width, height):
        raise CameraInfoError(
            f'the calibration is for {info.width}x{info.height} pixels, but the images have '
            f'{width}x{height}: calibrate at that size, or leave camera_info empty'
        )


def _thinned(frames: Iterator[np.ndarray], interval_s: float) -> Iterator[np.ndarray]:
    """Of a live source, the frames that come at least an interval apart."""
    next_s = -math.inf
    for frame in frames:
        now_s = time.monotonic()
        # A frame a little early is taken, or half of them would be lost at equal rates.
        if now_s >= next_s - interval_s / 10:
            yield frame
            next_s = (now_s if now_s - next_s > interval_s else next_s) + interval_s
