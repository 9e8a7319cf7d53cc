# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The search of VLT's architecture: evolution, norms taken anew, and going on after an end."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import square_samples
import yaml

torch = pytest.importorskip('torch', reason='needs PyTorch: pip install torch')

from torch import nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from tracker_ros.cli import main  # noqa: E402
from tracker_ros.networks import vlt  # noqa: E402
from tracker_ros.networks.moda_mixer import Paths  # noqa: E402
from tracker_ros.networks.shuffle_supernet import Stages  # noqa: E402
from tracker_ros.training.architecture import (  # noqa: E402
    lengths_of,
    read_architecture,
    write_architecture,
)
from tracker_ros.training.checkpoints import TrainingError  # noqa: E402
from tracker_ros.training.evolution import Evolution, Plan, Space, SpaceError  # noqa: E402
from tracker_ros.training.families.vlt import VARIANTS, Training, body_of  # noqa: E402
from tracker_ros.training.recipe import Recipe, recipe_from  # noqa: E402
from tracker_ros.training.search import Work, renew_norms, search  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
STAGES = Stages(stem=8, layers=(2, 2, 2, 2), channels=(16, 24, 32, 48))
SMALL = vlt.Variant(
    template_px=32,
    search_px=64,
    paths=Paths((0,) * 8, (1,) * 8, (2,) * 4, (3,) * 4),
    stages=STAGES,
    dim=16,
    kernel_cells=1,
    fusion=(1, 32),
    resizes=False,
)
PLAN = {'generations': 3, 'population': 4, 'parents': 2, 'mutants': 2, 'crossings': 1}


pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(VARIANTS, 'small', (vlt.VltScar, SMALL))


def recipe_of(**changes) -> Recipe:
    options = {
        'architecture': 'supernet',
        'language_model': 'words',
        'norm_batches': 1,
        'search': PLAN,
        **changes.pop('options', {}),
    }
    content = {
        'name': 'small',
        'family': 'vlt',
        'variant': 'small',
        'data': {'folder': 'none'},
        'crops': {'template_px': 32, 'search_px': 64},
        'steps': {'samples': 32, 'batch': 4, 'rate': 0.002, 'warmup_samples': 8},
        'precision': 'fp32',
        'options': options,
        **changes,
    }
    return recipe_from(content, 'here')


# Evolution


def likeness(goal):
    """How many genes of a genome are those of the goal."""
    flat = np.concatenate(goal)
    return lambda genome: float((np.concatenate(genome) == flat).sum())


def evolve(evolution: Evolution, score) -> Evolution:
    while not evolution.has_ended:
        evolution.tell([score(genome) for genome in evolution.ask()])
    return evolution


def test_evolution_finds_the_optimum():
    """Of 65536 genomes it judges a thousand; as many random ones do not come close."""
    space = Space({'a': 5, 'b': 3}, 4)
    goal = ((3, 1, 0, 2, 2), (0, 3, 1))
    plan = Plan(generations=20, population=50, crossing='genes', mutation=0.2, held=())
    found = evolve(Evolution(space, plan, seed=3), likeness(goal))
    assert found.best() == [goal]
    assert len(found.scores) <= 1000
    random = np.random.default_rng(3)
    others = [likeness(goal)(space.random(random)) for _ in range(len(found.scores))]
    assert max(others) < 8


def test_crossing_whole_lists_keeps_lists_together():
    """As in the official code: what is not mutated comes from one parent, list by list."""
    space = Space({'a': 6, 'b': 6}, 4)
    plan = Plan(2, population=20, parents=5, mutants=0, crossings=15, held=())
    evolution = Evolution(space, plan, seed=1)
    evolution.tell(list(range(20, 0, -1)))
    parents = evolution.best(5)
    crossed = evolution.ask()[:15]
    for place in range(2):
        of_parents = {parent[place] for parent in parents}
        assert all(genome[place] in of_parents for genome in crossed)
    assert not set(crossed) & set(parents)


def test_held_lists_are_not_mutated():
    space = Space({'a': 6, 'b': 6}, 4)
    plan = Plan(2, population=20, parents=3, mutants=20, crossings=0, mutation=0.5, held=('b',))
    evolution = Evolution(space, plan, seed=1)
    evolution.tell(list(range(20)))
    parents = evolution.best(3)
    assert {genome[1] for genome in evolution.ask()} <= {parent[1] for parent in parents}
    assert not {genome[0] for genome in evolution.ask()} <= {parent[0] for parent in parents}


def test_nothing_is_judged_twice_or_beyond_the_limits():
    space = Space({'a': 3}, 3, allows=lambda genome: sum(genome[0]) <= 4)
    evolution = Evolution(space, Plan(4, 4, 2, 2, 1, held=()), seed=0)
    seen = []
    while not evolution.has_ended:
        asked = evolution.ask()
        seen += asked
        evolution.tell([0.0] * len(asked))
    assert len(seen) == len(set(seen)) == 16
    assert all(sum(genome[0]) <= 4 for genome in seen)


