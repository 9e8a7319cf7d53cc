#!/usr/bin/env python3
# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What trackers know about their target's life: with the life of `tracker_ros.tracking`, and bare.

    python benchmarks/life.py DATA [DATA ...] --json out/life.json --markdown out/life.md
    python benchmarks/life.py DATA --quick --model vittrack --failures
    python benchmarks/life.py DATA --model vittrack --only occlusion_2s/otb_Basketball/3 --trace

DATA are folders of annotated sequences. Events are composed on them (`evaluation.events`), and all
trackers run over the same frames: each model with the life of its target, the same model bare
(two thresholds on its raw score), and OpenCV's TrackerVit and TrackerNano as OpenCV has them.
The sequences themselves, undisturbed, give AUC and the time of a frame with and without.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from tracker_ros.evaluation import life_metrics
from tracker_ros.evaluation.accounts import (
    LOOK_S,
    Bare,
    Claim,
    Follower,
    NominalPace,
    Peer,
    WithLife,
    follow,
)
from tracker_ros.evaluation.events import OCCLUSIONS_S, EventClip, compose, undisturbed
from tracker_ros.evaluation.life_metrics import Account, Verdict, judge, tally
from tracker_ros.evaluation.metrics import overlaps, score_sequence
from tracker_ros.evaluation.peers import create_peer
from tracker_ros.evaluation.report import format_table
from tracker_ros.evaluation.sequences import Sequence, SequenceError, read_sequences
from tracker_ros.trackers import Tracker, TrackerError, create
from tracker_ros.tracking import Session, State, Thresholds

MODELS = ('nano', 'vittrack', 'nanotrack_v3', 'nanotrack_v2')
WITH, BARE = '', ' bare'
"""What is added to a model's name."""
RAW_THRESHOLDS = {
    'nano': Thresholds(lost=0.30, sure=0.60),
    'vittrack': Thresholds(lost=0.20, sure=0.35),
    'nanotrack_v2': Thresholds(lost=0.35, sure=0.60),
    'nanotrack_v3': Thresholds(lost=0.35, sure=0.60),
}
"""Of the raw scores of bare models."""
NANO_LEAST_SCORE = 0.35
"""TrackerNano says of every frame that the target was found; its score is what there is."""

DARK_BY_ITSELF = {'tld_david'}
"""With a tenth of its light nothing at all could be seen of these."""

# Of each kind: length in seconds (None: drawn for each clip), clips in all and when quick.
PLAN: tuple[tuple[str, float | None, int, int], ...] = (
    *(('occlusion', length, 36 if length == 2.0 else 10, 6 if length == 2.0 else 2)
      for length in OCCLUSIONS_S),
    ('leave_and_return', None, 14, 4),
    ('crossing', None, 14, 3),
    ('cut', None, 14, 3),
    ('jump', None, 10, 2),
    ('drop', None, 10, 2),
    ('dark', None, 10, 2),
)  # fmt: skip
# First and end of the frames in which something of the footage's own hides most of the target,
# although it is annotated: behind a pole, behind trees.
HIDDEN_BY_ITSELF = {'otb_Jogging1': (64, 79), 'davis_libby': (28, 44)}


