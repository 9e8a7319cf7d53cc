# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What papers print about their trackers: `benchmarks/published.yaml`, read and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tracker_ros.resources import share_path

PER_CENT = ('auc', 'precision', 'normalised_precision', 'ao', 'sr50', 'sr75')
"""Scores that the file has in per cent and this module as shares, as `metrics.Scores` has them."""
OF_VOT = ('eao', 'accuracy', 'robustness')
SCORES = (*PER_CENT, *OF_VOT)

_PLACE = ('table', 'figure', 'section', 'note')


class PublishedScoresError(Exception):
    """The file cannot be used; the text names file and entry."""


@dataclass(frozen=True)
class Benchmark:
    """Of which set a score is. sequences: of the set, where known.

    withheld: the truth is known to the benchmark's server alone, so who scores here scores
    another set.
    """

    name: str
    title: str
    set: str
    sequences: int | None
    withheld: bool


@dataclass(frozen=True)
class Paper:
    """Where the numbers are from."""

    name: str
    title: str
    venue: str


@dataclass(frozen=True)
class Result:
    """Scores on one benchmark. scores: shares, by names of `SCORES`. where: table and section."""

    benchmark: Benchmark
    scores: Mapping[str, float]
    where: str
    note: str


@dataclass(frozen=True)
class Speed:
    """Frames a second on the paper's machine."""

    rate_hz: float
    hardware: str
    where: str
    note: str


@dataclass(frozen=True)
class PublishedTracker:
    """A tracker of a paper. model: the model package that is the same, or ''."""

    name: str
    paper: Paper
    model: str
    note: str
    speeds: tuple[Speed, ...]
    results: tuple[Result, ...]

    def on(self, benchmark: str) -> tuple[Result, ...]:
        """Its results there: several where several tables have different scores of it."""
        return tuple(each for each in self.results if each.benchmark.name == benchmark)


@dataclass(frozen=True)
class PublishedScores:
    """All of the file."""

    benchmarks: Mapping[str, Benchmark]
    trackers: tuple[PublishedTracker, ...]


def read_published_scores(path: Path | None = None) -> PublishedScores:
    """Read the file; without `path` the one that comes with the package.

    Raises PublishedScoresError that names the entry, with its value and what it must be.
    """
    try:
        path = share_path('benchmarks', 'published.yaml') if path is None else path
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise PublishedScoresError(
            f'{path or "published.yaml"}: cannot be read: {error}'
        ) from None
    whole = _Entry(str(path), content, ('benchmarks', 'papers', 'trackers'))
    benchmarks = {
        name: _benchmark(name, entry) for name, entry in whole.mapping('benchmarks').items()
    }
    papers = {
        name: Paper(name, entry.text('title'), entry.text('venue'))
        for name, entry in whole.mapping('papers', ('title', 'venue')).items()
    }
    trackers: list[PublishedTracker] = []
    for entry in whole.entries('trackers', 'name', _TRACKER):
        tracker = _tracker(entry, benchmarks, papers)
        if any(each.name == tracker.name for each in trackers):
            raise entry.error('name', tracker.name, 'a name that no other tracker has')
        trackers.append(tracker)
    return PublishedScores(benchmarks, tuple(trackers))


_TRACKER = ('name', 'paper', 'model', 'note', 'speeds', 'results')


def _benchmark(name: str, entry: _Entry) -> Benchmark:
    entry.only('title', 'set', 'sequences', 'withheld')
    sequences = entry.number('sequences', 1, 1e6) if 'sequences' in entry else None
    withheld = entry.get('withheld', False)
    if not isinstance(withheld, bool):
        raise entry.error('withheld', withheld, 'true or false')
    whole = None if sequences is None else round(sequences)
    return Benchmark(name, entry.text('title'), entry.text('set'), whole, withheld)


