# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Camera calibration: from the yaml file of camera_calibration, or none at all."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml
from sensor_msgs.msg import CameraInfo


class CameraInfoError(ValueError):
    """The calibration file is missing or wrong; the text names it and the entry."""


def uncalibrated(width: int, height: int) -> CameraInfo:
    """The CameraInfo of a camera of which only the size is known: K is zero, as ROS defines it."""
    return CameraInfo(width=width, height=height)


def load(path: str | Path) -> CameraInfo:
    """Reads the yaml file which camera_calibration writes and camera drivers read.

    Raises:
        CameraInfoError: no such file, no yaml, or an entry missing or of the wrong length.
    """
    path = Path(path).expanduser()
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise CameraInfoError(f"'{path}' cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CameraInfoError(f"'{path}' is not yaml: {error}") from error
    if not isinstance(content, dict):
        raise CameraInfoError(f"'{path}' is not a calibration: it has no entries")
    info = CameraInfo()
    info.width = _size(path, content, 'image_width')
    info.height = _size(path, content, 'image_height')
    info.distortion_model = str(_entry(path, content, 'distortion_model'))
    info.d = _matrix(path, content, 'distortion_coefficients')
    info.k = _matrix(path, content, 'camera_matrix', 9)
    info.r = _matrix(path, content, 'rectification_matrix', 9)
    info.p = _matrix(path, content, 'projection_matrix', 12)
    return info


def _entry(path: Path, content: dict[str, Any], name: str) -> Any:
    if name not in content:
        raise CameraInfoError(f"'{path}' has no entry '{name}'")
    return content[name]


def _size(path: Path, content: dict[str, Any], name: str) -> int:
    value = _entry(path, content, name)
    if not isinstance(value, int) or not 0 < value < 2**32:
        raise CameraInfoError(f"'{path}': {name} is {value!r}, it must be a number of pixels")
    return value


def _matrix(
    path: Path, content: dict[str, Any], name: str, length: int | None = None
) -> list[float]:
    entry = _entry(path, content, name)
    values = entry.get('data') if isinstance(entry, dict) else None
    if not isinstance(values, list) or (length is not None and len(values) != length):
        raise CameraInfoError(
            f"'{path}': {name} must have a list 'data' of {length or 'the'} numbers"
        )
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError) as error:
        raise CameraInfoError(f"'{path}': {name}: {error}") from error
    if not all(math.isfinite(number) for number in numbers):
        raise CameraInfoError(f"'{path}': {name} has a number that is not finite")
    return numbers
