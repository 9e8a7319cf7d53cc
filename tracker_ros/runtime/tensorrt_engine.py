# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""TensorRT for a model package: from the cache, or built in the background and checked."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from tracker_ros.runtime.building import BuildingEngine, Report
from tracker_ros.runtime.engine import (
    AUTOMATIC,
    CPU_RUNTIMES,
    Build,
    Engine,
    EngineError,
    load_first,
)
from tracker_ros.runtime.engine_cache import BuildCancelledError, EngineCache, Obtained
from tracker_ros.runtime.gate import Difference, made_up_samples, measure, tolerance_of
from tracker_ros.runtime.package import ModelPackage
from tracker_ros.runtime.tensorrt_builder import Recipe, Toolkit, build_plan, find_toolkit
from tracker_ros.runtime.tensorrt_runner import Network, TensorRtEngine

_log = logging.getLogger(__name__)

MAX_BATCH = 8
ROLES = ('template', 'search')

RUNS_FURTHER_GRAPHS = True
RENEWS_TENSORS = True

Networks = dict[str, Obtained[Network]]


def load(package: ModelPackage, threads: int, build: Build = 'background') -> Engine:
    """The engine of `package`: at once where it was built before.

    Else, as `build` says, the next library serves while it is built in the background, or the
    caller waits, or EngineError says that it must be built first.
    """
    try:
        maker = TensorRtMaker(package, find_toolkit())
        engine = maker.from_cache()
        if engine is not None:
            return engine
        if build == 'never':
            raise EngineError(
                f'there is no engine for this GPU yet; "tracker_ros build {package.name}" makes it'
            )
        if build == 'wait':
            return maker.make(lambda doing, fraction=None: None, threading.Event())
        return BuildingEngine(maker.toolkit.flavour, maker.make, _fallback(package, threads))
    except EngineError:
        raise
    except Exception as error:  # the library's exceptions have no common base class
        raise EngineError(f'{type(error).__name__}: {error}') from error


def _fallback(package: ModelPackage, threads: int) -> Engine | None:
    """What serves meanwhile: the next library that works."""
    try:
        return load_first(package, AUTOMATIC[AUTOMATIC.index('tensorrt') + 1 :], threads)
    except EngineError as error:
        _log.warning('nothing can run %s until its engine is built. %s', package.name, error)
        return None


