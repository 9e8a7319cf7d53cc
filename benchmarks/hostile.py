#!/usr/bin/env python3
# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Malformed images and requests fired at the running node while a good camera goes on.

    python benchmarks/hostile.py --model vittrack

A phase with the good camera alone gives the node's rate and service latency; then a few hundred
images and requests that no sane program sends arrive between the good ones; at the end a good
request must be answered. Exit code 1 when the node died, restarted, accepted nonsense, slowed
down or answers no more. Everything is generated from a seed.
"""

from __future__ import annotations

import argparse
import array
import json
import math
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sensor_msgs.msg import Image
from tqdm import tqdm

from tracker_ros.geometry import Box
from tracker_ros.ros.processes import ProcessError
from tracker_ros.ros.rig import FRAME_ID, Rig, running_node
from tracker_ros_interfaces.srv import InitTarget, StopTarget

sys.path.insert(0, str(Path(__file__).resolve().parent))
from latency import moving_patch

WIDTH, HEIGHT = 1280, 720
RATE_HZ = 30.0
BASELINE_FRAMES = 150
# One bad image after every second good one, and a request as often.
GOOD_FRAMES_PER_ATTACK = 2
MOST_SLOWER = 0.05
"""Share of answered frames that may be lost to the attacks."""


def main() -> int:
    """Run the phases and judge them."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--model', default='csrt')
    parser.add_argument('--count', type=int, default=300, help='bad images, and bad requests')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--json', type=Path, metavar='FILE')
    parser.add_argument('--domain-id', type=int, help='ROS domain (default: a free one)')
    args = parser.parse_args()
    try:
        with running_node({'model': args.model}, args.domain_id) as rig:
            result = Attack(rig, args.seed, args.count).run()
            tail = rig.child.log_tail(20)
    except ProcessError as error:
        print(f'hostile: FAILED: {error}', file=sys.stderr)
        return 1
    result = {'model': args.model, 'seed': args.seed, 'load': os.getloadavg()[0], **result}
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    if result['faults']:
        print(f'hostile: FAILED: {"; ".join(result["faults"])}\n{tail}', file=sys.stderr)
        return 1
    print('hostile: the node took everything')
    return 0


class Attack:
    """The phases of one run."""

    def __init__(self, rig: Rig, seed: int, count: int) -> None:
        """Prepare good images and the generators."""
        self.rig = rig
        frames, self.box = moving_patch(WIDTH, HEIGHT)
        self.good = [rig.make_image(frame) for frame in frames]
        self.count = count
        self.images = bad_images(random.Random(seed))
        self.requests = bad_requests(random.Random(seed + 1), self.box)
        self.init = rig.node.create_client(InitTarget, 'tracker/init_target')
        self.stop = rig.node.create_client(StopTarget, 'tracker/stop_target')
        self.accepted: list[str] = []
        self.latencies_ms: list[float] = []
        self.stamps: list[int] = []

    def run(self) -> dict[str, Any]:
        """All phases; `faults` says what went wrong, in words."""
        pid = self.rig.child.pid
        for client in (self.init, self.stop):
            self.rig.child.wait_until(client.service_is_ready, 20.0, client.srv_name)
        self.rig.start_on(self.good[0], self.box)
        quiet = self._phase(BASELINE_FRAMES, self._harmless_request, attack=False)
        frames = self.count * GOOD_FRAMES_PER_ATTACK
        hostile = self._phase(frames, self._bad_request, attack=True)
        after = self._phase(BASELINE_FRAMES, self._harmless_request, attack=False)
        last = self.rig.start_on(self.good[0], self.box)
        last_stamp = self.rig.publish(self.good[1])
        answered = self.rig.await_detection(last_stamp, 2.0)
        faults = [f'accepted {what}' for what in self.accepted]
        if self.rig.child.pid != pid or not self.rig.child.is_running():
            faults.append('the node ended')
        for name, phase in (('during', hostile), ('after', after)):
            if phase['answered_share'] < quiet['answered_share'] - MOST_SLOWER:
                faults.append(f'fewer frames answered {name} the attack')
        if answered is None or answered.box is None or not last:
            faults.append('no detection after the final good request')
        return {
            'pid': pid,
            'bad_images': self.count,
            'bad_requests': self.count,
            'quiet': quiet,
            'hostile': hostile,
            'after': after,
            'faults': faults,
        }

    def _phase(self, frames: int, request: Callable[[], None], attack: bool) -> dict[str, Any]:
        """Good frames at RATE_HZ; requests from a thread of their own; bad images if attacking."""
        stamps: list[int] = []
        self.latencies_ms = []
        errors: list[ProcessError] = []
        done = threading.Event()
        requests = self.count if attack else frames // GOOD_FRAMES_PER_ATTACK

        def ask() -> None:
            try:
                for _ in range(requests):
                    request()
                    if done.wait(GOOD_FRAMES_PER_ATTACK / RATE_HZ * 0.8):
                        return
            except ProcessError as error:
                errors.append(error)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        begin = time.monotonic()
        words = 'hostile' if attack else 'quiet'
        for index in tqdm(range(frames), desc=words, unit=' frames', disable=None):
            sleep_until(begin + index / RATE_HZ)
            stamps.append(self.rig.publish(self.good[index % len(self.good)]))
            if attack and index % GOOD_FRAMES_PER_ATTACK == 0:
                sleep_until(begin + (index + 0.5) / RATE_HZ)
                self.rig.publish_as_is(next(self.images))
        thread.join(timeout=60.0)
        done.set()
        if errors:
            raise errors[0]
        self.rig.await_detection(stamps[-1], 1.0)
        self.rig.child.check()
        answered = sum(self.rig.received(stamp) is not None for stamp in stamps)
        p50, p95, longest = np.percentile(self.latencies_ms, [50, 95, 100])
        return {
            'good_frames': frames,
            'answered_share': round(answered / frames, 4),
            'requests': len(self.latencies_ms),
            'service_p50_ms': round(float(p50), 2),
            'service_p95_ms': round(float(p95), 2),
            'service_max_ms': round(float(longest), 2),
        }

    def _harmless_request(self) -> None:
        """A refusal that costs the node nothing: a target it does not have."""
        self._timed(self.stop, StopTarget.Request(target_id='nobody'))

    def _bad_request(self) -> None:
        name, request = next(self.requests)
        client = self.stop if isinstance(request, StopTarget.Request) else self.init
        answer = self._timed(client, request)
        if answer.success or not answer.message:
            self.accepted.append(name)

    def _timed(self, client: Any, request: Any) -> Any:
        begin = time.perf_counter()
        answer = self.rig.call(client, request)
        self.latencies_ms.append((time.perf_counter() - begin) * 1000)
        return answer


