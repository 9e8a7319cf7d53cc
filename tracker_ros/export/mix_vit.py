# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""MixViT from its official checkpoints, to learn from; it becomes no package."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tracker_ros.export.checkpoint import read_checkpoint, tensors_of
from tracker_ros.export.convert import fill_network
from tracker_ros.networks.mix_vit import MixVit, variant_of

# What the backbone has from the image classifier that it is made of, and what tells whether an
# online template is good: neither has a part in where the box is.
_UNUSED = re.compile(
    r'backbone\.(cls_token|pos_embed|norm\.\w+|fc_norm\.\w+|head\.\w+)$|score_branch\.'
)


def load_teacher(path: Path) -> MixVit:
    """The network of the checkpoint at `path`, in evaluation mode.

    Raises CheckpointError or ConversionError, which names missing and unexpected tensors.
    """
    network = fill_network('MixViT', build, used(tensors_of(read_checkpoint(path))))
    assert isinstance(network, MixVit)
    return network


def build(shapes: Mapping[str, tuple[int, ...]]) -> MixVit:
    return MixVit(variant_of(shapes))


def used(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The tensors without those that have no part in the box."""
    return {name: value for name, value in tensors.items() if not _UNUSED.match(name)}
