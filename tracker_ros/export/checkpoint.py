# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reading PyTorch checkpoints as what they are: untrusted files of which only tensors are wanted.

A checkpoint is a pickle, and unpickling runs whatever functions the file names. Here nothing
that the file names is ever imported or called: tensors are rebuilt by this module, as NumPy
arrays; objects of the training frameworks that official checkpoints carry beside their weights
(statistics, settings) become inert placeholders; any other name ends the reading.

Both formats are read, the zip archive of PyTorch 1.6 and later and the stream before it.
PyTorch itself is not needed.
"""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LARGEST_FILE_BYTES = 8 << 30

_DTYPES: dict[str, np.dtype[Any]] = {
    'DoubleStorage': np.dtype('<f8'),
    'FloatStorage': np.dtype('<f4'),
    'HalfStorage': np.dtype('<f2'),
    'BFloat16Storage': np.dtype('<u2'),
    'LongStorage': np.dtype('<i8'),
    'IntStorage': np.dtype('<i4'),
    'ShortStorage': np.dtype('<i2'),
    'CharStorage': np.dtype('i1'),
    'ByteStorage': np.dtype('u1'),
    'BoolStorage': np.dtype('?'),
}

# Packages of the frameworks that the five papers' code was trained with, whose objects lie in
# the files beside the weights; and NumPy's way to store a scalar.
_PLACEHOLDER_MODULES = ('lib.', 'ltr.', 'pysot.', 'argparse', 'easydict', 'yacs.')
_PLACEHOLDER_NAMES = {
    ('numpy', 'dtype'),
    ('numpy', 'ndarray'),
    ('numpy.core.multiarray', 'scalar'),
    ('numpy.core.multiarray', '_reconstruct'),
    ('numpy._core.multiarray', 'scalar'),
    ('numpy._core.multiarray', '_reconstruct'),
    ('_codecs', 'encode'),
    ('collections', 'defaultdict'),
}


class CheckpointError(Exception):
    """A file is no checkpoint, is damaged, or names something that would have to be run."""


class Placeholder:
    """Stands for an object of another project: takes any state, does nothing, holds nothing."""

    def __init__(self, *_arguments: object, **_keywords: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass

    def __setitem__(self, _key: object, _value: object) -> None:
        pass

    def append(self, _item: object) -> None:
        pass

    def extend(self, _items: object) -> None:
        pass


def read_checkpoint(path: Path) -> Any:
    """The content of a checkpoint: dictionaries and lists with NumPy arrays for tensors.

    Raises CheckpointError naming the file and what is wrong with it.
    """
    if not path.is_file():
        raise CheckpointError(f'there is no file {path}')
    if path.stat().st_size > _LARGEST_FILE_BYTES:
        raise CheckpointError(f'{path} is larger than 8 GiB')
    try:
        with path.open('rb') as stream:
            if zipfile.is_zipfile(stream):
                return _read_archive(stream)
            stream.seek(0)
            return _read_stream(stream)
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {error}') from error
    # A damaged pickle or archive may fail in any of the ways of its interpreter.
    except Exception as error:
        raise CheckpointError(
            f'{path} is no PyTorch checkpoint, or damaged: {type(error).__name__}: {error}'
        ) from error


def tensors_of(
    content: Any, keys: tuple[str, ...] = ('net', 'state_dict', 'model')
) -> dict[str, NDArray[Any]]:
    """The weights in a checkpoint's content: a state dict, or one below one of `keys`.

    A leading ``module.`` of distributed training is taken off the names. Raises
    CheckpointError where there are none.
    """
    if isinstance(content, Mapping):
        for key in keys:
            if isinstance(content.get(key), Mapping):
                return tensors_of(content[key], ())
        tensors = {
            str(name).removeprefix('module.'): value
            for name, value in content.items()
            if isinstance(value, np.ndarray)
        }
        if tensors:
            return tensors
        raise CheckpointError(
            f'there are no weights in it; its keys are {sorted(map(str, content))[:12]}'
        )
    raise CheckpointError(f'it holds a {type(content).__name__}, not a dictionary of weights')


@dataclass(frozen=True, slots=True)
class _StorageType:
    name: str


class _Storage:
    """A flat array, filled at once or, in the older format, after the pickle was read."""

    def __init__(self, dtype: np.dtype[Any], is_bfloat16: bool, count: int) -> None:
        self.dtype = dtype
        self.is_bfloat16 = is_bfloat16
        self.count = count
        self.values: NDArray[Any] | None = None

    def fill(self, data: bytes) -> None:
        values = np.frombuffer(data, self.dtype)
        if len(values) != self.count:
            raise CheckpointError(
                f'a storage has {len(values)} values where {self.count} are announced'
            )
        if self.is_bfloat16:
            values = (values.astype(np.uint32) << 16).view(np.float32)
        self.values = values


class _Tensor:
    """A view of a storage, resolved when all storages are there."""

    def __init__(
        self, storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> None:
        if not isinstance(storage, _Storage):
            raise CheckpointError('a tensor without a storage')
        numbers = (offset, *shape, *strides)
        if not all(isinstance(number, int) and number >= 0 for number in numbers) or len(
            shape
        ) != len(strides):
            raise CheckpointError(f'a tensor of impossible shape {shape} and strides {strides}')
        last = offset + sum(
            (size - 1) * stride for size, stride in zip(shape, strides, strict=True)
        )
        if 0 not in shape and last >= storage.count:
            raise CheckpointError(
                f'a tensor of shape {shape} reaches beyond its storage of {storage.count} values'
            )
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self) -> NDArray[Any]:
        values = self.storage.values
        if values is None:
            raise CheckpointError("a tensor's storage is missing")
        bytes_of = tuple(stride * values.itemsize for stride in self.strides)
        view = np.lib.stride_tricks.as_strided(
            values[self.offset :], self.shape, bytes_of, writeable=False
        )
        return view.copy()


def _rebuild_tensor(
    storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_rest: object
) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: Any, *_rest: object) -> Any:
    return tensor


_KNOWN: dict[tuple[str, str], Any] = {
    ('collections', 'OrderedDict'): OrderedDict,
    ('torch', 'Size'): tuple,
    ('torch._utils', '_rebuild_tensor'): _rebuild_tensor,
    ('torch._utils', '_rebuild_tensor_v2'): _rebuild_tensor,
    ('torch._utils', '_rebuild_parameter'): _rebuild_parameter,
}


class _Unpickler(pickle.Unpickler):
    """Resolves names to this module's own stand-ins, and to nothing else."""

    def __init__(self, stream: BinaryIO, storage: Callable[[Any], _Storage]) -> None:
        super().__init__(stream, encoding='utf-8')
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module, name))
        if known is not None:
            return known
        if module == 'torch' and name in _DTYPES:
            return _StorageType(name)
        if (module, name) in _PLACEHOLDER_NAMES or (module + '.').startswith(_PLACEHOLDER_MODULES):
            return Placeholder
        raise CheckpointError(
            f'it names {module}.{name}, which is neither a tensor nor known to lie in official '
            'checkpoints; nothing of it was run. If you trust the file, save its weights alone '
            '(torch.save of the state dict) and convert that.'
        )

    def persistent_load(self, identifier: Any) -> _Storage:
        return self._storage(identifier)


