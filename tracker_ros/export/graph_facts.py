# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What passes over ONNX graphs ask about them. Graphs are folded: constants are initializers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_FEWEST_TERMS = 32

Constants = Mapping[str, NDArray[Any]]


def constants_of(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    return {item.name: numpy_helper.to_array(item) for item in graph.initializer}


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def weighted(node: onnx.NodeProto, constants: Constants) -> bool:
    """Whether a node applies trained weights to what it reads: a layer of the network."""
    return (
        node.op_type in ('Conv', 'Gemm', 'MatMul')
        and node.input[0] not in constants
        and node.input[1] in constants
        and constants[node.input[1]].ndim > 1
    )


def is_small(node: onnx.NodeProto, constants: Constants) -> bool:
    """Whether a layer sums up only a few numbers: next to nothing to compute.

    Such as a convolution of each channel by itself, or the first one, of three channels.
    """
    weight = constants[node.input[1]]
    if node.op_type == 'Conv':
        return int(np.prod(weight.shape[1:])) < _FEWEST_TERMS
    transposed = node.op_type == 'Gemm' and attributes_of(node).get('transB', 0)
    return weight.shape[1 if transposed else -2] < _FEWEST_TERMS


def last_weighted(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The layers with no other behind them on some way to an output of the graph."""
    constants = constants_of(graph)
    ahead = {item.name for item in graph.output}
    found = []
    for node in reversed(graph.node):
        if ahead.intersection(node.output):
            if weighted(node, constants):
                found.append(node)
            else:
                ahead.update(node.input)
    return found[::-1]
