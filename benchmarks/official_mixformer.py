# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""MixFormerV2 from a clone of MCG-NJU/MixFormerV2, with one online template.

Of timm, torchvision, easydict, einops and matplotlib just what the tracker takes of them is
defined here. None of it is in what is measured but timm's MLP: two linear layers and the
activation.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from official import Official, Tree, import_from, stand_in, without_cuda

from tracker_ros.geometry import Box, Image

CLONES = {'MixFormerV2': 'lib/test/tracker/mixformer2_vit_online.py'}
"""The clones that it takes, each with a file that is in it."""

_CONFIGURATIONS = {
    'mixformerv2_s': '224_depth4_mlp1_score.yaml',
    'mixformerv2_b': '288_depth8_score.yaml',
}


class OfficialMixformer(Official):
    """The class that the official tests run, as they do."""

    def load(self) -> None:
        clone = self._clones / 'MixFormerV2'
        _stand_in(clone)
        name = 'mixformer2_vit_online'
        config = importlib.import_module(f'lib.config.{name}.config')
        tracking = importlib.import_module(f'lib.test.tracker.{name}')
        path = clone / 'experiments' / name / _CONFIGURATIONS[self._model]
        config.update_config_from_file(str(path))
        test = config.cfg.TEST
        parameters = SimpleNamespace(
            cfg=config.cfg,
            checkpoint=str(self._checkpoint),
            template_factor=test.TEMPLATE_FACTOR,
            template_size=test.TEMPLATE_SIZE,
            search_factor=float(self._inputs['search_factor']),
            search_size=test.SEARCH_SIZE,
            online_size=1,
            update_interval=1 << 30,
            debug=0,
            save_all_boxes=False,
        )
        self._tracker = tracking.get_tracker_class()(parameters, 'lasot')
        self.clock(self._tracker.network, 'forward')

    def start(self, picture: Image, box: Box) -> None:
        self._tracker.initialize(picture, {'init_bbox': list(box.xywh())})

    def search_around(self, box: Box) -> None:
        self._tracker.state = list(box.xywh())

    def track(self, picture: Image) -> Sequence[float]:
        return self._tracker.track(picture)['target_bbox']


def _stand_in(clone: Path) -> None:
    from torch import nn

    without_cuda()
    import_from(clone, 'lib.train', 'lib.train.data', 'lib.test', 'lib.test.tracker')

    class Mlp(nn.Module):
        def __init__(
            self, in_features: int, hidden_features: int, act_layer: Any, drop: float
        ) -> None:
            super().__init__()
            self.fc1 = nn.Linear(in_features, hidden_features)
            self.act = act_layer()
            self.drop = nn.Dropout(drop)
            self.fc2 = nn.Linear(hidden_features, in_features)

        def forward(self, tokens: Any) -> Any:
            return self.drop(self.fc2(self.drop(self.act(self.fc1(tokens)))))

    class VisionTransformer(nn.Module):
        """Only derived from; its own constructor is never called."""

    def box_area(boxes: Any) -> Any:
        return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])

    stand_in('easydict', EasyDict=Tree)
    stand_in('einops', rearrange=None)
    stand_in('matplotlib', pyplot=stand_in('matplotlib.pyplot'))
    transformer = stand_in('timm.models.vision_transformer', VisionTransformer=VisionTransformer)
    stand_in('timm', models=stand_in('timm.models', vision_transformer=transformer))
    stand_in(
        'timm.models.layers',
        DropPath=nn.Identity,
        Mlp=Mlp,
        trunc_normal_=nn.init.trunc_normal_,
    )
    stand_in('torchvision', __version__='0.20', ops=stand_in('torchvision.ops'))
    stand_in('torchvision.ops.boxes', box_area=box_area)
