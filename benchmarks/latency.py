#!/usr/bin/env python3
# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Time from an image's publication to its detection, between two processes.

    python benchmarks/latency.py --model vittrack --json out/latency.json

This process is the camera and the consumer; the tracker node is another. A third process, the
relay, takes the same images and answers each at once with an empty detection: the floor that
the transport sets. Both are measured in the same run, in turns of a few seconds, so that what
else the machine does falls on both. The node's own share (all of its work but inference) is read
from its diagnostics.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from tqdm import tqdm
from vision_msgs.msg import Detection2D

from tracker_ros.cli.bench import image_size
from tracker_ros.evaluation.machine import QUIET_CORES, Watch
from tracker_ros.evaluation.speed import moving_patch
from tracker_ros.geometry import Box
from tracker_ros.ros.messages import nanoseconds
from tracker_ros.ros.processes import Child, ProcessError
from tracker_ros.ros.qos import NEWEST_FRAME
from tracker_ros.ros.rig import Rig, running_node, to_stamp

FRAMES = 60
"""After so many the pictures begin again."""
TURN_FRAMES = 45
SETTLING_FRAMES = 5
"""Left out at the begin of each turn: caches are cold after the other's turn."""


def main() -> int:
    """Run both in turns and print one line for each."""
    args = parse()
    if args.as_relay:
        return relay()
    width, height = args.size
    frames, boxes = moving_patch(width, height, FRAMES)
    try:
        with running_node({'model': args.model, 'threads': args.threads}, args.domain_id) as rig:
            command = [sys.executable, __file__, '--as-relay']
            with Child('relay', command, dict(os.environ)) as child:
                result = measure(rig, Floor(rig, child), frames, boxes[0], args)
    except ProcessError as error:
        print(f'latency: {error}', file=sys.stderr)
        return 1
    print(describe(result))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--model', default='vittrack')
    parser.add_argument('--threads', type=int, default=0, help='of inference (0: automatic)')
    parser.add_argument('--frames', type=int, default=900, help='for each of the two')
    parser.add_argument(
        '--until-quiet',
        action='store_true',
        help='count only frames of quiet turns, and go on for up to ten minutes until there are '
        'as many (for machines that others use as well)',
    )
    parser.add_argument('--rate', type=float, default=30.0, help='Hz')
    parser.add_argument('--size', type=image_size, default=(1280, 720), metavar='WxH')
    parser.add_argument('--json', type=Path, metavar='FILE')
    parser.add_argument('--domain-id', type=int, help='ROS domain (default: a free one)')
    parser.add_argument('--as-relay', action='store_true', help=argparse.SUPPRESS)
    return parser.parse_args()


class Floor:
    """The relay seen from here: images to it, its answers, and when they came."""

    def __init__(self, rig: Rig, child: Child) -> None:
        """Publish and subscribe on the rig's node."""
        self.received_ns: dict[int, int] = {}
        self.taken_ns: dict[int, int] = {}
        self.child = child
        self._images = rig.node.create_publisher(Image, 'relay/image_raw', qos_profile_sensor_data)
        rig.node.create_subscription(
            Detection2D, 'relay/detection', self._heard, qos_profile_sensor_data
        )
        child.wait_until(
            lambda: (
                self._images.get_subscription_count() > 0
                and rig.node.count_publishers('relay/detection') > 0
            ),
            timeout_s=30.0,
            what='its topics',
        )

    def publish(self, image: Image) -> int:
        """Stamp and publish, as `Rig.publish`."""
        stamp_ns = time.time_ns()
        image.header.stamp = to_stamp(stamp_ns)
        self._images.publish(image)
        return stamp_ns

    def _heard(self, message: Detection2D) -> None:
        stamp = message.header.stamp
        stamp_ns = nanoseconds(stamp)
        self.received_ns[stamp_ns] = time.time_ns()
        self.taken_ns[stamp_ns] = int(message.id)


@dataclass(frozen=True)
class Turn:
    """Some frames to one of the two: their stamps, and the cores that others used meanwhile."""

    name: str
    stamps: list[int]
    others_cores: float


def measure(
    rig: Rig, floor: Floor, frames: list[np.ndarray], box: Box, args: argparse.Namespace
) -> dict[str, Any]:
    """Publish in turns to the relay and to the node; quantiles of the ages of both."""
    rig.start_on(rig.make_image(frames[0]), box)
    turns: list[Turn] = []
    give_up = time.monotonic() + 10 * 60
    with tqdm(unit=' frames', disable=None) as bar:
        while not enough(turns, args) and time.monotonic() < give_up:
            first = len(turns) // 2 * TURN_FRAMES
            for name, publish in (('relay', floor.publish), ('node', rig.publish)):
                turns.append(take_turn(name, publish, rig, floor, frames, first, args.rate))
                bar.update(TURN_FRAMES)
    time.sleep(1.0)
    rig.child.check()
    return {
        'model': args.model,
        'size': list(args.size),
        'rate_hz': args.rate,
        'load_average': os.getloadavg()[0],
        'all': quantiles(rig, floor, turns),
        'quiet': quantiles(rig, floor, [turn for turn in turns if is_quiet(turn)]),
        'diagnostics': rig.diagnostics,
        'runtime': '' if rig.state is None else rig.state.runtime,
    }


