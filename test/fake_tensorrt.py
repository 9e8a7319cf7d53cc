# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A GPU and a TensorRT for machines that have neither.

The CUDA runtime is fake_cudart.c. The module behaves as the documentation of TensorRT 8.6, 10 and
11 and TensorRT-RTX has it: what a version lacks is not there, what is wrong is refused in the way
of the original (False or None, and words for the logger; seldom an exception). A plan holds the
ONNX graph; to run it is to run that with ONNX Runtime, on the memory and the stream given, when
the stream comes to it.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import hashlib
import json
import math
import shutil
import subprocess
import sys
import tempfile
import types
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from tracker_ros.runtime import cuda as cuda_module
from tracker_ros.runtime.cuda import Cuda, Device

SOURCE = Path(__file__).with_name('fake_cudart.c')
VERSIONS = {
    '8.6': ('tensorrt', '8.6.1'),
    '10': ('tensorrt', '10.13.3'),
    '11': ('tensorrt', '11.4.0'),
    'rtx': ('tensorrt_rtx', '1.7.1'),
}
DEVICE = Device('Fake GPU', (8, 9))

_TYPES = {'FLOAT': np.float32, 'HALF': np.float16, 'INT64': np.int64, 'UINT8': np.uint8}
_OF_ONNX = {
    onnx.TensorProto.FLOAT: 'FLOAT',
    onnx.TensorProto.FLOAT16: 'HALF',
    onnx.TensorProto.INT64: 'INT64',
    onnx.TensorProto.INT8: 'INT8',
    onnx.TensorProto.UINT8: 'UINT8',
}
_MAGIC = b'a fake plan\n'


@dataclass
class Behaviour:
    """What the fake does beside what it must, for tests to change and to look at."""

    refuse_to_build: str = ''
    """What the builder says before it gives None."""
    distort: Callable[[str, np.ndarray], np.ndarray] = lambda name, value: value
    """Changes what engines answer, by the name of the output."""
    before_step: Callable[[int], None] = lambda step: None
    """Called in the building thread before each step of a build is told to be complete."""
    steps: int = 4
    builds: list[dict[str, Any]] = field(default_factory=list)
    """The header of every plan built."""
    runs: int = 0
    failures: list[str] = field(default_factory=list)
    """What went wrong where nobody could be told."""


@dataclass
class FakeGpu:
    cuda: Cuda
    library: Any
    behaviour: Behaviour
    module: types.ModuleType

    def live(self, what: str) -> int:
        """How many 'streams', 'graphs', 'device' or 'pinned' blocks there are, or how many
        'launches' of graphs and 'copies' there were; copies in a graph count when it is made.
        """
        return self.library.fake_live(what.encode())

    def fail(self, function: str, code: int, after: int = 0) -> None:
        """Make a call of a CUDA function fail, after so many that do not."""
        self.library.fake_fail(function.encode(), code, after)


@contextmanager
def fake_gpu(
    monkeypatch: pytest.MonkeyPatch, folder: Path, version: str = '10'
) -> Iterator[FakeGpu]:
    """A GPU with TensorRT on this machine. At the end nothing of it may still be in use."""
    library = compile_cudart(folder)
    cuda, behaviour = Cuda(library), Behaviour()
    flavour, number = VERSIONS[version]
    module = make_module(flavour, number, library, behaviour)
    for name in ('tensorrt', 'tensorrt_rtx'):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, flavour, module)
    monkeypatch.setattr(cuda_module, '_candidates', lambda: iter([library._name]))
    yield FakeGpu(cuda, library, behaviour, module)
    assert behaviour.failures == []


def compile_cudart(folder: Path) -> Any:
    """A libcudart of its own for every folder, with memory and streams of its own."""
    path = folder / 'libcudart-fake.so'
    if not path.exists():
        path.write_bytes(_compiled())
    library = ctypes.CDLL(str(path))
    library.fake_live.argtypes = (ctypes.c_char_p,)
    library.fake_fail.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_int)
    library.fake_enqueue.argtypes = (ctypes.c_void_p, _HOST_FUNCTION, ctypes.c_void_p)
    return library


