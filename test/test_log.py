# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is logged in Python is found in the log of the node."""

from __future__ import annotations

import logging

import pytest
from rcl_interfaces.msg import Log
from rclpy.logging import LoggingSeverity
from rclpy.qos import DurabilityPolicy, QoSProfile

from tracker_ros.ros.log import python_log_in


@pytest.fixture
def heard(graph):
    """What comes on /rosout, as (severity, logger, text)."""
    texts = []

    def note(message):
        texts.append((message.level, message.name, message.msg))

    # Latched, so that nothing said before the two sides know each other is missed.
    latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    graph.node('listener').create_subscription(Log, '/rosout', note, latched)
    return texts


def test_it_has_its_severity_and_the_name_of_the_node(graph, heard):
    node = graph.node('speaker')
    log = logging.getLogger('tracker_ros.runtime.engine_cache')
    with python_log_in(node.get_logger()):
        log.debug('not shown')
        log.info('engine of %s kept', 'small')
        log.warning('odd')
        log.error('bad')
        log.critical('worst')
    log.error('after the end')
    graph.spin_until(lambda: any(text == 'worst' for *_, text in heard))
    spoken = [(level, text) for level, name, text in heard if name == 'speaker']
    assert spoken == [
        (20, 'engine of small kept'),
        (30, 'odd'),
        (40, 'bad'),
        (50, 'worst'),
    ]


def test_the_log_level_of_ros_decides(graph, heard):
    node = graph.node('chatty')
    node.get_logger().set_level(LoggingSeverity.DEBUG)
    with python_log_in(node.get_logger()):
        logging.getLogger('tracker_ros.runtime').debug('details')
    graph.spin_until(lambda: (10, 'chatty', 'details') in heard)


def test_a_message_that_cannot_be_written_harms_nobody(graph, capsys):
    node = graph.node('clumsy')
    with python_log_in(node.get_logger()):
        logging.getLogger('tracker_ros.runtime').info('%d', 'no number')
    assert 'Logging error' in capsys.readouterr().err


def test_it_leaves_the_log_as_it_was(graph):
    ours = logging.getLogger('tracker_ros')
    before = (ours.level, ours.propagate, list(ours.handlers))
    with python_log_in(graph.node('passing').get_logger()):
        assert (ours.level, ours.propagate, list(ours.handlers)) != before
    assert (ours.level, ours.propagate, list(ours.handlers)) == before
