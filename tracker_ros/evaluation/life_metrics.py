# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How well a tracker knows what it knows: losses noticed, false alarms, recoveries, wrong locks.

What is judged is what a consumer sees: the state and the box of each frame. A frame is *claimed*
when the state is TRACKING. A frame is *good* when the target can be seen and its box has an
overlap of at least 0.5. Only events count before which the target was followed well.

- *noticed*: a claim ends within 5 frames of the target's absence, the first of them included.
- *false alarms*: a claim ends, or LOST begins, between two good frames.
- *recovered*: within 2 s of the target's full return a claim with a good box begins, and of the
  frames of the following second at least 80 % are the same.
- *wrong lock*: after what happened the target can be seen, yet ten frames in a row claim a box
  with an overlap below 0.1; or, at any time, one that is the look-alike's instead.
- *absent lock*: ten frames in a row are claimed although the target is absent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tracker_ros.evaluation.events import EventClip
from tracker_ros.evaluation.metrics import overlaps
from tracker_ros.tracking.life import State

NOTICED_FRAMES = (5, 10)
GOOD_OVERLAP = 0.5
WRONG_OVERLAP = 0.1
LOCK_FRAMES = 10
RECOVERY_S = 2.0
KEPT_S = 1.0
KEPT_SHARE = 0.8
SEEN = 0.9
"""The visible part from which on a target counts as seen."""

_Z = 1.959964  # of the normal distribution's middle 95 %

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Account:
    """What a tracker said on a clip, frame by frame; the first is its start.

    states: (n,) of State. boxes: (n, 4) x, y, w, h in pixels, nan for none. guesses: (n, 4) the
    same, and of a lost target what is still followed. scores: (n,). times_s: (n,) of the tracker
    alone.
    """

    tracker: str
    clip: EventClip
    states: NDArray[np.int64]
    boxes: NDArray[np.float64]
    guesses: NDArray[np.float64]
    scores: NDArray[np.float64]
    times_s: NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """An account judged. None where the question does not arise.

    held: whether the target was followed well until something happened; where not, nothing else
    but the frames and alarms is judged. noticed, lost: by number of frames, whether the claim
    ended, or LOST began, within so many. recovered_s: from the full return, None for never.
    claimed_absent: frames claimed without the target, of `absent`.
    """

    tracker: str
    clip: str
    kind: str
    duration_s: float
    held: bool
    noticed: dict[int, bool | None]
    lost: dict[int, bool | None]
    recovered: bool | None
    recovered_s: float | None
    wrong_lock: bool | None
    absent_lock: bool | None
    good_frames: int
    doubts: int
    losses: int
    absent: int
    claimed_absent: int


