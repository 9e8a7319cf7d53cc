# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Results as text and as plain data."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from tracker_ros.evaluation.metrics import Scores, intervals, mean_scores
from tracker_ros.evaluation.one_pass import Failure, Run, median_rate_hz

_HEADER = ('AUC', 'P@20', 'NP', 'AO', 'SR.5', 'SR.75', 'fps', 'sequences', 'frames')


def summary_table(runs: Iterable[Run]) -> str:
    """One line a tracker, its scores over all its sequences; best AUC first."""
    rows = []
    for tracker, own in by_tracker(runs).items():
        scores = mean_scores_of(own)
        rows.append((scores.auc, [tracker, *_cells(scores, median_rate_hz(own), len(own))]))
    rows.sort(key=lambda row: -row[0])
    return format_table(['model', *_HEADER], [cells for _, cells in rows])


def sequence_table(runs: Iterable[Run]) -> str:
    """One line a run, those on the same sequence together."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.sequence.name, []).append(run)
    rows = [
        [name, run.tracker, *_cells(run.scores, run.rate_hz, 1)]
        for name, group in groups.items()
        for run in group
    ]
    drop = 2 + _HEADER.index('sequences')
    return format_table(
        _without(['sequence', 'model', *_HEADER], drop), [_without(row, drop) for row in rows]
    )


def attribute_table(runs: Iterable[Run]) -> str:
    """AUC of each tracker over the sequences of each attribute; empty where there are none."""
    groups = by_tracker(runs)
    shares = {tracker: by_attribute(own) for tracker, own in groups.items()}
    attributes = sorted({name for own in shares.values() for name in own})
    if not attributes:
        return ''
    rows = []
    for attribute in attributes:
        found = [own.get(attribute, []) for own in shares.values()]
        aucs = [f'{mean_scores_of(runs).auc:.3f}' if runs else '-' for runs in found]
        rows.append([attribute, str(max(map(len, found))), *aucs])
    return format_table(['attribute (AUC)', 'sequences', *groups], rows)


def by_attribute(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The runs on the sequences that have each attribute."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        for attribute in run.sequence.attributes:
            groups.setdefault(attribute, []).append(run)
    return groups


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell; words to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    left = [not rows or not _is_number(rows[0][column]) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = (
            cell.ljust(width) if is_left else cell.rjust(width)
            for cell, width, is_left in zip(row, widths, left, strict=True)
        )
        return '  '.join(cells).rstrip()

    return '\n'.join([line(header), '  '.join('-' * width for width in widths), *map(line, rows)])


def as_dict(runs: Iterable[Run], failures: Iterable[Failure]) -> dict[str, object]:
    """Everything as numbers, lists and texts that JSON can hold; nan becomes None.

    trackers: by name, scores over all sequences and `runs` by sequence with their own scores,
    boxes (x, y, w, h in pixels), confidences and times in milliseconds.
    """
    return {
        'versions': {
            'opencv': cv2.__version__,
            'numpy': np.__version__,
            'python': platform.python_version(),
        },
        'trackers': {
            tracker: {
                **mean_scores_of(own).as_dict(),
                'intervals': {
                    name: [numbers(end) for end in ends]
                    for name, ends in intervals([run.errors for run in own]).items()
                },
                'attributes': {
                    name: {'sequences': len(those), 'auc': numbers(mean_scores_of(those).auc)}
                    for name, those in by_attribute(own).items()
                },
                'rate_hz': numbers(median_rate_hz(own)),
                'runs': {run.sequence.name: _run_as_dict(run) for run in own},
            }
            for tracker, own in by_tracker(runs).items()
        },
        'failures': [
            {'tracker': failure.tracker, 'sequence': failure.sequence, 'reason': failure.reason}
            for failure in failures
        ],
    }


def by_tracker(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The runs of each tracker, in the order of first appearance."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.tracker, []).append(run)
    return groups


def mean_scores_of(runs: Iterable[Run]) -> Scores:
    """The scores of one tracker over all its runs."""
    return mean_scores([run.errors for run in runs])


def numbers(values: object, digits: int = 4) -> object:
    """A number, or nested lists of an array's numbers, rounded; None where not finite."""
    if isinstance(values, np.ndarray):
        return [numbers(value, digits) for value in values.tolist()]
    if isinstance(values, list):
        return [numbers(value, digits) for value in values]
    if isinstance(values, float):
        return round(values, digits) if np.isfinite(values) else None
    raise TypeError(f'{values!r} is neither a number nor an array of them')


def _run_as_dict(run: Run) -> dict[str, object]:
    return {
        **run.scores.as_dict(),
        'rate_hz': numbers(run.rate_hz),
        'boxes': numbers(run.boxes),
        'confidences': numbers(run.confidences),
        'times_ms': numbers(run.times_s * 1000),
    }


def _cells(scores: Scores, rate_hz: float, sequences: int) -> list[str]:
    shares = (scores.auc, scores.precision, scores.normalised_precision)
    overlaps = (scores.ao, scores.sr50, scores.sr75)
    return [
        *(f'{share:.3f}' for share in (*shares, *overlaps)),
        f'{rate_hz:.1f}',
        str(sequences),
        str(scores.frames),
    ]


def _without(row: Sequence[str], column: int) -> list[str]:
    return [cell for index, cell in enumerate(row) if index != column]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
