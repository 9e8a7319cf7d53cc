# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The parameters of the node: declared once, validated together, handed on as one struct.

Defaults stand in ``config/track.yaml`` and nowhere else; here are types, ranges and words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from tracker_ros.resources import share_path
from tracker_ros.ros.recorder import Recording
from tracker_ros.runtime.engine import RUNTIMES
from tracker_ros.tracking import Patience, Thresholds
from tracker_ros.tracking.heat import LAYERS
from tracker_ros.tracking.recovery import Care


def _parameter(
    description: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    fixed: bool = False,
) -> Any:
    return field(
        metadata={
            'description': description,
            'low': low,
            'high': high,
            'choices': choices,
            'fixed': fixed,
        }
    )


@dataclass(frozen=True, slots=True)
class Parameters:
    """All parameters of the node. Raises ValueError naming parameter, value and remedy."""

    autostart: bool = _parameter('configure and activate without being told', fixed=True)
    model: str = _parameter(
        'name of the model ("tracker_ros models list") or path of a package folder', fixed=True
    )
    runtime: str = _parameter(
        'library that runs the model', choices=('auto', *RUNTIMES), fixed=True
    )
    threads: int = _parameter('CPU threads for inference; 0: automatic', 0, 256, fixed=True)
    image_transport: str = _parameter(
        'raw: subscribe image_raw; compressed: subscribe image_raw/compressed',
        choices=('raw', 'compressed'),
        fixed=True,
    )
    image_timeout_s: float = _parameter(
        'time without an image after which a warning explains why [s]', 0.1, 3600.0
    )
    history_s: float = _parameter(
        'how long images are kept, for targets that start in one of them [s]', 0.0, 60.0
    )
    history_mb: int = _parameter('most memory for these images [MB]', 1, 65536)
    smallest_box_px: float = _parameter(
        'smallest side of a box that a target may start with [px]', 1.0, 1000.0
    )
    max_targets: int = _parameter(
        'targets followed at once; with 1 a new target takes the place of the old one',
        1,
        64,
        fixed=True,
    )
    handover_class: str = _parameter(
        'class of ~/candidates that is followed by itself while there is no target; empty: none'
    )
    handover_score: float = _parameter(
        'smallest score of a candidate that is followed by itself', 0.0, 1.0
    )
    rotated_box: bool = _parameter(
        'detections with the smallest box around the mask, at any angle, of models that give masks'
    )
    class_id: str = _parameter("class_id of the detections' hypotheses")
    score_lost: float = _parameter(
        'confidence in [0, 1] below which a frame says lost; negative: as the model says',
        -1.0,
        1.0,
    )
    score_sure: float = _parameter(
        'confidence in [0, 1] from which a frame says tracked; negative: as the model says',
        -1.0,
        1.0,
    )
    uncertain_after_frames: int = _parameter('frames in a row until UNCERTAIN', 1, 1000)
    lost_after_frames: int = _parameter('frames in a row until LOST', 1, 1000)
    sure_after_frames: int = _parameter('frames in a row until TRACKING again', 1, 1000)
    search_when_lost: bool = _parameter('look for a target in doubt in all of the image')
    search_time_share: float = _parameter(
        'part of the time between two images that tracking and searching may take together',
        0.05,
        1.0,
    )
    search_most_looks: int = _parameter('places looked at in an image, at most', 1, 64)
    camera_motion: bool = _parameter(
        'measure the motion of the camera, so that expected places stay with the scene'
    )
    prediction_rate_hz: float = _parameter(
        '~/prediction for the time of sending, so often; 0: with each image [Hz]',
        0.0,
        1000.0,
        fixed=True,
    )
    record_dir: str = _parameter(
        'folder for recordings of what was before and after a loss; empty: none', fixed=True
    )
    record_before_s: float = _parameter(
        'time before a loss that is recorded [s]', 0.0, 600.0, fixed=True
    )
    record_after_s: float = _parameter(
        'time after a loss that is recorded [s]', 0.0, 600.0, fixed=True
    )
    record_images: bool = _parameter('record the images too, as JPEG', fixed=True)
    record_mb: int = _parameter(
        'most that all recordings in the folder may take [MB]', 1, 10**6, fixed=True
    )
    debug_scale: float = _parameter('size of the debug image / size of the image', 0.05, 1.0)
    debug_jpeg_quality: int = _parameter('JPEG quality of debug_image/compressed', 1, 100)
    debug_overlay: str = _parameter(
        'what of the network is drawn into the debug image', choices=('none', *LAYERS)
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(item.name, getattr(self, item.name), item.metadata)
        if 0 <= self.score_sure < self.score_lost:
            raise ValueError(
                f'score_sure ({self.score_sure:g}) must not be below score_lost '
                f'({self.score_lost:g})'
            )

    def thresholds(self, of_model: Mapping[str, float]) -> Thresholds:
        """The thresholds in force: the model's own where a parameter is negative."""
        lost = self.score_lost if self.score_lost >= 0 else of_model['lost']
        sure = self.score_sure if self.score_sure >= 0 else max(lost, of_model['sure'])
        return Thresholds(min(lost, sure), sure)

    def care(self) -> Care:
        return Care(
            search=self.search_when_lost,
            time_share=self.search_time_share,
            most_looks=self.search_most_looks,
            camera_motion=self.camera_motion,
        )

    def recording(self) -> Recording | None:
        """What is recorded, and where; None for nothing."""
        if not self.record_dir:
            return None
        return Recording(
            Path(self.record_dir).expanduser(),
            self.record_before_s,
            self.record_after_s,
            self.record_images,
            self.record_mb,
        )

    def patience(self) -> Patience:
        return Patience(
            self.uncertain_after_frames, self.lost_after_frames, self.sure_after_frames
        )


FIXED = tuple(item.name for item in fields(Parameters) if item.metadata['fixed'])
"""Names that only take effect when the node is configured."""


def defaults() -> dict[str, Any]:
    """The values of ``config/track.yaml``."""
    path = share_path('config', 'track.yaml')
    values: dict[str, Any] = yaml.safe_load(path.read_text(encoding='utf-8'))['/**'][
        'ros__parameters'
    ]
    return values


def declare(node: Node) -> Parameters:
    """Declare every parameter on `node` and return their values."""
    values = defaults()
    for item in fields(Parameters):
        node.declare_parameter(item.name, values[item.name], _descriptor(item.metadata))
    return read(node)


def read(node: Node, changes: Mapping[str, Any] | None = None) -> Parameters:
    """The current values, with `changes` in place of some. Raises ValueError."""
    names = [item.name for item in fields(Parameters)]
    values = {name: node.get_parameter(name).value for name in names}
    values.update({name: value for name, value in (changes or {}).items() if name in values})
    return Parameters(**values)


def _descriptor(metadata: Mapping[str, Any]) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=metadata['description'])
    if metadata['choices']:
        descriptor.additional_constraints = f'one of {", ".join(metadata["choices"])}'
    low, high = metadata['low'], metadata['high']
    if isinstance(low, int):
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    elif isinstance(low, float):
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=low, to_value=high, step=0.0)
        ]
    return descriptor


def _check(name: str, value: Any, metadata: Mapping[str, Any]) -> None:
    choices, low, high = metadata['choices'], metadata['low'], metadata['high']
    if choices and value not in choices:
        raise ValueError(f'{name} is {value!r}, but must be one of {", ".join(choices)}')
    # Written so that NaN, which compares false with everything, is refused too.
    if low is not None and not low <= value <= high:
        raise ValueError(f'{name} is {value:g}, but must be from {low:g} to {high:g}')
