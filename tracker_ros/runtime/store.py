# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where model packages are found, and how published weights get there.

Packages come with the project (``models/NAME``) or lie in the user's cache
(``~/.cache/tracker_ros/models/NAME``), where `fetch` and `import` put them. A name that is a
path to a folder is taken as such.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tracker_ros.resources import cache_path, share_path
from tracker_ros.runtime import parity
from tracker_ros.runtime.package import (
    MANIFEST,
    ModelPackage,
    PackageError,
    PublishedFile,
    read_package,
    sha256_of,
)

# Makes the graphs of a package in a folder from the published files, by role; returns
# {'template': file name, 'search': file name}.
Assembler = Callable[[ModelPackage, dict[str, Path], Path], dict[str, str]]


def find(name: str) -> ModelPackage:
    """The package called `name`, ready to run.

    Raises PackageError for an unknown name (with the known ones), weights that are not here yet
    (with the command that gets them), or a reduced precision that is not known to be good enough.
    """
    package = describe(name)
    if not package.is_complete and package.checkpoint:
        raise PackageError(
            f'the weights of {name!r} are not on this machine. Download '
            f'{package.checkpoint.get("file")} from {package.checkpoint.get("address")} '
            f'(licence: {package.licence}) and run "tracker_ros models convert FILE --family '
            f'{package.family} --name {name}".'
        )
    if not package.is_complete:
        raise PackageError(
            f'the weights of {name!r} are not on this machine. Get them with '
            f'"tracker_ros models fetch {name}", or give files that you already have to '
            f'"tracker_ros models import FILE".'
        )
    package.verify()
    parity.check(package)
    return package


def describe(name: str) -> ModelPackage:
    """The package called `name`, complete or not."""
    if os.sep in name:
        return read_package(Path(name).expanduser())
    _check_name(name)
    for root in (cache_path('models'), share_path('models')):
        if (root / name / MANIFEST).is_file():
            return read_package(root / name)
    raise PackageError(f'there is no model {name!r}; known are {", ".join(names())}')


def place_of(name: str) -> Path:
    """Where a package called `name` lies in the user's cache, whether it is there or not."""
    _check_name(name)
    return cache_path('models', name)


def facts_of(name: str) -> dict[str, str]:
    """Licence and source that the shipped description of `name` states; empty without one."""
    if name not in _shipped_names():
        return {}
    package = _shipped(name)
    return {'licence': package.licence, 'source': package.source}


def names() -> list[str]:
    """Names of all packages, shipped or in the user's cache."""
    found: set[str] = set()
    for root in (cache_path('models'), share_path('models')):
        if root.is_dir():
            found.update(entry.parent.name for entry in root.glob(f'*/{MANIFEST}'))
    return sorted(found)


def packages_of_file(path: Path) -> list[tuple[ModelPackage, PublishedFile]]:
    """The packages that a published file belongs to, told by its sha256."""
    if not path.is_file():
        raise PackageError(f'there is no file {path}')
    digest = sha256_of(path)
    matches = [
        (package, published)
        for package in map(_shipped, _shipped_names())
        for published in package.published
        if published.sha256 == digest
    ]
    if not matches:
        raise PackageError(
            f'{path} (sha256 {digest}) is none of the weights this version knows. '
            '"tracker_ros models list" shows what they are and where they come from.'
        )
    return matches


def keep(published: PublishedFile, path: Path) -> Path:
    """Copy a checked file of weights into the cache; returns its place there."""
    kept = _kept(published)
    if kept.is_file() and sha256_of(kept) == published.sha256:
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(kept) as partial:
        shutil.copyfile(path, partial)
        found = sha256_of(partial)
        if found != published.sha256:
            raise PackageError(
                f'{path} has sha256 {found}, expected {published.sha256} ({published.name})'
            )
    return kept


