# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in the official layouts, with made-up weights, and packages of them.

What the weights are worth does not change how fast a network is, as long as its numbers stay
numbers. For trackers with public code they follow the rule of the golden numbers (test/parity.py)
and so far from chance as it takes that boxes differ from picture to picture; others have those
that they are initialised with.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2

from tracker_ros.evaluation.sequences import Sequence as Footage
from tracker_ros.evaluation.sequences import read_sequences
from tracker_ros.evaluation.speed import moving_patch
from tracker_ros.runtime.package import ModelPackage, read_package

CALIBRATION_FRAMES = 24
FAMILIES = {
    'mixformerv2': 'mixformer_v2',
    'simtrack': 'simtrack',
    'dual_tfr': 'dual_tfr',
    'vlt_scar': 'vlt_scar',
    'vlt_tt': 'vlt_tt',
    'siamattn': 'siam_attn',
}
"""The family by the begin of a model's name."""

_CORNERS = [
    [r'^box_head\.conv5_(tl|br)\.weight$', {'scale': 2.0}],
    [r'^box_head\.conv[1-4]_(tl|br)\.0\.weight$', {'scale': 1.6}],
]
_MIXERS = [
    [r'vistoken_layers\.[0-3]\.0\.weight$', {'scale': 0.5}],
    [r'\.branch_(main|proj)\..*weight$', {'scale': 1.25}],
]
_CHANGES: dict[str, list[Any]] = {
    'simtrack': _CORNERS,
    'vlt_scar': [
        *_MIXERS,
        [r'^neck\.downsample[47]\..*0\.weight$', {'scale': 0.5}],
        [r'^backbone\.first_conv\.0\.weight$', {'scale': 1 / 60}],
        [r'^head\.down\.weight$', {'scale': 0.25}],
        [r'^head\.bbox_pred\.weight$', {'scale': 0.5}],
        [r'^head\.bbox_pred\.bias$', {'add': 3.4}],
        [r'^head\.cls_logits\.weight$', {'scale': 2.0}],
    ],
    'vlt_tt': [
        *_MIXERS,
        [r'^neck\.input_proj(_copy)?\.weight$', {'scale': 6.0}],
        [r'^neck\..*attn\.fc\.weight$', {'scale': 0.5}],
        [r'^neck\..*linear(12|22|2)\.weight$', {'scale': 0.5}],
        [r'^head\.class_embed\.layers\.2\.weight$', {'scale': 16.0}],
        [r'^head\.bbox_embed\.layers\.2\.weight$', {'scale': 10.0}],
        [r'^head\.class_embed\.layers\.2\.bias$', {'add': [10.966, -7.093]}],
        [r'^head\.bbox_embed\.layers\.2\.bias$', {'add': [-3.734, -7.455, 4.837, 4.836]}],
    ],
    'siamattn': [
        [r'^backbone\.conv1\.weight$', {'scale': 1 / 60}],
        [r'^backbone\.layer[1-4]\..*conv[123]\.weight$', {'scale': 1.2}],
        [r'^neck\.downsample2\.downsample\.1\.(weight|bias)$', {'scale': 0.05}],
        [r'^neck\.downsample[34]\.downsample\.1\.(weight|bias)$', {'scale': 0.03}],
        [r'(query|key)_conv\.weight$', {'scale': 14.0}],
        [r'gamma$', {'scale': 3.0}],
        [r'conv_offset\.weight$', {'scale': 7.0}],
        [r'^rpn_head\..*\.(conv_kernel|conv_search)\.0\.weight$', {'scale': 2.0}],
        [r'^rpn_head\..*\.cls\.head\.3\.weight$', {'scale': 3.0}],
        [r'^rpn_head\..*\.loc\.head\.3\.weight$', {'scale': 0.7}],
        [r'^bbox_head.*offset_fc\.4\.weight$', {'scale': 4.0}],
        [r'^bbox_head\.tail_det_box\.weight$', {'scale': 4.0}],
        [r'^mask_head\.(convs\.\d\.conv|upsample)\.weight$', {'scale': 1.5}],
        [r'^mask_head\.upsample\.weight$', {'scale': 4.0}],
        [r'^mask_head\.conv_logits\.weight$', {'scale': 2.0}],
    ],
}
"""What keeps the values inside in a range that is neither flat nor all at one place."""


