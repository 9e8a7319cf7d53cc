# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""SimTrack learns: its losses, its groups, what it begins with, and eight samples by heart."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip('torch', reason='needs PyTorch: pip install torch')

from test_simtrack import TINY  # noqa: E402
from training_runs import (  # noqa: E402
    batch_of,
    dry,
    losses_at_the_rim,
    overlap_of,
    tiny_recipe,
)

from tracker_ros.networks.simtrack import SimTrack  # noqa: E402
from tracker_ros.training import losses  # noqa: E402
from tracker_ros.training.checkpoints import TrainingError  # noqa: E402
from tracker_ros.training.families import normalised, simtrack  # noqa: E402
from tracker_ros.training.loop import Run  # noqa: E402
from tracker_ros.training.recipe import RecipeError  # noqa: E402

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(simtrack.VARIANTS, 'tiny', TINY)
    monkeypatch.setitem(simtrack.VARIANTS, 'b16', TINY)


def test_pixels_are_normalised_as_the_tracker_does():
    bgr = torch.tensor([0.0, 255.0, 127.5]).reshape(1, 3, 1, 1)
    expected = [(0.5 - 0.485) / 0.229, (1 - 0.456) / 0.224, (0 - 0.406) / 0.225]
    assert normalised(bgr).flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_generalized_overlap_by_hand():
    """Two unit squares side by side with a gap of one: hull 3, union 2."""
    found, true = torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[2.0, 0, 3, 1]])
    assert float(losses.generalized_overlap(found, true)) == pytest.approx(-1 / 3)
    inside_out = torch.tensor([[1.0, 0, 0, 1]])
    assert float(losses.generalized_overlap(inside_out, true)) == pytest.approx(-0.5)


def test_the_loss_is_that_of_the_paper(tiny):
    """Twice the generalized overlap and five times the mean distance of the sides, equation 3."""
    run = Run(tiny_recipe('simtrack'))
    run.network.eval()
    batch = batch_of(absent=3)
    with torch.no_grad():
        loss, parts = run.family.loss(run.network, batch, run.progress)
    boxes = batch.template_boxes[:, 0]
    corner = torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]], dim=1)
    with torch.no_grad():
        found = run.network(normalised(batch.templates[:, 0]), corner, normalised(batch.search))
    one, other = losses.corners_of(found.boxes[3:]), losses.corners_of(batch.truth.boxes[3:])
    apart = (one - other).abs().mean()
    unlike = (1 - losses.generalized_overlap(one, other)).mean()
    assert float(parts['l1']) == pytest.approx(float(apart), rel=1e-5)
    assert float(parts['giou']) == pytest.approx(float(unlike), rel=1e-5)
    assert float(loss) == pytest.approx(float(2 * unlike + 5 * apart), rel=1e-5)


def test_a_target_at_the_rim_counts_as_far_as_it_is_seen(tiny):
    run = Run(tiny_recipe('simtrack'))
    run.network.eval()
    whole, seen = losses_at_the_rim(run, batch_of())
    assert whole == pytest.approx(seen, rel=1e-5)


def test_the_tower_learns_at_a_tenth_of_the_rate(tiny):
    run = Run(tiny_recipe('simtrack', options={'backbone_rate': 0.1}))
    tower = dict(run.network.backbone.visual.named_parameters())
    unused = tower.pop('proj')
    assert {id(each) for each in run.groups[0].parameters} == {id(each) for each in tower.values()}
    before = {name: each.detach().clone() for name, each in run.network.named_parameters()}
    run.progress.samples = 80
    run.train_on(batch_of())
    assert [group['lr'] for group in run.optimiser.param_groups] == pytest.approx([3e-4, 3e-3])
    moved = {name for name, each in run.network.named_parameters() if (each != before[name]).any()}
    assert before.keys() - moved == {'backbone.visual.proj'}
    assert not unused.requires_grad


def test_the_recipe_learns_eight_samples_by_heart(tiny):
    run = Run(dry('simtrack_b16', 50, 0.01, {}))
    batch = batch_of()
    first = run.train_on(batch)
    for _ in range(50):
        last = run.train_on(batch)
    assert float(last['loss']) < 0.3 * float(first['loss'])
    assert overlap_of(run, batch) > 0.7


def test_it_begins_with_a_tower(tiny, tmp_path):
    """CLIP's names as in its own files, of a deeper tower; the head stays as it was."""
    torch.manual_seed(3)
    deeper = SimTrack(dataclasses.replace(TINY, depth=3)).state_dict()
    tower = {
        name.replace('backbone.', ''): each
        for name, each in deeper.items()
        if name.startswith('backbone.visual.')
    }
    tower['token_embedding.weight'] = torch.zeros(7, 5)
    torch.save(tower, tmp_path / 'clip.pt')
    run = Run(tiny_recipe('simtrack'))
    head = run.network.box_head.conv1_tl[0].weight.clone()
    run.begin_with(tmp_path / 'clip.pt')
    own = run.network.state_dict()
    name = 'backbone.visual.transformer.resblocks.1.mlp.c_fc.weight'
    assert torch.equal(own[name], deeper[name])
    assert torch.equal(run.average[name], deeper[name])
    assert torch.equal(run.network.box_head.conv1_tl[0].weight, head)
    whole = {name: each + 1 for name, each in own.items()}
    torch.save({'net': whole}, tmp_path / 'whole.pt')
    run.begin_with(tmp_path / 'whole.pt')
    assert torch.equal(run.network.state_dict()[name], whole[name])
    del tower['visual.transformer.resblocks.1.mlp.c_fc.weight']
    torch.save(tower, tmp_path / 'broken.pt')
    with pytest.raises(TrainingError, match='neither a whole tracker nor the tower'):
        run.begin_with(tmp_path / 'broken.pt')


def test_what_does_not_fit_is_told(tiny):
    with pytest.raises(TrainingError, match=r'takes 1 template\(s\) of 32 px'):
        Run(tiny_recipe('simtrack', templates=2))
    with pytest.raises(TrainingError, match="no variant 'b17'"):
        Run(tiny_recipe('simtrack', variant='b17'))
    with pytest.raises(RecipeError, match='options: unknown entries iou'):
        Run(tiny_recipe('simtrack', options={'iou': 1.0}))
    with pytest.raises(TrainingError, match='learns from no teacher'):
        Run(tiny_recipe('simtrack', teacher='other.pt'))
