# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Runs kept in files as they end, so that an evaluation that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tracker_ros.evaluation.one_pass import Run
from tracker_ros.evaluation.sequences import Sequence

_VERSION = 1


@dataclass(frozen=True)
class KeptRuns:
    """A file for each run in `folder`; its name is a digest of all that the run depends on.

    identities: what each tracker is (weights, runtime, library), by its name: with other weights
    a tracker of the same name is another. real_time_hz: of the runs, None where every frame is
    seen. Of a sequence count its annotation and its footage's names, sizes and times of change.
    """

    folder: Path
    identities: Mapping[str, str]
    real_time_hz: float | None = None

    def find(self, tracker: str, sequence: Sequence) -> Run | None:
        """The run if it was kept; a file that is damaged or cannot be read counts as none."""
        try:
            entry = json.loads(self._path(tracker, sequence).read_text(encoding='utf-8'))
            boxes = np.array(entry['boxes'], dtype=np.float64).reshape(-1, 4)
            confidences = np.array(entry['confidences'], dtype=np.float64)
            times_s = np.array(entry['times_s'], dtype=np.float64)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not len(boxes) == len(confidences) == len(times_s) == len(sequence):
            return None
        return Run(tracker, sequence, boxes, confidences, times_s)

    def keep(self, run: Run) -> None:
        """Write the run; another process sees all of it or none."""
        entry = {
            'tracker': run.tracker,
            'sequence': run.sequence.name,
            'identity': self.identities[run.tracker],
            'boxes': run.boxes.tolist(),
            'confidences': run.confidences.tolist(),
            'times_s': run.times_s.tolist(),
        }
        write_whole(self._path(run.tracker, run.sequence), json.dumps(entry).encode())

    def _path(self, tracker: str, sequence: Sequence) -> Path:
        parts = [
            _VERSION,
            tracker,
            self.identities[tracker],
            self.real_time_hz,
            sequence.name,
            sequence.text,
            sequence.first_frame,
            hashlib.sha256(sequence.truth.tobytes()).hexdigest(),
            _state_of(sequence.footage),
        ]
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return self.folder / f'{digest[:32]}.json'


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there with all its content or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix='.writing-')
    try:
        with os.fdopen(handle, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _state_of(footage: Path) -> str:
    digest = hashlib.sha256()
    paths = sorted(footage.iterdir()) if footage.is_dir() else [footage]
    for path in paths:
        facts = path.stat()
        digest.update(f'{path.name} {facts.st_size} {facts.st_mtime_ns}\n'.encode())
    return digest.hexdigest()
