# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One model following one target: started, stepped through images, stopped.

This is the whole tracker without ROS; the node and the command line are two ways to feed it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from tracker_ros.geometry import Box, Image, RotatedBox
from tracker_ros.trackers import Estimate, Tracker
from tracker_ros.tracking.camera_motion import CameraMotion, Matrix
from tracker_ros.tracking.colours import Colours
from tracker_ros.tracking.confidence import Calibration, Evidence, Judge, Judgement
from tracker_ros.tracking.life import Life, Patience, State, Thresholds
from tracker_ros.tracking.motion import Motion, Predicted
from tracker_ros.tracking.pace import Pace
from tracker_ros.tracking.recovery import (
    Candidate,
    Care,
    Needed,
    Search,
    is_other,
    shifted,
)

# The target has gone farther than a tracker follows by itself, in its sizes.
_FAST_SIZES = 0.5
# From frame to frame a side of a box changes at most by this factor.
_MOST_GROWTH = 1.5
# In doubt it stays within this factor of what it last was: a box that shrinks onto a detail, or
# grows onto what hides the target, takes the search window along.
_MOST_CHANGE = 1.6
# Motion and box agree up to this distance; see Motion.distance.
_NEAR = 2.0
# What is found where the target cannot have come to by itself may have so much of the doubt that
# is allowed nearer; to be tried before all of the image was seen, so much.
_FAR_DOUBT = 0.2
_OVERWHELMING_DOUBT = 0.06
_ALMOST = 0.99
# What is found elsewhere needs so much of the target's usual resemblance to its first template.
_ENOUGH_RESEMBLANCE = 0.85
_RESEMBLANCE_RATE = 0.1
_LONGEST_TRIAL_FRAMES = 10
# And its odds must be so many times those of whatever else was found within this time.
_CLEAR_ODDS = 3.0
_RIVAL_S = 0.3
# Below these a colour or a pattern is another than the template's, and a move one that the target
# cannot have made.
_UNLIKE = 0.7
_ASTRAY = 0.1
# A target of which so much is expected over the border is leaving the image.
_OVER_THE_BORDER = 0.3
# A tracker goes on by itself from an answer with so much of the confidence that is believed.
_DRIFTING = 0.2
# After so many frames of at least such a confidence, what is in the box is looked at in one frame
# of so many only, unless the score falls.
_STEADY_FRAMES = 10
_NO_DOUBT = 0.8
_ONE_OF = 3
# How long a hint is kept for a target that is not lost yet.
_HINT_S = 1.0


class BoxFault(Enum):
    """What can be wrong with the box of a start."""

    INVALID = auto()
    OUTSIDE = auto()
    TOO_SMALL = auto()


