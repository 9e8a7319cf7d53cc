# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's own parser and compiler take the graphs that this project exports, for every GPU.

TensorRT-RTX compiles without a GPU; what it makes can only be loaded on one. So this shows that
operators, types and shapes are what TensorRT takes, and that the builder is called as it wants to
be; it shows nothing of numbers and speed.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import threading

import numpy as np
import onnx
import pytest
from fake_tensorrt import VERSIONS, Behaviour, make_module
from small_graphs import make_small
from test_published import FILES, packages  # noqa: F401

from tracker_ros.runtime.cuda import Device
from tracker_ros.runtime.engine import EngineError
from tracker_ros.runtime.engine_cache import BuildCancelledError, EngineCache
from tracker_ros.runtime.package import Graph, ModelPackage, sha256_of
from tracker_ros.runtime.tensorrt_builder import Recipe, build_plan, make_toolkit
from tracker_ros.runtime.tensorrt_engine import MAX_BATCH, ROLES
from tracker_ros.runtime.tensorrt_runner import Network

tensorrt_rtx = pytest.importorskip(
    'tensorrt_rtx', reason='needs TensorRT-RTX: pip install tensorrt-rtx'
)

GPUS = {'SM80': (8, 0), 'SM86': (8, 6), 'SM89': (8, 9), 'SM120': (12, 0)}


def exported(name: str, folder) -> ModelPackage:
    """A package with weights as they are initialised; compilers look at shapes alone."""
    torch = pytest.importorskip('torch', reason='needs PyTorch, to export: pip install torch')
    from tracker_ros.export.convert import convert
    from tracker_ros.networks.mixformer_v2 import VARIANTS, MixFormerV2, Variant

    tiny = Variant(64, 32, depth=2, mlp_ratio=1, bins=24, dim=128, heads=2)
    torch.manual_seed(0)
    network = MixFormerV2(tiny if name == 'tiny' else VARIANTS[name]).eval()
    path = folder / f'{name}.pth'
    torch.save({'net': network.state_dict()}, path)
    package = convert(path, 'mixformer_v2', name, folder / name)
    path.unlink()
    return package


def dual_tfr(folder) -> ModelPackage:
    """The spatio-temporal version, whose graphs have all that the others have, too."""
    torch = pytest.importorskip('torch', reason='needs PyTorch, to export: pip install torch')
    from tracker_ros.export.convert import convert
    from tracker_ros.networks.dual_tfr import DualTfr, Variant

    tiny = Variant((2, 1, 1), 1, 2, dim=32, hidden=16, has_context=True)
    torch.manual_seed(0)
    torch.save({'net': DualTfr(tiny).state_dict()}, folder / 'w.pth')
    return convert(folder / 'w.pth', 'dual_tfr', 'dual_tfr_tiny', folder / 'dual_tfr_tiny')


def kestrel(folder) -> ModelPackage:
    """Our own, with the second template and the second round."""
    torch = pytest.importorskip('torch', reason='needs PyTorch, to export: pip install torch')
    from tracker_ros.export.convert import convert
    from tracker_ros.networks.kestrel import VARIANTS, Kestrel

    torch.manual_seed(0)
    torch.save(Kestrel(VARIANTS['tiny']).state_dict(), folder / 'w.pth')
    return convert(folder / 'w.pth', 'kestrel', 'kestrel_tiny', folder / 'kestrel_tiny')


# What is compiled: a maker of a package for each name.
PACKAGES = {
    'small': lambda folder: make_small(folder / 'small'),
    'small_fp16': lambda folder: make_small(folder / 'small_fp16', half=True),
    'mixformer_v2_tiny': lambda folder: exported('tiny', folder),
    'mixformer_v2_s': lambda folder: exported('s', folder),
    'dual_tfr_tiny': dual_tfr,
    'kestrel_tiny': kestrel,
}


@pytest.fixture(scope='module')
def package_of(tmp_path_factory):
    made: dict[str, ModelPackage] = {}

    def package_of(name):
        if name not in made:
            made[name] = PACKAGES[name](tmp_path_factory.mktemp(name))
        return made[name]

    return package_of


@pytest.fixture
def side(tmp_path):
    return EngineCache(tmp_path).side_file('side')


def toolkit_for(capability):
    return make_toolkit(tensorrt_rtx, 'tensorrt_rtx', None, Device('any', capability))


def build(package, role, capability, side, report=lambda fraction: None, cancelled=None):
    recipe = Recipe(package.graphs[role], MAX_BATCH if role == 'search' else 1, 'any')
    return build_plan(
        toolkit_for(capability), recipe, side, report, cancelled or threading.Event()
    )


