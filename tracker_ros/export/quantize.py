# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a package in fp32 to one in fewer bits, with a record of what that costs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import yaml

from tracker_ros.evaluation.sequences import Sequence as Footage
from tracker_ros.export.calibration import Seen, collect
from tracker_ros.export.comparison import compare
from tracker_ros.export.folding import folded
from tracker_ros.export.half import HALVES, halved
from tracker_ros.export.int8 import Feeds, quantised
from tracker_ros.export.norms import with_norms
from tracker_ros.runtime.engine import CPU_RUNTIMES, Engine, load_first
from tracker_ros.runtime.package import (
    CARD,
    MANIFEST,
    PRECISIONS,
    ModelPackage,
    PackageError,
    read_package,
    sha256_of,
)
from tracker_ros.runtime.parity import ENTRY, shortfalls
from tracker_ros.trackers import FAMILIES

REDUCED = tuple(precision for precision in PRECISIONS if precision != 'fp32')
ROLES = ('template', 'search')
DEFAULT_FRAMES = 200

# Entries of a manifest that belong to the graphs, or to the way that they came.
_NOT_KEPT = ('checkpoint', 'forced', 'graphs', 'published', ENTRY)
# OpenVINO computes graphs of fp16 in fp32 and would find no difference; ONNX Runtime rounds.
_CHECKED_WITH = {'fp16': CPU_RUNTIMES[::-1]}

Progress = Callable[[str, int, int], object]
"""Called with what is being done, and how much of how much of it is done."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be made, and on what footage.

    calibrate: what int8 takes its ranges from; not used by other precisions.
    check: what the made package is compared on.
    frames: how many crops are calibrated on, and how many frames are compared.
    """

    precision: str
    calibrate: Sequence[Footage]
    check: Sequence[Footage]
    frames: int = DEFAULT_FRAMES


def quantize(
    package: ModelPackage,
    plan: Plan,
    name: str,
    folder: Path,
    force: bool = False,
    progress: Progress = lambda doing, done, total: None,
) -> ModelPackage:
    """Make the package `name` in `folder` from `package`, which stays as it is.

    The folder appears whole or not at all, in place of one that was there. Raises PackageError
    for what cannot be reduced and, unless `force`, for a result too far from fp32; EngineError
    where no library runs it; SequenceError for footage that cannot be read.
    """
    _check(package, plan, folder)
    reference = load_first(package, CPU_RUNTIMES, threads=0)
    models = _reduced_graphs(package, plan, reference, progress)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f'.{folder.name}-') as scratch:
        fresh = Path(scratch) / folder.name
        fresh.mkdir()
        for role, graph in package.graphs.items():
            if role in models:
                onnx.save(models[role], str(fresh / f'{role}.onnx'))
            else:
                shutil.copyfile(graph.path, fresh / f'{role}.onnx')
        if (package.folder / CARD).is_file():
            shutil.copyfile(package.folder / CARD, fresh / CARD)
        manifest = _manifest(package, plan, name, fresh)
        _write(fresh, manifest)
        record = _record(package, plan, read_package(fresh), reference, progress)
        problems = shortfalls(record, plan.precision)
        if problems and not force:
            raise PackageError(
                f'{package.name} in {plan.precision} is too far from fp32: {"; ".join(problems)}. '
                'Nothing was written. Calibrate on more, or other, footage; --force writes it '
                'all the same'
            )
        forced = {'forced': True} if problems else {}
        _write(fresh, {**manifest, ENTRY: record, **forced})
        read_package(fresh).verify()
        if folder.exists():
            shutil.move(folder, Path(scratch) / 'previous')
        fresh.rename(folder)
    return read_package(folder)


