#!/usr/bin/env python3
# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Every inference library on this machine: same answers, how fast, in how much memory.

    python benchmarks/gpu.py --model mixformerv2_s --model mixformerv2_s-fp16 --json out/gpu.json
    python benchmarks/gpu.py --made-up s,b     # without weights at hand; needs PyTorch

Each library runs in a process of its own, so that one that fails takes nothing with it, and they
compute in turns of a few frames, so that what else the machine does falls on all. A precision is
a package of its own. Without a GPU the libraries for the CPU are measured, and it says so.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import json
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tracker_ros.geometry import Box
from tracker_ros.runtime import store
from tracker_ros.runtime.cuda import find_cuda
from tracker_ros.runtime.engine import Engine, EngineError, load_engine
from tracker_ros.runtime.gate import Sample, made_up_samples, measure, tolerance_of
from tracker_ros.runtime.package import ModelPackage, PackageError, read_package
from tracker_ros.trackers import FAMILIES

BATCHES = (1, 2, 4, 8, 16)
CPU_BATCHES = (1, 2, 4)
"""On the CPU more targets cost as much more each: there is nothing to see."""
LONGEST_LOAD_S = 240.0
"""TensorRT compiles for minutes; what takes longer than this is given up."""
FRAME_PX = (1920, 1080)
BOX_PX = (100.0, 80.0)
MEMORY_TARGETS = 16


@dataclass(frozen=True)
class Case:
    """A library and how it runs: what a process of its own is made for."""

    name: str
    runtime: str
    flavour: str = ''
    """Which TensorRT; empty for other libraries."""
    uses_graphs: bool = True
    is_on_gpu: bool = True
    environment: dict[str, str] = field(default_factory=dict)


WITHOUT_GPU = {'CUDA_VISIBLE_DEVICES': ''}
CASES = (
    Case('tensorrt', 'tensorrt', 'tensorrt'),
    Case('tensorrt without graph', 'tensorrt', 'tensorrt', uses_graphs=False),
    Case('tensorrt_rtx', 'tensorrt', 'tensorrt_rtx'),
    Case('tensorrt_rtx without graph', 'tensorrt', 'tensorrt_rtx', uses_graphs=False),
    Case('onnxruntime_cuda', 'onnxruntime_cuda'),
    Case('onnxruntime_tensorrt', 'onnxruntime_tensorrt'),
    Case('torch_cuda', 'torch_cuda'),
    Case('torch_cuda without graph', 'torch_cuda', uses_graphs=False),
    Case('openvino', 'openvino', is_on_gpu=False),
    Case('onnxruntime', 'onnxruntime', is_on_gpu=False),
    Case('torch', 'torch', is_on_gpu=False, environment=WITHOUT_GPU),
)


class BenchmarkError(Exception):
    """One library could not do one thing; the others go on."""


def main() -> int:
    """Measure every package; 1 where a library's answers are wrong, or none could run."""
    args = parse()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            packages = [store.find(name) for name in args.model]
            for size in args.made_up:
                packages += made_up(size, args.precisions, Path(scratch))
        except (PackageError, EngineError, ImportError) as error:
            print(f'gpu: {error}', file=sys.stderr)
            return 1
        deadline = time.monotonic() + args.seconds
        result: dict[str, Any] = {'machine': machine(), 'packages': []}
        print(describe_machine(result['machine']), flush=True)
        for place, package in enumerate(packages):
            share_s = (deadline - time.monotonic()) / (len(packages) - place)
            measured = measure_package(package, chosen(args, result['machine']), share_s, args)
            result['packages'].append(measured)
            print(describe(measured), flush=True)
            if args.json:  # after each, for what is known when it is ended from outside
                args.json.parent.mkdir(parents=True, exist_ok=True)
                args.json.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    engines = [engine for package in result['packages'] for engine in package['engines'].values()]
    is_right = all(engine['parity']['is_within'] for engine in engines if 'parity' in engine)
    return 0 if is_right and any('parity' in engine for engine in engines) else 1


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--model', action='append', default=[], help='name or folder; repeatable')
    parser.add_argument(
        '--made-up',
        type=names,
        default=None,
        metavar='s,b',
        help='MixFormerV2 of these sizes with made-up weights (default without --model: s,b)',
    )
    parser.add_argument(
        '--precisions',
        type=names,
        default=['fp32'],
        metavar='fp32,fp16,bf16,int8',
        help='of the made-up ones, each a package of its own (default: fp32)',
    )
    parser.add_argument(
        '--runtimes', type=names, default=None, metavar='A,B', help='default: all that are there'
    )
    parser.add_argument('--batches', type=numbers, default=None, metavar='1,2,4')
    parser.add_argument('--calls', type=int, default=None, help='measured for each number')
    parser.add_argument('--threads', type=int, default=0, help='of the CPU (0: automatic)')
    parser.add_argument('--seconds', type=float, default=None, help='in all (default: 420)')
    parser.add_argument('--quick', action='store_true', help='a look of less than a minute')
    parser.add_argument('--json', type=Path, metavar='FILE')
    args = parser.parse_args()
    quick = args.quick
    if args.made_up is None:
        args.made_up = [] if args.model else ['tiny'] if quick else ['s', 'b']
    args.batches = args.batches or ((1, 2) if quick else BATCHES)
    args.calls = args.calls or (6 if quick else 200)
    args.seconds = args.seconds or (45.0 if quick else 420.0)
    return args


