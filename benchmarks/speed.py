#!/usr/bin/env python3
# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""MixFormerV2 here beside the public PyTorch code: same weights, same frames, same machine.

    git clone https://github.com/MCG-NJU/MixFormerV2 /somewhere/MixFormerV2
    python benchmarks/speed.py --official /somewhere/MixFormerV2 --json out/speed.json

Makes a checkpoint in the official layout with made-up weights, converts it to packages of every
precision, and lets all of them run whole 1080p frames in turns of half a second: crop, network,
box. Before that every one answers the same frames, and how far its boxes are from the official
ones is printed. Needs PyTorch (make setup-networks).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from official_mixformer import Official, is_clone

from tracker_ros.cli.bench import image_size
from tracker_ros.evaluation import peak, speed_report
from tracker_ros.evaluation.sequences import Sequence, SequenceError, read_sequences
from tracker_ros.evaluation.speed import (
    Contestant,
    SpeedError,
    TrackerSubject,
    compare,
    moving_patch,
)
from tracker_ros.runtime.engine import EngineError
from tracker_ros.runtime.package import ModelPackage, PackageError, read_package

PRECISIONS = ('fp32', 'bf16', 'int8_bf16')
RUNS = (('openvino', PRECISIONS), ('onnxruntime', ('fp32',)))
TARGETS = (1, 2, 4, 8)
CALIBRATION_FRAMES = 24


class Compared(TrackerSubject):
    """One of ours, with its boxes on the frames."""

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), 'boxes': self.boxes()}


def main() -> int:
    """Measure, print and write; 1 where something failed."""
    args = parse()
    if not is_clone(args.official):
        print(f'speed: {args.official} is no clone of MCG-NJU/MixFormerV2', file=sys.stderr)
        return 1
    reports = {}
    try:
        for variant in args.variants.split(','):
            reports[variant] = measure(variant, args)
            print(describe(variant, reports[variant]), flush=True)
    except (SpeedError, PackageError, EngineError, SequenceError, OSError) as error:
        print(f'speed: {error}', file=sys.stderr)
        return 1
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(reports, indent=1) + '\n', encoding='utf-8')
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--official', type=Path, required=True, metavar='CLONE', help='of MCG-NJU/MixFormerV2'
    )
    parser.add_argument('--variants', default='s,b', help='s, b (default: both)')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--size', type=image_size, default=(1920, 1080), metavar='WxH')
    parser.add_argument(
        '--seconds', type=float, default=5.0, help='for each thing measured (default: 5)'
    )
    parser.add_argument(
        '--until-quiet',
        action='store_true',
        help='count only turns during which other programs left the machine alone',
    )
    parser.add_argument(
        '--longest', type=float, default=200.0, metavar='S', help='for each variant (default: 200)'
    )
    parser.add_argument(
        '--work', type=Path, default=Path('out/speed'), help='checkpoints and packages, kept'
    )
    parser.add_argument('--footage', type=Path, metavar='DATA', help='to calibrate int8 on')
    parser.add_argument('--json', type=Path, metavar='FILE')
    return parser.parse_args()


def measure(variant: str, args: argparse.Namespace) -> dict[str, Any]:
    """Everything of one variant; the official code is the first of the results."""
    packages = made_packages(variant, args.work, args.footage)
    factor = float(packages['fp32'].inputs['search_factor'])
    checkpoint = args.work / f'mixformerv2_{variant}.pth.tar'
    official: Callable[[], Official] = partial(
        Official, args.official, checkpoint, variant, factor, args.threads, args.size
    )
    contestants = [Contestant('official', official)]
    for runtime, precisions in RUNS:
        for precision in precisions:
            folder = str(packages[precision].folder.resolve())
            make = partial(Compared, folder, runtime, args.threads, args.size)
            works = ('frame', *(TARGETS if runtime == 'openvino' else ()))
            contestants.append(Contestant(f'{precision} on {runtime}', make, works))
    kinds = tuple(dict.fromkeys(map(peak.kind_of, PRECISIONS)))
    contestants.append(peak.contestant(kinds, args.threads))
    records = compare(
        contestants, args.seconds, args.until_quiet, args.longest, progress=sys.stderr.isatty()
    )
    report = speed_report.as_dict(records, args.size, args.threads, args.until_quiet)
    true_boxes = np.array(report['results'][0].pop('boxes'))
    base = report['results'][0]['frame_ms']
    for result in report['results'][1:]:
        apart = np.abs(np.array(result.pop('boxes')) - true_boxes)
        result['box_apart_px'] = float(f'{apart.max():.3g}')
        frame = result['frame_ms']
        result['times_official'] = round(base['median'] / frame['median'], 2) if frame else None
    return report


def made_packages(variant: str, work: Path, footage: Path | None) -> dict[str, ModelPackage]:
    """The packages of every precision, made in `work` where they are not there yet."""
    from tracker_ros.export.convert import convert
    from tracker_ros.export.quantize import Plan, quantize

    work.mkdir(parents=True, exist_ok=True)
    name = f'mixformerv2_{variant}'
    checkpoint = work / f'{name}.pth.tar'
    folders = {
        precision: work / (name if precision == 'fp32' else f'{name}-{precision}')
        for precision in PRECISIONS
    }
    if not checkpoint.exists():
        make_checkpoint(variant, checkpoint)
    if not folders['fp32'].exists():
        convert(checkpoint, 'mixformer_v2', name, folders['fp32'])
    packages = {'fp32': read_package(folders['fp32'])}
    for precision, folder in folders.items():
        if not folder.exists():
            clips = read_sequences(footage) if footage else [made_up_clip(work / 'clip')]
            plan = Plan(precision, clips, clips, CALIBRATION_FRAMES)
            # Made-up weights: how far they are from fp32 in fewer bits says nothing.
            quantize(packages['fp32'], plan, folder.name, folder, force=True)
        packages[precision] = read_package(folder)
    return packages


def make_checkpoint(variant: str, path: Path) -> None:
    """Weights as they are initialised, but for what would make all answers alike."""
    import torch

    from tracker_ros.networks.mixformer_v2 import VARIANTS, MixFormerV2

    torch.manual_seed(0)
    network = MixFormerV2(VARIANTS[variant]).eval()
    with torch.no_grad():
        network.backbone.reg_tokens *= 50
        network.box_head.layers[1][1].weight *= 2.5
    partial_path = path.with_suffix('.partial')
    torch.save({'epoch': 0, 'net_type': 'made up', 'net': network.state_dict()}, partial_path)
    partial_path.replace(path)


def made_up_clip(folder: Path) -> Sequence:
    """The pictures that are measured on, as footage."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / 'img').mkdir(parents=True)
    pictures, boxes = moving_patch(640, 480)
    for place, picture in enumerate(pictures, 1):
        cv2.imwrite(str(folder / 'img' / f'{place:04}.png'), picture)
    lines = [','.join(f'{value:g}' for value in box.xywh()) for box in boxes]
    (folder / 'groundtruth.txt').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    (clip,) = read_sequences(folder)
    return clip


def describe(variant: str, report: dict[str, Any]) -> str:
    """The result in lines."""
    lines = [f'MixFormerV2-{variant.upper()}', speed_report.table(report)]
    for result in report['results'][1:]:
        ratio = result['times_official']
        lines.append(
            f'{result["name"]:24} {f"{ratio:.1f} x" if ratio else "not measured":>12} the official'
            f' speed; boxes at most {result["box_apart_px"]:g} px from the official ones'
        )
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    sys.exit(main())