@pytest.mark.parametrize('gpu', GPUS)
@pytest.mark.parametrize('role', ROLES)
@pytest.mark.parametrize('name', PACKAGES)
def test_the_graphs_compile(package_of, name, role, gpu, side):
    package = package_of(name)
    plan = build(package, role, GPUS[gpu], side)
    # The weights are in it, perhaps in fewer bits.
    assert len(plan) > 0.2 * package.graphs[role].path.stat().st_size


@pytest.mark.parametrize('gpu', GPUS)
@pytest.mark.parametrize('role', ROLES)
@pytest.mark.parametrize('name', FILES)
def test_published_graphs_compile(packages, name, role, gpu, side):  # noqa: F811
    assert build(packages[name], role, GPUS[gpu], side)


@pytest.mark.parametrize('gpu', GPUS)
def test_attention_and_pooling_at_chosen_places_compile(siam_attn_parts, gpu, side):
    """SiamAttn without its backbone and with fewer channels; all of it takes minutes."""
    plan = build_plan(
        toolkit_for(GPUS[gpu]),
        Recipe(siam_attn_parts, MAX_BATCH, 'any'),
        side,
        lambda fraction: None,
        threading.Event(),
    )
    assert len(plan) > 0.2 * siam_attn_parts.path.stat().st_size


