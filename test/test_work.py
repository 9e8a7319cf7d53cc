# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How much work a frame and a template are, as packages say it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tracker_ros.export.convert import FAMILIES, convert, work_of
from tracker_ros.export.graphs import Graph, by_role, macs_of
from tracker_ros.networks.dual_tfr import DualTfr
from tracker_ros.networks.dual_tfr import Variant as DualVariant
from tracker_ros.networks.layers import attention
from tracker_ros.networks.mixformer_v2 import VARIANTS as MIXFORMERS
from tracker_ros.networks.mixformer_v2 import MixFormerV2
from tracker_ros.networks.simtrack import VARIANTS as SIMTRACKS
from tracker_ros.networks.simtrack import SimTrack


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spread = nn.Conv2d(3, 8, 3, padding=1)
        self.each = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm = nn.LayerNorm(8)
        self.mix = nn.Linear(8, 16)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = self.mix(self.norm(self.each(self.spread(image)).flatten(2).transpose(1, 2)))
        return attention(*(tokens[:, None, :, :4] for _ in range(3)))


def test_products_and_convolutions_are_counted_for_one_target():
    graph = Graph(Layers(), (torch.zeros(2, 3, 5, 5),), ('image',), ('out',))
    cells = 25
    convolutions = cells * 8 * 3 * 9 + cells * 8 * 9
    assert macs_of(graph) == convolutions + cells * 8 * 16 + 2 * cells * cells * 4


@pytest.mark.parametrize(
    ('family', 'network', 'template_gmacs', 'frame_gmacs'),
    [
        ('mixformer_v2', lambda: MixFormerV2(MIXFORMERS['s']), 1.258, 2.766),
        # The target's tokens look at the search region, so that nearly all is every frame's; all
        # of the public code's is 24.118.
        ('simtrack', lambda: SimTrack(SIMTRACKS['b16']), 0.053, 23.639),
        ('dual_tfr', lambda: DualTfr(DualVariant()), 2.204, 11.598),
    ],
)
def test_work_of_graphs(family, network, template_gmacs, frame_gmacs):
    found = work_of(by_role(FAMILIES[family].graphs(network().eval())), ('search',))
    assert found['gmacs_per_frame'] == pytest.approx(frame_gmacs, abs=0.002)
    assert found['gmacs_template'] == pytest.approx(template_gmacs, abs=0.002)


def test_packages_say_it(tmp_path):
    network = DualTfr(DualVariant((1, 1, 1), 1, 2)).eval()
    torch.save({'net': network.state_dict()}, tmp_path / 'small.pth')
    manifest = convert(tmp_path / 'small.pth', 'dual_tfr', 'small', tmp_path / 'small').manifest
    graphs = by_role(FAMILIES['dual_tfr'].graphs(network))
    assert manifest['gmacs_per_frame'] == round(macs_of(graphs['search']) / 1e9, 3) > 0
    assert manifest['gmacs_template'] == round(macs_of(graphs['template']) / 1e9, 3) > 0


def test_what_runs_every_frame_is_summed():
    """SiamAttn's proposal is looked at again in each frame, its mask only on demand."""
    graph = Graph(nn.Linear(1000, 1000), (torch.zeros(2, 1000),), ('in',), ('out',))
    roles = dict.fromkeys(('template', 'search', 'refine', 'mask'), graph)
    found = work_of(roles, FAMILIES['siam_attn'].every_frame)
    assert found == {'gmacs_per_frame': 0.002, 'gmacs_template': 0.001}
    assert work_of({'sentence': graph}, ('search',)) == {}
