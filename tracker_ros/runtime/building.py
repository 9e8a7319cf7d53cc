# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""An engine that serves with another while its own is being built, and switches over.

A build takes minutes on a small GPU. The robot follows its target meanwhile.
"""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Image
from tracker_ros.runtime.engine import Engine, EngineError, NotReadyError, Tensors
from tracker_ros.runtime.engine_cache import BuildCancelledError

_log = logging.getLogger(__name__)

# A build hears of its cancellation at its next step, or not at all with TensorRT before 10.
_LONGEST_END_S = 10.0


class Report(Protocol):
    """Takes what a build is doing now, and the fraction done where that is known."""

    def __call__(self, doing: str, fraction: float | None = None) -> None: ...


class Make(Protocol):
    """Makes an engine that is fit for use. Raises, with the reason, where it cannot."""

    def __call__(self, report: Report, cancelled: threading.Event) -> Engine: ...


class BuildingEngine(Engine):
    """Runs `fallback` until `make` has made its engine in a thread of its own.

    Then the next call of `template` or `search` switches over, so that a frame is never answered
    by two engines; the templates of running targets are computed anew. `what` names what is
    built, for people. Without a fallback `template` and `search` raise NotReadyError meanwhile,
    and EngineError with the reason when the build failed.
    """

    failure = ''
    """Why the build failed; empty before it ended and when it ended well."""

    def __init__(self, what: str, make: Make, fallback: Engine | None) -> None:
        self.what = what
        self.name = fallback.name if fallback else f'{what} (being built)'
        self.template_inputs = fallback.template_inputs if fallback else ()
        self.rejected = fallback.rejected if fallback else ()
        self._serving = fallback
        self._meanwhile = f', {fallback.name.split()[0]} meanwhile' if fallback else ''
        self._made: Engine | None = None
        self._make = make
        self._cancelled = threading.Event()
        self._report('building', 0.0)
        self._thread = threading.Thread(target=self._run, name=f'build {what}', daemon=True)
        _alive.add(self)
        self._thread.start()

    def template(self, template: Image, **others: NDArray[Any]) -> object:
        # Copies: the caller may use its arrays again, and these are needed after the switch.
        crops = {'template': template.copy()}
        crops.update((name, crop.copy()) for name, crop in others.items())
        target = _Target(crops)
        self._compute(target, self._engine_now())
        return target

    def renewed(self, cached: Any, **tensors: NDArray[np.float32]) -> object:
        engine = self._engine_now()
        given = {**cached.given, **{name: value.copy() for name, value in tensors.items()}}
        fresh = engine.renewed(self._compute(cached, engine), **tensors)
        return _Target(cached.crops, given, fresh, engine)

    def search(self, crop: Image, cached: Any) -> Tensors:
        engine = self._engine_now()
        outputs = engine.search(crop, self._compute(cached, engine))
        self.stages_s = engine.stages_s
        return outputs

    def search_many(self, crops: NDArray[np.uint8], cached: Sequence[Any]) -> Tensors:
        engine = self._engine_now()
        outputs = engine.search_many(crops, [self._compute(target, engine) for target in cached])
        self.stages_s = engine.stages_s
        return outputs

    def run(self, role: str, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        # The inputs are on the host: whichever engine gave them, any can go on with them.
        return self._engine_now().run(role, inputs)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the build has ended, well or not; False when it takes longer."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def close(self) -> None:
        """End the build, if it still runs, and let go of both engines."""
        self.end_build()
        for engine in (self._serving, self._made):
            if engine is not None:
                engine.close()
        self._serving = self._made = None

    def end_build(self) -> None:
        """End the build, if it still runs; what serves now stays."""
        self._cancelled.set()
        if not self.wait(_LONGEST_END_S):
            _log.warning('the build of %s goes on until the process ends', self.what)

    def _compute(self, target: _Target, engine: Engine) -> Any:
        """The cached tensors of a target on `engine`."""
        if target.engine is not engine:
            target.tensors = engine.template(**target.crops)
            if target.given:
                target.tensors = engine.renewed(target.tensors, **target.given)
            target.engine = engine
        return target.tensors

    def _engine_now(self) -> Engine:
        """The engine for this call: that which was made, from the first call after on."""
        if self._made is not None:
            before, self._serving, self._made = self._serving, self._made, None
            if before is not None:
                before.close()
        if self._serving is None:
            raise (EngineError if self.failure else NotReadyError)(self.note)
        return self._serving

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            made = self._make(self._report, self._cancelled)
        except BuildCancelledError:
            self.failure = 'the build was cancelled'
            self._end(f'the build of {self.what} was cancelled')
        except Exception as error:  # whatever it was, what serves now goes on
            self.failure = str(error) if isinstance(error, EngineError) else repr(error)
            _log.warning('%s is not used: %s', self.what, self.failure)
            self.rejected = (*self.rejected, f'{self.what}: {self.failure}')
            self._end(f'{self.what} is not used: {self.failure}')
        else:
            self.template_inputs = made.template_inputs
            self.rejected = made.rejected
            self._made = made
            self.name = made.name
            self._end(made.note)
            _log.info('from the next frame on: %s', made.name)

    def _report(self, doing: str, fraction: float | None = None) -> None:
        percent = '' if fraction is None else f' {100 * fraction:.0f} %'
        self.progress = fraction
        self.note = f'{doing} {self.what}{percent}{self._meanwhile}'

    def _end(self, note: str) -> None:
        self.progress = None
        self.note = note


@dataclass(slots=True)
class _Target:
    """The crops of a target, what was given anew since, and what an engine made of them."""

    crops: dict[str, Image]
    given: Tensors = field(default_factory=dict)
    tensors: Any = None
    engine: Engine | None = None


_alive: weakref.WeakSet[BuildingEngine] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """A library that still compiles while the process takes itself apart would crash it."""
    for engine in list(_alive):
        engine.end_build()
