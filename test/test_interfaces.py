# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The messages and services: vision_msgs is the real one to others, ours keep their promises."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import rclpy
from rclpy.node import Node
from vision_msgs import msg as vision_msgs

from tracker_ros_interfaces.msg import (
    Bearing,
    BearingArray,
    Prediction,
    PredictionArray,
    TargetState,
    TrackerState,
)
from tracker_ros_interfaces.srv import InitTarget, StopTarget, TakeCandidate

# Type hashes of vision_msgs 4.1.1. They cover names, types and order of all fields, nested ones
# too: nodes with equal hashes understand each other.
VISION_MSGS = {
    'BoundingBox2D': '008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f',
    'BoundingBox2DArray': '2464e82838009386d371b523211c21c91d74d313fcdd6788223c531d621cf691',
    'Detection2D': '0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea',
    'Detection2DArray': '214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968',
    'LabelInfo': '3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783',
    'ObjectHypothesis': '51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90',
    'ObjectHypothesisWithPose': '41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc',
    'Point2D': 'eab0e83f44ab4de92ceaf76dd7d0e7638f2bdd1d16ffbe16c7a136c48e407247',
    'Pose2D': 'b0b5d1d7b4c20dd4fcde3ed1d4b289a919290572007d67a97043814db25d3648',
    'VisionClass': '1e4a11f0fed50b5623cb8ff26ca0e37952a48a9c074d16f804b44e9164c2037a',
    'VisionInfo': '95d3116a17484ad91c9a2686e1d54890bbfc3ff6c6a2de137738c4950d45d284',
}


@pytest.mark.parametrize('name', VISION_MSGS)
def test_vision_msgs_type_hash(name: str, shown_type_hashes: dict[str, str]) -> None:
    assert shown_type_hashes[name] == f'RIHS01_{VISION_MSGS[name]}'


@pytest.fixture(scope='module')
def shown_type_hashes() -> Iterator[dict[str, str]]:
    """What a node shows others as the hash of each type: asked of the middleware itself."""
    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        node = rclpy.create_node('type_hashes', context=context)
        publishers = {
            name: node.create_publisher(getattr(vision_msgs, name), f'type_hashes/{name}', 1)
            for name in VISION_MSGS
        }
        yield {name: shown_type_hash(node, each.topic_name) for name, each in publishers.items()}
    finally:
        rclpy.shutdown(context=context)


def shown_type_hash(node: Node, topic: str) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for endpoint in node.get_publishers_info_by_topic(topic):
            return str(endpoint.topic_type_hash)
        time.sleep(0.01)  # the graph is filled by another thread
    raise AssertionError(f'the middleware does not list the publisher of {topic}')


def test_tracker_state_constants() -> None:
    assert constants(TrackerState) == {
        'IDLE': 0,
        'STARTING': 1,
        'TRACKING': 2,
        'UNCERTAIN': 3,
        'LOST': 4,
    }


def test_tracker_state_fields() -> None:
    assert TrackerState.get_fields_and_field_types() == {
        'header': 'std_msgs/Header',
        'state': 'uint8',
        'target_id': 'string',
        'score': 'float',
        'reason': 'string',
        'enabled': 'boolean',
        'frame_age_s': 'float',
        'frames_seen': 'uint64',
        'frames_processed': 'uint64',
        'frames_dropped': 'uint64',
        'model': 'string',
        'runtime': 'string',
        'targets': 'sequence<tracker_ros_interfaces/TargetState>',
    }


def test_the_state_of_one_target() -> None:
    assert TargetState.get_fields_and_field_types() == {
        'target_id': 'string',
        'state': 'uint8',
        'confidence': 'float',
        'score': 'float',
        'reason': 'string',
        'tracked_frames': 'uint64',
        'since': 'builtin_interfaces/Time',
        'bbox': 'vision_msgs/BoundingBox2D',
        'velocity': 'double[4]',
        'covariance': 'double[16]',
    }
    same = constants(TrackerState)
    assert constants(TargetState) == {name: same[name] for name in same if name != 'IDLE'}