def test_a_space_without_new_genomes_is_named():
    space = Space({'a': 2}, 2)
    evolution = Evolution(space, Plan(9, 3, 2, 1, 1, held=()), seed=0)
    with pytest.raises(SpaceError, match='from 4 none was new'):
        evolve(evolution, likeness(((1, 1),)))
    nothing = Space({'a': 2}, 2, allows=lambda _genome: False)
    with pytest.raises(SpaceError, match='within the limits'):
        Evolution(nothing, Plan(1, 3, 2, 1, 1, held=())).ask()


def test_a_search_goes_on_from_its_verdicts():
    space, plan = Space({'a': 4, 'b': 4}, 4), Plan(6, 12, 4, 6, 4, held=())
    score = likeness(((1, 2, 3, 0), (0, 1, 2, 3)))
    whole = evolve(Evolution(space, plan, seed=5), score)
    half = evolve(Evolution(space, dataclasses.replace(plan, generations=3), seed=5), score)
    rest = Evolution(space, plan, seed=5)
    rest.generation, rest.scores = half.generation, dict(half.scores)
    assert rest.ask() == rest.ask()
    assert evolve(rest, score).scores == whole.scores
    assert evolve(Evolution(space, plan, seed=6), score).scores != whole.scores


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'population': 0}, 'more than population 0'),
        ({'mutants': 30, 'crossings': 30}, '30 mutants and 30 crossings'),
        ({'mutation': 0.0}, 'mutation must be'),
        ({'crossing': 'both'}, "lists, genes, not 'both'"),
    ],
)
def test_a_wrong_plan_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Plan(**changes)


def test_held_lists_must_be_there():
    with pytest.raises(SpaceError, match='search_mixers, but the lists are a'):
        Evolution(Space({'a': 2}, 2), Plan())


# Norms, work, files


def test_renewing_norms_changes_running_statistics_alone():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
    network[1].running_mean += 7
    batches = [torch.randn(5, 3, 2, 2) + number for number in range(3)]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    renew_norms(network, (network(batch) for batch in batches))
    after = network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {'1.running_mean', '1.running_var', '1.num_batches_tracked'}
    with torch.no_grad():
        each = [network[0](batch).transpose(0, 1).flatten(1) for batch in batches]
    torch.testing.assert_close(
        after['1.running_mean'], torch.stack([one.mean(dim=1) for one in each]).mean(dim=0)
    )
    torch.testing.assert_close(
        after['1.running_var'], torch.stack([one.var(dim=1) for one in each]).mean(dim=0)
    )
    assert network[1].momentum == 0.1


def test_work_is_that_of_the_path():
    family = Training(recipe_of())
    body = body_of(family.network()).eval()
    work = Work(body, 64)
    image = torch.zeros(1, 3, 64, 64)
    selectors = [torch.ones(1, channels, 1, 1) for channels in STAGES.channels]
    counts = []
    for seed in (1, 2):
        genome = family.space.random(np.random.default_rng(seed))
        body.paths = Paths(*genome)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            body.search(image, selectors)
        counts.append(counter.get_total_flops() / 2e9)
        assert work(genome) == pytest.approx(counts[-1], rel=1e-9)
    assert counts[0] != counts[1]


def test_an_architecture_is_written_and_read(tmp_path):
    paths = Paths((0, 1, 2, 3, 0, 1, 2, 3), (3,) * 8, (1, 2, 3, 0), (0, 0, 1, 1))
    write_architecture(paths, STAGES, tmp_path / 'found.yaml', {'overlap': 0.5})
    assert read_architecture(tmp_path / 'found.yaml', STAGES) == paths
    assert yaml.safe_load((tmp_path / 'found.yaml').read_text())['template'][1] == [2, 3]
    assert Paths.of(paths.genes()) == paths
    published = vlt.VARIANTS['tt'].paths
    assert Paths.of(published.genes()) == published
    assert list(lengths_of(vlt.VARIANTS['tt'].stages).values()) == [20, 20, 4, 4]


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('[1]', 'must be a mapping'),
        ('{template: [0, 1, 4]}', 'template must be a list of numbers from 0 to 3'),
        ('{template: [0, 1, true]}', 'template must be a list'),
        ('{template: [0, 1]}', 'has 2 blocks, but the network has 8'),
        ('{', 'not readable YAML'),
    ],
)
def test_a_wrong_architecture_is_named(tmp_path, content, message):
    (tmp_path / 'found.yaml').write_text(content)
    with pytest.raises(TrainingError, match=message):
        read_architecture(tmp_path / 'found.yaml', STAGES)
    with pytest.raises(TrainingError, match='`tracker_ros search` writes'):
        read_architecture(tmp_path / 'none.yaml', STAGES)


