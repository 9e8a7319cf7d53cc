# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Tiny models and moving pictures, so that everything can be tested without trained weights.

The networks are honest ones: the template graph remembers the mean colour of the target, the
search graph finds the place of the crop whose mean colour is most like it. On dark ground that
follows a bright square.
"""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import onnx
import yaml

from tracker_ros.geometry import Box
from tracker_ros.runtime.package import ModelPackage
from tracker_ros.trackers.contract import Estimate, Tracker

LOST, SURE = 0.2, 0.5

# The target is 16 px wide in both crops: half of the template, a quarter of the search crop.
_TEMPLATE = """
<ir_version: 8, opset_import: ["" : 17]>
template (uint8[1, {side}, {side}, 3] template {more_inputs}) => (float[1, 3, 1, 1] colour)
<int64[2] first = {{{first}, {first}}}, int64[2] end = {{{end}, {end}}}, int64[2] axes = {{2, 3}}>
{{
    pixels = Cast <to = 1> (template)
    planes = Transpose <perm = [0, 3, 1, 2]> (pixels)
    middle = Slice (planes, first, end, axes)
    {result}
}}
"""
_ALONE = 'colour = GlobalAveragePool (middle)'
_WITH_ONLINE = """
    online_pixels = Cast <to = 1> (online)
    online_planes = Transpose <perm = [0, 3, 1, 2]> (online_pixels)
    online_middle = Slice (online_planes, first, end, axes)
    both = Mean (middle, online_middle)
    colour = GlobalAveragePool (both)
"""
# The box is taken, and changes nothing.
_WITH_BOX = """
    nothing = Sub (box, box)
    sum = ReduceSum <keepdims = 0> (nothing)
    plain = GlobalAveragePool (middle)
    colour = Add (plain, sum)
