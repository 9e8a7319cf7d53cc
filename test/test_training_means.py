# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The means of the training loop: processes, half precision, less memory, devices, schedules."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip('torch', reason='needs PyTorch: pip install torch')

from test_simtrack import TINY as SIMTRACK  # noqa: E402
from training_runs import batch_of, samples_of, tiny_recipe  # noqa: E402

from tracker_ros.networks import kestrel  # noqa: E402
from tracker_ros.networks.mixformer_v2 import Variant  # noqa: E402
from tracker_ros.training import loop  # noqa: E402
from tracker_ros.training.checkpoints import TrainingError, load  # noqa: E402
from tracker_ros.training.families import (  # noqa: E402
    Group,
    mixformer_v2,
    read_weights,
    simtrack,
)
from tracker_ros.training.families.mixformer_v2 import Training as MixFormerTraining  # noqa: E402
from tracker_ros.training.loop import Run, train  # noqa: E402
from tracker_ros.training.processes import Processes, device_of  # noqa: E402
from tracker_ros.training.progress import Progress, rate_at  # noqa: E402
from tracker_ros.training.recipe import Steps  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
MIXFORMER = Variant(64, 32, depth=2, mlp_ratio=2, bins=24, dim=64, heads=1)
OPTIONS = {'logits': 0.0, 'backbone_rate': 1.0, 'drop_path': 0.0}
ABSENT = 2


pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(mixformer_v2.VARIANTS, 'tiny', MIXFORMER)
    monkeypatch.setitem(simtrack.VARIANTS, 'tiny', SIMTRACK)


def mixformer_recipe(steps: int = 6, **changes):
    options = {**OPTIONS, **changes.pop('options', {})}
    return tiny_recipe('mixformer_v2', 2, steps, options=options, save_minutes=100.0, **changes)


# Processes

_SHARED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
import test_training_means as own
from tracker_ros.training import loop
from tracker_ros.training.families import mixformer_v2

mixformer_v2.VARIANTS['tiny'] = own.MIXFORMER
loop._LOG_EVERY_S = 0.0
samples = own.samples_of(templates=2, absent=own.ABSENT)
for name in ('two', 'again'):
    folder = Path({out!r}) / name
    loop.train(own.mixformer_recipe(), folder, samples=samples, device='cpu')
