# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Graphs in fewer bits: which tensors have which type, and how far the answers are."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from onnx import TensorProto, numpy_helper, shape_inference

from tracker_ros.export.biases import centre_pixels
from tracker_ros.export.folding import folded
from tracker_ros.export.graph_facts import constants_of, last_weighted, weighted
from tracker_ros.export.half import halved
from tracker_ros.export.int8 import chosen, quantised
from tracker_ros.export.norms import with_norms

# A transformer's block in small, as an older exporter writes it: patches of pixels, a norm in
# its pieces, attention with cached keys, a head that reads a distribution.
BLOCK = """
<ir_version: 8, opset_import: ["" : 17]>
search (uint8[N, 8, 8, 3] search, float[N, 4, 32] keys) => (float[N, 4] box, float[N, 4] score)
<int64[3] cells = {-1, 4, 48}, float two = {2.0}, float epsilon = {0.000001},
 float[8] places = {0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7}, int64[1] last = {2}>
{
    pixels = Cast <to = 1> (search)
    patches = Reshape (pixels, cells)
    embedded = MatMul (patches, embed)
    tokens = Add (embedded, embed_bias)
    mean = ReduceMean <axes = [-1]> (tokens)
    centred = Sub (tokens, mean)
    squares = Pow (centred, two)
    variance = ReduceMean <axes = [-1]> (squares)
    varied = Add (variance, epsilon)
    deviation = Sqrt (varied)
    standard = Div (centred, deviation)
    scaled = Mul (standard, scale)
    normed = Add (scaled, shift)
    asked = MatMul (normed, query)
    turned = Transpose <perm = [0, 2, 1]> (keys)
    alike = MatMul (asked, turned)
    shares = Softmax (alike)
    seen = MatMul (shares, keys)
    projected = MatMul (seen, project)
    carried = Add (tokens, projected)
    logits = MatMul (carried, head)
    biased = Add (head_bias, logits)
    bins = Softmax (biased)
    box = MatMul (bins, places)
    rated = MatMul (carried, rate)
    flat = Squeeze (rated, last)
    score = Sigmoid (flat)
}
"""
WIDE_NAMES = {'bins', 'box', 'biased', 'flat', 'score'}
HALVES = {'fp16': TensorProto.FLOAT16, 'bf16': TensorProto.BFLOAT16}


WEIGHTS = {
    'embed': (48, 32),
    'embed_bias': (32,),
    'scale': (32,),
    'shift': (32,),
    'query': (32, 32),
    'project': (32, 32),
    'head': (32, 8),
    'head_bias': (8,),
    'rate': (32, 1),
}


def parsed(text: str, seed: int = 0, **shapes: tuple[int, ...]) -> onnx.ModelProto:
    """A model with weights of these shapes, normally distributed."""
    model = onnx.parser.parse_model(text)
    random = np.random.default_rng(seed)
    model.graph.initializer.extend(
        numpy_helper.from_array(random.normal(0, 0.2, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    )
    return model


def set_constant(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    (item,) = (item for item in model.graph.initializer if item.name == name)
    item.CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))


def constant(model: onnx.ModelProto, name: str) -> np.ndarray:
    return constants_of(model.graph)[name].copy()


def make_block(seed: int = 0) -> onnx.ModelProto:
    model = parsed(BLOCK, seed, **WEIGHTS)
    # Pixels are some hundred times larger than what networks compute with.
    set_constant(model, 'embed', constant(model, 'embed') / 100)
    onnx.checker.check_model(model, full_check=True)
    return model


def make_feeds(count: int = 8, seed: int = 1) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    return [
        {
            'search': random.integers(0, 256, (1, 8, 8, 3), np.uint8),
            'keys': random.normal(0, 1, (1, 4, 32)).astype(np.float32),
        }
        for _ in range(count)
    ]


@pytest.fixture(scope='module')
def block() -> onnx.ModelProto:
    return with_norms(folded(make_block()))


def by_onnxruntime(model, feeds):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [item.name for item in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def by_openvino(model, feeds, hint='f32'):
    core = openvino.Core()
    options = {'INFERENCE_PRECISION_HINT': hint, 'INFERENCE_NUM_THREADS': 1}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), 'CPU', options)
    result = compiled(feeds)
    return {name: np.array(result[name]) for name in ('box', 'score')}


def types_of(model) -> dict[str, int]:
    """The type of every tensor."""
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    kinds = {item.name: item.data_type for item in graph.initializer}
    for item in (*graph.input, *graph.value_info, *graph.output):
        kinds[item.name] = item.type.tensor_type.elem_type
    return kinds


def assert_close(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, **tolerance)


# -- before: folding and norms -----------------------------------------------------------------


