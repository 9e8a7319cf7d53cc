# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`tracker_ros models`: what models there are, and getting their weights."""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracker_ros.runtime.package import ModelPackage

from tracker_ros.cli import calibrate


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb and its own verbs."""
    parser = subparsers.add_parser(
        'models', help='list, fetch, import, convert, quantize, calibrate and verify models'
    )
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

    _add_quantize(actions)
    calibrate.add_action(actions)

    verifying = actions.add_parser(
        'verify',
        help='check the files of models against sha256, and inference libraries against another',
    )
    verifying.add_argument('names', nargs='*', metavar='NAME', help='default: all')
    verifying.add_argument(
        '--files-only', action='store_true', help='run nothing, check the files alone'
    )
    verifying.set_defaults(run=_verify)


def _add_quantize(actions: Any) -> None:
    quantizing = actions.add_parser(
        'quantize',
        help='make a package in fewer bits from one in fp32, and measure what that costs',
        description=(
            'Writes a package of its own, NAME-PRECISION, beside the one in fp32. Both are '
            'compared on footage; what was found stands in model.yaml, and a package too far '
            'from fp32 is not written.'
        ),
    )
    quantizing.add_argument('name', metavar='NAME', help='a model, or the folder of a package')
    quantizing.add_argument(
        '--precision', required=True, metavar='P', help='fp16, bf16, int8 or int8_bf16'
    )
    quantizing.add_argument(
        '--calibrate',
        type=Path,
        metavar='DATA',
        help='annotated sequences that int8 takes its ranges from',
    )
    quantizing.add_argument(
        '--check',
        type=Path,
        metavar='DATA',
        help='other sequences to compare on (default: every third one of --calibrate, which is '
        'then not calibrated on)',
    )
    quantizing.add_argument(
        '--frames',
        type=int,
        default=200,
        metavar='N',
        help='crops to calibrate on, and frames to compare, spread over the sequences '
        '(default: %(default)s)',
    )
    quantizing.add_argument('--name', dest='new_name', metavar='NEW', help='of the new package')
    quantizing.add_argument(
        '--output', type=Path, metavar='FOLDER', help='default: beside the package'
    )
    quantizing.add_argument(
        '--force', action='store_true', help='write it even where it is too far from fp32'
    )
    quantizing.set_defaults(run=_quantize)


def _list(_options: argparse.Namespace) -> int:
    from tracker_ros.runtime import store

    for name in store.names():
        package = store.describe(name)
        ready = 'ready' if package.is_complete else 'no weights yet'
        print(f'{name:16} {ready:16} {package.precision:10} {package.licence}')
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

    code = 0
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
            code = max(code, _install(name))
        except (PackageError, ImportError, OSError) as error:
            print(f'{name}: {error}', file=sys.stderr)
            return 1
    return code


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
            code = max(code, _install(name))
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
        facts: dict[str, Any] = {**store.facts_of(name)}
        package = convert(options.file, options.family, name, folder, **facts)
    except (CheckpointError, ConversionError, PackageError, OSError) as error:
        print(f'tracker_ros models convert: {error}', file=sys.stderr)
        return 1
    print(f'{package.name}: {package.summary}, ready in {package.folder}')
    return _compare(package)


def _quantize(options: argparse.Namespace) -> int:
    try:
        from tracker_ros.export.quantize import Plan, quantize
    except ImportError as error:
        print(f'{error}; this needs: pip install onnx onnxruntime', file=sys.stderr)
        return 1
    from tqdm import tqdm

    from tracker_ros.evaluation.sequences import SequenceError, read_sequences
    from tracker_ros.runtime import store
    from tracker_ros.runtime.engine import EngineError
    from tracker_ros.runtime.package import PackageError
    from tracker_ros.runtime.parity import ENTRY
    from tracker_ros.trackers import TrackerError

    def advance(doing: str, done: int, total: int) -> None:
        bar.set_description(doing, refresh=False)
        bar.total = total
        bar.n = min(done, total)
        bar.refresh()

    try:
        package = store.find(options.name)
        fitted = read_sequences(options.calibrate) if options.calibrate else []
        if options.check:
            check = read_sequences(options.check)
        else:
            check = fitted[2::3]
            fitted = [clip for clip in fitted if clip not in check]
        name = options.new_name or f'{package.name}-{options.precision}'
        folder = options.output or package.folder.with_name(name)
        plan = Plan(options.precision, fitted, check, options.frames)
        with tqdm(disable=not sys.stderr.isatty(), leave=False) as bar:
            made = quantize(package, plan, name, folder, options.force, advance)
    except (PackageError, EngineError, SequenceError, TrackerError, OSError) as error:
        print(f'tracker_ros models quantize: {error}', file=sys.stderr)
        return 1
    record = made.manifest[ENTRY]
    print(
        f'{made.name}: {record["frames"]} frames compared with {package.name} by '
        f'{record["runtime"]}'
    )
    for what in ('box_px', 'iou', 'score'):
        print(f'  {what:7}', *(f'{key} {value:g}' for key, value in record[what].items()))
    print(f'{made.name}: ready in {made.folder}')
    return _compare(made)


def _install(name: str) -> int:
    """Make the package of files that are here; an exit code."""
    from tracker_ros.export.published import assemble
    from tracker_ros.runtime import store

    package = store.install(name, assemble)
    print(f'{name}: ready in {package.folder}')
    return _compare(package)


def _compare(package: ModelPackage) -> int:
    """Let the libraries of this machine answer alike; an exit code."""
    from tracker_ros.runtime.agreement import compare_libraries
    from tracker_ros.runtime.engine import EngineError

    try:
        found = compare_libraries(package)
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1
    if found is not None:
        print(f'{package.name}: {found}')
    return 0


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
        files = len(package.graphs) + len(package.files)
        print(f'{name}: {f"{files} files as they should be" if files else "no files here"}')
        if not options.files_only and package.is_complete:
            code = max(code, _compare(package))
    return code