"""
# `match` is 1 where a window of the target's size has the target's mean colour.
_SEARCH = """
<ir_version: 8, opset_import: ["" : 17]>
search (uint8[1, {side}, {side}, 3] search, float[1, 3, 1, 1] colour) => ({outputs})
<float decay = {{-0.00015}}, int64[1] channels = {{1}}, {constants}>
{{
    pixels = Cast <to = 1> (search)
    planes = Transpose <perm = [0, 3, 1, 2]> (pixels)
    means = AveragePool <
        kernel_shape = [{kernel}, {kernel}], strides = [2, 2],
        pads = [{pads}], count_include_pad = 1
    > (planes)
    difference = Sub (means, colour)
    squared = Mul (difference, difference)
    distance = ReduceSum (squared, channels)
    faded = Mul (distance, decay)
    match = Exp (faded)
    {results}
}}
"""


def make_package(folder: Path, family: str = 'vittrack', **changes) -> Path:
    """Writes a package of `family` into `folder`; `changes` are entries of its model.yaml."""
    folder.mkdir(parents=True)
    template, search, entries = _MAKERS[family]()
    graphs = {}
    further = _FURTHER.get(family, {})
    for role, text in {'template': template, 'search': search, **further}.items():
        model = onnx.parser.parse_model(text)
        onnx.checker.check_model(model, full_check=True)
        data = model.SerializeToString()
        (folder / f'{role}.onnx').write_bytes(data)
        graphs[role] = {'file': f'{role}.onnx', 'sha256': hashlib.sha256(data).hexdigest()}
    manifest = {
        'name': folder.name,
        'family': family,
        'licence': 'Apache-2.0',
        'graphs': graphs,
        **entries,
        'confidence': {'lost': LOST, 'sure': SURE},
        **changes,
    }
    write_manifest(folder, manifest)
    return folder


def write_manifest(folder: Path, manifest: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'model.yaml').write_text(yaml.safe_dump(manifest, sort_keys=False))


def _vittrack():
    search = _SEARCH.format(
        side=64,
        kernel=16,
        pads='8, 8, 6, 6',
        outputs='float[1, 1, 32, 32] score, float[1, 2, 32, 32] size, float[1, 2, 32, 32] offset',
        constants='int64[4] shape = {1, 2, 32, 32}, float[1] quarter = {0.25}, float[1] nil = {0}',
        results="""
            score = Identity (match)
            size = Expand (quarter, shape)
            offset = Expand (nil, shape)
        """,
    )
    template = _TEMPLATE.format(side=32, first=8, end=24, more_inputs='', result=_ALONE)
    return template, search, {'inputs': _STARK_INPUTS, 'constants': {'score_map': 32}}


def _mixformer_v2():
    places = ', '.join(str(cell / 32) for cell in range(32))
    search = _SEARCH.format(
        side=64,
        kernel=16,
        pads='8, 8, 6, 6',
        outputs='float[1, 4] box, float[1] score, float[1, 4, 32] sides',
        constants=f"""
            int64[2] flat_shape = {{1, -1}}, int64[3] map_shape = {{1, 32, 32}},
            float sharpness = {{60}}, float[1, 2] size = {{0.25, 0.25}},
            int64[1] rows = {{1}}, int64[1] columns = {{2}}, float[32, 1] places = {{{places}}}
        """,
        results="""
            flat = Reshape (match, flat_shape)
            sharp = Mul (flat, sharpness)
            share = Softmax <axis = 1> (sharp)
            map = Reshape (share, map_shape)
            of_column = ReduceSum <keepdims = 0> (map, rows)
            of_row = ReduceSum <keepdims = 0> (map, columns)
            x = MatMul (of_column, places)
            y = MatMul (of_row, places)
            box = Concat <axis = 1> (x, y, size)
            score = ReduceMax <axes = [1], keepdims = 0> (flat)
            across = Unsqueeze (of_column, rows)
            down = Unsqueeze (of_row, rows)
            sides = Concat <axis = 1> (across, across, down, down)
        """,
    )
    template = _TEMPLATE.format(
        side=32,
        first=8,
        end=24,
        more_inputs=', uint8[1, 32, 32, 3] online',
        result=_WITH_ONLINE,
    )
    constants = {'update_interval_frames': 5, 'update_score': 0.5, 'clip_margin_px': 10.0}
    return template, search, {'inputs': _STARK_INPUTS, 'constants': constants}


def _kestrel():
    """The score is sharp around the best match; the box is 16 px about the corner of the cell."""
    search = _SEARCH.format(
        side=64,
        kernel=16,
        pads='8, 8, 6, 6',
        outputs='float[1, 1, 32, 32] score, float[1, 4, 32, 32] sides, float[1] presence',
        constants="""
            int64[2] flat_shape = {1, -1}, int64[4] score_shape = {1, 1, 32, 32},
            int64[4] sides_shape = {1, 4, 32, 32}, float sharpness = {60},
            float[1, 4, 1, 1] reach = {0.140625, 0.140625, 0.109375, 0.109375}
        """,
        results="""
            flat = Reshape (match, flat_shape)
            sharp = Mul (flat, sharpness)
            share = Softmax <axis = 1> (sharp)
            score = Reshape (share, score_shape)
            sides = Expand (reach, sides_shape)
            presence = ReduceMax <axes = [1], keepdims = 0> (flat)
        """,
    )
    template = _TEMPLATE.format(
        side=32, first=8, end=24, more_inputs=', float[1, 4] box', result=_WITH_BOX
    )
    inputs = {**_STARK_INPUTS, 'template_values': {'box': [4]}}
    constants = {'clip_margin_px': 2, 'window': 0.5, 'size_pace': 0.5}
    return template, search, {'inputs': inputs, 'constants': constants}


def _nanotrack():
    search = _SEARCH.format(
        side=63,
        kernel=15,
        pads='6, 6, 6, 6',
        outputs='float[1, 2, 31, 31] score, float[1, 4, 31, 31] offset',
        constants="""
            float gain = {12}, float bias = {-6}, float[1] half_side = {7.75}, float[1] nil = {0},
            int64[4] score_shape = {1, 1, 31, 31}, int64[4] offset_shape = {1, 4, 31, 31}
        """,
        results="""
            scaled = Mul (match, gain)
            target = Add (scaled, bias)
            background = Expand (nil, score_shape)
            score = Concat <axis = 1> (background, target)
            offset = Expand (half_side, offset_shape)
        """,
    )
    template = _TEMPLATE.format(side=31, first=8, end=23, more_inputs='', result=_ALONE)
    constants = {
        'stride': 2,
        'score_map': 31,
        'context': 0.5,
        'window_influence': 0.3,
        'penalty_k': 0.1,
        'size_rate': 0.3,
    }
    return (
        template,
        search,
        {
            'inputs': {'template_px': 31, 'search_px': 63},
            'constants': constants,
        },
    )


_STARK_INPUTS = {
    'template_px': 32,
    'template_factor': 2.0,
    'search_px': 64,
    'search_factor': 4.0,
}


def _simtrack():
    """The box as that of MixFormerV2; the place of the best match is both of its corners."""
    _, search, entries = _mixformer_v2()
    search = search.replace(
        'float[1] score, float[1, 4, 32] sides)', 'float[1, 2, 32, 32] corners)'
    )
    search = search.replace(
        'score = ReduceMax <axes = [1], keepdims = 0> (flat)',
        """channel = Unsqueeze (map, rows)
            corners = Concat <axis = 1> (channel, channel)""",
    )
    template = _TEMPLATE.format(
        side=32, first=8, end=24, more_inputs=', float[1, 4] box', result=_WITH_BOX
    )
    inputs = {**entries['inputs'], 'template_values': {'box': [4]}}
    return template, search, {'inputs': inputs, 'constants': {'clip_margin_px': 10.0}}


_TOLD = ', float[1, 4] box, float[1, 768] language, float[1, 1] by_language'
_AS_TOLD = """
    {alone}
    number = ReduceMean <keepdims = 0> (language)
    corner = ReduceMean <keepdims = 0> (box)
    whether = ReduceMean <keepdims = 0> (by_language)
    number_and_corner = Add (number, corner)
    told = Add (number_and_corner, whether)
    nothing = Sub (told, told)
    colour = Add (plain, nothing)