def enough(turns: list[Turn], args: argparse.Namespace) -> bool:
    """Whether as many frames as asked for, quiet ones where that is wished, went to the node."""
    counted = [turn for turn in turns if is_quiet(turn) or not args.until_quiet]
    return sum(len(turn.stamps) for turn in counted if turn.name == 'node') >= args.frames


def is_quiet(turn: Turn) -> bool:
    """Whether other programs left the machine to this one."""
    return turn.others_cores < QUIET_CORES


def take_turn(
    name: str,
    publish: Callable[[Image], int],
    rig: Rig,
    floor: Floor,
    frames: list[np.ndarray],
    first: int,
    rate_hz: float,
) -> Turn:
    """Publish TURN_FRAMES frames from number `first` on at the rate."""
    pids = [os.getpid(), rig.child.pid, floor.child.pid]
    watch, begin = Watch(pids), time.monotonic()
    stamps = []
    for place in range(TURN_FRAMES):
        time.sleep(max(0.0, begin + place / rate_hz - time.monotonic()))
        # Made only now: a camera's image has just been written when it is published.
        stamps.append(publish(rig.make_image(frames[(first + place) % len(frames)])))
    time.sleep(2 / rate_hz)
    return Turn(name, stamps[SETTLING_FRAMES:], watch.others_cores())


def quantiles(rig: Rig, floor: Floor, turns: list[Turn]) -> dict[str, Any] | None:
    """Ages in ms of the node, of the relay, and of the relay's way there; None for no turns."""
    stamps = {
        name: [stamp for turn in turns if turn.name == name for stamp in turn.stamps]
        for name in ('node', 'relay')
    }
    if not all(stamps.values()):
        return None
    found = {stamp: rig.received(stamp) for stamp in stamps['node']}
    node_ns = {stamp: received.received_ns for stamp, received in found.items() if received}
    return {
        'node': ages_ms(node_ns, stamps['node']),
        'relay': ages_ms(floor.received_ns, stamps['relay']),
        'relay_one_way': ages_ms(floor.taken_ns, stamps['relay']),
        'others_cores': round(float(np.median([turn.others_cores for turn in turns])), 3),
    }


def ages_ms(received_ns: dict[int, int], stamps: list[int]) -> dict[str, float]:
    """Quantiles of the ages of what came, and how many images were not answered."""
    ages = [(received_ns[stamp] - stamp) / 1e6 for stamp in stamps if stamp in received_ns]
    if not ages:
        raise ProcessError(f'none of {len(stamps)} images was answered')
    p50, p95, longest = np.percentile(ages, [50, 95, 100])
    return {
        'images': len(stamps),
        'dropped': len(stamps) - len(ages),
        'p50': round(float(p50), 3),
        'p95': round(float(p95), 3),
        'max': round(float(longest), 3),
    }


def describe(result: dict[str, Any]) -> str:
    """The result in a few lines."""
    width, height = result['size']
    lines = [
        f'{width}x{height} at {result["rate_hz"]:g} Hz, {result["model"]} ({result["runtime"]})'
    ]
    for key in ('all', 'quiet'):
        part = result[key]
        if part is None:
            lines.append('no turn was quiet: other programs used the machine all the time')
            continue
        lines.append(f'{key} turns (others used {part["others_cores"]:.2f} cores)')
        for name, words in (
            ('node', 'image published -> detection received'),
            ('relay', 'the same without a tracker: the floor'),
            ('relay_one_way', 'of that, until the relay has the image'),
        ):
            ages = part[name]
            lines.append(
                f'  {words:38} p50 {ages["p50"]:5.1f} ms  p95 {ages["p95"]:5.1f}  '
                f'max {ages["max"]:5.1f}  dropped {ages["dropped"]} of {ages["images"]}'
            )
    stages = [f'{key} {value}' for key, value in result['diagnostics'].items() if ' ms' in key]
    lines.append('diagnostics: ' + (', '.join(stages) or 'no stage times reported'))
    return '\n'.join(lines)


def relay() -> int:
    """The process that answers each image at once."""
    rclpy.init()
    node = rclpy.create_node('relay')
    answers = node.create_publisher(Detection2D, 'relay/detection', 10)

    def answer(image: Image) -> None:
        answers.publish(Detection2D(header=image.header, id=str(time.time_ns())))

    node.create_subscription(Image, 'relay/image_raw', answer, NEWEST_FRAME)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
        return 0
    return 0


if __name__ == '__main__':
    sys.exit(main())
