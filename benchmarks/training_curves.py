#!/usr/bin/env python3
# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""Curves of training runs: overlap, hits and presence on pairs of the validation sequences.

    python benchmarks/training_curves.py nano=runs/nano/curve.tsv \
        nano_192=runs/nano_192/curve.tsv \
        --line 'VitTrack=0.776,0.958' --out docs/images/training.png

Runs follow each other on the axis of samples. Needs matplotlib:
pip install -r requirements/benchmarks.txt
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use('Agg')

from matplotlib import pyplot as plt

PANELS = ('mean overlap', 'overlaps from 0.5', 'presence, AUROC')


def main() -> int:
    """Draw the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('runs', nargs='+', metavar='NAME=FILE')
    parser.add_argument('--line', action='append', default=[], metavar='NAME=OVERLAP,HITS')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE')
    args = parser.parse_args()
    figure, axes = plt.subplots(1, len(PANELS), figsize=(12, 3.4), constrained_layout=True)
    begin = 0.0
    for run in args.runs:
        name, _, file = run.partition('=')
        try:
            curve = np.loadtxt(file, ndmin=2)
        except (OSError, ValueError) as error:
            print(f'{run}: {error}', file=sys.stderr)
            return 1
        for axis, values in zip(axes, curve.T[1:4], strict=True):
            axis.plot((begin + curve[:, 0]) / 1e6, values, marker='.', label=name)
        begin += curve[-1, 0]
    for line in args.line:
        name, _, values = line.partition('=')
        for axis, value in zip(axes, values.split(','), strict=False):
            axis.axhline(float(value), color='grey', linestyle='--', label=name)
    for axis, title in zip(axes, PANELS, strict=True):
        axis.set(title=title, xlabel='million samples')
        axis.grid(alpha=0.3)
    axes[0].legend()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=90)
    print(f'written: {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