def _new_storage(identifier: Any) -> tuple[str, _Storage]:
    if not isinstance(identifier, tuple) or len(identifier) < 5 or identifier[0] != 'storage':
        raise CheckpointError(f'an unknown kind of reference: {identifier!r}')
    kind, key, count = identifier[1], identifier[2], identifier[4]
    if not isinstance(kind, _StorageType) or not isinstance(count, int) or count < 0:
        raise CheckpointError(f'an impossible storage: {identifier!r}')
    return str(key), _Storage(_DTYPES[kind.name], kind.name == 'BFloat16Storage', count)


def _read_archive(stream: BinaryIO) -> Any:
    with zipfile.ZipFile(stream) as archive:
        pickles = [name for name in archive.namelist() if name.endswith('/data.pkl')]
        if len(pickles) != 1:
            raise CheckpointError('the archive holds no data.pkl')
        folder = pickles[0].removesuffix('data.pkl')
        if f'{folder}byteorder' in archive.namelist():
            order = archive.read(f'{folder}byteorder')
            if order != b'little':
                raise CheckpointError(f'its byte order is {order!r}; only little is supported')
        storages: dict[str, _Storage] = {}

        def storage(identifier: Any) -> _Storage:
            key, fresh = _new_storage(identifier)
            if key not in storages:
                member = archive.getinfo(f'{folder}data/{key}')
                # Checked before reading: a small archive can unpack to anything.
                if member.file_size != fresh.count * fresh.dtype.itemsize:
                    raise CheckpointError(f'the storage {key} has {member.file_size} bytes')
                fresh.fill(archive.read(member))
                storages[key] = fresh
            return storages[key]

        if archive.getinfo(pickles[0]).file_size > 1 << 30:
            raise CheckpointError('its data.pkl is larger than 1 GiB')
        content = _Unpickler(io.BytesIO(archive.read(pickles[0])), storage).load()
    return _resolved(content)


def _read_stream(stream: BinaryIO) -> Any:
    storages: dict[str, _Storage] = {}

    def storage(identifier: Any) -> _Storage:
        key, fresh = _new_storage(identifier)
        if len(identifier) > 5 and identifier[5] is not None:
            raise CheckpointError('it uses views of storages, which are not supported')
        return storages.setdefault(key, fresh)

    def load() -> Any:
        return _Unpickler(stream, storage).load()

    if load() != _LEGACY_MAGIC:
        raise CheckpointError('it begins like no PyTorch checkpoint')
    load()  # protocol version
    system = load()
    if isinstance(system, dict) and not system.get('little_endian', True):
        raise CheckpointError('its byte order is big; only little is supported')
    content = load()
    for key in load():
        if key not in storages:
            raise CheckpointError(f'it ends with an unknown storage {key!r}')
        held = storages[key]
        count = int.from_bytes(stream.read(8), 'little')
        if count != held.count:
            raise CheckpointError(f'the storage {key} has {count} values, not {held.count}')
        held.fill(stream.read(count * held.dtype.itemsize))
    return _resolved(content)


def _resolved(content: Any) -> Any:
    """The same content with arrays in place of tensors."""
    limit = sys.getrecursionlimit() // 4

    def resolve(value: Any, depth: int) -> Any:
        if depth > limit:
            raise CheckpointError('it is nested too deeply')
        if isinstance(value, _Tensor):
            return value.array()
        if isinstance(value, dict):
            return {key: resolve(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [resolve(item, depth + 1) for item in value]
        return value

    return resolve(content, 0)
