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
)
"""In turn; from the second turn on the lines are dashed."""

_LETTER_PX = 6.5
"""About the width of a letter of a name."""

_OTHERS = '#555'
"""Of marks that belong to nothing that was measured."""

_WIDTH, _HEIGHT = 480, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 34, 44


@dataclass(frozen=True)
class Series:
    """A line or point of a chart. link: where a click leads, in the page; '' for nowhere.

    place: which of the colours it has.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    place: int
    link: str = ''
    dashed: bool = False


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
    """Lines over x in [0, x_end] and y in [0, 1]."""
    axes = _Axes(0.0, x_end, logarithmic=False)
    parts = [axes.frame(title, x_label, y_label, [x_end * step / 5 for step in range(6)])]
    for each in series:
        points = ' '.join(
            f'{axes.x(x):.1f},{axes.y(y):.1f}' for x, y in zip(each.x, each.y, strict=True)
        )
        dashed = each.dashed or each.place >= len(COLOURS)
        dash = ' stroke-dasharray="6 4"' if dashed else ''
        line = (
            f'<polyline points="{points}" fill="none" stroke="{colour(each.place)}" '
            f'stroke-width="2"{dash}><title>{_text(each.name)}</title></polyline>'
        )
        parts.append(_linked(line, each.link))
    parts += _drawn(marks, axes)
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
    axes = _Axes(begin, end, logarithmic=True)
    decades = round(math.log10(end / begin))
    parts = [
        axes.frame(title, x_label, y_label, [begin * 10**step for step in range(decades + 1)]),
        *_drawn(marks, axes),
    ]
    points = [(axes.x(each.x[-1]), axes.y(each.y[-1])) for each in shown]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in points]
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
    side, middle, radius = 520, 260, 165
    parts = [f'<text x="{middle}" y="20" text-anchor="middle" class="title">{_text(title)}</text>']
    angles = [2 * math.pi * index / len(spokes) - math.pi / 2 for index in range(len(spokes))]

    def place(angle: float, share: float) -> tuple[float, float]:
        length = radius * share
        return middle + length * math.cos(angle), middle + 10 + length * math.sin(angle)

    for share in (0.25, 0.5, 0.75, 1.0):
        rim = ' '.join('{:.1f},{:.1f}'.format(*place(angle, share)) for angle in angles)
        parts.append(f'<polygon points="{rim}" class="grid"/>')
        x, y = place(-math.pi / 2, share)
        parts.append(f'<text x="{x + 3:.1f}" y="{y + 11:.1f}" class="tick">{share:g}</text>')
    for angle, name in zip(angles, spokes, strict=True):
        (x, y), (label_x, label_y) = place(angle, 1.0), place(angle, 1.09)
        parts.append(f'<path d="M{middle} {middle + 10}L{x:.1f} {y:.1f}" class="grid"/>')
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
            f'<polygon points="{points}" fill="{colour(each.place)}" fill-opacity="0.06" '
            f'stroke="{colour(each.place)}" stroke-width="2"><title>{_text(each.name)}</title>'
            '</polygon>'
        )
        parts.append(_linked(line, each.link))
    return _svg(title, parts, side, side)


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
    begin: float
    end: float
    logarithmic: bool

    def x(self, value: float) -> float:
        if self.logarithmic:
            share = math.log(value / self.begin) / math.log(self.end / self.begin)
        else:
            share = (value - self.begin) / (self.end - self.begin)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    @staticmethod
    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - value * (_HEIGHT - _TOP - _BOTTOM)

    def frame(self, title: str, x_label: str, y_label: str, ticks: Sequence[float]) -> str:
        bottom = self.y(0.0)
        parts = [
            f'<text x="{_WIDTH / 2}" y="20" text-anchor="middle" class="title">'
            f'{_text(title)}</text>'
        ]
        for step in range(6):
            y = self.y(step / 5)
            parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" class="grid"/>')
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
            f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 8}" text-anchor="middle" '
            f'class="label">{_text(x_label)}</text>'
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
            x, step = _WIDTH - _RIGHT - 12.0, -9.0
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