"""


def _told(entries):
    """A template graph that takes a box and language, and the entries that say so."""
    side = entries['inputs']['template_px']
    alone = _ALONE.replace('colour', 'plain')
    template = _TEMPLATE.format(
        side=side,
        first=8,
        end=side - 8,
        more_inputs=_TOLD,
        result=_AS_TOLD.format(alone=alone),
    )
    values = {'box': [4], 'language': [768], 'by_language': [1]}
    constants = {
        'context': 0.5,
        'penalty_k': 0.1,
        'size_rate': 0.3,
        'window_influence': 0.3,
        'without_text': 'template',
        'language_model': 'bert_base_uncased',
        **entries['constants'],
    }
    inputs = {**entries['inputs'], 'template_values': values}
    return template, {'takes_text': True, 'inputs': inputs, 'constants': constants}


def _vlt_scar():
    """As NanoTrack; the class tells the target's centre as well."""
    _, search, entries = _nanotrack()
    search = search.replace(') => (', ') => (float[1, 1, 31, 31] centre, ').replace(
        'score = Concat', 'centre = Identity (target)\n            score = Concat'
    )
    template, entries = _told(entries)
    return template, search, entries


def _vlt_rpn():
    """As SiamAttn, without a closer look."""
    _, search, entries = _siam_attn()
    for name in ('box_features', 'mask_features'):
        search = search.replace(f'{name} = Identity (match)', '')
    search = search.replace('float[1, 1, 31, 31] box_features,', '').replace(
        'float[1, 4, 31, 31] loc,', 'float[1, 4, 31, 31] loc'
    )
    search = search.replace('float[1, 1, 31, 31] mask_features', '')
    sizes = {name: entries['inputs'][name] for name in ('template_px', 'search_px')}
    constants = {name: x for name, x in entries['constants'].items() if name != 'mask_threshold'}
    template, entries = _told({'inputs': sizes, 'constants': constants})
    return template, search, entries


