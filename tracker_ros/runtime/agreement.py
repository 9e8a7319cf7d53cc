# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the inference libraries of this machine give the same answers for a package.

Each optimises a graph in its own way, and once in a while wrongly: the numbers look like numbers
and are others. Nothing tells but a second library.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tracker_ros.runtime.engine import CPU_RUNTIMES, Engine, EngineError, load_first
from tracker_ros.runtime.gate import Difference, made_up_samples, measure, tolerance_of
from tracker_ros.runtime.package import ModelPackage

# PyTorch follows the graph operator by operator, and is the last to be wrong.
REFERENCES = ('torch', *CPU_RUNTIMES[::-1])

# What libraries compute otherwise in fewer bits is compared on footage, when it is made.
_COMPARED = ('fp32', 'fp16')


class DisagreementError(EngineError):
    """Two libraries give other boxes or scores for the same crops."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was compared, for people, and how far each is from the reference."""

    reference: str
    differences: dict[str, Difference]

    def __str__(self) -> str:
        found = [f'{name}: at most {value} away' for name, value in self.differences.items()]
        return f'{"; ".join(found)} from {self.reference}'


def compare_libraries(package: ModelPackage, threads: int = 0) -> Agreement | None:
    """Run `package` with every library for the CPU that can, and compare their answers.

    None where there are no two of them, or nothing that could be compared. Raises
    DisagreementError naming those that are too far apart, with the bounds of `tolerance_of`.
    """
    if not {'template', 'search'} <= package.graphs.keys() or package.precision not in _COMPARED:
        return None
    engines = _engines(package, threads)
    reference = next(engines, None)
    if reference is None:
        return None
    samples = made_up_samples(package, reference.template_inputs)
    differences = {}
    try:
        # One beside the reference at a time: large models would not fit in memory otherwise.
        for other in engines:
            try:
                differences[other.name] = measure(package, other, reference, samples)
            finally:
                other.close()
    finally:
        reference.close()
    _judge(package, reference.name, differences)
    return Agreement(reference.name, differences) if differences else None


def _engines(package: ModelPackage, threads: int) -> Iterator[Engine]:
    """One of each library that runs the package, loaded when it is asked for."""
    for runtime in REFERENCES:
        try:
            yield load_first(package, (runtime,), threads)
        except EngineError:  # not installed, or it lacks an operator: `bench` tells which
            continue


def _judge(package: ModelPackage, reference: str, found: dict[str, Difference]) -> None:
    allowed = tolerance_of(package)
    wrong = {name: value for name, value in found.items() if not value.is_within(allowed)}
    if not wrong:
        return
    apart = '; '.join(f'{name} is {value} away' for name, value in wrong.items())
    right = [reference, *(name for name in found if name not in wrong)]
    agree = f'{", ".join(right)} agree; ' if len(right) > 1 else ''
    raise DisagreementError(
        f'{package.name}: {apart} from {reference}, and {allowed} is allowed. {agree}'
        f'choose with the parameter "runtime", or install other versions, and do not trust '
        f'{" or ".join(wrong)} with this model'
    )