def fetch(published: PublishedFile, progress: Callable[[int, int], None] | None = None) -> Path:
    """Download a file of weights into the cache, unless it is there; returns its place.

    The file appears only when size and sha256 are right. `progress` is called with the bytes
    so far and in all. Raises PackageError naming address, cause and remedy.
    """
    kept = _kept(published)
    if kept.is_file() and sha256_of(kept) == published.sha256:
        return kept
    by_hand = f'Or download it by hand and run "tracker_ros models import {published.name}".'
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with _replacing(kept) as partial:
            _download(published, partial, progress)
            found = sha256_of(partial)
            if found != published.sha256:
                raise PackageError(
                    f'{published.address} gave a file with sha256 {found}, expected '
                    f'{published.sha256}; nothing was kept. {by_hand}'
                )
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise PackageError(f'cannot download {published.address}: {error}. {by_hand}') from error
    return kept


def missing_files(package: ModelPackage) -> list[PublishedFile]:
    """The published files of a package that are not in the cache yet."""
    return [published for published in package.published if not _kept(published).is_file()]


def install(name: str, assemble: Assembler) -> ModelPackage:
    """Make the package `name` in the user's cache from weights that are all there.

    The folder appears whole or not at all.
    """
    package = _shipped(name)
    missing = missing_files(package)
    if missing:
        raise PackageError(
            f'{name} still needs {", ".join(item.name for item in missing)} ({missing[0].address})'
        )
    for published in package.published:
        if sha256_of(_kept(published)) != published.sha256:
            raise PackageError(
                f'{_kept(published)} was damaged since it was put there; delete it and fetch or '
                f'import {published.name} again'
            )
    final = cache_path('models', name)
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=final.parent, prefix=f'.{name}-') as scratch:
        folder = Path(scratch) / name
        folder.mkdir()
        files = {published.role: _kept(published) for published in package.published}
        graphs = assemble(package, files, folder)
        manifest = dict(package.manifest)
        manifest['graphs'] = {
            role: {'file': file, 'sha256': sha256_of(folder / file)}
            for role, file in graphs.items()
        }
        (folder / MANIFEST).write_text(yaml.safe_dump(manifest, sort_keys=False), encoding='utf-8')
        read_package(folder).verify()
        if final.exists():
            final.rename(Path(scratch) / 'previous')
        folder.rename(final)
    return read_package(final)


def _check_name(name: str) -> None:
    if not re.fullmatch(r'[a-z0-9][a-z0-9_\-]*', name):
        raise PackageError(
            f'{name!r} is no model name: lower-case letters, digits, - and _; '
            f'a package of your own is given by its path, such as ./{name or "my_model"}'
        )


def _shipped_names() -> list[str]:
    return sorted(entry.parent.name for entry in share_path('models').glob(f'*/{MANIFEST}'))


def _shipped(name: str) -> ModelPackage:
    if name not in _shipped_names():
        raise PackageError(f'there is no model {name!r}; known are {", ".join(names())}')
    return read_package(share_path('models') / name)


def _kept(published: PublishedFile) -> Path:
    return cache_path('weights', published.sha256[:16], published.name)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}-')
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _download(
    published: PublishedFile, path: Path, progress: Callable[[int, int], None] | None
) -> None:
    request = urllib.request.Request(published.address, headers={'User-Agent': 'tracker_ros'})
    done = 0
    with urllib.request.urlopen(request, timeout=30) as answer, path.open('wb') as stream:
        while block := answer.read(1 << 16):
            done += len(block)
            # A server that sends more than was announced must not fill the disk.
            if done > published.size_bytes:
                raise PackageError(
                    f'{published.address} is larger than the {published.size_bytes} bytes '
                    'expected; nothing was kept'
                )
            stream.write(block)
            if progress:
                progress(done, published.size_bytes)
    if done < published.size_bytes:
        raise PackageError(
            f'{published.address} ended after {done} of {published.size_bytes} bytes; nothing '
            'was kept. Try again.'
        )