@functools.cache
def _compiled() -> bytes:
    compiler = shutil.which('cc') or shutil.which('gcc')
    if compiler is None:
        pytest.skip('needs a C compiler, for the stand-in of the CUDA runtime')
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'fake.so'
        subprocess.run(
            [compiler, '-shared', '-fPIC', '-O1', '-o', str(path), str(SOURCE)], check=True
        )
        return path.read_bytes()


_HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def make_module(
    flavour: str, version: str, library: Any, behaviour: Behaviour
) -> types.ModuleType:
    """The module `tensorrt` of `version`, or `tensorrt_rtx`."""
    is_rtx = flavour == 'tensorrt_rtx'
    major = 11 if is_rtx else int(version.split('.')[0])
    module = types.ModuleType(flavour)
    module.__version__ = version
    shared = _Shared(flavour, version, major, is_rtx, library, behaviour)

    class ILogger:
        Severity = _Severity
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = _Severity

        def __init__(self) -> None:
            self.is_made = True

        def log(self, severity: _Severity, message: str) -> None:
            raise NotImplementedError('Tried to call pure virtual function "ILogger::log"')

    module.ILogger = ILogger
    module.DataType = _DataType
    module.TensorIOMode = _Mode
    module.LayerType = _LayerType
    module.PreviewFeature = enum.Enum(
        'PreviewFeature',
        ['ALIASED_PLUGIN_IO_10_03', *(['PROFILE_SHARING_0806'] if major < 11 else [])],
    )
    module.BuilderFlag = enum.IntEnum(
        'BuilderFlag',
        ['REFIT', 'TF32', *(['FP16', 'INT8', 'OBEY_PRECISION_CONSTRAINTS'] if major < 11 else [])],
    )
    kinds = {'EXPLICIT_BATCH': 0, 'STRONGLY_TYPED': 1}
    if major < 10:
        del kinds['STRONGLY_TYPED']
    if major > 10:
        del kinds['EXPLICIT_BATCH']
    module.NetworkDefinitionCreationFlag = enum.IntEnum('NetworkDefinitionCreationFlag', kinds)
    shared.module = module
    for kind in (_Builder, _OnnxParser, _Runtime):
        name = kind.__name__.removeprefix('_')
        setattr(module, name, type(name, (kind,), {'shared': shared}))
    if major >= 10:
        module.IProgressMonitor = _ProgressMonitor
    if is_rtx:
        names = ['NONE', 'CURRENT', 'SM75', 'SM80', 'SM86', 'SM89', 'SM120']
        module.ComputeCapability = enum.Enum('ComputeCapability', names)
        module.DynamicShapesKernelSpecializationStrategy = enum.Enum(
            'DynamicShapesKernelSpecializationStrategy', ['LAZY', 'EAGER', 'NONE']
        )
    return module


class _Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class _Mode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class _DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    INT64 = 8


class _LayerType(enum.Enum):
    CONSTANT = 0
    CAST = 1
    QUANTIZE = 2
    DEQUANTIZE = 3
    OTHER = 4


class _ProgressMonitor:
    def __init__(self) -> None:
        self.is_made = True


@dataclass
class _Shared:
    flavour: str
    version: str
    major: int
    is_rtx: bool
    library: Any
    behaviour: Behaviour
    module: Any = None

    def listener(self, logger: Any) -> Callable[[str], None]:
        if not getattr(logger, 'is_made', False) or not isinstance(logger, self.module.ILogger):
            raise TypeError('incompatible constructor arguments: an ILogger, initialised, is due')
        return lambda message: logger.log(_Severity.ERROR, message)


# -- building ------------------------------------------------------------------------------------


