# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Topics by which other programs start targets, or help to find them again.

Nobody waits for an answer to a message: what came of it is in the log and in ``~/state``.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, Protocol

from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Header
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray

from tracker_ros.geometry import Box
from tracker_ros.ros.complaints import Complaints
from tracker_ros.ros.handover import Candidate, Wanted, choose
from tracker_ros.ros.messages import RequestError, box_of, checked_id
from tracker_ros.ros.starting import Started, refusal
from tracker_ros_interfaces.srv import InitTarget, TakeCandidate

# A flood of starts would keep the tracker from its frames.
_MOST_WAITING = 8


class Operator(Protocol):
    """Who does what is asked for: the node."""

    def begin(
        self, header: Header, bbox: BoundingBox2D, target_id: str, text: str = ''
    ) -> Future[Started]:
        """Start a target soon. Raises RequestError for what can be refused at once."""

    def help_find(self, header: Header, box: Box, target_id: str) -> Future[None]:
        """Look at `box` first for what is lost. Raises RequestError as `begin`."""

    def hands_over(self) -> Wanted | None:
        """Which candidate is to be taken as soon as it comes; None for none."""

    def note(self, text: str) -> None:
        """Say `text` in the state that is published next."""


class WaysIn:
    """Subscribes to ``~/init``, ``~/hint`` and ``~/candidates``."""

    def __init__(self, node: LifecycleNode, operator: Operator) -> None:
        self._node = node
        self._operator = operator
        self.complaints = Complaints(lambda text: node.get_logger().warning(text))
        self._begun: list[Future[Started]] = []
        self._candidates: Detection2DArray | None = None
        self._handing_over: Future[Started] | None = None
        self._subscriptions = [
            node.create_subscription(kind, topic, callback, depth)
            for kind, topic, callback, depth in (
                (Detection2D, '~/init', self._on_init, 10),
                (Detection2D, '~/hint', self._on_hint, 1),
                (Detection2DArray, '~/candidates', self._on_candidates, 1),
            )
        ]

    def destroy(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def chosen(self, wanted: Wanted) -> tuple[Header, Candidate]:
        """The candidate that is wanted, of those that came last, and the image's header.

        Raises RequestError where there is none.
        """
        if self._candidates is None:
            topic = self._node.resolve_topic_name('~/candidates')
            raise RequestError(
                TakeCandidate.Response.NO_CANDIDATE,
                f"no candidates have come on '{topic}'; remap it to the topic of a detector",
            )
        return self._candidates.header, choose(self._candidates, wanted)

    def _on_init(self, message: Detection2D) -> None:
        self._attempt('~/init', lambda: self._begin(message.header, message.bbox, message.id))

    def _on_hint(self, message: Detection2D) -> None:
        def hint() -> Future[None]:
            box, target_id = box_of(message.bbox), checked_id(message.id)
            if not box.is_finite() or min(box.w, box.h) <= 0:
                raise RequestError(
                    InitTarget.Response.INVALID_BOX,
                    f'the box x={box.x:g} y={box.y:g} w={box.w:g} h={box.h:g} is not finite or '
                    'has no area; give where the target may be, in pixels of the image',
                )
            return self._operator.help_find(message.header, box, target_id)

        self._attempt('~/hint', hint)

    def _on_candidates(self, message: Detection2DArray) -> None:
        self._candidates = message
        wanted = self._operator.hands_over()
        is_busy = self._handing_over is not None and not self._handing_over.done()
        if wanted is None or is_busy or not message.detections:
            return

        def hand_over() -> Future[Started]:
            self._handing_over = self._begin(message.header, choose(message, wanted).bbox(), '')
            return self._handing_over

        self._attempt('~/candidates', hand_over, quiet=TakeCandidate.Response.NO_CANDIDATE)

    def _begin(self, header: Header, bbox: BoundingBox2D, target_id: str) -> Future[Started]:
        self._begun = [future for future in self._begun if not future.done()]
        if len(self._begun) >= _MOST_WAITING:
            raise RequestError(
                InitTarget.Response.NOT_READY,
                f'{_MOST_WAITING} starts wait already; ask less often, a target is followed by '
                'itself once it is started',
            )
        self._begun.append(self._operator.begin(header, bbox, target_id))
        return self._begun[-1]

    def _attempt(
        self, topic: str, ask: Callable[[], Future[Any]], quiet: int | None = None
    ) -> None:
        """Ask, and say what came of it; a refusal with the code `quiet` is no fault."""

        def failed(error: BaseException) -> None:
            if isinstance(error, CancelledError) or not isinstance(error, Exception):
                return  # the node is being deactivated
            code, words = refusal(error, InitTarget.Response.TRACKER_FAILED)
            if code != quiet:
                self.complaints.complain(topic, code, words)
                self._operator.note(f'{topic} refused: {words}')

        def told(future: Future[Any]) -> None:
            if future.cancelled():
                return
            error = future.exception()
            if error is not None:
                failed(error)
                return
            self.complaints.is_well(topic)
            started = future.result()
            if isinstance(started, Started):
                target_id = started.track.target_id
                self._node.get_logger().info(f'{topic}: {target_id}: {started.words}')

        try:
            future = ask()
        except Exception as error:  # a message must not end the node, whatever is in it
            failed(error)
            return
        future.add_done_callback(told)