@dataclass(frozen=True)
class Spec:
    """One clip to run. kind '' is the whole sequence, undisturbed."""

    kind: str
    sequence: str
    seed: int
    duration_s: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a clip, without its pictures."""

    spec: Spec
    verdicts: list[Verdict]
    auc: dict[str, float]
    step_ms: dict[str, list[float]]
    """Of the frames in which each says that it tracks."""


def main() -> int:
    """Run all clips, print the tables, write the files."""
    args = parse()
    try:
        stage = Stage(args.data, tuple(args.model.split(',')), args.alone or args.quick)
    except (SequenceError, TrackerError) as error:
        print(f'life: {error}', file=sys.stderr)
        return 2
    if args.only:
        return show(stage, args)
    specs = plan(stage, args)
    began = time.monotonic()
    outcomes = list(run(stage, specs, args.jobs))
    outcomes.sort(key=lambda outcome: specs.index(outcome.spec))
    verdicts = [verdict for outcome in outcomes for verdict in outcome.verdicts]
    text = tables(verdicts, outcomes)
    print(text)
    if args.failures:
        print('\n' + failures(verdicts))
        print('\n' + auc_table(outcomes))
    print(f'\n{len(specs)} clips in {time.monotonic() - began:.0f} s')
    if args.markdown:
        write(args.markdown, text + '\n')
    if args.json:
        write(args.json, json.dumps(as_dict(outcomes, args.seed), indent=1) + '\n')
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('data', nargs='+', type=Path, metavar='DATA')
    parser.add_argument('--model', default=','.join(MODELS), metavar='A,B')
    parser.add_argument(
        '--quick', action='store_true', help='fewer clips, without bare models and OpenCV'
    )
    parser.add_argument('--alone', action='store_true', help='without bare models and OpenCV')
    parser.add_argument(
        '--kinds',
        default='',
        metavar='A,B',
        help='only these kinds of events; calm: the sequences',
    )
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--jobs', type=int, default=2, help='processes (default: 2)')
    parser.add_argument('--failures', action='store_true', help='name the clips that went wrong')
    parser.add_argument('--only', metavar='CLIP', help='one clip by its name, see --failures')
    parser.add_argument('--trace', action='store_true', help='of --only: a line a frame')
    parser.add_argument('--sheet', type=Path, metavar='FILE', help='of --only: a contact sheet')
    parser.add_argument('--json', type=Path, metavar='FILE')
    parser.add_argument('--markdown', type=Path, metavar='FILE')
    return parser.parse_args()


class Stage:
    """Footage and trackers; made anew in each process."""

    def __init__(self, data: list[Path], models: tuple[str, ...], alone: bool) -> None:
        """Raises SequenceError for footage that cannot be read."""
        self.arguments = data, models, alone
        self.sequences: dict[str, Sequence] = {}
        self.sets: dict[str, str] = {}
        for folder in data:
            for sequence in read_sequences(folder):
                self.sequences[sequence.name] = sequence
                self.sets[sequence.name] = folder.name
        self._models, self._alone = models, alone
        self._followers: list[Follower] | None = None

    @property
    def followers(self) -> list[Follower]:
        """Made when they are first asked for."""
        if self._followers is None:
            self._followers = list(make_followers(self._models, self._alone))
        return self._followers

    def clip(self, spec: Spec) -> EventClip:
        """Compose it."""
        sequence = without_hidden(self.sequences[spec.sequence])
        if not spec.kind:
            return undisturbed(sequence)
        return compose(
            sequence,
            spec.kind,
            spec.seed,
            duration_s=spec.duration_s,
            others=list(self.sequences.values()),
        )


def make_followers(models: Iterable[str], alone: bool) -> Iterator[Follower]:
    """Each model with life and bare; then OpenCV's."""
    for name in models:
        tracker = create(name, threads=1, build='wait')
        yield WithLife(name + WITH, session_maker(tracker))
        if not alone:
            bare = create(name, threads=1, build='wait')
            yield Bare(name + BARE, bare, RAW_THRESHOLDS.get(name, Thresholds(0.2, 0.5)))
    if not alone:
        yield Peer('OpenCV TrackerVit', create_peer('opencv_vit'))
        yield Peer('OpenCV TrackerNano', create_peer('opencv_nano'), NANO_LEAST_SCORE)


def session_maker(tracker: Tracker) -> Callable[[], Session]:
    """Gives a fresh session of the tracker, with the same time for looks on every machine."""
    return lambda: Session(tracker, pace=NominalPace(LOOK_S))


def without_hidden(sequence: Sequence) -> Sequence:
    """The sequence without a box where it is known that nothing can be seen."""
    span = HIDDEN_BY_ITSELF.get(sequence.name)
    if span is None:
        return sequence
    truth = sequence.truth.copy()
    truth[span[0] : span[1]] = np.nan
    return dataclasses.replace(sequence, truth=truth)