def names(text: str) -> list[str]:
    """'s,b' as ['s', 'b']."""
    return [name.strip() for name in text.split(',') if name.strip()]


def numbers(text: str) -> tuple[int, ...]:
    """'1,2' as (1, 2)."""
    return tuple(sorted({max(1, int(number)) for number in text.split(',')}))


def chosen(args: argparse.Namespace, facts: dict[str, Any]) -> list[Case]:
    """The cases that were asked for and can be on this machine."""
    known = {case.name for case in CASES if case.uses_graphs}
    wanted = known if args.runtimes is None else set(args.runtimes)
    if wanted - known:
        raise SystemExit(
            f'gpu: there is no runtime {", ".join(sorted(wanted - known))}; known are '
            f'{", ".join(sorted(known))}'
        )
    return [
        case
        for case in CASES
        if case.name.split()[0] in wanted and (facts['gpu'] is not None or not case.is_on_gpu)
    ]


# -- a package, by all libraries -----------------------------------------------------------------


def measure_package(
    package: ModelPackage, cases: list[Case], share_s: float, args: argparse.Namespace
) -> dict[str, Any]:
    """What every library does with one package, within `share_s` seconds."""
    begin = time.monotonic()
    engines: dict[str, dict[str, Any]] = {case.name: {} for case in cases}
    with contextlib.ExitStack() as held:
        workers: dict[str, Worker] = {}
        for case in cases:
            worker = Worker(case, package.folder, args.threads)
            held.callback(worker.close)
            with noting(engines[case.name]):
                for step in ('load', 'check'):
                    limit_s = min(LONGEST_LOAD_S, begin + 0.6 * share_s - time.monotonic())
                    engines[case.name].update(worker.ask(step, limit_s))
                workers[case.name] = worker
        times = latencies(workers, engines, args, begin + 0.85 * share_s)
        for name, cells in times.items():
            engines[name]['latency'] = {
                str(batch): summary(calls) for batch, calls in cells.items() if calls
            }
        for name, worker in workers.items():
            if 'error' in engines[name]:
                continue
            with noting(engines[name]):
                limit_s = max(5.0, begin + share_s - time.monotonic())
                engines[name]['frame'] = worker.ask('frame', limit_s, calls=min(args.calls, 60))
    return {
        'name': package.name,
        'family': package.family,
        'precision': package.precision,
        'search_px': package.crop_px('search'),
        'seconds': round(time.monotonic() - begin, 1),
        'engines': engines,
    }


Turns = dict[str, dict[int, list[dict[str, float]]]]


