# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""SimTrack from a clone of LPXTT/SimTrack, its backbone from one of openai/CLIP.

The public code builds its head for patches of 16 pixels whatever the backbone; for others the
same head is made here for the grid that there is. For B/32 the template is shifted by half a
patch, as in the paper and here: the public code's test for that compares the wrong sizes. Of
torchvision and easydict just what is imported is defined here; nothing of it is measured.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from official import Official, Tree, import_edited, import_from, stand_in, state_of, without_cuda

from tracker_ros.geometry import Box, Image
from tracker_ros.networks.simtrack import VARIANTS, Variant

CLONES = {'SimTrack': 'lib/models/stark/clipvit16.py', 'CLIP': 'clip/model.py'}
"""The clones that it takes, each with a file that is in it."""


class OfficialSimtrack(Official):
    """The class that the official tests run, as they do."""

    def load(self) -> None:
        import torch

        variant = VARIANTS[self._model.removeprefix('simtrack_')]
        state = state_of(self._checkpoint)
        _stand_in(self._clones, variant)
        cfg = importlib.import_module('lib.config.simtrack.config').cfg
        module = importlib.import_module('lib.test.tracker.simtrack')
        cfg.MODEL.BACKBONE.update(
            NUM_FEA=variant.dim,
            TEMPLATE_SZ=variant.template_px,
            SEARCH_SZ=variant.search_px,
            WINDOW_SZ=variant.patch_px,
            FOVEAL_SZ=variant.foveal_px,
        )
        parameters = SimpleNamespace(
            cfg=cfg,
            save_all_boxes=False,
            template_factor=self._inputs['template_factor'],
            template_size=variant.template_px,
            search_factor=self._inputs['search_factor'],
            search_size=variant.search_px,
        )
        read = torch.load
        # The place of the checkpoint is written in the code, to be filled in.
        torch.load = lambda *_arguments, **_options: state
        try:
            self._tracker = module.SimTrack(parameters, 'lasot')
        finally:
            torch.load = read
        network = self._tracker.network
        if variant.shifts_template:
            network.backbone.shift_flag = True
        self.clock(network, 'forward_backbone')
        self.clock(network, 'forward_head')

    def start(self, picture: Image, box: Box) -> None:
        self._tracker.initialize(picture, {'init_bbox': list(box.xywh())})

    def search_around(self, box: Box) -> None:
        self._tracker.state = list(box.xywh())

    def track(self, picture: Image) -> Sequence[float]:
        return self._tracker.track(picture)['target_bbox']


def _stand_in(clones: Path, variant: Variant) -> None:
    without_cuda()
    clone = clones / 'SimTrack'
    import_from(
        clone,
        *('lib', 'lib.models', 'lib.models.stark', 'lib.utils', 'lib.train', 'lib.train.data'),
        *('lib.test', 'lib.test.tracker'),
    )
    stand_in('easydict', EasyDict=Tree)
    stand_in('PIL', Image=None)
    stand_in('torchvision', __version__='0.20', ops=stand_in('torchvision.ops'))
    stand_in('torchvision.ops.boxes', box_area=None)
    stand_in('torchvision.models', _utils=stand_in('torchvision.models._utils'))
    stand_in('torchvision.models._utils', IntermediateLayerGetter=None)
    stand_in(
        'torchvision.models.resnet', BasicBlock=None, Bottleneck=None, conv1x1=None, conv3x3=None
    )
    tower = import_edited('clip.model', clones / 'CLIP' / 'clip' / 'model.py', {})
    visual = tower.VisionTransformer(
        variant.pretrained_grid * variant.patch_px,
        variant.patch_px,
        variant.dim,
        variant.depth,
        variant.heads,
        variant.joint_dim,
    )
    stand_in('clip', load=lambda *_arguments, **_options: (SimpleNamespace(visual=visual), None))
    simtrack = importlib.import_module('lib.models.stark.simtrack')
    head = importlib.import_module('lib.models.stark.head')

    def build_box_head(_configuration: Any) -> Any:
        return head.Corner_Predictor(256, 256, variant.search_grid, variant.patch_px)

    vars(simtrack).update(build_box_head=build_box_head)
    stark = importlib.import_module('lib.models.stark')
    vars(stark).update(build_simtrack=simtrack.build_simtrack)