def bad_images(dice: random.Random) -> Iterator[Image]:
    """Images whose fields contradict each other or make no sense, without end."""
    encodings = [
        'bgr8', 'rgb8', 'rgba8', 'bgra8', 'mono8', 'mono16', 'yuv422', 'yuv422_yuy2', 'nv12',
        'bayer_rggb8', 'bayer_grbg16', '16UC1', '32FC1', '8UC3', '8UC1', '', 'BGR8', 'bgr8 ',
        'jpeg', '8UC999', '64FC4', 'bgr8\n', '../../etc', 'ü' * 100, 'x' * 5000,
    ]  # fmt: skip
    sides = [0, 1, 2, 3, 5, 17, 640, 2**16, 2**31 - 1, 2**31, 2**32 - 1]
    while True:
        image = Image()
        image.header.frame_id = dice.choice(['', FRAME_ID, 'x' * 1000, '/\t\n', 'ñ'])
        image.header.stamp.sec = dice.choice([0, 1, -1, -(2**31), 2**31 - 1])
        image.header.stamp.nanosec = dice.choice([0, 1, 10**9, 2**32 - 1])
        image.encoding = dice.choice(encodings)
        image.is_bigendian = dice.choice([0, 1, 255])
        image.width, image.height = dice.choice(sides), dice.choice(sides)
        image.step = dice.choice([0, 1, image.width, 3 * image.width % 2**32, 2**32 - 1])
        true_size = image.step * image.height
        length = dice.choice([0, 1, 2, 100, 4095, true_size - 1, true_size])
        image.data = array.array('B', dice.randbytes(min(max(length, 0), 10_000)))
        yield image


def bad_requests(
    dice: random.Random, good: Box
) -> Iterator[tuple[str, InitTarget.Request | StopTarget.Request]]:
    """Requests that must be refused, each with its name, without end."""
    nan, inf = math.nan, math.inf
    centred = (good.cx, good.cy, good.w, good.h)

    def init(
        box: tuple[float, ...] = centred,
        theta: float = 0.0,
        frame_id: str = FRAME_ID,
        text: str = '',
        target_id: str = '',
    ) -> InitTarget.Request:
        request = InitTarget.Request(text=text, target_id=target_id)
        request.header.frame_id = frame_id
        request.header.stamp.sec = dice.choice([0, -1, 1, 2**31 - 1])
        request.header.stamp.nanosec = dice.choice([0, 10**9, 2**32 - 1])
        x, y, request.bbox.size_x, request.bbox.size_y = map(float, box)
        request.bbox.center.position.x, request.bbox.center.position.y = x, y
        request.bbox.center.theta = theta
        return request

    far = [-1e300, -1e9, -5000.0, 1e5, 1e18, 1e300]
    while True:
        weird = dice.choice([nan, inf, -inf])
        box = list(centred)
        box[dice.randrange(4)] = weird
        size = dice.choice([0.0, -1.0, -1e300, 1e-300, 0.5, 5e-324])
        yield 'a number that is none', init(tuple(box))
        yield 'no size', init((good.cx, good.cy, size, dice.choice([size, 50.0])))
        yield 'outside', init((dice.choice(far), dice.choice(far), 50.0, 50.0))
        yield 'turned', init(theta=dice.choice([0.5, -1e9, nan, inf]))
        yield 'another camera', init(frame_id=dice.choice(['nowhere', 'x' * 100_000, '\t']))
        yield 'text', init(text=dice.choice(['a red car', 'x' * 100_000, '\x01']))
        yield 'id', init(target_id=dice.choice(['x' * 100_000, 'a\nb', '\x07']))
        yield (
            'unknown target',
            StopTarget.Request(
                target_id=dice.choice(['nobody', 'x' * 100_000, '\n', 'ñandú', '../..'])
            ),
        )


def sleep_until(deadline: float) -> None:
    """Sleep until a time of time.monotonic()."""
    time.sleep(max(0.0, deadline - time.monotonic()))


if __name__ == '__main__':
    sys.exit(main())