def latencies(
    workers: dict[str, Worker],
    engines: dict[str, dict[str, Any]],
    args: argparse.Namespace,
    deadline: float,
) -> Turns:
    """Calls in turns, by engine and number of targets, until there are enough or time is up.

    Each gets at least one turn.
    """
    turn_calls = min(10, args.calls)
    times: Turns = {name: {batch: [] for batch in args.batches} for name in workers}
    for turn in range(-(-args.calls // turn_calls)):
        for batch in args.batches:
            for name, worker in workers.items():
                if 'error' in engines[name]:
                    continue
                if not worker.case.is_on_gpu and batch > max(CPU_BATCHES):
                    continue
                remaining_s = deadline - time.monotonic()
                if remaining_s < 0 and (turn > 0 or batch > 1):
                    return times
                with noting(engines[name]):
                    times[name][batch] += worker.ask(
                        'latency', max(10.0, remaining_s), batch=batch, calls=turn_calls
                    )
    return times


@contextlib.contextmanager
def noting(engine: dict[str, Any]):
    """Keep what goes wrong with one library as its result."""
    try:
        yield
    except BenchmarkError as error:
        engine['error'] = str(error)


def summary(calls: list[dict[str, float]]) -> dict[str, Any]:
    """Median and spread in ms of the calls, and the median of each stage."""
    total = 1e3 * np.array([call['total'] for call in calls])
    low, median, high = np.percentile(total, [10, 50, 90])
    stages = [name for name in calls[0] if name != 'total']
    result: dict[str, Any] = {
        'median_ms': round(float(median), 4),
        'p10_ms': round(float(low), 4),
        'p90_ms': round(float(high), 4),
        'calls': len(calls),
    }
    if stages:
        result['stages_ms'] = {
            name: round(1e3 * float(np.median([call[name] for call in calls])), 4)
            for name in stages
        }
    return result


class Worker:
    """A process that loads one package with one library and does what it is asked."""

    def __init__(self, case: Case, folder: Path, threads: int) -> None:
        """Start it; nothing is loaded yet."""
        self.case = case
        context = multiprocessing.get_context('spawn')
        self._pipe, end = context.Pipe()
        self._process = context.Process(
            target=serve, args=(end, case, folder, threads), daemon=True
        )
        self._process.start()
        end.close()

    def ask(self, what: str, limit_s: float, **arguments: Any) -> Any:
        """The answer. BenchmarkError for a refusal, for a dead process and one that takes longer.

        A process that did not answer in time is ended.
        """
        if limit_s < 1.0:
            raise BenchmarkError(f'{what}: the time is up; --seconds gives more')
        try:
            self._pipe.send((what, arguments))
            if not self._pipe.poll(limit_s):
                self._process.kill()
                raise BenchmarkError(f'{what} took longer than {limit_s:.0f} s')
            is_good, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(5.0)
            raise BenchmarkError(
                f'{what}: the process ended with code {self._process.exitcode}'
            ) from error
        if not is_good:
            raise BenchmarkError(f'{what}: {answer}')
        return answer

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(10.0)
        if self._process.is_alive():
            self._process.kill()


# -- in the process of one library ---------------------------------------------------------------


def serve(pipe: Connection, case: Case, folder: Path, threads: int) -> None:
    """Answer requests until the other side is gone."""
    os.environ.update(case.environment)
    bench = Bench(case, folder, threads)
    while True:
        try:
            what, arguments = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            answer = (True, getattr(bench, what)(**arguments))
        except Exception as error:  # whatever it was, the benchmark of the others goes on
            kind = '' if isinstance(error, EngineError) else f'{type(error).__name__}: '
            answer = (False, f'{kind}{error}')
        pipe.send(answer)


class Bench:
    """One engine, and what is measured of it."""

    def __init__(self, case: Case, folder: Path, threads: int) -> None:
        """Nothing is loaded yet."""
        self._case = case
        self._threads = threads
        self._package = read_package(folder)
        self._engine: Engine | None = None
        self._samples: list[Sample] = []
        self._cached: list[Any] = []

    def load(self) -> dict[str, Any]:
        """Load it: name, time, memory of one target and of each further one."""
        before = memory_mib()
        begin = time.perf_counter()
        engine = self._engine = LOADERS.get(self._case.runtime, load_any)(
            self._case, self._package, self._threads
        )
        seconds = time.perf_counter() - begin
        loaded = memory_mib()
        self._samples = made_up_samples(self._package, engine.template_inputs, MEMORY_TARGETS)
        self._cached = [engine.template(**sample.templates) for sample in self._samples]
        after = memory_mib()
        return {
            'engine': engine.name,
            'note': engine.note,
            'load_s': round(seconds, 3),
            'memory_mib': {
                place: {
                    'engine': round(loaded[place] - before[place], 1),
                    'each_target': round((after[place] - loaded[place]) / MEMORY_TARGETS, 2),
                }
                for place in before
            },
        }

    def check(self) -> dict[str, Any]:
        """How far the answers are from those on the CPU."""
        reference = reference_of(self._package, self._threads)
        found = measure(self._package, self._loaded(), reference, self._samples[:4])
        allowed = tolerance_of(self._package)
        # It is idle from here on, and keeps no thread busy.
        reference.close()
        return {
            'parity': {
                'against': reference.name,
                'box_px': found.box_px,
                'score': found.score,
                'is_within': found.is_within(allowed),
            }
        }

    def latency(self, batch: int, calls: int) -> list[dict[str, float]]:
        """Seconds of `calls` calls for `batch` targets, and of their stages."""
        engine = self._loaded()
        crops = np.stack([sample.search for sample in self._samples[:batch]])
        cached = self._cached[:batch]
        found = []
        for _ in range(calls + 1):
            begin = time.perf_counter()
            if batch == 1:
                engine.search(crops[0], cached[0])
            else:
                engine.search_many(crops, cached)
            found.append({'total': time.perf_counter() - begin, **engine.stages_s})
        return found[1:]  # the first comes after the turns of others

    def frame(self, calls: int) -> dict[str, Any]:
        """A whole frame of 1080p: crop, network, decode; the target stays where it is."""
        width, height = FRAME_PX
        tracker = FAMILIES[self._package.family](self._package, self._loaded())
        stages: dict[str, float] = {}
        for stage, method in (('crop', '_search_crop'), ('decode', '_decode')):
            setattr(tracker, method, timed(getattr(tracker, method), stages, stage))
        images = [noise(width, height, seed) for seed in range(3)]
        box = Box.from_center(width / 2, height / 2, *BOX_PX)
        tracker.start(images[0], box)
        found = []
        for number in range(calls + 1):
            tracker.search_around(box)
            begin = time.perf_counter()
            tracker.step(images[number % len(images)])
            total = time.perf_counter() - begin
            found.append(
                {
                    'total': total,
                    'crop': stages['crop'],
                    'network': tracker.inference_s,
                    'decode': stages['decode'],
                    'rest': total - sum(stages.values()) - tracker.inference_s,
                }
            )
        return summary(found[1:])

    def _loaded(self) -> Engine:
        assert self._engine is not None
        return self._engine


def reference_of(package: ModelPackage, threads: int) -> Engine:
    """ONNX Runtime on the CPU; PyTorch there where it has not all operators, as in bf16."""
    try:
        return load_engine(package, 'onnxruntime', threads)
    except EngineError:
        import torch

        from tracker_ros.runtime.torch_engine import TorchEngine

        return TorchEngine(package, torch.device('cpu'))


def load_any(case: Case, package: ModelPackage, threads: int) -> Engine:
    """The engine as a robot gets it."""
    return load_engine(package, case.runtime, threads, build='wait')


def load_tensorrt(case: Case, package: ModelPackage, _threads: int) -> Engine:
    """One TensorRT of two, though it may be the second choice; wrong answers are told later."""
    from tracker_ros.runtime.tensorrt_builder import make_toolkit
    from tracker_ros.runtime.tensorrt_engine import TensorRtMaker

    try:
        module = importlib.import_module(case.flavour)
    except ImportError as error:
        raise EngineError(f'{error} (pip install {case.flavour.replace("_", "-")})') from error
    cuda = find_cuda()
    toolkit = make_toolkit(module, case.flavour, cuda, cuda.device())
    if not case.uses_graphs:
        cuda.capture = refuse  # type: ignore[method-assign]
    report: Callable[..., None] = lambda doing, fraction=None: None  # noqa: E731
    return TensorRtMaker(package, toolkit).make(report, threading.Event(), force=True)


def load_torch(case: Case, package: ModelPackage, threads: int) -> Engine:
    """PyTorch on the GPU, perhaps call by call."""
    if not case.uses_graphs:
        from tracker_ros.runtime.torch_gpu import Gpu

        Gpu.capture = refuse  # type: ignore[method-assign]
    return load_any(case, package, threads)


class NotWantedError(EngineError, RuntimeError):
    """What engines take for a graph that cannot be captured."""


def refuse(*_arguments: Any) -> Any:
    """In place of the capture of a graph."""
    raise NotWantedError('none is wanted')


LOADERS: dict[str, Callable[[Case, ModelPackage, int], Engine]] = {
    'tensorrt': load_tensorrt,
    'torch_cuda': load_torch,
}


def timed(function: Callable[..., Any], times: dict[str, float], name: str) -> Callable[..., Any]:
    """The same function; its newest time is in `times`."""

    def call(*arguments: Any) -> Any:
        begin = time.perf_counter()
        result = function(*arguments)
        times[name] = time.perf_counter() - begin
        return result

    return call


def noise(width: int, height: int, seed: int) -> np.ndarray:
    """A picture with coarse and fine structure."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (height // 40, width // 40, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def memory_mib() -> dict[str, float]:
    """What this process holds of the machine's memory; what all hold of the GPU's, if any."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    found = {'host': pages * os.sysconf('SC_PAGE_SIZE') / 2**20}
    used = nvidia_smi('memory.used')
    if used is not None and used['memory.used'].isdecimal():
        found['device'] = float(used['memory.used'])
    return found


# -- what it runs on -----------------------------------------------------------------------------

PYTHON_PACKAGES = (
    'numpy',
    'opencv-contrib-python-headless',
    'onnx',
    'onnxruntime',
    'onnxruntime-gpu',
    'openvino',
    'torch',
    'tensorrt',
    'tensorrt-rtx',
)
GPU_FACTS = (
    'name',
    'driver_version',
    'memory.total',
    'clocks.sm',
    'clocks.max.sm',
    'clocks.mem',
    'power.limit',
    'temperature.gpu',
    'mig.mode.current',
)


def machine() -> dict[str, Any]:
    """Processor, GPU, driver and versions; `gpu` is None with the reason beside it."""
    facts: dict[str, Any] = {
        'cpu': cpu_name(),
        'cores': os.cpu_count(),
        'system': platform.platform(),
        'python': platform.python_version(),
        'load_average': round(os.getloadavg()[0], 2),
        'versions': {name: version for name in PYTHON_PACKAGES if (version := version_of(name))},
        'gpu': None,
    }
    try:
        device = find_cuda().device()
    except EngineError as error:
        facts['why_no_gpu'] = str(error)
    else:
        capability = '.'.join(map(str, device.compute_capability))
        facts['gpu'] = {'name': device.name, 'compute_capability': capability}
        facts['nvidia_smi'] = nvidia_smi(*GPU_FACTS)
    return facts


def version_of(name: str) -> str | None:
    """The installed version of a Python package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu_name() -> str:
    """As the system calls it."""
    with contextlib.suppress(OSError):
        for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.machine()


def nvidia_smi(*queries: str) -> dict[str, str] | None:
    """What the driver's tool says of the first GPU; None where it is not there, as on a Jetson."""
    if shutil.which('nvidia-smi') is None:
        return None
    command = ['nvidia-smi', f'--query-gpu={",".join(queries)}', '--format=csv,noheader,nounits']
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode or not done.stdout.strip():
        return None
    values = done.stdout.splitlines()[0].split(',')
    return {name: value.strip() for name, value in zip(queries, values, strict=False)}


# -- weights -------------------------------------------------------------------------------------


def made_up(size: str, precisions: list[str], scratch: Path) -> list[ModelPackage]:
    """MixFormerV2 of this size in these precisions, the same each time.

    Latency does not depend on the weights but for their number of bits; accuracy does, so that
    what is lost in fewer bits tells nothing of trained weights.
    """
    whole = made_up_fp32(size, scratch)
    return [
        whole if precision == 'fp32' else in_fewer_bits(whole, precision, scratch)
        for precision in precisions
    ]


def in_fewer_bits(package: ModelPackage, precision: str, scratch: Path) -> ModelPackage:
    """The package in another precision, on made-up footage, however far from fp32 it is."""
    from tracker_ros.evaluation.sequences import Sequence as Footage
    from tracker_ros.export.quantize import Plan, quantize

    class Noise(Footage):
        def frames(self):
            return (noise(self.width, self.height, seed) for seed in range(len(self)))

    truth = np.tile([270.0, 200.0, *BOX_PX], (8, 1))
    footage = [Noise('noise', scratch, truth, 640, 480, 30.0)]
    name = f'{package.name}-{precision}'
    plan = Plan(precision, footage, footage, len(truth))
    return quantize(package, plan, name, scratch / name, force=True)


def made_up_fp32(size: str, scratch: Path) -> ModelPackage:
    """MixFormerV2 of this size; its answers differ between crops."""
    import torch

    from tracker_ros.export.convert import convert
    from tracker_ros.networks.mixformer_v2 import VARIANTS, MixFormerV2, Variant

    variants = {
        **VARIANTS,
        'tiny': Variant(64, 32, depth=2, mlp_ratio=1, bins=24, dim=128, heads=2),
    }
    if size not in variants:
        raise PackageError(f'there is no size {size!r}; known are {", ".join(variants)}')
    torch.manual_seed(0)
    network = MixFormerV2(variants[size]).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad and parameter.dim() > 1:
                # Activations of about one keep attention from being the same everywhere.
                parameter.normal_(0.0, parameter[0].numel() ** -0.5)
    path = scratch / f'{size}.pth'
    torch.save({'net': network.state_dict()}, path)
    package = convert(path, 'mixformer_v2', f'made_up_{size}', scratch / f'made_up_{size}')
    path.unlink()
    return package


# -- words ---------------------------------------------------------------------------------------


def describe_machine(facts: dict[str, Any]) -> str:
    """The machine in a few lines."""
    versions = ', '.join(f'{name} {version}' for name, version in facts['versions'].items())
    gpu = facts['gpu']
    if gpu is None:
        line = f'no GPU, so libraries for the CPU alone ({facts["why_no_gpu"]})'
    else:
        line = f'{gpu["name"]}, compute capability {gpu["compute_capability"]}'
        line += f' {facts["nvidia_smi"]}' if facts['nvidia_smi'] else ''
    return f'{facts["cpu"]}, {facts["cores"]} cores\n{line}\n{versions}'


def describe(package: dict[str, Any]) -> str:
    """One line for each library: ms for each number of targets, whole frame, difference."""
    lines = [f'\n{package["name"]} ({package["precision"]}), {package["seconds"]} s']
    for name, engine in package['engines'].items():
        cells = [
            f'{batch}: {cell["median_ms"]:.3f} ({cell["p10_ms"]:.3f}-{cell["p90_ms"]:.3f})'
            for batch, cell in engine.get('latency', {}).items()
        ]
        if cells:
            lines.append(f'  {name:28} ms for N targets  {"  ".join(cells)}')
            lines.append(f'  {"":28} {details(engine)}')
        if 'error' in engine:
            lines.append(f'  {name:28} {engine["error"]}')
        elif engine.get('note'):
            lines.append(f'  {"":28} {engine["note"]}')
    return '\n'.join(lines)


def details(engine: dict[str, Any]) -> str:
    """What is known of one library beside its latency."""
    words = [engine['engine'], f'loaded in {engine["load_s"]:.1f} s']
    if 'parity' in engine:
        parity = engine['parity']
        words.append(f'{parity["box_px"]:.2g} px and {parity["score"]:.2g} of the score away')
    for place, mib in engine['memory_mib'].items():
        words.append(f'{place} {mib["engine"]:.0f} MiB, each target {mib["each_target"]:.1f}')
    if 'frame' in engine:
        frame = engine['frame']
        stages = ', '.join(f'{name} {ms:.3f}' for name, ms in frame['stages_ms'].items())
        words.append(f'1080p frame {frame["median_ms"]:.3f} ms ({stages})')
    return '; '.join(words)


if __name__ == '__main__':
    sys.exit(main())