def _vlt_tt():
    places = ', '.join(str(cell / 32) for cell in range(32))
    search = _SEARCH.format(
        side=64,
        kernel=16,
        pads='8, 8, 6, 6',
        outputs='float[1, 1024, 2] score, float[1, 1024, 4] box',
        constants=f"""
            float gain = {{12}}, float bias = {{-6}}, float[1] nil = {{0}},
            float[1, 1, 2] sides = {{0.25, 0.25}}, int64[3] side_shape = {{1, 1024, 2}},
            float[1, 32] across = {{{places}}}, float[32, 1] down = {{{places}}},
            int64[2] grid = {{32, 32}}, int64[3] list = {{1, 1024, 1}}
        """,
        results="""
            scaled = Mul (match, gain)
            biased = Add (scaled, bias)
            target = Reshape (biased, list)
            background = Expand (nil, list)
            score = Concat <axis = 2> (target, background)
            columns = Expand (across, grid)
            rows = Expand (down, grid)
            x = Reshape (columns, list)
            y = Reshape (rows, list)
            sizes = Expand (sides, side_shape)
            box = Concat <axis = 2> (x, y, sizes)
        """,
    )
    template, entries = _told(
        {
            'inputs': {'template_px': 32, 'search_px': 64},
            'constants': {'score_map': 32, 'search_context': 1.5},
        }
    )
    return template, search, entries


def _siam_attn():
    """One square anchor in each cell, a little larger than the target."""
    search = _SEARCH.format(
        side=63,
        kernel=15,
        pads='6, 6, 6, 6',
        outputs="""
            float[1, 2, 31, 31] cls, float[1, 4, 31, 31] loc,
            float[1, 1, 31, 31] box_features, float[1, 1, 31, 31] mask_features
        """,
        constants="""
            float gain = {12}, float bias = {-6}, float[1] nil = {0}, float[1] smaller = {-0.0317},
            int64[4] score_shape = {1, 1, 31, 31}, int64[4] pair_shape = {1, 2, 31, 31}
        """,
        results="""
            scaled = Mul (match, gain)
            target = Add (scaled, bias)
            background = Expand (nil, score_shape)
            cls = Concat <axis = 1> (background, target)
            moved = Expand (nil, pair_shape)
            resized = Expand (smaller, pair_shape)
            loc = Concat <axis = 1> (moved, resized)
            box_features = Identity (match)
            mask_features = Identity (match)
        """,
    )
    template = _TEMPLATE.format(side=31, first=8, end=23, more_inputs='', result=_ALONE)
    constants = {
        'stride': 2,
        'score_map': 31,
        'anchor_ratios': [1.0],
        'anchor_scale': 8,
        'context': 0.5,
        'window_influence': 0.3,
        'penalty_k': 0.1,
        'size_rate': 0.3,
        'mask_threshold': 0.5,
    }
    inputs = {
        'template_px': 31,
        'search_px': 63,
        'refine_values': {'roi': [4]},
        'mask_values': {'roi': [4]},
    }
    return template, search, {'inputs': inputs, 'constants': constants}


# Of every box it is said that it is right, and that all of it is the target.
_FURTHER = {
    'siam_attn': {
        'refine': """
            <ir_version: 8, opset_import: ["" : 17]>
            refine (float[1, 1, 31, 31] box_features, float[1, 4] roi) => (float[1, 4] correction)
            {
                mean = ReduceMean <keepdims = 0> (box_features)
                offset = Mul (roi, mean)
                correction = Sub (offset, offset)
            }
        """,
        'mask': """
            <ir_version: 8, opset_import: ["" : 17]>
            mask (float[1, 1, 31, 31] mask_features, float[1, 4] roi)
                => (float[1, 1, 64, 64] mask_logits)
            <int64[4] shape = {1, 1, 64, 64}, float[1] sure = {4}>
            {
                mean = ReduceMean <keepdims = 0> (mask_features)
                corner = ReduceMean <keepdims = 0> (roi)
                number = Mul (mean, corner)
                nothing = Sub (number, number)
                logit = Add (sure, nothing)
                mask_logits = Expand (logit, shape)
            }
        """,
    }
}


