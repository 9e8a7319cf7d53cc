# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What papers print, beside what was measured: marks for the charts and tables for the page."""

from __future__ import annotations

import html
import itertools
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tracker_ros.evaluation.charts import Mark
from tracker_ros.evaluation.published_scores import (
    SCORES,
    Benchmark,
    PublishedScores,
    PublishedTracker,
    Result,
    Speed,
)

_HEADS = {
    'auc': 'AUC',
    'precision': 'P@20',
    'normalised_precision': 'NP',
    'ao': 'AO',
    'sr50': 'SR.5',
    'sr75': 'SR.75',
    'eao': 'EAO',
    'accuracy': 'A',
    'robustness': 'R',
}
_POINTS: dict[str, dict[str, float | None]] = {
    'success': {'auc': None, 'ao': None, 'sr50': 0.5, 'sr75': 0.75},
    'precision': {'precision': 20.0},
    'normalised_precision': {'normalised_precision': 0.2},
}
"""Of each chart the scores that it shows, and where on its axis."""


@dataclass(frozen=True)
class Comparison:
    """Published scores beside the measured ones.

    benchmark: of the data, by the name that `datasets` gives it. sequences: how many it has here.
    """

    published: PublishedScores
    benchmark: str
    sequences: int

    @property
    def shown(self) -> dict[str, PublishedTracker]:
        """The trackers with scores on the same benchmark, by the label that stands for them."""
        found = [each for each in self.published.trackers if each.on(self.benchmark)]
        return dict(zip(_labels(), found, strict=False))

    @property
    def difference(self) -> str:
        """Why the published scores are of other data, in words; '' where they are not."""
        known = self.published.benchmarks.get(self.benchmark)
        if known is None:
            return 'no paper here has scores on these data'
        if known.withheld:
            return (
                f"the papers' scores are on the set '{known.set}', whose truth only the server of "
                f'{known.title} knows: what is scored here is another set'
            )
        if known.sequences != self.sequences:
            return (
                f"the papers' scores are over {known.sequences or 'an unknown number of'} "
                f'sequences, here there are {self.sequences}'
            )
        return ''

    def marks(self, chart: str, places: Mapping[str, int]) -> list[Mark]:
        """For the chart 'success', 'precision', 'normalised_precision' or 'speed'.

        places: of what was measured, by its name.
        """
        found = []
        for label, tracker in self.shown.items():
            place = places.get(tracker.model) if tracker.model else None
            for x, y, name in self._points(chart, tracker):
                faint = bool(self.difference)
                found.append(Mark(label, name, x, y, f'#published-{label}', place, faint))
        return found

    def _points(
        self, chart: str, tracker: PublishedTracker
    ) -> Iterable[tuple[float | None, float, str]]:
        results = tracker.on(self.benchmark)
        if chart == 'speed':
            levels = [
                each.scores[name]
                for name in ('auc', 'ao')
                for each in results
                if name in each.scores
            ]
            for speed in tracker.speeds if levels else ():
                yield speed.rate_hz, levels[0], f'{tracker.name} on {speed.hardware}, published'
            return
        for score, x in _POINTS[chart].items():
            for result in results:
                if score in result.scores:
                    value = result.scores[score]
                    about = f'{tracker.name}: {_HEADS[score]} {value:.3f}, published'
                    yield x, value, f'{about} in {result.where}'


def tables(comparison: Comparison) -> str:
    """The published scores as HTML: those that the charts show, and those that they do not."""
    parts = ['<h2 id="published">Published</h2>']
    if comparison.shown:
        known = comparison.published.benchmarks[comparison.benchmark]
        warning = f' Not the same data: {comparison.difference}.' if comparison.difference else ''
        parts.append(
            f'<p class="note">What papers print on {_text(known.title)}, hollow in the charts, by '
            'letter. Nothing of it was measured here, and speeds are of their machines.'
            f'{_text(warning)}</p>'
        )
        parts.append(_shown_table(comparison))
    others = [
        (tracker, result)
        for tracker in comparison.published.trackers
        for result in tracker.results
        if result.benchmark.name != comparison.benchmark
    ]
    heads = ['benchmark', 'tracker', *_HEADS.values(), 'where']
    rows = [
        _row([_titled(result.benchmark), tracker.name, *_cells(result, SCORES)], tracker, result)
        for tracker, result in others
    ]
    parts.append(
        f'<details><summary>{len(others)} published results on other data: not comparable with '
        f'what is measured here, and not in the charts</summary>{_table(heads, rows)}</details>'
    )
    return ''.join(parts)


def _shown_table(comparison: Comparison) -> str:
    found = {label: each.on(comparison.benchmark) for label, each in comparison.shown.items()}
    used = {name for results in found.values() for each in results for name in each.scores}
    scores = [name for name in SCORES if name in used]
    rows = []
    for label, results in found.items():
        tracker = comparison.shown[label]
        for number, result in enumerate(results):
            speeds = '; '.join(map(_speed, tracker.speeds)) if number == 0 else ''
            cells = [label, tracker.name, *_cells(result, scores), speeds]
            anchor = f' id="published-{label}"' if number == 0 else ''
            rows.append(_row(cells, tracker, result, anchor))
    heads = ['', 'tracker', *(_HEADS[name] for name in scores), 'frames a second', 'where']
    return _table(heads, rows)


def _row(cells: Sequence[str], tracker: PublishedTracker, result: Result, anchor: str = '') -> str:
    where = f'{tracker.paper.venue}, {result.where}'
    notes = '; '.join(filter(None, [tracker.note, result.note]))
    small = f'<small>{_text(notes)}</small>' if notes else ''
    inside = ''.join(f'<td>{_text(cell)}</td>' for cell in cells)
    title = _text(tracker.paper.title)
    return f'<tr{anchor}>{inside}<td title="{title}">{_text(where)}{small}</td></tr>'


def _cells(result: Result, scores: Iterable[str]) -> list[str]:
    return [f'{result.scores[name]:.3f}' if name in result.scores else '-' for name in scores]


def _speed(speed: Speed) -> str:
    note = f' ({speed.note})' if speed.note else ''
    return f'{speed.rate_hz:g} on {speed.hardware}{note}'


def _titled(benchmark: Benchmark) -> str:
    return f'{benchmark.title} ({benchmark.set})'


def _table(heads: Iterable[str], rows: Iterable[str]) -> str:
    head = ''.join(f'<th>{_text(each)}</th>' for each in heads)
    return f'<table class="published"><tr>{head}</tr>{"".join(rows)}</table>'


def _labels() -> Iterator[str]:
    """Yields a, b, ..., z, aa, ab, ..."""
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            yield ''.join(letters)


def _text(text: str) -> str:
    return html.escape(text, quote=True)
