# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Graphs whose matrix products and convolutions are computed in 8-bit integers (QDQ).

Each quantised tensor passes a QuantizeLinear and a DequantizeLinear, in the form that ONNX
Runtime, OpenVINO and TensorRT all take: symmetric, int8, weights per output channel, biases in
fp32. Ranges come from what the network sees on footage; the outermost values are cut off, which
costs less than the coarser steps they would force on all others.

What stays in float is told by place, not by name:

- the last weighted layer before each output, whose error nothing behind it evens out, and all
  that follows it;
- the product of attention weights and values: a softmax over hundreds of tokens holds numbers
  far smaller than its largest, and of those a symmetric int8 leaves nothing;
- layers that sum up a few numbers only, such as convolutions of each channel by itself: there is
  little to compute, and their channels have ranges too different for one step;
- whatever has no weights, apart from the products of queries and keys.

Pixels are not rounded at all: 128 is taken off them, so that they are int8 numbers as they are.
The biases make up for what the rounding of the weights takes away on average.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorData, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from tracker_ros.export.biases import centre_pixels, input_means, make_up_for_rounding
from tracker_ros.export.folding import prune
from tracker_ros.export.graph_facts import (
    Constants,
    constants_of,
    is_small,
    last_weighted,
    weighted,
)

PERCENTILE = 99.99
"""How much of a tensor's values its int8 range covers."""
# The calibrator keeps every intermediate tensor of those it has not digested yet.
_SAMPLES_AT_ONCE = 4
_THROUGH = ('Cast', 'Gather', 'Reshape', 'Slice', 'Squeeze', 'Transpose', 'Unsqueeze')
_KINDS = ['Conv', 'Gemm', 'MatMul']
_OPTIONS = {
    'ActivationSymmetric': True,
    'WeightSymmetric': True,
    'QuantizeBias': False,
    # What a layer gives has the bias, an activation or a norm before it: it is rounded where the
    # next layer reads it, and not before.
    'OpTypesToExcludeOutputQuantization': _KINDS,
}
# Symmetric ranges are as wide as their farther end: this one makes a step of exactly one.
_IMAGE_RANGE = TensorData(lowest=np.float32(-127), highest=np.float32(127))

Feeds = dict[str, NDArray[Any]]


def quantised(model: onnx.ModelProto, feeds: Sequence[Feeds]) -> onnx.ModelProto:
    """A copy in int8, its ranges those of the inputs in `feeds`.

    Names of nodes may change; those of inputs and outputs do not. A graph with nothing to
    quantise stays as it is.
    """
    if not chosen(model.graph):
        return _copy(model)
    model = _with_names(model)
    images = centre_pixels(model)
    prune(model)
    constants = constants_of(model.graph)
    nodes = chosen(model.graph)
    layers = [node for node in nodes if weighted(node, constants)]
    with tempfile.TemporaryDirectory() as folder, _silence():
        path = Path(folder) / 'graph.onnx'
        onnx.save(model, str(path))
        calibrator = create_calibrator(
            path,
            _KINDS,
            augmented_model_path=str(Path(folder) / 'augmented.onnx'),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={'percentile': PERCENTILE, 'symmetric': True},
        )
        for first in range(0, len(feeds), _SAMPLES_AT_ONCE):
            calibrator.collect_data(_Reader(feeds[first : first + _SAMPLES_AT_ONCE]))
        ranges = calibrator.compute_data()
        for name in images:
            ranges[name] = _IMAGE_RANGE
        means = input_means(model, layers, feeds)
        quantiser = QDQQuantizer(
            _copy(model),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8,
            tensors_range=ranges,
            nodes_to_quantize=[node.name for node in nodes],
            nodes_to_exclude=[],
            op_types_to_quantize=_KINDS,
            extra_options=_OPTIONS,
        )
        quantiser.quantize_model()
        quantiser.model.topological_sort()
        made: onnx.ModelProto = quantiser.model.model
    make_up_for_rounding(made, layers, constants, means)
    prune(made)
    onnx.checker.check_model(made, full_check=True)
    return made


def chosen(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that are computed in int8.

    No layer is that reads what was just put together: on CPUs without AMX, OpenVINO 2026.4 moves
    the rounding in front of the Concat, and the layer's sums are then wrong.
    """
    constants = constants_of(graph)
    last = {node.output[0] for node in last_weighted(graph)}
    makers = {name: node for node in graph.node for name in node.output}
    return [
        node
        for node in graph.node
        if (
            weighted(node, constants)
            and node.output[0] not in last
            and not is_small(node, constants)
            and not _reads(node, 'Concat', makers)
        )
        or (_multiplies_activations(node, constants) and not _reads(node, 'Softmax', makers))
    ]


def _multiplies_activations(node: onnx.NodeProto, constants: Constants) -> bool:
    return node.op_type == 'MatMul' and not any(name in constants for name in node.input)


def _reads(node: onnx.NodeProto, kind: str, makers: dict[str, onnx.NodeProto]) -> bool:
    for name in node.input:
        maker = makers.get(name)
        while maker is not None and maker.op_type in _THROUGH:
            maker = makers.get(maker.input[0])
        if maker is not None and maker.op_type == kind:
            return True
    return False


class _Reader(CalibrationDataReader):
    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self._feeds: Iterator[Feeds] = iter(feeds)

    def get_next(self) -> Feeds | None:
        return next(self._feeds, None)


def _with_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every node has a name of its own."""
    named = _copy(model)
    for number, node in enumerate(named.graph.node):
        node.name = f'{node.op_type}_{number}'
    return named


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


@contextmanager
def _silence() -> Iterator[None]:
    """Without what the library prints, and its advice to do what was done already."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(before)
