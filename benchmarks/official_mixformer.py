# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The public PyTorch code of MixFormerV2, from a clone of it, as a subject of `speed.compare`.

The clone is used as it is. It was written for a GPU and imports all that its training needs, so
this process stands in for three things: `.cuda()` leaves tensors where they are; the packages of
the training part are found without running their `__init__`; and of timm, torchvision, easydict,
einops and matplotlib just what the tracker takes of them is defined here, if they are missing or
not. None of it is in what is measured but timm's MLP: two linear layers and the activation.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2

from tracker_ros.evaluation.speed import moving_patch, timed

CONFIGURATIONS = {'s': '224_depth4_mlp1_score.yaml', 'b': '288_depth8_score.yaml'}
_ENTRY = 'lib/test/tracker/mixformer2_vit_online.py'


class Official:
    """The class that the official tests run, with one online template, as they do."""

    def __init__(
        self,
        clone: Path,
        checkpoint: Path,
        variant: str,
        search_factor: float,
        threads: int,
        size: tuple[int, int],
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        with contextlib.redirect_stdout(io.StringIO()):
            self._tracker = _load(clone, checkpoint, variant, search_factor)
        self._network_s = 0.0
        forward = self._tracker.network.forward
        self._tracker.network.forward = self._clocked(forward)
        pictures, boxes = moving_patch(*size)
        self._pictures = [cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) for picture in pictures]
        self._boxes = [list(box.xywh()) for box in boxes]
        self._place = 0
        self._tracker.initialize(self._pictures[0], {'init_bbox': self._boxes[0]})
        self._variant = variant
        self._note = f'PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}'

    def facts(self) -> dict[str, Any]:
        return {
            'model': f'mixformerv2_{self._variant}',
            'precision': 'fp32',
            'runtime': 'official code, PyTorch',
            'note': self._note,
            'stages': ['network', 'rest'],
            'gmacs_per_frame': None,
            'boxes': [self._found(place) for place in range(len(self._pictures))],
        }

    def turn(self, _work: Any, seconds: float) -> list[list[float]]:
        return timed(self._frame, seconds)

    def _frame(self) -> Sequence[float]:
        self._place = (self._place + 1) % len(self._pictures)
        began = time.perf_counter()
        self._found(self._place)
        spent_s = time.perf_counter() - began
        return self._network_s, spent_s - self._network_s

    def _found(self, place: int) -> list[float]:
        self._tracker.state = self._boxes[place]
        return list(self._tracker.track(self._pictures[place])['target_bbox'])

    def _clocked(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def clocked(*inputs: Any, **options: Any) -> Any:
            began = time.perf_counter()
            output = forward(*inputs, **options)
            self._network_s = time.perf_counter() - began
            return output

        return clocked


def is_clone(folder: Path) -> bool:
    return (folder / _ENTRY).is_file()


def _load(clone: Path, checkpoint: Path, variant: str, search_factor: float) -> Any:
    _stand_in(clone)
    sys.path.insert(0, str(clone))
    from lib.config.mixformer2_vit_online import config
    from lib.test.tracker.mixformer2_vit_online import get_tracker_class

    path = clone / 'experiments' / 'mixformer2_vit_online' / CONFIGURATIONS[variant]
    config.update_config_from_file(str(path))
    test = config.cfg.TEST
    parameters = SimpleNamespace(
        cfg=config.cfg,
        checkpoint=str(checkpoint),
        template_factor=test.TEMPLATE_FACTOR,
        template_size=test.TEMPLATE_SIZE,
        search_factor=search_factor,
        search_size=test.SEARCH_SIZE,
        online_size=1,
        update_interval=1 << 30,
        debug=0,
        save_all_boxes=False,
    )
    return get_tracker_class()(parameters, 'lasot')


def _stand_in(clone: Path) -> None:
    import torch
    from torch import nn

    for kind in (torch.Tensor, nn.Module):
        kind.cuda = lambda self, *_args, **_options: self  # type: ignore[method-assign]
    for name in ('lib.train', 'lib.train.data', 'lib.test', 'lib.test.tracker'):
        _module(name, __path__=[str(clone / name.replace('.', '/'))])

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

    class Tree(dict[str, Any]):
        """A dictionary with its entries as attributes, all the way down."""

        def __init__(self, entries: dict[str, Any] | None = None) -> None:
            super().__init__()
            for key, value in (entries or {}).items():
                self[key] = value

        def __setitem__(self, key: str, value: Any) -> None:
            is_plain = isinstance(value, dict) and not isinstance(value, Tree)
            super().__setitem__(key, Tree(value) if is_plain else value)

        __setattr__ = __setitem__

        def __getattr__(self, key: str) -> Any:
            try:
                return self[key]
            except KeyError:
                raise AttributeError(key) from None

    def box_area(boxes: Any) -> Any:
        return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])

    _module('easydict', EasyDict=Tree)
    _module('einops', rearrange=None)
    _module('matplotlib', pyplot=_module('matplotlib.pyplot'))
    transformer = _module('timm.models.vision_transformer', VisionTransformer=VisionTransformer)
    _module('timm', models=_module('timm.models', vision_transformer=transformer))
    _module(
        'timm.models.layers',
        DropPath=nn.Identity,
        Mlp=Mlp,
        trunc_normal_=nn.init.trunc_normal_,
    )
    _module('torchvision', __version__='0.20', ops=_module('torchvision.ops'))
    _module('torchvision.ops.boxes', box_area=box_area)


def _module(name: str, **content: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__.update({'__path__': [], **content})
    sys.modules[name] = module
    return module
