# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A package with a free batch, small enough to be run thousands of times.

It answers as MixFormerV2 does: what it caches is the mean colour of both templates, the box and
the score follow from how far the colour of the search crop is from that.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import yaml

from tracker_ros.runtime.package import ModelPackage, read_package

TEMPLATE_PX, SEARCH_PX = 16, 32

_TEMPLATE = """
<ir_version: 8, opset_import: ["" : 17]>
template (uint8[{batch}, {side}, {side}, 3] template, uint8[{batch}, {side}, {side}, 3] online)
    => ({kind}[{batch}, 3] colour, {kind}[{batch}, 1, 3] contrast)
<float share = {{0.25}}>
{{
    first = Cast <to = 1> (template)
    second = Cast <to = 1> (online)
    first_mean = ReduceMean <axes = [1, 2], keepdims = 0> (first)
    second_mean = ReduceMean <axes = [1, 2], keepdims = 0> (second)
    apart = Sub (second_mean, first_mean)
    part = Mul (apart, share)
    mean = Add (first_mean, part)
    brightest = ReduceMax <axes = [1], keepdims = 1> (first)
    brightest_mean = ReduceMean <axes = [2], keepdims = 0> (brightest)
    colour = Cast <to = {number}> (mean)
    contrast = Cast <to = {number}> (brightest_mean)
}}
"""
_SEARCH = """
<ir_version: 8, opset_import: ["" : 17]>
search (uint8[{batch}, {side}, {side}, 3] search, {kind}[{batch}, 3] colour,
        {kind}[{batch}, 1, 3] contrast)
    => (float[{batch}, 4] box, float[{batch}] score)
<float scale = {{0.03}}, int64[1] channels = {{1}}>
{{
    colour_number = Cast <to = 1> (colour)
    contrast_number = Cast <to = 1> (contrast)
    pixels = Cast <to = 1> (search)
    mean = ReduceMean <axes = [1, 2], keepdims = 0> (pixels)
    contrast_mean = ReduceMean <axes = [1], keepdims = 0> (contrast_number)
    apart = Sub (mean, colour_number)
    small = Mul (apart, scale)
    shares = Sigmoid (small)
    darker = Sub (contrast_mean, mean)
    darker_small = Mul (darker, scale)
    total = ReduceSum <keepdims = 1> (darker_small, channels)
    width = Sigmoid (total)
    box = Concat <axis = 1> (shares, width)
    score = ReduceMean <axes = [1], keepdims = 0> (shares)
}}
"""


def make_small(
    folder: Path, half: bool = False, batch: str = 'N', **changes: object
) -> ModelPackage:
    """Writes the package; `half` caches fp16, `batch` '1' fixes the batch."""
    folder.mkdir(parents=True)
    names = {'batch': batch, 'kind': 'float16' if half else 'float', 'number': 10 if half else 1}
    graphs = {}
    for role, text, side in (('template', _TEMPLATE, TEMPLATE_PX), ('search', _SEARCH, SEARCH_PX)):
        model = onnx.parser.parse_model(text.format(side=side, **names))
        onnx.checker.check_model(model, full_check=True)
        data = model.SerializeToString()
        (folder / f'{role}.onnx').write_bytes(data)
        graphs[role] = {'file': f'{role}.onnx', 'sha256': hashlib.sha256(data).hexdigest()}
    manifest = {
        'name': folder.name,
        'family': 'mixformer_v2',
        'licence': 'Apache-2.0',
        'graphs': graphs,
        'inputs': {
            'template_px': TEMPLATE_PX,
            'template_factor': 2.0,
            'search_px': SEARCH_PX,
            'search_factor': 4.0,
        },
        'constants': {
            'update_interval_frames': 5,
            'update_score': 0.5,
            'clip_margin_px': 10.0,
        },
        'confidence': {'lost': 0.2, 'sure': 0.5},
        **changes,
    }
    (folder / 'model.yaml').write_text(yaml.safe_dump(manifest, sort_keys=False))
    return read_package(folder)


def crops(count: int, seed: int = 0) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
    """Template crops by name of `count` targets, and their search crops (count, side, side, 3).

    Each target has a colour of its own, so that taking one for another shows.
    """
    random = np.random.default_rng(seed)

    def crop(side: int) -> np.ndarray:
        base = random.integers(20, 200, 3)
        return (base + random.integers(0, 50, (side, side, 3))).astype(np.uint8)

    templates = [
        {'template': crop(TEMPLATE_PX), 'online': crop(TEMPLATE_PX)} for _ in range(count)
    ]
    return templates, np.stack([crop(SEARCH_PX) for _ in range(count)])