def test_norms_in_pieces_become_one_node():
    model = make_block()
    made = with_norms(folded(model))
    kinds = [node.op_type for node in made.graph.node]
    assert kinds.count('LayerNormalization') == 1
    assert not {'ReduceMean', 'Pow', 'Sqrt', 'Sub'}.intersection(kinds)
    for feeds in make_feeds(3):
        assert_close(by_onnxruntime(made, feeds), by_onnxruntime(model, feeds), atol=1e-6)


def test_what_only_resembles_a_norm_stays():
    model = make_block()
    (node,) = (node for node in model.graph.node if node.output[0] == 'squares')
    node.op_type = 'Mul'
    made = with_norms(folded(model))
    assert 'LayerNormalization' not in [node.op_type for node in made.graph.node]


SHAPES = """
<ir_version: 8, opset_import: ["" : 17]>
search (float[N, 4, 6] x) => (float[N, 24] y, float[N, 4, 3] z)
<int64 batch = {0}, int64 last = {2}, int64[1] zero = {0}, int64[1] half = {6},
 int64[1] rest = {-1}>
{
    shape = Shape (x)
    count = Gather (shape, batch)
    first = Unsqueeze (count, zero)
    sizes = Concat <axis = 0> (first, rest)
    y = Reshape (x, sizes)
    width = Gather (shape, last)
    end = Unsqueeze (width, zero)
    upper = Slice (both, zero, end, zero)
    three = Constant <value_ints = [3]> ()
    narrow = Slice (upper, zero, three, zero)
    turned = Transpose <perm = [1, 0]> (narrow)
    z = MatMul (x, turned)
}
"""


def test_arithmetic_on_shapes_and_weights_is_done_beforehand():
    model = parsed(SHAPES, both=(12, 6))
    before = model.SerializeToString()
    made = folded(model)
    assert model.SerializeToString() == before
    # The batch stays free, and with it what is computed of it.
    assert {node.op_type for node in made.graph.node} <= {
        *('Shape', 'Gather', 'Unsqueeze', 'Concat', 'Reshape', 'MatMul')
    }
    assert [weighted(node, constants_of(made.graph)) for node in made.graph.node].count(True) == 1
    feeds = {'x': np.random.default_rng(1).normal(size=(2, 4, 6)).astype(np.float32)}
    assert_close(by_onnxruntime(made, feeds), by_onnxruntime(model, feeds), atol=1e-6)


# -- fp16 and bf16 -----------------------------------------------------------------------------


@pytest.mark.parametrize('precision', HALVES)
def test_every_tensor_has_its_type(block, precision):
    half = HALVES[precision]
    keys = ['keys'] if precision == 'fp16' else []
    made = halved(block, precision, half_inputs=keys)
    kinds = types_of(made)
    assert kinds['search'] == TensorProto.UINT8
    assert kinds['keys'] == (half if keys else TensorProto.FLOAT)
    assert kinds['box'] == kinds['score'] == TensorProto.FLOAT
    for node in made.graph.node:
        expected = half
        if node.op_type in ('LayerNormalization', 'Softmax') or node.output[0] in WIDE_NAMES:
            expected = TensorProto.FLOAT
        if node.op_type == 'Cast':
            continue
        floats = {kinds[name] for name in (*node.input, *node.output)} - {TensorProto.INT64}
        assert floats == {expected}, (node.op_type, node.output[0])


@pytest.mark.parametrize('precision', HALVES)
def test_casts_stand_only_where_types_meet(block, precision):
    made = halved(block, precision)
    kinds = types_of(made)
    makers = {name: node for node in made.graph.node for name in node.output}
    casts = [node for node in made.graph.node if node.op_type == 'Cast']
    for node in casts:
        assert kinds[node.input[0]] != kinds[node.output[0]]
        before = makers.get(node.input[0])
        assert before is None or before.op_type != 'Cast'
    sources = [(node.input[0], kinds[node.output[0]]) for node in casts]
    assert len(sources) == len(set(sources)), 'cast twice'
    assert made.graph.node[0].op_type == 'Cast', 'TensorRT takes uint8 nowhere else'


def test_fp16_is_near_fp32(block):
    made = halved(block, 'fp16', half_inputs=['keys'])
    for feeds in make_feeds(4):
        expected = by_onnxruntime(block, feeds)
        halves = {**feeds, 'keys': feeds['keys'].astype(np.float16)}
        assert_close(by_onnxruntime(made, halves), expected, atol=2e-3)
        assert_close(by_openvino(made, halves), expected, atol=2e-3)


@pytest.mark.parametrize('hint', ['f32', 'bf16'])
def test_bf16_is_near_fp32(block, hint):
    made = halved(block, 'bf16')
    for feeds in make_feeds(4):
        assert_close(by_openvino(made, feeds, hint), by_onnxruntime(block, feeds), atol=2e-2)


@pytest.mark.parametrize('precision', HALVES)
def test_the_source_is_left_alone(block, precision):
    before = block.SerializeToString()
    halved(block, precision)
    assert block.SerializeToString() == before


