# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node's parameters: one place for each default, and no value that makes no sense."""

import dataclasses
import math
from pathlib import Path

import pytest
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.parameter import Parameter
from ros_graph import RosGraph

from tracker_ros.resources import share_path
from tracker_ros.ros.parameters import FIXED, Parameters, declare, defaults, read
from tracker_ros.ros.recorder import Recording
from tracker_ros.runtime.engine import RUNTIMES
from tracker_ros.tracking import Patience, Thresholds
from tracker_ros.tracking.recovery import Care

FIELDS = {field.name: field for field in dataclasses.fields(Parameters)}
OF_MODEL = {'lost': 0.2, 'sure': 0.5}
KINDS = {'bool': bool, 'str': str, 'int': int, 'float': float}


def parameters(**changes):
    return Parameters(**{**defaults(), **changes})


def test_the_file_and_the_declarations_agree():
    values = defaults()
    assert list(values) == list(FIELDS), 'the same names in the same order'
    for name, field in FIELDS.items():
        assert type(values[name]) is KINDS[field.type], name


def test_the_file_says_which_are_fixed():
    told, comment = {}, ''
    for line in share_path('config', 'track.yaml').read_text().splitlines():
        line = line.strip()
        if line.startswith('#'):
            comment += line
        elif ':' in line:
            told[line.split(':')[0]] = '(fixed)' in comment
            comment = ''
    assert {name for name, fixed in told.items() if fixed} == set(FIXED)


def test_the_defaults_are_valid():
    assert parameters() == parameters()


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (
            {'runtime': 'tpu'},
            "runtime is 'tpu', but must be one of auto, tensorrt, .*openvino, onnxruntime",
        ),
        ({'image_transport': 'theora'}, "image_transport is 'theora', .* raw, compressed"),
        ({'threads': -1}, 'threads is -1, but must be from 0 to 256'),
        ({'image_timeout_s': 0.0}, 'image_timeout_s is 0, but must be from 0.1 to 3600'),
        ({'smallest_box_px': 0.5}, 'smallest_box_px is 0.5'),
        ({'score_lost': 1.5}, 'score_lost is 1.5, but must be from -1 to 1'),
        ({'lost_after_frames': 0}, 'lost_after_frames is 0'),
        ({'debug_jpeg_quality': 101}, 'debug_jpeg_quality is 101, but must be from 1 to 100'),
        ({'debug_scale': 1.01}, 'debug_scale is 1.01'),
        (
            {'score_lost': 0.6, 'score_sure': 0.4},
            r'score_sure \(0.4\) .* score_lost \(0.6\)',
        ),
    ],
)
def test_what_makes_no_sense_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        parameters(**changes)


@pytest.mark.parametrize('name', [name for name, field in FIELDS.items() if field.type == 'float'])
@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(name, value):
    with pytest.raises(ValueError, match=f'{name} is {value:g}'):
        parameters(**{name: value})


@pytest.mark.parametrize(
    'name', [name for name, field in FIELDS.items() if field.metadata['low'] is not None]
)
def test_the_ends_of_a_range_belong_to_it(name):
    low, high = FIELDS[name].metadata['low'], FIELDS[name].metadata['high']
    assert low < high
    for value in (low, high):
        assert getattr(parameters(**{name: value}), name) == value
    for value in (low - 0.001, high + 0.001):
        with pytest.raises(ValueError, match=name):
            parameters(**{name: value})


@pytest.mark.parametrize(
    ('lost', 'sure', 'thresholds'),
    [
        (-1.0, -1.0, (0.2, 0.5)),
        (0.1, 0.3, (0.1, 0.3)),
        (0.0, -1.0, (0.0, 0.5)),
        (0.7, -1.0, (0.7, 0.7)),
        (-1.0, 0.9, (0.2, 0.9)),
        (-1.0, 0.1, (0.1, 0.1)),
        (0.4, 0.4, (0.4, 0.4)),
    ],
)
def test_negative_scores_take_those_of_the_model(lost, sure, thresholds):
    given = parameters(score_lost=lost, score_sure=sure)
    assert given.thresholds(OF_MODEL) == Thresholds(*thresholds)


