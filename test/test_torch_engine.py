# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""PyTorch computes what ONNX Runtime computes, operator by operator and as a whole.

There is no GPU here: what runs on one is tried with a stand-in for CUDA, which shows the order of
things and no more, and on PyTorch's device 'meta', where nothing can be read back.
"""

from __future__ import annotations

import gc
import sys
import weakref
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from fakes import make_package
from onnx import TensorProto, helper, numpy_helper
from small_graphs import crops, make_small
from test_published import FILES, packages  # noqa: F401

from tracker_ros.runtime.cuda import CudaError
from tracker_ros.runtime.engine import AUTOMATIC, EngineError, load_engine
from tracker_ros.runtime.gate import READERS, made_up_samples, measure
from tracker_ros.runtime.package import read_package

torch = pytest.importorskip('torch', reason='needs PyTorch: pip install torch')

from test_mixformer_v2_tracking import tiny  # noqa: E402, F401

from tracker_ros.runtime import torch_gpu  # noqa: E402
from tracker_ros.runtime.torch_graph import TorchGraph  # noqa: E402
from tracker_ros.runtime.torch_operators import OPERATORS, Operator  # noqa: E402

CPU = torch.device('cpu')


def graph_of(body: str, inputs: str, outputs: str, constants: str = '', opset: int = 17) -> bytes:
    text = f"""
    <ir_version: 8, opset_import: ["" : {opset}]>
    g ({inputs}) => ({outputs}) <{constants}> {{ {body} }}
    """
    return onnx.parser.parse_model(text).SerializeToString()


def read(data: bytes, folder: Path, device=CPU) -> TorchGraph:
    path = folder / 'graph.onnx'
    path.write_bytes(data)
    return TorchGraph(path, device)


def compared(data: bytes, folder: Path, tolerance: float = 1e-6, **inputs: np.ndarray) -> None:
    """Both libraries give the same, each time, for these inputs."""
    options = onnxruntime.SessionOptions()
    # Its optimiser may quantize what the graph does not.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options)
    names = [value.name for value in session.get_outputs()]
    graph = read(data, folder)
    for _ in range(2):
        expected = session.run(names, inputs)
        found = graph.run({name: torch.from_numpy(value) for name, value in inputs.items()})
        for name, value in zip(names, expected, strict=True):
            assert found[name].numpy().dtype == value.dtype
            assert found[name].shape == value.shape
            np.testing.assert_allclose(found[name].numpy(), value, rtol=tolerance, atol=tolerance)


def numbers(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# -- whole models ------------------------------------------------------------------------------


def differences(package, count: int = 2):
    """From ONNX Runtime, of every output, for several targets one by one and together."""
    engine, reference = (load_engine(package, name, 1) for name in ('torch', 'onnxruntime'))
    samples = made_up_samples(package, engine.template_inputs, count)
    targets = [engine.template(**sample.templates) for sample in samples]
    others = [reference.template(**sample.templates) for sample in samples]
    searches = np.stack([sample.search for sample in samples])
    found = {k: v.copy() for k, v in engine.search_many(searches, targets).items()}
    for row, crop in enumerate(searches):
        expected = reference.search(crop, others[row])
        alone = engine.search(crop, targets[row])
        assert alone.keys() == set(expected)
        for name, value in expected.items():
            assert alone[name].dtype == np.float32
            yield name, np.abs(alone[name] - value).max() / max(1.0, np.abs(value).max())
            together = found[name][row : row + 1]
            yield name, np.abs(together - value).max() / max(1.0, np.abs(value).max())
        for role in package.further:
            numbers = {
                name: np.full((1, *shape), 0.5, np.float32)
                for name, shape in package.values_of(role).items()
            }
            more = engine.run(role, {**expected, **numbers})
            for name, value in reference.run(role, {**expected, **numbers}).items():
                yield name, np.abs(more[name] - value).max() / max(1.0, np.abs(value).max())


@pytest.mark.parametrize('family', sorted(READERS))
def test_every_family_is_computed(tmp_path, family):
    package = read_package(make_package(tmp_path / 'm', family))
    for name, difference in differences(package):
        assert difference < 1e-5, name


@pytest.mark.parametrize('name', sorted(FILES))
def test_published_models_are_computed(packages, name):  # noqa: F811
    for output, difference in differences(packages[name]):
        assert difference < 1e-5, output


def test_exported_models_are_computed(tiny):  # noqa: F811
    _, package = tiny
    for output, difference in differences(package, count=3):
        assert difference < 1e-5, output
    engine, reference = (load_engine(package, name, 1) for name in ('torch', 'onnxruntime'))
    samples = made_up_samples(package, engine.template_inputs)
    assert measure(package, engine, reference, samples).box_px < 1e-3
    # Nothing in the graphs needs a look at what has been computed: CUDA can record them.
    meta = torch.device('meta')
    graphs = [TorchGraph(package.graphs[role].path, meta) for role in ('template', 'search')]
    inputs = {name: torch.empty(2, *shape[1:]) for name, shape in graphs[0].inputs.items()}
    cached = graphs[0].run({name: value.byte().to(meta) for name, value in inputs.items()})
    search = torch.empty(2, *graphs[1].inputs['search'][1:], dtype=torch.uint8, device=meta)
    box = graphs[1].run({'search': search, **cached})['box']
    assert (box.device, tuple(box.shape)) == (meta, (2, 4))


def test_half_precision_is_kept_as_it_is_written(tmp_path):
    package = make_small(tmp_path / 'half', half=True)
    cached = load_engine(package, 'torch').template(**crops(1)[0][0])
    assert {value.dtype for value in cached.values()} == {torch.float16}
    for name, difference in differences(package):
        assert difference < 1e-6, name


# -- operators ---------------------------------------------------------------------------------

MAP, ROWS, TOKENS = numbers(2, 4, 9, 8), numbers(3, 5), numbers(2, 6, 4)
FACTORS = np.abs(numbers(3, 5, seed=4)) + 0.5


def unary(operator: str, values: np.ndarray = ROWS, **attributes: str):
    return f'y = {operator} (x)', {'x': values}, ''


def binary(operator: str, kind: str = 'float'):
    return f'y = {operator} (x, z)', {'x': ROWS, 'z': FACTORS}, '', kind


def of(body: str, constants: str = '', values: np.ndarray = MAP, kind: str = 'float', **others):
    return body, {'x': values, **others}, constants, kind


CASES = {
    **{
        name: [unary(name)]
        for name in (
            *('Abs', 'Ceil', 'Cos', 'Erf', 'Exp', 'Floor', 'HardSwish', 'Identity', 'Neg'),
            *('Reciprocal', 'Relu', 'Round', 'Sigmoid', 'Sign', 'Sin', 'Tanh'),
        )
    },
    'Log': [unary('Log', FACTORS)],
    'Sqrt': [unary('Sqrt', FACTORS)],
    **{name: [binary(name)] for name in ('Add', 'Div', 'Max', 'Mean', 'Min', 'Mul', 'Sub', 'Sum')},
    'Mod': [
        of('y = Mod <fmod = 1> (x, z)', '', ROWS, z=FACTORS),
        of('y = Mod (x, z)', '', np.arange(-4, 4), 'int64', z=np.array([3, -3] * 4)),
    ],
    'Pow': [('y = Pow (z, x)', {'x': ROWS, 'z': FACTORS}, '')],
    **{
        name: [binary(name, 'bool')]
        for name in ('Equal', 'Greater', 'GreaterOrEqual', 'Less', 'LessOrEqual')
    },
    **{
        name: [of(f'p = Less (x, z) q = Less (z, x) y = {name} (p, q)', '', ROWS, 'bool', z=-ROWS)]
        for name in ('And', 'Or')
    },
    'Not': [of('p = Less (x, x) y = Not (p)', '', ROWS, 'bool')],
    'Where': [of('p = Less (x, z) y = Where (p, x, z)', '', ROWS, z=FACTORS)],
    'Cast': [
        of('y = Cast <to = 6> (x)', '', 9 * ROWS, 'int32'),
        of('y = Cast <to = 10> (x)', '', ROWS, 'float16'),
        of('h = Cast <to = 10> (x) y = Cast <to = 1> (h)'),
    ],
    'Clip': [
        of('y = Clip (x, a, b)', 'float a = {-0.5}, float b = {0.25}'),
        of('y = Clip (x, , b)', 'float b = {0.25}'),
        of('y = Clip (x)'),
    ],
    'HardSigmoid': [unary('HardSigmoid'), of('y = HardSigmoid <alpha = 0.3, beta = 0.1> (x)')],
    'LeakyRelu': [unary('LeakyRelu'), of('y = LeakyRelu <alpha = 0.3> (x)')],
    'Softmax': [unary('Softmax'), of('y = Softmax <axis = 1> (x)')],
    'MatMul': [
        of('y = MatMul (x, z)', '', TOKENS, z=numbers(4, 3)),
        of('y = MatMul (x, z)', '', TOKENS, z=numbers(2, 4, 5)),
    ],
    'Gemm': [
        of('y = Gemm <transB = 1> (x, z, b)', '', ROWS, z=numbers(7, 5), b=numbers(7)),
        of('y = Gemm <alpha = 0.5, beta = 2.0> (x, z, b)', '', ROWS, z=ROWS.T, b=ROWS[:, :1]),
        of('y = Gemm <transA = 1> (x, z)', '', ROWS, z=numbers(3, 2)),
    ],
    'LayerNormalization': [
        of('y = LayerNormalization (x, s, b)', '', TOKENS, s=numbers(4), b=numbers(4)),
        of('y = LayerNormalization <axis = 1> (x, s)', '', TOKENS, s=numbers(6, 4)),
        of('y = LayerNormalization <epsilon = 0.1> (x, s)', '', TOKENS, s=numbers(4)),
    ],
    'BatchNormalization': [
        of(
            'y = BatchNormalization (x, s, b, m, v)',
            s=numbers(4),
            b=numbers(4),
            m=numbers(4),
            v=np.abs(numbers(4)) + 0.1,
        )
    ],
    'Conv': [
        of(f'y = Conv <{settings}> (x, w, b)', w=numbers(*weight), b=numbers(weight[0]))
        for settings, weight in (
            ('group = 1', (6, 4, 1, 1)),
            ('pads = [1, 1, 1, 1], strides = [2, 2]', (6, 4, 3, 3)),
            ('pads = [0, 1, 2, 1], group = 4', (4, 1, 3, 3)),
            ('dilations = [2, 2]', (6, 4, 3, 3)),
            ('auto_pad = "VALID"', (6, 4, 3, 2)),
        )
    ]
    + [of('y = Conv <pads = [1, 1]> (x, w)', '', TOKENS, w=numbers(5, 6, 3))],
    'ConvTranspose': [
        of(f'y = ConvTranspose <{settings}> (x, w, b)', w=numbers(4, 3, 4, 4), b=numbers(3))
        for settings in ('strides = [4, 4]', 'pads = [1, 1, 1, 1], strides = [2, 2]')
    ],
    'GridSample': [
        of(f'y = GridSample <{settings}> (x, g)', g=1.2 * np.tanh(numbers(2, 5, 3, 2)))
        for settings in (
            'align_corners = 1, padding_mode = "zeros"',
            'padding_mode = "border"',
            'mode = "bicubic", align_corners = 1',
        )
    ],
    'Resize': [
        of(f'y = Resize <mode = "{mode}", coordinate_transformation_mode = "{corners}"> {taken}',
           'int64[4] n = {2, 4, 5, 11}, float[4] k = {1, 1, 2, 1.5}')
        for mode, corners, taken in (
            ('linear', 'align_corners', '(x, , , n)'),
            ('linear', 'half_pixel', '(x, , k)'),
            ('cubic', 'pytorch_half_pixel', '(x, , , n)'),
        )
    ]
    + [
        of('y = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", '
           f'nearest_mode = "floor"> {taken}',
           'int64[4] n = {2, 4, 5, 11}, float[4] k = {1, 1, 2, 2}')
        for taken in ('(x, , k)', '(x, , , n)')
    ],
    'AveragePool': [
        of('y = AveragePool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (x)'),
        of(
            'y = AveragePool <kernel_shape = [4, 2], pads = [2, 0, 1, 1], '
            'count_include_pad = 1> (x)'
        ),
    ],
    'MaxPool': [
        of('y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (x)'),
        of('y = MaxPool <kernel_shape = [2, 2], pads = [0, 0, 1, 1]> (x)', '', MAP - 5),
        of('y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (x)'),
    ],
    'GlobalAveragePool': [of('y = GlobalAveragePool (x)')],
    'Pad': [
        of('y = Pad (x, p, f)', 'int64[8] p = {0, 0, 1, 2, 0, 1, 0, 3}, float f = {0.5}'),
        of('y = Pad (x, p)', 'int64[8] p = {0, 0, 1, 1, 0, 0, 0, 0}'),
    ],
    **{
        name: [
            of(f'y = {name} <axes = [1, 2]> (x)'),
            of(f'y = {name} <axes = [-1], keepdims = 0> (x)'),
            of(f'y = {name} <keepdims = 0> (x)'),
        ]
        for name in ('ReduceMax', 'ReduceMean', 'ReduceMin')
    },
    'ReduceSum': [
        of('y = ReduceSum (x, a)', 'int64[2] a = {-1, 1}'),
        of('y = ReduceSum <keepdims = 0> (x)'),
        of('y = ReduceSum <noop_with_empty_axes = 1> (x)'),
    ],
    'Reshape': [
        of('y = Reshape (x, s)', 'int64[3] s = {0, -1, 8}'),
        of('n = Shape <start = 0, end = 2> (x) s = Concat <axis = 0> (n, m) y = Reshape (x, s)',
           'int64[1] m = {-1}'),
    ],
    'Flatten': [of('y = Flatten (x)'), of('y = Flatten <axis = -1> (x)')],
    'Transpose': [of('y = Transpose <perm = [0, 2, 3, 1]> (x)'), of('y = Transpose (x)')],
    'Squeeze': [
        of('y = Squeeze (x, a)', 'int64[2] a = {0, -1}', numbers(1, 3, 1, 1)),
        of('y = Squeeze (x)', '', numbers(1, 3, 1)),
    ],
    'Unsqueeze': [of('y = Unsqueeze (x, a)', 'int64[2] a = {-1, 0}', ROWS)],
    'Expand': [
        of('y = Expand (x, s)', 'int64[3] s = {2, 1, 5}', ROWS),
        of('y = Expand (x, s)', 'int64[2] s = {3, 5}', numbers(3, 1)),
    ],
    'Tile': [of('y = Tile (x, r)', 'int64[2] r = {2, 3}', ROWS)],
    'Concat': [of('y = Concat <axis = -1> (x, z, x)', '', ROWS, z=FACTORS)],
    'Split': [
        of('y, z = Split <axis = 1> (x)'),
        of('y, z = Split <axis = 2> (x, s)', 'int64[2] s = {2, 7}'),
    ],
    'Slice': [
        of(
            'y = Slice (x, b, e, a, s)',
            'int64[2] b = {1, -7}, int64[2] e = {99, -1}, int64[2] a = {1, 2}, '
            'int64[2] s = {1, 2}',
        ),
        of('y = Slice (x, b, e)', 'int64[1] b = {1}, int64[1] e = {2}'),
        of(
            'y = Slice (x, b, e, a, s)',
            'int64[2] b = {-1, 1}, int64[2] e = {-9223372036854775807, 99}, '
            'int64[2] a = {2, 1}, int64[2] s = {-1, 2}',
        ),
        of(
            'y = Slice (x, b, e, a, s)',
            'int64[1] b = {7}, int64[1] e = {1}, int64[1] a = {2}, int64[1] s = {-2}',
        ),
    ],
    'Gather': [
        of('y = Gather <axis = 1> (x, i)', 'int64 i = {-1}'),
        of('y = Gather <axis = 2> (x, i)', 'int64[2, 2] i = {0, -1, 3, 3}'),
        of('y = Gather (x, z)', '', ROWS, z=np.array([2, 0, -1])),
    ],
    'GatherElements': [
        of('y = GatherElements <axis = 1> (x, z)', '', ROWS, z=np.array([[0], [4], [-1]]))
    ],
    'ConstantOfShape': [
        of('s = Shape (x) c = ConstantOfShape <value = int64[1] {3}> (s) y = Cast <to = 1> (c)'),
        of('s = Shape (x) c = ConstantOfShape (s) y = Add (c, x)'),
    ],
    'Range': [
        of(
            's = Shape <start = 2, end = 3> (x) e = Squeeze (s) r = Range (a, e, d) '
            'f = Cast <to = 1> (r) n = Unsqueeze (f, one) y = Mul (n, x)',
            'int64 a = {0}, int64 d = {1}, int64[1] one = {1}',
        )
    ],
    'QuantizeLinear': [
        of('y = QuantizeLinear (x, s, z0)', 'float s = {0.02}, uint8 z0 = {120}', kind='uint8'),
        of('y = QuantizeLinear (x, s, z0)', 'float s = {0.01}, int8 z0 = {0}', kind='int8'),
        of('y = QuantizeLinear (x, s)', 'float s = {0.5}', np.abs(MAP), 'uint8'),
        of(
            'y = QuantizeLinear <axis = 1> (x, s, z0)',
            'float[5] s = {0.1, 0.01, 0.2, 0.03, 0.5}, int8[5] z0 = {0, 1, -2, 3, 0}',
            ROWS,
            'int8',
        ),
    ],
    'DequantizeLinear': [
        of(
            'q = QuantizeLinear (x, s, z0) y = DequantizeLinear (q, s, z0)',
            'float s = {0.02}, uint8 z0 = {100}',
        ),
        of(
            'd = DequantizeLinear <axis = 1> (w, s) y = MatMul (x, d)',
            'int8[5, 2] w = {1, -128, 127, 3, 4, 5, -6, 7, 8, 9}, float[2] s = {0.1, 0.2}',
            ROWS,
        ),
        of('d = DequantizeLinear (b, s) y = Add (x, d)',
           'int32[5] b = {1000, -2000, 3, 4, 70000}, float s = {0.001}', ROWS),
    ],
}  # fmt: skip
# ONNX Runtime's Gelu comes with a later opset.
LATER = {'Gelu': [of('y = Gelu (x)'), of('y = Gelu <approximate = "tanh"> (x)')]}
KINDS = {np.dtype('float32'): 'float', np.dtype('int64'): 'int64'}


def model_of(case, opset: int) -> tuple[bytes, dict[str, np.ndarray]]:
    body, inputs, constants, kind = (*case, 'float')[:4]
    declared = ', '.join(
        f'{KINDS[value.dtype]}[{", ".join(map(str, value.shape))}] {name}'
        for name, value in inputs.items()
    )
    outputs = f'{kind} y, {kind} z' if body.startswith('y, z') else f'{kind} y'
    data = graph_of(body, declared, outputs, constants, opset)
    model = onnx.load_from_string(data)
    # Of unknown rank: which it has is for the library to find out.
    for value in model.graph.output:
        value.type.tensor_type.ClearField('shape')
    return model.SerializeToString(), inputs


@pytest.mark.parametrize('name', sorted({**CASES, **LATER}))
def test_an_operator_gives_what_onnx_says(tmp_path, name):
    for case in {**CASES, **LATER}[name]:
        data, inputs = model_of(case, 20 if name in LATER else 17)
        compared(data, tmp_path, 2e-6, **inputs)


def test_every_operator_is_tried():
    assert set(OPERATORS) == {*CASES, *LATER}


def test_bfloat16_rounds_as_it_should(tmp_path):
    """ONNX Runtime has few operators for it on the CPU."""
    weight = torch.tensor([1.00390625, -3.0, 1e-3], dtype=torch.bfloat16)
    raw = helper.make_tensor(
        'w', TensorProto.BFLOAT16, [3], weight.view(torch.int16).numpy().tobytes(), raw=True
    )
    listed = helper.make_tensor('v', TensorProto.BFLOAT16, [3], weight.float().tolist())
    model = onnx.load_from_string(
        graph_of('h = Cast <to = 16> (x) p = Mul (h, w) y = Cast <to = 1> (p) '
                 'q = Mul (h, v) z = Cast <to = 1> (q)', 'float[3] x', 'float[3] y, float[3] z')
    )  # fmt: skip
    model.graph.initializer.extend([raw, listed])
    graph = read(model.SerializeToString(), tmp_path)
    value = torch.tensor([0.1, 0.2, 0.3])
    found = graph.run({'x': value})
    expected = (value.bfloat16() * weight).float()
    assert torch.equal(found['y'], expected)
    assert torch.equal(found['z'], expected)


def test_constants_come_in_all_forms(tmp_path):
    body = """
        a = Constant <value_float = 2.5> () b = Constant <value_floats = [1.0, 2.0]> ()
        c = Constant <value_int = 1> () d = Constant <value_ints = [2]> ()
        p = Add (x, a) q = Mul (p, b) g = Gather (q, c) n = Cast <to = 1> (d) y = Mul (g, n)
    """
    compared(graph_of(body, 'float[2] x', 'float[N] y'), tmp_path, x=numbers(2))


# -- what is left to be done in a frame ----------------------------------------------------------


@pytest.fixture
def reshaping():
    """Much arithmetic on shapes, and two operators on the contents."""
    body = """
        s = Shape (x) n = Gather (s, zero) m = Unsqueeze (n, axis) t = Concat <axis = 0> (m, rest)
        r = Reshape (x, t) k = Cast <to = 1> (n) h = Sqrt (k) f = Mul (h, w) y = Mul (r, f)
    """
    constants = 'int64 zero = {0}, int64[1] axis = {0}, int64[1] rest = {-1}, float[2] w = {1, 2}'
    return graph_of(body, 'float[N, 2, 1] x', 'float[N, 2] y', constants)


def test_arithmetic_on_shapes_is_done_once(tmp_path, reshaping):
    graph = read(reshaping, tmp_path)
    for rows in (1, 3, 1):
        value = torch.from_numpy(numbers(rows, 2, 1))
        expected = value[:, :, 0] * rows**0.5 * torch.tensor([1.0, 2.0])
        torch.testing.assert_close(graph.run({'x': value})['y'], expected)
    assert [len(program.steps) for program in graph._programs.values()] == [3, 3]


def test_the_batch_is_free_only_where_it_is(tmp_path, reshaping):
    assert read(reshaping, tmp_path).is_batch_free
    fixed = graph_of('y = Relu (x)', 'float[1, 2] x', 'float[1, 2] y')
    assert not read(fixed, tmp_path).is_batch_free


def test_what_is_no_longer_needed_is_let_go(tmp_path, monkeypatch):
    alive: weakref.WeakSet = weakref.WeakSet()
    most = []

    def relu(value):
        result = torch.relu(value)
        alive.add(result)
        most.append(len(alive))
        return result

    monkeypatch.setitem(OPERATORS, 'Relu', Operator(lambda call: relu))
    body = ' '.join(f'v{n + 1} = Relu (v{n})' for n in range(20))
    graph = read(graph_of(body, 'float[2] v0', 'float[2] v20'), tmp_path)
    for _ in range(2):
        graph.run({'v0': torch.ones(2)})
    assert len(most) == 3 * 20, 'the first run is the one that is noted, and one more'
    assert max(most) <= 2


def test_shapes_that_differ_from_the_graph_are_named(tmp_path, reshaping):
    graph = read(reshaping, tmp_path)
    with pytest.raises(EngineError, match=r"'x' is \(1, 3, 1\), the graph has \(None, 2, 1\)"):
        graph.run({'x': torch.ones(1, 3, 1)})
    with pytest.raises(EngineError, match=r"takes \['x'\], not \['z'\]"):
        graph.run({'z': torch.ones(1, 3, 1)})


# -- what it refuses -----------------------------------------------------------------------------


def test_an_unknown_operator_is_named_when_the_graph_is_read(tmp_path):
    data = graph_of('h = Relu (x) y = Mish (h) z = Det (h)', 'float[2] x', 'float[2] y', opset=18)
    with pytest.raises(
        EngineError,
        match=r'graph\.onnx: Mish \(y\) and 1 more nodes: the runtime torch does not know the '
        r'operator Mish; use the runtime openvino or onnxruntime',
    ):
        read(data, tmp_path)


def test_an_operator_of_another_domain_is_unknown(tmp_path):
    node = helper.make_node('Relu', ['x'], ['y'], domain='com.microsoft')
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in 'xy']
    graph = helper.make_graph([node], 'g', value[:1], value[1:])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)])
    with pytest.raises(EngineError, match=r'does not know the operator com\.microsoft\.Relu'):
        read(data.SerializeToString(), tmp_path)


@pytest.mark.parametrize(
    ('body', 'constants', 'message'),
    [
        ('i = Cast <to = 7> (x) y = Reshape (x, i)', '', "the input 'i' must not depend on the"),
        ('y = Cast <to = 14> (x)', '', 'casts to COMPLEX64'),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_named_with_its_node(tmp_path, body, constants, message):
    graph = read(graph_of(body, 'float[2] x', 'float[2] y', constants), tmp_path)
    with pytest.raises(EngineError, match=rf'graph\.onnx: .*{message}.*(\n|.)*runtime openvino'):
        graph.run({'x': torch.ones(2)})


@pytest.mark.parametrize(
    ('body', 'message'),
    [
        ('y = Conv <auto_pad = "SAME_UPPER"> (x, w)', 'pads by SAME_UPPER'),
        ('y = AveragePool <kernel_shape = [2, 2], pads = [0, 0, 1, 1]> (x)', 'not counted'),
        ('y, z = MaxPool <kernel_shape = [2, 2]> (x)', 'the places of the largest'),
        ('y = Pad <mode = "reflect"> (x, p)', 'pads by reflect'),
        ('y = Resize <mode = "nearest"> (x, , s)', 'resizes by nearest'),
        (
            'y = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric"> '
            '(x, , s)',
            'resizes by nearest',
        ),
        ('y = GridSample <mode = "nearest"> (x, g)', 'samples by nearest'),
        ('y = ConvTranspose <pads = [1, 0, 0, 0]> (x, w)', 'has the pads'),
        ('y, m = LayerNormalization (x, s)', 'mean and deviation'),
    ],
)
def test_settings_that_are_not_supported_are_named(tmp_path, body, message):
    constants = 'float[1, 2, 1, 1] w = {1, 1}, int64[8] p = {0, 0, 0, 1, 0, 0, 0, 1}'
    constants += ', float[4] s = {1, 1, 1, 1}, float[1, 1, 1, 2] g = {0, 0}'
    data = graph_of(body, 'float[1, 2, 4, 4] x', 'float y', constants)
    with pytest.raises(EngineError, match=message):
        read(data, tmp_path).run({'x': torch.ones(1, 2, 4, 4)})


def test_an_old_opset_is_named(tmp_path):
    with pytest.raises(EngineError, match=r'has the opset \[11\]; 13 or later is known here'):
        read(graph_of('y = Relu (x)', 'float[2] x', 'float[2] y', opset=11), tmp_path)


def test_a_file_that_is_no_graph_is_named(tmp_path):
    package = make_small(tmp_path / 'small')
    package.graphs['search'].path.write_bytes(b'no graph')
    with pytest.raises(EngineError, match=r'search\.onnx is not an ONNX model that can be read'):
        load_engine(package, 'torch')


def test_weights_in_a_file_of_their_own_are_refused(tmp_path):
    model = onnx.load_from_string(
        graph_of('y = Add (x, w)', 'float[2] x', 'float[2] y', 'float[2] w = {1, 2}')
    )
    weight = model.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight), 'w'))
    onnx.external_data_helper.set_external_data(weight, 'weights.bin')
    with pytest.raises(EngineError, match='w is in a file of its own'):
        read(model.SerializeToString(), tmp_path)


def test_weights_of_an_unknown_type_are_refused(tmp_path):
    model = onnx.load_from_string(graph_of('y = Relu (x)', 'float[2] x', 'float[2] y'))
    model.graph.initializer.append(helper.make_tensor('c', TensorProto.COMPLEX64, [1], [1j]))
    with pytest.raises(EngineError, match='c is COMPLEX64, which is not known here'):
        read(model.SerializeToString(), tmp_path)


def test_without_onnx_it_says_what_to_install(tmp_path, monkeypatch):
    for module in ('engine', 'graph', 'operators'):
        monkeypatch.delitem(sys.modules, f'tracker_ros.runtime.torch_{module}')
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(EngineError, match=r'torch: .*onnx.*pip install torch onnx'):
        load_engine(make_small(tmp_path / 'small'), 'torch')


# -- the engine on the CPU -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ('precision', 'words'),
    [('fp32', 'fp32'), ('bf16', 'bf16'), ('int8', 'int8 in fp32'), ('int8_bf16', 'int8 in fp32')],
)
def test_the_name_says_what_it_computes(tmp_path, precision, words):
    engine = load_engine(make_small(tmp_path / 'small', precision=precision), 'torch')
    assert engine.name == f'torch (CPU, {words})'


def test_the_threads_that_are_asked_for_are_used(tmp_path):
    package = make_small(tmp_path / 'small')
    before = torch.get_num_threads()
    try:
        load_engine(package, 'torch', 1)
        assert torch.get_num_threads() == 1
        torch.set_num_threads(2)
        load_engine(package, 'torch', 0)
        assert torch.get_num_threads() == 2, 'no wish, no change'
    finally:
        torch.set_num_threads(before)


def test_what_is_cached_has_memory_of_its_own(tmp_path):
    """A part of a larger tensor would keep all of it."""
    package = make_small(tmp_path / 'small')
    for value in load_engine(package, 'torch').template(**crops(1)[0][0]).values():
        assert value.untyped_storage().nbytes() == value.nbytes


# -- the engine on a GPU, with a stand-in for CUDA -----------------------------------------------


class StandIn:
    """What `torch_gpu.Gpu` is, on the CPU. Recorded work writes its results where it first did.

    `log` has what was queued; reading results before `synchronize` is not noticed.
    """

    name = 'Stand-In'

    def __init__(self, refusal: str = '') -> None:
        self.device = CPU
        self.log: list[str] = []
        self._refusal = refusal
        self._now = 0.0

    def queueing(self):
        return torch.inference_mode()

    def synchronize(self) -> None:
        self.log.append('synchronize')

    def capture(self, work):
        if self._refusal:
            raise RuntimeError(self._refusal)
        self.log.append('capture')
        results = {name: value.clone() for name, value in work().items()}

        def launch():
            self.log.append('launch')
            for name, value in work().items():
                results[name].copy_(value)
            return results

        return launch

    def pinned(self, shape, dtype):
        return torch.zeros(*shape, dtype=dtype)

    def event(self):
        return Event(self)

    def tick(self) -> float:
        self._now += 1.0
        return self._now


class Event:
    def __init__(self, gpu: StandIn) -> None:
        self._gpu = gpu

    def record(self) -> None:
        self.at_ms = self._gpu.tick()

    def elapsed_time(self, end: Event) -> float:
        return end.at_ms - self.at_ms


@pytest.fixture
def gpu():
    return StandIn()


@pytest.fixture(params=['N', '1'], ids=['free', 'fixed'])
def package(request, tmp_path):
    return make_small(tmp_path / 'small', batch=request.param)


def test_frames_answer_as_on_the_cpu(package, gpu):
    engine = torch_gpu.TorchGpuEngine(package, gpu)
    reference = load_engine(package, 'onnxruntime', 1)
    engine.warm_up(package)
    templates, searches = crops(4)
    targets = [engine.template(**crops) for crops in templates]
    others = [reference.template(**crops) for crops in templates]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [3, 2], [0], [1, 1], [0, 1, 2, 3]):
        found = engine.search_many(searches[order], [targets[place] for place in order])
        expected = reference.search_many(searches[order], [others[place] for place in order])
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, atol=1e-6)
    for place in (2, 0):
        found = engine.search(searches[place], targets[place])
        expected = reference.search(searches[place], others[place])
        np.testing.assert_allclose(found['box'], expected['box'], atol=1e-6)


def test_a_batch_is_recorded_once_and_then_launched(tmp_path, gpu):
    engine = torch_gpu.TorchGpuEngine(make_small(tmp_path / 'small'), gpu)
    templates, searches = crops(2)
    targets = [engine.template(**crops) for crops in templates]
    for _ in range(3):
        engine.search_many(searches, targets)
        engine.search(searches[0], targets[0])
    assert gpu.log.count('capture') == 2, 'one for each number of targets'
    assert gpu.log.count('launch') == 6
    assert gpu.log[-2:] == ['launch', 'synchronize']


def test_templates_are_put_in_place_when_they_change(tmp_path, gpu, monkeypatch):
    package = make_small(tmp_path / 'small')
    engine = torch_gpu.TorchGpuEngine(package, gpu)
    templates, searches = crops(2)
    targets = [engine.template(**crops) for crops in templates]
    engine.search_many(searches, targets)
    (frame,) = engine._frames.values()
    before = [value.clone() for value in frame._inputs.values()]
    poison = {name: value + 100 for name, value in targets[0].items()}
    targets[0].update(poison)
    engine.search_many(searches, targets)
    places = [*frame._inputs.values()][1:]
    assert all(map(torch.equal, places, before[1:])), 'the same target is not copied again'
    engine.search_many(searches, [dict(targets[0]), targets[1]])
    for place, old in zip(places, before[1:], strict=True):
        assert torch.equal(place[0], old[0] + 100)
        assert torch.equal(place[1], old[1])


def test_where_nothing_can_be_recorded_it_goes_on_and_says_so(package):
    gpu = StandIn('operation not permitted when stream is capturing\nand more')
    engine = torch_gpu.TorchGpuEngine(package, gpu)
    engine.warm_up(package)
    assert engine.name == 'torch (Stand-In, fp32)'
    assert engine.note == ('without CUDA graph: operation not permitted when stream is capturing')
    reference = load_engine(package, 'onnxruntime', 1)
    (template,), (search,) = crops(1)
    for crop in (search, 255 - search):
        found = engine.search(crop, engine.template(**template))
        expected = reference.search(crop, reference.template(**template))
        np.testing.assert_allclose(found['box'], expected['box'], atol=1e-6)


def test_the_name_tells_of_the_graph(package, gpu):
    engine = torch_gpu.TorchGpuEngine(package, gpu)
    assert engine.name == 'torch (Stand-In, fp32)'
    engine.warm_up(package)
    assert engine.name == 'torch (Stand-In, fp32, CUDA graph)'
    assert engine.note == ''


def test_each_stage_is_timed(package, gpu):
    engine = torch_gpu.TorchGpuEngine(package, gpu)
    assert dict(engine.stages_s) == {}
    engine.warm_up(package)
    assert dict(engine.stages_s) == dict.fromkeys(torch_gpu.STAGES, 1e-3)


def test_crops_that_do_not_fit_are_named(tmp_path, gpu):
    engine = torch_gpu.TorchGpuEngine(make_small(tmp_path / 'small'), gpu)
    (template,), (search,) = crops(1)
    cached = engine.template(**template)
    with pytest.raises(EngineError, match=r"'search' is \(1, 8, 8, 3\) uint8, the model takes"):
        engine.search(search[:8, :8], cached)
    with pytest.raises(EngineError, match='2 crops and 1 templates make no batch'):
        engine.search_many(np.stack([search, search]), [cached])


def test_memory_is_given_back(tmp_path, gpu):
    engine = torch_gpu.TorchGpuEngine(make_small(tmp_path / 'small'), gpu)
    engine.warm_up(read_package(tmp_path / 'small'))
    frame = weakref.ref(engine._frames[1])
    engine.close()
    gc.collect()
    assert frame() is None


# -- the choice between the two ------------------------------------------------------------------


def test_auto_takes_it_on_a_gpu_alone():
    assert 'torch' not in AUTOMATIC
    assert 'torch_cuda' in AUTOMATIC
    assert AUTOMATIC.index('torch_cuda') < AUTOMATIC.index('openvino')


def test_without_a_gpu_pytorch_is_not_even_imported(package, monkeypatch):
    def fail():
        raise CudaError('no GPU can be used')

    monkeypatch.setattr('tracker_ros.runtime.torch_cuda_engine.find_cuda', fail)
    monkeypatch.setitem(sys.modules, 'tracker_ros.runtime.torch_gpu', None)
    with pytest.raises(EngineError, match='torch_cuda: no GPU can be used'):
        load_engine(package, 'torch_cuda')


def test_a_pytorch_that_sees_no_gpu_is_named(package, monkeypatch):
    monkeypatch.setattr('tracker_ros.runtime.torch_cuda_engine.find_cuda', lambda: None)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(EngineError, match=r'torch_cuda: PyTorch \S+ sees no GPU: install one'):
        load_engine(package, 'torch_cuda')


def test_a_pytorch_that_does_not_load_is_named(package, monkeypatch):
    monkeypatch.setattr('tracker_ros.runtime.torch_cuda_engine.find_cuda', lambda: None)
    monkeypatch.setitem(sys.modules, 'tracker_ros.runtime.torch_gpu', None)
    with pytest.raises(EngineError, match=r'torch_cuda: .*pip install torch onnx'):
        load_engine(package, 'torch_cuda')


@pytest.mark.parametrize('runtime', ['torch', 'torch_cuda'])
def test_with_a_gpu_both_take_it_and_round_nothing(package, gpu, monkeypatch, runtime):
    monkeypatch.setattr('tracker_ros.runtime.torch_cuda_engine.find_cuda', lambda: None)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch_gpu, 'Gpu', lambda: gpu)
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', True)
    engine = load_engine(package, runtime)
    assert engine.name == 'torch (Stand-In, fp32, CUDA graph)'
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_what_goes_wrong_on_the_gpu_is_told(package, monkeypatch):
    def fail():
        raise RuntimeError('no kernel image is available for execution on the device')

    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch_gpu, 'Gpu', fail)
    with pytest.raises(EngineError, match=r'cannot load .*: no kernel image is available'):
        load_engine(package, 'torch')
