# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The camera images of a recorded bag (mcap), in the order in which they were taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from tracker_ros.footage import FALLBACK_RATE_HZ, natural_key

SUFFIX = '.mcap'
_IMAGE_TYPES = {
    'sensor_msgs/msg/Image': Image,
    'sensor_msgs/msg/CompressedImage': CompressedImage,
}
_INFO_TYPE = 'sensor_msgs/msg/CameraInfo'


class BagError(Exception):
    """The bag cannot be opened or read; the message names it and says what to do."""


class BagFrame(NamedTuple):
    """One image of a bag."""

    time_s: float
    """When it was recorded, since the first image."""
    image: Any
    """sensor_msgs/Image or CompressedImage, as recorded."""
    info: CameraInfo | None
    """The newest calibration recorded before it, else the first one; None where there is none."""


class Bag:
    """One camera in a bag.

    Attributes:
        name: of the file or folder.
        topic: of the images.
        info_topic: of the CameraInfo that belongs to them, None where there is none.
        frame_count: number of images.
        rate_hz: their mean rate.
    """

    def __init__(self, path: str | Path, topic: str = '') -> None:
        """Opens a bag.

        Args:
            path: an .mcap file, or a folder of them (the parts of one recording).
            topic: of the images; empty takes the first one by name.

        Raises:
            BagError: no bag there, not readable, or no such topic in it.
        """
        self._path = Path(path).expanduser()
        self.name = self._path.name or str(self._path)
        self._parts = _parts_of(self._path)
        topics = _Topics()
        for part in self._parts:
            with self._reading(part) as reader:
                topics.add(reader.get_summary())
        self.topic = self._choose(topic, topics)
        self.info_topic = _info_topic_of(self.topic, topics.infos)
        self.frame_count = topics.counts[self.topic]
        self.rate_hz = self._mean_rate()

    def frames(self, start: int = 0) -> Iterator[BagFrame]:
        """Yields the images from number `start` (0 is the first) to the end.

        Raises:
            BagError: damaged, or there are no more than `start` images.
        """
        if start and start >= self.frame_count:
            raise BagError(
                f"'{self._path}' has only {self.frame_count} images on {self.topic}, so it "
                f'cannot start at frame {start}'
            )
        info = self._first_info()
        number, first_ns = 0, 0
        for topic, kind, time_ns, data in self._messages([self.topic, self.info_topic]):
            if topic == self.info_topic:
                info = self._decoded(data, CameraInfo, topic)
                continue
            if number >= start:
                first_ns = first_ns or time_ns
                image = self._decoded(data, _IMAGE_TYPES[kind], topic)
                yield BagFrame((time_ns - first_ns) / 1e9, image, info)
            number += 1

    def _mean_rate(self) -> float:
        times = [
            next((time_ns for _, _, time_ns, _ in self._messages([self.topic], backwards)), 0)
            for backwards in (False, True)
        ]
        first_ns, last_ns = times
        if last_ns <= first_ns:
            return FALLBACK_RATE_HZ
        return (self.frame_count - 1) * 1e9 / (last_ns - first_ns)

    def _first_info(self) -> CameraInfo | None:
        for topic, _, _, data in self._messages([self.info_topic]):
            return self._decoded(data, CameraInfo, topic)
        return None

    def _messages(
        self, topics: list[str | None], backwards: bool = False
    ) -> Iterator[tuple[str, str, int, bytes]]:
        """(topic, type, time in ns, serialised message) in order of time."""
        wanted = [topic for topic in topics if topic is not None]
        if not wanted:
            return
        for part in reversed(self._parts) if backwards else self._parts:
            with self._reading(part) as reader:
                for schema, channel, message in reader.iter_messages(
                    topics=wanted, reverse=backwards
                ):
                    yield channel.topic, schema.name, message.log_time, message.data

    def _decoded(self, data: bytes, message_type: type, topic: str) -> Any:
        try:
            return deserialize_message(data, message_type)
        except Exception as error:  # rclpy lets through whatever the middleware raises
            raise BagError(
                f"'{self._path}' holds a damaged {message_type.__name__} on {topic}: {error}"
            ) from error

    def _choose(self, topic: str, topics: _Topics) -> str:
        if not topics.images:
            kinds = ' or '.join(_IMAGE_TYPES)
            raise BagError(f"'{self._path}' has no topic of type {kinds}")
        if not topic:
            return sorted(topics.images)[0]
        if topic not in topics.images:
            present = ', '.join(sorted(topics.images))
            raise BagError(f"'{self._path}' has no images on '{topic}', but on {present}")
        return topic

    @contextmanager
    def _reading(self, part: Path) -> Iterator[Any]:
        try:
            from mcap.reader import make_reader
        except ImportError as error:
            raise BagError(
                f"'{self._path}' is an mcap bag, which needs the Python package mcap: "
                'pip install mcap'
            ) from error
        try:
            with part.open('rb') as file:
                yield make_reader(file)
        except OSError as error:
            raise BagError(f"'{part}' cannot be read: {error.strerror}") from error
        except Exception as error:  # a damaged file fails in mcap, struct or a decompressor
            raise BagError(
                f"'{part}' is damaged or not an mcap file ({type(error).__name__}: {error}); "
                'try `mcap recover`'
            ) from error


def is_bag(source: str | Path) -> bool:
    """Whether a path looks like a bag: an .mcap file, or a folder with one or with metadata."""
    path = Path(source).expanduser()
    if path.is_dir():
        return (path / 'metadata.yaml').is_file() or any(path.glob(f'*{SUFFIX}'))
    return path.suffix == SUFFIX


class _Topics:
    """What the summaries of a bag's parts say together."""

    def __init__(self) -> None:
        self.images: set[str] = set()
        self.infos: set[str] = set()
        self.counts: dict[str, int] = {}

    def add(self, summary: Any) -> None:
        if summary is None or summary.statistics is None:
            raise ValueError('it has no summary, as after a crash of the recorder')
        for number, channel in summary.channels.items():
            schema = summary.schemas.get(channel.schema_id)
            count = summary.statistics.channel_message_counts.get(number, 0)
            if schema is None or channel.message_encoding != 'cdr' or not count:
                continue
            if schema.name in _IMAGE_TYPES:
                self.images.add(channel.topic)
                self.counts[channel.topic] = self.counts.get(channel.topic, 0) + count
            elif schema.name == _INFO_TYPE:
                self.infos.add(channel.topic)


def _parts_of(path: Path) -> list[Path]:
    if path.is_dir():
        parts = sorted(path.glob(f'*{SUFFIX}'), key=lambda part: natural_key(part.name))
        if not parts:
            raise BagError(
                f"'{path}' holds no {SUFFIX} file; bags of other storage are converted by "
                '`ros2 bag convert`'
            )
        return parts
    if not path.exists():
        raise BagError(f"'{path}' does not exist")
    return [path]


def _info_topic_of(image_topic: str, infos: set[str]) -> str | None:
    """The camera_info beside the images, as ROS places it; else the only one there is."""
    base = image_topic.removesuffix('/compressed')
    sibling = f'{base.rpartition("/")[0]}/camera_info'
    if sibling in infos:
        return sibling
    return next(iter(infos)) if len(infos) == 1 else None