def test_a_constant_out_of_range_keeps_its_node_in_fp32():
    model = make_block()
    value = constant(model, 'project')
    value[0, 0] = 1e6
    set_constant(model, 'project', value)
    made = halved(folded(model), 'fp16')
    kinds = types_of(made)
    (node,) = (node for node in made.graph.node if node.input[1:2] == ['project'])
    assert kinds[node.output[0]] == TensorProto.FLOAT
    for item in made.graph.initializer:
        assert np.isfinite(numpy_helper.to_array(item)).all(), item.name


def test_what_the_standard_has_not_in_bf16_stays_in_fp32():
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 3, 8, 8] x) => (float[1, 2] y)
        <int64[2] flat = {1, 4}>
        {
            a = Conv (x, first)
            b = Relu (a)
            c = GlobalAveragePool (b)
            d = Reshape (c, flat)
            e = MatMul (d, second)
            f = MatMul (e, square)
            y = Identity (f)
        }
    """
    model = parsed(text, first=(4, 3, 3, 3), second=(4, 2), square=(2, 2))
    kinds = types_of(halved(model, 'bf16'))
    assert kinds['a'] == TensorProto.FLOAT
    assert kinds['e'] == TensorProto.BFLOAT16
    assert types_of(halved(model, 'fp16'))['a'] == TensorProto.FLOAT16


def test_places_and_squares_stay_in_fp32():
    """Where a GridSample looks, and products of a tensor with itself."""
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 4, 8, 8] x) => (float[1, 2, 8, 8] y, float[1, 4, 8, 8] features)
        <int64[3] flat = {1, 4, 64}, int64[4] map = {1, 4, 8, 8}, float scale = {0.25}>
        {
            features = Conv (x, first)
            offsets = Conv (features, move)
            places = Mul (offsets, scale)
            grid = Transpose <perm = [0, 2, 3, 1]> (places)
            tokens = Reshape (features, flat)
            turned = Transpose <perm = [0, 2, 1]> (tokens)
            alike = MatMul (tokens, turned)
            mixed = MatMul (alike, tokens)
            again = Reshape (mixed, map)
            sampled = GridSample (again, grid)
            y = Conv (sampled, last)
        }
    """
    model = parsed(text, first=(4, 4, 1, 1), move=(2, 4, 1, 1), last=(2, 4, 1, 1))
    made = halved(folded(model), 'fp16')
    kinds = types_of(made)
    half = {'offsets': True, 'places': False, 'grid': False, 'alike': False, 'mixed': True}
    for name, is_half in half.items():
        assert (kinds[name] == TensorProto.FLOAT16) == is_half, name
    # An output in fp32 that is read on the way, in half.
    feeds = {'x': np.random.default_rng(3).standard_normal((1, 4, 8, 8), np.float32)}
    assert_close(by_onnxruntime(made, feeds), by_onnxruntime(model, feeds), atol=2e-2)


# -- int8 --------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def integers(block) -> onnx.ModelProto:
    return quantised(block, make_feeds(24))


def test_what_becomes_int8(block):
    names = [node.output[0] for node in chosen(block.graph)]
    # Neither the heads, nor the product with attention's weights.
    assert names == ['embedded', 'asked', 'alike', 'projected']
    assert [node.output[0] for node in last_weighted(block.graph)] == ['logits', 'rated']


def test_the_form_that_all_libraries_take(integers):
    values = {item.name: numpy_helper.to_array(item) for item in integers.graph.initializer}
    kinds = types_of(integers)
    quantising = [node for node in integers.graph.node if 'uantizeLinear' in node.op_type]
    dequantising = [node for node in quantising if node.op_type == 'DequantizeLinear']
    assert len(dequantising) > 4
    for node in quantising:
        assert (values[node.input[2]] == 0).all(), 'symmetric'
        assert values[node.input[2]].dtype == np.int8
        assert (values[node.input[1]] > 0).all()
    # Weights per output channel; int8 and nothing wider, so no bias among them.
    weights = [node for node in dequantising if node.input[0] in values]
    assert {values[node.input[0]].dtype for node in weights} == {np.dtype(np.int8)}
    sizes = {values[node.input[0]].shape: values[node.input[1]].shape for node in weights}
    assert sizes == {(48, 32): (32,), (32, 32): (32,)}
    assert TensorProto.INT32 not in kinds.values()
    assert {item.domain for item in integers.opset_import} == {''}
    rounded = {name for node in dequantising for name in node.output}
    for node in integers.graph.node:
        if node.op_type == 'Softmax' or node.output[0] in WIDE_NAMES:
            assert not rounded.intersection(node.input)


