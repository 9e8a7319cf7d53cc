# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Graphs with everything computed in advance that does not depend on the images.

Exporters leave arithmetic on shapes and on weights in a graph. Inference libraries fold it away
when they load it; a pass over the graph that must know a weight from an activation needs it
gone before.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

# Nothing larger is made by folding: an Expand of a constant may be endless.
_LARGEST_BYTES = 1 << 28


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which what is constant is an initializer, and nothing is left unused.

    Sizes that are known count as constants, even where those beside them are not.
    """
    imports = {item.domain: item for item in model.opset_import}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    model = copy
    # Merging graphs leaves one of each graph, and some libraries count them.
    del model.opset_import[:]
    model.opset_import.extend(imports.values())
    while True:
        before, model = len(model.graph.node), _folded_once(model)
        # Shapes that are known now may tell others.
        if len(model.graph.node) == before:
            return model


def _folded_once(model: onnx.ModelProto) -> onnx.ModelProto:
    model = shape_inference.infer_shapes(model, data_prop=True)
    graph = model.graph
    shapes = _known_shapes(graph)
    values = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    parts: dict[str, list[int | None]] = {}
    kept = []
    for node in graph.node:
        results = _fold(node, values, shapes, parts)
        if results is None:
            kept.append(node)
        else:
            values.update(zip(node.output, results, strict=True))
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in values.items()
    )
    prune(model)
    return shape_inference.infer_shapes(model, strict_mode=True)


def prune(model: onnx.ModelProto) -> None:
    """Take out the nodes and constants that no output depends on."""
    graph = model.graph
    needed = {item.name for item in graph.output}
    used = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            used.append(node)
            needed.update(node.input)
    constants = [item for item in graph.initializer if item.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(used[::-1])
    graph.initializer.extend(constants)


def _known_shapes(graph: onnx.GraphProto) -> dict[str, list[int | None]]:
    """Sizes by tensor; None for one that is not known."""
    shapes: dict[str, list[int | None]] = {}
    for item in (*graph.input, *graph.value_info, *graph.output):
        kind = item.type.tensor_type
        if kind.HasField('shape'):
            shapes[item.name] = [
                size.dim_value if size.HasField('dim_value') else None for size in kind.shape.dim
            ]
    return shapes


def _fold(
    node: onnx.NodeProto,
    values: dict[str, NDArray[np.generic]],
    shapes: dict[str, list[int | None]],
    parts: dict[str, list[int | None]],
) -> list[NDArray[np.generic]] | None:
    """The outputs of a node that depends on no image, else None.

    `parts` takes note of shapes of which some sizes are known.
    """
    if node.op_type == 'Shape' and not node.attribute and node.input[0] in shapes:
        sizes = shapes[node.input[0]]
        if None not in sizes:
            return [np.array(sizes, np.int64)]
        parts[node.output[0]] = sizes
        return None
    if node.op_type in ('Gather', 'Slice') and node.input[0] in parts:
        return _picked(node, parts[node.input[0]], values)
    if not all(name in values for name in node.input if name):
        return None
    if any(item.type == onnx.AttributeProto.GRAPH for item in node.attribute):
        return None
    results = ReferenceEvaluator(_alone(node, values)).run(
        None, {name: values[name] for name in node.input if name}
    )
    if sum(np.asarray(result).nbytes for result in results) > _LARGEST_BYTES:
        return None
    return [np.asarray(result) for result in results]


def _picked(
    node: onnx.NodeProto,
    sizes: list[int | None],
    values: dict[str, NDArray[np.generic]],
) -> list[NDArray[np.generic]] | None:
    """The sizes that a node takes out of a shape, if they are known."""
    if not all(name in values for name in node.input[1:] if name):
        return None
    standing_in = np.array([-1 if size is None else size for size in sizes], np.int64)
    feeds = {node.input[0]: standing_in, **{name: values[name] for name in node.input[1:] if name}}
    (result,) = map(np.asarray, ReferenceEvaluator(_alone(node, feeds)).run(None, feeds))
    return None if (result < 0).any() else [result]


def _alone(node: onnx.NodeProto, feeds: dict[str, NDArray[np.generic]]) -> onnx.ModelProto:
    """A model of one node."""
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(feeds[name].dtype), feeds[name].shape
        )
        for name in dict.fromkeys(node.input)
        if name
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = helper.make_graph([node], 'alone', inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)])
