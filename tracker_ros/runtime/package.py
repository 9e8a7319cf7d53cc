# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The model package: the one format the robot knows.

A folder with ``model.yaml`` and two graphs. ``template.onnx`` turns the template crop into
cached tensors, once per start of a target; ``search.onnx`` turns the search crop and those
tensors into outputs, once a frame. Crops are (N, side, side, 3) uint8 BGR; colour order,
normalisation and layout are inside the graphs. A family may have further graphs, which take
outputs of the search graph and a few numbers, such as the box to look at more closely. A language
model has one graph, ``sentence.onnx``, and the file of its vocabulary.

A ``model.yaml`` without graphs describes weights that are published elsewhere and may not be
redistributed: address, size, sha256 and licence of each file. `tracker_ros models fetch` or
`import` makes the package from them.
"""

from __future__ import annotations

import hashlib
import reprlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

MANIFEST = 'model.yaml'
CARD = 'card.md'
"""Beside the manifest, for people: how the project trained the weights, and on what."""
PRECISIONS = ('fp32', 'fp16', 'bf16', 'int8', 'int8_bf16')
"""What graphs may compute in; docs/models.md says what each means."""
LANGUAGE = 'bert'
"""The family of packages that turn sentences into numbers for others and follow nothing."""
_ALWAYS = {'template', 'search'}
_OF_LANGUAGE = {'sentence'}
_LARGEST_MANIFEST_BYTES = 1 << 20
_KINDS: dict[type, str] = {
    str: 'text',
    bool: 'true or false',
    int: 'a whole number',
    float: 'a number',
    list: 'a list',
    dict: 'a mapping',
}


class PackageError(Exception):
    """A model package is missing, broken or not what its manifest says."""


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file of weights as its authors published it."""

    role: str
    address: str
    size_bytes: int
    sha256: str

    @property
    def name(self) -> str:
        return self.address.rsplit('/', 1)[-1]


