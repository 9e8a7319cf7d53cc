# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Single-object trackers: a box in the first image, its box in every further one.

>>> tracker = create('csrt')
>>> tracker.start(first_image, Box(100, 80, 40, 30))
>>> estimate = tracker.step(next_image)
"""

from __future__ import annotations

from tracker_ros.geometry import Box
from tracker_ros.runtime import store
from tracker_ros.runtime.engine import Build, load_engine
from tracker_ros.runtime.package import LANGUAGE, MANIFEST, PackageError
from tracker_ros.trackers.contract import Estimate, Tracker, TrackerError, follow_together
from tracker_ros.trackers.csrt import Csrt
from tracker_ros.trackers.dual_tfr import DualTfr
from tracker_ros.trackers.kestrel import Kestrel
from tracker_ros.trackers.mixformer_v2 import MixFormerV2
from tracker_ros.trackers.nanotrack import NanoTrack
from tracker_ros.trackers.siam_attn import SiamAttn
from tracker_ros.trackers.simtrack import SimTrack
from tracker_ros.trackers.vittrack import VitTrack
from tracker_ros.trackers.vlt import VltRpn, VltScar, VltTt

__all__ = ['FAMILIES', 'Box', 'Estimate', 'Tracker', 'TrackerError', 'create', 'follow_together']

FAMILIES: dict[str, type[Tracker]] = {
    'csrt': Csrt,
    'dual_tfr': DualTfr,
    'kestrel': Kestrel,
    'mixformer_v2': MixFormerV2,
    'nanotrack': NanoTrack,
    'simtrack': SimTrack,
    'siam_attn': SiamAttn,
    'vittrack': VitTrack,
    'vlt_rpn': VltRpn,
    'vlt_scar': VltScar,
    'vlt_tt': VltTt,
}
"""Model family, as ``model.yaml`` names it, to the class that runs it."""


def create(
    name: str, runtime: str = 'auto', threads: int = 0, build: Build = 'background'
) -> Tracker:
    """Load the model `name` (or the package in the folder `name`) and its engine.

    `runtime`, `threads` and `build` are those of `tracker_ros.runtime.engine.load_engine`.
    Raises PackageError, EngineError or TrackerError, each with the remedy.
    """
    package = store.find(name)
    if package.family == LANGUAGE:
        raise TrackerError(f'{package.name} reads sentences for other models and follows nothing')
    if package.family not in FAMILIES:
        raise TrackerError(
            f'{package.folder}: the family {package.family!r} is unknown to this version; '
            f'known are {", ".join(sorted(FAMILIES))}'
        )
    engine = load_engine(package, runtime, threads, build) if package.graphs else None
    try:
        return FAMILIES[package.family](package, engine)
    except KeyError as error:
        raise PackageError(
            f'{package.folder / MANIFEST}: a {package.family} needs the entry {error}'
        ) from error
    except (TypeError, ValueError) as error:
        raise PackageError(f'{package.folder / MANIFEST}: {error}') from error