class _Tensor:
    def __init__(self, value: onnx.ValueInfoProto) -> None:
        kind = value.type.tensor_type
        self.name = value.name
        self.dtype = _DataType[_OF_ONNX[kind.elem_type]]
        # Dims is no tuple, and a free dimension is -1, whatever its name.
        self.shape = _Dims(
            dim.dim_value if dim.HasField('dim_value') else -1 for dim in kind.shape.dim
        )


class _Dims:
    def __init__(self, values: Iterator[int]) -> None:
        self._values = list(values)

    def __iter__(self) -> Iterator[int]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, place: int) -> int:
        return self._values[place]


class _Layer:
    def __init__(self, kind: _LayerType, outputs: list[_Tensor]) -> None:
        self.type = kind
        self.precision: Any = None
        self._outputs = outputs

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    def get_output(self, number: int) -> _Tensor:
        return self._outputs[number]


class _Network:
    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.model: onnx.ModelProto | None = None
        self._inputs: list[_Tensor] = []
        self._layers: list[_Layer] = []

    def fill(self, model: onnx.ModelProto) -> None:
        self.model = model
        self._inputs = [_Tensor(value) for value in model.graph.input]
        inferred = onnx.shape_inference.infer_shapes(model).graph
        known = {value.name: value for value in (*inferred.value_info, *inferred.output)}
        kinds = {
            'Cast': _LayerType.CAST,
            'Constant': _LayerType.CONSTANT,
            'QuantizeLinear': _LayerType.QUANTIZE,
            'DequantizeLinear': _LayerType.DEQUANTIZE,
        }
        for node in model.graph.node:
            outputs = [_Tensor(known[name]) for name in node.output if name in known]
            self._layers.append(_Layer(kinds.get(node.op_type, _LayerType.OTHER), outputs))

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    def get_input(self, number: int) -> _Tensor:
        return self._inputs[number]

    @property
    def num_layers(self) -> int:
        return len(self._layers)

    def get_layer(self, number: int) -> _Layer:
        return self._layers[number]


class _ParserError:
    def __init__(self, words: str) -> None:
        self._words = words

    def desc(self) -> str:
        return self._words


class _OnnxParser:
    shared: _Shared

    def __init__(self, network: _Network, logger: Any) -> None:
        self._listener = self.shared.listener(logger)
        self._network = network
        self._errors: list[_ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, number: int) -> _ParserError:
        return self._errors[number]

    def parse_from_file(self, path: str) -> bool:
        words = self._parse(path)
        if words:
            self._errors.append(_ParserError(words))
        return not words

    def _parse(self, path: str) -> str:
        if self.shared.major < 10 and not self._network.flags & 1:
            return 'only networks with an explicit batch dimension are supported'
        try:
            model = onnx.load(path)
            onnx.checker.check_model(model)
        except Exception as error:
            return f'Failed to parse ONNX model from file: {path}: {type(error).__name__}'
        pixels = {
            value.name
            for value in model.graph.input
            if value.type.tensor_type.elem_type == onnx.TensorProto.UINT8
        }
        for node in model.graph.node:
            if node.op_type != 'Cast' and pixels.intersection(node.input):
                return f'{node.op_type}: UInt8 not allowed'
        self._network.fill(model)
        return ''


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        if len(shapes) != 3:
            raise TypeError('set_shape(): incompatible function arguments')
        self.shapes[name] = tuple(map(tuple, shapes))


class _TimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> memoryview:
        return memoryview(self.content)


