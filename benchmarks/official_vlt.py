# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""VLT_SCAR and VLT_TT from a clone of JudasDie/SOTS, told by the box alone, as on LaSOT.

Replaced: torchvision's RoIAlign, of the template only, by the one of this project; its
normalisation by the same in PyTorch; `array.ptp()`, which NumPy has no more. Of transformers,
timm, shapely, loguru and matplotlib just what is imported is defined here; nothing of it is
measured, for BERT runs for sentences alone. The official tests keep gradients; here none are.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml
from official import Official, Tree, import_edited, import_from, stand_in, state_of, without_cuda

from tracker_ros.geometry import Box, Image

CLONES = {'SOTS': 'lib/models/backbone/SPOS_VLT.py'}
"""The clones that it takes, each with a file that is in it."""


class OfficialVlt(Official):
    """The class that the official tests run, as they do."""

    def load(self) -> None:
        self.takes_rgb = self._model == 'vlt_tt'
        clone = self._clones / 'SOTS'
        _stand_in(clone)
        path = clone / 'experiments' / f'{self._model.upper()}.yaml'
        self._config = Tree(yaml.safe_load(path.read_text(encoding='utf-8')))
        builder = importlib.import_module('utils.sot_builder')
        self._network = builder.Siamese_builder(self._config).build()
        self._network.backbone.load_nlp()
        self._network.load_state_dict(state_of(self._checkpoint), strict=True)
        self._network.eval()
        tracking = import_edited(
            'tracker.sot_tracker',
            clone / 'lib' / 'tracker' / 'sot_tracker.py',
            {'cen.ptp()': 'np.ptp(cen)'},
        )
        self._tracker = tracking.SiamTracker(self._config)
        self.clock(self._network, 'track')

    def start(self, picture: Image, box: Box) -> None:
        chosen = self._config.MODEL.CAND
        self._tracker.init(
            {
                'image': picture,
                'pos': np.array([box.cx, box.cy]),
                'sz': np.array([box.w, box.h]),
                'model': self._network,
                'phrase': [],
                'nas_list_z': chosen[0],
                'nas_list_x': chosen[1],
                'nas_list_nlp': chosen[-2:],
            }
        )

    def search_around(self, box: Box) -> None:
        self._tracker.target_pos = np.array([box.cx, box.cy])
        self._tracker.target_sz = np.array([box.w, box.h])

    def track(self, picture: Image) -> Sequence[float]:
        found = self._tracker.track(picture)
        return Box.from_center(*found['pos'], *found['sz']).xywh()


def _stand_in(clone: Path) -> None:
    import torch
    from torch import Tensor, nn

    from tracker_ros.networks.moda_mixer import roi_align

    def aligned(features: Tensor, boxes: Tensor, _size: Any, **_options: Any) -> Tensor:
        return roi_align(features, boxes[:, 1:])

    def normalize(image: Tensor, mean: Any, std: Any, _inplace: bool) -> Tensor:
        centred = image - torch.tensor(mean)[:, None, None]
        return centred / torch.tensor(std)[:, None, None]

    class Nothing(nn.Module):
        @classmethod
        def from_pretrained(cls, _name: str) -> Nothing:
            return cls()

    without_cuda()
    import_from(clone / 'lib', 'models', 'models.sot', 'utils', 'tracker')
    stand_in('torchvision', ops=stand_in('torchvision.ops', roi_align=aligned))
    functional = stand_in('torchvision.transforms.functional', normalize=normalize)
    stand_in('torchvision.transforms', functional=functional)
    stand_in('transformers', BertTokenizer=Nothing, BertModel=Nothing)
    stand_in('timm', models=stand_in('timm.models'))
    stand_in('timm.models.layers', trunc_normal_=nn.init.trunc_normal_)
    stand_in('shapely', geometry=stand_in('shapely.geometry', Polygon=None, box=None))
    stand_in('loguru', logger=SimpleNamespace())
    stand_in('utils.log_helper', logger=SimpleNamespace())
    stand_in('matplotlib', pyplot=stand_in('matplotlib.pyplot'))
