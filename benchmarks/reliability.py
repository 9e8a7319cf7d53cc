#!/usr/bin/env python3
# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Draws reliability diagrams from what `tracker_ros models calibrate --json` has written.

    python benchmarks/reliability.py benchmarks/results/confidence_*.json --out reliability.png

Needs matplotlib (requirements/benchmarks.txt). The table of the same figures is printed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

CONFIDENCE, RAW, GRID = '#2563a8', '#b8b8b8', '#dddddd'


def main() -> int:
    """Print the table and draw the diagrams."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('files', nargs='+', type=Path, metavar='JSON')
    parser.add_argument('--part', default='checked', help='checked (default) or fitted')
    parser.add_argument('--out', type=Path, metavar='PNG', help='without it only the table')
    args = parser.parse_args()
    results = {}
    for path in args.files:
        document = json.loads(path.read_text(encoding='utf-8'))
        results[document['model']] = document[args.part]
    print(table(results))
    if args.out:
        draw(results, args.out)
    return 0


def table(results: dict[str, dict[str, Any]]) -> str:
    """One row a model, as Markdown."""
    lines = [
        '| | frames | on target | ECE | equal mass | AUROC | Brier | raw score: ECE | AUROC |',
        '|---|---|---|---|---|---|---|---|---|',
    ]
    for name, result in results.items():
        own, raw = result['quality'], result['raw_score']
        lines.append(
            f'| {name} | {own["frames"]} | {own["on_target"]:.0%} | {own["ece"]:.3f} | '
            f'{own["ece_equal_mass"]:.3f} | {own["auroc"]:.3f} | {own["brier"]:.3f} | '
            f'{raw["ece"]:.3f} | {raw["auroc"]:.3f} |'
        )
    return '\n'.join(lines)


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    """A diagram for each model: share on the target over what was told, and how often."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    columns = len(results)
    figure, axes = pyplot.subplots(
        2, columns, figsize=(2.7 * columns, 3.7), squeeze=False, sharex=True, sharey='row',
        gridspec_kw={'height_ratios': [3, 1]},
    )  # fmt: skip
    for column, (name, result) in enumerate(results.items()):
        upper, lower = axes[0][column], axes[1][column]
        upper.plot([0, 1], [0, 1], color=GRID, linewidth=1, zorder=0)
        for part, colour, label in (('raw_score', RAW, 'score'), ('quality', CONFIDENCE,
                                                                 'confidence')):  # fmt: skip
            bins = [each for each in result[part]['bins'] if each['frames'] >= 10]
            told = [each['probability'] for each in bins]
            true = [each['on_target'] for each in bins]
            upper.plot(told, true, 'o-', color=colour, markersize=3, linewidth=1, label=label)
        bins = result['quality']['bins']
        places = [(number + 0.5) / len(bins) for number in range(len(bins))]
        total = sum(each['frames'] for each in bins)
        shares = [each['frames'] / total for each in bins]
        lower.bar(places, shares, width=0.9 / len(bins), color=CONFIDENCE)
        upper.set_title(
            f'{name}\nECE {result["quality"]["ece"]:.3f}, AUROC {result["quality"]["auroc"]:.3f}',
            fontsize=8,
        )
        lower.set_xlabel('told', fontsize=8)
        for each in (upper, lower):
            each.set_xlim(0, 1)
            each.tick_params(labelsize=7)
            each.spines[['top', 'right']].set_visible(False)
    axes[0][0].set_ylim(0, 1)
    axes[0][0].set_ylabel('on the target', fontsize=8)
    axes[1][0].set_ylabel('frames', fontsize=8)
    axes[0][0].legend(fontsize=7, frameon=False, loc='upper left')
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == '__main__':
    raise SystemExit(main())