class _Config:
    """The configuration of a build; attributes that a version lacks cannot be set."""

    __slots__ = ('_shared', '_timings', 'capability', 'features', 'flags', 'profiles')

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared
        self._timings: _TimingCache | None = None
        self.flags = {shared.module.BuilderFlag.TF32}
        self.features: set[str] = set()
        self.profiles: list[_Profile] = []
        self.capability: Any = None

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag)

    def set_preview_feature(self, feature: Any, enable: bool) -> None:
        (self.features.add if enable else self.features.discard)(feature.name)

    def add_optimization_profile(self, profile: _Profile) -> int:
        for low, best, high in profile.shapes.values():
            if not all(a <= b <= c for a, b, c in zip(low, best, high, strict=True)):
                return -1
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, content: bytes) -> _TimingCache:
        assert not self._shared.is_rtx, 'TensorRT-RTX asks for a GPU here'
        return _TimingCache(content)

    def set_timing_cache(self, cache: _TimingCache, ignore_mismatch: bool) -> bool:
        own = f'timings of {self._shared.version}'.encode()
        if cache.content and not cache.content.startswith(own):
            return False
        self._timings = cache
        cache.content = cache.content or own
        return True

    def get_timing_cache(self) -> _TimingCache | None:
        return self._timings


class _ConfigWithMonitor(_Config):
    __slots__ = ('progress_monitor',)

    def __init__(self, shared: _Shared) -> None:
        super().__init__(shared)
        self.progress_monitor: Any = None


class _ConfigOfRtx(_ConfigWithMonitor):
    __slots__ = ('num_compute_capabilities',)

    def __init__(self, shared: _Shared) -> None:
        super().__init__(shared)
        self.num_compute_capabilities = 0

    def set_compute_capability(self, capability: Any, place: int) -> bool:
        if not 0 <= place < self.num_compute_capabilities:
            return False
        self.capability = capability
        return True


