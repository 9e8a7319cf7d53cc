# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How far a package of reduced precision is from the fp32 one: the record that it carries.

It is measured on footage when the package is made (`tracker_ros models quantize`), both networks
looking at the same crops. A package without it, or with one that falls short, is not run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tracker_ros.runtime.package import ModelPackage, PackageError

ENTRY = 'measured_parity'


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a record must reach.

    iou_mean, iou_p05: of the overlap of both boxes; its mean, and what 95 % of frames reach.
    score_p95: what the scores of 95 % of frames differ by at most.
    """

    iou_mean: float
    iou_p05: float
    score_p95: float


_INT8 = Bounds(iou_mean=0.95, iou_p05=0.88, score_p95=0.05)
BOUNDS = {
    'fp16': Bounds(iou_mean=0.99, iou_p05=0.98, score_p95=0.01),
    'bf16': Bounds(iou_mean=0.97, iou_p05=0.94, score_p95=0.02),
    'int8': _INT8,
    'int8_bf16': _INT8,
}
"""By precision; docs/models.md says where the numbers come from."""


def check(package: ModelPackage) -> None:
    """Refuse a package whose reduced precision was not measured, or found wanting.

    Passes for fp32, and for ``forced: true``. Raises PackageError with the remedy.
    """
    if package.precision == 'fp32' or package.manifest.get('forced') is True:
        return
    again = (
        'make it again from the fp32 package ("tracker_ros models quantize"), or, to run it all '
        f'the same, write "forced: true" into {package.folder}/model.yaml'
    )
    record = package.manifest.get(ENTRY)
    if not isinstance(record, dict):
        raise PackageError(
            f'{package.name} is {package.precision}, and its model.yaml has no record {ENTRY} of '
            f'how far that is from fp32: {again}'
        )
    try:
        problems = shortfalls(record, package.precision)
    except (KeyError, TypeError, ValueError) as error:
        raise PackageError(
            f'{package.folder}: the record {ENTRY} cannot be read ({error!r}): {again}'
        ) from error
    if problems:
        raise PackageError(
            f'{package.name} is too far from fp32: {"; ".join(problems)}. Calibrate on footage '
            f'that resembles yours and {again}'
        )


def shortfalls(record: dict[str, Any], precision: str) -> list[str]:
    """What of a record is worse than `BOUNDS` for `precision`; nothing when all is well."""
    bounds = BOUNDS[precision]
    iou_mean, iou_p05 = float(record['iou']['mean']), float(record['iou']['p05'])
    score_p95 = float(record['score']['p95'])
    # Written so that a nan is never good enough.
    tests = (
        (iou_mean >= bounds.iou_mean, f'mean IoU {iou_mean:.3f} below {bounds.iou_mean}'),
        (iou_p05 >= bounds.iou_p05, f'5 % of IoU below {iou_p05:.3f}, not {bounds.iou_p05}'),
        (
            score_p95 <= bounds.score_p95,
            f'5 % of scores off by {score_p95:.3f} or more, not {bounds.score_p95}',
        ),
    )
    return [text for is_well, text in tests if not is_well]
