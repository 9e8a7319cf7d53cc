# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Several targets of one model: stable ids, stable order, and each one's failure its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tracker_ros.geometry import Box, Image
from tracker_ros.trackers import Tracker
from tracker_ros.trackers.contract import follow_together
from tracker_ros.tracking.camera_motion import CameraMotion, Matrix
from tracker_ros.tracking.session import NOTHING, BoxError, Observation, Session


class RosterFullError(Exception):
    """As many targets as may be followed are there; the text names them and the remedy."""


@dataclass(slots=True, eq=False)
class Track:
    """One target on the roster, from its first start until it is stopped."""

    target_id: str
    session: Session
    since_s: float | None = None
    """When the image of its first start was taken, in seconds; None where nobody knows."""
    frames: int = 0
    """Images that it was looked for in, over all its starts."""
    newest_box: Box | None = None
    """Where it was seen last."""

    @property
    def observation(self) -> Observation:
        return self.session.observation


@dataclass(frozen=True, slots=True)
class Failure:
    """A target that is no longer followed, because its tracker raised `error`."""

    target_id: str
    error: Exception


class Roster:
    """At most `most` targets, in the order in which they were first given.

    The first tracker's engine serves all of them, and all their networks run in one batch. Where
    only one target may be followed, a new one takes the place of the old one.
    """

    def __init__(
        self, tracker: Tracker, make_session: Callable[[Tracker], Session], most: int = 1
    ) -> None:
        self.tracker = tracker
        self.most = most
        self.reason = NOTHING.reason
        """Why there is no target, while there is none."""
        self._make_session = make_session
        self._sessions = [make_session(tracker)]
        self._tracks: list[Track] = []
        self._starts = 0
        self._camera = CameraMotion()
        self._were_together: set[int] = set()
        """The sessions that were in the last image that `_camera` saw."""

    def __len__(self) -> int:
        return len(self._tracks)

    def __iter__(self) -> Iterator[Track]:
        return iter(tuple(self._tracks))

    @property
    def sessions(self) -> tuple[Session, ...]:
        """All that were ever needed, also those that follow nothing now."""
        return tuple(self._sessions)

    @property
    def first(self) -> Observation:
        """Of the first target; that nothing is followed where there is none."""
        tracks = self._tracks
        return tracks[0].observation if tracks else replace(NOTHING, reason=self.reason)

    def find(self, target_id: str) -> Track | None:
        return next((track for track in self._tracks if track.target_id == target_id), None)

    def start(
        self,
        image: Image,
        box: Box,
        target_id: str = '',
        text: str | None = None,
        smallest_px: float = 1.0,
        stamp_s: float | None = None,
    ) -> Track:
        """Follow what is in `box` of `image`; see `Session.start`.

        A target that has this id already is given its new box and keeps its place and history.
        Raises RosterFullError and BoxError, which change nothing, or what the tracker raises,
        which leaves no target of this id.
        """
        known = self.find(target_id)
        track = known or Track(target_id or self._new_id(), self._free_session(), stamp_s)
        try:
            observation = track.session.start(
                image, box, track.target_id, text, smallest_px, stamp_s
            )
        except BoxError:
            raise
        except Exception as error:
            self._remove(track.session, f'the start failed: {error}')
            raise
        self._starts += 1
        track.newest_box = observation.box
        if known is None:
            self._tracks = [each for each in self._tracks if each.session is not track.session]
            self._tracks.append(track)
        return track

    def step(self, image: Image, stamp_s: float | None = None) -> list[Failure]:
        """Follow all targets into the next image; tells which are followed no more."""
        return self.step_some(list(self), image, stamp_s)

    def step_some(
        self, tracks: Sequence[Track], image: Image, stamp_s: float | None = None
    ) -> list[Failure]:
        """The same for some of the targets; the others miss this image."""
        failures = []
        for track in tracks:
            track.frames += 1
        if len(tracks) == 1:
            self._were_together = set()
            answers = [_tried(tracks[0].session.step, image, stamp_s)]
        else:
            answers = self._step_together(tracks, image, stamp_s)
        for track, answer in zip(tracks, answers, strict=True):
            if isinstance(answer, Exception):
                self._remove(track.session, f'the tracker failed: {answer}')
                failures.append(Failure(track.target_id, answer))
            elif answer.box is not None:
                track.newest_box = answer.box
        return failures

    def hint(self, box: Box, target_id: str = '') -> None:
        """Look at `box` first for a target, or for any, that is lost; see `Session.hint`."""
        for track in self._tracks:
            if target_id in ('', track.target_id):
                track.session.hint(box)

    def stop(self, target_id: str = '', reason: str = NOTHING.reason) -> list[str]:
        """Let go of one target, or of all; tells which."""
        going = [track for track in self._tracks if target_id in ('', track.target_id)]
        for track in going:
            self._remove(track.session, reason)
        if not self._tracks:
            self.reason = reason
        return [track.target_id for track in going]

    def close(self) -> None:
        """Free all trackers, the first one, which holds the engine, last."""
        self._tracks = []
        for session in reversed(self._sessions):
            session.tracker.close()

    def _step_together(
        self, tracks: Sequence[Track], image: Image, stamp_s: float | None
    ) -> list[Observation | Exception]:
        sessions = [track.session for track in tracks]
        measures = self._measures(sessions, image)
        objections = [
            _tried(session.prepare, image, stamp_s, measure)
            for session, measure in zip(sessions, measures, strict=True)
        ]
        able = [session for session, no in zip(sessions, objections, strict=True) if no is None]
        estimates = iter(follow_together([session.tracker for session in able], image))
        answers: list[Observation | Exception] = []
        for session, objection in zip(sessions, objections, strict=True):
            answer = objection if objection is not None else next(estimates)
            if not isinstance(answer, Exception):
                answer = _tried(session.digest, image, answer)
            answers.append(answer)
        return answers

    def _measures(
        self, sessions: Sequence[Session], image: Image
    ) -> list[Callable[[], Matrix | None] | None]:
        """What gives each session the motion of the camera, which is measured once for all."""
        if not any(session.care.camera_motion for session in sessions):
            return [None] * len(sessions)
        if not self._were_together:
            self._camera.reset()
        around = [session.searched_around for session in sessions]
        matrix = _tried(self._camera.between, image, around)
        # One that was not there in the last image has not moved since.
        before, self._were_together = self._were_together, set(map(id, sessions))
        return [
            partial(
                _given,
                matrix if id(session) in before or isinstance(matrix, Exception) else None,
            )
            for session in sessions
        ]

    def _free_session(self) -> Session:
        if len(self._tracks) >= self.most:
            if self.most == 1:
                return self._tracks[0].session
            names = ', '.join(track.target_id for track in self._tracks)
            raise RosterFullError(
                f'{self.most} targets are followed, as many as may be: {names}; stop one of '
                'them, start it anew by its id, or raise max_targets'
            )
        used = [track.session for track in self._tracks]
        for session in self._sessions:
            if session not in used:
                return session
        self._sessions.append(self._make_session(self.tracker.another()))
        return self._sessions[-1]

    def _new_id(self) -> str:
        number = self._starts + 1
        while self.find(f'target_{number}'):
            number += 1
        return f'target_{number}'

    def _remove(self, session: Session, reason: str) -> None:
        session.stop(reason)
        self._tracks = [track for track in self._tracks if track.session is not session]
        if not self._tracks:
            self.reason = reason


def _given(matrix: Matrix | Exception | None) -> Matrix | None:
    """What was measured; raises what kept it from being so."""
    if isinstance(matrix, Exception):
        raise matrix
    return matrix


def _tried(call: Callable[..., Any], *arguments: Any) -> Any:
    """What `call` returns, or the exception that it raises."""
    try:
        return call(*arguments)
    except Exception as error:  # whatever it was, it must not touch the other targets
        return error
