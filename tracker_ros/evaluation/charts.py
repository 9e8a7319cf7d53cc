# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Charts as SVG text to stand in a page: curves, a radar, points. All texts are escaped here."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

COLOURS = (
    '#1f6fb4',
    '#d9541e',
    '#2a8f47',
    '#8a4fb0',
    '#b5891b',
    '#c2417c',
    '#3a9ea5',
    '#6b6b6b',
    '#7a4a2b',
    '#101010',
    '#94b82a',
    '#e58aa8',
)
"""In turn; from the second turn on the lines are dashed."""

_LETTER_PX = 6.5
"""About the width of a letter of a name."""

_OTHERS = '#555'
"""Of marks that belong to nothing that was measured."""

_WIDTH, _HEIGHT = 540, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 20, 34, 44
_LEGEND_LEFT, _LEGEND_STEP, _LEGEND_LETTERS = 386, 14, 22
"""Of the names of lines, to the right of them."""


@dataclass(frozen=True)
class Series:
    """A line or point of a chart. link: where a click leads, in the page; '' for nowhere.

    place: which of the colours it has. score: stands before the name of a line.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    place: int
    link: str = ''
    dashed: bool = False
    score: str = ''

    @property
    def label(self) -> str:
        """Score and name."""
        return f'{self.score} {self.name}'.lstrip()


@dataclass(frozen=True)
class Mark:
    """A number that others printed: a hollow point with a short label.

    x: None for a score that belongs to no place on the axis; it is a stroke at the right rim.
    place: of the series that it is the printed number of, if any. faint: of other data.
    """

    label: str
    name: str
    x: float | None
    y: float
    link: str = ''
    place: int | None = None
    faint: bool = False


def colour(place: int) -> str:
    """Of the thing with this number."""
    return COLOURS[place % len(COLOURS)]


def curves(
    title: str,
    x_label: str,
    y_label: str,
    x_end: float,
    series: Sequence[Series],
    marks: Sequence[Mark] = (),
) -> str:
    """Lines over x in [0, x_end] and y in [0, 1], and their names beside, highest score first."""
    axes = _Axes(0.0, x_end, right=_LEGEND_LEFT - 20)
    parts = [axes.frame(title, x_label, y_label, [x_end * step / 5 for step in range(6)])]
    for each in series:
        points = ' '.join(
            f'{axes.x(x):.1f},{axes.y(y):.1f}' for x, y in zip(each.x, each.y, strict=True)
        )
        line = (
            f'<polyline points="{points}" fill="none" {_stroke(each)}>'
            f'<title>{_text(each.label)}</title></polyline>'
        )
        parts.append(_linked(line, each.link))
    parts += _drawn(marks, axes)
    parts += _legend(series)
    return _svg(title, parts)


def scatter(
    title: str,
    x_label: str,
    y_label: str,
    series: Sequence[Series],
    marks: Sequence[Mark] = (),
) -> str:
    """Points with their names; x logarithmic, y in [0, 1]. The last point of a series is drawn."""
    shown = [each for each in series if each.x and each.x[-1] > 0 and math.isfinite(each.x[-1])]
    all_x = [each.x[-1] for each in shown] + [each.x for each in marks if each.x is not None]
    low, high = min(all_x, default=1.0), max(all_x, default=100.0)
    begin = 10 ** math.floor(math.log10(low))
    end = max(10 ** math.ceil(math.log10(high)), 10 * begin)
    axes = _Axes(begin, end, right=_WIDTH - _RIGHT, logarithmic=True)
    decades = round(math.log10(end / begin))
    parts = [
        axes.frame(title, x_label, y_label, [begin * 10**step for step in range(decades + 1)]),
        *_drawn(marks, axes),
    ]
    points = [(axes.x(each.x[-1]), axes.y(each.y[-1])) for each in shown]
    others = [(axes.x(each.x), axes.y(each.y)) for each in marks if each.x is not None]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    taken += [(x - 6, y - 6, x + 14, y + 6) for x, y in others]
    for each, (x, y) in zip(shown, points, strict=True):
        label_x, label_y, anchor, box = _free_place(x, y, len(each.name), taken)
        taken.append(box)
        mark = (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour(each.place)}"/>'
            f'<text x="{label_x:.1f}" y="{label_y:.1f}" text-anchor="{anchor}" '
            f'class="name">{_text(each.name)}</text>'
        )
        parts.append(_linked(mark, each.link))
    return _svg(title, parts)


def radar(title: str, spokes: Sequence[str], series: Sequence[Series]) -> str:
    """One closed line a series, a spoke a name; the rim is 1. `y` has a value for each spoke."""
    width, height, middle, radius = 720, 420, 270, 150
    parts = [f'<text x="{middle}" y="20" text-anchor="middle" class="title">{_text(title)}</text>']
    angles = [2 * math.pi * index / len(spokes) - math.pi / 2 for index in range(len(spokes))]

    def place(angle: float, share: float) -> tuple[float, float]:
        length = radius * share
        return middle + length * math.cos(angle), height / 2 + 10 + length * math.sin(angle)

    for share in (0.25, 0.5, 0.75, 1.0):
        rim = ' '.join('{:.1f},{:.1f}'.format(*place(angle, share)) for angle in angles)
        parts.append(f'<polygon points="{rim}" class="grid"/>')
        x, y = place(-math.pi / 2, share)
        parts.append(f'<text x="{x + 3:.1f}" y="{y + 11:.1f}" class="tick">{share:g}</text>')
    for angle, name in zip(angles, spokes, strict=True):
        (x, y), (label_x, label_y) = place(angle, 1.0), place(angle, 1.09)
        parts.append(f'<path d="M{middle} {height / 2 + 10}L{x:.1f} {y:.1f}" class="grid"/>')
        lean = math.cos(angle)
        anchor = 'middle' if abs(lean) < 0.2 else ('start' if lean > 0 else 'end')
        parts.append(
            f'<text x="{label_x:.1f}" y="{label_y + 4:.1f}" text-anchor="{anchor}" '
            f'class="tick">{_text(name)}</text>'
        )
    for each in series:
        points = ' '.join(
            '{:.1f},{:.1f}'.format(*place(angle, value if math.isfinite(value) else 0.0))
            for angle, value in zip(angles, each.y, strict=True)
        )
        line = (
            f'<polygon points="{points}" fill="none" {_stroke(each)}>'
            f'<title>{_text(each.name)}</title></polygon>'
        )
        parts.append(_linked(line, each.link))
    parts += _legend(series, width - (_WIDTH - _LEGEND_LEFT), height)
    return _svg(title, parts, width, height)


def _legend(
    series: Sequence[Series], left: float = _LEGEND_LEFT, height: float = _HEIGHT
) -> list[str]:
    """As many names as there is room for."""
    room = int(height - _TOP - _BOTTOM) // _LEGEND_STEP
    ordered = sorted(series, key=lambda each: each.score, reverse=True)
    shown = ordered if len(ordered) <= room else ordered[: room - 1]
    parts = []
    for row, each in enumerate(shown):
        y = _TOP + 8 + row * _LEGEND_STEP
        entry = (
            f'<path d="M{left} {y - 4}h16" {_stroke(each)}/><text x="{left + 21}" '
            f'y="{y}" class="legend"><title>{_text(each.label)}</title>'
            f'{_text(_short(each))}</text>'
        )
        parts.append(_linked(entry, each.link))
    if len(shown) < len(ordered):
        y = _TOP + 8 + len(shown) * _LEGEND_STEP
        parts.append(
            f'<text x="{left + 21}" y="{y}" class="legend">and '
            f'{len(ordered) - len(shown)} more</text>'
        )
    return parts


def _short(series: Series) -> str:
    """A label that fits its place: the end of a path tells more than its beginning."""
    room = _LEGEND_LETTERS - len(series.label) + len(series.name)
    name = series.name if len(series.name) <= room else f'…{series.name[1 - room :]}'
    return f'{series.score} {name}'.lstrip()


def _stroke(series: Series) -> str:
    dashed = series.dashed or series.place >= len(COLOURS)
    dash = ' stroke-dasharray="6 4"' if dashed else ''
    return f'stroke="{colour(series.place)}" stroke-width="2"{dash}'


def _free_place(
    x: float, y: float, letters: int, taken: Sequence[tuple[float, float, float, float]]
) -> tuple[float, float, str, tuple[float, float, float, float]]:
    """Where the name of a point stands: as near as nothing else is, and inside the axes.

    Returns x, y and anchor of the text, and its left, top, right and bottom.
    """
    width = letters * _LETTER_PX
    for shift in sorted(range(-120, 121, 6), key=abs):
        for anchor, label_x in (('start', x + 8), ('end', x - 8)):
            left = label_x if anchor == 'start' else label_x - width
            box = (left, y + shift - 6, left + width, y + shift + 6)
            inside = left >= _LEFT and left + width <= _WIDTH and box[3] < _HEIGHT - _BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                return label_x, y + shift + 4, anchor, box
    return x + 8, y + 4, 'start', (x + 8, y - 6, x + 8 + width, y + 6)


def _overlap(
    one: tuple[float, float, float, float], other: tuple[float, float, float, float]
) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@dataclass(frozen=True)
class _Axes:
    """From `begin` at the left to `end` at `right` px; y from 0 to 1."""

    begin: float
    end: float
    right: float
    logarithmic: bool = False

    def x(self, value: float) -> float:
        if self.logarithmic:
            share = math.log(value / self.begin) / math.log(self.end / self.begin)
        else:
            share = (value - self.begin) / (self.end - self.begin)
        return _LEFT + share * (self.right - _LEFT)

    @staticmethod
    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - value * (_HEIGHT - _TOP - _BOTTOM)

    def frame(self, title: str, x_label: str, y_label: str, ticks: Sequence[float]) -> str:
        bottom, middle_x = self.y(0.0), (_LEFT + self.right) / 2
        parts = [
            f'<text x="{middle_x}" y="20" text-anchor="middle" class="title">{_text(title)}</text>'
        ]
        for step in range(6):
            y = self.y(step / 5)
            parts.append(f'<path d="M{_LEFT} {y:.1f}H{self.right}" class="grid"/>')
            parts.append(
                f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" class="tick">'
                f'{step / 5:g}</text>'
            )
        for tick in ticks:
            x = self.x(tick)
            parts.append(f'<path d="M{x:.1f} {_TOP}V{bottom:.1f}" class="grid"/>')
            parts.append(
                f'<text x="{x:.1f}" y="{bottom + 16:.1f}" text-anchor="middle" class="tick">'
                f'{tick:g}</text>'
            )
        parts.append(
            f'<text x="{middle_x}" y="{_HEIGHT - 8}" text-anchor="middle" class="label">'
            f'{_text(x_label)}</text>'
        )
        middle = (_TOP + bottom) / 2
        parts.append(
            f'<text x="14" y="{middle:.1f}" transform="rotate(-90 14 {middle:.1f})" '
            f'text-anchor="middle" class="label">{_text(y_label)}</text>'
        )
        return ''.join(parts)


def _drawn(marks: Sequence[Mark], axes: _Axes) -> list[str]:
    """The marks, highest first; a label that would stand on another goes a step further."""
    parts: list[str] = []
    taken: list[tuple[float, float]] = []
    for each in sorted(marks, key=lambda each: -each.y):
        y = axes.y(each.y)
        line = colour(each.place) if each.place is not None else _OTHERS
        style = f'fill="none" stroke="{line}" stroke-width="1.5"'
        if each.x is None:
            x, step = axes.right - 12.0, -9.0
            label_x = x - 4
            shape = f'<path d="M{x:.1f} {y:.1f}h12" {style}/>'
        else:
            x, step = axes.x(each.x), 9.0
            label_x = x + 10
            shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" {style}/>'
        while any(abs(y - at_y) < 9 and abs(label_x - at_x) < 9 for at_x, at_y in taken):
            label_x += step
        taken.append((label_x, y))
        opacity = ' opacity="0.55"' if each.faint else ''
        mark = (
            f'<g{opacity}><title>{_text(each.name)}</title>{shape}<text x="{label_x:.1f}" '
            f'y="{y + 3:.1f}" text-anchor="middle" class="mark">{_text(each.label)}</text></g>'
        )
        parts.append(_linked(mark, each.link))
    return parts


def _svg(title: str, parts: Sequence[str], width: int = _WIDTH, height: int = _HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{_text(title)}">{"".join(parts)}</svg>'
    )


def _linked(part: str, link: str) -> str:
    return f'<a href="{_text(link)}">{part}</a>' if link else part


def _text(text: str) -> str:
    return html.escape(text, quote=True)