def made_packages(
    model: str, precisions: Sequence[str], work: Path, footage: Path | None
) -> dict[str, ModelPackage]:
    """The packages of `model`, by precision, made in `work` where they are not there yet."""
    from tracker_ros.export.convert import convert
    from tracker_ros.export.quantize import Plan, quantize

    work.mkdir(parents=True, exist_ok=True)
    path = checkpoint(model, work)
    folders = {
        precision: work / (model if precision == 'fp32' else f'{model}-{precision}')
        for precision in ('fp32', *precisions)
    }
    if not path.exists():
        _make_checkpoint(model, path)
    if not folders['fp32'].exists():
        convert(path, FAMILIES[_kind(model)], model, folders['fp32'])
    packages = {'fp32': read_package(folders['fp32'])}
    for precision, folder in folders.items():
        if not folder.exists():
            clips = read_sequences(footage) if footage else [made_up_clip(work / 'clip')]
            plan = Plan(precision, clips, clips, CALIBRATION_FRAMES)
            # Made-up weights: how far they are from fp32 in fewer bits says nothing.
            quantize(packages['fp32'], plan, folder.name, folder, force=True)
        packages[precision] = read_package(folder)
    return packages


def checkpoint(model: str, work: Path) -> Path:
    """Where the checkpoint of `model` is kept."""
    return work / f'{model}.pth.tar'


def _kind(model: str) -> str:
    return next(kind for kind in FAMILIES if model.startswith(kind))


def _make_checkpoint(model: str, path: Path) -> None:
    import torch

    torch.manual_seed(0)
    kind = _kind(model)
    network = _NETWORKS[kind](model.removeprefix(kind).removeprefix('_')).eval()
    if kind == 'mixformerv2':
        # As they are initialised, but for what would make all answers alike.
        with torch.no_grad():
            network.backbone.reg_tokens *= 50
            network.box_head.layers[1][1].weight *= 2.5
    elif kind in _CHANGES:
        sys.path.append(str(Path(__file__).resolve().parent.parent / 'test'))
        rule = {'salt': '', 'salts': [], 'keep': [], 'overrides': _CHANGES[kind]}
        importlib.import_module('parity').load_made_up(network, rule)
    partial_path = path.with_suffix('.partial')
    state = {'epoch': 0, 'net_type': 'made up', 'net': network.state_dict()}
    torch.save(state, partial_path)
    partial_path.replace(path)


def _mixformer(variant: str) -> Any:
    from tracker_ros.networks.mixformer_v2 import VARIANTS, MixFormerV2

    return MixFormerV2(VARIANTS[variant])


def _simtrack(variant: str) -> Any:
    from tracker_ros.networks import simtrack, simtrack_pyramid

    if variant in simtrack_pyramid.VARIANTS:
        return simtrack_pyramid.PyramidSimTrack(simtrack_pyramid.VARIANTS[variant])
    return simtrack.SimTrack(simtrack.VARIANTS[variant])


def _dual_tfr(_variant: str) -> Any:
    from tracker_ros.networks.dual_tfr import VARIANTS, DualTfr

    return DualTfr(VARIANTS['plain'])


def _vlt_scar(_variant: str) -> Any:
    from tracker_ros.networks.vlt import NETWORKS, VARIANTS

    return NETWORKS['scar'](VARIANTS['scar'])


def _vlt_tt(_variant: str) -> Any:
    from tracker_ros.networks.vlt import NETWORKS, VARIANTS

    return NETWORKS['tt'](VARIANTS['tt'])


def _siam_attn(_variant: str) -> Any:
    from tracker_ros.networks.siam_attn import SiamAttn

    return SiamAttn()


_NETWORKS: dict[str, Callable[[str], Any]] = {
    'mixformerv2': _mixformer,
    'simtrack': _simtrack,
    'dual_tfr': _dual_tfr,
    'vlt_scar': _vlt_scar,
    'vlt_tt': _vlt_tt,
    'siamattn': _siam_attn,
}


def made_up_clip(folder: Path) -> Footage:
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