def test_patience_is_handed_on():
    given = parameters(uncertain_after_frames=3, lost_after_frames=7, sure_after_frames=4)
    assert given.patience() == Patience(3, 7, 4)


def test_what_is_spent_on_a_search_is_handed_on():
    given = parameters(
        search_when_lost=False, search_time_share=0.5, search_most_looks=2, camera_motion=True
    )
    assert given.care() == Care(False, 0.5, 2, True)


def test_a_recording_is_made_where_there_is_a_folder(tmp_path):
    assert parameters().recording() is None
    given = parameters(
        record_dir=str(tmp_path),
        record_before_s=1.0,
        record_after_s=2.0,
        record_images=True,
        record_mb=3,
    )
    assert given.recording() == Recording(tmp_path, 1.0, 2.0, True, 3)


def test_every_runtime_can_be_chosen():
    for runtime in ('auto', *RUNTIMES):
        assert parameters(runtime=runtime).runtime == runtime


@pytest.fixture(scope='module')
def graph():
    graph = RosGraph()
    yield graph
    graph.close()


@pytest.fixture
def node(graph):
    made = []

    def make(**overrides):
        given = [Parameter(name, value=value) for name, value in overrides.items()]
        made.append(graph.node('holder', parameter_overrides=given))
        return made[-1]

    yield make
    for node in made:
        graph.remove(node)


def test_all_are_declared_with_words_and_ranges(node):
    node = node()
    assert declare(node) == parameters()
    for name, field in FIELDS.items():
        descriptor = node.describe_parameter(name)
        assert descriptor.description
        ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
        low, high = field.metadata['low'], field.metadata['high']
        assert [(each.from_value, each.to_value) for each in ranges] == (
            [] if low is None else [(low, high)]
        )
        if field.metadata['choices']:
            assert ', '.join(field.metadata['choices']) in descriptor.additional_constraints


def test_overrides_are_taken(node):
    node = node(model='vittrack', threads=2, debug_scale=0.5)
    assert declare(node) == parameters(model='vittrack', threads=2, debug_scale=0.5)


def test_changes_are_tried_without_being_made(node):
    node = node()
    declare(node)
    assert read(node, {'threads': 3, 'use_sim_time': True}).threads == 3
    with pytest.raises(ValueError, match='threads is 300'):
        read(node, {'threads': 300})
    assert read(node) == parameters()


@pytest.mark.parametrize(
    ('overrides', 'error', 'words'),
    [
        ({'model': 3}, InvalidParameterTypeException, "'model' to '3'.*STRING"),
        (
            {'image_timeout_s': 3},
            InvalidParameterTypeException,
            "'image_timeout_s' to '3'.*DOUBLE",
        ),
        ({'threads': 1000}, InvalidParameterValueException, r'\(1000\).*threads'),
        ({'runtime': 'tpu'}, ValueError, "runtime is 'tpu'"),
        ({'score_lost': 0.9, 'score_sure': 0.1}, ValueError, 'score_sure'),
    ],
)
def test_wrong_overrides_are_named(node, overrides, error, words):
    with pytest.raises(error, match=words):
        declare(node(**overrides))


def test_the_documentation_lists_them_all():
    """Name, type, default, range and whether it may be set at run time, in the same order."""
    path = Path(__file__).parent.parent / 'docs' / 'parameters.md'
    rows = [
        [cell.strip() for cell in line.split('|')[1:-1]]
        for line in path.read_text(encoding='utf-8').splitlines()
        if line.startswith('| `')
    ]
    assert [row[0].strip('`') for row in rows] == list(FIELDS)
    values = defaults()
    for name, kind, default, bounds, run_time, words in rows:
        field = FIELDS[name.strip('`')]
        value = values[field.name]
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        assert (kind, default.strip('`')) == (field.type, shown), field.name
        low, high = field.metadata['low'], field.metadata['high']
        expected = ', '.join(field.metadata['choices']) if low is None else f'{low} to {high}'
        assert bounds == expected, field.name
        assert (run_time == 'yes') is not field.metadata['fixed'], field.name
        assert words.startswith(field.metadata['description']), field.name