class TensorRtMaker:
    """Makes the engine of one package for this GPU."""

    def __init__(
        self,
        package: ModelPackage,
        toolkit: Toolkit,
        precision: str = '',
        cache: EngineCache | None = None,
    ) -> None:
        """`precision`, if any, must be that of the graphs. Raises EngineError otherwise."""
        if precision not in ('', package.precision):
            raise EngineError(
                f'the graphs of {package.name} are {package.precision}, and TensorRT takes the '
                f'precision from them; for {precision} take, or make, a package of it '
                f'("tracker_ros models quantize {package.name} --precision {precision}")'
            )
        self.package = package
        self.toolkit = toolkit
        self.precision = package.precision
        self._roles = (*ROLES, *package.further)
        self.cache = cache or EngineCache()
        self.difference: Difference | None = None
        """How far the engine made last is from the reference, where that is known."""

    def from_cache(self) -> Engine | None:
        """The engine, if it was built and checked before; None if there is something to do.

        Raises EngineError for one that did not pass the gate.
        """
        found = {}
        for role in self._roles:
            key = self._recipe(role).key(self.toolkit)
            network = self.cache.find(key, self._load(role))
            if network is None:
                return None
            found[role] = network
        noted = _noted_difference(found)
        if noted is None:
            return None
        self._judge(noted, bool(found['search'].notes.get('forced')))
        return self._engine(found)

    def make(
        self,
        report: Report,
        cancelled: threading.Event,
        force: bool = False,
        rebuild: bool = False,
    ) -> Engine:
        """The engine, built where it is not in the cache, and compared with a reference.

        Raises EngineError when it cannot be built or, unless `force`, differs too much; that is
        noted in the cache, so that no later start tries again in vain.
        """
        networks = {
            role: self._network(role, place, report, cancelled, rebuild)
            for place, role in enumerate(self._roles)
        }
        if cancelled.is_set():
            raise BuildCancelledError('no longer wanted')
        engine = self._engine(networks)
        try:
            report('checking')
            self._check(engine, networks, force)
        except BaseException:
            engine.close()
            raise
        return engine

    def _check(self, engine: Engine, networks: Networks, force: bool) -> None:
        """Let the engine pass the gate, or raise EngineError."""
        is_forced = force or bool(networks['search'].notes.get('forced'))
        self.difference = _noted_difference(networks) or self._measure(engine)
        if self.difference is not None:
            self._note(networks, self.difference, is_forced)
            self._judge(self.difference, is_forced)

    def _network(
        self, role: str, place: int, report: Report, cancelled: threading.Event, rebuild: bool
    ) -> Obtained[Network]:
        recipe = self._recipe(role)

        def advance(fraction: float) -> None:
            report('building', (place + fraction) / len(self._roles))

        return self.cache.obtain(
            recipe.key(self.toolkit),
            f'{self.package.name}/{recipe.graph.path.name}',
            load=self._load(role),
            build=partial(self._build, recipe, advance, cancelled),
            cancelled=cancelled,
            waiting=partial(report, 'waiting for another process that builds'),
            rebuild=rebuild,
        )

    def _build(
        self, recipe: Recipe, advance: Callable[[float], None], cancelled: threading.Event
    ) -> bytes:
        advance(0.0)
        key = recipe.key(self.toolkit)
        measured = f'{key.flavour}-{key.version}-{key.gpu}'.replace(' ', '_').replace('/', '_')
        timing = self.cache.side_file(f'{measured}.timing')
        plan = build_plan(self.toolkit, recipe, timing, advance, cancelled)
        advance(1.0)
        return plan

    def _load(self, role: str) -> Callable[[bytes], Network]:
        kernels = self.cache.side_file(f'{self._recipe(role).key(self.toolkit).digest}.kernels')
        return lambda plan: Network(self.toolkit, plan, kernels)

    def _recipe(self, role: str) -> Recipe:
        return Recipe(
            self.package.graphs[role], MAX_BATCH if role == 'search' else 1, self.precision
        )

    def _engine(self, networks: Networks) -> Engine:
        engine = TensorRtEngine(
            self.toolkit,
            networks['template'].value,
            networks['search'].value,
            self.precision,
            MAX_BATCH,
            {role: networks[role].value for role in self.package.further},
        )
        engine.warm_up(self.package)
        for network in networks.values():
            network.value.keep_kernels()
        return engine

    # -- the gate -----------------------------------------------------------------------------

    def _measure(self, engine: Engine) -> Difference | None:
        """How far the engine is from the reference; None where there is no reference."""
        try:
            # One thread: the robot computes on the same cores meanwhile.
            reference = load_first(self.package, CPU_RUNTIMES[::-1], 1)
        except EngineError as error:
            _log.warning(
                'the answers of %s were not checked, for there is nothing to compare them with: '
                '%s',
                engine.name,
                error,
            )
            return None
        samples = made_up_samples(self.package, engine.template_inputs)
        found = measure(self.package, engine, reference, samples)
        _log.info('%s differs from %s by %s at most', engine.name, reference.name, found)
        reference.close()
        return found

    def _note(self, networks: Networks, found: Difference, force: bool) -> None:
        """Keep what was found, with the plans it was found of."""
        notes: dict[str, Any] = {
            'box_px': found.box_px,
            'score': found.score,
            'plans': _plans(networks),
        }
        if force:
            notes['forced'] = True
        self.cache.note(self._recipe('search').key(self.toolkit), **notes)

    def _judge(self, found: Difference, is_forced: bool) -> None:
        allowed = tolerance_of(self.package)
        if found.is_within(allowed):
            return
        problem = (
            f'the answers of the engine are {found} away from those on the CPU, and {allowed} is '
            'allowed'
        )
        if not is_forced:
            raise EngineError(
                f'{problem}. "tracker_ros build {self.package.name} --rebuild" tries again, '
                '--force uses it all the same'
            )
        _log.warning('%s; it is used because that was forced', problem)


def _plans(networks: Networks) -> list[str]:
    return [network.sha256 for network in networks.values()]


def _noted_difference(networks: Networks) -> Difference | None:
    """What an earlier check of these very plans found."""
    notes = networks['search'].notes
    if notes.get('plans') != _plans(networks):
        return None
    try:
        return Difference(float(notes['box_px']), float(notes['score']))
    except (KeyError, TypeError, ValueError) as error:
        _log.warning('the check noted beside the engine cannot be read (%r); done again', error)
        return None