@dataclass(frozen=True)
class Share:
    """`hits` of `of`, with the interval that holds the true share with 95 % (Wilson)."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        """In [0, 1]; nan of nothing."""
        return self.hits / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Lowest and highest; all where nothing was seen."""
        if not self.of:
            return 0.0, 1.0
        n, p, z2 = self.of, self.value, _Z * _Z
        middle = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = _Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Rate:
    """`count` in `frames`, as a number per 1000, with its 95 % interval (Poisson, by Byar)."""

    count: int
    frames: int

    @property
    def value(self) -> float:
        """Per 1000 frames; nan of none."""
        return 1000 * self.count / self.frames if self.frames else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Lowest and highest per 1000."""
        if not self.frames:
            return 0.0, math.inf
        return tuple(  # type: ignore[return-value]
            1000 / self.frames * _byar(self.count + more, sign)
            for more, sign in ((0, -1.0), (1, 1.0))
        )


@dataclass(frozen=True)
class Tally:
    """Verdicts counted.

    events: those with an event; held: those of them whose target was followed until then.
    recovery_s: (k,) times of the recoveries.
    """

    held: Share
    noticed: dict[int, Share]
    lost: dict[int, Share]
    recovered: Share
    wrong_lock: Share
    absent_lock: Share
    claimed_absent: Share
    doubts: Rate
    losses: Rate
    recovery_s: NDArray[np.float64] = field(compare=False)

    def as_dict(self) -> dict[str, object]:
        """Counts, values and intervals as JSON can hold them."""
        return {
            'held': _share(self.held),
            'noticed': {str(k): _share(share) for k, share in self.noticed.items()},
            'lost': {str(k): _share(share) for k, share in self.lost.items()},
            'recovered': _share(self.recovered),
            'recovery_s_median': _median(self.recovery_s),
            'wrong_lock': _share(self.wrong_lock),
            'absent_lock': _share(self.absent_lock),
            'claimed_absent': _share(self.claimed_absent),
            'doubts_per_1000': _rate(self.doubts),
            'losses_per_1000': _rate(self.losses),
        }


def judge(account: Account) -> Verdict:
    """Compare what was said with what is true. Raises ValueError for arrays of other lengths."""
    clip = account.clip
    count = len(clip)
    if not len(account.states) == len(account.boxes) == count:
        raise ValueError(
            f'{clip.name} has {count} frames, the account {len(account.states)} states and '
            f'{len(account.boxes)} boxes'
        )
    overlap = overlaps(account.boxes, clip.truth)
    absent = np.isnan(overlap)
    overlap = np.where(absent, 0.0, overlap)
    claimed = np.asarray(account.states == State.TRACKING)
    seen = ~absent & (clip.visible >= SEEN)
    good = seen & (overlap >= GOOD_OVERLAP)
    begin, end = clip.event
    held = _was_held(good, seen, begin)
    onset, back = _absence(absent, seen, begin, end)
    happens = held and clip.kind != 'calm'
    recovery = _recovery(claimed & good, back, clip.rate_hz) if happens else None
    hidden = onset is not None and happens
    gone = onset if hidden else None
    return Verdict(
        tracker=account.tracker,
        clip=clip.name,
        kind=clip.kind,
        duration_s=clip.duration_s,
        held=held,
        noticed={k: _within(~claimed, gone, k, absent) for k in NOTICED_FRAMES},
        lost={k: _within(account.states == State.LOST, gone, k, absent) for k in NOTICED_FRAMES},
        recovered=recovery is not None if happens else None,
        recovered_s=recovery,
        wrong_lock=_is_wrong(account, claimed, overlap, seen, begin) if happens else None,
        absent_lock=_longest(claimed & absent) >= LOCK_FRAMES if hidden else None,
        good_frames=int(good[1:].sum()),
        doubts=_ends_of_claims(claimed, account, good),
        losses=_begins_of_loss(account, good),
        absent=int(absent.sum()) if hidden else 0,
        claimed_absent=int((claimed & absent).sum()) if hidden else 0,
    )


def tally(verdicts: Iterable[Verdict]) -> Tally:
    """Count verdicts; of those whose target was lost before anything happened, only alarms."""
    verdicts = list(verdicts)
    events = [each for each in verdicts if each.kind != 'calm']
    return Tally(
        held=Share(sum(each.held for each in events), len(events)),
        noticed={k: _count(each.noticed[k] for each in verdicts) for k in NOTICED_FRAMES},
        lost={k: _count(each.lost[k] for each in verdicts) for k in NOTICED_FRAMES},
        recovered=_count(each.recovered for each in verdicts),
        wrong_lock=_count(each.wrong_lock for each in verdicts),
        absent_lock=_count(each.absent_lock for each in verdicts),
        claimed_absent=Share(
            sum(each.claimed_absent for each in verdicts), sum(each.absent for each in verdicts)
        ),
        doubts=Rate(*_sums(verdicts, 'doubts')),
        losses=Rate(*_sums(verdicts, 'losses')),
        recovery_s=np.array(
            [each.recovered_s for each in verdicts if each.recovered_s is not None]
        ),
    )


def _was_held(good: Flags, seen: Flags, begin: int) -> bool:
    """Whether the target was followed well in most of the ten seen frames before `begin`."""
    before = np.flatnonzero(seen[:begin])[-10:]
    return bool(len(before) and good[before].mean() >= 0.8 and good[before[-1]])


def _absence(absent: Flags, seen: Flags, begin: int, end: int) -> tuple[int | None, int]:
    """First frame without the target, None if there is none, and the first of its return."""
    missing = np.flatnonzero(absent)
    if not len(missing):
        return None, end
    last = int(missing[-1])
    fully = np.flatnonzero(seen[last:])
    return int(missing[0]), last + int(fully[0]) if len(fully) else len(absent)


def _within(flags: Flags, onset: int | None, frames: int, absent: Flags) -> bool | None:
    """Whether any of so many frames is flagged; None where the target is not away so long."""
    if onset is None:
        return None
    span = slice(onset, onset + frames)
    return bool(flags[span].any()) if absent[span].sum() == frames else None


def _recovery(kept: Flags, back: int, rate_hz: float) -> float | None:
    """Seconds from `back` to the first frame from which the target is kept, or None."""
    for first in range(back, min(len(kept), back + round(RECOVERY_S * rate_hz) + 1)):
        after = kept[first : first + round(KEPT_S * rate_hz)]
        if kept[first] and after.mean() >= KEPT_SHARE:
            return (first - back) / rate_hz
    return None


def _is_wrong(
    account: Account, claimed: Flags, overlap: NDArray[np.float64], seen: Flags, begin: int
) -> bool:
    off = claimed & (overlap < WRONG_OVERLAP)
    after = off & seen
    after[:begin] = False
    with_rival = np.nan_to_num(overlaps(account.boxes, account.clip.rival))
    on_rival = off & (with_rival >= GOOD_OVERLAP)
    return max(_longest(after), _longest(on_rival)) >= LOCK_FRAMES


def _ends_of_claims(claimed: Flags, account: Account, good: Flags) -> int:
    """Changes from a claim to none between two good frames."""
    return int((claimed[:-1] & ~claimed[1:] & _both_good(account, good)).sum())


def _begins_of_loss(account: Account, good: Flags) -> int:
    lost: Flags = np.equal(account.states, State.LOST)
    return int((~lost[:-1] & lost[1:] & _both_good(account, good)).sum())


def _both_good(account: Account, good: Flags) -> Flags:
    """(n - 1,) whether a frame and the next are good; the next may have no box, being lost."""
    clip = account.clip
    no_box: Flags = np.asarray(np.isnan(account.boxes).any(axis=1))
    seen: Flags = ~np.isnan(clip.truth[:, 0]) & (clip.visible >= SEEN)
    return np.asarray(good[:-1] & (good[1:] | (no_box[1:] & seen[1:])))


def _longest(flags: Flags) -> int:
    """Length of the longest run of true."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False].astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _count(answers: Iterable[bool | None]) -> Share:
    known = [answer for answer in answers if answer is not None]
    return Share(sum(known), len(known))


def _sums(verdicts: list[Verdict], name: str) -> tuple[int, int]:
    return (
        sum(getattr(each, name) for each in verdicts),
        sum(each.good_frames for each in verdicts),
    )


def _byar(count: int, sign: float) -> float:
    """Limit of the mean of a Poisson count; `sign` tells which."""
    if count == 0:
        return 0.0
    return count * (1 - 1 / (9 * count) + sign * _Z / (3 * math.sqrt(count))) ** 3


def _share(share: Share) -> dict[str, object]:
    low, high = share.interval
    return {
        'hits': share.hits,
        'of': share.of,
        'value': round(share.value, 4) if share.of else None,
        'interval': [round(low, 4), round(high, 4)],
    }


def _rate(rate: Rate) -> dict[str, object]:
    low, high = rate.interval
    return {
        'count': rate.count,
        'frames': rate.frames,
        'value': round(rate.value, 3) if rate.frames else None,
        'interval': [round(low, 3), round(high, 3)] if rate.frames else None,
    }


def _median(values: NDArray[np.float64]) -> float | None:
    return round(float(np.median(values)), 3) if len(values) else None