# The search


@pytest.fixture
def weights(tmp_path) -> Path:
    """A supernet as it begins, but that it says boxes of some size."""
    torch.manual_seed(0)
    network = Training(recipe_of()).network()
    with torch.no_grad():
        network.head.bbox_pred.bias.fill_(2.0)
    torch.save(network.state_dict(), tmp_path / 'supernet.pt')
    return tmp_path / 'supernet.pt'


def searched(weights: Path, folder: Path, recipe: Recipe | None = None, **options):
    return search(
        recipe or recipe_of(),
        weights,
        folder,
        samples=square_samples.sample,
        pairs=square_samples.pairs(range(100, 106)),
        **options,
    )


_KILLED = """
import sys
sys.path.insert(0, {tests!r})
import os, signal
from pathlib import Path
import test_architecture_search as own
from tracker_ros.training import search

own.VARIANTS['small'] = (own.vlt.VltScar, own.SMALL)
judged = []
class Killing(search.Judge):
    def __call__(self, genome):
        judged.append(genome)
        if len(judged) == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(genome)

search.Judge = Killing
own.searched(Path({weights!r}), Path({out!r}))
"""


def test_a_killed_search_goes_on_to_the_same_end(weights, tmp_path):
    """Twelve verdicts in one go, or a kill -9 in the seventh, the third of its generation."""
    whole = searched(weights, tmp_path / 'whole')
    code = _KILLED.format(
        tests=str(Path(__file__).parent), weights=str(weights), out=str(tmp_path / 'killed')
    )
    ended = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    state = json.loads((tmp_path / 'killed' / 'search.json').read_text())
    assert (state['generation'], len(state['current'])) == (1, 2)
    with pytest.raises(TrainingError, match='--resume'):
        searched(weights, tmp_path / 'killed')
    killed = searched(weights, tmp_path / 'killed', resume=True)
    assert killed == whole
    assert killed.judged == 12
    for name in ('search.json', 'architecture.yaml'):
        assert (tmp_path / 'killed' / name).read_text() == (tmp_path / 'whole' / name).read_text()
    assert read_architecture(tmp_path / 'whole' / 'architecture.yaml', STAGES) == whole.paths
    scores = [
        score
        for _, score in json.loads((tmp_path / 'whole' / 'search.json').read_text())['judged']
    ]
    assert whole.score == max(scores)
    assert whole.median_random == pytest.approx(np.median(scores[:4]))
    assert len(set(scores)) > 4, 'architectures must differ in their verdicts'


def test_a_search_keeps_within_the_work_that_is_allowed(weights, tmp_path):
    family = Training(recipe_of())
    work = Work(body_of(family.network()), 64)
    random = np.random.default_rng(0)
    usual = float(np.median([work(family.space.random(random)) for _ in range(50)]))
    found = searched(weights, tmp_path / 'out', recipe_of(options={'largest_gmacs': usual}))
    judged = json.loads((tmp_path / 'out' / 'search.json').read_text())['judged']
    assert all(work(genome) <= usual for genome, _ in judged)
    assert found.judged == len(judged) == 12
    with pytest.raises(TrainingError, match='within the limits'):
        searched(weights, tmp_path / 'none', recipe_of(options={'largest_gmacs': 1e-9}))


def test_another_search_is_not_gone_on_with(weights, tmp_path):
    searched(weights, tmp_path / 'out', recipe_of(options={'search': {**PLAN, 'generations': 1}}))
    longer = searched(weights, tmp_path / 'out', resume=True)
    assert longer.judged == 12, 'more generations are no other search'
    with pytest.raises(TrainingError, match='seed differ'):
        searched(weights, tmp_path / 'out', recipe_of(seed=1), resume=True)
    (tmp_path / 'out' / 'search.json').write_text('{')
    with pytest.raises(TrainingError, match='no search that can go on'):
        searched(weights, tmp_path / 'out', resume=True)


def test_the_command_names_what_is_wrong(weights, tmp_path, capsys):
    path = tmp_path / 'small.yaml'

    def run(recipe: Recipe, file: Path = weights) -> str:
        path.write_text(yaml.safe_dump(recipe.as_dict()))
        code = main(['search', str(path), '--weights', str(file), '--out', str(tmp_path / 'out')])
        assert code == 2
        return capsys.readouterr().err

    assert 'trains no supernet' in run(recipe_of(options={'architecture': 'published'}))
    assert 'give --dev' in run(recipe_of())
    asked = recipe_of(validation={'folder': 'none'})
    assert 'no checkpoint' in run(asked, path)
    assert 'none' in run(asked)
    assert 'mutation must be' in run(recipe_of(options={'search': {**PLAN, 'mutation': 2.0}}))
