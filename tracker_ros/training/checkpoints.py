# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are whole or not there, and hold tensors and plain values only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


class TrainingError(Exception):
    """A run cannot begin or go on; the text says what to do."""


def save(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint in the place of the last one; a crash leaves one of both."""
    fresh = path.with_name(f'.{path.name}.{os.getpid()}')
    with fresh.open('wb') as stream:
        torch.save(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is run. Raises TrainingError."""
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    # A damaged file may fail in any of the ways of its reader.
    except Exception as error:
        raise TrainingError(
            f'{path} is no checkpoint that can be read: {type(error).__name__}: {error}'
        ) from error
    if not isinstance(content, dict):
        raise TrainingError(f'{path} is no checkpoint of a training run')
    return content
