# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measured speeds as numbers for a file, and as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracker_ros.evaluation import peak
from tracker_ros.evaluation.machine import QUIET_CORES, describe
from tracker_ros.evaluation.speed import TEMPLATE, Record, quantiles

_MIB = 1 << 20


def as_dict(
    records: Sequence[Record], size: tuple[int, int], threads: int, quiet_only: bool
) -> dict[str, Any]:
    """Everything measured; times in ms, medians over frames."""
    peaks = next((peaks_of(record, quiet_only) for record in records if record.name == 'peak'), {})
    return {
        'machine': describe(),
        'image': list(size),
        'threads': threads,
        'counted': f'turns with less than {QUIET_CORES} cores used by others'
        if quiet_only
        else 'all turns',
        'peak_gops': {kind: round(value) for kind, value in peaks.items()},
        'results': [
            result_of(record, quiet_only, peaks) for record in records if record.name != 'peak'
        ],
    }


def peaks_of(record: Record, quiet_only: bool) -> dict[str, float]:
    """Billions of operations a second for each kind of number; the better size counts."""
    best: dict[str, float] = {}
    for work in record.turns:
        kind, side = work
        rows = record.rows(work, quiet_only)
        if len(rows):
            rate = peak.operations(side) / float(np.median(rows[:, 0])) / 1e9
            best[kind] = max(rate, best.get(kind, 0.0))
    return best


def result_of(record: Record, quiet_only: bool, peaks: dict[str, float]) -> dict[str, Any]:
    """One contestant."""
    rows = record.rows('frame', quiet_only)
    templates = record.rows(TEMPLATE, quiet_only)
    turns = [turn for turns in record.turns.values() for turn in turns]
    stages = record.facts['stages']
    result: dict[str, Any] = {
        'name': record.name,
        **{key: value for key, value in record.facts.items() if key != 'stages'},
        'start_s': round(record.start_s, 2),
        'resident_mib': round(record.resident_bytes / _MIB),
        'turns': len(turns),
        'quiet_turns': sum(turn.is_quiet for turn in turns),
        'others_cores': round(float(np.median([turn.others_cores for turn in turns])), 2),
        'frames': len(rows),
        'frame_ms': quantiles(rows[:, 0] if len(rows) else rows),
        'stages_ms': {
            stage: quantiles(rows[:, place]) if len(rows) else None
            for place, stage in enumerate(stages, 1)
        },
        'template_ms': quantiles(templates[:, 1] if len(templates) else templates),
        'targets_ms': {
            str(work): quantiles(many[:, 0] if len(many) else many)
            for work in record.turns
            if isinstance(work, int)
            for many in [record.rows(work, quiet_only)]
        },
    }
    gmacs, network = result['gmacs_per_frame'], result['stages_ms'].get('network')
    if gmacs and network and result['precision']:
        rate = 2 * gmacs / network['median'] * 1e3
        result['gops'] = round(rate)
        top = peaks.get(peak.kind_of(result['precision']))
        result['percent_of_peak'] = round(100 * rate / top, 1) if top else None
    return result


def table(report: dict[str, Any]) -> str:
    """Lines for people."""
    machine, (width, height) = report['machine'], report['image']
    lines = [
        f'{machine["cpu"]}, {machine["cores"]} cores, load {machine["load_average"]}; '
        f'{width}x{height}, threads {report["threads"] or "automatic"}; {report["counted"]}',
        f'{"":42} {"frame ms":>9} {"p10":>7} {"p90":>7} {"fps":>6}   stages, ms',
    ]
    for result in report['results']:
        lines += _lines_of(result)
    if report['peak_gops']:
        peaks = ', '.join(f'{kind} {value}' for kind, value in report['peak_gops'].items())
        lines.append(f'products of large matrices, 10^9 operations a second: {peaks}')
    return '\n'.join(lines)


def _lines_of(result: dict[str, Any]) -> list[str]:
    name = f'{result["name"]}: {result["runtime"]}'
    frame = result['frame_ms']
    if frame is None:
        return [f'{name}: nothing was measured, the machine was never quiet']
    stages = '  '.join(
        f'{stage} {times["median"]:.2f}' for stage, times in result['stages_ms'].items()
    )
    fps = 1e3 / frame['median']
    lines = [
        f'{name[:60]:42} {frame["median"]:9.2f} {frame["p10"]:7.2f} {frame["p90"]:7.2f} '
        f'{fps:6.0f}   {stages}',
        f'    started in {result["start_s"]:.1f} s, {result["resident_mib"]} MiB in use, others '
        f'used {result["others_cores"]:.2f} cores ({result["quiet_turns"]} of {result["turns"]} '
        'turns quiet)',
    ]
    if result['template_ms']:
        lines.append(f'    template {result["template_ms"]["median"]:.2f} ms')
    if result.get('percent_of_peak'):
        lines.append(f'    {result["percent_of_peak"]:.0f} % of the peak ({result["gops"]} GOP/s)')
    if result.get('note'):
        lines.append(f'    {result["note"]}')
    many = [
        f'{count}: {times["median"]:.2f} ({times["median"] / int(count):.2f} each)'
        for count, times in result['targets_ms'].items()
        if times
    ]
    if many:
        size = result.get('cached_bytes_per_target')
        each = f'; {size / _MIB:.1f} MiB cached for each' if size else ''
        lines.append(f'    network for N targets, ms: {", ".join(many)}{each}')
    return lines
