# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Layer norms that are written out as single nodes.

Older exporters write x - mean, its square, the mean of that and so on. Inference libraries look
for the pattern and replace it, each in its own way; once types differ within it, ONNX Runtime
1.31 does so wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from tracker_ros.export.folding import prune
from tracker_ros.export.graph_facts import attributes_of, constants_of


@dataclass(frozen=True, slots=True)
class _Norm:
    source: str
    scale: str
    bias: str
    epsilon: float


def with_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a folded graph with LayerNormalization over the last axis as one node each."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    constants = constants_of(graph)
    makers = {name: node for node in graph.node for name in node.output}
    for node in list(graph.node):
        norm = _norm_at(node, makers, constants)
        if norm is None:
            continue
        fused = helper.make_node(
            'LayerNormalization',
            [norm.source, norm.scale, norm.bias],
            list(node.output),
            name=f'{node.output[0]}/norm',
            axis=-1,
            epsilon=norm.epsilon,
        )
        place = [other.output[0] for other in graph.node].index(node.output[0])
        del graph.node[place]
        graph.node.insert(place, fused)
    prune(made)
    return made


def _norm_at(
    node: onnx.NodeProto,
    makers: Mapping[str, onnx.NodeProto],
    constants: Mapping[str, NDArray[Any]],
) -> _Norm | None:
    """The norm that ends in this Add, if one does; read backwards."""
    scaled, bias = _with_constant(node, 'Add', constants)
    divided, scale = _with_constant(makers.get(scaled), 'Mul', constants)
    division = makers.get(divided)
    if division is None or division.op_type != 'Div':
        return None
    centred, deviation = (makers.get(name) for name in division.input)
    if centred is None or centred.op_type != 'Sub' or deviation is None:
        return None
    source, mean = centred.input[0], makers.get(centred.input[1])
    if deviation.op_type != 'Sqrt' or not _is_mean_of(mean, source):
        return None
    variance, epsilon = _with_constant(makers.get(deviation.input[0]), 'Add', constants)
    average = makers.get(variance)
    square = makers.get(average.input[0]) if average is not None else None
    if square is None or not _is_mean_of(average, square.output[0]):
        return None
    squared, exponent = _with_constant(square, 'Pow', constants)
    if squared != centred.output[0] or constants[exponent].tolist() not in (2.0, [2.0]):
        return None
    if constants[scale].ndim != 1 or constants[bias].shape != constants[scale].shape:
        return None
    return _Norm(source, scale, bias, float(np.ravel(constants[epsilon])[0]))


def _with_constant(
    node: onnx.NodeProto | None, kind: str, constants: Mapping[str, NDArray[Any]]
) -> tuple[str, str]:
    """What a node of this kind computes on, and the constant beside it; '' for another node."""
    if node is not None and node.op_type == kind:
        first, second = node.input
        if second in constants:
            return first, second
        if first in constants and kind != 'Pow':
            return second, first
    return '', ''


def _is_mean_of(node: onnx.NodeProto | None, source: str) -> bool:
    """Whether a node is the mean of `source` over its last axis, which it keeps."""
    if node is None or node.op_type != 'ReduceMean' or node.input[0] != source:
        return False
    attributes = attributes_of(node)
    return list(attributes.get('axes', ())) == [-1] and bool(attributes.get('keepdims', 1))