def _tracker(
    entry: _Entry, benchmarks: Mapping[str, Benchmark], papers: Mapping[str, Paper]
) -> PublishedTracker:
    speeds = []
    for each in entry.entries('speeds', 'hardware', ('rate_hz', 'hardware', *_PLACE)):
        rate_hz = each.number('rate_hz', 1e-3, 1e6)
        speeds.append(Speed(rate_hz, each.text('hardware'), _where(each), each.text('note', '')))
    results: list[Result] = []
    for each in entry.entries('results', 'benchmark', ('benchmark', *_PLACE, *SCORES)):
        result = _result(each, benchmarks)
        for other in results:
            twice = sorted(set(other.scores) & set(result.scores))
            if other.benchmark == result.benchmark and twice:
                raise each.error(twice[0], each.get(twice[0]), 'given once for each benchmark')
        results.append(result)
    if not results:
        raise entry.error('results', entry.get('results'), 'a list with at least one result')
    return PublishedTracker(
        entry.text('name'),
        entry.one_of('paper', papers),
        entry.text('model', ''),
        entry.text('note', ''),
        tuple(speeds),
        tuple(results),
    )


def _result(entry: _Entry, benchmarks: Mapping[str, Benchmark]) -> Result:
    scores = {name: entry.number(name, 0, 100) / 100 for name in PER_CENT if name in entry}
    scores.update({name: entry.number(name, 0, 1) for name in OF_VOT if name in entry})
    if not scores:
        raise entry.error('scores', None, f'at least one of {", ".join(SCORES)}')
    return Result(
        entry.one_of('benchmark', benchmarks), scores, _where(entry), entry.text('note', '')
    )


def _where(entry: _Entry) -> str:
    parts = [
        f'{kind} {round(entry.number(kind, 1, 999))}'
        for kind in ('table', 'figure')
        if kind in entry
    ]
    return ', '.join([*parts, f'section {entry.text("section")}'])


class _Entry:
    """A mapping of the file, and the way to it for messages."""

    def __init__(self, way: str, content: Any, known: Iterable[str] | None = None) -> None:
        if not isinstance(content, dict):
            raise PublishedScoresError(f'{way}: must be a mapping, not {content!r:.60}')
        self._way, self._content = way, content
        if known is not None:
            self.only(*known)

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def get(self, key: str, default: Any = None) -> Any:
        return self._content.get(key, default)

    def error(self, key: str, value: Any, wanted: str) -> PublishedScoresError:
        return PublishedScoresError(f'{self._way}: {key} must be {wanted}, not {value!r:.60}')

    def only(self, *known: str) -> None:
        for key in self._content:
            if key not in known:
                raise PublishedScoresError(
                    f'{self._way}: unknown key {key!r:.60}; there are {", ".join(known)}'
                )

    def text(self, key: str, default: str | None = None) -> str:
        value = self.get(key, default)
        if not isinstance(value, str) or (not value and default is None):
            raise self.error(key, value, 'a text')
        return value

    def number(self, key: str, least: float, most: float) -> float:
        value = self.get(key)
        # In Python True is a number as well; nan is in no range.
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.error(key, value, 'a number')
        if not least <= value <= most:
            raise self.error(key, value, f'between {least:g} and {most:g}')
        return float(value)

    def one_of(self, key: str, things: Mapping[str, Any]) -> Any:
        name = self.text(key)
        if name not in things:
            raise self.error(key, name, f'one of {", ".join(things)}')
        return things[name]

    def mapping(self, key: str, known: Iterable[str] | None = None) -> dict[str, _Entry]:
        return {
            str(name): _Entry(f'{self._way}: {key}.{name}', content, known)
            for name, content in _Entry(f'{self._way}: {key}', self.get(key))._content.items()
        }

    def entries(self, key: str, title: str, known: Iterable[str]) -> list[_Entry]:
        """Those of a list, which may be missing; `title` is the key that tells them apart."""
        content = self.get(key, [])
        if not isinstance(content, list):
            raise self.error(key, content, 'a list')
        found = []
        for number, each in enumerate(content, 1):
            name = each.get(title, '') if isinstance(each, dict) else ''
            found.append(_Entry(f'{self._way}: {key} {number} ({name!s:.60})', each, known))
        return found