class _Builder:
    shared: _Shared

    def __init__(self, logger: Any) -> None:
        self._say = self.shared.listener(logger)

    def create_network(self, flags: int = 0) -> _Network:
        return _Network(flags)

    def create_builder_config(self) -> _Config:
        if self.shared.is_rtx:
            return _ConfigOfRtx(self.shared)
        return (_ConfigWithMonitor if self.shared.major >= 10 else _Config)(self.shared)

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> memoryview | None:
        shared = self.shared
        problem = self._problem(network, config)
        if problem:
            self._say(problem)
            return None
        if not self._advance(getattr(config, 'progress_monitor', None)):
            self._say('Error Code 7: BuildCanceled (Build canceled by user)')
            return None
        timings = config.get_timing_cache()
        if timings is not None:
            timings.content += b' +1'
        header = {
            'flavour': shared.flavour,
            'version': shared.version,
            'shares_profile': shared.major >= 10 or 'PROFILE_SHARING_0806' in config.features,
            'flags': sorted(flag.name for flag in config.flags),
            'profile': config.profiles[0].shapes if config.profiles else {},
            'capability': config.capability.name if config.capability else None,
            'held': sum(
                network.get_layer(number).precision is not None
                for number in range(network.num_layers)
            ),
        }
        shared.behaviour.builds.append(header)
        assert network.model is not None
        body = json.dumps(header).encode() + b'\n' + network.model.SerializeToString()
        return memoryview(_MAGIC + hashlib.sha256(body).digest() + body)

    def _problem(self, network: _Network, config: _Config) -> str:
        if network.model is None:
            return 'Error Code 4: the network must have at least one output'
        if self.shared.behaviour.refuse_to_build:
            return self.shared.behaviour.refuse_to_build
        inputs = [network.get_input(number) for number in range(network.num_inputs)]
        free = [tensor for tensor in inputs if -1 in tensor.shape]
        if any(not config.profiles or t.name not in config.profiles[0].shapes for t in free):
            return 'Network has dynamic or shape inputs, but no optimization profile was defined.'
        names = {flag.name for flag in config.flags}
        layers = [network.get_layer(number) for number in range(network.num_layers)]
        types = {layer.get_output(0).dtype for layer in layers if layer.num_outputs}
        if self.shared.major < 10 and _DataType.HALF in types and 'FP16' not in names:
            return 'Network has FP16 layers, but FP16 mode is not set'
        if self.shared.is_rtx and config.capability is None:
            return 'no compute capability was set'
        return ''

    def _advance(self, monitor: Any) -> bool:
        """Tell of the build in phases; False when it is to stop."""
        behaviour = self.shared.behaviour
        if monitor is None:
            for step in range(behaviour.steps):
                behaviour.before_step(step)
            return True
        assert monitor.is_made
        monitor.phase_start('Building engine', None, 2)
        goes_on = True
        for outer, inner in enumerate(('Cloning network graph', 'Timing')):
            monitor.phase_start(inner, 'Building engine', behaviour.steps // 2)
            for step in range(behaviour.steps // 2):
                behaviour.before_step(outer * (behaviour.steps // 2) + step)
                goes_on = goes_on and monitor.step_complete(inner, step)
            monitor.phase_finish(inner)
            goes_on = goes_on and monitor.step_complete('Building engine', outer)
            if not goes_on:
                break
        monitor.phase_finish('Building engine')
        return goes_on


# -- running -------------------------------------------------------------------------------------


class _Runtime:
    shared: _Shared

    def __init__(self, logger: Any) -> None:
        self._say = self.shared.listener(logger)

    def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
        body = bytes(plan)[len(_MAGIC) + 32 :]
        if bytes(plan) != _MAGIC + hashlib.sha256(body).digest() + body:
            self._say('Error Code 1: Serialization (magicTag == kEXPECTED_MAGIC_TAG failed)')
            return None
        header, _, graph = body.partition(b'\n')
        facts = json.loads(header)
        if (facts['flavour'], facts['version']) != (self.shared.flavour, self.shared.version):
            self._say(f'Error Code 6: the engine was built by {facts["version"]}')
            return None
        return _Engine(self.shared, facts, graph, self._say)


class _Engine:
    def __init__(
        self, shared: _Shared, facts: dict[str, Any], graph: bytes, say: Callable[[str], None]
    ) -> None:
        self.shared = shared
        self.profile = facts['profile']
        self.shares_profile = facts['shares_profile']
        self.with_profile: weakref.WeakSet[_Context] = weakref.WeakSet()
        self.say = say
        model = onnx.load_model_from_string(graph)
        self.inputs = {value.name: _Tensor(value) for value in model.graph.input}
        self.outputs = {value.name: _Tensor(value) for value in model.graph.output}
        self.tensors = {**self.inputs, **self.outputs}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(graph, sess_options=options)

    def _run_on_zeros(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        feeds = {name: np.zeros(shapes[name], _type(self.inputs[name])) for name in self.inputs}
        return dict(zip(self.outputs, self.session.run(list(self.outputs), feeds), strict=True))

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    def get_tensor_name(self, number: int) -> str:
        return list(self.tensors)[number]

    def get_tensor_mode(self, name: str) -> _Mode:
        if name in self.inputs:
            return _Mode.INPUT
        return _Mode.OUTPUT if name in self.outputs else _Mode.NONE

    def get_tensor_dtype(self, name: str) -> _DataType:
        return self.tensors[name].dtype

    def get_tensor_shape(self, name: str) -> _Dims:
        return self.tensors[name].shape

    def create_execution_context(self, *arguments: Any) -> _Context:
        if arguments:
            assert self.shared.is_rtx
            assert isinstance(arguments[0], _RuntimeConfig)
        return _Context(self)

    def create_runtime_config(self) -> _RuntimeConfig:
        if not self.shared.is_rtx:
            raise AttributeError('create_runtime_config')
        return _RuntimeConfig()


class _RuntimeConfig:
    def __init__(self) -> None:
        self.dynamic_shapes_kernel_specialization_strategy: Any = None
        self.cache: _RuntimeCache | None = None

    def create_runtime_cache(self) -> _RuntimeCache:
        return _RuntimeCache()

    def set_runtime_cache(self, cache: _RuntimeCache) -> bool:
        self.cache = cache
        return True


class _RuntimeCache:
    def __init__(self) -> None:
        self._content = b'kernels'

    def deserialize(self, content: bytes) -> bool:
        return bytes(content) == self._content

    def serialize(self) -> memoryview:
        return memoryview(self._content)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {
            name: tuple(tensor.shape)
            for name, tensor in engine.inputs.items()
            if -1 not in tensor.shape
        }
        self._addresses: dict[str, int] = {}
        self._kernels: list[Any] = []
        # Since 10 every context has the first profile by itself; before, the first context had.
        self._has_profile = engine.shared.major >= 10 or not len(engine.with_profile)
        if self._has_profile:
            engine.with_profile.add(self)

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        engine = self._engine
        if number != 0 or not stream:
            return False
        if not engine.shares_profile and set(engine.with_profile) - {self}:
            engine.say('setOptimizationProfileAsync: profile 0 is in use by another context')
            return False
        self._has_profile = True
        engine.with_profile.add(self)
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        tensor = self._engine.inputs.get(name)
        if tensor is None:
            self._engine.say(f'setInputShape: {name} is no input tensor')
            return False
        if not self._has_profile:
            self._engine.say('setInputShape: no optimization profile was chosen')
            return False
        low, _, high = self._engine.profile.get(name, (tuple(tensor.shape),) * 3)
        if len(shape) != len(low) or not all(
            a <= value <= b for a, value, b in zip(low, shape, high, strict=True)
        ):
            self._engine.say(f'setInputShape: {shape} of {name} is outside of the profile')
            return False
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> _Dims:
        if name in self._shapes:
            return _Dims(iter(self._shapes[name]))
        shape = list(self._engine.tensors[name].shape)
        if name in self._engine.outputs and len(self._shapes) == len(self._engine.inputs):
            batches = {shape[0] for shape in self._shapes.values()}
            assert len(batches) == 1, f'inputs of different batches: {self._shapes}'
            if shape.count(-1) > 1:  # what the file does not tell, the original works out
                shape = list(self._engine._run_on_zeros(self._shapes)[name].shape)
            shape = [batches.pop() if value == -1 else value for value in shape]
        return _Dims(iter(shape))

    def set_tensor_address(self, name: str, address: int) -> bool:
        if name not in self._engine.tensors:
            self._engine.say(f'setTensorAddress: there is no tensor {name}')
            return False
        if not isinstance(address, int):
            raise TypeError('set_tensor_address(): incompatible function arguments')
        if address % 256:
            self._engine.say(f'setTensorAddress: the memory for {name} is not aligned')
            return False
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        engine = self._engine
        for name in engine.inputs:
            if name not in self._shapes:
                engine.say(f'enqueueV3: the shape of {name} was not set')
                return False
        for name in engine.tensors:
            if not self._addresses.get(name):
                engine.say(f'enqueueV3: Address is not set for the tensor {name}')
                return False
        addresses, shapes = dict(self._addresses), dict(self._shapes)

        def kernel(_data: Any) -> None:
            try:
                self._run(addresses, shapes)
            except Exception as error:  # there is no way from here to whoever waits
                engine.shared.behaviour.failures.append(f'{type(error).__name__}: {error}')

        # A graph may call it for as long as there is this context.
        self._kernels.append(_HOST_FUNCTION(kernel))
        return engine.shared.library.fake_enqueue(stream, self._kernels[-1], None) == 0

    def _run(self, addresses: dict[str, int], shapes: dict[str, tuple[int, ...]]) -> None:
        engine = self._engine
        engine.shared.behaviour.runs += 1
        feeds = {
            name: np.frombuffer(
                ctypes.string_at(
                    addresses[name], math.prod(shapes[name]) * np.dtype(_type(tensor)).itemsize
                ),
                _type(tensor),
            ).reshape(shapes[name])
            for name, tensor in engine.inputs.items()
        }
        names = list(engine.outputs)
        for name, value in zip(names, engine.session.run(names, feeds), strict=True):
            changed = engine.shared.behaviour.distort(name, value)
            data = np.ascontiguousarray(changed, value.dtype).tobytes()
            ctypes.memmove(addresses[name], data, len(data))


def _type(tensor: _Tensor) -> type:
    return _TYPES[tensor.dtype.name]
