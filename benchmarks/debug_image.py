#!/usr/bin/env python3
# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What RViz shows: the debug image as the node publishes it, in each state of a target.

    python benchmarks/debug_image.py --out docs/images/debug_image.jpg

The rendered scene is played to a node of its own process from shortly before the car is hidden: by
smoke, or from --first 322 on by a bridge. Of `~/debug_image` the first picture of each state is
kept, as it came, and of TRACKING only where the box is right.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from tracker_ros.evaluation.scene import Scene
from tracker_ros.ros.images import to_bgr
from tracker_ros.ros.messages import nanoseconds
from tracker_ros.ros.processes import ProcessError
from tracker_ros.ros.rig import Rig, running_node
from tracker_ros_interfaces.msg import TrackerState

STATES = {
    'TRACKING': TrackerState.TRACKING,
    'UNCERTAIN': TrackerState.UNCERTAIN,
    'LOST': TrackerState.LOST,
}
SETTLED_FRAMES = 1
"""A state is shown as it is after so many frames of it."""
RIGHT = 0.5
"""Overlap with the truth that a picture of TRACKING needs."""
PATIENCE_S = 30.0


def main() -> int:
    """Play the scene, and put the kept pictures side by side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--model', default='nano')
    parser.add_argument('--runtime', default='auto')
    parser.add_argument('--first', type=int, default=165, help='frame of the scene to begin with')
    parser.add_argument('--frames', type=int, default=90)
    parser.add_argument('--out', type=Path, required=True, metavar='FILE')
    args = parser.parse_args()
    scene = Scene(640, 360, frames=args.first + args.frames)
    given = {'model': args.model, 'runtime': args.runtime, 'threads': 1}
    try:
        with running_node(given) as rig:
            kept = play(rig, scene, args.first)
    except ProcessError as error:
        print(f'debug_image: {error}', file=sys.stderr)
        return 1
    if len(kept) < len(STATES) + 1:
        print(f'debug_image: there was only {", ".join(kept)}', file=sys.stderr)
        return 1
    args.out.parent.mkdir(parents=True, exist_ok=True)
    half = len(kept) // 2
    pictures = list(kept.values())
    rows = [np.hstack(pictures[:half]), np.hstack(pictures[half : 2 * half])]
    cv2.imwrite(str(args.out), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 80])
    print(f'written: {args.out}: {", ".join(kept)}')
    return 0


def play(rig: Rig, scene: Scene, first: int) -> dict[str, np.ndarray]:
    """Publish frame by frame; what the debug image showed, by state, and after the recovery."""
    came: dict[int, np.ndarray] = {}
    rig.node.create_subscription(
        Image,
        'tracker/debug_image',
        lambda message: came.update({nanoseconds(message.header.stamp): to_bgr(message).copy()}),
        qos_profile_sensor_data,
    )
    picture, truth = scene.frame(first)
    if truth.box is None:
        raise ProcessError(f'the car is hidden in frame {first}: begin with another')
    rig.start_on(rig.make_image(picture), truth.box)
    kept: dict[str, np.ndarray] = {}
    state, since = TrackerState.STARTING, 0
    for number in range(first + 1, len(scene)):
        picture, truth = scene.frame(number)
        stamp_ns = rig.publish(rig.make_image(picture))
        found = rig.await_detection(stamp_ns, PATIENCE_S)
        if found is None:
            raise ProcessError(f'no detection of frame {number} within {PATIENCE_S:g} s')
        rig.child.wait_until(lambda stamp_ns=stamp_ns: stamp_ns in came, PATIENCE_S, 'its picture')
        now = rig.state_at(stamp_ns)
        since = since + 1 if now == state else 0
        state = now
        if since < SETTLED_FRAMES:
            continue
        is_right = found.box and truth.box and found.box.iou(truth.box) >= RIGHT
        if state == TrackerState.TRACKING and 'LOST' in kept:
            print(f'frame {number}: recovered, {"right" if is_right else "on something else"}')
            if is_right:
                return {**kept, 'recovered': came[stamp_ns]}
        for name, value in STATES.items():
            if state == value and (is_right or state != TrackerState.TRACKING):
                kept.setdefault(name, came[stamp_ns])
    return kept


if __name__ == '__main__':
    sys.exit(main())