class BoxError(ValueError):
    """A box that no target can be started with; the text names value and remedy."""

    def __init__(self, fault: BoxFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known about the target after a frame.

    `box` is in pixels of the image and None while the target is lost. `score` is the model's own
    and raw; `confidence` in [0, 1] is how likely the box is right. `mask` (H, W) uint8 and
    `outline` are there where they were wanted of a tracker that gives them; see `Estimate`.
    `predicted` is the state of the target's motion, also while it is not seen. `evidence` is what
    the confidence was made of, and `looked_at` the box that it speaks of, also of a lost target.
    """

    state: State
    target_id: str
    box: Box | None
    score: float
    reason: str
    mask: Image | None = field(default=None, compare=False, repr=False)
    outline: RotatedBox | None = None
    confidence: float = 0.0
    predicted: Predicted | None = field(default=None, compare=False, repr=False)
    evidence: Evidence | None = field(default=None, compare=False, repr=False)
    looked_at: Box | None = field(default=None, compare=False, repr=False)


NOTHING = Observation(State.IDLE, '', None, 0.0, 'no target')


class Session:
    """A tracker and the life of the target that it follows.

    In each frame the tracker looks where the target is expected, and what it finds is judged.
    A credible answer is believed: it becomes the place of the next search and, when it is sure,
    what the target looks like. A doubtful one changes neither, and the target is looked for
    elsewhere as well. What is found there is followed on trial, and only believed when it was
    sure for several frames in a row.
    """

    def __init__(
        self,
        tracker: Tracker,
        thresholds: Thresholds | None = None,
        patience: Patience | None = None,
        care: Care | None = None,
        calibration: Calibration | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Without `thresholds` and `calibration` they are those of the tracker's package.

        `pace` tells how many looks there is time for; without one the time of looks is measured.
        """
        self.tracker = tracker
        self.thresholds = thresholds or Thresholds(**tracker.package.confidence)
        self.patience = patience or Patience()
        self.care = care or Care()
        self.observation = NOTHING
        self.motion = Motion()
        """Where the target is about to be; may be asked from any thread while one is followed."""
        self._judge = Judge(calibration or Calibration.of(tracker.package))
        self._camera = CameraMotion()
        self._pace = pace or Pace()
        self._life: Life | None = None
        self._started = 0

    def configure(
        self, thresholds: Thresholds, patience: Patience, care: Care | None = None
    ) -> None:
        """Change when states change and what is spent, also while a target is followed."""
        self.thresholds, self.patience, self.care = thresholds, patience, care or self.care
        if self._life:
            self._life.thresholds, self._life.patience = thresholds, patience

    @property
    def is_following(self) -> bool:
        return self._life is not None

    @property
    def searched_around(self) -> Box:
        """Where the next search is made, or the last was; there is a target."""
        return self._newest

    def start(
        self,
        image: Image,
        box: Box,
        target_id: str = '',
        text: str | None = None,
        smallest_px: float = 1.0,
        stamp_s: float | None = None,
    ) -> Observation:
        """Follow what is in `box` of `image` from now on, instead of any other target.

        Of a box that reaches over the border the part inside is taken. An empty `target_id`
        is replaced by target_1, target_2 and so on. Raises BoxError, which changes nothing, or
        TrackerError, which leaves no target.
        """
        height, width = image.shape[:2]
        inside = check_box(box, width, height, smallest_px)
        try:
            score = self.tracker.start(image, inside, text)
        except Exception as error:
            # The old target may be half replaced: none can be followed from here.
            self.stop(f'the start failed: {error}')
            raise
        self._started += 1
        self._life = Life(
            self.thresholds, self.patience, minds_falls=self._judge.calibration.is_fitted
        )
        self._pace.begin(stamp_s)
        self._judge.start(image, inside)
        self.motion.start(inside, self._pace.stamp_s, image_size=(width, height))
        self._camera.reset()
        self._colours = Colours(image, inside)
        self._trusted = inside
        """The newest box that was believed."""
        self._newest = inside
        """What the tracker searches around."""
        self._enough = self.thresholds.sure
        """The confidence from which on the newest frame was sure."""
        self._followed = 0.0
        """How likely that is the target what is followed while it is looked for elsewhere."""
        self._steady_frames = 0
        """Frames in a row that left no doubt."""
        self._resemblance = 1.0
        """To the first template, of late: `Evidence.origin` of sure frames."""
        self._is_believed = True
        """Whether the answer of the newest frame was believed."""
        self._has_collapsed = False
        """Whether nothing spoke for the answer of a frame since one was believed."""
        self._trial: int | None = None
        """For how many frames something found elsewhere has been followed; None for nothing."""
        self._own: Box | None = None
        """Where the tracker had come to by itself, while it follows something else on trial."""
        self._search: Search | None = None
        self._hint: tuple[Box, float] | None = None
        self._rivals: list[tuple[Candidate, float]] = []
        """What else was found credible of late, and when."""
        self.observation = Observation(
            State.STARTING,
            target_id or f'target_{self._started}',
            inside,
            score,
            'started',
            confidence=score,
            predicted=self.motion.predict(self._pace.stamp_s),
        )
        return self.observation

    def step(self, image: Image, stamp_s: float | None = None) -> Observation:
        """Follow the target into the next image. Without a target nothing happens.

        `stamp_s` is when the image was taken, in seconds; images without are taken for equally
        spaced.
        """
        if not self.is_following:
            return self.observation
        self.prepare(image, stamp_s)
        return self.digest(image, self.tracker.follow(image))

    def prepare(
        self,
        image: Image,
        stamp_s: float | None = None,
        measure: Callable[[], Matrix | None] | None = None,
    ) -> None:
        """Say where the tracker is to look in `image`; `digest` is to follow.

        With the tracker's `follow` between them they are a step. They are apart for several
        targets that are followed in one batch. `measure` gives the motion of the camera since the
        last image, where that is known already; otherwise it is measured here, if wanted at all.
        """
        before_s = self._pace.stamp_s
        self._pace.take(stamp_s)
        if self.care.camera_motion:
            if measure is None:
                matrix = self._camera.between(image, [self._newest])
            else:
                matrix = measure()
                self._camera.reset()
            self._go_with_camera(matrix)
        if self._is_believed:
            self._run_ahead(self._pace.stamp_s - before_s)

    def digest(self, image: Image, estimate: Estimate) -> Observation:
        """Take in what the tracker found in the image of the newest `prepare`."""
        assert self._life is not None, 'there is a target'
        answer, estimate = estimate, self._plausible(image, estimate)
        judgement = self._judged(image, estimate, self._is_away)
        if self._is_away and not self._is_near(estimate.box):
            judgement = self._held_back(judgement, self._needed.far)
        if self._is_away or self._life.is_missing:
            judgement = self._held_back(judgement, self._above_rivals(estimate.box))
        stray = self._stray(estimate.box, judgement)
        if stray is not None:
            judgement = self._held_back(judgement, math.inf)
        confidence = judgement.probability
        was_missing = self._life.is_missing
        enough = self._enough = self._life.enough
        state = self._life.update(confidence, self._words(image, judgement))
        is_credible = confidence >= self.thresholds.lost
        is_sure = confidence >= enough
        # Credible, but so much less than it just was: something may be in front of the target.
        has_fallen = not is_sure and enough > self.thresholds.sure
        self._followed = confidence if has_fallen or was_missing else 0.0
        if self._trial is not None or (was_missing and is_sure):
            self._try(image, estimate, judgement)
        elif stray is not None:
            self._leave(image, stray)
        elif is_credible and not (has_fallen or was_missing):
            self._believe(image, estimate, judgement)
        else:
            self._doubt(image, estimate, confidence)
        is_held = estimate is not answer and self._newest is estimate.box
        # In doubt it goes on by itself, as it would without all this.
        if is_held and (self._is_believed or not answer.box.is_finite()):
            self.tracker.search_around(self._newest)
        is_seen = state is not State.LOST
        self.observation = Observation(
            state,
            self.observation.target_id,
            estimate.box if is_seen else None,
            estimate.score,
            self._life.reason,
            estimate.mask if is_seen else None,
            estimate.outline if is_seen else None,
            confidence,
            self.motion.predict(self._pace.stamp_s),
            judgement.evidence,
            estimate.box,
        )
        return self.observation

    def hint(self, box: Box) -> None:
        """Look at `box` first if the target is lost now, or soon. Otherwise it changes nothing."""
        if self.is_following and box.is_finite() and box.area > 0:
            self._hint = (box, self._pace.stamp_s)

    def stop(self, reason: str = 'no target') -> None:
        self._life = None
        self.observation = Observation(State.IDLE, '', None, 0.0, reason)

    # -- what is made of an answer ------------------------------------------------------------

    def _believe(self, image: Image, estimate: Estimate, judgement: Judgement) -> None:
        """The target is where the tracker says."""
        assert self._life is not None
        self._trusted = self._newest = estimate.box
        self._is_believed = True
        self._has_collapsed = False
        self.motion.update(estimate.box, self._pace.stamp_s, judgement.probability)
        if judgement.probability >= self._enough:
            self.tracker.learn(image, estimate)
            self._judge.accept()
            self._resemblance += _RESEMBLANCE_RATE * (
                judgement.evidence.origin - self._resemblance
            )
        if self._life.state is State.TRACKING:
            self._search = None

    def _doubt(self, image: Image, estimate: Estimate, confidence: float) -> None:
        """The target may not be there: look where it was last, and elsewhere."""
        assert self._life is not None
        self._is_believed = False
        self._has_collapsed |= confidence < self.thresholds.lost
        if self._can_search and confidence >= _DRIFTING * self.thresholds.lost:
            # It may only have changed: the tracker goes on, and the place where the target was
            # last is looked at besides.
            self._newest = _sized_as(estimate.box, self._trusted)
            if self._newest is not estimate.box:
                self.tracker.search_around(self._newest)
        else:
            # A doubtful answer must not lead the search away from where the target was.
            self._turn_to(self._trusted)
        self._look_elsewhere(image)

    def _leave(self, image: Image, stray: Candidate) -> None:
        """Back to where the target was: what the tracker went to is a candidate like others."""
        self._is_believed = False
        self._turn_to(self._trusted)
        self._look_elsewhere(image, [stray])

    def _turn_to(self, box: Box) -> None:
        """The tracker is to go on there, wherever it has come to."""
        self.tracker.search_around(box)
        self._newest = box

    def _try(self, image: Image, estimate: Estimate, judgement: Judgement) -> None:
        """Something was found that may be the target: it has some frames to prove it."""
        assert self._life is not None
        self._trial = 1 + (self._trial or 0)
        self._newest = estimate.box
        self._is_believed = False
        if self._life.state is State.TRACKING and self._trial >= self.patience.sure_frames:
            # It may be anywhere and move otherwise than before.
            height, width = image.shape[:2]
            self.motion.start(estimate.box, self._pace.stamp_s, image_size=(width, height))
            self._trial = self._own = None
            self._believe(image, estimate, judgement)
            return
        own = self._look_at_own(image)
        self._look_for_rivals(image)
        if own is not None and own.merit >= max(judgement.probability, self._enough):
            self._turn_to(own.box)
            self._trial = self._own = None
        elif judgement.probability < self.thresholds.lost:
            self._end_trial(image, estimate, judgement)
        elif self._trial > _LONGEST_TRIAL_FRAMES:
            if own is not None and own.merit > judgement.probability:
                self._end_trial(image, estimate, judgement)
            else:
                # Credible, if never sure, and nothing better is known: the tracker stays with
                # it, as with any answer in doubt, and others are looked for.
                self._trial = self._own = None

    def _end_trial(self, image: Image, estimate: Estimate, judgement: Judgement) -> None:
        """It is not the target: back to where the tracker had come to by itself."""
        if self._search is not None:
            self._search.refuse(estimate.box, self._pace.stamp_s)
        self._trial = None
        if self._own is None:
            self._doubt(image, estimate, judgement.probability)
            return
        self._turn_to(self._own)
        self._own = None
        self._look_elsewhere(image)

    def _look_at_own(self, image: Image) -> Candidate | None:
        """Meanwhile what the tracker was following by itself is followed too, if there is time."""
        if self._own is None or not self._can_search:
            return None
        if not self._pace.looks(1, self.care.time_share, self.tracker.inference_s):
            return None
        with self._pace.looking(1):
            estimate = self.tracker.look(image, self._own)
            own = self._judged(image, estimate, True)
        self._own = estimate.box
        return Candidate(estimate.box, own.probability, self._is_near(estimate.box))

    def _look_elsewhere(self, image: Image, found: Sequence[Candidate] = ()) -> None:
        """In doubt a few looks around other places than the last; the best find may go on trial.

        `found` is what is seen there already.
        """
        assert self._life is not None
        is_doubted = self._life.state in (State.UNCERTAIN, State.LOST)
        if not self._can_search or not (is_doubted or found):
            return
        stamp_s = self._pace.stamp_s
        if self._search is None:
            self._search = Search(self._colours, self._trusted, stamp_s)
        seen = list(found)
        if is_doubted:
            if self._hint is not None:
                if stamp_s - self._hint[1] <= _HINT_S:
                    self._search.hint(self._hint[0])
                self._hint = None
            seen += self._seen_elsewhere(image, self._search)
        best = self._search.propose(seen, self._needed, stamp_s)
        if best is not None:
            self._own = self._newest
            self._turn_to(best.box)
            self._trial = 0

    def _look_for_rivals(self, image: Image) -> None:
        """During a trial, what is left of the time shows whether others are as likely."""
        if self._search is not None and self._can_search:
            self._seen_elsewhere(image, self._search)

    def _seen_elsewhere(self, image: Image, search: Search) -> list[Candidate]:
        """What the looks that there is time for have found."""
        stamp_s = self._pace.stamp_s
        count = self._pace.looks(
            self.care.most_looks, self.care.time_share, self.tracker.inference_s
        )
        if not count:
            return []
        with self._pace.looking(count):
            expected = self.motion.predict(stamp_s).box
            places = search.places(image, count, stamp_s, expected, self._newest)
            candidates = [
                Candidate(
                    each.box, self._judged(image, each, True).probability, self._is_near(each.box)
                )
                for each in self.tracker.look_many(image, places)
            ]
        self._note_rivals(candidates)
        return candidates

    @property
    def _can_search(self) -> bool:
        return self.care.search and self.tracker.can_look

    @property
    def _needed(self) -> Needed:
        doubt = 1.0 - self.thresholds.sure
        return Needed(
            near=max(self.thresholds.lost, self._followed),
            far=1.0 - _FAR_DOUBT * doubt,
            overwhelming=1.0 - _OVERWHELMING_DOUBT * doubt,
        )

    def _is_near(self, box: Box) -> bool:
        """Whether the target can have come there since it was last seen."""
        return self.motion.distance(box, self._pace.stamp_s) <= _NEAR

    def _judged(self, image: Image, estimate: Estimate, is_away: bool) -> Judgement:
        """How likely the box is right.

        What was found away from where the target was lost has no motion to agree with, and needs
        to resemble the first template.
        """
        distance = None
        if not is_away:
            # Time spent for those calibrations that weigh it.
            weights = self._judge.calibration.weights or {}
            weighs_motion = weights.get('agreement', 0.0) > 0
            distance = (
                self.motion.distance(estimate.box, self._pace.stamp_s) if weighs_motion else 0.0
            )
        looks_as_before = not is_away and self._is_steady(estimate)
        judgement = self._judge.judge(image, estimate, distance, looks_as_before)
        if not is_away:
            is_steady = judgement.probability >= _NO_DOUBT
            self._steady_frames = self._steady_frames + 1 if is_steady else 0
            return judgement
        enough = _ENOUGH_RESEMBLANCE * self._resemblance
        resemblance = min(1.0, judgement.evidence.origin / max(enough, 1e-6))
        return judgement._replace(probability=judgement.probability * resemblance)

    def _is_steady(self, estimate: Estimate) -> bool:
        """Whether there is so little doubt that the looks of the last frame still do."""
        return (
            self._steady_frames >= _STEADY_FRAMES
            and self._steady_frames % _ONE_OF != 0
            and not self._judge.falls(estimate.score)
        )

    def _stray(self, box: Box, judgement: Judgement) -> Candidate | None:
        """The answer, if it is likely to be something else that the tracker went on to, or None.

        Nothing spoke for the target in a frame, and now there is something beside where it was:
        where it cannot have come to, or what was seen when it could not. That is what a tracker
        finds while the target is covered, and it may be very much like it.
        """
        if not self._has_collapsed or self._trial is not None or not self._can_search:
            return None
        stamp_s = self._pace.stamp_s
        expected = self.motion.predict(stamp_s).box
        if not (is_other(box, self._trusted) and is_other(box, expected)):
            return None
        is_near = self._is_near(box)
        if is_near and not (self._search and self._search.knows(box, stamp_s)):
            return None
        return Candidate(box, judgement.probability, is_near)

    def _held_back(self, judgement: Judgement, needed: float) -> Judgement:
        """A look-alike, more likely: with less than is needed it is not quite sure."""
        if judgement.probability >= needed:
            return judgement
        almost = _ALMOST * self._enough
        return judgement._replace(probability=min(judgement.probability, almost))

    def _above_rivals(self, box: Box) -> float:
        """What is needed by a box, so that nothing seen elsewhere of late is about as likely."""
        best = max(
            (rival.merit for rival, _ in self._rivals if is_other(rival.box, box)), default=0.0
        )
        odds = _CLEAR_ODDS * best / max(1.0 - best, 1e-6)
        return odds / (1.0 + odds)

    def _note_rivals(self, candidates: Sequence[Candidate]) -> None:
        now_s = self._pace.stamp_s
        kept = [(rival, seen_s) for rival, seen_s in self._rivals if now_s - seen_s <= _RIVAL_S]
        self._rivals = kept + [
            (each, now_s) for each in candidates if each.merit >= self.thresholds.lost
        ]

    @property
    def _is_away(self) -> bool:
        """Whether it was found elsewhere what is followed, and not by the tracker going on."""
        return self._trial is not None and self._own is not None

    def _plausible(self, image: Image, estimate: Estimate) -> Estimate:
        """The estimate with a box that a target can have: of numbers, inside, of steady size."""
        if not (estimate.box.is_finite() and math.isfinite(estimate.score)):
            return Estimate.none(self._newest)
        height, width = image.shape[:2]
        before, box = self._newest, estimate.box
        narrowest, lowest = before.w / _MOST_GROWTH, before.h / _MOST_GROWTH
        widest = min(before.w * _MOST_GROWTH, float(width))
        highest = min(before.h * _MOST_GROWTH, float(height))
        if (
            0.0 <= box.cx <= width
            and 0.0 <= box.cy <= height
            and narrowest <= box.w <= widest
            and lowest <= box.h <= highest
            and 0.0 <= estimate.score <= 1.0
        ):
            return estimate
        held = Box.from_center(
            min(max(box.cx, 0.0), float(width)),
            min(max(box.cy, 0.0), float(height)),
            min(max(box.w, narrowest), widest),
            min(max(box.h, lowest), highest),
        )
        return replace(estimate, box=held, score=min(max(estimate.score, 0.0), 1.0))

    def _run_ahead(self, passed_s: float) -> None:
        """Search where the target is by now, if it has gone far, as after frames that are missing.

        A tracker finds it by itself otherwise.
        """
        trusted = self._trusted
        if self.motion.speed_px_s * passed_s > _FAST_SIZES * math.sqrt(trusted.area):
            there = self.motion.predict(self._pace.stamp_s).box
            self.tracker.search_around(Box.from_center(there.cx, there.cy, trusted.w, trusted.h))

    def _go_with_camera(self, matrix: Matrix | None) -> None:
        """Move what is known of places with the scene."""
        if matrix is None:
            return
        self.motion.warp(matrix, self._pace.stamp_s)
        self._trusted, self._newest = (
            shifted(box, matrix) for box in (self._trusted, self._newest)
        )
        if self._own is not None:
            self._own = shifted(self._own, matrix)
        self.tracker.search_around(self._newest)
        if self._search is not None:
            self._search.moved(matrix)

    def _words(self, image: Image, judgement: Judgement) -> str:
        """Why the answer is doubtful, if there is more to say than that the score is low."""
        if judgement.probability >= self._enough:
            return ''
        height, width = image.shape[:2]
        side = _side_left(self.motion.predict(self._pace.stamp_s).box, width, height)
        if side:
            return f'leaving the image {side}'
        evidence = judgement.evidence
        if not self._judge.calibration.is_fitted:
            return ''
        if evidence.origin < _UNLIKE:
            return 'behind something, or changed: unlike the template'
        if evidence.agreement < _ASTRAY:
            return 'not where it can have moved to'
        return ''


def check_box(box: Box, width: int, height: int, smallest_px: float) -> Box:
    """The part of `box` inside an image of `width` x `height`, if a target can start from it.

    Raises BoxError for a box that is not finite, has no area, lies outside, or is smaller than
    `smallest_px` on a side.
    """
    if not (box.is_finite() and all(map(math.isfinite, box.corners()))):
        raise BoxError(
            BoxFault.INVALID, f'the box {_shown(box)} is not finite; give numbers in pixels'
        )
    if box.w <= 0 or box.h <= 0:
        raise BoxError(
            BoxFault.INVALID,
            f'the box {_shown(box)} has no area; width and height must be above 0',
        )
    x1, y1, x2, y2 = box.corners()
    inside = Box.from_corners(
        max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    )
    if inside.w <= 0 or inside.h <= 0:
        raise BoxError(
            BoxFault.OUTSIDE,
            f'the box {_shown(box)} lies outside the image of {width} x {height} px; boxes are '
            'in pixels of the published image',
        )
    if inside.w < smallest_px or inside.h < smallest_px:
        raise BoxError(
            BoxFault.TOO_SMALL,
            f'the box {_shown(box)} covers only {inside.w:g} x {inside.h:g} px of the image; at '
            f'least {smallest_px:g} px on each side are needed',
        )
    return inside


def _sized_as(box: Box, trusted: Box) -> Box:
    """The box itself, or held to a size that a target in doubt may have taken on since."""
    w = min(max(box.w, trusted.w / _MOST_CHANGE), trusted.w * _MOST_CHANGE)
    h = min(max(box.h, trusted.h / _MOST_CHANGE), trusted.h * _MOST_CHANGE)
    return box if w == box.w and h == box.h else Box.from_center(box.cx, box.cy, w, h)


def _shown(box: Box) -> str:
    return f'x={box.x:g} y={box.y:g} w={box.w:g} h={box.h:g}'


def _side_left(box: Box, width: int, height: int) -> str:
    """Over which border of the image a good part of the box is; empty for none."""
    x1, y1, x2, y2 = box.corners()
    parts = {
        'on the left': -x1 / box.w,
        'on the right': (x2 - width) / box.w,
        'at the top': -y1 / box.h,
        'at the bottom': (y2 - height) / box.h,
    }
    side = max(parts, key=lambda name: parts[name])
    return side if parts[side] > _OVER_THE_BORDER else ''