def _dual_tfr():
    """A score and a box for each cell, row by row."""
    places = ', '.join(str(cell / 32) for cell in range(32))
    search = _SEARCH.format(
        side=64,
        kernel=16,
        pads='8, 8, 6, 6',
        outputs='float[1, 1024] score, float[1, 1024, 4] box',
        constants=f"""
            int64[2] flat_shape = {{1, -1}}, int64[3] list_shape = {{1, -1, 4}},
            int64[4] shape = {{1, 32, 32, 1}}, int64[4] size_shape = {{1, 32, 32, 2}},
            float[1, 1, 32, 1] columns = {{{places}}}, float[1, 32, 1, 1] rows = {{{places}}},
            float[1] quarter = {{0.25}}
        """,
        results="""
            score = Reshape (match, flat_shape)
            x = Expand (columns, shape)
            y = Expand (rows, shape)
            size = Expand (quarter, size_shape)
            cells = Concat <axis = 3> (x, y, size)
            box = Reshape (cells, list_shape)
        """,
    )
    template = _TEMPLATE.format(side=32, first=8, end=24, more_inputs='', result=_ALONE)
    constants = {
        'clip_margin_px': 10.0,
        'score_map': 32,
        'filter_weight': 0.2,
        'update_score': 0.5,
    }
    return template, search, {'inputs': _STARK_INPUTS, 'constants': constants}


_MAKERS = {
    'dual_tfr': _dual_tfr,
    'kestrel': _kestrel,
    'mixformer_v2': _mixformer_v2,
    'nanotrack': _nanotrack,
    'siam_attn': _siam_attn,
    'simtrack': _simtrack,
    'vittrack': _vittrack,
    'vlt_rpn': _vlt_rpn,
    'vlt_scar': _vlt_scar,
    'vlt_tt': _vlt_tt,
}


class Square:
    """A bright textured square on dark textured ground."""

    def __init__(self, side: int = 40, width: int = 240, height: int = 160, seed: int = 1) -> None:
        random = np.random.default_rng(seed)
        self._ground = random.integers(0, 60, (height, width, 3), np.uint8)
        # Smooth, as pictures are: noise looks like nothing else one pixel aside.
        self._face = cv2.resize(random.integers(120, 256, (6, 6, 3), np.uint8), (side, side))
        self._side = side

    def at(self, x: int, y: int) -> np.ndarray:
        """The picture (H, W, 3) BGR with the square's corner at (x, y), perhaps cut off."""
        picture = self._ground.copy()
        height, width = picture.shape[:2]
        left, top = max(0, -x), max(0, -y)
        face = self._face[top : max(0, height - y), left : max(0, width - x)]
        if face.size:
            rows, columns = face.shape[:2]
            picture[y + top : y + top + rows, x + left : x + left + columns] = face
        return picture

    def box(self, x: int, y: int) -> Box:
        return Box(float(x), float(y), float(self._side), float(self._side))

    @property
    def ground(self) -> np.ndarray:
        """The picture without it."""
        return self._ground.copy()


class ScriptedTracker(Tracker):
    """Does what the picture says: the score is its first byte / 255, the box stays.

    `before` is called before each start and step, in the thread that tracks.
    """

    def __init__(self, package: ModelPackage, before=lambda image: None) -> None:
        super().__init__(package, None)
        self.before = before
        self.starts: list[Box] = []
        self.searches: list[Box] = []
        self._box = Box(0, 0, 1, 1)

    def start(self, image, box, text=None):
        self.before(image)
        self.starts.append(box)
        self._box = box
        return _score(image)

    def follow(self, image):
        self.before(image)
        return Estimate(self._box, _score(image))

    def another(self):
        return ScriptedTracker(self.package, self.before)

    def search_around(self, box):
        self.searches.append(box)


def _score(image):
    return float(image[0, 0, 0]) / 255.0


def picture_saying(score: float, width: int = 64, height: int = 48) -> np.ndarray:
    """A picture that gives a `ScriptedTracker` this score, to 1/255."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[0, 0, 0] = round(255 * score)
    return picture
