# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""An evaluation as one HTML page that needs no other file and no network.

Names come from folders and files of others, so every text is escaped.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

import numpy as np

from tracker_ros.evaluation import charts
from tracker_ros.evaluation.charts import Mark, Series
from tracker_ros.evaluation.comparison import Comparison, tables
from tracker_ros.evaluation.metrics import (
    ERROR_THRESHOLDS_PX,
    NORMALISED_ERROR_THRESHOLDS,
    OVERLAP_THRESHOLDS,
    Scores,
    intervals,
)
from tracker_ros.evaluation.one_pass import Failure, Run, median_rate_hz
from tracker_ros.evaluation.report import by_attribute, by_tracker, mean_scores_of
from tracker_ros.evaluation.through_node import Replay, section
from tracker_ros.evaluation.worst import WorstFrame, worst_frames

_FEWEST_SPOKES = 3
_COLUMNS = (
    ('auc', 'AUC'),
    ('precision', 'P@20'),
    ('normalised_precision', 'NP'),
    ('ao', 'AO'),
    ('sr50', 'SR.5'),
    ('sr75', 'SR.75'),
)

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1b1b1b; margin: 2rem auto; max-width: 1140px;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; }
p.note { color: #555; margin: .3rem 0 1rem; }
table { border-collapse: collapse; margin: .6rem 0; }
th, td { padding: .25rem .5rem; text-align: right; border-bottom: 1px solid #e2e2e2; }
th:first-child, td:first-child { text-align: left; }
td.who { white-space: nowrap; } td small { white-space: nowrap; }
th { font-weight: 600; border-bottom-color: #888; }
td small { color: #777; display: block; font-size: .72rem; }
table.published { font-size: .8rem; } table.published td:nth-child(2) { text-align: left; }
tr:target { background: #fff4c2; } details { margin: 1rem 0; } summary { cursor: pointer; }
.best { font-weight: 700; } .best small { font-weight: 400; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .45em; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; }
.frames { display: grid; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: 1rem; }
.wide { overflow-x: auto; } .wide table { font-size: .74rem; } .wide th { white-space: nowrap; }
.wide th, .wide td { padding: .25rem .3rem; }
svg { max-width: 100%; height: auto; } svg .grid { stroke: #dcdcdc; fill: none; }
svg text { font-family: inherit; fill: #333; } svg .title { font-size: 14px; font-weight: 600; }
svg .mark { font-size: 9px; } svg .legend { font-size: 11px; }
svg .tick { font-size: 11px; fill: #666; } svg .label, svg .name { font-size: 12px; }
figure { margin: 0; max-width: 360px; } figcaption { font-size: .85rem; color: #444; }
img { display: block; max-width: 100%; } a { color: #1f5f9c; } .failed { color: #a3201a; }
"""


def page(
    title: str,
    runs: Sequence[Run],
    failures: Iterable[Failure],
    problems: Iterable[str] = (),
    comparison: Comparison | None = None,
    through_node: tuple[Sequence[Replay], float] | None = None,
    about: str = '',
) -> str:
    """The page as text. runs: of sequences whose truth is known; there may be none.

    problems: what was left out of the data, and why. comparison: what papers print.
    through_node: what the running node made of the sequences, and frames a second. about:
    versions and machine, for the head of the page.
    """
    groups = by_tracker(runs)
    scores = {tracker: mean_scores_of(own) for tracker, own in groups.items()}
    order = sorted(groups, key=lambda tracker: -scores[tracker].auc)
    worst = worst_frames(groups)
    sequences = {run.sequence.name: len(run.sequence) for run in runs}
    made = f'<br>{_text(about)}' if about else ''
    body = [
        f'<h1>{_text(title)}</h1>',
        f'<p class="note">{len(sequences)} sequences, {sum(sequences.values())} frames, '
        f'{len(order)} trackers. Below each score: where it lies with 95 % confidence over '
        'sequences like these (bootstrap). fps: of the tracker alone, without decoding, on the '
        f'machine and beside the load that its runs had.{made}</p>',
        _failures(failures, problems),
    ]
    if groups:
        body += [
            _summary(order, groups, scores),
            _charts(order, groups, scores, comparison),
            _attributes(order, groups),
            _through_node(order, runs, through_node),
            *(
                _tracker(place, tracker, groups[tracker], worst[tracker])
                for place, tracker in enumerate(order)
            ),
            _clips(order, groups),
        ]
    if comparison is not None:
        body.append(tables(comparison))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{_text(title)}</title><style>{_STYLE}</style></head><body>\n'
        + '\n'.join(filter(None, body))
        + '\n</body></html>\n'
    )


def _summary(order: list[str], groups: dict[str, list[Run]], scores: dict[str, Scores]) -> str:
    best = {
        name: max((getattr(each, name) for each in scores.values()), default=np.nan)
        for name, _ in _COLUMNS
    }
    dropped = {tracker: sum(run.dropped for run in groups[tracker]) for tracker in order}
    rows = []
    for place, tracker in enumerate(order):
        ends = intervals([run.errors for run in groups[tracker]])
        cells = [
            f'<td class="who">{_key(place)}<a href="#{_anchor(place)}">{_text(tracker)}</a></td>'
        ]
        for name, _ in _COLUMNS:
            value = getattr(scores[tracker], name)
            mark = ' class="best"' if value == best[name] else ''
            low, high = ends[name]
            cells.append(f'<td{mark}>{value:.3f}<small>{low:.3f} to {high:.3f}</small></td>')
        cells.append(f'<td>{median_rate_hz(groups[tracker]):.1f}</td>')
        cells.append(f'<td>{len(groups[tracker])}</td>')
        if any(dropped.values()):
            cells.append(f'<td>{dropped[tracker]}</td>')
        rows.append(f'<tr>{"".join(cells)}</tr>')
    heads = ''.join(f'<th>{label}</th>' for _, label in _COLUMNS)
    unseen = '<th>frames not seen</th>' if any(dropped.values()) else ''
    return (
        f'<table><tr><th>tracker</th>{heads}<th>fps</th><th>sequences</th>{unseen}</tr>'
        f'{"".join(rows)}</table>'
    )


def _charts(
    order: list[str],
    groups: dict[str, list[Run]],
    scores: dict[str, Scores],
    comparison: Comparison | None,
) -> str:
    def series(curve: str, thresholds: np.ndarray, label: str) -> list[Series]:
        return [
            Series(
                tracker,
                thresholds.tolist(),
                getattr(scores[tracker], curve).tolist(),
                place,
                f'#{_anchor(place)}',
                score=f'{getattr(scores[tracker], label):.3f}',
            )
            for place, tracker in enumerate(order)
        ]

    def marks(chart: str) -> list[Mark]:
        places = {tracker: place for place, tracker in enumerate(order)}
        return comparison.marks(chart, places) if comparison is not None else []

    speed = [
        Series(
            tracker,
            [median_rate_hz(groups[tracker])],
            [scores[tracker].auc],
            place,
            f'#{_anchor(place)}',
        )
        for place, tracker in enumerate(order)
    ]
    share = 'share of frames'
    drawn = [
        charts.curves(
            'Success (AUC)',
            'overlap above',
            share,
            1.0,
            series('success_curve', OVERLAP_THRESHOLDS, 'auc'),
            marks('success'),
        ),
        charts.curves(
            'Precision (at 20 px)',
            'centre within, px',
            share,
            50.0,
            series('precision_curve', ERROR_THRESHOLDS_PX, 'precision'),
            marks('precision'),
        ),
        charts.curves(
            'Normalised precision (at 0.2)',
            'centre within, of the size of the target',
            share,
            0.5,
            series(
                'normalised_precision_curve', NORMALISED_ERROR_THRESHOLDS, 'normalised_precision'
            ),
            marks('normalised_precision'),
        ),
        charts.scatter('Speed and accuracy', 'frames a second', 'AUC', speed, marks('speed')),
    ]
    return (
        '<h2>Curves</h2><p class="note">A line leads to the clips of its tracker.'
        f'{_about_marks(comparison)}</p><div class="charts">{"".join(drawn)}</div>'
    )


def _through_node(
    order: list[str], runs: Sequence[Run], through_node: tuple[Sequence[Replay], float] | None
) -> str:
    if through_node is None:
        return ''
    places = {tracker: place for place, tracker in enumerate(order)}
    return section(through_node[0], runs, through_node[1], places)


def _about_marks(comparison: Comparison | None) -> str:
    if comparison is None:
        return ''
    if not comparison.shown:
        return f' No <a href="#published">published scores</a> are drawn: {comparison.difference}.'
    where = ' <a href="#published">Published scores</a> are hollow, an AUC a stroke at the right.'
    unlike = comparison.difference
    return where + (f' <b>Not on the same data: {_text(unlike)}.</b>' if unlike else '')


def _attributes(order: list[str], groups: dict[str, list[Run]]) -> str:
    found = {tracker: by_attribute(groups[tracker]) for tracker in order}
    counts: dict[str, int] = {}
    for own in found.values():
        for name, those in own.items():
            counts[name] = max(counts.get(name, 0), len(those))
    if not counts:
        return ''
    spokes = sorted(counts)
    aucs = {
        tracker: [
            mean_scores_of(own[name]).auc if name in own else float('nan') for name in spokes
        ]
        for tracker, own in found.items()
    }
    lines = [
        Series(tracker, (), aucs[tracker], place, f'#{_anchor(place)}')
        for place, tracker in enumerate(order)
    ]
    rows = ''.join(
        f'<tr><td>{_text(name)}</td><td>{counts[name]}</td>'
        + ''.join(
            f'<td>{aucs[tracker][index]:.3f}</td>'
            if np.isfinite(aucs[tracker][index])
            else '<td>-</td>'
            for tracker in order
        )
        + '</tr>'
        for index, name in enumerate(spokes)
    )
    heads = ''.join(f'<th>{_key(place)}{_text(name)}</th>' for place, name in enumerate(order))
    drawn = (
        charts.radar('AUC by attribute', spokes, lines) if len(spokes) >= _FEWEST_SPOKES else ''
    )
    return (
        f'<h2>Attributes</h2>{drawn}<div class="wide"><table><tr><th>AUC</th><th>sequences</th>'
        f'{heads}</tr>{rows}</table></div>'
    )


def _tracker(place: int, tracker: str, runs: list[Run], worst: list[WorstFrame]) -> str:
    figures = ''.join(
        f'<figure>{_image(each)}<figcaption><a href="#{_clip(each.run.sequence.name)}">'
        f'{_text(each.run.sequence.name)}</a>, frame {each.frame}: overlap {each.overlap:.2f}'
        f'</figcaption></figure>'
        for each in worst
    )
    clips = ', '.join(
        f'<a href="#{_clip(run.sequence.name)}">{_text(run.sequence.name)}</a> '
        f'{run.scores.auc:.3f}'
        for run in sorted(runs, key=lambda run: run.scores.auc)
    )
    return (
        f'<h2 id="{_anchor(place)}">{_key(place)}{_text(tracker)}</h2>'
        f'<p class="note">AUC by clip, worst first: {clips}</p>'
        '<p class="note">Where it was worst; green is true, red is found. Small targets are shown '
        'near.</p>'
        f'<div class="frames">{figures}</div>'
    )


def _clips(order: list[str], groups: dict[str, list[Run]]) -> str:
    found = {tracker: {run.sequence.name: run for run in groups[tracker]} for tracker in order}
    names = list(dict.fromkeys(name for own in found.values() for name in own))
    rows = []
    for name in names:
        runs = [found[tracker].get(name) for tracker in order]
        aucs = [run.scores.auc if run is not None else float('nan') for run in runs]
        best = np.nanmax(aucs)
        cells = ''.join(
            f'<td{" class=best" if auc == best else ""}>{auc:.3f}</td>'
            if np.isfinite(auc)
            else '<td>-</td>'
            for auc in aucs
        )
        known = next(run for run in runs if run is not None).sequence
        about = ', '.join(known.attributes)
        text = f'<small>{_text(known.text)}</small>' if known.text else ''
        more = f'<small>{_text(about)}</small>' if about else ''
        rows.append(
            f'<tr id="{_clip(name)}"><td>{_text(name)}{text}{more}</td><td>{len(known)}</td>'
            f'<td>{known.width} x {known.height}</td>{cells}</tr>'
        )
    heads = ''.join(
        f'<th>{_key(place)}<a href="#{_anchor(place)}">{_text(name)}</a></th>'
        for place, name in enumerate(order)
    )
    return (
        '<h2>Clips (AUC)</h2><div class="wide"><table><tr><th>clip</th><th>frames</th><th>px</th>'
        f'{heads}</tr>{"".join(rows)}</table></div>'
    )


def _failures(failures: Iterable[Failure], problems: Iterable[str]) -> str:
    lines = [f'left out: {problem}' for problem in problems]
    lines += [f'{each.tracker} failed on {each.sequence}: {each.reason}' for each in failures]
    if not lines:
        return ''
    items = ''.join(f'<li>{_text(line)}</li>' for line in lines)
    return f'<h2 class="failed">Not scored</h2><ul class="failed">{items}</ul>'


def _image(worst: WorstFrame) -> str:
    if not worst.jpeg:
        return '<p class="note">The picture cannot be read.</p>'
    content = base64.b64encode(worst.jpeg).decode()
    return f'<img alt="{_text(worst.run.sequence.name)}" src="data:image/jpeg;base64,{content}">'


def _anchor(place: int) -> str:
    return f'tracker-{place}'


def _clip(name: str) -> str:
    """An anchor that holds nothing of the name but letters and digits of its bytes."""
    return f'clip-{name.encode().hex()}'


def _key(place: int) -> str:
    return f'<span class="key" style="background:{charts.colour(place)}"></span>'


def _text(text: str) -> str:
    return html.escape(text, quote=True)
