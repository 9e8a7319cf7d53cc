# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the running node made of sequences that were played into it: as text, as data, as HTML.

`tracker_ros.ros.replay` plays them; nothing here needs ROS.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tracker_ros.evaluation import charts
from tracker_ros.evaluation.charts import Series
from tracker_ros.evaluation.metrics import OVERLAP_THRESHOLDS, Array
from tracker_ros.evaluation.one_pass import Run
from tracker_ros.evaluation.report import by_tracker, format_table, mean_scores_of, numbers

_HEADS = (
    *('through the node', 'AUC', 'offline', 'diff', 'P@20', 'NP', 'AO', 'dropped', 'lost'),
    *('frames', 'age p50 ms', 'p95', 'max'),
)


@dataclass(frozen=True, eq=False)
class Replay:
    """What the node made of one sequence.

    run: boxes and confidences as a consumer held them; its times_s are nan.
    ages_s: (n,) from an image's stamp, which is when it was published, to its detection here;
    nan for the first frame and where no detection came.
    lateness_s: (n,) how much later than planned each frame was published.
    lost: frames whose detection said that the target is lost.
    """

    run: Run
    ages_s: Array
    lateness_s: Array
    lost: int

    @property
    def dropped(self) -> int:
        """Frames after the first for which no detection came."""
        return int(np.isnan(self.ages_s[1:]).sum())


def replay_table(replays: Sequence[Replay], offline: Sequence[Run]) -> str:
    """One line a model: scores through the node, the offline AUC beside them, drops and ages."""
    return format_table(_HEADS, _rows(replays, offline))


def _rows(replays: Sequence[Replay], offline: Sequence[Run]) -> list[list[str]]:
    offline_of = by_tracker(offline)
    rows = []
    for model, runs in by_tracker([each.run for each in replays]).items():
        own = [each for each in replays if each.run.tracker == model]
        scores = mean_scores_of(runs)
        same = _same_sequences(offline_of.get(model, []), runs)
        offline_auc = mean_scores_of(same).auc if same else float('nan')
        p50, p95, longest = age_quantiles_ms(own)
        rows.append(
            [
                model,
                f'{scores.auc:.3f}',
                f'{offline_auc:.3f}',
                f'{scores.auc - offline_auc:+.3f}',
                f'{scores.precision:.3f}',
                f'{scores.normalised_precision:.3f}',
                f'{scores.ao:.3f}',
                str(sum(each.dropped for each in own)),
                str(sum(each.lost for each in own)),
                str(scores.frames),
                f'{p50:.1f}',
                f'{p95:.1f}',
                f'{longest:.1f}',
            ]
        )
    return rows


def _same_sequences(runs: Sequence[Run], others: Sequence[Run]) -> list[Run]:
    names = {run.sequence.name for run in others}
    return [run for run in runs if run.sequence.name in names]


def as_dict(replays: Sequence[Replay], rate_hz: float) -> dict[str, object]:
    """Everything as plain data: `trackers` by name, with `runs` by sequence."""
    trackers: dict[str, dict[str, object]] = {}
    for model, runs in by_tracker([each.run for each in replays]).items():
        own = [each for each in replays if each.run.tracker == model]
        p50, p95, longest = age_quantiles_ms(own)
        trackers[model] = {
            **mean_scores_of(runs).as_dict(),
            'dropped': sum(each.dropped for each in own),
            'lost': sum(each.lost for each in own),
            'age_p50_ms': numbers(p50),
            'age_p95_ms': numbers(p95),
            'age_max_ms': numbers(longest),
            'runs': {each.run.sequence.name: _replay_as_dict(each) for each in own},
        }
    return {'rate_hz': rate_hz, 'trackers': trackers}


def age_quantiles_ms(replays: Sequence[Replay]) -> tuple[float, float, float]:
    """Median, 95th percentile and maximum of the ages; nan without a detection."""
    ages = np.concatenate([each.ages_s for each in replays])
    ages = ages[~np.isnan(ages)] * 1000
    if not len(ages):
        return float('nan'), float('nan'), float('nan')
    p50, p95, longest = np.percentile(ages, [50, 95, 100])
    return float(p50), float(p95), float(longest)


