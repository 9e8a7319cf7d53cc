# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What trackers of the STARK family have in common: their crops, and where a box may lie."""

from __future__ import annotations

from tracker_ros.geometry import Box, Image, stark_crop
from tracker_ros.runtime.engine import Engine
from tracker_ros.runtime.package import ModelPackage
from tracker_ros.trackers.contract import NetworkTracker


class StarkCrops(NetworkTracker):
    """Crops by area and factor, padded with black."""

    def __init__(self, package: ModelPackage, engine: Engine | None) -> None:
        super().__init__(package, engine)
        inputs = package.inputs
        self._template_size = (float(inputs['template_factor']), int(inputs['template_px']))
        self._search_size = (float(inputs['search_factor']), int(inputs['search_px']))

    def _template_crop(self, image: Image, box: Box) -> Image:
        return stark_crop(image, box, *self._template_size)[0]

    def _search_crop(self, image: Image) -> tuple[Image, int]:
        return stark_crop(image, self._box, *self._search_size)


class StarkTracker(StarkCrops):
    """The same, with boxes kept inside the image by a margin."""

    def __init__(self, package: ModelPackage, engine: Engine | None) -> None:
        super().__init__(package, engine)
        self._margin_px = float(package.constants['clip_margin_px'])

    def _held(self, box: Box, width: int, height: int) -> Box:
        return box.clipped(width, height, self._margin_px)
