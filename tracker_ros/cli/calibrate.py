# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`tracker_ros models calibrate`: from a model's score to a probability, on annotated footage."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tracker_ros.runtime.package import PackageError

# So that no source of a collection has the say because it has the most clips.
_MOST_OF_A_SOURCE = 20
# How often each clip is used in the second round.
_TIMES = 2


def add_action(actions: Any) -> None:
    """Add it to the verbs of `tracker_ros models`."""
    parser = actions.add_parser(
        'calibrate',
        help='fit the confidence of a model on annotated footage',
        description=(
            'Follows the targets of the footage through what is made to happen to them, fits how '
            'likely a box is right given what speaks for it, and writes the result into the '
            "package's model.yaml. docs/confidence.md says how."
        ),
    )
    parser.add_argument('name', metavar='NAME', help='a model, or the folder of a package')
    parser.add_argument(
        '--data',
        type=Path,
        nargs='+',
        required=True,
        metavar='DIR',
        help='annotated sequences, or a training collection, to fit to',
    )
    parser.add_argument(
        '--check',
        type=Path,
        nargs='+',
        default=[],
        metavar='DIR',
        help='other sequences, to tell how well it does on them',
    )
    parser.add_argument(
        '--write',
        type=Path,
        nargs='+',
        metavar='FILE',
        help="model.yaml to write to (default: the package's own)",
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write what was found there')
    parser.add_argument('--runtime', default='auto', metavar='NAME', help='default: %(default)s')
    parser.add_argument(
        '--clips', type=int, metavar='N', help='at most so many clips of --data (default: all)'
    )
    parser.add_argument('--seed', type=int, default=0, metavar='N')
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from tracker_ros.evaluation.calibration import FitError
    from tracker_ros.evaluation.sequences import SequenceError
    from tracker_ros.runtime.engine import EngineError
    from tracker_ros.trackers import TrackerError
    from tracker_ros.training.pictures import DataError

    errors = (
        FitError, SequenceError, EngineError, PackageError, TrackerError, DataError, OSError,
    )  # fmt: skip
    try:
        return _calibrate(options)
    except errors as error:
        print(f'tracker_ros models calibrate: {error}', file=sys.stderr)
        return 1


def _calibrate(options: argparse.Namespace) -> int:
    import cv2
    from tqdm import tqdm

    from tracker_ros.evaluation import calibration as fitting
    from tracker_ros.runtime.package import MANIFEST
    from tracker_ros.trackers import create
    from tracker_ros.tracking.confidence import CALIBRATED

    footage = _spread(_footage(options.data), options.clips)
    checked = _footage(options.check)
    common = {each.name for each in footage} & {each.name for each in checked}
    if common:
        raise fitting.FitError(
            f'{", ".join(sorted(common))} would be fitted to and checked on; give other footage '
            'to --check'
        )
    cv2.setNumThreads(1)
    tracker = create(options.name, options.runtime, threads=1)
    package = tracker.package

    def shown(doing: str, clips: Iterable[Any], total: int) -> Iterable[Any]:
        return tqdm(clips, doing, total, disable=not sys.stderr.isatty(), leave=False)

    try:
        clips = fitting.training_clips(footage, options.seed)
        found = fitting.fit(
            [fitting.follow_truth(tracker, clip) for clip in shown('first', clips, len(footage))]
        )
        clips = fitting.training_clips(footage, options.seed + 1000, _TIMES)
        records = [
            fitting.follow(tracker, clip, found, CALIBRATED)
            for clip in shown('second', clips, _TIMES * len(footage))
        ]
        found = fitting.fit(records)
        clips = fitting.checking_clips(checked)
        checks = [
            fitting.follow(tracker, clip, found, CALIBRATED)
            for clip in shown('check', clips, 3 * len(checked))
        ]
    finally:
        tracker.close()
    results = {'fitted': fitting.report(records)}
    if checks:
        results['checked'] = fitting.report(checks)
    for name, result in results.items():
        print(_line(name, result))
    entry = {
        'lost': CALIBRATED.lost,
        'sure': CALIBRATED.sure,
        'calibration': {'bias': found.bias, 'weights': dict(found.weights or {})},
    }
    for path in options.write or [package.folder / MANIFEST]:
        write_entry(path, entry)
        print(f'{package.name}: calibrated, written to {path}')
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        document = {'model': package.name, 'confidence': entry, **results}
        options.json.write_text(json.dumps(document, indent=1) + '\n', encoding='utf-8')
    return 0


def write_entry(path: Path, entry: Mapping[str, Any]) -> None:
    """Write `entry` as what `path`, a model.yaml, says of confidence; the rest stays as it is.

    Raises PackageError for a file that has no such entry to begin with.
    """
    text = path.read_text(encoding='utf-8')
    before = yaml.safe_load(text)
    lines = text.splitlines(keepends=True)
    first = next((n for n, line in enumerate(lines) if line.startswith('confidence:')), None)
    if first is None:
        raise PackageError(f'{path}: the entry confidence is missing')
    # What follows belongs to it as long as it is indented.
    last = next((n for n in range(first + 1, len(lines)) if lines[n][:1].strip()), len(lines))
    block = yaml.safe_dump({'confidence': dict(entry)}, sort_keys=False)
    block = block.replace('confidence:\n', 'confidence:               # docs/confidence.md\n', 1)
    written = ''.join([*lines[:first], block, *lines[last:]])
    try:
        is_right = yaml.safe_load(written) == {**before, 'confidence': dict(entry)}
    except yaml.YAMLError:
        is_right = False
    if not is_right:
        raise PackageError(f'{path} is laid out so that its entry confidence cannot be replaced')
    path.write_text(written, encoding='utf-8')


def _footage(folders: Sequence[Path]) -> list[Any]:
    """Annotated sequences, and clips of training collections."""
    from tracker_ros.evaluation.sequences import read_sequences
    from tracker_ros.training.clips import clips_of
    from tracker_ros.training.pictures import read_collection

    found: list[Any] = []
    for folder in folders:
        if (folder / 'videos').is_dir():
            found += _balanced(clips_of(read_collection(folder)))
        else:
            found += read_sequences(folder)
    return found


def _balanced(clips: list[Any]) -> list[Any]:
    """At most _MOST_OF_A_SOURCE clips of each source, spread over all that it has."""
    sources: dict[str, list[Any]] = {}
    for clip in clips:
        sources.setdefault(clip.subject.source, []).append(clip)
    return [clip for each in sources.values() for clip in _spread(each, _MOST_OF_A_SOURCE)]


def _spread(items: list[Any], most: int | None) -> list[Any]:
    """At most so many of them, evenly."""
    if most is None or len(items) <= most:
        return items
    return [items[place * len(items) // most] for place in range(most)]


def _line(name: str, result: Mapping[str, Any]) -> str:
    quality = result['quality']
    return (
        f'{name}: {quality["frames"]} frames, {quality["on_target"]:.0%} on the target; expected '
        f'calibration error {quality["ece"]:.3f}, AUROC {quality["auroc"]:.3f}; '
        f'{result["false_alarms"]} false alarms in {result["good_frames"]} good frames, '
        f'{result["noticed"]} of {result["losses"]} losses noticed'
    )
