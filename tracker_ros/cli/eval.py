# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`tracker_ros eval`: how good trackers are on annotated sequences, side by side."""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracker_ros.evaluation.comparison import Comparison
    from tracker_ros.evaluation.datasets import Dataset
    from tracker_ros.evaluation.kept import KeptRuns
    from tracker_ros.evaluation.one_pass import Failure, MakeTracker, OnePassTracker, Run
    from tracker_ros.evaluation.sequences import Sequence, SequenceError
    from tracker_ros.evaluation.through_node import Replay
    from tracker_ros.trackers import Tracker


LIFE = '+life'
"""At the end of a model's name: with the life of its target."""

_HIGHEST_DOMAIN_ID = 232
"""DDS makes port numbers from it, and there are no more ports."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        'eval',
        help='score trackers on annotated sequences',
        description=(
            'Starts each tracker with the true box of the first frame of each sequence, lets it '
            'run to the end, and prints success AUC (21 thresholds), precision at 20 px, '
            'normalised precision, average overlap and speed side by side. Exit code 1 when a '
            'sequence or a run failed; the others are scored all the same.'
        ),
    )
    parser.add_argument(
        'data',
        type=Path,
        metavar='DATA',
        help='a benchmark as it is downloaded (OTB, UAV123, LaSOT, GOT-10k, TrackingNet, TNL2K, '
        'DTB70), a sequence (video.mp4, img/ or images/, and groundtruth.txt), or a folder of '
        'them',
    )
    parser.add_argument(
        '--benchmark',
        default='auto',
        metavar='NAME',
        help='which benchmark DATA is, where its folders do not tell: otb, uav123, lasot, '
        'lasot_ext, got10k, trackingnet, tnl2k, dtb70 or plain (default: auto)',
    )
    parser.add_argument(
        '--model',
        default='',
        metavar='A,B',
        help='models to run: names of `tracker_ros models list`, folders of model packages, or '
        'opencv_csrt, opencv_kcf, opencv_mil, opencv_vit, opencv_nano; NAME+life is the model '
        'with the life of its target',
    )
    parser.add_argument(
        '--life',
        action='store_true',
        help='also run each model with the life of its target, as the node does: confidence, '
        'motion, loss and recovery; while the target is lost its last box stands in',
    )
    parser.add_argument(
        '--peers',
        action='store_true',
        help="also run OpenCV's trackers, those whose weights are here",
    )
    parser.add_argument(
        '--weights',
        type=Path,
        metavar='DIR',
        help='a folder with published weight files: used by the peers, and imported for models '
        'that have none yet',
    )
    parser.add_argument('--runtime', default='auto', help='inference library (default: auto)')
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        '--jobs', type=_positive_int, default=1, metavar='N', help='processes (default: 1)'
    )
    where.add_argument(
        '--ray',
        metavar='ADDRESS',
        help='spread the runs over the Ray cluster whose head is at HOST:PORT, or auto on one of '
        'its machines; DATA must be at the same path on all of them (python -m pip install ray)',
    )
    parser.add_argument(
        '--per-sequence', action='store_true', help='also print the scores of each sequence'
    )
    parser.add_argument(
        '--report',
        type=Path,
        metavar='DIR',
        help='write here: index.html (curves, attributes, worst frames), results.json, the boxes '
        "as text in the benchmark's own form, and each run the moment it ends; the same command "
        'after a kill goes on where it was',
    )
    parser.add_argument(
        '--real-time',
        type=_positive_float,
        metavar='HZ',
        help='frames come at this rate, and those that come while a tracker is busy are not seen',
    )
    parser.add_argument(
        '--json', type=Path, metavar='FILE', help='write all scores, curves, boxes and times here'
    )
    parser.add_argument(
        '--through-ros',
        action='store_true',
        help='also play the sequences over DDS into a running tracker node, in a process and ROS '
        'domain of its own, and score what it publishes',
    )
    parser.add_argument(
        '--rate',
        type=_positive_float,
        default=30.0,
        metavar='HZ',
        help='frames a second for --through-ros (default: 30)',
    )
    parser.add_argument(
        '--domain-id',
        type=_domain_id,
        metavar='N',
        help='ROS domain for --through-ros (default: a free one)',
    )
    parser.add_argument('--quiet', action='store_true', help='no progress bar')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the verb; returns the exit code."""
    from tracker_ros.evaluation import report, through_node
    from tracker_ros.evaluation.cluster import ClusterError, in_cluster
    from tracker_ros.evaluation.datasets import read_dataset
    from tracker_ros.evaluation.one_pass import TRACKER_ERRORS, evaluate
    from tracker_ros.evaluation.published_scores import PublishedScoresError
    from tracker_ros.evaluation.sequences import SequenceError

    problems: list[SequenceError] = []
    if args.weights is not None and not args.weights.is_dir():
        print(f'tracker_ros eval: --weights {args.weights}: no such folder', file=sys.stderr)
        return 2
    try:
        dataset = read_dataset(args.data, problems, args.benchmark)
        sequences = dataset.sequences
        comparison = _comparison(dataset) if args.report is not None else None
        models = [name.strip() for name in args.model.split(',') if name.strip()]
        for name in models:
            _prepare(name, args.weights, args.runtime)
    except (SequenceError, PublishedScoresError, ImportError, *TRACKER_ERRORS) as error:
        print(f'tracker_ros eval: {error}', file=sys.stderr)
        return 2
    for problem in problems:
        print(f'left out: {problem}', file=sys.stderr)
    if args.life:
        models += [f'{name}{LIFE}' for name in models if _can_have_life(name)]
    trackers = [*models, *(_available_peers(args.weights) if args.peers else [])]
    if not trackers or not sequences:
        missing = 'give --model NAME[,NAME...]' if sequences else 'no sequence of DATA can be used'
        print(f'tracker_ros eval: nothing to run: {missing}', file=sys.stderr)
        return 2
    try:
        _check_outputs(args.report, args.json)
    except OSError as error:
        print(f'tracker_ros eval: results cannot be written: {error}', file=sys.stderr)
        return 2

    progress = not args.quiet and sys.stderr.isatty()
    # More processes than one already fill the cores.
    threads = 0 if args.jobs == 1 and args.ray is None else 1
    make = functools.partial(
        make_tracker, weights=args.weights, runtime=args.runtime, threads=threads
    )
    identities = {name: _identity_of(name, args.runtime) for name in trackers}
    if args.ray is not None:
        make = functools.partial(
            _make_the_same, make=make, identities=identities, runtime=args.runtime
        )
    try:
        runs, failures = evaluate(
            dict.fromkeys(trackers),
            sequences,
            make,
            jobs=args.jobs,
            progress=progress,
            real_time_hz=args.real_time,
            results=_kept_runs(args, identities),
            spread=None if args.ray is None else functools.partial(in_cluster, args.ray),
        )
    except ClusterError as error:
        print(f'tracker_ros eval: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        # What runs itself raises never comes here: a full disk does.
        print(
            f'tracker_ros eval: results cannot be written: {error}; the same command goes on '
            'from those that were',
            file=sys.stderr,
        )
        return 1
    if args.report is not None:
        _write_submissions(args.report, runs, dataset)
    runs = [run for run in runs if not run.sequence.withheld]
    _print_runs(runs, args.per_sequence)
    result = report.as_dict(runs, failures)
    replays: list[Replay] = []
    if args.through_ros:
        scored = [sequence for sequence in sequences if not sequence.withheld]
        replays, ros_failures = _through_ros(args, models, scored, progress)
        failures += ros_failures
        result['through_ros'] = through_node.as_dict(replays, args.rate)
        if replays:
            print('\n' + through_node.replay_table(replays, runs))
    for failure in failures:
        print(
            f'failed: {failure.tracker} on {failure.sequence}: {failure.reason}', file=sys.stderr
        )
    result = {'data': str(args.data), 'problems': [*map(str, problems)], **result}
    if args.json is not None:
        _write_json(args.json, result)
    if args.report is not None:
        _write_json(args.report / 'results.json', result)
        _write_page(args, runs, failures, problems, comparison, replays)
    return 1 if problems or failures else 0


def make_tracker(name: str, weights: Path | None, runtime: str, threads: int) -> OnePassTracker:
    """A peer for a name that begins with opencv_, otherwise one of our own trackers.

    With +life at the end of its name it comes with the life of its target.
    """
    from tracker_ros.evaluation.followed import Followed
    from tracker_ros.evaluation.peers import PREFIX, create_peer

    if name.startswith(PREFIX):
        return create_peer(name, weights)
    tracker = _loaded(name.removesuffix(LIFE), runtime, threads).another()
    return Followed(tracker) if name.endswith(LIFE) else tracker


@functools.lru_cache(maxsize=1)
def _loaded(model: str, runtime: str, threads: int) -> Tracker:
    """The model of the newest runs of this process: loading it takes longer than a short clip."""
    from tracker_ros.trackers import create

    return create(model, runtime, threads, build='wait')


def _check_outputs(report: Path | None, json_file: Path | None) -> None:
    """Raise OSError where results could not be written, before hours are spent on them."""
    folders = [report, report / 'runs'] if report is not None else []
    if json_file is not None:
        if json_file.is_dir():
            raise IsADirectoryError(f'{json_file} is a folder: give a file')
        folders.append(json_file.parent)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def _comparison(dataset: Dataset) -> Comparison:
    from tracker_ros.evaluation.comparison import Comparison
    from tracker_ros.evaluation.published_scores import read_published_scores

    return Comparison(read_published_scores(), dataset.benchmark, len(dataset.sequences))


def _make_the_same(
    name: str, *, make: MakeTracker, identities: dict[str, str], runtime: str
) -> OnePassTracker:
    """On another machine: a tracker, if it is the one that it is where the evaluation began."""
    from tracker_ros.trackers import TrackerError

    here = _identity_of(name, runtime)
    if here != identities[name]:
        raise TrackerError(
            f'{name} is another one here: {here!r} where {identities[name]!r} is evaluated; '
            'install the same versions and model packages on every machine'
        )
    return make(name)


def _kept_runs(args: argparse.Namespace, identities: dict[str, str]) -> KeptRuns | None:
    if args.report is None:
        return None
    from tracker_ros.evaluation.kept import KeptRuns

    return KeptRuns(args.report / 'runs', identities, args.real_time)


def _identity_of(name: str, runtime: str) -> str:
    """What a tracker's boxes follow from besides the pictures."""
    import cv2

    from tracker_ros import __version__
    from tracker_ros.evaluation.peers import PREFIX
    from tracker_ros.runtime import store
    from tracker_ros.runtime.package import MANIFEST, sha256_of

    if name.startswith(PREFIX):
        return f'OpenCV {cv2.__version__}'
    # The manifest has the sha256 of each graph and every constant of the tracker.
    manifest = store.describe(name.removesuffix(LIFE)).folder / MANIFEST
    return f'{__version__} {sha256_of(manifest)} {runtime} OpenCV {cv2.__version__}'


def _prepare(name: str, weights: Path | None, runtime: str) -> None:
    """Import the weights of a model that has none yet, and see that it can be made."""
    from tracker_ros.evaluation.peers import PREFIX, find_weights
    from tracker_ros.runtime import store

    if not name.startswith(PREFIX) and weights is not None:
        model = name.removesuffix(LIFE)
        package = store.describe(model)
        if not package.is_complete:
            from tracker_ros.export.published import assemble

            files = find_weights(model, weights)
            for published in package.published:
                store.keep(published, files[published.role])
            store.install(model, assemble)
    make_tracker(name, weights, runtime, threads=1)


def _can_have_life(name: str) -> bool:
    from tracker_ros.evaluation.peers import PREFIX

    return not name.startswith(PREFIX) and not name.endswith(LIFE)


def _available_peers(weights: Path | None) -> list[str]:
    from tracker_ros.evaluation.peers import PEERS, create_peer
    from tracker_ros.trackers import TrackerError

    available = []
    for name in PEERS:
        try:
            create_peer(name, weights)
        except TrackerError as error:
            print(f'skipped: {name}: {error}', file=sys.stderr)
        else:
            available.append(name)
    return available


def _print_runs(runs: list[Run], per_sequence: bool) -> None:
    from tracker_ros.evaluation import report

    if not runs:
        return
    if per_sequence:
        print(report.sequence_table(runs) + '\n')
    attributes = report.attribute_table(runs)
    if attributes:
        print(attributes + '\n')
    print(report.summary_table(runs))


def _through_ros(
    args: argparse.Namespace,
    models: list[str],
    sequences: list[Sequence],
    progress: bool,
) -> tuple[list[Replay], list[Failure]]:
    """Play the sequences into the node, once for each of our own models."""
    from tracker_ros.evaluation.one_pass import Failure
    from tracker_ros.evaluation.peers import PREFIX

    try:
        from tracker_ros.ros import replay
        from tracker_ros.ros.processes import ProcessError
    except ImportError as error:
        reason = f'needs ROS 2: source its setup file, or run "make setup" ({error})'
        return [], [Failure('the node', 'all sequences', reason)]

    replays: list[Replay] = []
    failures: list[Failure] = []
    for model in models:
        if model.startswith(PREFIX) or model.endswith(LIFE):
            continue
        try:
            own, own_failures = replay.replay(
                model,
                sequences,
                rate_hz=args.rate,
                parameters={'runtime': args.runtime},
                domain_id=args.domain_id,
                progress=progress,
            )
        except ProcessError as error:
            failures.append(Failure(model, 'all sequences', str(error)))
            continue
        replays += own
        failures += own_failures
    return replays, failures


def _write_submissions(folder: Path, runs: list[Run], dataset: Dataset) -> None:
    from tracker_ros.evaluation.submission import write_submissions

    for path in write_submissions(folder / 'boxes', runs, dataset.benchmark, dataset.origin):
        print(f'written: {path}')


def _write_page(
    args: argparse.Namespace,
    runs: list[Run],
    failures: list[Failure],
    problems: list[SequenceError],
    comparison: Comparison | None,
    replays: list[Replay],
) -> None:
    from tracker_ros.evaluation.kept import write_whole
    from tracker_ros.evaluation.page import page

    title = args.data.resolve().name
    if args.real_time is not None:
        title += f' in real time at {args.real_time:g} frames a second'
    text = page(
        title,
        runs,
        failures,
        [str(problem) for problem in problems],
        comparison,
        (replays, args.rate) if replays else None,
        _about(),
    )
    write_whole(args.report / 'index.html', text.encode())
    print(f'written: {args.report / "index.html"}')


def _about() -> str:
    import cv2

    from tracker_ros import __version__
    from tracker_ros.evaluation import machine

    here = machine.describe()
    return (
        f'tracker_ros {__version__}, OpenCV {cv2.__version__}; written on {here["cpu"]}, '
        f'{here["cores"]} cores.'
    )


def _write_json(path: Path, result: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, allow_nan=False) + '\n', encoding='utf-8')
    print(f'written: {path}')


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'must be at least 1, not {value}')
    return value


def _positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'must be above 0, not {value:g}')
    return value


def _domain_id(text: str) -> int:
    value = int(text)
    if not 0 <= value <= _HIGHEST_DOMAIN_ID:
        raise argparse.ArgumentTypeError(f'must be 0 to {_HIGHEST_DOMAIN_ID}, not {value}')
    return value
