# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reading safetensors files: a header in JSON, then the numbers. Nothing in them can be run."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker_ros.export.checkpoint import CheckpointError

_LARGEST_FILE_BYTES = 8 << 30
_LARGEST_HEADER_BYTES = 100 << 20

_DTYPES: dict[str, np.dtype[Any]] = {
    'F64': np.dtype('<f8'),
    'F32': np.dtype('<f4'),
    'F16': np.dtype('<f2'),
    'BF16': np.dtype('<u2'),
    'I64': np.dtype('<i8'),
    'I32': np.dtype('<i4'),
    'I16': np.dtype('<i2'),
    'I8': np.dtype('i1'),
    'U8': np.dtype('u1'),
    'BOOL': np.dtype('?'),
}


def read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a file by name; bfloat16 becomes float32.

    Raises CheckpointError naming the file and what is wrong with it.
    """
    if not path.is_file():
        raise CheckpointError(f'there is no file {path}')
    size = path.stat().st_size
    if size > _LARGEST_FILE_BYTES:
        raise CheckpointError(f'{path} is larger than 8 GiB')
    with path.open('rb') as stream:
        length = int.from_bytes(stream.read(8), 'little')
        if size < 8 or length > min(size - 8, _LARGEST_HEADER_BYTES):
            raise CheckpointError(f'{path} is no safetensors file: its header has {length} bytes')
        try:
            header = json.loads(stream.read(length))
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f'{path} is no safetensors file: {error}') from error
    if not isinstance(header, dict):
        raise CheckpointError(f'{path}: its header is no list of tensors')
    data = np.memmap(path, np.uint8, mode='r', offset=8 + length) if size > 8 + length else None
    header.pop('__metadata__', None)
    try:
        return {name: _tensor(data, entry) for name, entry in header.items()}
    except (CheckpointError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f'{path}: a tensor is not what its header says: {error}') from error


def _tensor(data: NDArray[np.uint8] | None, entry: dict[str, Any]) -> NDArray[Any]:
    kind = entry['dtype']
    if kind not in _DTYPES:
        raise CheckpointError(f'{kind!r} is no kind of number known here')
    shape, (first, end) = tuple(entry['shape']), entry['data_offsets']
    if not all(type(value) is int and value >= 0 for value in (*shape, first, end)):
        raise CheckpointError(f'its shape is {shape}, its place {first} to {end}')
    length = prod(shape) * _DTYPES[kind].itemsize
    if end - first != length or (length and (data is None or end > len(data))):
        raise CheckpointError(f'it has the shape {shape} and lies at {first} to {end}')
    raw = data[first:end] if data is not None else np.empty(0, np.uint8)
    values = np.frombuffer(bytearray(raw), _DTYPES[kind])
    if kind == 'BF16':
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.reshape(shape)
