#!/usr/bin/env python3
# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""Score, confidence, state and truth over time, of a few clips of benchmarks/life.py.

    python benchmarks/life_plots.py DATA [DATA ...] --clip occlusion_2s/otb_Basketball/1000 \
        --clip jump_0s/uav123_bike1/1000 --out docs/images/life.png

Needs matplotlib: pip install -r requirements/benchmarks.txt
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from life import Stage, spec_of
from PIL import Image

from tracker_ros.evaluation.accounts import Claim, Follower, follow
from tracker_ros.evaluation.events import EventClip
from tracker_ros.evaluation.life_metrics import SEEN, Account, judge
from tracker_ros.evaluation.metrics import overlaps
from tracker_ros.evaluation.sequences import SequenceError
from tracker_ros.trackers import TrackerError
from tracker_ros.tracking import State

mpl.use('Agg')

from matplotlib import pyplot as plt

STATE_COLOURS = {
    State.STARTING: '#9ecae1',
    State.TRACKING: '#4daf4a',
    State.UNCERTAIN: '#ffb000',
    State.LOST: '#d7301f',
}
_STRIP = -0.09
"""Where the states are drawn, below the curves."""


def main() -> int:
    """Run the clips and draw one panel each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('data', nargs='+', type=Path, metavar='DATA')
    parser.add_argument('--model', default='vittrack')
    parser.add_argument('--clip', action='append', required=True, metavar='NAME')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE')
    args = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        stage = Stage(args.data, (args.model,), alone=True)
    except (SequenceError, TrackerError) as error:
        print(f'life_plots: {error}', file=sys.stderr)
        return 2
    figure, panels = plt.subplots(
        len(args.clip),
        1,
        figsize=(9, 2.5 * len(args.clip)),
        squeeze=False,
        layout='constrained',
        dpi=100,
    )
    for panel, name in zip(panels[:, 0], args.clip, strict=True):
        clip = stage.clip(spec_of(name))
        raw = np.full(len(clip), np.nan)
        account = followed(stage, clip, raw)
        print(judge(account))
        draw(panel, account, raw)
    panels[-1, 0].set_xlabel('s')
    handles, labels = panels[0, 0].get_legend_handles_labels()
    handles += [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in STATE_COLOURS.values()]
    labels += [state.name for state in STATE_COLOURS]
    figure.legend(handles, labels, loc='outside lower center', ncols=len(labels), fontsize=7)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    # Few colours, for a small file.
    picture.quantize(48, dither=Image.Dither.NONE).save(args.out, optimize=True)
    return 0


def followed(stage: Stage, clip: EventClip, raw: Any) -> Account:
    """What the model with life said; its raw scores go to `raw`."""

    def note(follower: Follower, number: int, claim: Claim) -> None:
        raw[number] = claim.raw

    return follow(clip, stage.followers, note)[0]


def draw(panel: Any, account: Account, raw: Any) -> None:
    """One clip."""
    clip = account.clip
    time_s = clip.stamps_s
    frame_s = 1 / clip.rate_hz
    overlap = np.nan_to_num(overlaps(account.boxes, clip.truth))
    # Curves end where frames are missing.
    gaps = np.flatnonzero(np.diff(time_s) > 1.5 * frame_s) + 1
    curve_s, overlap, raw, scores = (
        np.insert(values, gaps, np.nan) for values in (time_s, overlap, raw, account.scores)
    )
    panel.fill_between(curve_s, overlap, color='#d9e6f2', label='overlap with the truth')
    for gap in gaps:
        panel.axvspan(
            time_s[gap - 1], time_s[gap], facecolor='none', edgecolor='#aaaaaa', hatch='//'
        )
    for first, end in spans(clip.visible < SEEN):
        panel.axvspan(
            time_s[first] - frame_s / 2,
            time_s[end - 1] + frame_s / 2,
            color='#555555',
            alpha=0.28 if np.isnan(clip.truth[first:end, 0]).any() else 0.12,
            linewidth=0,
        )
    panel.plot(curve_s, raw, color='#8c6bb1', linewidth=0.9, label='raw score')
    panel.plot(curve_s, scores, color='#111111', linewidth=1.3, label='confidence')
    for state, colour in STATE_COLOURS.items():
        for first, end in spans(account.states == state):
            panel.barh(
                _STRIP,
                time_s[end - 1] - time_s[first] + frame_s,
                left=time_s[first] - frame_s / 2,
                height=0.12,
                color=colour,
                linewidth=0,
            )
    kind = clip.kind.replace('_', ' ')
    length = f', {clip.duration_s:g} s' if clip.duration_s else ''
    panel.set_title(f'{kind}{length}: {clip.source}, {account.tracker}', fontsize=9, loc='left')
    panel.set_ylim(_STRIP - 0.07, 1.02)
    panel.set_xlim(time_s[0], time_s[-1])
    panel.tick_params(labelsize=8)
    panel.spines[['top', 'right']].set_visible(False)


def spans(flags: Any) -> list[tuple[int, int]]:
    """First and end of each run of true."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False].astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


if __name__ == '__main__':
    sys.exit(main())