@pytest.fixture(scope='module')
def siam_attn_parts(tmp_path_factory) -> Graph:
    torch = pytest.importorskip('torch', reason='needs PyTorch, to export: pip install torch')
    from tracker_ros.export import graphs
    from tracker_ros.networks import siam_attn
    from tracker_ros.networks.deformable import DeformableRoiPool

    class Parts(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.enhance = siam_attn.FeatureEnhance(32)
            self.proposals = siam_attn.MultiRPN(32)
            self.pool = DeformableRoiPool(32, 4, 31, 255, hidden=32)

        def forward(self, template, search, roi):
            cached = self.enhance.template(list(template.unbind(dim=1)))
            kernels, searches = self.enhance(cached, list(search.unbind(dim=1)))
            cls, loc = self.proposals(kernels, searches)
            return cls, loc, self.pool(searches[0], roi)

    torch.manual_seed(0)
    examples = (torch.randn(2, 3, 32, 7, 7), torch.randn(2, 3, 32, 31, 31), torch.ones(2, 4))
    names = ('template', 'search', 'roi')
    graph = graphs.Graph(Parts(), examples, names, ('cls', 'loc', 'pooled'))
    folder = tmp_path_factory.mktemp('parts')
    files = graphs.write_graphs(graphs.GraphPair(graph, graph), folder)
    path = folder / files['search']
    return Graph(path, sha256_of(path))


# -- in fewer bits -----------------------------------------------------------------------------


def reduced(package: ModelPackage, precision: str, folder) -> ModelPackage:
    """The package in another precision; compilers look at types, not at numbers."""
    from tracker_ros.export.half import HALVES, halved
    from tracker_ros.export.int8 import quantised
    from tracker_ros.export.quantize import ROLES as REDUCED_ROLES
    from tracker_ros.export.quantize import prepared

    models = {role: prepared(onnx.load(package.graphs[role].path)) for role in REDUCED_ROLES}
    cached = [item.name for item in models['template'].graph.output]
    folder.mkdir()
    for role, model in models.items():
        if precision in HALVES:
            half = cached if precision == 'fp16' else []
            ends = {'half_outputs': half} if role == 'template' else {'half_inputs': half}
            made = halved(model, precision, **ends)
        else:
            made = quantised(model, [random_feeds(model)])
        onnx.save(made, str(folder / f'{role}.onnx'))
    return dataclasses.replace(
        package,
        precision=precision,
        graphs={
            role: dataclasses.replace(graph, path=folder / f'{role}.onnx')
            for role, graph in package.graphs.items()
        },
    )


def random_feeds(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    feeds = {}
    for item in model.graph.input:
        shape = [size.dim_value or 1 for size in item.type.tensor_type.shape.dim]
        if item.type.tensor_type.elem_type == onnx.TensorProto.UINT8:
            feeds[item.name] = random.integers(0, 256, shape, np.uint8)
        else:
            feeds[item.name] = random.normal(size=shape).astype(np.float32)
    return feeds


@pytest.fixture(scope='module')
def reduced_of(package_of, request, tmp_path_factory):
    made: dict[tuple[str, str], ModelPackage] = {}

    def reduced_of(name, precision):
        if (name, precision) not in made:
            source = (
                request.getfixturevalue('packages')[name] if name in FILES else package_of(name)
            )
            folder = tmp_path_factory.mktemp(name) / precision
            made[name, precision] = reduced(source, precision, folder)
        return made[name, precision]

    return reduced_of


@pytest.mark.parametrize(
    ('name', 'gpu'), [*(('mixformer_v2_tiny', gpu) for gpu in GPUS), ('mixformer_v2_s', 'SM89')]
)
@pytest.mark.parametrize('precision', ['fp16', 'bf16', 'int8'])
@pytest.mark.parametrize('role', ROLES)
def test_reduced_graphs_compile(reduced_of, name, role, precision, gpu, side):
    assert build(reduced_of(name, precision), role, GPUS[gpu], side)


@pytest.mark.parametrize(
    ('name', 'gpu'), [*(('vittrack', gpu) for gpu in GPUS), ('nanotrack_v3', 'SM89')]
)
@pytest.mark.parametrize('precision', ['fp16', 'bf16', 'int8'])
def test_reduced_published_graphs_compile(
    packages,  # noqa: F811
    reduced_of,
    name,
    precision,
    gpu,
    side,
):
    assert build(reduced_of(name, precision), 'search', GPUS[gpu], side)


def test_progress_comes_from_the_compiler(package_of, side):
    told = []
    build(package_of('mixformer_v2_tiny'), 'search', (8, 9), side, told.append)
    assert told == sorted(told)
    assert len(set(told)) > 100
    assert 0.0 <= told[0] < 0.1
    assert 0.7 < told[-1] <= 1.0


def test_the_compiler_can_be_stopped(package_of, side):
    cancelled = threading.Event()
    told = []

    def report(fraction):
        told.append(fraction)
        cancelled.set()

    with pytest.raises(BuildCancelledError):
        build(package_of('mixformer_v2_tiny'), 'search', (8, 9), side, report, cancelled)
    assert len(told) < 10


def test_a_gpu_that_it_does_not_know_is_named(package_of, side):
    with pytest.raises(EngineError, match=r'knows no GPU of compute capability 9\.0'):
        build(package_of('small'), 'search', (9, 0), side)


def test_what_it_refuses_is_told_in_its_own_words(package_of, side):
    """fp32 is nothing that TensorRT-RTX multiplies matrices in on a GPU of that age."""
    with pytest.raises(EngineError, match='FP32 GEMM is not supported'):
        build(package_of('mixformer_v2_tiny'), 'search', (7, 5), side)


def test_a_file_that_is_no_graph_is_named(tmp_path, side):
    package = make_small(tmp_path / 'broken')
    package.graphs['search'].path.write_bytes(b'no graph')
    with pytest.raises(EngineError, match=r'cannot read .*search\.onnx: '):
        build(package, 'search', (8, 9), side)


def test_bytes_that_are_no_plan_are_refused(side):
    with pytest.raises(EngineError, match='cannot load the engine: '):
        Network(toolkit_for((8, 9)), b'no plan' * 100, side)


# -- the fake ----------------------------------------------------------------------------------

REAL_NAMES = {
    '_Builder': 'Builder',
    '_OnnxParser': 'OnnxParser',
    '_ParserError': 'ParserError',
    '_Runtime': 'Runtime',
    '_Network': 'INetworkDefinition',
    '_Tensor': 'ITensor',
    '_Profile': 'IOptimizationProfile',
    '_TimingCache': 'ITimingCache',
    '_ConfigOfRtx': 'IBuilderConfig',
    '_Engine': 'ICudaEngine',
    '_Context': 'IExecutionContext',
    '_RuntimeConfig': 'IRuntimeConfig',
    '_RuntimeCache': 'IRuntimeCache',
}


@pytest.mark.parametrize('fake', REAL_NAMES)
def test_what_the_fake_has_the_original_has(fake):
    """A name that only the fake knows would first be missed on a robot."""
    invented = {
        '_Network': {'fill', 'model'},
        '_Profile': {'shapes'},
        '_TimingCache': {'content'},
        '_ConfigOfRtx': {'capability', 'features', 'profiles'},
        '_Builder': {'shared'},
        '_OnnxParser': {'shared'},
        '_Runtime': {'shared'},
        '_RuntimeConfig': {'cache'},
    }
    kind = getattr(importlib.import_module('fake_tensorrt'), fake)
    original = getattr(tensorrt_rtx, REAL_NAMES[fake])
    names = {name for name in dir(kind) if not name.startswith('_')}
    missing = {name for name in names if not hasattr(original, name)}
    assert missing <= invented.get(fake, set())


def test_the_module_of_the_fake_has_what_the_original_has():
    flavour, version = VERSIONS['rtx']
    module = make_module(flavour, version, None, Behaviour())
    for name in dir(module):
        if name.startswith('_'):
            continue
        original = getattr(tensorrt_rtx, name)
        for member in getattr(getattr(module, name), '__members__', ()):
            if (name, member) != ('LayerType', 'OTHER'):
                assert hasattr(original, member), f'{name}.{member}'


def test_a_message_of_the_original_reaches_the_log(package_of, side, caplog):
    with caplog.at_level(logging.DEBUG), pytest.raises(EngineError):
        build(package_of('mixformer_v2_tiny'), 'search', (7, 5), side)
    assert 'FP32 GEMM' in caplog.text