def plan(stage: Stage, args: argparse.Namespace) -> list[Spec]:
    """The clips, the same ones for the same footage and seed."""
    kinds = [kind for kind in args.kinds.split(',') if kind]
    names = sorted(stage.sequences)
    specs = []
    for number, (kind, duration_s, all_clips, quick_clips) in enumerate(PLAN):
        rng = np.random.default_rng([args.seed, number])
        count = quick_clips if args.quick else all_clips
        order: list[str] = []
        usable = [name for name in names if kind != 'dark' or name not in DARK_BY_ITSELF]
        while len(order) < count:
            order += rng.permutation(usable).tolist()
        if kinds and kind not in kinds:
            continue
        specs += [
            Spec(kind, name, 1000 * args.seed + place // len(usable), duration_s)
            for place, name in enumerate(order[:count])
        ]
    if 'calm' in kinds or not (kinds or args.quick):
        specs += [Spec('', name, 0) for name in names]
    return specs


def run(stage: Stage, specs: list[Spec], jobs: int) -> Iterator[Outcome]:
    """Run the clips in so many processes, in any order."""
    if jobs == 1:
        cv2.setNumThreads(1)
        for spec in tqdm(specs, mininterval=_tell_every_s()):
            yield outcome_of(stage, spec)
        return
    with ProcessPoolExecutor(
        jobs, multiprocessing.get_context('spawn'), begin_worker, stage.arguments
    ) as pool:
        futures = [pool.submit(run_in_worker, spec) for spec in specs]
        done = as_completed(futures)
        for future in tqdm(done, total=len(futures), mininterval=_tell_every_s()):
            yield future.result()


def _tell_every_s() -> float:
    """Progress moves on a terminal; in a file it is a line a minute."""
    return 0.1 if sys.stderr.isatty() else 60.0


_stage: Stage | None = None


def begin_worker(data: list[Path], models: tuple[str, ...], alone: bool) -> None:
    """Of a process."""
    global _stage
    cv2.setNumThreads(1)
    _stage = Stage(data, models, alone)


def run_in_worker(spec: Spec) -> Outcome:
    """In a process that has begun."""
    assert _stage is not None
    return outcome_of(_stage, spec)


def outcome_of(stage: Stage, spec: Spec) -> Outcome:
    """Run all followers over a clip and judge them."""
    clip = stage.clip(spec)
    accounts = follow(clip, stage.followers)
    auc = {}
    if not spec.kind and stage.sets[spec.sequence] == next(iter(stage.sets.values())):
        auc = {
            account.tracker: auc_of(account, stage.sequences[spec.sequence])
            for account in accounts
        }
    return Outcome(
        spec,
        [judge(account) for account in accounts],
        auc,
        {account.tracker: times_of(account) for account in accounts} if not spec.kind else {},
    )


def auc_of(account: Account, sequence: Sequence) -> float:
    """AUC of the success curve; of a lost target what is still followed counts."""
    size = (sequence.width, sequence.height)
    return score_sequence(account.guesses, sequence.truth, size).auc


def times_of(account: Account) -> list[float]:
    """Milliseconds of the steps in which the target was tracked."""
    tracked = account.states == State.TRACKING
    return (1000 * account.times_s[tracked]).round(3).tolist()


def label(verdict: Verdict) -> str:
    """The kind of event, with its length where lengths are compared."""
    if verdict.kind == 'occlusion':
        return f'occlusion {verdict.duration_s:g} s'
    return verdict.kind.replace('_', ' ')


def tables(verdicts: list[Verdict], outcomes: list[Outcome]) -> str:
    """All tables as Markdown."""
    trackers = list(dict.fromkeys(verdict.tracker for verdict in verdicts))
    own = {name: [each for each in verdicts if each.tracker == name] for name in trackers}
    parts = [markdown(['', *SUMMARY], [[name, *summary(own[name])] for name in trackers])]
    kinds = list(dict.fromkeys(label(each) for each in verdicts if each.kind != 'calm'))
    for title, cell in KIND_TABLES.items() if kinds else ():
        rows = [
            [
                kind,
                *(cell([each for each in own[name] if label(each) == kind]) for name in trackers),
            ]
            for kind in kinds
        ]
        parts.append(f'**{title}**\n\n' + markdown(['', *trackers], rows))
    auc = [outcome.auc for outcome in outcomes if outcome.auc]
    if auc:
        rows = [
            [
                name,
                f'{np.mean([each[name] for each in auc]):.4f}',
                f'{step_ms(outcomes, name):.2f}',
            ]
            for name in trackers
        ]
        parts.append(
            f'**Undisturbed: {len(auc)} sequences**\n\n'
            + markdown(['', 'AUC', 'ms a tracked frame'], rows)
        )
    return '\n\n'.join(parts)


SUMMARY = (
    'held until the event',
    'noticed within 5 frames',
    'LOST within 10',
    'false doubts / 1000',
    'false LOST / 1000',
    'recovered, 2 s occlusion',
    'recovered, all',
    'median s',
    'wrong locks',
    'locks while absent',
)


def summary(own: list[Verdict]) -> list[str]:
    """Cells of SUMMARY."""
    total = tally(own)
    two = tally(each for each in own if each.kind == 'occlusion' and each.duration_s == 2.0)
    median = np.median(total.recovery_s) if len(total.recovery_s) else np.nan
    return [
        share(total.held),
        share(total.noticed[5]),
        share(total.lost[10]),
        rate(total.doubts),
        rate(total.losses),
        share(two.recovered),
        share(total.recovered),
        f'{median:.2f}',
        share(total.wrong_lock),
        share(total.absent_lock),
    ]


KIND_TABLES: dict[str, Callable[[list[Verdict]], str]] = {
    'Noticed within 5 frames': lambda own: share(tally(own).noticed[5]),
    'Recovered within 2 s, and kept': lambda own: share(tally(own).recovered),
    'Wrong locks': lambda own: share(tally(own).wrong_lock),
}


def share(value: life_metrics.Share) -> str:
    """'95 % (19/20)', or a dash."""
    return f'{100 * value.value:.0f} % ({value.hits}/{value.of})' if value.of else '-'


def rate(value: life_metrics.Rate) -> str:
    """'0.40 (3/7500)', or a dash."""
    return f'{value.value:.2f} ({value.count}/{value.frames})' if value.frames else '-'


def step_ms(outcomes: list[Outcome], name: str) -> float:
    """Median over all tracked frames of the undisturbed sequences."""
    times = [ms for outcome in outcomes for ms in outcome.step_ms.get(name, [])]
    return float(np.median(times)) if times else float('nan')


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def failures(verdicts: list[Verdict]) -> str:
    """Which clips went wrong, and how."""
    rows = []
    for each in verdicts:
        wrong = [
            name
            for name, is_wrong in (
                ('lost before', not each.held and each.kind != 'calm'),
                ('not noticed', each.noticed[5] is False),
                ('not recovered', each.recovered is False),
                ('wrong lock', bool(each.wrong_lock)),
                ('locked while absent', bool(each.absent_lock)),
                (f'{each.doubts} false doubts', each.doubts > 0),
                (f'{each.losses} false LOST', each.losses > 0),
            )
            if is_wrong
        ]
        if wrong:
            rows.append([each.tracker, each.clip, ', '.join(wrong)])
    return format_table(['tracker', 'clip', 'what'], rows)


def auc_table(outcomes: list[Outcome]) -> str:
    """AUC of each undisturbed sequence."""
    auc = {outcome.spec.sequence: outcome.auc for outcome in outcomes if outcome.auc}
    trackers = list(next(iter(auc.values()), {}))
    rows = [[name, *(f'{own[tracker]:.3f}' for tracker in trackers)] for name, own in auc.items()]
    return format_table(['AUC', *trackers], rows) if rows else ''


def as_dict(outcomes: list[Outcome], seed: int) -> dict[str, object]:
    """Everything as JSON can hold it."""
    verdicts = [verdict for outcome in outcomes for verdict in outcome.verdicts]
    trackers = list(dict.fromkeys(verdict.tracker for verdict in verdicts))
    result: dict[str, object] = {'seed': seed, 'clips': len(outcomes)}
    for name in trackers:
        own = [each for each in verdicts if each.tracker == name]
        kinds = dict.fromkeys(label(each) for each in own)
        auc = [outcome.auc[name] for outcome in outcomes if outcome.auc]
        ms = step_ms(outcomes, name)
        result[name] = {
            'all': tally(own).as_dict(),
            'kinds': {
                kind: tally(each for each in own if label(each) == kind).as_dict()
                for kind in kinds
            },
            'auc': round(float(np.mean(auc)), 4) if auc else None,
            'tracked_frame_ms': round(ms, 3) if np.isfinite(ms) else None,
        }
    result['verdicts'] = [dataclasses.asdict(verdict) for verdict in verdicts]
    return result


def show(stage: Stage, args: argparse.Namespace) -> int:
    """One clip: what each says, frame by frame."""
    clip = stage.clip(spec_of(args.only))
    print(f'{clip.name}: {len(clip)} frames, the event is {clip.event[0]} to {clip.event[1]}')

    def trace(follower: Follower, number: int, claim: Claim) -> None:
        row = np.array([claim.box.xywh() if claim.box else [np.nan] * 4])
        overlap = overlaps(row, clip.truth[number : number + 1])[0]
        print(
            f'{number:4} {clip.stamps_s[number]:6.2f} seen {clip.visible[number]:4.2f} '
            f'{follower.name:18} {claim.state.name:9} {claim.score:5.2f} IoU {overlap:5.2f}  '
            f'{claim.reason}'
        )

    accounts = follow(clip, stage.followers, trace if args.trace else None)
    print(failures([judge(account) for account in accounts]))
    if args.sheet:
        cv2.imwrite(str(args.sheet), sheet(clip, accounts))
    return 0


def spec_of(name: str) -> Spec:
    """Of the name of a clip, as `occlusion_2s/otb_Basketball/1000`."""
    label_, sequence, seed = name.split('/')
    kind, _, length = label_.rpartition('_')
    return Spec(kind, sequence, int(seed), float(length.removesuffix('s')))


COLOURS = ((60, 220, 120), (250, 190, 80), (60, 120, 250), (230, 80, 200))


def sheet(clip: EventClip, accounts: list[Account], tiles: int = 20, width: int = 420) -> Any:
    """Frames around the event with the truth (white) and each one's box and state."""
    begin, end = clip.event
    shown = (
        np.linspace(max(0, begin - 20), min(len(clip) - 1, end + 60), tiles).round().astype(int)
    )
    pictures = []
    for number, frame in enumerate(clip.frames()):
        if number not in shown:
            continue
        scale = width / frame.shape[1]
        small = cv2.resize(frame, None, fx=scale, fy=scale)
        draw(small, clip.truth[number] * scale, (255, 255, 255))
        for place, account in enumerate(accounts):
            colour = COLOURS[place % len(COLOURS)]
            draw(small, account.boxes[number] * scale, colour)
            words = f'{State(account.states[number]).name} {account.scores[number]:.2f}'
            cv2.putText(small, words, (4, 28 + 14 * place), 0, 0.4, colour, 1, cv2.LINE_AA)
        cv2.putText(small, str(number), (4, 13), 0, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
        pictures.append(small)
    rows = [pictures[first : first + 4] for first in range(0, len(pictures) // 4 * 4, 4)]
    return np.vstack([np.hstack(row) for row in rows])


def draw(image: Any, row: Any, colour: tuple[int, int, int]) -> None:
    """A box, where there is one."""
    if np.isfinite(row).all():
        x, y, w, h = row.round().astype(int).tolist()
        cv2.rectangle(image, (x, y), (x + w, y + h), colour, 1, cv2.LINE_AA)


def write(path: Path, text: str) -> None:
    """Write a file and say so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
    print(f'written: {path}')


if __name__ == '__main__':
    sys.exit(main())