@pytest.mark.parametrize('run', [by_onnxruntime, by_openvino])
def test_int8_is_near_fp32(block, integers, run):
    feeds = make_feeds(16, seed=5)
    apart = [
        np.abs(run(integers, each)['box'] - by_onnxruntime(block, each)['box']) for each in feeds
    ]
    assert 0 < np.median(apart) < 5e-3
    assert np.max(apart) < 3e-2


def test_pixels_are_exact(block):
    """They are centred, which changes nothing but the range, and have a step of one."""
    copy = onnx.ModelProto()
    copy.CopyFrom(block)
    (name,) = centre_pixels(copy)
    for feeds in make_feeds(3):
        assert_close(by_onnxruntime(copy, feeds), by_onnxruntime(block, feeds), atol=1e-5)
    copy.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    pixels = by_onnxruntime(copy, feeds)[name]
    assert (pixels.ravel() == feeds['search'].ravel() - 128.0).all()


def test_the_step_of_pixels_is_one(integers):
    values = {item.name: numpy_helper.to_array(item) for item in integers.graph.initializer}
    (node,) = (
        node
        for node in integers.graph.node
        if node.op_type == 'QuantizeLinear' and 'centred' in node.input[0]
    )
    assert values[node.input[1]] == 1.0


CONVOLUTION = """
<ir_version: 8, opset_import: ["" : 17]>
g (uint8[1, 8, 8, 3] search) => (float[1, 4, {size}, {size}] y)
{{
    pixels = Cast <to = 1> (search)
    planes = Transpose <perm = [0, 3, 1, 2]> (pixels)
    y = Conv <strides = [4, 4], pads = [{pad}, {pad}, {pad}, {pad}]> (planes, weight)
}}
"""


@pytest.mark.parametrize(('pad', 'size'), [(0, 2), (2, 3)])
def test_only_convolutions_without_padding_are_centred(pad, size):
    model = parsed(CONVOLUTION.format(pad=pad, size=size), weight=(4, 3, 4, 4))
    feeds = {'search': make_feeds(1)[0]['search']}
    expected = by_onnxruntime(model, feeds)
    assert centre_pixels(model) == ([] if pad else ['planes/centred'])
    assert_close(by_onnxruntime(model, feeds), expected, rtol=1e-4, atol=1e-2)


def test_biases_make_up_for_the_rounding_of_weights(monkeypatch):
    """Inputs with a mean: without it every channel would be off by a number of its own."""
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 64] x) => (float[N, 2] y)
        {
            inner = MatMul (x, weight)
            more = Relu (inner)
            y = MatMul (more, head)
        }
    """
    model = parsed(text, weight=(64, 16), head=(16, 2))
    # The largest number of its range is exact in int8: only weights are rounded.
    monkeypatch.setattr('tracker_ros.export.int8.PERCENTILE', 100.0)
    feeds = [{'x': np.full((1, 64), 8, np.float32)} for _ in range(2)]
    made = quantised(model, feeds)
    expected = by_onnxruntime(model, feeds[0])['y']
    np.testing.assert_allclose(by_onnxruntime(made, feeds[0])['y'], expected, atol=1e-4)
    for item in made.graph.initializer:
        if item.name.endswith('/bias'):
            item.CopyFrom(numpy_helper.from_array(np.zeros(item.dims, np.float32), item.name))
    assert np.abs(by_onnxruntime(made, feeds[0])['y'] - expected).max() > 1e-3


def test_layers_that_sum_up_little_stay_in_float():
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 3, 8, 8] x) => (float[1, 4, 2, 2] y)
        {
            a = Conv (x, first)
            b = Conv (a, wide)
            c = Conv <group = 8> (b, each)
            y = Conv (c, last)
        }
    """
    model = parsed(
        text, first=(8, 3, 3, 3), wide=(8, 8, 3, 3), each=(8, 1, 2, 2), last=(4, 8, 2, 2)
    )
    assert [node.output[0] for node in chosen(model.graph)] == ['b']


def test_layers_behind_a_concat_stay_in_float():
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 8, 8, 8] x) => (float[1, 4, 4, 4] y)
        {
            a = Conv (x, first)
            b = Relu (a)
            both = Concat <axis = 1> (a, b)
            c = Conv (both, joined)
            d = Conv (c, wide)
            y = Conv (d, last)
        }
    """
    model = parsed(
        text, first=(8, 8, 3, 3), joined=(8, 16, 1, 1), wide=(8, 8, 2, 2), last=(4, 8, 2, 2)
    )
    assert [node.output[0] for node in chosen(model.graph)] == ['a', 'd']


def test_a_graph_without_layers_stays_as_it_is():
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 4] x) => (float[N, 4] y)
        { y = Relu (x) }
    """
    model = onnx.parser.parse_model(text)
    made = quantised(model, [{'x': np.zeros((1, 4), np.float32)}])
    assert [node.op_type for node in made.graph.node] == ['Relu']
