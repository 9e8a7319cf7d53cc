# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A ROS graph of a test's own: other programs on the machine neither see nor disturb it."""

import os
import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from tracker_ros.ros.calls import call

DOMAIN_ID = 1 + os.getpid() % 100


class RosGraph:
    """Makes nodes, and spins them until something is true."""

    def __init__(self):
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN_ID)
        self.executor = SingleThreadedExecutor(context=self.context)
        self._nodes = []

    def node(self, name, make=Node, **options):
        """Adds a node to the graph; `make` is a class with the constructor of rclpy's Node."""
        node = make(name, context=self.context, **options)
        self._nodes.append(node)
        self.executor.add_node(node)
        return node

    def spin_until(self, condition, deadline_s=30.0):
        """Spins all nodes until condition() holds; fails after the deadline."""
        ends = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < ends, f'not within {deadline_s} s'
            self.executor.spin_once(timeout_sec=0.02)

    def ask(self, client, request, deadline_s=60.0):
        """The answer of a service of another process; fails after the deadline."""

        def wait(_future):
            self.executor.spin_once(timeout_sec=0.02)

        answer = call(client, request, wait, deadline_s)
        assert answer is not None, f'{client.srv_name} did not answer within {deadline_s} s'
        return answer

    def remove(self, node):
        self.executor.remove_node(node)
        self._nodes.remove(node)
        node.destroy_node()

    def close(self):
        for node in list(self._nodes):
            self.remove(node)
        self.executor.shutdown()
        rclpy.try_shutdown(context=self.context)
