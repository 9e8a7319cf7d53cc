# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""SiamAttn from a clone of msight-tech/research-siamattn, with the settings for VOT2018.

Its deformable convolution and deformable RoI pooling exist for CUDA alone. In their place the
same in plain PyTorch is used, `tracker_ros.networks.deformable`. Replaced besides: `np.float`,
which NumPy has no more, and the test of OpenCV's version, which takes today's for an old one. Of
yacs and torchvision just what is imported is defined here.

The published tracker finds a mask in every frame. For frames without one, the mask's head and all
that follows it are left out.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from official import (
    MASK,
    Official,
    Tree,
    import_edited,
    import_from,
    stand_in,
    state_of,
    without_cuda,
)

from tracker_ros.geometry import Box, Image
from tracker_ros.networks.siam_attn import SEARCH_PX

CLONES = {'research-siamattn': 'pysot/tracker/siammask_tracker.py'}
"""The clones that it takes, each with a file that is in it."""

_MASK_SIDE = 64
_VOT2018 = {
    'PENALTY_K': 0.1,
    'WINDOW_INFLUENCE': 0.25,
    'LR': 0.45,
    'MASK_THERSHOLD': 0.2,
    'MASK_OUTPUT_SIZE': _MASK_SIDE,
}


class OfficialSiamattn(Official):
    """The class that the official tests run, as they do."""

    takes_rgb = False

    def load(self) -> None:
        import torch

        clone = self._clones / 'research-siamattn'
        _stand_in(clone)
        config = importlib.import_module('pysot.core.config').cfg
        config.CUDA = False
        config.BACKBONE.KWARGS = {'used_layers': [0, 1, 2, 3, 4]}
        config.ADJUST.KWARGS = {'in_channels': [512, 1024, 2048], 'out_channels': [256] * 3}
        config.RPN.KWARGS = {'anchor_num': 5, 'in_channels': [256] * 3, 'weighted': True}
        config.MASK.MASK = True
        config.TRACK.update(_VOT2018)
        model = importlib.import_module('pysot.models.model_builder').ModelBuilder()
        model.load_state_dict(state_of(self._checkpoint), strict=True)
        tracking = import_edited(
            'pysot.tracker.siammask_tracker',
            clone / 'pysot' / 'tracker' / 'siammask_tracker.py',
            {'np.float)': 'float)', "cv2.__version__[-5] == '4'": 'True'},
        )
        self._tracker = tracking.SiamMaskTracker(model.eval())
        for name in ('track', 'bbox_refine', 'mask_refine'):
            self.clock(model, name)
        self._of_mask: list[tuple[Any, str, Any, Any]] = [
            (owner, name, getattr(owner, name), lambda *_arguments, nothing=nothing: nothing)
            for owner, name, nothing in (
                (model, 'mask_refine', torch.zeros(1, 1, _MASK_SIDE, _MASK_SIDE)),
                (self._tracker, '_crop_back', np.zeros((1, 1), np.float32)),
                (self._tracker, '_mask_post_processing', np.zeros((4, 2))),
            )
        ]
        self._with_mask(False)

    def turn(self, work: Any, seconds: float) -> list[list[float]]:
        self._with_mask(work == MASK)
        try:
            return super().turn(work, seconds)
        finally:
            self._with_mask(False)

    def start(self, picture: Image, box: Box) -> None:
        # A box there begins and ends in the middle of pixels.
        corner = [box.cx - (box.w - 1) / 2, box.cy - (box.h - 1) / 2]
        self._tracker.init(picture, [*corner, box.w, box.h])

    def search_around(self, box: Box) -> None:
        self._tracker.center_pos = np.array([box.cx, box.cy])
        self._tracker.size = np.array([box.w, box.h])

    def track(self, picture: Image) -> Sequence[float]:
        return self._tracker.track(picture)['bbox']

    def _with_mask(self, wanted: bool) -> None:
        for owner, name, full, empty in self._of_mask:
            setattr(owner, name, full if wanted else empty)


def _stand_in(clone: Path) -> None:
    without_cuda()
    import_from(clone)
    stand_in('yacs', config=stand_in('yacs.config', CfgNode=Tree))
    stand_in('torchvision', ops=stand_in('torchvision.ops'))
    for name in ('conv', 'pool'):
        stand_in(f'pysot.models.head.dcn.deform_{name}_cuda')
    for name, function in (('deform_conv', _convolved), ('deform_pool', _pooled)):
        module = importlib.import_module(f'pysot.models.head.dcn.{name}')
        wanted = {'deform_conv': 'deform_conv', 'deform_pool': 'deform_roi_pooling'}[name]
        setattr(module, wanted, function)


def _convolved(features: Any, offset: Any, weight: Any, *_settings: Any) -> Any:
    """Of 3 x 3 taps, with padding: all that the tracker has."""
    from tracker_ros.networks.deformable import DeformableConv

    layer = SimpleNamespace(conv_offset=lambda _: offset, weight=weight, dim=len(weight))
    return DeformableConv.forward(layer, features, features.shape[-1])  # type: ignore[arg-type]


def _pooled(
    features: Any, rois: Any, offset: Any, _scale: float, side: int, dim: int, *_settings: Any
) -> Any:
    pooling = _pooling(dim, side, features.shape[-1])
    return pooling.pool(features, rois[:, 1:], offset if offset.numel() else None)


@functools.cache
def _pooling(dim: int, side: int, cells: int) -> Any:
    import torch

    from tracker_ros.networks.deformable import DeformableRoiPool

    with torch.device('meta'):  # its layers are not used
        return DeformableRoiPool(dim, side, cells, SEARCH_PX)