def _check(package: ModelPackage, plan: Plan, folder: Path) -> None:
    """Raise PackageError for what cannot be made."""
    if plan.precision not in REDUCED:
        raise PackageError(
            f'the precision must be one of {", ".join(REDUCED)}, not {plan.precision!r}'
        )
    if package.precision != 'fp32':
        raise PackageError(
            f'{package.name} is {package.precision} already; take the fp32 package it was made of'
        )
    if not set(ROLES) <= set(package.graphs) or package.family not in FAMILIES:
        raise PackageError(
            f'{package.name} has no graphs of a tracker, so there is nothing to reduce'
        )
    if plan.precision.startswith('int8') and not plan.calibrate:
        raise PackageError(f'{plan.precision} needs footage to be calibrated on: --calibrate DATA')
    if not plan.check:
        raise PackageError(
            'the result must be compared with fp32 on footage: --check DATA, or several '
            'sequences for --calibrate, some of which are then kept for that'
        )
    if plan.frames < 1:
        raise PackageError(f'at least one frame is needed, not {plan.frames}')
    if folder.exists() and folder.resolve() == package.folder.resolve():
        raise PackageError(f'{folder} is the package itself, which is to stay: choose another')


def _reduced_graphs(
    package: ModelPackage, plan: Plan, reference: Engine, progress: Progress
) -> dict[str, onnx.ModelProto]:
    """The template and the search graph in fewer bits; further ones stay as they are."""
    models = {role: prepared(onnx.load(package.graphs[role].path)) for role in ROLES}
    if plan.precision in HALVES:
        # NumPy, through which cached tensors pass, has no bf16.
        cached = (
            {item.name for item in models['template'].graph.output}
            if plan.precision == 'fp16'
            else set()
        )
        return {
            'template': halved(models['template'], plan.precision, half_outputs=cached),
            'search': halved(models['search'], plan.precision, half_inputs=cached),
        }
    samples = _samples(package, plan, reference, progress)
    made = {}
    for place, role in enumerate(ROLES):
        progress('quantising', place, len(ROLES))
        made[role] = quantised(models[role], _feeds(role, models[role], samples))
    progress('quantising', len(ROLES), len(ROLES))
    if not any(node.op_type == 'QuantizeLinear' for node in made['search'].graph.node):
        raise PackageError(f'{package.name} has no layer that could be computed in int8')
    return made


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph as the passes over it want it: folded, its norms single nodes."""
    return with_norms(folded(model))


def _samples(
    package: ModelPackage, plan: Plan, reference: Engine, progress: Progress
) -> list[Seen]:
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress('collecting', done, plan.frames)

    return collect(package, reference, plan.calibrate, plan.frames, advance)


def _feeds(role: str, model: onnx.ModelProto, samples: Sequence[Seen]) -> list[Feeds]:
    """What a graph is calibrated on."""
    if role == 'template':
        # One for each time that the templates were made.
        samples = list({id(sample.templates): sample for sample in samples}.values())
    taken = {item.name for item in model.graph.input}
    return [
        {name: value for name, value in sample.feeds()[role].items() if name in taken}
        for sample in samples
    ]


def _manifest(package: ModelPackage, plan: Plan, name: str, folder: Path) -> dict[str, Any]:
    kept = {key: value for key, value in package.manifest.items() if key not in _NOT_KEPT}
    calibrated = {
        'calibrated_on': {
            'clips': [sequence.name for sequence in plan.calibrate],
            'frames': plan.frames,
        }
    }
    return {
        **kept,
        'name': name,
        'precision': plan.precision,
        'made_of': {
            'name': package.name,
            **{role: graph.sha256 for role, graph in package.graphs.items()},
        },
        **(calibrated if plan.precision.startswith('int8') else {}),
        'graphs': {
            role: {'file': f'{role}.onnx', 'sha256': sha256_of(folder / f'{role}.onnx')}
            for role in package.graphs
        },
    }


def _record(
    package: ModelPackage,
    plan: Plan,
    made: ModelPackage,
    reference: Engine,
    progress: Progress,
) -> dict[str, Any]:
    """What `ENTRY` of the manifest will say."""
    candidate = load_first(made, _CHECKED_WITH.get(plan.precision, CPU_RUNTIMES), threads=0)
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress('comparing', done, plan.frames)

    found = compare(package, reference, candidate, plan.check, plan.frames, advance)
    return {
        'against': package.name,
        'reference': reference.name,
        'runtime': candidate.name,
        'clips': [sequence.name for sequence in plan.check],
        **found.summary(),
    }


def _write(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / MANIFEST).write_text(yaml.safe_dump(manifest, sort_keys=False), encoding='utf-8')