def section(
    replays: Sequence[Replay], offline: Sequence[Run], rate_hz: float, places: Mapping[str, int]
) -> str:
    """The part of the page about them. places: of the trackers' colours, by name."""
    if not replays:
        return ''
    models = by_tracker([each.run for each in replays])
    own = {model: [each for each in replays if each.run.tracker == model] for model in models}
    longest_ms = max(
        (age_quantiles_ms(each)[1] for each in own.values() if _ages_ms(each).size), default=0.0
    )
    # Twice the 95th percentile shows the body and the beginning of the tail.
    x_end = _round_up(2 * longest_ms) if longest_ms > 0 else 100.0
    ages = [
        Series(model, *_shares(_ages_ms(own[model]), x_end), places.get(model, 0))
        for model in models
    ]
    success = []
    for model, runs in models.items():
        for name, those, dashed in (
            (f'{model}, node', runs, True),
            (model, _same_sequences(by_tracker(offline).get(model, []), runs), False),
        ):
            if those:
                scores = mean_scores_of(those)
                curve = scores.success_curve.tolist()
                x, place = OVERLAP_THRESHOLDS.tolist(), places.get(model, 0)
                auc = f'{scores.auc:.3f}'
                success.append(Series(name, x, curve, place, '', dashed, auc))
    drawn = [
        charts.curves('Age of the answers', 'ms, at most', 'share of frames', x_end, ages),
        charts.curves(
            'Success through the node', 'overlap above', 'share of frames', 1.0, success
        ),
    ]
    clips = [
        [each.run.sequence.name, each.run.tracker, f'{each.run.scores.auc:.3f}']
        + [str(each.dropped), str(each.lost), str(len(each.run.sequence))]
        + [f'{value:.1f}' for value in age_quantiles_ms([each])]
        for each in replays
    ]
    heads = ['clip', 'tracker', 'AUC', 'dropped', 'lost', 'frames', 'age p50 ms', 'p95', 'max']
    return (
        f'<h2 id="through-ros">Through the node, at {rate_hz:g} frames a second</h2>'
        '<p class="note">The same sequences over DDS into the running node. A frame is dropped '
        'when no detection comes for it; like one that is reported lost, it keeps the last box. '
        'The age is the time from the publication of an image to its detection. Dashed: '
        'through the node; whole lines: offline. Where the ages end below 1, the rest was '
        f'dropped or is older.</p><div class="charts">{"".join(drawn)}</div>'
        f'{_html_table(_HEADS, _rows(replays, offline))}<details><summary>Each clip</summary>'
        f'{_html_table(heads, clips)}</details>'
    )


def _ages_ms(replays: Sequence[Replay]) -> Array:
    """Of all frames after the first; nan where dropped."""
    return np.concatenate([each.ages_s[1:] for each in replays]) * 1000


def _shares(ages_ms: Array, x_end: float) -> tuple[list[float], list[float]]:
    """Of all frames, those with an age of at most x; nan counts as none."""
    x = np.linspace(0.0, x_end, 101)
    shares = np.mean(ages_ms[:, None] <= x, axis=0) if len(ages_ms) else np.zeros(len(x))
    return x.tolist(), shares.tolist()


def _round_up(value: float) -> float:
    """To 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))


def _html_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        inside = ''.join(f'<{tag}>{html.escape(cell, quote=True)}</{tag}>' for cell in cells)
        return f'<tr>{inside}</tr>'

    return f'<table>{line("th", heads)}{"".join(line("td", row) for row in rows)}</table>'


def _replay_as_dict(each: Replay) -> dict[str, object]:
    return {
        **each.run.scores.as_dict(),
        'dropped': each.dropped,
        'lost': each.lost,
        'boxes': numbers(each.run.boxes),
        'confidences': numbers(each.run.confidences),
        'ages_ms': numbers(each.ages_s * 1000),
        'lateness_ms': numbers(each.lateness_s * 1000),
    }
