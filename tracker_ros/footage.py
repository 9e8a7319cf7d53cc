# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded or live pictures, frame by frame: a video file, a folder of images, or a camera."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

IMAGE_SUFFIXES = frozenset(
    {'.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp'}
)
FALLBACK_RATE_HZ = 30.0
"""The rate of footage that tells none: folders of images, and cameras that report zero."""

_SINGLE_FILE_BAG_SUFFIX = '.mcap'
_HIGHEST_CREDIBLE_RATE_HZ = 1000.0


class FootageError(Exception):
    """The footage cannot be opened or read; the message names it and says what to do."""


class Footage(AbstractContextManager['Footage'], ABC):
    """Frames of one source, all of one size.

    Iterating yields (height, width, 3) uint8 BGR arrays. Each iteration over a file or a folder
    begins at its first frame, in storage of its own, so that several may run one after another;
    a camera is live and gives its next picture. A frame is never written to after it was yielded.

    Attributes:
        name: what to call it in messages: file name, folder name, or `camera N`.
        width, height: pixels.
        rate_hz: frames per second, as the source reports it, else `FALLBACK_RATE_HZ`.
        frame_count: as the source reports it, None where unknown. A damaged video may end sooner.
        live: whether it is a camera: endless, and not able to start again or to wait.
    """

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        rate_hz: float,
        frame_count: int | None,
        live: bool = False,
    ) -> None:
        self.name = name
        self.width, self.height = size
        self.rate_hz = rate_hz
        self.frame_count = frame_count
        self.live = live

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.width, self.height

    @abstractmethod
    def frames(self, start: int = 0) -> Iterator[np.ndarray]:
        """Yields the frames from number `start` (0 is the first) to the end.

        Raises:
            FootageError: a frame cannot be read, or there are no more than `start` frames.
        """

    def close(self) -> None:
        """Gives the source back. A running iteration ends at its next frame."""

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.frames()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_footage(source: str | Path) -> Footage:
    """Opens a video file, a folder of images (in natural order), one image, or a camera.

    Args:
        source: a path, or a camera's index as text ('0'). A folder whose name is a number is
            reached as './0'.

    Raises:
        FootageError: nothing is there, or it is not footage.
    """
    if isinstance(source, str) and re.fullmatch(r'[0-9]{1,4}', source.strip()):
        return _Camera(int(source))
    if not str(source).strip():
        raise FootageError(
            'no source was given: name a video file, a folder of images or a camera index'
        )
    path = Path(source).expanduser()
    if path.is_dir():
        return _Images(path, _images_in(path))
    if not path.exists():
        raise FootageError(
            f"'{path}' does not exist: give a video file, a folder of images or a camera index"
        )
    if path.suffix.lower() == _SINGLE_FILE_BAG_SUFFIX:
        raise FootageError(_bag_advice(path))
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _Images(path, [path])
    return _Video(path)


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sort key by which 'frame_2' comes before 'frame_10'."""
    parts = re.split(r'([0-9]+)', name)
    return [(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in parts if part]


class _Video(Footage):
    def __init__(self, path: Path) -> None:
        self._path = path
        self._closed = False
        capture = self._open()
        try:
            decoded, first = capture.read()
            # The picture itself, because containers and their rotation flags disagree.
            if not decoded or first is None:
                raise FootageError(
                    f"'{path}' is not a video this OpenCV can decode; check that it plays, or "
                    f'convert it: ffmpeg -i {path.name} -c:v libx264 -pix_fmt yuv420p out.mp4'
                )
            height, width = first.shape[:2]
            count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            rate_hz = _credible_rate(capture.get(cv2.CAP_PROP_FPS))
        finally:
            capture.release()
        super().__init__(path.name, (width, height), rate_hz, count if count > 0 else None)

    def frames(self, start: int = 0) -> Iterator[np.ndarray]:
        capture = self._open()
        try:
            # Decoding up to the start is slower than seeking, and always lands on the frame meant.
            for skipped in range(start):
                if not capture.grab():
                    raise FootageError(_too_few(self.name, skipped, start))
            decoded_any = False
            while not self._closed:
                decoded, frame = capture.read()
                if not decoded or frame is None:
                    break
                decoded_any = True
                yield _as_bgr(frame)
            if start and not decoded_any and not self._closed:
                raise FootageError(_too_few(self.name, start, start))
        finally:
            capture.release()

    def close(self) -> None:
        self._closed = True

    def _open(self) -> cv2.VideoCapture:
        try:
            capture = cv2.VideoCapture(str(self._path))
        except cv2.error as error:
            raise FootageError(f"'{self._path}' cannot be opened as a video: {error}") from error
        if not capture.isOpened():
            raise FootageError(
                f"'{self._path}' cannot be opened as a video: it is of another kind, damaged, or "
                'not readable for this user'
            )
        return capture


class _Images(Footage):
    def __init__(self, source: Path, paths: list[Path]) -> None:
        self._paths = paths
        self._closed = False
        height, width = _read_image(paths[0]).shape[:2]
        name = source.name or str(source)
        super().__init__(name, (width, height), FALLBACK_RATE_HZ, len(paths))

    def frames(self, start: int = 0) -> Iterator[np.ndarray]:
        if start and start >= len(self._paths):
            raise FootageError(_too_few(self.name, len(self._paths), start))
        for path in self._paths[start:]:
            if self._closed:
                return
            image = _read_image(path)
            if image.shape[:2] != (self.height, self.width):
                height, width = image.shape[:2]
                raise FootageError(
                    f"'{path}' is {width}x{height}, but the first image of '{self.name}' is "
                    f'{self.width}x{self.height}: keep images of one size in one folder'
                )
            yield image

    def close(self) -> None:
        self._closed = True


class _Camera(Footage):
    def __init__(self, index: int) -> None:
        self._capture = cv2.VideoCapture(index)
        if not self._capture.isOpened():
            self._capture.release()
            raise FootageError(
                f'camera {index} cannot be opened; cameras present: {_cameras_present()}. It may '
                'be in use by another program, or this user may lack the right (group `video`)'
            )
        decoded, first = self._capture.read()
        if not decoded or first is None:
            self._capture.release()
            raise FootageError(f'camera {index} opens but gives no picture: unplug and replug it')
        height, width = first.shape[:2]
        rate_hz = _credible_rate(self._capture.get(cv2.CAP_PROP_FPS))
        super().__init__(f'camera {index}', (width, height), rate_hz, None, live=True)

    def frames(self, start: int = 0) -> Iterator[np.ndarray]:
        for _ in range(start):
            self._capture.grab()
        while self._capture.isOpened():
            decoded, frame = self._capture.read()
            if not decoded or frame is None:
                if not self._capture.isOpened():
                    return
                raise FootageError(f'{self.name} gives no more pictures: is it still plugged in?')
            yield _as_bgr(frame)

    def close(self) -> None:
        self._capture.release()


def _images_in(folder: Path) -> list[Path]:
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise FootageError(f"folder '{folder}' cannot be read: {error.strerror}") from error
    paths = [path for path in entries if path.suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        if any(path.suffix.lower() == _SINGLE_FILE_BAG_SUFFIX for path in entries):
            raise FootageError(_bag_advice(folder))
        known = ' '.join(sorted(IMAGE_SUFFIXES))
        raise FootageError(f"'{folder}' holds no image ({known})")
    return sorted(paths, key=lambda path: natural_key(path.name))


def _read_image(path: Path) -> np.ndarray:
    try:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error as error:  # e.g. more pixels than OpenCV agrees to decode
        raise FootageError(f"'{path}' cannot be decoded: {error}") from error
    if image is None:
        raise FootageError(f"'{path}' is not an image OpenCV can decode: remove or replace it")
    return image


def _as_bgr(frame: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8; some capture back ends give grey pictures as (H, W)."""
    return frame if frame.ndim == 3 else cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)


def _credible_rate(rate_hz: float) -> float:
    return rate_hz if 0.0 < rate_hz <= _HIGHEST_CREDIBLE_RATE_HZ else FALLBACK_RATE_HZ


def _cameras_present() -> str:
    devices = sorted(Path('/dev').glob('video*'), key=lambda path: natural_key(path.name))
    return ', '.join(map(str, devices)) or 'none'


def _too_few(name: str, count: int, start: int) -> str:
    return f"'{name}' has only {count} frames, so it cannot start at frame {start}"


def _bag_advice(path: Path) -> str:
    return (
        f"'{path}' is a bag: play it with the node, "
        f'`ros2 run tracker_ros video_source --ros-args -p source:={path}`'
    )
