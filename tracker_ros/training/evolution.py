# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Evolution over lists of choices, as in Single Path One-Shot (Guo et al., ECCV 2020, alg. 1).

A *genome* is a few lists of genes, each gene one of `kinds` choices. A generation holds mutants
and crossings of the best genomes so far, and random ones for the rest. No genome is judged twice,
and none that breaks the constraint is judged at all.

Everything follows from the seed and the verdicts: a search that is ended and goes on with the
verdicts it had ends where it would have ended without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Genome = tuple[tuple[int, ...], ...]

_TRIES = 1000
CROSSINGS = ('lists', 'genes')


@dataclass(frozen=True)
class Plan:
    """How a search goes. The standard values are those of the official search of VLT."""

    generations: int = 20
    population: int = 50
    parents: int = 10
    """The best so far, of which the next generation is made."""
    mutants: int = 25
    crossings: int = 25
    mutation: float = 0.1
    """How likely each gene of a mutant changes."""
    crossing: str = 'lists'
    """What a crossing takes from either parent: whole lists (VLT's code) or genes (SPOS)."""
    held: tuple[str, ...] = ('search_mixers',)
    """Lists that mutants keep: the official code never mutates that of the search mixers."""

    def __post_init__(self) -> None:
        counts = ('generations', 'population', 'parents')
        wrong = [f'{name} {getattr(self, name)}' for name in counts if getattr(self, name) < 1]
        wrong += [
            f'{name} {getattr(self, name)}'
            for name in ('mutants', 'crossings')
            if getattr(self, name) < 0
        ]
        if wrong:
            raise ValueError(f'a search needs more than {", ".join(wrong)}')
        if self.mutants + self.crossings > self.population:
            raise ValueError(
                f'{self.mutants} mutants and {self.crossings} crossings are more than the '
                f'population of {self.population}: make that larger'
            )
        if not 0.0 < self.mutation <= 1.0:
            raise ValueError(f'mutation must be above 0 and at most 1, not {self.mutation}')
        if self.crossing not in CROSSINGS:
            raise ValueError(
                f'crossing must be one of {", ".join(CROSSINGS)}, not {self.crossing!r}'
            )


@dataclass(frozen=True)
class Space:
    """What genomes there are: the lengths of their lists by name, and the choices of a gene."""

    lengths: Mapping[str, int]
    kinds: int
    allows: Callable[[Genome], bool] = field(default=lambda _genome: True)
    """The constraint, such as a limit of the work per frame."""

    @property
    def size(self) -> int:
        """How many genomes there are, allowed or not."""
        return int(self.kinds ** sum(self.lengths.values()))

    def random(self, random: np.random.Generator) -> Genome:
        """One drawn with equal chances, allowed or not (uniform sampling, section 3.2)."""
        return tuple(
            tuple(random.integers(self.kinds, size=length).tolist())
            for length in self.lengths.values()
        )

    def holds(self, genome: Genome) -> bool:
        """Whether its lists have the right lengths and known choices."""
        return [len(genes) for genes in genome] == list(self.lengths.values()) and all(
            0 <= gene < self.kinds for genes in genome for gene in genes
        )


class SpaceError(Exception):
    """A space has no genome that is allowed, or none that is new."""


class Evolution:
    """One search. Ask for a generation, judge each of it, and tell; the best are then known.

    Scores are better when they are larger.
    """

    def __init__(self, space: Space, plan: Plan, seed: int = 0) -> None:
        unknown = sorted(set(plan.held) - space.lengths.keys())
        if unknown:
            raise SpaceError(
                f'held names {", ".join(unknown)}, but the lists are {", ".join(space.lengths)}'
            )
        self.space, self.plan, self.seed = space, plan, seed
        self.generation = 0
        self.scores: dict[Genome, float] = {}
        """Of all genomes of the generations that have ended, in the order of their judgement."""

    @property
    def has_ended(self) -> bool:
        return self.generation >= self.plan.generations

    def best(self, count: int = 1) -> list[Genome]:
        """The best so far; of equals the one judged first."""
        return sorted(self.scores, key=lambda genome: -self.scores[genome])[:count]

    def ask(self) -> list[Genome]:
        """The genomes of this generation; the same whenever asked."""
        random = np.random.default_rng([self.seed, self.generation])
        asked: dict[Genome, None] = {}
        parents = self.best(self.plan.parents)
        if parents:
            self._fill(asked, self.plan.crossings, lambda: self._crossed(random, parents))
            wanted = len(asked) + self.plan.mutants
            self._fill(asked, wanted, lambda: self._mutated(random, parents))
        self._fill(asked, self.plan.population, lambda: self.space.random(random))
        if not asked:
            raise SpaceError(
                f'of {_TRIES} genomes drawn from {self.space.size} none was new and within the '
                'limits: allow more, or end after fewer generations'
            )
        return list(asked)

    def tell(self, scores: Sequence[float]) -> None:
        """The verdicts on the genomes that `ask` gave, in their order; ends the generation."""
        asked = self.ask()
        if len(scores) != len(asked):
            raise ValueError(f'{len(scores)} scores for {len(asked)} genomes')
        self.scores.update(zip(asked, map(float, scores), strict=True))
        self.generation += 1

    def _fill(self, asked: dict[Genome, None], count: int, make: Callable[[], Genome]) -> None:
        """Add what `make` makes until there are `count`; fewer where it makes nothing new."""
        for _ in range(_TRIES):
            if len(asked) >= count:
                return
            genome = make()
            if genome in asked or genome in self.scores or not self.space.allows(genome):
                continue
            asked[genome] = None

    def _mutated(self, random: np.random.Generator, parents: Sequence[Genome]) -> Genome:
        parent = parents[int(random.integers(len(parents)))]
        changed = []
        for name, genes in zip(self.space.lengths, parent, strict=True):
            new = random.integers(self.space.kinds, size=len(genes))
            is_new = random.random(len(genes)) < self.plan.mutation
            if name in self.plan.held:
                is_new[:] = False
            changed.append(tuple(np.where(is_new, new, genes).tolist()))
        return tuple(changed)

    def _crossed(self, random: np.random.Generator, parents: Sequence[Genome]) -> Genome:
        mother, father = (parents[int(random.integers(len(parents)))] for _ in range(2))
        crossed = []
        for one, other in zip(mother, father, strict=True):
            if self.plan.crossing == 'lists':
                crossed.append(one if random.random() < 0.5 else other)
            else:
                from_one = random.random(len(one)) < 0.5
                crossed.append(tuple(np.where(from_one, one, other).tolist()))
        return tuple(crossed)
