# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""TensorRT as it is found on this machine, and compiling a graph with it.

Only what TensorRT 8.6, 10, 11 and TensorRT-RTX have in common is called, and what single ones
lack or add is asked for by name. Precision is that of the graph: networks are strongly typed,
where TensorRT knows that, and fp32 means fp32, which TensorRT would otherwise round to 19 bits
(TF32).
"""

from __future__ import annotations

import functools
import importlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tracker_ros.runtime.cuda import Cuda, Device, find_cuda
from tracker_ros.runtime.engine import EngineError
from tracker_ros.runtime.engine_cache import BuildCancelledError, EngineKey, SideFile
from tracker_ros.runtime.package import Graph

_log = logging.getLogger(__name__)

FLAVOURS = ('tensorrt', 'tensorrt_rtx')
_INSTALL = (
    'install one of them (pip install tensorrt, or tensorrt-rtx for GeForce RTX and later; on a '
    'Jetson JetPack brings it, and a virtual environment needs --system-site-packages to see it)'
)
# To be raised when plans are built otherwise than before.
_WAY_OF_BUILDING = 1


@dataclass(frozen=True, slots=True)
class Toolkit:
    """TensorRT, the GPU it builds for, and what it said last."""

    module: Any
    flavour: str
    version: str
    cuda: Cuda
    device: Device
    listener: Any
    """An ILogger of the module, to hand to it."""
    errors: deque[str]

    @property
    def name(self) -> str:
        return f'{self.flavour} {self.version}'

    def error(self, what: str) -> EngineError:
        """An error that tells what TensorRT said about it."""
        said = '; '.join(self.errors) or 'it gave no reason'
        self.errors.clear()
        return EngineError(f'{self.name} {what}: {said}')


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a plan is to be: a graph, for batches of 1 to `max_batch` where its batch is free."""

    graph: Graph
    max_batch: int
    precision: str
    """That of the graph, for people."""

    def key(self, toolkit: Toolkit) -> EngineKey:
        return EngineKey(
            graph_sha256=self.graph.sha256,
            flavour=toolkit.flavour,
            version=toolkit.version,
            gpu=toolkit.device.name,
            compute_capability='.'.join(map(str, toolkit.device.compute_capability)),
            precision=self.precision,
            shapes=f'batch 1 to {self.max_batch}, way {_WAY_OF_BUILDING}',
        )


def find_toolkit() -> Toolkit:
    """TensorRT, or else TensorRT-RTX, with a GPU to run on.

    Raises EngineError naming what is missing and what to install.
    """
    cuda = find_cuda()
    reasons = []
    for flavour in FLAVOURS:
        try:
            module = importlib.import_module(flavour)
            return make_toolkit(module, flavour, cuda, cuda.device())
        except Exception as error:  # a broken installation may raise anything
            reasons.append(f'{flavour}: {error}')
    raise EngineError(f'{"; ".join(reasons)}; {_INSTALL}')


def make_toolkit(module: Any, flavour: str, cuda: Cuda, device: Device) -> Toolkit:
    listener, errors = _listening(module)
    return Toolkit(module, flavour, module.__version__, cuda, device, listener, errors)


def build_plan(
    toolkit: Toolkit,
    recipe: Recipe,
    timing: SideFile,
    report: Callable[[float], None],
    cancelled: threading.Event,
) -> bytes:
    """Compile a graph; takes seconds to many minutes.

    `report` is called with the fraction done, from any thread, where TensorRT tells it (since 10).
    Raises EngineError with what TensorRT said, or BuildCancelledError.
    """
    toolkit.errors.clear()
    builder = toolkit.module.Builder(toolkit.listener)
    network, _parser = _parse(toolkit, builder, recipe.graph)
    config = builder.create_builder_config()
    _fix_precision(toolkit.module, network, config)
    _add_profile(toolkit, builder, network, config, recipe)
    _aim_at(toolkit, config)
    measured = _take_timings(toolkit, config, timing)
    monitor = None
    if hasattr(toolkit.module, 'IProgressMonitor'):
        monitor = config.progress_monitor = _monitor(toolkit.module, report, cancelled)
    plan = builder.build_serialized_network(network, config)
    if cancelled.is_set():
        raise BuildCancelledError('the build was cancelled')
    if plan is None:
        raise toolkit.error(f'cannot build {recipe.graph.path}')
    if measured is not None:
        timing.write(bytes(memoryview(config.get_timing_cache().serialize())))
    del monitor  # it had to outlive the build
    return bytes(memoryview(plan))


def _parse(toolkit: Toolkit, builder: Any, graph: Graph) -> tuple[Any, Any]:
    """The network of a graph, and the parser, which must outlive the build."""
    kinds = toolkit.module.NetworkDefinitionCreationFlag
    # TensorRT 8 needs the first and lacks the second, 11 lacks the first.
    flags = [
        1 << int(getattr(kinds, name))
        for name in ('EXPLICIT_BATCH', 'STRONGLY_TYPED')
        if hasattr(kinds, name)
    ]
    network = builder.create_network(sum(flags))
    parser = toolkit.module.OnnxParser(network, toolkit.listener)
    if not parser.parse_from_file(str(graph.path)):
        told = [parser.get_error(number).desc() for number in range(parser.num_errors)]
        toolkit.errors.clear()
        raise EngineError(f'{toolkit.name} cannot read {graph.path}: {"; ".join(told)}')
    return network, parser


