# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A tracker with the life of its target around it, behind the contract of bare trackers."""

from __future__ import annotations

from tracker_ros.footage import FALLBACK_RATE_HZ
from tracker_ros.geometry import Box, Image
from tracker_ros.trackers import Estimate, Tracker
from tracker_ros.tracking.session import NOTHING, Observation, Session


class Followed:
    """A session as `start` and `step`, which answers in every frame.

    While the target is lost that is the box its tracker looks at: a session tells none, but where
    an answer is asked for, what is still followed is the best guess.
    rate_hz: of images that come without a stamp.
    """

    def __init__(self, session: Session | Tracker, rate_hz: float = FALLBACK_RATE_HZ) -> None:
        self.session = session if isinstance(session, Session) else Session(session)
        self.rate_hz = rate_hz
        self.observation: Observation = NOTHING
        self.box = Box(0.0, 0.0, 0.0, 0.0)
        """The newest one followed, believed or not."""
        self._stamp_s = 0.0

    def start(self, image: Image, box: Box, text: str | None = None, stamp_s: float = 0.0) -> None:
        """Take (H, W, 3) uint8 BGR and the target's box in it."""
        self.box, self._stamp_s = box, stamp_s
        self.observation = self.session.start(image, box, text=text, stamp_s=stamp_s)

    def step(self, image: Image, stamp_s: float | None = None) -> Estimate:
        """Find the target in the next image; the score is the calibrated confidence."""
        self._stamp_s = self._stamp_s + 1 / self.rate_hz if stamp_s is None else stamp_s
        self.observation = self.session.step(image, self._stamp_s)
        self.box = self.observation.looked_at or self.box
        return Estimate(self.box, self.observation.confidence)
