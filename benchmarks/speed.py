#!/usr/bin/env python3
# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The trackers here beside their public PyTorch code: same weights, same frames, same machine.

    cd /somewhere
    git clone https://github.com/MCG-NJU/MixFormerV2
    git clone https://github.com/LPXTT/SimTrack
    git clone https://github.com/openai/CLIP
    git clone https://github.com/JudasDie/SOTS
    git clone https://github.com/msight-tech/research-siamattn
    python benchmarks/speed.py --official /somewhere --json out/speed.json

Makes checkpoints in the official layouts with made-up weights, converts them to packages of every
precision, and lets all of them run whole 1080p frames in turns of half a second: crop, network,
box. Before that every one answers the same frames, and how far its boxes are from the official
ones is printed. Models without public code run by themselves. Needs PyTorch (make
setup-networks).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import official_mixformer
import official_siamattn
import official_simtrack
import official_vlt
from made_up import checkpoint, made_packages
from official import MASK

from tracker_ros.cli.bench import image_size
from tracker_ros.evaluation import peak, speed_report
from tracker_ros.evaluation.sequences import SequenceError
from tracker_ros.evaluation.speed import (
    TEMPLATE,
    Contestant,
    Record,
    SpeedError,
    TrackerSubject,
    compare,
    quantiles,
)
from tracker_ros.runtime.engine import EngineError
from tracker_ros.runtime.package import ModelPackage, PackageError

PRECISIONS = ('fp32', 'bf16', 'int8_bf16')
RUNS = (('openvino', PRECISIONS), ('onnxruntime', ('fp32',)), ('torch', ('fp32',)))
TARGETS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Public:
    """The public code of some models."""

    module: Any
    subject: Callable[..., Any]


_MIXFORMER = Public(official_mixformer, official_mixformer.OfficialMixformer)
_SIMTRACK = Public(official_simtrack, official_simtrack.OfficialSimtrack)
_VLT = Public(official_vlt, official_vlt.OfficialVlt)
_SIAMATTN = Public(official_siamattn, official_siamattn.OfficialSiamattn)
PUBLIC: dict[str, Public | None] = {
    'mixformerv2_s': _MIXFORMER,
    'mixformerv2_b': _MIXFORMER,
    'simtrack_b32': _SIMTRACK,
    'simtrack_b16': _SIMTRACK,
    'simtrack_l14': _SIMTRACK,
    'simtrack_swin_b': None,
    'simtrack_pvt_m': None,
    'dual_tfr': None,
    'vlt_scar': _VLT,
    'vlt_tt': _VLT,
    'siamattn': _SIAMATTN,
}
"""The models, and the public code of each; None where nobody has published any."""


class Compared(TrackerSubject):
    """One of ours, with its boxes on the frames; frames with a mask are work of their own."""

    def facts(self) -> dict[str, Any]:
        manifest = self._tracker.package.manifest
        return {
            **super().facts(),
            'parameters': manifest.get('parameters'),
            'gmacs_template': manifest.get('gmacs_template'),
            'boxes': self.boxes(),
        }

    def turn(self, work: Any, seconds: float) -> list[list[float]]:
        self._tracker.wants_mask = work == MASK
        return super().turn('frame' if work == MASK else work, seconds)


def main() -> int:
    """Measure, print and write; 1 where something failed."""
    args = parse()
    models = args.models.split(',')
    problem = problem_with(models, args.official)
    if problem:
        print(f'speed: {problem}', file=sys.stderr)
        return 1
    reports: dict[str, Any] = {}
    try:
        for model in models:
            if args.make_only:
                made_packages(model, PRECISIONS, args.work, args.footage)
                continue
            reports[model] = measure(model, args)
            print(describe(model, reports[model]), flush=True)
            write(reports, args.json)
    except (SpeedError, PackageError, EngineError, SequenceError, OSError) as error:
        print(f'speed: {error}', file=sys.stderr)
        return 1
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--official', type=Path, required=True, metavar='DIR', help='where the clones lie'
    )
    parser.add_argument(
        '--models', default=','.join(PUBLIC), help=f'of {", ".join(PUBLIC)} (default: all)'
    )
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--size', type=image_size, default=(1920, 1080), metavar='WxH')
    parser.add_argument(
        '--seconds', type=float, default=5.0, help='for each thing measured (default: 5)'
    )
    parser.add_argument(
        '--targets',
        action='store_true',
        help=f'the network for {", ".join(map(str, TARGETS))} targets, too',
    )
    parser.add_argument(
        '--peak', action='store_true', help='products of large matrices, to hold the speed against'
    )
    parser.add_argument(
        '--until-quiet',
        action='store_true',
        help='count only turns during which other programs left the machine alone',
    )
    parser.add_argument(
        '--longest', type=float, default=200.0, metavar='S', help='for each model (default: 200)'
    )
    parser.add_argument(
        '--work', type=Path, default=Path('out/speed'), help='checkpoints and packages, kept'
    )
    parser.add_argument('--footage', type=Path, metavar='DATA', help='to calibrate int8 on')
    parser.add_argument(
        '--make-only', action='store_true', help='make the packages, and measure nothing'
    )
    parser.add_argument('--json', type=Path, metavar='FILE')
    return parser.parse_args()


