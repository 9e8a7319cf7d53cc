# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Masks of instances in the forms that data sets have them: polygons, runs, palette pictures.

Masks are (H, W) uint8. Points are x and y in continuous pixels, as boxes are: pixel 0 covers
[0, 1).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]

_LARGEST_PIXELS = 1 << 28
_PNG = b'\x89PNG\r\n\x1a\n'
_GREY, _PALETTE = 0, 3
_JPEG_SIZES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE,
                         0xCF})  # fmt: skip
_JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})


def filled(polygons: Iterable[NDArray[np.floating]], width: int, height: int) -> Mask:
    """1 for pixels whose centre is in one of the polygons, each (2 n,) of x, y, x, y ...

    Holes by crossing count, as everywhere. COCO's own tool rounds the outline to fifths of a pixel
    first, and so differs in some pixels of the rim.
    """
    mask = np.zeros((height, width), np.uint8)
    for polygon in polygons:
        points = np.asarray(polygon, np.float64).reshape(-1, 2)
        # All that is inside is within these columns and rows.
        low = np.clip(np.floor(points.min(axis=0)), 0, (width, height)).astype(int)
        high = np.clip(np.ceil(points.max(axis=0)), 0, (width, height)).astype(int)
        part = mask[low[1] : high[1], low[0] : high[0]]
        part |= _filled(points - low, part.shape[1], part.shape[0])
    return mask


def _filled(points: NDArray[np.float64], width: int, height: int) -> Mask:
    """1 where an odd number of edges of a polygon (n, 2) is to the left of the pixel's centre."""
    crossings = np.zeros((height, width + 1), np.uint8)
    for (x1, y1), (x2, y2) in zip(
        points.tolist(), np.roll(points, -1, axis=0).tolist(), strict=True
    ):
        if y1 == y2:
            continue
        # The rows whose middle is between the ends, one end counted and the other not.
        first = max(0, math.ceil(min(y1, y2) - 0.5))
        rows = np.arange(first, max(first, min(height, math.ceil(max(y1, y2) - 0.5))))
        where = x1 + (rows + 0.5 - y1) * ((x2 - x1) / (y2 - y1))
        crossings[rows, np.clip(np.ceil(where - 0.5), 0, width).astype(np.int64)] ^= 1
    return np.bitwise_xor.accumulate(crossings, axis=1)[:, :width]


def from_runs(runs: Sequence[int] | NDArray[np.integer], width: int, height: int) -> Mask:
    """Of COCO's run lengths: 0s, 1s, 0s ..., down each column, column after column.

    Raises ValueError when they are not those of a mask of this size.
    """
    counts = np.asarray(runs, np.int64)
    if (counts < 0).any() or counts.sum() != width * height:
        raise ValueError(f'runs of {counts.sum()} pixels are no mask of {width} x {height}')
    values = np.repeat(np.arange(len(counts)) % 2, counts).astype(np.uint8)
    return np.ascontiguousarray(values.reshape(width, height).T)


def runs_of(text: str) -> list[int]:
    """The runs in COCO's compressed form.

    Each is a number in groups of five bits, the lowest first, the sixth bit says that another
    group follows and the highest of the last is the sign; characters begin at 48. From the fourth
    number on, each is the difference to the one two before. Raises ValueError.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 30:
            raise ValueError(f'{text[:40]!r} is no compressed mask')
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError(f'{text[:40]!r} ends within a number')
    return runs


def with_indices(content: bytes) -> bytes:
    """A PNG whose grey values are the palette's indices, of a PNG with a palette.

    The samples of both are stored alike, so that only the header says something else; OpenCV
    would give the colours, which may be the same for two indices. Other content is returned as it
    is. Of less than 8 bits a pixel, grey values are spread over 0..255: `step_of` is between them.
    """
    if content[:8] != _PNG or len(content) < 33 or content[25] != _PALETTE:
        return content
    header = bytearray(content[16:29])
    header[9] = _GREY
    chunk = b'IHDR' + bytes(header)
    parts = [_PNG, struct.pack('>I', 13), chunk, struct.pack('>I', zlib.crc32(chunk))]
    place = 33
    while place + 12 <= len(content):
        (length,) = struct.unpack_from('>I', content, place)
        end = place + 12 + length
        if content[place + 4 : place + 8] in (b'IDAT', b'IEND'):
            parts.append(content[place:end])
        place = end
    return b''.join(parts)


def step_of(content: bytes) -> int:
    """Between the grey values of a PNG that stand for neighbouring numbers: 1 with 8 bits."""
    if content[:8] != _PNG or len(content) < 33:
        return 1
    return {1: 255, 2: 85, 4: 17}.get(content[24], 1)


def size_of(content: bytes) -> tuple[int, int]:
    """Width and height of a JPEG or PNG, from its beginning; nothing is decoded.

    Raises ValueError.
    """
    width = height = 0
    if content[:8] == _PNG and len(content) >= 24:
        width, height = struct.unpack_from('>II', content, 16)
    elif content[:2] == b'\xff\xd8':
        width, height = _jpeg_size(content)
    if not 0 < width * height <= _LARGEST_PIXELS:
        raise ValueError('is no JPEG or PNG, or says no size')
    return width, height


def _jpeg_size(content: bytes) -> tuple[int, int]:
    place = 2
    while place + 9 <= len(content):
        if content[place] != 0xFF:
            break
        kind = content[place + 1]
        if kind == 0xFF or kind in _JPEG_ALONE:
            place += 1 if kind == 0xFF else 2
            continue
        if kind in _JPEG_SIZES:
            height, width = struct.unpack_from('>HH', content, place + 5)
            return width, height
        place += 2 + int.from_bytes(content[place + 2 : place + 4], 'big')
    return 0, 0