def test_predictions() -> None:
    assert Prediction.get_fields_and_field_types() == {
        'header': 'std_msgs/Header',
        'target_id': 'string',
        'state': 'uint8',
        'confidence': 'float',
        'age_s': 'float',
        'bbox': 'vision_msgs/BoundingBox2D',
        'velocity': 'double[4]',
        'covariance': 'double[16]',
    }
    assert PredictionArray.get_fields_and_field_types() == {
        'header': 'std_msgs/Header',
        'predictions': 'sequence<tracker_ros_interfaces/Prediction>',
    }


def test_bearings() -> None:
    assert Bearing.get_fields_and_field_types() == {
        'header': 'std_msgs/Header',
        'target_id': 'string',
        'ray': 'geometry_msgs/Vector3',
        'azimuth': 'double',
        'elevation': 'double',
        'covariance': 'double[4]',
        'error_x': 'double',
        'error_y': 'double',
        'confidence': 'float',
    }
    assert BearingArray.get_fields_and_field_types() == {
        'header': 'std_msgs/Header',
        'bearings': 'sequence<tracker_ros_interfaces/Bearing>',
    }


def test_init_target() -> None:
    assert InitTarget.Request.get_fields_and_field_types() == {
        'header': 'std_msgs/Header',
        'bbox': 'vision_msgs/BoundingBox2D',
        'target_id': 'string',
        'text': 'string',
    }
    assert InitTarget.Response.get_fields_and_field_types() == {
        'success': 'boolean',
        'code': 'uint8',
        'message': 'string',
        'target_id': 'string',
        'score': 'float',
        'frame_age_s': 'float',
        'catch_up_frames': 'uint32',
        'catch_up_s': 'float',
        'bbox': 'vision_msgs/BoundingBox2D',
    }
    assert constants(InitTarget.Response) == {
        'OK': 0,
        'NO_IMAGE': 1,
        'INVALID_BOX': 2,
        'BOX_OUTSIDE_IMAGE': 3,
        'BOX_TOO_SMALL': 4,
        'TEXT_NOT_SUPPORTED': 5,
        'NOT_READY': 6,
        'WRONG_FRAME': 7,
        'INVALID_ID': 8,
        'TRACKER_FAILED': 9,
        'NODE_FULL': 10,
        'NOTHING_THERE': 11,
    }


def test_take_candidate() -> None:
    assert TakeCandidate.Request.get_fields_and_field_types() == {
        'class_id': 'string',
        'smallest_score': 'float',
        'nearest': 'boolean',
        'point': 'vision_msgs/Point2D',
        'target_id': 'string',
    }
    assert TakeCandidate.Response.get_fields_and_field_types() == {
        'success': 'boolean',
        'code': 'uint8',
        'message': 'string',
        'target_id': 'string',
        'class_id': 'string',
        'score': 'float',
        'frame_age_s': 'float',
    }
    codes = constants(TakeCandidate.Response)
    assert codes == {'OK': InitTarget.Response.OK, 'NO_CANDIDATE': 100}
    others = set(constants(InitTarget.Response).values())
    assert codes['NO_CANDIDATE'] not in others, 'all others are those of InitTarget'


def test_stop_target() -> None:
    assert StopTarget.Request.get_fields_and_field_types() == {'target_id': 'string'}
    assert StopTarget.Response.get_fields_and_field_types() == {
        'success': 'boolean',
        'code': 'uint8',
        'message': 'string',
    }
    assert constants(StopTarget.Response) == {
        'OK': 0,
        'UNKNOWN_TARGET': 1,
        'NOT_TRACKING': 2,
        'NOT_READY': 3,
    }


def constants(interface: type) -> dict[str, int]:
    """The constants of a message class, which are properties of its metaclass."""
    return {
        name: getattr(interface, name)
        for name, value in vars(type(interface)).items()
        if isinstance(value, property)
    }