def _fix_precision(module: Any, network: Any, config: Any) -> None:
    config.clear_flag(module.BuilderFlag.TF32)
    if hasattr(module.NetworkDefinitionCreationFlag, 'STRONGLY_TYPED'):
        return
    # TensorRT 8 chooses types by speed among those that are allowed, unless held to them.
    flags, types = module.BuilderFlag, module.DataType
    layers = [network.get_layer(number) for number in range(network.num_layers)]
    used = {layer.get_output(0).dtype for layer in layers if layer.num_outputs}
    if any(layer.type == module.LayerType.QUANTIZE for layer in layers):
        config.set_flag(flags.INT8)
    if types.HALF in used:
        config.set_flag(flags.FP16)
        config.set_flag(flags.OBEY_PRECISION_CONSTRAINTS)
        for layer in layers:
            if layer.num_outputs and layer.get_output(0).dtype == types.FLOAT:
                _hold(module, layer)


def _hold(module: Any, layer: Any) -> None:
    """Keep a layer that gives fp32 at fp32. Layers that compute nothing take no precision."""
    kinds = module.LayerType
    if layer.type not in (kinds.CONSTANT, kinds.CAST, kinds.QUANTIZE, kinds.DEQUANTIZE):
        layer.precision = module.DataType.FLOAT


def _add_profile(
    toolkit: Toolkit, builder: Any, network: Any, config: Any, recipe: Recipe
) -> None:
    profile = builder.create_optimization_profile()
    # TensorRT 8 would let only one batch size be ready at a time; the later ones need no word.
    sharing = getattr(toolkit.module.PreviewFeature, 'PROFILE_SHARING_0806', None)
    if sharing is not None:
        config.set_preview_feature(sharing, True)
    has_free_batch = False
    for number in range(network.num_inputs):
        tensor = network.get_input(number)
        shape = tuple(tensor.shape)
        if -1 not in shape:
            continue
        if shape[0] != -1 or -1 in shape[1:]:
            raise EngineError(
                f'{recipe.graph.path}: the input {tensor.name!r} is {shape}; only the first '
                'dimension, the batch, may be free'
            )
        has_free_batch = True
        # Most robots follow one target: that is what the plan is best at.
        one = (1, *shape[1:])
        profile.set_shape(tensor.name, one, one, (recipe.max_batch, *shape[1:]))
    if has_free_batch and config.add_optimization_profile(profile) < 0:
        raise EngineError(
            f'{recipe.graph.path}: TensorRT refused batches of 1 to {recipe.max_batch}'
        )


def _aim_at(toolkit: Toolkit, config: Any) -> None:
    """Build for the GPU that is here, as TensorRT always does; TensorRT-RTX must be told."""
    known = getattr(toolkit.module, 'ComputeCapability', None)
    if known is None:
        return
    major, minor = toolkit.device.compute_capability
    capability = getattr(known, f'SM{major}{minor}', None)
    if capability is None:
        raise EngineError(
            f'{toolkit.name} knows no GPU of compute capability {major}.{minor} '
            f'({toolkit.device.name}); pip install tensorrt'
        )
    config.num_compute_capabilities = 1
    if not config.set_compute_capability(capability, 0):
        raise toolkit.error(f'cannot build for compute capability {major}.{minor}')


def _take_timings(toolkit: Toolkit, config: Any, timing: SideFile) -> Any:
    """Give the builder what earlier builds measured; None where it cannot take that."""
    if toolkit.flavour == 'tensorrt_rtx':
        return None  # it measures nothing; what it compiles is compiled when it runs
    for content in (timing.read(), b''):
        # One of another version is refused, and then the build begins without.
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    return None


@functools.cache
def _listening(module: Any) -> tuple[Any, deque[str]]:
    """A listener, and what it keeps. One for all: TensorRT keeps the first that it is given."""
    errors: deque[str] = deque(maxlen=10)

    class Listener(module.ILogger):
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            # Errors travel in the exceptions of whoever asked.
            if severity in (module.ILogger.ERROR, module.ILogger.INTERNAL_ERROR):
                errors.append(message)
            _log.debug('%s: %s', severity, message)

    return Listener(), errors


def _monitor(module: Any, report: Callable[[float], None], cancelled: threading.Event) -> Any:
    progress = Progress()

    class Monitor(module.IProgressMonitor):
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            report(progress.complete(phase_name, step))
            return not cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            report(progress.finish(phase_name))

    return Monitor()


class Progress:
    """How much of a build is done, from phases of phases. May be told by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._phases: dict[str, _Phase] = {}
        self._furthest = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        with self._lock:
            outer = self._phases.get(parent) if parent else None
            first, share = (outer.here(), outer.share_of_step()) if outer else (0.0, 1.0)
            self._phases[name] = _Phase(first, share, max(1, steps))

    def complete(self, name: str, step: int) -> float:
        """Returns the fraction done, which never goes back."""
        with self._lock:
            if name in self._phases:
                self._phases[name].done = step + 1
            return self._advance(name)

    def finish(self, name: str) -> float:
        with self._lock:
            fraction = self._advance(name)
            self._phases.pop(name, None)
            return fraction

    def _advance(self, name: str) -> float:
        if name in self._phases:
            self._furthest = max(self._furthest, self._phases[name].here())
        return self._furthest


@dataclass(slots=True)
class _Phase:
    """A part of the build, from `first` on and `share` wide, both as fractions of the whole."""

    first: float
    share: float
    steps: int
    done: int = 0

    def here(self) -> float:
        # TensorRT has been seen to complete more steps than it announced.
        return self.first + self.share * min(1.0, self.done / self.steps)

    def share_of_step(self) -> float:
        return self.share / self.steps if self.done < self.steps else 0.0
