# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The direction of a target, by the newest CameraInfo; where there is none, why, and once."""

from __future__ import annotations

from collections.abc import Callable

from sensor_msgs.msg import CameraInfo

from tracker_ros.geometry import Box
from tracker_ros.tracking.bearing import (
    Bearing,
    Calibration,
    CalibrationError,
    Camera,
    Matrix,
    Region,
)

# So many boxes may come before the first CameraInfo: it is often a little later than the images.
_PATIENCE_BOXES = 30


class Direction:
    """Turns boxes into bearings. `take` may be called from another thread than `of`."""

    def __init__(self, say: Callable[[str], None], rectified: bool = False) -> None:
        """Begins without a calibration.

        Args:
            say: told, once for each reason, why there are no directions.
            rectified: whether the images are.
        """
        self._say = say
        self._said: set[str] = set()
        self._rectified = rectified
        self._newest: CameraInfo | None = None
        self._waited_boxes = 0
        self._used: CameraInfo | None = None
        self._calibration: Calibration | None = None
        self._size = (0, 0)
        self._camera: Camera | None = None

    @property
    def is_calibrated(self) -> bool:
        """Whether a calibration has come, of whatever use it is."""
        return self._newest is not None

    def take(self, info: CameraInfo) -> None:
        """Use this calibration from the next box on."""
        self._newest = info

    def of(
        self, box: Box, width: int, height: int, covariance: Matrix | None = None
    ) -> Bearing | None:
        """Where the centre of `box` lies, in images of `width` x `height`.

        `covariance` is the (2, 2) of the centre's x and y in square pixels. None without a
        usable calibration, and where its lens model does not reach.
        """
        info = self._newest
        if info is None:
            self._waited_boxes += 1
            if self._waited_boxes > _PATIENCE_BOXES:
                self._say_once('no camera_info has come: bearings are not published')
            return None
        if info is not self._used or self._size != (width, height):
            self._update(info, width, height)
        return None if self._camera is None else self._camera.bearing(box.cx, box.cy, covariance)

    def _update(self, info: CameraInfo, width: int, height: int) -> None:
        calibration = calibration_of(info)
        # The same one comes with each image.
        if calibration != self._calibration or self._size != (width, height):
            try:
                self._camera = Camera(calibration, width, height, self._rectified)
            except CalibrationError as error:
                self._camera = None
                self._say_once(f'bearings are not published: {error}')
        self._used, self._calibration, self._size = info, calibration, (width, height)

    def _say_once(self, text: str) -> None:
        # Bounded, because hostile messages could make a new text each.
        if text not in self._said and len(self._said) < 10:
            self._said.add(text)
            self._say(text)


def calibration_of(info: CameraInfo) -> Calibration:
    """What a message says, unchecked."""
    roi = info.roi
    return Calibration(
        width=info.width,
        height=info.height,
        distortion_model=info.distortion_model,
        d=tuple(info.d),
        k=tuple(info.k.tolist()),
        r=tuple(info.r.tolist()),
        p=tuple(info.p.tolist()),
        binning=(info.binning_x, info.binning_y),
        region=Region(roi.x_offset, roi.y_offset, roi.width, roi.height),
    )
