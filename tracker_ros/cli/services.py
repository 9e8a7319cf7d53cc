# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`tracker_ros init` and `tracker_ros stop`: the node's services, from a terminal."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tracker_ros.arguments import box_or_point


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both verbs."""
    starting = subparsers.add_parser('init', help='tell a running node what to follow')
    starting.add_argument(
        'place',
        type=box_or_point,
        metavar='x,y,w,h',
        help='in pixels of the image; x,y alone is a point, and the node chooses the box',
    )
    starting.add_argument(
        '--id', default='', help='name of the target (default: the node chooses)'
    )
    starting.add_argument('--text', default='', help='what it is, for models that take text')
    starting.set_defaults(run=_init)

    stopping = subparsers.add_parser('stop', help='tell a running node to let its targets go')
    stopping.add_argument('--id', default='', help='name of the target (default: all of them)')
    stopping.set_defaults(run=_stop)

    for parser in (starting, stopping):
        parser.add_argument(
            '--node', default='/tracker', help="the node's full name (default: /tracker)"
        )
        parser.add_argument(
            '--timeout', type=float, default=10.0, metavar='SECONDS', help='default: 10'
        )


def _init(options: argparse.Namespace) -> int:
    from tracker_ros_interfaces.srv import InitTarget

    request = InitTarget.Request(target_id=options.id, text=options.text)
    request.bbox.center.position.x = options.place.cx
    request.bbox.center.position.y = options.place.cy
    request.bbox.size_x, request.bbox.size_y = options.place.w, options.place.h
    return _call(options, InitTarget, 'init_target', request)


def _stop(options: argparse.Namespace) -> int:
    from tracker_ros_interfaces.srv import StopTarget

    request = StopTarget.Request(target_id=options.id)
    return _call(options, StopTarget, 'stop_target', request)


def _call(options: argparse.Namespace, kind: Any, service: str, request: Any) -> int:
    import rclpy
    from rclpy.utilities import try_shutdown

    from tracker_ros.ros.calls import call

    name = f'{options.node.rstrip("/")}/{service}'
    rclpy.init(args=[])
    try:
        node = rclpy.create_node('tracker_ros_cli')
        client = node.create_client(kind, name)
        if not client.wait_for_service(timeout_sec=options.timeout):
            print(
                f'there is no service {name} after {options.timeout:g} s; is the node running, '
                'with the same ROS_DOMAIN_ID, and is --node its full name?',
                file=sys.stderr,
            )
            return 1

        def wait(future: Any) -> None:
            rclpy.spin_until_future_complete(node, future, timeout_sec=0.2)

        response = call(client, request, wait, options.timeout)
        if response is None:
            print(f'{name} did not answer within {options.timeout:g} s', file=sys.stderr)
            return 1
        print(response.message, file=sys.stdout if response.success else sys.stderr)
        return 0 if response.success else 1
    finally:
        try_shutdown()