@dataclass(frozen=True, slots=True)
class Graph:
    """One file of the package, most often ONNX."""

    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """What ``model.yaml`` says; sizes in pixels, factors relative to the box."""

    name: str
    family: str
    folder: Path
    summary: str
    licence: str
    source: str
    takes_text: bool
    precision: str
    published: tuple[PublishedFile, ...]
    checkpoint: dict[str, Any]
    graphs: dict[str, Graph]
    files: dict[str, Graph]
    """Further files beside the manifest, by role, such as a vocabulary."""
    inputs: dict[str, Any]
    constants: dict[str, Any]
    confidence: dict[str, float]
    manifest: dict[str, Any] = field(repr=False)

    @property
    def is_complete(self) -> bool:
        """True when it can run: it needs no weights, or its graphs are here."""
        return bool(self.graphs) or not (self.published or self.checkpoint)

    @property
    def calibration(self) -> dict[str, Any]:
        """What makes a probability of the model's score; empty where it was not calibrated."""
        entry = self.manifest.get('confidence', {}).get('calibration', {})
        if isinstance(entry, dict):
            return entry
        raise PackageError(
            f'{self.folder}: confidence.calibration must be a mapping, not {_shown(entry)}'
        )

    def crop_px(self, crop: str) -> int:
        """The side of the crop 'template' or 'search' as the network takes it."""
        value = self.inputs.get(f'{crop}_px')
        if not isinstance(value, int) or value < 1:
            raise PackageError(f'{self.folder}: inputs needs {crop}_px, pixels, not {value!r}')
        return value

    @property
    def template_values(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the numbers that the template graph takes beside crops, by name.

        Such as the box of the target in its crop; float32, without the batch.
        """
        return self.values_of('template')

    def values_of(self, role: str) -> dict[str, tuple[int, ...]]:
        """Shapes of the numbers that the graph `role` takes beside crops and tensors, by name."""
        shapes = self.inputs.get(f'{role}_values', {})
        if isinstance(shapes, dict) and all(map(_is_shape, shapes.values())):
            return {str(name): tuple(shape) for name, shape in shapes.items()}
        raise PackageError(
            f'{self.folder}: inputs.{role}_values must give a list of sizes for each name, '
            f'not {_shown(shapes)}'
        )

    @property
    def renewed(self) -> tuple[str, ...]:
        """The cached tensors that the tracker gives anew while it tracks: `Engine.renewed`."""
        names = self.inputs.get('renewed', [])
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return tuple(names)
        raise PackageError(
            f'{self.folder}: inputs.renewed must be a list of names, not {_shown(names)}'
        )

    @property
    def further(self) -> tuple[str, ...]:
        """The graphs beside template and search."""
        return tuple(role for role in self.graphs if role not in _ALWAYS)

    @property
    def is_int8(self) -> bool:
        """Whether its layers are in int8, whatever the rest is computed in."""
        return self.precision.startswith('int8')

    def verify(self) -> None:
        """Check every graph and file against its sha256.

        Raises PackageError naming the file.
        """
        for graph in (*self.graphs.values(), *self.files.values()):
            if not graph.path.is_file():
                raise PackageError(f'{graph.path} is missing; import or fetch {self.name} again')
            found = sha256_of(graph.path)
            if found != graph.sha256:
                raise PackageError(
                    f'{graph.path} has sha256 {found}, its manifest says {graph.sha256}: the file '
                    f'was changed or damaged. Import or fetch {self.name} again.'
                )


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_package(folder: Path) -> ModelPackage:
    """Read ``folder/model.yaml``. The graphs are not opened; see `ModelPackage.verify`.

    Raises PackageError naming the file and the entry that is wrong.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise PackageError(f'{folder} is no model package: it has no {MANIFEST}')
    try:
        if path.stat().st_size > _LARGEST_MANIFEST_BYTES:
            raise PackageError(f'{path} is larger than 1 MiB; that is no manifest')
        manifest = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise PackageError(f'{path} cannot be read: {error}') from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PackageError(f'{path} is not readable YAML: {error}') from error
    if not isinstance(manifest, dict):
        raise PackageError(f'{path} must hold a mapping, not a {type(manifest).__name__}')
    entry = _Entries(path, manifest)
    name, family = entry.take('name', str), entry.take('family', str)
    needed = _OF_LANGUAGE if family == LANGUAGE else _ALWAYS
    return ModelPackage(
        name=name,
        family=family,
        folder=folder,
        summary=entry.take('summary', str, ''),
        licence=entry.take('licence', str),
        source=entry.take('source', str, ''),
        takes_text=entry.take('takes_text', bool, False),
        precision=_precision(path, entry.take('precision', str, 'fp32')),
        published=tuple(_published(path, item) for item in entry.take('published', list, [])),
        checkpoint=entry.take('checkpoint', dict, {}),
        graphs=_graphs(path, folder, entry.take('graphs', dict, {}), needed),
        files=_files(path, folder, 'file', entry.take('files', dict, {})),
        inputs=entry.take('inputs', dict, {}),
        constants=entry.take('constants', dict, {}),
        confidence=_confidence(path, entry.take('confidence', dict)) if needed is _ALWAYS else {},
        manifest=manifest,
    )


class _Entries:
    """Typed access to a mapping of a manifest, with errors that name file and entry."""

    def __init__(self, path: Path, mapping: dict[str, Any]) -> None:
        self.path = path
        self.mapping = mapping

    def take(self, key: str, kind: type, default: Any = None) -> Any:
        value = self.mapping.get(key, default)
        if value is None:
            raise PackageError(f'{self.path}: the entry {key!r} is missing')
        # In Python True is an int as well.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise PackageError(f'{self.path}: {key!r} must be {_KINDS[kind]}, not {_shown(value)}')
        return value

    def number(self, key: str) -> float:
        kind = int if isinstance(self.mapping.get(key), int) else float
        return float(self.take(key, kind))


def _precision(path: Path, name: str) -> str:
    if name not in PRECISIONS:
        raise PackageError(
            f"{path}: 'precision' must be one of {', '.join(PRECISIONS)}, not {name[:80]!r}"
        )
    return name


def _published(path: Path, item: Any) -> PublishedFile:
    if not isinstance(item, dict):
        raise PackageError(
            f'{path}: each entry of published must be a mapping, not {_shown(item)}'
        )
    entry = _Entries(path, item)
    published = PublishedFile(
        role=entry.take('role', str),
        address=entry.take('address', str),
        size_bytes=entry.take('size_bytes', int),
        sha256=_sha256(path, entry.take('sha256', str)),
    )
    if not published.address.startswith(('https://', 'http://127.0.0.1:')):
        raise PackageError(f'{path}: the address {published.address!r} must be https')
    if not _is_plain_name(published.name):
        raise PackageError(f'{path}: the address {published.address!r} must end in a file name')
    if published.size_bytes < 1:
        raise PackageError(f"{path}: 'size_bytes' must be above 0, not {published.size_bytes}")
    return published


def _graphs(
    path: Path, folder: Path, mapping: dict[Any, Any], needed: set[str]
) -> dict[str, Graph]:
    if mapping and not mapping.keys() >= needed:
        raise PackageError(
            f"{path}: 'graphs' must hold {' and '.join(sorted(needed, reverse=True))}, not "
            f'{_shown(list(mapping))}'
        )
    if not all(isinstance(name, str) and name.isidentifier() for name in mapping):
        raise PackageError(
            f"{path}: the names in 'graphs' must be words, not {_shown(list(mapping))}"
        )
    return _files(path, folder, 'graph', mapping)


def _files(path: Path, folder: Path, what: str, mapping: dict[Any, Any]) -> dict[str, Graph]:
    return {name: _file(path, folder, f'{what} {name}', item) for name, item in mapping.items()}


def _file(path: Path, folder: Path, what: str, item: Any) -> Graph:
    if not isinstance(item, dict):
        raise PackageError(f'{path}: the {what} must be a mapping, not {_shown(item)}')
    entry = _Entries(path, item)
    file = entry.take('file', str)
    # A manifest is untrusted: it must not make the loader read files elsewhere.
    if not _is_plain_name(file):
        raise PackageError(
            f'{path}: the {what.partition(" ")[0]} {file!r} must lie beside the manifest'
        )
    return Graph(folder / file, _sha256(path, entry.take('sha256', str)))


def _sha256(path: Path, text: str) -> str:
    if len(text) != 64 or not set(text) <= set('0123456789abcdef'):
        raise PackageError(f'{path}: {text[:80]!r} is no sha256 (64 lower-case hex digits)')
    return text


def _confidence(path: Path, mapping: dict[str, Any]) -> dict[str, float]:
    entry = _Entries(path, mapping)
    thresholds = {key: entry.number(key) for key in ('lost', 'sure')}
    if not 0.0 <= thresholds['lost'] <= thresholds['sure'] <= 1.0:
        raise PackageError(f'{path}: confidence needs 0 <= lost <= sure <= 1, not {thresholds}')
    return thresholds


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and all(type(size) is int and size > 0 for size in value)


def _is_plain_name(file: str) -> bool:
    return file not in ('', '.', '..') and Path(file).name == file


def _shown(value: Any) -> str:
    # Shortened while it is written: the aliases of YAML can stand for endless text.
    shortened = reprlib.Repr()
    shortened.maxlevel = 2
    return shortened.repr(value)
