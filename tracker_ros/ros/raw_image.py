# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs/Image read straight from its serialised bytes.

rclpy copies a message's pixels into an array on the way to the callback. A raw subscription
hands over the bytes as they came; here the few fields before the pixels are read from them, and
the pixels stay where they are.

The bytes are CDR, as every DDS sends them: a header of four bytes, then the fields in order,
each aligned to its size counted from behind that header; a string is its length, with the
closing zero, and its bytes. They come from another process and are not trusted.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from tracker_ros.ros.images import ImageError

_HEADER_BYTES = 4
_LITTLE_ENDIAN = b'\x00\x01'
_LONGEST_TEXT = 4096


@dataclass(slots=True)
class RawImage:
    """The fields of sensor_msgs/Image; `data` is a view of the message's bytes."""

    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview


def read_image(message: bytes) -> RawImage:
    """Read a serialised sensor_msgs/Image.

    Raises ImageError for bytes that are none, or that end too early.
    """
    if message[:2] != _LITTLE_ENDIAN:
        raise ImageError(
            f'the message begins with {message[:2].hex(" ")}, it is no little-endian CDR'
        )
    try:
        return _read(message)
    except (struct.error, UnicodeDecodeError) as error:
        raise ImageError(f'the message of {len(message)} bytes is damaged: {error}') from error


def _read(message: bytes) -> RawImage:
    sec, nanosec = struct.unpack_from('<iI', message, _HEADER_BYTES)
    frame_id, at = _text(message, _HEADER_BYTES + 8)
    height, width = struct.unpack_from('<II', message, _aligned(at))
    encoding, at = _text(message, _aligned(at) + 8)
    (is_bigendian,) = struct.unpack_from('<B', message, at)
    step, count = struct.unpack_from('<II', message, _aligned(at + 1))
    begin = _aligned(at + 1) + 8
    data = memoryview(message)[begin : begin + count]
    if len(data) != count:
        raise ImageError(f'data has {len(data)} bytes where {count} are announced')
    header = Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=frame_id)
    return RawImage(header, height, width, encoding, is_bigendian, step, data)


def _text(message: bytes, at: int) -> tuple[str, int]:
    """The string at `at`, and where it ends."""
    (length,) = struct.unpack_from('<I', message, at)
    end = at + 4 + length
    if not 1 <= length <= _LONGEST_TEXT or end > len(message):
        raise ImageError(f'a text of {length} bytes is announced; the longest is {_LONGEST_TEXT}')
    return message[at + 4 : end - 1].decode('utf-8'), end


def _aligned(at: int) -> int:
    """The next place for four bytes."""
    return at + -(at - _HEADER_BYTES) % 4