def problem_with(models: list[str], clones: Path) -> str | None:
    """Why these models cannot be measured."""
    for model in models:
        if model not in PUBLIC:
            return f'there is no model {model!r}; known are {", ".join(PUBLIC)}'
        public = PUBLIC[model]
        for name, file in public.module.CLONES.items() if public else ():
            if not (clones / name / file).is_file():
                return f'{clones / name} is no clone of {name}, which {model} needs'
    return None


def measure(model: str, args: argparse.Namespace) -> dict[str, Any]:
    """Everything of one model; its public code, if there is any, is the first of the results."""
    packages = made_packages(model, PRECISIONS, args.work, args.footage)
    gives_mask = 'mask' in packages['fp32'].graphs
    works = ('frame', TEMPLATE, *((MASK,) if gives_mask else ()))
    contestants = []
    public = PUBLIC[model]
    if public:
        make_official = partial(
            public.subject,
            args.official,
            checkpoint(model, args.work),
            model,
            packages['fp32'].inputs,
            args.threads,
            args.size,
        )
        contestants.append(Contestant('official', make_official, works))
    for runtime, precisions in RUNS:
        for precision in precisions:
            folder = str(packages[precision].folder.resolve())
            make = partial(Compared, folder, runtime, args.threads, args.size)
            many = TARGETS if args.targets and runtime == 'openvino' else ()
            contestants.append(Contestant(f'{precision} on {runtime}', make, (*works, *many)))
    if args.peak:
        kinds = tuple(dict.fromkeys(map(peak.kind_of, PRECISIONS)))
        contestants.append(peak.contestant(kinds, args.threads))
    records = compare(
        contestants, args.seconds, args.until_quiet, args.longest, progress=sys.stderr.isatty()
    )
    report = speed_report.as_dict(records, args.size, args.threads, args.until_quiet)
    report['packages'] = {
        precision: {
            'forced': bool(package.manifest.get('forced')),
            'mib': round(
                sum(graph.path.stat().st_size for graph in package.graphs.values()) / 2**20
            ),
        }
        for precision, package in packages.items()
    }
    return with_comparison(report, records, args.until_quiet)


def _mib(package: ModelPackage) -> int:
    return round(sum(graph.path.stat().st_size for graph in package.graphs.values()) / 2**20)


def with_comparison(
    report: dict[str, Any], records: list[Record], quiet_only: bool
) -> dict[str, Any]:
    """The report with how each does beside the first, and with the times of masks."""
    first = report['results'][0]
    true_boxes = np.array(first['boxes'])
    for record, result in zip(records, report['results'], strict=False):
        rows = record.rows(MASK, quiet_only)
        if len(rows):
            result['mask_frame_ms'] = quantiles(rows[:, 0])
        apart = np.abs(np.array(result.pop('boxes')) - true_boxes)
        frame = result['frame_ms']
        result['box_apart_px'] = float(f'{apart.max():.3g}')
        if frame and first['frame_ms']:
            result['times_first'] = round(first['frame_ms']['median'] / frame['median'], 2)
    first['box_range_px'] = [round(float(value), 1) for value in np.ptp(true_boxes, axis=0)]
    return report


def describe(model: str, report: dict[str, Any]) -> str:
    """The result in lines."""
    first, *others = report['results']
    lines = [model, speed_report.table(report)]
    for result in others:
        ratio = result.get('times_first')
        lines.append(
            f'{result["name"]:24} {f"{ratio:.1f} x" if ratio else "not measured":>12} the speed '
            f'of {first["name"]}; boxes at most {result["box_apart_px"]:g} px from its boxes'
        )
    for result in report['results']:
        if result.get('mask_frame_ms'):
            lines.append(
                f'{result["name"]:24} {result["mask_frame_ms"]["median"]:.1f} ms with a mask'
            )
    return '\n'.join(lines) + '\n'


def write(reports: dict[str, Any], path: Path | None) -> None:
    """What was measured so far."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(reports, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    sys.exit(main())
