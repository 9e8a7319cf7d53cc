# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`tracker_ros models`: what models there are, and getting their weights."""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import Any


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb and its own verbs."""
    parser = subparsers.add_parser('models', help='list, fetch, import and verify models')
    actions = parser.add_subparsers(required=True, metavar='ACTION')

    listing = actions.add_parser('list', help='all models, and whether they can run here')
    listing.set_defaults(run=_list)

    fetching = actions.add_parser(
        'fetch', help='download published weights, check them and make the package'
    )
    fetching.add_argument('names', nargs='+', metavar='NAME')
    fetching.set_defaults(run=_fetch)

    importing = actions.add_parser(
        'import', help='take weights that are on this machine; known ones are told by sha256'
    )
    importing.add_argument('files', nargs='+', type=Path, metavar='FILE')
    importing.set_defaults(run=_import)

    converting = actions.add_parser(
        'convert', help='make a package from a checkpoint of a published tracker'
    )
    converting.add_argument('file', type=Path, metavar='FILE', help='the .pth or .pth.tar file')
    converting.add_argument('--family', required=True, help='such as mixformer_v2')
    converting.add_argument(
        '--name', help='of the package (default: from the file); a shipped name takes its facts'
    )
    converting.add_argument(
        '--output', type=Path, metavar='FOLDER', help='default: where `fetch` puts packages'
    )
    converting.set_defaults(run=_convert)

    verifying = actions.add_parser('verify', help='check the files of models against sha256')
    verifying.add_argument('names', nargs='*', metavar='NAME', help='default: all')
    verifying.set_defaults(run=_verify)


def _list(_options: argparse.Namespace) -> int:
    from tracker_ros.runtime import store

    for name in store.names():
        package = store.describe(name)
        ready = 'ready' if package.is_complete else 'no weights yet'
        print(f'{name:16} {ready:16} {package.licence}')
        print(f'{"":16} {package.summary}')
        if not package.is_complete and package.checkpoint:
            print(f'{"":16} convert {package.checkpoint.get("file")}')
            print(f'{"":16}   from   {package.checkpoint.get("address")}')
        for published in store.missing_files(package) if not package.is_complete else []:
            print(f'{"":16} needs {published.name}, {published.size_bytes} bytes')
            print(f'{"":16}   from   {published.address}')
            print(f'{"":16}   sha256 {published.sha256}')
    return 0


def _fetch(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from tracker_ros.runtime import store
    from tracker_ros.runtime.package import PackageError

    for name in options.names:
        try:
            package = store.describe(name)
            if not package.published:
                print(f'{name}: needs no weights')
                continue
            print(f'{name}: licence {package.licence}')
            for published in package.published:
                with tqdm(
                    total=published.size_bytes, unit='B', unit_scale=True, desc=published.name
                ) as bar:
                    store.fetch(published, functools.partial(_advance, bar))
            _install(name)
        except (PackageError, ImportError, OSError) as error:
            print(f'{name}: {error}', file=sys.stderr)
            return 1
    return 0


def _advance(bar: Any, done: int, _total: int) -> None:
    bar.update(done - bar.n)


def _import(options: argparse.Namespace) -> int:
    from tracker_ros.runtime import store
    from tracker_ros.runtime.package import PackageError

    code = 0
    touched = {}
    for path in options.files:
        try:
            for package, published in store.packages_of_file(path):
                store.keep(published, path)
                touched[package.name] = package
                print(f'{path}: the {published.role} of {package.name}')
        except (PackageError, OSError) as error:
            print(error, file=sys.stderr)
            code = 1
    for name, package in touched.items():
        missing = store.missing_files(package)
        if missing:
            print(f'{name}: still needs {", ".join(item.name for item in missing)}')
            continue
        try:
            _install(name)
        except (PackageError, ImportError, OSError) as error:
            print(f'{name}: {error}', file=sys.stderr)
            code = 1
    return code


def _convert(options: argparse.Namespace) -> int:
    try:
        from tracker_ros.export.checkpoint import CheckpointError
        from tracker_ros.export.convert import ConversionError, convert
    except ImportError as error:
        print(f'{error}; converting needs PyTorch: pip install torch onnx', file=sys.stderr)
        return 1
    from tracker_ros.runtime import store
    from tracker_ros.runtime.package import PackageError

    name = options.name or options.file.name.split('.')[0].lower()
    try:
        folder = options.output or store.place_of(name)
        package = convert(options.file, options.family, name, folder, **store.facts_of(name))
    except (CheckpointError, ConversionError, PackageError, OSError) as error:
        print(f'tracker_ros models convert: {error}', file=sys.stderr)
        return 1
    print(f'{package.name}: {package.summary}, ready in {package.folder}')
    return 0


def _install(name: str) -> None:
    from tracker_ros.export.published import assemble
    from tracker_ros.runtime import store

    package = store.install(name, assemble)
    print(f'{name}: ready in {package.folder}')


def _verify(options: argparse.Namespace) -> int:
    from tracker_ros.runtime import store
    from tracker_ros.runtime.package import PackageError

    code = 0
    for name in options.names or store.names():
        try:
            package = store.describe(name)
            package.verify()
        except PackageError as error:
            print(f'{name}: {error}', file=sys.stderr)
            code = 1
            continue
        files = len(package.graphs)
        print(f'{name}: {f"{files} files as they should be" if files else "no files here"}')
    return code