"""


def shared(out: Path) -> None:
    """Two runs of the same two processes that torchrun starts, one after the other."""
    script = out / 'shared.py'
    tests = str(Path(__file__).parent)
    script.write_text(_SHARED.format(tests=tests, out=str(out)))
    torchrun = [
        sys.executable,
        '-m',
        'torch.distributed.run',
        '--standalone',
        '--nproc-per-node=2',
    ]
    surroundings = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    ended = subprocess.run(
        [*torchrun, str(script)], cwd=ROOT, env=surroundings, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr


def curve(folder: Path) -> list[float]:
    """The loss of each step, as the log tells it."""
    return [float(each) for each in re.findall(r'loss (\S+)', (folder / 'log.txt').read_text())]


def test_two_processes_learn_what_one_does(tmp_path, monkeypatch):
    """The same samples, and the same loss but for the order of its sums.

    The absent targets, which do not count for the boxes, are all of the first process.
    """
    monkeypatch.setattr(loop, '_LOG_EVERY_S', 0.0)
    samples = samples_of(templates=2, absent=ABSENT)
    alone = train(mixformer_recipe(), tmp_path / 'one', samples=samples, device='cpu')
    shared(tmp_path)
    assert len(curve(tmp_path / 'one')) == 6
    assert curve(tmp_path / 'two') == pytest.approx(curve(tmp_path / 'one'), abs=2e-4)
    assert curve(tmp_path / 'again') == curve(tmp_path / 'two')
    together = load(tmp_path / 'two' / 'last.pt')
    assert together['progress']['samples'] == 48
    for name, value in alone.network.state_dict().items():
        torch.testing.assert_close(together['network'][name], value, atol=2e-4, rtol=0)
    assert (tmp_path / 'two' / 'log.txt').read_text().count('from sample 0') == 1


def test_each_process_has_its_share():
    shares = [list(Processes(rank, 2).own(16, 8)) for rank in (0, 1)]
    assert shares == [[16, 17, 18, 19], [20, 21, 22, 23]]
    with pytest.raises(TrainingError, match='a batch of 8 cannot be shared by 3 processes'):
        Run(mixformer_recipe(), Processes(0, 3))


# Precision and memory


@pytest.mark.parametrize('precision', ['bf16', 'fp16'])
@pytest.mark.parametrize('family', ['mixformer_v2', 'simtrack'])
def test_half_precision_learns_and_goes_on_bit_by_bit(family, precision, tmp_path):
    templates = 2 if family == 'mixformer_v2' else 1
    options = OPTIONS if family == 'mixformer_v2' else {'backbone_rate': 1.0}
    settings = {'precision': precision, 'options': options, 'save_minutes': 100.0}
    samples = samples_of(templates=templates)
    begun = tiny_recipe(family, templates, 3, **settings)
    whole = tiny_recipe(family, templates, 6, **settings)
    train(begun, tmp_path / 'parts', samples=samples)
    train(whole, tmp_path / 'parts', samples=samples, resume=True)
    run = train(whole, tmp_path / 'whole', samples=samples)
    one, other = (load(tmp_path / name / 'last.pt') for name in ('whole', 'parts'))
    assert all(
        torch.equal(value, other['network'][name]) for name, value in one['network'].items()
    )
    assert one.get('scaler') == other.get('scaler')
    assert ('scaler' in one) == (precision == 'fp16')
    assert all(value.dtype == torch.float32 for value in run.network.parameters())
    batch = batch_of(templates=templates)
    before = tiny_run_loss(family, templates, options, batch)
    loss, _ = run.family.loss(run.network, batch, run.progress)
    assert float(loss.detach()) < 0.8 * before
    assert loss.dtype == torch.float32


def tiny_run_loss(family, templates, options, batch) -> float:
    """What a fresh network loses, in full precision."""
    run = Run(tiny_recipe(family, templates, options=options))
    with torch.no_grad():
        return float(run.family.loss(run.network, batch, run.progress)[0])


@pytest.mark.parametrize('family', ['mixformer_v2', 'simtrack'])
def test_gradients_are_the_same_when_computed_twice(family):
    """What is random, such as branches that are left out, too."""
    templates = 2 if family == 'mixformer_v2' else 1
    options = {**OPTIONS, 'drop_path': 0.5} if family == 'mixformer_v2' else {}
    batch = batch_of(templates=templates)
    found, boxes = [], []
    for again in (False, True):
        recipe = tiny_recipe(family, templates, options=options, gradient_checkpointing=again)
        run = Run(recipe)
        run.network.train()
        torch.manual_seed(1)
        run.family.loss(run.network, batch, run.progress)[0].backward()
        with torch.no_grad():
            crops = batch.templates, batch.template_boxes, batch.search
            boxes.append(run.family.predict(run.averaged(), *crops)[0])
        found.append({name: each.grad for name, each in run.network.named_parameters()})
    once, twice = found
    assert any(each is not None and each.any() for each in once.values())
    for name, each in once.items():
        assert (each is None) == (twice[name] is None), name
        assert each is None or torch.equal(each, twice[name]), name
    assert torch.equal(*boxes)


def test_what_cannot_be_computed_twice_says_so(monkeypatch):
    variant = kestrel.Variant((4, 4, 8, 8), (0, 0, 0), dim=8, head_dim=8, heads=2, groups=2)
    monkeypatch.setitem(kestrel.VARIANTS, 'tiny', variant)
    with pytest.raises(TrainingError, match='kestrel has no part that could be computed twice'):
        Run(tiny_recipe('kestrel', gradient_checkpointing=True))


# Weights


def test_weights_are_read_beside_objects_of_other_projects(tmp_path):
    """Which PyTorch refuses; nothing of them is run."""
    weights = {'module.head.weight': torch.rand(2, 3)}
    torch.save({'net': weights, 'settings': argparse.Namespace(rate=1)}, tmp_path / 'w.pth.tar')
    with pytest.raises(TrainingError, match='no checkpoint that can be read'):
        load(tmp_path / 'w.pth.tar')
    found = read_weights(tmp_path / 'w.pth.tar')
    assert list(found) == ['head.weight']
    assert torch.equal(found['head.weight'], weights['module.head.weight'])
    torch.save({'epoch': 3}, tmp_path / 'none.pt')
    with pytest.raises(TrainingError, match=r'none\.pt'):
        read_weights(tmp_path / 'none.pt')


# Devices


def test_a_device_that_is_not_there_is_named():
    assert device_of('cpu') == torch.device('cpu')
    for name in ('cuda:99', 'abacus'):
        with pytest.raises(TrainingError, match=f"no device '{name}' .* --device cpu"):
            device_of(name)


# Schedules and groups


def test_the_rate_falls_in_steps():
    steps = {'samples': 800, 'batch': 8, 'rate': 1.0, 'warmup_samples': 0, 'drops': (400, 600)}
    recipe = tiny_recipe('mixformer_v2', 2, options=OPTIONS)
    recipe = dataclasses.replace(recipe, steps=Steps(**steps))
    rates = [rate_at(recipe, Progress(samples=done)) for done in (0, 392, 400, 592, 600, 792)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_group_waits_until_its_time(monkeypatch):
    """Nothing moves it before, neither gradients nor decay; it is in no hurry afterwards."""

    def groups(self, network):
        heads = list(network.box_head.parameters())
        return [Group(heads), Group([network.backbone.reg_tokens], scale=0.5, begins=16)]

    monkeypatch.setattr(MixFormerTraining, 'groups', groups)
    run = Run(mixformer_recipe())
    tokens = run.network.backbone.reg_tokens
    before = tokens.detach().clone()
    for _ in range(2):
        run.train_on(batch_of(templates=2))
        assert torch.equal(tokens, before)
    run.train_on(batch_of(templates=2))
    assert not torch.equal(tokens, before)
    assert run.optimiser.param_groups[1]['lr'] == run.optimiser.param_groups[0]['lr'] / 2
    assert not run.network.backbone.patch_embed.proj.weight.requires_grad


def test_no_parameter_is_in_two_groups(monkeypatch):
    def groups(self, network):
        return [Group(list(network.parameters())), Group(list(network.box_head.parameters()))]

    monkeypatch.setattr(MixFormerTraining, 'groups', groups)
    with pytest.raises(TrainingError, match='a parameter is in more than one group'):
        Run(mixformer_recipe())
